"""`IsolatedModel`: a model in a process of its own, so that no file and no bug of llama.cpp can take this one down.

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
import queue
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

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
from leanrag.types import CancelToken, Generation, Message, Prompt, Scores, Usage

__all__ = ["IsolatedModel", "IsolatedStream"]

logger = logging.getLogger(__name__)

_POLL_SECONDS = 0.2  # a wait without a limit cannot be interrupted on Windows
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


class IsolatedModel:
    """A `LlamaCppModel` in a child process. Any thread may call.

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
        self._settings = settings
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False
        self._child = _Child(self.path, settings)
        self._finalizer = weakref.finalize(self, _Child.close, self._child)
        facts = self._child.facts
        self.name: str = facts["name"]
        self.n_ctx: int = facts["n_ctx"]
        self.is_chat: bool = facts["is_chat"]

    def __repr__(self) -> str:
        return f"IsolatedModel({self.name!r}, n_ctx={self.n_ctx})"

    def __enter__(self) -> IsolatedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child; idempotent."""
        if os.getpid() == self._pid:
            self._closed = True
            self._finalizer()

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain `text`, no BOS, no template."""
        return int(self._call("count_tokens", text=text).value)

    def count(self, prompt: Prompt) -> int:
        """Return the tokens of the rendered prompt: exactly `usage.prompt_tokens` of a generation from it."""
        return int(self._call("count", prompt=_plain_prompt(prompt)).value)

    def render(self, prompt: Prompt) -> str:
        """Return the prompt as the model reads it."""
        return str(self._call("render", prompt=_plain_prompt(prompt)).value)

    def generate(
        self, prompt: Prompt, *, max_tokens: int, cancel: CancelToken | None = None, **options: Any
    ) -> Generation:
        """Return the completion of `prompt`; options as those of `LlamaCppModel.generate`."""
        return self.stream(prompt, max_tokens=max_tokens, cancel=cancel, **options).result

    def stream(
        self, prompt: Prompt, *, max_tokens: int, cancel: CancelToken | None = None, **options: Any
    ) -> IsolatedStream:
        """As `generate`, piece by piece: iterate, then read `result`. Leaving the loop early stops the generation."""
        if cancel is not None and cancel.cancelled:
            raise GenerationCancelled(f"the request to {self.name} was cancelled", model=self.name)
        if describe := getattr(options.get("schema"), "model_json_schema", None):  # a pydantic model
            options["schema"] = describe()
        call = self._call("generate", prompt=_plain_prompt(prompt), max_tokens=max_tokens, options=options)
        if cancel is not None:
            cancel.on_cancel(call.cancel)
        return IsolatedStream(call)

    def score(self, text: str | Sequence[int], *, condition: Prompt | None = None) -> Scores:
        """Return the log-probability of each token of `text` after `condition`, as `LlamaCppModel.score`."""
        plain = text if isinstance(text, str) else [int(token) for token in text]
        value = self._call("score", text=plain, condition=None if condition is None else _plain_prompt(condition)).value
        return Scores(tuple(value["token_ids"]), tuple(value["logprobs"]))

    def _call(self, method: str, **arguments: Any) -> _Call:
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
                self._child = _Child(self.path, self._settings)
                self._finalizer = weakref.finalize(self, _Child.close, self._child)
            child = self._child
        return child.call(method, arguments)


class IsolatedStream:
    """A generation under way in a child process: iterate for text, then read `result`."""

    def __init__(self, call: _Call) -> None:
        self._call = call

    def __iter__(self) -> Iterator[str]:
        return iter(self._call)

    def close(self) -> None:
        """Stop the generation if it still runs."""
        self._call.cancel()

    @property
    def result(self) -> Generation:
        """The whole generation; waits for its end."""
        value = dict(self._call.value)
        for name in ("token_ids", "logprobs", "margins", "entropies"):
            value[name] = None if value[name] is None else tuple(value[name])
        return Generation(**{**value, "usage": Usage(**value["usage"])})


