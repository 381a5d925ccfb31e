"""How a corpus is divided into shards: a record in its folder, and which shard a document belongs to."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import pydantic

from leanrag.files import RecordFormat, read_record, write_record
from leanrag.retrieval.database import SHARDS
from leanrag.retrieval.shard_ids import MOST_EPOCHS, MOST_SHARDS
from leanrag.types import MetadataValue

__all__ = ["ShardLayout", "read_layout", "write_layout"]

_FORMAT = RecordFormat(
    "leanrag shards", 1, "record of shards", "Restore it from a backup, or add the documents to a new folder"
)


class ShardLayout(pydantic.BaseModel):
    """How a corpus is divided.

    Attributes:
        epoch: Number of the division; another division has another number.
        shards: Number of shards.
        field: Metadata field whose value decides which shard a document belongs to; None: its id decides.
        generation: Added to the sum of the generations of the shards, so that the generation of the corpus grows.
        retired: Folders of former shards, which the next writer removes.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    epoch: int = pydantic.Field(ge=1, le=MOST_EPOCHS)
    shards: int = pydantic.Field(ge=1, le=MOST_SHARDS)
    field: str | None = None
    generation: int = 0
    retired: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The folder of the shards, below that of the corpus."""
        return f"shards-{self.epoch}"

    def path(self, root: Path, i: int) -> Path:
        """Return the folder of a shard."""
        return root / self.folder / f"{i:04d}"

    def shard_of(self, document_id: str, metadata: Mapping[str, MetadataValue]) -> int:
        """Return the shard that a document belongs to."""
        if self.field is None:
            key = document_id.encode("utf-8", "surrogatepass")
        else:
            key = json.dumps(metadata.get(self.field), sort_keys=True).encode()
        return int.from_bytes(hashlib.sha256(key).digest()[:8], "big") % self.shards


def read_layout(root: Path) -> ShardLayout | None:
    """Return how the corpus of a folder is divided; None if it is not.

    Raises:
        StorageError: The record is damaged, or of another version.
    """
    path = root / SHARDS
    return read_record(path, ShardLayout, _FORMAT) if path.exists() else None


def write_layout(root: Path, layout: ShardLayout) -> None:
    """Write how the corpus of a folder is divided; from now on its readers use these shards.

    Raises:
        StorageError: The record cannot be written.
    """
    write_record(root / SHARDS, layout, _FORMAT)
