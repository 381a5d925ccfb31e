"""The main job with stand-ins: budgets hold, receipts add up, bad input is answered."""

import asyncio
import dataclasses
import os
import re
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st

import leanrag
from leanrag import (
    BudgetError,
    CancelToken,
    ConfigurationError,
    Document,
    DocumentError,
    GenerationCancelled,
    GenerationTimeout,
    IndexMismatchError,
    PromptTemplate,
    StorageError,
)
from leanrag.compression.extractive import ExtractiveCompressor
from leanrag.evidence.budget import TokenBudget
from leanrag.evidence.greedy import GreedyPacker
from leanrag.evidence.packing import CompressingPacker, EvidencePacker
from leanrag.evidence.scoring import SentenceScorer, SentenceVectors
from leanrag.pipeline import opening
from leanrag.pipeline.preparing import fit_prompt_to_budget
from leanrag.pipeline.turn import NO_ANSWER
from leanrag.prompting import CHAT_TEMPLATE, COMPLETION_TEMPLATE
from leanrag.retrieval.store import Store
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Chunk, Hit
from tests.examples import max_examples
from tests.stories import NILE, PARK, Reporting, open_rag


@pytest.fixture
def rag(tmp_path):
    with open_rag(tmp_path / "kb") as rag:
        rag.add(
            Document(PARK, id="park", title="Handbook", metadata={"year": 2026}),
            Document(NILE, id="nile", title="Rivers", metadata={"year": 2025}),
        )
        yield rag


def test_chunks_are_no_longer_than_the_embedder_reads(tmp_path):
    embedder = HashEmbedder(max_tokens=32)
    text = " ".join(f"Sentence number {i} says something of its own." for i in range(40))
    with open_rag(tmp_path / "kb", embedder=embedder) as rag:
        rag.add_text(text)
        lengths = [embedder.count_tokens(hit.chunk.text) for hit in rag.search("What says sentence 7?", k=40)]
    assert len(lengths) > 10
    assert max(lengths) <= 32


# Answers


def test_an_answer_has_marks_citations_and_a_receipt(rag):
    answer = rag.ask("Who signs off the releases?")
    assert answer.text.startswith("Releases are signed off by Ada Park [")
    assert answer.is_supported
    (citation,) = answer.citations
    document = rag.get_document(citation.document_id)
    assert document.id == "park"
    assert citation.quote == document.text[citation.start : citation.end] == "Releases are signed off by Ada Park."
    assert answer.model == "fake"
    assert answer.cost is None
    stages = ["budget", "retrieve", "pack", "prompt", "generate", "ground", "confidence"]
    assert [stage.name for stage in answer.trace] == stages
    assert answer.seconds == sum(stage.seconds for stage in answer.trace) > 0
    assert str(answer) == answer.text


def test_an_answer_that_the_sources_do_not_carry_is_marked(tmp_path):
    with open_rag(tmp_path, "Brazil won the cup.") as rag:
        rag.add_text(PARK)
        answer = rag.ask("Who won the football cup?")
    assert not answer.is_supported
    assert str(answer) == "Brazil won the cup.\n(Not supported by the sources.)"


def test_the_prompt_of_an_answer_is_that_of_its_explanation(rag):
    plan, answer = rag.explain("Who signs off?"), rag.ask("Who signs off?")
    assert plan.prompt == answer.prompt
    assert plan.prompt_tokens == answer.usage.prompt_tokens
    assert plan.packing == answer.packing
    assert [hit.chunk.document_id for hit in plan.hits] == ["park", "nile"]
    assert (plan.model, plan.max_tokens) == ("fake", 64)


def test_explaining_generates_nothing(tmp_path):
    model = FakeModel()
    with open_rag(tmp_path, model=model) as rag:
        rag.add_text(PARK)
        rag.explain("Who signs off?")
    assert model.prompts == []


def test_a_stream_is_the_answer_in_pieces(rag):
    stream = rag.stream("Who signs off the releases?")
    assert "".join(stream) == "Releases are signed off by Ada Park."
    assert stream.answer == stream.answer
    assert stream.answer.citations == rag.ask("Who signs off the releases?").citations


