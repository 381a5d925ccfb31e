"""What a model reads and writes."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["CancelToken", "FinishReason", "Generation", "Message", "Prompt", "Scores", "Usage"]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message. Its content is data: no text in it can become a control token."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt = str | Sequence[Message]
"""A raw completion prompt, or chat messages for the model's own template."""


FinishReason = Literal["stop", "length", "repetition"]


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
        text: The completion, up to (not including) a stop string, without thoughts.
        model: Name of the model.
        finish_reason: "stop" (end token or stop string), "length" (`max_tokens` reached) or "repetition" (it began to say
            again what it had said, and was stopped).
        usage: Tokens in and out; those of the thoughts are counted.
        token_ids: Generated tokens, those of the thoughts too, the end token not included; None when the model does not tell.
        logprobs: Natural-log probability of each of `token_ids` under the untempered distribution; None when unknown.
        margins: Log-probability of each token less that of the best other one; None when unknown.
        entropies: Entropy in nats of the distribution that each token was drawn from; None when unknown.
        seed: The seed that repeats this generation; None for greedy.
        prefill_seconds: Time to the first token.
        decode_seconds: Time from the first token to the last.
        thoughts: What a reasoning model wrote between tags such as <think> and </think>; None if it wrote no such thing.
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
    thoughts: str | None = None


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
