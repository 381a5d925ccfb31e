"""A model in a process of its own, so that no file and no bug of llama.cpp can take this one down.

The child runs a `LlamaCppModel` and speaks JSON, one value a line, over its standard input and output. It ends when this process
does. When it dies, what it was asked fails with a typed error, and the next request starts a new one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, overload

from leanrag.errors import (
    ConfigurationError,
    ContextOverflowError,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    LeanRAGError,
    MissingDependencyError,
    ModelLoadError,
    QueueFullError,
)
from leanrag.files import sha256_of
from leanrag.generation import PendingStream, check_messages
from leanrag.llama.model import LlamaCppModel
from leanrag.llama.options import LlamaBase, LlamaOptions
from leanrag.llama.placement.layers import DevicePart, Placement
from leanrag.pending import Pending
from leanrag.protocols import GenerateOptions
from leanrag.types import CancelToken, Generation, Message, Prompt, Scores, Usage

__all__ = ["IsolatedModel", "ModelCheck", "check_in_process", "load_model"]

logger = logging.getLogger(__name__)

_KINDS: dict[str, Callable[..., LeanRAGError]] = {
    kind.__name__: kind
    for kind in (
        ConfigurationError,
        ContextOverflowError,
        GenerationCancelled,
        GenerationError,
        GenerationTimeout,
        MissingDependencyError,
        ModelLoadError,
        QueueFullError,
    )
}
_FIELDS = ("needed", "available", "model", "path", "package", "extra")  # of errors, passed on


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
    """Load a GGUF file, in this process or in one of its own; both are asked alike.

    Args:
        path: The GGUF file.
        isolation: "none" runs it in this process. "process" runs it in a child: what ends the child is an error here, and its
            memory is given back whole. It costs a Python interpreter's memory and, for each token that is streamed, a
            message between processes.
        settings: As for `LlamaCppModel`.

    Raises:
        ModelLoadError: The file cannot be loaded.
        ConfigurationError: A setting cannot work.

    Example:
        >>> with load_model("unknown.gguf", isolation="process", n_ctx=2048) as model:  # doctest: +SKIP
        ...     model.generate("Once", max_tokens=8).text
    """
    if isolation not in ("none", "process"):
        raise ConfigurationError(f"`isolation` must be 'none' or 'process', got {isolation!r}")
    return LlamaCppModel(path, **settings) if isolation == "none" else IsolatedModel(path, **settings)


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What a file turned out to be, when it was tried in a process of its own.

    Attributes:
        path: The file.
        sha256: Of its bytes, hexadecimal; the verdict is about these.
        size_bytes: Its size.
        architecture: What llama.cpp calls the network.
        n_params: Weights.
        n_ctx_train: Window that it was trained with, in tokens; None when the file does not say.
        n_ctx: Window that it was tried with.
        is_chat: Whether it carries a chat template.
        seconds: To start a process, load the file there and generate a token.
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
    """Try a file of unknown origin: load it in a child process and generate one token there.

    A file that passes can be loaded; it does not say that its answers are good. Keep the hash, and compare it before the file
    is loaded the next time.

    Args:
        path: The GGUF file.
        timeout_seconds: Limit for all of it; the child is killed then.
        settings: As for `LlamaCppModel`.

    Raises:
        ModelLoadError: The file cannot be loaded or run, ended the child, or took too long.
        ConfigurationError: A setting cannot work.
    """
    if not 0 < timeout_seconds <= threading.TIMEOUT_MAX:
        raise ConfigurationError(f"`timeout_seconds` must be greater than 0, got {timeout_seconds!r}")
    path, started = Path(path), time.perf_counter()
    child = _Child(path, settings)
    is_late = threading.Event()

    def give_up() -> None:
        is_late.set()
        child.kill()

    timer = threading.Timer(timeout_seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        child.load()
        child.call("generate", {"prompt": "a", "options": {"max_tokens": 1}}).value()
        sha256 = sha256_of(path)
    except (GenerationError, OSError) as error:
        reason = f"it took more than {timeout_seconds:g} seconds" if is_late.is_set() else str(error)
        if isinstance(error, ModelLoadError) and not is_late.is_set():
            raise
        raise ModelLoadError(f"trying {path}: {reason}", path=path, model=path.name) from error
    finally:
        timer.cancel()
        child.close()
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

    Args:
        path: The GGUF file.
        settings: As for `LlamaCppModel`; values that JSON can hold.

    Raises:
        ModelLoadError: The file cannot be loaded, or the child died over it.
        ConfigurationError: A setting cannot work.

    Example:
        >>> with IsolatedModel("unknown.gguf", n_ctx=2048) as model:  # doctest: +SKIP
        ...     model.generate("Once", max_tokens=8).text
    """

    def __init__(self, path: str | os.PathLike[str], **settings: Any) -> None:
        self.path = Path(path)
        self._settings = {
            name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in settings.items()
        }
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False
        self._start()
        facts = self._child.facts
        self.name: str = facts["name"]
        self.n_ctx: int = facts["n_ctx"]
        self.is_chat: bool = facts["is_chat"]

    def __repr__(self) -> str:
        return f"IsolatedModel({self.name!r}, n_ctx={self.n_ctx})"

    def close(self) -> None:
        """End the child; idempotent."""
        if os.getpid() == self._pid:
            self._closed = True
            self._finalizer()

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in the child's memory; False after `keep_alive` seconds without a request."""
        return not self._closed and not self._child.has_ended and bool(self._call("is_loaded").value())

    @property
    def placement(self) -> Placement:
        """Which layers are on which GPU, what they take there, and why; of the child that runs, or ran last."""
        facts = self._child.facts["placement"]
        parts = tuple(DevicePart(**part) for part in facts["devices"])
        return Placement(**{**facts, "devices": parts, "tensor_split": tuple(facts["tensor_split"])})

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain `text`, no BOS, no template."""
        return int(self._call("count_tokens", text=text).value())

    def tokenize(self, text: str) -> list[tuple[int, int]]:
        """Return the tokens of plain `text` and where each begins, as `LlamaCppModel.tokenize`."""
        return [(token, start) for token, start in self._call("tokenize", text=text).value()]

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the rendered prompt: exactly `usage.prompt_tokens` of a generation from it."""
        return int(self._call("count", prompt=_plain_prompt(prompt)).value())

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as the model reads it."""
        return str(self._call("render", prompt=_plain_prompt(prompt)).value())

    def stream(self, prompt: Prompt, options: GenerateOptions) -> PendingStream[dict[str, Any], Generation]:
        """Return the completion of `prompt`, piece by piece: iterate, then read `result`.

        Leaving the loop early stops the generation. `options` may be `LlamaOptions`.
        """
        return PendingStream(self._ask("stream", prompt, options), _generation, owner=self)

    def score_many(
        self,
        pairs: Iterable[tuple[Prompt | None, str | Sequence[int]]],
        *,
        timeout_seconds: float | None = None,
        cancel: CancelToken | None = None,
    ) -> list[Scores]:
        """Return the scores of each `(condition, text)`, in order; what conditions share is computed once."""
        plain = [_plain_pair(*pair) for pair in pairs]
        call = self._call("score_many", cancel, pairs=plain, timeout_seconds=timeout_seconds)
        return [Scores(tuple(value["token_ids"]), tuple(value["logprobs"])) for value in call.value()]

    def _generate(self, prompt: Prompt, options: GenerateOptions) -> Generation:
        return _generation(self._ask("generate", prompt, options).result)  # one message, not one for each token

    async def _agenerate(self, prompt: Prompt, options: GenerateOptions) -> Generation:
        call = self._ask("generate", prompt, options)
        await call.wait()
        return _generation(call.result)

    def _generate_many(self, prompts: Iterable[Prompt], options: GenerateOptions) -> list[Generation]:
        plain = [_plain_prompt(prompt) for prompt in prompts]
        call = self._call("generate_many", options.cancel, prompts=plain, options=_plain_options(options))
        return [_generation({"value": value}) for value in call.value()]

    def _ask(self, method: str, prompt: Prompt, options: GenerateOptions) -> _Call:
        return self._call(method, options.cancel, prompt=_plain_prompt(prompt), options=_plain_options(options))

    def _call(self, method: str, cancel: CancelToken | None = None, **arguments: Any) -> _Call:
        if cancel is not None and cancel.cancelled:
            raise GenerationCancelled(f"the request to {self.name} was cancelled", model=self.name)
        if os.getpid() != self._pid:
            raise GenerationError(
                f"{self.name} belongs to the process that this one was forked from. Load the model here",
                model=self.name,
            )
        with self._lock:
            if self._closed:
                raise GenerationError(f"{self.name} is closed. Load the model again to use it", model=self.name)
            if self._child.has_ended:
                logger.warning("%s: its process ended; another one is started", self.name)
                self._finalizer()
                self._start()
            child = self._child
        call = child.call(method, arguments)
        if cancel is not None:
            cancel.on_cancel(call.cancel)
        return call

    def _start(self) -> None:
        self._child = child = _Child(self.path, self._settings)
        self._finalizer = weakref.finalize(self, _Child.close, child)
        child.load()


class _Call(Pending[dict[str, Any]]):
    """One call under way: events arrive from the child's reader, the caller waits for them."""

    def __init__(self, stop: Callable[[], None]) -> None:
        super().__init__()
        self._stop = stop

    def stop(self) -> None:
        """Tell the child."""
        self._stop()

    def value(self) -> Any:
        """What the call returned; waits for it."""
        return self.result["value"]