def test_asyncio_twins(rag):
    async def run():
        answer = await rag.aask("Who signs off the releases?", max_tokens=50)
        pieces = [piece async for piece in rag.astream("Who signs off the releases?")]
        return answer, "".join(pieces)

    answer, text = asyncio.run(run())
    assert answer.citations == rag.ask("Who signs off the releases?").citations
    assert text == answer.generation.text


def test_filters_choose_documents(rag):
    assert [hit.chunk.document_id for hit in rag.search("Nile", where={"year": 2026})] == ["park"]
    answer = rag.ask("Nile?", where={"year": 1999})
    assert (answer.text, answer.model, answer.is_supported, answer.usage.total_tokens) == (NO_ANSWER, None, False, 0)
    assert str(answer) == NO_ANSWER
    assert list(rag.stream("Nile?", where={"year": 1999})) == [NO_ANSWER]


def test_a_base_model_gets_a_completion_prompt(tmp_path):
    model = FakeModel("Ada Park\nQuestion: more", is_chat=False)
    with open_rag(tmp_path, model=model) as rag:
        rag.add_text(PARK)
        assert rag.ask("Who signs off the releases?").text == "Ada Park [1]"
    assert model.prompts[0].startswith(COMPLETION_TEMPLATE.system)


def test_a_template_of_ones_own(tmp_path):
    template = PromptTemplate(system="S", source="<<{text}>>", question="Q={question}")
    with open_rag(tmp_path, template=template) as rag:
        rag.add_text(PARK)
        assert f"<<{PARK}>>Q=Who?" in rag.explain("Who?").prompt


# Budgets

MODELS = {
    (size, is_chat): FakeModel(n_ctx=size, is_chat=is_chat) for size in (64, 200, 1000) for is_chat in (True, False)
}
PACKERS = {
    "greedy": GreedyPacker(),
    "evidence": EvidencePacker(SentenceScorer()),
    "vectors": EvidencePacker(SentenceScorer(SentenceVectors(HashEmbedder(dim=8, max_tokens=64)))),
    "headings": EvidencePacker(SentenceScorer(), headings=True),
    "compressing": CompressingPacker(ExtractiveCompressor()),
}
SENTENCES = [
    "The tower, which is old, is in Paris.",
    "It opened in 1889.",
    "Bread is sold.",
    "\n\n",
    "| a | b |\n",
    "x" * 40,
]
texts = (
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=300)
    | st.lists(st.sampled_from(SENTENCES), max_size=9).map(" ".join)
).filter(str.strip)


cases = given(
    documents=st.lists(texts, max_size=6),
    question=texts,
    model=st.sampled_from(sorted(MODELS)).map(MODELS.get),
    answer=st.integers(1, 80),
    limit=st.one_of(st.none(), st.integers(1, 400)),
    packer=st.sampled_from(sorted(PACKERS)),
)


def check_window(documents, question, model, answer, limit, packer):
    """A packed prompt and its reserved answer fit the window, or the error says by how much they do not."""
    template = CHAT_TEMPLATE if model.is_chat else COMPLETION_TEMPLATE
    hits = [Hit(Chunk(f"d{i}", 0, len(text), text, title=f"t{i}"), 1 / (i + 1)) for i, text in enumerate(documents)]
    try:
        budget = TokenBudget(model.n_ctx, answer, model.count(template.build(question, [])), limit)
        packing, prompt, tokens = fit_prompt_to_budget(
            question, hits, budget, PACKERS[packer], template, model, model.count_tokens
        )
    except BudgetError as error:
        assert error.needed > error.available
        return
    if prompt is None:
        assert not documents
        return
    assert tokens == model.count(prompt)
    assert tokens + answer <= model.n_ctx
    assert limit is None or tokens <= budget.fixed + limit
    generation = model.generate(prompt, max_tokens=answer)  # raises ContextOverflowError when it does not fit
    assert generation.usage.prompt_tokens == tokens
    for item in packing.items:
        for segment in item.segments:
            shown = item.text[segment.start : segment.end]
            assert shown == item.hit.chunk.text[segment.source_start : segment.source_end]


