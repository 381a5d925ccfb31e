"""Clauses that leave out what the clause before them says, and clauses that only tell a wish or a condition."""

import pytest

from tests.grounding.judging import is_supported

CASES = [
    ("The pool closes at 21:00; on Sundays at 17:00.", "When does the pool close on Sundays?", "17:00", "21:00"),
    (
        "The blade of the K3 is sharpened every two weeks; that of the K9 every five months.",
        "How often is the blade of the K3 sharpened?",
        "every two weeks",
        "every five months",
    ),
    (
        "Damage to the dam is paid for by the County, damage to the gate by the farmer.",
        "Who pays for damage to the gate?",
        "the farmer",
        "the County",
    ),
    (
        "- Fix a leak in the parser, noticed by Ole Dahl and repaired by Ida Voss.",
        "Who repaired the leak in the parser?",
        "Ida Voss",
        "Ole Dahl",
    ),
    (
        "Der Saft hält sich ungeöffnet zwei Jahre, geöffnet fünf Tage.",
        "Wie lange hält sich der Saft geöffnet?",
        "fünf Tage",
        "zwei Jahre",
    ),
    (
        "ferry exits with 0 on success, 3 if the berth is taken, and 6 if the tide is out.",
        "With which code does ferry exit if the berth is taken?",
        "3",
        "6",
    ),
]


@pytest.mark.parametrize(("text", "question", "right", "wrong"), CASES)
def test_a_clause_without_a_verb_takes_over_the_clause_before_it(text, question, right, wrong):
    assert is_supported(text, question, right)
    assert not is_supported(text, question, wrong)


WISHES = (
    "1. Gate. Ole suggested to paint it in April. Ida preferred October, and the board agreed with her.\n"
    "2. Feast. Karl proposed 4 July. All agreed.\n"
)


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("When will the gate be painted?", "in April", False),
        ("What did Ole suggest?", "to paint it in April", True),
        ("When is the feast?", "4 July", True),
    ],
)
def test_what_somebody_only_proposed_is_not_so(question, answer, expected):
    assert is_supported(WISHES, question, answer) == expected


CONDITIONS = (
    "If depth is zero, the search never stops. If width is at least two, the tree is cut in halves.\n\n"
    "If the tank is empty, the lamp blinks. Fill the tank up to the mark.\n"
)


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("What happens if depth is zero?", "The search never stops.", True),
        ("What happens if depth is zero?", "The tree is cut in halves.", False),
        ("What should I do if the tank is empty?", "Fill the tank up to the mark.", True),
    ],
)
def test_what_happens_under_another_condition_is_no_answer(question, answer, expected):
    assert is_supported(CONDITIONS, question, answer) == expected


@pytest.mark.parametrize(
    ("text", "question", "right", "wrong"),
    [
        ("The key turns from blue to white.", "Which colour has the key then?", "white", "blue"),
        (
            'The tables are now owned by the role "clerk" (previously the role "guest").',
            "Which role owns the tables?",
            "clerk",
            "guest",
        ),
        ("Switch the store from SQLite to Redis.", "Which store is used now?", "Redis", "SQLite"),
    ],
)
def test_what_something_changed_from_is_not_so_any_more(text, question, right, wrong):
    assert is_supported(text, question, right)
    assert not is_supported(text, question, wrong)
