import math
import types

import numpy as np
import pytest

import leanrag
from leanrag import Chunk, Document, Hit, ModelLoadError
from leanrag.models import resolve
from leanrag.retrieval import CrossEncoderReranker, ReaderReranker, rerankers
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Scores

QUESTION = "How long is the Nile?"
TEXTS = ("Paris is the capital of France.", "Rivers are long.", "The Nile is 6,650 km long.")


def hits_of(*texts):
    return [Hit(Chunk(f"d{i}", 0, len(text), text), 1.0 - i / 10) for i, text in enumerate(texts)]


def ids(hits):
    return [hit.chunk.document_id for hit in hits]


class ScoringModel:
    """Finds the question the more likely the more of two words the text before it has."""

    def __init__(self):
        self.conditions = []

    def score_many(self, pairs, *, timeout_seconds=None, cancel=None):
        self.conditions += [condition for condition, _ in pairs]
        shown = [c if isinstance(c, str) else c[0].content for c, _ in pairs]
        shares = [sum(word in text for word in ("Nile", "long")) for text in shown]
        return [Scores((1, 2), (-3.0, share - 9.0)) for share in shares]


def test_a_reader_ranks_by_how_likely_the_question_is():
    model = ScoringModel()
    ranked = ReaderReranker(model, is_chat=True).rerank(QUESTION, hits_of(*TEXTS))
    assert ids(ranked) == ["d2", "d1", "d0"]
    assert ranked[0].score == pytest.approx((-3.0 + 2.0 - 9.0) / 2)
    assert all(condition[0].role == "user" for condition in model.conditions)


def test_hits_behind_the_most_keep_their_order_and_follow():
    model = ScoringModel()
    ranked = ReaderReranker(model, is_chat=False, most=2).rerank(QUESTION, hits_of(*TEXTS))
    assert ids(ranked) == ["d1", "d0", "d2"]
    assert ranked[2].score == ranked[1].score == min(hit.score for hit in ranked)
    assert all(condition.endswith("Question: ") for condition in model.conditions)


@pytest.mark.parametrize("reranker", [ReaderReranker(ScoringModel(), is_chat=True)])
def test_nothing_is_ranked_as_nothing(reranker):
    assert reranker.rerank(QUESTION, []) == []


class Session:
    """A cross-encoder that counts the tokens that a question and a text have in common."""

    def __init__(self, columns=1):
        self.columns, self.runs = columns, []

    def get_inputs(self):
        return [types.SimpleNamespace(name=name) for name in ("input_ids", "attention_mask")]

    def get_outputs(self):
        return [types.SimpleNamespace(shape=["batch", self.columns])]

    def run(self, names, inputs):
        self.runs.append(inputs)
        scores = [len(set(row[:5]) & set(row[5:]) - {0}) for row in inputs["input_ids"].tolist()]
        return [np.array(scores, np.float32)[:, None]]


class Tokenizer:
    """Gives each word a number; questions are padded to five."""

    def __init__(self):
        self.numbers = {}

    def enable_truncation(self, length, strategy):
        self.length = length
        assert strategy == "only_second"

    def enable_padding(self):
        pass

    def encode_batch(self, pairs):
        rows = []
        for pair in pairs:
            question, text = (
                [self.numbers.setdefault(w, len(self.numbers) + 1) for w in p.strip("?.").split()] for p in pair
            )
            rows.append((question + [0] * 5)[:5] + text)
        longest = max(map(len, rows))
        return [
            types.SimpleNamespace(
                ids=row + [0] * (longest - len(row)), attention_mask=[1] * longest, type_ids=[0] * longest
            )
            for row in rows
        ]


def use(monkeypatch, session):
    runtime = types.SimpleNamespace(
        SessionOptions=lambda: types.SimpleNamespace(add_session_config_entry=lambda key, value: None),
        InferenceSession=lambda path, options, providers: session,
    )
    tokenizers = types.SimpleNamespace(Tokenizer=types.SimpleNamespace(from_file=lambda path: Tokenizer()))
    packages = {"onnxruntime": runtime, "tokenizers": tokenizers}
    monkeypatch.setattr(rerankers, "require", lambda package, *, extra, why: packages[package])


def test_a_cross_encoder_scores_pairs_in_batches(monkeypatch, tmp_path):
    session = Session()
    use(monkeypatch, session)
    many = [*TEXTS, *["Nothing is said here at all, in many words."] * 9]
    ranked = CrossEncoderReranker(tmp_path, most=11).rerank(QUESTION, hits_of(*many))
    assert ids(ranked)[0] == "d2"
    assert ids(ranked)[-1] == "d11"
    assert sorted(ids(ranked)) == sorted(f"d{i}" for i in range(12))
    assert [run["input_ids"].shape[0] for run in session.runs] == [8, 3]
    assert set(session.runs[0]) == {"input_ids", "attention_mask"}
    assert all(math.isfinite(hit.score) for hit in ranked)


def test_a_model_with_several_outputs_is_refused(monkeypatch, tmp_path):
    use(monkeypatch, Session(columns=384))
    with pytest.raises(ModelLoadError, match="does not return one score for each text"):
        CrossEncoderReranker(tmp_path)


def test_a_folder_without_files_is_an_error_that_says_what_it_must_hold(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(ModelLoadError, match=r"must hold model\.onnx and tokenizer\.json"):
        CrossEncoderReranker(tmp_path)


def test_a_reranker_changes_what_a_search_returns(tmp_path):
    ranker = ReaderReranker(ScoringModel(), is_chat=True)
    with leanrag.open(tmp_path, model=FakeModel(), embedder=HashEmbedder(), reranker=ranker) as rag:
        rag.add(*(Document(text, id=f"d{i}") for i, text in enumerate(TEXTS)))
        assert ids(rag.search(QUESTION, 3))[0] == "d2"


def test_a_reranker_can_be_opened_by_its_folder(monkeypatch, tmp_path):
    use(monkeypatch, Session())
    (tmp_path / "encoder").mkdir()
    with leanrag.open(
        tmp_path / "kb", model=FakeModel(), embedder=HashEmbedder(), reranker=tmp_path / "encoder"
    ) as rag:
        rag.add(*(Document(text, id=f"d{i}") for i, text in enumerate(TEXTS)))
        assert ids(rag.search(QUESTION, 3))[0] == "d2"


@pytest.mark.model
def test_the_named_cross_encoder_finds_the_answer():
    reranker = CrossEncoderReranker(resolve("ms-marco-minilm-l12-v2"), threads=1)
    ranked = reranker.rerank(QUESTION, hits_of(*TEXTS, "The Nile is blue. " * 200))
    assert ids(ranked)[0] == "d2"
    assert ranked[0].score > 5 > 0 > ranked[-1].score
