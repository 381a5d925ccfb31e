"""Hits with the text around them: the neighbouring chunks, or the section of a chunk."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Literal

from leanrag.checks import check_choice, check_whole
from leanrag.protocols import ChunkStore, Retriever
from leanrag.types import Chunk, Hit, Where

__all__ = ["ExpandingRetriever", "grow"]


class ExpandingRetriever:
    """Makes the hits of another retriever longer, by the chunks before and after them.

    The chunk of a hit is then a longer span of the document: `chunk.text == document.text[chunk.start:chunk.end]` still holds.
    Hits do not overlap: a chunk belongs to the best hit that reaches it, and a hit that lies in a better one is left out.

    Args:
        retriever: Finds the chunks.
        store: Has the documents. A hit that is not in the store stays as it is.
        by: "neighbours" adds a number of chunks before and after each hit, "section" all chunks with the same headings.
        neighbours: Chunks to add on each side, for "neighbours".
        most_chars: Most characters of a hit with what is added to it.

    Example:
        >>> def make(store, index, embedder):
        ...     return ExpandingRetriever(HybridRetriever(store, index, embedder), store, by="section")
        >>> rag = leanrag.open("kb", retriever=make)  # doctest: +SKIP
    """

    def __init__(
        self,
        retriever: Retriever,
        store: ChunkStore,
        *,
        by: Literal["neighbours", "section"] = "neighbours",
        neighbours: int = 1,
        most_chars: int = 4000,
    ) -> None:
        check_choice(("neighbours", "section"), by=by)
        check_whole(1, neighbours=neighbours, most_chars=most_chars)
        self._retriever, self._store = retriever, store
        self._by, self._neighbours, self._most_chars = by, neighbours, most_chars

    def retrieve(self, question: str, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return at most `k` hits, best first, with the scores of the other retriever."""
        result: list[Hit] = []
        shown: set[str] = set()  # ids of the chunks in `result`
        for hit in self._retriever.retrieve(question, 2 * k, where=where):
            if len(result) == k:
                break
            if hit.chunk.id not in shown:
                result.append(replace(hit, chunk=self._expand(hit.chunk, shown)))
        return result

    def _expand(self, chunk: Chunk, shown: set[str]) -> Chunk:
        """Return the span around a chunk, and add the ids of its chunks to `shown`."""
        try:
            ids = self._store.chunk_ids_within(
                chunk.document_id, chunk.start - self._most_chars, chunk.end + self._most_chars
            )
            around = self._store.get_chunks(ids.tolist())
            i = [each.id for each in around].index(chunk.id)
        except (LookupError, ValueError):  # the chunk is not in the store, or was removed just now
            shown.add(chunk.id)
            return chunk
        is_section = self._by == "section"
        first, last = grow(
            around, i, None if is_section else self._neighbours, self._most_chars, is_section=is_section, taken=shown
        )
        shown.update(each.id for each in around[first : last + 1])
        start, end = around[first].start, around[last].end
        text, marks = self._store.read_passage(chunk.document_id, start, end)
        if len(text) != end - start:  # the document was replaced just now
            return chunk
        return replace(around[first], end=end, text=text, marks=marks)


def grow(
    chunks: Sequence[Chunk],
    i: int,
    most_neighbours: int | None,
    most_chars: int,
    *,
    is_section: bool = False,
    taken: Container[str] = (),
) -> tuple[int, int]:
    """Return the first and the last chunk of the span around chunk `i`; it grows by one chunk after, then one before, in turns.

    Args:
        chunks: Of one document, in order.
        i: The chunk to begin with.
        most_neighbours: Most chunks to add on each side; None for any number.
        most_chars: Most characters of the span.
        is_section: Whether only chunks with the headings of chunk `i` are added.
        taken: Ids of chunks that belong to other spans.

    Example:
        >>> chunks = [Chunk("d", start, start + 5, "words") for start in (0, 5, 10, 15)]
        >>> grow(chunks, 1, None, 15), grow(chunks, 3, 1, 99)
        ((0, 2), (2, 3))
    """
    first = last = i

    def can_add(j: int) -> bool:
        return (
            0 <= j < len(chunks)
            and (most_neighbours is None or abs(j - i) <= most_neighbours)
            and (not is_section or chunks[j].heading == chunks[i].heading)
            and max(chunks[j].end, chunks[last].end) - min(chunks[j].start, chunks[first].start) <= most_chars
            and chunks[j].id not in taken
        )

    is_growing = True
    while is_growing:
        is_growing = False
        if can_add(last + 1):
            last, is_growing = last + 1, True
        if can_add(first - 1):
            first, is_growing = first - 1, True
    return first, last
