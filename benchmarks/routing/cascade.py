"""Measure a cascade of two real models on SQuAD 2.0. The paragraphs do not answer half of its questions.

The smaller model reads few tokens of sources, the larger more. Every question is asked of both, one after the other, so that all
policies can be worked out from the same answers, and each has its own measured CPU seconds (of all threads, search and packing
included; an escalated question pays for both). Right is an answer that holds a gold answer or, where there is none, says that it
does not know; F1 is that of SQuAD 2.0, where having no answer counts 1 on a question without one, else 0.

Everything learnt is applied to other paragraphs than it was learnt from: five folds by paragraph.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

import leanrag
from benchmarks.common import read_squad
from leanrag.metrics import bootstrap_interval, f1
from leanrag.models import resolve
from leanrag.routing.calibration import CalibratedModel, auroc, expected_calibration_error, fit_logistic
from leanrag.routing.confidence import uncalibrated_confidence
from leanrag.routing.labels import answer_text, is_right_or_silent
from leanrag.routing.questions import CalibrationPlan
from leanrag.routing.refusals import is_refusal
from leanrag.routing.samples import Sample, fit_calibrations
from leanrag.routing.signals import SIGNAL_NAMES, Signals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

SMALL, LARGE, EMBEDDER = "smollm2-135m:q4_0", "gemma3-270m", "all-minilm-l6-v2"
CONTEXT_TOKENS = {SMALL: 100, LARGE: 300}
QUESTIONS, QUICK_QUESTIONS = 480, 24
FOLDS, QUICK_FOLDS = 5, 2
PART = 0.95  # of the larger model's F1 that a cascade is to reach
ALPHA, DELTA = 0.1, 0.1


@dataclass(frozen=True, slots=True)
class Replies:
    """What one model answered to each question.

    Attributes:
        samples: Words and signals.
        right: 1.0 where it is right, `(n,)`.
        f1: In [0, 1].
        seconds: CPU seconds of the whole question.
    """

    samples: tuple[Sample, ...]
    right: Floats
    f1: Floats
    seconds: Floats

    @property
    def features(self) -> Floats:
        """`(n, len(SIGNAL_NAMES))`."""
        return np.array([sample.signals.vector() for sample in self.samples])


@dataclass(frozen=True, slots=True)
class Asked:
    """Questions with the replies of both models.

    Attributes:
        questions: As asked.
        answers: Gold answers; none where there is none.
        folds: Number of the part that each question belongs to; those of a paragraph belong to one.
        small: The smaller model.
        large: The larger one.
    """

    questions: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]
    folds: NDArray[np.int64]
    small: Replies
    large: Replies

    @property
    def silent(self) -> Floats:
        """1.0 where there is no answer."""
        return np.array([not answers for answers in self.answers], np.float64)


def models() -> dict[str, Path]:
    """The files that are measured, by name."""
    return {name: resolve(name) for name in (SMALL, LARGE, EMBEDDER)}


def ask_both(data: Path, *, is_quick: bool) -> Asked:
    """Ask both models, one question after another, the order alternating."""
    squad = read_squad(data, answerable=None)
    count = QUICK_QUESTIONS if is_quick else QUESTIONS
    order = np.random.default_rng(0).permutation(len(squad.questions))[:count]
    asked = [squad.questions[i] for i in order]
    wanted = {question.document_id for question in asked}
    documents = [d for i, d in enumerate(squad.documents) if not is_quick or d.id in wanted or i % 20 == 0]
    found: dict[str, list[tuple[Sample, float]]] = {SMALL: [], LARGE: []}
    with tempfile.TemporaryDirectory() as folder:
        rags = {name: leanrag.open(folder, model=name, context_tokens=most) for name, most in CONTEXT_TOKENS.items()}
        rags[SMALL].add(*documents, progress=False)
        for rag in rags.values():
            rag.ask(asked[0].text, max_tokens=1)  # warm: models are loaded and the index is filled
        for number, question in enumerate(tqdm(asked, desc="squad", disable=None)):
            for name in (SMALL, LARGE) if number % 2 else (LARGE, SMALL):
                found[name].append(_ask(rags[name], question.text))
        for rag in rags.values():
            rag.close()
    answers = tuple(question.answers for question in asked)
    paragraphs = sorted(wanted)
    parts = np.random.default_rng(0).permutation(len(paragraphs)) % (QUICK_FOLDS if is_quick else FOLDS)
    part_of = dict(zip(paragraphs, parts.tolist(), strict=True))
    return Asked(
        tuple(question.text for question in asked),
        answers,
        np.array([part_of[question.document_id] for question in asked]),
        *(_replies(found[name], answers) for name in (SMALL, LARGE)),
    )


def _ask(rag: leanrag.Rag, question: str) -> tuple[Sample, float]:
    started = time.process_time()
    answer = rag.ask(question)
    seconds = time.process_time() - started
    assert answer.generation is not None
    details = next(stage.details for stage in answer.trace if stage.name == "confidence")
    known = {name: details.get(name) for name in Signals.__dataclass_fields__}
    return Sample(answer_text(answer.generation.text), Signals(**known)), seconds  # type: ignore[arg-type]


def _replies(found: Sequence[tuple[Sample, float]], answers: Sequence[tuple[str, ...]]) -> Replies:
    samples = tuple(sample for sample, _ in found)
    pairs = [(sample.text, own) for sample, own in zip(samples, answers, strict=True)]
    return Replies(
        samples,
        np.array([is_right_or_silent(text, own) for text, own in pairs], np.float64),
        np.array([f1(text, own) if own else float(is_refusal(text)) for text, own in pairs]),
        np.array([seconds for _, seconds in found]),
    )


# How well confidence tells what is right


def cross_predict(features: Floats, labels: Floats, folds: NDArray[np.int64]) -> Floats:
    """Return for each row the probability by a fit on the other folds, `(n,)`."""
    out = np.empty(len(labels))
    for fold in np.unique(folds):
        held = folds == fold
        out[held] = fit_logistic(features[~held], labels[~held], features.shape[1] / 2).predict(features[held])
    return out


def best_single(features: Floats, score: Callable[[Floats], float]) -> tuple[str, float]:
    """Return the signal whose column, turned to its better side, has the highest score, with the score."""
    scores = {
        name: max(score(column), score(-column))
        for name, column in zip(SIGNAL_NAMES, features.T, strict=True)
        if np.ptp(column)
    }
    return max(scores.items(), key=lambda item: item[1])


def report_confidence(name: str, replies: Replies, folds: NDArray[np.int64]) -> dict[str, float]:
    """Print and return the AUROC of the fused confidence for a right answer, beside those of single signals and of the rule."""
    features, right = replies.features, replies.right
    fused = cross_predict(features, right, folds)
    signal, single = best_single(features, lambda column: auroc(column, right))
    column = features[:, SIGNAL_NAMES.index(signal)]
    column = column if auroc(column, right) == single else -column
    rule = np.array([uncalibrated_confidence(sample.signals).value for sample in replies.samples])
    gain = auroc(fused, right) - single

    def of_rows(rows: Floats) -> float:
        is_mixed = 0 < rows[:, 2].sum() < len(rows)
        return auroc(rows[:, 0], rows[:, 2]) - auroc(rows[:, 1], rows[:, 2]) if is_mixed else gain

    low, high = bootstrap_interval(np.stack([fused, column, right], axis=1), statistic=of_rows)
    print(
        f"{name:6} right {right.mean():.3f}; AUROC fused {auroc(fused, right):.3f}, best single {single:.3f} ({signal}), "
        f"rule without labels {auroc(rule, right):.3f}; gain {gain:+.3f} [{low:+.3f}, {high:+.3f}]; "
        f"ECE {expected_calibration_error(fused, right):.3f}"
    )
    return {
        f"{name}_right": float(right.mean()),
        f"{name}_fused_auroc": auroc(fused, right),
        f"{name}_single_auroc": single,
        f"{name}_rule_auroc": auroc(rule, right),
        f"{name}_auroc_gain": gain,
        f"{name}_auroc_gain_low": low,
        f"{name}_auroc_gain_high": high,
        f"{name}_ece": expected_calibration_error(fused, right),
    }


def report_answerable(name: str, replies: Replies, silent: Floats, folds: NDArray[np.int64]) -> dict[str, float]:
    """Print and return how well the signals tell a question without an answer; thresholds come from the other folds."""
    features, answerable = replies.features, 1 - silent
    fused = cross_predict(features, answerable, folds)
    signal, single = best_single(features, lambda column: _cross_macro_f1(column, answerable, folds))
    own = _cross_macro_f1(fused, answerable, folds)
    chosen = _cross_choose(fused, answerable, folds)
    says = np.array([is_refusal(sample.text) for sample in replies.samples])
    figures = {
        f"{name}_answerable_auroc": auroc(fused, answerable),
        f"{name}_answerable_f1": _f1(chosen, answerable),
        f"{name}_unanswerable_f1": _f1(~chosen, silent),
        f"{name}_answerable_macro_f1": own,
        f"{name}_answerable_single_macro_f1": single,
        f"{name}_own_words_macro_f1": (_f1(~says, answerable) + _f1(says, silent)) / 2,
    }
    print(
        f"{name:6} answerable? F1 {figures[f'{name}_answerable_f1']:.3f}, unanswerable {figures[f'{name}_unanswerable_f1']:.3f}, "
        f"macro {own:.3f}; best single {single:.3f} ({signal}), the model's own words "
        f"{figures[f'{name}_own_words_macro_f1']:.3f}; AUROC {figures[f'{name}_answerable_auroc']:.3f}"
    )
    return figures


def _f1(chosen: NDArray[np.bool_], labels: Floats) -> float:
    hits = float(labels[chosen].sum())
    return 2 * hits / (chosen.sum() + labels.sum()) if hits else 0.0


def _macro_f1(chosen: NDArray[np.bool_], labels: Floats) -> float:
    return (_f1(chosen, labels) + _f1(~chosen, 1 - labels)) / 2


def _cross_choose(scores: Floats, labels: Floats, folds: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which scores are above the threshold that is best on the other folds."""
    chosen = np.zeros(len(labels), bool)
    for fold in np.unique(folds):
        held = folds == fold
        edges = np.unique(np.quantile(scores[~held], np.linspace(0, 1, 51)))
        best = max(edges, key=lambda edge: _macro_f1(scores[~held] >= edge, labels[~held]))
        chosen[held] = scores[held] >= best
    return chosen


