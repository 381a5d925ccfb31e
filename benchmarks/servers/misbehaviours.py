"""Servers that do not keep to HTTP, to JSON, to the API or to good manners, and what a client may make of each."""

from __future__ import annotations

import base64
import gzip
import json
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

from benchmarks.servers.replay import Act

__all__ = ["KEY", "MISBEHAVIOURS", "Misbehaviour"]

KEY = "sk-Proj-0123456789abcdefXYZ"
"""The key of the client, which some of the servers send back."""

MAX_BODY_BYTES = 1_000_000
"""The limit of the client; some servers send more."""

EVENTS, JSON = "text/event-stream", "application/json"


@dataclass(frozen=True, slots=True)
class Misbehaviour:
    """A server that misbehaves.

    Attributes:
        name: What it does.
        act: Does it.
        answer: The answer that can be read all the same; None if the client must raise an error.
        hangs: Whether only the time limit of the client ends the request.
    """

    name: str
    act: Act
    answer: str | None = None
    hangs: bool = False

    def __repr__(self) -> str:
        return f"Misbehaviour({self.name!r})"


def _raw(*parts: bytes, hangs: bool = False) -> Act:
    """Send bytes as they are, status line and headers included; then close the connection, or keep it open."""

    def act(handler: BaseHTTPRequestHandler) -> None:
        for part in parts:
            handler.wfile.write(part)
            handler.wfile.flush()
        if hangs:
            handler.connection.settimeout(10)
            handler.connection.recv(1)  # returns when the client hangs up

    return act


def _head(kind: str = JSON, status: str = "200 OK", **headers: str) -> bytes:
    fields = {"Content-Type": kind, "Connection": "close"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _json(value: Any, **head: str) -> Act:
    return _raw(_head(**head), value if isinstance(value, bytes) else json.dumps(value).encode())


def _event(value: Any, name: str = "") -> bytes:
    data = value if isinstance(value, str) else json.dumps(value)
    return (f"event: {name}\n" * bool(name) + f"data: {data}\n\n").encode()


def _events(*events: bytes, hangs: bool = False) -> Act:
    return _raw(_head(EVENTS), *events, hangs=hangs)


def _piece(content: Any = None, finish: Any = None, **choice: Any) -> bytes:
    delta = {} if content is None else {"content": content}
    return _event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish, **choice}]})


def _whole(message: Any, finish: Any = "stop", **fields: Any) -> Act:
    return _json({"choices": [{"index": 0, "message": message, "finish_reason": finish}], **fields})


DONE = b"data: [DONE]\n\n"
GOOD = (_piece(""), _piece("Ada"), _piece(" Park"), _piece("", "stop"), DONE)
ANSWER = json.dumps({"choices": [{"message": {"content": "Ada Park"}, "finish_reason": "stop"}]}).encode()


