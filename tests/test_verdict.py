"""What the verdict must tell apart: each kind of small change that makes a true answer false, and of rewording that does not."""

import pytest

from benchmarks.kinds.verdict import measure
from leanrag import Chunk, Hit
from leanrag.grounding import ReaderEntailment, ground
from leanrag.types import PackedItem, Segment


def source(text, *, title="", heading="", number=1):
    hit = Hit(Chunk(f"d{number}", 0, len(text), text, title=title, heading=heading), 1.0)
    return PackedItem(number, hit, text, (Segment(0, len(text), 0, 0, len(text)),), 1)


def is_supported(text, question, answer):
    return ground(question, answer, [source(text)]).is_supported


HOW_TO = "".join(
    f"## How to reset the {topic} card\n\n1. Open the panel.\n2. Hold key {key} for nine seconds.\n3. Close the panel.\n\n"
    for key, topic in enumerate(["trams", "ferries", "taxis", "trains"], 1)
)
FAQ = "### Does the pass cover trams?\n\nNo, and there is no discount.\n\n### Does the pass cover buses?\n\nYes, on weekdays.\n"
TABLE = "| Part | Weight | Price |\n|---|---|---|\n| HX-20B | 5 kg | 20 EUR |\n| HX-21B | 7 kg | 35 EUR |\n"
PRICES = "Slack costs 5 dollars and Salesforce costs 9 dollars."

