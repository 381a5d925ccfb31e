"""Dialogues made from a data set of questions on articles: the second question has a pronoun in the place of its entity."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.common import Question, Questions

__all__ = ["Dialogue", "make_conversations", "make_dialogues"]

_ENTITY = re.compile(r"(?<=[a-z,] )(?:the )?[A-Z][\w-]+(?: (?:of |the |de )*(?:[A-Z][\w-]+|\d+))*")
_SUBJECT = re.compile(r"\b(?:did|does|do|can|could|will|has|had|have) \Z")
_OBJECT = re.compile(r"\b(?:of|to|for|by|with|in|from|on|at|about|against|into|under|during|\w+ed) \Z")
_END = re.compile(
    r"\s*[?.]?\s*\Z|,|\s(?:and|or|in|on|at|by|for|from|to|with|as|is|are|was|were|has|have|had|when|after|before)\b"
)
_PRONOUN = re.compile(r"\b(?:it|its|they|them|their|he|she|his|her|this|that|these|those)\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Two questions on one article.

    Attributes:
        first: The first question.
        second: The second question, with its entity.
        follow_up: The second question, with a pronoun instead.
    """

    first: Question
    second: Question
    follow_up: str


def make_dialogues(questions: Questions, count: int) -> list[Dialogue]:
    """Return `count` dialogues, from as many articles as there are; the same for the same data."""
    words = _Words.of(questions)
    by_article = [list(_dialogues_of(group, words)) for group in _articles(questions).values()]
    in_turn = (row for rows in itertools.zip_longest(*by_article) for row in rows if row is not None)
    return list(itertools.islice(in_turn, count))


def make_conversations(questions: Questions, count: int, turns: int) -> list[list[Question]]:
    """Return conversations: `turns` questions on different passages of an article each."""
    conversations = []
    for group in _articles(questions).values():
        by_passage = {question.document_id: question for question in reversed(group)}
        if len(by_passage) >= turns:
            conversations.append(list(by_passage.values())[-turns:][::-1])
    step = max(1, len(conversations) // count)
    return conversations[::step][:count]


@dataclass(frozen=True, slots=True)
class _Words:
    """What the texts of a data set tell about words.

    Attributes:
        people: Answers to questions that ask who, in lower case.
        places: What stands after "in" in questions, in lower case.
        verbs: Words that stand more often after "to" than after "the".
    """

    people: str
    places: str
    verbs: frozenset[str]

    @classmethod
    def of(cls, questions: Questions) -> _Words:
        asked = "\n".join(each.text.casefold() for each in questions.questions)
        text = asked + "\n".join(document.text.casefold() for document in questions.documents)
        after_to, after_the = (Counter(re.findall(rf"\b{word} (\w+)", text)) for word in ("to", "the"))
        people = (answer for each in questions.questions if "who" in each.text.casefold() for answer in each.answers)
        return cls(
            "\n".join(people).casefold(),
            "\n".join(re.findall(r"\bin .*", asked)),
            frozenset(word for word, count in after_to.items() if count > after_the[word]),
        )

    def is_person(self, entity: str) -> bool:
        return entity in self.people and f"in {entity}" not in self.places


def _articles(questions: Questions) -> Mapping[str, list[Question]]:
    groups: defaultdict[str, list[Question]] = defaultdict(list)
    for question in questions.questions:
        groups[question.document_id.rpartition("/")[0]].append(question)
    return groups


def _dialogues_of(group: Sequence[Question], words: _Words) -> Iterator[Dialogue]:
    """Yield the dialogues of an article: a question that names an entity, and the next one that names it too."""
    is_used = [False] * len(group)
    for i, j in itertools.combinations(range(len(group)), 2):
        if is_used[i] or is_used[j] or group[i].text == group[j].text:
            continue
        first = group[i].text.casefold()
        for entity in _ENTITY.findall(group[j].text):
            follow_up = _with_pronoun(group[j].text, entity, words)
            if re.search(rf"\b{re.escape(_bare(entity))}\b", first) and follow_up is not None:
                yield Dialogue(group[i], group[j], follow_up)
                is_used[i] = is_used[j] = True
                break


def _bare(entity: str) -> str:
    return entity.removeprefix("the ").casefold()


def _with_pronoun(question: str, entity: str, words: _Words) -> str | None:
    """Return a question with a pronoun in the place of an entity; None if that would not be English."""
    before, _, after = question.partition(entity)
    if _PRONOUN.search(question) or re.search(r"\b[A-Z][\w-]* \Z", before[1:]) or entity in after:
        return None
    is_many = words.is_person(_bare(entity)) or (entity.endswith("s") and entity.startswith("the "))
    if owned := re.match(r"['’]s?\b|['’](?=\s)", after):
        return before + ("their" if is_many else "its") + after[owned.end() :]
    following = re.match(r"\s(\w+)", after)
    if _SUBJECT.search(before) and following and following[1] in words.verbs:
        is_singular = re.search(r"\b(?:does|has) \Z", before) is not None
        return None if is_many and is_singular else before + ("they" if is_many else "it") + after
    if _OBJECT.search(before) and _END.match(after):
        return before + ("them" if is_many else "it") + after
    return None
