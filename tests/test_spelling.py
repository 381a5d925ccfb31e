"""Phrases that say the same are spelt the same."""

import pytest

from leanrag.grounding.spelling import normalise

BOUNDS = {
    "atleast": """at least|no less than|not fewer than|no earlier than|a minimum of|not below|no sooner than|mindestens|wenigstens
        nicht weniger als|au moins|au minimum|pas moins de|al menos|por lo menos|como mínimo|no menos de|almeno|non meno di
        pelo menos|minstens|ten minste|не менее|≥|>=""",
    "atmost": """at most|at the most|no more than|not later than|a maximum of|up to|not exceeding|not above|höchstens|maximal
        bis zu|nicht mehr als|au plus|au maximum|pas plus de|como máximo|a lo sumo|no más de|al massimo|non più di|no máximo
        hoogstens|не более|≤|<=|must not exceed""",
    "morethan": """more than|greater than|higher than|longer than|in excess of|exceeds|over|above|mehr als|über|plus de|más de
        sobre|più di|mais de|meer dan|более""",
    "lessthan": """less than|fewer than|lower than|shorter than|under|below|weniger als|unter|moins de|menos de|bajo|meno di
        minder dan|менее""",
}  # fmt: skip
PHRASES = [
    (word, phrase.strip())
    for word, phrases in BOUNDS.items()
    for line in phrases.splitlines()
    for phrase in line.split("|")
]


@pytest.mark.parametrize(("word", "phrase"), PHRASES)
def test_bounds_of_all_languages_have_one_word(word, phrase):
    assert normalise(f"It takes {phrase} 5 days.").split() == ["It", "takes", word, "5", "days."]
    assert word in normalise(f"{phrase.capitalize()} 5 days")


@pytest.mark.parametrize(
    "text",
    [
        "5 or more",
        "5 or above",
        "5 or older",
        "5 or higher",
        "5 or later",
        "5 oder mehr",
        "5 ou plus",
        "5 o más",
        "5 und älter",
    ],
)
def test_bounds_behind_the_number(text):
    assert normalise(text).split() == ["5", "ormore"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Don’t", "Do not"),
        ("It cannot rise.", "It can not rise."),
        ("He signs off on it.", "He sign it."),
        ("10 degrees Celsius", "10 °C"),
        ("5 Prozentpunkte", "5 points_percent"),
        ("Switch the pump off.", " the pump disable."),
        ("10\u00a0000 people", "10'000 people"),
        ("10²", "10^2"),
        ("Ada\u200b — Bo", "Ada ; Bo"),
        ("Type `serve`.", "Type 'serve'."),
    ],
)
def test_phrases_and_signs_have_one_spelling(text, expected):
    assert normalise(text) == expected
