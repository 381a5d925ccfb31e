"""Models behind an OpenAI-compatible HTTP API: vLLM, llama-server, Ollama, hosted ones.

Nothing is sent until a `RemoteModel` is asked to generate, and then only to the host that it was given. Answers are streamed also
where the caller waits for the whole: that tells a slow server from a dead one, and lets a cancelled request end at once. What a
server says is parsed and never trusted; the key stands in no representation, log, trace or exception.
"""

from __future__ import annotations

import asyncio
import codecs
import datetime
import email.utils
import functools
import io
import ipaddress
import json
import logging
import math
import os
import random
import re
import ssl
import threading
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NoReturn, TypedDict, TypeVar

import httpx
import pydantic
from typing_extensions import Unpack

from leanrag.errors import (
    ConfigurationError,
    ContextOverflowError,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    RemoteError,
)
from leanrag.llama.pending import Pending
from leanrag.llama.requests import StopMatcher
from leanrag.models import load_encoding
from leanrag.types import CancelToken, FinishReason, Generation, Message, Prompt, Usage

__all__ = [
    "Clock",
    "EnvironmentKey",
    "EventDecoder",
    "Prices",
    "RemoteModel",
    "RemoteOptions",
    "RemoteStream",
    "RemoteUsage",
    "env",
    "retry_after_seconds",
]

T = TypeVar("T")

logger = logging.getLogger(__name__)

# OpenAI's cookbook, "How to count tokens with tiktoken": three tokens and the role for a message, three for the reply's beginning.
_MESSAGE_TOKENS = 4
_REPLY_TOKENS = 3
_MISMATCH_SLACK = 16  # tokens; a template may add as many to a short prompt

# Those that OpenAI's own client tries again, and 529, by which gateways say "overloaded".
_RETRYABLE = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
_BACKOFF_SECONDS, _MAX_BACKOFF_SECONDS = 0.5, 20.0
_MAX_ERROR_BYTES = 1 << 16
_MAX_ERROR_CHARS = 300
_SHORTEST_SECRET = 6  # characters; a shorter header value says nothing, and replacing it would garble messages

_OPTIONAL_FIELDS = frozenset({"logprobs", "stream_options"})  # a server may refuse them and still answer
_OWN_FIELDS = _OPTIONAL_FIELDS | {
    *(
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "n",
        "prompt",
        "seed",
        "stop",
        "stream",
        "temperature",
    ),
    "top_logprobs",
}
_FINISH_REASONS: dict[str, FinishReason] = {
    **dict.fromkeys(("stop", "eos", "eos_token", "end_turn", "stop_sequence"), "stop"),
    **dict.fromkeys(("length", "max_tokens"), "length"),
}
_OVERFLOW = re.compile(
    r"context[_ ](?:length|size|window)|maximum context|n_ctx|prompt is too long|too many (?:prompt |input )?tokens",
    re.I,
)
_LIMIT_WORDS = re.compile(r"(?:maximum context length is|n_ctx\D{1,4}|context size \(?)\s*(\d{1,9})", re.I)
_NEEDED_WORDS = re.compile(r"(?:requested|n_prompt_tokens\D{1,4}|request \()\s*(\d{1,9})", re.I)

_TRANSPORT_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError)


class RemoteOptions(TypedDict, total=False):
    """How to generate.

    Attributes:
        temperature: 0 takes the most probable token.
        seed: Repeats a draw, where the server keeps to it.
        stop: Strings that end the text; they are not part of it.
        timeout_seconds: Limit from the call to the end, in place of the model's `total_seconds`.
        cancel: Stops it from another thread.
    """

    temperature: float
    seed: int | None
    stop: Sequence[str]
    timeout_seconds: float | None
    cancel: CancelToken | None


@dataclass(frozen=True, slots=True)
class RemoteUsage(Usage):
    """Tokens of one call as the server bills them; the end token and hidden reasoning may be among the completion's.

    Attributes:
        counted_prompt_tokens: What `RemoteModel.count` said of the prompt.
        is_billed: Whether the server said so; otherwise it said nothing that could be, and the figures are our estimates.
        prompt_mismatch: "fewer" when the bill has clearly fewer prompt tokens than were counted (the server may have silently
            cut the prompt), "more" when it has clearly more, None when they agree or nothing was billed.
    """

    counted_prompt_tokens: int = 0
    is_billed: bool = True
    prompt_mismatch: Literal["fewer", "more"] | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """What a provider charges, in US dollars per million tokens.

    Attributes:
        input_per_million: Prompt tokens.
        output_per_million: Completion tokens.
        as_of: The day this was read off the provider's list.
        cached_input_per_million: Prompt tokens that the provider had in its cache; None when they cost as much as others.
    """

    input_per_million: float
    output_per_million: float
    as_of: datetime.date
    cached_input_per_million: float | None = None

    def __post_init__(self) -> None:
        for value in (self.input_per_million, self.output_per_million, self.cached_input_per_million):
            if value is not None and not 0 <= value < math.inf:
                raise ConfigurationError(f"a price must be at least 0 dollars per million tokens, got {value!r}")


@dataclass(frozen=True, slots=True)
class EnvironmentKey:
    """A key that is read from an environment variable when a request is sent."""

    variable: str

    def __repr__(self) -> str:
        return f"env({self.variable!r})"

    def __call__(self) -> str:
        """Return the key.

        Raises:
            ConfigurationError: The variable is not set, or empty.
        """
        if key := os.environ.get(self.variable, "").strip():
            return key
        raise ConfigurationError(
            f"the environment variable {self.variable} holds no key. Set it, or pass another `api_key`"
        )


def env(variable: str) -> EnvironmentKey:
    """Return an `api_key` that is read from the environment variable of this name for each request."""
    return EnvironmentKey(variable)


@dataclass(frozen=True, slots=True)
class Clock:
    """Time and chance, for tests to replace.

    Attributes:
        monotonic: Seconds, for durations.
        now: Seconds since 1970, for dates that servers send.
        sleep: Waits between attempts, in an event loop.
        random: Uniform in [0, 1).
    """

    monotonic: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    random: Callable[[], float] = random.random


