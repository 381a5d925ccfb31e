"""A folder of documents that answers questions: thin calls to the stages behind it."""

from __future__ import annotations

import asyncio
import datetime
import functools
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from leanrag.errors import ConfigurationError, DocumentError
from leanrag.ledger.baseline import Baseline
from leanrag.pipeline.adding import Source
from leanrag.pipeline.asking import Asking
from leanrag.pipeline.auditing import AuditCounter
from leanrag.pipeline.calibrating import calibrate
from leanrag.pipeline.documents import AddOptions, Documents
from leanrag.pipeline.lazy import Lazy
from leanrag.pipeline.parallel import in_parallel
from leanrag.pipeline.preparing import Preparer
from leanrag.pipeline.query import AskOptions, PromptOptions, Settings
from leanrag.pipeline.reader import Reader
from leanrag.pipeline.searching import Searcher
from leanrag.pipeline.stages import Stages
from leanrag.pipeline.turn import AnswerStream
from leanrag.protocols import Closable, Embedder
from leanrag.retrieval.integrity import Damage
from leanrag.retrieval.repair import RepairReport
from leanrag.retrieval.store import DocumentRecord, Store, StoreStats
from leanrag.routing.calibration import Calibration, DriftAudit
from leanrag.routing.cascade import Cascade
from leanrag.routing.questions import Question
from leanrag.types import AddReport, Answer, AskKey, Document, Explanation, Hit, MetadataValue, Where

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Rag"]

_Path: TypeAlias = str | os.PathLike[str]


