"""Start llama-server of llama.cpp, and ask it with `RemoteModel`, `RemoteEmbedder` and `RemoteReranker`.

The environment variable LEANRAG_LLAMA_SERVER names the program; otherwise it is `llama-server` on the PATH.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from leanrag import LlamaCppEmbedder, LlamaCppModel, Message
from leanrag.errors import ContextOverflowError, RemoteError
from leanrag.models import resolve
from leanrag.pipeline.copies import find_embedder
from leanrag.protocols import GenerateOptions
from leanrag.remote import RemoteEmbedder, RemoteModel, RemoteReranker, RemoteUsage
from leanrag.types import Chunk, Hit

__all__ = ["CHECKS", "VARIABLE", "Started", "ask_llama_server", "find_llama_server", "start_llama_server"]

VARIABLE = "LEANRAG_LLAMA_SERVER"
KEY = "sk-of-the-server"
N_CTX = 512
CHAT = (Message("user", "Who signs off the releases? Answer in one sentence."),)
TEXT = "The capital of France is"
QUESTION = "Who signs off the releases?"
TEXTS = ("Releases are signed off by Ada Park.", "The cat sat on the mat.", "Übung macht den Meister.")

_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Started:
    """A running server: its URL and the file of its model."""

    url: str
    model: Path


Check = Callable[[Started], bool]


def find_llama_server() -> str | None:
    """Return the program; None if it is not here."""
    return os.environ.get(VARIABLE) or shutil.which("llama-server")


@contextlib.contextmanager
def start_llama_server(program: str, model: Path, *options: str) -> Iterator[Started]:
    """Start the program on a free port, wait until it answers, and end it afterwards.

    Raises:
        RuntimeError: The program ended, or did not answer within a minute; the message has the end of its log.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [program, "--model", str(model), "--host", "127.0.0.1", "--port", str(port), "--threads", "1"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, "--api-key", KEY, *options], stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            if not _answers(process, f"{url}/health"):
                log.seek(0)
                raise RuntimeError(f"{program!r} did not start: {log.read().decode('utf-8', 'replace')[-2000:]}")
            yield Started(f"{url}/v1", model)
        finally:
            process.kill()
            process.wait()


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """Ask until the server is ready; return False if it has ended or takes too long."""
    for _ in range(int(_START_SECONDS * 10)):
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url).status_code == httpx.codes.OK:
                return True
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
            return False
    return False


# Checks of a language model


def _remote(server: Started, n_ctx: int = N_CTX, key: str = KEY) -> RemoteModel:
    return RemoteModel("m", base_url=server.url, n_ctx=n_ctx, api_key=key)


def _answers_a_chat(server: Started) -> bool:
    with _remote(server) as model:
        found = model.generate(CHAT, max_tokens=8)
    is_billed = isinstance(found.usage, RemoteUsage) and found.usage.is_billed
    return bool(found.text) and (found.finish_reason, found.usage.completion_tokens, is_billed) == ("length", 8, True)


def _streams_the_same(server: Started) -> bool:
    with _remote(server) as model:
        pieces = list(model.stream(CHAT, GenerateOptions(12)))
        return len(pieces) > 1 and "".join(pieces) == model.generate(CHAT, max_tokens=12).text


def _completes_as_the_file_does(server: Started) -> bool:
    """Whether the text and the number of prompt tokens are those of the same file in this process."""
    with _remote(server) as model, LlamaCppModel(server.model, n_ctx=N_CTX, threads=1) as local:
        text, chat = model.generate(TEXT, max_tokens=8), model.generate(CHAT, max_tokens=1)
        counts = [local.count(TEXT), local.count(CHAT)]
        return text.text == local.generate(TEXT, max_tokens=8).text and counts == [
            text.usage.prompt_tokens,
            chat.usage.prompt_tokens,
        ]


