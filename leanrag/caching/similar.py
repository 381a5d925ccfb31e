"""Find the answer to a question that asks the same in other words, and learn how far that can be trusted."""

from __future__ import annotations

import collections
import itertools
import math
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from leanrag.abilities import FreshEvidence
from leanrag.bounds import clopper_pearson_upper
from leanrag.caching.guards import difference
from leanrag.caching.match import MatchModel
from leanrag.checks import check_at_least, check_share
from leanrag.sqlite import SqliteFile
from leanrag.types import Answer, AskKey

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = ["Comparison", "Found", "SimilarQuestions", "SimilarStats", "error_bound", "error_share", "lowest_threshold"]

FIRST_CHECK = 64  # questions with a candidate after which the threshold is computed; then at each doubling
_NEAREST = 8  # entries that are looked at
_PENDING = 1024  # questions whose comparison is still to come


@dataclass(frozen=True, slots=True)
class SimilarQuestions:
    """When the answer to a similar question may be used.

    A stored question is a candidate if it is the nearest one, no rule of `guards` finds a difference, and no other stored question
    with another answer is about as near. Its answer is used if the score of the pair reaches the threshold, the answer was sure
    enough when it was stored, each text that it quotes is in what was found for the new question, and that supports it.

    The threshold starts at `threshold`. Whenever a question is computed although it had a candidate, the two answers are compared,
    so each miss teaches, and so does a random share of the hits. `lowest_threshold` finds the lowest score from which the share of
    wrong answers among the questions that have a candidate is at most `error`, with probability `1 - delta`. It replaces the
    threshold when it is lower, and when more answers were wrong than `error` allows. With `threshold=None` nothing is used before
    enough was compared. An entry whose answer was once wrong is used only for pairs with a higher score than that one: each entry
    has a threshold that is learnt, as in vCache (Schroeder et al., ICLR 2026).

    Attributes:
        error: Largest share of questions that may get a wrong answer.
        delta: Probability that the share is larger all the same.
        threshold: Lowest score, in (0, 1); None to learn it first.
        margin: Least difference in cosine similarity to the next question with another answer.
        least_cosine: Lowest cosine similarity of a candidate.
        least_confidence: An answer that was less sure is not stored for similar questions.
        audit: Share of the hits that are computed again and compared.
        model: Gives the score, the probability that two questions ask for the same thing; None for the one that ships.
        seed: Chooses the hits that are audited.

    Raises:
        ConfigurationError: A value is out of range.
    """

    error: float = 0.02
    delta: float = 0.05
    threshold: float | None = 0.9
    margin: float = 0.02
    least_cosine: float = 0.7
    least_confidence: float = 0.5
    audit: float = 0.05
    model: MatchModel | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_share(open_ends="01", error=self.error, delta=self.delta)
        check_share(open_ends="01", optional=True, threshold=self.threshold)
        check_at_least(0, margin=self.margin)
        check_share(least_cosine=self.least_cosine, least_confidence=self.least_confidence)
        check_share(open_ends="0", audit=self.audit)

    def bind(self, file: SqliteFile, namespace: str) -> _Similar:
        """Return the search over the entries of an answer cache."""
        return _Similar(self, file, namespace)


@dataclass(frozen=True, slots=True)
class SimilarStats:
    """What the search for similar questions did in this process, and what it knows.

    Attributes:
        hits: Questions that got the answer to another.
        refused: How many candidates each gate refused, by the name of the gate.
        compared: Comparisons of answers that the threshold is learnt from, of all processes.
        disagreed: Comparisons in which the stored answer was another.
        threshold: Score that a pair must reach; None while nothing is certain enough.
        bound: Upper bound of the share of questions that get a wrong answer at this threshold; None before the first comparison.
    """

    hits: int
    refused: Mapping[str, int]
    compared: int
    disagreed: int
    threshold: float | None
    bound: float | None