class _Call:
    """One call under way: events arrive from the child's reader, the caller waits for them."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._outcome: dict[str, Any] | None = None

    def put(self, event: dict[str, Any]) -> None:
        self._events.put(event)

    def cancel(self) -> None:
        if self._outcome is None:
            self._cancel()

    def __iter__(self) -> Iterator[str]:
        try:
            while self._outcome is None:
                try:
                    event = self._events.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    continue
                if "text" in event:
                    yield event["text"]
                else:
                    self._outcome = event
        finally:
            self.cancel()
        if "error" in self._outcome:
            raise _rebuilt(self._outcome["error"])

    @property
    def value(self) -> Any:
        for _ in self:
            pass
        assert self._outcome is not None
        if "error" in self._outcome:
            raise _rebuilt(self._outcome["error"])
        return self._outcome["value"]


class _Child:
    """The child process and the thread that reads what it says."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        try:
            first = json.dumps({"path": os.fspath(path.absolute()), "settings": settings, "sys_path": sys.path})
        except TypeError as error:
            raise ConfigurationError(
                f"settings of an isolated model must be values that JSON can hold: {error}"
            ) from error
        self._name = path.name
        self._numbers = itertools.count()
        self._calls: dict[int, _Call] = {}
        self._lock = threading.Lock()
        self.has_ended = False
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
        loading = self._calls[-1] = _Call(self.close)
        threading.Thread(target=self._read, args=(output,), name=f"leanrag {path.name} reader", daemon=True).start()
        self._write(first)
        try:
            self.facts: dict[str, Any] = loading.value
        except GenerationError as error:
            self.close()
            if isinstance(error, ModelLoadError):
                raise
            raise ModelLoadError(f"loading {path}: {error}", path=path, model=path.name) from error
        except BaseException:
            self.close()
            raise

    def call(self, method: str, arguments: dict[str, Any]) -> _Call:
        """Send a call to the child."""
        number = next(self._numbers)
        call = _Call(lambda: self._write(json.dumps({"id": number, "method": "cancel"})))
        try:
            line = json.dumps({"id": number, "method": method, "arguments": arguments})
        except TypeError as error:
            raise ConfigurationError(
                f"options of an isolated model must be values that JSON can hold: {error}"
            ) from error
        with self._lock:
            self._calls[number] = call
            has_ended = self.has_ended
        if has_ended:
            call.put({"error": self._death()})
        else:
            self._write(line)
        return call

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
                    call.put(event)
        self._process.wait()
        with self._lock:
            self.has_ended = True
            abandoned, self._calls = list(self._calls.values()), {}
        for call in abandoned:
            call.put({"error": self._death()})

    def _death(self) -> dict[str, Any]:
        code = self._process.returncode
        how = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        message = f"the process of {self._name} ended ({how}). The next request starts another one"
        return {"type": "GenerationError", "message": message, "fields": {"model": self._name}}


def _plain_prompt(prompt: Prompt) -> str | list[dict[str, str]]:
    if isinstance(prompt, str):
        return prompt
    if not prompt or not all(isinstance(message, Message) for message in prompt):
        raise ConfigurationError(f"a prompt is a string or a non-empty sequence of Message, got {prompt!r:.200}")
    return [{"role": message.role, "content": message.content} for message in prompt]


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
        from leanrag.llama.model import LlamaCppModel

        try:
            self._model = LlamaCppModel(first["path"], **first["settings"])
        except Exception as error:  # noqa: BLE001 - handed to the parent
            self._send_error(-1, error)
            os._exit(0)
        facts = {"name": self._model.name, "n_ctx": self._model.n_ctx, "is_chat": self._model.is_chat}
        self._send({"id": -1, "value": facts})

    def take(self, call: dict[str, Any]) -> None:
        if call["method"] == "cancel":
            token = self._tokens.get(call["id"])
            if token is not None:
                token.cancel()
            return
        if call["method"] == "generate":
            self._tokens[call["id"]] = CancelToken()
        threading.Thread(target=self._answer, args=(call["id"], call["method"], call["arguments"]), daemon=True).start()

    def _answer(self, number: int, method: str, arguments: dict[str, Any]) -> None:
        try:
            self._send({"id": number, "value": getattr(self, "_" + method)(number, **arguments)})
        except Exception as error:  # noqa: BLE001 - handed to the parent
            self._send_error(number, error)
        finally:
            self._tokens.pop(number, None)

    def _count_tokens(self, _: int, text: str) -> int:
        return self._model.count_tokens(text)

    def _count(self, _: int, prompt: Any) -> int:
        return self._model.count(_prompt(prompt))

    def _render(self, _: int, prompt: Any) -> str:
        return self._model.render(_prompt(prompt))

    def _score(self, _: int, text: Any, condition: Any) -> dict[str, Any]:
        scores = self._model.score(text, condition=None if condition is None else _prompt(condition))
        return dataclasses.asdict(scores)

    def _generate(self, number: int, prompt: Any, max_tokens: int, options: dict[str, Any]) -> dict[str, Any]:
        stream = self._model.stream(_prompt(prompt), max_tokens=max_tokens, cancel=self._tokens[number], **options)
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
