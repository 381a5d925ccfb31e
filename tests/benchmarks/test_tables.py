"""The figures in the documentation are those of the committed results."""

import json

import pytest

from benchmarks import tables

RESULTS = sorted((tables.HOME / "results").glob("*.json"))


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: page.name)
def test_the_tables_are_those_of_the_results(page):
    assert f"\n{tables.pages()[page]}\n" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_a_result_is_indented_json(path):
    text = path.read_text(encoding="utf-8")
    assert text == json.dumps(json.loads(text), indent=1) + "\n"


def test_the_readme_has_ten_figures():
    assert len(tables.highlights().splitlines()) == 2 + 10
