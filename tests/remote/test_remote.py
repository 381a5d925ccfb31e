"""A real server on loopback that misbehaves on demand; no sleeping: what waits is a fake clock or a limit of milliseconds."""

import asyncio
import contextlib
import copy
import dataclasses
import datetime
import email.utils
import gc
import importlib.util
import inspect
import json
import logging
import os
import pickle
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import traceback
import types
import weakref
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag.errors import (
    ConfigurationError,
    ContextOverflowError,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    RemoteError,
)
from leanrag.pending import StopMatcher
from leanrag.pipeline.copies import find_embedder
from leanrag.protocols import GenerateOptions
from leanrag.remote import (
    Clock,
    EventDecoder,
    Prices,
    RemoteEmbedder,
    RemoteModel,
    RemoteUsage,
    Retry,
    Safety,
    Timeouts,
    env,
    retry_after_seconds,
)
from leanrag.remote.exchange import Reply
from leanrag.remote.keys import Secret
from leanrag.remote.protocol import Choice
from leanrag.remote.waiting import Limit
from leanrag.remote.worker import Call, Worker
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import CancelToken, Message, Usage

KEY = "sk-test-0123456789abcdef"
CHAT = [Message("system", "Be brief."), Message("user", "Who goes there?")]


# The server


class Server:
    """Answers each request with the next of `script`, and with `usual` when there is none left."""

    def __init__(self, tls=None):
        self.script, self.requests = [], []
        self.usual = events("Hello", " world")
        self.release = threading.Event()  # lets those go that hang
        self.gone = threading.Event()  # a client hung up
        self.arrived = threading.Semaphore(0)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.requests.append((self.path, dict(self.headers), json.loads(body)))
                act = outer.script.pop(0) if outer.script else outer.usual
                outer.arrived.release()
                self.close_connection = True
                with contextlib.suppress(OSError):
                    act(self, outer)

            def log_message(self, *_):
                pass

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self._http = Quiet(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self):
        self.release.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def bodies(self):
        return [body for _, _, body in self.requests]


def raw(data, *, status=200, kind="text/event-stream", headers=(), length=None):
    def act(handler, _):
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        for name, value in dict(headers).items():
            handler.send_header(name, value)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        handler.send_header("Connection", "close")
        handler.end_headers()
        for piece in [data] if isinstance(data, bytes) else data:
            handler.wfile.write(piece)
            handler.wfile.flush()

    return act


def delta(text=None, finish=None, **more):
    return {
        "choices": [{"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": finish} | more]
    }


def event(value):
    return b"data: " + (value if isinstance(value, str) else json.dumps(value)).encode() + b"\n\n"


def events(*texts, usage=None, finish="stop", done=True):
    chunks = [delta(text) for text in texts]
    if finish:
        chunks.append(delta(finish=finish))
    if usage is not None:
        chunks.append({"choices": [], "usage": usage})
    return raw(b"".join(map(event, chunks)) + (event("[DONE]") if done else b""))


def error(status, message="no", headers=(), **more):
    body = json.dumps({"error": {"message": message, **more}}).encode()
    return raw(body, status=status, kind="application/json", headers=headers)


def whole(value):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return raw(body, kind="application/json")


def hang(before=b""):
    """Send `before` (headers too, if there is any), then nothing; notice when the client hangs up."""

    def act(handler, server):
        try:
            if before:
                raw(before)(handler, server)
            handler.connection.settimeout(60)
            is_gone = handler.connection.recv(1) == b""
        except ConnectionError:  # it hung up on unread bytes
            is_gone = True
        if is_gone:
            server.gone.set()
        server.release.wait(60)

    return act


def drop(handler, _):
    handler.connection.shutdown(2)


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


class FakeTime:
    def __init__(self, random=0.5):
        self.seconds, self.slept = 1000.0, []
        self.clock = Clock(lambda: self.seconds, lambda: 1_700_000_000.0, self.sleep, lambda: random)

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.seconds += seconds


@pytest.fixture
def time():
    return FakeTime()


def grouped(**settings):
    """Put the settings that have a value of their own together: a test names only what it is about."""
    for name, kind in {"timeouts": Timeouts, "retry": Retry, "safety": Safety}.items():
        fields = {field.name for field in dataclasses.fields(kind)} & settings.keys()
        settings[name] = kind(**{field: settings.pop(field) for field in fields})
    return settings


@pytest.fixture
def make(server, time):
    models = []

    def make(**settings):
        settings = grouped(**settings)
        defaults = {"base_url": server.url, "n_ctx": 1000, "count_tokens": lambda text: len(text.split())}
        models.append(RemoteModel("m", **(defaults | {"clock": time.clock} | settings)))
        return models[-1]

    yield make
    for model in models:
        model.close()


@pytest.fixture
def model(make):
    return make()


# What is sent and what comes back


def test_a_chat_is_sent_and_its_answer_read(server, make):
    server.usual = events("Hello", " world", usage={"prompt_tokens": 14, "completion_tokens": 3, "total_tokens": 17})
    model = make(api_key=KEY, headers={"X-Team": "blue-team"})
    generation = model.generate(CHAT, max_tokens=7, temperature=0.5, seed=3, stop=["\n"])
    assert (generation.text, generation.model, generation.finish_reason) == ("Hello world", "m", "stop")
    assert (generation.token_ids, generation.logprobs, generation.margins, generation.seed) == (None, None, None, 3)
    assert generation.usage == RemoteUsage(14, 3, counted_prompt_tokens=16)
    path, headers, body = server.requests[0]
    assert path == "/v1/chat/completions"
    assert (headers["Authorization"], headers["X-Team"]) == (f"Bearer {KEY}", "blue-team")
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who goes there?"}],
        "temperature": 0.5,
        "seed": 3,
        "stop": ["\n"],
        "max_tokens": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": True,
        "top_logprobs": 2,
    }


@pytest.mark.parametrize(
    "pieces",
    [
        [{"reasoning_content": "Bo? "}, {"reasoning_content": "Ada."}, {"content": "Ada Park."}],
        [{"reasoning": "Bo? Ada.", "reasoning_content": "Bo? Ada."}, {"content": "Ada Park."}],
        [{"content": "<thi"}, {"content": "nk>Bo? Ada.</think>"}, {"content": "\n\nAda "}, {"content": "Park."}],
    ],
    ids=["apart", "twice", "in the text"],
)
def test_thoughts_are_not_part_of_the_text(server, model, pieces):
    chunks = [{"choices": [{"index": 0, "delta": piece}]} for piece in pieces]
    server.usual = raw(b"".join(map(event, [*chunks, delta(finish="stop")])) + event("[DONE]"))
    stream = model.stream(CHAT, GenerateOptions(9))
    streamed = list(stream.pieces())
    assert "".join(piece.text for piece in streamed if not piece.is_thought) == "Ada Park."
    assert "".join(piece.text for piece in streamed if piece.is_thought).strip() == "Bo? Ada."
    assert (stream.result.text, stream.result.thoughts) == ("Ada Park.", "Bo? Ada.")


def test_a_string_is_completed_as_it_is(server, make):
    chunk = {"choices": [{"index": 0, "text": " time", "finish_reason": "length"}]}
    server.usual = raw(event(chunk) + event("[DONE]"))
    generation = make(is_chat=False).generate("Once upon a", max_tokens=1)
    assert (generation.text, generation.finish_reason) == (" time", "length")
    path, headers, body = server.requests[0]
    assert (path, body["prompt"], body["logprobs"]) == ("/v1/completions", "Once upon a", 2)
    assert "messages" not in body
    assert "Authorization" not in headers


