"""What every ledger promises: a suite that runs on each of them."""

import csv
import io
import json

import pytest

import leanrag
from leanrag.abilities import LimitsSpending, RecordsStages
from leanrag.ledger import Budget, Row
from leanrag.testing import FakeModel
from tests.stories import PARK, QUESTION, RIGHT, open_rag

DAY = 86_400
ROWS = [
    Row("prefill", "small", prompt_tokens=10, seconds=1.0, cpu_seconds=2.0),
    Row("decode", "small", completion_tokens=3, seconds=2.0, cpu_seconds=2.0, cost=0.25, joules=5.0),
    Row("remote", "large", prompt_tokens=10, completion_tokens=4, seconds=3.0, cost=0.5),
]


class LedgerSuite:
    """A subclass has the fixtures `make_ledger`, which returns ledgers of the same rows, and `execute`, for its SQL."""

    def test_sums_keep_what_is_unknown_unknown(self, make_ledger):
        ledger = make_ledger()
        assert (ledger.summary(), ledger.rows()) == ([], [])
        ledger.record_rows(ROWS)
        by_model = {part.name: part for part in ledger.summary(by="model")}
        assert (by_model["small"].cost, by_model["small"].cpu_seconds, by_model["small"].joules) == (0.25, 4.0, None)
        assert (by_model["large"].cost, by_model["large"].cpu_seconds, by_model["large"].share) == (0.5, None, 0.5)
        assert [part.name for part in ledger.summary(by="stage")] == ["remote", "decode", "prefill"]
        ledger.record_rows([Row("remote", "large", cost=None)])
        assert ledger.summary()[0].cost is None

    def test_a_sum_has_whole_numbers_of_tokens(self, make_ledger):
        ledger = make_ledger()
        ledger.record_rows([*ROWS, Row("pack", full_tokens=7)])
        (total,) = ledger.summary()
        counts = total.requests, total.prompt_tokens, total.cached_tokens, total.completion_tokens, total.full_tokens
        assert counts == (1, 20, 0, 7, 7)
        assert {type(count) for count in counts} == {int}
        assert type(total.seconds) is float

    @pytest.mark.parametrize(
        ("by", "names"),
        [
            ("kind", ["inference", "training", "maintenance"]),
            ("tier", ["", "exact"]),
            ("outcome", ["", "audited"]),
            ("day", ["1970-01-02"]),
        ],
    )
    def test_rows_are_summed_by_each_part(self, make_ledger, by, names):
        ledger = make_ledger(clock=lambda: DAY + 1.0)
        ledger.record_rows([*ROWS, Row("cache", tier="exact", seconds=0.5), Row("train", seconds=2.0)])
        ledger.record_rows([Row("decode", outcome="audited", seconds=1.0)])
        assert [part.name for part in ledger.summary(by=by)] == names
        assert ledger.receipt(by).total.seconds == 9.5

    def test_a_machine_of_known_power_turns_its_cpu_seconds_into_joules(self, make_ledger):
        ledger = make_ledger(watts=10)
        ledger.record_rows(ROWS)
        assert [row["joules"] for row in ledger.rows()] == [20.0, 5.0, None]

    def test_the_rows_can_be_exported(self, make_ledger):
        ledger = make_ledger(clock=lambda: 1.5)
        ledger.record_rows(ROWS)
        table = list(csv.DictReader(io.StringIO(ledger.to_csv())))
        assert [row["stage"] for row in table] == [row["stage"] for row in json.loads(ledger.to_json())]
        assert (table[0]["time"], table[0]["joules"], table[2]["cost"]) == ("1.5", "", "0.5")

    def test_rows_are_kept_for_as_many_days_as_asked(self, make_ledger):
        for day in range(4):
            make_ledger(clock=lambda day=day: day * DAY).record_rows(ROWS)
        ledger = make_ledger(keep_days=1, clock=lambda: 3 * DAY)
        assert [part.name for part in ledger.summary(by="day")] == ["1970-01-03", "1970-01-04"]

    def test_an_answer_outlives_a_ledger_that_fails(self, make_ledger, execute, tmp_path, caplog):
        ledger = make_ledger()
        execute(f"ALTER TABLE {ledger.table} RENAME TO away")
        with open_rag(tmp_path / "kb", model=FakeModel(RIGHT), ledger=ledger) as rag:
            rag.add(leanrag.Document(PARK, id="park"))
            assert rag.ask(QUESTION).text.startswith(RIGHT[:-1])
        waiting = ledger.unwritten
        assert waiting > 0
        assert "rows of the ledger are not written" in caplog.text
        execute(f"ALTER TABLE away RENAME TO {ledger.table}")
        ledger.record_rows(ROWS)
        assert ledger.unwritten == 0
        assert len(ledger.rows()) == waiting + 3

    def test_the_day_is_shared_by_all_and_ends_at_midnight(self, make_ledger):
        now = [DAY - 10.0]
        make_ledger(clock=lambda: now[0]).record_rows([Row("remote", cost=2.5), Row("remote", cost=None)])
        ledger = make_ledger(budget=Budget(per_day=3.0), clock=lambda: now[0])
        assert isinstance(ledger, LimitsSpending)
        assert isinstance(ledger, RecordsStages)
        assert ledger.refusal(0.5, 0.0) is None
        assert "2.5 are spent" in ledger.refusal(0.51, 0.0)
        now[0] += 10
        assert ledger.refusal(0.51, 0.0) is None