FALSE = {
    "negation lost": ("You must not take the tablets with alcohol.", "How?", "You must take the tablets with alcohol."),
    "negation added": ("The watch is waterproof to 50 metres.", "Is it?", "The watch is not waterproof to 50 metres."),
    "never": ("The clinic never closes on Sunday.", "When does the clinic close?", "The clinic closes on Sunday."),
    "no longer": ("The shop no longer sells bread.", "What does the shop sell?", "The shop sells bread."),
    "without": ("The phone works without internet.", "How does the phone work?", "The phone works with internet."),
    "kein": ("Das Gerät hat keinen Schalter.", "Was hat das Gerät?", "Das Gerät hat einen Schalter."),
    "ne pas": ("Le musée n'est pas ouvert.", "Quand ouvre le musée ?", "Le musée est ouvert."),
    "Han negation": ("这种药不能和酒一起吃。", "这种药怎么吃？", "这种药能和酒一起吃。"),
    "Hindi negation": ("दुकान रविवार को नहीं खुलती।", "दुकान कब खुलती है?", "दुकान रविवार को खुलती।"),
    "decimal comma": ("Die Flasche fasst 1,5 Liter.", "Wie viel fasst die Flasche?", "Die Flasche fasst 15 Liter."),
    "sign": ("The pipe froze at -5 °C.", "When did the pipe freeze?", "The pipe froze at 5 °C."),
    "unit": ("The dose is 5 mg.", "What is the dose?", "The dose is 5 g."),
    "percent": ("Rates rose by 5 percent.", "How did rates move?", "Rates rose by 5 percentage points."),
    "currency": ("The ticket costs 5 euros.", "What does the ticket cost?", "The ticket costs $5."),
    "thousands": ("The town has 3,000 people.", "How many people has the town?", "The town has 3,000,000 people."),
    "number word": ("It has nine doors.", "How many doors has it?", "It has two doors."),
    "date": ("The exam is on 2024-03-05.", "When is the exam?", "The exam is on 3 May 2024."),
    "code": ("Error ERR_4021 means a full disk.", "What is ERR_4021?", "Error ERR_4022 means a full disk."),
    "version": ("Release 1.2.3 adds search.", "What does 1.2.3 add?", "Release 1.3.2 adds search."),
    "address": ("The host is 10.0.0.1.", "What is the host?", "The host is 10.0.0.11."),
    "bound": ("Take at most 4 tablets.", "How many tablets?", "Take at least 4 tablets."),
    "minimum": ("The minimum age is 18.", "Which age?", "The maximum age is 18."),
    "comparison": ("The oak is older than the elm.", "Which is older?", "The elm is older than the oak."),
    "before": ("The gate opens before noon.", "When does the gate open?", "The gate opens after noon."),
    "increase": ("Sales rose in May.", "What did sales do?", "Sales fell in May."),
    "open": ("The shop is open on Monday and closed on Sunday.", "When is it open?", "The shop is open on Sunday."),
    "roles": ("Acme bought Globex in 2019.", "Who bought whom?", "Globex bought Acme in 2019."),
    "passive roles": ("Globex was bought by Acme.", "Who bought whom?", "Globex bought Acme."),
    "common nouns": ("The server calls the client.", "Who calls?", "The client calls the server."),
    "answer in a role": ("Globex bought Initech.", "Who bought Globex?", "Initech"),
    "counts": ("It owns 500 cars and 20 trucks.", "What does it own?", "It owns 20 cars and 500 trucks."),
    "pairs": (PRICES, "What does Salesforce cost?", "Salesforce costs 5 dollars."),
    "pairs, short": (PRICES.replace(" and", "."), "What does Salesforce cost?", "5 dollars"),
    "all": ("Some rooms have wifi.", "Which rooms have wifi?", "All rooms have wifi."),
    "only": ("Members may enter.", "Who may enter?", "Only members may enter."),
    "must": ("You may bring a guest.", "Whom may you bring?", "You must bring a guest."),
    "alleged": ("Prosecutors allege that Bo stole it.", "Who stole it?", "Bo stole it."),
    "untrue": ("It is false that Bo stole the car.", "Who stole the car?", "Bo stole the car."),
    "two neighbours": ("Alice joined in 2010. Bob left in 2015.", "Who left?", "Alice left in 2015."),
    "other section": (HOW_TO, "How do I reset the trams card?", "To reset the trams card, hold key 2 for nine seconds."),
    "other section, short": (HOW_TO, "Which key resets the trams card?", "key 2"),
    "other row": (TABLE, "What does HX-20B cost?", "35 EUR"),
    "reply": (FAQ, "Does the pass cover trams?", "Yes."),
    "reply, whole": (FAQ, "Does the pass cover trams?", "The pass covers trams."),
    "one clause": ("Ada signs releases.", "What does Ada do?", "Ada signs releases and pays invoices for Bo."),
    "Han name": ("中国的首都是北京。", "中国的首都是哪里？", "中国的首都是上海。"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "question", "answer"), FALSE.values(), ids=FALSE)
def test_an_answer_that_the_source_contradicts_is_not_supported(text, question, answer):
    assert not is_supported(text, question, answer)


