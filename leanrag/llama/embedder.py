"""`LlamaCppEmbedder`: a GGUF file that turns text into vectors, without torch."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import unicodedata
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn, get_args

import numpy as np

from leanrag.checks import ProcessGuard, check_choice, check_whole
from leanrag.errors import ConfigurationError, GenerationError, ModelLoadError
from leanrag.files import fingerprint_of
from leanrag.llama.batch import Batch
from leanrag.llama.chat import encode_text
from leanrag.llama.embedding_prefixes import find_prefixes
from leanrag.llama.files import GGUFInfo, check_gguf
from leanrag.llama.library import library, native_errors
from leanrag.llama.placement import GpuOptions, Placement, check_gpu_options, gpu_devices, measure_sizes, place
from leanrag.llama.trial import try_file
from leanrag.llama.weights import Weights
from leanrag.threads import Priority, ThreadCount, lower_priority
from leanrag.vectors import check_length, check_texts, embedder_id, room_for_text, unit_rows

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = ["LlamaCppEmbedder"]

logger = logging.getLogger(__name__)

_DEFAULT_N_CTX = 2048
_MAX_N_CTX = 2**16
_MAX_THREADS = 512  # ggml.h, GGML_MAX_N_THREADS
_POOLINGS = (1, 2, 3)  # llama.h, enum llama_pooling_type: mean, CLS, last; 0 is none, 4 a score of two texts
_WORDPIECE = 3  # llama.h, LLAMA_VOCAB_TYPE_WPM
# So many tokens are computed by one thread: where cores are busy, threads that wait for each other take a hundred times as long.
_FEW_TOKENS = 32
_CPU_BATCH, _GPU_BATCH = 256, 1024  # tokens; on one GPU 1,024 were 1.5 times as fast as 256, and 2,048 no faster
_FLASH_ATTENTION = -1  # llama.h, LLAMA_FLASH_ATTN_TYPE_AUTO: 1.5 to 2 times as fast on passages, by the same numbers


class LlamaCppEmbedder:
    """An embedder that runs a GGUF file with llama.cpp. Any thread may call; computations take turns.

    Example:
        >>> with LlamaCppEmbedder("all-minilm-l6-v2-f16.gguf") as embedder:  # doctest: +SKIP
        ...     embedder.embed_queries(["What is a closure?"]).shape
        (1, 384)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        name: str | None = None,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        n_ctx: int | None = None,
        threads: int | None = None,
        priority: Priority = "normal",
        gpu: GpuOptions | None = None,
        batch_tokens: int | None = None,
        trial: bool | None = None,
    ) -> None:
        """Load the model.

        Args:
            path: The GGUF file of an embedding model. The file must define its pooling (mean, CLS or last token); `convert_bert`
                writes such a file.
            name: Beginning of the id; by default the name of the file without its suffix.
            query_prefix: Text before every query; by default the text that the model was trained with, as `convert_bert` found it,
                or by the name of a published model (nomic-embed, e5, bge, ...).
            document_prefix: Text before every document; the default is chosen in the same way.
            n_ctx: Window in tokens; by default the window of the model, at most 2,048.
            threads: Threads to compute with; by default the physical cores that this process may use, and fewer while other
                programs compute.
            priority: "background" gives way to other programs: half of the cores, and on Linux a thread of niceness 10.
            gpu: Which part of the model goes on GPUs.
            batch_tokens: Most tokens that are computed together, except for a longer text; by default 256, or 1,024 with a GPU.
            trial: As for `LlamaCppModel`.

        Raises:
            ConfigurationError: An argument cannot work, or a prefix leaves no room for text.
            ModelLoadError: The file is missing, damaged or not an embedding model, or llama.cpp refused it.
        """
        check_whole(1, _MAX_N_CTX, optional=True, n_ctx=n_ctx, batch_tokens=batch_tokens)
        check_whole(1, _MAX_THREADS, optional=True, threads=threads)
        check_choice(get_args(Priority), priority=priority)
        info = check_gguf(path)
        path = info.path
        _check_embeds(info)
        gpu = gpu or GpuOptions()
        devices = gpu_devices()
        check_gpu_options(gpu, devices)
        trained = info.n_ctx_train or _DEFAULT_N_CTX
        if n_ctx is not None and n_ctx > trained:
            raise ConfigurationError(f"`n_ctx` must be at most {trained:,}, the window of {path.stem}, got {n_ctx:,}")
        self._name = name or path.stem
        self._digest = fingerprint_of(path)
        known = find_prefixes(info)
        self._query_prefix = known[0] if query_prefix is None else query_prefix
        self._document_prefix = known[1] if document_prefix is None else document_prefix
        self._window = n_ctx or min(trained, _DEFAULT_N_CTX)
        try_file(info, "embedder", trial=trial, n_ctx=self._window)
        batch_tokens = batch_tokens or (_GPU_BATCH if devices and gpu.layers != 0 else _CPU_BATCH)
        capacity = max(self._window, batch_tokens)
        sizes = measure_sizes(info, n_ctx=capacity, n_batch=capacity)
        self.placement: Placement = place(sizes, devices, gpu)
        thread_count = ThreadCount(threads, priority)
        limits = iter((self.placement.layers // 2, 0))  # others may take the memory of a GPU meanwhile
        while True:
            try:
                self._encoder = _Encoder(info, self._window, thread_count, self.placement, batch_tokens)
                break
            except ModelLoadError as error:
                if gpu.layers != "auto" or not self.placement.layers:
                    raise
                fewer = place(sizes, devices, gpu, at_most=next(limits))
                logger.warning("%s; trying %s instead of %s", error, fewer, self.placement)
                self.placement = fewer
        if self.placement.devices:
            logger.info("%s: %s", path.name, self.placement)
        self._finalizer = weakref.finalize(self, self._encoder.close)  # also at interpreter exit
        prefix_tokens = max(map(self.count_tokens, (self._query_prefix, self._document_prefix))) - self.count_tokens("")
        try:
            self._max_tokens = room_for_text(self._window, prefix_tokens, self.count_tokens(""))
        except ConfigurationError:
            self.close()
            raise

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.id!r}, dim={self.dim}, max_tokens={self.max_tokens})"

    def __enter__(self) -> LlamaCppEmbedder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the model after the computations of other threads have ended; may be called twice."""
        self._finalizer()

    @property
    def id(self) -> str:
        """The name and a hash of file and prefixes."""
        return embedder_id(self._name, self._digest, self._query_prefix, self._document_prefix)

    @property
    def dim(self) -> int:
        """Columns of a row."""
        return self._encoder.dim

    @property
    def max_tokens(self) -> int:
        """Most tokens of a text, special tokens included: the window of the model minus the longer prefix."""
        return self._max_tokens

    def count_tokens(self, text: str) -> int:
        """Return the tokens of `text` in this model, with special tokens and without a prefix. Nothing is cut off."""
        return len(self._encoder.tokenize(text))

    def embed_documents(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)` float32, rows of unit L2 norm.

        Raises:
            ConfigurationError: A text is longer than the model reads.
            GenerationError: The model failed, is closed, or belongs to a parent process.
        """
        return self._embed(texts, self._document_prefix, "document")

    def embed_queries(self, texts: Sequence[str]) -> Vectors:
        """Return `(len(texts), dim)` float32, rows of unit L2 norm.

        Raises:
            ConfigurationError: A text is longer than the model reads.
            GenerationError: The model failed, is closed, or belongs to a parent process.
        """
        return self._embed(texts, self._query_prefix, "query")

    def _embed(self, texts: Sequence[str], prefix: str, role: str) -> Vectors:
        check_texts(texts)
        sequences = [self._tokenize(prefix + text, role) for text in texts]
        return unit_rows(self._encoder.embed(sequences), texts, name=self._name, role=role)

    def _tokenize(self, text: str, role: str) -> list[int]:
        tokens = self._encoder.tokenize(text)
        check_length(text, len(tokens), self._window, name=self._name, role=role)
        return tokens


