"""Answers that another candidate of their kind beats: it stands in a clause, row or line that says more of what was asked."""

import pytest

from tests.grounding.judging import is_supported

LEASE = (
    "The mill belongs to the Orrin Trust. Vera Holm runs it for the Trust.\n"
    "The guest, Tilda Moe, pays 480 pounds. The bond is 900 pounds. It is paid back within 20 days.\n"
    "Either side may end the lease with two months' notice; after a breach the owner may do so with 10 days' notice."
)
TOWER = "The tower at Lund was begun in 1881 and finished in 1886. In 1904 the oil lamp was replaced, and in 1931 the gas lamp."
BOAT = "The Gannet was designed by Rhona Wylie and is built by Firth Boats."
SHOP = "The sails are sold by Hunter & Daughter in Leith; repairs are made by the Kelso loft."
HOURS = "The desk is open from 9 to 12 on Monday, from 13 to 18 on Thursday."
STATUS = (
    "ferry exits with one of these codes:\n\n       3    if the file is not found\n\n       4    if the file cannot be read\n\n"
    "       5    if the disk is full\n"
)
OPTIONS = (
    "Options:\n  -a, --all            list hidden files\n  -r, --reverse        turn the order around\n"
    "      --sort=WORD      sort by WORD: size -S, time -t\n  -t, --time           sort by time\n"
    "  -z, --zip2           pack the list with zip2\n"
)
COMMANDS = (
    "Commands:\n  pull      load the charts of a harbour\n  draw      draw a chart\n  wipe      delete loaded charts\n"
)
SETTINGS = (
    "# The shell that new members get.\n#MSHELL=/bin/dash\n\n# The mode for home directories of members.\n#HOME_MODE=0750\n\n"
    "# The mode for home directories of services.\n#SERVICE_HOME_MODE=0711\n"
)
SERVER = (
    "#reserved_admin_slots = 4      # (needs a restart)\n#max_slots = 90      # (needs a restart)\n#listen_queue = 33\n"
)
VERTRAG = (
    "Den Brief unterschreibt Frau Adler für den Verein; Herr Busch legt ihn dem Vorstand vor.\n"
    "Die Karte verschickt das Fundbüro. Die Kapelle leitet seit 2019 Jan Timm. Spesen zahlt die Kasse aus.\n"
    "Über Anträge entscheidet Frau Dr. Lenz, Klagen bearbeitet das Ordnungsamt."
)
FILTERS = (
    " Filters:\n\n  -b, --blur2          pass the picture through blur2\n  -S, --sharp          pass the picture through sharp\n"
    "      --toned          pass the picture through toned\n"
)
LOCKS = "-s, --shared\n    Take a shared lock.\n\n-u, --undo\n    Drop a lock.\n\n-w, --wait N\n    Give up after N seconds.\n"
RANGES = (
    "# The range of numbers for services.\n# Default: FIRST_SERVICE_NO=10, LAST_SERVICE_NO=99\n#FIRST_SERVICE_NO=10\n"
)
PRESENT = "Notes of the choir board\n\nPresent: Ida Voss (chair), Karl Beck, Lena Marsh\nAway: Pia Roth\n"
PRICES = (
    "Linen, plain, 2 m ............. 7.10\nLinen, dyed, 2 m .............. 9.60\nHemp, plain, 1 m .............. 5.30\n"
    "Hemp, dyed, 1 m ............... 8.20\n"
)
LESSONS = (
    "**Knots** — Mondays, 18:00, room B, teacher: Hanna Lund\n**Charts** — Tuesdays, 19:00, room D, teacher: Paul Reis\n"
    "**Lamps** — Fridays, 17:00, room E, teacher: Bruna Kell\n"
)
CHAT = (
    "Uwe: Wer bringt den Kuchen mit?\nRana: Den Kuchen bringt Jochen mit, ich koche Tee.\nUwe: Gut.\n"
    "Rana: Das Brot holt Silke."
)