class _Child:
    """A child process, and the thread that reads what it says."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        try:
            first = json.dumps({"path": os.fspath(path.absolute()), "settings": settings, "sys_path": sys.path})
        except TypeError as error:
            raise ConfigurationError(
                f"settings of an isolated model must be values that JSON can hold: {error}"
            ) from error
        self._path = path
        self._numbers = itertools.count()
        self._calls: dict[int, _Call] = {}
        self._lock = threading.Lock()
        self.has_ended = False
        self.facts: dict[str, Any] = {}
        code = "import json, sys; first = json.loads(sys.stdin.readline()); sys.path[:] = first['sys_path']; "
        code += "from leanrag.llama.process import serve; serve(first)"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, output = self._process.stdin, self._process.stdout
        self._loading = self._calls[-1] = _Call(self.kill)
        threading.Thread(target=self._read, args=(output,), name=f"leanrag {path.name} reader", daemon=True).start()
        self._write(first)

    def load(self) -> None:
        """Wait until the model is loaded, and set `facts`; without success the process is ended."""
        try:
            self.facts = self._loading.value()
        except GenerationError as error:
            self.close()
            if isinstance(error, ModelLoadError):
                raise
            raise ModelLoadError(f"loading {self._path}: {error}", path=self._path, model=self._path.name) from error
        except BaseException:
            self.close()
            raise

    def call(self, method: str, arguments: dict[str, Any]) -> _Call:
        """Send a call to the child."""
        number = next(self._numbers)
        call = _Call(lambda: self._write(json.dumps({"id": number, "method": "cancel"})))
        try:
            line = json.dumps({"id": number, "method": method, "arguments": arguments})
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"options of an isolated model must be values that JSON can hold: {error}"
            ) from error
        with self._lock:
            self._calls[number] = call
            has_ended = self.has_ended
        if has_ended:
            call.emit(self._death())
        else:
            self._write(line)
        return call

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()

    def close(self) -> None:
        """End the process; idempotent."""
        with contextlib.suppress(OSError, ValueError):
            self._input.close()  # the child ends when it has nothing more to read
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _write(self, line: str) -> None:
        with self._lock, contextlib.suppress(OSError, ValueError):  # a dead child: its reader tells the callers
            self._input.write(line + "\n")
            self._input.flush()

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                try:
                    event = json.loads(line)
                except ValueError:
                    break  # cut in the middle
                with self._lock:
                    call = self._calls[event["id"]] if "text" in event else self._calls.pop(event["id"], None)
                if call is not None:
                    call.emit(_rebuilt(event["error"]) if "error" in event else event.get("text", event))
        self._process.wait()
        with self._lock:
            self.has_ended = True
            abandoned, self._calls = list(self._calls.values()), {}
        for call in abandoned:
            call.emit(self._death())

    def _death(self) -> GenerationError:
        code = self._process.returncode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        name = self._path.name
        return GenerationError(f"the process of {name} ended ({how}). The next request starts another one", model=name)


def _plain_prompt(prompt: Prompt) -> str | list[dict[str, str]]:
    if isinstance(prompt, str):
        return prompt
    return [{"role": message.role, "content": message.content} for message in check_messages(prompt)]


def _plain_options(options: GenerateOptions) -> dict[str, Any]:
    plain = {
        field.name: getattr(options, field.name) for field in dataclasses.fields(options) if field.name != "cancel"
    }
    if describe := getattr(plain.get("schema"), "model_json_schema", None):  # a pydantic model
        plain["schema"] = describe()
    return plain


def _plain_pair(condition: Prompt | None, text: str | Sequence[int]) -> tuple[Any, str | list[int]]:
    plain = text if isinstance(text, str) else [int(token) for token in text]
    return (None if condition is None else _plain_prompt(condition)), plain


def _generation(event: dict[str, Any]) -> Generation:
    value = event["value"]
    for name in ("token_ids", "logprobs", "margins", "entropies"):
        value[name] = None if value[name] is None else tuple(value[name])
    return Generation(**{**value, "usage": Usage(**value["usage"])})


def _rebuilt(error: dict[str, Any]) -> LeanRAGError:
    return _KINDS[error["type"]](error["message"], **error["fields"])


# In the child


def serve(first: dict[str, Any]) -> None:
    """Load the model and answer calls until standard input ends; the way of the child process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's: it cancels what it does not want
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing else may write there
    server = _Server(output)
    server.load(first)
    for line in sys.stdin:
        server.take(json.loads(line))
    os._exit(0)


