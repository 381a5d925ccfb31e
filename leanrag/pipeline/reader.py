"""One model as a reader of sources: its profile, its counts, its file and its price."""

from __future__ import annotations

import functools
import hashlib
import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path

from leanrag.errors import ConfigurationError, GenerationCancelled, GenerationError, StorageError
from leanrag.evidence.budget import TokenBudget
from leanrag.files import known_sha256
from leanrag.ledger import Cost, Prices
from leanrag.pipeline.history import NO_HISTORY, History, HistoryPacker
from leanrag.pipeline.lazy import Lazy
from leanrag.pipeline.query import Earlier, Query
from leanrag.prompting import ModelProfile, PromptTemplate, find_profile
from leanrag.protocols import Adapted, FromFile, HasWeights, LanguageModel, Priced, Remote, ScoresText, TokenCounter
from leanrag.routing.cascade import Cascade
from leanrag.types import CancelToken, Message, Prompt, Usage

__all__ = ["Plan", "Reader"]

SELF_CHECK = "Is this answer correct and stated in the text above? Reply Yes or No."
"""What a model is asked about its answer. Nothing is generated: the probabilities of the two words are compared."""

_MANY_TOKENS = 1000  # to compute the price of one: prices of single tokens are small beside rounding
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a model answers one question.

    Attributes:
        template: Makes the prompt.
        budget: How the window is divided; thoughts are part of `budget.answer`.
        max_tokens: Most tokens of the answer, without the tokens that are reserved for thoughts.
        history: Earlier turns of the conversation; they are part of `budget.fixed`.
    """

    template: PromptTemplate
    budget: TokenBudget
    max_tokens: int
    history: History = NO_HISTORY


class Reader:
    """A model that answers from sources; it is loaded when it is first needed.

    Args:
        model: The model.
        template: Makes the prompt; None for the template of the profile.
        prices: What the model costs; None for what the model says itself.
        profile: How the model is asked; None for the profile that leanrag has for it.
    """

    def __init__(
        self,
        model: Lazy[LanguageModel],
        template: PromptTemplate | None = None,
        prices: Prices | None = None,
        profile: ModelProfile | None = None,
    ) -> None:
        self._lazy, self._template, self._prices, self._profile = model, template, prices, profile

    @property
    def model(self) -> LanguageModel:
        """The model, which is loaded now if it was not."""
        return self._lazy.get()

    @functools.cached_property
    def profile(self) -> ModelProfile:
        """How the model is asked."""
        model = self.model
        return self._profile or find_profile(
            model.name,
            is_chat=model.is_chat,
            path=Path(model.path) if isinstance(model, FromFile) else None,
            adapters=model.adapters if isinstance(model, Adapted) else (),
            n_params=model.n_params if isinstance(model, HasWeights) else None,
        )

    @functools.cached_property
    def count_tokens(self) -> TokenCounter:
        """The model's counter, with a memory: the same sentences are counted question after question."""
        return functools.lru_cache(maxsize=8192)(self.model.count_tokens)

    def plan(self, query: Query) -> Plan:
        """Return how a question is answered: what the question does not say is as in the profile.

        Raises:
            ConfigurationError: The question names a style, but the user's own template makes the prompt.
            BudgetError: The question does not fit.
        """
        if self._template is not None and query.style is not None:
            raise ConfigurationError(
                f"`style` has no effect on your own `template`. Leave out one of them; `style` is {query.style!r}"
            )
        profile = self.profile
        template = self._template or profile.template(query.style)
        max_tokens = profile.form(query.style).max_tokens if query.max_tokens == "auto" else query.max_tokens
        limit = profile.context_tokens if query.context_tokens == "auto" else query.context_tokens
        fixed = self.model.count(template.build(query.question, []))
        reserved = max_tokens + (query.thinking_tokens or 0)
        budget = TokenBudget(self.model.n_ctx, reserved, fixed, limit)
        if query.earlier is None or not query.earlier.exchanges:
            return Plan(template, budget, max_tokens)
        history = self._history(query, query.earlier, template, budget)
        fixed = self.model.count(template.build(query.question, [], history.messages))
        return Plan(template, replace(budget, fixed=fixed), max_tokens, history)

    def _history(self, query: Query, earlier: Earlier, template: PromptTemplate, budget: TokenBudget) -> History:
        """Return the earlier turns; at least half of the window that the question leaves is for its sources, if they need it."""
        limit = self.profile.history_tokens if earlier.history_tokens == "auto" else earlier.history_tokens
        free = budget.n_ctx - budget.answer - budget.fixed
        half = (budget.n_ctx - budget.answer) // 2
        return self._history_packer.pack(
            earlier.exchanges,
            query.question,
            template,
            budget=half if limit is None else min(half, limit),
            room=min(free - min(budget.sources, free // 2), half if limit is None else limit),
        )

    @functools.cached_property
    def _history_packer(self) -> HistoryPacker:
        return HistoryPacker(self.count_tokens, self.model.count)

    def self_check(
        self, prompt: Prompt, text: str, *, timeout_seconds: float | None = None, cancel: CancelToken | None = None
    ) -> float | None:
        """Return how likely the model finds it that its answer is right: the probability of "Yes" against "No", in (0, 1).

        The model does not read again what it has just read. This is "P(True)" of Kadavath et al., 2022; from the smallest models it
        is worth little.

        Args:
            prompt: The prompt that was answered.
            text: The answer, as generated.
            timeout_seconds: Time limit.
            cancel: Stops it from another thread.

        Returns:
            None when the model does not tell how likely a text is, or when it fails, for example because its window is too short.
        """
        model = self.model
        if not isinstance(model, ScoresText):
            return None
        if isinstance(prompt, str):
            condition: Prompt = f"{prompt}{text}\n{SELF_CHECK}\n"
        else:
            condition = [*prompt, Message("assistant", text), Message("user", SELF_CHECK)]
        try:
            pairs = [(condition, "Yes"), (condition, "No")]
            scores = model.score_many(pairs, timeout_seconds=timeout_seconds, cancel=cancel)
            yes, no = (score.total for score in scores)
        except GenerationCancelled:
            raise
        except GenerationError as error:
            _log.info("%s does not say how likely its answer is right: %s", self.model.name, error)
            return None
        return 1 / (1 + math.exp(min(700.0, no - yes)))

    @functools.cached_property
    def sha256(self) -> str | None:
        """Hash of the model's file and its adapters, hexadecimal; None for a model without a file. All are read the first time.

        Raises:
            StorageError: The file cannot be read.
        """
        model = self.model
        if not isinstance(model, FromFile) or not Path(model.path).is_file():
            return None
        try:
            sha256 = known_sha256(Path(model.path))
        except OSError as error:
            raise StorageError(f"cannot read the model {str(model.path)!r}: {error}", path=model.path) from error
        adapters = model.adapters if isinstance(model, Adapted) else ()
        lines = [sha256, *(f"{adapter.sha256} {adapter.scale!r}" for adapter in adapters)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest() if adapters else sha256

    def check_file(self, cascade: Cascade) -> None:
        """Check that the model's file is the one that the calibrations of a cascade were made for.

        Raises:
            ConfigurationError: It is another file.
        """
        cascade.check_file(self.model.name, lambda: self.sha256)

    @property
    def is_remote(self) -> bool:
        """Whether another machine computes the model. A model that is loaded by its name or file is computed on this one."""
        return isinstance(self._lazy.loaded, Remote)

    @property
    def has_price(self) -> bool:
        """Whether the model costs money, whether or not the amount is known."""
        return self._prices is not None or isinstance(self._lazy.loaded, Priced)

    def cost(self, usage: Usage, seconds: float | None = None) -> Cost:
        """Return what `usage` costs after `seconds` of work: 0 when the model has no price, None when the cost is unknown."""
        if self._prices is not None:
            return self._prices.cost(usage, seconds)
        model = self._lazy.loaded
        return model.price(usage) if model is not None and isinstance(model, Priced) else 0.0

    @property
    def price_per_prompt_token(self) -> float | None:
        """What one more token of a prompt costs; None when that is nothing or unknown."""
        few, many = self.cost(Usage(0, 0)), self.cost(Usage(_MANY_TOKENS, 0))
        return None if few is None or many is None else (many - few) / _MANY_TOKENS or None

    def close(self) -> None:
        """Close the model if it was loaded here."""
        self._lazy.close()
