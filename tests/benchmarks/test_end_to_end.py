"""The table of leanrag beside the usual way: the rows, the log of a run that was stopped, and the figures."""

import itertools

import numpy as np
import pytest

import leanrag
from benchmarks.common import Question, Questions
from benchmarks.end_to_end import against_b0, measuring, peers, stages, usual
from benchmarks.end_to_end.cascade import saved_share
from benchmarks.end_to_end.observing import Load, Log, Observation
from benchmarks.end_to_end.table import table_of
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Document

DOCUMENTS = tuple(Document(f"The code of room {n} is {n}{n}7. It has a window.", id=f"room-{n}") for n in range(12))
QUESTIONS = tuple(Question(f"What is the code of room {n}?", (f"{n}{n}7",), f"room-{n}") for n in range(3))


class FakeLlama:
    """Answers as `llama_cpp.Llama` does."""

    def __init__(self, log):
        self.log = log

    def create_chat_completion(self, messages, *, logits_processor, **_):
        prompt = messages[0]["content"]
        self.log.append(prompt)
        assert logits_processor[0]([1], "scores") == "scores"
        reply = {"message": {"content": "It is 007."}}
        return {"choices": [reply], "usage": {"prompt_tokens": len(prompt.split())}}

    def close(self):
        pass


@pytest.fixture
def setting(tmp_path, monkeypatch):
    """Stand-ins for all models; the prompts that the `Llama` read."""
    prompts, opened = [], leanrag.open
    models = itertools.count()

    def load(self, name, **_):
        return FakeModel(
            lambda prompt: "007" if "room 0" in prompt.rsplit("room", 1)[1] else "337", name=f"{name}-{next(models)}"
        )

    def open_with_stand_ins(path, *, embedder, model, **options):
        chosen = FakeModel("none") if isinstance(model, str) else model
        return opened(path, embedder=HashEmbedder(), model=chosen, **options)

    monkeypatch.setattr(stages.Models, "load", load)
    monkeypatch.setattr(leanrag, "open", open_with_stand_ins)
    monkeypatch.setattr(measuring, "load_llama", lambda name: FakeLlama(prompts))
    monkeypatch.setattr(measuring, "open_peers", lambda llama, documents: [])
    monkeypatch.setattr(measuring.tempfile, "gettempdir", lambda: str(tmp_path))
    return prompts


def sample():
    return measuring.Sample(Questions("rooms", DOCUMENTS, QUESTIONS), QUESTIONS)


def test_every_row_answers_every_question_once(setting):
    log = measuring.measure_rows(sample())
    rows = (*measuring.BASELINES, *(row.name for row in stages.ROWS))
    assert log.observations.keys() == {(row, question.text) for row in rows for question in QUESTIONS}
    assert len(setting) == 2 * len(QUESTIONS)
    assert all(prompt.count("The code of room") == usual.PASSAGES for prompt in setting)
    b0 = log.observations["B0", QUESTIONS[0].text]
    assert (b0.right, b0.exact, b0.in_context, b0.large_calls) == (1, 0, 1, 1)
    assert log.observations["B1", QUESTIONS[1].text].right == 0
    assert {row for row, _ in log.loads} == {"batching", *measuring.CACHES}
    again = measuring.measure_rows(sample())
    assert again.observations == log.observations
    assert len(setting) == 2 * len(QUESTIONS)  # everything was in the log


@pytest.mark.slow
def test_the_figures_have_every_key(setting):
    figures = against_b0.figures_of("nq", sample(), measuring.measure_rows(sample()))
    assert {f"nq_{key}" for key in against_b0.RATIOS} <= figures.keys()
    assert figures["nq_n"] == 3
    shown = table_of(figures, "here")
    assert "| B0: Qwen2.5-Coder-1.5B, ten whole passages | 0.33 |" in shown
    assert "LangChain" not in shown
    assert figures["nq_b0_right"] == pytest.approx(1 / 3)
    assert figures["nq_langchain_right"] is None
    assert figures["nq_tokens_ratio"] == pytest.approx(figures["nq_b0_tokens"] / figures["nq_trained_reader_tokens"])
    assert figures["nq_exact_cache_hits"] > 0
    assert 0 < figures["nq_stream_repeats"] < 1
    for name in ("latency", "cost", "tokens"):
        assert figures[f"nq_{name}_ratio_low"] <= figures[f"nq_{name}_ratio"] <= figures[f"nq_{name}_ratio_high"]


def test_a_log_that_was_cut_goes_on(tmp_path):
    path = tmp_path / "log.jsonl"
    first = Observation("B0", "Who?", "Ada", 1.0, 1.0, 1.0, None, 10, 1.0, 0.5, 1.5, None, 1)
    load = Load("batching", "0-7", 8, 2.0, 3.0, 4)
    Log(path).add([first, load])
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        log = Log(path)
        assert set(log.observations.values()) <= {first}
        log.add([load])
        assert Log(path).loads == {("batching", "0-7"): load}


def test_a_missing_data_set_is_not_measured(tmp_path):
    figures = against_b0.hotpot(tmp_path, False)
    assert set(figures.values()) == {None}
    assert "hotpot_accuracy_diff_low" in figures


def test_a_stream_repeats_questions_by_zipfs_law():
    stream = measuring.stream_of(20)
    counts = np.bincount([i for i, _ in stream], minlength=20)
    assert len(stream) == 60
    assert counts[0] == counts.max()
    assert stream == measuring.stream_of(20)


def test_the_saved_calls_are_counted_on_unseen_questions():
    small, large = np.array([1.0, 0, 1, 0] * 10), np.array([0.0, 1, 0, 1] * 10)
    sure = np.array([0.9, 0.1, 0.9, 0.1] * 10)
    chosen, unseen = np.arange(20), np.arange(20, 40)
    assert saved_share(small, large, sure, chosen, unseen) == (1.0, 0.0)  # alone it is right as often
    assert saved_share(0 * small, np.ones(40), sure, chosen, unseen) == (0.0, 0.0)  # it never is
    half = np.array([1.0, 0, 1, 0] * 10)
    assert saved_share(half, np.ones(40), sure, chosen, unseen) == (0.5, 0.0)  # it is where it is sure


@pytest.mark.parametrize("name", peers.PEERS)
@pytest.mark.slow
def test_the_peers_answer_from_what_they_find(name):
    pytest.importorskip({"LangChain": "langchain_core", "LlamaIndex": "llama_index.core"}[name])
    prompts = []
    embed = HashEmbedder()

    def vectors(texts):
        return embed.embed_documents(list(texts)).tolist()

    make = {"LangChain": peers._langchain, "LlamaIndex": peers._llama_index}[name]
    way = peers._PeerWay(name, FakeLlama(prompts), make(vectors, DOCUMENTS))
    reply = way.ask("What is the code of room 0?")
    assert (reply.text, reply.large_calls) == ("It is 007.", 1)
    assert "The code of room" in reply.context
    assert reply.prompt_tokens == len(prompts[0].split())
