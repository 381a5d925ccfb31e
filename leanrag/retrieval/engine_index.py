"""A vector index in an engine elsewhere. SQLite stays the truth: what it commits reaches the engine through the outbox.

The engine keeps, beside the vectors, how far it has come. Whoever searches first after a commit brings it up to date, from
there: after a crash of either side, the changes that the engine did not confirm are sent again, which does no harm.
"""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from leanrag.errors import ConfigurationError, EngineError, IndexMismatchError, LeanRAGError
from leanrag.protocols import VectorSource
from leanrag.retrieval.index import best_first, checked_queries
from leanrag.retrieval.outbox import ChunkRows, ForgottenError, Outbox, Position
from leanrag.retrieval.tags import TagFilter, tag_filter
from leanrag.types import Where

if TYPE_CHECKING:
    from leanrag.protocols import Ids, Vectors

__all__ = ["EngineIndex", "EngineState", "VectorEngine"]

logger = logging.getLogger(__name__)

_BATCH = 500  # chunks that are sent together
_NO_IDS = np.empty(0, np.int64)
_MOST_IDS = 50_000  # of one request
_FEW = 1_000  # allowed ids that are sent, rather than a filter


@dataclass(frozen=True, slots=True)
class EngineState:
    """How far an engine has come.

    Attributes:
        position: The last event that the engine has.
        filled: While the engine is filled with the chunks that were there before it: the highest id that it has. None after that.
    """

    position: Position
    filled: int | None = None

    def to_json(self) -> str:
        """Return the state as text, for the engine to keep."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> EngineState:
        """Return the state that `to_json` wrote.

        Raises:
            ValueError: The text is something else.
        """
        try:
            values = json.loads(text)
            return cls(Position(**values["position"]), values["filled"])
        except (KeyError, TypeError) as error:
            raise ValueError(f"{text[:100]!r} is not the state of an engine") from error


class VectorEngine(Protocol):
    """What an adapter implements. Any thread may call; failures are `EngineError`s that say what to do.

    Attributes:
        name: Name and address of the engine and its collection, without a password, for messages.
    """

    name: str

    def open(self, dim: int) -> EngineState | None:
        """Make the collection if it is missing, and return the state that was written last; None if there is none.

        Raises:
            IndexMismatchError: The collection is of another dimension or metric, or was not made by leanrag.
            EngineError: The engine fails, or its version is too old.
        """

    def clear(self) -> None:
        """Remove all rows and the state."""

    def write(self, rows: ChunkRows, removed: Ids, state: EngineState) -> None:
        """Insert or replace rows and remove ids, and then, or in the same transaction, keep the state.

        Unknown ids of `removed` are ignored. A search that begins later finds all of it.
        """

    def count(self) -> int:
        """Return the number of rows."""

    def search(self, queries: Vectors, k: int, allowed: Ids | TagFilter | None) -> list[tuple[list[float], list[int]]]:
        """Return for each query the cosines and the ids of the `k` nearest rows that may be found.

        Args:
            queries: `(q, dim)`, at least one.
            k: At least 1.
            allowed: Only these ids may be found, distinct and at least one, or only rows whose tags fulfil the filter.
        """

    def close(self) -> None:
        """Close the connections; idempotent."""


@runtime_checkable
class _HasOutbox(VectorSource, Protocol):
    """A folder with an outbox."""

    @property
    def outbox(self) -> Outbox:
        """The outbox."""


class EngineIndex:
    """A vector index in an engine; pass it as `leanrag.open(folder, index=...)`. Any thread may call.

    An index, and its collection in the engine, belong to one folder.

    Args:
        engine: The engine.
    """

    def __init__(self, engine: VectorEngine) -> None:
        self._engine = engine
        self._lock = threading.Lock()  # held for a whole `update`; searches go on meanwhile
        self._folder: str | None = None
        self._generation: int | None = None  # of the folder, at the last `update`
        self._dim = 0

    def __enter__(self) -> EngineIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._engine.name})"

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._engine.count() if self._dim else 0

    def close(self) -> None:
        """Close the connections; idempotent."""
        self._engine.close()

    def update(self, source: VectorSource) -> None:
        """Bring the engine up to what the folder has committed.

        A folder that is open for reading only brings nothing: then the engine may lack the last changes.

        Raises:
            ConfigurationError: `source` is another folder than before, or has no outbox.
            IndexMismatchError: The collection does not fit the folder.
            EngineError: The engine fails. What is committed stays committed, and is sent when the engine is back.
        """
        if not isinstance(source, _HasOutbox):
            raise ConfigurationError(
                f"{self!r} needs a folder with an outbox, got {source!r}; open one with leanrag.open"
            )
        with self._lock:
            generation = source.generation  # read first: what is committed from here on is found by the next update
            outbox = source.outbox
            if self._folder not in (None, outbox.folder):
                raise ConfigurationError(
                    f"{self!r} belongs to {self._folder!r}; make another index, with another collection, for {outbox.folder!r}"
                )
            if generation == self._generation:
                return
            self._folder = outbox.folder
            self._dim = source.all_vectors(after=np.iinfo(np.int64).max)[1].shape[1]
            if outbox.read_only:
                _check_behind(outbox, self._engine, self._dim)
            else:
                _deliver(outbox, self._engine, self._dim)
            self._generation = generation

    def search(self, queries: Vectors, k: int, *, allowed: Ids | None = None) -> tuple[Vectors, Ids]:
        """Return `(scores, ids)` of the `k` most similar rows for each query, as `FaissIndex.search` does."""
        return self._search(queries, k, None if allowed is None else np.unique(allowed))

    def search_where(self, queries: Vectors, k: int, where: Where, allowed: Ids) -> tuple[Vectors, Ids]:
        """Return as `search` does; `allowed` are the ids that match `where`, and the shorter of the two is sent."""
        tags = tag_filter(where) if len(allowed) > _FEW else None
        return self._search(queries, k, np.unique(allowed) if tags is None else tags)

    def _search(self, queries: Vectors, k: int, allowed: Ids | TagFilter | None) -> tuple[Vectors, Ids]:
        queries = checked_queries(queries, k, self._dim)
        if not len(queries) or (isinstance(allowed, np.ndarray) and not len(allowed)):
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        parts = [self._search_part(queries, k, part) for part in _split(allowed)]
        scores, ids = (np.concatenate(both, axis=1) for both in zip(*parts, strict=True))
        return best_first(scores, ids, k)

    def _search_part(self, queries: Vectors, k: int, allowed: Ids | TagFilter | None) -> tuple[Vectors, Ids]:
        try:
            found = self._engine.search(queries, k, allowed)
        except LeanRAGError:
            self._generation = None  # the next update looks at the engine again
            raise
        width = min(len(ids) for _, ids in found)
        scores = np.array([scores[:width] for scores, _ in found], np.float32).reshape(len(found), width)
        return scores, np.array([ids[:width] for _, ids in found], np.int64).reshape(len(found), width)


def _split(allowed: Ids | TagFilter | None) -> list[Ids | TagFilter | None]:
    """Return lists of ids that are short enough for one request; a filter as it is."""
    if not isinstance(allowed, np.ndarray):
        return [allowed]
    return [allowed[start : start + _MOST_IDS] for start in range(0, len(allowed), _MOST_IDS)]


def _deliver(outbox: Outbox, engine: VectorEngine, dim: int) -> None:
    """Send the engine what it lacks."""
    with outbox.delivering():
        is_done = False
        while not is_done:
            with contextlib.suppress(ForgottenError):  # so much was committed meanwhile that it is filled again
                _send(outbox, engine, dim)
                is_done = True


def _send(outbox: Outbox, engine: VectorEngine, dim: int) -> None:
    """Fill the engine if it has no sound state, and send it the changes since."""
    head = outbox.head()
    state = _checked(engine.open(dim), outbox, head, engine)
    if state is None:
        engine.clear()
        state = EngineState(head, filled=0)
    if state.filled is not None:
        logger.info("%s is filled with the chunks of %s", engine.name, outbox.folder)
        for rows, last_id in outbox.all_chunks(state.filled, _BATCH, dim):
            state = replace(state, filled=last_id)
            engine.write(rows, _NO_IDS, state)
        state = replace(state, filled=None)
        engine.write(ChunkRows.none(dim), _NO_IDS, state)
    while True:
        rows, removed, position = outbox.changes(state.position, _BATCH, dim)
        if position == state.position:
            return
        state = replace(state, position=position)
        engine.write(rows, removed, state)


def _checked(state: EngineState | None, outbox: Outbox, head: Position, engine: VectorEngine) -> EngineState | None:
    """Return the state if the engine can go on from it; None if it must be filled from nothing.

    Raises:
        IndexMismatchError: The engine has another folder's vectors, or events that this folder does not know.
    """
    if state is None:
        return None
    position = state.position
    if position.folder != head.folder:
        raise IndexMismatchError(
            f"{engine.name} has the vectors of another folder than {outbox.folder!r}. Name another collection for this folder"
        )
    if position.epoch != head.epoch:
        return None
    token = outbox.token_at(position.number)
    if position.number > head.number or token not in (None, position.token):
        raise IndexMismatchError(
            f"{engine.name} has changes that {outbox.folder!r} does not know: the folder was restored from a backup, or is a copy"
            " and another copy writes to the same collection. Name another collection for this folder, or remove the collection"
            " from the engine, which is then filled again"
        )
    return None if token is None else state


def _check_behind(outbox: Outbox, engine: VectorEngine, dim: int) -> None:
    """Check that the engine has the folder's vectors, and warn if it lacks changes."""
    head = outbox.head()
    state = _checked(engine.open(dim), outbox, head, engine)
    if state is None or state.filled is not None:
        raise EngineError(
            f"{engine.name} is not filled with the vectors of {outbox.folder!r}, which is open for reading only. Open the folder"
            " once so that it can be written, and search",
            engine=engine.name,
        )
    if state.position != head:
        logger.warning("%s lacks the last changes of %s, which is open for reading only", engine.name, outbox.folder)
