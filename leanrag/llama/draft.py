"""The draft model: a small model that proposes the next tokens of a larger model with the same vocabulary.

Only the owner thread of the engine uses it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import ConfigurationError
from leanrag.llama.context import Context
from leanrag.llama.library import AbortFlag
from leanrag.llama.placement import EXACT, Attention, Placement
from leanrag.llama.settings import EngineSettings
from leanrag.llama.vocabulary import Vocabulary
from leanrag.llama.weights import Weights
from leanrag.text import shared_length
from leanrag.threads import ThreadCount

__all__ = ["DraftModel", "check_same_vocabulary"]

_FLASH = Attention(flash_attn=True, kv_type="f16")
_LEAST_PROBABILITY = 0.5  # a draft ends before a token that the draft model itself is less sure of
_MOST_UNUSED = 128  # tokens without a meaning that one of two equal vocabularies may have at its end


class DraftModel:
    """The weights of a draft model, and a context that holds one sequence; free it before the process ends.

    Args:
        path: A checked GGUF file.
        target: The vocabulary of the model that it drafts for.
        placement: Which layers are on which GPU.
        settings: The settings of the model that it drafts for.
        abort: Ends a computation from another thread.

    Raises:
        ModelLoadError: llama.cpp refuses the file.
        ConfigurationError: It has another vocabulary, or its tokens cannot be taken back.
    """

    def __init__(
        self, path: Path, target: Vocabulary, placement: Placement, settings: EngineSettings, abort: AbortFlag
    ) -> None:
        self._weights = Weights.acquire(path, placement)
        self._context: Context | None = None
        self._tokens: list[int] = []  # computed tokens of the sequence
        self._n_target = target.n_tokens
        self._threads = ThreadCount(settings.threads, settings.priority)
        try:
            check_same_vocabulary(self._weights.vocabulary, target, path)
            attention = _FLASH if placement.layers else EXACT
            own_settings = dataclasses.replace(settings, parallel=1, adapters=(), draft=None)
            self._context = Context(path, self._weights, placement, attention, own_settings, abort)
            if not self._context.can_cut:
                raise ConfigurationError(
                    f"`draft` {str(path)!r} is a recurrent model, whose wrong tokens cannot be taken back. Use a transformer of "
                    "the same vocabulary, or leave `draft` out"
                )
        except BaseException:
            self.free()
            raise

    def count_unread(self, tokens: Sequence[int]) -> int:
        """Return how many of `tokens` are not computed yet; at least the last one is computed for each proposal."""
        return len(tokens) - min(shared_length(self._tokens, tokens), len(tokens) - 1)

    def propose(self, tokens: Sequence[int], at_most: int) -> list[int]:
        """Return at most `at_most` tokens that may follow `tokens`; fewer if the draft model is unsure."""
        context = self._context
        assert context is not None
        if len(tokens) + at_most > context.n_ctx:
            return []
        context.use_threads(self._threads.now())
        shared = len(tokens) - self.count_unread(tokens)
        context.remove(0, shared)
        self._tokens = self._tokens[:shared]
        draft: list[int] = []
        waiting = list(tokens[shared:])
        while True:
            logits = self._compute(context, waiting)
            if logits is None:
                return draft
            token = int(np.argmax(logits))
            probability = 1 / float(np.exp(logits - logits[token]).sum())
            if probability < _LEAST_PROBABILITY or token >= self._n_target or self._weights.vocabulary.is_end(token):
                return draft
            draft.append(token)
            if len(draft) == at_most:
                return draft
            waiting = [token]

    def free(self) -> None:
        """Free the context and the weights; call it once."""
        if self._context is not None:
            self._context.free()
        self._weights.release()

    def _compute(self, context: Context, tokens: Sequence[int]) -> NDArray[np.float32] | None:
        """Compute tokens of the sequence, and return the logits after the last; None if the computation was aborted."""
        for start in range(0, len(tokens), context.batch.capacity):
            part = list(tokens[start : start + context.batch.capacity])
            is_last = start + len(part) == len(tokens)
            context.batch.clear()
            context.batch.add(part, len(self._tokens), 0, len(part) - 1 if is_last else len(part))
            code, _ = context.decode()
            if code:
                context.remove(0)
                self._tokens = []
                return None
            self._tokens += part
            context.protect(0, len(self._tokens))
        logits: NDArray[np.float32] = context.logits()[0]
        return logits


def check_same_vocabulary(draft: Vocabulary, target: Vocabulary, path: Path) -> None:
    """Check that two models have the same tokens, apart from unused tokens at the end.

    Raises:
        ConfigurationError: They do not.
    """
    drafts, targets = draft.raw_texts(), target.raw_texts()
    n_equal = shared_length(drafts, targets)
    if n_equal < min(len(drafts), len(targets)):
        difference = f"token {n_equal} is {drafts[n_equal]!r} there and {targets[n_equal]!r} here"
    elif abs(len(drafts) - len(targets)) > _MOST_UNUSED:
        difference = f"it has {len(drafts):,} tokens, and the model has {len(targets):,}"
    elif draft.eos != target.eos:
        difference = f"its end token is {draft.eos}, and that of the model is {target.eos}"
    else:
        return
    raise ConfigurationError(
        f"`draft` {str(path)!r} has another vocabulary than the model: {difference}. Use a smaller model of the same family"
    )
