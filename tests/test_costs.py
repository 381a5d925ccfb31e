"""The ledger of stages: rows that sum to the question, sums by part, and budgets across processes."""

import contextlib
import math
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import leanrag
from leanrag import Cascade, ConfigurationError, GenerationError, Prices, StorageError
from leanrag.ledger import Budget, CostLedger, Row, SpendingLimitError, rows_of
from leanrag.testing import FakeModel
from tests.examples import max_examples
from tests.ledger_suite import LedgerSuite
from tests.stories import PARK, QUESTION, RIGHT, WRONG, Failing, open_rag


class Priced(FakeModel):
    """Charges a cent a token."""

    def price(self, usage):
        return usage.total_tokens / 100


class Unpriced(FakeModel):
    """Charges, and does not say how much."""

    def price(self, usage):
        return None


def ask(folder, *models, **options):
    model = Cascade(models) if len(models) > 1 else models[0]
    with open_rag(folder, model=model, **options) as rag:
        rag.add(leanrag.Document(PARK, id="park"))
        return rag.ask(QUESTION)


models = st.lists(
    st.sampled_from(
        [
            lambda: FakeModel(WRONG, name="free"),
            lambda: Priced(WRONG, name="priced"),
            lambda: Unpriced(WRONG, name="unpriced"),
            lambda: Failing(after=2, name="breaks"),
            lambda: Failing(name="refuses"),
        ]
    ),
    max_size=3,
    unique=True,
)


@max_examples(40, suppress_health_check=list(HealthCheck))
@given(first=models)
def test_the_rows_sum_to_the_question(tmp_path_factory, first):
    answer = ask(tmp_path_factory.mktemp("kb"), *(make() for make in first), Priced(RIGHT, name="last"))
    rows = rows_of(answer)
    assert sum(row.prompt_tokens for row in rows) == answer.usage.prompt_tokens
    assert sum(row.completion_tokens for row in rows) == answer.usage.completion_tokens
    assert sum(row.cached_tokens for row in rows) == answer.usage.cached_tokens
    assert math.fsum(row.seconds for row in rows) == pytest.approx(answer.seconds)
    costs = [row.cost for row in rows]
    assert (None if None in costs else pytest.approx(sum(costs))) == answer.cost


def test_each_row_says_what_was_done(tmp_path):
    answer = ask(tmp_path, FakeModel(WRONG, name="small"), Priced(RIGHT, name="large"))
    rows = rows_of(answer)
    assert [row.stage for row in rows if row.model] == ["decode", "decode"]
    assert [(row.model, row.outcome) for row in rows if row.model] == [("small", "escalated"), ("large", "kept")]
    assert [row.stage for row in rows][:5] == ["pack", "retrieve", "embed", "pack", "pack"]
    assert next(row.full_tokens for row in rows if row.full_tokens) >= 1


def test_reading_and_writing_are_told_apart_when_the_model_does(tmp_path):
    from tests.stories import Reporting

    answer = ask(tmp_path, Reporting(RIGHT, says={"prefill_seconds": 1e-9, "decode_seconds": 1e-9}))
    rows = {row.stage: row for row in rows_of(answer)}
    assert (rows["prefill"].seconds, rows["prefill"].completion_tokens) == (1e-9, 0)
    assert (rows["decode"].prompt_tokens, rows["decode"].completion_tokens) == (0, answer.usage.completion_tokens)


def test_a_hit_of_the_cache_costs_nothing_and_says_so(tmp_path):
    with CostLedger() as ledger, open_rag(tmp_path, model=Priced(RIGHT), cache="exact", ledger=ledger) as rag:
        rag.add(leanrag.Document(PARK, id="park"))
        first = rag.ask(QUESTION)
        rag.ask(QUESTION)
        assert [(row["stage"], row["tier"], row["cost"]) for row in ledger.rows()][-1] == ("cache", "exact", 0.0)
        assert ledger.summary()[0].cost == pytest.approx(first.cost)
        assert {part.name: part.requests for part in ledger.summary(by="tier")}["exact"] == 1


class TestCostLedger(LedgerSuite):
    @pytest.fixture
    def make_ledger(self, tmp_path):
        with contextlib.ExitStack() as ledgers:
            yield lambda **options: ledgers.enter_context(CostLedger(tmp_path / "costs.db", **options))

    @pytest.fixture
    def execute(self, tmp_path):
        with contextlib.closing(sqlite3.connect(tmp_path / "costs.db", isolation_level=None)) as connection:
            yield connection.execute


def test_a_damaged_ledger_is_refused_and_kept(tmp_path):
    path = tmp_path / "costs.db"
    path.write_bytes(b"not a ledger" * 100)
    with pytest.raises(StorageError, match=r"ledger .* is damaged"):
        CostLedger(path)
    assert path.read_bytes() == b"not a ledger" * 100


def test_rows_wait_until_the_file_can_be_written_again(tmp_path, caplog):
    path = tmp_path / "costs.db"
    with CostLedger(path) as ledger:
        ledger.record_rows([Row("a")])
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("ALTER TABLE stages RENAME TO away")
            for stage in "bc":
                ledger.record_rows([Row(stage), Row(stage)])
            assert ledger.unwritten == 4
            connection.execute("ALTER TABLE away RENAME TO stages")
        ledger.record_rows([Row("d")])
        assert ledger.unwritten == 0
        assert [row["stage"] for row in ledger.rows()] == ["a", "b", "b", "c", "c", "d"]
    assert "not written" in caplog.text