def _cross_macro_f1(scores: Floats, labels: Floats, folds: NDArray[np.int64]) -> float:
    return _macro_f1(_cross_choose(scores, labels, folds), labels)


# What is kept, passed on and not given


@dataclass(frozen=True, slots=True)
class Outcome:
    """Questions of one fold under the calibrations of the others, `(n,)` each.

    Attributes:
        is_asked: Whether anything is expected of asking the smaller model; else there is no answer, and nothing is spent.
        keep: Score of the smaller model's answer; more is kept sooner, and what is not asked first of all.
        is_kept: Whether the guaranteed threshold keeps it.
        small: F1 of what the smaller model gives, after it may have abstained.
        large: The same of the larger one.
        is_lost: Whether keeping loses what the larger model has right.
        abstained: Whether the smaller one abstains.
        alone: F1 when the larger model alone answers what is expected to be worth asking it.
        is_asked_alone: What that is.
    """

    is_asked: NDArray[np.bool_]
    keep: Floats
    is_kept: NDArray[np.bool_]
    small: Floats
    large: Floats
    is_lost: NDArray[np.bool_]
    abstained: NDArray[np.bool_]
    alone: Floats
    is_asked_alone: NDArray[np.bool_]

    def part(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> Outcome:
        """Only some of the questions."""
        return Outcome(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def f1(self, escalated: NDArray[np.bool_]) -> float:
        """Mean F1 when these questions are passed on."""
        return float(np.where(escalated, self.large, self.small).mean())

    def threshold(self, wanted: float) -> float:
        """The least threshold at which the mean F1 is `wanted`: what is not above it is passed on."""
        for edge in [-np.inf, *np.sort(self.keep)]:
            if self.f1(self.keep <= edge) >= wanted:
                return float(edge)
        return np.inf


def judge(asked: Asked, is_perfect: bool) -> tuple[Outcome, Floats]:
    """Return the outcome of each question, and its threshold for `PART` of the larger model's F1, both learnt on other folds.

    Args:
        asked: Questions and replies.
        is_perfect: Whether a model that is always right stands in for the larger one.
    """
    n = len(asked.questions)
    parts: dict[str, NDArray[np.float64] | NDArray[np.bool_]] = {}
    thresholds = np.empty(n)
    for fold in np.unique(asked.folds):
        held = asked.folds == fold
        outcome = _outcome(asked, ~held, is_perfect)
        for name in Outcome.__dataclass_fields__:
            parts.setdefault(name, np.empty(n, getattr(outcome, name).dtype))[held] = getattr(outcome, name)[held]
        known = outcome.part(~held)
        thresholds[held] = known.threshold(PART * float(known.large.mean()))
    return Outcome(**parts), thresholds  # type: ignore[arg-type]


def _outcome(asked: Asked, known: NDArray[np.bool_], is_perfect: bool) -> Outcome:
    """All questions under calibrations from the `known` ones."""
    places = np.flatnonzero(known)
    answers = tuple(asked.answers[i] for i in places)
    small, large = asked.small.features, asked.large.features
    perfect = [
        Sample(own[0] if own else "I do not know.", asked.large.samples[i].signals)
        for i, own in enumerate(asked.answers)
    ]
    of_large = perfect if is_perfect else asked.large.samples
    first, *rest = fit_calibrations(
        CalibrationPlan(tuple(asked.questions[i] for i in places), answers, ALPHA, DELTA),
        [[asked.small.samples[i] for i in places], [of_large[i] for i in places]],
        [CalibratedModel(name="small"), CalibratedModel(name="large")],
        created=datetime.date(2026, 1, 1),
    )
    is_asked = first.asks(small)
    abstains = first.abstains(first.confidence(small)) | ~is_asked
    also = rest[0].abstains(rest[0].confidence(large)) if rest else np.zeros(len(large), bool)
    alone = rest[0].asks(large) if rest else np.ones(len(large), bool)
    is_right = np.where(abstains, asked.silent, asked.small.right)
    is_large_right = np.ones(len(large)) if is_perfect else np.where(also, asked.silent, asked.large.right)
    of_large_f1 = np.ones(len(large)) if is_perfect else np.where(also, asked.silent, asked.large.f1)
    return Outcome(
        is_asked=is_asked,
        keep=np.where(is_asked, first.keep_score(small), 2.0),
        is_kept=first.keeps(small) | ~is_asked,
        small=np.where(abstains, asked.silent, asked.small.f1),
        large=of_large_f1,
        is_lost=is_large_right * (1 - is_right) > 0,
        abstained=abstains,
        alone=np.where(alone, of_large_f1, asked.silent),
        is_asked_alone=alone,
    )


def _saved(spent: Floats, always: Floats) -> tuple[float, float, float]:
    """The share of CPU seconds that is saved, with its interval over questions."""
    rows = np.stack([spent, always], axis=1)
    low, high = bootstrap_interval(rows, statistic=lambda drawn: float(1 - drawn[:, 0].sum() / drawn[:, 1].sum()))
    return float(1 - spent.sum() / always.sum()), low, high


def report_cascade(asked: Asked) -> dict[str, float]:
    """Print and return what the cascade gives, passes on and costs, to the larger model and to one that is always right."""
    figures: dict[str, float] = {}
    small, large = asked.small, asked.large
    for name in ("large", "perfect"):
        outcome, thresholds = judge(asked, name == "perfect")
        escalated = outcome.keep <= thresholds
        order = np.argsort(outcome.keep)
        shares = [outcome.f1(np.isin(np.arange(len(order)), order[:count])) for count in range(len(order) + 1)]
        reached = next(count for count, value in enumerate(shares) if value >= PART * outcome.large.mean()) / len(order)
        recovered = (
            (np.mean(shares) - shares[0]) / (shares[-1] - shares[0]) if shares[-1] != shares[0] else float("nan")
        )
        figures |= {
            f"{name}_f1": float(outcome.large.mean()),
            f"{name}_cascade_f1": outcome.f1(escalated),
            f"{name}_cascade_f1_part": outcome.f1(escalated) / float(outcome.large.mean()),
            f"{name}_escalated": float(escalated.mean()),
            f"{name}_escalated_at_best": reached,
            f"{name}_apgr": float(recovered),
            f"{name}_guaranteed_kept": float(outcome.is_kept.mean()),
            f"{name}_guaranteed_risk": float((outcome.is_kept & outcome.is_lost).mean()),
        }
        if name == "large":
            spent = small.seconds * outcome.is_asked + large.seconds * escalated
            saved, low, high = _saved(spent, large.seconds)
            alone, alone_low, alone_high = _saved(large.seconds * outcome.is_asked_alone, large.seconds)
            figures |= {
                "small_f1": float(outcome.small.mean()),
                "small_f1_plain": float(small.f1.mean()),
                "large_f1_plain": float(large.f1.mean()),
                "small_abstained": float(outcome.abstained.mean()),
                "small_cpu_seconds": float(small.seconds.mean()),
                "large_cpu_seconds": float(large.seconds.mean()),
                "small_asked": float(outcome.is_asked.mean()),
                "cpu_saved_share": saved,
                "cpu_saved_share_low": low,
                "cpu_saved_share_high": high,
                "alone_asked": float(outcome.is_asked_alone.mean()),
                "alone_f1_part": float(outcome.alone.mean() / outcome.large.mean()),
                "alone_cpu_saved_share": alone,
                "alone_cpu_saved_share_low": alone_low,
                "alone_cpu_saved_share_high": alone_high,
            }
            print(
                f"F1 as they answer: small {figures['small_f1_plain']:.3f}, large {figures['large_f1_plain']:.3f}; where they may "
                f"abstain: {figures['small_f1']:.3f}, {figures['large_f1']:.3f}; of saying nothing {asked.silent.mean():.3f}. CPU "
                f"seconds a question: small {figures['small_cpu_seconds']:.2f}, large {figures['large_cpu_seconds']:.2f}; "
                f"saved {saved:.3f} [{low:.3f}, {high:.3f}], {100 * figures['small_asked']:.1f} % asked; by the larger alone, "
                f"{100 * figures['alone_asked']:.1f} % asked: {alone:.3f} [{alone_low:.3f}, {alone_high:.3f}] for "
                f"{figures['alone_f1_part']:.3f} of its F1"
            )
        print(
            f"to {name}: {100 * figures[f'{name}_escalated']:.1f} % passed on give {figures[f'{name}_cascade_f1_part']:.3f} of its "
            f"F1 ({100 * reached:.1f} % at the best threshold); APGR {recovered:.3f}; with risk {ALPHA} guaranteed "
            f"{100 * figures[f'{name}_guaranteed_kept']:.1f} % are kept, risk {figures[f'{name}_guaranteed_risk']:.3f}"
        )
    return figures


def measure(data: Path, *, is_quick: bool) -> dict[str, float]:
    """Return the figures; a quick run learns nothing, for it has too few questions."""
    asked = ask_both(data, is_quick=is_quick)
    figures = {
        "cascade_n": len(asked.questions),
        "cascade_unanswerable": float(asked.silent.mean()),
        "cpu_ratio": float(asked.small.seconds.sum() / asked.large.seconds.sum()),
    }
    print(
        f"squad: {len(asked.questions)} questions; CPU seconds of the smaller model over the larger: {figures['cpu_ratio']:.3f}"
    )
    if is_quick:
        return figures
    for name, replies in (("small", asked.small), ("large", asked.large)):
        figures |= report_confidence(name, replies, asked.folds)
        figures |= report_answerable(name, replies, asked.silent, asked.folds)
    figures |= report_cascade(asked)
    return {**figures, "fused_auroc_gain": figures["small_auroc_gain"]}
