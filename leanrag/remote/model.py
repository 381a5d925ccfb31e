"""`RemoteModel`: a model behind an API that answers prompts."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeVar

import httpx

from leanrag.checks import ProcessGuard, check_whole
from leanrag.errors import ConfigurationError, GenerationCancelled, GenerationError
from leanrag.generation import BaseLanguageModel, PendingStream, check_window, part_thoughts
from leanrag.ledger import Cost, Prices
from leanrag.models import load_encoding
from leanrag.pending import ThoughtFilter
from leanrag.protocols import GenerateOptions
from leanrag.remote.exchange import OWN_FIELDS, Endpoint, Exchange, Query, Reply
from leanrag.remote.keys import Secret
from leanrag.remote.protocol import parse_usage
from leanrag.remote.safety import Safety, check_secrets, check_url
from leanrag.remote.waiting import Breaker, Clock, Retry, Timeouts
from leanrag.remote.worker import Call, Work, Worker
from leanrag.types import CancelToken, Generation, Message, Prompt, Usage

__all__ = ["RemoteModel", "RemoteUsage"]

T = TypeVar("T")

logger = logging.getLogger(__name__)

_MISMATCH_SLACK = 16  # tokens; a template may add as many to a short prompt


@dataclass(frozen=True, slots=True)
class RemoteUsage(Usage):
    """Tokens of a call as the server bills them. `completion_tokens` may include the end token and hidden reasoning.

    Attributes:
        counted_prompt_tokens: Result of `RemoteModel.count` for the prompt.
        is_billed: Whether the server reported the tokens; if it reported none, or impossible numbers, they are estimates.
        prompt_mismatch: "fewer" if the server bills clearly fewer prompt tokens than were counted (it may have cut the prompt),
            "more" if it bills clearly more; None if the numbers agree, or nothing was billed.
    """

    counted_prompt_tokens: int = 0
    is_billed: bool = True
    prompt_mismatch: Literal["fewer", "more"] | None = None

    def __add__(self, other: Usage) -> RemoteUsage:
        """Add another usage; local usage counts as billed. The sum is billed if each part is."""
        if not isinstance(other, Usage):
            return NotImplemented
        if not isinstance(other, RemoteUsage):
            other = RemoteUsage(other.prompt_tokens, other.completion_tokens, other.cached_tokens, other.prompt_tokens)
        mismatches = {self.prompt_mismatch, other.prompt_mismatch}
        return RemoteUsage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            self.counted_prompt_tokens + other.counted_prompt_tokens,
            self.is_billed and other.is_billed,
            "fewer" if "fewer" in mismatches else "more" if "more" in mismatches else None,
        )

    __radd__ = __add__


class RemoteModel(BaseLanguageModel):
    """A model behind an OpenAI-compatible API. Any thread may call. Nothing is sent when the object is made.

    `count` and `count_tokens` are estimates (`is_exact` is False), unless you pass the `count_tokens` of the model's tokenizer.
    `Generation.usage`, a `RemoteUsage`, has the tokens that were spent. Log-probabilities are requested, and returned if the
    server sends them; the server does not say whether they are before or after the temperature.

    Args:
        model: Name of the model on the server.
        base_url: URL of the API, such as "https://api.openai.com/v1" or "http://localhost:8080/v1".
        n_ctx: Window of the model in tokens; APIs do not report it.
        api_key: The key, a function that returns it (called for each request), or `env("NAME")`; None for servers without keys.
        count_tokens: Counts the tokens of a plain text; tiktoken's cl100k_base by default.
        is_chat: Whether it reads messages; strings are always sent unchanged to the completions endpoint.
        name: Value of `Answer.model`; `model` by default.
        prices: Prices of the model.
        timeouts: How long a request may take.
        retry: How often to try again.
        safety: What may be sent where, and what is accepted from the server.
        parallel: Most requests that are sent at the same time; others wait.
        logprobs: Request log-probabilities; if the server refuses that, the request is sent again without them.
        redact: Function that is applied to each text before it is counted, shown or sent.
        headers: Further headers; they are kept secret like the key.
        extra_body: Further fields of the JSON body of a request.
        transport: Replaces the network, for tests.
        clock: Replaces time and random numbers, for tests.

    Raises:
        ConfigurationError: An argument cannot work.

    Example:
        >>> model = RemoteModel("qwen3", base_url="http://localhost:8080/v1", n_ctx=8192)
        >>> model
        RemoteModel('qwen3', base_url='http://localhost:8080/v1', n_ctx=8192)
    """

    is_exact = False
    """Whether `count` is certainly equal to the count of the server."""

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
        timeouts: Timeouts | None = None,
        retry: Retry | None = None,
        safety: Safety | None = None,
        parallel: int = 8,
        logprobs: bool = True,
        redact: Callable[[str], str] | None = None,
        headers: Mapping[str, str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        key: Secret | Callable[[], str] | None = Secret(api_key) if isinstance(api_key, str) else api_key
        secrets = {field: Secret(value) for field, value in (headers or {}).items()}
        del api_key, headers  # so that no traceback shows them
        timeouts, retry, safety = timeouts or Timeouts(), retry or Retry(), safety or Safety()
        check_whole(1, n_ctx=n_ctx, parallel=parallel)
        if not model:
            raise ConfigurationError("`model` must be the name of the model on the server, got ''")
        self._is_local = check_url(base_url, safety.allowed_hosts)
        self._base_url = base_url.rstrip("/")
        check_secrets(key, secrets, self._base_url, is_safe=safety.allow_insecure or self._is_local)
        if taken := OWN_FIELDS & set(extra_body or ()):
            raise ConfigurationError(
                f"`extra_body` cannot have the fields {', '.join(sorted(taken))}, because each request sets them. Remove them"
            )
        try:
            more: dict[str, object] = json.loads(json.dumps(dict(extra_body or {}), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"`extra_body` must have only values that JSON has: {error}") from error

        self.model = model
        self.name = name or model
        self.n_ctx = n_ctx
        self.is_chat = is_chat
        self.prices = prices
        self._count_text = count_tokens
        self._redact = redact
        self._timeouts, self._safety = timeouts, safety
        self._parallel = parallel
        self._transport = transport
        clock = clock or Clock()
        self._exchange = Exchange(
            Endpoint(
                model=model,
                name=self.name,
                base_url=self._base_url,
                n_ctx=n_ctx,
                api_key=key,
                headers=secrets,
                extra_body=more,
                first_token_seconds=timeouts.first_token_seconds,
                max_retries=retry.max_retries,
                parallel=parallel,
                logprobs=logprobs,
                max_body_bytes=safety.max_body_bytes,
            ),
            Breaker(retry.breaker_failures, retry.breaker_seconds, clock.monotonic),
            clock,
        )
        self._lock = threading.Lock()
        self._guard = ProcessGuard()
        self._closed = False
        self._worker: Worker | None = None

    @property
    def base_url(self) -> str:
        """URL of the API."""
        return self._base_url

    def __repr__(self) -> str:
        return f"RemoteModel({self.model!r}, base_url={self._base_url!r}, n_ctx={self.n_ctx})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a RemoteModel cannot be pickled, because it may contain a key. Make it in the process that uses it"
        )

    def close(self) -> None:
        """Stop all requests and close the connections. May be called twice; does nothing in a forked child."""
        if not self._guard.is_here:
            return
        with self._lock:
            self._closed = True
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    def price(self, usage: Usage) -> Cost:
        """Return the cost of `usage`; None if the model has no prices, or the server did not bill it."""
        if self.prices is None or (isinstance(usage, RemoteUsage) and not usage.is_billed):
            return None
        return self.prices.cost(usage)

    def count_tokens(self, text: str) -> int:
        """Return the tokens of plain `text`: an estimate, unless the constructor got the tokenizer of the model."""
        if self._count_text is not None:
            return self._count_text(text)
        return len(self._encoding.encode_ordinary(text))

    @functools.cached_property
    def _encoding(self) -> Any:
        return load_encoding("cl100k_base")

    def count(self, prompt: Prompt) -> int:
        """Return an estimate of the tokens of the prompt: its texts, and for messages the usual tokens of a chat template."""
        return super().count(self._checked(prompt))

    def render(self, prompt: Prompt) -> str:
        """Return the texts that are sent, after `redact`. The server joins messages with its chat template."""
        return super().render(self._checked(prompt))

    def stream(self, prompt: Prompt, options: GenerateOptions) -> PendingStream[Generation, Generation]:
        """Return the completion of `prompt`, piece by piece: iterate, then read `result`.

        Leaving the loop early closes the connection.

        Raises:
            ContextOverflowError: The prompt and `max_tokens` exceed `n_ctx`, or the server says that they exceed the window.
            GenerationCancelled: `cancel` was called.
            GenerationTimeout: There was no text within `first_token_seconds`, or the time limit was reached.
            RemoteError: The server cannot be reached, refused the request, or did not keep to the API.
        """
        request = self._request(prompt, options)
        call = self._submit(lambda connections, emit: self._complete(connections, request, emit), options.cancel)
        return PendingStream(call, lambda generation: generation, owner=self, thoughts=ThoughtFilter())

    def _generate_many(self, prompts: Iterable[Prompt], options: GenerateOptions) -> list[Generation]:
        """Check all prompts, then send at most `parallel` of them at a time; each has its time limit."""
        requests = [self._request(prompt, options) for prompt in prompts]

        async def work(connections: httpx.AsyncClient, _: Callable[[str], None]) -> list[Generation]:
            results: dict[int, Generation] = {}
            todo = iter(enumerate(requests))

            async def take() -> None:
                for number, request in todo:
                    results[number] = await self._complete(connections, request, _ignore)

            tasks = [asyncio.create_task(take()) for _ in range(min(self._parallel, len(requests)))]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
            return [results[number] for number in range(len(requests))]

        return self._submit(work, options.cancel).result

    # The request

    def _checked(self, prompt: Prompt) -> Prompt:
        """Return the prompt as it is sent."""
        prompt = self._readable(prompt)
        if isinstance(prompt, str):
            return self._redacted(prompt)
        return [Message(message.role, self._redacted(message.content)) for message in prompt]

    def _redacted(self, text: str) -> str:
        if self._redact is None:
            return text
        redacted = self._redact(text)
        if not isinstance(redacted, str):
            raise ConfigurationError(f"`redact` must return a string, got {type(redacted).__name__}")
        return redacted

    def _request(self, prompt: Prompt, options: GenerateOptions) -> Query:
        self._check_usable()
        if options.cancel is not None and options.cancel.cancelled:
            raise GenerationCancelled(f"the request to {self.name} was cancelled", model=self.name)
        checked = self._checked(prompt)
        if not checked:
            raise ConfigurationError("the prompt is empty. It must have at least one token")
        counted = check_window(self, super().count(checked), options)
        fields: dict[str, object] = {"temperature": options.temperature}
        if isinstance(checked, str):
            fields["prompt"] = checked
        else:
            fields["messages"] = [{"role": message.role, "content": message.content} for message in checked]
        if options.stop:
            fields["stop"] = list(options.stop)
        if options.seed is not None:
            fields["seed"] = options.seed
        return Query(
            fields=fields,
            counted=counted,
            max_tokens=options.max_tokens,
            stop=tuple(options.stop),
            seed=options.seed if options.temperature > 0 else None,
            seconds=self._timeouts.total_seconds if options.timeout_seconds is None else options.timeout_seconds,
        )

    def _check_usable(self) -> None:
        advice = "Make a RemoteModel in this process"
        self._guard.check(self.name, functools.partial(GenerationError, model=self.name), advice=advice)
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> GenerationError:
        return GenerationError(f"{self.name} is closed. Make a new RemoteModel to use it", model=self.name)

    # The exchange with the server

    def _submit(self, work: Work[T], cancel: CancelToken | None) -> Call[T]:
        with self._lock:  # `close` takes it too, so every submitted call has begun before the worker stops
            self._check_usable()
            if self._worker is None:
                self._worker = Worker(self._open_client(), self.name)
                weakref.finalize(self, self._worker.stop)
            call = Call(self._worker, work, self.name)
        if cancel is not None:
            cancel.on_cancel(call.cancel)
        return call

    def _open_client(self) -> httpx.AsyncClient:
        try:
            return httpx.AsyncClient(
                timeout=httpx.Timeout(None, connect=self._timeouts.connect_seconds),
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=self._parallel),
                headers={"User-Agent": "leanrag", "Accept-Encoding": "identity"},
                follow_redirects=False,
                trust_env=not self._is_local,  # a proxy cannot reach this machine
                # reading certificates takes time; the variables that name them are used for this machine too
                verify=httpx.create_ssl_context()
                if self._base_url.lower().startswith("https:")
                else not self._is_local,
                transport=self._transport,
            )
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            problem = type(error).__name__  # its message may contain a proxy's password
        raise ConfigurationError(
            f"connections cannot be set up ({problem}). Check the environment variables HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"
        )

    async def _complete(
        self, connections: httpx.AsyncClient, request: Query, emit: Callable[[str], None]
    ) -> Generation:
        reply = await self._exchange.complete(connections, request, emit)
        thoughts, text = part_thoughts(reply.text)
        return Generation(
            text=text,
            model=self.name,
            finish_reason=reply.match_stop.reason or reply.finish_reason or "stop",
            usage=self._usage(request, reply),
            logprobs=reply.logprobs,
            margins=reply.margins,
            seed=request.seed,
            prefill_seconds=reply.prefill_seconds,
            decode_seconds=reply.decode_seconds,
            thoughts="".join(reply.thoughts).strip() or thoughts,
        )

    def _usage(self, request: Query, reply: Reply) -> RemoteUsage:
        billed = parse_usage(reply.usage)
        if billed is None:
            if reply.usage is not None:
                logger.warning("%s reported an impossible usage: %.200s", self.name, reply.scrub(repr(reply.usage)))
            return RemoteUsage(
                request.counted, self.count_tokens(reply.text), counted_prompt_tokens=request.counted, is_billed=False
            )
        counted, slack = request.counted, _MISMATCH_SLACK + self._safety.count_tolerance * request.counted
        mismatch: Literal["fewer", "more"] | None = None
        if abs(billed.prompt_tokens - counted) > slack:
            mismatch = "fewer" if billed.prompt_tokens < counted else "more"
            logger.warning(
                "%s bills %d prompt tokens, but %d were counted: %s",
                self.name,
                billed.prompt_tokens,
                counted,
                "it may have cut the prompt" if mismatch == "fewer" else "its tokenizer or template needs more tokens",
            )
        return RemoteUsage(
            billed.prompt_tokens,
            billed.completion_tokens,
            billed.cached_tokens,
            counted_prompt_tokens=counted,
            prompt_mismatch=mismatch,
        )


def _ignore(_: str) -> None:
    pass