class RemoteModel:
    """A model behind an OpenAI-compatible API. Any thread may call; nothing is sent on construction.

    Failures that may pass (no connection, 408, 409, 429, 5xx, a stream that breaks) are tried again with exponential backoff
    and full jitter (Brooker, AWS Architecture Blog, 2015), never after the first text arrived; a Retry-After is waited out if
    the time limit allows. After `breaker_failures` outages in a row, requests fail at once for `breaker_seconds`; then one may try.

    The server's tokenizer is not here: `count` and `count_tokens` are estimates (`is_exact` is False) unless `count_tokens` is the
    model's own. What was spent is what `Generation.usage` says, a `RemoteUsage`. Log-probabilities are asked for and reported where
    the server gives them; whether temperature is applied before is the server's secret.

    Args:
        model: What the server calls it.
        base_url: Where the API begins, such as "https://api.openai.com/v1" or "http://localhost:8080/v1".
        n_ctx: The model's window in tokens; APIs do not tell.
        api_key: The key, what returns it (called for each request), or `env("NAME")`; None for servers that want none.
        count_tokens: Tokens of a plain text; tiktoken's cl100k_base by default.
        is_chat: Whether it reads messages; strings always go to the completions endpoint, as they are.
        name: What `Answer.model` says; `model` by default.
        prices: What it costs.
        connect_seconds: Limit for a connection.
        first_token_seconds: Limit from sending to the first text.
        total_seconds: Limit from the call to the end, retries included; `timeout_seconds` of a call replaces it.
        max_retries: Further attempts after one that failed.
        parallel: Requests sent at once; others wait.
        breaker_failures: Outages in a row after which the server is left alone.
        breaker_seconds: For how long.
        logprobs: Ask for log-probabilities; a server that refuses is asked without.
        count_tolerance: By which share a bill may differ from the count before that is reported.
        max_body_bytes: Longest response.
        allowed_hosts: Hosts that may be sent to; None for that of `base_url`.
        allow_insecure: Send a key or headers over plain http to another machine.
        redact: Applied to every message before it is counted, shown or sent.
        headers: Further headers, kept as secret as the key.
        extra_body: Further fields of the request's JSON.
        transport: Replaces the network, for tests.
        clock: Replaces time and chance, for tests.

    Raises:
        ConfigurationError: An argument cannot work.

    Example:
        >>> model = RemoteModel("qwen3", base_url="http://localhost:8080/v1", n_ctx=8192)
        >>> model
        RemoteModel('qwen3', base_url='http://localhost:8080/v1', n_ctx=8192)
    """

    is_exact = False
    """Whether `count` is certain to be the server's count."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        n_ctx: int,
        api_key: str | Callable[[], str] | None = None,
        count_tokens: Callable[[str], int] | None = None,
        is_chat: bool = True,
        name: str | None = None,
        prices: Prices | None = None,
        connect_seconds: float = 10.0,
        first_token_seconds: float = 60.0,
        total_seconds: float = 300.0,
        max_retries: int = 3,
        parallel: int = 8,
        breaker_failures: int = 5,
        breaker_seconds: float = 30.0,
        logprobs: bool = True,
        count_tolerance: float = 0.25,
        max_body_bytes: int = 10_000_000,
        allowed_hosts: Iterable[str] | None = None,
        allow_insecure: bool = False,
        redact: Callable[[str], str] | None = None,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._source: _Secret | Callable[[], str] | None = _Secret(api_key) if isinstance(api_key, str) else api_key
        del api_key  # no frame of a traceback shall hold it
        self._headers = {field: _Secret(value) for field, value in (headers or {}).items()}
        del headers
        _check_at_least(
            1, n_ctx=n_ctx, parallel=parallel, breaker_failures=breaker_failures, max_body_bytes=max_body_bytes
        )
        _check_at_least(0, max_retries=max_retries, count_tolerance=count_tolerance, breaker_seconds=breaker_seconds)
        for argument, seconds in (
            ("connect_seconds", connect_seconds),
            ("first_token_seconds", first_token_seconds),
            ("total_seconds", total_seconds),
        ):
            _check_seconds(argument, seconds)
        if not model:
            raise ConfigurationError("`model` must be what the server calls the model, got ''")
        self._is_local = _check_url(base_url, allowed_hosts)
        self._base_url = base_url.rstrip("/")
        self._check_secrets(allow_insecure)
        if taken := _OWN_FIELDS & set(extra_body or ()):
            raise ConfigurationError(f"`extra_body` cannot set {', '.join(sorted(taken))}: generation does")
        try:
            self._extra_body: dict[str, object] = json.loads(json.dumps(dict(extra_body or {}), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"`extra_body` must be what JSON can hold: {error}") from error

        self.model = model
        self.name = name or model
        self.n_ctx = n_ctx
        self.is_chat = is_chat
        self.prices = prices
        self._count_text = count_tokens
        self._redact = redact
        self._connect_seconds, self._first_token_seconds = connect_seconds, first_token_seconds
        self._total_seconds = total_seconds
        self._max_retries, self._parallel = max_retries, parallel
        self._count_tolerance, self._max_body_bytes = count_tolerance, max_body_bytes
        self._transport = transport
        self._clock = clock or Clock()
        self._breaker = _Breaker(breaker_failures, breaker_seconds, self._clock.monotonic)
        self._optional = set(_OPTIONAL_FIELDS if logprobs else _OPTIONAL_FIELDS - {"logprobs"})
        self._limit_field = "max_tokens"
        self._slots = asyncio.Semaphore(parallel)
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False
        self._worker: _Worker | None = None

    def __repr__(self) -> str:
        return f"RemoteModel({self.model!r}, base_url={self._base_url!r}, n_ctx={self.n_ctx})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a RemoteModel is not pickled: it may hold a key. Make it where it is used")

    def __enter__(self) -> RemoteModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop every request and close the connections; idempotent, and a no-op in a forked child."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            self._closed = True
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def price(self, usage: Usage) -> float | None:
        """Return what `usage` costs in US dollars; None without prices, and for what the server did not bill."""
        if self.prices is None or (isinstance(usage, RemoteUsage) and not usage.is_billed):
            return None
        prices = self.prices
        cached = (
            prices.input_per_million if prices.cached_input_per_million is None else prices.cached_input_per_million
        )
        return (
            (usage.prompt_tokens - usage.cached_tokens) * prices.input_per_million
            + usage.cached_tokens * cached
            + usage.completion_tokens * prices.output_per_million
        ) / 1e6

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain `text`: an estimate, unless `count_tokens` of the constructor is the model's own."""
        if self._count_text is not None:
            return self._count_text(text)
        return len(self._encoding.encode_ordinary(text))

    @functools.cached_property
    def _encoding(self) -> Any:
        return load_encoding("cl100k_base")

    def count(self, prompt: Prompt) -> int:
        """Return about the tokens of the prompt: its texts, and for messages what chat templates usually add."""
        return self._count(self._checked(prompt))

    def _count(self, prompt: Prompt) -> int:
        if isinstance(prompt, str):
            return self.count_tokens(prompt)
        return sum(self.count_tokens(message.content) + _MESSAGE_TOKENS for message in prompt) + _REPLY_TOKENS

    def render(self, prompt: Prompt) -> str:
        """Return the texts that are sent, after `redact`; the template that joins messages is the server's."""
        checked = self._checked(prompt)
        if isinstance(checked, str):
            return checked
        return "\n\n".join(f"[{message.role}]\n{message.content}" for message in checked)

    def generate(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[RemoteOptions]) -> Generation:
        """Return the completion of `prompt`; see `leanrag.protocols.LanguageModel` and `RemoteOptions`.

        Raises:
            ContextOverflowError: Prompt and `max_tokens` exceed `n_ctx` by our count, or the window by the server's.
            GenerationCancelled: `cancel` was called.
            GenerationTimeout: No text in `first_token_seconds`, or no end in time.
            RemoteError: The server cannot be reached, refuses, or does not speak the protocol.
        """
        return self.stream(prompt, max_tokens=max_tokens, **options).result

    def stream(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[RemoteOptions]) -> RemoteStream:
        """As `generate`, piece by piece: iterate, then read `result`. Leaving the loop early closes the connection."""
        return RemoteStream(self._ask(prompt, max_tokens, options, None), self)

    def generate_many(
        self, prompts: Iterable[Prompt], *, max_tokens: int, **options: Unpack[RemoteOptions]
    ) -> list[Generation]:
        """Return the completion of each prompt, in order; `parallel` are under way at once, each with its own time limit.

        A prompt that fails stops the others and raises its error. All are checked before the first is sent.
        """
        requests = [self._request(prompt, max_tokens, options) for prompt in prompts]

        async def work(_: Callable[[str], None]) -> list[Generation]:
            results: dict[int, Generation] = {}
            todo = iter(enumerate(requests))

            async def take() -> None:
                for number, request in todo:
                    results[number] = await self._complete(request, _ignore)

            tasks = [asyncio.create_task(take()) for _ in range(min(self._parallel, len(requests)))]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            return [results[number] for number in range(len(requests))]

        return self._submit(work, options.get("cancel"), None).result

    async def agenerate(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[RemoteOptions]) -> Generation:
        """As `generate`, for asyncio; cancelling the task closes the connection."""
        call = self._ask(prompt, max_tokens, options, asyncio.get_running_loop())
        await call.wait()
        return call.result

    async def astream(self, prompt: Prompt, *, max_tokens: int, **options: Unpack[RemoteOptions]) -> AsyncIterator[str]:
        """As iterating over `stream`, for asyncio; leaving the loop closes the connection."""
        async for piece in self._ask(prompt, max_tokens, options, asyncio.get_running_loop()):
            yield piece

    # What is asked

    def _checked(self, prompt: Prompt) -> Prompt:
        """The prompt as it is sent."""
        if isinstance(prompt, str):
            return self._redacted(prompt)
        if not self.is_chat:
            raise ConfigurationError(f"{self.name} completes text (`is_chat` is False). Pass a string as the prompt")
        if not prompt or not all(isinstance(message, Message) for message in prompt):
            raise ConfigurationError(f"a prompt is a string or a non-empty sequence of Message, got {prompt!r:.200}")
        return [Message(message.role, self._redacted(message.content)) for message in prompt]

    def _redacted(self, text: str) -> str:
        if self._redact is None:
            return text
        redacted = self._redact(text)
        if not isinstance(redacted, str):
            raise ConfigurationError(f"`redact` must return a string, got {type(redacted).__name__}")
        return redacted

    def _request(self, prompt: Prompt, max_tokens: int, options: RemoteOptions) -> _Request:
        self._check_usable()
        temperature, stop = options.get("temperature", 0.0), options.get("stop", ())
        seconds, cancel = options.get("timeout_seconds"), options.get("cancel")
        if max_tokens < 1:
            raise ConfigurationError(f"`max_tokens` must be at least 1, got {max_tokens!r}")
        if not 0 <= temperature < math.inf:
            raise ConfigurationError(f"`temperature` must be at least 0, got {temperature!r}")
        if isinstance(stop, str) or not all(stop):
            raise ConfigurationError(f"`stop` must be a sequence of non-empty strings, got {stop!r}")
        if seconds is not None:
            _check_seconds("timeout_seconds", seconds)
        if cancel is not None and cancel.cancelled:
            raise GenerationCancelled(f"the request to {self.name} was cancelled", model=self.name)
        checked = self._checked(prompt)
        if not checked:
            raise ConfigurationError("the prompt is empty; give at least one token")
        counted = self._count(checked)
        if counted + max_tokens > self.n_ctx:
            raise ContextOverflowError(
                f"the prompt of about {counted:,} tokens and {max_tokens:,} for the answer exceed the window of {self.name}, "
                f"{self.n_ctx:,}. Shorten the prompt or lower `max_tokens`",
                needed=counted + max_tokens,
                available=self.n_ctx,
                model=self.name,
            )
        fields: dict[str, object] = {"temperature": temperature}
        if isinstance(checked, str):
            fields["prompt"] = checked
        else:
            fields["messages"] = [{"role": message.role, "content": message.content} for message in checked]
        if stop:
            fields["stop"] = list(stop)
        if options.get("seed") is not None:
            fields["seed"] = options.get("seed")
        return _Request(
            fields=fields,
            counted=counted,
            max_tokens=max_tokens,
            stop=tuple(stop),
            seed=options.get("seed") if temperature > 0 else None,
            seconds=self._total_seconds if seconds is None else seconds,
        )

    def _body(self, request: _Request) -> dict[str, object]:
        body = {"model": self.model, **request.fields, self._limit_field: request.max_tokens, "stream": True}
        if "stream_options" in self._optional:
            body["stream_options"] = {"include_usage": True}
        if "logprobs" in self._optional:
            body |= {"logprobs": True, "top_logprobs": 2} if request.is_chat else {"logprobs": 2}
        return {**self._extra_body, **body}

    def _check_secrets(self, allow_insecure: bool) -> None:
        secrets = [("api_key", self._source)] if isinstance(self._source, _Secret) else []
        for field, secret in [*secrets, *self._headers.items()]:
            if not secret.is_sendable:
                raise ConfigurationError(f"`{field}` must be printable ASCII without spaces around it, and not empty")
        for field in self._headers:
            if not re.fullmatch(r"[A-Za-z0-9_-]+", field) or field.lower() in (
                "host",
                "content-length",
                "content-type",
            ):
                raise ConfigurationError(
                    f"{field!r} cannot be set in `headers`; it is no header's name, or set by the request"
                )
        is_safe = self._is_local or self._base_url.lower().startswith("https:")
        if (self._source is not None or self._headers) and not (is_safe or allow_insecure):
            raise ConfigurationError(
                f"a key or headers would go unencrypted to {self._base_url}. Use https, or pass `allow_insecure=True`"
            )

    def _check_usable(self) -> None:
        if os.getpid() != self._pid:
            raise GenerationError(
                f"{self.name} belongs to the process that this one was forked from. Make a RemoteModel here",
                model=self.name,
            )
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> GenerationError:
        return GenerationError(f"{self.name} is closed. Make another RemoteModel to use it", model=self.name)

    # How it is sent: what follows runs in the worker's event loop

    def _ask(
        self, prompt: Prompt, max_tokens: int, options: RemoteOptions, loop: asyncio.AbstractEventLoop | None
    ) -> _Call[Generation]:
        request = self._request(prompt, max_tokens, options)
        return self._submit(lambda emit: self._complete(request, emit), options.get("cancel"), loop)

    def _submit(
        self,
        work: Callable[[Callable[[str], None]], Awaitable[T]],
        cancel: CancelToken | None,
        loop: asyncio.AbstractEventLoop | None,
    ) -> _Call[T]:
        with self._lock:  # `close` takes it too: what was submitted has begun before the worker is told to stop
            self._check_usable()
            if self._worker is None:
                self._worker = _Worker(self._open_client(), self.name)
                weakref.finalize(self, self._worker.stop)
            call = _Call(self._worker, work, self.name, loop)
        if cancel is not None:
            cancel.on_cancel(call.cancel)
        return call

    def _open_client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=self._connect_seconds),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=self._parallel),
            headers={"User-Agent": "leanrag", "Accept-Encoding": "identity"},
            follow_redirects=False,
            trust_env=not self._is_local,  # no proxy stands between this machine and itself
            verify=not self._is_local or self._base_url.lower().startswith("https:"),  # reading certificates takes time
            transport=self._transport,
        )

    async def _complete(self, request: _Request, emit: Callable[[str], None]) -> Generation:
        limit = _Limit(request.seconds)
        late = f"{self.name} did not answer within {request.seconds:g} seconds"
        return await self._within(limit, self._attempts(request, emit), late)

    async def _within(self, limit: _Limit, work: Awaitable[T], late: str) -> T:
        try:
            with limit:
                return await work
        except asyncio.CancelledError:
            if not limit.is_over:
                raise
        raise GenerationTimeout(late, model=self.name)  # outside `except`: what was interrupted may hold the key

    async def _attempts(self, request: _Request, emit: Callable[[str], None]) -> Generation:
        deadline = self._clock.monotonic() + request.seconds
        retries = 0
        while True:
            if (seconds := self._breaker.seconds_closed_for()) > 0:
                raise RemoteError(
                    f"{self.name} failed {self._breaker.failures} times in a row; the next request is sent in {seconds:.0f} "
                    "seconds. Use another model meanwhile",
                    model=self.name,
                    retryable=True,
                )
            reply = _Reply(StopMatcher(request.stop), emit, self._clock.monotonic)
            failure = await self._attempt(request, reply)
            if failure is None:
                return self._generation(request, reply)
            if self._adapts(failure, reply.sent):
                continue
            backoff = min(_MAX_BACKOFF_SECONDS, _BACKOFF_SECONDS * 2**retries)
            delay = (reply.retry_after or 0.0) + self._clock.random() * backoff
            if (
                not (isinstance(failure, RemoteError) and failure.retryable)
                or reply.has_text
                or retries >= self._max_retries
                or self._clock.monotonic() + delay >= deadline
                or self._breaker.is_open
            ):
                raise failure
            retries += 1
            logger.info("%s: attempt %d in %.1f seconds: %s", self.name, retries + 1, delay, failure)
            await self._clock.sleep(delay)

    async def _attempt(self, request: _Request, reply: _Reply) -> GenerationError | None:
        """Send the request once; return what went wrong."""
        is_up: bool | None = None
        try:
            async with self._slots:
                late = f"{self.name} said nothing within {self._first_token_seconds:g} seconds"
                reply.first_limit = _Limit(self._first_token_seconds)
                await self._within(reply.first_limit, self._exchange(request, reply), late)
            is_up = True
        except GenerationError as error:
            is_outage = error.retryable and error.status != 429 if isinstance(error, RemoteError) else True
            is_up = not (is_outage and not isinstance(error, ContextOverflowError))
            return error.with_traceback(None)  # its frames hold the request, and that the key
        finally:
            self._breaker.record(is_up)
        return None

    async def _exchange(self, request: _Request, reply: _Reply) -> None:
        key = await self._key()
        reply.secrets = [*self._headers.values(), *([key] if key else [])]
        body = self._body(request)
        reply.sent = frozenset(body)
        lost: RemoteError | None = None
        try:
            async with self._connections.stream(
                "POST",
                f"{self._base_url}/{'chat/completions' if request.is_chat else 'completions'}",
                content=json.dumps(body).encode(),
                headers={"Content-Type": "application/json", "Accept": "text/event-stream, application/json"},
                auth=_Credentials(key, self._headers),
            ) as response:
                await self._read(response, reply)
        except _TRANSPORT_ERRORS as error:
            if not reply.is_complete:
                lost = self._lost(error, reply)
        if lost is not None:
            raise lost  # outside `except`: httpx's exceptions hold the request, and it the key

    @property
    def _connections(self) -> httpx.AsyncClient:
        worker = self._worker
        if worker is None:
            raise self._closed_error()
        return worker.client

    async def _key(self) -> _Secret | None:
        if self._source is None or isinstance(self._source, _Secret):
            return self._source
        problem = "returned what is not printable ASCII without spaces around it"
        try:
            key = _Secret(await asyncio.to_thread(self._source))
            if key.is_sendable:
                return key
        except ConfigurationError:
            raise
        except Exception as error:  # noqa: BLE001 - the caller's own code; its words may hold the key
            problem = f"raised {type(error).__name__}"
        raise ConfigurationError(f"`api_key` of {self.name} {problem}")

    def _adapts(self, failure: GenerationError, sent: frozenset[str]) -> bool:
        """Whether the server refused a field that it can do without; later requests leave it out."""
        if not (isinstance(failure, RemoteError) and failure.status in (400, 422)):
            return False
        words = str(failure)
        if "max_completion_tokens" in words and "max_tokens" in sent:
            self._limit_field = "max_completion_tokens"
            return True
        for field in sorted(_OPTIONAL_FIELDS & sent):
            if field in words:
                logger.info("%s refuses %s and is asked without", self.name, field)
                self._optional.discard(field)
                return True
        return False

    # What comes back

    async def _read(self, response: httpx.Response, reply: _Reply) -> None:
        if response.status_code != 200:
            await self._refuse(response, reply)
        if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
            raise self._broken("is compressed, which was not asked for", reply)
        kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind == "application/json":
            self._take(b"".join([chunk async for chunk in self._bounded(response, reply)]), reply)
            if reply.finish_reason is None:
                raise self._broken("does not say why it ended", reply)
        elif kind == "text/event-stream":
            await self._read_events(response, reply)
        else:
            raise self._broken(f"is {kind[:60] or 'of no type'!r}, not JSON or events. Check `base_url`", reply)
        if not reply.has_content:
            raise self._broken(
                "has no text" + (": all of `max_tokens` went elsewhere" if reply.finish_reason == "length" else ""),
                reply,
            )

    async def _read_events(self, response: httpx.Response, reply: _Reply) -> None:
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
                    reply.finish_reason = reply.finish_reason or "stop"
                    return
                self._take(event, reply)
                if reply.match_stop.reason is not None:
                    return  # the server does not know stop strings
        if reply.finish_reason is None:
            raise RemoteError(
                f"the answer of {self.name} was cut in the middle. Ask again",
                model=self.name,
                status=200,
                retryable=True,
            )

    async def _bounded(self, response: httpx.Response, reply: _Reply) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in response.aiter_raw():
            size += len(chunk)
            if size > self._max_body_bytes:
                raise self._broken(f"is longer than {self._max_body_bytes:,} bytes", reply)
            yield chunk

    def _take(self, data: str | bytes, reply: _Reply) -> None:
        value, problem = _parse_object(data)
        if value.get("error"):
            code = value["error"].get("code") if isinstance(value["error"], dict) else None
            raise self._refusal(code if type(code) is int and 400 <= code < 600 else 200, value, None, reply)
        chunk, problem = (None, problem) if problem else _parse_chunk(value)
        if chunk is None:
            raise self._broken(problem, reply)
        if chunk.usage is not None:
            reply.usage = chunk.usage
        choice = next((choice for choice in chunk.choices if choice.index == 0), None)
        if choice is None:
            return
        reply.add(choice)
        if choice.finish_reason is not None and reply.finish_reason is None:
            reply.finish_reason = _FINISH_REASONS.get(choice.finish_reason)
            if reply.finish_reason is None:
                reason = reply.scrub(choice.finish_reason)
                raise self._broken(f"ended for a reason that makes it useless: {reason!r:.60}", reply)

    async def _refuse(self, response: httpx.Response, reply: _Reply) -> NoReturn:
        status = response.status_code
        if 300 <= status < 400:
            target = reply.scrub(response.headers.get("Location", "nowhere").partition("?")[0])
            raise RemoteError(
                f"{self.name} answered {status}, a redirect to {target:.120}, which is not followed: a key and a prompt go "
                "only where they were meant to go. If it is right, make it the `base_url`",
                model=self.name,
                status=status,
            )
        reply.retry_after = retry_after_seconds(response.headers.get("Retry-After"), now=self._clock.now())
        body = b""
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) >= _MAX_ERROR_BYTES:
                break
        body = body[:_MAX_ERROR_BYTES]
        value, problem = _parse_object(body)
        words = body.decode("utf-8", "replace") if problem else None
        raise self._refusal(status, value, words, reply)

    def _refusal(self, status: int, value: Mapping[str, Any], words: str | None, reply: _Reply) -> GenerationError:
        said, code = _reason(value)
        said = reply.scrub(words if words is not None else said)
        overflow = _as_overflow(said, code) if status in (200, 400, 413, 422, 500) else None
        if overflow is not None:
            needed, available = overflow
            return ContextOverflowError(
                f"the prompt does not fit the window of {self.name}, says the server: {said}. Shorten it, or correct `n_ctx`",
                needed=needed or self.n_ctx + 1,
                available=available or self.n_ctx,
                model=self.name,
            )
        is_out_of_money = code == "insufficient_quota"
        wait = f" It asks to wait {reply.retry_after:g} seconds." if reply.retry_after else ""
        return RemoteError(
            f"{self.name} answered {status}{f' ({said})' if said else ''}.{wait} {_hint(status, is_out_of_money)}",
            model=self.name,
            status=status,
            retryable=status in _RETRYABLE and not is_out_of_money,
        )

    def _broken(self, problem: str, reply: _Reply) -> RemoteError:
        return RemoteError(f"the response of {self.name} {reply.scrub(problem)}", model=self.name, status=200)

    def _lost(self, error: Exception, reply: _Reply) -> RemoteError:
        words = reply.scrub(str(error)) or type(error).__name__
        chain: BaseException | None = error
        while chain is not None and not isinstance(chain, ssl.SSLError):
            chain = chain.__cause__ or chain.__context__
        if chain is not None:
            return RemoteError(
                f"no secure connection to {self._base_url} ({words}). Check that it speaks https and who signed its certificate",
                model=self.name,
            )
        if isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
            problem = f"cannot connect to {self._base_url} ({words}). Check `base_url` and that the server runs"
        else:
            problem = f"the connection to {self.name} broke ({words}). Ask again"
        return RemoteError(problem, model=self.name, retryable=isinstance(error, (httpx.TransportError, OSError)))

    def _generation(self, request: _Request, reply: _Reply) -> Generation:
        reply.end()
        text = "".join(reply.pieces)
        return Generation(
            text=text,
            model=self.name,
            finish_reason=reply.match_stop.reason or reply.finish_reason or "stop",
            usage=self._usage(request, reply, text),
            logprobs=reply.logprobs,
            margins=reply.margins,
            seed=request.seed,
            prefill_seconds=reply.prefill_seconds,
            decode_seconds=reply.decode_seconds,
        )

    def _usage(self, request: _Request, reply: _Reply, text: str) -> RemoteUsage:
        billed = _parse_usage(reply.usage)
        if billed is None:
            if reply.usage is not None:
                logger.warning("%s reports a usage that cannot be: %.200s", self.name, reply.scrub(repr(reply.usage)))
            return RemoteUsage(
                request.counted, self.count_tokens(text), counted_prompt_tokens=request.counted, is_billed=False
            )
        counted, slack = request.counted, _MISMATCH_SLACK + self._count_tolerance * request.counted
        mismatch: Literal["fewer", "more"] | None = None
        if abs(billed.prompt_tokens - counted) > slack:
            mismatch = "fewer" if billed.prompt_tokens < counted else "more"
            logger.warning(
                "%s bills %d prompt tokens where %d were counted: %s",
                self.name,
                billed.prompt_tokens,
                counted,
                "it may have cut the prompt" if mismatch == "fewer" else "its tokenizer or template takes more",
            )
        return RemoteUsage(
            billed.prompt_tokens,
            billed.completion_tokens,
            billed.cached_tokens,
            counted_prompt_tokens=counted,
            prompt_mismatch=mismatch,
        )


