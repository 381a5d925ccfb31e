"""The program that measures what runs on many machines."""

import pytest

from benchmarks.scale_out import __main__ as scale_out
from benchmarks.scale_out import simulation
from benchmarks.scale_out.local_replicas import TOKEN_SECONDS, LocalReplicas, Observed, question
from leanrag.planning import Rates, Scaling, simulate


def test_a_section_without_its_library_is_left_out(capsys, tmp_path):
    assert scale_out.measure_section("chaos", ("no_such_package",), tmp_path, True) == {}
    assert capsys.readouterr().out == "chaos is left out: no_such_package cannot be imported\n"


def test_the_sections_run_in_order_and_one_alone(monkeypatch, capsys, tmp_path):
    calls = []
    monkeypatch.setattr(scale_out, "SECTIONS", {"first": (), "second": ()})
    monkeypatch.setattr(
        scale_out, "measure_section", lambda name, packages, data, is_quick: calls.append(name) or {f"{name}_figure": 1}
    )
    monkeypatch.setattr("sys.argv", ["scale_out", "--data", str(tmp_path), "--quick"])
    scale_out.main()
    assert calls == ["first", "second"]
    monkeypatch.setattr("sys.argv", ["scale_out", "--data", str(tmp_path), "--only", "second"])
    scale_out.main()
    assert calls == ["first", "second", "second"]
    assert '"second_figure": 1' in capsys.readouterr().out


@pytest.mark.parametrize("name", scale_out.SECTIONS)
def test_a_section_has_a_plain_name(name):
    assert name.isidentifier()


def test_a_simulation_is_compared_with_what_happened():
    simulated = simulate([0.0, 10.0, 20.0, 30.0], [2.0, 2.0, 2.0, 3.0], scaling=Scaling(1, 1, interval_seconds=10))
    same = Observed(simulated.seconds.tolist(), simulated.times.tolist(), simulated.ready.tolist())
    figures = simulation.compare(simulated, same)
    errors = [figures[f"simulation_{name}_error"] for name in ("p50", "p95", "replicas")]
    assert errors == [0, 0, 0]
    other = Observed([4.0, 4.0, 4.0, 2.0], [1.0, 11.0, 21.0], [1, 2, 2])
    figures = simulation.compare(simulated, other)
    assert (figures["simulation_p50_s"], figures["simulation_real_p50_s"]) == (2.0, 4.0)
    assert figures["simulation_p50_error"] == 0.5
    assert figures["simulation_p95_error"] == 0.25
    assert figures["simulation_replicas_error"] == pytest.approx(2 / 5)


@pytest.mark.slow
def test_local_replicas_answer_and_scale():
    """A real run of some seconds: every question is answered, a replica starts, and the known times are kept."""
    arrivals = [0.0] * 4 + [0.5 * i for i in range(1, 12)]
    texts = [question(i, 20) for i in range(len(arrivals))]
    scaling = Scaling(1, 2, target=1.5, interval_seconds=0.5, down_seconds=100)
    observed = LocalReplicas(scaling, 2, load_seconds=0).run(arrivals, texts)
    assert len(observed.seconds) == len(arrivals)
    assert min(observed.seconds) >= 20 * TOKEN_SECONDS
    assert len(observed.start_seconds) == observed.ready[-1] == 2
    assert observed.ready[0] == 1


@pytest.mark.slow
def test_the_plan_of_a_hundred_replicas_meets_its_target():
    rates = Rates(question_seconds=1.5, variation=0.2, speedup={1: 1, 4: 1.5}, cores=2)
    result = simulation.planned(rates)
    assert (result.space.chunks, result.replicas.most, result.demand.peak) == (10_000_000, 100, 5)
    assert result.meets_target
    assert result.cost.month > 0
