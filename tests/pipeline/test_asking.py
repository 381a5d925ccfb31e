"""The one way of a question: its stages in order, what each stage may be replaced by, and what it costs."""

import asyncio
import dataclasses
import datetime
import gc

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import leanrag
from leanrag import Cascade, ConfigurationError, Document, GenerationCancelled, GenerationError, Limits, Prices, Usage
from leanrag.compression.extractive import ExtractiveCompressor
from leanrag.pipeline.turn import NO_ANSWER
from leanrag.remote import RemoteUsage
from leanrag.retrieval.index import FlatIndex
from leanrag.retrieval.retrievers import BM25Retriever, DenseRetriever
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Chunk, Hit
from tests.examples import max_examples
from tests.pipeline.test_profiles import PROFILE
from tests.stories import Reporting

PARK = "Releases are signed off by Ada Park. She works in Oslo and likes trains."
NILE = "The Nile is 6,650 km long. It flows through eleven countries."
SURE = "Releases are signed off by Ada Park."
UNSURE = "Bananas grow in Brazil since 1999."
QUESTION = "Who signs off the releases?"
ONE_MODEL = ["budget", "pack", "prompt", "generate", "ground", "confidence"]


def open_rag(folder, *models, prices=(), **options):
    model = Cascade(models, prices=prices) if len(models) > 1 or prices else models[0] if models else FakeModel(SURE)
    rag = leanrag.open(folder, model=model, embedder=options.pop("embedder", None) or HashEmbedder(), **options)
    rag.add(Document(PARK, id="park", metadata={"year": 2026}), Document(NILE, id="nile", metadata={"year": 2025}))
    return rag


class DearModel(FakeModel):
    """Charges a cent a token."""

    def price(self, usage):
        return usage.total_tokens / 100


class UnpricedModel(FakeModel):
    """Charges, and does not say how much."""

    def price(self, usage):
        return None


class Broken(FakeModel):
    def stream(self, prompt, options):
        raise GenerationError("the power is out", model=self.name)


# The way


def test_the_stages_of_each_model_are_in_order_and_the_search_is_done_once(tmp_path):
    with open_rag(tmp_path, FakeModel(UNSURE, name="a"), FakeModel(UNSURE, name="b"), FakeModel(SURE, name="c")) as rag:
        answer = rag.ask(QUESTION)
    names = [stage.name for stage in answer.trace]
    assert names == [*ONE_MODEL[:1], "retrieve", *ONE_MODEL[1:], *ONE_MODEL, *ONE_MODEL]


def test_one_model_is_a_cascade_of_one(tmp_path):
    with open_rag(tmp_path, FakeModel(SURE, name="only")) as rag:
        plain = rag.ask(QUESTION)
    with leanrag.open(tmp_path, model=Cascade([FakeModel(SURE, name="only")]), embedder=HashEmbedder()) as rag:
        of_cascade = rag.ask(QUESTION)

    def without_seconds(answer):
        return dataclasses.replace(answer, trace=(), steps=(dataclasses.replace(answer.steps[0], seconds=0.0),))

    assert without_seconds(plain) == without_seconds(of_cascade)
    assert [(step.model, step.outcome) for step in plain.steps] == [("only", "kept")]


@max_examples(30, suppress_health_check=list(HealthCheck))
@given(windows=st.lists(st.sampled_from([60, 90, 130, 2048]), min_size=1, max_size=3), words=st.integers(1, 30))
def test_an_explanation_is_what_the_first_model_that_has_room_gets(tmp_path_factory, windows, words):
    models = [FakeModel(SURE, name=str(i), n_ctx=n_ctx) for i, n_ctx in enumerate(windows)]
    question = "Who signs off? " * words
    with open_rag(tmp_path_factory.mktemp("kb"), *models) as rag:
        try:
            plan = rag.explain(question, max_tokens=20)
        except leanrag.BudgetError:
            with pytest.raises(leanrag.BudgetError):
                rag.ask(question, max_tokens=20)
            return
        assert not any(model.prompts for model in models)
        rag.ask(question, max_tokens=20)
    first = next(model for model in models if model.prompts)
    assert (plan.model, plan.prompt) == (first.name, first.prompts[0])


