"""Ingest rows, energy, baselines and receipts of the ledger."""

import dataclasses
import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag import Cascade, ConfigurationError, DocumentError, Prices
from leanrag.display import to_html, to_text
from leanrag.ledger import CostLedger, Row, estimate_baseline, row_of, rows_of
from leanrag.ledger.energy import NvmlMeter, RaplMeter
from leanrag.pipeline.timing import StageTimer
from leanrag.testing import FakeModel
from leanrag.types import Stage
from tests.stories import PARK, QUESTION, RIGHT, Reporting, open_rag


class Priced(FakeModel):
    """Charges a cent a token."""

    def price(self, usage):
        return usage.total_tokens / 100


# Work that belongs to no question


def test_adding_is_a_row_of_the_ledger_also_when_it_fails(tmp_path):
    with CostLedger() as ledger, open_rag(tmp_path / "kb", ledger=ledger) as rag:
        assert rag.ledger is ledger
        rag.add(leanrag.Document(PARK, id="park"))
        with pytest.raises(DocumentError):
            rag.add(tmp_path / "missing.txt")
        rows = ledger.rows()
        assert [row["stage"] for row in rows] == ["ingest", "ingest"]
        assert all(row["seconds"] > 0 and row["cpu_seconds"] >= 0 and row["cost"] == 0 for row in rows)
        assert len({row["request"] for row in rows}) == 2


def test_a_ledger_that_only_records_answers_is_told_no_other_work(tmp_path):
    class Answers(list):
        record = list.append

    ledger = Answers()
    with open_rag(tmp_path, ledger=ledger) as rag:
        rag.add_text(PARK)
        answer = rag.ask(QUESTION)
    assert ledger == [answer]


def test_what_embedding_and_reranking_took_are_rows_of_their_own(tmp_path):
    class Reversing:
        def rerank(self, question, hits):
            return hits[::-1]

    with CostLedger() as ledger, open_rag(tmp_path, ledger=ledger, reranker=Reversing()) as rag:
        rag.add_text(PARK)
        answer = rag.ask(QUESTION)
        taken = {row["stage"]: row["seconds"] for row in ledger.rows()}
    stage = next(stage for stage in answer.trace if stage.name == "retrieve")
    for name in ("embed", "rerank"):
        assert taken[name] == pytest.approx(stage.details[f"{name}_seconds"])
    assert taken["embed"] + taken["rerank"] + taken["retrieve"] == pytest.approx(stage.seconds)


def test_each_stage_belongs_to_a_kind_of_cost():
    stages = ("train", "ingest", "infrastructure", "cache", "decode", "retrieve")
    with CostLedger() as ledger:
        ledger.record_rows([Row(stage, cost=1.0) for stage in stages])
        ledger.record_rows([Row("decode", "large", cost=4.0, outcome="audited")])
        costs = {part.name: part.cost for part in ledger.summary(by="kind")}
    assert costs == {"training": 1, "data": 1, "infrastructure": 1, "inference": 2, "maintenance": 5}


def test_the_files_of_cache_and_ledger_are_not_sources(tmp_path):
    with CostLedger(tmp_path / "costs.db") as ledger, open_rag(tmp_path, ledger=ledger, cache="exact") as rag:
        (tmp_path / "park.md").write_text(PARK)
        rag.add(tmp_path)
        rag.ask(QUESTION)
        assert (rag.add(tmp_path).skipped, rag.stats().documents) == ((), 1)


# Energy


