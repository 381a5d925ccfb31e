"""`leanrag plan`: text, JSON, exit codes, and what cannot work."""

import json

import pytest

from leanrag.cli import main as cli
from leanrag.planning import Rates

QUICK = (
    "plan",
    "--documents",
    "10M",
    "--questions",
    "5/s",
    "--p95",
    "3s",
    "--question-time",
    "500ms",
    "--variation",
    "0.3",
)
PRICES = """
machines:
  - {name: c16, cores: 16, memory_gib: 64, hour: 0.70, spot_hour: 0.20}
  - {name: gpu, cores: 16, memory_gib: 64, gpus: 1, hour: 2.0}
disk_gib_month: 0.08
"""


@pytest.fixture
def prices(tmp_path):
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    return str(tmp_path / "prices.yaml")


def test_a_plan_prints_what_it_takes(capsys, prices):
    assert cli.main([*QUICK, "--prices", prices, "--cores", "2", "--speedup", "4:2.5"]) == 0
    text = capsys.readouterr().out
    for part in ("10,000,000, 14.3 GiB of vectors", "of c16", "USD", "p95 of 3 s is met"):
        assert part in text


def test_a_plan_as_json(capsys, prices):
    assert cli.main([*QUICK, "--prices", prices, "--json", "--peak", "2", "--seed", "3"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["space"]["chunks"] == 10_000_000
    assert value["meets_target"] is True
    assert value["simulated"]["seed"] == 3
    assert value["cost"]["machine"] == "c16"
    assert value["replicas"]["most"] >= value["replicas"]["least"] >= 1


def test_gpus_are_counted(capsys, prices):
    assert cli.main([*QUICK, "--prices", prices, "--gpus", "1"]) == 0
    text = capsys.readouterr().out
    assert "GPUs" in text
    assert "of gpu" in text


def test_too_few_replicas_fail(capsys):
    assert cli.main([*QUICK, "--replicas", "1"]) == 1
    assert "p95 of 3 s is NOT met" in capsys.readouterr().out


def test_spot_machines_and_a_trace(capsys, prices, tmp_path):
    trace = tmp_path / "trace.txt"
    trace.write_text("\n".join(str(second / 4) for second in range(2000)), encoding="utf-8")
    assert cli.main(
        [*QUICK, "--prices", prices, "--spot", "5", "--trace", str(trace), "--least", "0", "--replicas", "9"]
    ) in (0, 1)
    assert "0 to 9" in capsys.readouterr().out


def test_rates_of_a_file(capsys, tmp_path):
    (tmp_path / "rates.json").write_text(Rates(model="mine", question_seconds=0.2).model_dump_json(), encoding="utf-8")
    command = ["plan", "--documents", "1k", "--p95", "1s", "--rates", str(tmp_path / "rates.json")]
    assert cli.main(command) == 0
    assert "mine, 1 questions at once" in capsys.readouterr().out


def test_rates_that_are_not_passed_are_measured(capsys, monkeypatch):
    asked = []

    def measure(model, *, embedder, again):
        asked.append((model, embedder, again))
        return Rates(model=model, question_seconds=0.2, add_seconds_chunk=0.01)

    monkeypatch.setattr("leanrag.planning.rates_of_this_machine", measure)
    command = ["plan", "--documents", "360k", "--p95", "1s", "--model", "smollm2-135m", "--cores", "3", "--measure"]
    assert cli.main(command) == 0
    assert asked == [("smollm2-135m", "all-minilm-l6-v2", True)]
    assert "1.0 hours of a replica" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--documents", "0"], "`documents` must be from 1 to"),
        (["--documents", "ten"], "a number must be written such as"),
        (["--questions", "0/s"], "`questions_per_second` must be positive"),
        (["--questions", "1/year"], "a rate must be written such as"),
        (["--p95", "100ms"], "cannot be met: 95 of 100 questions take up to 0.907 s"),
        (["--peak", "0"], "`peak` must be at least 1"),
        (["--question-time", "0s"], "question_seconds"),
        (["--variation", "-1"], "variation"),
        (["--speedup", "four"], "a speedup must be written as"),
        (["--prices", "missing.yaml"], "cannot read the prices"),
        (["--trace", "missing.txt"], "cannot read the trace"),
        (["--replicas", "0"], "`replicas` must be from 1"),
        (["--replicas", "2", "--least", "3"], "`least_replicas` must be at most `replicas`"),
        (["--spot", "0"], "`per_hour` must be positive"),
        (["--start", "soon"], "a length of time must be written such as"),
    ],
)
def test_what_cannot_work(capsys, options, message):
    assert cli.main([*QUICK, *options]) == 2
    assert message in capsys.readouterr().err
