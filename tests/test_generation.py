"""A model that writes `stream` has the rest; one suite for lazy streams and for those of another thread."""

import asyncio
import collections
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag.errors import (
    ConfigurationError,
    ContextOverflowError,
    GenerationCancelled,
    GenerationError,
    GenerationTimeout,
    QueueFullError,
)
from leanrag.generation import BaseLanguageModel, PendingStream, PieceStream, gather_results
from leanrag.pending import Pending
from leanrag.protocols import Closable, FromFile, GenerateOptions, LanguageModel, Priced, ScoresText
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import CancelToken, Message

CHAT = [Message("user", "Who goes there?")]


class Spelling(BaseLanguageModel):
    """Writes what it was told, a letter a piece: all that a user must write."""

    def __init__(self, text="I do not know."):
        self.text, self.prompts, self.ended = text, [], False

    def stream(self, prompt, options):
        self.prompts.append(self.render(prompt))
        return PieceStream(self._pieces(), self, prompt, options)

    def _pieces(self):
        try:
            yield from self.text
        finally:
            self.ended = True


class Threaded(Spelling):
    """The same from another thread."""

    def stream(self, prompt, options):
        stream = super().stream(prompt, options)

        class Work(Pending):
            def stop(self):
                stream.close()

        work = Work(timeout_seconds=options.timeout_seconds)

        def compute():
            try:
                for piece in stream:
                    work.emit(piece)
                work.emit(stream.result)
            except GenerationError as error:
                work.emit(error)

        if options.cancel is not None:
            options.cancel.on_cancel(work.cancel)
        threading.Thread(target=compute).start()
        return PendingStream(work, lambda generation: generation, self)


@pytest.fixture(params=[Spelling, Threaded])
def kind(request):
    return request.param


def test_it_has_a_name_a_window_and_counts(kind):
    model = kind()
    assert (model.name, model.n_ctx, model.is_chat) == (kind.__name__, 4096, True)
    assert model.count_tokens("Who goes there?") == 5
    assert model.count(CHAT) == 5 + 4 + 3
    assert model.render(CHAT) == "[user]\nWho goes there?"
    checked: LanguageModel = model
    assert checked.render("as it is") == "as it is"


def test_a_name_of_the_class_or_the_model_stays():
    class Named(Spelling):
        name = "mine"

    class Inherits(Named):
        pass

    class Own(Spelling):
        def __init__(self):
            super().__init__()
            self.name = "own"

    assert (Named().name, Inherits().name, Own().name) == ("mine", "mine", "own")


def test_every_way_of_asking_gives_the_same(kind):
    model = kind("Ada Park.\nShe signs.")

    async def later():
        pieces = [piece async for piece in model.astream(CHAT, max_tokens=50, stop=["\n"])]
        return "".join(pieces), await model.agenerate(CHAT, max_tokens=50, stop=["\n"])

    text, awaited = asyncio.run(later())
    whole = model.generate(CHAT, max_tokens=50, stop=["\n"])
    many = model.generate_many([CHAT, "raw"], max_tokens=50, stop=["\n"])
    stream = model.stream(CHAT, GenerateOptions(50, stop=["\n"]))
    assert {text, awaited.text, whole.text, many[1].text, "".join(stream)} == {"Ada Park."}
    assert (whole.model, whole.finish_reason, whole.seed) == (kind.__name__, "stop", None)
    assert whole.usage.prompt_tokens == model.count(CHAT)
    assert many[1].usage.prompt_tokens == 1
    assert whole.prefill_seconds >= 0 <= whole.decode_seconds
    assert whole.usage.completion_tokens == model.count_tokens("Ada Park.")


def test_max_tokens_ends_it(kind):
    generation = kind("abcdef").generate("x", max_tokens=4)
    assert (generation.text, generation.finish_reason) == ("abcd", "length")
    assert kind("abcd").generate("x", max_tokens=4).finish_reason == "stop"


def test_a_window_that_is_too_small_is_an_error(kind):
    model = kind()
    model.n_ctx = 20
    assert model.generate("x", max_tokens=19).text == model.text[:19]
    with pytest.raises(ContextOverflowError, match="the window of") as caught:
        model.generate("x", max_tokens=20)
    assert (caught.value.needed, caught.value.available) == (21, 20)


def test_messages_are_refused_by_a_model_that_completes_text(kind):
    model = kind()
    model.is_chat = False
    with pytest.raises(ConfigurationError, match="Pass a string"):
        model.generate(CHAT, max_tokens=1)
    assert model.generate("raw", max_tokens=1).text == "I"


def test_cancelling_and_time_limits_end_it(kind):
    cancel = CancelToken()
    cancel.cancel()
    with pytest.raises(GenerationCancelled, match="was cancelled"):
        list(kind("abc").stream("x", GenerateOptions(9, cancel=cancel)))
    with pytest.raises(GenerationTimeout):
        kind("abc").generate("x", max_tokens=9, timeout_seconds=1e-9)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_signal_handler_may_cancel_while_a_callback_is_added(is_first):
    cancel, called = CancelToken(), []

    class Interrupted(collections.deque):
        def append(self, callback):
            if is_first:
                cancel.cancel()
            super().append(callback)
            if not is_first:
                cancel.cancel()

    cancel._callbacks = Interrupted()
    cancel.on_cancel(lambda: called.append(1))
    assert called == [1]
    cancel.cancel()
    assert called == [1]


