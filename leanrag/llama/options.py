"""How a GGUF model generates, and the calls that take these options as keywords."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanrag.generation import BaseLanguageModel, GenerateKeywords
from leanrag.protocols import GenerateOptions
from leanrag.types import CancelToken, Generation, Prompt, Scores

if TYPE_CHECKING:
    import pydantic
    from typing_extensions import Unpack

__all__ = ["LlamaBase", "LlamaKeywords", "LlamaOptions"]


@dataclass(frozen=True, slots=True)
class LlamaOptions(GenerateOptions):
    """How a GGUF model generates: `GenerateOptions`, and what only models of this machine can do.

    Attributes:
        top_k: Sample among this many of the most probable tokens; 0 for all.
        top_p: Sample among the fewest tokens whose probabilities reach this.
        min_p: Drop tokens less probable than this share of the most probable.
        schema: JSON Schema, or a pydantic model, that the text keeps to; only a text cut at `max_tokens` is incomplete.
        grammar: The same as GBNF, llama.cpp's notation for grammars; not together with `schema`.
    """

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    schema: Mapping[str, object] | type[pydantic.BaseModel] | None = None
    grammar: str | None = None

    @classmethod
    def of(cls, options: GenerateOptions) -> LlamaOptions:
        """Return `options`, with the defaults of what they lack."""
        if isinstance(options, cls):
            return options
        return cls(**{field.name: getattr(options, field.name) for field in dataclasses.fields(options)})


class LlamaKeywords(GenerateKeywords, total=False):
    """The fields of `LlamaOptions` after the first, as keywords of a call."""

    top_k: int
    top_p: float
    min_p: float
    schema: Mapping[str, object] | type[pydantic.BaseModel] | None
    grammar: str | None


_SMALL_PARAMS = 400_000_000  # SmolLM2-135M and Gemma 3 270M answer better from less text; see `benchmarks/LOG.md`
_SMALL_FLOOR = 0.1


class LlamaBase(BaseLanguageModel):
    """What `LlamaCppModel` and `IsolatedModel` share."""

    n_params: int

    @property
    def evidence_floor(self) -> float:
        """As in `ReadsLittle`: a tenth for models with fewer than 400 million weights, 0 for larger ones."""
        return _SMALL_FLOOR if self.n_params < _SMALL_PARAMS else 0.0

    def generate(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[LlamaKeywords]) -> Generation:
        """Return the completion of `prompt`; Ctrl-C stops the computation, the reading of the prompt included.

        Args:
            prompt: Text to complete, or messages.
            max_tokens: Most tokens of the answer.
            options: See `LlamaOptions`.

        Raises:
            ContextOverflowError: Prompt plus `max_tokens` exceed `n_ctx`.
            GenerationCancelled: `cancel` was called.
            GenerationTimeout: `timeout_seconds` passed.
            GenerationError: The model failed.
        """
        return self._generate(prompt, LlamaOptions(max_tokens, **options))

    def generate_many(
        self, prompts: Iterable[Prompt], *, max_tokens: int, **options: Unpack[LlamaKeywords]
    ) -> list[Generation]:
        """Return the completion of each prompt, in order; they are computed together.

        A prompt that fails stops the others and raises its error.
        """
        return self._generate_many(prompts, LlamaOptions(max_tokens, **options))

    async def agenerate(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[LlamaKeywords]) -> Generation:
        """As `generate`, for asyncio; cancelling the task stops the generation."""
        return await self._agenerate(prompt, LlamaOptions(max_tokens, **options))

    def astream(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[LlamaKeywords]) -> AsyncIterator[str]:
        """Yield the text as it comes, for asyncio; leaving the loop stops the generation."""
        return self._astream(prompt, LlamaOptions(max_tokens, **options))

    def score(
        self,
        text: str | Sequence[int],
        *,
        condition: Prompt | None = None,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> Scores:
        """Return the log-probability of each token of `text` after `condition`.

        Args:
            text: Plain text, or tokens.
            condition: What precedes it, as for `generate`; None for nothing but the BOS of models that expect one.
            timeout_seconds: Limit.
            cancel: Stops it from another thread.

        Raises:
            ContextOverflowError: Both together exceed the window.
        """
        return self.score_many([(condition, text)], timeout_seconds=timeout_seconds, cancel=cancel)[0]

    @abc.abstractmethod
    def score_many(
        self,
        pairs: Iterable[tuple[Prompt | None, str | Sequence[int]]],
        *,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> list[Scores]:
        """Return the scores of each `(condition, text)`, in order; what conditions share is computed once."""
