"""The first stage of a question of a conversation: words that need no conversation.

The words of the conversation complete most questions. If they name several things that a question can speak of, or none, a model
can be asked to rewrite it. What it writes is used only if its words are those of the conversation.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from leanrag.errors import GenerationCancelled, LeanRAGError
from leanrag.pipeline.followups import FollowUp, complete_question
from leanrag.pipeline.query import Query
from leanrag.pipeline.reader import Reader
from leanrag.pipeline.timing import StageTimer
from leanrag.protocols import GenerateOptions
from leanrag.text import content_words, without_marks
from leanrag.types import Answer, Exchange, Generation, Message, Step

__all__ = ["Completed", "complete_query"]

logger = logging.getLogger(__name__)

_EXCHANGES = 3  # that the model reads
_MAX_TOKENS = 48
_MAX_ANSWER_CHARS = 300
_LEAST_SHARE = 0.5  # of the content words of a question, which its rewriting keeps
_INSTRUCTION = (
    "Rewrite the last question so that it is clear without the conversation: put names in the place of pronouns. "
    "Reply with the rewritten question only.\nLast question: "
)


@dataclass(frozen=True, slots=True)
class Completed:
    """A question in words that need no conversation.

    Attributes:
        query: The question.
        step: What a model that rewrote it did and spent; None if no model was asked.
    """

    query: Query
    step: Step | None = None

    def charge(self, answer: Answer) -> Answer:
        """Return the answer with what the rewriting spent."""
        if self.step is None:
            return answer
        return replace(answer, usage=answer.usage + self.step.usage, steps=(self.step, *answer.steps))


def complete_query(query: Query, timer: StageTimer, readers: Sequence[Reader]) -> Completed:
    """Return the question in words that need no conversation; the trace shows them as the stage "follow-up".

    Args:
        query: The question, and what was said before.
        timer: Times the stage.
        readers: The models that answer, the best last; it rewrites questions, unless that costs money.
    """
    if query.earlier is None or not query.earlier.exchanges:
        return Completed(query)
    step = None
    with timer("follow-up") as details:
        found = complete_question(query.question, query.earlier.exchanges)
        text, details["method"] = found.text, "words"
        if not found.is_sure and query.earlier.rewrites:
            generation = _rewrite(query, readers[-1])
            if generation is not None:
                usage = generation.usage
                step = Step(
                    generation.model, "rewrote", "the words did not say what the question speaks of", None, usage
                )
                details |= {"model": generation.model, "prompt_tokens": usage.prompt_tokens}
                details |= {"completion_tokens": usage.completion_tokens, "cached_tokens": usage.cached_tokens}
                if rewritten := _accept(generation.text, found, query):
                    text, details["method"] = rewritten, "model"
        details |= {"kind": found.kind, "question": text}
    if step is not None:
        step = replace(step, seconds=timer.stages[-1].seconds, text=text)
    return Completed(query if text == query.question else replace(query, question=text, asked=query.question), step)


def _rewrite(query: Query, reader: Reader) -> Generation | None:
    """Return what the model made of the question; None if it was not asked, or failed."""
    try:
        model = reader.model
        if not model.is_chat or reader.has_price:
            return None
        assert query.earlier is not None
        options = GenerateOptions(_MAX_TOKENS, stop=("\n",), timeout_seconds=query.timeout_seconds, cancel=query.cancel)
        return model.stream(_prompt(query.question, query.earlier.exchanges), options).result
    except GenerationCancelled:
        raise
    except LeanRAGError as error:
        logger.info("the question is not rewritten: %s", error)
        return None


def _prompt(question: str, exchanges: Sequence[Exchange]) -> list[Message]:
    lines = []
    for each in exchanges[-_EXCHANGES:]:
        lines += [
            f"Question: {each.standalone or each.question}",
            f"Answer: {without_marks(each.answer)[:_MAX_ANSWER_CHARS]}",
        ]
    return [Message("user", "\n".join([*lines, "", f"{_INSTRUCTION}{question}"]))]


def _accept(text: str, found: FollowUp, query: Query) -> str | None:
    """Return a rewritten question if it has the words of the question, no words from elsewhere, and no pronoun; else None."""
    assert query.earlier is not None
    text = text.strip().strip("\"'")
    words, asked = set(content_words(text)), set(content_words(query.question))
    said = " ".join(f"{each.question} {each.standalone} {each.answer}" for each in query.earlier.exchanges)
    is_kept = len(words & asked) >= _LEAST_SHARE * len(asked)
    is_known = words <= asked | set(content_words(said)) | set(content_words(found.text))
    is_open = complete_question(text, query.earlier.exchanges).kind == "pronoun"
    return text if words and is_kept and is_known and not is_open else None
