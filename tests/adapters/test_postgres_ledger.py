"""The ledger in a real PostgreSQL."""

import contextlib
import subprocess
import sys

import pytest

from leanrag import ConfigurationError
from leanrag.errors import EngineError
from leanrag.ledger import Budget, Row
from leanrag.ledger.book import RecordedRow
from tests.ledger_suite import ROWS, LedgerSuite

SPEND = """
import sys
from leanrag.adapters import PostgresLedger
from leanrag.ledger import Budget, Row
with PostgresLedger(sys.argv[1], budget=Budget(per_day=10.0), clock=lambda: 0.0) as ledger:
    while ledger.refusal(1.0, 0.0) is None:
        ledger.record_rows([Row("remote", cost=1.0)])
        print("spent", flush=True)
"""


class TestPostgresLedger(LedgerSuite):
    @pytest.fixture
    def make_ledger(self, postgres, execute):
        from leanrag.adapters import PostgresLedger

        execute("DROP TABLE IF EXISTS leanrag_stages")
        with contextlib.ExitStack() as ledgers:
            yield lambda **options: ledgers.enter_context(PostgresLedger(postgres, **options))

    @pytest.mark.slow
    def test_processes_keep_to_one_budget(self, make_ledger, postgres):
        ledger = make_ledger(budget=Budget(per_day=10.0), clock=lambda: 0.0)
        ledger.record_rows([Row("remote", cost=3.0)])
        spent = []
        for _ in range(2):
            done = subprocess.run([sys.executable, "-c", SPEND, postgres], capture_output=True, text=True, check=True)
            spent.append(done.stdout.count("spent"))
        assert spent == [7, 0]
        assert "10 are spent" in ledger.refusal(0.1, 0.0)

    def test_rows_that_are_sent_twice_are_there_once(self, make_ledger):
        ledger = make_ledger()
        rows = [RecordedRow(1.0, "question", i, row) for i, row in enumerate(ROWS)]
        for _ in range(2):
            ledger._insert(rows)
        assert [row["stage"] for row in ledger.rows()] == ["prefill", "decode", "remote"]

    def test_rows_wait_while_the_server_has_gone(self, make_ledger, execute, caplog):
        ledger = make_ledger(budget=Budget(per_day=1.0), clock=lambda: 0.0)
        ledger.record_rows(ROWS)
        execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        ledger.record_rows(ROWS)
        assert (ledger.unwritten, "not written" in caplog.text) == (3, True)
        assert ledger.spent_today() == 1.5
        ledger.close()
        assert len(make_ledger().rows()) == 6

    def test_a_table_of_another_version_is_refused(self, make_ledger, execute):
        make_ledger()
        execute("COMMENT ON TABLE leanrag_stages IS 'leanrag ledger 9'")
        with pytest.raises(EngineError, match=r"'leanrag ledger 9'.*'leanrag ledger 1'.*Rename the table"):
            make_ledger()

    @pytest.mark.parametrize("options", [{"keep_days": 0}, {"watts": -1}, {"timeout_seconds": 0}])
    def test_arguments_out_of_range_are_refused(self, postgres, options):
        from leanrag.adapters import PostgresLedger

        with pytest.raises(ConfigurationError, match=next(iter(options))):
            PostgresLedger(postgres, **options)


def test_a_server_that_is_down_is_named():
    pytest.importorskip("psycopg")
    from leanrag.adapters import PostgresLedger

    with pytest.raises(EngineError, match=r"127\.0\.0\.1:9/kb cannot be reached.*Start the server") as raised:
        PostgresLedger("postgresql://user:secret@127.0.0.1:9/kb")
    assert "secret" not in str(raised.value)
