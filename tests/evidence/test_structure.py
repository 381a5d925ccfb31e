"""What stands together in a document is packed together: whatever the form of its sections, lists, tables and talks."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import BudgetError
from leanrag.evidence.greedy import GreedyPacker
from leanrag.evidence.packing import EvidencePacker
from leanrag.evidence.scoring import SentenceScorer
from leanrag.evidence.units import split_units
from leanrag.structure import paragraphs
from leanrag.types import Chunk, Hit
from tests.examples import max_examples

few = max_examples(15)

NAMES = "trams ferries taxis trains planes bikes scooters buses lifts boats cabins museums sledges canoes rafts".split()


def count(number, title, text):
    """A token a word, and one for each sign that a tokenizer parts from it."""
    return len(re.findall(r"\w+|[^\w\s]", f"{title} {text}"))


def hits_of(text, size=700, title="help.md"):
    """Chunks that end at blank lines, or else at lines, the first the best hit."""
    hits, start = [], 0
    while start < len(text):
        end = len(text)
        if end - start > size:
            cuts = (text.rfind(mark, start, start + size) + len(mark) for mark in ("\n\n", "\n"))
            end = next(cut for cut in cuts if cut > start + 2)
        hits.append(Hit(Chunk("d", start, end, text[start:end], title), 1.0 / (len(hits) + 1)))
        start = end
    return hits


def pack(text, question, budget, size=700):
    return EvidencePacker(SentenceScorer()).pack(hits_of(text, size), budget, count, question=question)


def shown(packing):
    return "\n".join(item.text for item in packing.items)


FAQ_FORMS = {
    "markdown": "### {question}\n\n{answer}\n\n",
    "pairs": "Q: {question}\nA: {answer}\n\n",
    "bold": "**{question}**\n\n{answer}\n\n",
    "bold, no blank line": "**{question}**\n{answer}\n\n",
    "plain": "{question}\n\n{answer}\n\n",
    "lines": "{question}\n{answer}\n",
    "wiki": "== {question} ==\n{answer}\n\n",
    "underlined": "{question}\n----------------------------------\n\n{answer}\n\n",
}


@pytest.mark.parametrize("form", FAQ_FORMS.values(), ids=FAQ_FORMS)
@few
@given(st.permutations(NAMES), st.integers(0, 14), st.sampled_from([60, 100, 200]))
@pytest.mark.slow
def test_a_question_is_packed_with_its_answer(form, names, asked, budget):
    answers = [f"It costs {number + 20} coins a day at the {name} office." for number, name in enumerate(names)]
    questions = [f"What is the price of a pass for {name}?" for name in names]
    text = "".join(form.format(question=q, answer=a) for q, a in zip(questions, answers, strict=True))
    prompt = shown(pack(text, questions[asked], budget))
    assert re.search(re.escape(questions[asked]) + r"\W+(?:A: )?" + re.escape(answers[asked]), prompt)


def test_a_question_inside_a_long_paragraph_comes_with_what_follows_it():
    filler = "Many people have written to us about the new passes, and we have read all that they wrote. " * 4
    text = f"{filler}What is the price of a pass for boats? The price is what you pay for a day at sea. {filler}"
    prompt = shown(pack(text, "What is the price of a pass for boats?", 30, size=10_000))
    assert "for boats? The price is what you pay for a day at sea." in prompt


LISTS = {
    "numbers": "1. {}\n2. {}\n3. {}\n",
    "bullets": "- {}\n- {}\n- {}\n",
    "lead-in": "Do the following:\n\n1) {}\n2) {}\n3) {}\n",
    "loose": "* {}\n\n* {}\n\n* {}\n",
    "steps": "Step 1: {}\nStep 2: {}\nStep 3: {}\n",
}


@pytest.mark.parametrize("form", LISTS.values(), ids=LISTS)
@few
@given(st.permutations(NAMES), st.integers(0, 14), st.sampled_from([70, 100, 250]))
def test_the_steps_of_a_section_are_packed_whole_and_under_its_heading(form, names, asked, budget):
    sections = [
        f"## How to reset the {name} card\n\n"
        + form.format("Open the panel.", f"Hold key {number + 1} for nine seconds.", "Close the panel.")
        for number, name in enumerate(names)
    ]
    prompt = shown(
        pack("# Help\n\n" + "\n".join(sections), f"How do I reset the {names[asked]} card?", budget, size=10_000)
    )
    start = prompt.index(f"## How to reset the {names[asked]} card")
    section = prompt[start:].split("\n## ")[0]
    for step in ("Open the panel.", f"Hold key {asked + 1} for nine seconds.", "Close the panel."):
        assert step in section


PARAGRAPHS = {
    "steps": "To reset the {name} card, first open the panel. Then hold key {key} for nine seconds. Finally, wait for lamp {lamp}.",
    "no words that point back": "Resetting the {name} card is easy. Open the panel. Press key {key}. Wait for lamp {lamp}.",
    "wrapped": "A {name} card is reset at the panel.\nYou need key {key} for that. Hold it\nuntil you see lamp {lamp}.",
    "German": "Öffnen Sie für die {name} zuerst die Klappe. Halten Sie dann Taste {key}. Zum Schluss leuchtet Lampe {lamp}.",
}


@pytest.mark.parametrize("form", PARAGRAPHS.values(), ids=PARAGRAPHS)
@few
@given(st.permutations(NAMES), st.integers(0, 14), st.sampled_from([60, 100, 200]))
def test_a_short_paragraph_is_packed_whole_before_the_beginnings_of_others(form, names, asked, budget):
    paragraphs = [form.format(name=name, key=i + 1, lamp=i + 40) for i, name in enumerate(names)]
    prompt = shown(pack("\n\n".join(paragraphs), f"How do I reset the {names[asked]} card?", budget))
    assert paragraphs[asked] in prompt


TABLES = {
    "markdown": ("| Part | Shelf | Price |\n|---|---|---|\n", "| P-{:03d} | {} | {} |\n"),
    "csv": ("part,shelf,price\n", "P-{:03d},{},{}\n"),
    "tabs": ("part\tshelf\tprice\n", "P-{:03d}\t{}\t{}\n"),
}


@pytest.mark.parametrize("form", TABLES.values(), ids=TABLES)
@few
@given(st.integers(0, 39), st.sampled_from([60, 120]))
def test_a_row_is_found_by_its_number_and_comes_under_its_header(form, asked, budget):
    header, row = form
    text = header + "".join(row.format(i, i * 3 % 7, 100 + i) for i in range(40))
    prompt = shown(pack(text, f"What is the price of part P-{asked:03d}?", budget, size=10_000))
    assert header.splitlines()[0] in prompt
    assert row.format(asked, asked * 3 % 7, 100 + asked).strip() in prompt


def test_the_lead_of_a_chunk_is_shown_above_its_rows_once():
    header = "| Part | Price |\n|---|---|\n"
    rows = [f"| P-{i:03d} | {100 + i} |\n" for i in range(40)]
    text = header + "".join(rows)
    hits = []
    for first in (20, 30):
        start = len(header) + sum(map(len, rows[:first]))
        body = "".join(rows[first : first + 10])
        chunk = Chunk("d", start, start + len(body), body, "stock", lead=header, lead_start=0)
        hits.append(Hit(chunk, 1.0))
    packing = EvidencePacker(SentenceScorer()).pack(hits, 60, count, question="Price of P-023 and of P-037?")
    prompt = shown(packing)
    assert prompt.startswith(header)
    assert prompt.count("Price") == 1
    assert rows[23].strip() in prompt
    assert rows[37].strip() in prompt
    for item in packing.items:
        for segment in item.segments:
            assert item.text[segment.start : segment.end] == text[segment.source_start : segment.source_end]


TALKS = {
    "chat": "[09:{minute:02d}] Ana: Which port does the {name} proxy use?\n[09:{minute:02d}] Bo: It is {port}.\n",
    "names": "Ana: Which port does the {name} proxy use?\nBo: It is {port}.\n",
    "marks": "<ana> Which port does the {name} proxy use?\n<bo> It is {port}.\n",
}


@pytest.mark.parametrize("form", TALKS.values(), ids=TALKS)
@few
@given(st.permutations(NAMES), st.integers(0, 14), st.sampled_from([50, 100]))
def test_a_turn_that_asks_is_packed_with_the_turn_that_answers(form, names, asked, budget):
    text = "".join(form.format(minute=i, name=name, port=8000 + i) for i, name in enumerate(names))
    prompt = shown(pack(text, f"What is the port of the {names[asked]} proxy?", budget))
    assert re.search(rf"{names[asked]} proxy use\?\n.*It is {8000 + asked}\.", prompt)


@few
@given(st.permutations(NAMES), st.integers(0, 14), st.sampled_from([60, 120]))
def test_the_halves_of_a_sentence_in_two_cues_are_packed_together(names, asked, budget):
    cue = "{}\n00:00:{:02d},000 --> 00:00:{:02d},900\n{}\n\n"
    text = ""
    for i, name in enumerate(names):
        text += cue.format(2 * i + 1, 2 * i, 2 * i + 1, f"The {name} launch was moved")
        text += cue.format(2 * i + 2, 2 * i + 1, 2 * i + 2, f"from May to the {i + 3}th of June.")
    prompt = shown(pack(text, f"To when was the {names[asked]} launch moved?", budget, size=10_000))
    assert f"The {names[asked]} launch was moved" in prompt
    assert f"to the {asked + 3}th of June" in prompt


RECORDS = {
    "ini": "[{name}]\nhost = {name}.example\nport = {port}\n\n",
    "yaml": "{name}:\n  host: {name}.example\n  port: {port}\n",
    "json": '  "{name}": {{\n    "host": "{name}.example",\n    "port": {port}\n  }},\n',
}


@pytest.mark.parametrize("form", RECORDS.values(), ids=RECORDS)
@few
@given(st.permutations(NAMES), st.integers(0, 14), st.sampled_from([60, 120]))
def test_a_setting_is_packed_under_its_section(form, names, asked, budget):
    text = "".join(form.format(name=name, port=8000 + i) for i, name in enumerate(names))
    prompt = shown(pack(text, f"Which port does {names[asked]} have?", budget, size=10_000))
    assert re.search(rf"{names[asked]}\W[\s\S]*?{8000 + asked}", prompt)


@few
@given(st.integers(0, 59))
def test_a_line_of_a_log_is_packed_with_its_time_stamp(asked):
    lines = [
        f"2024-05-01T10:{i:02d}:00Z {'ERROR' if i % 7 else 'INFO'} svc[{i}]: fan {i} stopped, code ERR_{4000 + i}"
        for i in range(60)
    ]
    prompt = shown(pack("\n".join(lines), f"When was ERR_{4000 + asked} logged?", 60))
    assert lines[asked] in prompt


def test_a_small_budget_takes_the_section_that_was_asked_for():
    manual = (
        "# Manual\n\n## Windows\n\nPress F2 to start the setup. Hold it for two seconds.\n\n## Linux\n\nPress F9 to start the "
        "setup. Hold it for five seconds.\n\n## Mac\n\nPress F4 to start the setup. Hold it for nine seconds.\n"
    )
    prompt = shown(pack(manual, "Which key starts the setup on Linux?", 40))
    assert "## Linux\n\nPress F9" in prompt
    assert "## Windows" in prompt or "F2" not in prompt
    assert "## Mac" in prompt or "F4" not in prompt


HEADINGS = ["# One", "## Two two", "### Is it three?", "**Four**", "FIVE", "1.2 Six", "Seven\n-----", "Q: Eight?"]
BODIES = [
    "Text here is said. It is so.",
    "- item a\n- item b",
    "Do this:\n\n1. so\n2. thus",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "```\ncode\n```",
    "key: value\nother: 3",
]


@few
@given(
    st.lists(st.sampled_from(HEADINGS + BODIES), min_size=2, max_size=14),
    st.integers(10, 90),
    st.sampled_from(["", "Is it three?", "two text", "item b", "value of key"]),
)
def test_no_heading_stands_alone_and_no_line_stands_under_the_wrong_one(parts, budget, question):
    text = "\n\n".join(parts)
    try:
        packing = pack(text, question, budget, size=10_000)
    except BudgetError:
        return
    units = split_units(text)
    (item,) = packing.items
    kept = [
        any(segment.source_start <= unit.start and unit.end <= segment.source_end for segment in item.segments)
        for unit in units
    ]
    assert packing.tokens <= budget
    for segment in item.segments:
        assert item.text[segment.start : segment.end] == text[segment.source_start : segment.source_end]
    if (
        all(kept) or sum(kept) == 1 or (sum(kept) == 2 and budget < 40)
    ):  # all of it; or so little that a head found no room
        return
    bodies = {i for i, unit in enumerate(units) if unit.kind != "heading"}
    for i, unit in enumerate(units):
        if kept[i] and unit.needs is not None:
            assert kept[unit.needs]
        if kept[i] and unit.kind == "heading" and bodies:
            assert any(kept[j] and other.needs is not None and i in _heads(units, j) for j, other in enumerate(units))


def _heads(units, i):
    """All that a unit needs, directly or not."""
    heads = set()
    while (needs := units[i].needs) is not None and needs not in heads:
        heads.add(needs)
        i = needs
    return heads


@few
@given(st.permutations(NAMES), st.integers(0, 14), st.sampled_from([60, 100, 200, 300]))
def test_what_the_greedy_packer_shows_of_the_asked_section_is_shown_too(names, asked, budget):
    facts = [f"The {name} station opened in {1900 + i}. Its roof is made of glass." for i, name in enumerate(names)]
    text = "\n\n".join(facts)
    question = f"When did the {names[asked]} station open?"
    if facts[asked] in shown(GreedyPacker().pack(hits_of(text), budget, count)):
        assert str(1900 + asked) in shown(pack(text, question, budget))


def test_a_numbered_line_after_a_numbered_heading_is_a_heading_too():
    text = "7. Why so small?\n\n   It is simple.\n\n8. I found a bug.\n\n   Write to us.\n\n9. Is it free?\n\n   Yes."
    lines = [line for paragraph in paragraphs(text, 0, len(text)) for line in paragraph if line.kind != "prose"]
    assert [(text[line.start : line.end], line.kind) for line in lines] == [
        ("7. Why so small?", "heading"),
        ("8. I found a bug.", "heading"),
        ("9. Is it free?", "heading"),
    ]


def test_the_steps_below_a_numbered_heading_stay_items():
    text = "1. Setup\n\n1. Open the panel.\n2. Hold the key.\n\n3. Close the panel."
    lines = [line for paragraph in paragraphs(text, 0, len(text)) for line in paragraph]
    assert [line.kind for line in lines] == ["heading", "item", "item", "item"]


def kinds_of(text):
    return [(line.kind, text[line.start : line.end]) for lines in paragraphs(text, 0, len(text)) for line in lines]


TITLES = {
    "number": "3. How to apply",
    "clause": "§ 4 Parking",
    "article": "Article 12. Deposit",
    "words": "Opening hours",
    "sign": "■ 営業時間",
}


@pytest.mark.parametrize("title", TITLES.values(), ids=TITLES)
def test_a_title_right_above_a_sentence_is_a_heading(title):
    text = f"{title}\nThe desk is open from nine to five, except on Mondays.\n\nThe end of it all."
    assert kinds_of(text)[0] == ("heading", title)


@pytest.mark.parametrize(
    "text",
    [
        "It was built\nby the people of the valley, who had no other bridge.",  # wrapped prose
        "1. Open the lid\n2. Close the lid and wait until the lamp is green.",
        "Ann Roy\n12 Mill Lane\nOslo",
        "Note: wet paint\nDo not lean on the railing before it is dry.",
    ],
)
def test_other_short_lines_above_text_are_no_headings(text):
    assert all(kind != "heading" for kind, _ in kinds_of(text))


def test_a_line_is_a_heading_if_the_next_line_has_its_first_part():
    text = "2 Fees\n2.1 Entry\n2.1.1 Adults pay six euros.\n2.1.2 Pupils pay two euros.\n2.2 Storage\n2.2.1 A locker is free."
    assert [line for kind, line in kinds_of(text) if kind == "heading"] == ["2 Fees", "2.1 Entry", "2.2 Storage"]


def test_a_line_right_above_items_is_their_lead_inside_a_paragraph_too():
    text = "Bring along\n- a towel,\n- a lock.\nLeave at home\n- glass bottles."
    assert [kind for kind, _ in kinds_of(text)] == ["heading", "item", "item", "lead", "item"]


def needs_of(text, part):
    """The texts of all units that a unit needs, the nearest first."""
    units = split_units(text)
    unit = next(unit for unit in units if part in text[unit.start : unit.end])
    found = []
    while unit.needs is not None:
        unit = units[unit.needs]
        found.append(text[unit.start : unit.end])
    return found


def test_a_row_with_an_empty_first_cell_needs_the_row_above():
    text = "| Day | Hour | Guide |\n|---|---|---|\n| Friday | 10 | Ines |\n| | 15 | Boris |\n| | 17 | Odd |\n| Sunday | 9 | Clara |"
    header = "| Day | Hour | Guide |"
    assert needs_of(text, "Odd") == needs_of(text, "Boris") == ["| Friday | 10 | Ines |", header]
    assert needs_of(text, "Clara") == [header]


def test_the_sentences_of_an_entry_are_read_together():
    text = "Keel. The spine of a hull. Ours is of oak.\nMast. It bears the sails. It is hollow.\nOar. A long lever. We have six."
    units = split_units(text)
    groups = {text[unit.start : unit.end]: unit.group for unit in units}
    assert groups["Mast."] == groups["It bears the sails."] == groups["It is hollow."] is not None
    assert len({groups[name] for name in ("Keel.", "Mast.", "Oar.")}) == 3


def test_the_message_of_a_commit_needs_its_author():
    text = (
        "commit 1f2e3d4\nAuthor: Ola Berg\nDate: 3 May 2021\n\n    Close idle sockets\n\ncommit 5a6b7c8\nAuthor: Kai Lund\n"
        "Date: 9 May 2021\n\n    Raise the limit of uploads\n"
    )
    assert needs_of(text, "Raise the limit") == ["Author: Kai Lund", "commit 5a6b7c8"]


def test_aligned_columns_are_rows():
    text = "Route        Fare    Hours\nOslo         12.50   3\nBergen       40.00   7\n\nAll fares are for one way."
    assert [kind for kind, _ in kinds_of(text)] == ["csv", "csv", "csv", "prose"]
