"""The seams between stages: small Protocols, and the options that cross them. Users inherit from nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from leanrag.checks import check_at_least, check_seconds, check_whole
from leanrag.errors import ConfigurationError
from leanrag.types import (
    Answer,
    AskKey,
    CancelToken,
    Chunk,
    Compression,
    Document,
    Evidence,
    Generation,
    Hit,
    Packing,
    Prompt,
    Scores,
    Usage,
    Where,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Vectors: TypeAlias = NDArray[np.float32]
    Ids: TypeAlias = NDArray[np.int64]

__all__ = [
    "ChunkFeature",
    "ChunkStore",
    "Chunker",
    "Closable",
    "CompressionSource",
    "Compressor",
    "ComputesAhead",
    "DocumentReader",
    "Embedder",
    "EntailmentChecker",
    "EvidenceScorer",
    "FromFile",
    "GenerateOptions",
    "GenerationStream",
    "LanguageModel",
    "Ledger",
    "Packer",
    "Priced",
    "Remote",
    "ReadsLittle",
    "Reranker",
    "ResponseCache",
    "Retriever",
    "ScoresText",
    "SourceCounter",
    "StoredFeature",
    "TextScorer",
    "TokenCounter",
    "VectorIndex",
    "VectorSource",
]

StoredFeature: TypeAlias = Callable[[Chunk], bytes | None]
"""What was computed for a chunk when it was added, None where there is nothing."""

TokenCounter: TypeAlias = Callable[[str], int]
"""Tokens of a plain text."""

CompressionSource: TypeAlias = str | Document | Chunk | Hit
"""A text to compress, with as much as is known of where it came from."""

SourceCounter: TypeAlias = Callable[[int, str, str], int]
"""Tokens of one source as the prompt shows it, given its number, title and text."""


class DocumentReader(Protocol):
    """Reads files of one format."""

    def __call__(self, data: bytes, path: Path, encoding: str | None, /) -> Document:
        """Return the text of a file, with the title and the metadata that the file itself has.

        Args:
            data: All bytes of the file.
            path: Its absolute path; the document's `id` in POSIX form.
            encoding: Encoding that the caller named, or None.

        Raises:
            DocumentError: The file is not sound.
        """


class Chunker(Protocol):
    """Splits a document. Chunks come in document order and satisfy `chunk.text == document.text[start:end]`."""

    @property
    def id(self) -> str:
        """Name and settings; another id means that documents are chunked anew."""

    def chunk(self, document: Document) -> list[Chunk]:
        """Return the chunks of `document`; whitespace between them may be left out, nothing else."""


class ChunkFeature(Protocol):
    """Something about a chunk that is computed when it is added, and read when it is asked about."""

    @property
    def name(self) -> str:
        """Identity of what is computed, settings and models included."""

    def compute(self, chunks: Sequence[Chunk]) -> list[bytes]:
        """Return the bytes to store for each chunk."""


@runtime_checkable
class ComputesAhead(Protocol):
    """A compressor part of whose work does not depend on the question, and can be stored with the chunks."""

    @property
    def name(self) -> str:
        """As in `Compressor`."""

    @property
    def feature(self) -> ChunkFeature:
        """What to compute of chunks when they are added."""

    def with_stored(self, stored: StoredFeature) -> Compressor:
        """Return the same compressor, which takes from `stored` what was computed."""


class Embedder(Protocol):
    """Turns text into unit float32 rows."""

    @property
    def id(self) -> str:
        """Identity of model and settings; vectors of another id cannot be mixed."""

    @property
    def dim(self) -> int:
        """Columns of a row."""

    @property
    def max_tokens(self) -> int:
        """Tokens read of a text, special tokens included; the rest would be ignored."""

    def count_tokens(self, text: str) -> int:
        """Return the tokens of `text` in this model, special tokens included."""

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)`, rows of unit L2 norm."""

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)`, rows of unit L2 norm."""


class VectorSource(Protocol):
    """What an index reads of the store. The id of a chunk is never used again, and new ids are higher than all others."""

    @property
    def generation(self) -> int:
        """A number that changes with every commit that changes chunks."""

    def count_chunks(self) -> int:
        """Return how many chunks there are."""

    def chunk_ids(self) -> Ids:
        """Return the id of every chunk, `(n,)`, ascending."""

    def all_vectors(self, *, after: int = 0) -> tuple[Ids, Vectors]:
        """Return `(ids, vectors)` of the chunks whose id is above `after`: `(n,)` ascending and `(n, dim)`."""


@runtime_checkable
class VectorIndex(Protocol):
    """Finds the nearest rows by cosine similarity."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def update(self, source: VectorSource) -> None:
        """Catch up with the store: add the rows that are new and remove those that it no longer has.

        Called before each search, by any thread; must cost little when nothing changed.
        """

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """Return `(scores, ids)`, both `(q, m)` with `m = min(k, rows that may be found)`, best first.

        Args:
            queries: `(q, dim)`, rows of unit norm.
            k: Rows wanted per query.
            allowed: Only these ids may be found.
        """


class ChunkStore(Protocol):
    """What a retriever needs of the store; chunks are known by int64 ids."""

    def search_terms(
        self, question: str, k: int, *, allowed: Ids | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return BM25 `(scores, ids)`, both `(m,)`, best first; higher is better; only chunks that match a term."""

    def match_identifiers(self, question: str, most: int, *, allowed: Ids | None = None) -> tuple[Ids, Ids]:
        """Return `(counts, ids)` of the chunks that have an identifier of `question`, both `(m,)`, ids ascending.

        Args:
            question: Plain text.
            most: An identifier that more chunks have decides nothing and is passed over.
            allowed: Only these ids may be found.
        """

    def get_chunks(self, ids: Sequence[int]) -> list[Chunk]:
        """Return the chunks of `ids`, in their order."""

    def get_vectors(self, ids: Sequence[int]) -> Vectors:
        """Return `(len(ids), dim)`, in their order."""

    def filter_ids(self, where: Where) -> Ids:
        """Return the ids of the chunks whose document matches `where`, `(n,)`, ascending."""


@runtime_checkable
class Retriever(Protocol):
    """Finds chunks for a question."""

    def retrieve(self, question: str, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return at most `k` hits, best first."""


class Reranker(Protocol):
    """Puts hits into a better order."""

    def rerank(self, question: str, hits: Sequence[Hit]) -> Sequence[Hit]:
        """Return the hits, best first; some may be left out. The first `k` of them are used."""


class ResponseCache(Protocol):
    """Remembers answers; any thread may call."""

    def get(self, key: AskKey) -> Answer | None:
        """Return the answer that was put under an equal key, None when there is none."""

    def put(self, key: AskKey, answer: Answer) -> None:
        """Remember an answer."""


class Ledger(Protocol):
    """Writes down what each question cost; any thread may call."""

    def record(self, answer: Answer) -> None:
        """Write down a finished answer: `answer.steps` says what each model cost, `answer.trace` how long each stage took."""


class Packer(Protocol):
    """Chooses what the prompt holds."""

    def pack(self, hits: Sequence[Hit], budget: int, count_source: SourceCounter, *, question: str = "") -> Packing:
        """Return a packing whose sources take at most `budget` tokens, counted with `count_source`."""


class Compressor(Protocol):
    """Says the same in fewer tokens."""

    @property
    def name(self) -> str:
        """What `Compression.method` says."""

    def compress(
        self,
        sources: CompressionSource | Sequence[CompressionSource],
        *,
        count_tokens: TokenCounter,
        budget: int | None = None,
        rate: float | None = None,
        question: str = "",
        keep: Sequence[tuple[int, int]] | Sequence[Sequence[tuple[int, int]]] = (),
    ) -> Compression:
        """Return the sources in at most `budget` tokens, or in the share `rate` of theirs.

        What fits comes back as it is, character for character; so does everything at a `rate` of 1.

        Args:
            sources: One text or several, best first.
            count_tokens: Tokens of a text, as the reader counts them.
            budget: Most tokens of the result; exactly one of `budget` and `rate` is given.
            rate: Share of the sources' tokens that may stay, in (0, 1].
            question: What the reader will be asked; "" for nothing in particular.
            keep: Spans that must stay; a list of spans for one source, a list of such lists for several. Offsets are in the
                sources' own texts.

        Raises:
            BudgetError: What must stay does not fit.
            ConfigurationError: An argument cannot work.
            CompressionError: The method failed.
        """


@runtime_checkable
class EntailmentChecker(Protocol):
    """Says whether a text carries what an answer says; the last word on what the rules of the verdict let pass."""

    def check(self, pairs: Sequence[tuple[str, str]]) -> Sequence[float]:
        """Return for each `(text, claim)` the probability, in [0, 1], that the text says so."""


class EvidenceScorer(Protocol):
    """Says which units of the hits are worth how much."""

    def score(self, question: str, hits: Sequence[Hit]) -> tuple[Sequence[Evidence], NDArray[np.float32] | None]:
        """Return the units of all hits, in order, and which share of each the others repeat.

        The second is `(n, n)`, symmetric, in [0, 1]; None when nothing is known.
        """


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """How to generate.

    Two options are equal if they ask for the same text; how long it may take is not part of that.

    Attributes:
        max_tokens: Most tokens of the answer.
        temperature: 0 takes the most probable token; higher is more varied.
        seed: Repeats a draw; None takes a new one.
        stop: Strings that end the text; they are not part of it.
        timeout_seconds: Limit from the call to the end; None for the model's default.
        cancel: Stops the generation from another thread.

    Raises:
        ConfigurationError: A value cannot work.
    """

    max_tokens: int
    temperature: float = 0.0
    seed: int | None = None
    stop: Sequence[str] = ()
    timeout_seconds: float | None = field(default=None, compare=False)
    cancel: CancelToken | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        check_whole(1, max_tokens=self.max_tokens)
        check_at_least(0, temperature=self.temperature)
        check_whole(0, 2**64 - 1, optional=True, seed=self.seed)
        check_seconds(optional=True, timeout_seconds=self.timeout_seconds)
        if isinstance(self.stop, str) or not all(self.stop):
            raise ConfigurationError(f"`stop` must be a sequence of non-empty strings, got {self.stop!r}")
        object.__setattr__(self, "stop", tuple(self.stop))


class GenerationStream(Protocol):
    """An answer under way: iterate for text, then read `result`."""

    def __iter__(self) -> Iterator[str]:
        """Yield text as it comes; concatenated it is `result.text`."""

    def close(self) -> None:
        """Stop the generation if it still runs."""

    @property
    def result(self) -> Generation:
        """The whole generation; waits for its end."""


class LanguageModel(Protocol):
    """Answers prompts. A `str` is a raw completion prompt; messages go through the model's chat template.

    `leanrag.BaseLanguageModel` has all of it but `stream`.
    """

    @property
    def name(self) -> str:
        """What `Answer.model` says."""

    @property
    def n_ctx(self) -> int:
        """Window in tokens, as allocated."""

    @property
    def is_chat(self) -> bool:
        """Whether it has a chat template, that is, reads messages."""

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain `text`, no BOS, no template."""

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the rendered prompt: exactly `usage.prompt_tokens` of a generation from it.

        An estimate where the tokenizer is elsewhere; see `leanrag.RemoteModel`.
        """

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as the model reads it."""

    def stream(self, prompt: Prompt, options: GenerateOptions) -> GenerationStream:
        """Return the completion of `prompt`, piece by piece. Errors come here, or when the stream is read.

        Raises:
            ContextOverflowError: Prompt plus `max_tokens` exceed `n_ctx`.
            GenerationCancelled: `cancel` was called.
            GenerationTimeout: `timeout_seconds` passed.
            GenerationError: The model failed.
        """


# What a model, an embedder or a store may be able to do besides; ask with `isinstance`


@runtime_checkable
class Priced(Protocol):
    """A model that costs money."""

    def price(self, usage: Usage) -> float | None:
        """Return what `usage` costs; None if that is unknown."""


@runtime_checkable
class Remote(Protocol):
    """A model that another machine computes, so that it draws no power here."""

    @property
    def base_url(self) -> str:
        """Address of the server."""


@runtime_checkable
class ReadsLittle(Protocol):
    """A model that answers better from less text: once a third of the budget is full, only strong evidence is added."""

    @property
    def evidence_floor(self) -> float:
        """Share of the value of the best evidence, in [0, 1], below which a sentence is left out; 0 to fill the budget."""


@runtime_checkable
class ScoresText(Protocol):
    """A model that tells how probable it finds a text."""

    def score_many(
        self,
        pairs: Iterable[tuple[Prompt | None, str | Sequence[int]]],
        *,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> Sequence[Scores]:
        """Return the scores of each `(condition, text)`."""


@runtime_checkable
class TextScorer(ScoresText, Protocol):
    """A model that tells how probable it finds a text, and where its tokens are; `LlamaCppModel` is one."""

    @property
    def name(self) -> str:
        """Distinguishes the scores of different models."""

    @property
    def n_ctx(self) -> int:
        """Window in tokens."""

    def tokenize(self, text: str) -> Sequence[tuple[int, int]]:
        """Return the tokens of `text`, each with the character that it begins in."""


@runtime_checkable
class FromFile(Protocol):
    """A model that was loaded from a file."""

    @property
    def path(self) -> Path:
        """The file, or a folder of files."""


@runtime_checkable
class Closable(Protocol):
    """Anything that must be closed after use."""

    def close(self) -> None:
        """Free what it uses; idempotent."""
