"""Greedy draws on the device: llama.cpp's graph also draws the most probable token of each row of logits, and scores it.

Copying all logits to the host, and reading them there, takes longer than computing them when many answers are written at once.
With samplers of llama.cpp on the device only a token and four numbers of each row leave it.

llama.cpp asks the sampler of each sequence to add to the graph, one row of logits after the other. The sampler of the first row
adds what draws all rows together, and hands over the result for all of them. The other samplers add nothing.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from leanrag.errors import GenerationError
from leanrag.llama.library import ggml_library, library
from leanrag.llama.sampling import TokenScore

__all__ = ["DeviceDraws", "most_rows"]

_N_NUMBERS = 4  # of a row: greatest logit, its probability, expected logit, probability of the second most probable token
_LEAST = np.finfo(np.float32).tiny  # probability; a smaller one is 0 on some devices
_FIRST_SAMPLERS = 8  # llama.cpp asks each sampler at each new graph, so only as many are made as sequences are used


def most_rows(n_vocab: int) -> int:
    """Return the most rows of logits in a batch: llama.cpp hands over at most as many numbers as a row has logits."""
    return n_vocab // _N_NUMBERS


class DeviceDraws:
    """Makes a context draw the most probable token of each row on the device.

    Args:
        handle: llama.cpp's context. Free this object after the context.
        n_vocab: Number of logits in a row.
        n_sequences: Sequences 0 to here, exclusive, have samplers. All rows of their logits are drawn on the device, and
            llama.cpp copies no logits if all rows of a batch are of such sequences.
    """

    def __init__(self, handle: Any, n_vocab: int, n_sequences: int) -> None:
        self._handle, self._n_vocab, self._n_sequences = handle, n_vocab, n_sequences
        self._lib, self._ggml = library(), _graph_functions()
        self._first = -1  # sequence of the first row that is drawn on the device
        self._chains: list[Any] = []
        lib = self._lib
        self._interface = lib.llama_sampler_i()
        self._interface.name = lib.llama_sampler_i_name(lambda _: b"leanrag")
        self._interface.backend_init = lib.llama_sampler_i_backend_init(lambda *_: True)
        self._interface.backend_apply = lib.llama_sampler_i_backend_apply(self._extend_graph)

    def prepare(self, outputs: Sequence[int]) -> None:
        """Prepare a computation.

        Args:
            outputs: The sequence of each row of logits, in order; -1 for a row whose token is drawn on the host.
        """
        self._first = next((sequence for sequence in outputs if sequence >= 0), -1)
        while len(self._chains) <= max(outputs, default=-1):
            for _ in range(min(max(_FIRST_SAMPLERS, len(self._chains)), self._n_sequences - len(self._chains))):
                self._add_sampler()

    def read(self, outputs: Sequence[int]) -> tuple[list[int], list[TokenScore]]:
        """Wait for the computation, and return the most probable token of each row of logits, and its score.

        Args:
            outputs: The same as for `prepare`. Both lists are empty if no token is drawn on the device.

        Raises:
            GenerationError: The logits are not numbers.
        """
        if self._first < 0:
            return [], []
        n_rows, lib = len(outputs), self._lib
        row = outputs.index(self._first) - n_rows  # as llama.cpp counts from the last row of logits
        numbers = lib.llama_get_sampled_probs_ith(self._handle, row)
        ids = lib.llama_get_sampled_candidates_ith(self._handle, row)
        if not numbers or lib.llama_get_sampled_probs_count_ith(self._handle, row) != _N_NUMBERS * n_rows:
            raise GenerationError("llama.cpp drew no tokens on the device. Ask again")
        tokens: list[int] = np.ctypeslib.as_array(ids, (n_rows,)).tolist()
        top, probability, expected, second = np.ctypeslib.as_array(numbers, (n_rows, _N_NUMBERS)).astype(np.float64).T
        if min(tokens) < 0 or not np.isfinite(expected).all():
            raise GenerationError("the model computed logits that are not numbers. Load another file of the model")
        logprobs = np.log(probability)
        margins = logprobs - np.log(np.maximum(second, _LEAST))
        entropies = np.maximum(0.0, top - expected - logprobs)  # -sum p log p, where log p = logit - top + logprob of top
        return tokens, [*map(TokenScore, logprobs.tolist(), margins.tolist(), entropies.tolist())]

    def free(self) -> None:
        """Free the samplers; call it once, after the context is freed."""
        for chain in self._chains:
            self._lib.llama_sampler_free(chain)

    def _add_sampler(self) -> None:
        lib, sequence = self._lib, len(self._chains)
        chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
        lib.llama_sampler_chain_add(chain, lib.llama_sampler_init(ctypes.byref(self._interface), sequence))
        self._chains.append(chain)
        lib.llama_set_sampler(self._handle, sequence, chain)

    def _extend_graph(self, sampler: Any, context: int, graph: int, data: Any) -> None:
        """Add the draws to a new graph; llama.cpp calls this for each row, and hands over the outputs that `data` then names."""
        row_logits, data[0].logits = data[0].logits, None
        if (sampler.contents.ctx or 0) != self._first or not self._ggml.ggml_get_name(row_logits).endswith(b"_0"):
            return
        logits = self._ggml.ggml_graph_get_tensor(graph, b"result_output")
        data[0].candidates, data[0].probs = self._draw(context, graph, logits)

    def _draw(self, context: int, graph: int, logits: int) -> tuple[int, int]:
        """Return tensors: tokens `(n_rows,)`, and numbers `(n_rows, 4)` of each row."""
        ggml = self._ggml
        n_rows = ggml.ggml_nrows(logits)

        def pick(values: int, tokens: int) -> int:  # of each row the value of its token
            cells = ggml.ggml_reshape_3d(context, values, 1, self._n_vocab, n_rows)
            return int(ggml.ggml_get_rows(context, cells, ggml.ggml_reshape_2d(context, tokens, 1, n_rows)))

        def flat(values: int) -> int:
            return int(ggml.ggml_reshape_2d(context, values, 1, n_rows))

        tokens = ggml.ggml_argmax(context, logits)
        probabilities = ggml.ggml_soft_max(context, logits)
        top, probability = pick(logits, tokens), pick(probabilities, tokens)
        expected = ggml.ggml_sum_rows(context, ggml.ggml_mul(context, probabilities, logits))
        for tensor in (probability, expected):  # they read the probabilities before those of the tokens become 0
            ggml.ggml_build_forward_expand(graph, tensor)
        cells = ggml.ggml_reshape_3d(context, probabilities, 1, self._n_vocab, n_rows)
        zeros = ggml.ggml_scale(context, probability, 0.0)
        others = ggml.ggml_set_rows(context, cells, zeros, ggml.ggml_reshape_2d(context, tokens, 1, n_rows))
        others = ggml.ggml_reshape_2d(context, others, self._n_vocab, n_rows)
        second = pick(others, ggml.ggml_argmax(context, others))
        numbers = flat(top)
        for values in (probability, expected, second):
            numbers = ggml.ggml_concat(context, numbers, flat(values), 0)
        return tokens, numbers


@functools.cache
def _graph_functions() -> Any:
    """Return ggml's functions that `DeviceDraws` uses, with their types."""
    ggml, pointer, size = ggml_library(), ctypes.c_void_p, ctypes.c_int64
    signatures = {
        "argmax": [],
        "soft_max": [],
        "sum_rows": [],
        "mul": [pointer],
        "get_rows": [pointer],
        "set_rows": [pointer, pointer],
        "scale": [ctypes.c_float],
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