class _Encoder:
    """A model in memory and a context that pools.

    Args:
        info: A checked file with pooling.
        window: Most tokens of a sequence.
        threads: How many threads to compute with; "background" computes in a thread that gives way to other programs.
        placement: Which layers are on which GPU.
        batch_tokens: Most tokens computed at once, a longer sequence excepted.

    Attributes:
        dim: Columns of a row.
    """

    _batch: Batch
    _memory: Any

    def __init__(
        self,
        info: GGUFInfo,
        window: int,
        threads: ThreadCount,
        placement: Placement,
        batch_tokens: int,
    ) -> None:
        self._path, self._batch_tokens, self._threads = info.path, batch_tokens, threads
        self._strips_accents = _strips_accents(info)
        self._lib = library()
        self._guard = ProcessGuard()
        self._turn = threading.Lock()  # held by who computes
        self._state = threading.Lock()  # guards what follows
        self._is_closed, self._users = False, 0
        self._background = None
        if threads.priority == "background":
            self._background = ThreadPoolExecutor(1, "leanrag embedder", initializer=lower_priority)
        self._context = None
        self._weights = Weights.acquire(info.path, placement)
        try:
            self._before, self._after = self._frame()
            self.dim: int = self._lib.llama_model_n_embd_out(self._weights.model)
            self._open_context(window)
        except BaseException:
            self.close()
            raise

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of untrusted `text`, between those that begin and end a sequence."""
        if self._strips_accents and not text.isascii():
            # llama.cpp 0c1e570 does the same, but keeps only the first consonant of a Hangul syllable.
            text = unicodedata.normalize("NFD", text)
        with self._in_use():
            return [*self._before, *encode_text(text, self._weights.vocabulary), *self._after]

    def embed(self, sequences: Sequence[Sequence[int]]) -> Vectors:
        """Return `(len(sequences), dim)` float32, one row for each sequence of tokens; a row of zeros for an empty one."""
        rows = np.zeros((len(sequences), self.dim), np.float32)
        lengths = [len(sequence) for sequence in sequences]
        for group in _groups(lengths, self._batch_tokens, self._n_sequences):
            with self._in_use(), self._turn:
                part = [(number, sequences[number]) for number in group]
                if self._background is None:
                    self._compute(part, rows)
                else:
                    self._background.submit(self._compute, part, rows).result()
        return rows

    def close(self) -> None:
        """Free the model as soon as nobody uses it; idempotent, and without effect in a forked child."""
        if not self._guard.is_here:
            return
        with self._state:
            is_first, self._is_closed = not self._is_closed, True
            if is_first and not self._users:
                self._free()

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep the model in memory; complain when it is closed or a parent's."""
        self._guard.check(self._path.name, functools.partial(GenerationError, model=self._path.name))
        with self._state:
            if self._is_closed:
                self._fail("is closed. Load the model again to use it")
            self._users += 1
        try:
            yield
        finally:
            with self._state:
                self._users -= 1
                if self._is_closed and not self._users:
                    self._free()

    def _fail(self, what: str) -> NoReturn:
        raise GenerationError(f"{self._path.name} {what}", model=self._path.name)

    def _refuse(self, what: str) -> NoReturn:
        raise ModelLoadError(f"{str(self._path)!r} {what}", path=self._path, model=self._path.name)

    def _free(self) -> None:
        if self._context:
            self._lib.llama_free(self._context)
        self._weights.release()
        self._context = None
        if self._background is not None:
            self._background.shutdown(wait=False)

    def _frame(self) -> tuple[list[int], list[int]]:
        """Return the tokens that begin and end a sequence, as `llama_vocab::tokenize` adds them, without its assertions."""
        lib, vocabulary = self._lib, self._weights.vocabulary
        vocab = lib.llama_model_get_vocab(self._weights.model)
        if lib.llama_vocab_type(vocab) == _WORDPIECE:
            frame = [vocabulary.bos], [lib.llama_vocab_sep(vocab)]
        else:
            frame = (
                [vocabulary.bos] if vocabulary.adds_bos else [],
                [vocabulary.eos] if lib.llama_vocab_get_add_eos(vocab) else [],
            )
        if not all(0 <= token < vocabulary.n_tokens for token in (*frame[0], *frame[1])):
            self._refuse("does not say which tokens begin and end a text. Convert the model again")
        return frame

    def _open_context(self, window: int) -> None:
        lib = self._lib
        capacity = max(window, self._batch_tokens)
        self._n_sequences = min(capacity, lib.llama_max_parallel_sequences())
        capacity += -capacity % self._n_sequences  # llama.cpp asserts a multiple when it plans how to pool
        parameters = lib.llama_context_default_params()
        parameters.embeddings = True
        # One computation a batch: an encoder's tokens see all others, so llama.cpp cannot split it, and asserts that it need not.
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = capacity
        parameters.n_seq_max, parameters.kv_unified = self._n_sequences, True
        parameters.op_offload = False
        parameters.flash_attn_type = _FLASH_ATTENTION
        with native_errors() as native:
            self._context = lib.llama_init_from_model(self._weights.model, parameters)
            if not self._context:
                self._refuse(f"needs more memory than is available, or llama.cpp cannot run it: {native}")
            native.expected = True  # it warns that the window is small, whatever the texts are
        if lib.llama_pooling_type(self._context) not in _POOLINGS:
            self._refuse("has no pooling")
        self._memory = lib.llama_get_memory(self._context)  # None for an encoder
        self._batch = Batch(lib, capacity, self._n_sequences)

    def _compute(self, group: Sequence[tuple[int, Sequence[int]]], rows: Vectors) -> None:
        """Compute sequences together; each, with its row's number, fills its row."""
        lib, batch = self._lib, self._batch
        batch.clear()
        for sequence, (_, tokens) in enumerate(group):
            batch.add(list(tokens), 0, sequence, 0)
        threads = 1 if batch.n_rows <= _FEW_TOKENS else self._threads.now()
        lib.llama_set_n_threads(self._context, threads, threads)
        with native_errors() as native:
            code = lib.llama_decode(self._context, batch.native())
            reason = str(native)
        if self._memory:
            lib.llama_memory_clear(self._memory, False)
        if code:
            self._fail(f"failed in llama.cpp with code {code} ({reason}). Embed fewer or shorter texts at once")
        for sequence, (number, _) in enumerate(group):
            pointer = lib.llama_get_embeddings_seq(self._context, sequence)
            if not pointer:
                self._fail("returned no vector. Use another model")
            rows[number] = np.ctypeslib.as_array(pointer, (self.dim,))


