"""The rows of the table on the same questions: each question goes to every row before the next question, then to eight callers.

So a load of the machine meets all rows, and the ratios are of the same minutes.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import leanrag
from benchmarks.common import Question, Questions
from benchmarks.end_to_end.observing import Load, Log, Way, observe
from benchmarks.end_to_end.peers import open_peers
from benchmarks.end_to_end.stages import (
    CONTEXT_TOKENS,
    EMBEDDER,
    FINAL,
    LARGE,
    READER_TOKENS,
    ROWS,
    SMALL,
    THRESHOLD,
    LeanRag,
    Models,
    open_row,
    to_reply,
)
from benchmarks.end_to_end.usual import UsualWay, load_llama
from benchmarks.training.material import is_held_out
from leanrag.caching import AnswerCache, SimilarQuestions
from leanrag.metrics import contains_answer
from leanrag.pipeline.parallel import in_parallel

__all__ = ["BASELINES", "CALLERS", "CACHES", "Sample", "choose_questions", "make_database", "measure_rows", "stream_of"]

BASELINES = ("B0", "B1")
"""The usual way with the largest model, and with the small model."""

CALLERS = 8
CACHES = ("exact cache", "semantic cache")
STREAM = 3  # requests of a stream for each question
_ZIPF = 1.1
_WORDINGS = ("{}", "{}", "please tell me: {}", "{} please", "{}?")


@dataclass(frozen=True, slots=True)
class Sample:
    """Questions of a data set, and all of its documents.

    Attributes:
        source: The data set.
        questions: The questions that are asked. The reader was not trained on their articles.
    """

    source: Questions
    questions: tuple[Question, ...]

    @property
    def folder(self) -> Path:
        """Folder of the database and of the log, for this run and the next."""
        identity = (leanrag.__version__, THRESHOLD, READER_TOKENS, CONTEXT_TOKENS)
        texts = "\n".join([repr(identity), *(document.id for document in self.source.documents)])
        digest = hashlib.sha256(texts.encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"leanrag-end-to-end-{self.source.name}-{digest}"


def choose_questions(source: Questions, n: int, *, start: int = 0) -> Sample:
    """Return `n` questions about held-out articles, from `start` in an order that is always the same."""
    titles = {document.id: document.title for document in source.documents}
    rows = [question for question in source.questions if is_held_out(titles.get(question.document_id, ""))]
    rows = rows or list(source.questions)
    order = np.random.default_rng(0).permutation(len(rows))[start : start + n]
    return Sample(source, tuple(rows[i] for i in order))


def make_database(sample: Sample) -> Path:
    """Return the folder of the database, which is made in the first run."""
    folder = sample.folder / "database"
    folder.parent.mkdir(exist_ok=True)
    with leanrag.open(folder, model=SMALL, embedder=EMBEDDER) as rag:
        if rag.stats().documents < len(sample.source.documents):
            rag.add(*{document.id: document for document in sample.source.documents}.values())
    return folder


def measure_rows(sample: Sample) -> Log:
    """Ask every row every question, then eight callers, then the streams; return what the log has of this run and earlier runs."""
    database = make_database(sample)
    log = Log(sample.folder / "log.jsonl")
    with contextlib.ExitStack() as stack:
        models = Models(stack)
        ways = _open_ways(stack, sample, database, models)
        rag = stack.enter_context(open_row(FINAL, database, models))
        rag.search("Is it loaded?")
        parts = np.array_split(np.arange(len(sample.questions)), -(-len(sample.questions) // CALLERS))
        with tqdm(total=len(sample.questions), desc=sample.source.name, unit="question", disable=None) as bar:
            for part in parts:
                for i in part:
                    _ask_all(log, ways, sample.questions[i], first=int(i))
                    bar.update()
                _ask_together(log, rag, [sample.questions[i] for i in part], f"{part[0]}-{part[-1]}")
        for name in CACHES:
            _ask_stream(log, name, sample, database, models)
    return log


def _open_ways(stack: contextlib.ExitStack, sample: Sample, database: Path, models: Models) -> list[Way]:
    """Return all rows, with everything loaded."""
    ways: list[Way] = []
    for row in ROWS:
        rag = stack.enter_context(open_row(row, database, models))
        rag.ask("Is it loaded?", context_tokens=100, max_tokens=1)
        ways.append(LeanRag(row.name, rag))
    for name, model in zip(BASELINES, (LARGE, SMALL), strict=True):
        llama = load_llama(model)
        stack.callback(llama.close)
        ways.append(UsualWay(name, llama, rag, is_large=model == LARGE))
        if model == LARGE:
            ways += open_peers(llama, sample.source.documents)
    return ways


def _ask_all(log: Log, ways: Sequence[Way], question: Question, *, first: int) -> None:
    """Ask all ways that the log has no observation of; each question begins with another way."""
    turned = [ways[(first + i) % len(ways)] for i in range(len(ways))]
    missing = [way for way in turned if (way.name, question.text) not in log.observations]
    log.add(observe(way, question) for way in missing)


def _ask_together(log: Log, rag: leanrag.Rag, questions: Sequence[Question], part: str) -> None:
    """Answer questions of eight callers, each of which asks the next when it has its answer."""
    if ("batching", part) in log.loads:
        return
    started, cpu_started = time.perf_counter(), time.process_time()
    answers = rag.ask_many([question.text for question in questions], parallel=CALLERS)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    texts = [to_reply(answer, 0.0).text for answer in answers]
    right = sum(contains_answer(text, each.answers) for text, each in zip(texts, questions, strict=True))
    log.add([Load("batching", part, len(questions), seconds, cpu_seconds, right)])


def stream_of(n: int) -> list[tuple[int, str]]:
    """Return a stream of requests for `n` questions: the index of each question, by Zipf's law, and how it is worded."""
    draw = np.random.default_rng(1)
    weights = 1 / np.arange(1, n + 1) ** _ZIPF
    chosen = draw.choice(n, size=STREAM * n, p=weights / weights.sum())
    wordings = draw.integers(len(_WORDINGS), size=STREAM * n)
    return [(int(i), _WORDINGS[j]) for i, j in zip(chosen, wordings, strict=True)]


