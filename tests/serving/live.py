"""A server on a port of this machine, in a thread."""

from __future__ import annotations

import asyncio
import json
import threading
import types
from collections.abc import Callable
from typing import Any
from unittest import mock

import httpx
import uvicorn.server

from leanrag.serving.running import make_server, open_port

__all__ = ["Live", "Paused", "events_of"]

# uvicorn looks every tenth of a second whether it has to stop; a test waits for that twice
_HASTY = types.SimpleNamespace(**{**vars(asyncio), "sleep": lambda seconds: asyncio.sleep(seconds / 10)})


class Live:
    """Runs an application until the end of a `with` block; `url` is its address, `http` a client of it."""

    def __init__(self, app: Any, *, grace_seconds: int = 30) -> None:
        self.app = app
        self._server = make_server(app, grace_seconds=grace_seconds)
        self._socket = open_port("127.0.0.1", 0)  # it listens: a client may connect before the server accepts
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, daemon=True)

    def __enter__(self) -> Live:
        self._patch = mock.patch.object(uvicorn.server, "asyncio", _HASTY)
        self._patch.start()
        self._thread.start()
        self.http = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.stop()
        self.join()
        self._socket.close()
        self._patch.stop()

    def stop(self) -> None:
        """Tell the server to stop, as a signal does."""
        self._server.should_exit = True

    def join(self) -> None:
        """Wait for the end of the server."""
        self._thread.join(60)
        assert not self._thread.is_alive()


class Paused:
    """A reply that stops after its first words until `go_on` is set, or until nobody wants it any more."""

    def __init__(self, words: str = "One two three four.") -> None:
        self.words = words
        self.has_begun, self.go_on, self.is_stopped = threading.Event(), threading.Event(), threading.Event()

    def pieces(self, is_running: Callable[[], bool]) -> Any:
        """Yield the words; wait after the first."""
        first, *rest = self.words.split(" ")
        yield first
        self.has_begun.set()
        while is_running() and not self.go_on.wait(0.01):
            pass
        if not is_running():
            self.is_stopped.set()
        for word in rest:
            yield f" {word}"


def events_of(text: str) -> list[dict[str, Any]]:
    """Return the events of a stream, without its end."""
    blocks = [block for block in text.split("\n\n") if block]
    data = [line.removeprefix("data: ") for block in blocks for line in block.split("\n") if line.startswith("data: ")]
    return [json.loads(each) for each in data if each != "[DONE]"]
