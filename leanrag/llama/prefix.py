"""Reuse of computed prompts: which prompts share a beginning, and where its keys and values are stored.

They are stored in cells of the context (`CellTable` counts their users), as states in memory, or as state files on disk
(`StateCache`), from the fastest to the slowest. A `PrefixTree` finds the entry that shares the longest beginning with a prompt.
"""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import logging
import os
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from leanrag.errors import StorageError
from leanrag.files import remove_abandoned, whole_file

__all__ = ["CellTable", "PrefixTree", "StateCache", "shared_length"]

logger = logging.getLogger(__name__)

V = TypeVar("V", bound=Hashable)
Tokens = NDArray[np.int32]
Data = bytes | memoryview


def shared_length(a: Tokens, b: Tokens) -> int:
    """Return how many tokens `a` and `b` have in common from the start."""
    n = min(len(a), len(b))
    differing = np.flatnonzero(a[:n] != b[:n])
    return int(differing[0]) if differing.size else n


class _Node(Generic[V]):
    """The tokens on the edge to it, its children by their first token, and the values whose keys end here."""

    __slots__ = ("children", "edge", "values")

    def __init__(self, edge: Tokens) -> None:
        self.edge = edge
        self.children: dict[int, _Node[V]] = {}
        self.values: set[V] = set()


class PrefixTree(Generic[V]):
    """A radix tree from token sequences to values."""

    def __init__(self) -> None:
        self._root: _Node[V] = _Node(np.empty(0, np.int32))

    def add(self, key: Tokens, value: V) -> None:
        """Add `value` under `key`; several values may have the same key."""
        node, start = self._root, 0
        while start < len(key):
            child = node.children.get(int(key[start]))
            if child is None:
                child = node.children[int(key[start])] = _Node(key[start:].copy())
                start = len(key)
            else:
                shared = shared_length(child.edge, key[start:])
                if shared < len(child.edge):  # the key differs or ends in the middle of the edge: split it
                    child = node.children[int(key[start])] = self._split(child, shared)
                start += shared
            node = child
        node.values.add(value)

    def remove(self, key: Tokens, value: V) -> None:
        """Remove a value that was added under `key`."""
        path, start = [self._root], 0
        while start < len(key):
            path.append(path[-1].children[int(key[start])])
            start += len(path[-1].edge)
        path[-1].values.remove(value)
        for parent, node in zip(path[-2::-1], path[:0:-1], strict=True):
            if not node.values and not node.children:
                del parent.children[int(node.edge[0])]
            elif not node.values and len(node.children) == 1:  # only one child: join the edges
                (child,) = node.children.values()
                child.edge = np.concatenate([node.edge, child.edge])
                parent.children[int(node.edge[0])] = child

    def match(self, key: Tokens) -> tuple[int, list[V]]:
        """Return the length of the longest beginning of `key` that an entry shares, and the values of all such entries."""
        node, length = self._root, 0
        while length < len(key) and (child := node.children.get(int(key[length]))) is not None:
            shared = shared_length(child.edge, key[length:])
            node, length = child, length + shared
            if shared < len(child.edge):
                break
        return length, list(_values_below(node))

    def beginnings(self, key: Tokens) -> Iterator[tuple[int, V]]:
        """Yield the length of each entry that is a beginning of `key`, and its value; the shortest entry first."""
        node, length = self._root, 0
        while True:
            yield from ((length, value) for value in node.values)
            child = node.children.get(int(key[length])) if length < len(key) else None
            if child is None or shared_length(child.edge, key[length:]) < len(child.edge):
                return
            node, length = child, length + len(child.edge)

    @staticmethod
    def _split(node: _Node[V], length: int) -> _Node[V]:
        upper: _Node[V] = _Node(node.edge[:length])
        node.edge = node.edge[length:]
        upper.children[int(node.edge[0])] = node
        return upper


def _values_below(node: _Node[V]) -> Iterator[V]:
    waiting = [node]
    while waiting:
        node = waiting.pop()
        yield from node.values
        waiting += node.children.values()


