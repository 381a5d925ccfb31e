"""A local HTTP server that answers each request as it is told, and the readers that are compared on it."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from benchmarks.servers.shapes import Shape
from leanrag import Message
from leanrag.remote import RemoteModel
from leanrag.types import Generation

__all__ = ["PROMPT", "Act", "ReplayServer", "count_words", "read_with_openai", "read_with_remote_model", "replay"]

PROMPT = "Who signs off the releases?"

Act = Callable[[BaseHTTPRequestHandler], None]
"""Answers a request: it gets the handler, after the body was read."""


class ReplayServer:
    """A server on this machine: a request to `/NUMBER/v1/...` is answered by the act of that number."""

    def __init__(self, *acts: Act) -> None:
        self.acts = list(acts)
        self.is_closing = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                self.close_connection = True
                with contextlib.suppress(OSError):
                    outer.acts[int(self.path.split("/")[1])](self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name that http.server uses
                pass

        self._http = _QuietServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def url(self, number: int) -> str:
        """Return the `base_url` of an act."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/{number}/v1"

    def __enter__(self) -> ReplayServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.is_closing.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients hang up on purpose."""


def replay(shape: Shape) -> Act:
    """Return an act that sends a shape."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", shape.content_type)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(shape.body)

    return act


def read_with_remote_model(shape: Shape, url: str) -> Generation:
    """Return what `RemoteModel` reads; a model, a connection and a request of its own for each shape."""
    with RemoteModel("m", base_url=url, n_ctx=4096, count_tokens=count_words) as model:
        return model.generate([Message("user", PROMPT)] if shape.is_chat else PROMPT, max_tokens=64)


def read_with_openai(shape: Shape, url: str) -> str:
    """Return the content that the client of OpenAI reads, parts joined and thoughts left out."""
    client = _openai_client().with_options(base_url=url)
    options: dict[str, Any] = {"model": "m", "stream": shape.is_streamed}
    if shape.is_chat:
        answer: Any = client.chat.completions.create(messages=[{"role": "user", "content": PROMPT}], **options)
    else:
        answer = client.completions.create(prompt=PROMPT, **options)
    texts = _contents(answer if shape.is_streamed else [answer])
    return "".join(texts).encode("utf-16-le", "surrogatepass").decode("utf-16-le")


@functools.cache
def _openai_client() -> Any:
    import openai

    return openai.OpenAI(api_key="none", base_url="http://127.0.0.1:9", max_retries=0)


def _contents(chunks: Any) -> Iterator[str]:
    for chunk in chunks:
        for choice in getattr(chunk, "choices", None) or []:
            if getattr(choice, "index", 0) not in (0, None):
                continue
            inner = getattr(choice, "delta", None) or getattr(choice, "message", None)
            content = getattr(choice if inner is None else inner, "text" if inner is None else "content", None)
            for part in content if isinstance(content, list) else [content]:
                text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else None
                yield text or ""


def count_words(text: str) -> int:
    """Return the words of a text, as its tokens."""
    return len(text.split())