def _check_embeds(info: GGUFInfo) -> None:
    """Refuse what does not pool, and shapes that llama.cpp asserts in its graph."""
    architecture, pooling = info.architecture, info.number("pooling_type")
    if pooling not in _POOLINGS:
        why = {
            None: "has no pooling type, like files of generative models",
            0: "returns a vector for each token and none for a text",
            4: "scores pairs of texts: it is a reranker",
        }.get(pooling, f"pools in an unknown way, {pooling!r}")
        raise ModelLoadError(
            f"{str(info.path)!r} ({architecture}) is not an embedding model: it {why}. Use the GGUF file of an embedding model with"
            " mean, CLS or last-token pooling",
            path=info.path,
            model=info.path.stem,
        )
    if architecture.startswith("t5") or info.metadata.get("tokenizer.ggml.model") in (None, "none", "no_vocab"):
        raise ModelLoadError(
            f"{str(info.path)!r} ({architecture}) is a T5 model or has no vocabulary. Use the GGUF file of another embedding model",
            path=info.path,
            model=info.path.stem,
        )
    if "bert" in architecture:
        width, heads = info.number("embedding_length"), info.number("attention.head_count")
        sizes = {info.number(f"attention.{part}_length") for part in ("key", "value")} - {None}
        if not width or not heads or width % heads or not sizes <= {width // heads}:
            raise ModelLoadError(
                f"{str(info.path)!r} is damaged: {heads} heads do not divide a width of {width}. Get the file again",
                path=info.path,
            )


def _strips_accents(info: GGUFInfo) -> bool:
    """Whether llama.cpp takes letters and accents apart: `llm_tokenizer_wpm_session::preprocess`."""
    lowercase = info.metadata.get("tokenizer.ggml.normalizer.lowercase", True)
    strips = info.metadata.get("tokenizer.ggml.normalizer.strip_accents", lowercase)
    return info.metadata.get("tokenizer.ggml.model") == "bert" and bool(strips)


def _groups(lengths: Sequence[int], limit: int, most: int) -> Iterator[list[int]]:
    """Yield numbers of sequences to compute together, of similar length: at most `limit` tokens, or one that is longer."""
    group: list[int] = []
    total = 0
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[number]
        if group and (total + length > limit or len(group) == most):
            yield group
            group, total = [], 0
        if length:
            group.append(number)
            total += length
    if group:
        yield group
