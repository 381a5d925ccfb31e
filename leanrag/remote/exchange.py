"""Send a prompt and read its answer, with retries. All code of this module runs in the event loop of a worker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import httpx

from leanrag.errors import ConfigurationError, ContextOverflowError, GenerationError, GenerationTimeout, RemoteError
from leanrag.pending import StopMatcher
from leanrag.remote.keys import Credentials, Secret
from leanrag.remote.protocol import (
    FINISH_REASONS,
    Choice,
    EventDecoder,
    parse_chunk,
    parse_object,
    parse_overflow,
    parse_reason,
    parse_scores,
)
from leanrag.remote.waiting import Breaker, Clock, Limit, retry_after_seconds
from leanrag.types import FinishReason

__all__ = ["OWN_FIELDS", "Endpoint", "Exchange", "Query", "Reply"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

# The statuses that the client of OpenAI tries again, and 529, which gateways send when they are overloaded.
_RETRYABLE = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.5, 20.0
_MAX_ERROR_BYTES = 1 << 16
_MAX_ERROR_CHARS = 300

_OPTIONAL_FIELDS = frozenset({"logprobs", "stream_options"})  # a server may refuse them and still answer
OWN_FIELDS = _OPTIONAL_FIELDS | frozenset(
    "max_completion_tokens max_tokens messages model n prompt seed stop stream temperature top_logprobs".split()
)
"""Fields of the body that a request sets."""

_TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)
_PASSING_ERRORS = (httpx.NetworkError, httpx.TimeoutException, httpx.RemoteProtocolError, httpx.ProxyError, OSError)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The server, and how requests are sent; `leanrag.remote.RemoteModel` describes the fields."""

    model: str
    name: str
    base_url: str
    n_ctx: int
    api_key: Secret | Callable[[], str] | None
    headers: Mapping[str, Secret]
    extra_body: Mapping[str, object]
    first_token_seconds: float
    max_retries: int
    parallel: int
    logprobs: bool
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class Query:
    """A checked prompt and its options.

    Attributes:
        fields: Fields of the body.
        counted: Tokens of the prompt, counted here.
        max_tokens: Most tokens to generate.
        stop: Strings that end the text.
        seed: Value of `Generation.seed`.
        seconds: Time limit for all attempts.
    """

    fields: Mapping[str, object]
    counted: int
    max_tokens: int
    stop: tuple[str, ...]
    seed: int | None
    seconds: float

    @property
    def is_chat(self) -> bool:
        """Whether the prompt consists of messages."""
        return "messages" in self.fields


class Reply:
    """What has arrived in an attempt."""

    def __init__(self, match_stop: StopMatcher, emit: Callable[[str], None], monotonic: Callable[[], float]) -> None:
        self.match_stop = match_stop
        self.pieces: list[str] = []
        self.thoughts: list[str] = []  # reasoning that the server sends apart from the text
        self.secrets: Sequence[Secret] = ()
        self.sent: frozenset[str] = frozenset()
        self.usage: object = None
        self.finish_reason: FinishReason | None = None
        self.retry_after: float | None = None
        self.first_limit: Limit | None = None
        self.has_content = False  # some text, perhaps empty
        self.has_text = False
        self._scores: list[tuple[float, float | None]] | None = []
        self._emit, self._monotonic = emit, monotonic
        self._started = self._first = self._last = monotonic()

    @property
    def text(self) -> str:
        """The text that has arrived."""
        return "".join(self.pieces)

    @property
    def is_complete(self) -> bool:
        """Whether the whole answer has arrived."""
        return self.finish_reason is not None and self.has_content

    def add(self, choice: Choice) -> None:
        """Add a piece of the answer."""
        text = choice.content
        self.thoughts.append(choice.thoughts)
        if (text or choice.is_thinking) and self.first_limit is not None:
            self.first_limit.lift()
        scores = parse_scores(choice.logprobs)
        if scores and self._scores is not None:
            self._scores += scores
        if text is None:
            return
        self.has_content = True
        if not text:
            return
        if not scores:
            self._scores = None
        self._last = self._monotonic()
        if not self.has_text:
            self.has_text, self._first = True, self._last
        self._pass(self.match_stop(text))

    def end(self) -> None:
        """Pass on the text that was kept back because it could begin a stop string."""
        if self.match_stop.reason is None:
            self._pass(self.match_stop("", final=True))

    def _pass(self, text: str) -> None:
        if text:
            self.pieces.append(text)
            self._emit(text)

    @property
    def logprobs(self) -> tuple[float, ...] | None:
        """Log-probability of each token; None if a value is unknown."""
        return tuple(logprob for logprob, _ in self._scores) if self._scores else None

    @property
    def margins(self) -> tuple[float, ...] | None:
        """Margin of each token; None if a value is unknown."""
        margins = tuple(margin for _, margin in self._scores or () if margin is not None)
        return margins if self._scores and len(margins) == len(self._scores) else None

    @property
    def prefill_seconds(self) -> float:
        """Seconds from sending to the first text."""
        return self._first - self._started

    @property
    def decode_seconds(self) -> float:
        """Seconds from the first text to the last."""
        return self._last - self._first

    def scrub(self, text: str) -> str:
        """Return `text` as a short line without control characters and secrets."""
        for secret in self.secrets:
            text = secret.hide_in(text)
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return text if len(text) <= _MAX_ERROR_CHARS else text[:_MAX_ERROR_CHARS] + "..."


