"""What was computed before and can be used again: which prompts share a beginning, and where its keys and values are.

Three places, from the fastest: cells of the context (`CellTable` knows which are in use and shared), state blobs in memory, state
files on disk (`StateCache`). One `PrefixTree` for each answers which entry shares most with a prompt.
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
        """Put `value` under `key`; several values may share one."""
        node, at = self._root, 0
        while at < len(key):
            child = node.children.get(int(key[at]))
            if child is None:
                child = node.children[int(key[at])] = _Node(key[at:].copy())
                at = len(key)
            else:
                shared = shared_length(child.edge, key[at:])
                if shared < len(child.edge):  # the key leaves in the middle of the edge: split it
                    child = node.children[int(key[at])] = self._split(child, shared)
                at += shared
            node = child
        node.values.add(value)

    def remove(self, key: Tokens, value: V) -> None:
        """Take away what `add` put there."""
        path, at = [self._root], 0
        while at < len(key):
            path.append(path[-1].children[int(key[at])])
            at += len(path[-1].edge)
        path[-1].values.remove(value)
        for parent, node in zip(path[-2::-1], path[:0:-1], strict=True):
            if not node.values and not node.children:
                del parent.children[int(node.edge[0])]
            elif not node.values and len(node.children) == 1:  # one way on: join the edges
                (child,) = node.children.values()
                child.edge = np.concatenate([node.edge, child.edge])
                parent.children[int(node.edge[0])] = child

    def match(self, key: Tokens) -> tuple[int, list[V]]:
        """Return the longest beginning of `key` that any entry shares, in tokens, and the values of all entries that share it."""
        node, at = self._root, 0
        while at < len(key) and (child := node.children.get(int(key[at]))) is not None:
            shared = shared_length(child.edge, key[at:])
            node, at = child, at + shared
            if shared < len(child.edge):
                break
        return at, list(_values_below(node))

    @staticmethod
    def _split(node: _Node[V], at: int) -> _Node[V]:
        upper: _Node[V] = _Node(node.edge[:at])
        node.edge = node.edge[at:]
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

    llama.cpp shares cells between sequences and does not tell how many are free; this counts along.
    """

    def __init__(self, n_cells: int) -> None:
        self._users = np.zeros(n_cells, np.int16)
        self._free = np.arange(n_cells)  # the first `free` of them: a stack
        self.free = n_cells

    def take(self, n: int) -> NDArray[np.int64]:
        """Return `n` cells that were free, now used by one sequence."""
        cells: NDArray[np.int64] = self._free[max(0, self.free - n) : self.free].copy()
        self._users[cells] = 1
        self.free -= len(cells)
        return cells

    def share(self, cells: NDArray[np.int64]) -> None:
        """Count another user of each of `cells`."""
        self._users[cells] += 1

    def release(self, cells: NDArray[np.int64]) -> None:
        """Count one user less of each of `cells`."""
        self._users[cells] -= 1
        unused = cells[self._users[cells] == 0]
        self._free[self.free : self.free + len(unused)] = unused
        self.free += len(unused)


class StateCache:
    """States of sequences as bytes, least recently used first out; in memory, and on disk when a folder is given.

    A file holds a JSON line that says what it is of (`fingerprint`: model, library, parameters), the tokens, and the state. Only
    files of the same fingerprint are read, and only after their hash was checked: llama.cpp trusts the bytes of a state.

    Args:
        max_bytes: Most bytes held in memory; and, apart from that, on disk.
        folder: Where files are kept; None for none.
        fingerprint: What a state must be of to be used again.
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
        """Return the longest beginning of `tokens` that a state holds, in tokens, and the name of the shortest such state."""
        shared, names = self._tree.match(tokens)
        return (
            (shared, min(names, key=lambda name: (name not in self._blobs, len(self._key(name)))))
            if names
            else (0, None)
        )

    def get(self, name: str) -> tuple[Tokens, Data] | None:
        """Return the tokens and the bytes of a state; None when its file is gone or was changed."""
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
        """Keep a state; the oldest make room. Larger than the whole cache, it is not kept."""
        if len(data) > self._max_bytes:
            return
        name = hashlib.sha256(tokens.tobytes()).hexdigest()[:32]
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
        except (OSError, StorageError) as error:  # a cache may fail to keep something
            logger.warning("a state was not kept on disk: %s", error)
            return
        self._files[name] = tokens
        if name not in self._blobs:
            self._tree.add(tokens, name)
        self._trim_folder()

    def _trim_folder(self) -> None:
        assert self._folder is not None
        sizes = []
        for name in self._files:
            with contextlib.suppress(OSError):
                status = self._path(name).stat()
                sizes.append((status.st_mtime_ns, name, status.st_size))
        total = sum(size for _, _, size in sizes)
        for _, name, size in sorted(sizes):
            if total <= self._max_bytes:
                break
            with contextlib.suppress(OSError):
                self._path(name).unlink()
            self._forget_file(name)
            total -= size

    def _forget_file(self, name: str) -> None:
        tokens = self._files.pop(name)
        if name not in self._blobs:
            self._tree.remove(tokens, name)

    def _read_folder(self, folder: Path) -> None:
        """Learn what the files hold, from their first bytes; a foreign or torn file is passed over."""
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
                logger.info("%s is not a state: %s", path, error)
                continue
            if path.stem == hashlib.sha256(tokens.tobytes()).hexdigest()[:32]:
                self._files[path.stem] = tokens
                self._tree.add(tokens, path.stem)

    def _read_file(self, path: Path, tokens: Tokens) -> Data | None:
        try:
            content = path.read_bytes()
            os.utime(path)  # used now: it is the last to go
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