@max_examples(200, suppress_health_check=list(HealthCheck))
@cases
@example(documents=["word " * 50], question="x " * 10, model=MODELS[64, True], answer=1, limit=None, packer="greedy")
def test_no_prompt_exceeds_the_window(documents, question, model, answer, limit, packer):
    check_window(documents, question, model, answer, limit, packer)


@pytest.mark.slow
@max_examples(10_000, suppress_health_check=list(HealthCheck))
@cases
def test_no_prompt_of_ten_thousand_exceeds_the_window(documents, question, model, answer, limit, packer):
    check_window(documents, question, model, answer, limit, packer)


@max_examples(25, suppress_health_check=list(HealthCheck))
@given(
    documents=st.lists(texts, min_size=1, max_size=4),
    question=texts,
    answer=st.integers(1, 60),
    limit=st.integers(1, 200),
    packer=st.sampled_from(sorted(PACKERS)),
)
def test_no_prompt_exceeds_the_window_of_a_real_tokenizer(tiny, documents, question, answer, limit, packer):
    hits = [Hit(Chunk(f"d{i}", 0, len(text), text), 1 / (i + 1)) for i, text in enumerate(documents)]
    try:
        budget = TokenBudget(tiny.n_ctx, answer, tiny.count(CHAT_TEMPLATE.build(question, [])), limit)
        _, prompt, tokens = fit_prompt_to_budget(
            question, hits, budget, PACKERS[packer], CHAT_TEMPLATE, tiny, tiny.count_tokens
        )
    except BudgetError as error:
        assert error.needed > error.available
        return
    assert tiny.generate(prompt, max_tokens=answer).usage.prompt_tokens == tokens <= tiny.n_ctx - answer


def test_a_question_longer_than_the_window(rag):
    with pytest.raises(BudgetError, match="Shorten the question") as caught:
        rag.ask("why " * 2000)
    assert caught.value.available == 2048


def test_a_budget_too_small_for_one_source(rag):
    with pytest.raises(BudgetError, match="the least that can be shown") as caught:
        rag.ask("Who signs off the releases?", context_tokens=5)
    assert caught.value.needed > caught.value.available == 5


# Sentences, and what a compressor makes of the hits


class CountingEmbedder(HashEmbedder):
    """Knows what it embedded."""

    def __init__(self):
        super().__init__()
        self.documents, self.queries = [], []

    def embed_documents(self, texts):
        self.documents += texts
        return super().embed_documents(texts)

    def embed_queries(self, texts):
        self.queries += texts
        return HashEmbedder.embed_documents(self, texts)


def test_a_question_embeds_itself_and_the_sentences_of_new_chunks_once(tmp_path):
    embedder = CountingEmbedder()
    with open_rag(tmp_path, embedder=embedder) as rag:
        rag.add(Document(PARK, id="park"), Document(NILE, id="nile"))
        embedder.documents.clear()
        first = rag.ask("Who signs off the releases?")
        assert first.is_supported
        sentences = list(embedder.documents)
        assert "It flows through eleven countries." in sentences
        assert len(set(sentences)) == len(sentences)
        assert rag.ask("Who signs off the releases?").packing == first.packing
    with open_rag(tmp_path, embedder=embedder) as rag:
        assert rag.explain("Who signs off the releases?").packing == first.packing
    assert embedder.queries == ["Who signs off the releases?"] * 2  # once for each folder that is open
    assert embedder.documents == sentences


def test_sentences_of_a_folder_that_lacks_their_vectors_are_embedded_when_asked(tmp_path):
    with open_rag(tmp_path, packer=GreedyPacker()) as rag:
        rag.add(Document(NILE, id="nile"))
    embedder = CountingEmbedder()
    with open_rag(tmp_path, embedder=embedder) as rag:
        rag.ask("How long is the Nile?")
    assert embedder.documents == ["The Nile is 6,650 km long.", "It flows through eleven countries."]


