"""Values that flow between the stages.

All are frozen dataclasses: a stage returns new values and changes no argument. Offsets are in characters (Python string
indices) of `Document.text`; seconds are floats; tokens are counted by the answering model unless a name says otherwise.
Unknown is `None`, zero is `0`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal

__all__ = [
    "AddReport",
    "Answer",
    "AskKey",
    "CancelToken",
    "Chunk",
    "Citation",
    "Compression",
    "Document",
    "DroppedItem",
    "DroppedSpan",
    "Evidence",
    "Explanation",
    "Failure",
    "Generation",
    "Hit",
    "Message",
    "MetadataValue",
    "PackedItem",
    "Packing",
    "Prompt",
    "Scalar",
    "Scores",
    "Segment",
    "Stage",
    "Step",
    "Usage",
    "Where",
    "plain_metadata",
]

Scalar = str | int | float | bool | None
MetadataValue = Scalar | date | Sequence[Scalar | date] | Set[Scalar | date]
"""A value to filter on, or several (tags). Dates become text in ISO form."""
Where = Mapping[str, object]
"""Conditions on documents; see `leanrag.retrieval.filters`."""
DocumentKind = Literal["text", "markdown", "code"]
FinishReason = Literal["stop", "length", "repetition"]
PackAction = Literal["kept", "extracted", "trimmed", "pruned", "heading"]


class _ShownInNotebooks:
    """A value that notebooks show as `leanrag.display` renders it; that is imported when a notebook asks."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(importlib.import_module("leanrag.display").to_html(self))


