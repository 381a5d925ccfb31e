"""Do models of every architecture write what `llama_cpp.Llama` writes in a fresh context, whatever was computed before?

Each tiny model answers the same prompts greedily in five ways:

    cold       each prompt in a new model
    warm       one prompt after the other in one model, in a random order, so that beginnings are shared
    disk       a new model finds the computed prompts of an earlier one in its folder
    batch      all prompts at once
    speculate  as warm, with drafts from the prompt

A token may differ from the reference only where the two most probable tokens are nearly equal in the reference.
"""

from __future__ import annotations

import ctypes
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.models.tiny import ARCHITECTURES, N_CTX, WINDOW, write_model
from leanrag import LlamaCppModel
from leanrag.errors import LeanRAGError
from leanrag.llama import ComputeOptions, GpuOptions
from leanrag.types import Generation

__all__ = ["WAYS", "Reference", "agrees", "make_prompts", "measure", "read_fresh"]

_MAX_TOKENS = 24
_TIE = 0.02  # natural logarithm: a smaller margin is a near-tie, which rounding may decide
_DOCUMENT = "Blue paint is kept in hall 4. Red paint is kept in the warehouse, and green paint nowhere at all. "


@dataclass(frozen=True, slots=True)
class Reference:
    """What a fresh context writes.

    Attributes:
        tokens: The tokens.
        margins: How much more probable each is than the second most probable token, in natural logarithms.
    """

    tokens: tuple[int, ...]
    margins: tuple[float, ...]


def make_prompts(seed: int = 0) -> list[str]:
    """Return prompts that share beginnings shorter and longer than a sliding window, in a random order, some of them twice."""
    letters = random.Random(seed)

    def noise(n: int) -> str:
        return "".join(letters.choice("abcdefgh ") for _ in range(n))

    long = _DOCUMENT * 2
    prompts = [long + noise(n) for n in (5, 20, 3, 90, 40, 9)]
    prompts += [long[: WINDOW // 2] + noise(n) for n in (6, 30)]
    prompts += [noise(4), noise(400), _DOCUMENT, long]
    prompts += [prompts[0] + noise(30), prompts[0], prompts[3], prompts[9][:300]]
    letters.shuffle(prompts)
    return prompts


def read_fresh(path: Path, prompt: str, max_tokens: int) -> Reference:
    """Return the greedy tokens that `llama_cpp.Llama` writes after `prompt` in a context of its own."""
    from llama_cpp import Llama, llama_cpp

    llama = Llama(str(path), n_ctx=N_CTX, n_threads=1, n_threads_batch=1, verbose=False)
    try:
        pending = llama.tokenize(prompt.encode(), add_bos=True, special=False)
        tokens: list[int] = []
        margins: list[float] = []
        while len(tokens) < max_tokens:
            llama.eval(pending)
            pointer = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
            logits = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(ctypes.c_float)), (llama.n_vocab(),))
            second, first = np.partition(logits, -2)[-2:]
            token = int(logits.argmax())
            margins.append(float(first - second))
            if token == llama.token_eos():
                break
            tokens.append(token)
            pending = [token]
        return Reference(tuple(tokens), tuple(margins))
    finally:
        llama.close()


def agrees(generation: Generation, reference: Reference) -> bool:
    """Return whether the tokens are those of the reference, up to the first near-tie."""
    ours, theirs = generation.token_ids or (), reference.tokens
    shared = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
    )
    return len(ours) == len(theirs) == shared or reference.margins[shared] < _TIE


def _open(path: Path, **options: object) -> LlamaCppModel:
    gpu = GpuOptions(0)
    return LlamaCppModel(path, n_ctx=N_CTX, threads=1, gpu=gpu, parallel=4, trial=False, **options)  # type: ignore[arg-type]


def _one_by_one(model: LlamaCppModel, prompts: Sequence[str]) -> list[Generation]:
    return [model.generate(prompt, max_tokens=_MAX_TOKENS) for prompt in prompts]


def _cold(path: Path, prompts: Sequence[str]) -> list[Generation]:
    generations = []
    for prompt in prompts:
        with _open(path) as model:
            generations += _one_by_one(model, [prompt])
    return generations


def _warm(path: Path, prompts: Sequence[str]) -> list[Generation]:
    with _open(path) as model:
        return _one_by_one(model, prompts)


def _disk(path: Path, prompts: Sequence[str]) -> list[Generation]:
    with tempfile.TemporaryDirectory() as folder:
        with _open(path, cache_dir=folder) as model:
            _one_by_one(model, prompts[::2])
        with _open(path, cache_dir=folder) as model:
            return _one_by_one(model, prompts)


def _batch(path: Path, prompts: Sequence[str]) -> list[Generation]:
    with _open(path) as model:
        return model.generate_many(prompts, max_tokens=_MAX_TOKENS)


def _speculate(path: Path, prompts: Sequence[str]) -> list[Generation]:
    with _open(path, compute=ComputeOptions(speculate=True)) as model:
        return _one_by_one(model, prompts)


WAYS: Mapping[str, Callable[[Path, Sequence[str]], list[Generation]]] = {
    "cold": _cold,
    "warm": _warm,
    "disk": _disk,
    "batch": _batch,
    "speculate": _speculate,
}


def measure(_data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Return `archs_equal` and `archs_tried`: pairs of an architecture and a way whose answers all agree, and all pairs."""
    equal = tried = 0
    prompts = make_prompts()[: 8 if is_quick else None]
    with tempfile.TemporaryDirectory() as folder:
        for name in ARCHITECTURES:
            path = write_model(Path(folder) / f"{name}.gguf", name)
            references = [read_fresh(path, prompt, _MAX_TOKENS) for prompt in prompts]
            columns = []
            for way, answer in WAYS.items():
                outcome = _compare(answer, path, prompts, references)
                tried += 1
                equal += outcome.startswith("equal")
                columns.append(f"{way} {outcome}")
            path.unlink()
            print(f"  {name:16}" + ", ".join(columns), flush=True)
    return {"archs_equal": equal, "archs_tried": tried}


def _compare(
    answer: Callable[[Path, Sequence[str]], list[Generation]],
    path: Path,
    prompts: Sequence[str],
    references: Sequence[Reference],
) -> str:
    """Return "equal" and the number of near-ties, or the number of prompts that differ, or the error."""
    try:
        generations = answer(path, prompts)
    except LeanRAGError as error:
        return f"fails ({error!s:.90})"
    pairs = list(zip(generations, references, strict=True))
    n_wrong = sum(not agrees(*pair) for pair in pairs)
    n_ties = sum(generation.token_ids != reference.tokens for generation, reference in pairs) - n_wrong
    if n_wrong:
        return f"{n_wrong} of {len(prompts)} differ"
    return f"equal but for {n_ties} near-ties" if n_ties else "equal"
