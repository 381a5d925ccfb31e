"""The documents of a folder: the verbs of `Rag` that ask no model."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from leanrag.errors import ConfigurationError, DocumentError
from leanrag.pipeline.adding import Source
from leanrag.pipeline.documents import AddOptions, Documents
from leanrag.pipeline.watching import find_changes, follow_changes
from leanrag.retrieval.integrity import Damage
from leanrag.retrieval.repair import RepairReport
from leanrag.retrieval.store import DocumentRecord, Store, StoreStats
from leanrag.types import AddReport, Document, MetadataValue

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["DocumentFolder"]

_Path: TypeAlias = str | os.PathLike[str]


class DocumentFolder:
    """Adds, changes, removes, lists and checks the documents of a folder. Any thread may call."""

    def __init__(self, store: Store, documents: Documents) -> None:
        self._store, self._documents = store, documents

    @property
    def path(self) -> Path:
        """The folder of the database, absolute."""
        return self._store.folder

    def add(self, *sources: Source, **options: Unpack[AddOptions]) -> AddReport:
        """Add files, folders and documents; unchanged documents are skipped.

        A folder is read with all below it. Documents whose files vanished, became empty or cannot be read are removed. Only
        changed chunks are embedded, and a renamed file keeps vectors and metadata. An interrupted call keeps what it did.

        Args:
            sources: Paths, or `Document`s made from text.
            options: By name: `metadata`, set on each document (by default documents keep what they have, `{}` empties it);
                `encoding` of files without a byte order mark (by default UTF-8, or what a file declares); `ignore` and `pattern`,
                in the syntax of `.gitignore`: what to leave out of folders, and which files to read (other documents stay while
                their files exist); `progress`, a bar on standard error (by default only when that is a terminal), or a function
                that is called with the number of documents read and of all, and whose error ends the call.

        Raises:
            DocumentError: A source could not be read. All others were added; the error's `report` says what was done.
            StorageError: Another process is writing, or the folder is read-only.
        """
        return self._documents.add(sources, options)

    def sync(self, *folders: _Path, **options: Unpack[AddOptions]) -> AddReport:
        """As `add`, but remove the documents of the folders that `ignore`, `pattern` and `.gitignore` files leave out.

        A folder that does not exist is an error, and its documents stay: it may be a disk that is not connected.
        """
        return self._documents.add(folders, options, is_exact=True)

    def watch(
        self, *folders: _Path, stop: threading.Event | None = None, **options: Unpack[AddOptions]
    ) -> Iterator[AddReport]:
        """As `sync`, at once and after each change of the files; yield what was done. Needs the extra `watch`.

        Changes that cannot be stored at once, because another process is writing, are stored later.

        Args:
            folders: The folders.
            stop: Ends the iteration when it is set, from another thread; else Ctrl-C does.
            options: As for `sync`.
        """
        changes = find_changes(folders, self._store.folder, stop)
        return follow_changes(lambda: self.sync(*folders, **options), changes)

    def add_text(
        self,
        text: str,
        *,
        title: str = "",
        id: str = "",  # noqa: A002 - as `Document.id`
        metadata: Mapping[str, MetadataValue] | None = None,
    ) -> AddReport:
        """Add a text.

        Args:
            text: The text.
            title: The title for people; prompts and citations show it.
            id: Stable id; a new text with the same id replaces the old text. Defaults to a hash of the text, title and metadata.
            metadata: Values to filter on.

        Raises:
            ConfigurationError: `text` is not a text.
            DocumentError: The text is empty.
            StorageError: Another process is writing, or the folder is read-only.
        """
        if not isinstance(text, str):
            raise ConfigurationError(
                f"`text` must be a text, got {text!r:.80}. `add` takes files, folders and documents"
            )
        if not text.strip():
            raise DocumentError(f"`text` must not be empty, got {text!r}. Pass some text")
        return self.add(Document(text, id=id, title=title, metadata=metadata or {}))

    def update(
        self, *sources: _Path, metadata: Mapping[str, MetadataValue] | None = None, drop: Iterable[str] = ()
    ) -> int:
        """Set fields of the metadata of documents, remove the fields in `drop`, and return how many documents changed.

        Sources are as in `remove`. Nothing is embedded. If a value cannot be stored, nothing is changed.
        """
        return self._documents.update(sources, metadata, drop)

    def remove(self, *sources: _Path) -> int:
        """Remove documents by id or path; a folder stands for all documents below it. Return how many were removed.

        If one of them is unknown, `DocumentError` is raised and nothing is removed.
        """
        return self._documents.remove(sources)

    def documents(self) -> Iterator[DocumentRecord]:
        """Yield a record of each document, without its text."""
        return self._store.documents()

    def get_document(self, document_id: str) -> Document:
        """Return a document with its text."""
        return self._store.get_document(document_id)

    def stats(self) -> StoreStats:
        """Return what the folder contains: its documents, chunks and embedder."""
        return self._store.stats()

    def check(self) -> list[Damage]:
        """Read all of the folder, compare hashes, lengths and norms, and return what is damaged; nobody may write meanwhile."""
        return self._store.find_damage()

    def repair(self) -> RepairReport:
        """Make what is damaged again from the texts of the documents; a document whose text is lost is removed and named."""
        return self._store.repair(self._documents.recompute)
