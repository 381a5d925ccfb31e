"""A graph of neighbours over very many vectors: HNSW (Malkov and Yashunin, 2018) over vectors of a byte a dimension, on FAISS.

A graph is made from the store and kept in a file that is memory-mapped, so that a folder opens without reading its vectors. Rows
are never changed: a graph that grew is written to a new file.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrag.errors import StorageError
from leanrag.files import whole_file
from leanrag.retrieval.faiss_library import faiss_threads, load_faiss
from leanrag.retrieval.mapping import checksum_of, map_file

if TYPE_CHECKING:
    from leanrag.protocols import Ids, LargeVectorSource

__all__ = ["Graph", "graph_bytes", "make_graph", "read_graph", "save_graph"]

logger = logging.getLogger(__name__)

_NEIGHBOURS, _BUILD_WIDTH = 32, 80
_TRAINED = 20_000  # rows that the range of each dimension is learnt from
_READ = 4096  # rows read at once
_ADDED = 512  # rows added at once: half a second at most, after which the end of the program is noticed

_MAGIC = b"leanrag graph 1\n"
_FOOTER = struct.Struct(f"<QQI{len(_MAGIC)}s")  # start of the ids, their number, checksum of all before


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Vectors by id. Many threads may search it.

    Attributes:
        index: What FAISS searches.
        ids: Ids of its rows, int64 `(n,)`, ascending.
        path: The file; None for a graph in memory.
    """

    index: Any
    ids: Ids
    path: Path | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    @property
    def last_id(self) -> int:
        """The highest id."""
        return int(self.ids[-1])


def graph_bytes(count: int, dim: int) -> int:
    """Return the size of a graph of `count` vectors, as a file and in memory.

    A vector takes a byte a dimension, 64 neighbours of 4 bytes, about 4 bytes for neighbours on upper levels, its level, its offset
    and its id.
    """
    return count * (dim + 4 * 2 * _NEIGHBOURS + 4 + 4 + 8 + 8)


def make_graph(source: LargeVectorSource, dim: int, previous: Graph | None) -> Graph | None:
    """Return a graph of all vectors, in memory; None if the program ended meanwhile.

    Args:
        source: The store.
        dim: Columns of a row.
        previous: A graph to begin with; only the rows behind its last are read.
    """
    faiss = load_faiss()

    index, ids, after = None, [np.empty(0, np.int64)], 0
    if previous is not None and previous.path is not None:
        index, after = faiss.read_index(str(previous.path)), previous.last_id
        ids.append(np.array(previous.ids))
    main = threading.main_thread()
    while True:
        new_ids, vectors = source.all_vectors(after=after, most=_READ if index is not None else _TRAINED)
        if not len(new_ids):
            break
        if index is None:
            kind = faiss.ScalarQuantizer.QT_8bit
            index = faiss.IndexHNSWSQ(dim, kind, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = _BUILD_WIDTH
            index.train(vectors)
        for start in range(0, len(vectors), _ADDED):
            if not main.is_alive():
                return None
            with faiss_threads(faiss, index.ntotal * _ADDED):
                index.add(vectors[start : start + _ADDED])
        ids.append(new_ids)
        after = int(new_ids[-1])
    return None if index is None else Graph(index, np.concatenate(ids))


def save_graph(source: LargeVectorSource, graph: Graph) -> Graph:
    """Write a graph to a file of the store, and return it mapped; or as it is, where nothing can be written."""
    path = source.vector_files.new_path()
    try:
        _write(path, graph)
        mapped = read_graph(path, graph.index.d)
        source.vector_files.keep([path.name])
    except (StorageError, OSError, ValueError, RuntimeError) as error:
        logger.info("%s is not kept: %s", path, error)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return graph
    return mapped


def _write(path: Path, graph: Graph) -> None:
    faiss = load_faiss()

    with whole_file(path, durable=False) as part:
        faiss.write_index(graph.index, str(part))
        with part.open("ab") as stream:
            stream.write(bytes(-stream.tell() % 8))
            start = stream.tell()
            stream.write(np.ascontiguousarray(graph.ids, "<i8").tobytes())
        checksum = zlib.crc32(np.memmap(part, np.uint8, mode="r").data)
        with part.open("ab") as stream:
            stream.write(_FOOTER.pack(start, len(graph.ids), checksum, _MAGIC))


def read_graph(path: Path, dim: int) -> Graph:
    """Map a graph into memory, after its bytes were checked once.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not the whole file of a graph with `dim` columns.
        RuntimeError: FAISS cannot read it.
    """
    faiss = load_faiss()

    data = map_file(path)
    end = len(data) - _FOOTER.size
    if end < 0:
        raise ValueError("it is too short")
    start, count, checksum, magic = _FOOTER.unpack(data[end:].tobytes())
    if magic != _MAGIC:
        raise ValueError("it is not a file of this version")
    if checksum_of(data, 0, end) != checksum:
        raise ValueError("its checksum does not match")
    index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    if index.d != dim or index.ntotal != count:
        raise ValueError(f"it has {index.ntotal} rows of {index.d} columns")
    return Graph(index, data[start : start + 8 * count].view("<i8"), path)