class CellTable:
    """Which cells of the key-value cache are in use, and by how many sequences.

    llama.cpp shares cells between sequences but does not say how many are free, so this class counts them. It takes the free cell
    with the lowest index first, as llama.cpp does (llama-kv-cache.cpp, find_slot).
    """

    def __init__(self, n_cells: int) -> None:
        self._users = np.zeros(n_cells, np.int16)
        self.n_cells = n_cells
        self._first = 0  # no cell before it is free
        self.free = n_cells

    @property
    def used_length(self) -> int:
        """The number of cells up to the last one that is in use."""
        used = np.flatnonzero(self._users)
        return int(used[-1]) + 1 if used.size else 0

    def take(self, n: int) -> NDArray[np.int64]:
        """Return `n` free cells, which now have one user."""
        stop = self._first + n
        if self._users[self._first : stop].any() or stop > len(self._users):
            cells = self._first + np.flatnonzero(self._users[self._first :] == 0)[:n]
        else:
            cells = np.arange(self._first, stop)
        self._users[cells] = 1
        self.free -= len(cells)
        if cells.size:
            self._first = int(cells[-1]) + 1
        return cells

    def share(self, cells: NDArray[np.int64]) -> None:
        """Count one more user of each cell."""
        self._users[cells] += 1

    def release(self, cells: NDArray[np.int64]) -> None:
        """Count one user less of each cell; cells without a user become free."""
        self._users[cells] -= 1
        unused = cells[self._users[cells] == 0]
        self.free += len(unused)
        if unused.size:
            self._first = min(self._first, int(unused.min()))