def test_few_tokens_hold_the_sentence_with_the_answer(tmp_path):
    with open_rag(tmp_path, "6,650 km") as rag:
        rag.add(Document(PARK, id="park"), Document(NILE, id="nile"))
        answer = rag.ask("How long is the Nile?", context_tokens=24)
    (item,) = answer.packing.items
    assert (item.text, item.action) == ("The Nile is 6,650 km long.", "extracted")
    assert answer.packing.tokens <= 24
    assert [dropped.hit.chunk.document_id for dropped in answer.packing.dropped] == ["park"]
    assert answer.citations[0].quote == item.text


LONG = " ".join([PARK, NILE, *(f"Fact {n} of the handbook is that room {n} is blue." for n in range(30))])


class AheadCompressor:
    """Thins as `ExtractiveCompressor` does; computes ahead how long chunks are, and says that it took a long time."""

    name = "ahead"

    def __init__(self, stored=None, seconds=0.0):
        self.stored, self.seconds, self.read = stored, seconds, []

    @property
    def feature(self):
        return self

    def compute(self, chunks):
        return [str(len(chunk.text)).encode() for chunk in chunks]

    def with_stored(self, stored):
        self.stored = stored
        return self

    def compress(self, sources, **options):
        self.read += [(len(hit.chunk.text), self.stored(hit.chunk)) for hit in sources]
        result = ExtractiveCompressor().compress(sources, **options)
        return dataclasses.replace(result, method=self.name, seconds=self.seconds)


def pack_details(answer):
    return next(stage.details for stage in answer.trace if stage.name == "pack")


def test_a_compressor_thins_the_hits_with_what_was_computed_when_they_were_added(tmp_path):
    compressor = AheadCompressor()
    with open_rag(tmp_path, compressor=compressor) as rag:
        rag.add(Document(LONG, id="long"))
        answer = rag.ask("Who signs off the releases?", context_tokens=60)
    assert answer.packing.compression.method == "ahead"
    assert answer.packing.tokens <= 60
    assert compressor.read
    assert all(data == str(length).encode() for length, data in compressor.read)
    details = pack_details(answer)
    assert (details["gate"], details["compress"], details["saved_seconds"]) == ("unknown", True, None)
    assert details["saved_tokens"] > 100


@pytest.mark.parametrize(("seconds", "gate", "method"), [(1000.0, "slower", None), (0.001, "faster", "ahead")])
def test_the_gate_learns_whether_compressing_pays(tmp_path, seconds, gate, method):
    model = Reporting("Ada Park.", says={"prefill_seconds": 1.0})
    with open_rag(tmp_path, model=model, compressor=AheadCompressor(seconds=seconds)) as rag:
        rag.add(Document(LONG, id="long"))
        first, second = (
            rag.ask(question, context_tokens=100) for question in ("Who signs off?", "How long is the Nile?")
        )
    assert (pack_details(first)["gate"], first.packing.compression.method) == ("unknown", "ahead")
    details = pack_details(second)
    assert (details["gate"], details["compress"]) == (gate, method is not None)
    assert details["cost_seconds"] > 0 < details["saved_seconds"]
    assert getattr(second.packing.compression, "method", None) == method
    assert second.packing.items


def test_what_fits_is_not_compressed(tmp_path):
    compressor = AheadCompressor()
    with open_rag(tmp_path, compressor=compressor) as rag:
        rag.add(Document(PARK, id="park"))
        answer = rag.ask("Who signs off the releases?")
    assert (pack_details(answer)["gate"], answer.packing.compression, compressor.read) == ("fits", None, [])


@pytest.mark.parametrize(
    ("model", "seconds", "message"),
    [
        ("smollm2-135m", -1, "`keep_alive` must be at least 0, got -1"),
        (FakeModel(), 5, "`keep_alive=5` has no effect on a model that is already loaded. Pass the name or file"),
    ],
    ids=["negative", "loaded"],
)
def test_a_time_to_keep_a_model_that_cannot_be(tmp_path, model, seconds, message):
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        leanrag.open(tmp_path / "kb", embedder=HashEmbedder(), model=model, keep_alive=seconds)


