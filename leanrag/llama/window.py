"""Keys that a sliding window has passed: kept, so that a sequence can be cut and shared at each of its tokens.

Layers with a sliding window attend to the last tokens only, so llama.cpp gives away the cells of earlier tokens, and leaves these
tokens out of a saved state. A sequence that is then cut back, because a prompt shares its beginning only, lacks the keys of its
new window, and the model answers differently without an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

__all__ = ["Window"]


class Window:
    """Protects the keys of a context whose model has a sliding window.

    llama.cpp gives away a cell only if a single sequence uses it. So a spare sequence uses the same cells.

    Args:
        lib: The binding's module of C functions.
        memory: llama.cpp's handle of the key-value cache.
        n_tokens: The length of the window; 0 if the model has no window, or if its memory cannot be cut anyway.
        spare_id: The id of the spare sequence.
    """

    def __init__(self, lib: Any, memory: Any, n_tokens: int, spare_id: int) -> None:
        self._lib, self._memory, self._n_tokens, self._spare_id = lib, memory, n_tokens, spare_id
        self._protected: dict[int, int] = {}  # sequence id to its number of protected tokens

    def protect(self, sequence_id: int, length: int) -> None:
        """Protect the `length` tokens of a sequence before the window passes any of them; call it after each computation."""
        start = self._protected.get(sequence_id, 0)
        if self._n_tokens and start // self._n_tokens < length // self._n_tokens:
            self._protected[sequence_id] = length
            self._lib.llama_memory_seq_cp(self._memory, sequence_id, self._spare_id, start, length)

    def copy(self, source_id: int, target_id: int) -> None:
        """Note that the target sequence now shares all cells of the source."""
        if source_id in self._protected:
            self._protected[target_id] = self._protected[source_id]

    def cut(self, sequence_id: int, length: int) -> None:
        """Stop protecting the tokens of a sequence from `length` on; call it after they were removed."""
        if self._protected.get(sequence_id, 0) <= length:
            return
        del self._protected[sequence_id]
        if length:
            self._protected[sequence_id] = length
        self._lib.llama_memory_seq_rm(self._memory, self._spare_id, -1, -1)
        for other_id, n in self._protected.items():
            self._lib.llama_memory_seq_cp(self._memory, other_id, self._spare_id, 0, n)

    def stretches(self, length: int) -> Iterator[tuple[int, int]]:
        """Yield the start and end of stretches of a sequence that are at most as long as the window."""
        step = self._n_tokens or max(1, length)
        for start in range(0, length, step):
            yield start, min(start + step, length)
