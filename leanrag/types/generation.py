"""Messages, generations, usage and scores: the input and output of language models."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Adapter", "CancelToken", "FinishReason", "Generation", "Message", "Prompt", "Scores", "TextPiece", "Usage"]


@dataclass(frozen=True, slots=True)
class Message:
    """One chat message. Its content is data: no text in it can become a control token."""

    role: Literal["system", "user", "assistant"]
    content: str


Prompt = str | Sequence[Message]
"""A raw prompt to complete, or chat messages for the chat template of the model."""


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
class TextPiece:
    """A piece of text from a running generation.

    Attributes:
        text: The piece.
        is_thought: Whether it is a thought of a reasoning model; otherwise it is part of the answer.
    """

    text: str
    is_thought: bool = False


@dataclass(frozen=True, slots=True)
class Adapter:
    """A LoRA adapter of a loaded model.

    Attributes:
        path: The GGUF file of the adapter.
        scale: Factor of its changes; 1 is what it was trained with.
        sha256: Hash of the file, hexadecimal.
        profile: Name of the profile by which a model with this adapter is asked; "" if the file does not name it.
    """

    path: Path
    scale: float
    sha256: str
    profile: str = ""


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model returned.

    Attributes:
        text: The completion, up to (not including) a stop string, without thoughts.
        model: Name of the model.
        finish_reason: "stop" (end token or stop string), "length" (`max_tokens` reached) or "repetition" (the model began to
            repeat itself and was stopped).
        usage: Tokens in and out, thoughts included.
        token_ids: Generated tokens, thoughts included, without the end token; None if unknown. `logprobs`, `margins` and
            `entropies` have a value for each of them.
        logprobs: Natural-log probability of each token at temperature 1; None if unknown.
        margins: Log-probability of each token minus that of the best alternative; None if unknown.
        entropies: Entropy in nats of the distribution that each token was drawn from; None if unknown.
        seed: The seed that repeats this generation; None at temperature 0.
        prefill_seconds: Time to the first token.
        decode_seconds: Time from the first token to the last.
        thoughts: Text of a reasoning model between tags such as <think> and </think>; None if there is none.
        thought_tokens: Number of tokens, from the first, that are thoughts and their tags. The other tokens are the answer.
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
    thought_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Scores:
    """The probability that a model assigns to a text.

    Attributes:
        token_ids: Tokens of the text.
        logprobs: Natural-log probability of each token after the tokens before it; None for a first token with nothing before it.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float | None, ...]

    @property
    def total(self) -> float:
        """Natural-log probability of the text."""
        return math.fsum(logprob for logprob in self.logprobs if logprob is not None)


class CancelToken:
    """Stops a request from another thread. `cancel()` is idempotent; callbacks run once, in the cancelling thread.

    A signal handler may call it, whatever the interrupted thread does with it: it has no lock.
    """

    def __init__(self) -> None:
        self._cancelled = False
        self._callbacks: collections.deque[Callable[[], None]] = (
            collections.deque()
        )  # `append` and `popleft` are atomic

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._cancelled

    def cancel(self) -> None:
        """Stop the request, even while it reads the prompt."""
        self._cancelled = True
        self._call_back()

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Run `callback` at `cancel`, or now if it was already called."""
        self._callbacks.append(callback)
        if self._cancelled:
            self._call_back()

    def _call_back(self) -> None:
        while self._callbacks:
            try:
                callback = self._callbacks.popleft()
            except IndexError:  # another thread took the last one
                return
            callback()
