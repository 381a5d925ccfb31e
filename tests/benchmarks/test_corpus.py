from benchmarks.corpus.damaged import damaged_databases
from benchmarks.corpus.kills import kill_writers


def test_killed_writers_lose_nothing(tmp_path):
    assert kill_writers(tmp_path, 5) == {"kills": 5, "kills_lost": 0, "kills_orphans": 0}


def test_damaged_databases_are_noticed_and_repaired(tmp_path):
    assert damaged_databases(tmp_path, 5) == {
        "damaged": 25,
        "damaged_crashes": 0,
        "damaged_untyped": 0,
        "damaged_unnoticed": 0,
        "damaged_unrepaired": 0,
    }
