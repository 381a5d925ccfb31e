"""What is asked of an engine, and what it hands back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanrag.llama.sampling import Chooser, Sampler, TokenScore
from leanrag.llama.thinking import ThoughtBudget
from leanrag.pending import Pending, StopMatcher
from leanrag.types import FinishReason

__all__ = ["Completion", "Request"]


@dataclass(frozen=True, slots=True)
class Completion:
    """What the engine computed.

    Attributes:
        text: What was generated; "" for a request that only scores.
        finish_reason: Why it ended.
        token_ids: Generated tokens, the end token not included.
        scores: Of each of `token_ids`.
        prompt_logprobs: Natural-log probabilities of the prompt's tokens from `Request.score_from` on.
        cached_tokens: Tokens of the prompt that were not computed anew.
        prefill_seconds: From the start of the work to the first token.
        decode_seconds: From the first token to the last.
    """

    text: str
    finish_reason: FinishReason
    token_ids: tuple[int, ...]
    scores: tuple[TokenScore, ...]
    prompt_logprobs: tuple[float, ...]
    cached_tokens: int
    prefill_seconds: float
    decode_seconds: float


class Request(Pending[Completion]):
    """One request: submit it to an engine, iterate for text as it comes, then read `result`.

    Args:
        tokens: The prompt `(n,)`, at least one token.
        max_tokens: Most tokens to generate, thoughts included; 0 to score the prompt only.
        choose: Draws each token.
        match_stop: Ends the text.
        score_from: The first token of the prompt whose log-probability is wanted, at least 1; None for none.
        timeout_seconds: Limit from now to the end.
        on_end: Called once before the outcome is handed over.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        *,
        max_tokens: int,
        choose: Chooser | None = None,
        match_stop: StopMatcher | None = None,
        score_from: int | None = None,
        timeout_seconds: float | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(timeout_seconds=timeout_seconds)
        self.tokens: NDArray[np.int32] = np.asarray(tokens, np.int32)
        self.max_tokens = max_tokens
        self.choose = choose
        self.match_stop = match_stop or StopMatcher(())
        self.score_from = score_from
        self.submitted = time.perf_counter()
        self.overtaken = 0  # times that the owner let others go first
        self.on_cancel: Callable[[Request], None] = _ignore
        self._on_end = on_end

    @property
    def is_greedy(self) -> bool:
        """Whether its tokens are the most probable ones, whatever was drawn before."""
        return isinstance(self.choose, Sampler) and self.choose.is_greedy

    @property
    def n_allowed(self) -> int:
        """Most tokens of the text, by what is known now; at most `max_tokens`."""
        return self.choose.n_allowed if isinstance(self.choose, ThoughtBudget) else self.max_tokens

    @property
    def n_cells(self) -> int:
        """Cells of the key-value cache that it needs at most: the last token generated is not computed."""
        return len(self.tokens) + max(0, self.max_tokens - 1)

    @property
    def n_reusable(self) -> int:
        """Tokens of the prompt that need not be computed: at least the last is, for the logits after it."""
        return len(self.tokens) - 1 if self.score_from is None else self.score_from - 1

    def stop(self) -> None:
        """Tell the engine."""
        self.on_cancel(self)

    def emit(self, event: str | Completion | Exception) -> None:
        """Hand text, the completion or an error to the caller."""
        if self._on_end is not None and not isinstance(event, str):
            self._on_end()
        super().emit(event)


def _ignore(_: Request) -> None:
    pass
