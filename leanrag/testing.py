"""Stand-ins for tests: no weights, no download, deterministic, and as strict as the real thing.

What the real components refuse these refuse too, with the same errors: a prompt that does not fit its window, a text that is
longer than the embedder reads, an empty prompt. Pass them to `leanrag.open`, or to a stage.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from leanrag.errors import (
    ConfigurationError,
    ContextOverflowError,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
)
from leanrag.types import CancelToken, FinishReason, Generation, Message, Prompt, Usage

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = ["FakeModel", "FakeStream", "HashEmbedder"]

_TOKEN = re.compile(r"\w{1,6}|[^\w\s]|\s+")


class HashEmbedder:
    """Embeds a text as the counts of its hashed words: texts that share words are near.

    Args:
        dim: Columns of a row.
        max_tokens: Longest text, in words and punctuation marks, plus two.
    """

    def __init__(self, *, dim: int = 64, max_tokens: int = 256) -> None:
        self.id = f"hash-{dim}"
        self.dim = dim
        self.max_tokens = max_tokens

    def count_tokens(self, text: str) -> int:
        """Return words and punctuation marks, plus two for the ends of a text."""
        return sum(not token.isspace() for token in _TOKEN.findall(text)) + 2

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return float32 `(len(texts), dim)`, rows of unit norm.

        Raises:
            ConfigurationError: A text is longer than `max_tokens`.
        """
        vectors = np.zeros((len(texts), self.dim), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            tokens = self.count_tokens(text)
            if tokens > self.max_tokens:
                raise ConfigurationError(f"a text has {tokens} tokens; this embedder reads at most {self.max_tokens}")
            for word in re.findall(r"\w+", text.casefold()):
                row[zlib.crc32(word.encode("utf-8", "surrogatepass")) % self.dim] += 1
            row[0] += 1e-3  # a text with no words has a direction too
        norms: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / norms

    embed_queries = embed_documents


class FakeModel:
    """Answers with a fixed text, or with what a function makes of the rendered prompt.

    Args:
        reply: The answer, or a function from the rendered prompt to it.
        name: What `Answer.model` says.
        n_ctx: Window in tokens; a token is up to six letters, a mark, or a run of white space.
        is_chat: Whether it reads messages.
        token_seconds: How long it seems to work on a token; deadlines and cancellation are looked at between tokens.

    Attributes:
        prompts: Rendered prompts of the generations so far.
    """

    def __init__(
        self,
        reply: str | Callable[[str], str] = "I do not know.",
        *,
        name: str = "fake",
        n_ctx: int = 2048,
        is_chat: bool = True,
        token_seconds: float = 0.0,
    ) -> None:
        self.name, self.n_ctx, self.is_chat = name, n_ctx, is_chat
        self.prompts: list[str] = []
        self._reply, self._token_seconds = reply, token_seconds
        self._closed = False

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain text."""
        return len(_TOKEN.findall(text))

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the rendered prompt, one for the beginning of the text included."""
        return 1 + self.count_tokens(self.render(prompt))

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as this model reads it."""
        if isinstance(prompt, str):
            return prompt
        if not self.is_chat:
            raise ConfigurationError(
                f"{self.name} has no chat template: it completes text. Pass a string as the prompt"
            )
        if not prompt or not all(isinstance(message, Message) for message in prompt):
            raise ConfigurationError(f"a prompt is a string or a non-empty sequence of Message, got {prompt!r}")
        return "".join(f"<{message.role}>{message.content}</{message.role}>" for message in prompt) + "<assistant>"

    def generate(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> Generation:
        """Return the reply, cut at `max_tokens` or a stop string."""
        return self.stream(
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            stop=stop,
            timeout_seconds=timeout_seconds,
            cancel=cancel,
        ).result

    def stream(
        self,
        prompt: Prompt,
        *,
        max_tokens: int,
        temperature: float = 0.0,
        seed: int | None = None,
        stop: Sequence[str] = (),
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> FakeStream:
        """As `generate`, token by token."""
        if self._closed:
            raise GenerationError(f"{self.name} is closed. Load the model again to use it", model=self.name)
        if max_tokens < 1 or temperature < 0:
            raise ConfigurationError(
                f"`max_tokens` must be at least 1 and `temperature` at least 0, got {max_tokens}, {temperature}"
            )
        rendered, prompt_tokens = self.render(prompt), self.count(prompt)
        needed = prompt_tokens + max_tokens
        if needed > self.n_ctx:
            raise ContextOverflowError(
                f"the prompt of {prompt_tokens} tokens and {max_tokens} for the answer exceed the window of {self.n_ctx}",
                needed=needed,
                available=self.n_ctx,
                model=self.name,
            )
        self.prompts.append(rendered)
        text = self._reply if isinstance(self._reply, str) else self._reply(rendered)
        ends = [(at + len(mark), at) for mark in stop if (at := text.find(mark)) >= 0]
        tokens = _TOKEN.findall(text[: min(ends)[1]] if ends else text)
        reason: FinishReason = "length" if len(tokens) > max_tokens else "stop"
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        result = Generation(
            text="".join(tokens[:max_tokens]),
            model=self.name,
            finish_reason=reason,
            usage=Usage(prompt_tokens, min(len(tokens), max_tokens)),
            seed=None if temperature == 0 else seed or 0,
        )
        return FakeStream(tokens[:max_tokens], result, cancel or CancelToken(), deadline, self._token_seconds)

    def close(self) -> None:
        """Refuse further requests; idempotent."""
        self._closed = True


class FakeStream:
    """A reply under way."""

    def __init__(
        self,
        tokens: Sequence[str],
        result: Generation,
        cancel: CancelToken,
        deadline: float | None,
        token_seconds: float,
    ) -> None:
        self._tokens, self._result, self._cancel, self._deadline = iter(tokens), result, cancel, deadline
        self._token_seconds = token_seconds

    def __iter__(self) -> Iterator[str]:
        for token in self._tokens:
            if self._token_seconds:
                time.sleep(self._token_seconds)
            if self._deadline is not None and time.monotonic() >= self._deadline:
                raise GenerationTimeout(
                    f"{self._result.model} did not answer within the time limit", model=self._result.model
                )
            if self._cancel.cancelled:
                raise GenerationCancelled(
                    f"the request to {self._result.model} was cancelled", model=self._result.model
                )
            yield token

    def close(self) -> None:
        """Stop the reply."""
        self._cancel.cancel()

    @property
    def result(self) -> Generation:
        """The whole reply; waits for its end."""
        for _ in self:
            pass
        return self._result
