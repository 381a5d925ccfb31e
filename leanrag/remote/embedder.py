"""`RemoteEmbedder`: an embedding model behind an OpenAI-compatible API."""

from __future__ import annotations

import base64
import binascii
import collections
import functools
import hashlib
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np

from leanrag.checks import check_whole
from leanrag.errors import RemoteError
from leanrag.ledger import Prices
from leanrag.models import load_encoding
from leanrag.remote.connection import ConnectionKeywords
from leanrag.remote.service import Service
from leanrag.vectors import check_length, check_texts, embedder_id, room_for_text

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from leanrag.protocols import Vectors

__all__ = ["RemoteEmbedder"]

_SPECIAL_TOKENS = 2  # at the beginning and the end of a text, as most embedding models have them


class RemoteEmbedder(Service):
    """An embedding model behind an API with the endpoint `/embeddings`: OpenAI, vLLM, llama-server, Ollama and others.

    Texts are sent in batches; equal texts are sent once, and the last vectors are remembered. Nothing is sent when the object is
    made. Any thread may call.

    Args:
        model: Name of the model on the server.
        base_url: URL of the API, such as "https://api.openai.com/v1".
        dim: Columns of a row; None asks the server, when it is needed first.
        max_tokens: Most tokens of a text, special tokens included.
        count_tokens: Counts the tokens of a text without special tokens; tiktoken's cl100k_base, an estimate, by default.
        query_prefix: Put before each query.
        document_prefix: Put before each document.
        batch_size: Most texts of a request; it is halved if the server refuses so many.
        cache_size: Number of vectors to remember.
        prices: Prices of the model.
        extra_body: Further fields of the JSON body of a request, such as `{"dimensions": 256}`.
        connection: How the server is reached; see `leanrag.remote.ConnectionKeywords`.

    Raises:
        ConfigurationError: An argument cannot work.

    Example:
        >>> embedder = RemoteEmbedder("bge-m3", base_url="http://localhost:8080/v1", dim=1024)
        >>> embedder.dim
        1024
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str,
        dim: int | None = None,
        max_tokens: int = 512,
        count_tokens: Callable[[str], int] | None = None,
        query_prefix: str = "",
        document_prefix: str = "",
        batch_size: int = 64,
        cache_size: int = 4096,
        prices: Prices | None = None,
        extra_body: Mapping[str, object] | None = None,
        **connection: Unpack[ConnectionKeywords],
    ) -> None:
        super().__init__(
            model,
            base_url,
            "embeddings",
            taken={"input"},
            prices=prices,
            extra_body=extra_body,
            connection=connection,
        )
        check_whole(1, optional=True, dim=dim)
        check_whole(1, max_tokens=max_tokens, batch_size=batch_size, cache_size=cache_size)
        self._dim = dim
        self._count_text = count_tokens
        self._query_prefix, self._document_prefix = query_prefix, document_prefix
        self._batch_size = batch_size
        self._window = max_tokens
        self._cache_size = cache_size
        self._rows: collections.OrderedDict[str, Vectors] = collections.OrderedDict()
        self._lock = threading.Lock()

    @property
    def id(self) -> str:
        """Name of the model and a hash of the prefixes and the further fields."""
        fields = json.dumps(self._extra, sort_keys=True)
        return embedder_id(self.model, fields, self._query_prefix, self._document_prefix)

    @property
    def dim(self) -> int:
        """Columns of a row. If it is unknown, the server is asked to embed a word.

        Raises:
            RemoteError: The server cannot be reached, refused the request, or did not keep to the API.
        """
        if self._dim is None:
            self._embed(["a"], "", "query")
        assert self._dim is not None
        return self._dim

    @functools.cached_property
    def max_tokens(self) -> int:
        """Tokens that a text may have, special tokens included: the window less the longer prefix."""
        prefixes = max(map(self.count_tokens, (self._query_prefix, self._document_prefix)))
        return room_for_text(self._window, prefixes - _SPECIAL_TOKENS, _SPECIAL_TOKENS)

    def count_tokens(self, text: str) -> int:
        """Return the tokens of `text`, special tokens included: an estimate, unless the constructor got the tokenizer."""
        count = self._count_text or (lambda text: len(self._encoding.encode_ordinary(text)))
        return count(text) + _SPECIAL_TOKENS

    @functools.cached_property
    def _encoding(self) -> Any:
        return load_encoding("cl100k_base")

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)` float32, rows with L2 norm 1.

        Raises:
            ConfigurationError: A text is longer than the model reads.
            GenerationTimeout: A time limit was reached.
            RemoteError: The server cannot be reached, refused the request, or did not keep to the API.
        """
        return self._embed(texts, self._document_prefix, "document")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)` float32, rows with L2 norm 1; see `embed_documents` for the errors."""
        return self._embed(texts, self._query_prefix, "query")

    def _embed(self, texts: Sequence[str], prefix: str, role: str) -> Vectors:
        check_texts(texts)
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        whole = [prefix + text for text in texts]
        for text in whole:
            check_length(text, self.count_tokens(text), self._window, name=self.model, role=role)
        keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in whole]
        with self._lock:
            known = {key: self._rows[key] for key in keys if key in self._rows}
        missing = {key: text for key, text in zip(keys, whole, strict=True) if key not in known}
        if missing:
            known |= dict(
                zip(
                    missing,
                    self._request_all(list(missing.values()), self._batch_size, self._request_batch),
                    strict=True,
                )
            )
        with self._lock:
            for key in dict.fromkeys(keys):
                self._rows[key] = known[key]
                self._rows.move_to_end(key)
            while len(self._rows) > self._cache_size:
                self._rows.popitem(last=False)
        return np.stack([known[key] for key in keys])

    async def _request_batch(self, client: httpx.AsyncClient, texts: Sequence[str]) -> list[Vectors]:
        parse = functools.partial(_parse_rows, count=len(texts), dim=self._dim)
        try:
            rows = await self._post(client, {"input": list(texts)}, parse)
        except RemoteError as error:
            is_batch_too_long = error.status == 413 or (error.status in (400, 422) and "batch" in str(error).lower())
            if len(texts) == 1 or not is_batch_too_long:
                raise
        else:
            with self._lock:
                self._dim = self._dim or rows.shape[1]
            return list(rows)
        half = (len(texts) + 1) // 2
        self._batch_size = min(self._batch_size, half)
        return [*await self._request_batch(client, texts[:half]), *await self._request_batch(client, texts[half:])]


def _parse_rows(value: object, *, count: int, dim: int | None) -> Vectors:
    """Return the rows `(count, dim)` with norm 1 of a response of OpenAI, Ollama, Cohere or TEI."""
    items: object = value
    if isinstance(value, dict):
        items = value.get("data", value.get("embeddings"))
        if isinstance(items, dict):
            items = items.get("float")
    if not isinstance(items, list):
        raise ValueError("has no list `data` of embeddings. Check `base_url` and `model`")
    if len(items) != count:
        raise ValueError(f"has {len(items)} embeddings for {count} texts")
    rows = [_parse_row(item) for item in _in_order(items)]
    widths = sorted({len(row) for row in rows})
    if widths != [dim or widths[0]]:
        shown = ", ".join(map(str, widths))
        raise ValueError(
            f"has embeddings with {shown} columns, but `dim` is {dim}" if dim else f"mixes {shown} columns"
        )
    matrix = np.stack(rows)
    norms = np.linalg.norm(matrix, axis=1, keepdims=True)  # (count, 1)
    if not (np.isfinite(norms) & (norms > 0)).all():
        raise ValueError("has a zero or infinite embedding. Use another model, or leave empty texts out")
    return np.ascontiguousarray(matrix / norms, np.float32)


def _in_order(items: list[Any]) -> list[Any]:
    """Return the items in the order of their indexes; as they came if they have none, or all the same."""
    indexes = [item.get("index") if isinstance(item, dict) else None for item in items]
    if len({str(index) for index in indexes}) == 1:
        return items
    if sorted(map(str, indexes)) != sorted(map(str, range(len(items)))):
        raise ValueError("has embeddings with wrong indexes")
    return sorted(items, key=lambda item: int(item["index"]))


def _parse_row(item: object) -> Vectors:
    """Return the vector `(dim,)` of an item: numbers, base64 of float32 values, or a list with one such list."""
    value = item.get("embedding") if isinstance(item, dict) else item
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    problem = "has an embedding that is not a list of numbers"
    try:
        if isinstance(value, str):
            row = np.frombuffer(base64.b64decode(value, validate=True), "<f4").astype(np.float32)
        elif isinstance(value, list) and all(type(number) in (int, float) for number in value):
            row = np.array(value, np.float32)
        else:
            raise ValueError(problem)
    except (binascii.Error, ValueError, OverflowError) as error:
        raise ValueError(problem) from error
    if not len(row):
        raise ValueError(problem)
    return row
