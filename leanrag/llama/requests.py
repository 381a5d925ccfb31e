"""What is asked of an engine, and what it hands back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from leanrag.llama.pending import Pending
from leanrag.llama.sampling import Chooser, Sampler, TokenScore
from leanrag.types import FinishReason

__all__ = ["Completion", "Request", "StopMatcher"]

_SENTENCE_END = re.compile(r"(?<=[.!?:])\s+|\s*\n\s*")
_MIN_REPEATED = 12  # characters; shorter lines may well occur twice


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


class StopMatcher:
    """Passes text through until a stop string is complete; holds back what may be the beginning of one.

    The first stop string to be completed counts, and the longest of those that end together, however the text was cut in pieces.

    Args:
        stops: The stop strings.
        no_repeats: Let each sentence and line that was passed become a stop string: small models fall into loops.

    Attributes:
        reason: Why no more text is passed; None while it is.
        is_idle: Whether it passes everything at once, there being nothing to look for.
    """

    def __init__(self, stops: Sequence[str], *, no_repeats: bool = False) -> None:
        self._stops: dict[str, FinishReason] = dict.fromkeys(stops, "stop")
        self._pending = ""
        self._sentence: str | None = "" if no_repeats else None  # the one under way
        self.reason: FinishReason | None = None
        self.is_idle = not stops and not no_repeats

    def __call__(self, text: str, *, final: bool = False) -> str:
        """Return the text that is certain to precede any stop string."""
        pending = self._pending + text
        ends = [(at + len(stop), at, reason) for stop, reason in self._stops.items() if (at := pending.find(stop)) >= 0]
        if ends:
            _, cut, self.reason = min(ends)
            self._pending = ""
            return pending[:cut]
        held = 0 if final else max((_overlap(pending, stop) for stop in self._stops), default=0)
        cut = len(pending) - held
        self._pending = pending[cut:]
        if self._sentence is not None:
            *passed, self._sentence = _SENTENCE_END.split(self._sentence + pending[:cut])
            self._stops |= {sentence: "repetition" for sentence in passed if len(sentence) >= _MIN_REPEATED}
        return pending[:cut]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


class Request(Pending[Completion]):
    """One request: submit it to an engine, iterate for text as it comes, then read `result`.

    Args:
        tokens: The prompt `(n,)`, at least one token.
        max_tokens: Most tokens to generate; 0 to score the prompt only.
        choose: Draws each token.
        match_stop: Ends the text.
        score_from: The first token of the prompt whose log-probability is wanted, at least 1; None for none.
        timeout_seconds: Limit from now to the end.
        loop: The event loop that will iterate with `async for`; None for a thread that iterates with `for`.
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
        loop: asyncio.AbstractEventLoop | None = None,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(timeout_seconds=timeout_seconds, loop=loop)
        self.tokens: NDArray[np.int32] = np.asarray(tokens, np.int32)
        self.max_tokens = max_tokens
        self.choose = choose
        self.match_stop = match_stop or StopMatcher(())
        self.score_from = score_from
        self.overtaken = 0  # times that the owner let others go first
        self.on_cancel: Callable[[Request], None] = _ignore
        self._on_end = on_end

    @property
    def is_greedy(self) -> bool:
        """Whether its tokens are the most probable ones, whatever was drawn before."""
        return isinstance(self.choose, Sampler) and self.choose.is_greedy

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
