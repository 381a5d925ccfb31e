"""Read data sets: JSON lines, SQuAD, Natural Questions, HotpotQA and BEIR.

A file may be compressed with gzip. Every reader checks each question. An error names the file and the line; in a format that is
one JSON value, it names the field.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import pydantic

from leanrag.checks import first_problem
from leanrag.errors import DocumentError
from leanrag.evaluation.questions import Dataset, Passage, Question
from leanrag.types import Document

__all__ = ["read_beir", "read_hotpot", "read_nq", "read_questions", "read_squad"]

_Words = Annotated[str, pydantic.Field(pattern=r"\S")]
Row = TypeVar("Row", bound=pydantic.BaseModel)


class _Fields(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True, strict=True)


# JSON lines


class _SimpleRow(_Fields):
    question: _Words
    answers: list[_Words] | None = None
    id: _Words | None = None
    documents: list[_Words] = []


def read_questions(path: str | os.PathLike[str]) -> Dataset:
    """Read questions from JSON lines: `{"question": "Who?", "answers": ["Ada Park"], "id": "q1", "documents": ["a.md"]}`.

    Only `question` is required. `answers` is an empty list if the sources do not answer the question. `documents` are the ids of
    the documents that help to answer it.

    Raises:
        DocumentError: The file cannot be read, a line is not such an object, or two lines have the same question or id.
    """
    path = Path(path)
    questions = _Distinct(path)
    for number, row in _read_lines(path, _SimpleRow):
        answers = None if row.answers is None else tuple(row.answers)
        passages = tuple(Passage(document_id) for document_id in row.documents)
        questions.add(Question(row.question, answers, row.id or f"{number}", passages), f"line {number}", text=True)
    return questions.dataset(())


# SQuAD


class _SquadAnswer(_Fields):
    text: _Words
    answer_start: int = pydantic.Field(ge=0)


class _SquadQuestion(_Fields):
    id: _Words
    question: _Words
    answers: list[_SquadAnswer]
    is_impossible: bool = False


class _SquadParagraph(_Fields):
    context: _Words
    qas: list[_SquadQuestion]


class _SquadArticle(_Fields):
    title: str
    paragraphs: list[_SquadParagraph]


class _Squad(_Fields):
    data: list[_SquadArticle]


def read_squad(path: str | os.PathLike[str]) -> Dataset:
    """Read a JSON file in the format of SQuAD 1.1 or 2.0 (Rajpurkar et al., ACL 2018).

    Each paragraph becomes a document with the title of its article.

    Raises:
        DocumentError: The file cannot be read, a field is missing, or an answer is not in its paragraph where the file says.
    """
    path = Path(path)
    questions, documents = _Distinct(path), []
    for a, article in enumerate(_read_whole(path, _Squad).data):
        for p, paragraph in enumerate(article.paragraphs):
            document = Document(paragraph.context, id=f"{article.title}#{a}.{p}", title=article.title.replace("_", " "))
            documents.append(document)
            for q, row in enumerate(paragraph.qas):
                where = f"data[{a}].paragraphs[{p}].qas[{q}]"
                questions.add(_squad_question(path, where, document, row), where)
    return questions.dataset(documents)


def _squad_question(path: Path, where: str, document: Document, row: _SquadQuestion) -> Question:
    answers = [] if row.is_impossible else row.answers
    if not answers and not row.is_impossible:
        raise _invalid(path, where, "it has no answers; a question without an answer needs `is_impossible`: true")
    for answer in answers:
        end = answer.answer_start + len(answer.text)
        if document.text[answer.answer_start : end] != answer.text:
            raise _invalid(path, where, f"the answer {answer.text!r} is not at character {answer.answer_start}")
    passages = {
        Passage(document.id, answer.answer_start, answer.answer_start + len(answer.text)) for answer in answers[:1]
    }
    return Question(row.question, tuple(dict.fromkeys(answer.text for answer in answers)), row.id, tuple(passages))


# Natural Questions


class _NqContext(_Fields):
    title: str = ""
    text: _Words


class _NqSpan(_Fields):
    start_token: int
    end_token: int


class _NqAnnotation(_Fields):
    short_answers: list[_NqSpan] = []
    long_answer: _NqSpan | None = None
    yes_no_answer: str = "NONE"


class _NqRow(_Fields):
    question: _Words | None = None
    question_text: _Words | None = None
    answer: list[_Words] | None = None
    answers: list[_Words] | None = None
    ctxs: list[_NqContext] = []
    document_text: _Words | None = None
    document_title: str = ""
    annotations: list[_NqAnnotation] = []
    example_id: int | str | None = None


def read_nq(path: str | os.PathLike[str]) -> Dataset:
    """Read JSON lines in a format of Natural Questions (Kwiatkowski et al., TACL 2019).

    Three formats are known: the simplified one (`question_text`, `document_text`, `annotations`), the open one (`question`,
    `answer`), and the open one with passages (`question`, `answers`, `ctxs`), the first of which has the answer. Each page or
    passage becomes a document. Tags of the simplified format are left out of its documents.

    Raises:
        DocumentError: The file cannot be read, or a line is in none of these formats.
    """
    path = Path(path)
    questions, documents = _Distinct(path), _Documents()
    for number, row in _read_lines(path, _NqRow):
        where = f"line {number}"
        if row.question_text and row.document_text:
            question = _simplified_question(path, where, documents, row, str(row.example_id or number))
        elif row.question and (row.answer or row.answers) is not None:
            contexts = [documents.add(each.title, each.text) for each in row.ctxs]
            answers = tuple(row.answers if row.answers is not None else row.answer or ())
            passages = tuple(Passage(document_id) for document_id in contexts[:1])
            question = Question(row.question, answers, str(row.example_id or number), passages if answers else ())
        else:
            raise _invalid(
                path,
                where,
                "it has neither `question_text` and `document_text` nor `question` and `answer` or `answers`",
            )
        questions.add(question, where)
    return questions.dataset(documents)


def _simplified_question(path: Path, where: str, documents: _Documents, row: _NqRow, name: str) -> Question:
    tokens = (row.document_text or "").split(" ")
    text, starts = "", []
    for token in tokens:
        is_tag = token.startswith("<") and token.endswith(">")
        starts.append(len(text))
        text += "" if is_tag or not token else f"{token} "
    starts.append(len(text))
    document_id = documents.add(row.document_title, text.rstrip())

    def span(tokens_of: _NqSpan) -> tuple[int, int]:
        if not 0 <= tokens_of.start_token < tokens_of.end_token < len(starts):
            raise _invalid(
                path, where, f"tokens {tokens_of.start_token} to {tokens_of.end_token} are not in the document"
            )
        return starts[tokens_of.start_token], starts[tokens_of.end_token]

    answers: dict[str, None] = {}
    passages: dict[Passage, None] = {}
    for annotation in row.annotations:
        found = [text[slice(*span(each))].strip() for each in annotation.short_answers]
        if annotation.yes_no_answer in ("YES", "NO"):
            found.append(annotation.yes_no_answer.lower())
        answers |= dict.fromkeys(filter(None, found))
        if found and annotation.long_answer is not None and annotation.long_answer.start_token >= 0:
            passages[Passage(document_id, *span(annotation.long_answer))] = None
    return Question(row.question_text or "", tuple(answers), name, tuple(passages))


# HotpotQA


class _HotpotRow(_Fields):
    id: _Words = pydantic.Field(alias="_id")
    question: _Words
    answer: _Words
    supporting_facts: list[tuple[str, int]]
    context: list[tuple[str, list[str]]]


class _Hotpot(pydantic.RootModel[list[_HotpotRow]]):
    pass


def read_hotpot(path: str | os.PathLike[str]) -> Dataset:
    """Read a JSON file in the format of HotpotQA (Yang et al., EMNLP 2018).

    Each paragraph becomes a document with its title; a paragraph that several questions have becomes one document. The
    supporting facts are the passages.

    Raises:
        DocumentError: The file cannot be read, or a field is missing.
    """
    path = Path(path)
    questions, documents = _Distinct(path), _Documents()
    for i, row in enumerate(_read_whole(path, _Hotpot).root):
        spans: dict[tuple[str, int], Passage] = {}
        for title, sentences in row.context:
            document_id, start = documents.add(title, "".join(sentences)), 0
            for n, sentence in enumerate(sentences):
                spans.setdefault((title, n), Passage(document_id, start, start + len(sentence)))
                start += len(sentence)
        facts = [spans[fact] for fact in dict.fromkeys(row.supporting_facts) if fact in spans]
        questions.add(Question(row.question, (row.answer,), row.id, tuple(facts)), f"[{i}]")
    return questions.dataset(documents)


# BEIR


class _BeirDocument(_Fields):
    id: _Words = pydantic.Field(alias="_id")
    title: str = ""
    text: str


class _BeirQuery(_Fields):
    id: _Words = pydantic.Field(alias="_id")
    text: _Words


def read_beir(folder: str | os.PathLike[str], *, split: str = "test") -> Dataset:
    """Read a folder in the format of BEIR (Thakur et al., NeurIPS 2021): `corpus.jsonl`, `queries.jsonl`, `qrels/SPLIT.tsv`.

    The questions have passages but no answers. Queries without a judgement in this split are left out.

    Raises:
        DocumentError: A file cannot be read, a line is in another format, or a judgement names an unknown query or document.
    """
    folder = Path(folder)
    corpus = [row for _, row in _read_lines(folder / "corpus.jsonl", _BeirDocument)]
    documents = {row.id: Document(row.text, id=row.id, title=row.title) for row in corpus if row.text.strip()}
    blank = {row.id for row in corpus} - documents.keys()
    texts = {row.id: row.text for _, row in _read_lines(folder / "queries.jsonl", _BeirQuery)}
    path = folder / "qrels" / f"{split}.tsv"
    passages: dict[str, list[Passage]] = {}
    for number, line in _text_lines(path):
        fields = line.split("\t")
        if number == 1 and not fields[-1].strip().lstrip("-").isdigit():
            continue  # the heading
        if len(fields) != 3 or not fields[2].strip().lstrip("-").isdigit():
            raise _invalid(
                path, f"line {number}", "it is not a query, a document and a whole number, with tabs between"
            )
        query, document_id, gain = fields[0], fields[1], int(fields[2])
        if query not in texts or document_id not in documents.keys() | blank:
            raise _invalid(path, f"line {number}", f"the query {query!r} or the document {document_id!r} is not known")
        if gain > 0 and document_id in documents:
            passages.setdefault(query, []).append(Passage(document_id, gain=float(gain)))
    questions = _Distinct(path)
    for query, relevant in passages.items():
        questions.add(Question(texts[query], None, query, tuple(relevant)), f"query {query!r}")
    return questions.dataset(documents.values(), name=folder.name)


# What the formats share


class _Documents:
    """Documents in the order in which they were added, each text once."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], str] = {}
        self._documents: dict[str, Document] = {}
        self._titles: Counter[str] = Counter()

    def add(self, title: str, text: str) -> str:
        """Add a document if it is new, and return its id: its title, numbered if another text has this title."""
        if (title, text) not in self._ids:
            self._titles[title] += 1
            number = self._titles[title]
            self._ids[title, text] = document_id = title if title and number == 1 else f"{title or 'document'}#{number}"
            self._documents[document_id] = Document(text, id=document_id, title=title)
        return self._ids[title, text]

    def __iter__(self) -> Iterator[Document]:
        return iter(self._documents.values())


