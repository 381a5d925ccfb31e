"""Values in log lines, invoices, changelogs, talks, manuals and other lines that are not sentences."""

import pytest

from leanrag.grounding.reading import read_tokens
from tests.grounding.judging import is_supported

LOG = (
    "2026-03-01 04:00:02 INFO sync: 5120 rows copied, 37 MB\n"
    "2026-03-01 04:10:40 WARN sync: 8 rows skipped, access denied\n"
    "2026-03-01 04:11:00 INFO sync: finished, exit code 0\n"
    "2026-03-02 04:11:00 INFO sync: finished, exit code 9\n"
)
BILL = "Ordered: 4 May 2026        Shipped: 9 May 2026\n\nNet 80.00   Tax 16.00   Total 96.00\n\n2% off if paid within 8 days.\n"
CHANGES = (
    "# Changes\n\n## 7.2.0 (2026-05-03)\n- Add the option `--brief`. Thanks to Ida Voss.\n"
    "- Deprecate `old_open()`. It will be dropped in 8.0.\n\n## 7.1.4 (2026-02-11)\n- Add a cache.\n"
)
CLASSES = "small = {\n\tdepth = 4\n\tratio = 4096\n}\nwide = {\n\tdepth = 9\n\tratio = 8192\n}\n"
ADDRESSES = "Invoice: 2026-7\nBill to: Quarry Bakery, 5 Mole Street\nFrom: Lumen Works, 80 Forge Road\n"
TALK = (
    "[3/4/2026, 18:01] Ole: Who feeds the cat?\n[3/4/2026, 18:02] Karl: I can't, I'm away. Ask Ida, she has a key.\n"
    "[3/4/2026, 18:09] Ole: Ida says yes.\n"
)
MANUAL = "+K     List the keys of each file.\n\n+V     List the vaults.\n"
GERMAN = (
    "Die Stadt holt das Altpapier am Montag ab. Das Glas bringt jeder selbst weg.\n\n"
    "Anträge nimmt das Bürgeramt entgegen. Der Stadtrat stimmt ihnen zu.\n\n"
    "Gibt die größte Teilmenge in KiB an (1024 bytes).\n"
)

CASES = [
    (LOG, "How many rows were copied?", "5120", "37"),
    (LOG, "How many rows were skipped on 1 March?", "8", "5120"),
    (LOG, "With which exit code did it finish on 2 March?", "9", "0"),
    (BILL, "When was it shipped?", "9 May 2026", "4 May 2026"),
    (BILL, "What is the total?", "96.00", "80.00"),
    (CHANGES, "Who added the option --brief?", "Ida Voss", "Ole Dahl"),
    (CHANGES, "When will old_open() be dropped?", "in 8.0", "in 7.2.0"),
    (CLASSES, "What is the ratio of wide?", "8192", "4096"),
    (ADDRESSES, "What is the address of Quarry Bakery?", "5 Mole Street", "80 Forge Road"),
    (TALK, "Who feeds the cat?", "Ida", "Karl"),
    (MANUAL, "Which option lists the keys of each file?", "+K", "+V"),
    (GERMAN, "Wer stimmt Anträgen zu?", "der Stadtrat", "das Bürgeramt"),
]


@pytest.mark.parametrize(("text", "question", "right", "wrong"), CASES)
def test_a_value_belongs_to_its_line(text, question, right, wrong):
    assert is_supported(text, question, right)
    assert not is_supported(text, question, wrong)


def test_the_separated_prefix_of_a_german_verb_belongs_to_it():
    tokens = read_tokens("Die Stadt holt das Altpapier am Montag ab und bringt Glas weg.", german=True)
    bases = {token.text: token.base for token in tokens}
    assert (bases["holt"], bases["bringt"]) == ("abhol", read_tokens("wegbring", german=True)[0].base)
    assert bases["holt"] == read_tokens("abgeholt", german=True)[0].base


@pytest.mark.parametrize(
    ("text", "kind", "base"),
    [
        ("+K", "identifier", "+K"),
        ("+k9", "identifier", "+k9"),
        ("app.log.2", "identifier", "app.log.2"),
        ("due", "word", "due"),
        ("once", "word", read_tokens("once")[0].base),
        ("C", "word", "c"),
    ],
)
def test_words_that_may_be_read_otherwise(text, kind, base):
    token = read_tokens(f"It is {text} here")[2]
    assert (token.kind, token.base) == (kind, base)


@pytest.mark.parametrize(
    ("text", "language", "number"), [("due giorni", {"decimal_comma": True}, 2), ("elf Tage", {"german": True}, 11)]
)
def test_number_words_of_other_languages_stay_numbers(text, language, number):
    quantity = read_tokens(text, **language)[0].quantity
    assert quantity is not None
    assert quantity.number == number


def test_binary_units_are_data():
    quantity = read_tokens("at most 450 KiB")[-1].quantity
    assert quantity is not None
    assert (quantity.value, quantity.number, quantity.dimension) == (460800.0, 450.0, "data")
