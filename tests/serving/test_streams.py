"""Streams: clients that leave, do not read or come all at once; full queues, failures and the end of the server."""

import asyncio
import json
import socket
import threading

import httpx
import openai
import pytest

from leanrag.errors import GenerationError, QueueFullError
from leanrag.generation import BaseLanguageModel, PieceStream
from leanrag.serving.app import create_app
from leanrag.serving.workers import Workers
from leanrag.testing import FakeModel
from tests.serving.live import Live, events_of

CHAT = "/v1/chat/completions"
WAIT = 30.0


def body(model, *, stream=True, text="Go on."):
    return {"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]}


def words_of(events):
    return "".join(event["choices"][0]["delta"].get("content", "") for event in events if event.get("choices"))


def is_alive(server):
    return server.http.get("/health").json()["status"] == "ok"


def send(server, request, *, receive_bytes=None):
    """Send a request over a socket that the test reads, or does not."""
    connection = socket.socket()
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(WAIT)
    connection.connect(("127.0.0.1", server.port))
    data = json.dumps(request).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


def test_a_client_that_drops_after_the_first_word_stops_the_model(paused):
    with Live(create_app(models=[paused])) as server:
        with server.http.stream("POST", CHAT, json=body("paused")) as response:
            lines = response.iter_lines()
            assert any('"content": "One"' in line for line in lines)
        assert paused.replies[0].is_stopped.wait(WAIT)
        assert is_alive(server)


def test_a_client_that_leaves_before_a_whole_answer_stops_the_model(paused):
    with Live(create_app(models=[paused])) as server:
        with send(server, body("paused", stream=False)):
            assert paused.replies_begun.wait(WAIT)
            assert paused.replies[0].has_begun.wait(WAIT)
        assert paused.replies[0].is_stopped.wait(WAIT)
        assert is_alive(server)


class Flood(BaseLanguageModel):
    """Writes far more than the buffers of a connection hold."""

    name = "flood"
    n_ctx = 10**9

    def __init__(self):
        self.is_stopped = threading.Event()

    def count_tokens(self, text):
        return 1

    def stream(self, prompt, options):
        return PieceStream(self.pieces(options.cancel), self, prompt, options)

    def pieces(self, cancel):
        cancel.on_cancel(self.is_stopped.set)
        for _ in range(900):
            yield "word " * 10_000


@pytest.mark.slow
def test_a_client_that_never_reads_is_left():
    model = Flood()
    with (
        Live(create_app(models=[model], write_seconds=0.2), grace_seconds=1) as server,
        send(server, body("flood"), receive_bytes=4096),
    ):
        assert model.is_stopped.wait(WAIT)
        assert is_alive(server)


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_server_says_when_to_come_again(paused, stream):
    with Live(create_app(models=[paused], workers=Workers(parallel=1, queue=0))) as server:
        with server.http.stream("POST", CHAT, json=body("paused")) as first:
            lines = first.iter_lines()
            assert any('"content": "One"' in line for line in lines)
            refused = httpx.post(server.url + CHAT, json=body("paused", stream=stream), trust_env=False)
            assert refused.status_code == 429
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["code"] == "queue_full"
            paused.replies[0].go_on.set()
            assert any('" four."' in line for line in lines)
        metrics = server.http.get("/metrics").text
        assert "leanrag_refused_total 1\n" in metrics


class Failing(BaseLanguageModel):
    """Fails at once, or after a word."""

    def __init__(self, name, error, *, after=0):
        self.name, self._error, self._after = name, error, after

    def stream(self, prompt, options):
        if not self._after:
            raise self._error
        return PieceStream(self.pieces(), self, prompt, options)

    def pieces(self):
        yield "One "
        raise self._error


@pytest.mark.parametrize("stream", [False, True])
def test_a_full_queue_of_the_engine_is_a_429(stream):
    with Live(create_app(models=[Failing("full", QueueFullError("64 requests already wait"))])) as server:
        response = server.http.post(CHAT, json=body("full", stream=stream))
        assert response.status_code == 429
        assert "retry-after" in response.headers


@pytest.mark.parametrize(
    ("error", "code"), [(GenerationError("the model broke"), "server_error"), (RuntimeError("secret"), "server_error")]
)
@pytest.mark.slow
def test_an_error_after_the_first_word_is_the_last_event(error, code):
    with Live(create_app(models=[Failing("breaks", error, after=1)])) as server:
        response = server.http.post(CHAT, json=body("breaks"))
        *words, last = events_of(response.text)
        assert words_of(words) == "One "
        assert last["error"]["code"] == code
        assert response.text.endswith("data: [DONE]\n\n")
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="unused", max_retries=0) as client:
            chunks = client.chat.completions.create(**body("breaks"))
            with pytest.raises(openai.APIError):
                list(chunks)
        assert is_alive(server)


def test_an_unknown_error_says_nothing_about_its_cause():
    with Live(create_app(models=[Failing("breaks", KeyError("secret"))])) as server:
        response = server.http.post(CHAT, json=body("breaks", stream=False))
        assert response.status_code == 500
        assert "secret" not in response.text
        assert is_alive(server)


def test_thoughts_are_streamed_apart():
    model = FakeModel("<think>Who? Ada.</think>Ada signs.", name="thinker")
    with Live(create_app(models=[model])) as server:
        events = events_of(server.http.post(CHAT, json=body("thinker")).text)
        assert words_of(events) == "Ada signs."
        deltas = [event["choices"][0]["delta"] for event in events]
        assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "Who? Ada."
        whole = server.http.post(CHAT, json=body("thinker", stream=False)).json()
        assert whole["choices"][0]["message"]["reasoning_content"] == "Who? Ada."
        assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0


def test_a_server_that_is_told_to_stop_finishes_its_streams(paused):
    with Live(create_app(models=[paused])) as server:
        with server.http.stream("POST", CHAT, json=body("paused")) as response:
            lines = response.iter_lines()
            assert any('"content": "One"' in line for line in lines)
            server.stop()
            paused.replies[0].go_on.set()
            rest = list(lines)
        assert any('" four."' in line for line in rest)
        assert rest[-2:] == ["data: [DONE]", ""]
        server.join()
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url + "/health", trust_env=False)


@pytest.mark.slow
def test_a_stream_that_does_not_end_is_stopped_after_the_time_to_finish(paused):
    with Live(create_app(models=[paused]), grace_seconds=1) as server:
        with server.http.stream("POST", CHAT, json=body("paused")) as response:
            lines = response.iter_lines()
            assert any('"content": "One"' in line for line in lines)
            server.stop()
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        assert paused.replies[0].is_stopped.wait(WAIT)


@pytest.mark.slow
def test_sixty_four_clients_at_once_each_get_their_own_words():
    model = FakeModel(lambda prompt: prompt, name="echo")
    texts = [f"Client {i} says {i * 7919} and {'word ' * (i % 7)}goodbye." for i in range(64)]

    async def ask(client, i):
        request = {"model": "echo", "prompt": texts[i], "max_tokens": 200, "stream": i % 2 == 0}
        response = await client.post("/v1/completions", json=request)
        if not request["stream"]:
            return response.json()["choices"][0]["text"]
        events = events_of(response.text)
        assert len({event["id"] for event in events}) == 1
        return "".join(event["choices"][0]["text"] for event in events)

    async def ask_all(url):
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, limits=limits, timeout=WAIT, trust_env=False) as client:
            return await asyncio.gather(*(ask(client, i) for i in range(64)))

    with Live(create_app(models=[model])) as server:
        assert asyncio.run(ask_all(server.url)) == texts