def test_rows_that_wait_count_for_the_budget(tmp_path):
    path, clock = tmp_path / "costs.db", lambda: 0.0
    with CostLedger(path, clock=clock) as ledger:
        ledger.record_rows([Row("remote", cost=1.0)])
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.execute("CREATE TRIGGER full BEFORE INSERT ON stages BEGIN SELECT RAISE(ABORT, 'full'); END")
            ledger.record_rows([Row("remote", cost=2.0), Row("remote", cost=None)])
            assert (ledger.unwritten, ledger.spent_today()) == (2, 3.0)
            connection.execute("DROP TRIGGER full")
    with CostLedger(path, clock=clock) as ledger:
        assert ledger.spent_today() == 3.0


def test_the_oldest_rows_that_wait_are_dropped(monkeypatch):
    monkeypatch.setattr("leanrag.ledger.book._MOST_WAITING", 3)
    ledger = CostLedger()
    ledger.close()
    for _ in range(5):
        ledger.record_rows([Row("a")])
    assert (ledger.unwritten, len(ledger._waiting)) == (5, 3)


WRITE = """
import sys
from leanrag.ledger import CostLedger, Row
with CostLedger(sys.argv[1]) as ledger:
    print("open", flush=True)
    for i in range(int(sys.argv[2])):
        ledger.record_rows([Row("a", cost=1.0), Row("b", cost=2.0)])
        print(i, flush=True)
"""


def test_no_row_is_lost_or_halved_by_many_writers_and_a_kill(tmp_path):
    path = tmp_path / "costs.db"
    command = [sys.executable, "-c", WRITE, str(path)]
    writers = [subprocess.Popen([*command, "30"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    killed = subprocess.Popen([*command, "100000"], stdout=subprocess.PIPE, text=True)
    said = [killed.stdout.readline() for _ in range(20)]
    killed.kill()
    said += killed.communicate()[0].splitlines()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    with CostLedger(path) as ledger:
        counts = {part.name: part for part in ledger.summary(by="stage")}
        n = sum(row["stage"] == "a" for row in ledger.rows())
        assert n == sum(row["stage"] == "b" for row in ledger.rows())
        assert 60 + len(said) - 1 <= n <= 60 + len(said) + 1
        assert counts["b"].cost == 2 * counts["a"].cost


# Budgets


@pytest.mark.parametrize("budget", [Budget(per_question=0.5), Budget(per_day=0.5)])
def test_a_model_that_may_cost_too_much_is_not_asked(tmp_path, budget):
    model = Priced(RIGHT, name="dear")
    with pytest.raises(SpendingLimitError, match="dear was not asked: it may cost"):
        ask(tmp_path, model, ledger=CostLedger(budget=budget))
    assert model.prompts == []


def test_an_unknown_cost_does_not_fit_a_budget(tmp_path):
    with pytest.raises(SpendingLimitError, match="its cost is unknown"):
        ask(tmp_path, Unpriced(RIGHT), ledger=CostLedger(budget=Budget(per_day=1e9)))


def test_a_small_model_without_a_price_answers_when_the_budget_refuses_the_large_one(tmp_path):
    answer = ask(tmp_path, FakeModel(WRONG, name="small"), Priced(RIGHT), ledger=CostLedger(budget=Budget(per_day=0.1)))
    assert (answer.model, answer.stopped_by, answer.steps[-1].outcome) == ("small", "cost", "skipped")


@pytest.mark.parametrize(("otherwise", "model"), [("local", "free"), ("refuse", None)])
def test_a_free_model_later_in_the_cascade_is_asked_only_if_the_budget_says_so(tmp_path, otherwise, model):
    ledger = CostLedger(budget=Budget(per_question=0.0, otherwise=otherwise))
    models = [Priced(RIGHT, name="dear"), FakeModel(RIGHT, name="free")]
    if model is None:
        with pytest.raises(SpendingLimitError):
            ask(tmp_path, *models, ledger=ledger)
    else:
        assert ask(tmp_path, *models, ledger=ledger).model == model


@pytest.mark.parametrize("options", [{"per_day": -1}, {"per_question": math.inf}, {"otherwise": "maybe"}])
def test_budgets_out_of_range_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        Budget(**options)


def test_a_spending_limit_is_an_error_of_generation():
    assert issubclass(SpendingLimitError, GenerationError)


def test_list_prices_come_from_genai_prices():
    pytest.importorskip("genai_prices")
    prices = Prices.of("gpt-4o-mini", provider="openai")
    assert 0 < prices.cached_input_per_million < prices.input_per_million < prices.output_per_million
    with pytest.raises(ConfigurationError, match="does not know the model 'no-such-model'"):
        Prices.of("no-such-model", provider="openai")


def test_another_kind_of_file_is_not_a_ledger(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "costs.db")) as connection, connection:
        connection.execute("CREATE TABLE t (x)")
    with pytest.raises(StorageError, match=r"ledger .* is another kind of database"):
        CostLedger(tmp_path / "costs.db")