TRUE = {
    "negation": ("You must not take the tablets with alcohol.", "How?", "Don't take the tablets with alcohol."),
    "opposite of a negation": ("The shop is closed on Sunday.", "When is it open?", "The shop is not open on Sunday."),
    "passive": ("Globex was bought by Acme in 2019.", "Who bought whom?", "Acme bought Globex in 2019."),
    "active": ("Acme bought Globex in 2019.", "Who bought whom?", "Globex was bought by Acme in 2019."),
    "synonym": ("Acme bought Globex in 2019.", "Who bought whom?", "Acme acquired Globex in 2019."),
    "order of words": ("Acme bought Globex in 2019.", "Who bought whom?", "In 2019, Acme bought Globex."),
    "number word": ("It has nine doors.", "How many doors has it?", "It has 9 doors."),
    "unit": ("The road is 12 km long.", "How long is the road?", "The road is 12 kilometres long."),
    "percent": ("Rates rose by 5 %.", "How did rates move?", "Rates rose by 5 percent."),
    "thousands": ("The town has 3000 people.", "How many people has the town?", "The town has 3,000 people."),
    "date": ("The exam is on 2024-03-05.", "When is the exam?", "The exam is on March 5th, 2024."),
    "bound": ("Take at most 4 tablets.", "How many tablets?", "Take no more than four tablets."),
    "comparison": ("The oak is older than the elm.", "Which is older?", "The elm is younger than the oak."),
    "apostrophe": ("The company’s founder isn’t Ada but Bo.", "Who?", "The company's founder isn't Ada but Bo."),
    "composed": ("Le café Zoé ouvre à huit heures.", "Quand ?", "Le cafe\u0301 Zoe\u0301 ouvre a\u0300 8 heures."),
    "short": ("Releases are signed off by Ada Park.", "Who signs off releases?", "Ada Park"),
    "two clauses": ("Ada signs releases. She works in Oslo.", "Ada?", "Ada signs releases and works in Oslo."),
    "section": (HOW_TO, "How do I reset the trams card?", "To reset the trams card, hold key 1 for nine seconds."),
    "section, short": (HOW_TO, "Which key resets the trams card?", "key 1"),
    "row": (TABLE, "What does HX-20B cost?", "20 EUR"),
    "reply": (FAQ, "Does the pass cover trams?", "No."),
    "reply, yes": (FAQ, "Does the pass cover buses?", "Yes, on weekdays."),
    "Chinese": ("中国的首都是北京。人口约两千万。", "中国的首都是哪里？", "北京"),
    "Chinese, whole": ("中国的首都是北京。人口约两千万。", "中国的首都是哪里？", "中国的首都是北京。"),
    "Japanese": ("日本の首都は東京です。", "日本の首都はどこですか。", "東京"),
    "Thai": ("เมืองหลวงของไทยคือกรุงเทพ", "เมืองหลวงของไทยคืออะไร", "กรุงเทพ"),
    "Arabic": ("عاصمة مصر هي القاهرة.", "ما هي عاصمة مصر؟", "القاهرة"),
    "Hindi": ("भारत की राजधानी दिल्ली है।", "भारत की राजधानी क्या है?", "दिल्ली"),
    "Korean": ("한국의 수도는 서울이다.", "한국의 수도는 어디인가?", "서울이다"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "question", "answer"), TRUE.values(), ids=TRUE)
def test_an_answer_in_other_words_is_supported(text, question, answer):
    assert is_supported(text, question, answer)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Use items[0] for the first one. The cell is m[2][3].",
            "Use items[0] for the first one [1]. The cell is m[2][3] [1].",
        ),
        ("Die Prüfung ist am 3. Mai um 9 Uhr in Raum 12.", "Die Prüfung ist am 3. Mai um 9 Uhr in Raum 12 [1]."),
        ("Der Antrag gilt z. B. für Vereine.", "Der Antrag gilt z. B. für Vereine [1]."),
        ("Die Prüfung ist am 31.12. um neun Uhr.", "Die Prüfung ist am 31.12. um neun Uhr [1]."),
        ("Das gilt u. U. auch für Kinder.", "Das gilt u. U. auch für Kinder [1]."),
        ("Das Büro ist in der Goethestr. 5 in Bonn.", "Das Büro ist in der Goethestr. 5 in Bonn [1]."),
        ("The fort is in Ste. Foy near the river.", "The fort is in Ste. Foy near the river [1]."),
        (
            "Das gilt nach Art. 9 i. V. m. Art. 6 der Verordnung.",
            "Das gilt nach Art. 9 i. V. m. Art. 6 der Verordnung [1].",
        ),
        ("La Dra. Lima firma los informes.", "La Dra. Lima firma los informes [1]."),
        ("Музей находится в г. Москва, ул. Мира, д. 3.", "Музей находится в г. Москва, ул. Мира, д. 3 [1]."),
        (
            "Cy has a red cat. Ada lives in Oslo. Bo has one.",
            "Cy has a red cat [1]. Ada lives in Oslo [1]. Bo has one [1].",
        ),
        ("It weighs 5 kg. Ada lifts it.", "It weighs 5 kg [1]. Ada lifts it [1]."),
        ("Run it:\n\n```\nserve --port 80\n```", "Run it: [1]\n\n```\nserve --port 80\n```\n[1]"),
        ("| HX-20B | 5 kg |", "| HX-20B | 5 kg [1] |"),
    ],
)
def test_marks_stand_at_the_end_of_a_sentence_and_never_in_code(text, expected):
    assert ground("What does it say?", text, [source(text)]).text == expected


