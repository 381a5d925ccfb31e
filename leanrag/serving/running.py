"""Run the application: take the port, serve until a signal, and let streams finish."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from leanrag.errors import ConfigurationError

__all__ = ["make_server", "open_port", "run_server"]

_GRACE_SECONDS = 15  # a machine that is taken away has little more
_MOST_HEADER_BYTES = 64 * 1024


def open_port(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Raises:
        ConfigurationError: The port is used by another program, or the address does not exist.
    """
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {host!r}, port {port}: {error.strerror or error}. Another program may use the port: stop it, or "
            "choose another with --port"
        ) from error


def make_server(app: ASGIApp, *, grace_seconds: int = _GRACE_SECONDS) -> uvicorn.Server:
    """Return a server of `app` that has not started.

    Args:
        app: The application.
        grace_seconds: Seconds that requests under way have to finish after the server was told to stop; then they are cancelled.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=grace_seconds,
        h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
    )
    return uvicorn.Server(config)


def run_server(app: ASGIApp, port: socket.socket, *, on_start: Callable[[], None] = lambda: None) -> None:
    """Serve until Ctrl-C or SIGTERM; requests under way may finish.

    Args:
        app: The application.
        port: A listening socket, as `open_port` returns it; it is closed at the end.
        on_start: Called before the first request is accepted.
    """
    with _exiting_on_sigterm():
        on_start()
        make_server(app).run(sockets=[port])


@contextlib.contextmanager
def _exiting_on_sigterm() -> Iterator[None]:
    """Let SIGTERM leave the `with` blocks of the program, so that folders and models are closed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