def test_an_unknown_option_is_refused(tmp_path):
    with open_rag(tmp_path) as rag, pytest.raises(TypeError, match="'temprature' is not an option of a question"):
        rag.ask(QUESTION, temprature=1)


def test_no_chunks_are_asked_for(tmp_path):
    with open_rag(tmp_path) as rag:
        with pytest.raises(ConfigurationError, match="`k` must be at least 1, got 0"):
            rag.search(QUESTION, k=0)
        for ask in (rag.ask, rag.stream, rag.explain):
            for name in ("k", "context_tokens", "max_tokens"):
                with pytest.raises(ConfigurationError, match=f"`{name}` must be at least 1, got 0"):
                    ask(QUESTION, **{name: 0})
        with pytest.raises(ConfigurationError, match="`k` must be at least"):
            rag.search(QUESTION, k=-1)


def test_a_router_needs_a_second_model():
    class Router:
        def score(self, question):
            return 1.0

    with pytest.raises(ConfigurationError, match=r"needs at least two models, got only 'only'. Add a larger model"):
        Cascade([FakeModel(name="only")], router=Router(), skip_above=0.5)


# Streams


def test_a_stream_can_be_read_again_and_in_any_order(tmp_path):
    with open_rag(tmp_path) as rag:
        stream = rag.stream(QUESTION)
        assert "".join(stream) == "".join(stream) == SURE
        assert stream.answer.text == rag.ask(QUESTION).text == "Releases are signed off by Ada Park [2]."
        stream = rag.stream(QUESTION)
        assert stream.answer.is_supported
        assert "".join(stream) == SURE


def test_leaving_a_stream_stops_the_model(tmp_path):
    with open_rag(tmp_path, FakeModel("word " * 1000)) as rag:
        stream = rag.stream(QUESTION, max_tokens=900)
        for piece in stream:
            assert piece
            break
        with pytest.raises(GenerationCancelled):
            stream.answer  # noqa: B018


class Watched(FakeModel):
    """Knows whether its last generation was stopped."""

    def stream(self, prompt, options):
        self.last = super().stream(prompt, options)
        return self.last


@pytest.mark.slow
def test_a_stream_that_is_dropped_stops_the_model(tmp_path):
    model = Watched("word " * 1000)
    with open_rag(tmp_path, model) as rag:
        stream = rag.stream(QUESTION, max_tokens=900)
        del stream
        gc.collect()
        assert model.last._is_closed


def test_an_interrupt_stops_the_model(tmp_path):
    class Interrupted(Watched):
        def _say(self, rendered):
            yield "word "
            raise KeyboardInterrupt

    model = Interrupted()
    with open_rag(tmp_path, model) as rag:
        with pytest.raises(KeyboardInterrupt):
            rag.ask(QUESTION)
        assert model.last._is_closed


def test_a_stream_that_failed_fails_again(tmp_path):
    class Failing(FakeModel):
        def _say(self, rendered):
            words = super()._say(rendered)
            yield next(words)
            yield next(words)
            raise GenerationError("no power")

    with open_rag(tmp_path, Failing(SURE)) as rag:
        stream = rag.stream(QUESTION)
        for _ in range(2):
            with pytest.raises(GenerationError, match="no power"):
                "".join(stream)
            with pytest.raises(GenerationError, match="no power"):
                stream.answer  # noqa: B018


def test_text_is_seen_as_it_comes(tmp_path):
    with open_rag(tmp_path) as rag:
        pieces = list(rag.stream(QUESTION))
    assert len(pieces) > 5
    assert "".join(pieces) == SURE


