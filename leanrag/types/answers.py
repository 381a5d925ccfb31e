"""What comes back: answers, plans of answers, and reports."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from leanrag.types.documents import Hit, Scalar
from leanrag.types.generation import FinishReason, Generation, Usage
from leanrag.types.packing import Packing

__all__ = ["AddReport", "Answer", "AskKey", "Citation", "Explanation", "Failure", "Stage", "Step"]


NO_USAGE = Usage(0, 0)


class _ShownInNotebooks:
    """A value that notebooks show as `leanrag.display` renders it; that is imported when a notebook asks."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(importlib.import_module("leanrag.display").to_html(self))


@dataclass(frozen=True, slots=True)
class Citation:
    """A verbatim quote that supports a part of the answer: `quote == document.text[start:end]`.

    Attributes:
        number: The [n] mark in the answer.
        document_id: The document quoted.
        title: Its title.
        source: Its file, or None.
        start: First character of the quote.
        end: One past the last character.
        quote: The words themselves.
        support: Share of the cited sentence's information that the quote holds, in [0, 1].
    """

    number: int
    document_id: str
    title: str
    source: str | None
    start: int
    end: int
    quote: str
    support: float


@dataclass(frozen=True, slots=True)
class Stage:
    """One timed stage of a request."""

    name: str
    seconds: float
    details: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One model's part in an answer.

    Attributes:
        model: Its name.
        outcome: "kept", "escalated" (the next model was asked), "audited" (it was asked only to check the answer that is kept),
            "skipped" (the question went past it) or "failed".
        reason: Why, in a few words; of a failure the error's own.
        confidence: How sure its answer was, in [0, 1]; None when it gave none.
        usage: Tokens spent.
        seconds: Wall time, packing included.
        cost: What it cost; None when the model has no price, or when the cost is unknown.
        text: What it answered, marks included; "" when it gave none.
    """

    model: str
    outcome: Literal["kept", "escalated", "audited", "skipped", "failed"]
    reason: str
    confidence: float | None = None
    usage: Usage = NO_USAGE
    seconds: float = 0.0
    cost: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Answer(_ShownInNotebooks):
    """An answer with its receipt.

    Attributes:
        question: As asked.
        text: The answer; sentences that a source supports end with [n] marks.
        citations: Verified quotes, by mark.
        is_supported: Whether the sources carry the answer.
        support: How far they do, in [0, 1].
        model: Name of the model that answered; None when no model was asked: nothing was found, or it was not worth it.
        finish_reason: As in `Generation`; None when no model was asked.
        usage: Tokens spent, by all models that were asked.
        cost: What all models cost together, in the currency of their prices; None when no model has a price, or when a cost is
            unknown.
        prompt: The prompt as the model read it, rendered.
        packing: Sources in the prompt and those left out.
        generation: The model's own record, None when no model was asked.
        trace: Each stage with its seconds, in order.
        confidence: How sure it is, in [0, 1]; a probability of being right only if `calibrated`; None when no model was asked.
        calibrated: Whether `confidence` comes from a calibration.
        steps: Which models were asked, in order, and why the next one was.
        stopped_by: What kept a larger model from being asked, or from answering, although the answer was not sure enough: a limit
            ("seconds", "tokens", "cost", "joules") or "outage"; None for nothing.
        abstained: Whether `text` says only that the sources do not answer, although something was found: the model's own answer,
            `generation.text`, was not sure enough, or a calibration knew before that it would not be.
    """

    question: str
    text: str
    citations: tuple[Citation, ...]
    is_supported: bool
    support: float
    model: str | None
    finish_reason: FinishReason | None
    usage: Usage
    cost: float | None
    prompt: str
    packing: Packing
    generation: Generation | None
    trace: tuple[Stage, ...]
    confidence: float | None = None
    calibrated: bool = False
    steps: tuple[Step, ...] = ()
    stopped_by: str | None = None
    abstained: bool = False

    def __str__(self) -> str:
        is_plain = self.is_supported or self.abstained or self.model is None
        return self.text if is_plain else f"{self.text}\n(Not supported by the sources.)"

    @property
    def seconds(self) -> float:
        """Wall time of all stages."""
        return sum(stage.seconds for stage in self.trace)


@dataclass(frozen=True, slots=True)
class AskKey:
    """Everything that an answer depends on: an equal key has the same answer.

    Attributes:
        question: As asked.
        options: The options of the question and the settings of the folder, as JSON.
        where: The filter on documents, as text.
        folder: Absolute path of the database.
        generation: Counts the changes of its documents.
        models: The models that may be asked, in order.
        stages: Names of the stages, the prompt template, and the policy of the cascade. Two stages of one class count as the same
            stage whatever their settings: give a folder another cache when you change the settings of a stage.
    """

    question: str
    options: str
    where: str
    folder: str
    generation: int
    models: tuple[str, ...]
    stages: tuple[str, ...]

    @property
    def sha256(self) -> str:
        """Hash of the whole key, hexadecimal: a short name for it."""
        parts = (self.question, self.options, self.where, self.folder, str(self.generation), self.models, self.stages)
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Explanation(_ShownInNotebooks):
    """What `ask` would do, with nothing generated.

    Attributes:
        question: As asked.
        hits: What retrieval found, best first.
        packing: Sources that would be sent and those left out.
        prompt: The rendered prompt, None when nothing was found and no model would be asked.
        model: The model that would be asked.
        n_ctx: Its window, in tokens.
        prompt_tokens: Exact size of the prompt.
        max_tokens: Tokens reserved for the answer.
        cost: Most that the question can cost, if all models are asked; None when no model has a price, or when a cost is unknown.
        trace: Each stage with its seconds.
    """

    question: str
    hits: tuple[Hit, ...]
    packing: Packing
    prompt: str | None
    model: str
    n_ctx: int
    prompt_tokens: int
    max_tokens: int
    cost: float | None
    trace: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A source that could not be added; `error` (a `DocumentError`) says why and what to do."""

    source: str
    error: Exception


@dataclass(frozen=True, slots=True)
class AddReport(_ShownInNotebooks):
    """What `add` did, by document id.

    Attributes:
        added: New documents.
        updated: Documents whose text or metadata changed.
        unchanged: Known documents, skipped by content hash.
        removed: Documents that are no longer answered from: their files are gone, or cannot be read any more.
        skipped: Files in folders that no loader reads.
        failed: Files that could not be read; all others were indexed.
        left_out: By document id, how many characters no chunk has: pictures written as letters, minified code.
        chunks: Chunks written.
        seconds: Wall time.
    """

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    failed: tuple[Failure, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    chunks: int = 0
    seconds: float = 0.0