class RemoteStream:
    """A generation under way: iterate for text, then read `result`."""

    def __init__(self, call: _Call[Generation], model: RemoteModel) -> None:
        self._call, self._model = call, model  # the model's worker must not be stopped while the stream runs

    def __iter__(self) -> Iterator[str]:
        return iter(self._call)

    def close(self) -> None:
        """Close the connection if the generation still runs."""
        self._call.cancel()

    @property
    def result(self) -> Generation:
        """The whole generation; waits for its end."""
        return self._call.result


@dataclass(frozen=True, slots=True)
class _Request:
    """One prompt, checked; `seconds` is its time limit."""

    fields: Mapping[str, object]
    counted: int
    max_tokens: int
    stop: tuple[str, ...]
    seed: int | None
    seconds: float

    @property
    def is_chat(self) -> bool:
        return "messages" in self.fields


class _Reply:
    """What one attempt has brought so far."""

    def __init__(self, match_stop: StopMatcher, emit: Callable[[str], None], monotonic: Callable[[], float]) -> None:
        self.match_stop = match_stop
        self.pieces: list[str] = []
        self.secrets: Sequence[_Secret] = ()
        self.sent: frozenset[str] = frozenset()
        self.usage: object = None
        self.finish_reason: FinishReason | None = None
        self.retry_after: float | None = None
        self.first_limit: _Limit | None = None
        self.has_content = False  # some text, perhaps empty
        self.has_text = False
        self._scores: list[tuple[float, float | None]] | None = []
        self._emit, self._monotonic = emit, monotonic
        self._started = self._first = self._last = monotonic()

    @property
    def is_complete(self) -> bool:
        return self.finish_reason is not None and self.has_content

    def add(self, choice: _Choice) -> None:
        text = choice.content
        scores = _parse_scores(choice.logprobs)
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
            if self.first_limit is not None:
                self.first_limit.lift()
        self._pass(self.match_stop(text))

    def end(self) -> None:
        if self.match_stop.reason is None:
            self._pass(self.match_stop("", final=True))

    def _pass(self, text: str) -> None:
        if text:
            self.pieces.append(text)
            self._emit(text)

    @property
    def logprobs(self) -> tuple[float, ...] | None:
        return tuple(logprob for logprob, _ in self._scores) if self._scores else None

    @property
    def margins(self) -> tuple[float, ...] | None:
        margins = tuple(margin for _, margin in self._scores or () if margin is not None)
        return margins if self._scores and len(margins) == len(self._scores) else None

    @property
    def prefill_seconds(self) -> float:
        return self._first - self._started

    @property
    def decode_seconds(self) -> float:
        return self._last - self._first

    def scrub(self, text: str) -> str:
        """`text` on one line, bounded, without control characters and secrets."""
        for secret in self.secrets:
            text = secret.hide_in(text)
        text = " ".join("".join(char if char.isprintable() else " " for char in text).split())
        return text if len(text) <= _MAX_ERROR_CHARS else text[:_MAX_ERROR_CHARS] + "..."


