"""A model as a judge of answers, and how far it agrees with the rules."""

from __future__ import annotations

from dataclasses import dataclass

from leanrag.errors import ConfigurationError
from leanrag.evaluation.measures import RIGHT, Metric, MetricFunction, is_silent, to_metric
from leanrag.evaluation.running import Run
from leanrag.metrics import bootstrap_interval, mean
from leanrag.protocols import GenerateOptions, LanguageModel
from leanrag.routing.labels import answer_text
from leanrag.types import Message

__all__ = ["Judgement", "cohen_kappa", "judge"]

_PROMPT = """Question: {question}
Right answer: {right}
Answer of a student: {answer}

Does the answer of the student say the same as the right answer? Reply with Yes or No."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a model says of the answers of a run. Print it to see its agreement with the rule.

    Attributes:
        judge: Name of the model.
        verdicts: For each question whether the answer is right; None if the question has no right answer, the question failed, or
            the model said neither Yes nor No.
        value: Share of the judged answers that the model calls right.
        low: Lower end of the bootstrap interval of this share.
        high: Upper end.
        rule: Name of the metric that it is compared with.
        agreement: Share of the judged answers on which the model and the rule agree.
        kappa: Cohen's kappa of the model and the rule: 1 is full agreement, 0 is that of chance. None if both always say the same.
        unclear: Number of answers of which the model said neither Yes nor No.
    """

    judge: str
    verdicts: tuple[bool | None, ...]
    value: float
    low: float
    high: float
    rule: str
    agreement: float
    kappa: float | None
    unclear: int

    def __str__(self) -> str:
        kappa = "not defined" if self.kappa is None else f"{self.kappa:.2f}"
        judged = sum(verdict is not None for verdict in self.verdicts)
        return (
            f"{self.judge} calls {self.value:.1%} [{self.low:.1%}, {self.high:.1%}] of {judged} answers right. It agrees with "
            f"{self.rule!r} on {self.agreement:.1%} of them (Cohen's kappa {kappa}); {self.unclear} replies were unclear"
        )


def judge(run: Run, model: LanguageModel, *, rule: Metric | MetricFunction = RIGHT) -> Judgement:
    """Let a model say which answers are right, and compare it with a rule. Only questions with right answers are judged.

    Raises:
        ConfigurationError: No question has a right answer, or the model never said Yes or No.
        GenerationError: The model failed.
    """
    chosen = to_metric(rule)
    verdicts: list[bool | None] = []
    pairs: list[tuple[bool, bool]] = []
    unclear = 0
    for outcome in run.outcomes:
        verdict = None
        if outcome.answer is not None and outcome.question.answers:
            right = chosen.value(outcome)
            reply = (
                "no"
                if is_silent(outcome.answer)
                else _ask(model, outcome.question.text, outcome.question.answers, answer_text(outcome.answer.text))
            )
            verdict = _verdict(reply)
            unclear += verdict is None
            if verdict is not None and right is not None:
                pairs.append((verdict, right >= 0.5))
        verdicts.append(verdict)
    if not pairs:
        raise ConfigurationError(
            f"{model.name!r} judged no answer: {unclear} of its replies began with neither Yes nor No, and the other questions "
            "have no right answer. Use a larger model, or questions with right answers"
        )
    judged = [float(verdict) for verdict, _ in pairs]
    low, high = bootstrap_interval(judged)
    return Judgement(
        judge=model.name,
        verdicts=tuple(verdicts),
        value=mean(judged),
        low=low,
        high=high,
        rule=chosen.name,
        agreement=mean(verdict == right for verdict, right in pairs),
        kappa=cohen_kappa(pairs),
        unclear=unclear,
    )


def cohen_kappa(pairs: list[tuple[bool, bool]]) -> float | None:
    """Return the agreement of two judges beyond that of chance (Cohen, 1960); None if chance alone explains full agreement.

    Example:
        >>> cohen_kappa([(True, True), (False, False), (True, False), (False, True)])
        0.0
    """
    observed = mean(a == b for a, b in pairs)
    first, second = mean(a for a, _ in pairs), mean(b for _, b in pairs)
    chance = first * second + (1 - first) * (1 - second)
    return None if chance == 1 else (observed - chance) / (1 - chance)


def _ask(model: LanguageModel, question: str, right: tuple[str, ...], answer: str) -> str:
    prompt = _PROMPT.format(question=question, right=" or ".join(right), answer=answer)
    messages = [Message("user", prompt)] if model.is_chat else f"{prompt}\n"
    return model.stream(messages, GenerateOptions(max_tokens=8)).result.text


def _verdict(reply: str) -> bool | None:
    word = reply.strip().strip("\"'*.").lower()
    return True if word.startswith("yes") else False if word.startswith("no") else None
