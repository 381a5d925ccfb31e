import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.generation import find_open_thought
from leanrag.pending import ThoughtFilter
from leanrag.text import split_thoughts

TEXTS = [
    "<think>\nBo? No: Ada Park.\n</think>\n\nAda Park signs.",
    "First.\n<think>hm</think>\nSecond.",
    "Use the <think> tag to mark thoughts.",
    "Write <think> and </think> around them.",
    "<think>a</think>\n<think>b</think> Write <thought> around them.",
    "<|channel|>analysis<|message|>Bo?<|end|><|start|>assistant<|channel|>final<|message|>Ada.<|return|>",
    "<|channel|>analysis<|message|>Bo?<|end|><|start|>assistant<|",
    "<think>never closed",
    "A `<think>` tag opens.\nThen 2 < 3",
    "<THINK>İİ</THINK> y",
    "no tags at all",
]


@given(st.sampled_from(TEXTS), st.lists(st.integers(1, 9), max_size=60))
def test_however_the_text_is_cut_the_same_answer_is_passed(text, lengths):
    match, passed, rest = ThoughtFilter(), "", text
    for length in lengths:
        passed += match(rest[:length])
        rest = rest[length:]
    passed += match(rest) + match("", final=True)
    thoughts, answer = split_thoughts(text)
    assert (match.thoughts.split(), passed.split()) == (thoughts.split(), answer.split())


@pytest.mark.parametrize("pieces", [["Bo? no</thi", "nk>\n\nAda"], ["Bo? no</think>", "Ada"]])
def test_a_thought_that_the_prompt_opened_is_not_passed(pieces):
    match = ThoughtFilter(begins_in_thought=True)
    assert "".join([*map(match, pieces), match("", final=True)]) == "Ada"
    assert match.thoughts == "Bo? no"


@given(st.sampled_from(TEXTS), st.lists(st.integers(1, 9), max_size=60))
def test_thoughts_and_answer_are_passed_on_apart(text, lengths):
    match, rest, pieces = ThoughtFilter(), text, []
    for length in lengths:
        pieces += match.part(rest[:length])
        rest = rest[length:]
    pieces += match.part(rest, final=True)
    assert "".join(piece.text for piece in pieces if piece.is_thought) == match.thoughts
    answer = "".join(piece.text for piece in pieces if not piece.is_thought)
    _, expected = split_thoughts(text)
    assert answer.split() == expected.split()
    assert text[match.answer_start :].startswith(answer[:5].lstrip() if match.thoughts else answer[:5])
    assert all(piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("text", "thoughts", "start"),
    [
        ("<think>Bo?</think>\n\nAda", "Bo?", 20),
        (" <think>Bo?</think>Ada", "Bo?", 19),
        ("Ada", "", 0),
        ("\n Ada", "", 0),
        ("<think>Bo?", "Bo?", 10),
        ("<|channel>thought\nBo?<channel|>Ada", "\nBo?", 31),
        ("<mm:think>Bo?</mm:think>Ada", "Bo?", 24),
        ("<|open|>think<|sep|>Bo?<|close|>think<|sep|><|open|>response<|sep|>Ada", "Bo?", 67),
        ("<|think|>Bo?<|end|><|begin|>assistant<|content|>Ada", "Bo?", 48),
    ],
)
def test_the_answer_begins_after_thoughts_tags_and_space(text, thoughts, start):
    match = ThoughtFilter()
    answer = match(text, final=True)
    assert (match.thoughts, match.answer_start) == (thoughts, start)
    assert text[start:] == answer


@pytest.mark.parametrize(
    ("prompt", "closing"),
    [
        ("user: hi assistant: <think>\n", "</think>"),
        ("[THINK]", "[/THINK]"),
        ("<|begin_assistant|>\nHere are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"),
        ("<|channel>thought\n", "<channel|>"),
        ("<think>\n\n</think>\n\n", None),
        ("hi", None),
    ],
)
def test_a_prompt_that_opens_a_thought_names_the_tag_that_closes_it(prompt, closing):
    assert find_open_thought(prompt) == closing
    match = ThoughtFilter(begins_in_thought=closing is not None, closing=closing or "")
    assert match.closing == closing
    if closing:
        assert match(f"Bo? {closing}Ada", final=True) == "Ada"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>Bo?</think><response>Ada signs.</response>", "Ada signs."),
        ("<think>Bo?</think>\n\n<response>\nAda signs.\n</response>\n", "Ada signs."),
        ("<think>Bo?</think><response>Ada", "Ada"),
        ("<think>Bo?</think>Write <response> and </response>.", "Write <response> and </response>."),
        ("<response>Ada</response>", "<response>Ada</response>"),
    ],
)
def test_tags_around_an_answer_are_removed_only_behind_thoughts(text, answer):
    match = ThoughtFilter()
    streamed = "".join(map(match, text)) + match("", final=True)
    assert streamed.strip() == answer
    assert split_thoughts(text)[1] == answer


def test_a_verbatim_answer_keeps_its_tags():
    match = ThoughtFilter(begins_in_thought=True, is_verbatim=True)
    streamed = "".join(map(match, "Bo?</think>\n<think>|</think><|end|>")) + match("", final=True)
    assert (match.thoughts, streamed) == ("Bo?", "<think>|</think><|end|>")