@dataclass(frozen=True, slots=True)
class Document:
    """One text with an identity.

    Attributes:
        text: The whole text; every offset elsewhere points into it.
        id: Stable identity; adding another text under the same id replaces the old one. Defaults to a hash of the text, and
            of title and metadata if there are any: equal texts under two titles are two documents.
        title: What a person calls it; shown in prompts and citations.
        source: Absolute path of the file it came from, or None.
        kind: Chooses the chunker.
        metadata: Values to filter on, and lists of values (tags). Dates become text in ISO form, sets become sorted lists.
    """

    text: str
    id: str = ""
    title: str = ""
    source: str | None = None
    kind: DocumentKind = "text"
    metadata: Mapping[str, MetadataValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metadata", plain_metadata(self.metadata))
        if not self.id:
            object.__setattr__(self, "id", "text:" + self._identity()[:16])

    def _identity(self) -> str:
        if not self.title and not self.metadata:
            return self.sha256
        named = json.dumps([self.sha256, self.title, self.metadata], sort_keys=True, default=repr)
        return hashlib.sha256(named.encode()).hexdigest()

    @property
    def sha256(self) -> str:
        """Hash of the text, hexadecimal."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def plain_metadata(metadata: Mapping[str, MetadataValue]) -> dict[str, Scalar | list[Scalar]]:
    """Return `metadata` as JSON has it: dates as text in ISO form, sets as sorted lists, sequences as lists.

    Example:
        >>> plain_metadata({"day": date(2024, 3, 5), "tags": {"b", "a"}})
        {'day': '2024-03-05', 'tags': ['a', 'b']}
    """
    plain: dict[str, Scalar | list[Scalar]] = {}
    for name, value in metadata.items():
        if isinstance(value, Set):
            plain[name] = sorted(map(_plain_scalar, value), key=lambda scalar: (type(scalar).__name__, scalar))
        elif isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            plain[name] = _plain_scalar(value)
        else:
            plain[name] = [_plain_scalar(each) for each in value]
    return plain


def _plain_scalar(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a document: `text == document.text[start:end]`, always.

    Attributes:
        document_id: The document it is a span of.
        start: First character.
        end: One past the last character.
        text: The span itself.
        title: The document's title.
        heading: Headings above the span, outermost first, joined by " > "; "" when there are none.
        source: The document's file, or None.
        lead: Text of the document that stands above the chunk and without which the chunk cannot be read, verbatim: a
            table's header row, the column names of a CSV file. "" when there is none.
        lead_start: First character of the lead: `lead == document.text[lead_start:lead_start + len(lead)]`.
    """

    document_id: str
    start: int
    end: int
    text: str
    title: str = ""
    heading: str = ""
    source: str | None = None
    lead: str = ""
    lead_start: int = 0

    @property
    def id(self) -> str:
        """`document_id:start-end`: derived, never random."""
        return f"{self.document_id}:{self.start}-{self.end}"


@dataclass(frozen=True, slots=True)
class Hit:
    """A retrieved chunk.

    Attributes:
        chunk: What was found.
        score: Higher is better; comparable within one search only.
        dense: Cosine similarity of question and chunk, None when the dense side was not asked.
        bm25: BM25 score (higher is better), None when no term matched or the lexical side was not asked.
        copies: Other chunks of the same text (up to case, white space and punctuation) under the same heading, which were
            found too and left out of the hits; best first.
    """

    chunk: Chunk
    score: float
    dense: float | None = None
    bm25: float | None = None
    copies: tuple[Chunk, ...] = ()


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message. Its content is data: no text in it can become a control token."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt = str | Sequence[Message]
"""A raw completion prompt, or chat messages for the model's own template."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call, or of several: usages add up.

    Attributes:
        prompt_tokens: Tokens of the rendered prompt, template and BOS included; includes `cached_tokens`.
        completion_tokens: Tokens generated, the end token not counted.
        cached_tokens: Prompt tokens whose computation was reused.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model returned.

    Attributes:
        text: The completion, up to (not including) a stop string.
        model: Name of the model.
        finish_reason: "stop" (end token or stop string), "length" (`max_tokens` reached) or "repetition" (it began to say
            again what it had said, and was stopped).
        usage: Tokens in and out.
        token_ids: Generated tokens, the end token not included; None when the model does not tell.
        logprobs: Natural-log probability of each of `token_ids` under the untempered distribution; None when unknown.
        margins: Log-probability of each token less that of the best other one; None when unknown.
        entropies: Entropy in nats of the distribution that each token was drawn from; None when unknown.
        seed: The seed that repeats this generation; None for greedy.
        prefill_seconds: Time to the first token.
        decode_seconds: Time from the first token to the last.
    """

    text: str
    model: str
    finish_reason: FinishReason
    usage: Usage
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    margins: tuple[float, ...] | None = None
    entropies: tuple[float, ...] | None = None
    seed: int | None = None
    prefill_seconds: float | None = None
    decode_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Scores:
    """How probable a model finds a text.

    Attributes:
        token_ids: Tokens of the text.
        logprobs: Natural-log probability of each, given what precedes it; None for a first token that nothing precedes.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float | None, ...]

    @property
    def total(self) -> float:
        """Natural-log probability of the text."""
        return math.fsum(logprob for logprob in self.logprobs if logprob is not None)


@dataclass(frozen=True, slots=True)
class Segment:
    """A span of a compressed text and the span of a source that it repeats.

    Attributes:
        start: First character in the compressed text.
        end: One past the last.
        source: Which of the sources, from 0.
        source_start: First character in the source's document.
        source_end: One past the last.
        score: How much the best unit of it was worth to the compressor or packer, None when it was not asked.
        reason: Why it is here: "whole" (the source was kept as it is), "relevant", "context" (a neighbour needs it),
            "protected", "kept" (`keep=` or a pattern asked for it) or "surprising" (the model did not expect it).
    """

    start: int
    end: int
    source: int
    source_start: int
    source_end: int
    score: float | None = None
    reason: str = "whole"


@dataclass(frozen=True, slots=True)
class DroppedSpan:
    """A span of a source that is not in the compressed text.

    Attributes:
        source: Which of the sources, from 0.
        source_start: First character in the source's document.
        source_end: One past the last.
        score: As in `Segment`.
        reason: "budget", "duplicate" or "irrelevant".
    """

    source: int
    source_start: int
    source_end: int
    score: float | None = None
    reason: str = "budget"


@dataclass(frozen=True, slots=True)
class Compression:
    """A compressed text, and where each part of it came from.

    `text[s.start:s.end]` is the source's document at `s.source_start:s.source_end`, character for character, for each segment
    `s` of a verbatim method; what lies between segments is white space that the compressor put there.

    Attributes:
        text: The compressed text.
        segments: Its parts, in order.
        dropped: What was left out, by source and place.
        sources: What was compressed, as it was.
        tokens_before: Tokens of the sources, joined by blank lines, as the reader counts them.
        tokens_after: Tokens of `text`, counted alike; at most the budget.
        method: The compressor's name.
        seconds: Time it took.
    """

    text: str
    segments: tuple[Segment, ...]
    dropped: tuple[DroppedSpan, ...]
    sources: tuple[Hit, ...]
    tokens_before: int
    tokens_after: int
    method: str
    seconds: float

    @property
    def rate(self) -> float:
        """Share of the tokens that is left; 1 when there were none."""
        return self.tokens_after / self.tokens_before if self.tokens_before else 1.0

    def restore(self) -> str:
        """Return the text before the compression."""
        return "\n\n".join(hit.chunk.text for hit in self.sources)

    def map(self, offset: int) -> tuple[str, int] | None:
        """Return `(document id, place in the document)` of the character at `offset`, None for one that joins segments."""
        for segment in self.segments:
            if segment.start <= offset < segment.end:
                document_id = self.sources[segment.source].chunk.document_id
                return document_id, segment.source_start + min(
                    offset - segment.start, segment.source_end - segment.source_start - 1
                )
        return None


@dataclass(frozen=True, slots=True)
class Evidence:
    """A unit of a hit (a sentence, a row, a block of code) and what it is worth for a question.

    Attributes:
        hit: Which of the hits, from 0.
        start: First character in the chunk's text.
        end: One past the last.
        value: At least 0, higher is better; comparable among the units of one question.
        needs: Index, among the units, of the unit that this makes no sense without; None for none.
        group: Number of the units that are read together with this one (the steps of a list, the fields of a record); None for
            none.
    """

    hit: int
    start: int
    end: int
    value: float
    needs: int | None = None
    group: int | None = None


@dataclass(frozen=True, slots=True)
class PackedItem:
    """A source as the prompt shows it, made of verbatim spans (see `Segment`), or only named.

    Attributes:
        number: The [n] mark, from 1.
        hit: Where it came from.
        text: What the prompt shows of it.
        segments: The spans of the hit's document that `text` is made of, in order; only white space lies between them. None of
            a heading: its words need not stand in the document as they stand here.
        tokens: Tokens of the rendered source, its header included.
        action: "kept" whole, "extracted" (some of its units), "trimmed" (its beginning), "pruned" (thinned by a compressor) or
            "heading" (nothing of it: `text` is the chunk's heading, or title, and says where more would stand).
        more: Further hits of the same document that it shows.
    """

    number: int
    hit: Hit
    text: str
    segments: tuple[Segment, ...]
    tokens: int
    action: PackAction = "kept"
    more: tuple[Hit, ...] = ()


@dataclass(frozen=True, slots=True)
class DroppedItem:
    """A hit that is not in the prompt, and why: no room, a repetition, or worth too little beside the others."""

    hit: Hit
    reason: Literal["budget", "duplicate", "irrelevant"]
    tokens: int


@dataclass(frozen=True, slots=True)
class Packing:
    """What was packed and what was left out.

    Attributes:
        items: In prompt order.
        dropped: Hits left out, best first.
        budget: Tokens that were available for the sources.
        tokens: Tokens that the sources take; at most `budget`.
        compression: What a compressor made of the hits, None when none was asked.
    """

    items: tuple[PackedItem, ...]
    dropped: tuple[DroppedItem, ...]
    budget: int
    tokens: int
    compression: Compression | None = None


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
    usage: Usage = Usage(0, 0)
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


class CancelToken:
    """Stops a request from another thread. `cancel()` is idempotent; callbacks run once, in the cancelling thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cancelled = False
        self._callbacks: list[Callable[[], None]] = []

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Ask the request to stop, a prefill included."""
        with self._lock:
            self._cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Run `callback` at `cancel`, or now if it was already called."""
        with self._lock:
            if not self._cancelled:
                self._callbacks.append(callback)
                return
        callback()