class _Server:
    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self._lock = threading.Lock()
        self._tokens: dict[int, CancelToken] = {}

    def load(self, first: dict[str, Any]) -> None:
        try:
            self._model = model = LlamaCppModel(first["path"], **first["settings"])
        except Exception as error:  # noqa: BLE001 - handed to the parent
            self._send_error(-1, error)
            os._exit(0)
        facts: dict[str, Any] = {"name": model.name, "n_ctx": model.n_ctx, "is_chat": model.is_chat}
        facts["placement"] = dataclasses.asdict(model.placement)
        facts |= {name: getattr(model.info, name) for name in ("architecture", "n_params", "n_ctx_train", "size_bytes")}
        self._send({"id": -1, "value": facts})

    def take(self, call: dict[str, Any]) -> None:
        number = call["id"]
        if call["method"] == "cancel":
            token = self._tokens.get(number)
            if token is not None:
                token.cancel()
            return
        self._tokens[number] = CancelToken()
        threading.Thread(target=self._answer, args=(number, call["method"], call["arguments"]), daemon=True).start()

    def _answer(self, number: int, method: str, arguments: dict[str, Any]) -> None:
        try:
            self._send({"id": number, "value": getattr(self, "_" + method)(number, **arguments)})
        except Exception as error:  # noqa: BLE001 - handed to the parent
            self._send_error(number, error)
        finally:
            self._tokens.pop(number, None)

    def _is_loaded(self, _: int) -> bool:
        return self._model.is_loaded

    def _count_tokens(self, _: int, text: str) -> int:
        return self._model.count_tokens(text)

    def _tokenize(self, _: int, text: str) -> list[tuple[int, int]]:
        return self._model.tokenize(text)

    def _count(self, _: int, prompt: Any) -> int:
        return self._model.count(_prompt(prompt))

    def _render(self, _: int, prompt: Any) -> str:
        return self._model.render(_prompt(prompt))

    def _score_many(self, number: int, pairs: list[Any], timeout_seconds: float | None) -> list[dict[str, Any]]:
        unpacked = [(None if condition is None else _prompt(condition), text) for condition, text in pairs]
        scores = self._model.score_many(unpacked, timeout_seconds=timeout_seconds, cancel=self._tokens[number])
        return [dataclasses.asdict(score) for score in scores]

    def _generate(self, number: int, prompt: Any, options: dict[str, Any]) -> dict[str, Any]:
        return dataclasses.asdict(self._model.generate(_prompt(prompt), cancel=self._tokens[number], **options))

    def _generate_many(self, number: int, prompts: Any, options: Any) -> list[dict[str, Any]]:
        generations = self._model.generate_many(map(_prompt, prompts), cancel=self._tokens[number], **options)
        return [dataclasses.asdict(generation) for generation in generations]

    def _stream(self, number: int, prompt: Any, options: dict[str, Any]) -> dict[str, Any]:
        stream = self._model.stream(_prompt(prompt), LlamaOptions(cancel=self._tokens[number], **options))
        for piece in stream:
            self._send({"id": number, "text": piece})
        return dataclasses.asdict(stream.result)

    def _send(self, event: dict[str, Any]) -> None:
        with self._lock:
            self._output.write(json.dumps(event) + "\n")
            self._output.flush()

    def _send_error(self, number: int, error: Exception) -> None:
        fields = {name: getattr(error, name) for name in _FIELDS if hasattr(error, name)}
        if type(error).__name__ in _KINDS:
            kind, message = type(error).__name__, str(error)
        else:
            kind, message, fields = "GenerationError", f"{type(error).__name__}: {error}", {}
        plain = {name: os.fspath(value) if isinstance(value, Path) else value for name, value in fields.items()}
        self._send({"id": number, "error": {"type": kind, "message": message, "fields": plain}})


def _prompt(plain: str | list[dict[str, Any]]) -> Prompt:
    return plain if isinstance(plain, str) else [Message(**message) for message in plain]