def test_a_priority_that_does_not_exist(tmp_path):
    with pytest.raises(ConfigurationError, match="`priority` must be one of 'normal', 'background', got 'idle'"):
        leanrag.open(tmp_path / "kb", embedder=HashEmbedder(), priority="idle")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no niceness")
def test_a_model_in_the_background(tmp_path, tiny_gguf):
    with leanrag.open(tmp_path / "kb", model=tiny_gguf, embedder=HashEmbedder(), priority="background") as rag:
        rag.add_text("The sun rises.")
        rag.ask("What rises?", max_tokens=2)
        owners = [thread for thread in threading.enumerate() if thread.name == f"leanrag {tiny_gguf.name}"]
        assert max(os.getpriority(os.PRIO_PROCESS, owner.native_id) for owner in owners) >= 10


def test_a_packer_and_a_compressor(tmp_path):
    with pytest.raises(ConfigurationError, match="either `packer` or `compressor`"):
        open_rag(tmp_path / "kb", packer=GreedyPacker(), compressor=ExtractiveCompressor())
    assert not (tmp_path / "kb").exists()


# Bad input


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question(rag, question):
    for ask in (rag.ask, rag.search, rag.explain):
        with pytest.raises(ConfigurationError, match="non-empty text"):
            ask(question)


def test_an_empty_folder_says_so(tmp_path):
    with open_rag(tmp_path) as rag, pytest.raises(ConfigurationError, match=r"has no documents\. Add some first with"):
        rag.ask("anything?")


@pytest.mark.parametrize("options", [{"k": 0}, {"context_tokens": 0}, {"max_tokens": -1}])
def test_impossible_options(tmp_path, options):
    with pytest.raises(ConfigurationError, match=f"`{next(iter(options))}` must be at least 1"):
        open_rag(tmp_path, **options)


def test_another_embedder_for_an_existing_folder(tmp_path):
    with open_rag(tmp_path) as rag:
        rag.add_text(PARK)
    with open_rag(tmp_path, embedder=HashEmbedder(dim=32)) as rag:
        with pytest.raises(IndexMismatchError, match="hash-64"):
            rag.ask("Who?")
        with pytest.raises(IndexMismatchError, match="hash-32"):
            rag.add_text(NILE)
    with open_rag(tmp_path) as rag:
        assert rag.ask("Who signs off the releases?").is_supported


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(StorageError):
        open_rag(tmp_path / "missing", create=False)
    assert not (tmp_path / "missing").exists()


def test_an_unknown_model_and_embedder(tmp_path):
    with pytest.raises(ConfigurationError, match="Did you mean 'smollm2-135m'"):
        leanrag.open(tmp_path, model="smolm2-135m", embedder=HashEmbedder())
    with pytest.raises(ConfigurationError, match="Did you mean 'gemma3-270m'"):
        leanrag.open(tmp_path, model=leanrag.Cascade(["smollm2-135m", "gemma-270m"]), embedder=HashEmbedder())
    assert not list(tmp_path.iterdir())
    rag = leanrag.open(tmp_path, model=FakeModel("x"), embedder="all-minilm-l6")
    with rag, pytest.raises(ConfigurationError, match="Did you mean 'all-minilm-l6-v2'"):
        rag.add_text(PARK)


@pytest.mark.parametrize("model", ["all-minilm-l6-v2", "cl100k_base", "ms-marco-minilm-l12-v2"])
def test_a_known_model_that_cannot_answer(tmp_path, model):
    with pytest.raises(
        ConfigurationError, match=f"'{model}' cannot answer .*The known models that answer are smollm2-135m"
    ):
        leanrag.open(tmp_path, model=model, embedder=HashEmbedder())


@pytest.mark.parametrize("model", [3, [], ["smollm2-135m", "gemma3-270m"]])
def test_what_is_no_model(tmp_path, model):
    with pytest.raises(ConfigurationError, match=r"a model must be a name, .*pass `leanrag.Cascade\(\[...\]\)`"):
        leanrag.open(tmp_path, model=model, embedder=HashEmbedder())
    assert not list(tmp_path.iterdir())