def test_nothing_is_sent_on_construction(server, make):
    threads = set(threading.enumerate())
    model = make(api_key=lambda: pytest.fail("the key was asked for"))
    assert model.count(CHAT) == 5 + 2 * 4 + 3
    assert model.render(CHAT) == "[system]\nBe brief.\n\n[user]\nWho goes there?"
    assert not model.is_exact
    assert server.requests == []
    assert set(threading.enumerate()) <= threads  # threads of other tests may have ended


def test_text_is_streamed_as_it_comes(server, model):
    gate = threading.Event()

    def act(handler, _):
        raw(event(delta("first")))(handler, _)
        assert gate.wait(60)
        handler.wfile.write(event(delta(" second")) + event(delta(finish="stop")) + event("[DONE]"))

    server.usual = act
    stream = model.stream(CHAT, GenerateOptions(5))
    pieces = iter(stream)
    assert next(pieces) == "first"
    gate.set()
    assert list(pieces) == [" second"]
    assert stream.result.text == "first second"
    assert stream.result.prefill_seconds is not None


def test_async_twins(server, model):
    async def ask():
        generation = await model.agenerate(CHAT, max_tokens=5)
        return generation.text, [piece async for piece in model.astream(CHAT, max_tokens=5)]

    assert asyncio.run(ask()) == ("Hello world", ["Hello", " world"])


def test_no_more_are_sent_at_once_than_allowed(server, make):
    def act(handler, server):
        assert server.release.wait(60)
        events("done")(handler, server)

    server.usual = act
    model = make(parallel=2)
    streams = [model.stream(CHAT, GenerateOptions(5)) for _ in range(6)]
    assert server.arrived.acquire(timeout=60)
    assert server.arrived.acquire(timeout=60)
    assert not server.arrived.acquire(timeout=0.1)
    server.release.set()
    assert [stream.result.text for stream in streams] == ["done"] * 6


def test_many_are_sent_together(server, make):
    both = threading.Barrier(2, timeout=60)

    def act(handler, server):
        both.wait()  # two are here, or this breaks
        events("done")(handler, server)

    server.usual = act
    assert len(make(parallel=2).generate_many([CHAT] * 6, max_tokens=5)) == 6


def test_many_keep_their_order(server, make):
    server.usual = lambda handler, server: events(server.bodies[-1]["messages"][0]["content"])(handler, server)
    prompts = [[Message("user", str(n))] for n in range(5)]
    assert [g.text for g in make(parallel=1).generate_many(prompts, max_tokens=5)] == ["0", "1", "2", "3", "4"]
    assert make().generate_many([], max_tokens=5) == []


def test_one_that_fails_stops_many(server, make):
    server.script = [error(400)]
    server.usual = hang()
    with pytest.raises(RemoteError, match="400"):
        make(parallel=2).generate_many([CHAT] * 9, max_tokens=5)
    assert len(server.requests) <= 2


def test_a_whole_answer_where_a_stream_was_asked_for(server, model):
    server.usual = whole(
        {
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "All."}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 15, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}},
        }
    )
    generation = model.generate(CHAT, max_tokens=5)
    assert generation.text == "All."
    assert generation.usage == RemoteUsage(15, 2, 8, counted_prompt_tokens=16)


def test_a_server_that_ignores_stop_strings_is_stopped(server, model):
    server.usual = events("One.", "\n", "\nTwo", " more")
    generation = model.generate(CHAT, max_tokens=9, stop=["\n\n"])
    assert (generation.text, generation.finish_reason) == ("One.", "stop")


# Log-probabilities


def test_logprobs_of_chats(server, model):
    def scored(token, logprob, *tops):
        top = [{"token": text, "logprob": value, "bytes": None} for text, value in tops]
        scores = {"content": [{"token": token, "logprob": logprob, "bytes": None, "top_logprobs": top}]}
        return delta(token, logprobs=scores)

    chunks = [scored("a", -0.5, ("a", -0.5), ("b", -2.0)), scored("c", -3.0, ("d", -0.25), ("c", -3.0))]
    server.usual = raw(b"".join(map(event, [*chunks, delta(finish="stop")])))
    generation = model.generate(CHAT, max_tokens=5)
    assert generation.logprobs == (-0.5, -3.0)
    assert generation.margins == (1.5, -2.75)
    assert generation.entropies is None


def test_logprobs_of_completions(server, model):
    scores = {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -1.0],
        "top_logprobs": [{"a": -0.5, "x": -1.5}, {"b": -1.0}],
    }
    server.usual = whole({"choices": [{"text": "ab", "finish_reason": "stop", "logprobs": scores}]})
    generation = model.generate("x", max_tokens=5)
    assert (generation.logprobs, generation.margins) == ((-0.5, -1.0), None)


@pytest.mark.parametrize(
    "scores",
    [
        None,
        {},
        "none",
        {"content": [{"token": "a"}]},
        {"content": [{"token": "a", "logprob": "NaN"}]},
        {"tokens": ["a"], "token_logprobs": []},
        {"tokens": ["a"], "token_logprobs": [None]},
    ],
)
def test_logprobs_that_cannot_be_are_none(server, model, scores):
    server.usual = raw(event(delta("a", finish="stop", logprobs=scores)))
    generation = model.generate(CHAT, max_tokens=5)
    assert (generation.text, generation.logprobs, generation.margins) == ("a", None, None)


def test_logprobs_of_some_tokens_only_are_none(server, model):
    scores = {"content": [{"token": "a", "logprob": -1.0}]}
    server.usual = raw(event(delta("a", logprobs=scores)) + event(delta("b", finish="stop")))
    assert model.generate(CHAT, max_tokens=5).logprobs is None


def test_fields_that_a_server_refuses_are_left_out_from_then_on(server, model):
    server.script = [
        error(500, "logprobs is not supported for models created with logits_all=False"),
        error(422, "Extra inputs are not permitted: stream_options"),
        error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
    ]
    assert model.generate(CHAT, max_tokens=5).text == "Hello world"
    model.generate(CHAT, max_tokens=5)
    for body in server.bodies[3:]:
        assert body["max_completion_tokens"] == 5
        assert not {"logprobs", "top_logprobs", "stream_options", "max_tokens"} & set(body)
    assert len(server.requests) == 5


def test_logprobs_that_rounding_made_positive_are_zero(server, model):
    server.usual = raw(event(delta("a", "stop", logprobs={"content": [{"token": "a", "logprob": 1e-7}]})))
    assert model.generate(CHAT, max_tokens=5).logprobs == (0.0,)