def _nothing() -> Iterator[Misbehaviour]:
    yield Misbehaviour("closes without an answer", _raw())
    yield Misbehaviour("closes in the status line", _raw(b"HTTP/1.1 20"))
    yield Misbehaviour("closes in the headers", _raw(b"HTTP/1.1 200 OK\r\nContent-Ty"))
    yield Misbehaviour("sends no body, as JSON", _json(b""))
    yield Misbehaviour("sends no body, as events", _events())
    yield Misbehaviour("sends no content", _raw(_head(status="204 No Content")))
    yield Misbehaviour("sends no type", _raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"))
    yield Misbehaviour("sends white space", _json(b" \n\t\r\n " * 100))
    yield Misbehaviour("ends before its length", _raw(_head(Content_Length="5000"), ANSWER[:30]))
    yield Misbehaviour("ends before its first chunk", _raw(_head(EVENTS, Transfer_Encoding="chunked")))


def _hangs() -> Iterator[Misbehaviour]:
    yield Misbehaviour("hangs before the status line", _raw(hangs=True), hangs=True)
    yield Misbehaviour("hangs in the headers", _raw(b"HTTP/1.1 200 OK\r\nContent-Type: text", hangs=True), hangs=True)
    yield Misbehaviour("hangs before the body", _events(hangs=True), hangs=True)
    yield Misbehaviour("hangs in the JSON", _raw(_head(Content_Length="5000"), ANSWER[:30], hangs=True), hangs=True)
    yield Misbehaviour("hangs after empty pieces", _events(*[_piece("")] * 3, hangs=True), hangs=True)
    yield Misbehaviour("hangs after comments", _events(*[b": wait\n\n"] * 20, hangs=True), hangs=True)
    yield Misbehaviour("hangs in a text", _events(*GOOD[:2], hangs=True), hangs=True)
    yield Misbehaviour("hangs in an event", _events(*GOOD[:2], GOOD[2][:20], hangs=True), hangs=True)
    yield Misbehaviour(
        "hangs in an error", _raw(_head(status="500 No", Content_Length="99"), b'{"error', hangs=True), hangs=True
    )
    yield Misbehaviour(
        "hangs after informal answers", _raw(b"HTTP/1.1 102 Processing\r\n\r\n" * 5, hangs=True), hangs=True
    )


def _cuts() -> Iterator[Misbehaviour]:
    whole = b"".join(GOOD)
    for i in range(len(GOOD) - 2):
        yield Misbehaviour(f"closes after event {i}", _events(*GOOD[: i + 1]))
    for share in (0.1, 0.3, 0.5, 0.7):
        yield Misbehaviour(f"closes after {share:.0%} of the bytes", _events(whole[: int(len(whole) * share)]))
    yield Misbehaviour("closes before the last blank line", _events(*GOOD[:3], GOOD[3][:-1]), "Ada Park")
    yield Misbehaviour("is done before it says why", _events(*GOOD[:3], DONE))
    yield Misbehaviour("is done at once", _events(DONE))
    yield Misbehaviour("breaks a chunk", _raw(_head(EVENTS, Transfer_Encoding="chunked"), b"ff\r\n", GOOD[1]))


def _http() -> Iterator[Misbehaviour]:
    for name, data in {
        "speaks another protocol": b"220 mail.example.com ESMTP\r\n",
        "sends binary": bytes(range(256)) * 4,
        "has no version": b"HTTP 200 OK\r\n\r\n",
        "has a status of one digit": b"HTTP/1.1 2 OK\r\n\r\n",
        "has a header without a colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        "has a NUL in a header": b"HTTP/1.1 200 OK\r\nX-A: a\0b\r\nContent-Type: application/json\r\n\r\n",
        "has a header without end": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 300_000,
        "has a negative length": _head(Content_Length="-5") + ANSWER,
        "has a length that is no number": _head(Content_Length="many") + ANSWER,
        "has a wrong chunk size": _head(Transfer_Encoding="chunked") + b"zz\r\n" + ANSWER,
        "has an unknown transfer encoding": _head(Transfer_Encoding="lzma") + ANSWER,
        "has two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 9\r\n\r\n" + ANSWER,
        "has the status 999": _head(status="999 What") + ANSWER,
        "upgrades the protocol": _head(status="101 Switching Protocols") + b"\0\1\2",
    }.items():  # fmt: skip
        yield Misbehaviour(name, _raw(data))


def _redirects() -> Iterator[Misbehaviour]:
    for status in (301, 302, 303, 307, 308):
        yield Misbehaviour(
            f"redirects with {status}",
            _json(b"", status=f"{status} Go", Location=f"http://127.0.0.1:1/{KEY}?key={KEY}"),
        )
    yield Misbehaviour("redirects to nowhere", _json(b"", status="302 Go"))
    yield Misbehaviour("redirects to itself", _json(b"", status="307 Go", Location="chat/completions"))
    yield Misbehaviour("has many choices", _json(b"", status="300 Choose"))
    yield Misbehaviour("says that nothing changed", _raw(_head(status="304 Not Modified")))


def _refusals() -> Iterator[Misbehaviour]:
    for status in (400, 401, 403, 404, 405, 408, 409, 413, 418, 422, 429, 500, 501, 502, 503, 504, 529):
        yield Misbehaviour(
            f"refuses with {status} and the key",
            _json({"error": {"message": f"Wrong key: {KEY}"}}, status=f"{status} No"),
        )
    for name, value in {
        "a number": "999999999",
        "nonsense": "soon",
        "a past date": "Thu, 01 Jan 1970 00:00:01 GMT",
        "the key": KEY,
    }.items():
        yield Misbehaviour(f"asks to wait for {name}", _json({"error": "busy"}, status="429 No", Retry_After=value))
    yield Misbehaviour(
        "refuses with a page", _raw(_head("text/html", "502 Bad Gateway"), b"<html>" + KEY.encode() * 1000)
    )
    yield Misbehaviour("refuses with binary", _raw(_head("image/png", "403 No"), bytes(range(256)) * 100))
    yield Misbehaviour(
        "refuses every field in turn",
        _json(
            {"error": {"message": "Unknown parameter: temperature, logprobs, stop, seed, max_tokens, stream"}},
            status="400 No",
        ),
    )
    yield Misbehaviour(
        "refuses with a list",
        _json([{"error": {"code": 429, "message": KEY, "status": "RESOURCE_EXHAUSTED"}}], status="429 No"),
    )
    yield Misbehaviour("refuses at length", _json({"error": {"message": "no system support " * 3500}}, status="400 No"))
    yield Misbehaviour("refuses with an odd error", _json({"error": [[{"message": 7}]]}, status="400 No"))


def _encodings() -> Iterator[Misbehaviour]:
    bomb = gzip.compress(b"a" * 50_000_000)
    for name, encoding, data in (
        ("gzip", "gzip", gzip.compress(ANSWER)),
        ("a gzip bomb", "gzip", bomb),
        ("deflate", "deflate", zlib.compress(ANSWER)),
        ("an unknown compression", "snail", ANSWER),
    ):
        yield Misbehaviour(f"sends {name}", _raw(_head(Content_Encoding=encoding), data))
    yield Misbehaviour("refuses with a gzip bomb", _raw(_head(status="400 No", Content_Encoding="gzip"), bomb))
    yield Misbehaviour("sends gzip and does not say so", _json(gzip.compress(ANSWER)))
    yield Misbehaviour("sends JSON in UTF-16", _json(ANSWER.decode().encode("utf-16")), "Ada Park")
    yield Misbehaviour("sends JSON with a byte order mark", _json(b"\xef\xbb\xbf" + ANSWER), "Ada Park")
    yield Misbehaviour("sends JSON that is not UTF-8", _json('{"choices": "Grüße"}'.encode("latin-1")))
    yield Misbehaviour("sends events in UTF-16", _events(b"".join(GOOD).decode().encode("utf-16")))
    yield Misbehaviour("sends events that are not UTF-8", _events("data: Grüße\n\n".encode("latin-1")))
    yield Misbehaviour(
        "sends half of a character", _events(_piece("Ada \ud83d"), _piece(" Park", "stop"), DONE), "Ada \ufffd Park"
    )
    yield Misbehaviour("calls events JSON", _raw(_head(JSON), *GOOD), "Ada Park")
    yield Misbehaviour("calls JSON events", _raw(_head(EVENTS), ANSWER), "Ada Park")
    yield Misbehaviour("calls events a text", _raw(_head("text/plain"), *GOOD), "Ada Park")
    yield Misbehaviour("sends a page", _raw(_head("text/html"), b"<html><body>Log in</body></html>"))


def _bodies() -> Iterator[Misbehaviour]:
    for name, data in {
        "cut": ANSWER[:-5],
        "deep": b"[" * 100_000,
        "deep in a field": b'{"choices": [{"message": {"content": '
        + b'[{"text": ' * 5_000
        + b'"a"'
        + b"}]" * 5_000
        + b"}}]}",
        "with more behind it": ANSWER + ANSWER,
        "with a long number": b'{"choices": ' + b"9" * 10_000 + b"}",
        "a list": b"[1, 2]",
        "a text": b'"Ada Park"',
        "a number": b"7",
        "null": b"null",
        "in single quotes": b"{'choices': []}",
    }.items():
        yield Misbehaviour(f"sends JSON {name}", _json(data))
    choices: tuple[object, ...] = ({}, "a", 7, None, [], [None], [7], ["a"], [[]], [{}], [{"message": "a"}], {"0": {}})
    for value in choices:
        yield Misbehaviour(f"has the choices {json.dumps(value)}", _json({"choices": value}))
    for content in (7, True, {"text": 7}, [7], [[["a"]]], [{"type": "image_url"}], None):
        yield Misbehaviour(f"has the content {json.dumps(content)}", _whole({"content": content}))
    yield Misbehaviour("has a tool call only", _whole({"content": None, "tool_calls": [{"id": "1"}]}, "tool_calls"))
    yield Misbehaviour("has thoughts only", _whole({"content": None, "reasoning_content": "Hm."}, "length"))
    yield Misbehaviour("declines with the key", _whole({"content": None, "refusal": f"I will not say {KEY}"}))
    for reason in ("content_filter", "SAFETY", "error", "abort"):
        yield Misbehaviour(f"ends because of {reason}", _whole({"content": "Ada"}, reason))
    yield Misbehaviour("ends with a number", _whole({"content": "Ada"}, 7))


def _events_of_all_kinds() -> Iterator[Misbehaviour]:
    for name, data in {
        "nonsense": "{nonsense",
        "words": "Ada Park",
        "a number": "7",
        "null": "null",
        "a list": "[]",
        "the key": KEY,
    }.items():
        yield Misbehaviour(f"sends an event with {name}", _events(_event(data)))
    yield Misbehaviour("sends pings only", _events(*[_event({"type": "ping"})] * 5, DONE))
    yield Misbehaviour("sends comments only", _events(*[b": hello\n\n"] * 5))
    yield Misbehaviour("sends fields that nobody knows", _events(b"foo: bar\n\n" * 5))
    for name, value in {
        "a text": f"{KEY} is wrong",
        "OpenAI's error": {"error": {"message": KEY, "type": "server_error", "code": None}},
        "Gemini's error": [{"error": {"code": 503, "message": KEY, "status": "UNAVAILABLE"}}],
        "vLLM's error": {"object": "error", "message": KEY, "type": "InternalServerError", "code": 500},
        "OpenRouter's error": {
            "choices": [{"delta": {}, "finish_reason": "error", "error": {"code": 502, "message": KEY}}]
        },
        "FastAPI's error": {"detail": KEY},
    }.items():
        yield Misbehaviour(f"sends {name} first", _events(_event(value, "error")))
        yield Misbehaviour(f"sends {name} after text", _events(*GOOD[:2], _event(value, "error")))
    yield Misbehaviour("sends an error after the answer", _events(*GOOD[:4], _event({"error": {"message": KEY}})))


def _too_much() -> Iterator[Misbehaviour]:
    many = b"".join([_piece("word ")] * 1000)
    yield Misbehaviour("sends a line without end", _events(*[b"data: " + b"a" * 100_000] * 30))
    yield Misbehaviour("sends comments without end", _events(*[b": a comment\n\n" * 10_000] * 30))
    yield Misbehaviour("sends text without end", _events(*[many] * 50))
    yield Misbehaviour("sends empty pieces without end", _events(*[_piece("") * 1000] * 50))
    yield Misbehaviour("sends JSON without end", _raw(_head(), b'{"choices": "', *[b"a" * 100_000] * 30))
    yield Misbehaviour("sends an error without end", _raw(_head(status="400 No"), *[b"a" * 100_000] * 30))
    yield Misbehaviour("sends headers without end", _raw(b"HTTP/1.1 200 OK\r\n", *[b"X-A: b\r\n" * 10_000] * 30))
    yield Misbehaviour(
        "sends many thoughts",
        _events(*[_event({"choices": [{"delta": {"reasoning": "a "}}]}) * 1000] * 18, *GOOD),
        "Ada Park",
    )
    yield Misbehaviour("sends a long piece", _events(_piece("ab " * 100_000), *GOOD[3:]), "ab " * 100_000)
    yield Misbehaviour(
        "sends white space in the text",
        _events(_piece("a" + " " * 300_000 + "b"), *GOOD[3:]),
        "a" + " " * 300_000 + "b",
    )


def _numbers() -> Iterator[Misbehaviour]:
    usages: tuple[object, ...] = (
        "many",
        [],
        {"prompt_tokens": KEY},
        {"prompt_tokens": -5, "completion_tokens": -1},
        {"prompt_tokens": 0.5, "completion_tokens": None},
        {"prompt_tokens": 10**400, "completion_tokens": 1},
        {"prompt_tokens": 5, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 999}},
    )
    for usage in usages:
        yield Misbehaviour(f"bills {json.dumps(usage)[:60]}", _whole({"content": "Ada"}, usage=usage), "Ada")
    unlikely: dict[str, Any] = {"content": [{"token": "Ada", "logprob": "X", "top_logprobs": []}]}
    odd: tuple[object, ...] = (KEY, [], {"content": KEY}, {"content": [{"token": 7}]}, unlikely)
    for scores in odd:
        named = f"has the scores {json.dumps(scores)[:60]}"
        yield Misbehaviour(named, _events(_piece("Ada", "stop", logprobs=scores)), "Ada")
    for constant in ("NaN", "-Infinity", "1e999"):
        event = _piece("Ada", "stop", logprobs=unlikely).replace(b'"X"', constant.encode())
        yield Misbehaviour(f"has the score {constant}", _events(event), "Ada")
    yield Misbehaviour("answers as another model", _whole({"content": "Ada"}, model="another-model"), "Ada")
    yield Misbehaviour(
        "answers in another place",
        _events(_event({"choices": [{"index": 3, "delta": {"content": "Ada"}, "finish_reason": "stop"}]})),
        "Ada",
    )
    yield Misbehaviour("answers as the user", _whole({"role": "user", "content": "Ada"}), "Ada")


