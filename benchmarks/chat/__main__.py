"""Do follow-up questions find what the whole question finds, and how soon does the fifth turn of a conversation begin?

Dialogues of two questions on one article are made from SQuAD; the second has a pronoun in the place of its entity. Recall@5 is the
share of second questions whose passage is among the first five passages of the hits. "follow-up" asks within a conversation, after
the first question was answered by a model; "standalone" asks with the entity; "bare" asks with the pronoun and without the
conversation. The share of `many` rests on more dialogues, whose first answer is that of the data set.

The time to the first word of the fifth turn, from the question on, is compared with that of a model that keeps no computed prompts
and is asked the same question after the same turns.

    python -m benchmarks.chat --data DIR --json FILE [--quick] [--only SECTION]
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence

import leanrag
from benchmarks.chat.dialogues import Dialogue, make_conversations, make_dialogues
from benchmarks.common import Question, Questions, finish, parse_arguments, read_squad
from leanrag import Document, LlamaCppModel
from leanrag.metrics import bootstrap_interval, f1
from leanrag.models import resolve_model
from leanrag.pipeline import Conversation
from leanrag.types import Answer, Exchange

READER = "smollm2-135m"  # of the dialogues
SLOW_READER = "qwen2.5-coder-0.5b"  # of the long conversations
DIALOGUES, MANY, ANSWERED, CONVERSATIONS, TURNS = 20, 200, 40, 3, 5
K = 5
SECTIONS = ("recall", "answers", "time")


def recall(rag: leanrag.Rag, dialogues: Sequence[Dialogue], many: Sequence[Dialogue]) -> dict[str, float]:
    """Return the recall of follow-up questions."""
    found = [_found_in_chat(rag, dialogue) for dialogue in dialogues]
    figures = _shares("followup", found)
    exchanges = [[Exchange(dialogue.first.text, dialogue.first.answers[0])] for dialogue in many]
    found = [_found(rag, dialogue, rag.chat(before)) for dialogue, before in zip(many, exchanges, strict=True)]
    figures |= _shares("many", found)
    low, high = bootstrap_interval([row[0] - row[1] for row in found])
    print(f"{len(many)} dialogues: follow-up minus standalone in [{low:+.3f}, {high:+.3f}]")
    return {**figures, "dialogues": len(dialogues), "many_dialogues": len(many)}


def _found_in_chat(rag: leanrag.Rag, dialogue: Dialogue) -> tuple[bool, bool, bool]:
    chat = rag.chat()
    chat.ask(dialogue.first.text)
    return _found(rag, dialogue, chat)


def _found(rag: leanrag.Rag, dialogue: Dialogue, chat: Conversation) -> tuple[bool, bool, bool]:
    """Return whether the passage is found by the follow-up, the standalone and the bare question."""

    def is_found(explain: Callable[..., leanrag.Explanation], question: str) -> bool:
        hits = explain(question, k=2 * K).hits
        passages = list(dict.fromkeys(chunk.document_id for hit in hits for chunk in (hit.chunk, *hit.copies)))
        return dialogue.second.document_id in passages[:K]

    return (
        is_found(chat.explain, dialogue.follow_up),
        is_found(rag.explain, dialogue.second.text),
        is_found(rag.explain, dialogue.follow_up),
    )


def _shares(name: str, found: Sequence[tuple[bool, bool, bool]]) -> dict[str, float]:
    follow_up, standalone, bare = (statistics.mean(column) for column in zip(*found, strict=True))
    print(f"{name:9} recall@{K}: follow-up {follow_up:.3f}, standalone {standalone:.3f}, bare {bare:.3f}")
    return {
        f"{name}_recall{K}": follow_up,
        f"{name}_recall{K}_standalone": standalone,
        f"{name}_recall{K}_bare": bare,
        f"{name}_recall{K}_ratio": follow_up / standalone,
    }


def answers(rag: leanrag.Rag, dialogues: Sequence[Dialogue]) -> dict[str, float]:
    """Return the F1 of answers to follow-up questions: with the turns in the prompt, without them, and to whole questions."""
    rows: dict[str, list[float]] = {"history": [], "alone": [], "standalone": []}
    for dialogue in dialogues:
        chat = rag.chat(history_tokens=None, style="phrase")
        chat.ask(dialogue.first.text)
        alone = rag.chat(chat.exchanges, history_tokens=0, style="phrase")
        for name, answer in (
            ("history", chat.ask(dialogue.follow_up)),
            ("alone", alone.ask(dialogue.follow_up)),
            ("standalone", rag.ask(dialogue.second.text, style="phrase")),
        ):
            rows[name].append(_f1_of(answer, dialogue.second))
    figures = {f"f1_{name}": statistics.mean(values) for name, values in rows.items()}
    print("  ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    return {**figures, "answered_dialogues": len(dialogues)}


def _f1_of(answer: Answer, question: Question) -> float:
    text = answer.generation.text if answer.generation is not None else ""
    return f1(text, question.answers)


def first_word(rag: leanrag.Rag, cold: leanrag.Rag, conversations: Sequence[Sequence[Question]]) -> dict[str, float]:
    """Return how soon the last turn begins, compared with a model that computes the whole prompt again."""
    rows = []
    for questions in conversations:
        chat = rag.chat()
        for question in questions[:-1]:
            chat.ask(question.text)
        before = chat.exchanges
        own, answer = _time_first_word(chat, questions[-1].text)
        other, same = _time_first_word(cold.chat(before), questions[-1].text)
        if answer.prompt != same.prompt:
            raise RuntimeError("the two models read different prompts")
        usage = answer.usage
        rows.append((other / own, own, other, usage.prompt_tokens, usage.cached_tokens))
        print(
            f"  {own:.2f} s, {other:.2f} s without reuse; {usage.cached_tokens} of {usage.prompt_tokens} tokens reused"
        )
    ratio, own, other, tokens, cached = (statistics.median(column) for column in zip(*rows, strict=True))
    return {
        "ttft_turn5_ratio": ratio,
        "ttft_turn5_ratio_min": min(row[0] for row in rows),
        "ttft_turn5_seconds": own,
        "ttft_turn5_seconds_no_reuse": other,
        "turn5_tokens": tokens,
        "turn5_cached_tokens": cached,
        "conversations": len(rows),
    }


def _time_first_word(chat: Conversation, question: str) -> tuple[float, Answer]:
    started = time.perf_counter()
    stream = chat.stream(question)
    pieces = iter(stream)
    next(pieces, None)
    seconds = time.perf_counter() - started
    for _ in pieces:  # to the end: a loop that is left stops the answer
        pass
    return seconds, stream.answer


def main() -> None:
    arguments = parse_arguments(__doc__, sections=SECTIONS)
    squad = read_squad(arguments.data)
    dialogues, many = make_dialogues(squad, DIALOGUES), make_dialogues(squad, MANY)
    conversations = make_conversations(squad, CONVERSATIONS, TURNS)
    documents, answered, slow = squad.documents, many[:ANSWERED], SLOW_READER
    if arguments.is_quick:
        dialogues, many, answered, conversations, slow = dialogues[:6], many[:30], many[:6], conversations[:2], READER
        documents = _passages(
            squad, [question for each in (*dialogues, *many) for question in (each.first, each.second)]
        )
    paths = {name: resolve_model(name).path for name in {READER, slow}}
    figures: dict[str, float] = {"n": len(many)}
    if arguments.only != "time":
        with tempfile.TemporaryDirectory() as folder, leanrag.open(folder, model=READER) as rag:
            rag.add(*documents)
            if arguments.only != "answers":
                figures |= recall(rag, dialogues, many)
            if arguments.only != "recall":
                figures |= answers(rag, answered)
    if arguments.only in (None, "time"):
        with (
            tempfile.TemporaryDirectory() as folder,
            LlamaCppModel(paths[slow], name=slow, no_repeats=True) as model,
            LlamaCppModel(paths[slow], name=slow, no_repeats=True, cache_bytes=0) as bare,
            leanrag.open(folder, model=model) as rag,
            leanrag.open(folder, model=bare) as cold,
        ):
            rag.add(*_passages(squad, [question for questions in conversations for question in questions]))
            figures |= first_word(rag, cold, conversations)
    finish(figures, arguments.json_path, models=paths, is_quick=arguments.is_quick, only=arguments.only)


def _passages(squad: Questions, questions: Sequence[Question]) -> tuple[Document, ...]:
    """Return the passages that the questions were asked about."""
    asked = {question.document_id for question in questions}
    return tuple(document for document in squad.documents if document.id in asked)


if __name__ == "__main__":
    main()
