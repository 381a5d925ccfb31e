"""`RemoteReranker`: a model behind an API that scores how well each text answers a question."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import httpx

from leanrag.checks import check_whole
from leanrag.ledger import Prices
from leanrag.remote.connection import ConnectionKeywords
from leanrag.remote.service import Service
from leanrag.types import Hit

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["RemoteReranker"]


class RemoteReranker(Service):
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
        super().__init__(
            model,
            base_url,
            "rerank",
            taken={"query", "documents"},
            prices=prices,
            extra_body=extra_body,
            connection=connection,
        )
        check_whole(1, batch_size=batch_size)
        self._batch_size = batch_size

    def rerank(self, question: str, hits: Sequence[Hit]) -> list[Hit]:
        """Return the hits, best first; hits with equal scores keep their order.

        Raises:
            GenerationTimeout: A time limit was reached.
            RemoteError: The server cannot be reached, refused the request, or did not keep to the API.
        """
        if not hits:
            return []
        texts = [hit.chunk.full_text for hit in hits]
        request = functools.partial(self._request_batch, question)
        scores = self._request_all(texts, self._batch_size, request)
        lowest = min((score for score in scores if score is not None), default=0.0)
        scored = [
            (score is not None, lowest if score is None else score, hit)
            for score, hit in zip(scores, hits, strict=True)
        ]
        scored.sort(key=lambda item: item[:2], reverse=True)
        return [dataclasses.replace(hit, score=score) for _, score, hit in scored]

    async def _request_batch(
        self, question: str, client: httpx.AsyncClient, texts: Sequence[str]
    ) -> list[float | None]:
        parse = functools.partial(_parse_scores, count=len(texts))
        return await self._post(client, {"query": question, "documents": list(texts)}, parse)


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
