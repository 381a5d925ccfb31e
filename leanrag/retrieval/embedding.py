"""Text to unit float32 rows."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leanrag._optional import require, without_progress_bars
from leanrag.checks import check_whole
from leanrag.errors import ModelLoadError
from leanrag.files import file_ends
from leanrag.vectors import check_length, check_texts, embedder_id, room_for_text, unit_rows

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = ["SentenceTransformerEmbedder"]

logger = logging.getLogger(__name__)

_UNBOUNDED = 1 << 30  # the window of a model that has none
_load_lock = threading.Lock()


class SentenceTransformerEmbedder:
    """An embedder that runs a sentence-transformers model from a local folder.

    Nothing is downloaded and no code of the folder is run. Any thread may call; calls to the model itself take turns.
    Importing torch and its stack takes seconds, once per process.

    Example:
        >>> embedder = SentenceTransformerEmbedder("models/all-minilm-l6-v2")  # doctest: +SKIP
        >>> embedder.embed_queries(["What is a closure?"]).shape  # doctest: +SKIP
        (1, 384)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        device: str = "cpu",
        threads: int | None = None,
        batch_size: int = 32,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
    ) -> None:
        """Load the model.

        Args:
            path: Folder of the model, with its `modules.json`; its weights as safetensors.
            device: A torch device, for example "cpu", "cuda" or "mps".
            threads: Threads of torch, a setting of the whole process; None does not change it.
            batch_size: Texts that run through the model at once.
            query_prefix: Put before every query; by default the model's prompt named "query", if it has that.
            document_prefix: Put before every document; by default the model's prompt named "document".

        Raises:
            ConfigurationError: `threads` or `batch_size` is not positive, or a prefix leaves no room for text.
            MissingDependencyError: sentence-transformers is not installed.
            ModelLoadError: The folder has no such model.
        """
        check_whole(1, optional=True, threads=threads, batch_size=batch_size)
        folder = Path(path).expanduser().resolve()
        if not (folder / "modules.json").is_file():
            raise ModelLoadError(
                f"{str(folder)!r} has no sentence-transformers model (no modules.json). Name the folder of a model that was saved"
                " with SentenceTransformer.save",
                path=folder,
            )
        package = require("sentence_transformers", extra="torch", why="to embed with torch")
        if threads is not None:
            require("torch", extra="torch", why="to embed with torch").set_num_threads(threads)
        self._name = folder.name
        self._batch_size = batch_size
        self._model = _load(package, folder, device)
        self._model_lock = threading.Lock()
        self._window = int(min(self._model.max_seq_length or _UNBOUNDED, _UNBOUNDED))
        self._tokenizer = _private_tokenizer(self._model.tokenizer, folder)
        self._query_prefix = self._prompt("query") if query_prefix is None else query_prefix
        self._document_prefix = self._prompt("document") if document_prefix is None else document_prefix
        self._dim = int(self._run(["a"], "").shape[1])
        prefix_tokens = max(map(self.count_tokens, (self._query_prefix, self._document_prefix))) - self.count_tokens("")
        self._max_tokens = room_for_text(self._window, prefix_tokens, self.count_tokens(""))
        self._digest = _fingerprint(folder)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, dim={self.dim}, max_tokens={self.max_tokens})"

    @property
    def id(self) -> str:
        """Name of the folder and a hash of weights, settings and prefixes."""
        return embedder_id(self._name, self._digest, self._query_prefix, self._document_prefix)

    @property
    def dim(self) -> int:
        """Columns of a row."""
        return self._dim

    @property
    def max_tokens(self) -> int:
        """Tokens that a text may have, special tokens included: the model's window less the longer prefix."""
        return self._max_tokens

    def count_tokens(self, text: str) -> int:
        """Return the tokens of `text` in this model, special tokens included, prefix not, nothing cut off."""
        return len(self._tokenizer.encode(text).ids)

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)` float32, rows of unit L2 norm.

        Raises:
            ConfigurationError: A text is longer than the model reads.
        """
        return self._embed(texts, self._document_prefix, "document")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)` float32, rows of unit L2 norm.

        Raises:
            ConfigurationError: A text is longer than the model reads.
        """
        return self._embed(texts, self._query_prefix, "query")

    def _prompt(self, name: str) -> str:
        return str(self._model.prompts.get(name) or "")

    def _embed(self, texts: Sequence[str], prefix: str, role: str) -> Vectors:
        check_texts(texts)
        if not texts:
            return np.zeros((0, self._dim), dtype=np.float32)
        self._check_lengths(texts, prefix, role)
        return unit_rows(self._run(texts, prefix), texts, name=self._name, role=role)

    def _check_lengths(self, texts: Sequence[str], prefix: str, role: str) -> None:
        encodings = self._tokenizer.encode_batch([prefix + text for text in texts])
        for text, encoding in zip(texts, encodings, strict=True):
            check_length(text, len(encoding.ids), self._window, name=self._name, role=role)

    def _run(self, texts: Sequence[str], prefix: str) -> Vectors:
        """Return the model's rows. One at a time: the tokenizer's settings are changed while it runs."""
        with self._model_lock:
            rows: Vectors = self._model.encode(
                list(texts),
                prompt=prefix,
                batch_size=self._batch_size,
                show_progress_bar=False,
                convert_to_numpy=True,
                normalize_embeddings=True,
            )
        return rows


def _load(package: Any, folder: Path, device: str) -> Any:
    transformers = require("transformers", extra="torch", why="to embed with torch")
    with _load_lock, without_progress_bars(transformers):
        try:
            return package.SentenceTransformer(
                str(folder),
                device=device,
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},  # never a pickle
            )
        except Exception as error:
            raise ModelLoadError(
                f"cannot load the sentence-transformers model in {str(folder)!r} on {device!r}: {error}. Fetch the model"
                " again, or check the device",
                path=folder,
                model=folder.name,
            ) from error


def _private_tokenizer(tokenizer: Any, folder: Path) -> Any:
    """Return a copy that cuts and pads nothing; it is only read, so any thread may use it."""
    from tokenizers import Tokenizer

    if isinstance(tokenizer, Tokenizer):  # of a static model
        backend = tokenizer
    elif tokenizer.is_fast:
        backend = tokenizer.backend_tokenizer
    else:
        raise ModelLoadError(
            f"the model in {str(folder)!r} has no fast tokenizer (tokenizer.json); save it again with one", path=folder
        )
    copy = type(backend).from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy


def _fingerprint(folder: Path) -> str:
    """Hash the files that decide the rows: small ones whole, of large ones the size and the first and last MiB."""
    digest = hashlib.sha256()
    files = sorted(
        file
        for pattern in ("*.json", "*.txt", "*.model", "*.safetensors")
        for file in folder.rglob(pattern)
        if file.is_file()
    )
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.relative_to(folder).as_posix()}\0{size}\0".encode())
        digest.update(file_ends(file))
    return digest.hexdigest()