def test_a_code_span_with_a_full_stop_is_not_cut():
    text = "Type `serve. Now` at the prompt."
    assert ground("What do I type?", text, [source(text)]).text == "Type `serve. Now` at the prompt [1]."


def test_each_clause_is_cited_where_it_stands():
    items = [source("Ada signs releases."), source("Bo pays invoices.", number=2)]
    result = ground("Who does what?", "Ada signs releases, and Bo pays invoices.", items)
    assert result.text == "Ada signs releases, and Bo pays invoices [1] [2]."
    assert [citation.quote for citation in result.citations] == ["Ada signs releases.", "Bo pays invoices."]


def test_the_headings_above_a_place_speak_for_it():
    item = source("Hold key 4 for nine seconds.", heading="Help > How to reset the ferries card")
    assert ground("How do I reset the ferries card?", "Hold key 4 to reset the ferries card.", [item]).is_supported


class Checker:
    def __init__(self, probability):
        self.probability, self.pairs = probability, []

    def check(self, pairs):
        self.pairs += pairs
        return [self.probability for _ in pairs]


@pytest.mark.parametrize(("probability", "expected"), [(0.9, True), (0.1, False)])
def test_an_entailment_check_has_the_last_word(probability, expected):
    checker = Checker(probability)
    result = ground("Who signs?", "Ada signs releases.", [source("Ada signs releases.")], check=checker)
    assert (result.is_supported, bool(result.citations)) == (expected, expected)
    assert checker.pairs == [("Ada signs releases.", "Who signs? Ada signs releases.")]


def test_an_entailment_check_is_not_asked_about_what_the_rules_refuse():
    checker = Checker(1.0)
    assert not ground("Who signs?", "Bo signs releases.", [source("Ada signs releases.")], check=checker).is_supported
    assert checker.pairs == []


def test_long_runs_of_white_space_take_linear_time():
    answer = "Ada" + " " * 20_000 + "signs releases."
    assert ground("Who signs?", answer, [source("Ada signs releases.")]).is_supported


class YesMan:
    """Finds "Yes" as much more probable than "No" as it is told, in nats."""

    def __init__(self, nats):
        self.nats, self.pairs = nats, []

    def score_many(self, pairs, *, timeout_seconds=None, cancel=None):
        self.pairs += pairs
        return [Score(self.nats if word == "Yes" else 0.0) for _, word in pairs]


class Score:
    def __init__(self, total):
        self.total = total


@pytest.mark.parametrize(("nats", "probability"), [(0.0, 0.5), (2.0, 0.8808), (-2.0, 0.1192), (-5000.0, 0.0)])
def test_a_reader_checks_by_the_odds_of_yes(nats, probability):
    model = YesMan(nats)
    (found,) = ReaderEntailment(model, is_chat=True).check([("Ada signs {releases}.", "Who signs? Ada")])
    assert found == pytest.approx(probability, abs=1e-4)
    ((prompt, _), _) = model.pairs
    assert "Ada signs {releases}." in prompt[0].content
    assert "Who signs? Ada" in prompt[0].content
    assert ReaderEntailment(model, is_chat=False).check([]) == []


@pytest.mark.slow
def test_held_out_scenarios_are_judged_right():
    figures = measure(quick=True)
    assert figures["verdict_false_supported"] < 0.02
    assert figures["verdict_true_refused"] < 0.05
