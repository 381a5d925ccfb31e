import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError, DocumentError
from leanrag.training.examples import Example, check_examples, divide, part_of, read_examples


def test_a_file_is_read(tmp_path):
    path = tmp_path / "questions.jsonl"
    rows = [{"question": "Who?", "answers": ["Ada", " "]}, {"question": "When?", "answers": "1843", "document_id": "d"}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    assert read_examples(path) == [Example("Who?", ("Ada",)), Example("When?", ("1843",), "d")]


@pytest.mark.parametrize(
    ("line", "match"),
    [
        ("{", "line 2 of .* is not JSON"),
        ("[]", "line 2 of .* has no text in its field `question`"),
        ('{"question": ""}', "line 2 of .* has no text in its field `question`"),
        ('{"question": "Who?", "answers": [1]}', "line 2 of .* has wrong fields"),
        ('{"question": "Who?", "kind": 3}', "line 2 of .* has wrong fields"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, match):
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "Who?"}\n' + line, encoding="utf-8")
    with pytest.raises(DocumentError, match=match):
        read_examples(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DocumentError, match="cannot read the questions"):
        read_examples(tmp_path / "gone.jsonl")


def test_too_few_questions_and_none_with_an_answer_are_refused():
    with pytest.raises(ConfigurationError, match="at least 20 questions, got 3"):
        check_examples([Example("Who?", ("Ada",))] * 3)
    with pytest.raises(ConfigurationError, match="none of the 30 questions has an answer"):
        check_examples([Example("Who?")] * 30)


questions = st.lists(
    st.builds(
        Example,
        st.sampled_from(["Who is it?", "who is IT", "Where is the tower?", "Is the tower where?", "When?"]),
        document_id=st.sampled_from(["", "a", "b", "c", "d"]),
        group=st.sampled_from(["", "article"]),
    ),
    max_size=30,
)


@given(questions, st.floats(0, 1), st.integers(0, 3))
def test_no_unit_and_no_question_is_in_both_parts(examples, share, seed):
    training, development = divide(examples, share=share, seed=seed)
    assert not {example.unit for example in training} & {example.unit for example in development}
    words = [
        {frozenset(e.question.casefold().strip("?").split()) - {"the"} for e in part}
        for part in (training, development)
    ]
    assert not words[0] & words[1]
    assert all(part_of(example.unit, share=share, seed=seed) == "train" for example in training)
    assert len({(e.question.casefold().strip("?"), e.unit) for e in training}) == len(training)


def test_about_the_share_is_kept_for_measuring():
    parts = [part_of(str(i), share=0.2) for i in range(2000)]
    assert 0.17 < parts.count("development") / 2000 < 0.23
