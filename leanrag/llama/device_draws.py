"""Greedy draws on the device: llama.cpp's graph also draws the most probable token of each row of logits, and scores it.

Copying all logits to the host, and reading them there, takes longer than computing them when many answers are written at once.
With samplers of llama.cpp on the device only a few numbers of each row leave it.

llama.cpp asks the sampler of each sequence to extend the graph, one row of logits after the other. The sampler of the first row
adds what reads all rows together, and hands over the result for all of them. The other samplers add nothing.

A device reads a row in chunks, many at a time. Of each chunk the host gets the greatest logit and its index, how far the second is
below, and the sums that the distribution of the whole row is made of.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import GenerationError
from leanrag.llama.library import ggml_library, library, without_release
from leanrag.llama.sampling import TokenScore

__all__ = ["DeviceDraws", "Draws", "count_chunks", "most_rows"]

_N_NUMBERS = 4  # of a chunk
_MOST_CHUNKS = 128  # of a row
_ENOUGH_CHUNKS = 1024  # of all rows: so many are read at a time
_LEAST = -1e30  # a logit that is never drawn
_FEW_ROWS = 4  # the host draws fewer: a device takes about .1 ms to read a row, whether alone or among many
# Samplers take time in each computation (142 of them .3 ms). To attach or detach some takes 10 ms and more.
_FIRST_SAMPLERS = 8  # so only as many are attached as sequences are used,
_SELDOM = 500  # and most are detached after so many computations that needed at most a quarter of them


def most_rows(n_vocab: int) -> int:
    """Return the most rows of logits in a batch: llama.cpp hands over at most as many numbers as a row has logits."""
    return n_vocab // _N_NUMBERS


def count_chunks(n_vocab: int, n_rows: int) -> int:
    """Return into how many chunks of the same length each row is cut: a power of two."""
    n = 1
    most = min(_MOST_CHUNKS, max(1, _ENOUGH_CHUNKS // n_rows), most_rows(n_vocab) // n_rows)
    while 2 * n <= most and n_vocab % (2 * n) == 0:
        n *= 2
    return n


class Draws:
    """The most probable token of each row of logits, and its score.

    Args:
        chunks: `(n_rows, n_chunks, 4)`: the greatest logit of the chunk; of its logits less the greatest, l, the sum of exp(l),
            the sum of l exp(l), and the second greatest.
        indices: `(n_rows, n_chunks)`: the index of the greatest logit in the chunk.
        n_vocab: Number of logits in a row.

    Attributes:
        tokens: Of each row; -1 if its logits are not numbers.
    """

    def __init__(self, chunks: NDArray[np.float32], indices: NDArray[np.int32], n_vocab: int) -> None:
        n_rows, n_chunks = indices.shape
        rows, best = np.arange(n_rows), chunks[:, :, 0].argmax(axis=1)
        self._chunks, self._best = chunks, best
        self._scores: list[TokenScore] | None = None
        tokens = best * (n_vocab // n_chunks) + indices[rows, best]
        self.tokens: list[int] = np.where(np.isfinite(chunks[:, :, 1].sum(axis=1)), tokens, -1).tolist()

    def score(self, rows: Sequence[int]) -> list[TokenScore]:
        """Return the scores of the tokens of these rows."""
        if self._scores is None:
            with np.errstate(invalid="ignore"):  # rows that are not numbers
                self._scores = self._score_all()
        return [self._scores[row] for row in rows]

    def _score_all(self) -> list[TokenScore]:
        tops, totals, moments, seconds = np.moveaxis(self._chunks.astype(np.float64), 2, 0)
        rows, best = np.arange(len(tops)), self._best
        tops -= tops[rows, best, None]
        weights = np.exp(tops)
        total = (weights * totals).sum(axis=1)
        moment = (weights * (moments + tops * totals)).sum(axis=1)
        log_total = np.log(total)
        entropies = np.maximum(0.0, log_total - moment / total)
        tops[rows, best] = seconds[rows, best]
        margins = -tops.max(axis=1)
        return list(map(TokenScore, (-log_total).tolist(), margins.tolist(), entropies.tolist()))


class DeviceDraws:
    """Makes a context draw the most probable token of each row on the device.

    Args:
        handle: llama.cpp's context. Free this object after the context.
        n_vocab: Number of logits in a row.
        n_sequences: Sequences 0 to here, exclusive, have samplers. If all rows of a batch are of such sequences, llama.cpp
            copies no logits to the host but those that a sampler asks for.

    Attributes:
        leaves_logits: Whether the host gets logits of the batch, because its rows are few or have no samplers.
    """

    def __init__(self, handle: Any, n_vocab: int, n_sequences: int) -> None:
        self._handle, self._n_vocab, self._n_sequences = handle, n_vocab, n_sequences
        self._lib, self._ggml = library(), _graph_functions()
        self._wanted: Sequence[int] = ()  # sequences with samplers whose logits the host gets
        self._first = -1  # sequence of the first row that is drawn on the device
        self.leaves_logits = True
        self._chains: list[Any] = []
        self._n_seldom = 0
        self._views_key = (0, 0)  # address and rows of `_views`
        self._views = np.empty((0, 0, _N_NUMBERS), np.float32), np.empty((0, 0), np.int32)
        lib = self._lib
        self._interface = lib.llama_sampler_i()
        self._interface.name = lib.llama_sampler_i_name(lambda _: b"leanrag")
        self._interface.backend_init = lib.llama_sampler_i_backend_init(lambda *_: True)
        self._interface.backend_apply = lib.llama_sampler_i_backend_apply(self._extend_graph)

    def prepare(self, outputs: Sequence[int]) -> None:
        """Prepare a computation.

        Args:
            outputs: The sequence of each row of logits, in order; -1 for a row that has logits on the host.
        """
        is_few, all_have_samplers = len(outputs) < _FEW_ROWS, min(outputs, default=-1) >= 0
        self.leaves_logits = is_few or not all_have_samplers
        # If a row has no sampler, llama.cpp copies the logits of all rows.
        self._wanted = outputs if is_few and all_have_samplers else ()
        self._first = -1 if is_few else next((sequence for sequence in outputs if sequence >= 0), -1)
        n_needed = max(outputs, default=-1) + 1
        self._n_seldom = self._n_seldom + 1 if 4 * n_needed <= len(self._chains) else 0
        if self._n_seldom > _SELDOM:
            self._attach(max(_FIRST_SAMPLERS, 2 * n_needed))
        while len(self._chains) < n_needed:
            self._attach(max(_FIRST_SAMPLERS, 2 * len(self._chains)))

    def read(self, outputs: Sequence[int]) -> Draws | None:
        """Wait for the computation, and return what was drawn of each row of logits; None if all tokens are drawn on the host.

        Args:
            outputs: The same as for `prepare`.

        Raises:
            GenerationError: llama.cpp returned nothing.
        """
        if self._first < 0:
            return None
        n_rows, lib = len(outputs), self._lib
        row = outputs.index(self._first) - n_rows  # as llama.cpp counts from the last row of logits
        numbers = lib.llama_get_sampled_probs_ith(self._handle, row)
        indices = without_release("llama_get_sampled_candidates_ith")(self._handle, row)
        n_chunks = count_chunks(self._n_vocab, n_rows)
        count = without_release("llama_get_sampled_probs_count_ith")
        if count(self._handle, row) != _N_NUMBERS * n_chunks * n_rows:
            raise GenerationError("llama.cpp drew no tokens on the device. Ask again")
        key = ctypes.addressof(numbers.contents), n_rows
        if key != self._views_key:  # making views takes most of the time here
            self._views_key = key
            self._views = (
                np.ctypeslib.as_array(numbers, (n_rows, n_chunks, _N_NUMBERS)),
                np.ctypeslib.as_array(indices, (n_rows, n_chunks)),
            )
        return Draws(self._views[0].copy(), self._views[1], self._n_vocab)

    def detach(self) -> None:
        """Let the host draw all tokens from now on."""
        self._attach(0)

    def free(self) -> None:
        """Free the samplers; call it once, after they are detached or the context is freed."""
        for chain in self._chains:
            self._lib.llama_sampler_free(chain)

    def _attach(self, n: int) -> None:
        """Let the first `n` sequences have samplers, and no others."""
        lib, n = self._lib, min(n, self._n_sequences)
        for sequence in range(len(self._chains), n):
            chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
            lib.llama_sampler_chain_add(chain, lib.llama_sampler_init(ctypes.byref(self._interface), sequence))
            self._chains.append(chain)
            lib.llama_set_sampler(self._handle, sequence, chain)
        while len(self._chains) > n:  # llama.cpp takes no sampler a second time
            lib.llama_set_sampler(self._handle, len(self._chains) - 1, None)
            lib.llama_sampler_free(self._chains.pop())
        self._n_seldom = 0

    def _extend_graph(self, sampler: Any, context: int, graph: int, data: Any) -> None:
        """Extend a new graph; llama.cpp calls this for each row, and hands over the outputs that `data` then names."""
        sequence, row_logits, data[0].logits = sampler.contents.ctx or 0, data[0].logits, None
        if sequence in self._wanted:
            data[0].logits = row_logits
        elif sequence == self._first and self._ggml.ggml_get_name(row_logits).endswith(b"_0"):
            logits = self._ggml.ggml_graph_get_tensor(graph, b"result_output")
            if logits:
                data[0].candidates, data[0].probs = self._read_chunks(context, graph, logits)

    def _read_chunks(self, context: int, graph: int, logits: int) -> tuple[int, int]:
        """Return tensors: of each chunk the index of the greatest logit `(n,)`, and the numbers `(n, 4)` that `Draws` takes."""
        ggml = self._ggml
        n_rows = ggml.ggml_nrows(logits)
        n = n_rows * count_chunks(self._n_vocab, n_rows)
        width = n_rows * self._n_vocab // n

        def of_chunks(values: int) -> int:
            return int(ggml.ggml_reshape_2d(context, values, 1, n))

        def pick(values: int, indices: int) -> int:
            cells = ggml.ggml_reshape_3d(context, values, 1, width, n)
            return int(ggml.ggml_get_rows(context, cells, of_chunks(indices)))

        chunks = ggml.ggml_reshape_2d(context, logits, width, n)
        indices = ggml.ggml_argmax(context, chunks)
        top = pick(chunks, indices)
        below = ggml.ggml_sub(context, chunks, of_chunks(top))
        weights = ggml.ggml_exp(context, below)
        total = ggml.ggml_sum_rows(context, weights)
        moment = ggml.ggml_sum_rows(context, ggml.ggml_mul(context, weights, below))
        for tensor in (total, moment):  # before the greatest logit of each chunk is overwritten
            ggml.ggml_build_forward_expand(graph, tensor)
        least = ggml.ggml_scale_bias(context, top, 0.0, _LEAST)
        cells = ggml.ggml_reshape_3d(context, below, 1, width, n)
        others = ggml.ggml_set_rows(context, cells, least, of_chunks(indices))
        others = ggml.ggml_reshape_2d(context, others, width, n)
        second = pick(others, ggml.ggml_argmax(context, others))
        numbers = of_chunks(top)
        for values in (total, moment, second):
            numbers = int(ggml.ggml_concat(context, numbers, of_chunks(values), 0))
        return indices, numbers


@functools.cache
def _graph_functions() -> Any:
    """Return ggml's functions that `DeviceDraws` uses, with their types."""
    ggml, pointer, size = ggml_library(), ctypes.c_void_p, ctypes.c_int64
    signatures: dict[str, list[Any]] = {
        "argmax": [],
        "exp": [],
        "sub": [pointer],
        "sum_rows": [],
        "mul": [pointer],
        "get_rows": [pointer],
        "set_rows": [pointer, pointer],
        "scale_bias": [ctypes.c_float, ctypes.c_float],
        "concat": [pointer, ctypes.c_int],
        "reshape_2d": [size, size],
        "reshape_3d": [size, size, size],
    }
    for name, others in signatures.items():
        function = getattr(ggml, f"ggml_{name}")
        function.restype, function.argtypes = pointer, [pointer, pointer, *others]
    ggml.ggml_graph_get_tensor.restype, ggml.ggml_graph_get_tensor.argtypes = pointer, [pointer, ctypes.c_char_p]
    ggml.ggml_get_name.restype, ggml.ggml_get_name.argtypes = ctypes.c_char_p, [pointer]
    ggml.ggml_nrows.restype, ggml.ggml_nrows.argtypes = size, [pointer]
    ggml.ggml_build_forward_expand.restype, ggml.ggml_build_forward_expand.argtypes = None, [pointer, pointer]
    return ggml
