"""Conversations: follow-ups are searched with what they speak of, and nothing that goes wrong gets into the history."""

import asyncio
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import (
    BudgetError,
    CancelToken,
    Cascade,
    ConfigurationError,
    Document,
    GenerationCancelled,
    Message,
    StorageError,
)
from leanrag.caching.answers import AnswerCache
from leanrag.errors import ConversationError
from leanrag.ledger.rows import rows_of
from leanrag.pipeline.turn import NO_ANSWER
from leanrag.testing import FakeModel
from leanrag.types import Exchange, SourceText
from tests.examples import max_examples
from tests.stories import NILE, PARK, Failing, open_rag

TOWER = "The Eiffel Tower is 330 metres tall. The Eiffel Tower was built by Gustave Eiffel."
TALL = "How tall is the Eiffel Tower?"


def reply(prompt):
    asked = prompt.rpartition("uestion")[2]
    return (
        "The Eiffel Tower was built by Gustave Eiffel." if "built" in asked else "The Eiffel Tower is 330 metres tall."
    )


def open_tower(folder, model=None, **options):
    rag = open_rag(folder, model=model or FakeModel(reply), **options)
    rag.add(Document(TOWER, id="tower", title="Paris"), Document(NILE, id="nile"), Document(PARK, id="park"))
    return rag


@pytest.fixture
def rag(tmp_path):
    with open_tower(tmp_path / "kb") as rag:
        yield rag


def stage(answer, name):
    return next(stage.details for stage in answer.trace if stage.name == name)


def test_a_follow_up_is_asked_with_what_it_speaks_of(rag):
    chat = rag.chat()
    first = chat.ask(TALL)
    answer = chat.ask("And who built it?")
    assert "follow-up" not in [each.name for each in first.trace]
    assert stage(answer, "follow-up") == {
        "kind": "pronoun", "method": "words", "question": "Who built the Eiffel Tower?",
    }  # fmt: skip
    assert answer.question == "And who built it?"
    assert answer.citations[0].quote == "The Eiffel Tower was built by Gustave Eiffel."
    assert [each.question for each in chat.exchanges] == [TALL, "And who built it?"]
    assert chat.exchanges[1].standalone == "Who built the Eiffel Tower?"
    assert chat.exchanges[0].quotes == ("The Eiffel Tower is 330 metres tall.",)


def test_the_prompt_of_a_turn_begins_with_that_of_the_turn_before(rag):
    model = rag.chat()._asking.readers[0].model
    chat = rag.chat()
    for question in (TALL, "And who built it?", "How long is the Nile?"):
        chat.ask(question)
    first, second, third = model.prompts
    beginning = first.removesuffix("<assistant>")
    assert second.startswith(f"{beginning}<assistant>The Eiffel Tower is 330 metres tall.</assistant>")
    assert third.startswith(second.removesuffix("<assistant>"))


def test_the_first_question_of_a_conversation_is_as_without_one(rag):
    assert rag.chat().explain(TALL).prompt == rag.explain(TALL).prompt


def test_without_a_history_in_the_prompt_the_question_alone_is_complete(rag):
    chat = rag.chat(history_tokens=0)
    chat.ask(TALL)
    assert chat.explain("Who built it?").prompt == rag.explain("Who built the Eiffel Tower?").prompt


def test_streams_and_asyncio_answer_alike(rag):
    chat = rag.chat()
    stream = chat.stream(TALL)
    assert "".join(stream) == "The Eiffel Tower is 330 metres tall."
    assert asyncio.run(chat.aask("Who built it?")).is_supported

    async def words():
        return [piece async for piece in chat.astream("Who built it?")]

    assert "".join(asyncio.run(words())) == "The Eiffel Tower was built by Gustave Eiffel."
    assert len(chat.exchanges) == 3


def test_what_is_cancelled_or_fails_is_not_part_of_the_conversation(tmp_path):
    with open_tower(tmp_path, model=FakeModel(reply)) as rag:
        chat = rag.chat()
        chat.ask(TALL)
        before = chat.exchanges
        for _ in chat.stream("Who built it?"):
            break
        assert chat.exchanges == before
        stopped = CancelToken()
        stopped.cancel()
        with pytest.raises(GenerationCancelled):
            chat.ask("Who built it?", cancel=stopped)
        with pytest.raises(BudgetError):
            chat.ask("word " * 3000)
        with pytest.raises(ConfigurationError):
            chat.ask(" ")
        chat.stream("Who built it?")  # nobody keeps it
        assert chat.exchanges == before
        assert chat.ask("Who built it?").is_supported


def test_a_model_that_fails_leaves_the_conversation_as_it_was(tmp_path):
    with open_tower(tmp_path, model=Failing(after=2)) as rag:
        chat = rag.chat()
        for _ in range(2):
            with pytest.raises(Exception, match="on fire"):
                chat.ask(TALL)
        assert chat.exchanges == ()


