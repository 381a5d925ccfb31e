"""What caches and ledgers may be able to do beside their one task: Protocols that are checked at run time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from leanrag.types import Answer, AskKey, CancelToken, Stage

if TYPE_CHECKING:
    from leanrag.protocols import Vectors

__all__ = ["ComputesOnce", "FindsSimilar", "ForgetsDocuments", "FreshEvidence", "LimitsSpending", "RecordsStages"]


@runtime_checkable
class ComputesOnce(Protocol):
    """A cache that lets only one of several equal questions compute the answer; the others wait for it."""

    def computing(self, key: AskKey, cancel: CancelToken) -> AbstractContextManager[None]:
        """Hold the right to compute the answer of `key`. Waits while another thread or process holds it."""


@runtime_checkable
class ForgetsDocuments(Protocol):
    """A cache whose answers can be removed by the documents that they stand on."""

    def forget(self, document_ids: Iterable[str]) -> None:
        """Remove every answer that contains text of one of the documents."""


@dataclass(frozen=True, slots=True)
class FreshEvidence:
    """What was found for a question just now, against which a stored answer to a similar question is checked.

    Attributes:
        vector: Returns `(dim,)`, the vector of the question, L2 norm 1.
        texts: The texts of the chunks that the prompt shows.
        adopt: Returns a stored answer as the answer to the new question, with quotes from what was found for that; None if this
            does not support it.
        agrees: Whether two answers say the same.
    """

    vector: Callable[[], Vectors]
    texts: Set[str]
    adopt: Callable[[Answer], Answer | None]
    agrees: Callable[[Answer, Answer], bool]


@runtime_checkable
class FindsSimilar(Protocol):
    """A cache that also answers a question in other words, if enough speaks for it that the same answer is right."""

    def find_similar(self, key: AskKey, fresh: FreshEvidence) -> Answer | None:
        """Return the answer to a similar question, or None.

        Args:
            key: The key by evidence of the new question.
            fresh: What was found for it.
        """

    def put_similar(self, key: AskKey, answer: Answer, fresh: FreshEvidence) -> None:
        """Store an answer for similar questions; compare it with the answer that `find_similar` held back."""


@runtime_checkable
class LimitsSpending(Protocol):
    """A ledger that also keeps to a budget."""

    def refusal(self, most: float | None, of_question: float) -> str | None:
        """Return why a model must not be asked; None if it may be.

        Args:
            most: The most that asking it can cost; None if that is unknown.
            of_question: What the question has cost so far.
        """

    @property
    def ends_question(self) -> bool:
        """Whether a question without an answer ends then; otherwise models without a price are still asked."""


@runtime_checkable
class RecordsStages(Protocol):
    """A ledger that also records work that belongs to no question, such as adding documents."""

    def record_stage(self, stage: Stage) -> None:
        """Record a stage that has ended, or failed."""