def test_callbacks_may_cancel_and_add_others():
    cancel, called = CancelToken(), []

    def again():
        cancel.cancel()
        cancel.on_cancel(lambda: called.append("inner"))
        called.append("outer")

    cancel.on_cancel(again)
    cancel.on_cancel(lambda: called.append("last"))
    cancel.cancel()
    assert called == ["last", "inner", "outer"]


def test_cancelling_between_two_pieces_ends_it():
    cancel = CancelToken()
    pieces = iter(Spelling("abc").stream("x", GenerateOptions(9, cancel=cancel)))
    assert next(pieces) == "a"
    cancel.cancel()
    with pytest.raises(GenerationCancelled, match="was cancelled"):
        next(pieces)


def test_what_was_closed_is_read_no_further():
    model = Spelling("abc")
    stream = model.stream("x", GenerateOptions(9))
    assert next(iter(stream)) == "a"
    stream.close()
    assert model.ended
    with pytest.raises(GenerationCancelled):
        stream.result  # noqa: B018


def test_leaving_an_asynchronous_loop_closes_the_iterator():
    reached, left = threading.Event(), threading.Event()

    class Endless(Spelling):
        def _pieces(self):
            yield "a"
            reached.set()
            left.wait()
            yield "b"

    async def leave():
        async for _ in Endless().astream("x", max_tokens=9):
            break

    asyncio.run(leave())
    left.set()


def test_an_error_of_the_users_code_is_a_typed_error(kind):
    class Broken(kind):
        def _pieces(self):
            yield "a"
            raise KeyError("choices")

    stream = Broken().stream("x", GenerateOptions(9))
    for _ in range(2):  # it stays
        with pytest.raises(GenerationError, match=r"Broken failed: KeyError: 'choices'") as caught:
            stream.result  # noqa: B018
        assert isinstance(caught.value.__cause__, KeyError)


@given(st.lists(st.text("ab.", max_size=3), max_size=8), st.lists(st.text("ab.", min_size=1, max_size=3), max_size=3))
def test_pieces_join_to_the_text_before_the_first_stop_string(pieces, stop):
    model = Spelling()
    stream = PieceStream(pieces, model, "x", GenerateOptions(1000, stop=stop))
    shown, text = "".join(stream), "".join(pieces)
    ends = [(text.index(mark) + len(mark), text.index(mark)) for mark in stop if mark in text]
    assert shown == stream.result.text == (text[: min(ends)[1]] if ends else text)
    assert stream.result.usage.completion_tokens == model.count_tokens(shown)


def test_it_answers_questions(tmp_path, kind):
    model = kind("Ada Park signs off releases.")
    with leanrag.open(tmp_path, model=model, embedder=HashEmbedder()) as rag:
        rag.add_text("Releases are signed off by Ada Park.")
        answer = rag.ask("Who signs off releases?")
    assert answer.text.startswith("Ada Park signs off releases")
    assert answer.model == kind.__name__
    assert "Ada Park" in model.prompts[0]


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": 0},
        {"max_tokens": 1, "temperature": -1},
        {"max_tokens": 1, "temperature": float("nan")},
        {"max_tokens": 1, "seed": -1},
        {"max_tokens": 1, "stop": "ab"},
        {"max_tokens": 1, "stop": ["a", ""]},
        {"max_tokens": 1, "timeout_seconds": 0},
    ],
)
def test_options_that_cannot_work_are_refused(options):
    with pytest.raises(ConfigurationError, match="must be"):
        GenerateOptions(**options)


def test_options_are_equal_that_ask_for_the_same_text():
    first = GenerateOptions(5, stop=["a"], cancel=CancelToken(), timeout_seconds=3)
    assert first == GenerateOptions(5, stop=("a",))
    assert hash(first) == hash(GenerateOptions(5, stop=("a",)))
    assert first != GenerateOptions(5, stop=("a",), temperature=1)


# Several at once


def test_a_full_queue_is_emptied_from_its_beginning():
    class Under:
        def __init__(self, item):
            self.item = item

        def close(self):
            pass

        @property
        def result(self):
            running.remove(self.item)
            return self.item

    running, most = [], 0

    def submit(item):
        nonlocal most
        if len(running) == 3:
            raise QueueFullError("full", model="m")
        running.append(item)
        most = max(most, len(running))
        return Under(item)

    assert gather_results(submit, range(10)) == [*range(10)]
    assert (running, most) == ([], 3)


def test_the_first_error_stops_the_others():
    model = FakeModel(lambda prompt: prompt if prompt != "bad" else 1 / 0)
    with pytest.raises(GenerationError, match="division by zero"):
        model.generate_many(["a", "bad", "c"], max_tokens=5)


# Abilities


def test_abilities_are_seen():
    class Charging(FakeModel):
        def price(self, usage):
            return 1.0

        def score_many(self, pairs, **options):
            return []

        path = "model.gguf"

    able = Charging()
    for ability in (Priced, ScoresText, FromFile):
        assert isinstance(able, ability)
        assert not isinstance(FakeModel(), ability)
    assert isinstance(able, Closable)
