"""The shards of a corpus: opened when they are needed, asked side by side, and replaced when the corpus is divided anew."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from leanrag.errors import DamageError, ShardError, StorageError
from leanrag.retrieval.database import SHARDS
from leanrag.retrieval.layout import ShardLayout, read_layout
from leanrag.retrieval.shard import Shard
from leanrag.retrieval.shard_ids import split_id
from leanrag.retrieval.store import MissingChunkError

if TYPE_CHECKING:
    from leanrag.protocols import Ids

__all__ = ["OpenShard", "Partition", "Shards"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

OpenShard: TypeAlias = Callable[[Path, bool], Shard]
"""Opens a shard: its folder, and whether it may be made."""

_MOST_THREADS = 32


class Partition:
    """The shards of one epoch; each is opened when it is first needed."""

    def __init__(self, root: Path, layout: ShardLayout, open_shard: OpenShard) -> None:
        self.layout, self._root, self._open = layout, root, open_shard
        self._lock = threading.Lock()
        self._shards: dict[int, Shard] = {}

    def get(self, i: int) -> Shard:
        """Return a shard.

        Raises:
            StorageError: It cannot be opened.
        """
        with self._lock:
            if i not in self._shards:
                self._shards[i] = self._open(self.layout.path(self._root, i), False)
            return self._shards[i]

    def close(self) -> None:
        """Close the shards that were opened."""
        with self._lock:
            for shard in self._shards.values():
                shard.close()


class Shards:
    """The shards of a corpus. Any thread may call.

    Args:
        folder: The folder with `shards.json`.
        is_partial: Whether shards that cannot be reached are left out.
        open_shard: Opens a shard.
        prepare: Called with each shard when it is opened.
    """

    def __init__(
        self, folder: Path, *, is_partial: bool, open_shard: OpenShard, prepare: Callable[[Shard], None]
    ) -> None:
        self._folder, self._path, self._is_partial = folder, folder / SHARDS, is_partial
        self._open_shard, self._prepare = open_shard, prepare
        self._lock = threading.Lock()  # guards what follows
        self._partitions: dict[int, Partition] = {}  # by epoch
        self._layout_file: tuple[int, int] | None = None  # that was read last
        self._epoch = 0
        self._missing: dict[int, str] = {}
        self._pool = ThreadPoolExecutor(_MOST_THREADS, thread_name_prefix="leanrag shard")
        self._is_closed = False
        self.current()

    def close(self) -> None:
        """Close all shards; idempotent."""
        self._is_closed = True
        self._pool.shutdown(wait=True)
        for partition in list(self._partitions.values()):
            partition.close()

    @property
    def missing(self) -> tuple[str, ...]:
        """The folders of the shards that could not be reached when they were needed last."""
        return tuple(self._missing[i] for i in sorted(self._missing))

    def current(self) -> Partition:
        """Return the shards of now, whichever process divided the corpus."""
        if self._is_closed:
            raise StorageError(f"{str(self._folder)!r} is closed; open it again", path=self._folder)
        try:
            status = self._path.stat()
        except OSError as error:
            raise StorageError(
                f"there is no {SHARDS} in {str(self._folder)!r}. Name a folder that `leanrag shard` divided",
                path=self._folder,
            ) from error
        with self._lock:
            version = status.st_ino, status.st_mtime_ns
            if version != self._layout_file:
                layout = read_layout(self._folder)
                assert layout is not None
                if layout.epoch in self._partitions:
                    self._partitions[layout.epoch].layout = layout
                else:
                    self._partitions[layout.epoch] = Partition(self._folder, layout, self._open)
                self._layout_file, self._epoch = version, layout.epoch
            return self._partitions[self._epoch]

    def _open(self, folder: Path, create: bool) -> Shard:
        shard = self._open_shard(folder, create)
        self._prepare(shard)
        return shard

    def partition_of(self, *ids: Ids | None) -> Partition:
        """Return the shards that the first of some ids belong to; those of now if there are no ids."""
        for some in ids:
            if some is not None and len(some):
                epoch = split_id(int(some[0]))[0]
                with self._lock:
                    if epoch in self._partitions:
                        return self._partitions[epoch]
        return self.current()

    def _shard(self, partition: Partition, i: int) -> Shard:
        """Return a shard that is ready for writing and reading.

        Raises:
            ShardError: It cannot be reached.
        """
        path = partition.layout.path(self._folder, i)
        try:
            return partition.get(i)
        except StorageError as error:
            raise ShardError(
                f"the shard {str(path)!r} cannot be reached ({error}). Bring it back, or open the corpus with "
                '`missing_shards="partial"` to search the other shards',
                path=path,
            ) from error

    def each(self, call: Callable[[Shard], T], only: Iterable[int] | None = None) -> list[tuple[int, T]]:
        """As `each_of`, for the shards of now, which are all told the same."""
        return self.each_of(self.current(), lambda _, shard: call(shard), only)

    def each_of(
        self, partition: Partition, call: Callable[[int, Shard], T], only: Iterable[int] | None = None
    ) -> list[tuple[int, T]]:
        """Return `(index, result)` for each shard that can be reached, in their order; the shards work side by side.

        Raises:
            ShardError: A shard cannot be reached, and "fail" was chosen.
        """
        wanted = list(range(partition.layout.shards) if only is None else only)

        def run(i: int) -> T | ShardError:
            try:
                return call(i, self._shard(partition, i))
            except (MissingChunkError, DamageError):  # of single chunks
                raise
            except ShardError as error:
                return error
            except StorageError as error:
                path = partition.layout.path(self._folder, i)
                return ShardError(f"the shard {str(path)!r} failed: {error}", path=path)

        results = list(map(run, wanted) if len(wanted) < 2 else self._pool.map(run, wanted))
        reached: list[tuple[int, T]] = []
        for i, result in zip(wanted, results, strict=True):
            if not isinstance(result, ShardError):
                self._missing.pop(i, None)
                reached.append((i, result))
                continue
            if not self._is_partial:
                raise result
            if i not in self._missing:
                logger.warning("Results are partial: %s", result)
            self._missing[i] = str(result.path)
        return reached

    def write(self, call: Callable[[Shard], T], only: Iterable[int] | None = None) -> list[T]:
        """Return the result for each shard, one after the other in this thread, which has the right to write.

        Raises:
            StorageError: A shard cannot be reached or written; those before it were written.
        """
        partition = self.current()
        wanted = range(partition.layout.shards) if only is None else only
        return [call(self._shard(partition, i)) for i in wanted]
