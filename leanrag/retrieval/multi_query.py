"""A question in several wordings: each is searched, and the rankings are fused."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from leanrag.checks import check_whole
from leanrag.errors import ConfigurationError
from leanrag.protocols import GenerateOptions, LanguageModel, Retriever
from leanrag.retrieval.retrievers import reciprocal_rank_fusion
from leanrag.types import Hit, Message, Prompt, Where

__all__ = ["ModelRewriter", "MultiQueryRetriever", "Rewrite"]

Rewrite: TypeAlias = Callable[[str], Sequence[str]]
"""Returns other wordings of a question."""

_LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,2}[.):])?\s*")
_TOKENS_PER_WORDING = 40


class MultiQueryRetriever:
    """Searches a question in several wordings, and fuses the rankings by `reciprocal_rank_fusion`.

    Args:
        retriever: Searches each wording.
        rewrite: Returns other wordings of a question: a function, or a `ModelRewriter`. The question itself is always searched.

    Example:
        >>> def rewrite(question):
        ...     return [question.replace("car", "vehicle")]
        >>> def make(store, index, embedder):
        ...     return MultiQueryRetriever(HybridRetriever(store, index, embedder), rewrite)
        >>> rag = leanrag.open("kb", retriever=make)  # doctest: +SKIP
    """

    def __init__(self, retriever: Retriever, rewrite: Rewrite) -> None:
        self._retriever, self._rewrite = retriever, rewrite

    def retrieve(self, question: str, k: int, *, where: Where | None = None) -> list[Hit]:
        """Return at most `k` hits, best first; their score is that of the fusion.

        `dense` and `bm25` belong to the first wording that found the hit.

        Raises:
            ConfigurationError: `rewrite` did not return a sequence of texts.
        """
        others = self._rewrite(question)
        if isinstance(others, str) or not all(isinstance(other, str) for other in others):
            raise ConfigurationError(f"`rewrite` must return a list of texts, got {others!r}")
        wordings = list(dict.fromkeys([question, *(other for other in others if other.strip())]))
        rankings = [self._retriever.retrieve(wording, k, where=where) for wording in wordings]
        by_id: dict[str, Hit] = {}
        for ranking in rankings:
            for hit in ranking:
                by_id.setdefault(hit.chunk.id, hit)
        hits = list(by_id.values())
        number_of = {chunk_id: number for number, chunk_id in enumerate(by_id)}
        numbers = [np.array([number_of[hit.chunk.id] for hit in ranking], np.int64) for ranking in rankings]
        scores, order = reciprocal_rank_fusion(numbers)
        best = zip(scores[:k].tolist(), order[:k].tolist(), strict=True)
        return [replace(hits[number], score=score) for score, number in best]


class ModelRewriter:
    """Lets a language model write other wordings of a question.

    Args:
        model: The model.
        count: Wordings wanted; the model may write fewer.
    """

    def __init__(self, model: LanguageModel, *, count: int = 3) -> None:
        check_whole(1, count=count)
        self._model, self._count = model, count

    def __call__(self, question: str) -> list[str]:
        """Return at most `count` other wordings.

        Raises:
            GenerationError: The model failed.
        """
        stream = self._model.stream(self._prompt(question), GenerateOptions(self._count * _TOKENS_PER_WORDING))
        lines = (_LIST_MARK.sub("", line).strip() for line in stream.result.text.splitlines())
        wordings = dict.fromkeys(line for line in lines if line and not line.endswith(":") and line != question)
        return list(wordings)[: self._count]

    def _prompt(self, question: str) -> Prompt:
        text = f"Write {self._count} other wordings of this question, one in each line.\n\nQuestion: {question}"
        return [Message("user", text)] if self._model.is_chat else f"{text}\n\nOther wordings:\n"
