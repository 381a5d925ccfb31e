"""German compounds and their parts."""

import pytest

from leanrag.grounding.compounds import fit_compounds
from leanrag.grounding.reading import read_tokens
from tests.grounding.judging import is_supported


def read(text):
    return read_tokens(text, decimal_comma=True, german=True)


def fitted(text, source):
    known = {token.word: token for token in read(source) if token.is_content}
    return [token.word for token in fit_compounds(read(text), known) if token.is_content]


@pytest.mark.parametrize(
    ("text", "source", "expected"),
    [
        ("die Rückgabefrist", "Die Frist der Rückgaben endet.", ["rückgaben", "frist"]),
        ("die Wandstärke", "Stärke der Wände", ["wände", "stärke"]),
        ("die Ölmenge", "Menge des Öls", ["öls", "menge"]),
        ("die Frist für den Antrag", "Antragsfrist: Mai", ["antragsfrist", "antragsfrist"]),
        ("die Rückgabefrist", "Die Frist der Zahlung endet.", ["rückgabefrist"]),
        ("die Antragsfrist", "Antragsfrist: Mai", ["antragsfrist"]),
    ],
)
def test_splits_and_joins(text, source, expected):
    assert fitted(text, source) == expected


RULES = (
    "Die Frist für Rückgaben beträgt 30 Tage. Die Garantie gilt zwei Jahre. Die Kosten des Versands liegen bei 4 Euro.\n\n"
    "Der Bedarf an Holz lag bei 12 Tonnen, der Bedarf an Sand bei 7 Kubikmetern."
)


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("Wie lang ist die Rückgabefrist?", "30 Tage", "zwei Jahre"),
        (
            "Wie hoch sind die Versandkosten?",
            "Die Versandkosten liegen bei 4 Euro.",
            "Die Versandkosten liegen bei 30 Euro.",
        ),
        ("Wie hoch war der Holzbedarf?", "12 Tonnen", "7 Kubikmeter"),
        ("Wie hoch war der Sandbedarf?", "7 Kubikmeter", "12 Tonnen"),
    ],
)
def test_judges_answers_to_questions_with_compounds(question, right, wrong):
    assert is_supported(RULES, question, right)
    assert not is_supported(RULES, question, wrong)
