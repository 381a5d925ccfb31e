"""The first stage of a question of a conversation: words that need no conversation."""

from __future__ import annotations

from dataclasses import replace

from leanrag.pipeline.followups import complete_question
from leanrag.pipeline.query import Query
from leanrag.pipeline.timing import StageTimer

__all__ = ["complete_query"]


def complete_query(query: Query, timer: StageTimer) -> Query:
    """Return the question in words that need no conversation; the trace shows them as the stage "follow-up"."""
    if query.earlier is None or not query.earlier.exchanges:
        return query
    with timer("follow-up") as details:
        found = complete_question(query.question, query.earlier.exchanges)
        details |= {"kind": found.kind, "method": "words", "question": found.text}
    return query if found.text == query.question else replace(query, question=found.text, asked=query.question)
