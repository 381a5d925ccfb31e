"""Requests whose response is one JSON value, such as embeddings and rankings."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

from leanrag.remote.attempts import Attempt, Operation
from leanrag.remote.protocol import is_error, parse_json, parse_reason

__all__ = ["JsonCall", "JsonReply", "reported_tokens", "run_all"]

T = TypeVar("T")


class JsonReply(Attempt, Generic[T]):
    """What has arrived of a response.

    Attributes:
        value: The parsed response; None until it has arrived.
        tokens: Tokens of the request, as the server reports them; None if it does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.value: T | None = None
        self.tokens: int | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the response has arrived."""
        return self.value is not None


class JsonCall(Operation[JsonReply[T]], Generic[T]):
    """A request whose response is one JSON value.

    Args:
        path: The end of the URL.
        fields: The body.
        parse: Makes the value from the JSON; raises `ValueError` with the problem, which follows "the response of the model".
        seconds: Time limit for all attempts.
    """

    is_streamed = False

    def __init__(
        self, path: str, fields: Mapping[str, object], parse: Callable[[object], T], *, seconds: float
    ) -> None:
        self.path, self.seconds = path, seconds
        self._fields, self._parse = fields, parse

    def begin(self) -> JsonReply[T]:
        """Return an empty reply."""
        return JsonReply()

    def body(self) -> dict[str, object]:
        """Return the body."""
        return dict(self._fields)

    async def read(self, content_type: str, chunks: AsyncIterator[bytes], attempt: JsonReply[T]) -> None:
        """Read the response, whatever type it names."""
        del content_type
        value, problem = parse_json(b"".join([chunk async for chunk in chunks]))
        if isinstance(value, dict) and is_error(value):
            reason = parse_reason(value)
            attempt.refuse(reason.status or 200, reason)
        if not problem:
            try:
                attempt.value = self._parse(value)
            except (ValueError, RecursionError) as error:
                problem = str(error)
        if problem:
            raise attempt.failures.broken(problem)
        attempt.tokens = reported_tokens(value)


def reported_tokens(value: object) -> int | None:
    """Return the prompt tokens in the usage of a response; None if it has none, or impossible numbers."""
    usage = value.get("usage") if isinstance(value, dict) else None
    if not isinstance(usage, dict):
        return None
    tokens = usage.get("prompt_tokens", usage.get("total_tokens"))
    return tokens if type(tokens) is int and tokens >= 0 else None


async def run_all(jobs: Sequence[Callable[[], Awaitable[T]]], parallel: int) -> list[T]:
    """Return the result of each job, in order. At most `parallel` run at the same time; if one fails, the others stop."""
    results: dict[int, T] = {}
    waiting = iter(enumerate(jobs))

    async def work() -> None:
        for i, job in waiting:
            results[i] = await job()

    tasks = [asyncio.create_task(work()) for _ in range(min(parallel, len(jobs)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return [results[i] for i in range(len(jobs))]
