"""Rates and prices: measured, kept, and read from files."""

import json

import numpy as np
import pytest
import yaml

from leanrag.errors import ConfigurationError
from leanrag.planning import (
    MachinePrices,
    Rates,
    measure_rates,
    measuring,
    rates_of_this_machine,
    read_prices,
    read_rates,
)
from leanrag.planning.rates import parse_speedup
from leanrag.retrieval.graphs import graph_bytes, make_graph, save_graph
from leanrag.retrieval.growing_index import vector_index_bytes
from leanrag.retrieval.store import Store
from leanrag.testing import FakeModel, HashEmbedder

PRICES = {
    "currency": "EUR",
    "disk_gib_month": 0.08,
    "machines": [{"name": "c8", "cores": 8, "memory_gib": 32, "hour": 0.4, "spot_hour": 0.1}],
}


def test_speedups_are_interpolated():
    rates = Rates(question_seconds=1.0, speedup={4: 2.5, 1: 1, 6: 2.1})
    assert rates.speedups() == pytest.approx([1.0, 1.5, 2.0, 2.5, 2.3, 2.1])
    assert Rates(question_seconds=1.0).speedups() == [1.0]


def test_work_has_the_mean_and_the_spread_of_the_rates():
    rates = Rates(question_seconds=0.9, variation=0.5, search_seconds_million=0.01)
    work = rates.draw_work(100_000, 10_000_000, seed=3)
    assert work.mean() == pytest.approx(1.0, rel=0.01)
    assert work.std() / work.mean() == pytest.approx(0.5, rel=0.02)
    assert (work > 0).all()
    assert Rates(question_seconds=2.0).draw_work(3, 0).tolist() == [2.0, 2.0, 2.0]
    assert np.array_equal(work, rates.draw_work(100_000, 10_000_000, seed=3))


@pytest.mark.parametrize(
    "fields",
    [
        {"question_seconds": 0},
        {"question_seconds": float("nan")},
        {"variation": -1},
        {"speedup": {2: 1.5}},
        {"speedup": {1: 2.0}},
        {"speedup": {1: 1, 0: 1}},
        {"speedup": {1: 1, 10**9: 5}},
        {"speedup": {}},
        {"dim": 0},
        {"unknown": 1},
    ],
)
def test_rates_that_cannot_be(fields):
    with pytest.raises(ConfigurationError, match=next(iter(fields))):
        Rates(**{"question_seconds": 1.0, **fields})


@pytest.mark.parametrize("text", ["", "4", "4:", "a:2", "0:1", "4:0", "4:inf", "-1:2", "4:2.5;8:3"])
def test_speedups_that_cannot_be_read(text):
    with pytest.raises(ConfigurationError, match="speedup"):
        parse_speedup(text)


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
def test_prices_and_rates_are_read_from_files(tmp_path, dump):
    (tmp_path / "prices").write_text(dump(PRICES), encoding="utf-8")
    assert read_prices(tmp_path / "prices") == MachinePrices(**PRICES)
    (tmp_path / "rates").write_text(dump({"question_seconds": 0.5, "speedup": {1: 1, 2: 1.5}}), encoding="utf-8")
    assert read_rates(tmp_path / "rates") == Rates(question_seconds=0.5, speedup={1: 1, 2: 1.5})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"machines": []}, "machines"),
        ({"machines": [{"name": "x", "cores": 0, "memory_gib": 1, "hour": 1}]}, "cores"),
        ({"machines": [{"name": "x", "cores": 1, "memory_gib": 1, "hour": -1}]}, r"machines.*hour"),
        ({"machines": [{"name": "x", "cores": 1, "memory_gib": 1, "hour": "cheap"}]}, r"got 'cheap'"),
        ({"machines": [{"name": "x", "cores": 1, "memory_gib": 1, "hour": float("nan")}]}, "hour"),
        ({"disk_gib_month": float("inf")}, "disk_gib_month"),
        ({"machine": []}, "machine"),
    ],
)
def test_prices_that_cannot_be(tmp_path, change, message):
    (tmp_path / "prices.yaml").write_text(yaml.safe_dump({**PRICES, **change}), encoding="utf-8")
    with pytest.raises(ConfigurationError, match=rf"prices\.yaml' cannot be used: .*{message}"):
        read_prices(tmp_path / "prices.yaml")