def test_no_proxy_stands_before_this_machine(model, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert model.generate(CHAT, max_tokens=5).text == "Hello world"


def test_connections_that_cannot_be_set_up(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "gopher://user:secret@proxy")
    model = RemoteModel("m", base_url="https://api.example.com/v1", n_ctx=100, count_tokens=len)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
        model.generate(CHAT, max_tokens=5)
    assert "secret" not in "".join(traceback.format_exception(caught.value))


# Usage and price


def test_usage_that_differs_from_our_count_is_reported(server, make, caplog):
    model = make(n_ctx=5000)
    prompt = [Message("user", "word " * 1000)]
    for tokens, mismatch in [(500, "fewer"), (1007, None), (1240, None), (2000, "more")]:
        server.script = [events("a", usage={"prompt_tokens": tokens, "completion_tokens": 1})]
        caplog.clear()
        usage = model.generate(prompt, max_tokens=5).usage
        assert (usage.prompt_tokens, usage.counted_prompt_tokens, usage.prompt_mismatch) == (tokens, 1007, mismatch)
        assert usage.is_billed
        assert [record.levelname for record in caplog.records if record.name.startswith("leanrag")] == [
            "WARNING"
        ] * bool(mismatch)


@pytest.mark.parametrize(
    "usage",
    [
        {},
        "many",
        {"prompt_tokens": -1, "completion_tokens": 2},
        {"prompt_tokens": "7", "completion_tokens": 2},
        {"prompt_tokens": 7.5, "completion_tokens": 2},
        {"prompt_tokens": True, "completion_tokens": 2},
        {"prompt_tokens": 7},
        {"prompt_tokens": None, "completion_tokens": None},
    ],
)
def test_a_usage_that_cannot_be_is_replaced_by_our_count(server, make, usage):
    model = make(prices=Prices(1.0, 2.0, datetime.date(2026, 1, 1)))
    server.usual = events("Hello", " world", usage=usage)
    got = model.generate(CHAT, max_tokens=5).usage
    assert got == RemoteUsage(16, 2, counted_prompt_tokens=16, is_billed=False)
    assert model.price(got) is None


@pytest.mark.parametrize("cached", [-1, 8, "3", None, True, 1e9])
def test_cached_tokens_that_cannot_be_are_none(server, model, cached):
    server.usual = events(
        "a", usage={"prompt_tokens": 7, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": cached}}
    )
    assert model.generate(CHAT, max_tokens=5).usage.cached_tokens == 0


def test_price(make):
    day = datetime.date(2026, 1, 1)
    prices = Prices(input_per_million=2.0, output_per_million=8.0, as_of=day, cached_input_per_million=0.5)
    usage = Usage(1_000_000, 500_000, 250_000)
    assert make().price(usage) is None
    assert make(prices=prices).price(usage) == pytest.approx(0.75 * 2 + 0.25 * 0.5 + 4)
    assert make(prices=Prices(2.0, 8.0, day)).price(usage) == pytest.approx(6)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigurationError, match="`input_per_million` must be at least 0"):
            Prices(bad, 1.0, day)


# Failures


@pytest.mark.parametrize(
    ("status", "hint"),
    [(400, "Change the request"), (401, "api_key"), (403, "api_key"), (404, "base_url"), (418, "Change the request")],
)
def test_refusals_are_not_tried_again(server, model, time, status, hint):
    server.usual = error(status, "because\x1b[31m of\n that")
    with pytest.raises(RemoteError, match=hint) as caught:
        model.generate(CHAT, max_tokens=5)
    assert "(because [31m of that)" in str(caught.value)
    assert (caught.value.status, caught.value.retryable, caught.value.model) == (status, False, "m")
    assert (len(server.requests), time.slept) == (1, [])


def test_a_refusal_whose_body_breaks_is_a_refusal(server, model):
    server.usual = raw(b"because", status=401, length=500)
    with pytest.raises(RemoteError, match="because") as caught:
        model.generate(CHAT, max_tokens=5)
    assert (caught.value.status, len(server.requests)) == (401, 1)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_failures_that_may_pass_are_tried_again_after_growing_waits(server, model, time, status):
    server.script = [error(status)] * 3
    assert model.generate(CHAT, max_tokens=5).text == "Hello world"
    assert time.slept == [0.25, 0.5, 1.0]  # half, by chance, of 0.5, 1 and 2 seconds


def test_attempts_end(server, make, time):
    server.usual = error(503)
    with pytest.raises(RemoteError, match="503") as caught:
        make(max_retries=2).generate(CHAT, max_tokens=5)
    assert caught.value.retryable
    assert (len(server.requests), len(time.slept)) == (3, 2)
    with pytest.raises(RemoteError):
        make(max_retries=0).generate(CHAT, max_tokens=5)
    assert len(server.requests) == 4


def test_no_credit_is_not_waited_for(server, model):
    server.usual = error(429, "You exceeded your quota", code="insufficient_quota")
    with pytest.raises(RemoteError, match="no credit") as caught:
        model.generate(CHAT, max_tokens=5)
    assert (len(server.requests), caught.value.retryable) == (1, False)


def test_retry_after_is_honoured(server, model, time):
    date = email.utils.formatdate(1_700_000_000 + 40, usegmt=True)
    server.script = [error(429, headers={"Retry-After": "7"}), error(503, headers={"Retry-After": date})]
    model.generate(CHAT, max_tokens=5)
    assert time.slept == [7 + 0.25, 40 + 0.5]


@pytest.mark.parametrize("status", [413, 429, 503])
@pytest.mark.parametrize(
    ("headers", "seconds"), [({"Retry-After": "2.5"}, 2.5), ({"Retry-After": "0"}, 0.0), ({}, None)]
)
def test_what_the_server_asked_to_wait_is_in_the_error(server, make, status, headers, seconds):
    server.usual = error(status, headers=headers)
    with pytest.raises(RemoteError) as caught:
        make(max_retries=0).generate(CHAT, max_tokens=5)
    assert (caught.value.status, caught.value.retry_after) == (status, seconds)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.retry_after) == (str(caught.value), seconds)


def test_retry_after_is_bounded_by_the_deadline(server, make, time):
    server.usual = error(429, headers={"Retry-After": "120"})
    with pytest.raises(RemoteError, match="asks to wait 120 seconds") as caught:
        make(total_seconds=100).generate(CHAT, max_tokens=5)
    assert (caught.value.status, time.slept, len(server.requests)) == (429, [], 1)
    assert caught.value.retry_after == 120.0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        (" 1.5 ", 1.5),
        ("-1", None),
        ("nan", None),
        ("9" * 400, None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 50.0),
        ("Thu, 01 Jan 1970 00:01:40 -0000", 50.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("Thu, 99 Jan 1970 00:00:01 GMT", None),
    ],
)
def test_retry_after_seconds(value, seconds):
    assert retry_after_seconds(value, now=50.0) == seconds


@given(st.text())
def test_any_retry_after_is_seconds_or_nothing(value):
    seconds = retry_after_seconds(value, now=0.0)
    assert seconds is None or 0 <= seconds < float("inf")


def test_a_connection_that_breaks_before_the_answer_is_tried_again(server, model):
    server.script = [drop, raw(b"", length=50)]
    assert model.generate(CHAT, max_tokens=5).text == "Hello world"
    assert len(server.requests) == 3


@pytest.mark.parametrize("length", [None, 10_000], ids=["ends", "breaks"])
def test_nothing_is_tried_again_once_text_was_seen(server, model, length):
    server.usual = raw(event(delta("Hel")), length=length)
    stream = model.stream(CHAT, GenerateOptions(5))
    pieces = []
    with pytest.raises(RemoteError, match="Ask again") as caught:
        pieces.extend(stream)
    assert caught.value.retryable
    assert len(server.requests) == 1


def test_no_server(server, make):
    server.close()
    with pytest.raises(RemoteError, match="cannot connect to http:") as caught:
        make(max_retries=1).generate(CHAT, max_tokens=5)
    assert (caught.value.status, caught.value.retryable, caught.value.retry_after) == (None, True, None)


def test_tls_failure(server, make, time):
    model = make(base_url=f"https://127.0.0.1:{server.port}/v1", api_key=KEY)
    with pytest.raises(RemoteError, match="cannot open a secure connection") as caught:
        model.generate(CHAT, max_tokens=5)
    assert (caught.value.retryable, time.slept) == (False, [])


