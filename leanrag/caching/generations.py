"""A language model that keeps its generations in a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace

from leanrag.caching.results import Results, key_of, open_results
from leanrag.caching.wrappers import KeepsResults, pass_on
from leanrag.errors import GenerationCancelled
from leanrag.files import fingerprint_of
from leanrag.generation import BaseLanguageModel, stream_pieces
from leanrag.protocols import (
    Adapted,
    FromFile,
    GenerateOptions,
    GenerationStream,
    HasWeights,
    LanguageModel,
    Priced,
    ReadsLittle,
    Remote,
    ScoresText,
    TextScorer,
)
from leanrag.types import Generation, Prompt, TextPiece, Usage

__all__ = ["CachedModel"]

_ABILITIES = (Priced, Remote, HasWeights, ReadsLittle, ScoresText, TextScorer, FromFile, Adapted)


class CachedModel(KeepsResults, BaseLanguageModel):
    """A language model, local or remote, that computes the answer to an equal prompt once.

    A stored generation comes back in one piece, with `usage` 0, because no token was computed. Draws at random are stored only if
    they have a seed.

    Args:
        wrapped: The model.
        path: The file; None keeps the generations in memory. For several machines, a `leanrag.adapters.RedisResults`.
        max_bytes: Budget of the stored generations.

    Raises:
        ConfigurationError: `max_bytes` is out of range.
        StorageError: The file is of another program or version.
    """

    def __new__(cls, wrapped: LanguageModel, *_: object, **__: object) -> CachedModel:
        """Pass on what the model can do besides."""
        return object.__new__(pass_on(cls, wrapped, _ABILITIES))

    def __init__(
        self,
        wrapped: LanguageModel,
        path: str | os.PathLike[str] | Results | None = None,
        *,
        max_bytes: int = 256 << 20,
    ) -> None:
        self.wrapped: LanguageModel = wrapped
        self.name, self.n_ctx, self.is_chat = wrapped.name, wrapped.n_ctx, wrapped.is_chat
        self._results = open_results(path, max_bytes=max_bytes)
        self._identity = _identify(wrapped)

    def count_tokens(self, text: str) -> int:
        """Return the count of the model."""
        return self.wrapped.count_tokens(text)

    def count(self, prompt: Prompt) -> int:
        """Return the count of the model."""
        return self.wrapped.count(prompt)

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as text, as the model reads it."""
        return self.wrapped.render(prompt)

    def stream(self, prompt: Prompt, options: GenerateOptions) -> GenerationStream:
        """Return the stored generation of an equal prompt, or a new one."""
        if options.temperature > 0 and options.seed is None:
            return self.wrapped.stream(prompt, options)
        parts = prompt if isinstance(prompt, str) else tuple(prompt)
        asked = replace(options, timeout_seconds=None, cancel=None)
        key = key_of("generate", self._identity, parts, self.render(prompt), asked)
        if (stored := self._results.get_value(key, Generation)) is not None:
            return _Replay(stored, options)
        stream = self.wrapped.stream(prompt, options)
        return _Recording(stream, lambda generation: self._results.put_value(key, _without_costs(generation)))


def _identify(model: LanguageModel) -> tuple[object, ...]:
    """Return what tells the texts of a model from those of others: its files, or its name and server."""
    files = [model.path] if isinstance(model, FromFile) and model.path.is_file() else []
    adapters = model.adapters if isinstance(model, Adapted) else ()
    return (
        model.name,
        model.n_ctx,
        [fingerprint_of(file) for file in files],
        [(adapter.sha256, adapter.scale) for adapter in adapters],
        model.base_url if isinstance(model, Remote) else "",
    )


def _without_costs(generation: Generation) -> Generation:
    return replace(generation, usage=Usage(0, 0), prefill_seconds=0.0, decode_seconds=0.0)


class _Replay:
    """A stream of a generation that was stored."""

    def __init__(self, generation: Generation, options: GenerateOptions) -> None:
        self._generation, self._options = generation, options

    def __iter__(self) -> Iterator[str]:
        return (piece.text for piece in self.pieces() if not piece.is_thought)

    def pieces(self) -> Iterator[TextPiece]:
        """Yield the thoughts, then the text."""
        if self.result.thoughts:
            yield TextPiece(self.result.thoughts, is_thought=True)
        if self.result.text:
            yield TextPiece(self.result.text)

    def close(self) -> None:
        """Do nothing: no generation is running."""

    @property
    def result(self) -> Generation:
        """The generation."""
        cancel = self._options.cancel
        if cancel is not None and cancel.cancelled:
            raise GenerationCancelled("the generation was cancelled", model=self._generation.model)
        return self._generation


class _Recording:
    """A stream whose result is stored when it is read."""

    def __init__(self, stream: GenerationStream, save: Callable[[Generation], None]) -> None:
        self._stream, self._save, self._is_saved = stream, save, False

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def pieces(self) -> Iterator[TextPiece]:
        """Yield the thoughts and the text."""
        return stream_pieces(self._stream)

    def close(self) -> None:
        """Stop the generation if it is still running."""
        self._is_saved = True  # what was cut short is not the answer
        self._stream.close()

    @property
    def result(self) -> Generation:
        """The whole generation; waits until it ends."""
        generation = self._stream.result
        if not self._is_saved:
            self._is_saved = True
            self._save(generation)
        return generation
