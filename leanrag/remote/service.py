"""What an embedder and a reranker behind an API share: the connection, the bill and the requests for batches."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NoReturn, TypeVar

import httpx

from leanrag.ledger import Cost, Prices
from leanrag.remote.bill import Bill
from leanrag.remote.body import check_extra_body
from leanrag.remote.calls import JsonCall, JsonReply, run_all
from leanrag.remote.connection import Connection, ConnectionKeywords, take_secrets
from leanrag.types import Usage

__all__ = ["Service"]

T = TypeVar("T")


class Service:
    """A model behind an API whose responses are JSON values. Any thread may call; nothing is sent when it is made.

    Args:
        model: Name of the model on the server.
        base_url: URL of the API.
        path: The end of the URL of requests.
        taken: Fields that each request sets.
        prices: Prices of the model.
        extra_body: Further fields of the JSON body of a request.
        connection: How the server is reached.

    Raises:
        ConfigurationError: An argument cannot work.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        path: str,
        *,
        taken: Collection[str],
        prices: Prices | None,
        extra_body: Mapping[str, object] | None,
        connection: ConnectionKeywords,
    ) -> None:
        secrets, options = take_secrets(connection)
        self.model = model
        self._path = path
        self._extra = check_extra_body(extra_body, taken={"model", *taken})
        self._connection = Connection(type(self).__name__, model, base_url, secrets, **options)
        self._bill = Bill(prices)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model!r}, base_url={self.base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled, because it may contain a key. Make it in the process that uses it"
        )

    @property
    def base_url(self) -> str:
        """URL of the API."""
        return self._connection.base_url

    @property
    def usage(self) -> Usage | None:
        """Tokens of all requests so far; None if the server did not report those of a request."""
        return self._bill.usage

    @property
    def cost(self) -> Cost:
        """Cost of all requests so far; None if a usage or the prices are unknown."""
        return self._bill.cost

    def close(self) -> None:
        """Stop all requests and close the connections. May be called twice."""
        self._connection.close()

    def _request_all(
        self, texts: Sequence[str], size: int, request: Callable[[httpx.AsyncClient, Sequence[str]], Awaitable[list[T]]]
    ) -> list[T]:
        """Return the results of `request` for all texts, in order; a batch has at most `size` texts."""
        batches = [texts[i : i + size] for i in range(0, len(texts), size)]

        async def work(client: httpx.AsyncClient, _: Callable[[str], None]) -> list[T]:
            async def request_batch(batch: Sequence[str]) -> list[T]:
                return await request(client, batch)

            results = await run_all(
                [functools.partial(request_batch, batch) for batch in batches], self._connection.parallel
            )
            return [result for group in results for result in group]

        return self._connection.submit(work).result

    async def _post(self, client: httpx.AsyncClient, fields: Mapping[str, object], parse: Callable[[object], T]) -> T:
        """Send a request, add its tokens to the bill, and return what `parse` makes of the response."""
        body = {**self._extra, "model": self.model, **fields}
        call = JsonCall(self._path, body, parse, seconds=self._connection.timeouts.total_seconds)
        reply: JsonReply[T] = await self._connection.complete(client, call)
        self._bill.add(reply.tokens)
        assert reply.value is not None
        return reply.value
