"""The questions of the benchmark of kinds can be answered from their documents, and are the same each time."""

from collections import Counter

import pytest

from benchmarks.kinds import HALVES, QUESTIONS, contains_span, make_kinds
from leanrag.documents.loading import load_file

KINDS = make_kinds()
GENERATED = 20  # the least that is there without data sets and without manuals on this machine


def test_there_are_kinds_enough_in_both_halves():
    assert len(KINDS) >= GENERATED
    assert set(Counter(HALVES.values())) == {"tuned", "held-out"}
    assert min(Counter(kind.half for kind in KINDS).values()) >= 10
    assert {kind.half for kind in make_kinds(half="tuned", n=1)} == {"tuned"}


def test_the_same_seed_makes_the_same_kinds():
    assert make_kinds(n=3) == make_kinds(n=3)
    assert make_kinds(n=3, seed=1) != make_kinds(n=3)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_answer_stands_in_what_is_loaded(kind, tmp_path):
    texts = {}
    for name, text in kind.files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        texts[name] = load_file(tmp_path / name).text
    assert len(kind.questions) == QUESTIONS
    assert len({question.text for question in kind.questions}) == QUESTIONS
    for question in kind.questions:
        for span in question.spans:
            assert any(contains_span(texts[name], span) for name in question.files), (question.text, span)
        assert contains_span(" ".join(question.spans).lower(), question.answer.lower()), question


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        ("| P-17 | 3 |\n| P-18 | 4 |", "P-18 | 4", True),
        ("### Is it **open**?\n\nYes.", "Is it open? Yes.", True),
        ("Hold key 12 for a second.", "Hold key 1", False),
        ("Hold key 1 for a second.", "Hold key 1", True),
        ("Hold key 12, then key 1.", "key 1", True),
        ("東京都に住む", "京都", True),
        ("step 1", "step 2", False),
    ],
)
def test_spans_are_found_whole_and_without_markup(text, span, expected):
    assert contains_span(text, span) is expected
