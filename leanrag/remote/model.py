"""`RemoteModel`: a model behind an API that answers prompts."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import httpx

from leanrag.checks import check_whole
from leanrag.errors import ConfigurationError, GenerationCancelled
from leanrag.generation import BaseLanguageModel, PendingStream, check_window, part_generated
from leanrag.ledger import Cost, Prices
from leanrag.models import load_encoding
from leanrag.pending import ThoughtFilter
from leanrag.protocols import GenerateOptions
from leanrag.remote.body import check_extra_body
from leanrag.remote.calls import run_all
from leanrag.remote.connection import Connection, ConnectionKeywords, take_secrets
from leanrag.remote.exchange import Exchange, Reply
from leanrag.remote.protocol import parse_usage
from leanrag.remote.refusals import OWN_FIELDS, Fields, Query
from leanrag.types import Generation, Message, Prompt, Usage

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["RemoteModel", "RemoteUsage"]

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

    A field that the model refuses (`temperature`, `logprobs`, `stop`, `seed`, `max_tokens`, streaming) is left out, or replaced,
    from then on; a log line says so. The stop strings end the text in any case.

    Args:
        model: Name of the model on the server.
        base_url: URL of the API, such as "https://api.openai.com/v1" or "http://localhost:8080/v1".
        n_ctx: Window of the model in tokens; APIs do not report it.
        count_tokens: Counts the tokens of a plain text; tiktoken's cl100k_base by default.
        is_chat: Whether it reads messages; strings are always sent unchanged to the completions endpoint.
        name: Value of `Answer.model`; `model` by default.
        prices: Prices of the model.
        logprobs: Request log-probabilities; if the server refuses that, the request is sent again without them.
        redact: Function that is applied to each text before it is counted, shown or sent.
        extra_body: Further fields of the JSON body of a request.
        connection: How the server is reached: `api_key`, `headers`, `query`, `timeouts`, `retry`, `safety`, `parallel`,
            `transport` and `clock`; see `leanrag.remote.ConnectionKeywords`.

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
        count_tokens: Callable[[str], int] | None = None,
        is_chat: bool = True,
        name: str | None = None,
        prices: Prices | None = None,
        logprobs: bool = True,
        redact: Callable[[str], str] | None = None,
        extra_body: Mapping[str, object] | None = None,
        **connection: Unpack[ConnectionKeywords],
    ) -> None:
        secrets, options = take_secrets(connection)
        check_whole(1, n_ctx=n_ctx)
        if not model:
            raise ConfigurationError("`model` must be the name of the model on the server, got ''")
        self.model = model
        self.name = name or model
        self._connection = Connection("RemoteModel", self.name, base_url, secrets, n_ctx=n_ctx, **options)
        self.n_ctx = n_ctx
        self.is_chat = is_chat
        self.prices = prices
        self._count_text = count_tokens
        self._redact = redact
        self._fields = Fields(model, self.name, logprobs=logprobs, extra=check_extra_body(extra_body, taken=OWN_FIELDS))

    @property
    def base_url(self) -> str:
        """URL of the API."""
        return self._connection.base_url

    def __repr__(self) -> str:
        return f"RemoteModel({self.model!r}, base_url={self.base_url!r}, n_ctx={self.n_ctx})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a RemoteModel cannot be pickled, because it may contain a key. Make it in the process that uses it"
        )

    def close(self) -> None:
        """Stop all requests and close the connections. May be called twice; does nothing in a forked child."""
        self._connection.close()

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
        query = self._query(prompt, options)
        call = self._connection.submit(lambda client, emit: self._complete(client, query, emit), options.cancel)
        return PendingStream(call, lambda generation: generation, owner=self, thoughts=ThoughtFilter())

    def _generate_many(self, prompts: Iterable[Prompt], options: GenerateOptions) -> list[Generation]:
        """Check all prompts, then send at most `parallel` of them at a time; each has its time limit."""
        queries = [self._query(prompt, options) for prompt in prompts]

        async def work(client: httpx.AsyncClient, _: Callable[[str], None]) -> list[Generation]:
            jobs = [functools.partial(self._complete, client, query, _ignore) for query in queries]
            return await run_all(jobs, self._connection.parallel)

        return self._connection.submit(work, options.cancel).result

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

    def _query(self, prompt: Prompt, options: GenerateOptions) -> Query:
        self._connection.check_usable()
        if options.cancel is not None and options.cancel.cancelled:
            raise GenerationCancelled(f"the request to {self.name} was cancelled", model=self.name)
        checked = self._checked(prompt)
        if not checked:
            raise ConfigurationError("the prompt is empty. It must have at least one token")
        counted = check_window(self, super().count(checked), options)
        timeout_seconds = options.timeout_seconds
        return Query(
            prompt=checked
            if isinstance(checked, str)
            else [{"role": message.role, "content": message.content} for message in checked],
            counted=counted,
            max_tokens=options.reserved_tokens,
            temperature=options.temperature,
            stop=tuple(options.stop),
            seed=options.seed if options.temperature > 0 else None,
            seconds=self._connection.timeouts.total_seconds if timeout_seconds is None else timeout_seconds,
        )

    async def _complete(self, client: httpx.AsyncClient, query: Query, emit: Callable[[str], None]) -> Generation:
        exchange = Exchange(query, self._fields, emit, self._connection.monotonic)
        reply = await self._connection.complete(client, exchange)
        parted = part_generated(reply.text)
        return Generation(
            text=parted.text,
            model=self.name,
            finish_reason=reply.match_stop.reason or reply.finish_reason or "stop",
            usage=self._usage(query, reply),
            logprobs=None if parted.thoughts else reply.logprobs,  # which of them are of the answer is not known
            margins=None if parted.thoughts else reply.margins,
            seed=query.seed if "seed" in reply.sent else None,
            prefill_seconds=reply.prefill_seconds,
            decode_seconds=reply.decode_seconds,
            thoughts=reply.thoughts.strip() or parted.thoughts,
        )

    def _usage(self, query: Query, reply: Reply) -> RemoteUsage:
        billed = parse_usage(reply.usage)
        if billed is None:
            if reply.usage is not None:
                logger.warning(
                    "%s reported an impossible usage: %.200s", self.name, reply.failures.scrub(repr(reply.usage))
                )
            return RemoteUsage(
                query.counted, self.count_tokens(reply.text), counted_prompt_tokens=query.counted, is_billed=False
            )
        counted, slack = query.counted, _MISMATCH_SLACK + self._connection.safety.count_tolerance * query.counted
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
