"""Metrics of one question and its answer. Each is a function that returns None if the metric does not apply to the question."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from leanrag import metrics
from leanrag.evaluation.questions import Question
from leanrag.evaluation.running import Outcome
from leanrag.routing.labels import answer_text
from leanrag.routing.refusals import is_refusal
from leanrag.types import Answer, Hit

__all__ = ["METRICS", "RIGHT", "Metric", "MetricFunction", "is_silent", "ranked_hits", "to_metric"]

K = 10
"""Ranks that recall and nDCG of retrieval look at."""

MetricFunction = Callable[[Question, Answer], float | None]
"""A metric of your own: a number, a bool, or None if it does not apply to the question."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric.

    Attributes:
        name: Its name, for tables.
        function: Computes it from a question and its answer.
        of_failure: Its value for a question that failed, if it applies to answerable questions; None leaves the question out.
        higher_is_better: Whether a higher value is better.
        is_share: Whether values are from 0 to 1, so that tables show them in percent.
    """

    name: str
    function: MetricFunction
    of_failure: float | None = 0.0
    higher_is_better: bool = True
    is_share: bool = True

    def value(self, outcome: Outcome) -> float | None:
        """Return the metric of one outcome; None if it does not apply."""
        if outcome.answer is None:
            return self.of_failure if outcome.question.answers is not None else None
        value = self.function(outcome.question, outcome.answer)
        return None if value is None else float(value)


def to_metric(metric: Metric | MetricFunction) -> Metric:
    """Return a metric; a function becomes one that has its name, and the value 0 for questions that failed."""
    return metric if isinstance(metric, Metric) else Metric(metric.__name__, metric, is_share=False)


def is_silent(answer: Answer) -> bool:
    """Return whether an answer says that the sources do not answer the question."""
    return answer.abstained or answer.model is None or is_refusal(answer.text)


def ranked_hits(answer: Answer) -> list[Hit]:
    """Return everything that the search found, best first."""
    packing = answer.packing
    shown = [hit for item in packing.items for hit in (item.hit, *item.more)]
    hits = {hit.chunk.id: hit for hit in [*shown, *(item.hit for item in packing.dropped)]}
    return sorted(hits.values(), key=lambda hit: -hit.score)


# The answer


def exact_match(question: Question, answer: Answer) -> float | None:
    """Return 1 if the answer equals a right answer, normalised; without a right answer, 1 if the answer says so."""
    return _compare(question, answer, lambda text, answers: float(metrics.exact_match(text, answers)))


def f1(question: Question, answer: Answer) -> float | None:
    """Return the word-level F1 of the answer and the nearest right answer; without a right answer, 1 if the answer says so."""
    return _compare(question, answer, metrics.f1)


def contained(question: Question, answer: Answer) -> float | None:
    """Return 1 if the answer contains a right answer as whole words; without a right answer, 1 if the answer says so."""
    return _compare(question, answer, lambda text, answers: float(metrics.contains_answer(text, answers)))


def _compare(question: Question, answer: Answer, compare: Callable[[str, Iterable[str]], float]) -> float | None:
    if question.answers is None:
        return None
    if not question.answers:
        return float(is_silent(answer))
    return 0.0 if is_silent(answer) else compare(answer_text(answer.text), question.answers)


def refused_rightly(question: Question, answer: Answer) -> float | None:
    """Return, for a question that the sources do not answer, whether the answer says so."""
    return float(is_silent(answer)) if question.is_answerable is False else None


def refused_wrongly(question: Question, answer: Answer) -> float | None:
    """Return, for a question that the sources answer, whether the answer says that they do not."""
    return float(is_silent(answer)) if question.is_answerable else None


def supported(_: Question, answer: Answer) -> float | None:
    """Return whether the sources support the answer; None if it says that they do not answer."""
    return None if is_silent(answer) else float(answer.is_supported)


# What was found and shown


def answer_in_context(question: Question, answer: Answer) -> float | None:
    """Return whether the sources in the prompt contain a right answer."""
    if not question.answers:
        return None
    context = "\n".join(item.text for item in answer.packing.items)
    return float(metrics.answer_in_context(context, question.answers))


def recall(question: Question, answer: Answer) -> float | None:
    """Return the share of the helpful passages that are among the first `K` hits."""
    if not question.passages:
        return None
    gains = _gains(question, ranked_hits(answer)[:K])
    return sum(gain > 0 for found in gains for gain in found) / len(question.passages)


def ndcg(question: Question, answer: Answer) -> float | None:
    """Return the nDCG of the first `K` hits. A passage counts at the first hit that shares a character with it."""
    if not question.passages:
        return None
    gains = [sum(found) for found in _gains(question, ranked_hits(answer)[:K])]
    padded = [*gains, *[0.0] * (K - len(gains))]
    return min(1.0, metrics.ndcg(padded, [passage.gain for passage in question.passages]))


def _gains(question: Question, hits: Iterable[Hit]) -> list[list[float]]:
    """Return for each hit the gains of the passages that no earlier hit had."""
    remaining = list(question.passages)
    gains = []
    for hit in hits:
        chunks = (hit.chunk, *hit.copies)
        found = [p for p in remaining if any(p.overlaps(c.document_id, c.start, c.end) for c in chunks)]
        remaining = [passage for passage in remaining if passage not in found]
        gains.append([passage.gain for passage in found])
    return gains


def citation_precision(question: Question, answer: Answer) -> float | None:
    """Return the share of the citations that quote a helpful passage; None if there are no citations."""
    if not question.passages or not answer.citations:
        return None
    cited = [(quote.document_id, quote.start, quote.end) for quote in answer.citations]
    return metrics.mean(any(passage.overlaps(*span) for passage in question.passages) for span in cited)


def citation_recall(question: Question, answer: Answer) -> float | None:
    """Return the share of the helpful passages that a citation quotes."""
    if not question.passages:
        return None
    cited = [(quote.document_id, quote.start, quote.end) for quote in answer.citations]
    return metrics.mean(any(passage.overlaps(*span) for span in cited) for passage in question.passages)


# What it cost


def prompt_tokens(_: Question, answer: Answer) -> float:
    """Return the tokens that all models read."""
    return answer.usage.prompt_tokens


def seconds(_: Question, answer: Answer) -> float:
    """Return the wall time of all stages."""
    return answer.seconds


def cpu_seconds(_: Question, answer: Answer) -> float | None:
    """Return the CPU time of the process during all stages; None if it was not measured."""
    known = [stage.cpu_seconds for stage in answer.trace if stage.cpu_seconds is not None]
    return sum(known) if known else None


def cost(_: Question, answer: Answer) -> float | None:
    """Return the cost of the answer; None if it is unknown."""
    return answer.cost


RIGHT = Metric("contained", contained)
"""When an answer counts as right: it contains a right answer or, without a right answer, says so."""

METRICS = (
    Metric("exact match", exact_match),
    Metric("F1", f1),
    RIGHT,
    Metric("answer in context", answer_in_context),
    Metric(f"recall@{K}", recall, None),
    Metric(f"nDCG@{K}", ndcg, None),
    Metric("citation precision", citation_precision, None),
    Metric("citation recall", citation_recall, None),
    Metric("supported", supported, None),
    Metric("refused rightly", refused_rightly, None),
    Metric("refused wrongly", refused_wrongly, None, higher_is_better=False),
    Metric("prompt tokens", prompt_tokens, None, higher_is_better=False, is_share=False),
    Metric("seconds", seconds, None, higher_is_better=False, is_share=False),
    Metric("CPU seconds", cpu_seconds, None, higher_is_better=False, is_share=False),
    Metric("cost", cost, None, higher_is_better=False, is_share=False),
)
"""The metrics that are computed by default."""
