"""The program that measures what runs on many machines."""

import pytest

from benchmarks.scale_out import __main__ as scale_out


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