class StateCache:
    """Stores states of sequences as bytes, in memory and in a folder on disk; the least recently used state is removed first.

    A file has a JSON line with the `fingerprint` of model, library and parameters, then the tokens, then the state. A file is used
    only if its fingerprint is the same and its hash is right: llama.cpp trusts the bytes of a state.

    Args:
        max_bytes: Most bytes in memory, and most bytes of all files in the folder.
        folder: The folder of the files; None stores states in memory only.
        fingerprint: Identifies the model, the library and the parameters.
    """

    def __init__(self, max_bytes: int, folder: Path | None = None, fingerprint: str = "") -> None:
        self._max_bytes, self._folder, self._fingerprint = max_bytes, folder, fingerprint
        self._blobs: collections.OrderedDict[str, tuple[Tokens, Data]] = collections.OrderedDict()
        self._files: dict[str, Tokens] = {}
        self._tree: PrefixTree[str] = PrefixTree()
        self.held_bytes = 0
        if folder is not None:
            self._read_folder(folder)

    def __len__(self) -> int:
        return len(self._blobs.keys() | self._files.keys())

    def match(self, tokens: Tokens) -> tuple[int, str | None]:
        """Return the length of the longest beginning of `tokens` that a state has, and the name of the shortest such state."""
        shared, names = self._tree.match(tokens)
        return (
            (shared, min(names, key=lambda name: (name not in self._blobs, len(self._key(name)))))
            if names
            else (0, None)
        )

    def longest_beginning(self, tokens: Tokens) -> tuple[int, str | None]:
        """Return the length and the name of the longest state that is a beginning of `tokens`."""
        return max(self._tree.beginnings(tokens), default=(0, None), key=lambda found: found[0])

    def get(self, name: str) -> tuple[Tokens, Data] | None:
        """Return the tokens and the bytes of a state; None if its file is missing or was changed."""
        if name in self._blobs:
            self._blobs.move_to_end(name)
            return self._blobs[name]
        tokens = self._files[name]
        data = self._read_file(self._path(name), tokens)
        if data is None:
            self._forget_file(name)
            return None
        self._hold(name, tokens, data)
        return tokens, data

    def put(self, tokens: Tokens, data: Data) -> None:
        """Store a state and remove the least recently used ones if needed; a state larger than the cache is not stored."""
        if len(data) > self._max_bytes:
            return
        name = self._name(tokens)
        if self._folder is not None and name not in self._files:
            self._write_file(name, tokens, data)
        self._hold(name, tokens, data)

    # Memory

    def _key(self, name: str) -> Tokens:
        return self._blobs[name][0] if name in self._blobs else self._files[name]

    def _hold(self, name: str, tokens: Tokens, data: Data) -> None:
        if name in self._blobs:
            self._blobs.move_to_end(name)
            return
        if name not in self._files:
            self._tree.add(tokens, name)
        self._blobs[name] = (tokens, data)
        self.held_bytes += len(data)
        while self.held_bytes > self._max_bytes:
            oldest, (key, dropped) = self._blobs.popitem(last=False)
            self.held_bytes -= len(dropped)
            if oldest not in self._files:
                self._tree.remove(key, oldest)

    # Disk

    def _name(self, tokens: Tokens) -> str:
        """Return the name of a state: models and adapters that share a folder have different names for the same tokens."""
        return hashlib.sha256(self._fingerprint.encode() + b"\n" + tokens.tobytes()).hexdigest()[:32]

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{name}.state"

    def _header(self, tokens: Tokens, data: Data) -> bytes:
        digest = hashlib.sha256(tokens.tobytes())
        digest.update(data)
        header = {
            "fingerprint": self._fingerprint,
            "tokens": len(tokens),
            "bytes": len(data),
            "sha256": digest.hexdigest(),
        }
        return json.dumps(header).encode() + b"\n"

    def _write_file(self, name: str, tokens: Tokens, data: Data) -> None:
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with whole_file(path, durable=False) as part, part.open("wb") as stream:
                stream.write(self._header(tokens, data))
                stream.write(tokens.tobytes())
                stream.write(data)
        except (OSError, StorageError) as error:  # without the file, the state is computed again
            logger.warning("a state was not saved to disk: %s", error)
            return
        self._files[name] = tokens
        if name not in self._blobs:
            self._tree.add(tokens, name)
        self._trim_folder()

    def _trim_folder(self) -> None:
        assert self._folder is not None
        sizes = []
        for path in self._folder.glob("*.state"):  # those of other models too: they share the folder
            with contextlib.suppress(OSError):
                status = path.stat()
                sizes.append((status.st_mtime_ns, path, status.st_size))
        total = sum(size for _, _, size in sizes)
        for _, path, size in sorted(sizes):
            if total <= self._max_bytes:
                break
            with contextlib.suppress(OSError):
                path.unlink()
            if path.stem in self._files:
                self._forget_file(path.stem)
            total -= size

    def _forget_file(self, name: str) -> None:
        tokens = self._files.pop(name)
        if name not in self._blobs:
            self._tree.remove(tokens, name)

    def _read_folder(self, folder: Path) -> None:
        """Read the headers of all state files; skip files that are damaged or of another fingerprint."""
        with contextlib.suppress(OSError):  # the folder may not exist yet
            remove_abandoned(folder)
        for path in folder.glob("*.state"):
            try:
                with path.open("rb") as stream:
                    header = json.loads(stream.readline(4096))
                    if header["fingerprint"] != self._fingerprint:
                        continue
                    n_bytes = 4 * int(header["tokens"])
                    if path.stat().st_size != stream.tell() + n_bytes + int(header["bytes"]):
                        continue
                    tokens = np.frombuffer(stream.read(n_bytes), np.int32)
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.info("%s is not a state file: %s", path, error)
                continue
            if path.stem == self._name(tokens):
                self._files[path.stem] = tokens
                self._tree.add(tokens, path.stem)

    def _read_file(self, path: Path, tokens: Tokens) -> Data | None:
        try:
            content = path.read_bytes()
            os.utime(path)  # now the most recently used file
        except OSError as error:
            logger.info("%s cannot be read: %s", path, error)
            return None
        start = content.find(b"\n") + 1
        data = memoryview(content)[start + tokens.nbytes :]
        if content[:start] != self._header(tokens, data):
            logger.warning("%s was changed; it is not used", path)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        return data
