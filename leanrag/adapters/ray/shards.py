"""Shards in actors of a Ray cluster: each searches the folder of one shard, which its machine must reach by the same path."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from leanrag._optional import require
from leanrag.checks import check_at_least
from leanrag.errors import LeanRAGError, StorageError
from leanrag.retrieval.shard import Shard

__all__ = ["RayShards"]


class RayShards:
    """Opens each shard of a corpus in an actor; give it to `leanrag.open` as `open_shard`.

    If a machine goes away, Ray starts its actors on another one. Until then the shard cannot be reached, and `missing_shards` says
    what happens. The actors only read: documents are added by a program that opens the folder without Ray.

    Args:
        cpus: CPU cores of each actor.
        restarts: How often an actor is started again; -1 for always.

    Raises:
        MissingDependencyError: Ray is not installed.

    Example:
        >>> with leanrag.open("/shared/kb", open_shard=RayShards()) as rag:  # doctest: +SKIP
        ...     rag.ask("Who signs off the releases?")
    """

    def __init__(self, *, cpus: float = 1.0, restarts: int = -1) -> None:
        check_at_least(0, cpus=cpus)
        check_at_least(-1, restarts=restarts)
        self._ray = require("ray", extra="ray", why="to search shards on a cluster")
        self._cpus, self._restarts = cpus, restarts

    def __call__(self, folder: Path, create: bool) -> Shard:
        """Return a shard that an actor holds.

        Raises:
            StorageError: The folder cannot be opened there, or the cluster has no room for the actor.
        """
        actor = (
            self._ray.remote(_ShardActor)
            .options(num_cpus=self._cpus, max_restarts=self._restarts, max_task_retries=1, max_concurrency=8)
            .remote(str(folder), create)
        )
        shard = cast(Shard, _RemoteShard(self._ray, actor, folder))
        shard.count_chunks()
        return shard


class _ShardActor:
    """Holds a shard on its machine."""

    def __init__(self, folder: str, create: bool) -> None:
        self._shard = Shard(folder, create=create)

    def call(self, name: str, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        value = getattr(self._shard, name)
        result = value(*arguments, **options) if callable(value) else value
        return list(result) if isinstance(result, Iterator) else result


class _RemoteShard:
    """The shard of an actor, with the methods of `Shard` that read."""

    read_only = True

    def __init__(self, ray: Any, actor: Any, folder: Path) -> None:
        self._ray, self._actor, self.folder = ray, actor, folder

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name == "generation":
            return self._call(name, (), {})
        return lambda *arguments, **options: self._call(name, arguments, options)

    def _call(self, name: str, arguments: Sequence[Any], options: dict[str, Any]) -> Any:
        try:
            return self._ray.get(self._actor.call.remote(name, arguments, options))
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, LeanRAGError):
                raise error.cause from None
            raise StorageError(f"the actor of {str(self.folder)!r} failed: {error.cause}", path=self.folder) from error
        except self._ray.exceptions.RayError as error:
            if isinstance(cause := getattr(error, "cause", None), LeanRAGError):
                raise cause from None
            raise StorageError(
                f"the actor of {str(self.folder)!r} cannot be reached ({type(error).__name__})", path=self.folder
            ) from error

    def before_removal(self, forget: Callable[[Sequence[str]], None]) -> None:
        """Do nothing: this shard removes nothing."""

    @contextmanager
    def writer(self) -> Iterator[None]:
        """Refuse to write."""
        raise StorageError(
            f"{str(self.folder)!r} was opened on Ray, which only reads. Open the corpus without Ray to write",
            path=self.folder,
        )
        yield

    def close(self) -> None:
        """End the actor."""
        self._ray.kill(self._actor)