@pytest.mark.parametrize("text", ["", "[]", "3", "a: [", "\x00", "1: 2", "a" * (1 << 21), "[" * 500])
def test_files_that_hold_no_fields(tmp_path, text):
    (tmp_path / "prices.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"prices\.yaml"):
        read_prices(tmp_path / "prices.yaml")


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(ConfigurationError, match="cannot read the rates"):
        read_rates(tmp_path / "missing.yaml")


@pytest.mark.slow
def test_the_size_of_a_graph_is_that_of_its_file(tmp_path):
    count, dim = 3000, 48
    vectors = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    class Source:
        def all_vectors(self, after=0, most=None):
            ids = np.arange(after + 1, count + 1)[:most]
            return ids, vectors[ids - 1]

    graph = make_graph(Source(), dim, None)
    with Store(tmp_path / "kb") as store:
        size = save_graph(store, graph).path.stat().st_size
    assert graph_bytes(count, dim) == pytest.approx(size, rel=0.02)


def test_few_vectors_are_searched_as_they_are():
    assert vector_index_bytes(1000, 384) == 1000 * (4 * 384 + 8)
    assert vector_index_bytes(100_000, 384) == graph_bytes(100_000, 384)


def test_a_replica_is_measured():
    model = FakeModel("Ada Park checks it.", name="stand-in")
    rates = measure_rates(model, HashEmbedder(), at_once=(2, 3), documents=12)
    assert rates.model == "stand-in"
    assert rates.question_seconds > 0
    assert set(rates.speedup) == {1, 2, 3}
    assert rates.dim == 64
    assert rates.add_seconds_chunk > 0
    assert 256 <= rates.disk_bytes_chunk < 20_000
    assert any("checks the" in prompt for prompt in model.prompts)  # the facts are found


def test_a_slow_replica_is_measured_with_few_questions():
    model = FakeModel("Ada Park checks it.")
    rates = measure_rates(model, HashEmbedder(), documents=12, seconds=0)
    assert rates.speedup == {1: 1.0}
    assert len(model.prompts) == 3  # one to load, two to measure


def test_rates_are_measured_once(tmp_path, monkeypatch, tiny_gguf):
    calls, is_busy = [], False

    def measure(model, embedder):
        calls.append(model.name)
        return Rates(question_seconds=1.0 + len(calls))

    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(measuring, "measure_rates", measure)
    monkeypatch.setattr(measuring, "_is_busy", lambda: is_busy)
    monkeypatch.setattr("leanrag.pipeline.loading.load_embedder", lambda name: HashEmbedder())
    first = rates_of_this_machine(str(tiny_gguf))
    assert first.question_seconds == 2.0
    assert first.model == str(tiny_gguf)
    assert first.weights_bytes == tiny_gguf.stat().st_size
    assert first.replica_bytes > 0
    assert rates_of_this_machine(str(tiny_gguf)) == first
    assert len(calls) == 1
    assert rates_of_this_machine(str(tiny_gguf), again=True).question_seconds == 3.0
    (kept,) = (tmp_path / "rates").iterdir()
    kept.write_text(kept.read_text(encoding="utf-8").replace('"cores"', '"scores"'), encoding="utf-8")
    assert rates_of_this_machine(str(tiny_gguf)).question_seconds == 4.0
    assert rates_of_this_machine(str(tiny_gguf)).question_seconds == 4.0
    is_busy = True
    assert rates_of_this_machine(str(tiny_gguf), again=True).question_seconds == 5.0
    assert rates_of_this_machine(str(tiny_gguf)).question_seconds == 4.0
