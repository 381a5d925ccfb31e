"""A run: an active request with its tokens, scores and text, and the sequence of the context that holds its tokens."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from leanrag.llama.requests import Completion, Request
from leanrag.llama.sampling import TokenScore, log_probabilities, score_token
from leanrag.llama.speculation import Drafts
from leanrag.llama.vocabulary import TextDecoder, Vocabulary
from leanrag.types import FinishReason

__all__ = ["Run", "Sequence"]


@dataclass(eq=False, slots=True)
class Sequence:
    """A sequence of the context: the tokens of its prompt, the number of computed tokens, and their cells."""

    id: int
    tokens: NDArray[np.int32]
    computed: int
    cells: NDArray[np.int64]
    run: Run | None
    last_used: int
    new_cells: list[int] = field(default_factory=list)  # cells of the answer that are not yet in `cells`

    def join_cells(self) -> None:
        """Move `new_cells` to `cells`."""
        if self.new_cells:
            self.cells = np.concatenate([self.cells, np.array(self.new_cells, np.int64)])
            self.new_cells = []

    @property
    def is_reading(self) -> bool:
        """Whether its run still reads the prompt."""
        return self.run is not None and self.run.pending is None


@dataclass(eq=False, slots=True)
class Run:
    """An active request: the tokens drawn so far, their scores and their text."""

    request: Request
    sequence: Sequence
    cached_tokens: int
    drafts: Drafts | None
    started: float = field(default_factory=time.perf_counter)
    prefilled: float = 0.0
    decode_text: TextDecoder = field(default_factory=TextDecoder)
    pending: int | None = None  # the last drawn token, which is computed next
    token_ids: list[int] = field(default_factory=list)
    checkpoints: set[int] = field(default_factory=set)  # lengths of beginnings whose state other prompts may need
    unpublished: int = 0  # number of tokens at the end of `token_ids` whose text the caller has not yet got
    scores: list[TokenScore] = field(default_factory=list)
    prompt_logprobs: list[float] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    finish_reason: FinishReason | None = None

    @property
    def end(self) -> int:
        """Number of prompt tokens to compute: all, or all but the last if no token is generated."""
        return len(self.request.tokens) - (self.request.max_tokens == 0)

    @property
    def is_at_last_token(self) -> bool:
        """Whether the next token ends the answer, whatever it is."""
        return len(self.token_ids) + 1 >= self.request.n_allowed

    def read_prompt(self, logits: NDArray[np.float32], position: int) -> None:
        """Take the logits `(n, n_vocab)` after the tokens of the prompt from `position` on."""
        if self.request.score_from is not None:
            following = self.request.tokens[position + 1 : position + 1 + len(logits)]
            self.prompt_logprobs += log_probabilities(logits[: len(following)].copy(), following).tolist()
        if self.request.max_tokens == 0 and self.sequence.computed == self.end:
            self.finish_reason, self.prefilled = "stop", time.perf_counter()

    def write(self, logits: NDArray[np.float32], vocabulary: Vocabulary) -> int:
        """Draw the next token from logits `(n_vocab,)` and return it; it becomes `pending`, and may set `finish_reason`."""
        assert self.request.choose is not None
        token = self.request.choose(logits)
        if self.take(token, vocabulary):
            self.scores.append(score_token(logits, token))
        return token

    def take(self, token: int, vocabulary: Vocabulary, *, may_publish_later: bool = False) -> bool:
        """Add a drawn token to the answer; return False if it is an end token, which is not part of the answer."""
        request = self.request
        if not self.token_ids and self.pending is None:
            self.prefilled = time.perf_counter()
        self.pending = token
        is_end = vocabulary.is_end(token)
        if is_end:
            self.finish_reason = "stop"
        else:
            self.token_ids.append(token)
            self.unpublished += 1
            if len(self.token_ids) >= request.n_allowed:
                self.finish_reason = "length"
        if self.finish_reason is not None or not (may_publish_later and request.match_stop.is_idle):
            self.publish(vocabulary)
        return not is_end

    def publish(self, vocabulary: Vocabulary) -> None:
        """Give the text of all drawn tokens to the caller; a stop string in the text sets the `finish_reason`."""
        request, unpublished = self.request, self.unpublished
        self.unpublished = 0
        for token in self.token_ids[len(self.token_ids) - unpublished :]:
            self._publish(self.decode_text(vocabulary.piece(token)))
        self.finish_reason = request.match_stop.reason or self.finish_reason
        if self.finish_reason is not None and request.match_stop.reason is None:
            self._publish(self.decode_text(b"", final=True), final=True)

    def completion(self) -> Completion:
        """Return the completion of a finished run."""
        assert self.finish_reason is not None
        return Completion(
            text="".join(self.text),
            finish_reason=self.finish_reason,
            token_ids=tuple(self.token_ids),
            scores=tuple(self.scores),
            prompt_logprobs=tuple(self.prompt_logprobs),
            cached_tokens=self.cached_tokens,
            prefill_seconds=self.prefilled - self.started,
            decode_seconds=time.perf_counter() - self.prefilled,
        )

    def _publish(self, piece: str, *, final: bool = False) -> None:
        if certain := self.request.match_stop(piece, final=final):
            self.text.append(certain)
            self.request.emit(certain)