class CountingStream:
    """Counts how often somebody reads its pieces."""

    def __init__(self, stream):
        self._stream, self.n_readers = stream, 0
        self.close = stream.close

    def pieces(self):
        self.n_readers += 1
        return self._stream.pieces()

    def __iter__(self):
        return (piece.text for piece in self.pieces())

    @property
    def result(self):
        return self._stream.result


class Counting(FakeModel):
    def stream(self, prompt, options):
        self.last = CountingStream(super().stream(prompt, options))
        return self.last


def test_a_model_is_read_along_only_if_somebody_reads_its_text(tmp_path):
    model = Counting(SURE)
    with open_rag(tmp_path, model) as rag:
        answer = rag.ask(QUESTION)
        assert model.last.n_readers == 0
        assert asyncio.run(rag.aask(QUESTION)).text == rag.chat().ask(QUESTION).text == answer.text
        assert model.last.n_readers == 0
        stream = rag.stream(QUESTION)
        assert stream.answer.text == answer.text
        assert "".join(stream) == SURE
        assert model.last.n_readers == 0
        assert "".join(rag.stream(QUESTION)) == "".join(rag.chat().stream(QUESTION)) == SURE
        assert model.last.n_readers == 1


def test_thoughts_are_there_after_the_answer_too(tmp_path):
    with open_rag(tmp_path, FakeModel(f"<think>It is Ada.</think>{SURE}")) as rag:
        stream, late = rag.stream(QUESTION), rag.stream(QUESTION)
        along = [(piece.is_thought, piece.text) for piece in stream.pieces()]
        assert late.answer.thoughts == "It is Ada."
        afterwards = [(piece.is_thought, piece.text) for piece in late.pieces()]
    for is_thought in (True, False):
        texts = ["".join(text for kind, text in pieces if kind is is_thought) for pieces in (along, afterwards)]
        assert texts[0] == texts[1]


# Doors


@pytest.mark.parametrize(
    "retriever",
    [DenseRetriever, BM25Retriever, lambda store, index, embedder: BM25Retriever(store)],
    ids=["class", "wrong class", "function"],
)
def test_a_retriever_is_made_over_the_folder(tmp_path, retriever):
    if retriever is BM25Retriever:
        with open_rag(tmp_path, retriever=retriever) as rag, pytest.raises(TypeError):
            rag.search(QUESTION)
        return
    with open_rag(tmp_path, retriever=retriever) as rag:
        hits = rag.search(QUESTION)
        assert hits[0].chunk.document_id == "park"
        assert (hits[0].dense is None) != (hits[0].bm25 is None)
        assert rag.ask(QUESTION).is_supported


class FixedRetriever:
    """Finds the same text for each question, elsewhere than in the folder."""

    def retrieve(self, question, k, *, where=None):
        self.asked = (question, k, where)
        return [Hit(Chunk("elsewhere", 0, len(PARK), PARK), 1.0)][:k]


def test_a_retriever_may_search_elsewhere(tmp_path):
    retriever = FixedRetriever()
    with leanrag.open(tmp_path, model=FakeModel(SURE), embedder=HashEmbedder(), retriever=retriever) as rag:
        answer = rag.ask(QUESTION, k=3, where={"year": 2026})
        assert answer.citations[0].document_id == "elsewhere"
        assert retriever.asked == (QUESTION, 3, {"year": 2026})
        retriever.retrieve = lambda *_, **__: []
        assert rag.ask(QUESTION).text == NO_ANSWER


@pytest.mark.parametrize("index", [FlatIndex, FlatIndex(64)], ids=["class", "object"])
def test_an_index_catches_up_with_the_folder(tmp_path, index):
    with open_rag(tmp_path, index=index) as rag, open_rag(tmp_path) as usual:
        for question in (QUESTION, "How long is the Nile?"):
            assert rag.search(question) == usual.search(question)
        rag.remove("park")
        rag.add_text("Holidays are booked with Bo.", id="bo")
        found = rag.search("Who books holidays?")
        assert found == usual.search("Who books holidays?")
        assert [hit.chunk.document_id for hit in found] == ["bo", "nile"]