class _Distinct:
    """The questions of a file, no two of which have the same id or, in files written by hand, the same text."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._questions: list[Question] = []
        self._seen: dict[tuple[str, str], str] = {}

    def add(self, question: Question, where: str, *, text: bool = False) -> None:
        keys = [("id", question.id), *([("question", question.text)] if text else [])]
        for key in keys:
            if key in self._seen:
                raise _invalid(self._path, where, f"its {key[0]} {key[1]!r} is also at {self._seen[key]}")
            self._seen[key] = where
        self._questions.append(question)

    def dataset(self, documents: Iterable[Document], *, name: str = "") -> Dataset:
        if not self._questions:
            raise DocumentError(f"{str(self._path)!r} has no questions. Name another file", path=self._path)
        return Dataset(name or self._path.name.split(".")[0], tuple(self._questions), tuple(documents))


def _invalid(path: Path, where: str, reason: str) -> DocumentError:
    return DocumentError(f"{where} of {str(path)!r} is not valid: {reason}. Correct the file", path=path)


def _read_bytes(path: Path) -> bytes:
    try:
        raw = path.read_bytes()
        return (gzip.decompress(raw) if raw.startswith(b"\x1f\x8b") else raw).removeprefix(b"\xef\xbb\xbf")
    except (OSError, EOFError, zlib.error) as error:
        raise DocumentError(f"cannot read the questions {str(path)!r}: {error}", path=path) from error


def _text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, with their numbers from 1."""
    for number, line in enumerate(_read_bytes(path).split(b"\n"), 1):
        if line.strip():
            try:
                yield number, line.decode("utf-8").rstrip("\r")
            except UnicodeDecodeError as error:
                raise _invalid(path, f"line {number}", f"it is not UTF-8 ({error.reason})") from error


def _read_lines(path: Path, kind: type[Row]) -> Iterator[tuple[int, Row]]:
    for number, line in _text_lines(path):
        try:
            yield number, kind.model_validate_json(line)
        except pydantic.ValidationError as error:
            raise _invalid(path, f"line {number}", _first_problem(error)) from error


def _read_whole(path: Path, kind: type[Row]) -> Row:
    raw = _read_bytes(path)
    try:
        json.loads(raw)  # its errors name the line
        return kind.model_validate_json(raw)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _invalid(path, f"line {line}", f"it is not UTF-8 ({error.reason})") from error
    except json.JSONDecodeError as error:
        raise _invalid(path, f"line {error.lineno}", error.msg) from error
    except pydantic.ValidationError as error:
        raise _invalid(path, "the JSON", _first_problem(error)) from error


def _first_problem(error: pydantic.ValidationError) -> str:
    where, problem, _ = first_problem(error)
    return f"{where}: {problem}" if where else problem