# Keys


class _Secret:
    """A text that no representation shows."""

    __slots__ = ("_text",)

    def __init__(self, text: object) -> None:
        self._text = text if isinstance(text, str) else ""

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled")

    @property
    def is_sendable(self) -> bool:
        return bool(re.fullmatch(r"[!-~](?:[ -~]*[!-~])?", self._text))

    def hide_in(self, text: str) -> str:
        return text.replace(self._text, "***") if len(self._text) >= _SHORTEST_SECRET else text

    def reveal(self) -> str:
        return self._text


class _Credentials(httpx.Auth):
    """Writes key and headers into the request at the last moment."""

    def __init__(self, key: _Secret | None, headers: Mapping[str, _Secret]) -> None:
        self._key, self._headers = key, headers

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        for field, secret in self._headers.items():
            request.headers[field] = secret.reveal()
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key.reveal()}"
        yield request


# Time


class _Limit:
    """Cancels the task that entered it after some seconds of the event loop's time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self.is_over = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None

        def end() -> None:
            self.is_over = True
            task.cancel()

        self._timer = asyncio.get_running_loop().call_later(self._seconds, end)

    def __exit__(self, *_: object) -> None:
        self.lift()

    def lift(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


class _Breaker:
    """Leaves a server alone that failed several times in a row; touched by one thread only."""

    def __init__(self, most_failures: int, seconds: float, monotonic: Callable[[], float]) -> None:
        self._most_failures, self._seconds, self._monotonic = most_failures, seconds, monotonic
        self._opened_at = 0.0
        self._is_probed = False
        self.failures = 0

    @property
    def is_open(self) -> bool:
        return self.failures >= self._most_failures

    def seconds_closed_for(self) -> float:
        """Seconds until a request may be sent; 0 for now, and then the asking request is the one that may try."""
        if not self.is_open:
            return 0.0
        left = self._opened_at + self._seconds - self._monotonic()
        if left > 0 or self._is_probed:
            return max(left, 1.0)
        self._is_probed = True
        return 0.0

    def record(self, is_up: bool | None) -> None:
        """Note how a request ended; None for one that says nothing."""
        self._is_probed = False
        if is_up:
            self.failures = 0
        elif is_up is False:
            self.failures += 1
            self._opened_at = self._monotonic()


def retry_after_seconds(value: str | None, *, now: float) -> float | None:
    """Return the seconds that a Retry-After header asks to wait, at least 0; None when it says nothing (RFC 9110, 10.2.3).

    Args:
        value: Seconds, or a date.
        now: Seconds since 1970.

    Example:
        >>> retry_after_seconds("Thu, 01 Jan 1970 00:01:00 GMT", now=20.0)
        40.0
    """
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", value.strip()):
        return float(value)
    try:
        date = email.utils.parsedate_to_datetime(value)
        if date.tzinfo is None:
            date = date.replace(tzinfo=datetime.timezone.utc)
        return max(0.0, date.timestamp() - now)
    except (TypeError, ValueError, OverflowError, IndexError):
        return None


# The thread that talks to the server


class _Worker:
    """A thread with an event loop and the connections; knows nothing of the model, so that the model can be collected."""

    def __init__(self, client: httpx.AsyncClient, name: str) -> None:
        self.client = client
        self.loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = asyncio.Event()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name=f"leanrag {name}", daemon=True)
        self._thread.start()

    def begin(self, work: Awaitable[T], then: Callable[[asyncio.Task[T]], None]) -> asyncio.Task[T]:
        """Start work, in the event loop."""
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(then)
        return task

    def stop(self) -> None:
        """Cancel everything, without waiting: the garbage collector may call this from any thread at any place."""
        if os.getpid() == self._pid and not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._stopping.set)

    def close(self) -> None:
        """Cancel everything and wait for the end."""
        self.stop()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            self.loop.run_until_complete(self._serve())
        finally:
            self.loop.close()

    async def _serve(self) -> None:
        await self._stopping.wait()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.client.aclose()
        await self.loop.shutdown_asyncgens()


class _Call(Pending[T], Generic[T]):
    """One call under way: a worker computes it, the caller waits for it."""

    def __init__(
        self,
        worker: _Worker,
        work: Callable[[Callable[[str], None]], Awaitable[T]],
        name: str,
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(loop=loop)
        self._worker, self._work, self._name = worker, work, name
        self._task: asyncio.Task[T] | None = None
        worker.loop.call_soon_threadsafe(self._begin)

    def stop(self) -> None:
        """Tell the worker; it has begun by the time that it hears of it."""
        if not self._worker.loop.is_closed():
            self._worker.loop.call_soon_threadsafe(self._cancel)

    def _begin(self) -> None:
        self._task = self._worker.begin(self._work(self.emit), self._end)

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _end(self, task: asyncio.Task[T]) -> None:
        if self.stop_error is not None:
            self.emit(self.stop_error(f"the request to {self._name} was cancelled", model=self._name))
        elif task.cancelled():
            self.emit(GenerationError(f"{self._name} was closed while it answered", model=self._name))
        else:
            error = task.exception()
            self.emit(
                task.result() if error is None else error if isinstance(error, Exception) else RuntimeError(repr(error))
            )


def _ignore(_: str) -> None:
    pass


# What servers say


class EventDecoder:
    r"""Splits a stream of server-sent events, cut anywhere, into the data of each event (HTML standard, 9.2.6).

    Comments and other fields are left out, and so is an event that is not ended by a blank line.

    Example:
        >>> decoder = EventDecoder()
        >>> decoder.feed(b": hello\ndata: a\nda")
        []
        >>> decoder.feed(b"ta: b\r\n\r\n")
        ['a\nb']
    """

    def __init__(self) -> None:
        utf8 = codecs.getincrementaldecoder("utf-8-sig")()
        self._decode = io.IncrementalNewlineDecoder(utf8, translate=True).decode
        self._line: list[str] = []  # pieces of the line under way
        self._data: list[str] = []

    def feed(self, chunk: bytes) -> list[str]:
        """Return the data of the events that `chunk` completes.

        Raises:
            UnicodeDecodeError: The stream is not UTF-8.
        """
        events = []
        first, *others = self._decode(chunk).split("\n")
        self._line.append(first)
        for piece in others:
            line, self._line = "".join(self._line), [piece]
            field, _, value = line.partition(":")
            if not line and self._data:
                events.append("\n".join(self._data))
                self._data = []
            elif field == "data":
                self._data.append(value.removeprefix(" "))
        return events


class _Content(pydantic.BaseModel):
    content: str | None = None


class _Choice(pydantic.BaseModel):
    index: int = 0
    delta: _Content | None = None
    message: _Content | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Any = None

    @property
    def content(self) -> str | None:
        inner = self.delta or self.message
        return self.text if inner is None else inner.content


class _Chunk(pydantic.BaseModel):
    choices: list[_Choice]
    usage: Any = None


class _UsageBody(pydantic.BaseModel, strict=True):
    prompt_tokens: pydantic.NonNegativeInt
    completion_tokens: pydantic.NonNegativeInt
    prompt_tokens_details: Any = None


class _TopScore(pydantic.BaseModel):
    token: str
    logprob: pydantic.FiniteFloat
    bytes: list[int] | None = None


class _Score(_TopScore):
    top_logprobs: list[_TopScore] = []


class _ChatScores(pydantic.BaseModel):
    content: list[_Score]


class _TextScores(pydantic.BaseModel):
    tokens: list[str]
    token_logprobs: list[pydantic.FiniteFloat]
    top_logprobs: list[dict[str, pydantic.FiniteFloat]] | None = None


_OBJECT: pydantic.TypeAdapter[dict[str, Any]] = pydantic.TypeAdapter(dict[str, Any])


def _problem(error: pydantic.ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    return f"is not what the API promises{f' at {place}' if place else ''}: {first['msg']}"


def _parse_object(data: str | bytes) -> tuple[dict[str, Any], str]:
    """The JSON object, or nothing and what is wrong."""
    try:
        return _OBJECT.validate_json(data), ""
    except pydantic.ValidationError as error:
        return {}, _problem(error)


def _parse_chunk(value: dict[str, Any]) -> tuple[_Chunk | None, str]:
    try:
        return _Chunk.model_validate(value), ""
    except pydantic.ValidationError as error:
        return None, _problem(error)


def _parse_usage(value: object) -> Usage | None:
    try:
        usage = _UsageBody.model_validate(value)
    except pydantic.ValidationError:
        return None
    details = usage.prompt_tokens_details
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    if type(cached) is not int or not 0 <= cached <= usage.prompt_tokens:
        cached = 0
    return Usage(usage.prompt_tokens, usage.completion_tokens, cached)


def _parse_scores(value: object) -> list[tuple[float, float | None]]:
    """Log-probability and margin of each token; nothing when the server did not give them in a known form."""
    if not isinstance(value, dict):
        return []
    try:
        if value.get("token_logprobs") is not None:
            texts = _TextScores.model_validate(value)
            tops = texts.top_logprobs or [{}] * len(texts.tokens)
            if not len(texts.tokens) == len(texts.token_logprobs) == len(tops):
                return []
            return [
                (min(0.0, logprob), _margin(logprob, [other for text, other in top.items() if text != token]))
                for token, logprob, top in zip(texts.tokens, texts.token_logprobs, tops, strict=True)
            ]
        return [
            (min(0.0, score.logprob), _margin(score.logprob, _others(score)))
            for score in _ChatScores.model_validate(value).content
        ]
    except pydantic.ValidationError:
        return []


def _others(score: _Score) -> list[float]:
    """Log-probabilities of the alternatives; two tokens may look alike when each is part of a character."""
    own = (score.token, score.bytes)
    return [top.logprob for top in score.top_logprobs if (top.token, top.bytes) != own]


def _margin(logprob: float, others: Sequence[float]) -> float | None:
    return logprob - max(others) if others else None


def _reason(value: Mapping[str, Any]) -> tuple[str, str]:
    """What an error body says, and its code; the shapes of OpenAI, vLLM, Ollama, llama-server and FastAPI."""
    inner = value.get("error") or value
    if isinstance(inner, str):
        return inner, ""
    if not isinstance(inner, dict):
        return "", ""
    words = next((inner[field] for field in ("message", "detail") if inner.get(field)), "")
    numbers = " ".join(
        f"{field} {inner[field]}" for field in ("n_prompt_tokens", "n_ctx") if type(inner.get(field)) is int
    )
    code = next((inner[field] for field in ("code", "type") if isinstance(inner.get(field), str)), "")
    return " ".join(filter(None, (words if isinstance(words, str) else json.dumps(words), numbers))), code


def _as_overflow(said: str, code: str) -> tuple[int | None, int | None] | None:
    """Tokens needed and available where the server names them, if it says that the window is too small."""
    if code not in ("context_length_exceeded", "exceed_context_size_error") and not _OVERFLOW.search(said):
        return None
    available, needed = _LIMIT_WORDS.search(said), _NEEDED_WORDS.search(said)
    return int(needed[1]) if needed else None, int(available[1]) if available else None


def _hint(status: int, is_out_of_money: bool) -> str:
    if is_out_of_money:
        return "The account has no credit left; waiting does not help"
    if status in (401, 403):
        return "Check `api_key` and what it may use"
    if status == 404:
        return "Check `base_url` (it mostly ends in /v1) and `model`"
    if status == 429:
        return "Ask less often, or lower `parallel`"
    if status in _RETRYABLE:
        return "The server may recover; ask again later"
    return "Change the request; asking again does not help"


# Arguments


def _check_at_least(least: int, **values: float) -> None:
    for argument, value in values.items():
        if not least <= value < math.inf:
            raise ConfigurationError(f"`{argument}` must be at least {least}, got {value!r}")


def _check_seconds(argument: str, seconds: float) -> None:
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise ConfigurationError(f"`{argument}` must be greater than 0 seconds, got {seconds!r}")


def _check_url(base_url: str, allowed_hosts: Iterable[str] | None) -> bool:
    """Whether the URL names this machine."""
    try:
        url = httpx.URL(base_url)
    except (httpx.InvalidURL, TypeError, ValueError):
        url = httpx.URL("")
    if url.userinfo or url.query or url.fragment:
        raise ConfigurationError("`base_url` must hold no user, password, query or fragment. Pass a key as `api_key`")
    if url.scheme not in ("http", "https") or not url.host:
        raise ConfigurationError(f"`base_url` must be http://HOST... or https://HOST..., got {base_url!r}")
    if allowed_hosts is not None:
        allowed = [allowed_hosts] if isinstance(allowed_hosts, str) else list(allowed_hosts)
        if url.host.lower() not in {host.lower() for host in allowed}:
            raise ConfigurationError(
                f"{url.host} is not among `allowed_hosts`: {', '.join(allowed) or 'there are none'}"
            )
    try:
        return ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.host.lower() == "localhost" or url.host.lower().endswith(".localhost")
