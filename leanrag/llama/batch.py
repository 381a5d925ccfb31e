"""A `llama_batch` over NumPy arrays: filled by slices, read back as matrices."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Batch"]


class Batch:
    """Rows to compute together, of one or several sequences.

    Args:
        lib: The binding's module of C functions.
        capacity: Most rows.
        n_sequences: Sequence ids run from 0 to here, exclusive.
        n_drawn: The tokens of sequences from 0 to here, exclusive, are drawn on the device.

    Attributes:
        n_rows: Rows filled.
        n_outputs: Rows of which logits are wanted.
        drawn: The sequence of each output, or -1 if its token is not drawn on the device.
    """

    def __init__(self, lib: Any, capacity: int, n_sequences: int, n_drawn: int = 0) -> None:
        self.capacity = capacity
        self.n_rows = self.n_outputs = 0
        self.drawn: list[int] = []
        self._n_drawn = n_drawn
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._counts = np.ones(capacity, np.int32)
        self._outputs = np.zeros(capacity, np.int8)
        # A row points at its sequence id: a table of addresses into an array that holds each id once.
        self._ids = np.arange(n_sequences, dtype=np.int32)
        self._addresses = self._ids.ctypes.data + self._ids.itemsize * np.arange(n_sequences, dtype=np.uintp)
        self._sequences = np.zeros(capacity, np.uintp)
        self._native = lib.llama_batch(
            n_tokens=0,
            token=_pointer(self._tokens, ctypes.c_int32),
            embd=None,
            pos=_pointer(self._positions, ctypes.c_int32),
            n_seq_id=_pointer(self._counts, ctypes.c_int32),
            seq_id=_pointer(self._sequences, ctypes.POINTER(ctypes.c_int32)),
            logits=_pointer(self._outputs, ctypes.c_int8),
        )

    @property
    def room(self) -> int:
        """Rows that can still be added."""
        return self.capacity - self.n_rows

    def clear(self) -> None:
        """Hold no rows."""
        self.n_rows = self.n_outputs = 0
        self.drawn = []

    def add(self, tokens: NDArray[np.int32] | list[int], position: int, sequence: int, first_output: int) -> int:
        """Append `tokens` of `sequence` from `position` on, with logits from the `first_output`-th of them on.

        Returns:
            The number of this call's first output among all outputs of the batch.
        """
        n = len(tokens)
        rows = slice(self.n_rows, self.n_rows + n)
        self._tokens[rows] = tokens
        self._positions[rows] = np.arange(position, position + n)
        self._sequences[rows] = self._addresses[sequence]
        self._outputs[rows] = 0
        self._outputs[self.n_rows + first_output : rows.stop] = 1
        before = self.n_outputs
        self.n_rows += n
        self.n_outputs += max(0, n - first_output)
        if self._n_drawn:
            self.drawn += [sequence if sequence < self._n_drawn else -1] * (self.n_outputs - before)
        return before

    def add_each(self, tokens: NDArray[np.int32], positions: NDArray[np.int32], sequences: NDArray[np.int32]) -> None:
        """Append a row with logits for each of several sequences: their tokens, positions and ids, all `(n,)`."""
        rows = slice(self.n_rows, self.n_rows + len(tokens))
        self._tokens[rows], self._positions[rows] = tokens, positions
        self._sequences[rows] = self._addresses[sequences]
        self._outputs[rows] = 1
        self.n_rows += len(tokens)
        self.n_outputs += len(tokens)
        if self._n_drawn:
            self.drawn += [sequence if sequence < self._n_drawn else -1 for sequence in sequences.tolist()]

    def native(self) -> Any:
        """Return the C structure, to be passed before the next change."""
        self._native.n_tokens = self.n_rows
        return self._native


def _pointer(array: NDArray[Any], kind: Any) -> Any:
    return array.ctypes.data_as(ctypes.POINTER(kind))
