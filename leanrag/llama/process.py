"""A model in a child process, so that a broken file or a bug of llama.cpp cannot end this process, and copies on several GPUs.

The child runs a `LlamaCppModel`. The processes exchange JSON, a value in each line, over the standard input and output of the
child. The child ends when this process ends. If the child ends first, its requests fail with a typed error, and the next request
starts a new child.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import threading
import time
import weakref
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, overload

from leanrag.checks import ProcessGuard, check_choice, check_seconds
from leanrag.errors import ConfigurationError, GenerationCancelled, GenerationError, ModelLoadError
from leanrag.files import sha256_of
from leanrag.generation import PendingStream
from leanrag.llama.child import Call, Child
from leanrag.llama.model import LlamaCppModel
from leanrag.llama.options import LlamaBase
from leanrag.llama.placement import GpuOptions, Placement
from leanrag.llama.wire import plain_options, plain_pair, plain_prompt, read_adapters, read_generation, read_placement
from leanrag.protocols import GenerateOptions
from leanrag.stopping import time_limit
from leanrag.types import CancelToken, Generation, Prompt, Scores

__all__ = ["IsolatedModel", "ModelCheck", "check_in_process", "load_model"]

logger = logging.getLogger(__name__)

_BEGINNING = 512  # characters of a prompt by which idle copies are chosen, so that prompts with the same context meet


@overload
def load_model(
    path: str | os.PathLike[str], *, isolation: Literal["none"] = "none", **settings: Any
) -> LlamaCppModel: ...


@overload
def load_model(path: str | os.PathLike[str], *, isolation: Literal["process"], **settings: Any) -> IsolatedModel: ...


@overload
def load_model(
    path: str | os.PathLike[str], *, isolation: Literal["none", "process"], **settings: Any
) -> LlamaCppModel | IsolatedModel: ...


def load_model(
    path: str | os.PathLike[str], *, isolation: Literal["none", "process"] = "none", **settings: Any
) -> LlamaCppModel | IsolatedModel:
    """Load a GGUF file in this process or in a child process. Both models have the same methods.

    Args:
        path: The GGUF file.
        isolation: "none" runs the model in this process. "process" runs it in a child process: if the child ends, the request
            fails with an error, and all its memory is freed. The child needs the memory of a Python interpreter, and each
            streamed token is a message between the processes.
        settings: As for `LlamaCppModel`.

    Raises:
        ModelLoadError: The file cannot be loaded.
        ConfigurationError: A setting cannot work.

    Example:
        >>> with load_model("unknown.gguf", isolation="process", n_ctx=2048) as model:  # doctest: +SKIP
        ...     model.generate("Once", max_tokens=8).text
    """
    check_choice(("none", "process"), isolation=isolation)
    return LlamaCppModel(path, **settings) if isolation == "none" else IsolatedModel(path, **settings)


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """The result of testing a file in a child process.

    Attributes:
        path: The file.
        sha256: Hash of the bytes that were tested, hexadecimal.
        size_bytes: Size of the file.
        architecture: Name of the architecture in llama.cpp.
        n_params: Number of weights.
        n_ctx_train: Window that the model was trained with, in tokens; None if the file does not say.
        n_ctx: Window of the test.
        is_chat: Whether it has a chat template.
        seconds: Time to start a process, load the file and generate a token.
    """

    path: Path
    sha256: str
    size_bytes: int
    architecture: str
    n_params: int
    n_ctx_train: int | None
    n_ctx: int
    is_chat: bool
    seconds: float


def check_in_process(path: str | os.PathLike[str], *, timeout_seconds: float = 120.0, **settings: Any) -> ModelCheck:
    """Test a file that you do not trust: load it in a child process and generate a token there.

    A file that passes can be loaded; its answers may still be bad. Keep the hash, and compare it before you load the file again.

    Args:
        path: The GGUF file.
        timeout_seconds: Time limit for the whole test; the child is killed after it.
        settings: As for `LlamaCppModel`.

    Raises:
        ModelLoadError: The file cannot be loaded or run, ended the child, or took too long.
        ConfigurationError: A setting cannot work.
    """
    check_seconds(timeout_seconds=timeout_seconds)
    path, started = Path(path), time.perf_counter()
    child = Child(path, settings)
    with contextlib.closing(child), time_limit(timeout_seconds, child.kill) as is_late:
        try:
            child.load()
            child.call("generate", {"prompt": "a", "options": {"max_tokens": 1}}).value()
            sha256 = sha256_of(path)
        except (GenerationError, OSError) as error:
            reason = f"it took more than {timeout_seconds:g} seconds" if is_late.is_set() else str(error)
            if isinstance(error, ModelLoadError) and not is_late.is_set():
                raise
            message = f"{str(path)!r} failed the test in a child process: {reason}"
            raise ModelLoadError(message, path=path, model=path.name) from error
    facts = child.facts
    return ModelCheck(
        path=path,
        sha256=sha256,
        size_bytes=facts["size_bytes"],
        architecture=facts["architecture"],
        n_params=facts["n_params"],
        n_ctx_train=facts["n_ctx_train"],
        n_ctx=facts["n_ctx"],
        is_chat=facts["is_chat"],
        seconds=time.perf_counter() - started,
    )


class IsolatedModel(LlamaBase):
    """A `LlamaCppModel` in a child process: the same calls, options, answers and errors. Any thread may call.

    With `gpus`, several copies of the model run, each in a child process of its own. A request goes to the copy that has the fewest
    requests.

    Args:
        path: The GGUF file.
        gpus: The GPU of each copy, by its index, such as `[0, 1]`; None in it is a copy on the CPU. By default there is one copy,
            placed as the setting `gpu` says.
        settings: As for `LlamaCppModel`, for each copy.

    Raises:
        ModelLoadError: The file cannot be loaded, or the child died over it.
        ConfigurationError: A setting cannot work.

    Example:
        >>> with IsolatedModel("unknown.gguf", n_ctx=2048) as model:  # doctest: +SKIP
        ...     model.generate("Once", max_tokens=8).text
    """

    def __init__(
        self, path: str | os.PathLike[str], *, gpus: Sequence[int | None] | None = None, **settings: Any
    ) -> None:
        self.path = Path(path)
        self._settings = _settings_of_copies(gpus, settings)
        self._lock = threading.Lock()
        self._guard = ProcessGuard()
        self._closed = False
        self._children: list[Child] = []
        self._finalizer = weakref.finalize(self, _close_children, self._children)
        try:
            self._children += [Child(self.path, each) for each in self._settings]  # they load at the same time
            for child in self._children:
                child.load()
        except BaseException:
            self._finalizer()
            raise
        facts = self._children[0].facts
        self.name: str = facts["name"]
        self.n_ctx: int = facts["n_ctx"]
        self.n_params: int = facts["n_params"]
        self.is_chat: bool = facts["is_chat"]
        self.adapters = read_adapters(facts["adapters"])

    def __repr__(self) -> str:
        return f"IsolatedModel({self.name!r}, n_ctx={self.n_ctx})"

    def close(self) -> None:
        """End the children; idempotent."""
        if self._guard.is_here:
            with self._lock:  # a child that is being started is ended too
                self._closed = True
            self._finalizer()

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in the child's memory; False after `keep_alive` seconds without a request."""
        if self._closed or any(child.has_ended for child in self._children):
            return False
        return all(self._call_copy(i, "is_loaded", None, {}).value() for i in range(len(self._children)))

    @property
    def placement(self) -> Placement:
        """Which layers are on which GPU, how much memory they use there, and why; of the first copy."""
        return self.placements[0]

    @property
    def placements(self) -> tuple[Placement, ...]:
        """The placement of each copy; of the child that runs, or ran last."""
        return tuple(read_placement(child.facts["placement"]) for child in self._children)

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain `text`, without BOS and template."""
        return int(self._call("count_tokens", text=text).value())

    def tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return the tokens of plain `text` and where each begins, as `LlamaCppModel.tokenize`."""
        return [(token, start) for token, start in self._call("tokenize", text=text).value()]

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the rendered prompt: exactly `usage.prompt_tokens` of a generation from it."""
        return int(self._call("count", prompt=plain_prompt(prompt)).value())

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as the model reads it."""
        return str(self._call("render", prompt=plain_prompt(prompt)).value())

    def stream(self, prompt: Prompt, options: GenerateOptions) -> PendingStream[dict[str, Any], Generation]:
        """Return the completion of `prompt`, piece by piece: iterate, then read `result`.

        Leaving the loop early stops the generation. `options` may be `LlamaOptions`.
        """
        return PendingStream(
            self._ask("stream", prompt, options), lambda event: read_generation(event["value"]), owner=self
        )

    def score_many(
        self,
        pairs: Iterable[tuple[Prompt | None, str | Sequence[int]]],
        *,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> list[Scores]:
        """Return the scores of each `(condition, text)`, in order; what conditions share is computed once."""
        plain = [plain_pair(*pair) for pair in pairs]
        call = self._call("score_many", cancel, pairs=plain, timeout_seconds=timeout_seconds)
        return [Scores(tuple(value["token_ids"]), tuple(value["logprobs"])) for value in call.value()]

    def _generate(self, prompt: Prompt, options: GenerateOptions) -> Generation:
        return read_generation(self._ask("generate", prompt, options).value())  # one message, not one for each token

    async def _agenerate(self, prompt: Prompt, options: GenerateOptions) -> Generation:
        call = self._ask("generate", prompt, options)
        await call.wait()
        return read_generation(call.value())

    def _generate_many(self, prompts: Iterable[Prompt], options: GenerateOptions) -> list[Generation]:
        """Give each copy an equal part of the prompts; neighbours stay together, because they may share a beginning."""
        plain, n_copies = [plain_prompt(prompt) for prompt in prompts], len(self._children)
        bounds = [len(plain) * i // n_copies for i in range(n_copies + 1)]
        calls = [
            self._call_copy(
                i, "generate_many", options.cancel, {"prompts": plain[start:end], "options": plain_options(options)}
            )
            for i, (start, end) in enumerate(itertools.pairwise(bounds))
            if start < end
        ]
        try:
            return [read_generation(value) for call in calls for value in call.value()]
        finally:
            for call in calls:
                call.cancel()  # those that still run after an error

    def _ask(self, method: str, prompt: Prompt, options: GenerateOptions) -> Call:
        return self._call(method, options.cancel, prompt=plain_prompt(prompt), options=plain_options(options))

    def _call(self, method: str, cancel: CancelToken | None = None, **arguments: Any) -> Call:
        return self._call_copy(self._choose_copy(arguments.get("prompt")), method, cancel, arguments)

    def _choose_copy(self, prompt: Any) -> int:
        """Return the index of the copy with the fewest requests; among equals, the beginning of the prompt decides."""
        first = zlib.crc32(repr(prompt)[:_BEGINNING].encode()) if len(self._children) > 1 else 0
        n_copies = len(self._children)
        return min(range(n_copies), key=lambda i: (self._children[i].n_calls, (i - first) % n_copies))

    def _call_copy(self, i: int, method: str, cancel: CancelToken | None, arguments: dict[str, Any]) -> Call:
        if cancel is not None and cancel.cancelled:
            raise GenerationCancelled(f"the request to {self.name} was cancelled", model=self.name)
        self._guard.check(self.name, functools.partial(GenerationError, model=self.name))
        with self._lock:
            if self._closed:
                raise GenerationError(f"{self.name} is closed. Load the model again to use it", model=self.name)
            if self._children[i].has_ended:
                logger.warning("%s: its process ended; a new process is started", self.name)
                self._children[i].close()
                self._children[i] = Child(self.path, self._settings[i])
                self._children[i].load()
            child = self._children[i]
        call = child.call(method, arguments)
        if cancel is not None:
            cancel.on_cancel(call.cancel)
        return call


def _settings_of_copies(gpus: Sequence[int | None] | None, settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the settings of each copy."""
    if gpus is None:
        return [settings]
    if not gpus or "gpu" in settings:
        raise ConfigurationError(
            f"`gpus` is the index of a GPU for each copy, such as [0, 1], and takes the place of `gpu`; got {gpus!r}"
            + (" and `gpu`. Leave one of them out" if gpus else ". Name at least one GPU, or leave it out")
        )
    options = [GpuOptions(layers=0) if gpu is None else GpuOptions(main_gpu=gpu) for gpu in gpus]
    return [{**settings, "gpu": each} for each in options]


def _close_children(children: Sequence[Child]) -> None:
    for child in children:
        child.close()