@pytest.fixture
def powercap(tmp_path):
    for name, joules in (("intel-rapl:0", 100), ("intel-rapl:1", 10), ("intel-rapl:0:0", 5), ("intel-rapl-mmio:0", 9)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{joules}\n")
        (tmp_path / name / "max_energy_range_uj").write_text("999\n")
    return tmp_path


@pytest.mark.parametrize(("after", "joules"), [(100, 0), (130, 30e-6), (20, 920e-6)])
def test_packages_are_counted_and_a_counter_that_starts_again_too(powercap, after, joules):
    read = RaplMeter(powercap).start()
    (powercap / "intel-rapl:0" / "energy_uj").write_text(f"{after}\n")
    assert read() == pytest.approx(joules)


def test_no_counter_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        RaplMeter(tmp_path)


def test_gpus_are_counted_in_millijoules():
    class Nvml:
        used = 5000

        def nvmlInit(self):  # noqa: N802
            pass

        def nvmlDeviceGetCount(self):  # noqa: N802
            return 2

        def nvmlDeviceGetHandleByIndex(self, i):  # noqa: N802
            return i

        def nvmlDeviceGetTotalEnergyConsumption(self, device):  # noqa: N802
            return self.used * (device + 1)

    library = Nvml()
    read = NvmlMeter(library).start()
    library.used = 6000
    assert read() == pytest.approx(3.0)


def test_a_measured_stage_says_how_it_was_measured():
    class Meter:
        method = "rapl"

        def start(self):
            return lambda: 2.5

    timer = StageTimer(Meter())
    with timer("pack"):
        pass
    row = row_of(timer.stages[0])
    assert (row.joules, row.energy_method) == (2.5, "rapl")
    with CostLedger(watts=10) as ledger:
        ledger.record_rows([row, Row("ground", cpu_seconds=2.0), Row("remote", cpu_seconds=2.0)])
        assert [(each["joules"], each["energy_method"]) for each in ledger.rows()] == [
            (2.5, "rapl"), (20.0, "watts"), (None, ""),
        ]  # fmt: skip


@pytest.mark.parametrize("watts", [-1, float("nan")])
def test_power_is_not_negative(watts):
    with pytest.raises(ConfigurationError, match="`watts`"):
        CostLedger(watts=watts)


@given(st.floats(0, 10), st.floats(0, 20), st.floats(0, 9), st.none() | st.floats(0, 10), st.none() | st.floats(0, 100))
def test_the_rows_of_a_stage_share_its_time_and_energy(seconds, reranking, embedding, cpu_seconds, joules):
    details = {"rerank_seconds": reranking, "embed_seconds": embedding}
    details |= {} if joules is None else {"joules": joules, "energy_method": "rapl"}
    whole = Stage("retrieve", seconds, details, cpu_seconds)
    rows = rows_of(_answer_with(whole))
    assert [row.stage for row in rows] == ["retrieve", "embed", "rerank"]
    assert all(row.seconds >= 0 for row in rows)
    assert sum(row.seconds for row in rows) == pytest.approx(seconds)
    for name, amount in (("cpu_seconds", cpu_seconds), ("joules", joules)):
        parts = [getattr(row, name) for row in rows]
        assert parts == [None] * 3 if amount is None else sum(parts) == pytest.approx(amount)


def _answer_with(stage):
    from leanrag.types import Answer, Packing, Usage

    return Answer("q", "", (), False, 0.0, None, None, Usage(0, 0), 0.0, "", Packing((), (), 0, 0), None, (stage,))


# Before and after


def rows(*values):
    return [{**dataclasses.asdict(row), "request": request} for request, row in values]


RATES = rows(
    ("a", Row("pack", full_tokens=1000)),
    ("a", Row("prefill", "large", prompt_tokens=110, cached_tokens=10, seconds=1.0)),
    ("a", Row("decode", "large", completion_tokens=20, seconds=2.0)),
    ("b", Row("pack", full_tokens=500)),
    ("b", Row("pack", full_tokens=600)),
    ("b", Row("prefill", "small", prompt_tokens=100, seconds=0.1)),
    ("b", Row("decode", "small", completion_tokens=10, seconds=0.1)),
    ("c", Row("cache", tier="exact")),
    ("d", Row("ingest", seconds=50.0)),
)


def test_a_baseline_is_estimated_from_the_rates_of_the_slowest_model():
    found = estimate_baseline(RATES)
    assert (found.basis, found.model, found.requests, found.cost) == ("estimated", "large", 3, None)
    assert (found.prompt_tokens, found.completion_tokens) == (2400, 60)  # 1000, 600, and the mean for the hit
    assert found.seconds == pytest.approx(2400 * 0.01 + 60 * 0.1)
    assert estimate_baseline(RATES, prices=Prices(1e6, 1e6)).cost == pytest.approx(2460)
    assert estimate_baseline(RATES, model="small").seconds == pytest.approx(2400 * 0.001 + 30 * 0.01)


def test_a_model_that_does_not_tell_reading_from_writing_has_one_rate():
    remote = rows(("a", Row("pack", full_tokens=90)), ("a", Row("remote", "r", 40, 0, 10, seconds=5.0)))
    assert estimate_baseline(remote).seconds == pytest.approx((90 + 10) * 0.1)


@pytest.mark.parametrize("values", [[], RATES[:1], RATES[1:3], RATES[7:]])
def test_without_rates_or_retrieved_text_there_is_no_estimate(values):
    assert estimate_baseline(values) is None
    assert estimate_baseline(RATES, model="unknown") is None


def test_a_baseline_is_measured_with_the_last_model_and_the_full_context(tmp_path):
    small, large = FakeModel(RIGHT, name="small"), Priced(RIGHT, name="large", n_ctx=8000)
    cascade = Cascade([small, large], context_tokens=[40, 40])
    with (
        CostLedger() as ledger,
        open_rag(tmp_path, model=cascade, cache="exact", ledger=ledger, context_tokens=40) as rag,
    ):
        rag.add(*(leanrag.Document(f"Release {i}. " + f"{PARK} Note {i}. " * 4, id=str(i)) for i in range(5)))
        written = len(ledger.rows())
        found = rag.measure_baseline([QUESTION, QUESTION])
        assert len(ledger.rows()) == written
    assert (found.basis, found.model, found.requests, len(small.prompts), len(large.prompts)) == (
        "measured",
        "large",
        2,
        0,
        2,
    )
    assert found.prompt_tokens > 2 * 200
    assert found.cost == pytest.approx((found.prompt_tokens + found.completion_tokens) / 100)


# The receipt


def test_a_receipt_has_bars_sums_and_the_label_of_its_estimate(tmp_path):
    model = Reporting(RIGHT, says={"prefill_seconds": 1e-4, "decode_seconds": 1e-4}, name="tiny")
    with CostLedger() as ledger, open_rag(tmp_path, model=model, ledger=ledger) as rag:
        rag.add_text(PARK)
        rag.ask(QUESTION)
        receipt = ledger.receipt("model")
        assert ledger._repr_html_() == receipt._repr_html_()
    text, shown = to_text(receipt), to_html(receipt)
    assert "estimated: tiny" in text
    assert "estimated: tiny" in html.unescape(shown)
    assert re.search(r"^tiny ", text, re.MULTILINE)
    assert sum(float(width) for width in re.findall(r";width:([\d.]+)%", shown)) == pytest.approx(100, abs=1)
    assert receipt._repr_html_() == shown


def test_an_estimate_stands_beside_the_questions_alone():
    with CostLedger() as ledger:
        ledger.record_rows([Row("ingest", seconds=99.0, cost=9.0)])
        ledger.record_rows(
            [Row("pack", full_tokens=50), Row("decode", "m", 10, 0, 10, seconds=2.0, cost=0.5), Row("cache", cost=0.25)]
        )
        text = to_text(ledger.receipt())
    assert "without savings (estimated: m, full context, no caches): 6.00 s, 50 + 10 tokens, cost unknown" in text
    assert "as the questions were asked: 2.00 s, 10 + 10 tokens, cost 0.75" in text


def test_an_empty_ledger_says_so():
    with CostLedger() as ledger:
        assert to_text(ledger.receipt()) == "the ledger is empty"


HOSTILE = '<script>alert("1")</script>\' onload=x\x1b[2J\u202e'


@pytest.mark.parametrize("by", ["model", "stage", "tier"])
def test_hostile_names_are_never_markup(by):
    with CostLedger() as ledger:
        ledger.record_rows(
            [Row(HOSTILE, HOSTILE, tier=HOSTILE, seconds=1.0, full_tokens=3, completion_tokens=1, cost=None)]
        )
        receipt = ledger.receipt(by)
    assert set(re.findall(r"</?(\w+)", to_html(receipt))) <= {
        "div",
        "span",
        "table",
        "tr",
        "th",
        "td",
        "p",
        "small",
        "br",
    }
    for shown in (to_html(receipt), to_text(receipt)):
        assert not set(shown) & {"\x1b", "\u202e"}
    assert "onload=x\\" in html.unescape(to_html(receipt))
    assert "'" not in to_html(receipt)