def test_a_reranker_sees_more_hits_than_are_kept(tmp_path):
    class Reversed:
        def rerank(self, question, hits):
            self.seen = len(hits)
            return hits[::-1]

    reranker = Reversed()
    with open_rag(tmp_path, reranker=reranker) as rag, open_rag(tmp_path) as usual:
        rag.add(*(Document(f"Fact number {n}.", id=f"fact{n}") for n in range(20)))
        assert rag.search(QUESTION, k=2) == usual.search(QUESTION, k=50)[::-1][:2]
        assert reranker.seen == 22
        assert rag.explain(QUESTION, k=2).hits == tuple(rag.search(QUESTION, k=2))


def test_a_chunker_is_handed_in(tmp_path):
    class Lines:
        id = "lines"

        def chunk(self, document):
            text, end = document.text, document.text.index("\n")
            return [Chunk(document.id, a, b, text[a:b]) for a, b in ((0, end), (end + 1, len(text)))]

    with leanrag.open(tmp_path, model=FakeModel(SURE), embedder=HashEmbedder(), chunker=Lines()) as rag:
        rag.add_text("First line.\nSecond line.", id="two")
        assert sorted(hit.chunk.text for hit in rag.search("line")) == ["First line.", "Second line."]


# Cache and ledger


class MemoryCache:
    def __init__(self):
        self.answers, self.keys = {}, []

    def get(self, key):
        self.keys.append(key)
        return self.answers.get(key)

    def put(self, key, answer):
        self.answers[key] = answer


class ListLedger:
    def __init__(self):
        self.answers = []

    def record(self, answer):
        self.answers.append(answer)


def content(answer):
    """An answer without its receipt."""
    return dataclasses.replace(answer, usage=Usage(0, 0), cost=None, trace=(), steps=())


def test_a_cached_answer_is_the_same_and_costs_nothing(tmp_path):
    cache, ledger, model = MemoryCache(), ListLedger(), DearModel(SURE)
    with open_rag(tmp_path, model, cache=cache, ledger=ledger) as rag:
        first, second = rag.ask(QUESTION), rag.ask(QUESTION)
        streamed = rag.stream(QUESTION)
        assert "".join(streamed) == streamed.answer.text == first.text
    assert content(first) == content(second) == content(streamed.answer)
    assert len(model.prompts) == 1
    assert (second.usage.total_tokens, second.cost, second.steps) == (0, 0.0, ())
    assert [(stage.name, dict(stage.details)) for stage in second.trace] == [
        ("cache", {"found": True, "tier": "exact"})
    ]
    assert [stage.name for stage in first.trace][:2] == ["cache", "budget"]
    assert ledger.answers == [first, second, streamed.answer]
    assert sum(answer.cost for answer in ledger.answers) == first.cost == sum(step.cost for step in first.steps) > 0


def test_a_change_of_the_folder_makes_old_answers_unknown(tmp_path):
    model = FakeModel(SURE)
    with open_rag(tmp_path, model, cache=MemoryCache()) as rag:
        rag.ask(QUESTION)
        rag.add_text("Holidays are booked with Bo.", id="bo")
        rag.ask(QUESTION)
        rag.ask(QUESTION)
    assert len(model.prompts) == 2


DAY = datetime.date(2026, 1, 2)
asked = st.fixed_dictionaries(
    {},
    optional={
        "k": st.integers(1, 3),
        "context_tokens": st.sampled_from([50, 300, "auto"]),
        "max_tokens": st.sampled_from([20, 64, "auto"]),
        "style": st.sampled_from(["phrase", "explanation"]),
        "where": st.sampled_from(
            [{}, {"year": 2026}, {"year": 2026.0}, {"year": "2026"}, {"on": True}, {"on": 1}, {"day": DAY}]
        ),
        "temperature": st.sampled_from([0.0, 0.5]),
        "seed": st.sampled_from([1, 2]),
    },
)