@dataclass(frozen=True, slots=True)
class Found:
    """An answer that was found, and its entry."""

    entry: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class _Candidate:
    entry: int
    question: str
    score: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A question that was computed although a stored answer was near.

    Attributes:
        score: Of the pair.
        agreed: Whether the computed answer said the same.
        weight: How many questions it stands for: 1 for a miss, more for a hit that was audited.
    """

    score: float
    agreed: bool
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class _Scope:
    """The questions of one scope in memory: row `i` of `vectors` belongs to entry and question `i`.

    Attributes:
        removals: How many entries had been removed from the file when it was read.
        last: Highest row number that was read.
    """

    removals: float = -1.0
    last: int = 0
    entries: tuple[int, ...] = ()
    questions: tuple[str, ...] = ()
    blocks: tuple[Vectors, ...] = ()

    def extended(self, removals: float, rows: Sequence[tuple[int, int, str, bytes]]) -> _Scope:
        """Return the scope with further rows; small blocks of vectors are joined, so that there are few."""
        if not rows:
            return replace(self, removals=removals)
        block = np.stack([np.frombuffer(row[3], "<f4").astype(np.float32, copy=False) for row in rows])
        blocks = [*self.blocks, block]
        while len(blocks) > 1 and len(blocks[-2]) <= 2 * len(blocks[-1]):
            blocks[-2:] = [np.concatenate(blocks[-2:])]
        return _Scope(
            removals,
            rows[-1][0],
            (*self.entries, *(row[1] for row in rows)),
            (*self.questions, *(row[2] for row in rows)),
            tuple(blocks),
        )

    def cosines(self, vector: Vectors) -> Vectors:
        """Return the cosine similarity of each question."""
        return np.concatenate([block @ vector for block in self.blocks])


class _Similar:
    """The search for similar questions over the entries of an answer cache; any thread may call."""

    def __init__(self, policy: SimilarQuestions, file: SqliteFile, namespace: str) -> None:
        self._policy, self._file, self._namespace = policy, file, namespace
        self._model = policy.model or MatchModel.shipped()
        self._lock = threading.Lock()
        self._scopes: dict[str, _Scope] = {}
        self._pending: collections.OrderedDict[str, tuple[_Candidate, float]] = collections.OrderedDict()
        self._refused: collections.Counter[str] = collections.Counter()
        self._hits = 0
        self._random = random.Random(policy.seed)
        self._threshold, self._checked = policy.threshold, 0
        self._learn_threshold()

    def admits(self, answer: Answer) -> bool:
        """Return whether an answer is good enough to be given to a similar question."""
        is_sure = answer.confidence is None or answer.confidence >= self._policy.least_confidence
        return is_sure and answer.is_supported and not answer.abstained and answer.finish_reason == "stop"

    def find(self, key: AskKey, fresh: FreshEvidence, load: Callable[[int], Answer | None]) -> Found | None:
        """Return the answer of the candidate that passes all gates; None if there is none, or if the hit is audited."""
        candidate = self._candidate(key, fresh, load)
        if candidate is None:
            return None
        stored = load(candidate.entry)
        answer = None if stored is None else self._adopted(stored, fresh)
        if answer is None:
            return None
        if not self._is_trusted(candidate):
            self._await_comparison(key, candidate, 1.0)
            return None
        with self._lock:
            is_audited = self._random.random() < self._policy.audit
            self._hits += not is_audited
        if is_audited:
            self._await_comparison(key, candidate, 1 / self._policy.audit)
            return None
        return Found(candidate.entry, answer)

    def learn(self, key: AskKey, answer: Answer, fresh: FreshEvidence, load: Callable[[int], Answer | None]) -> None:
        """Compare a computed answer with the answer that the candidate would have given."""
        with self._lock:
            pending = self._pending.pop(key.sha256, None)
        if pending is None:
            return
        candidate, weight = pending
        stored = load(candidate.entry)
        if stored is None:
            return
        with self._file.writing() as connection:
            connection.execute(
                "INSERT INTO comparisons (entry, score, agreed, weight) VALUES (?, ?, ?, ?)",
                (candidate.entry, candidate.score, fresh.agrees(stored, answer), weight),
            )
        self._learn_threshold()

    def add(self, entry: int, key: AskKey, fresh: FreshEvidence) -> None:
        """Store a question with its vector."""
        row = (entry, self._namespace, key.scope, key.question, fresh.vector().astype("<f4").tobytes())
        with self._file.writing() as connection:
            deleted = connection.execute(
                "DELETE FROM questions WHERE namespace = ? AND scope = ? AND question = ?", row[1:4]
            ).rowcount
            connection.execute("UPDATE totals SET value = value + ? WHERE name = 'removals'", (deleted,))
            connection.execute("INSERT INTO questions VALUES (?, ?, ?, ?, ?)", row)

    def stats(self) -> SimilarStats:
        """Return what was done and what is known."""
        rows = self._comparisons()
        bound = error_bound(rows, self._threshold, self._policy.delta) if rows and self._threshold is not None else None
        disagreed = sum(not row.agreed for row in rows)
        with self._lock:
            return SimilarStats(self._hits, dict(self._refused), len(rows), disagreed, self._threshold, bound)

    # Candidates and gates

    def _candidate(self, key: AskKey, fresh: FreshEvidence, load: Callable[[int], Answer | None]) -> _Candidate | None:
        scope = self._scope(key.scope)
        if not scope.entries:
            return None
        vector = fresh.vector()
        cosines = scope.cosines(vector)
        nearest = np.argsort(-cosines, kind="stable")[:_NEAREST].tolist()
        best = nearest[0]
        if cosines[best] < self._policy.least_cosine:
            return None
        if reason := difference(key.question, scope.questions[best]):
            self._refuse(reason)
            return None
        for i in nearest[1:]:
            if cosines[best] - cosines[i] >= self._policy.margin:
                break
            if not self._agree(load, fresh, scope.entries[best], scope.entries[i]):
                self._refuse("ambiguous")
                return None
        score = self._model.probability(key.question, scope.questions[best], float(cosines[best]))
        return _Candidate(scope.entries[best], scope.questions[best], score)

    def _agree(self, load: Callable[[int], Answer | None], fresh: FreshEvidence, entry: int, other: int) -> bool:
        if entry == other:
            return True
        left, right = load(entry), load(other)
        return left is not None and right is not None and fresh.agrees(left, right)

    def _adopted(self, stored: Answer, fresh: FreshEvidence) -> Answer | None:
        """Return a stored answer as the answer to the new question; None if what was found does not support it."""
        numbers = {citation.number for citation in stored.citations}
        cited = {item.hit.chunk.text for item in stored.packing.items if item.number in numbers}
        if not cited or not cited <= fresh.texts:
            self._refuse("evidence")
            return None
        answer = fresh.adopt(stored)
        if answer is None:
            self._refuse("support")
        return answer

    def _is_trusted(self, candidate: _Candidate) -> bool:
        if self._threshold is None or candidate.score < self._threshold:
            self._refuse("threshold")
            return False
        if candidate.score <= self._highest_wrong(candidate.entry):
            self._refuse("entry")
            return False
        return True

    def _refuse(self, gate: str) -> None:
        with self._lock:
            self._refused[gate] += 1

    def _await_comparison(self, key: AskKey, candidate: _Candidate, weight: float) -> None:
        with self._lock:
            self._pending[key.sha256] = (candidate, weight)
            while len(self._pending) > _PENDING:
                self._pending.popitem(last=False)

    def _highest_wrong(self, entry: int) -> float:
        with self._file.reading() as connection:
            row = connection.execute(
                "SELECT max(score) FROM comparisons WHERE entry = ? AND NOT agreed", (entry,)
            ).fetchone()
        return -1.0 if row[0] is None else float(row[0])

    # What is learnt

    def _learn_threshold(self) -> None:
        """Compute the threshold anew when the comparisons have doubled, and as soon as more answers were wrong than allowed."""
        rows = self._comparisons()
        if len(rows) < FIRST_CHECK:
            return
        checks = int(math.log2(len(rows) / FIRST_CHECK)) + 1
        is_due, self._checked = checks > self._checked, max(checks, self._checked)
        is_too_low = self._threshold is not None and error_share(rows, self._threshold) > self._policy.error
        if not is_due and not is_too_low:
            return
        # The checks that may lower the threshold share delta: delta / 2, delta / 4, ...
        learnt = lowest_threshold(rows, error=self._policy.error, delta=self._policy.delta / 2**checks)
        if self._threshold is None or is_too_low or (learnt is not None and learnt < self._threshold):
            self._threshold = learnt

    def _comparisons(self) -> list[Comparison]:
        with self._file.reading() as connection:
            rows = connection.execute("SELECT score, agreed, weight FROM comparisons ORDER BY id").fetchall()
        return [Comparison(score, bool(agreed), weight) for score, agreed, weight in rows]

    def _scope(self, name: str) -> _Scope:
        """Return the questions of a scope as they are now, whichever process stored them."""
        with self._lock:
            scope = self._scopes.setdefault(name, _Scope())
        with self._file.reading() as connection:
            removals = connection.execute("SELECT value FROM totals WHERE name = 'removals'").fetchone()[0]
            is_whole = removals == scope.removals
            rows = connection.execute(
                "SELECT rowid, entry, question, vector FROM questions"
                " WHERE scope = ? AND namespace = ? AND rowid > ? ORDER BY rowid",
                (name, self._namespace, scope.last if is_whole else 0),
            ).fetchall()
        if rows or not is_whole:
            with self._lock:
                scope = self._scopes[name] = (scope if is_whole else _Scope()).extended(removals, rows)
        return scope


def error_share(comparisons: Sequence[Comparison], threshold: float) -> float:
    """Return the estimated share of wrong answers among all questions with a candidate, if pairs from `threshold` on were used."""
    total = math.fsum(each.weight for each in comparisons)
    return math.fsum(each.weight for each in comparisons if each.score >= threshold and not each.agreed) / total


def error_bound(comparisons: Sequence[Comparison], threshold: float, delta: float) -> float:
    """Return the upper bound of `error_share` that holds with probability `1 - delta`.

    Questions that were computed because they missed count one by one: Clopper-Pearson over all questions. Of the questions that
    hit only a random share was compared; their error rate is bounded by Clopper-Pearson among those, and weighs by their share.
    """
    total = math.fsum(each.weight for each in comparisons)
    counts = _Counts()
    for each in comparisons:
        if each.score >= threshold:
            counts.add(each)
    return counts.bound(total, delta)


def lowest_threshold(comparisons: Sequence[Comparison], *, error: float, delta: float) -> float | None:
    """Return the lowest score from which `error_bound` is at most `error`; None if even the highest score is not certain enough.

    The scores are tried from the highest down to the first that fails, so that one test pays for all (fixed-sequence testing,
    Angelopoulos et al., Learn then Test, 2021).
    """
    total = math.fsum(each.weight for each in comparisons)
    counts, lowest = _Counts(), None
    for score, group in itertools.groupby(
        sorted(comparisons, key=lambda each: -each.score), key=lambda each: each.score
    ):
        for each in group:
            counts.add(each)
        if counts.bound(total, delta) > error:
            break
        lowest = score
    return lowest


@dataclass(slots=True)
class _Counts:
    """Comparisons from a score on: misses that would be wrong, and audited hits with their weight."""

    wrong: int = 0
    audited: int = 0
    audited_wrong: int = 0
    weight: float = 0.0

    def add(self, comparison: Comparison) -> None:
        if comparison.weight > 1:
            self.audited += 1
            self.audited_wrong += not comparison.agreed
            self.weight += comparison.weight
        else:
            self.wrong += not comparison.agreed

    def bound(self, total: float, delta: float) -> float:
        bound = clopper_pearson_upper(min(self.wrong, int(total)), int(total), delta / 2)
        if self.audited:
            bound += self.weight / total * clopper_pearson_upper(self.audited_wrong, self.audited, delta / 2)
        return min(1.0, bound)