def _echoes() -> Iterator[Misbehaviour]:
    coded = base64.b64encode(KEY.encode()).decode()
    quoted = urllib.parse.quote(KEY, safe="")
    for name, head in {
        "a header": {"X_Echo": KEY},
        "a cookie": {"Set_Cookie": f"session={KEY}; Path=/"},
        "the challenge": {"WWW_Authenticate": f'Bearer realm="{KEY}"'},
        "the type": {"kind": f"text/{KEY}"},
        "the type, in capitals": {"kind": f"text/{KEY.upper()}"},
        "the name of the compression": {"Content_Encoding": KEY},
        "the reason": {"status": f"401 {KEY}"},
        "a header, coded": {"X_Echo": f"{coded} {quoted} {KEY!r}"},
    }.items():
        yield Misbehaviour(f"echoes the key in {name}", _json({"error": "no"}, **({"status": "401 No"} | head)))
        is_readable = not {"Content_Encoding", "status"} & head.keys()
        yield Misbehaviour(
            f"answers, and echoes the key in {name}", _json(ANSWER, **head), "Ada Park" if is_readable else None
        )
    yield Misbehaviour("echoes the key in the status line", _raw(f"HTTP/1.1 {KEY}\r\n\r\n".encode()))
    yield Misbehaviour("echoes the key in a broken header", _raw(f"HTTP/1.1 200 OK\r\n{KEY}\r\n\r\n".encode()))
    for text in (KEY.lower(), coded, f"Bearer {KEY}", f"{KEY[:9]}\\u002d{KEY}", f"{KEY}{KEY}"):
        yield Misbehaviour(
            f"refuses with {text[:12]}... of {len(text)}",
            _json({"error": {"message": f"Wrong key: {text}"}}, status="401 No"),
        )


MISBEHAVIOURS: tuple[Misbehaviour, ...] = tuple(
    misbehaviour
    for group in (
        _nothing, _hangs, _cuts, _http, _redirects, _refusals, _encodings, _bodies, _events_of_all_kinds, _too_much,
        _numbers, _echoes,
    )
    for misbehaviour in group()
)  # fmt: skip
"""All misbehaviours."""
