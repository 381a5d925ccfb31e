"""What each stage brings: the runs, the table, the picture."""

import itertools
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import ConfigurationError
from leanrag.evaluation import bench
from leanrag.evaluation.frontier import non_dominated
from leanrag.evaluation.pictures import Dot, scatter_svg
from leanrag.testing import FakeModel, HashEmbedder
from tests.stories import NILE, PARK, model, open_rag

ROWS = [(f"Who signs off release {n}?", ["Ada Park"]) for n in range(8)]


@pytest.fixture
def folder(tmp_path):
    with open_rag(tmp_path / "kb") as rag:
        rag.add_text(PARK, id="park")
        rag.add_text(NILE, id="nile")
    return tmp_path / "kb"


def ask(folder, *names, **options):
    models = [model(name, wrong=lambda n, name=name: name == "small" and n % 4 == 0) for name in names]
    return models, bench(folder, ROWS, models=models, embedder=HashEmbedder(), **options)


@pytest.mark.slow
def test_one_model(folder):
    (large,), result = ask(folder, "large")
    assert [run.name for run in result.runs] == ["all passages", "packed", "asked again"]
    assert [summary.figure("contained").value for summary in result.summaries] == [1, 1, 1]
    assert [change.difference for change in result.changes] == [0, 0]
    assert len(large.prompts) == 16  # the last run asks no model
    all_passages, packed, _ = (summary.figure("prompt tokens").value for summary in result.summaries)
    assert packed <= all_passages


@pytest.mark.slow
def test_several_models(folder):
    (small, _), result = ask(folder, "small", "large")
    values = {
        run.name: summary.figure("contained").value for run, summary in zip(result.runs, result.summaries, strict=True)
    }
    assert values == {"all passages": 1, "packed": 1, "smallest model": 0.75, "cascade": 1, "asked again": 1}
    assert len(small.prompts) == 16
    assert result.changes[1].difference == -0.25
    assert result.changes[2].mcnemar_p == 0.5


@pytest.mark.slow
def test_the_table_and_the_picture(folder):
    _, result = ask(folder, "small", "large")
    lines = str(result).splitlines()
    assert lines[0] == "8 questions"
    assert lines[2].split("  ")[0] == "run"
    assert f"-25.0 [{100 * result.changes[1].low:+.1f}, {100 * result.changes[1].high:+.1f}]" in str(result)
    assert "8 questions say little" in lines[-1]
    picture = ElementTree.fromstring(result.to_svg())
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"seconds p50 of a question", "right answers", "all passages", "cascade"} <= set(texts)
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}circle"))) == 5


@pytest.mark.slow
def test_runs_are_kept_and_not_asked_again(folder, tmp_path):
    _, first = ask(folder, "large", out=tmp_path / "out")
    (large,), second = ask(folder, "large", out=tmp_path / "out")
    assert second == first
    assert large.prompts == []


@pytest.mark.slow
def test_questions_are_made_when_there_are_none(tmp_path):
    with open_rag(tmp_path / "kb") as rag:
        rag.add_text("The Nile is the longest river of Africa. It was measured in 1862 by many people.", id="nile")
    result = bench(tmp_path / "kb", models=[FakeModel("In 1862.")], embedder=HashEmbedder(), n=2)
    assert result.made.kept == {"cloze": 1, "definition": 1}
    assert result.summaries[0].figure("contained").value == 0.5
    assert "candidates" in str(result).splitlines()[0]


def test_questions_without_answers_are_refused(folder):
    with pytest.raises(ConfigurationError, match="no question has a right answer"):
        bench(folder, ["Who?"], models=[model()], embedder=HashEmbedder())


# The frontier and the picture


points = st.lists(st.tuples(st.floats(0, 9), st.floats(0, 1)), max_size=20)


@given(points)
def test_no_point_of_the_front_is_dominated_and_every_other_point_is(rows):
    def dominates(a, b):
        return a[0] <= b[0] and a[1] >= b[1]

    front = [rows[i] for i in non_dominated([x for x, _ in rows], [y for _, y in rows])]
    assert all(not dominates(a, b) for a, b in itertools.permutations(front, 2))
    assert all(any(dominates(a, b) for a in front) for b in rows)
    assert front == sorted(front)


def test_a_picture_is_well_formed_whatever_its_names():
    dots = [Dot('a < b & "c"', 0, 0), Dot("", 2, 1, 0.5, 1, "front"), Dot("x", 1, 0.5, kind="chosen")]
    picture = ElementTree.fromstring(scatter_svg(dots, x_label="<cost>", y_label="&"))
    circles = list(picture.iter("{http://www.w3.org/2000/svg}circle"))
    assert [(float(one.get("cx")), float(one.get("cy"))) for one in circles] == [(70, 384), (546.2, 24), (308.1, 204)]
    with pytest.raises(ConfigurationError, match="at least one point"):
        scatter_svg([], x_label="", y_label="")
