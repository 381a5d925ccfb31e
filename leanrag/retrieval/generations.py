"""The generation of a database: a number that grows with every commit that changes chunks, whichever process made it."""

from __future__ import annotations

import sqlite3

__all__ = ["ChunkCounter", "next_generation", "read_generation"]


def read_generation(connection: sqlite3.Connection) -> int:
    """Return the generation that `connection` sees."""
    return int(connection.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()[0])


def next_generation(connection: sqlite3.Connection) -> None:
    """Let the generation grow, inside the caller's transaction."""
    connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")


class ChunkCounter:
    """Counts the chunks of a database once for each generation: SQLite reads an index to the end. Any thread may call."""

    def __init__(self) -> None:
        self._last = -1, 0  # a generation, and how many chunks it has

    def count(self, connection: sqlite3.Connection) -> int:
        """Return how many chunks there are; `connection` must see one commit all the time, and have changed nothing itself."""
        known, count = self._last
        generation = read_generation(connection)
        if generation != known:
            count = int(connection.execute("SELECT count(*) FROM chunks").fetchone()[0])
            self._last = generation, count
        return count
