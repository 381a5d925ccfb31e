"""Words that a line break divides."""

import pytest

from leanrag.grounding.spelling import normalise
from tests.grounding.judging import is_supported


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("com-\npression", "compression"),
        ("com\u2010\n     pression", "compression"),
        ("self-\npriming", "self-priming"),
        ("Jean-\nPaul", "Jean-Paul"),
        ("/usr/share/\npython3/defaults", "/usr/share/python3/defaults"),
        ("pages 3-\n5", "pages 3-\n5"),
        ("the end -\nthen", "the end -\nthen"),
    ],
)
def test_joins_them(text, expected):
    assert normalise(text) == expected


SCAN = (
    "The quarry was aban-\ndoned in Feb-\nruary 1911. Its fore-\nman, Anders Lund-\nqvist, moved to the glass-\nworks."
)


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("When was the quarry abandoned?", "in February 1911", "in January 1911"),
        ("Who was the foreman?", "Anders Lundqvist", "Anders Lundgren"),
        ("Where did the foreman move?", "to the glassworks", "to the docks"),
    ],
)
def test_judges_answers_about_a_scan(question, right, wrong):
    assert is_supported(SCAN, question, right)
    assert not is_supported(SCAN, question, wrong)
