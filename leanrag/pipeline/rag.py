"""A folder of documents that answers questions: thin calls to the stages behind it."""

from __future__ import annotations

import datetime
import functools
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from leanrag.errors import ConfigurationError
from leanrag.ledger.baseline import Baseline
from leanrag.pipeline.asking import Asking
from leanrag.pipeline.auditing import AuditCounter
from leanrag.pipeline.calibrating import calibrate
from leanrag.pipeline.conversation import ChatHistory, Conversation
from leanrag.pipeline.documents import Documents
from leanrag.pipeline.folder import DocumentFolder
from leanrag.pipeline.lazy import Lazy
from leanrag.pipeline.parallel import in_parallel
from leanrag.pipeline.preparing import Preparer
from leanrag.pipeline.query import AskOptions, AutoTokens, PromptOptions, Settings
from leanrag.pipeline.reader import Reader
from leanrag.pipeline.searching import Searcher
from leanrag.pipeline.stages import Stages
from leanrag.pipeline.turn import AnswerStream
from leanrag.pipeline.twins import answer_of, pieces_of
from leanrag.protocols import Closable, Embedder
from leanrag.retrieval.store import Store
from leanrag.routing.calibration import Calibration, DriftAudit
from leanrag.routing.cascade import Cascade
from leanrag.routing.questions import Question
from leanrag.types import Answer, AskKey, Explanation, Hit, Where

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Rag"]


class Rag(DocumentFolder):
    """A folder of documents that answers questions; made by `leanrag.open`. Any thread may call.

    Use it in a `with` block, or call `close`. `ask` says which options a question can have; `stream`, `explain`, `ask_many` and the
    asyncio twins take the same ones. `ledger` is the ledger that `open` got.
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
        preparer = Preparer(store, embedder, stages)
        super().__init__(store, Documents(store, embedder, stages, preparer))
        self._settings, self.ledger = settings, stages.ledger
        self._readers, self._embedder, self._can_calibrate, self._others = readers, embedder, can_calibrate, closed_with
        self._searcher, self._counter = Searcher(store, embedder, stages), AuditCounter(cascade.audit)
        self._asking = Asking(
            store, stages, settings, cascade, readers, self._searcher, preparer, embedder, self._counter
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

    # Questions

    def search(self, question: str, k: int | None = None, *, where: Where | None = None) -> list[Hit]:
        """Return at most `k` chunks that match a question, best first.

        Args:
            question: Plain text.
            k: Most chunks; None takes the number that `open` got.
            where: Only documents whose metadata fulfils these conditions; see `leanrag.retrieval.filters`.

        Raises:
            ConfigurationError: The question is empty, or `k` or `where` cannot work.
            StorageError: The folder cannot be read.
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
            options: What differs from the arguments of `open` for this question, by name:
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
            ConfigurationError: `questions` is one text.
            LeanRAGError: As `ask` does, for the first question that fails; those that wait are not asked.
        """
        if isinstance(questions, str):
            raise ConfigurationError(
                f"`questions` must be a list of texts, got {questions!r:.80}. `ask` takes one question"
            )
        return in_parallel(lambda question: self.ask(question, **options), questions, parallel)

    async def aask(self, question: str, **options: Unpack[AskOptions]) -> Answer:
        """As `ask`, for asyncio; cancelling the task stops the generation."""
        return await answer_of(self._asking.stream(self._settings.query(question, **options)))

    async def astream(self, question: str, **options: Unpack[AskOptions]) -> AsyncIterator[str]:
        """As iterating over `stream`, for asyncio; leaving the loop stops the generation."""
        async for piece in pieces_of(self._asking.stream(self._settings.query(question, **options))):
            yield piece

    def chat(
        self,
        history: ChatHistory = (),
        *,
        history_tokens: AutoTokens | None = "auto",
        rewrites: bool = False,
        **options: Unpack[AskOptions],
    ) -> Conversation:
        """Return a conversation: its questions may refer to earlier ones.

        Args:
            history: What was said before: nothing, a file that `Conversation.save` wrote, its `exchanges`, or messages of user
                and assistant.
            history_tokens: Most tokens of earlier questions, sources and answers in a prompt. "auto" takes the number in the
                profile of the model; None takes half of its window. 0: each question alone is in the prompt, in words that need
                no conversation.
            rewrites: Whether the last model rewrites a question if the rules cannot decide which thing it refers to. A model with a
                price is not asked.
            options: As for `ask`; they hold for each question that does not say otherwise.

        Raises:
            ConfigurationError: The messages are not questions and answers in turn, or `history_tokens` is less than 0.
            StorageError: The file cannot be read or is not a conversation.
        """
        return Conversation(
            self._asking, self._settings, history, history_tokens=history_tokens, rewrites=rewrites, options=options
        )

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
