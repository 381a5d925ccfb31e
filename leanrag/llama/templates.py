"""Chat templates: messages to the text that a model was trained to read.

A template comes with the model file. It is rendered as `transformers` renders it, in a sandbox with limits. Each message must be
seen in the text: a template that reads contents in another form gets them in that form, and a template that leaves a message out is
refused.
"""

from __future__ import annotations

import datetime
import functools
import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jinja2
import jinja2.meta

from leanrag.errors import ConfigurationError
from leanrag.llama.sandbox import TEMPLATE_ERRORS, TemplateSandbox
from leanrag.text import THOUGHT_TAGS
from leanrag.types import Message

__all__ = ["REMEMBERED_PROMPTS", "ChatTemplate", "Conversation"]

_MAX_TEMPLATE_CHARS = 64 * 1024
_Form = Literal["text", "parts"]
_Role = Literal["system", "user", "assistant"]

_SWITCHES: Mapping[
    str, tuple[object, object]
] = {  # variable of a template: its values for no thoughts and for thoughts
    "enable_thinking": (False, True),
    "thinking": (False, True),
    "thinking_mode": ("disabled", "enabled"),
    "thinking_option": ("off", "on"),
    "thinking_budget": (0, -1),
    "reasoning": (False, True),
}
_SET_HERE = frozenset({"messages", "add_generation_prompt"})
_LEAST_EFFORT = {"reasoning_effort": "low"}
_HARMONY = "<|channel|>final<|message|>"  # of gpt-oss: what opens the answer
REMEMBERED_PROMPTS = 32
"""Prompts whose text and tokens are remembered: a prompt is counted, shown and computed, and several threads do so at once."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A rendered conversation.

    Attributes:
        text: What the model reads; it ends where the assistant begins to speak.
        skeleton: The same text with a mark in place of each content.
        contents: The content of each mark.
    """

    text: str
    skeleton: str
    contents: Mapping[str, str]


