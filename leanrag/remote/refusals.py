"""Which fields of a request a model accepts: learnt from what it refuses, and remembered."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from leanrag.remote.protocol import Reason

__all__ = ["OWN_FIELDS", "Fields", "Query"]

logger = logging.getLogger(__name__)

# A server may refuse these fields and still answer. If it refuses "parameters" without naming one, they go in this order.
_OPTIONAL = ("logprobs", "stream_options", "seed", "stop", "temperature", "stream")
OWN_FIELDS = frozenset({*_OPTIONAL, *"max_completion_tokens max_tokens messages model n prompt top_logprobs".split()})
"""Fields of the body that a request sets."""

_SPELLINGS = {
    "logprobs": "(?:top_)?logprobs",
    "stream": "stream(?:ing)?",
    "max_tokens": "max_tokens|max_completion_tokens",  # the other name of the field, which the server asks for
}
_CLEAR_NAMES = frozenset({"logprobs", "stream_options"})  # words that are the name of a field wherever they occur
_HINTS = frozenset({"logprobs", "stop", "stream", "stream_options"})  # leaving them out does not change the answer
_STATUSES = frozenset({200, 400, 403, 404, 405, 415, 422, 500, 501})
_REFUSES = re.compile(
    r"unsupported|unrecogni[sz]ed|unknown|unexpected|deprecated|disabled|incompatible|cannot|can't|may not|must not"
    r"|not (?:yet )?(?:be |been )?(?:support|permitted|allowed|accepted|available|implemented|enabled|valid|recogni[sz]ed)"
    r"|no(?: longer)? support|does(?:n't| not) (?:support|accept|allow)|extra (?:input|field)|only the default"
    r"|invalid (?:param|arg|field|key)",
    re.I,
)
_OUT_OF_RANGE = re.compile(
    r"must be|should be|greater|less|between|range|at (?:most|least)|too (?:large|long|many|small)|m(?:ax|in)imum", re.I
)
_NAMES_NONE = re.compile(
    r"(?:request(?:ed)?|unsupported|unrecogni[sz]ed|unknown|extra|unexpected|optional) (?:param|arg|field|input)", re.I
)
_SYSTEM_ROLE = re.compile(r"\bsystem\b.*\b(?:role|message|prompt)|\b(?:role|message)s?\b.*\bsystem\b", re.I | re.S)

# OpenAI's reasoning models ("Reasoning models" in its guide): they sample as they like and limit the answer with thoughts.
_REASONING_MODEL = re.compile(r"(?:.*/)?(?:o[1-9]|gpt-[5-9](?:\.\d)?)(?!.*chat)(?:[-.:@].*)?", re.I | re.S)


@dataclass(frozen=True, slots=True)
class Query:
    """A checked prompt and its options.

    Attributes:
        prompt: A text to complete, or the messages of a chat.
        counted: Tokens of the prompt, counted here.
        max_tokens: Most tokens to generate.
        temperature: As in `GenerateOptions`.
        stop: Strings that end the text.
        seed: Seed of the random choice; None at temperature 0, where nothing is random.
        seconds: Time limit for all attempts.
    """

    prompt: str | Sequence[Mapping[str, str]]
    counted: int
    max_tokens: int
    temperature: float
    stop: tuple[str, ...]
    seed: int | None
    seconds: float

    @property
    def is_chat(self) -> bool:
        """Whether the prompt consists of messages."""
        return not isinstance(self.prompt, str)


class Fields:
    """The fields that a model accepts. Only the event loop of a worker uses it.

    Args:
        model: Name of the model on the server.
        name: Name of the model in log lines.
        logprobs: Whether to request log-probabilities.
        extra: Further fields of each body.
    """

    def __init__(self, model: str, name: str, *, logprobs: bool, extra: Mapping[str, object]) -> None:
        self._model, self._name, self._extra = model, name, extra
        self._refused = set() if logprobs else {"logprobs"}
        self._limit = "max_tokens"
        if _REASONING_MODEL.fullmatch(model):
            self._refused |= {"logprobs", "seed", "stop", "temperature"}
            self._limit = "max_completion_tokens"

    def body(self, query: Query) -> dict[str, object]:
        """Return the body of a request."""
        prompt = query.prompt
        if isinstance(prompt, str):
            body: dict[str, object] = {"prompt": prompt}
        else:
            body = {"messages": _without_system(prompt) if "system" in self._refused else list(prompt)}
        body |= {"model": self._model, self._limit: query.max_tokens}
        optional: dict[str, object] = {"temperature": query.temperature, "stream": True}
        if query.stop:
            optional["stop"] = list(query.stop)
        if query.seed is not None:
            optional["seed"] = query.seed
        if "stream" not in self._refused:
            optional["stream_options"] = {"include_usage": True}
        optional["logprobs"] = True if query.is_chat else 2
        body |= {field: value for field, value in optional.items() if field not in self._refused}
        if query.is_chat and "logprobs" in body:
            body["top_logprobs"] = 2
        return {**self._extra, **body}

    def learn(self, status: int | None, reason: Reason, sent: Mapping[str, object]) -> bool:
        """Return whether the server refused a field that it can do without. Later bodies do not have this field.

        Args:
            status: HTTP status of the refusal.
            reason: Why the server refused the request.
            sent: The body of the request.
        """
        if status not in _STATUSES:
            return False
        field = self._refused_field(reason, sent)
        if field is None:
            return False
        if field == "max_tokens":
            self._limit = "max_completion_tokens"
            logger.info(
                "%s limits the answer with `max_completion_tokens`, so later requests send this field", self._name
            )
            return True
        self._refused.add(field)
        changes = field == "seed" or (field == "temperature" and sent.get(field) != 1)
        logger.log(
            logging.WARNING if changes else logging.INFO,
            "%s refuses the field `%s`, so later requests leave it out",
            self._name,
            field,
        )
        return True

    def _refused_field(self, reason: Reason, sent: Mapping[str, object]) -> str | None:
        candidates = [field for field in (*_OPTIONAL, "max_tokens") if field in sent]
        named = sorted((start, field) for field in candidates if (start := _find(field, reason)) is not None)
        for _, field in named:
            if _is_refused(field, reason, sent[field]):
                return field
        messages = sent.get("messages")
        has_system = isinstance(messages, list) and any(message.get("role") == "system" for message in messages)
        if has_system and _SYSTEM_ROLE.search(reason.words) and _REFUSES.search(reason.words):
            return "system"
        if not named and not reason.field and _NAMES_NONE.search(reason.words):
            return next((field for field in candidates if field != "max_tokens"), None)
        return None


def _find(field: str, reason: Reason) -> int | None:
    """Return where the reason names the field, -1 if it names it apart from its words, or None."""
    if reason.field.partition(".")[0].partition("[")[0] == field:
        return -1
    found = re.search(rf"(?<![\w-])(?:{_SPELLINGS.get(field, field)})(?![\w-])", reason.words, re.I)
    return found.start() if found else None


def _is_refused(field: str, reason: Reason, value: object) -> bool:
    """Return whether a reason that names the field refuses the field, not only its value."""
    if field == "max_tokens" and "max_completion_tokens" in reason.words:
        return True
    if _OUT_OF_RANGE.search(reason.words):
        return field in _HINTS or (field == "temperature" and value == 0)
    is_quoted = re.search(rf"[`'\"\[.]{field}[`'\"\]:]", reason.words)
    return bool(field in _CLEAR_NAMES or reason.field or is_quoted or _REFUSES.search(reason.words))


def _without_system(messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Return the messages with the words of the system at the beginning of the first message of the user."""
    words = [message["content"] for message in messages if message["role"] == "system"]
    others = [message for message in messages if message["role"] != "system"]
    first = next((i for i, message in enumerate(others) if message["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": "\n\n".join(words)}, *others]
    others[first] = {"role": "user", "content": "\n\n".join([*words, others[first]["content"]])}
    return others
