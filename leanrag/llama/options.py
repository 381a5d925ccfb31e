"""The options of a GGUF model, and the calls that take them as keywords."""

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
    """The options of a GGUF model: `GenerateOptions`, and options that only local models have.

    Attributes:
        top_k: Sample among this number of the most probable tokens; 0 uses all tokens.
        top_p: Sample among the fewest tokens whose probabilities add up to this.
        min_p: Drop tokens whose probability is below this share of the highest probability.
        schema: JSON Schema, or a pydantic model, that the text satisfies, unless it is cut at `max_tokens`.
        grammar: A grammar in GBNF, the notation of llama.cpp, that the text satisfies; not together with `schema`. If the prompt
            opens a thought, the thought is free, and the text after it satisfies the schema or the grammar.
    """

    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    schema: Mapping[str, object] | type[pydantic.BaseModel] | None = None
    grammar: str | None = None

    @classmethod
    def of(cls, options: GenerateOptions) -> LlamaOptions:
        """Return `options` with the default values of the missing fields."""
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
    """The common methods of `LlamaCppModel` and `IsolatedModel`."""

    n_params: int

    @property
    def evidence_floor(self) -> float:
        """As in `ReadsLittle`: a tenth for models with fewer than 400 million weights, 0 for larger ones."""
        return _SMALL_FLOOR if self.n_params < _SMALL_PARAMS else 0.0

    def generate(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[LlamaKeywords]) -> Generation:
        """Return the completion of `prompt`. Ctrl-C stops the computation, even while the prompt is read.

        Args:
            prompt: Text to complete, or messages.
            max_tokens: Most tokens of the answer.
            options: See `LlamaOptions`.

        Raises:
            ContextOverflowError: The prompt and `max_tokens` together exceed `n_ctx`.
            GenerationCancelled: `cancel` was called.
            GenerationTimeout: The time limit was reached.
            GenerationError: The model failed.
        """
        return self._generate(prompt, LlamaOptions(max_tokens, **options))

    def generate_many(
        self, prompts: Iterable[Prompt], *, max_tokens: int, **options: Unpack[LlamaKeywords]
    ) -> list[Generation]:
        """Return the completion of each prompt, in order. The prompts are computed together.

        If a prompt fails, the others are stopped and its error is raised.
        """
        return self._generate_many(prompts, LlamaOptions(max_tokens, **options))

    async def agenerate(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[LlamaKeywords]) -> Generation:
        """Do the same as `generate` for asyncio. Cancelling the task stops the generation."""
        return await self._agenerate(prompt, LlamaOptions(max_tokens, **options))

    def astream(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[LlamaKeywords]) -> AsyncIterator[str]:
        """Yield the text piece by piece, for asyncio. Leaving the loop stops the generation."""
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
            condition: The prompt before the text, as for `generate`; None for no prompt (models that expect a BOS get it).
            timeout_seconds: Time limit.
            cancel: Stops the computation from another thread.

        Raises:
            ContextOverflowError: The condition and the text together exceed the window.
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
        """Return the scores of each `(condition, text)`, in order. A common beginning of conditions is computed once."""
