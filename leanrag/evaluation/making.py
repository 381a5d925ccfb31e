"""Make questions from documents, and keep only those that a check of their source supports."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from leanrag.checks import check_share, check_whole
from leanrag.errors import ConfigurationError
from leanrag.evaluation.candidates import Candidate, ask_about, candidates_by_model, candidates_by_rules
from leanrag.evaluation.questions import Dataset, Passage, Question
from leanrag.grounding import ground
from leanrag.metrics import contains_answer
from leanrag.protocols import LanguageModel
from leanrag.routing.labels import texts_agree
from leanrag.text import content_words
from leanrag.types import Chunk, Document, Hit, PackedItem, Segment

if TYPE_CHECKING:
    from leanrag.pipeline.rag import Rag

__all__ = ["MadeQuestions", "make_questions"]

NEAR_DUPLICATE = 0.7
"""Two questions are near-duplicates if they share at least this part of their content words: a convention."""

MOST_ANSWER_WORDS = 30
"""A longer answer is dropped."""

_NAMES_THE_TEXT = frozenset("text passage document article excerpt paragraph above following".split())


@dataclass(frozen=True, slots=True)
class MadeQuestions:
    """Questions that were made from documents, and what became of the others. Print it to see the counts.

    Attributes:
        dataset: The questions that were kept.
        tried: Number of candidates that were checked.
        kept: Number of kept questions by kind: "definition", "heading", "cloze", "model" or "unanswerable".
        dropped: Number of dropped candidates by reason.
    """

    dataset: Dataset
    tried: int
    kept: Mapping[str, int]
    dropped: Mapping[str, int]

    @property
    def share_kept(self) -> float:
        """Share of the candidates that were kept."""
        return 1 - sum(self.dropped.values()) / self.tried

    def __str__(self) -> str:
        kept = ", ".join(f"{count} {kind}" for kind, count in self.kept.items())
        dropped = ", ".join(f"{count} {reason}" for reason, count in self.dropped.items()) or "none"
        return (
            f"kept {self.share_kept:.0%} of {self.tried} candidates: {len(self.dataset.questions)} questions ({kept}); "
            f"dropped: {dropped}"
        )


def make_questions(
    rag: Rag,
    n: int,
    *,
    model: LanguageModel | None = None,
    unanswerable: float = 0.2,
    seed: int = 0,
) -> MadeQuestions:
    """Make questions about the documents of a folder.

    With a model, it writes each question, and reads it a second time with nothing but the passage. Without a model, rules make
    questions from definitions, from headings that are questions, and from sentences with a gap. A question is kept only if its
    answer is in its passage, the passage supports the answer, the second reading agrees, and no kept question is nearly the same.

    An unanswerable question is an answerable one whose file the search must not find (`Question.hidden`). It is kept only if no
    other document that the search finds contains the answer.

    Args:
        rag: The folder.
        n: Number of questions wanted; fewer are made if the documents do not give more.
        model: Writes the questions; the largest that you have. None makes them by rules.
        unanswerable: Share of the questions that the other documents must not answer, in [0, 1). Only documents that are files
            can be hidden, and only if there are others.
        seed: Seed of the order in which the documents are read.

    Raises:
        ConfigurationError: An argument cannot work, or no question can be made.
        GenerationError: The model failed.
    """
    check_whole(1, n=n)
    check_share(open_ends="1", unanswerable=unanswerable)
    records = sorted(rag.documents(), key=lambda record: record.id)
    random.Random(seed).shuffle(records)
    hides = len(records) > 1
    wanted_without = round(n * unanswerable) if hides else 0
    tried, kept, dropped = 0, Counter[str](), Counter[str]()
    questions: list[Question] = []
    seen: list[frozenset[str]] = []
    documents = (rag.get_document(record.id) for record in records)
    for candidate in _take_turns(documents, model, seed):
        if len(questions) >= n:
            break
        tried += 1
        words = frozenset(content_words(candidate.question))
        reason = _problem(candidate, model) or ("near-duplicate" if _is_near(words, seen) else None)
        source = candidate.document.source
        is_hidden = reason is None and source is not None and kept["unanswerable"] < wanted_without
        if is_hidden and _is_answered_elsewhere(rag, candidate):
            reason = "answered elsewhere"
        if reason is not None:
            dropped[reason] += 1
            continue
        seen.append(words)
        kept["unanswerable" if is_hidden else candidate.kind] += 1
        questions.append(_question(candidate, len(questions) + 1, is_hidden=is_hidden))
    if not questions:
        why = ", ".join(f"{count} {reason}" for reason, count in dropped.items()) or "no sentence suits a question"
        raise ConfigurationError(
            f"no question can be made from the {len(records)} documents of this folder ({why}). Add documents with whole "
            "sentences, pass a larger model, or write the questions yourself"
        )
    return MadeQuestions(Dataset("made", tuple(questions)), tried, dict(kept), dict(dropped))


def _take_turns(documents: Iterator[Document], model: LanguageModel | None, seed: int) -> Iterator[Candidate]:
    """Yield candidates of all documents in turns, so that a long document does not give all questions."""
    order = random.Random(seed)
    if model is not None:
        sources = [candidates_by_model(model, document) for document in documents]
    else:
        sources = []
        for document in documents:
            candidates = list(candidates_by_rules(document))
            order.shuffle(candidates)
            sources.append(iter(candidates))
    while sources:
        waiting = []
        for source in sources:
            candidate = next(source, None)
            if candidate is not None:
                yield candidate
                waiting.append(source)
        sources = waiting


def _problem(candidate: Candidate, model: LanguageModel | None) -> str | None:
    """Return why a candidate cannot be kept; None if it can."""
    if not candidate.question or not candidate.answer:
        return "not in the asked form"
    if not contains_answer(candidate.passage, [candidate.answer]):
        return "answer not in the source"
    if contains_answer(candidate.question, [candidate.answer]):
        return "answer in the question"
    if len(candidate.answer.split()) > MOST_ANSWER_WORDS:
        return "answer too long"
    if _NAMES_THE_TEXT & set(candidate.question.lower().rstrip("?").split()) and candidate.kind == "model":
        return "speaks of the text"
    if not ground(candidate.question, candidate.answer, [_as_source(candidate)]).is_supported:
        return "not supported by the source"
    if model is not None:
        reading = ask_about(model, candidate)
        if not contains_answer(reading, [candidate.answer]) and not texts_agree(reading, candidate.answer):
            return "read otherwise the second time"
    return None


def _is_near(words: frozenset[str], seen: Sequence[frozenset[str]]) -> bool:
    return any(len(words & other) >= NEAR_DUPLICATE * len(words | other) for other in seen)


def _as_source(candidate: Candidate) -> PackedItem:
    document, text = candidate.document, candidate.passage
    chunk = Chunk(document.id, candidate.start, candidate.end, text, title=document.title)
    segment = Segment(0, len(text), 0, candidate.start, candidate.end)
    return PackedItem(1, Hit(chunk, 1.0), text, (segment,), 0)


def _is_answered_elsewhere(rag: Rag, candidate: Candidate) -> bool:
    hits = rag.search(candidate.question, where={"not": {"source": [candidate.document.source]}})
    return any(contains_answer(hit.chunk.full_text, [candidate.answer]) for hit in hits)


def _question(candidate: Candidate, number: int, *, is_hidden: bool) -> Question:
    if is_hidden and candidate.document.source is not None:
        return Question(candidate.question, (), f"{number}", hidden=(candidate.document.source,))
    passage = Passage(candidate.document.id, candidate.start, candidate.end)
    return Question(candidate.question, (candidate.answer,), f"{number}", (passage,))
