"""`RemoteReranker`: a model behind an API that scores how well each text answers a question."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

import httpx

from leanrag.checks import check_whole
from leanrag.ledger import Cost, Prices
from leanrag.remote.bill import Bill
from leanrag.remote.body import check_extra_body
from leanrag.remote.calls import JsonCall, run_all
from leanrag.remote.connection import Connection, ConnectionKeywords, take_secrets
from leanrag.types import Hit, Usage

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["RemoteReranker"]


class RemoteReranker:
    """A reranking model behind an API with the endpoint `/rerank`, as vLLM, llama-server and Jina have it.

    The server gets the question and the text of each hit below its title, headings and lead. `Hit.score` becomes the relevance
    that the server returns. Hits that the server leaves out follow the others, with the lowest score. Any thread may call.

    Args:
        model: Name of the model on the server.
        base_url: URL of the API, such as "https://api.jina.ai/v1".
        batch_size: Most texts of a request.
        prices: Prices of the model.
        extra_body: Further fields of the JSON body of a request.
        connection: How the server is reached; see `leanrag.remote.ConnectionKeywords`.

    Raises:
        ConfigurationError: An argument cannot work.

    Example:
        >>> RemoteReranker("bge-reranker-v2-m3", base_url="http://localhost:8080/v1")
        RemoteReranker('bge-reranker-v2-m3', base_url='http://localhost:8080/v1')
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        batch_size: int = 128,
        prices: Prices | None = None,
        extra_body: Mapping[str, object] | None = None,
        **connection: Unpack[ConnectionKeywords],
    ) -> None:
        secrets, options = take_secrets(connection)
        check_whole(1, batch_size=batch_size)
        self.model = model
        self._batch_size = batch_size
        self._extra = check_extra_body(extra_body, taken=frozenset({"model", "query", "documents"}))
        self._connection = Connection("RemoteReranker", model, base_url, secrets, **options)
        self._bill = Bill(prices)

    def __repr__(self) -> str:
        return f"RemoteReranker({self.model!r}, base_url={self.base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a RemoteReranker cannot be pickled, because it may contain a key. Make it in the process that uses it"
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

    def rerank(self, question: str, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits, best first; hits with equal scores keep their order.

        Raises:
            GenerationTimeout: A time limit was reached.
            RemoteError: The server cannot be reached, refused the request, or did not keep to the API.
        """
        if not hits:
            return []
        scores = self._request(question, [hit.chunk.full_text for hit in hits])
        lowest = min((score for score in scores if score is not None), default=0.0)
        scored = [
            (score is not None, lowest if score is None else score, hit)
            for score, hit in zip(scores, hits, strict=True)
        ]
        scored.sort(key=lambda item: item[:2], reverse=True)
        return [dataclasses.replace(hit, score=score) for _, score, hit in scored]

    def close(self) -> None:
        """Stop all requests and close the connections. May be called twice."""
        self._connection.close()

    def _request(self, question: str, texts: Sequence[str]) -> list[float | None]:
        batches = [texts[i : i + self._batch_size] for i in range(0, len(texts), self._batch_size)]

        async def work(client: httpx.AsyncClient, _: Callable[[str], None]) -> list[float | None]:
            jobs = [functools.partial(self._request_batch, client, question, batch) for batch in batches]
            results = await run_all(jobs, self._connection.parallel)
            return [score for scores in results for score in scores]

        return self._connection.submit(work).result

    async def _request_batch(
        self, client: httpx.AsyncClient, question: str, texts: Sequence[str]
    ) -> list[float | None]:
        fields = {**self._extra, "model": self.model, "query": question, "documents": list(texts)}
        parse = functools.partial(_parse_scores, count=len(texts))
        call = JsonCall("rerank", fields, parse, seconds=self._connection.timeouts.total_seconds)
        reply = await self._connection.complete(client, call)
        self._bill.add(reply.tokens)
        assert reply.value is not None
        return reply.value


def _parse_scores(value: object, *, count: int) -> list[float | None]:
    """Return the score of each text, None if the server left it out: in `results`, in `data`, or in a bare list."""
    items = value.get("results", value.get("data")) if isinstance(value, dict) else value
    if not isinstance(items, list) or not items:
        raise ValueError("has no list `results` of scores. Check `base_url` and `model`")
    scores: list[float | None] = [None] * count
    for item in items:
        index = item.get("index") if isinstance(item, dict) else None
        if type(index) is not int or not 0 <= index < count or scores[index] is not None:
            raise ValueError(
                f"has a score for the text {index!r:.20}, which is not one of the {count} texts, or for a text twice"
            )
        score = item.get("relevance_score", item.get("score"))
        if type(score) not in (int, float) or not math.isfinite(score):
            raise ValueError(f"has the score {score!r:.20}, which is not a finite number")
        scores[index] = float(score)
    return scores
