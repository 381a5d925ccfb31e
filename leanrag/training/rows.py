"""From questions to rows: the prompt that the model will see in use, packed by the library's own packer, and the right reply."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from leanrag.errors import BudgetError, ConfigurationError
from leanrag.evidence.packing import EvidencePacker
from leanrag.grounding.marks import with_marks
from leanrag.metrics import contains_answer
from leanrag.prompting import ModelProfile
from leanrag.protocols import EvidenceScorer, TokenCounter
from leanrag.text import split_sentences
from leanrag.training.examples import Example
from leanrag.training.orders import insert_order
from leanrag.types import Hit, Message, PackedItem

__all__ = ["Row", "RowMaker", "Sources", "Variant"]

Sources = Literal["gold", "few", "all", "without"]
"""What a prompt shows: the passage that was asked about, it and two others, all that was found, or only the others."""

_FEW = 3
_MAX_SENTENCE_CHARS = 400


@dataclass(frozen=True, slots=True)
class Row:
    """A prompt and the right reply.

    Attributes:
        prompt: The messages of the prompt.
        reply: What the model must write.
        kind: The kind of text.
        unit: The unit of the example.
        answers: Accepted answers; none for a refusal.
        number: The [n] mark of the source with the answer; 0 for a refusal.
        documents: Ids of the documents in the prompt.
    """

    prompt: tuple[Message, ...]
    reply: str
    kind: str
    unit: str
    answers: tuple[str, ...]
    number: int
    documents: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """How an example becomes a row.

    Attributes:
        sources: Which hits the prompt shows.
        tokens: Budget of the sources.
        least: As in `EvidencePacker`: what is worth less than this share of the best unit is left out.
        has_order: Whether a source holds an order to the model, which it must not follow.
        has_titles: Whether the sources have their titles; documents of users often have none.
    """

    sources: Sources
    tokens: int = 300
    least: float = 0.0
    has_order: bool = False
    has_titles: bool = True


class Search(Protocol):
    """Finds passages for an example."""

    def __call__(self, example: Example, k: int, /) -> Sequence[Hit]:
        """Return at most `k` hits, best first."""


class RowMaker:
    """Makes rows from examples.

    Args:
        search: Finds passages.
        scorer: Says how much each unit of a passage is worth.
        count_tokens: Counts the tokens of a text for the model that is trained.
        profile: How the trained model will be asked, and by which words it refuses.
        k: Passages to find.
        seed: Seed of the orders that are inserted.

    Raises:
        ConfigurationError: The profile has no refusal, no numbers for the sources, or is not for a chat model.
    """

    def __init__(
        self,
        search: Search,
        scorer: EvidenceScorer,
        count_tokens: TokenCounter,
        profile: ModelProfile,
        *,
        k: int = 10,
        seed: int = 0,
    ) -> None:
        if not profile.refusal or not profile.is_chat or not profile.template().has_numbers:
            raise ConfigurationError(
                "a reader is trained with a profile that has a `refusal`, `{number}` in `source`, and `is_chat=True`, "
                f"got {profile!r:.200}"
            )
        self._search, self._scorer, self._count_tokens = search, scorer, count_tokens
        self._profile, self._k, self._seed = profile, k, seed

    def rows(self, example: Example, variants: Iterable[Variant]) -> Iterator[Row]:
        """Yield a row for each variant that can be made.

        A variant is left out if search does not find the passage, nothing fits the budget, or the passages without the answer
        hold the answer after all.
        """
        hits = self._search(example, self._k)
        gold = [hit for hit in hits if _holds_answer(hit, example)]
        others = [
            hit
            for hit in hits
            if hit.chunk.document_id != example.document_id and not contains_answer(_text_of(hit), example.answers)
        ]
        for variant in variants:
            shown = _choose_hits(hits, gold, others, variant.sources)
            row = self._row(example, variant, shown) if shown else None
            if row is not None:
                yield row

    def _row(self, example: Example, variant: Variant, hits: Sequence[Hit]) -> Row | None:
        template = self._profile.template(example.style)

        def count_source(number: int, title: str, text: str) -> int:
            return self._count_tokens(template.render_source(number, title, text))

        try:
            packer = EvidencePacker(self._scorer, least=variant.least)
            shown = hits if variant.has_titles else [_without_title(hit) for hit in hits]
            items = packer.pack(shown, variant.tokens, count_source, question=example.question).items
        except BudgetError:
            return None
        order_seed = f"{self._seed} {example.question}" if variant.has_order else None
        return _make_row(example, items, self._profile, order_seed=order_seed)


def _make_row(
    example: Example, items: Sequence[PackedItem], profile: ModelProfile, *, order_seed: str | None = None
) -> Row | None:
    """Return the row of an example whose sources are packed; None if nothing is shown.

    If no source shows an answer, the right reply is the refusal.

    Args:
        example: The question.
        items: The sources.
        profile: Makes the prompt and the refusal.
        order_seed: Seed of an order that is inserted into a source; None inserts none.
    """
    if not items:
        return None
    found = _find_answer(example, items)
    shown = items if order_seed is None else insert_order(items, random.Random(order_seed))
    prompt = profile.template(example.style).build(example.question, shown)
    assert not isinstance(prompt, str)
    reply, number = (profile.refusal, 0) if found is None else (_reply(example, *found), found[1].number)
    return Row(
        tuple(prompt),
        reply,
        example.kind,
        example.unit,
        () if found is None else example.answers,
        number,
        tuple(dict.fromkeys(item.hit.chunk.document_id for item in items)),
    )


def _holds_answer(hit: Hit, example: Example) -> bool:
    if example.document_id:
        is_document = hit.chunk.document_id == example.document_id
        return is_document and (not example.answers or contains_answer(_text_of(hit), example.answers))
    return bool(example.answers) and contains_answer(_text_of(hit), example.answers)


def _without_title(hit: Hit) -> Hit:
    return replace(hit, chunk=replace(hit.chunk, title=""))


def _text_of(hit: Hit) -> str:
    return f"{hit.chunk.heading}\n{hit.chunk.lead}\n{hit.chunk.text}"


def _choose_hits(hits: Sequence[Hit], gold: Sequence[Hit], others: Sequence[Hit], sources: Sources) -> Sequence[Hit]:
    """Return the hits to pack, best first; none if the variant cannot be made."""
    if sources == "without":
        return others
    if not gold or sources == "gold":
        return gold
    if sources == "all":
        return hits
    chosen = [gold[0], *others[: _FEW - 1]]
    return sorted(chosen, key=lambda hit: -hit.score)


def _find_answer(example: Example, items: Sequence[PackedItem]) -> tuple[str, PackedItem] | None:
    """Return the answer as a source spells it, and the source; of several sources, the document that was asked about."""
    ordered = sorted(items, key=lambda item: item.hit.chunk.document_id != example.document_id)
    for item in ordered:
        for answer in example.answers:
            found = re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", item.text) or re.search(
                rf"(?<!\w){re.escape(answer)}(?!\w)", item.text, re.IGNORECASE
            )
            if found:
                return found[0], item
    return None


def _reply(example: Example, answer: str, item: PackedItem) -> str:
    """Return the answer in its form: the phrase, the sentence with it, or that sentence and the next one."""
    if example.style != "phrase":
        spans = split_sentences(item.text)
        sentences = [" ".join(item.text[start:end].split()) for start, end in spans]
        wanted = " ".join(answer.split())
        i = next((i for i, sentence in enumerate(sentences) if wanted in sentence), None)
        if i is not None and len(sentences[i]) <= _MAX_SENTENCE_CHARS:
            copied = sentences[i : i + (2 if example.style == "explanation" else 1)]
            return " ".join(
                with_marks(text, [item.number], False) for text in copied if len(text) <= _MAX_SENTENCE_CHARS
            )
    return f"{' '.join(answer.split())} [{item.number}]"
