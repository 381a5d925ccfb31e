"""Questions that differ in one thing are told apart, and the same question in other words is not."""

import pytest

from leanrag.caching.guards import difference, is_follow_up, read_question


@pytest.mark.parametrize(
    ("question", "other", "expected"),
    [
        ("Is parking free for 30 minutes?", "Is parking free for 45 minutes?", "numbers"),
        ("What changed in 1.2.3?", "What changed in 1.3.2?", "numbers"),
        ("Is the pump safe at -5 degrees?", "Is the pump safe at 5 degrees?", "numbers"),
        ("Is the pump safe at −5 degrees?", "Is the pump safe at 5 degrees?", "numbers"),
        ("What does a bag of 1,5 kg cost?", "What does a bag of 15 kg cost?", "numbers"),
        ("Does the lock need key A and B?", "Does the lock need key A or B?", "opposites"),
        ("谁是总经理?", "谁是副总经理?", "names"),
        ("ร้านเปิดกี่โมง", "ร้านปิดกี่โมง", "names"),
        ("Is the shop open on Monday?", "Is the shop open on Sunday?", "numbers"),
        ("How many grams are in a cup?", "How many ounces are in a cup?", "numbers"),
        ("Can I return shoes?", "Can I not return shoes?", "negation"),
        ("Why doesn't the pump start?", "Why does the pump start?", "negation"),
        ("Which drugs are legal in Peru?", "Which drugs are illegal in Peru?", "negation"),
        ("Darf ich hier parken?", "Darf ich hier nicht parken?", "negation"),
        ("How tall is Mont Blanc?", "How tall is Mount Everest?", "names"),
        ("When does the HX-20 ship?", "When does the HX-30 ship?", "numbers"),
        ("Who wrote the report?", "When was the report written?", "question word"),
        ("How long is the walk to the station?", "How far is the walk to the station?", "question word"),
        ("What is the cheapest plan?", "What is the most expensive plan?", "one thing"),
        ("How do I enable alerts?", "How do I disable alerts?", "opposites"),
        ("Is tea healthier than coffee?", "Is coffee healthier than tea?", "order"),
        ("How far is the bus from Bonn to Kiel?", "How far is the bus from Kiel to Bonn?", "order"),
        ("Did Ada hire Bo?", "Did Bo hire Ada?", "order"),
        ("Did Ada hire Bo?", "Was Ada hired by Bo?", "order"),
        ("Explain the fee", "Explain the fee in French", "names"),
        ("explain the parking fee", "explain the parking fee as a table", "format"),
        ("What is the boiling point of ethanol?", "What is the boiling point of methanol?", "one thing"),
        ("Where do we store nickel?", "Where do we store old paint?", "one thing"),
        ("What does the pass cost?", "What does the pass for students cost?", "more words"),
        ("Who signs it?", "Who signs it?", "follow-up"),
    ],
)
def test_what_differs_is_named_from_both_sides(question, other, expected):
    assert difference(question, other) == difference(other, question) == expected


@pytest.mark.parametrize(
    ("question", "other"),
    [
        ("How do I reset my password?", "How can I reset the password?"),
        ("Where can I park my car?", "Where do I park the car?"),
        ("Who hired Ada?", "By whom was Ada hired?"),
        ("谁是总经理?", "谁是总经理"),
        ("Which releases does Ada sign off?", "Which releases are signed off by Ada?"),
        ("How long does a delivery take?", "What is the delivery time?"),
    ],
)
def test_the_same_question_in_other_words_passes(question, other):
    assert difference(question, other) is None


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("And in 2023?", True),
        ("What about weekends?", True),
        ("Who wrote it?", True),
        ("Is it open?", True),
        ("", True),
        ("Who wrote Faust?", False),
        ("Does the museum open before its shop does on public holidays?", False),
    ],
)
def test_a_question_that_leans_on_another_is_recognised(question, expected):
    assert is_follow_up(question) == expected


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,500 of 12,345,678", ["1500", "12345678"]),
        ("1,5 or 0.5", ["1,5", "0.5"]),
        ("at -5, −6 (-7) or 5-10 degrees, HX-20", ["-5", "-6", "-7", "5-10", "20"]),
    ],
)
def test_numbers_keep_signs_and_decimal_marks(text, numbers):
    assert list(read_question(text).numbers) == numbers