class Exchange:
    """Sends requests to a server, and remembers between requests what the server refuses and how often it failed.

    Args:
        endpoint: The server, and how requests are sent.
        breaker: Counts the failures in a row.
        clock: Time and random numbers.
    """

    def __init__(self, endpoint: Endpoint, breaker: Breaker, clock: Clock) -> None:
        self._endpoint, self._breaker, self._clock = endpoint, breaker, clock
        self._name = endpoint.name
        self._optional = set(_OPTIONAL_FIELDS if endpoint.logprobs else _OPTIONAL_FIELDS - {"logprobs"})
        self._limit_field = "max_tokens"
        self._slots = asyncio.Semaphore(endpoint.parallel)

    async def complete(self, connections: httpx.AsyncClient, request: Query, emit: Callable[[str], None]) -> Reply:
        """Return the answer to `request`; `emit` gets each piece of text when it arrives.

        Raises:
            ContextOverflowError: The server says that the window is too small.
            GenerationTimeout: There was no text within `first_token_seconds`, or no end within `request.seconds`.
            RemoteError: The server cannot be reached, refused the request, or did not keep to the API.
            ConfigurationError: The key is missing or invalid.
        """
        limit = Limit(request.seconds)
        late = f"{self._name} did not answer within {request.seconds:g} seconds"
        return await self._within(limit, self._attempts(connections, request, emit), late)

    async def _within(self, limit: Limit, work: Awaitable[T], late: str) -> T:
        try:
            with limit:
                return await work
        except asyncio.CancelledError:
            if not limit.is_over:
                raise
        raise GenerationTimeout(
            late, model=self._name
        )  # outside `except`, because the interrupted code may refer to the key

    async def _attempts(self, connections: httpx.AsyncClient, request: Query, emit: Callable[[str], None]) -> Reply:
        deadline = self._clock.monotonic() + request.seconds
        retries = 0
        while True:
            if (seconds := self._breaker.seconds_to_wait()) > 0:
                raise RemoteError(
                    f"{self._name} failed {self._breaker.failures} times in a row; the next request can be sent in {seconds:.0f} "
                    "seconds. Use another model until then",
                    model=self._name,
                    retryable=True,
                )
            reply = Reply(StopMatcher(request.stop), emit, self._clock.monotonic)
            failure = await self._attempt(connections, request, reply)
            if failure is None:
                reply.end()
                return reply
            if self._adapts(failure, reply.sent):
                continue
            backoff = min(_MAX_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2**retries)
            asked = reply.retry_after or 0.0
            delay = asked + self._clock.random() * backoff
            if (
                not (isinstance(failure, RemoteError) and failure.retryable)
                or reply.has_text
                or retries >= self._endpoint.max_retries
                or self._clock.monotonic() + delay >= deadline
                or asked
                > self._endpoint.first_token_seconds  # the caller does not want to wait so long for the first text
                or self._breaker.is_open
            ):
                raise failure
            retries += 1
            logger.info("%s: attempt %d in %.1f seconds: %s", self._name, retries + 1, delay, failure)
            await self._clock.sleep(delay)

    async def _attempt(self, connections: httpx.AsyncClient, request: Query, reply: Reply) -> GenerationError | None:
        """Send the request once. Return the error, or None."""
        is_up: bool | None = None
        try:
            async with self._slots:
                late = f"{self._name} sent no text within {self._endpoint.first_token_seconds:g} seconds"
                reply.first_limit = Limit(self._endpoint.first_token_seconds)
                await self._within(reply.first_limit, self._send(connections, request, reply), late)
            is_up = True
        except GenerationError as error:
            is_lost = isinstance(error, RemoteError) and error.retryable and error.status != 429
            is_up = not (is_lost or isinstance(error, GenerationTimeout))
            return error.with_traceback(None)  # traceback frames refer to the request, and the request to the key
        finally:
            self._breaker.record(is_up)
        return None

    async def _send(self, connections: httpx.AsyncClient, request: Query, reply: Reply) -> None:
        key = await self._key()
        reply.secrets = [*self._endpoint.headers.values(), *([key] if key else [])]
        body = self._body(request)
        reply.sent = frozenset(body)
        lost: RemoteError | None = None
        try:
            async with connections.stream(
                "POST",
                f"{self._endpoint.base_url}/{'chat/completions' if request.is_chat else 'completions'}",
                content=json.dumps(body).encode(),
                headers={"Content-Type": "application/json", "Accept": "text/event-stream, application/json"},
                auth=Credentials(key, self._endpoint.headers),
            ) as response:
                await self._read(response, reply)
        except _TRANSPORT_ERRORS as error:
            if not reply.is_complete:
                lost = self._lost(error, reply)
        if lost is not None:
            raise lost  # outside `except`, because exceptions of httpx refer to the request, and the request to the key

    async def _key(self) -> Secret | None:
        if self._endpoint.api_key is None or isinstance(self._endpoint.api_key, Secret):
            return self._endpoint.api_key
        problem = "must return printable ASCII without spaces around it, and not an empty text"
        try:
            key = Secret(await asyncio.to_thread(self._endpoint.api_key))
            if key.is_sendable:
                return key
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - a function of the caller; its message may contain the key
            problem = f"raised {type(error).__name__}"
        raise ConfigurationError(f"the function `api_key` of {self._name} {problem}")

    def _adapts(self, failure: GenerationError, sent: frozenset[str]) -> bool:
        """Return whether the server refused an optional field. Later requests do not send this field."""
        if not (isinstance(failure, RemoteError) and failure.status in (400, 422, 500)):
            return False
        words = str(failure)
        if "max_completion_tokens" in words and "max_tokens" in sent:
            self._limit_field = "max_completion_tokens"
            return True
        for field in sorted(_OPTIONAL_FIELDS & sent):
            if field in words:
                logger.info("%s refuses the field %s, so later requests leave it out", self._name, field)
                self._optional.discard(field)
                return True
        return False

    def _body(self, request: Query) -> dict[str, object]:
        body = {"model": self._endpoint.model, **request.fields, self._limit_field: request.max_tokens, "stream": True}
        if "stream_options" in self._optional:
            body["stream_options"] = {"include_usage": True}
        if "logprobs" in self._optional:
            body |= {"logprobs": True, "top_logprobs": 2} if request.is_chat else {"logprobs": 2}
        return {**self._endpoint.extra_body, **body}

    async def _read(self, response: httpx.Response, reply: Reply) -> None:
        if response.status_code != 200:
            await self._refuse(response, reply)
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise self._broken("is compressed, although the request did not allow that", reply)
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            self._take(b"".join([chunk async for chunk in self._bounded(response, reply)]), reply)
            if reply.finish_reason is None:
                raise self._broken("has no `finish_reason`", reply)
        elif kind == "text/event-stream":
            await self._read_events(response, reply)
        else:
            raise self._broken(f"is {kind[:60] or 'of no type'!r}, not JSON or events. Check `base_url`", reply)
        if not reply.has_content:
            raise self._broken(
                "has no text"
                + (", because hidden reasoning used all of `max_tokens`" if reply.finish_reason == "length" else ""),
                reply,
            )

    async def _read_events(self, response: httpx.Response, reply: Reply) -> None:
        decoder = EventDecoder()
        async for chunk in self._bounded(response, reply):
            try:
                events = decoder.feed(chunk)
            except UnicodeDecodeError:
                events = None
            if events is None:
                raise self._broken("is not UTF-8", reply)
            for event in events:
                if event.strip() == "[DONE]":
                    if reply.finish_reason is None:
                        # llama_cpp.server 0.3.36 does this when it drops an answer for the next request
                        raise self._cut(
                            ". Ask again; if the server answers only one request at a time, pass `parallel=1`"
                        )
                    return
                self._take(event, reply)
                if reply.match_stop.reason is not None:
                    return  # the server ignored the stop strings
        if reply.finish_reason is None:
            raise self._cut(". Ask again")

    async def _bounded(self, response: httpx.Response, reply: Reply) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > self._endpoint.max_body_bytes:
                raise self._broken(f"is longer than {self._endpoint.max_body_bytes:,} bytes", reply)
            yield chunk

    def _take(self, data: str | bytes, reply: Reply) -> None:
        value, problem = parse_object(data)
        if value.get("error"):
            code = value["error"].get("code") if isinstance(value["error"], dict) else None
            raise self._refusal(code if type(code) is int and 400 <= code < 600 else 200, value, None, reply)
        chunk, problem = (None, problem) if problem else parse_chunk(value)
        if chunk is None:
            raise self._broken(problem, reply)
        if chunk.usage is not None:
            reply.usage = chunk.usage
        choice = next((choice for choice in chunk.choices if choice.index == 0), None)
        if choice is None:
            return
        reply.add(choice)
        if choice.finish_reason is not None and reply.finish_reason is None:
            reply.finish_reason = FINISH_REASONS.get(choice.finish_reason)
            if reply.finish_reason is None:
                reason = reply.scrub(choice.finish_reason)
                raise self._broken(f"has an unknown `finish_reason`: {reason!r:.60}", reply)

    async def _refuse(self, response: httpx.Response, reply: Reply) -> NoReturn:
        status = response.status_code
        if 300 <= status < 400:
            target = reply.scrub(response.headers.get("Location", "nowhere").partition("?")[0])
            raise RemoteError(
                f"{self._name} answered {status}, a redirect to {target:.120}. Redirects are not followed, so that the key and "
                "the prompt are not sent to another server. If the target is right, use it as `base_url`",
                model=self._name,
                status=status,
            )
        reply.retry_after = retry_after_seconds(response.headers.get("Retry-After"), now=self._clock.now())
        body = b""
        with contextlib.suppress(*_TRANSPORT_ERRORS):  # the status says enough
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) >= _MAX_ERROR_BYTES:
                    break
        body = body[:_MAX_ERROR_BYTES]
        value, problem = parse_object(body)
        words = body.decode("utf-8", "replace") if problem else None
        raise self._refusal(status, value, words, reply)

    def _refusal(self, status: int, value: Mapping[str, Any], words: str | None, reply: Reply) -> GenerationError:
        said, code = parse_reason(value)
        said = reply.scrub(words if words is not None else said)
        overflow = parse_overflow(said, code) if status in (200, 400, 413, 422, 500) else None
        if overflow is not None:
            needed, available = overflow
            return ContextOverflowError(
                f"the server says that the prompt does not fit into the window of {self._name}: {said}. Shorten the prompt, "
                "or correct `n_ctx`",
                needed=needed or self._endpoint.n_ctx + 1,
                available=available or self._endpoint.n_ctx,
                model=self._name,
            )
        is_out_of_money = code == "insufficient_quota"
        wait = f" It asks to wait {reply.retry_after:g} seconds." if reply.retry_after else ""
        return RemoteError(
            f"{self._name} answered {status}{f' ({said})' if said else ''}.{wait} {_hint(status, is_out_of_money)}",
            model=self._name,
            status=status,
            retryable=status in _RETRYABLE and not is_out_of_money,
            retry_after=reply.retry_after,
        )

    def _cut(self, advice: str) -> RemoteError:
        return RemoteError(
            f"the answer of {self._name} ended too early{advice}", model=self._name, status=200, retryable=True
        )

    def _broken(self, problem: str, reply: Reply) -> RemoteError:
        return RemoteError(f"the response of {self._name} {reply.scrub(problem)}", model=self._name, status=200)

    def _lost(self, error: Exception, reply: Reply) -> RemoteError:
        words, url = reply.scrub(str(error)) or type(error).__name__, self._endpoint.base_url
        chain: BaseException | None = error
        while chain is not None and not isinstance(chain, ssl.SSLError):
            chain = chain.__cause__ or chain.__context__
        if chain is not None:
            problem = (
                f"cannot open a secure connection to {url} ({words}). Check that the server supports https and has a trusted "
                "certificate. The environment variable SSL_CERT_FILE can name a file of trusted authorities"
            )
        elif isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            problem = f"cannot connect to {url} ({words}). Check `base_url`, and that the server is running"
        else:
            problem = f"the connection to {self._name} broke ({words}). Ask again"
        return RemoteError(problem, model=self._name, retryable=chain is None and isinstance(error, _PASSING_ERRORS))


def _hint(status: int, is_out_of_money: bool) -> str:
    if is_out_of_money:
        return "The account has no credit. Add credit, or use another account"
    if status in (401, 403):
        return "Check `api_key` and its permissions"
    if status == 404:
        return "Check `base_url` (it usually ends in /v1) and `model`"
    if status == 429:
        return "Send fewer requests, or lower `parallel`"
    if status in _RETRYABLE:
        return "The server may recover. Ask again later"
    return "Change the request. The same request will fail again"
