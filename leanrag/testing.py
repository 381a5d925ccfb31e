"""Stand-ins for tests: a model and an embedder without weights, deterministic, and as strict as the real ones.

They raise the same errors as the real components for a prompt that does not fit into the window, a text that is too long for
the embedder, and an empty prompt. Pass them to `leanrag.open`, or to a stage.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from leanrag.errors import ConfigurationError, GenerationError
from leanrag.generation import BaseLanguageModel, PieceStream
from leanrag.protocols import GenerateOptions
from leanrag.types import Prompt

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = ["FakeModel", "HashEmbedder"]

_TOKEN = re.compile(r"\w{1,6}|[^\w\s]|\s+")


class HashEmbedder:
    """Embeds a text as the counts of its hashed words, so texts with common words are similar.

    Args:
        dim: Columns of a row.
        max_tokens: Most tokens of a text; a token is a word or a punctuation mark, and each text has two more.
    """

    def __init__(self, *, dim: int = 64, max_tokens: int = 256) -> None:
        self.id = f"hash-{dim}"
        self.dim = dim
        self.max_tokens = max_tokens

    def count_tokens(self, text: str) -> int:
        """Return the number of words and punctuation marks, plus two for the ends of the text."""
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
                raise ConfigurationError(
                    f"a text has {tokens} tokens, but this embedder reads at most {self.max_tokens}: {text[:60]!r}. Shorten it"
                )
            for word in re.findall(r"\w+", text.casefold()):
                row[zlib.crc32(word.encode("utf-8", "surrogatepass")) % self.dim] += 1
            row[0] += 1e-3  # so that the vector of a text without words is not zero
        norms: Vectors = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / norms

    embed_queries = embed_documents


class FakeModel(BaseLanguageModel):
    """Answers with a fixed text, or with the result of a function of the rendered prompt.

    Args:
        reply: The answer, or a function from the rendered prompt to the answer.
        name: Name of the model.
        n_ctx: Window in tokens; a token is at most six letters, a punctuation mark, or a run of white space.
        is_chat: Whether it reads messages.
        token_seconds: Seconds to wait before each token. Time limits and cancellation are checked between tokens.

    Attributes:
        prompts: Rendered prompts of all generations.
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
        """Return the tokens of the rendered prompt, plus one for the beginning of the text."""
        return 1 + self.count_tokens(self.render(prompt))

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as text, as this model reads it."""
        prompt = self._readable(prompt)
        if isinstance(prompt, str):
            return prompt
        return "".join(f"<{message.role}>{message.content}</{message.role}>" for message in prompt) + "<assistant>"

    def stream(self, prompt: Prompt, options: GenerateOptions) -> PieceStream:
        """Return the reply, token by token, cut at `max_tokens` or a stop string.

        Raises:
            ContextOverflowError: The prompt and the answer do not fit into the window.
            GenerationError: The model is closed.
        """
        if self._closed:
            raise GenerationError(f"{self.name} is closed. Load the model again to use it", model=self.name)
        rendered = self.render(prompt)
        options = replace(options, seed=options.seed or 0)
        stream = PieceStream(self._say(rendered), self, prompt, options, is_timed=False)
        self.prompts.append(rendered)
        return stream

    def _say(self, rendered: str) -> Iterator[str]:
        for token in _TOKEN.findall(self._reply if isinstance(self._reply, str) else self._reply(rendered)):
            if self._token_seconds:
                time.sleep(self._token_seconds)
            yield token

    def close(self) -> None:
        """Refuse further requests; idempotent."""
        self._closed = True
