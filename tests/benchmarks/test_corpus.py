import sys

import numpy as np
import pytest

from benchmarks.corpus import __main__ as corpus
from benchmarks.corpus import peers
from benchmarks.corpus.damaged import damaged_databases
from benchmarks.corpus.kills import kill_writers
from benchmarks.corpus.material import questions
from benchmarks.corpus.peer_program import fuse

pytestmark = pytest.mark.slow  # measures


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


def test_a_small_folder_has_all_figures_of_its_size(tmp_path):
    figures = corpus.measure(tmp_path / "kb", 2000, questions(5))

    assert {"hybrid_p50_ms", "filter_p50_ms_worst", "first_search_s", "rss_gb", "longest_wait_ms"} < figures.keys()
    assert figures["filter_hits_least"] == 10
    assert figures["recall10"] == 1.0
    assert figures["disk_bytes_chunk"] > 1536  # the vector alone


def test_a_peer_that_is_not_installed_is_left_out(capsys, monkeypatch):
    monkeypatch.setattr(peers, "PEERS", ("missing",))

    figures = peers.compare_peers(sys.executable, 100, questions(2))

    assert "missing is left out: " in capsys.readouterr().out
    assert figures["hybrid_vs_best_peer"] is None
    assert figures["add_vs_lancedb"] is None
    assert figures["own_hybrid_ms"] > 0


def test_peers_are_compared_by_the_fastest(monkeypatch):
    found = np.zeros((2, 10), int).tolist()
    results = {
        "lancedb": {
            "add_s": 2.0,
            "dense": {"seconds": [1, 1], "found": found},
            "hybrid": {"seconds": [4, 4], "found": found},
        },
        "sqlite_vec": {
            "add_s": 4.0,
            "dense": {"seconds": [1, 1], "found": found},
            "hybrid": {"seconds": [2, 2], "found": found},
        },
        "chroma": {"add_s": 1.0, "dense": {"seconds": [1, 1], "found": found}},
    }
    monkeypatch.setattr(peers, "_run", lambda _python, peer, _folder: results.get(peer))

    figures = peers.compare_peers("python", 100, questions(2))

    assert figures["hybrid_vs_best_peer"] == figures["own_hybrid_ms"] / 2000
    assert figures["add_vs_lancedb"] == figures["own_add_s"] / 2
    assert figures["add_vs_sqlite_vec"] == figures["own_add_s"] / 4


@pytest.mark.parametrize(
    ("lists", "best"), [([[1, 2], [2, 3]], [2, 1, 3]), ([[5], []], [5]), ([list(range(20)), []], list(range(10)))]
)
def test_ranks_are_fused(lists, best):
    assert fuse(*lists) == best
