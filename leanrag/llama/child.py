"""A child process that runs a model, as the process that started it sees it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from leanrag.children import first_line, function_command
from leanrag.errors import ConfigurationError, GenerationError, ModelLoadError
from leanrag.llama.wire import plain_settings, read_error
from leanrag.pending import Pending, ThoughtText

__all__ = ["Call", "Child"]


class Call(Pending[dict[str, Any]]):
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


class Child:
    """A child process, and the thread that reads what it says."""

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        try:
            first = first_line(path=os.fspath(path.absolute()), settings=plain_settings(settings))
        except TypeError as error:
            raise ConfigurationError(
                f"settings of an isolated model must be JSON values: {error}. Pass other values, or load the model in this process"
            ) from error
        self._path = path
        self._numbers = itertools.count()
        self._calls: dict[int, Call] = {}
        self._lock = threading.RLock()  # the garbage collector may cancel another call while this thread has it
        self.has_ended = False
        self.facts: dict[str, Any] = {}
        self._process = subprocess.Popen(
            function_command("leanrag.llama.child_main", "serve"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input, output = self._process.stdin, self._process.stdout
        self._loading = self._calls[-1] = Call(self.kill)
        threading.Thread(target=self._read, args=(output,), name=f"leanrag {path.name} reader", daemon=True).start()
        self._write(first)

    @property
    def n_calls(self) -> int:
        """Number of calls without an outcome."""
        return len(self._calls)

    def load(self) -> None:
        """Wait until the model is loaded, and set `facts`; without success the process is ended."""
        try:
            self.facts = self._loading.value()
        except GenerationError as error:
            self.close()
            if isinstance(error, ModelLoadError):
                raise
            raise ModelLoadError(
                f"{str(self._path)!r} cannot be loaded: {error}", path=self._path, model=self._path.name
            ) from error
        except BaseException:
            self.close()
            raise

    def call(self, method: str, arguments: dict[str, Any]) -> Call:
        """Send a call to the child."""
        number = next(self._numbers)
        call = Call(lambda: self._write(_line_of({"id": number, "method": "cancel"})))
        try:
            line = _line_of({"id": number, "method": method, "arguments": arguments})
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"options of an isolated model must be JSON values: {error}. Pass other values, or load the model in this process"
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
            self._input.write(line)
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
                    call.emit(_read_event(event))
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


def _line_of(message: dict[str, Any]) -> str:
    return json.dumps(message) + "\n"


def _read_event(event: dict[str, Any]) -> dict[str, Any] | str | Exception:
    """Return what a message of the child means: an error, a piece of text or thought, or the value of a call."""
    if "error" in event:
        return read_error(event["error"])
    if "text" in event:
        return ThoughtText(event["text"]) if event["is_thought"] else str(event["text"])
    return event