class Rag:
    """A folder of documents that answers questions; made by `leanrag.open`. Any thread may call.

    Use it in a `with` block, or call `close`. `ask` says which options a question can have; `stream`, `explain`, `ask_many` and the
    asyncio twins take the same ones. `ledger` is the one that `open` was told.
    """

    def __init__(
        self,
        store: Store,
        stages: Stages,
        settings: Settings,
        cascade: Cascade,
        *,
        readers: Sequence[Reader],
        embedder: Lazy[Embedder],
        can_calibrate: bool,
        closed_with: Sequence[Closable] = (),
    ) -> None:
        self._store, self._stages, self._settings, self.ledger = store, stages, settings, stages.ledger
        self._readers, self._embedder, self._can_calibrate, self._others = readers, embedder, can_calibrate, closed_with
        self._searcher, self._preparer = Searcher(store, embedder, stages), Preparer(store, embedder, stages)
        self._documents = Documents(store, embedder, stages, self._preparer)
        self._counter = AuditCounter(cascade.audit)
        self._asking = Asking(
            store, stages, settings, cascade, readers, self._searcher, self._preparer, embedder, self._counter
        )

    def __repr__(self) -> str:
        return f"Rag({str(self._store.folder)!r})"

    def __enter__(self) -> Rag:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the folder and the models that were loaded for it; idempotent."""
        parts: list[Closable] = [*self._readers, self._embedder, *self._others, self._store]
        for part in parts:
            part.close()

    # Documents

    def add(self, *sources: Source, **options: Unpack[AddOptions]) -> AddReport:
        """Add files, folders and documents; what is known and unchanged is skipped.

        A folder is read with all below it. Documents whose files vanished, became empty or cannot be read are removed. Only
        changed chunks are embedded, and a renamed file keeps vectors and metadata. An interrupted call keeps what it did.

        Args:
            sources: Paths, or `Document`s made from text.
            options: By name: `metadata`, set on each document (by default documents keep what they have, `{}` empties it);
                `encoding` of files without a byte order mark (by default UTF-8, or what a file declares); `ignore` and `pattern`,
                in the syntax of `.gitignore`: what to leave out of folders, and which files to read (other documents stay while
                their files exist); `progress`, a bar on standard error (by default only when that is a terminal).

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

    def add_text(
        self,
        text: str,
        *,
        title: str = "",
        id: str = "",  # noqa: A002 - as `Document.id`
        metadata: Mapping[str, MetadataValue] | None = None,
    ) -> AddReport:
        """Add one text; `id` defaults to a hash of it, its title and its metadata."""
        if not text.strip():
            raise DocumentError(f"a text to add must not be empty, got {text!r}; pass some text")
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
        """Return what the folder holds."""
        return self._store.stats()

    def check(self) -> list[Damage]:
        """Read all of the folder, compare hashes, lengths and norms, and return what is damaged; nobody may write meanwhile."""
        return self._store.find_damage()

    def repair(self) -> RepairReport:
        """Make what is damaged again from the texts of the documents; a document whose text is lost is removed and named."""
        return self._store.repair(self._documents.recompute)

    # Questions

    def search(self, question: str, k: int | None = None, *, where: Where | None = None) -> list[Hit]:
        """Return at most `k` chunks that match a question, best first; `k` is as in `open` when None.

        `where` keeps to the documents whose metadata fulfils its conditions; see `leanrag.retrieval.filters`.
        """
        return self._searcher.search(question, self._settings.k if k is None else k, where)

    def explain(self, question: str, **options: Unpack[AskOptions]) -> Explanation:
        """Return what `ask` would send, without generating: hits, packing, the exact prompt, its size and its cost."""
        return self._asking.explain(self._settings.query(question, **options))

    def key(self, question: str, **options: Unpack[AskOptions]) -> AskKey:
        """Return everything that the answer to a question depends on: documents, models, stages and options."""
        return self._asking.key(self._settings.query(question, **options))

    def ask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """Answer a question from the documents.

        Args:
            question: Plain text.
            options: What the question needs other than `open` was told, by name:
                `k`, chunks retrieved; `context_tokens`, most tokens of sources in the prompt; `max_tokens`, most tokens of the
                answer; `thinking_tokens`, most tokens of thoughts in addition; `style`, the form of the answer ("phrase",
                "sentence" or "explanation"); `where`, conditions on the documents (see `leanrag.retrieval.filters`);
                `temperature`, 0 for the same answer each time; `seed`, which repeats a draw; `timeout_seconds`, the time limit of
                the generation; `cancel`, a `CancelToken` that stops it from another thread.

        Raises:
            ConfigurationError: The folder holds no documents, or an option cannot work.
            BudgetError: The question does not fit the window, or not one sentence of a source fits the budget.
            GenerationError: The model failed, was cancelled, or reached the time limit.
        """
        return self._asking.stream(self._settings.query(question, **options)).answer

    def stream(self, question: str, **options: Unpack[AskOptions]) -> AnswerStream:
        """As `ask`: iterate for the model's words as they come, then read `answer`, which has the marks and citations.

        `pieces` of the stream yields the thoughts of a reasoning model too.
        """
        return self._asking.stream(self._settings.query(question, **options)).start()

    def ask_many(self, questions: Iterable[str], *, parallel: int = 8, **options: Unpack[AskOptions]) -> list[Answer]:
        """Answer several questions, in their order, as `ask` does; the model computes `parallel` of them together.

        Raises:
            LeanRAGError: As `ask` does, for the first question that fails; those that wait are not asked.
        """
        return in_parallel(lambda question: self.ask(question, **options), questions, parallel)

    async def aask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """As `ask`, for asyncio; cancelling the task stops the generation."""
        stream = self._asking.stream(self._settings.query(question, **options))
        try:
            return await asyncio.to_thread(lambda: stream.answer)
        except asyncio.CancelledError:
            stream.close()
            raise

    async def astream(self, question: str, **options: Unpack[AskOptions]) -> AsyncIterator[str]:
        """As iterating over `stream`, for asyncio; leaving the loop stops the generation."""
        stream = self._asking.stream(self._settings.query(question, **options))
        pieces = iter(stream)
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
        finally:
            stream.close()

    # Calibration

    def calibrate(
        self,
        questions: Iterable[Question],
        *,
        alpha: float = 0.05,
        delta: float = 0.1,
        is_right: Callable[[str, Sequence[str]], bool] | None = None,
        created: datetime.date | None = None,
        seed: int = 0,
        parallel: int = 8,
        progress: bool | None = None,
        **options: Unpack[PromptOptions],
    ) -> tuple[Calibration, ...]:
        """Learn from questions when the answers of a cascade may be kept; give the result to `Cascade` as `calibrations`.

        Each model answers each question. To keep the answer of a smaller model is a loss if it is wrong and the answer of the
        **last** model is right. Over questions like these, with the same documents and options, the share of losses is at most
        `alpha`, except with probability `delta`; each step of a cascade gets an equal part of both. The last model has no
        calibration if the questions have no right answers, or if it is always right or always wrong.

        Args:
            questions: Pairs of a question and its right answers: an empty list if the sources do not answer it, which teaches
                when to abstain. Or only plain questions: then the answers of the last model count as right, and so does an answer
                whose word-level F1 with them is at least `leanrag.routing.labels.AGREEMENT_F1`.
            alpha: Largest risk, in (0, 1).
            delta: Probability that the risk is larger all the same, in (0, 0.5].
            is_right: From an answer without marks and the right answers. By default an answer is right when it contains one of
                them or, where there is none, when it says that it does not know.
            created: The day; today by default.
            seed: Of the random halves to learn from and to certify with.
            parallel: Questions answered at the same time.
            progress: Show a bar on standard error; by default only when that is a terminal.
            options: `k`, `context_tokens`, `max_tokens`, `style`, `where` and `timeout_seconds`, as for `ask`.

        Raises:
            ConfigurationError: The folder was opened without a cascade, an argument cannot work, there are too few questions, or a
                model is always right or never.
            GenerationError: A model cannot be loaded, or more than a tenth of the questions failed. Fewer are left out.
        """
        if not self._can_calibrate:
            raise ConfigurationError(
                "calibrations belong to a cascade; open the folder with a `Cascade`, of one model or several"
            )
        query = functools.partial(self._settings.query, **options)
        return calibrate(
            self._asking, questions, query,
            alpha=alpha, delta=delta, is_right=is_right, created=created, seed=seed, parallel=parallel, progress=progress,
        )  # fmt: skip

    def measure_baseline(self, questions: Iterable[str], **options: Unpack[AskOptions]) -> Baseline:
        """Ask the last model with whole hits, as many as fit, and without a cache; return what that cost."""
        return self._asking.measure_baseline([self._settings.query(question, **options) for question in questions])

    @property
    def audit(self) -> DriftAudit | None:
        """The cascade's audit as it stands now; None when it has none."""
        return self._counter.audit