def _ask_stream(log: Log, name: str, sample: Sample, database: Path, models: Models) -> None:
    """Ask a stream of questions, many of which repeat an earlier question, in the same words or in others."""
    part = f"stream of {len(sample.questions)}"
    if (name, part) in log.loads:
        return
    similar = SimilarQuestions() if name == "semantic cache" else None
    stream = stream_of(len(sample.questions))
    path = sample.folder / f"{name.replace(' ', '-')}.db"
    path.unlink(missing_ok=True)
    with AnswerCache(path, similar=similar) as cache, open_row(FINAL, database, models, cache=cache) as rag:
        rag.search("Is it loaded?")

        def ask(request: tuple[int, str]) -> tuple[bool, bool, float]:
            question = sample.questions[request[0]]
            started = time.perf_counter()
            answer = rag.ask(request[1].format(question.text))
            seconds = time.perf_counter() - started
            is_hit = any(stage.name == "cache" and stage.details["found"] for stage in answer.trace)
            return contains_answer(to_reply(answer, seconds).text, question.answers), is_hit, seconds

        started, cpu_started = time.perf_counter(), time.process_time()
        results: list[Any] = list(in_parallel(ask, stream, CALLERS))
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    hits = [result[2] for result in results if result[1]]
    log.add(
        [
            Load(
                row=name,
                part=part,
                questions=len(stream),
                seconds=seconds,
                cpu_seconds=cpu_seconds,
                right=sum(result[0] for result in results),
                hits=len(hits),
                hit_seconds=float(np.median(hits)) if hits else None,
            )
        ]
    )
