"""The earlier turns of a conversation as a prompt shows them, within a budget of tokens.

A turn stands in the prompt as the model read it, with its sources, so that the prompt of each turn begins with the prompt of the
turn before: the model computes only what is new. When the turns no longer fit, all of them are shortened at once to half of the
budget: without their sources, and then by `compress_messages`. After that the next turns are added as they are again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from leanrag.compression.extractive import ExtractiveCompressor
from leanrag.compression.messages import compress_messages
from leanrag.errors import BudgetError
from leanrag.prompting import PromptTemplate
from leanrag.protocols import TokenCounter
from leanrag.types import Exchange, Message, Prompt, Scalar

__all__ = ["NO_HISTORY", "History", "HistoryPacker"]

_MESSAGE_TOKENS = 8  # about what a chat template adds to a message


@dataclass(frozen=True, slots=True)
class History:
    """Earlier turns in a prompt.

    Attributes:
        messages: Questions and answers in turn, oldest first.
        turns: Number of turns of the conversation.
        tokens: What the messages add to the prompt.
        dropped_turns: Number of turns of which nothing is in the prompt.
        is_shortened: Whether turns are without their sources, or compressed.
    """

    messages: tuple[Message, ...] = ()
    turns: int = 0
    tokens: int = 0
    dropped_turns: int = 0
    is_shortened: bool = False

    def details(self) -> dict[str, Scalar]:
        """Return what the trace shows; nothing without a conversation."""
        if not self.turns:
            return {}
        return {
            "history_turns": self.turns,
            "history_tokens": self.tokens,
            "history_dropped": self.dropped_turns,
            "history_shortened": self.is_shortened,
        }


NO_HISTORY = History()


class HistoryPacker:
    """Lays out the earlier turns for one model. The same turns and budgets give the same messages.

    Args:
        count_tokens: Tokens of a text.
        count: Tokens of a prompt.
    """

    def __init__(self, count_tokens: TokenCounter, count: Callable[[Prompt], int]) -> None:
        self._count_tokens, self._count = count_tokens, count
        self._shorten = functools.lru_cache(maxsize=16)(self._shorten_now)

    def pack(
        self, exchanges: Sequence[Exchange], question: str, template: PromptTemplate, *, budget: int, room: int
    ) -> History:
        """Return the turns in at most `room` tokens. Turns that the sources did not answer are left out.

        Args:
            exchanges: The turns, oldest first.
            question: The question that follows, which says what matters in older turns.
            template: Shows a turn.
            budget: Most tokens in the long run; turns are shortened to half of it.
            room: Most tokens now; less than `budget` if the question is long.
        """
        turns = tuple(turn for turn in exchanges if not turn.is_refusal)
        questions = (*(turn.standalone or turn.question for turn in turns[1:]), question)
        messages: tuple[Message, ...] = ()
        n_dropped, is_shortened = 0, False
        for i, turn in enumerate(turns):
            messages = (*messages, *template.render_exchange(turn))
            if sum(map(self._estimate, messages)) > budget:
                messages, is_shortened = self._shorten(turns[: i + 1], questions[i], template, budget // 2), True
                n_dropped = i + 1 - len(messages) // 2
        if self._cost(template, messages) > room:
            messages, is_shortened = self._shorten(turns, question, template, max(0, room)), True
            n_dropped = len(turns) - len(messages) // 2
        return History(messages, len(turns), self._cost(template, messages), n_dropped, is_shortened)

    def _estimate(self, message: Message) -> int:
        return self._count_tokens(message.content) + _MESSAGE_TOKENS

    def _cost(self, template: PromptTemplate, messages: Sequence[Message]) -> int:
        """Return the exact number of tokens that the messages add to a prompt."""
        if not messages:
            return 0
        return self._count(template.build("", [], messages)) - self._count(template.build("", []))

    def _shorten_now(
        self, turns: tuple[Exchange, ...], question: str, template: PromptTemplate, budget: int
    ) -> tuple[Message, ...]:
        """Return the turns without their sources in at most `budget` tokens; the oldest are dropped if nothing else helps."""
        bare = [message for turn in turns for message in template.render_exchange(replace(turn, sources=()))]
        try:
            compression = compress_messages(
                [*bare, Message("user", question)],
                ExtractiveCompressor(),
                budget=budget,
                count_tokens=self._count_tokens,
                count_messages=lambda messages: self._cost(template, messages[:-1]),
                keep_last=1,
                question=question,
            )
        except BudgetError:
            return ()
        return compression.messages[:-1]
