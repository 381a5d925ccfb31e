"""Ids of chunks of several shards: epoch, id in the shard, and shard, in one int64.

An id of a later epoch is higher than all others. Within an epoch, ids of all shards lie in the order of their writing, about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from leanrag.protocols import Ids

__all__ = ["MOST_EPOCHS", "MOST_SHARDS", "group_ids", "in_shard", "split_id", "to_global"]

MOST_SHARDS, MOST_EPOCHS = 4096, 2047
_SHARD_BITS, _LOCAL_BITS = 12, 40


def to_global(ids: Ids, epoch: int, shard: int) -> Ids:
    """Return the ids in the corpus of ids in a shard."""
    base = epoch << (_SHARD_BITS + _LOCAL_BITS) | shard
    numbers: Ids = (np.asarray(ids, np.int64) << _SHARD_BITS) | np.int64(base)
    return numbers


def split_id(number: int) -> tuple[int, int, int]:
    """Return `(epoch, shard, id in the shard)`."""
    local = (number >> _SHARD_BITS) & ((1 << _LOCAL_BITS) - 1)
    return number >> (_SHARD_BITS + _LOCAL_BITS), number & ((1 << _SHARD_BITS) - 1), local


def in_shard(ids: Ids, epoch: int, shard: int) -> Ids:
    """Return the ids in a shard of those ids that belong to it, in their order."""
    ids = np.asarray(ids, np.int64)
    belongs = (ids & ((1 << _SHARD_BITS) - 1) == shard) & (ids >> (_SHARD_BITS + _LOCAL_BITS) == epoch)
    found: Ids = (ids[belongs] >> _SHARD_BITS) & ((1 << _LOCAL_BITS) - 1)
    return found


def group_ids(ids: Ids) -> dict[tuple[int, int], tuple[NDArray[np.int64], Ids]]:
    """Return, for each `(epoch, shard)`, the positions in `ids` of its ids, and these ids in the shard."""
    ids = np.asarray(ids, np.int64)
    positions: dict[tuple[int, int], list[int]] = {}
    for i, number in enumerate(ids.tolist()):
        epoch, shard, _ = split_id(number)
        positions.setdefault((epoch, shard), []).append(i)
    return {key: (np.array(rows, np.int64), in_shard(ids[rows], *key)) for key, rows in positions.items()}
