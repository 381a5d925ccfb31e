"""What an embedder or a reranker has used."""

from __future__ import annotations

import threading

from leanrag.ledger import Cost, Prices
from leanrag.types import Usage

__all__ = ["Bill"]


class Bill:
    """Adds up the tokens of requests; any thread may call.

    Args:
        prices: Prices of the model; None if they are unknown.
    """

    def __init__(self, prices: Prices | None) -> None:
        self._prices = prices
        self._tokens: int | None = 0
        self._lock = threading.Lock()

    def add(self, tokens: int | None) -> None:
        """Add the tokens of a request; None if the server did not report them."""
        with self._lock:
            self._tokens = None if tokens is None or self._tokens is None else self._tokens + tokens

    @property
    def usage(self) -> Usage | None:
        """The sum; None if the tokens of a request are unknown."""
        tokens = self._tokens
        return None if tokens is None else Usage(tokens, 0)

    @property
    def cost(self) -> Cost:
        """The cost; None if the usage or the prices are unknown."""
        usage = self.usage
        return None if usage is None or self._prices is None else self._prices.cost(usage)
