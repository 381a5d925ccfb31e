"""What a larger model teaches: questions about documents, answers to questions, and its logits.

Answers and questions are written to a file as they come. If the teacher fails half-way, nothing is lost: the next call goes on.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from leanrag.errors import StorageError
from leanrag.files import unwritable
from leanrag.metrics import contains_answer
from leanrag.protocols import GenerateOptions, LanguageModel
from leanrag.text import words
from leanrag.training.examples import Example, read_examples
from leanrag.types import Chunk, Message, PackedItem, Prompt

if TYPE_CHECKING:
    from leanrag.prompting import ModelProfile
    from leanrag.training.base import Decoder
    from leanrag.training.encoding import EncodedRow
    from leanrag.training.options import Precision

__all__ = ["add_teacher_logits", "label_examples", "make_questions"]

_ASK_FOR_QUESTION = (
    "{text}\n\nWrite one short question about a fact in this text. The question must name what it is about, and must be clear to "
    "somebody who has not seen the text."
)
_ASK_FOR_ANSWER = "{text}\n\nAnswer this question with the shortest phrase copied from the text: {question}"
_QUESTION = re.compile(r"(?:Question\W*:\s*)?([^\n]+\?)")
_SAYS_TEXT = re.compile(
    r"\b(?:this|the|given|above) (?:text|passage|document|source|excerpt|paragraph)\b", re.IGNORECASE
)
_MAX_ANSWER_WORDS, _MIN_QUESTION_WORDS = 12, 4
_MAX_TOKENS = 96


def make_questions(teacher: LanguageModel, chunks: Iterable[Chunk], path: Path) -> list[Example]:
    """Have a model write a question about each chunk and answer it, and keep what can be trusted.

    A question is kept if it does not speak of "the text", and its answer is short, stands in the chunk word for word, and is not in
    the question.

    Args:
        teacher: Any language model that reads messages.
        chunks: The chunks.
        path: The file that the questions are written to, as they come. Chunks that it has already are not asked about again.

    Returns:
        All questions of the file that were kept.

    Raises:
        GenerationError: The teacher failed. Call again to go on.
        StorageError: The file cannot be written.
    """

    def ask(chunk: Chunk) -> Example | None:
        text = f"{chunk.title}\n{chunk.text}"
        question = _parse_question(_generate(teacher, [Message("user", _ASK_FOR_QUESTION.format(text=text))]))
        if question is None:
            return None
        # The prompts begin alike, so that the teacher reads the text only once.
        reply = _generate(teacher, [Message("user", _ASK_FOR_ANSWER.format(text=text, question=question))])
        answer = reply.strip().strip('" .')
        is_short = 1 <= len(words(answer)) <= _MAX_ANSWER_WORDS
        if not is_short or contains_answer(question, [answer]) or answer not in chunk.text:
            return None
        return Example(question, (answer,), chunk.document_id)

    return _collect(path, ((chunk.id, functools.partial(ask, chunk)) for chunk in chunks))


def _parse_question(reply: str) -> str | None:
    """Return the question that a teacher wrote; None if it is unclear without the text."""
    found = _QUESTION.search(reply)
    if found is None or len(words(found[1])) < _MIN_QUESTION_WORDS or _SAYS_TEXT.search(found[1]):
        return None
    return found[1].strip()


def label_examples(
    teacher: LanguageModel,
    profile: ModelProfile,
    examples: Iterable[tuple[Example, Sequence[PackedItem]]],
    path: Path,
) -> list[Example]:
    """Have a model answer questions from their sources, and keep the answers that can be trusted.

    An answer is kept if it stands in a source word for word, or is the refusal of the profile.

    Args:
        teacher: Any language model.
        profile: How the teacher is asked, and by which words it refuses.
        examples: Questions with the sources that the teacher sees.
        path: The file that the answers are written to, as they come. Questions that it has already are not asked again.

    Returns:
        All questions of the file with their answers.

    Raises:
        GenerationError: The teacher failed. Call again to go on.
        StorageError: The file cannot be written.
    """
    template = profile.template("phrase")

    def ask(example: Example, items: Sequence[PackedItem]) -> Example | None:
        reply = _generate(teacher, template.build(example.question, items), template.stop)
        return accept_answer(example, reply, items, profile)

    return _collect(path, ((example.question, functools.partial(ask, example, items)) for example, items in examples))


def accept_answer(example: Example, reply: str, items: Sequence[PackedItem], profile: ModelProfile) -> Example | None:
    """Return the example with the answer of a teacher; None if the answer cannot be trusted."""
    if profile.refuses(reply):
        return dataclasses.replace(example, answers=())
    answer = re.sub(r"\s*\[\d+\]\s*\Z", "", reply.strip()).rstrip(".")
    source = next((item for item in items if answer and answer in item.text), None)
    if source is None or len(words(answer)) > _MAX_ANSWER_WORDS:
        return None
    document_id = example.document_id or source.hit.chunk.document_id
    return dataclasses.replace(example, answers=(answer,), document_id=document_id)


def _generate(teacher: LanguageModel, prompt: Prompt, stop: Sequence[str] = ()) -> str:
    return teacher.stream(prompt, GenerateOptions(max_tokens=_MAX_TOKENS, stop=tuple(stop))).result.text


def _collect(path: Path, work: Iterator[tuple[str, Callable[[], Example | None]]]) -> list[Example]:
    """Do the work that the file does not have yet; write each result on a line of its own, and return all examples of the file."""
    try:
        known = _known_keys(path)
        with path.open("a", encoding="utf-8") as file:
            for key, make in work:
                if key in known:
                    continue
                known.add(key)
                example = make()
                fields = (
                    {}
                    if example is None
                    else {name: value for name, value in dataclasses.asdict(example).items() if value}
                )
                file.write(json.dumps({"key": key, **fields}, ensure_ascii=False) + "\n")
                file.flush()
    except OSError as error:
        raise unwritable(path, error) from error
    return read_examples(path, skip_empty=True)


def _known_keys(path: Path) -> set[str]:
    """Return the keys of a file, and cut off a last line that is not complete."""
    if not path.exists():
        return set()
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1]
    if len(whole) != len(data):
        path.write_bytes(whole)
    try:
        return {json.loads(line)["key"] for line in whole.splitlines()}
    except (ValueError, KeyError) as error:
        raise StorageError(
            f"{str(path)!r} is not a file of a teacher: {error}. Name another file", path=path
        ) from error


def add_teacher_logits(
    teacher: Decoder,
    rows: Sequence[EncodedRow],
    *,
    k: int = 32,
    temperature: float = 2.0,
    precision: Precision = "fp32",
    batch_tokens: int = 16_384,
) -> list[EncodedRow]:
    """Return the rows with the most probable tokens of a teacher, to be stored and used in many trainings.

    Args:
        teacher: A model with the vocabulary of the student.
        rows: The rows.
        k: Tokens that are kept for each token of a reply.
        temperature: Temperature of the distillation.
        precision: Type of the numbers in matrix products.
        batch_tokens: Most tokens that are computed at once.
    """
    from leanrag.training.loop import autocast, split_rows
    from leanrag.training.losses import with_teacher_logits

    labelled: list[EncodedRow] = []
    for part in split_rows(rows, batch_tokens):
        with autocast(teacher.token_embd.device, precision):
            labelled += with_teacher_logits(teacher, part, k=k, temperature=temperature)
    return labelled
