"""What each stage brings and costs on a folder of your own: one table and one picture."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import leanrag
from leanrag.caching import AnswerCache
from leanrag.errors import ConfigurationError
from leanrag.evaluation.frontier import non_dominated
from leanrag.evaluation.making import MadeQuestions, make_questions
from leanrag.evaluation.measures import RIGHT
from leanrag.evaluation.pictures import Dot, scatter_svg
from leanrag.evaluation.questions import Dataset, Question, to_questions
from leanrag.evaluation.running import Run, run
from leanrag.evaluation.summaries import Comparison, Figure, Summary, compare, summarize
from leanrag.evaluation.tables import text_table
from leanrag.evidence import GreedyPacker
from leanrag.files import unwritable
from leanrag.protocols import LanguageModel
from leanrag.routing.cascade import Cascade, Model
from leanrag.types import Where

__all__ = ["Bench", "bench", "folder_for"]

_COLUMNS = ("answer in context", "prompt tokens", "seconds p50", "seconds p95", "CPU seconds", "cost")


@dataclass(frozen=True, slots=True)
class Bench:
    """What each stage brings and costs. Print it to see the table.

    Attributes:
        runs: The runs: each has one stage more than the run before.
        summaries: Their figures.
        changes: The change of the share of right answers from each run to the next.
        made: The questions, if they were made.
    """

    runs: tuple[Run, ...]
    summaries: tuple[Summary, ...]
    changes: tuple[Comparison, ...]
    made: MadeQuestions | None = None

    def __str__(self) -> str:
        rows = [
            (
                summary.name,
                str(summary.figure(RIGHT.name)),
                change,
                *(_short(summary.figure(name)) for name in _COLUMNS),
            )
            for summary, change in zip(self.summaries, ["", *map(_show_change, self.changes)], strict=True)
        ]
        head = f"{self.summaries[0].questions} questions" + (f"; {self.made}" if self.made else "")
        table = text_table(("run", "right [95 %]", "change, in points [95 %]", *_COLUMNS), rows)
        notes = dict.fromkeys(note for summary in self.summaries for note in summary.notes)
        return "\n".join([head, "", table, "", *notes]).rstrip()

    def to_svg(self) -> str:
        """Return the picture: the share of right answers against the cost, or against the seconds if a cost is unknown."""
        costs = [summary.figure("cost").value for summary in self.summaries]
        has_costs = all(cost is not None for cost in costs) and any(costs)
        name = "cost" if has_costs else "seconds p50"
        points = [(summary, summary.figure(name).value, summary.figure(RIGHT.name)) for summary in self.summaries]
        known = [(summary, x, right) for summary, x, right in points if x is not None and right.value is not None]
        front = non_dominated([x for _, x, _ in known], [right.value or 0.0 for _, _, right in known])
        dots = [
            Dot(summary.name, x, right.value or 0.0, right.low, right.high, "front" if i in front else "plain")
            for i, (summary, x, right) in enumerate(known)
        ]
        return scatter_svg(dots, x_label=f"{name} of a question", y_label="right answers")


def bench(
    folder: str | os.PathLike[str],
    questions: Dataset | Iterable[Question | tuple[str, Sequence[str]]] | None = None,
    *,
    models: Sequence[Model] = ("smollm2-135m",),
    n: int = 50,
    writer: LanguageModel | None = None,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    where: Where | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Bench:
    """Ask the same questions with one stage more each time.

    The runs are: the largest model reads all passages; it reads what the packer chose; with several models, the smallest alone
    and the cascade of all; and the last of these once more, with the answers in a cache.

    Args:
        folder: The database.
        questions: Questions with right answers; None makes `n` questions from the documents.
        models: The models, the smallest first.
        n: Number of questions to make.
        writer: A model that writes the questions; None makes them by rules.
        out: A folder for the runs, which resume from it after a kill; None keeps nothing.
        seed: Seed of the questions that are made.
        where: Only documents whose metadata fulfils these conditions.
        progress: Show a bar on standard error; by default only if that is a terminal.
        settings: Further arguments of `leanrag.open`, such as `k` and `embedder`.

    Raises:
        ConfigurationError: No question can be made, no question has a right answer, or an argument cannot work.
        GenerationError: A model cannot be loaded, or too many questions failed.
    """
    made = None
    if questions is None:
        with leanrag.open(folder, model=models[-1], create=False, **settings) as rag:
            made = make_questions(rag, n, model=writer, seed=seed)
        questions = made.dataset
    rows = to_questions(questions)
    if all(question.answers is None for question in rows):
        raise ConfigurationError(
            "no question has a right answer, so nothing can be measured. Pass each question with a list of its right answers; an "
            "empty list says that the documents do not answer it"
        )
    runs = []
    with folder_for(out) as target, AnswerCache(target / "answers.db") as cache:
        for name, options in _variants(models, cache):
            with leanrag.open(folder, create=False, **{**settings, **options}) as rag:
                path = target / f"{name.replace(' ', '-')}.jsonl"
                runs.append(run(rag, rows, path=path, name=name, progress=progress, where=where))
    changes = tuple(compare(before, after) for before, after in itertools.pairwise(runs))
    return Bench(tuple(runs), tuple(map(summarize, runs)), changes, made)


def _variants(models: Sequence[Model], cache: AnswerCache) -> list[tuple[str, dict[str, Any]]]:
    """Return the name of each run and what it passes to `leanrag.open`. The last run finds the answers of the run before it."""
    largest = models[-1]
    variants: list[tuple[str, dict[str, Any]]] = [
        ("all passages", {"model": largest, "packer": GreedyPacker(), "context_tokens": None}),
        ("packed", {"model": largest}),
    ]
    if len(models) > 1:
        variants += [("smallest model", {"model": models[0]}), ("cascade", {"model": Cascade(models)})]
    variants[-1][1]["cache"] = cache
    return [*variants, ("asked again", variants[-1][1])]


@contextlib.contextmanager
def folder_for(out: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Yield the folder of the runs; without a name, one that is removed at the end."""
    if out is None:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)
        return
    path = Path(out)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    yield path


def _short(figure: Figure) -> str:
    if figure.value is None:
        return "-"
    return f"{figure.value:.1%}" if figure.is_share else f"{figure.value:.3g}"


def _show_change(change: Comparison) -> str:
    return f"{100 * change.difference:+.1f} [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