def _stops(server: Started) -> bool:
    with _remote(server) as model:
        whole = model.generate(TEXT, max_tokens=24).text
        stop = whole[len(whole) // 2 :][:4]
        found = model.generate(TEXT, max_tokens=24, stop=[stop])
    return found.text == whole[: whole.index(stop)] and found.finish_reason == "stop"


def _returns_logprobs(server: Started) -> bool:
    with _remote(server) as model:
        found = model.generate(TEXT, max_tokens=6)
    logprobs = found.logprobs or ()
    return len(logprobs) == 6 and all(value <= 0 for value in logprobs)


def _draws_by_the_seed(server: Started) -> bool:
    with _remote(server) as model:
        texts = [model.generate(TEXT, max_tokens=12, temperature=1.5, seed=seed).text for seed in (1, 1, 2, 3)]
    return texts[0] == texts[1] and len(set(texts)) > 1


def _answers_several(server: Started) -> bool:
    prompts = [f"{TEXT} {word}" for word in ("not", "in", "a", "the")]
    with _remote(server) as model:
        together = model.generate_many(prompts, max_tokens=4)
        return [found.usage.completion_tokens for found in together] == [4] * 4 and all(
            found.text for found in together
        )


def _goes_on_after_a_stream_that_is_left(server: Started) -> bool:
    with _remote(server) as model:
        for _ in model.stream(CHAT, GenerateOptions(64)):
            break
        return bool(model.generate(CHAT, max_tokens=2).text)


def _refuses_what_is_too_long(server: Started) -> bool:
    with _remote(server, n_ctx=100_000) as model:
        try:
            model.generate("word " * 2 * N_CTX, max_tokens=4)
        except ContextOverflowError:
            return True
    return False


def _refuses_a_wrong_key(server: Started) -> bool:
    with _remote(server, key="sk-another") as model:
        try:
            model.generate(CHAT, max_tokens=1)
        except RemoteError as error:
            return error.status == 401 and not error.retryable and "sk-another" not in str(error)
    return False


# Checks of an embedder and of a reranker


def _embeds_as_the_file_does(server: Started) -> bool:
    with (
        contextlib.closing(RemoteEmbedder("m", base_url=server.url, api_key=KEY, batch_size=2)) as embedder,
        contextlib.closing(LlamaCppEmbedder(server.model, threads=1)) as local,
    ):
        rows, expected = embedder.embed_documents(TEXTS), local.embed_documents(TEXTS)
        is_equal = bool(((rows * expected).sum(axis=1) > 0.999).all())
        return is_equal and embedder.dim == local.dim and embedder.usage is not None


def _embeds_many(server: Started) -> bool:
    texts = [f"Text number {i} is about {'cats' if i % 2 else 'ships'}." for i in range(70)]
    with contextlib.closing(RemoteEmbedder("m", base_url=server.url, api_key=KEY)) as embedder:
        rows = embedder.embed_documents(texts)
    with contextlib.closing(RemoteEmbedder("m", base_url=server.url, api_key=KEY, batch_size=1)) as embedder:
        return bool(np.allclose(rows[-3:], embedder.embed_documents(texts[-3:]), atol=1e-2))


def _refuses_a_long_text(server: Started) -> bool:
    with contextlib.closing(RemoteEmbedder("m", base_url=server.url, api_key=KEY, max_tokens=9999)) as embedder:
        try:
            embedder.embed_documents(["word " * 2000])
        except RemoteError as error:
            return not error.retryable
    return False


class _Recording(httpx.AsyncBaseTransport):
    """Sends requests, and keeps the JSON of the responses."""

    def __init__(self) -> None:
        self.replies: list[Any] = []
        self._network = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response after its last byte has arrived."""
        response = await self._network.handle_async_request(request)
        body = await response.aread()
        self.replies.append(json.loads(body))
        return httpx.Response(response.status_code, headers=response.headers, stream=httpx.ByteStream(body))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._network.aclose()


def _reranks_as_the_server_says(server: Started) -> bool:
    """Whether the hits have the scores of the server, best first. The scores mean nothing: the model is an embedder."""
    hits = [Hit(Chunk(str(i), 0, len(text), text), 1.0) for i, text in enumerate(TEXTS)]
    recording = _Recording()
    with contextlib.closing(RemoteReranker("m", base_url=server.url, api_key=KEY, transport=recording)) as reranker:
        found = [(hit.score, hit.chunk.text) for hit in reranker.rerank(QUESTION, hits)]
        (reply,) = recording.replies
        expected = [(item["relevance_score"], TEXTS[item["index"]]) for item in reply["results"]]
        is_counted = reranker.usage is not None and reranker.usage.prompt_tokens == reply["usage"]["prompt_tokens"]
        return found == sorted(expected, reverse=True) and len(found) == len(TEXTS) and is_counted


CHECKS: Mapping[str, tuple[Check, ...]] = {
    "model": (
        _answers_a_chat,
        _streams_the_same,
        _completes_as_the_file_does,
        _stops,
        _returns_logprobs,
        _draws_by_the_seed,
        _answers_several,
        _goes_on_after_a_stream_that_is_left,
        _refuses_what_is_too_long,
        _refuses_a_wrong_key,
    ),
    "embedder": (_embeds_as_the_file_does, _embeds_many, _refuses_a_long_text),
    "reranker": (_reranks_as_the_server_says,),
}
"""What is checked, by the kind of model that the server runs."""

_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "model": ("--ctx-size", str(4 * N_CTX), "--parallel", "4"),
    "embedder": ("--embeddings",),
    "reranker": ("--reranking",),
}


@contextlib.contextmanager
def ask_llama_server(program: str, kind: str) -> Iterator[Started]:
    """Start the server with a small model of a kind of `CHECKS`."""
    path = resolve("smollm2-135m") if kind == "model" else find_embedder("all-minilm-l6-v2")
    with start_llama_server(program, Path(path), *_OPTIONS[kind]) as server:
        yield server
