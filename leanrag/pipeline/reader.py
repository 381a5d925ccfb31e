"""One model as a reader of sources: its template, its counts, and the prompt that fits its window."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from leanrag.errors import GenerationCancelled, GenerationError, ModelLoadError, StorageError
from leanrag.evidence.packing import TokenBudget
from leanrag.files import sha256_of
from leanrag.prompting import CHAT_TEMPLATE, COMPLETION_TEMPLATE, PromptTemplate
from leanrag.protocols import LanguageModel, Packer, TokenCounter
from leanrag.types import CancelToken, Hit, Message, Packing, Prompt, Scalar, Scores, Stage, Usage

__all__ = ["Clock", "Lazy", "Prepared", "Reader", "fit"]

SELF_CHECK = "Is this answer correct and stated in the text above? Reply Yes or No."
"""What a model is asked of its own answer; the probabilities of the two words are read off, and nothing is generated."""

T = TypeVar("T")
_log = logging.getLogger(__name__)
_BLOCK = 1 << 20


class Clock:
    """Times the stages of one request."""

    def __init__(self) -> None:
        self._stages: list[Stage] = []

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[dict[str, Scalar]]:
        """Time the block as stage `name`; what it puts into the dictionary goes into the record."""
        details: dict[str, Scalar] = {}
        started = time.perf_counter()
        yield details
        self._stages.append(Stage(name, time.perf_counter() - started, details))

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The stages so far, in order."""
        return tuple(self._stages)


class Lazy(Generic[T]):
    """A component that is loaded at first use, and closed only if it was loaded here."""

    def __init__(self, load: Callable[[], tuple[T, bool]]) -> None:
        self._load, self._lock = load, threading.Lock()
        self._value: T | None = None
        self._is_ours = False

    def get(self) -> T:
        """Return the component."""
        with self._lock:
            if self._value is None:
                self._value, self._is_ours = self._load()
            return self._value

    def close(self) -> None:
        """Close it if it was loaded here."""
        with self._lock:
            if self._is_ours and self._value is not None:
                getattr(self._value, "close", lambda: None)()


@dataclass(frozen=True, slots=True)
class Prepared:
    """A question, packed for a reader.

    Attributes:
        packing: The sources that fit.
        prompt: What to send; None when nothing was found.
        tokens: Of the prompt.
    """

    packing: Packing
    prompt: Prompt | None
    tokens: int


class Reader:
    """A model that is given sources, loaded when it is first needed.

    Args:
        model: Loads it.
        template: How sources and question become a prompt; None for the library's, by what the model reads.
    """

    def __init__(self, model: Lazy[LanguageModel], template: PromptTemplate | None) -> None:
        self._lazy, self._template = model, template

    @property
    def model(self) -> LanguageModel:
        """The model, loaded now if it was not."""
        return self._lazy.get()

    @property
    def template(self) -> PromptTemplate:
        """Its prompts."""
        return self._template or (CHAT_TEMPLATE if self.model.is_chat else COMPLETION_TEMPLATE)

    @functools.cached_property
    def count_tokens(self) -> TokenCounter:
        """The model's counter; it remembers, for the same sentences are counted question after question."""
        return functools.lru_cache(maxsize=8192)(self.model.count_tokens)

    def budget(self, question: str, max_tokens: int, context_tokens: int | None) -> TokenBudget:
        """Return how the window is shared out for a question.

        Raises:
            BudgetError: The question does not fit.
        """
        fixed = self.model.count(self.template.build(question, []))
        return TokenBudget(self.model.n_ctx, max_tokens, fixed, context_tokens)

    def self_check(
        self, prompt: Prompt, text: str, *, timeout_seconds: float | None = None, cancel: CancelToken | None = None
    ) -> float | None:
        """Return the probability that the model gives to its answer being right: that of "Yes" beside that of "No", in (0, 1).

        What `prompt` has in common with what was just read is not read again. ("P(True)" of Kadavath et al., 2022; of little worth
        from the smallest models.)

        Args:
            prompt: The answer's.
            text: The answer, as generated.
            timeout_seconds: Limit.
            cancel: Stops it from another thread.

        Returns:
            None for a model that does not tell how likely a text is, and where asking fails: its window may be too short.
        """
        score_many: Callable[..., Sequence[Scores]] | None = getattr(self.model, "score_many", None)
        if score_many is None:
            return None
        if isinstance(prompt, str):
            condition: Prompt = f"{prompt}{text}\n{SELF_CHECK}\n"
        else:
            condition = [*prompt, Message("assistant", text), Message("user", SELF_CHECK)]
        try:
            pairs = [(condition, "Yes"), (condition, "No")]
            yes, no = (one.total for one in score_many(pairs, timeout_seconds=timeout_seconds, cancel=cancel))
        except GenerationCancelled:
            raise
        except GenerationError as error:
            _log.info("%s does not say how likely its answer is right: %s", self.model.name, error)
            return None
        return 1 / (1 + math.exp(min(700.0, no - yes)))

    @functools.cached_property
    def sha256(self) -> str | None:
        """Hash of the model's file, hexadecimal, read whole the first time; None for a model without one.

        Raises:
            StorageError: The file cannot be read.
        """
        path = getattr(self.model, "path", None)
        if not isinstance(path, (str, os.PathLike)) or not Path(path).is_file():
            return None
        try:
            return sha256_of(Path(path))
        except OSError as error:
            raise StorageError(f"cannot read the model {os.fspath(path)!r}: {error}", path=Path(path)) from error

    @functools.cached_property
    def is_remote(self) -> bool:
        """Whether it works on another machine, for a price or without; one that cannot be loaded would have worked here."""
        try:
            return hasattr(self.model, "price")
        except ModelLoadError:
            return False

    def price(self, usage: Usage) -> float | None:
        """Return what `usage` costs; None for a local model, and for a remote one without a price."""
        price = getattr(self.model, "price", None)
        return None if price is None else price(usage)

    def close(self) -> None:
        """Close the model if it was loaded here."""
        self._lazy.close()


def fit(
    question: str,
    hits: Sequence[Hit],
    budget: TokenBudget,
    packer: Packer,
    template: PromptTemplate,
    model: LanguageModel,
    count_tokens: TokenCounter,
) -> tuple[Packing, Prompt | None, int]:
    """Pack `hits` so that the rendered prompt keeps to the budget; `(packing, prompt, its tokens)`.

    Tokens do not add up over parts, so the last count is made on the whole prompt; what it is over is taken off the room.
    """

    def count_source(number: int, title: str, text: str) -> int:
        return count_tokens(template.render_source(number, title, text))

    room = budget.sources
    while True:
        packing = packer.pack(hits, room, count_source, question=question)
        if not packing.items:
            return packing, None, 0
        prompt = template.build(question, packing.items)
        tokens = model.count(prompt)
        if tokens <= budget.prompt:
            return packing, prompt, tokens
        room = min(room, packing.tokens) - (tokens - budget.prompt)