@max_examples(60, suppress_health_check=list(HealthCheck))
@given(first=asked, second=asked)
def test_two_questions_share_an_answer_only_when_everything_is_the_same(tmp_path_factory, first, second):
    defaults = {"k": 10, "context_tokens": "auto", "max_tokens": "auto", "style": None, "where": {}, "temperature": 0.0}
    defaults["seed"] = None
    same = repr({**defaults, **first}) == repr({**defaults, **second})  # 1, 1.0 and True filter differently
    is_repeatable = first.get("temperature", 0) == 0 or "seed" in first
    model, cache = FakeModel(SURE), MemoryCache()
    with open_rag(tmp_path_factory.mktemp("kb"), model, cache=cache) as rag:
        rag.ask(QUESTION, **first)
        stages = [stage.name for stage in rag.ask(QUESTION, **second).trace]
    assert (stages == ["cache"]) == (same and is_repeatable)


def test_other_models_templates_stages_and_policies_have_other_keys(tmp_path):
    cache = MemoryCache()
    small, large = FakeModel(SURE, name="small"), FakeModel(SURE, name="large")
    template = leanrag.PromptTemplate(system="", source="{text}\n", question="{question}")
    others = [
        {"model": large},
        {"model": Cascade([small, large])},
        {"model": Cascade([small, large], threshold=0.9)},
        {"template": template},
        {"retriever": DenseRetriever},
        {"abstain_below": 0.1},
        {"style": "phrase"},
        {"profile": PROFILE},
        {"profile": {"small": dataclasses.replace(PROFILE, refusal="")}},
    ]
    for options in [{}, *others, {}]:
        with leanrag.open(tmp_path, embedder=HashEmbedder(), cache=cache, **{"model": small, **options}) as rag:
            rag.add(Document(PARK, id="park"))
            rag.ask(QUESTION)
    assert (
        len(set(cache.keys)) == len({key.sha256 for key in cache.keys}) == len(cache.answers) == 2 * (len(others) + 1)
    )
    assert len({key.scope for key in cache.keys}) == len(others) + 1


def test_what_another_try_might_do_better_is_not_remembered(tmp_path):
    cache = MemoryCache()
    with open_rag(tmp_path, FakeModel(UNSURE, name="small"), Broken(name="large"), cache=cache) as rag:
        assert rag.ask(QUESTION).stopped_by == "outage"
    assert cache.answers == {}


def test_an_explanation_asks_neither_cache_nor_ledger(tmp_path):
    cache, ledger = MemoryCache(), ListLedger()
    with open_rag(tmp_path, cache=cache, ledger=ledger) as rag:
        rag.explain(QUESTION)
    assert (cache.keys, ledger.answers) == ([], [])


# Money


def test_an_unknown_price_makes_the_sum_unknown(tmp_path):
    with open_rag(tmp_path, UnpricedModel(UNSURE, name="small"), DearModel(SURE, name="large")) as rag:
        answer, plan = rag.ask(QUESTION), rag.explain(QUESTION)
    assert answer.model == "large"
    assert [step.cost for step in answer.steps] == [None, answer.steps[1].usage.total_tokens / 100]
    assert (answer.cost, plan.cost) == (None, None)


def test_a_model_without_a_price_adds_nothing(tmp_path):
    with open_rag(tmp_path, FakeModel(UNSURE, name="small"), DearModel(SURE, name="large")) as rag:
        answer = rag.ask(QUESTION)
    assert [step.cost for step in answer.steps] == [None, answer.cost]
    with open_rag(tmp_path, FakeModel(UNSURE, name="small"), FakeModel(SURE, name="large")) as rag:
        assert (rag.ask(QUESTION).cost, rag.explain(QUESTION).cost) == (None, None)


