"""Questions made from documents: what is kept, and why the others are dropped."""

import pytest

from leanrag import ConfigurationError, Document
from leanrag.evaluation import make_questions, run, summarize
from leanrag.evaluation.candidates import Candidate, candidates_by_model, candidates_by_rules, passages_of
from leanrag.evaluation.making import _problem
from leanrag.testing import FakeModel
from tests.stories import open_rag

GUIDE = """# Backups

A snapshot is a copy of all files at one time, and it takes little space.
Snapshots are kept for 30 days in the archive at the office.

## Who restores a file?

The support desk restores files on request.
"""
RIVERS = "The Nile is the longest river of Africa. It was measured in 1862 by an expedition of many people.\n"


@pytest.fixture
def rag(tmp_path):
    for name, text in (("guide.md", GUIDE), ("rivers.txt", RIVERS)):
        (tmp_path / name).write_text(text, encoding="utf-8")
    with open_rag(tmp_path / "kb") as rag:
        rag.add(tmp_path / "guide.md", tmp_path / "rivers.txt")
        yield rag


def test_rules_find_definitions_headings_and_gaps():
    document = Document(GUIDE, id="guide")
    found = {candidate.kind: candidate for candidate in candidates_by_rules(document)}
    assert (found["definition"].question, found["definition"].answer) == (
        "What is a snapshot?",
        "a copy of all files at one time",
    )
    assert (found["heading"].question, found["heading"].answer) == (
        "Who restores a file?",
        "The support desk restores files on request.",
    )
    assert found["cloze"].question.startswith(
        'Which words are missing here: "Snapshots are kept for ____ in the archive'
    )
    assert found["cloze"].answer == "30 days"
    for candidate in found.values():
        assert candidate.passage == GUIDE[candidate.start : candidate.end]
        assert candidate.answer in " ".join(candidate.passage.split())


def test_a_pronoun_is_not_a_term():
    assert [c.kind for c in candidates_by_rules(Document("It is a copy of all files that we have ever made.\n"))] == []


def test_passages_are_whole_sentences():
    text = "This sentence has forty characters here. " * 60
    spans = passages_of(Document(text))
    assert all(30 <= end - start <= 900 for start, end in spans)
    assert "".join(text[start:end] for start, end in spans).replace(" ", "") == text.replace(" ", "")


def test_questions_by_rules_are_kept_and_counted(rag):
    made = make_questions(rag, 10, unanswerable=0.0)
    assert {question.text for question in made.dataset.questions} >= {"Who restores a file?", "What is the Nile?"}
    assert sum(made.kept.values()) == len(made.dataset.questions)
    assert made.tried == sum(made.kept.values()) + sum(made.dropped.values())
    assert all(question.answers and question.passages for question in made.dataset.questions)
    assert str(made).startswith(f"kept {made.share_kept:.0%} of {made.tried} candidates")
    assert make_questions(rag, 10, unanswerable=0.0) == made


def test_unanswerable_questions_have_their_source_taken_away(rag):
    made = make_questions(rag, 4, unanswerable=0.5)
    without = [question for question in made.dataset.questions if question.answers == ()]
    assert made.kept["unanswerable"] == len(without) == 2
    for outcome in run(rag, without).outcomes:
        (path,) = outcome.question.hidden
        assert path not in {item.hit.chunk.source for item in outcome.answer.packing.items}
    summary = summarize(run(rag, made.dataset))
    assert summary.figure("refused rightly").n == 2


def test_an_answer_that_other_documents_have_cannot_be_taken_away(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(RIVERS, encoding="utf-8")
    with open_rag(tmp_path / "kb") as rag:
        rag.add(tmp_path / "a.txt", tmp_path / "b.txt")
        with pytest.raises(ConfigurationError, match="answered elsewhere"):
            make_questions(rag, 4, unanswerable=0.9)


def test_near_duplicates_are_dropped(tmp_path):
    with open_rag(tmp_path / "kb") as rag:
        rag.add(Document(RIVERS, id="a"), Document(RIVERS.upper().capitalize() + RIVERS, id="b"))
        made = make_questions(rag, 20)
    assert made.dropped["near-duplicate"] >= 1
    texts = [question.text for question in made.dataset.questions]
    assert len(set(texts)) == len(texts)


def test_a_folder_with_nothing_to_ask_about(tmp_path):
    with open_rag(tmp_path / "kb") as rag:
        rag.add_text("- a\n- b\n")
        with pytest.raises(ConfigurationError, match="no question can be made from the 1 documents"):
            make_questions(rag, 5)


# By a model


def writer(question="What does the support desk restore?", answer="files", second="files"):
    def reply(prompt):
        return f"Question: {question}\nAnswer: {answer}" if "Write one question" in prompt else second

    return FakeModel(reply)


def test_a_model_writes_and_reads_again(rag):
    made = make_questions(rag, 1, model=writer(), unanswerable=0.0)
    assert made.kept == {"model": 1}
    (question,) = made.dataset.questions
    assert (question.text, question.answers) == ("What does the support desk restore?", ("files",))
    assert GUIDE[question.passages[0].start : question.passages[0].end].count("support desk") == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"question": "no question"}, "not in the asked form"),
        ({"answer": "videos"}, "answer not in the source"),
        ({"question": "Does the desk restore files?"}, "answer in the question"),
        ({"question": "What does the text say is restored?"}, "speaks of the text"),
        ({"question": "What is the capital of Norway?", "answer": "request"}, "not supported by the source"),
        ({"second": "I do not know."}, "read otherwise the second time"),
    ],
)
def test_what_a_model_wrote_wrongly_is_dropped(options, reason):
    model = writer(**options)
    (candidate,) = candidates_by_model(model, Document("The support desk restores files on request.\n", id="d"))
    assert _problem(candidate, model) == reason


def test_long_answers_are_dropped():
    text = "word " * 31
    assert _problem(Candidate("cloze", "Which?", text.strip(), Document(text), 0, len(text)), None) == "answer too long"
