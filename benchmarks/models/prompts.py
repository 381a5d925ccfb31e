"""Which prompt does each reader answer best? The profiles of `leanrag.prompting` are chosen by these figures.

Each prompt asks for the shortest phrase from the same packed sources. The prompts that begin with the sources are asked one after
the other, so that a reader reads the sources once. Choose a prompt by the figures of the half "tuned"; those of the other half,
without that word, say what it is worth.
"""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.models.questions import Asked, Half, QuestionSet, Score, open_database, read_sets, score
from benchmarks.models.readers import READERS
from leanrag.llama import LlamaCppModel
from leanrag.models import resolve
from leanrag.prompting import AnswerForm, ModelProfile, Style, find_profile

__all__ = ["measure"]

STYLE: Style = "phrase"
CONTEXT_TOKENS = 150
QUESTIONS, QUICK_QUESTIONS = 40, 2  # of each data set

_NAMED, _NUMBERED = "{title}\n{text}\n\n", "[{number}] {title}\n{text}\n\n"
_PHRASE = "Answer with the shortest phrase copied from the sources."
_IF_NOT = 'If the sources do not answer the question, reply "not in the sources".'
_ONLY_IF_NOT = 'Only if the sources say nothing about the question, reply "not in the sources".'


def _profile(source: str, question: str, phrase: str = _PHRASE, system: str = "") -> ModelProfile:
    base = find_profile("", is_chat=True)
    forms = {**base.forms, STYLE: AnswerForm(phrase, 24)}
    return dataclasses.replace(
        base, source=source, question=question, forms=forms, system=system, refusal="not in the sources"
    )


PROMPTS: Mapping[str, ModelProfile] = {
    "plain": _profile(_NAMED, "Based only on the text above, answer this question: {question}"),
    "short": _profile(_NAMED, "Question: {question}\n{form}", "Answer in a few words from the text."),
    "based": _profile(
        _NAMED, "Based only on the text above, answer this question{form}: {question}", " with the shortest phrase"
    ),
    "instruction_first": _profile(_NAMED, "{form} " + _IF_NOT + "\nQuestion: {question}"),
    "instruction_first_softly": _profile(_NAMED, "{form} " + _ONLY_IF_NOT + "\nQuestion: {question}"),
    "question_first": _profile(_NAMED, "Question: {question}\n{form} " + _IF_NOT),
    "numbered": _profile(_NUMBERED, "Question: {question}\n{form} " + _IF_NOT),
    "system": _profile(_NUMBERED, "Question: {question}\nAnswer in a few words.", system="{form} " + _IF_NOT),
}
"""Profiles by the name that the figures have."""


def measure(data: Path, is_quick: bool) -> dict[str, float | int | None]:
    """Return the mean F1 of each reader and prompt; a question that the documents do not answer counts 1 if the reader says so."""
    count = QUICK_QUESTIONS if is_quick else QUESTIONS
    sets = read_sets(data, count)
    figures: dict[str, float | int | None] = {"prompts_n": count * len(sets) // 2}
    for reader, name in READERS.items():
        scores: list[tuple[Asked, Mapping[str, Score]]] = []
        with LlamaCppModel(resolve(name), name=name, no_repeats=True) as model:
            for questions in sets:
                scores += _read(model, questions)
        for prompt in PROMPTS:
            tuned, held_out = (_mean_f1(scores, prompt, half) for half in ("tuned", "held-out"))
            figures |= {f"prompts_{reader}_{prompt}_f1_tuned": tuned, f"prompts_{reader}_{prompt}_f1": held_out}
            print(f"{reader:8} {prompt:24} F1 {tuned:.3f} tuned, {held_out:.3f} held out", flush=True)
    return figures


def _read(model: LlamaCppModel, questions: QuestionSet) -> list[tuple[Asked, Mapping[str, Score]]]:
    with contextlib.ExitStack() as stack:
        databases = {
            name: stack.enter_context(
                open_database(questions.source, model=model, profile=profile, context_tokens=CONTEXT_TOKENS)
            )
            for name, profile in PROMPTS.items()
        }
        return [
            (
                question,
                {name: score(rag.ask(question.text, style=STYLE), question.answers) for name, rag in databases.items()},
            )
            for question in questions.asked
        ]


def _mean_f1(scores: Sequence[tuple[Asked, Mapping[str, Score]]], prompt: str, half: Half) -> float:
    return statistics.fmean(by_prompt[prompt].f1 for question, by_prompt in scores if question.half == half)
