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


# Rows of comma-separated cells, whose numbers have no space between them

FERRIES = (
    "ferry,pier,skipper,mate,cars,load_percent,last_survey,next_survey\n"
    "F-204,north 2,Ida Voss,Ole Dahl,36,70,2025-03-01,2027-03-02\n"
    "F-417,south 1,Karl Emm,Mia Roth,52,85,2025-06-11,2027-06-12\n"
)
SHELF = 'code,"price, EUR",stock,grower\nK-11,"1,250.50",12,Ida Voss\nK-12,,40,\nK-13,"2,900.00",7,Ole Dahl\n'
ROWS = [
    (FERRIES, "How many cars does F-417 take?", "52", "85"),
    (FERRIES, "What is the load of F-204?", "70", "2025-03-01"),
    (FERRIES, "When was the ferry at pier north 2 last surveyed?", "2025-03-01", "2027-03-02"),
    (FERRIES, "When is the next survey of F-417?", "2027-06-12", "2025-06-11"),
    (FERRIES, "Who is the skipper of ferry F-204?", "Ida Voss", "Ole Dahl"),
    (FERRIES, "Who steers ferry F-417?", "Karl Emm", "Ida Voss"),
    (SHELF, "What is the price of K-13?", "2,900.00", "7"),
    (SHELF, "How many of K-12 are in stock?", "40", "12"),
    (SHELF, "Who is the grower of code K-11?", "Ida Voss", "Ole Dahl"),
]


@pytest.mark.parametrize(("text", "question", "right", "wrong"), ROWS)
def test_a_value_belongs_to_its_cell(text, question, right, wrong):
    assert is_supported(text, question, right)
    assert not is_supported(text, question, wrong)


def test_a_row_may_leave_out_its_last_cells():
    table = (
        "code,name,begun,opened,closed,sold\n1.4,Ox,1996-02-12,1997-08-05\n1.5,Elk,1997-08-05,1998-07-24,2001-03-09\n"
    )
    assert is_supported(table, "When was Ox opened?", "1997-08-05")
    assert not is_supported(table, "When was Ox opened?", "1996-02-12")
    assert not is_supported(table, "When was Elk opened?", "1997-08-05")


def test_an_empty_cell_holds_no_number_of_another_column():
    assert not is_supported(SHELF, "What is the price of K-12?", "40")


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


HEADED = "Version 4.2\n\n* The parser reads empty files.\n\n* The limit is wrong in loops. This flaw came with release 4.0.\n\n"
MAIL = (
    "From: Ida Voss <ida@forge.example>\nTo: Ole Dahl <ole@forge.example>\nSubject: Moving\n\n"
    "Hi Ole,\n\nthe painters come on 3 June. Karl carries the boxes to room 5; the old lifts stop on 9 June.\n"
)
ISSUE = "Severity: low (was: urgent)\nState: open\n"
STORE = "* width now tells the size of the used part (24 bytes at first), not the size of a page (64 bytes at first).\n"
AVIS = "Le musée ouvre à 9 heures et ferme à 18 heures, sauf le lundi où il ferme à 13 heures.\n"
CHINESE = "游泳馆早上七点开门，晚上十点关门。\n会员每次可以带三十人，租期为二十天。\n张老师负责买票，刘老师负责检票。\n"


@pytest.mark.parametrize(
    ("text", "question", "right", "wrong"),
    [
        (HEADED, "With which release did the flaw come?", "4.0", "4.2"),
        (MAIL, "When do the painters come?", "on 3 June", "on 9 June"),
        (MAIL, "Who carries the boxes?", "Karl", "Ida Voss"),
        (ISSUE, "Which severity has it?", "low", "urgent"),
        (STORE, "How large is the used part at first?", "24 bytes", "64 bytes"),
        (AVIS, "À quelle heure le musée ferme-t-il le lundi ?", "à 13 heures", "à 9 heures"),
        (CHINESE, "游泳馆几点开门？", "早上七点", "晚上十点"),
        (CHINESE, "谁负责检票？", "刘老师", "张老师"),
        (CHINESE, "租期是多少天？", "二十天", "三十天"),
    ],
)
def test_a_value_belongs_to_its_part_of_the_text(text, question, right, wrong):
    assert is_supported(text, question, right)
    assert not is_supported(text, question, wrong)


def test_a_chinese_clause_may_leave_out_its_object():
    assert is_supported("聚会在二楼举行，由王芳主持。午饭在聚会之后。\n", "谁主持聚会？", "王芳")


def test_a_row_without_words_is_no_candidate():
    text = "| Tool | Price |\n|---|---|\n| ! | ? |\n| Saw | 3 EUR |\n"
    assert is_supported(text, "What is the price of the saw?", "3 EUR")


ROOMS = "| Room | Lift | Seats |\n|---|---|---|\n| Elm | yes | 20 |\n| Fir | no | 60 |\n\n"
RULES = (
    "No boats or rafts of guests are towed. The cache is not enabled by default.\n\nEnable the cache in the menu.\n\n"
    "A tunnel under the lake was rejected. The council approved the bridge.\n\nThe old pump will not be repaired.\n"
)


@pytest.mark.parametrize(
    ("text", "question", "right"),
    [
        (ROOMS, "Does Elm have a lift?", "Yes"),
        (ROOMS, "Does Fir have a lift?", "No"),
        (RULES, "Are boats of guests towed?", "No"),
        (RULES, "Is the cache enabled by default?", "No"),
        (RULES, "Was a tunnel approved?", "No"),
        (RULES, "Is the old pump going to be repaired?", "No"),
    ],
)
def test_yes_or_no_is_what_the_place_with_most_of_the_question_says(text, question, right):
    assert is_supported(text, question, right)
    assert not is_supported(text, question, "Yes" if right == "No" else "No")


def test_a_number_beside_its_name_is_a_code_only_where_the_sources_write_it_so():
    text = "The shell runs on VT 9. Later, switch to VT9 by hand.\n"
    assert is_supported(text, "On which VT does the shell run?", "VT 9")
