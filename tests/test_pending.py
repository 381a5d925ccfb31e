import pytest
from hypothesis import given
from hypothesis import strategies as st

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
