"""Templates that turn sources and a question into a prompt.

Fixed text comes first and the question last, so that prompts share a beginning, which a model then reads only once.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from leanrag.errors import ConfigurationError
from leanrag.types import Exchange, Message, PackedItem, Prompt

__all__ = ["CHAT_TEMPLATE", "COMPLETION_TEMPLATE", "PromptTemplate"]


@dataclass(frozen=True, slots=True)
class PromptTemplate:
    """Makes a prompt from sources and a question.

    Attributes:
        system: System message of a chat; for a completion, the first text of the prompt.
        source: Text for each source, with the fields `{number}`, `{title}` and `{text}`.
        question: Text after the sources, with the field `{question}`.
        stop: Strings that end the answer.
        is_chat: Whether the prompt is a list of messages for a chat model; otherwise it is a string to complete.
    """

    system: str
    source: str
    question: str
    stop: tuple[str, ...] = ()
    is_chat: bool = True

    def __post_init__(self) -> None:
        for name, template, field in (("source", self.source, "{text}"), ("question", self.question, "{question}")):
            if field not in template:
                raise ConfigurationError(f"`{name}` of a prompt template must contain {field}, got {template!r}")

    @property
    def has_numbers(self) -> bool:
        """Whether the model sees the number of each source."""
        return "{number}" in self.source

    def render_source(self, number: int, title: str, text: str) -> str:
        """Return the text of a source in the prompt."""
        return _fill(self.source, number=str(number), title=title, text=text)

    def render_exchange(self, exchange: Exchange) -> tuple[Message, Message]:
        """Return an earlier question with its sources, as `build` showed it, and its answer; without sources, bare words."""
        sources = "".join(self.render_source(each.number, each.title, each.text) for each in exchange.sources)
        question = exchange.standalone or exchange.question
        if sources or not self.is_chat:
            question = _fill(self.question, question=question)
        return Message("user", sources + question), Message("assistant", exchange.answer)

    def build(self, question: str, items: Sequence[PackedItem], history: Sequence[Message] = ()) -> Prompt:
        """Return the prompt with the sources `items` and the question.

        Args:
            question: The question.
            items: The sources.
            history: Earlier questions and answers, in turn; they stand before the sources, so that the prompt of one turn is the
                beginning of the prompt of the next.
        """
        sources = "".join(self.render_source(item.number, item.hit.chunk.title, item.text) for item in items)
        body = sources + _fill(self.question, question=question)
        if not self.is_chat:
            return self.system + "".join(map(_complete, history)) + body
        system = [Message("system", self.system)] if self.system else []
        return [*system, *history, Message("user", body)]


def _complete(message: Message) -> str:
    """Return a message of the history as a part of a text to complete."""
    return f" {message.content}\n\n" if message.role == "assistant" else message.content


def _fill(template: str, **values: str) -> str:
    """Replace each `{field}` by its value; braces in the values stay."""
    return "".join(values.get(part, f"{{{part}}}") if is_field else part for part, is_field in _parts_of(template))


@functools.lru_cache(maxsize=64)
def _parts_of(template: str) -> tuple[tuple[str, bool], ...]:
    """Return the parts of a template in order, each with whether it is the name of a field."""
    return tuple((part, i % 2 == 1) for i, part in enumerate(re.split(r"\{(\w+)\}", template)))


CHAT_TEMPLATE = PromptTemplate(
    system="",
    source="{title}\n{text}\n\n",
    question="Based only on the text above, answer this question: {question}",
)
"""For models with a chat template."""

COMPLETION_TEMPLATE = PromptTemplate(
    system=(
        "Text: The Nile flows through eleven countries and is 6,650 km long.\nQuestion: How long is the Nile?\n"
        "Answer: 6,650 km\n\n"
        "Text: The first printed cookbook appeared in 1475 in Rome. Its author was Bartolomeo Platina.\n"
        "Question: Who wrote the first printed cookbook?\nAnswer: Bartolomeo Platina\n\n"
    ),
    source="Text: {text}\n",
    question="Question: {question}\nAnswer:",
    stop=("\n",),
    is_chat=False,
)
"""For base models: two examples come first, and the answer ends with its line."""
