"""Candidates for questions about a document: by rules, or written by a model. `making` checks them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from leanrag.documents.markdown_outline import markdown_headings
from leanrag.protocols import GenerateOptions, LanguageModel
from leanrag.text import split_sentences
from leanrag.types import Document, Message

__all__ = ["Candidate", "ask_about", "candidates_by_model", "candidates_by_rules", "passages_of"]

_PASSAGE_CHARS = 900
_SENTENCE_CHARS = range(30, 300)

_DEFINITION = re.compile(
    r"(?P<article>The |An? )?(?P<term>\w[\w-]*(?: [\w-]+){0,3}?) (?P<verb>is|are|was|were) "
    r"(?P<answer>(?:an?|the) [^,;:.()]{3,80}?)(?=(?:, | which | that | who |[.;:(]))"
)
_PRONOUNS = frozenset(
    "it this that these those there he she they we you i here what which who each such both one".split()
)
_VALUE = re.compile(
    r"\b(?:\d{1,2} )?(?:January|February|March|April|May|June|July|August|September|October|November|December)\b(?: \d{4})?"
    r"|(?<![\w.,/-])\d+(?:[.,]\d+)*(?![\w/-])"
    r"(?: ?%| (?:days?|hours?|minutes?|seconds?|weeks?|months?|years?|km|kg|MB|GB|MiB|GiB|ms|euros?|dollars?)\b)?"
    r"|(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)+\b"
)
_PROSE = re.compile(r"[^\W\d_][^|={}<>`\[\]_]*[.!?][\"')]*")
_GAP = "____"
_WRITTEN = re.compile(r"question\W*:\s*(?P<question>[^\n]*\?)\s*answer\W*:\s*(?P<answer>[^\n]+)", re.IGNORECASE)

_WRITE = """{text}

Write one question that the text above answers, and its answer. The question names what it is about and does not mention the text.
Copy the answer from the text, word by word, in at most ten words. Use this form:
Question: ...?
Answer: ..."""

_READ = "{text}\n\nBased only on the text above, answer this question in a few words of the text: {question}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A question that may be asked about a document.

    Attributes:
        kind: How it was made: "definition", "heading", "cloze" or "model".
        question: The question.
        answer: Its answer, verbatim from the document.
        document: The document.
        start: First character of the passage that answers it.
        end: One past the last character.
    """

    kind: str
    question: str
    answer: str
    document: Document
    start: int
    end: int

    @property
    def passage(self) -> str:
        """The passage that answers it."""
        return self.document.text[self.start : self.end]


def candidates_by_rules(document: Document) -> Iterator[Candidate]:
    """Yield questions from definitions, from headings that are questions, and from sentences with a gap."""
    yield from _from_headings(document)
    for start, end in split_sentences(document.text):
        sentence = " ".join(document.text[start:end].split())
        if end - start not in _SENTENCE_CHARS or not _PROSE.fullmatch(sentence):
            continue  # code, a row of a table, a list of names
        if definition := _DEFINITION.match(sentence):
            term = definition["term"]
            if term.split()[0].lower() not in _PRONOUNS:
                question = f"What {definition['verb']} {(definition['article'] or '').lower()}{term}?"
                yield Candidate("definition", question, definition["answer"], document, start, end)
        if value := _VALUE.search(sentence):
            gap = f"{sentence[: value.start()]}{_GAP}{sentence[value.end() :]}"
            yield Candidate("cloze", f'Which words are missing here: "{gap}"?', value[0], document, start, end)


def _from_headings(document: Document) -> Iterator[Candidate]:
    """Yield headings that are questions, with the first sentence below them as the answer."""
    for start, _, title in markdown_headings(document.text):
        if not title.endswith("?"):
            continue
        below = document.text.find("\n", start) + 1
        if not below:
            continue
        body = document.text[below:]
        for first, last in split_sentences(body)[:1]:
            answer = body[first:last].strip()
            if answer and not answer.startswith("#"):
                yield Candidate("heading", title, answer, document, below + first, below + last)


def passages_of(document: Document) -> list[tuple[int, int]]:
    """Return spans of whole sentences, each of about `_PASSAGE_CHARS` characters."""
    spans: list[tuple[int, int]] = []
    for start, end in split_sentences(document.text):
        if spans and end - spans[-1][0] <= _PASSAGE_CHARS:
            spans[-1] = spans[-1][0], end
        else:
            spans.append((start, end))
    return [(start, end) for start, end in spans if end - start >= _SENTENCE_CHARS.start]


def candidates_by_model(model: LanguageModel, document: Document) -> Iterator[Candidate]:
    """Yield a question that the model writes about each passage; an empty one if it kept to no form."""
    for start, end in passages_of(document):
        written = _WRITTEN.search(_say(model, _WRITE.format(text=document.text[start:end]), 96))
        question, answer = (written["question"], written["answer"].strip().strip('"')) if written else ("", "")
        yield Candidate("model", question.strip(), answer, document, start, end)


def ask_about(model: LanguageModel, candidate: Candidate) -> str:
    """Return what the model answers to the question when it reads nothing but the passage."""
    return _say(model, _READ.format(text=candidate.passage, question=candidate.question), 48)


def _say(model: LanguageModel, prompt: str, max_tokens: int) -> str:
    messages = [Message("user", prompt)] if model.is_chat else f"{prompt}\n"
    return model.stream(messages, GenerateOptions(max_tokens=max_tokens)).result.text.strip()
