"""The profile of each model: which prompt it answers best, how long its answers are, and how many tokens of sources it reads.

The profiles are data, in `profiles.json`; `benchmarks/models/prompts.py` measures them. A model without a profile has that of a
model of its size.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from leanrag.checks import check_choice, check_whole
from leanrag.errors import ConfigurationError
from leanrag.files import known_sha256
from leanrag.models.registry import REGISTRY
from leanrag.prompting.template import PromptTemplate
from leanrag.text import words
from leanrag.types import Adapter

__all__ = ["STYLES", "AnswerForm", "ModelProfile", "Style", "find_profile", "profile_named", "profiles_digest"]

Style = Literal["phrase", "sentence", "explanation"]
"""The form of an answer: the shortest phrase, one sentence, or a few sentences."""

STYLES: tuple[Style, ...] = get_args(Style)
"""All forms of an answer."""

_FILE = Path(__file__).with_name("profiles.json")
_FORM = "{form}"
_MARK = re.compile(r"\[\d+\]")
_TYPE = re.compile(r":\w+")


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """How a model is asked for an answer of one form.

    Attributes:
        instruction: Stands in the prompt for the field `{form}`.
        max_tokens: Most tokens of the answer.

    Raises:
        ConfigurationError: `max_tokens` is less than 1.
    """

    instruction: str
    max_tokens: int

    def __post_init__(self) -> None:
        check_whole(1, max_tokens=self.max_tokens)


@dataclass(frozen=True, slots=True)
class ModelProfile:
    """How a model answers best.

    Attributes:
        source: Text for each source, with the fields `{number}`, `{title}` and `{text}`.
        question: Text after the sources, with the field `{question}`, and `{form}` for the instruction of the answer form.
        forms: The answer form of each style.
        style: The form of an answer if the question does not name a style.
        system: System message, which may have the field `{form}`; "" for none. For a completion, the beginning of the prompt.
        stop: Strings that end the answer.
        is_chat: Whether the model reads messages; otherwise it completes a text.
        context_tokens: Most tokens of sources in the prompt; None for all that the window has room for.
        history_tokens: Most tokens of earlier turns of a conversation in the prompt; None for half of the window, 0 if the model
            answers better without them.
        refusal: The words by which the model says that the sources do not answer; "" if it has no such words.
        chat_template: Jinja source that replaces the chat template of the file when the model is loaded by its name; "" keeps
            the template of the file.

    Raises:
        ConfigurationError: A text lacks a field, or a style has no answer form.
    """

    source: str
    question: str
    forms: Mapping[Style, AnswerForm]
    style: Style = "sentence"
    system: str = ""
    stop: Sequence[str] = ()
    is_chat: bool = True
    context_tokens: int | None = 300
    refusal: str = ""
    chat_template: str = ""
    history_tokens: int | None = None

    def __post_init__(self) -> None:
        check_whole(1, optional=True, context_tokens=self.context_tokens)
        check_whole(0, optional=True, history_tokens=self.history_tokens)
        check_choice(STYLES, style=self.style)
        if set(self.forms) != set(STYLES):
            raise ConfigurationError(
                f"`forms` of a profile must have the keys {', '.join(STYLES)}, got {', '.join(self.forms) or 'none'}"
            )
        object.__setattr__(self, "stop", tuple(self.stop))
        self.template()

    def form(self, style: Style | None = None) -> AnswerForm:
        """Return the answer form of a style; None is the style of the profile."""
        return self.forms[style or self.style]

    def template(self, style: Style | None = None) -> PromptTemplate:
        """Return what makes the prompts for a style; None is the style of the profile."""
        instruction = self.form(style).instruction
        system, question = (text.replace(_FORM, instruction) for text in (self.system, self.question))
        return PromptTemplate(system, self.source, question, tuple(self.stop), self.is_chat)

    def refuses(self, reply: str) -> bool:
        """Return whether a reply says, in the words of `refusal`, that the sources do not answer.

        Capitals, punctuation and marks of sources do not matter.
        """
        return bool(self.refusal) and _plain(reply) == _plain(self.refusal)

    def withhold_refusal(self, pieces: Iterable[str]) -> Iterator[str]:
        """Yield the pieces of a reply; nothing of a refusal, and the beginning as soon as it is not the beginning of one."""
        pending, may_refuse = "", bool(self.refusal)
        for piece in pieces:
            if may_refuse:
                pending += piece
                may_refuse = _plain(self.refusal).startswith(_plain(pending))
                piece = "" if may_refuse else pending
            if piece:
                yield piece
        if may_refuse and pending and not self.refuses(pending):
            yield pending


@dataclass(frozen=True, slots=True)
class _Rule:
    """Which profile the models of a size have.

    Attributes:
        profile: Its name.
        is_chat: Whether the models read messages.
        below_params: Only models with fewer weights; None for all.
    """

    profile: str
    is_chat: bool
    below_params: float | None = None


@dataclass(frozen=True, slots=True)
class _Profiles:
    """The content of the file: profiles by name, and rules for other models; the first rule that fits decides."""

    profiles: Mapping[str, ModelProfile]
    rules: Sequence[_Rule]


def find_profile(
    name: str,
    *,
    is_chat: bool,
    path: Path | None = None,
    adapters: Sequence[Adapter] = (),
    n_params: int | None = None,
) -> ModelProfile:
    """Return the profile of a model: the one that its adapter names, or by its name, its files or its size.

    Args:
        name: Its name.
        is_chat: Whether it reads messages.
        path: Its file; None if it has no file.
        adapters: Its adapters.
        n_params: The number of its weights; None if it is unknown.
    """
    names = (*(adapter.profile for adapter in adapters), name)
    profile = next(filter(None, map(profile_named, names)), None) or profile_named(_registered_name(path, adapters))
    if profile is not None and profile.is_chat == is_chat:
        return profile
    rule = next(
        rule
        for rule in _read().rules
        if rule.is_chat == is_chat
        and (rule.below_params is None or (n_params is not None and n_params < rule.below_params))
    )
    return _read().profiles[rule.profile]


def profile_named(name: str) -> ModelProfile | None:
    """Return the profile of the model with this name; None if there is no such profile.

    A copy with another type of weights, such as `smollm2-135m:q4_0`, has the profile of the model.
    """
    return _read().profiles.get(_TYPE.sub("", name))


def profiles_digest() -> str:
    """Return the hash of all profiles, hexadecimal: answers with other profiles are other answers."""
    return hashlib.sha256(_FILE.read_bytes()).hexdigest()


def _registered_name(path: Path | None, adapters: Sequence[Adapter]) -> str:
    """Return the name in the registry of a model with this content, or of its adapter; "" if there is no name.

    A file is read only if it has the size of a file in the registry.
    """
    hashes = {adapter.sha256 for adapter in adapters}
    names = [spec.name for spec in REGISTRY.values() if spec.kind == "adapter" and spec.sha256 in hashes]
    if names or path is None:
        return next(iter(names), "")
    try:
        size = path.stat().st_size if path.is_file() else None
        candidates = [spec for spec in REGISTRY.values() if len(spec.files) == 1 and spec.size_bytes == size]
        return next((spec.name for spec in candidates if spec.sha256 == known_sha256(path)), "")
    except OSError:
        return ""


def _plain(text: str) -> str:
    return " ".join(words(_MARK.sub("", text)))


@functools.cache
def _read() -> _Profiles:
    import pydantic

    return pydantic.TypeAdapter(_Profiles).validate_json(_FILE.read_bytes())