def test_refused_answers_are_not_read_again_but_can_be_spoken_of(tmp_path):
    with open_tower(tmp_path, abstain_below=0.99) as rag:
        chat = rag.chat()
        answer = chat.ask(TALL)
        assert answer.text == NO_ANSWER
        assert chat.exchanges[0].is_refusal
        explanation = chat.explain("Who built it?")
        assert "Who built the Eiffel Tower?" in explanation.prompt
        assert explanation.prompt.count("<user>") == 1
        assert NO_ANSWER not in explanation.prompt


def test_one_question_at_a_time(rag):
    chat = rag.chat()
    stream = chat.stream(TALL)
    with pytest.raises(ConversationError, match="another question"):
        chat.ask("Who built it?")
    stream.close()
    assert chat.ask(TALL).is_supported
    assert len(chat.exchanges) == 1


def test_a_closed_stream_that_ends_all_the_same_adds_nothing(rag):
    chat = rag.chat()
    stream = chat.stream(TALL)
    chat.clear()
    chat.ask("How long is the Nile?")
    with pytest.raises(GenerationCancelled):
        stream.answer  # noqa: B018
    assert [each.question for each in chat.exchanges] == ["How long is the Nile?"]


def test_threads_that_share_a_conversation_lose_nothing(tmp_path):
    with open_tower(tmp_path, model=FakeModel(reply, token_seconds=0.001)) as rag:
        chat, done, refused = rag.chat(), [], []

        def ask(_):
            try:
                done.append(chat.ask(TALL))
            except ConversationError as error:
                refused.append(error)

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert done
        assert len(done) + len(refused) == 8
        assert len(chat.exchanges) == len(done)


# The window


def test_old_turns_are_shortened_all_at_once_and_then_stay(tmp_path):
    model = FakeModel(reply, n_ctx=1200)
    with open_tower(tmp_path, model=model, max_tokens=50) as rag:
        chat = rag.chat()
        shortened = []
        for _ in range(12):
            chat.ask(TALL)
            details = stage(chat.ask("Who built it?"), "budget")
            shortened.append(details["history_shortened"])
        assert shortened[0] is False
        assert shortened[-1] is True
        kept = sum(
            later.startswith(earlier.removesuffix("<assistant>"))
            for earlier, later in zip(model.prompts, model.prompts[1:], strict=False)
        )
        assert kept > len(model.prompts) / 2


@max_examples(40)
@given(
    lengths=st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60), st.integers(0, 80)), max_size=6),
    asked=st.integers(1, 120),
    n_ctx=st.integers(150, 700),
)
@pytest.mark.slow
def test_a_prompt_is_never_longer_than_the_window(tmp_path_factory, lengths, asked, n_ctx):
    exchanges = [
        Exchange("question " * q, "answer. " * a, sources=(SourceText(1, "T", "some words. " * s, "d"),))
        for q, a, s in lengths
    ]
    model = FakeModel("The Nile.", n_ctx=n_ctx)
    with open_rag(tmp_path_factory.mktemp("kb"), model=model, max_tokens=20) as rag:
        rag.add_text(NILE)
        try:
            explanation = rag.chat(exchanges).explain("long Nile " * asked)
        except BudgetError as error:
            assert error.needed > error.available
        else:
            assert explanation.prompt_tokens + explanation.max_tokens <= n_ctx
            assert model.count_tokens(explanation.prompt) + 1 == explanation.prompt_tokens


def test_each_model_of_a_cascade_reads_the_turns_in_its_own_window(tmp_path):
    small, large = FakeModel(reply, name="small", n_ctx=400), FakeModel(reply, name="large", n_ctx=4000)
    cascade = Cascade([small, large], threshold=1.0)
    with open_tower(tmp_path, model=cascade, max_tokens=30) as rag:
        chat = rag.chat()
        for _ in range(6):
            chat.ask(TALL)
    assert len(small.prompts) == len(large.prompts) == 6
    assert max(small.count_tokens(prompt) for prompt in small.prompts) < 400 - 30
    assert large.prompts[-1].count("<assistant>") == 6


# Saved and restored


def test_a_saved_conversation_continues(rag, tmp_path):
    chat = rag.chat()
    chat.ask(TALL)
    chat.save(tmp_path / "chat.json")
    restored = rag.chat(tmp_path / "chat.json")
    assert restored.exchanges == chat.exchanges
    assert restored.explain("Who built it?").prompt == chat.explain("Who built it?").prompt


