"""Has each model of a cascade answer the same questions, and learns from it when an answer may be kept."""

from __future__ import annotations

import datetime
import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tqdm.auto import tqdm

from leanrag.errors import BudgetError, ConfigurationError, GenerationCancelled, GenerationError
from leanrag.pipeline.asking import Asking
from leanrag.pipeline.parallel import in_parallel
from leanrag.pipeline.query import Query
from leanrag.pipeline.timing import StageTimer, recording
from leanrag.pipeline.turn import Judged
from leanrag.routing.calibration import CalibratedModel, Calibration
from leanrag.routing.cascade import model_name
from leanrag.routing.labels import answer_text
from leanrag.routing.questions import Question, plan_calibration
from leanrag.routing.samples import Failures, Sample, fit_calibrations
from leanrag.types import Hit

__all__ = ["calibrate"]

logger = logging.getLogger(__name__)


def calibrate(
    asking: Asking,
    questions: Iterable[Question],
    make_query: Callable[[str], Query],
    *,
    alpha: float,
    delta: float,
    is_right: Callable[[str, Sequence[str]], bool] | None,
    created: datetime.date | None,
    seed: int,
    parallel: int,
    progress: bool | None,
) -> tuple[Calibration, ...]:
    """Learn from questions when answers may be kept; see `leanrag.Rag.calibrate`."""
    cascade = asking.cascade
    names = [model_name(model) for model in cascade.models]
    if len(set(names)) < len(names):
        raise ConfigurationError(f"models to calibrate need different names, got {', '.join(names)}; rename a file")
    plan = plan_calibration(questions, models=len(names), alpha=alpha, delta=delta, is_right=is_right)
    queries = [make_query(question) for question in plan.questions]
    with recording(asking.stages.ledger, "train"):
        hits = in_parallel(lambda query: asking.retrieve(query, StageTimer()), queries, parallel)
        models = [CalibratedModel(name=reader.model.name, sha256=reader.sha256) for reader in asking.readers]
        samples = _take_samples(asking, list(zip(queries, hits, strict=True)), parallel, progress)
    return fit_calibrations(plan, samples, models, is_right=is_right, created=created, seed=seed)


def _take_samples(
    asking: Asking, searched: Sequence[tuple[Query, Sequence[Hit]]], parallel: int, progress: bool | None
) -> list[list[Sample | None]]:
    """Return what each model answers to each question: None when it failed or nothing was found.

    A question without a sample is not put to the models that follow: only questions that all models answered are learned from.
    """
    failures = Failures(len(searched))
    samples: list[list[Sample | None]] = []
    for i, reader in enumerate(asking.readers):
        logger.info("%s answers %d questions", reader.model.name, len(searched))
        has_sample = [sample is not None for sample in samples[-1]] if samples else [True] * len(searched)
        is_hidden = None if progress is None else not progress
        with tqdm(total=len(searched), desc=reader.model.name, unit="question", disable=is_hidden, leave=False) as bar:
            sample = functools.partial(_take_sample, asking.for_model(i), failures, bar)
            samples.append(in_parallel(sample, list(zip(searched, has_sample, strict=True)), parallel))
    failures.report()
    return samples


def _take_sample(
    asking: Asking, failures: Failures, bar: tqdm[Any], item: tuple[tuple[Query, Sequence[Hit]], bool]
) -> Sample | None:
    """Return what a model answers to one question."""
    (query, hits), is_wanted = item
    try:
        if not is_wanted or failures.are_too_many:
            return None
        for event in asking.answer(query, hits):
            if isinstance(event, Judged):
                answer = event.answer
                assert answer.generation is not None
                text = answer.text if answer.abstained else answer_text(answer.generation.text)
                return Sample(text, event.confidence.signals)
    except GenerationCancelled:
        raise
    except (GenerationError, BudgetError) as error:
        failures.add(query.question, error)
    finally:
        bar.update()
    return None
