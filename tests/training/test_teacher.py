import pytest

from leanrag.errors import GenerationError, StorageError
from leanrag.prompting import profile_named
from leanrag.testing import FakeModel
from leanrag.training.examples import Example
from leanrag.training.teacher import label_examples, make_questions
from leanrag.types import Chunk, Hit, PackedItem

PROFILE = profile_named("smollm2-135m+reader")
TEXT = "The Eiffel Tower was built in 1889."
CHUNK = Chunk("tower", 0, len(TEXT), TEXT, "Tower")
ITEM = PackedItem(1, Hit(CHUNK, 1.0), TEXT, (), 0)


def teacher(*replies):
    replies = list(replies)
    return FakeModel(lambda _prompt: replies.pop(0))


def label(model, path, *questions):
    return label_examples(model, PROFILE, [(Example(question), [ITEM]) for question in questions], path)


@pytest.mark.parametrize(
    ("replies", "kept"),
    [
        (("When was the Eiffel Tower built?", "1889"), True),
        (("Question: When was the Eiffel Tower built?", '"1889".'), True),
        (("When was the Eiffel Tower built?", "1890"), False),
        (("When was the Eiffel Tower built?", ""), False),
        (("When?",), False),
        (("What does the text say about towers?",), False),
        (("Was the tower built in 1889 or later?", "1889"), False),
        (("I cannot.",), False),
    ],
)
def test_questions_that_can_be_trusted_are_kept(tmp_path, replies, kept):
    made = make_questions(teacher(*replies), [CHUNK], tmp_path / "made.jsonl")
    assert made == ([Example("When was the Eiffel Tower built?", ("1889",), "tower")] if kept else [])


@pytest.mark.parametrize(
    ("reply", "answers"),
    [("1889 [1]", ("1889",)), ("1889", ("1889",)), ("Not in the sources.", ()), ("1890 [1]", None)],
)
def test_answers_that_can_be_trusted_are_kept(tmp_path, reply, answers):
    labelled = label(teacher(reply), tmp_path / "answers.jsonl", "When was it built?")
    assert [example.answers for example in labelled] == ([] if answers is None else [answers])


def test_a_teacher_that_fails_half_way_loses_nothing(tmp_path):
    def fail(_prompt):
        raise GenerationError("out of order")

    path = tmp_path / "answers.jsonl"
    label(teacher("1889 [1]"), path, "When was it built?")
    with pytest.raises(GenerationError, match="out of order"):
        label(FakeModel(fail), path, "When was it built?", "What was built?")
    with path.open("a") as file:
        file.write('{"key": "cut')  # as a killed process leaves it
    labelled = label(teacher("Eiffel Tower [1]"), path, "When was it built?", "What was built?")
    assert [(each.question, each.answers) for each in labelled] == [
        ("When was it built?", ("1889",)),
        ("What was built?", ("Eiffel Tower",)),
    ]


def test_another_file_is_not_overwritten(tmp_path):
    path = tmp_path / "answers.jsonl"
    path.write_text("my notes\n")
    with pytest.raises(StorageError, match="is not a file of a teacher"):
        label(teacher("1889"), path, "When was it built?")
    assert path.read_text() == "my notes\n"