@pytest.mark.parametrize(
    "damage", ["", "{", "[]", "null", '{"format": "leanrag conversation", "version": 2}', "cut", "edit"]
)
def test_a_damaged_file_is_a_typed_error_that_names_it(rag, tmp_path, damage):
    chat, file = rag.chat(), tmp_path / "chat.json"
    chat.ask(TALL)
    chat.save(file)
    text = file.read_text(encoding="utf-8")
    if damage == "cut":
        damage = text[: len(text) // 2]
    if damage == "edit":
        fields = json.loads(text)
        fields["exchanges"][0]["answer"] = "No."
        damage = json.dumps(fields)
    file.write_text(damage, encoding="utf-8")
    with pytest.raises(StorageError, match=r"chat\.json"):
        rag.chat(file)


def test_a_missing_file_is_a_typed_error(rag, tmp_path):
    with pytest.raises(StorageError, match=r"none\.json"):
        rag.chat(tmp_path / "none.json")


# Messages of others


def test_messages_become_exchanges(rag):
    chat = rag.chat(
        [Message("user", TALL), Message("user", "Please."), Message("assistant", "330 metres."), Message("user", "Why?"),
         Message("assistant", "Because.")]
    )  # fmt: skip
    assert chat.exchanges == (Exchange(f"{TALL}\nPlease.", "330 metres."), Exchange("Why?", "Because."))


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([Message("system", "Be rude.")], "profile"),
        ([Message("assistant", "Hello.")], "begin with"),
        ([Message("user", "Hello?")], "end with"),
        ([Message("user", "Hello?"), Exchange("a?", "b")], "sequence of"),
        ([{"role": "user"}], "sequence of"),
    ],
)
def test_other_messages_are_refused(rag, history, message):
    with pytest.raises(ConfigurationError, match=message):
        rag.chat(history)


def test_options_hold_for_each_question_and_are_checked_at_once(rag):
    chat = rag.chat(k=1, max_tokens=20)
    assert chat.explain(TALL).max_tokens == 20
    assert len(chat.explain(TALL).hits) == 1
    assert chat.explain(TALL, max_tokens=30).max_tokens == 30
    with pytest.raises(ConfigurationError):
        rag.chat(k=0)
    with pytest.raises(ConfigurationError):
        rag.chat(history_tokens=-1)
    with pytest.raises(TypeError, match="colour"):
        rag.chat(colour="red")


# The cache


def test_the_same_words_after_other_words_are_another_question(tmp_path):
    with AnswerCache(tmp_path / "answers.db") as cache, open_tower(tmp_path / "kb", cache=cache) as rag:
        model = rag.chat()._asking.readers[0].model
        for _ in range(2):
            chat = rag.chat()
            chat.ask(TALL)
            chat.ask("Who built it?")
        assert len(model.prompts) == 2  # the second conversation is the first again
        chat = rag.chat()
        chat.ask("How long is the Nile?")
        chat.ask("Who built it?")
        assert len(model.prompts) == 4


# A model rewrites what words do not complete

WAR = [Exchange("When did France attack Algeria?", "In 1830.")]


def rewriting(rewritten, **options):
    return FakeModel(lambda prompt: rewritten if "Rewrite" in prompt else "The Nile is 6,650 km long.", **options)


@pytest.mark.parametrize(
    ("rewritten", "asked", "method"),
    [
        ("What did France lose?", "What did France lose?", "model"),
        ('"What did France lose?"\nIt lost.', "What did France lose?", "model"),
        ("What did Germany lose?", "What did it lose? (France, Algeria)", "words"),  # nobody spoke of Germany
        ("France attacked.", "What did it lose? (France, Algeria)", "words"),  # another question
        ("What did it lose?", "What did it lose? (France, Algeria)", "words"),
        ("", "What did it lose? (France, Algeria)", "words"),
    ],
)
def test_a_rewritten_question_has_the_words_of_the_conversation(tmp_path, rewritten, asked, method):
    with open_rag(tmp_path, model=rewriting(rewritten)) as rag:
        rag.add_text(NILE)
        answer = rag.chat(WAR, rewrites=True).ask("What did it lose?")
    details = stage(answer, "follow-up")
    assert (details["question"], details["method"], details["model"]) == (asked, method, "fake")
    first, *others = answer.steps
    assert (first.outcome, first.text) == ("rewrote", asked)
    assert first.usage.prompt_tokens == details["prompt_tokens"] > 0
    assert answer.usage == sum((step.usage for step in others), first.usage)
    rows = rows_of(answer)
    assert sum(row.prompt_tokens for row in rows) == answer.usage.prompt_tokens
    assert [row.outcome for row in rows if row.prompt_tokens] == ["rewrote", "kept"]


def test_an_explanation_asks_no_model(tmp_path):
    model = rewriting("What did France lose?")
    with open_rag(tmp_path, model=model) as rag:
        rag.add_text(NILE)
        assert "(France, Algeria)" in rag.chat(WAR, rewrites=True).explain("What did it lose?").prompt
    assert model.prompts == []


def test_a_model_is_not_asked_for_what_words_complete(tmp_path):
    model = rewriting("What?")
    with open_rag(tmp_path, model=model) as rag:
        rag.add_text(NILE)
        assert stage(rag.chat(WAR, rewrites=True).ask("And in 1930?"), "follow-up")["method"] == "words"
        assert "model" not in stage(rag.chat(WAR).ask("What did it lose?"), "follow-up")
    assert len(model.prompts) == 2


def test_a_rewriting_that_fails_leaves_the_words(tmp_path):
    with open_rag(tmp_path, model=rewriting("What did France lose?", n_ctx=140), max_tokens=20) as rag:
        rag.add_text(NILE)
        long = [Exchange("When did France attack Algeria? " * 8, "In 1830. " * 20)]
        answer = rag.chat(long, rewrites=True, history_tokens=0).explain("it?")
    assert answer.prompt_tokens <= 140