def test_an_empty_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"`path` must name a folder, got ''\. Pass '\.' for"):
        leanrag.open("", model=FakeModel("x"), embedder=HashEmbedder())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("question", [None, 5, b"Who?", ["Who?"]])
def test_a_question_that_is_no_text(rag, question):
    for ask in (rag.ask, rag.search, rag.explain, rag.stream, rag.chat().ask):
        with pytest.raises(ConfigurationError, match="a question must be a text, got"):
            ask(question)


def test_one_text_is_not_many_questions(rag):
    with pytest.raises(ConfigurationError, match="`questions` must be a list of texts, got 'Who signs"):
        rag.ask_many("Who signs off?")


@pytest.mark.parametrize("source", [None, 3, b"abc", ["a.txt"], ("a.txt", "b.txt")])
def test_what_is_no_source(rag, source):
    with pytest.raises(ConfigurationError, match=r"a source must be a path or a `Document`, got .*`add\(\*paths\)`"):
        rag.add(source)
    with pytest.raises(ConfigurationError, match="`text` must be a text, got"):
        rag.add_text(source)


def test_a_text_instead_of_a_path(rag):
    with pytest.raises(DocumentError, match=r"there is no such file or folder\. Pass a path; `add_text` takes a text"):
        rag.add("Ada Park signs off.")
    with pytest.raises(DocumentError, match=r"it is too long for a path\. `add_text` takes a text") as caught:
        rag.add("Ada Park signs off releases. " * 500)
    assert len(str(caught.value)) < 160


def test_using_a_closed_folder(rag):
    rag.close()
    rag.close()
    with pytest.raises(StorageError, match="closed"):
        rag.ask("Who?")


def test_a_closed_folder_loads_no_model(tmp_path):
    rag = leanrag.open(tmp_path, model="smollm2-135m")
    rag.close()
    for use in (lambda: rag.ask("Who?"), lambda: rag.add_text(PARK), lambda: rag.search("Who?")):
        with pytest.raises(StorageError, match=r"closed; open it again"):
            use()


def test_a_folder_is_closed_again_if_an_argument_cannot_work(tmp_path, monkeypatch):
    stores = []

    def open_store(*arguments, **options):
        stores.append(Store(*arguments, create=options["create"]))
        return stores[0]

    monkeypatch.setattr(opening, "open_store", open_store)
    with pytest.raises(ConfigurationError, match="query_prefix"):
        leanrag.open(tmp_path, model=FakeModel(), embedder=HashEmbedder(), query_prefix="q: ")
    with pytest.raises(StorageError, match="closed; open it again"):
        stores[0].stats()


def test_a_model_that_was_passed_in_stays_open(tmp_path):
    model = FakeModel("x")
    with open_rag(tmp_path, model=model):
        pass
    assert model.generate("x", max_tokens=1).text == "x"


def test_cancelling_and_time_limits(tmp_path):
    cancel = CancelToken()
    cancel.cancel()
    with open_rag(tmp_path, model=FakeModel("a b c d", token_seconds=0.01)) as rag:
        rag.add_text(PARK)
        with pytest.raises(GenerationCancelled):
            rag.ask("Who?", cancel=cancel)
        with pytest.raises(GenerationTimeout):
            rag.ask("Who?", timeout_seconds=0.001)


# Documents


def test_what_is_removed_is_gone(rag):
    assert rag.remove("park") == 1
    assert [hit.chunk.document_id for hit in rag.search("Who signs off the releases?")] == ["nile"]
    with pytest.raises(DocumentError, match="has no document 'park'"):
        rag.remove("park")


def test_removing_checks_before_it_removes(rag):
    with pytest.raises(DocumentError):
        rag.remove("park", "missing")
    assert {record.id for record in rag.documents()} == {"park", "nile"}


