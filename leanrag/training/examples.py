"""Questions to train on: parsed, checked, divided into parts, and searched for leaks between the parts."""

from __future__ import annotations

import collections
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from leanrag.errors import ConfigurationError, DocumentError
from leanrag.metrics import normalize_answer
from leanrag.prompting import Style

__all__ = ["MIN_EXAMPLES", "Example", "Part", "check_examples", "divide", "part_of", "read_examples"]

MIN_EXAMPLES = 20
"""Fewer questions teach nothing that can be measured."""

Part = Literal["train", "development"]


@dataclass(frozen=True, slots=True)
class Example:
    """A question with its accepted answers.

    Attributes:
        question: The question.
        answers: Accepted short answers, verbatim from the document; none if the documents do not answer the question.
        document_id: The document that the question is about; "" if any document with an answer will do.
        group: What must stay in one part, such as the article; by default the document, or else the question.
        kind: A word for the kind of text, such as "prose" or "table". Figures are reported by kind.
        style: The form of the answer that is asked for. A sentence and an explanation are copied from the source.
    """

    question: str
    answers: tuple[str, ...] = ()
    document_id: str = ""
    group: str = ""
    kind: str = "prose"
    style: Style = "phrase"

    @property
    def unit(self) -> str:
        """What must stay in one part."""
        return self.group or self.document_id or normalize_answer(self.question)


def read_examples(path: Path, *, skip_empty: bool = False) -> list[Example]:
    """Read questions from a file with a JSON object on each line: `question`, and `answers`, `document_id`, `kind` if known.

    Args:
        path: The file.
        skip_empty: Skip lines without the field `question` instead of refusing them.

    Raises:
        DocumentError: The file cannot be read, or a line has wrong fields; the message has the number of the line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DocumentError(f"cannot read the questions in {str(path)!r}: {error}", path=path) from error
    parsed = [(number, _parse_line(line, path, number)) for number, line in enumerate(lines, start=1) if line.strip()]
    return [
        _example(fields, path, number)
        for number, fields in parsed
        if not (skip_empty and isinstance(fields, Mapping) and "question" not in fields)
    ]


def _parse_line(line: str, path: Path, number: int) -> object:
    try:
        return json.loads(line)
    except ValueError as error:
        raise DocumentError(f"line {number} of {str(path)!r} is not JSON: {error}", path=path) from error


def _example(fields: object, path: Path, number: int) -> Example:
    if (
        not isinstance(fields, Mapping)
        or not isinstance(question := fields.get("question"), str)
        or not question.strip()
    ):
        raise DocumentError(f"line {number} of {str(path)!r} has no text in its field `question`", path=path)
    answers = fields.get("answers", [])
    answers = [answers] if isinstance(answers, str) else answers
    names = {name: fields.get(name, "") for name in ("document_id", "group")}
    kind = fields.get("kind", "prose")
    if not isinstance(answers, list) or not all(isinstance(text, str) for text in [*answers, *names.values(), kind]):
        raise DocumentError(
            f"line {number} of {str(path)!r} has wrong fields: `answers` must be a list of texts; `document_id`, `group` and "
            "`kind` must be texts",
            path=path,
        )
    return Example(question, tuple(answer for answer in answers if answer.strip()), **names, kind=kind)


def check_examples(examples: Sequence[Example]) -> None:
    """Check that there is enough to learn from.

    Raises:
        ConfigurationError: There are too few questions, or none of them has an answer.
    """
    if len(examples) < MIN_EXAMPLES:
        raise ConfigurationError(
            f"training needs at least {MIN_EXAMPLES} questions, got {len(examples)}. Write more, or make some with "
            "`leanrag.training.make_questions`"
        )
    if not any(example.answers for example in examples):
        raise ConfigurationError(
            f"none of the {len(examples)} questions has an answer, so a model would only learn to refuse. Add answers"
        )


def part_of(unit: str, *, share: float, seed: int = 0) -> Part:
    """Return the part of a unit: by a hash, so that the same unit is in the same part in each run.

    Args:
        unit: A document, an article or a question.
        share: Share of the units in the part "development".
        seed: Another seed draws another division.
    """
    digest = hashlib.sha256(f"{seed}\0{unit}".encode("utf-8", "surrogatepass")).digest()
    return "development" if int.from_bytes(digest[:8], "big") < share * 2**64 else "train"


def divide(examples: Iterable[Example], *, share: float, seed: int = 0) -> tuple[list[Example], list[Example]]:
    """Divide examples into `(training, development)` without leaks.

    All examples of a unit are in the same part. A training example is dropped if the development part has the same question,
    apart from case, punctuation and articles, or, of one unit, a question with the same words in another order.
    """
    parts: dict[Part, list[Example]] = {"train": [], "development": []}
    for example in examples:
        parts[part_of(example.unit, share=share, seed=seed)].append(example)
    known = {_words(example.question) for example in parts["development"]}
    training = [example for example in parts["train"] if _words(example.question) not in known]
    return _without_repetitions(training), _without_repetitions(parts["development"])


def _without_repetitions(examples: Iterable[Example]) -> list[Example]:
    """Return examples without those that ask the same of the same unit again."""
    seen: set[tuple[object, ...]] = set()
    kept = []
    for example in examples:
        key = (_words(example.question), example.unit, example.style)
        if key not in seen:
            seen.add(key)
            kept.append(example)
    return kept


def _words(question: str) -> frozenset[tuple[str, int]]:
    return frozenset(collections.Counter(normalize_answer(question).split()).items())
