"""Short answers from clauses that say something else than what was asked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.grounding.predicates import predicate_of
from leanrag.grounding.reading import read_tokens
from tests.grounding.judging import is_supported


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Who restored the atlas?", ["restored"]),
        ("What damaged the swing?", ["damaged"]),
        ("Which format does the tool replace?", ["replace"]),
        ("What does version 2 of the format add?", ["add"]),
        ("Where do I send questions?", ["send"]),
        ("Which plugin replaced Vellum?", ["replaced"]),
        ("What tool handles archives on Unix?", ["handles"]),
        ("Which module is deprecated?", ["deprecated"]),
        ("Which format was it meant to replace?", ["replace"]),
        ("What is the successor of Vellum?", ["successor"]),
        ("In which year was the tower built?", ["built"]),
        ("Wer prüft den Antrag?", ["prüft"]),
        ("What is Vellum?", []),
        ("What is the default colour?", []),
        ("Does it run on Unix?", []),
        ("Vellum", []),
        ("", []),
    ],
)
def test_finds_the_predicate(question, expected):
    assert [token.word for token in predicate_of(read_tokens(question))] == expected


WORDS = "who what which does is the of tool to replace replaced Vellum by in if it 3 ?".split()


@given(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join))
def test_the_predicate_is_a_part_of_the_question(question):
    tokens = read_tokens(question)
    assert set(predicate_of(tokens)) <= set(tokens)


PACKER = (
    "# Quill tools\n\n## Formats\n\nThis format was made to replace the old .qua format.\n\n"
    "## History\n\nThe first decoder of .qz files was written by Pia Holm. The library was tested by Odd Ravn, and documented by"
    " Eva Lie. It is maintained by Kari Moe.\n\n## Requirements\n\n- libpng 1.6\n"
)
HOUSE = (
    "The mill was built by the Solberg foundry. Captain Aas owned it until 1921. In 1944 a fire damaged the roof.\n\n"
    "The museum bought the wheel from a dealer named Fosse. The bell came from Akers, the clock from Dalen."
)
FAQ = (
    "Q: Which plugin took the place of Vellum?\nA: Quire.\n\nQ: Who runs the forum?\nA: Jana Wirth answers most posts."
)
SCRIPTS = "The scripts of quill support the .lz format. The format of quill replaces .qua."
NEWS = (
    "# NEWS of quill\n\n## 5.4\n\n* Added a decoder of .lz files. The first version of the .lz decoder was written by Pia Holm.\n"
    "* Odd Ravn improved the manual.\n"
)
CRANE = (
    "The crane was delivered by Halden Stål and inspected by Vera Moe. It takes the place of the steam crane of 1911."
)
TREE = "The shelf is based on R5. B7 is a faster kind of shelf."
CHAT = "[09:00] Lea: who fixed the lift?\n[09:01] Omar: Jonas did, on Friday\n[09:04] Lea: Petra found the leak."


@pytest.mark.parametrize(
    ("text", "question", "right", "wrong"),
    [
        (PACKER, "Which format does the format of Quill replace?", ".qua", ".qz"),
        (PACKER, "Who tested the library?", "Odd Ravn", "Pia Holm"),
        (PACKER, "Who documented the library?", "Eva Lie", "Odd Ravn"),
        (HOUSE, "From whom did the museum buy the wheel?", "Fosse", "the Solberg foundry"),
        (HOUSE, "Who owned the mill?", "Captain Aas", "Fosse"),
        (HOUSE, "What damaged the roof?", "a fire", "the dealer"),
        (HOUSE, "Where does the clock come from?", "Dalen", "Akers"),
        (CHAT, "Who found the leak?", "Petra", "Jonas"),
        (CRANE, "Who inspected the crane?", "Vera Moe", "Halden Stål"),
        (CRANE, "Who delivered the crane?", "Halden Stål", "Vera Moe"),
        (TREE, "What is the shelf based on?", "R5", "B7"),
        (SCRIPTS, "Which format does quill replace?", ".qua", ".lz"),
        (FAQ, "Who runs the forum?", "Jana Wirth", "Quire"),
    ],
)
def test_judges_by_the_predicate(text, question, right, wrong):
    assert is_supported(text, question, right)
    assert not is_supported(text, question, wrong)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Which compression format does quill replace?", ".lz"),
        ("Which compression format does quill replace?", "the .lz format"),
        ("Who founded the firm?", "Odd Ravn"),
        ("Who maintains the decoder of quill?", "Pia Holm"),
    ],
)
def test_a_sentence_with_nothing_of_the_question_is_no_source(question, answer):
    assert not is_supported(NEWS, question, answer)


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        (PACKER, "Who is the author of the first decoder?", "Pia Holm"),
        (PACKER, "What does Quill require?", "libpng 1.6"),
        ("Maintainer: Kari Moe\nLicence: MIT", "Who maintains it?", "Kari Moe"),
        ("# Staff\n\nKari Moe is the head of the archive.", "Who leads the archive?", "Kari Moe"),
        ("The reserve takes the place of the old fund.", "What does the reserve replace?", "the old fund"),
        ("Bo Ek, who wrote the parser of Tarn, looks after it.", "Who maintains Tarn?", "Bo Ek"),
        ("Tarn was written by Ada Lie.", "Who made Tarn?", "Ada Lie"),
        ("The old wall was pulled down, and Odd Ravn built the new wall.", "Who made the new wall?", "Odd Ravn"),
        ("Mr Geddes never cooked. He did the baking, though.", "Who did the baking?", "Mr Geddes"),
    ],
)
def test_other_words_for_the_predicate_are_no_other_predicate(text, question, answer):
    assert is_supported(text, question, answer)