class ChatTemplate:
    """A chat template, compiled in a sandbox.

    Args:
        source: Jinja source, as in the GGUF's `tokenizer.chat_template`.
        bos: Text of the BOS token.
        eos: Text of the EOS token.
        variables: Further variables of the template, such as `{"reasoning_effort": "high"}`.
        thinking: Whether the model thinks before it answers: sets the variable of the template that decides this. If there is no
            such variable, False puts an empty thought at the end of the prompt. None leaves it to the template.
        today: The day that the template may write; None for the day of the render. The time of the day is always midnight, so
            prompts with the same messages are equal all day.

    Raises:
        ConfigurationError: The source is too large or is not a valid Jinja template, or a variable cannot be set.
    """

    def __init__(
        self,
        source: str,
        *,
        bos: str = "",
        eos: str = "",
        variables: Mapping[str, object] | None = None,
        thinking: bool | None = None,
        today: datetime.date | None = None,
    ) -> None:
        variables = _check_variables(variables or {})
        if len(source) > _MAX_TEMPLATE_CHARS:
            raise ConfigurationError(
                f"the chat template has {len(source):,} characters; at most {_MAX_TEMPLATE_CHARS:,} are read. "
                "Pass `chat_template=` with a shorter one"
            )

        def strftime_now(format: str) -> str:  # noqa: A002 - templates may name it
            return datetime.datetime.combine(today or datetime.date.today(), datetime.time()).strftime(format)

        self._sandbox = TemplateSandbox({"strftime_now": strftime_now})
        try:
            with self._sandbox.limits(len(source)):
                self._template = self._sandbox.from_string(source)
                names = jinja2.meta.find_undeclared_variables(self._sandbox.parse(source))
        except TEMPLATE_ERRORS as error:
            raise ConfigurationError(
                f"the model's chat template is not valid ({_describe(error)}). Pass `chat_template=` with a correct one"
            ) from error
        self._source, self._thinking, self._today = source, thinking, today
        self._compose_once = functools.lru_cache(maxsize=REMEMBERED_PROMPTS)(self._compose_anew)
        self._mark_once = functools.lru_cache(maxsize=REMEMBERED_PROMPTS)(self._mark_anew)
        self._switches = {
            name: values[thinking] for name, values in _SWITCHES.items() if thinking is not None and name in names
        }
        if thinking is False and not self._switches and "reasoning_effort" in names:
            self._switches |= _LEAST_EFFORT
        self._variables: dict[str, object] = {
            "bos_token": bos,
            "eos_token": eos,
            "add_generation_prompt": True,
            "tools": None,
            "documents": None,
            **self._switches,
            **variables,
        }

    def render(self, messages: Sequence[Message]) -> str:
        """Return the conversation as text, ending where the assistant begins to speak.

        Raises:
            ConfigurationError: The template refuses these messages, or leaves one out.
        """
        return self.compose(messages).text

    def compose(self, messages: Sequence[Message]) -> Conversation:
        """Return the rendered conversation; the last ones are remembered.

        A content is passed as text, or as a list of parts if the template does not show or accept it as text. If the template
        refuses the system message or leaves it out, the message becomes the beginning of the first user message.

        Raises:
            ConfigurationError: The template refuses these messages, or leaves one out.
        """
        return self._compose_once(self._day, tuple(messages))

    def _compose_anew(self, _today: datetime.date, messages: Sequence[Message]) -> Conversation:
        problems: list[str] = []
        with self._sandbox.limits(sum(len(message.content) for message in messages)):
            for candidate in (messages, *_without_system(messages)):
                forms: list[_Form] = ["text"] * len(candidate)
                for _ in range(2):
                    try:
                        conversation, lost = self._compose(candidate, forms)
                    except TEMPLATE_ERRORS as error:
                        problems.append(_describe(error))
                        forms = ["parts"] * len(candidate)
                        continue
                    if not lost:
                        return conversation
                    problems.append(f"it leaves out the message of the role {candidate[lost[0]].role!r}")
                    forms = ["parts" if i in lost else "text" for i in range(len(candidate))]
        raise ConfigurationError(
            f"the model's chat template refuses these messages ({[message.role for message in messages]}): {problems[0]}. Pass "
            "other messages, or another template as `chat_template=`"
        )

    def _compose(self, messages: Sequence[Message], forms: Sequence[_Form]) -> tuple[Conversation, list[int]]:
        """Return the conversation, and the indices of the messages that it leaves out."""
        contents = [message.content for message in messages]
        text = self._render(messages, contents, forms)
        marks, skeleton = self._mark_once(self._day, tuple(message.role for message in messages), tuple(forms))
        lost = [
            i
            for i, mark in enumerate(marks)
            if contents[i].strip()
            and mark not in skeleton
            and not self._depends_on(i, messages, marks, forms, skeleton)
        ]
        return Conversation(text, skeleton, dict(zip(marks, contents, strict=True))), lost

    def _mark_anew(
        self, _today: datetime.date, roles: Sequence[_Role], forms: Sequence[_Form]
    ) -> tuple[Sequence[str], str]:
        """Return marks, which no text can guess, and a conversation of these roles with the marks in place of contents."""
        marks = [f"{secrets.token_hex(12)}{i:04d}" for i in range(len(roles))]
        messages = [Message(role, mark) for role, mark in zip(roles, marks, strict=True)]
        return marks, self._render(messages, marks, forms)

    @property
    def _day(self) -> datetime.date:
        """The day that the template may write."""
        return self._today or datetime.date.today()

    def _depends_on(
        self, i: int, messages: Sequence[Message], marks: Sequence[str], forms: Sequence[_Form], skeleton: str
    ) -> bool:
        """Return whether a content that is not in the text as it is changes the text: the template shows it in another form."""
        changed = [*marks[:i], marks[i][::-1] + secrets.token_hex(4), *marks[i + 1 :]]
        return self._render(messages, changed, forms) != skeleton

    def _render(self, messages: Sequence[Message], contents: Sequence[str], forms: Sequence[_Form]) -> str:
        rows = [
            {"role": message.role, "content": content if form == "text" else [{"type": "text", "text": content}]}
            for message, content, form in zip(messages, contents, forms, strict=True)
        ]
        text = self._sandbox.render(self._template, {"messages": rows, **self._variables})
        return text + self._empty_thought(text)

    def _empty_thought(self, text: str) -> str:
        """Return what ends the thoughts in a prompt, if the model may not think and the template does not see to it."""
        if self._thinking is not False:
            return ""
        end = text.rstrip()
        for opening, closing in THOUGHT_TAGS:
            if end.endswith(opening):
                return f"\n{closing}\n\n"
        if self._switches.keys() & _SWITCHES or self._tags is None:
            return ""
        opening, closing = self._tags
        return _HARMONY if _HARMONY in self._source else f"{opening}\n\n{closing}\n\n"

    @property
    def knows_thoughts(self) -> bool:
        """Whether the template knows tags of thoughts."""
        return self._tags is not None

    @functools.cached_property
    def _tags(self) -> tuple[str, str] | None:
        """The tags of thoughts that the template knows; None if the model does not think."""
        return next((tags for tags in THOUGHT_TAGS if tags[0] in self._source), None)


def _check_variables(variables: Mapping[str, object]) -> dict[str, object]:
    """Return the variables of a template as plain JSON values, which give a template nothing to call."""
    if taken := _SET_HERE & variables.keys():
        raise ConfigurationError(
            f"`template_variables` cannot set {min(taken)!r}: it is set for each prompt. Remove it"
        )
    try:
        plain: dict[str, object] = json.loads(json.dumps(dict(variables)))
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"`template_variables` must be JSON values by name, got {variables!r:.200} ({error})"
        ) from error
    return plain


def _without_system(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Yield the messages with the system message as the beginning of the first user message, if they begin with these two."""
    if len(messages) > 1 and messages[0].role == "system" and messages[1].role == "user":
        yield [Message("user", f"{messages[0].content}\n\n{messages[1].content}"), *messages[2:]]


def _describe(error: Exception) -> str:
    return str(error) if isinstance(error, jinja2.TemplateError) else f"{type(error).__name__}: {error}"
