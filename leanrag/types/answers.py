"""Answers, explanations and reports: the values that the library returns."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from leanrag.types.codec import from_json, to_json
from leanrag.types.documents import Hit, Scalar
from leanrag.types.generation import FinishReason, Generation, Usage
from leanrag.types.packing import Packing

__all__ = ["AddReport", "Answer", "AskKey", "Citation", "Explanation", "Failure", "Stage", "Step"]


NO_USAGE = Usage(0, 0)


class _Shown:
    """A value that `print` and notebooks show with `leanrag.display`, which is imported when it is needed."""

    __slots__ = ()

    def __str__(self) -> str:
        return str(importlib.import_module("leanrag.display").to_text(self))

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
        quote: The quoted text.
        support: Share of the information in the cited sentence that the quote contains, in [0, 1].
        location: The page, slide, sheet or section of the quote, such as "page 12"; "" if the file has none.
    """

    number: int
    document_id: str
    title: str
    source: str | None
    start: int
    end: int
    quote: str
    support: float
    location: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """One timed stage of a request.

    Attributes:
        name: What was done.
        seconds: Wall time.
        details: What the stage tells of its work.
        cpu_seconds: CPU time of the whole process meanwhile, other questions included; None if it was not measured.
    """

    name: str
    seconds: float
    details: Mapping[str, Scalar] = field(default_factory=dict)
    cpu_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One model's part in an answer.

    Attributes:
        model: Its name.
        outcome: "kept", "escalated" (the next model was asked), "audited" (the model was asked only to check the kept answer),
            "rewrote" (the model completed a question of a conversation), "skipped" (the model was not asked) or "failed".
        reason: The reason in a few words; after a failure, the message of the error.
        confidence: Confidence of its answer, in [0, 1]; None if it did not answer.
        usage: Tokens spent.
        seconds: Wall time, packing included.
        cost: Cost of this model; None if the model has no price, or if the cost is unknown.
        text: Its answer with marks; "" if it did not answer.
    """

    model: str
    outcome: Literal["kept", "escalated", "audited", "rewrote", "skipped", "failed"]
    reason: str
    confidence: float | None = None
    usage: Usage = NO_USAGE
    seconds: float = 0.0
    cost: float | None = None
    text: str = ""


@dataclass(frozen=True, slots=True)
class Answer(_Shown):
    """An answer with its receipt.

    Attributes:
        question: The question.
        text: The answer; sentences that a source supports end with [n] marks.
        citations: Verified quotes, ordered by mark.
        is_supported: Whether the sources support the answer.
        support: Share of the answer's information that the sources contain, in [0, 1].
        model: Name of the model that answered; None if no model was asked, because nothing was found or no model was worth asking.
        finish_reason: As in `Generation`; None if no model was asked.
        usage: Tokens spent by all models that were asked.
        cost: Cost of all models together, in the currency of their prices; None if no model has a price, or if a cost is unknown.
        prompt: The rendered prompt of the model that answered.
        packing: The sources in the prompt, and the hits that were dropped.
        generation: The output of the model; None if no model was asked.
        trace: Each stage with its seconds, in order.
        confidence: Confidence of the answer, in [0, 1]; the probability that it is right only if `calibrated`; None if no model was
            asked.
        calibrated: Whether a calibration computed `confidence`.
        steps: The models of the cascade, in order: what each did, and why.
        stopped_by: Why a larger model was not asked, or did not answer, although the confidence was too low: a limit ("seconds",
            "tokens", "cost", "joules") or "outage"; None otherwise.
        abstained: Whether `text` says that the sources do not answer although something was found. The model said so itself, or
            the confidence of its answer, `generation.text`, was too low, or a calibration predicted that from the search.
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
    def thoughts(self) -> str | None:
        """What a reasoning model thought before it answered; None if there are no thoughts. Nothing here is checked or cited."""
        return None if self.generation is None else self.generation.thoughts

    @property
    def is_partial(self) -> bool:
        """Whether a shard of the corpus could not be reached, so that its documents were not searched."""
        return any("missing_shards" in stage.details for stage in self.trace)

    @property
    def seconds(self) -> float:
        """Wall time of all stages."""
        return sum(stage.seconds for stage in self.trace)

    def to_json(self) -> str:
        """Return the answer as one line of JSON, from which `from_json` makes an equal answer."""
        return to_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Answer:
        """Return the answer that `to_json` wrote.

        Raises:
            ValueError: The text is not such an answer.
        """
        return from_json(cls, text)


@dataclass(frozen=True, slots=True)
class AskKey:
    """Everything that an answer depends on: questions with equal keys have the same answer.

    There are two keys for an answer. The first is known before the search, and stands for the documents by `documents`. The second
    is known after it, and stands for them by `evidence`: the same after a change of documents that the question is not about.

    Attributes:
        question: The question in normal form C, without white space at its ends and with one space for each run of it.
        options: The options of the question and the settings of the folder, as JSON.
        where: The filter on documents, as text.
        folder: Absolute path of the database.
        models: The models that may be asked, in order: of a file the hash, of an object its name.
        stages: Names of the stages, the prompt template, the policy of the cascade, and the version of leanrag. Two stages of the
            same class count as equal, even if their settings differ. Use another cache if you change the settings of a stage.
        documents: Hash of all documents; "" in the second key.
        evidence: Hash of the hits and of what the prompt shows of them; "" in the first key.
    """

    question: str
    options: str
    where: str
    folder: str
    models: tuple[str, ...]
    stages: tuple[str, ...]
    documents: str = ""
    evidence: str = ""

    @property
    def sha256(self) -> str:
        """Hash of the whole key, hexadecimal."""
        return self._hash(self.question, self.documents, self.evidence)

    @property
    def scope(self) -> str:
        """Hash of the key without question, documents and evidence: what two questions must share to share an answer."""
        return self._hash()

    def _hash(self, *more: str) -> str:
        parts = (*more, self.options, self.where, self.folder, self.models, self.stages)
        return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Explanation(_Shown):
    """What `ask` would do, without generating.

    Attributes:
        question: The question.
        hits: The hits of the search, best first.
        packing: The sources that the prompt would show, and the hits that would be dropped.
        prompt: The rendered prompt; None if nothing was found, so that no model would be asked.
        model: The model that would be asked.
        n_ctx: Its window, in tokens.
        prompt_tokens: Exact size of the prompt.
        max_tokens: Tokens reserved for the answer.
        cost: Highest cost of the question, if all models are asked; None if no model has a price, or if a cost is unknown.
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
    """A source that could not be added; `error` (a `DocumentError` or `MissingDependencyError`) says why and what to do."""

    source: str
    error: Exception


@dataclass(frozen=True, slots=True)
class AddReport(_Shown):
    """What `add` did, by document id.

    Attributes:
        added: New documents.
        updated: Documents whose text or metadata changed.
        unchanged: Documents whose content hash did not change; they were skipped.
        removed: Documents that were removed, because their files were deleted or can no longer be read.
        renamed: By the id of a document in `added`, the id of the one in `removed` with the same text, whose file had another name.
        skipped: Files in folders that are empty, or that no reader can read.
        failed: Files that could not be read; all others were added.
        left_out: By document id, the number of characters that are in no chunk: pictures encoded as text, minified code.
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
    renamed: Mapping[str, str] = field(default_factory=dict)
    chunks: int = 0
    seconds: float = 0.0