def test_another_process_or_handle_sees_what_was_added(tmp_path):
    with open_rag(tmp_path) as first, open_rag(tmp_path) as second:
        first.add_text(NILE, id="nile")
        assert [hit.chunk.document_id for hit in second.search("Nile")] == ["nile"]
        first.add_text(PARK, id="park")
        assert {hit.chunk.document_id for hit in second.search("Nile")} == {"nile", "park"}
        first.remove("nile")
        assert [hit.chunk.document_id for hit in second.search("Nile")] == ["park"]


def test_many_threads_may_ask_and_add(rag):
    errors = []

    def work(number):
        try:
            rag.add_text(f"Fact number {number} is about thing{number}.", id=f"fact{number}")
            assert any(hit.chunk.document_id == f"fact{number}" for hit in rag.search(f"thing{number}"))
            assert rag.ask("Who signs off the releases?").is_supported
        except Exception as error:  # noqa: BLE001 - whatever it is, it is a failure
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(list(rag.documents())) == 10


@pytest.mark.model
@pytest.mark.parametrize("isolation", ["none", "process"])
def test_the_whole_job_without_torch(tmp_path, isolation):
    program = (
        "import sys; sys.modules.update(torch=None, transformers=None, sentence_transformers=None); import leanrag\n"
        "with leanrag.open(sys.argv[1], model='smollm2-135m', isolation=sys.argv[2]) as rag:\n"
        "    rag.add_text('Ada Park signs off releases. The Nile is long.', title='Team')\n"
        "    print(rag.search('Who approves a release?', 1)[0].chunk.title, rag.ask('Who signs off releases?').model)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "kb"), isolation], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stdout) == (0, "Team smollm2-135m\n"), shown.stderr


def test_isolation_is_for_a_model_that_is_loaded_here(tmp_path):
    with pytest.raises(
        ConfigurationError, match="`isolation='process'` has no effect on a model that is already loaded"
    ):
        open_rag(tmp_path, isolation="process")
    with pytest.raises(ConfigurationError, match="`isolation` must be one of 'none', 'process', got 'thread'"):
        open_rag(tmp_path, isolation="thread")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_model_in_a_process_of_its_own(tmp_path, tiny_gguf, tiny):
    answers = []
    for isolation in ("none", "process"):
        with leanrag.open(
            tmp_path / isolation,
            model=tiny_gguf,
            embedder=HashEmbedder(),
            isolation=isolation,
            context_tokens=80,
            max_tokens=8,
        ) as rag:
            rag.add_text("Ada Park signs off releases.")
            answers.append(rag.ask("Who signs?"))
    assert answers[0].generation.token_ids == answers[1].generation.token_ids
    assert answers[1].prompt == answers[0].prompt


def test_a_token_of_the_caller_stops_what_asyncio_waits_for(tmp_path):
    async def cancelled(start):
        token = CancelToken()
        with leanrag.open(tmp_path, model=FakeModel("word " * 50), embedder=HashEmbedder()) as rag:
            rag.add_text(PARK, id="park")
            token.cancel()
            with pytest.raises(GenerationCancelled):
                await start(rag, token)

    async def stream(rag, token):
        async for _ in rag.astream("Who signs off?", cancel=token):
            pass

    asyncio.run(cancelled(lambda rag, token: rag.aask("Who signs off?", cancel=token)))
    asyncio.run(cancelled(stream))


def test_cancelling_a_task_stops_a_generation_that_has_its_callers_token(tmp_path):
    started = threading.Event()

    class Waiting(FakeModel):
        def stream(self, prompt, options):
            self.cancel = options.cancel
            started.set()
            return super().stream(prompt, options)

    model, token = Waiting("word " * 5000, token_seconds=0.01), CancelToken()

    async def leave(rag):
        task = asyncio.create_task(rag.aask("Who signs off?", cancel=token))
        await asyncio.to_thread(started.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with leanrag.open(tmp_path, model=model, embedder=HashEmbedder()) as rag:
        rag.add_text(PARK, id="park")
        asyncio.run(leave(rag))
    assert model.cancel.cancelled
    assert not token.cancelled  # others may use it