@pytest.mark.parametrize(
    ("text", "question", "right", "wrong"),
    [
        (LEASE, "Who owns the mill?", "the Orrin Trust", "Tilda Moe"),
        (LEASE, "Who owns the mill?", "The Orrin Trust owns the mill.", "Vera Holm owns the mill."),
        (LEASE, "How long is the notice after a breach?", "10 days", "two months"),
        (TOWER, "When was the tower finished?", "1886", "1881"),
        (BOAT, "Who builds the Gannet?", "Firth Boats", "Rhona Wylie"),
        (BOAT, "Who designed the Gannet?", "Rhona Wylie designed it.", "Firth Boats"),
        (SHOP, "Who repairs the sails?", "the Kelso loft", "Hunter & Daughter"),
        (SHOP, "Where can I buy the sails?", "at Hunter & Daughter in Leith", "at the Kelso loft"),
        (STATUS, "Which code does ferry give if the file is not found?", "3", "5"),
        (OPTIONS, "Which option turns the order around?", "-r", "-S"),
        (OPTIONS, "Which option turns the order around?", "--reverse", "--all"),
        (OPTIONS, "Which option packs the list?", "--zip2", "--time"),
        (COMMANDS, "Which command deletes loaded charts?", "wipe", "draw"),
        (SETTINGS, "What shell do new members get?", "/bin/dash", "/bin/bash"),
        (SETTINGS, "What is the mode for home directories of services?", "0711", "0750"),
        (SERVER, "How many slots are reserved for admins?", "4", "90"),
        ("Clean the lens with spirit, never with soap.", "What is the lens cleaned with?", "spirit", "soap"),
        ("The key is in the box, not in the desk.", "Where is the key?", "in the box", "in the desk"),
        ("--scale S   feet or metres (default: metres)", "What is the default scale?", "metres", "feet"),
        ("Two of the nine pumps leak.", "How many pumps leak?", "two", "nine"),
        (VERTRAG, "Wer unterschreibt den Brief?", "Frau Adler", "Herr Busch"),
        (VERTRAG, "Wer bearbeitet Klagen?", "das Ordnungsamt", "Frau Dr. Lenz"),
        (FILTERS, "Which option passes the picture through blur2?", "--blur2", "--sharp"),
        (LOCKS, "Which option takes a shared lock?", "-s", "-u"),
        (RANGES, "What is the last number of services?", "99", "10"),
        (
            "The skipper is Mona Bain. Her deputy, Ian Roe, sails on Sunday.",
            "Who is the skipper?",
            "Mona Bain",
            "Ian Roe",
        ),
        (
            "Rob: The amp is in the loft, the leads are in Hugo's van.",
            "Where is the amp?",
            "in the loft",
            "in Hugo's van",
        ),
        ("The default port changes from 700 to 7443.", "What is the default port?", "7443", "700"),
        ("A key needs at least 14 signs (before: 10).", "How many signs does a key need?", "14", "10"),
        (
            "  -n, --dry    only say what would be done\n  -v           be verbose\n",
            "Which option only says what would be done?",
            "-n",
            "-v",
        ),
        (PRICES, "What does plain linen cost?", "7.10", "5.30"),
        (PRICES, "What does dyed hemp cost?", "8.20", "9.60"),
        (LESSONS, "Who teaches charts?", "Paul Reis", "Bruna Kell"),
        (PRESENT, "Who chairs the board?", "Ida Voss", "Karl Beck"),
        (CHAT, "Wer bringt den Kuchen mit?", "Jochen", "Rana"),
    ],
)
def test_an_answer_is_refused_where_another_one_fits_better(text, question, right, wrong):
    assert is_supported(text, question, right)
    assert not is_supported(text, question, wrong)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Wer verschickt die Karte?", "das Fundbüro"),
        ("Wer verschickt die Karte?", "Das Fundbüro verschickt die Karte."),
        ("Wer leitet die Kapelle?", "Jan Timm"),
        ("Wer zahlt die Spesen aus?", "die Kasse"),
        ("Wer unterschreibt den Brief?", "Frau Adler unterschreibt den Brief."),
    ],
)
def test_a_german_sentence_may_begin_with_its_object(question, answer):
    assert is_supported(VERTRAG, question, answer)


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        ("Ada Roy, who runs the mill, and Bo Lind signed it.", "Who signed it?", "Ada Roy"),
        (
            "The guide (in the tarn-doc package) is long; the index is short.",
            "Where is the guide?",
            "in the tarn-doc package",
        ),
        ("Ida Voss came in 1911. She trained as a smith under Karl Beck.", "Who taught Ida Voss?", "Karl Beck"),
        ("Built by Bo in 1901, the club moved in 1950.", "When was the club built?", "1901"),
    ],
)
def test_a_candidate_that_says_as_much_does_not_beat_the_answer(text, question, answer):
    assert is_supported(text, question, answer)


def test_only_the_words_of_the_question_may_stand_in_a_longer_name():
    text = "The flag quiet_bad_links hides the warning.\nThe flag links follows them.\n"
    assert is_supported(text, "Which flag hides the warning?", "quiet_bad_links")
    assert not is_supported(text, "Which flag hides the warning?", "links")


def test_tables_with_spaces_between_the_columns_give_the_columns_name():
    text = "Stop       Arrival   Departure   Track\nHarbour    7:30      7:33        4\nMarket     7:41      7:44        2\n"
    assert is_supported(text, "On which track is it at the harbour?", "Track 4")
    assert not is_supported(text, "On which track is it at the harbour?", "Track 2")


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Which code does ferry give if the file is not found?", "It exits with 3."),
        ("With which code does ferry exit if the file cannot be read?", "ferry exits with 4."),
    ],
)
def test_what_a_condition_denies_is_no_contradiction(question, answer):
    assert is_supported(STATUS, question, answer)


def test_a_full_name_is_found_where_only_the_first_name_stands():
    text = (
        "Present: Ida Voss, Karl Beck, Lena Marsh\n\n1. Karl said that two lamps are broken. Lena will order new ones."
    )
    assert is_supported(text, "Who orders new lamps?", "Lena Marsh")
    assert not is_supported(text, "Who orders new lamps?", "Karl Beck")


def test_a_line_may_break_between_a_number_and_its_unit():
    text = "The time that a terminal has to answer was raised to three\n  seconds."
    assert is_supported(text, "How long may a terminal take to answer?", "3 seconds")
    assert not is_supported(text, "How long may a terminal take to answer?", "3 minutes")


def test_a_rule_of_a_table_may_be_drawn_with_other_signs():
    text = "Signal    Action   Comment\n────────────────────────\nSIGBELL   Ring     Bell struck\nSIGHORN   Stop     Horn heard\n"
    assert is_supported(text, "What is the action of SIGBELL?", "Ring")
    assert not is_supported(text, "What is the action of SIGBELL?", "Stop")