def test_nothing_is_sent_to_a_server_whose_certificate_nobody_signed(make, tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    files = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "own.pem")]
    subprocess.run(["openssl", "req", *kind, *subject, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem", tmp_path / "key.pem")
    server = Server(context)
    try:
        settings = {"base_url": server.url.replace("http:", "https:"), "api_key": KEY}
        with pytest.raises(RemoteError, match=r"cannot open a secure connection.*SSL_CERT_FILE") as caught:
            make(**settings).generate(CHAT, max_tokens=5)
        assert (caught.value.status, caught.value.retryable, server.requests) == (None, False, [])
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "own.pem"))
        assert make(**settings).generate(CHAT, max_tokens=5).text == "Hello world"
    finally:
        server.close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_refused(server, make, status):
    elsewhere = Server()
    try:
        server.usual = raw(b"", status=status, headers={"Location": f"{elsewhere.url}/chat/completions?secret=1"})
        with pytest.raises(RemoteError, match=f"redirect to {elsewhere.url}") as caught:
            make(api_key=KEY).generate(CHAT, max_tokens=5)
        assert "secret" not in str(caught.value)
        assert (caught.value.status, caught.value.retryable, elsewhere.requests) == (status, False, [])
    finally:
        elsewhere.close()


@pytest.mark.parametrize(
    ("act", "problem"),
    [
        (raw(b"<html>", kind="text/html"), "text/html"),
        (raw(b"hi", kind=""), "of no type"),
        (whole(b"{nonsense"), "Invalid JSON"),
        (whole(b""), "Invalid JSON"),
        (whole(b"[" * 100_000), "Invalid JSON"),
        (whole([1]), "does not keep to the API"),
        (whole({}), "choices"),
        (whole({"choices": None}), "choices"),
        (whole({"choices": [3]}), r"choices\[0\]"),
        (whole({"choices": []}), "has no `choices`"),
        (whole({"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}), "has no text"),
        (whole({"choices": [{"message": None, "finish_reason": "stop"}]}), "has no text"),
        (whole({"choices": [{"message": {"content": [7]}, "finish_reason": "stop"}]}), "message.content"),
        (whole({"choices": [{"message": {"content": "a"}, "finish_reason": "content_filter"}]}), "content_filter"),
        (whole({"choices": [{"message": {"content": "a"}, "finish_reason": 7}]}), "finish_reason"),
        (raw(event("{nonsense")), "Invalid JSON"),
        (raw(event({"choice": 1})), "choices"),
        (raw(event(delta(None, "length"))), "max_tokens"),
        (raw(b"data: \xff\xfe\n\n"), "not UTF-8"),
        (raw(b"\x1f\x8b", headers={"Content-Encoding": "gzip"}), "compressed"),
    ],
)
def test_what_does_not_speak_the_protocol(server, model, act, problem):
    server.usual = act
    with pytest.raises(RemoteError, match=problem) as caught:
        model.generate(CHAT, max_tokens=5)
    assert (caught.value.status, caught.value.retryable) == (200, False)
    assert len(server.requests) == 1


def test_an_error_in_the_stream(server, model):
    server.script = [raw(event({"error": {"message": "overloaded", "code": 503}}))]
    assert model.generate(CHAT, max_tokens=5).text == "Hello world"
    server.script = [raw(event({"error": {"message": "broken", "code": "x"}}))]
    with pytest.raises(RemoteError, match="broken"):
        model.generate(CHAT, max_tokens=5)


@pytest.mark.parametrize("act", [whole(b'"' + b"a" * 50_000 + b'"'), raw([event(delta("a" * 1000))] * 50)])
def test_long_bodies_end_in_an_error(server, make, act):
    server.usual = act
    with pytest.raises(RemoteError, match="longer than 20,000 bytes"):
        make(max_body_bytes=20_000).generate(CHAT, max_tokens=5)


@pytest.mark.slow
def test_ten_megabytes_are_the_usual_limit(server, model):
    server.usual = whole(b" " * 10_000_001)
    with pytest.raises(RemoteError, match="longer than 10,000,000 bytes"):
        model.generate(CHAT, max_tokens=5)


def test_long_error_bodies_are_cut(server, model):
    server.usual = raw(b"x" * 5_000_000, status=400, kind="text/plain")
    with pytest.raises(RemoteError, match="400") as caught:
        model.generate(CHAT, max_tokens=5)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("act", "needed", "available"),
    [
        (
            error(
                400,
                "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4900 in the messages)",
                code="context_length_exceeded",
            ),
            5000,
            4096,
        ),
        (
            error(
                400,
                "the request exceeds the available context size",
                type="exceed_context_size_error",
                n_prompt_tokens=900,
                n_ctx=512,
            ),
            900,
            512,
        ),
        (error(413, "prompt is too long"), 1001, 1000),
        (raw(event({"error": {"message": "maximum context length reached"}})), 1001, 1000),
    ],
)
def test_a_window_that_the_server_says_is_too_small(server, model, act, needed, available):
    server.usual = act
    with pytest.raises(ContextOverflowError, match="the server says that the prompt does not fit") as caught:
        model.generate(CHAT, max_tokens=5)
    assert (caught.value.needed, caught.value.available, len(server.requests)) == (needed, available, 1)


def test_a_window_that_our_count_exceeds(server, make):
    model = make(n_ctx=20)
    with pytest.raises(ContextOverflowError) as caught:
        model.generate(CHAT, max_tokens=5)
    assert (caught.value.needed, caught.value.available, server.requests) == (21, 20, [])
    assert model.generate(CHAT, max_tokens=4).text == "Hello world"


# Time and cancellation


def hung_up(server):
    """Return whether the client closed its connection; its time may be over before the server has read the request."""
    return not server.requests or server.gone.wait(60)


def test_hanging_before_headers(server, make):
    server.usual = hang()
    with pytest.raises(GenerationTimeout, match=r"sent no text within 0\.05 seconds"):
        make(first_token_seconds=0.05).generate(CHAT, max_tokens=5)
    assert hung_up(server)
    assert len(server.requests) <= 1


def test_hanging_before_the_first_token(server, make):
    server.usual = hang(event(delta("")))
    with pytest.raises(GenerationTimeout, match="sent no text"):
        make(first_token_seconds=0.05).generate(CHAT, max_tokens=5)
    assert hung_up(server)


@pytest.mark.parametrize(
    ("choice", "lifts"),
    [
        ({"delta": {"content": "a"}}, True),
        ({"text": "a"}, True),
        ({"delta": {"reasoning": "Hm."}}, True),
        ({"delta": {"reasoning_content": "Hm."}}, True),
        ({"delta": {"content": "", "role": "assistant"}}, False),
        ({"delta": {}}, False),
    ],
)
def test_text_and_hidden_reasoning_lift_the_limit_of_the_first_token(choice, lifts):
    async def read():
        reply = Reply(StopMatcher(()), lambda text: None, lambda: 0.0)
        reply.first_limit = Limit(0.01)
        with reply.first_limit:
            reply.add(Choice.model_validate(choice))
            await asyncio.wait_for(asyncio.Event().wait(), 0.05)

    with pytest.raises(asyncio.TimeoutError if lifts else asyncio.CancelledError):
        asyncio.run(read())


@pytest.mark.slow
def test_hanging_mid_stream(server, make):
    server.usual = hang(event(delta("Hel")))
    stream = make().stream(CHAT, GenerateOptions(5, timeout_seconds=1.5))
    pieces = []
    with pytest.raises(GenerationTimeout, match=r"did not answer within 1\.5 seconds"):
        pieces.extend(stream)
    assert hung_up(server)
    assert len(server.requests) <= 1


def test_the_time_limit_spans_attempts(server, make, time):
    server.usual = error(503)
    with pytest.raises(RemoteError):
        make(total_seconds=2, max_retries=99).generate(CHAT, max_tokens=5)
    assert sum(time.slept) < 2


@pytest.mark.parametrize("before", [b"", event(delta("Hel"))], ids=["before headers", "mid-stream"])
def test_cancelling_from_another_thread_closes_the_connection(server, model, before):
    server.usual = hang(before)
    cancel = CancelToken()
    stream = model.stream(CHAT, GenerateOptions(5, cancel=cancel))
    assert server.arrived.acquire(timeout=60)
    threading.Thread(target=cancel.cancel).start()
    with pytest.raises(GenerationCancelled, match="cancelled"):
        _ = stream.result
    assert server.gone.wait(60)
    with pytest.raises(GenerationCancelled):
        model.generate(CHAT, max_tokens=5, cancel=cancel)
    assert len(server.requests) == 1


def test_cancelling_stops_many(server, make):
    server.usual = hang()
    cancel = CancelToken()
    threading.Thread(target=lambda: server.arrived.acquire(timeout=60) and cancel.cancel()).start()
    with pytest.raises(GenerationCancelled):
        make().generate_many([CHAT] * 3, max_tokens=5, cancel=cancel)


def test_leaving_the_loop_closes_the_connection(server, model):
    server.usual = hang(event(delta("Hel")))
    for piece in model.stream(CHAT, GenerateOptions(5)):
        assert piece == "Hel"
        break
    assert server.gone.wait(60)


def test_cancelling_a_task_closes_the_connection(server, model):
    server.usual = hang()

    async def ask():
        task = asyncio.create_task(model.agenerate(CHAT, max_tokens=5))
        await asyncio.to_thread(server.arrived.acquire, timeout=60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())
    assert server.gone.wait(60)


def test_closing_ends_what_is_under_way(server, make):
    server.usual = hang()
    model = make()
    stream = model.stream(CHAT, GenerateOptions(5))
    assert server.arrived.acquire(timeout=60)
    model.close()
    model.close()
    with pytest.raises(GenerationError, match="closed while it answered"):
        _ = stream.result
    with pytest.raises(GenerationError, match="is closed"):
        model.generate(CHAT, max_tokens=5)
    assert server.gone.wait(60)


def test_closing_waits_for_generators_that_were_left_before_their_end():
    left, ended = threading.Event(), threading.Event()

    async def pieces():
        try:
            while True:
                yield "piece"
        finally:
            for _ in range(1000):
                await asyncio.sleep(0)
            ended.set()

    async def work():
        async for _ in pieces():
            break
        left.set()
        await asyncio.Event().wait()

    worker = Worker(httpx.AsyncClient(), "m")
    worker.loop.call_soon_threadsafe(lambda: worker.begin(work(), lambda task: None))
    assert left.wait(60)
    worker.close()
    assert ended.is_set()


@pytest.mark.slow
def test_a_model_that_nobody_has_is_collected(server):
    model = RemoteModel("collected", base_url=server.url, n_ctx=100, count_tokens=len)
    model.generate(CHAT, max_tokens=5)
    thread = next(thread for thread in threading.enumerate() if thread.name == "leanrag collected")
    known = weakref.ref(model)
    del model
    gc.collect()
    thread.join(60)
    assert known() is None
    assert not thread.is_alive()


# The breaker


def test_the_breaker_opens_and_half_opens(server, make, time):
    server.usual = error(500)
    model = make(max_retries=0, breaker_failures=2, breaker_seconds=30)
    for _ in range(2):
        with pytest.raises(RemoteError, match="500"):
            model.generate(CHAT, max_tokens=5)
    with pytest.raises(
        RemoteError, match="failed 2 times in a row; the next request can be sent in 30 seconds"
    ) as caught:
        model.generate(CHAT, max_tokens=5)
    assert (caught.value.status, caught.value.retryable, len(server.requests)) == (None, True, 2)
    time.seconds += 31
    with pytest.raises(RemoteError, match="500"):  # one may try
        model.generate(CHAT, max_tokens=5)
    with pytest.raises(RemoteError, match="in a row"):
        model.generate(CHAT, max_tokens=5)
    assert len(server.requests) == 3
    time.seconds += 31
    server.usual = events("Back")
    assert [model.generate(CHAT, max_tokens=5).text for _ in range(2)] == ["Back", "Back"]


def test_the_breaker_ends_attempts(server, make):
    server.usual = error(500)
    with pytest.raises(RemoteError, match="500"):
        make(max_retries=9, breaker_failures=3).generate(CHAT, max_tokens=5)
    assert len(server.requests) == 3


@pytest.mark.parametrize("act", [error(400), error(429), error(401), whole(b"x")])
def test_a_server_that_answers_is_up(server, make, act):
    server.usual = act
    model = make(max_retries=0, breaker_failures=1)
    for _ in range(3):
        with pytest.raises(RemoteError):
            model.generate(CHAT, max_tokens=5)
    assert len(server.requests) == 3


def test_only_one_tries_a_server_that_was_down(server, make, time):
    server.script = [error(500), hang()]
    model = make(max_retries=0, breaker_failures=1, breaker_seconds=5)
    with pytest.raises(RemoteError, match="500"):
        model.generate(CHAT, max_tokens=5)
    server.arrived.acquire()
    time.seconds += 6
    probe = model.stream(CHAT, GenerateOptions(5))
    assert server.arrived.acquire(timeout=60)
    with pytest.raises(RemoteError, match="in a row"):
        model.generate(CHAT, max_tokens=5)
    probe.close()
    with pytest.raises(GenerationCancelled):
        _ = probe.result
    assert model.generate(CHAT, max_tokens=5).text == "Hello world"  # a probe that was cancelled says nothing


# Events


@given(st.data())
def test_events_survive_any_cut(data):
    texts = data.draw(st.lists(st.text(alphabet=st.sampled_from("a é€😀:\u2028"), min_size=1), max_size=4))
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    stream = (
        "".join(f": keep-alive{end}{end}id: 3{end}data: {text}{end}data:{text}{end}{end}" for text in texts).encode()
        + b":\n"
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    decoder = EventDecoder()
    got = [event for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for event in decoder.feed(stream[a:b])]
    assert got == [f"{text}\n{text.removeprefix(' ')}" for text in texts]


def test_events_cut_between_any_two_bytes_over_a_socket(server, model):
    text = "Grüße, 世界 😀"
    chunk = json.dumps(delta(text, "stop"), ensure_ascii=False).encode()
    stream = b"\xef\xbb\xbfdata:" + chunk + b"\r\n\r\n: hi\r\n\r\n\n"
    server.usual = raw([stream[at : at + 1] for at in range(len(stream))])
    assert model.generate(CHAT, max_tokens=5).text == text


def test_an_answer_without_done_is_whole_if_it_says_why_it_ended(server, model):
    server.script = [events("Hello", done=False), raw(event(delta("Hello", "stop")), length=10_000)]
    assert [model.generate(CHAT, max_tokens=5).text for _ in range(2)] == ["Hello", "Hello"]
    assert len(server.requests) == 2


def test_done_without_a_reason_is_a_cut(server, model):
    server.script = [events(finish=None), events("Whole", " again")]
    assert model.generate(CHAT, max_tokens=5).text == "Whole again"
    server.script = [events("Hel", finish=None)]
    with pytest.raises(RemoteError, match=r"ended too early.*`parallel=1`") as caught:
        model.generate(CHAT, max_tokens=5)
    assert (caught.value.retryable, len(server.requests)) == (True, 3)


# Keys and hosts


HOLD_KEYS = (Secret, RemoteModel, Worker, Server)  # made for it, or at work with it


def texts_in(value):
    """All texts that can be reached from `value`: what it prints as, its fields, items, closures and tracebacks."""
    digits = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # an object that holds a long number must print too
    try:
        return list(_texts_in(value, {}))
    finally:
        sys.set_int_max_str_digits(digits)


def _texts_in(value, seen):
    if id(value) in seen or isinstance(value, (*HOLD_KEYS, types.ModuleType, type, int, float, type(None))):
        return
    seen[id(value)] = value
    if isinstance(value, (str, bytes)):
        yield value if isinstance(value, str) else value.decode("latin-1")
        return
    if isinstance(value, BaseException):
        yield "".join(traceback.TracebackException.from_exception(value, capture_locals=True).format())
    yield repr(value)
    for part in _parts_of(value):
        yield from _texts_in(part, seen)


def _parts_of(value):
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    parts = [getattr(value, name, None) for name in ("__dict__", *slots)]
    if isinstance(value, dict):
        parts += [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts += [*value]
    elif isinstance(value, types.FunctionType):
        parts += [value.__defaults__, value.__kwdefaults__, *inspect.getclosurevars(value).nonlocals.values()]
    elif isinstance(value, BaseException):
        frames = [frame for frame, _ in traceback.walk_tb(value.__traceback__)]
        own = [frame for frame in frames if frame.f_globals.get("__name__", "").partition(".")[0] == "leanrag"]
        parts += [value.args, value.__cause__, value.__context__, *(frame.f_locals for frame in own)]
    return parts


class Slotted:
    __slots__ = ("number", "text")


def test_a_key_is_found_in_any_object():
    def closure():
        return hidden

    hidden, slotted = [KEY.encode()], Slotted()
    slotted.number, slotted.text = 10**5000, {1: (frozenset({KEY}),)}
    error = RemoteError("refused")
    error.__context__ = ValueError(10**5000, [slotted])
    for value in (closure, slotted, error, dataclasses.replace(Usage(1, 2), cached_tokens=KEY), Message("user", KEY)):
        assert [text for text in texts_in(value) if KEY in text]
    slotted.text, hidden[0] = "none", b"none"
    assert not [text for value in (closure, slotted, error) for text in texts_in(value) if KEY in text]


@pytest.mark.parametrize(
    ("act", "settings"),
    [
        (error(400, f"Incorrect key {KEY}"), {}),
        (error(401, f"Incorrect API key provided: Bearer {KEY}"), {}),
        (error(503), {}),
        (raw(KEY.encode(), status=500, kind="text/plain"), {}),
        (raw(b"", status=307, headers={"Location": f"http://127.0.0.1:1/{KEY}"}), {}),
        (raw(b"x", kind=f"text/{KEY}"), {}),
        (whole({"choices": [{"message": {"content": "a"}, "finish_reason": "error", "error": {"message": KEY}}]}), {}),
        (whole({"choices": [{"message": {"content": None, "refusal": f"{KEY} is not polite"}}]}), {}),
        (raw(b"x", status=401, headers={"X-Echo": KEY, "WWW-Authenticate": f'Bearer "{KEY}"'}), {}),
        (raw(b"x", kind=f"text/{KEY.upper()}"), {}),
        (whole({"choices": [KEY]}), {}),
        (raw(event({"error": KEY})), {}),
        (raw(event(delta("a")), length=999), {}),
        (drop, {}),
        (hang(), {"first_token_seconds": 0.05}),
        (hang(event(delta("a"))), {"total_seconds": 0.1}),
        (whole(b" " * 100), {"max_body_bytes": 10}),
        (error(500), {"base_url": "http://127.0.0.1:1/v1"}),
        (error(500), {"base_url": "https"}),
    ],
)
def test_the_key_is_nowhere(server, make, act, settings, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    if settings.get("base_url") == "https":
        settings = {"base_url": f"https://127.0.0.1:{server.port}/v1"}
    server.usual = act
    model = make(api_key=KEY, headers={"X-Key": f"also-{KEY}"}, max_retries=1, **settings)
    with pytest.raises(GenerationError) as caught:
        model.generate(CHAT, max_tokens=5)
    texts = texts_in(caught.value)
    assert len(texts) > 3
    assert not [text for text in texts if KEY in text]
    assert caplog.records
    logged = "".join(f"{record.getMessage()} {record.args} {record.exc_info}" for record in caplog.records)
    assert KEY.lower() not in (logged + str(caught.value)).lower()
    assert KEY not in "".join(capfd.readouterr())
    if "base_url" not in settings:
        assert KEY in str(server.requests[0])  # it was sent


async def gather(pieces):
    return [piece async for piece in pieces]


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: list(model.stream(CHAT, GenerateOptions(5))),
        lambda model: model.generate_many([CHAT] * 3, max_tokens=5),
        lambda model: asyncio.run(model.agenerate(CHAT, max_tokens=5)),
        lambda model: asyncio.run(gather(model.astream(CHAT, max_tokens=5))),
    ],
    ids=["stream", "generate_many", "agenerate", "astream"],
)
def test_the_key_is_nowhere_however_one_asks(server, make, ask):
    server.usual = error(401, f"Incorrect API key provided: Bearer {KEY}")
    with pytest.raises(RemoteError, match=r"Bearer \*\*\*") as caught:
        ask(make(api_key=KEY))
    assert not [text for text in texts_in(caught.value) if KEY in text]
    assert KEY not in str(pickle.dumps(caught.value)) + repr(copy.copy(caught.value))


def test_no_frame_of_the_work_travels_with_its_error():
    worker = Worker(httpx.AsyncClient(), "x")

    async def work(_client, _emit):
        request = {"Authorization": KEY}
        try:
            raise ValueError(request)
        except ValueError:
            raise RemoteError("refused") from None

    with pytest.raises(RemoteError, match="refused") as caught:
        Call(worker, work, "x").result  # noqa: B018
    worker.close()
    assert caught.value.__context__ is None
    assert not [text for text in texts_in(caught.value) if KEY in text]


def test_the_key_is_in_no_line_about_attempts_and_bills(server, make, caplog):
    caplog.set_level(logging.DEBUG)
    server.script = [
        error(503, f"the queue of {KEY} is full"),
        error(429, f"{KEY} asks too often", headers={"Retry-After": "3"}),
        raw(event({"error": {"message": f"{KEY} was lost", "code": 502}})),
        error(422, f"{KEY} may not use stream_options"),
        events("Hello", usage={"prompt_tokens": KEY}),
    ]
    generation = make(api_key=KEY).generate(CHAT, max_tokens=5)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("leanrag")]
    assert [line for line in lines if "attempt 2" in line and "the queue of *** is full" in line]
    assert [line for line in lines if "attempt 4" in line and "*** was lost" in line]
    assert [line for line in lines if "an impossible usage" in line and "***" in line]
    assert KEY not in "\n".join(record.getMessage() for record in caplog.records)
    assert KEY not in repr(generation) + json.dumps(dataclasses.asdict(generation))


@pytest.mark.parametrize(
    "settings",
    [
        {"n_ctx": 0},
        {"base_url": "http://10.0.0.1/v1"},
        {"allowed_hosts": []},
        {"headers": {"Host": KEY}},
        {"extra_body": {"stream": True}},
    ],
)
def test_the_key_is_in_no_error_of_the_constructor(make, settings):
    with pytest.raises(ConfigurationError) as caught:
        make(**{"api_key": KEY, "headers": {"X-Key": KEY}} | settings)
    frames = [frame for frame, _ in traceback.walk_tb(caught.value.__traceback__)]
    inside = [dict(frame.f_locals) for frame in frames if f"leanrag{os.sep}remote" in frame.f_code.co_filename]
    assert "secrets" in inside[0]
    inside.append(vars(inside[0].pop("self")))  # half made, it cannot be shown
    assert not [text for place in inside for text in texts_in(place) if KEY in text]
    assert KEY not in str(caught.value)


def test_the_key_is_in_no_answer(server, make, tmp_path, caplog):
    caplog.set_level(logging.DEBUG, "leanrag")
    remote = make(api_key=KEY, prices=Prices(1.0, 2.0, datetime.date(2026, 1, 1)), name="large", max_retries=0)
    small = FakeModel("Bananas grow in Brazil since 1999.", name="small")
    bill = {"prompt_tokens": 90, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": KEY}}
    with leanrag.open(tmp_path, model=leanrag.Cascade([small, remote]), embedder=HashEmbedder()) as rag:
        rag.add_text("Releases are signed off by Ada Park.")
        server.script = [events("Ada Park.", usage=bill), error(401, f"no such key: {KEY}")]
        answered, refused = rag.ask_many(["Who signs off the releases?"] * 2, parallel=1)
        assert (answered.model, answered.cost) == ("large", pytest.approx(98e-6))
        assert (refused.model, refused.stopped_by) == ("small", "outage")
        assert "no such key: ***" in refused.steps[1].reason
        for answer in (answered, refused):
            assert answer.trace
            assert KEY not in str(pickle.dumps(answer)) + repr(answer)
            assert KEY not in json.dumps([dataclasses.asdict(step) for step in answer.steps])
            assert KEY not in json.dumps(dataclasses.asdict(answer.usage))
    assert KEY not in caplog.text + repr(rag)


def test_when_all_models_are_down_the_last_error_has_no_key(server, make, tmp_path):
    remotes = [make(api_key=KEY, name=name, max_retries=0) for name in ("a", "b")]
    server.usual = error(503, f"{KEY} is not served")
    with leanrag.open(tmp_path, model=leanrag.Cascade(remotes), embedder=HashEmbedder()) as rag:
        rag.add_text("Releases are signed off by Ada Park.")
        for ask in (rag.ask, lambda question: list(rag.stream(question)), lambda question: rag.ask_many([question])):
            with pytest.raises(RemoteError, match=r"b answered 503 \(\*\*\* is not served\)") as caught:
                ask("Who signs off the releases?")
            assert not [text for text in texts_in(caught.value) if KEY in text]
    assert len(server.requests) == 6


def test_the_search_finds_keys():
    request = httpx.Request("POST", "http://x", headers={"Authorization": f"Bearer {KEY}"})
    lost = httpx.ConnectError("no", request=request)
    found = RemoteError("no")
    found.__context__ = lost
    assert [text for text in texts_in(found) if KEY in text]


def test_the_key_is_in_no_representation_and_no_pickle(server, make):
    model = make(api_key=KEY, headers={"X-Key": KEY})
    assert model.generate(CHAT, max_tokens=5).text
    assert KEY not in repr(model) + str(model) + repr(vars(model))
    for act in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            act(model)
    for value in (model._connection, Secret(KEY)):
        assert KEY not in repr(value) + repr(vars(value) if hasattr(value, "__dict__") else "")
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(value)


def test_keys_from_the_environment_and_from_callables(server, make, monkeypatch):
    keys = iter(["first-key", "second-key"])
    for source in (env("SOME_KEY"), lambda: next(keys)):
        monkeypatch.setenv("SOME_KEY", " from-environment\n")
        model = make(api_key=source)
        model.generate(CHAT, max_tokens=5)
        model.generate(CHAT, max_tokens=5)
    sent = [headers["Authorization"] for _, headers, _ in server.requests]
    assert sent == ["Bearer from-environment"] * 2 + ["Bearer first-key", "Bearer second-key"]
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(ConfigurationError, match="SOME_KEY is not set or has no usable key"):
        make(api_key=env("SOME_KEY")).generate(CHAT, max_tokens=5)
    assert repr(env("SOME_KEY")) == "env('SOME_KEY')"


@pytest.mark.parametrize("key", ["", "a b\n", "with\r\nX-Other: header", "schlüssel", 7])
def test_keys_that_cannot_be_sent(server, make, key):
    def fail():
        raise ValueError(KEY)

    with pytest.raises(ConfigurationError, match="ASCII") as caught:
        make(api_key=lambda: key).generate(CHAT, max_tokens=5)
    assert repr(key) not in str(caught.value) or key == 7
    if isinstance(key, str):
        with pytest.raises(ConfigurationError, match="ASCII"):
            make(api_key=key)
        with pytest.raises(ConfigurationError, match="ASCII"):
            make(headers={"X-Key": key})
    with pytest.raises(ConfigurationError, match="raised ValueError") as caught:
        make(api_key=fail).generate(CHAT, max_tokens=5)
    assert not [text for text in texts_in(caught.value) if KEY in text]
    assert server.requests == []


def test_hosts():
    def make(url, **settings):
        return RemoteModel("m", base_url=url, n_ctx=10, **grouped(**settings))

    make("https://api.example.com/v1", api_key=KEY, allowed_hosts=["API.example.com"])
    make("http://localhost:1/v1", api_key=KEY)
    make("http://[::1]:1/v1", api_key=KEY)
    make("http://10.0.0.1/v1")
    make("http://10.0.0.1/v1", api_key=KEY, allow_insecure=True)
    for settings in ({"api_key": KEY}, {"api_key": env("X")}, {"headers": {"X-Key": KEY}}):
        with pytest.raises(ConfigurationError, match="unencrypted"):
            make("http://10.0.0.1/v1", **settings)
    for allowed in ([], ["example.com"], ["api.example.com.evil.org"], "example.com"):
        with pytest.raises(ConfigurationError, match="allowed_hosts"):
            make("https://api.example.com/v1", allowed_hosts=allowed)
    for url in ("", "api.example.com", "ftp://x/v1", "http://", "http://x:port/"):
        with pytest.raises(ConfigurationError, match="base_url"):
            make(url)
    for url in (
        f"https://user:{KEY}@x/v1",
        f"https://user:{KEY}@x:port/v1",
        f"https://x/v1?key={KEY}",
        f"https://x/v1#{KEY}",
    ):
        with pytest.raises(ConfigurationError, match="not have a user") as caught:
            make(url)
        assert KEY not in str(caught.value)


def test_redaction(server, make):
    model = make(redact=lambda text: text.replace("Alice", "[NAME]"))
    model.generate([Message("user", "Alice asks")], max_tokens=5)
    model.generate("Alice wrote", max_tokens=5)
    assert "Alice" not in str(server.requests)
    assert server.bodies[0]["messages"][0]["content"] == "[NAME] asks"
    assert model.render("Alice wrote") == "[NAME] wrote"
    with pytest.raises(ConfigurationError, match="redact"):
        make(redact=lambda text: None).generate(CHAT, max_tokens=5)


# Arguments


@pytest.mark.parametrize(
    "settings",
    [
        {"n_ctx": 0},
        {"parallel": 0},
        {"max_retries": -1},
        {"connect_seconds": 0},
        {"first_token_seconds": -1},
        {"total_seconds": float("nan")},
        {"breaker_failures": 0},
        {"count_tolerance": float("inf")},
        {"headers": {"Host": "x"}},
        {"headers": {"a b": "x"}},
        {"extra_body": {"messages": []}},
        {"extra_body": {"x": object()}},
        {"extra_body": {"x": float("nan")}},
    ],
)
def test_settings_that_cannot_work(make, settings):
    with pytest.raises(ConfigurationError, match=next(iter(settings)) + "|`headers` cannot have the field"):
        make(**settings)


@pytest.mark.parametrize(
    ("prompt", "options"),
    [
        (CHAT, {"max_tokens": 0}),
        (CHAT, {"max_tokens": 5, "temperature": -1}),
        (CHAT, {"max_tokens": 5, "stop": "x"}),
        (CHAT, {"max_tokens": 5, "stop": [""]}),
        (CHAT, {"max_tokens": 5, "timeout_seconds": 0}),
        ([], {"max_tokens": 5}),
        (["x"], {"max_tokens": 5}),
        ("", {"max_tokens": 5}),
    ],
)
def test_requests_that_cannot_work(server, model, prompt, options):
    with pytest.raises(ConfigurationError):
        model.generate(prompt, **options)
    assert server.requests == []


def test_a_model_that_completes_text_reads_no_messages(make):
    with pytest.raises(ConfigurationError, match="is_chat"):
        make(is_chat=False).count(CHAT)


def test_extra_fields_are_sent(server, make):
    make(extra_body={"chat_template_kwargs": {"enable_thinking": False}}).generate(CHAT, max_tokens=5)
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}


def test_the_usual_count_is_an_encoding_of_tiktoken():
    model = RemoteModel("m", base_url="http://localhost/v1", n_ctx=100)
    try:
        assert model.count_tokens("hello world <|endoftext|>") > 2
    except GenerationError as error:
        pytest.skip(str(error))
    assert model.count_tokens("hello world") == 2
    assert model.count([Message("user", "hello world")]) == 2 + 4 + 3


# llama-cpp-python


def check_llama_cpp_python(model):
    for prompt in (CHAT, "Once upon"):
        generation = model.generate(prompt, max_tokens=8)
        assert generation.finish_reason == "length"
        assert generation.text.isascii()
        assert 0 < len(generation.text) <= 8  # the model has a token for each byte
        assert generation == dataclasses.replace(
            model.generate(prompt, max_tokens=8),
            prefill_seconds=generation.prefill_seconds,
            decode_seconds=generation.decode_seconds,
        )
        if generation.logprobs is not None:
            assert len(generation.logprobs) == len(generation.text)
            assert all(logprob <= 0 for logprob in generation.logprobs)
    assert "".join(model.stream(CHAT, GenerateOptions(8))) == model.generate(CHAT, max_tokens=8).text
    with pytest.raises((ContextOverflowError, RemoteError)):
        model.generate("x" * 300, max_tokens=8)


def test_answers_of_llama_cpp_python(server, make, tiny_gguf):
    """Its server sends what these functions return; that server needs packages that are mostly not here."""
    import llama_cpp

    llama = llama_cpp.Llama(str(tiny_gguf), n_ctx=256, n_threads=1, logits_all=True, verbose=False)

    def act(handler, server):
        path, _, body = server.requests[-1]
        create = llama.create_chat_completion if path.endswith("/chat/completions") else llama.create_completion
        body = {name: value for name, value in body.items() if name not in ("model", "stream_options")}
        try:
            chunks = create(**body)
        except ValueError as problem:
            error(400, str(problem), type="invalid_request_error")(handler, server)
        else:
            raw([*(event(chunk) for chunk in chunks), event("[DONE]")])(handler, server)

    server.usual = act
    try:
        check_llama_cpp_python(make(n_ctx=400, parallel=1))
    finally:
        llama.close()


@pytest.fixture
def serve(tmp_path):
    """Starts llama-cpp-python's server for a file, on a free port, and ends it with the test."""
    needed = ("fastapi", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings")
    if missing := [package for package in needed if importlib.util.find_spec(package) is None]:
        pytest.skip(f"llama_cpp.server needs {', '.join(missing)}; pip install 'llama-cpp-python[server]'")
    processes, probes = [], contextlib.ExitStack()

    def serve(path, n_ctx, **settings):
        probe = probes.enter_context(socket.socket())
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as the server does, which then may use the port too
        probe.bind(("127.0.0.1", 0))  # until the end, so that nobody else gets the port before the server has it
        port = probe.getsockname()[1]
        options = {"model": path, "host": "127.0.0.1", "port": port, "n_ctx": n_ctx, "n_threads": 1} | settings
        command = [sys.executable, "-m", "llama_cpp.server"]
        command += [part for name, value in options.items() for part in (f"--{name}", str(value))]
        with (tmp_path / "log").open("wb") as log:
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))
        url = f"http://127.0.0.1:{port}/v1"
        settings = {"base_url": url, "count_tokens": len}
        settings |= {"timeouts": Timeouts(total_seconds=120), "retry": Retry(max_retries=99, breaker_failures=99)}
        try:  # until it has started
            if "embedding" in options:
                with contextlib.closing(RemoteEmbedder("probe", **settings)) as embedder:
                    assert embedder.dim
            else:
                with RemoteModel("probe", n_ctx=n_ctx, **settings) as model:
                    assert model.generate("a", max_tokens=1).text
        except GenerationError as problem:
            pytest.fail(f"{problem}\n{(tmp_path / 'log').read_text('utf-8', 'replace')[-2000:]}")
        return url

    with probes:
        yield serve
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_server_of_llama_cpp_python(serve, tiny_gguf):
    url = serve(tiny_gguf, 256, logits_all="true")
    with RemoteModel("tiny", base_url=url, n_ctx=400, count_tokens=len, retry=Retry(max_retries=0)) as model:
        check_llama_cpp_python(model)


@pytest.mark.slow
@pytest.mark.model
def test_a_cascade_goes_on_to_the_server_of_llama_cpp_python(serve, smollm, tmp_path):
    small = FakeModel("Bananas grow in Brazil since 1999.", name="small")
    url = serve(smollm.path, 1024)
    with (
        RemoteModel("large", base_url=url, n_ctx=1024, count_tokens=smollm.count_tokens, parallel=1) as large,
        leanrag.open(tmp_path / "kb", model=leanrag.Cascade([small, large]), embedder=HashEmbedder()) as rag,
    ):
        rag.add_text("Releases are signed off by Ada Park. She works in Oslo.", id="park")
        answers = rag.ask_many(["Who signs off the releases?", "Where does Ada Park work?"], max_tokens=12)
        for answer in [*answers, asyncio.run(rag.aask("Who signs off the releases?", max_tokens=12))]:
            assert [(step.model, step.outcome) for step in answer.steps] == [("small", "escalated"), ("large", "kept")]
            usage = answer.generation.usage
            assert usage.prompt_mismatch is None
            assert 0 < smollm.count_tokens(answer.generation.text) <= 13
        stream = rag.stream("Who signs off the releases?", max_tokens=12)
        assert "".join(stream) == stream.answer.generation.text == answers[0].generation.text
        assert "signed off by Ada Park" in answers[0].prompt


@pytest.mark.slow
@pytest.mark.model
def test_the_server_of_llama_cpp_python_embeds(serve):
    path = find_embedder("all-minilm-l6-v2")
    texts = ["Ada Park signs.", "The cat sat on the mat."]
    url = serve(path, 256, embedding="true")
    with contextlib.closing(RemoteEmbedder("minilm", base_url=url, dim=384)) as embedder:
        rows = embedder.embed_documents(texts)
    with contextlib.closing(leanrag.LlamaCppEmbedder(path)) as local:
        assert (rows * local.embed_documents(texts)).sum(axis=1) == pytest.approx([1, 1], abs=1e-4)


# Processes


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings(
    "ignore:This process:DeprecationWarning"
)  # that forking with threads is unwise is the point
def test_a_forked_child_gets_an_error_and_the_parent_goes_on(server, model):
    model.generate(CHAT, max_tokens=5)
    child = os.fork()
    if child == 0:
        try:
            model.generate(CHAT, max_tokens=5)
        except GenerationError as problem:
            model.close()
            os._exit(42 if "is a fork of it" in str(problem) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert model.generate(CHAT, max_tokens=5).text == "Hello world"