def test_what_fails_before_it_works_costs_nothing(tmp_path):
    class BrokenDear(Broken, DearModel):
        pass

    with open_rag(tmp_path, BrokenDear(name="small"), DearModel(SURE, name="large")) as rag:
        answer = rag.ask(QUESTION)
    assert [step.cost for step in answer.steps] == [0.0, answer.cost]


def test_a_local_model_may_have_a_price_and_stays_local(tmp_path):
    prices = [Prices(watts=36, per_kwh=0.5), None]
    small, large = (
        Reporting(UNSURE, name="small", says={"prefill_seconds": 6.0, "decode_seconds": 4.0}),
        FakeModel(SURE, name="large"),
    )
    with open_rag(tmp_path, small, large, prices=prices) as rag:
        answer, plan = rag.ask(QUESTION), rag.explain(QUESTION)
    assert answer.steps[0].cost == answer.cost == pytest.approx(36 * 10 / 3.6e6 * 0.5)
    assert answer.steps[1].cost is None
    assert plan.cost is None  # nobody knows how long it will work
    cascade = Cascade([small, large], prices=prices, limits=Limits(joules=0, watts=36))
    with leanrag.open(tmp_path, model=cascade, embedder=HashEmbedder()) as rag:
        assert rag.ask(QUESTION).stopped_by == "joules"


@max_examples(30, suppress_health_check=list(HealthCheck))
@given(sure=st.integers(0, 2), max_tokens=st.integers(1, 40), context_tokens=st.integers(25, 80))
def test_no_question_costs_more_than_its_explanation_says(tmp_path_factory, sure, max_tokens, context_tokens):
    models = [DearModel(SURE if i == sure else UNSURE, name=str(i)) for i in range(3)]
    options = {"max_tokens": max_tokens, "context_tokens": context_tokens}
    with open_rag(tmp_path_factory.mktemp("kb"), *models) as rag:
        assert 0 < rag.ask(QUESTION, **options).cost <= rag.explain(QUESTION, **options).cost


def test_what_is_not_found_costs_nothing(tmp_path):
    with open_rag(tmp_path, DearModel(SURE)) as rag:
        assert rag.explain(QUESTION, where={"year": 1}).cost == rag.ask(QUESTION, where={"year": 1}).cost == 0.0


def test_usage_of_a_remote_model_keeps_its_fields_in_the_sum(tmp_path):
    class Remote(Reporting, DearModel):
        pass

    remote = Remote(SURE, name="large", says={"usage": RemoteUsage(50, 5, counted_prompt_tokens=48)})
    with open_rag(tmp_path, FakeModel(UNSURE, name="small"), remote) as rag:
        answer = rag.ask(QUESTION)
    local = answer.steps[0].usage
    assert answer.usage == local + RemoteUsage(50, 5, counted_prompt_tokens=48)
    assert answer.usage.counted_prompt_tokens == local.prompt_tokens + 48


def test_compressing_pays_where_the_tokens_that_it_saves_cost_money(tmp_path):
    text = " ".join([PARK, NILE, *(f"Fact {n} of the handbook is that room {n} is blue." for n in range(30))])
    for model, reason in ((DearModel(SURE), "cheaper"), (FakeModel(SURE), "unknown")):
        with leanrag.open(
            tmp_path, model=model, embedder=HashEmbedder(), compressor=ExtractiveCompressor(), context_tokens=60
        ) as rag:
            rag.add(Document(text, id="long"))
            details = next(stage.details for stage in rag.explain(QUESTION).trace if stage.name == "pack")
        saved_price = details["saved_tokens"] / 100 if reason == "cheaper" else None
        assert (details["gate"], details["compress"]) == (reason, True)
        assert details["saved_price"] == (saved_price and pytest.approx(saved_price))
