"""Data sets: what is read from each format, and the errors that name file and line."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import ConfigurationError, DocumentError
from leanrag.evaluation import Dataset, Passage, Question, read_beir, read_hotpot, read_nq, read_questions, read_squad
from leanrag.evaluation.questions import digest_of, to_questions


@pytest.fixture
def write(tmp_path):
    def write(name, *values, raw=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(value) + "\n" for value in values).encode()
        path.write_bytes(raw if raw is not None else text)
        return path

    return write


# JSON lines


def test_json_lines(write):
    dataset = read_questions(
        write(
            "own.jsonl",
            {"question": "Who?", "answers": ["Ada Park", "Park"], "documents": ["a.md"]},
            {"question": "Why?", "answers": [], "id": "why"},
            {"question": "When?", "note": "ignored"},
        )
    )
    assert dataset.name == "own"
    assert dataset.documents == ()
    assert dataset.questions == (
        Question("Who?", ("Ada Park", "Park"), "1", (Passage("a.md"),)),
        Question("Why?", (), "why"),
        Question("When?", None, "3"),
    )
    assert [question.is_answerable for question in dataset.questions] == [True, False, None]


def test_byte_order_mark_blank_lines_and_gzip(write):
    line = b'{"question": "Who?"}'
    assert read_questions(write("a.jsonl", raw=b"\xef\xbb\xbf\n" + line + b"\r\n\n")).questions[0].id == "2"
    assert read_questions(write("a.jsonl.gz", raw=gzip.compress(line))).name == "a"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b'{"question": "Who?"}\n{"questoin": "Why?"}', r"line 2 of .*bad\.jsonl.*question: Field required"),
        (b'{"question": "  "}', r"line 1 of .*question: String should match"),
        (b'{"question": "Who?", "answers": [""]}', r"line 1 of .*answers\[0\]"),
        (b'{"question": "Who?", "answers": "Ada"}', r"line 1 of .*answers: Input should be a valid array"),
        (b'{"question": "Who?"}\n{"question": "Who?"}', r"line 2 of .*question 'Who\?' is also at line 1"),
        (b'{"question": "A?", "id": "x"}\n\n{"question": "B?", "id": "x"}', r"line 3 of .*id 'x' is also at line 1"),
        (b'{"question": "Who?"}\n{"question": "\xff"}', r"line 2 of .*not UTF-8"),
        (b'{"question": "Who', r"line 1 of .*Invalid JSON"),
        (b"[]", r"line 1 of .*Input should be an object"),
        (b"\n\n", r"has no questions"),
        (gzip.compress(b"x" * 100, mtime=0)[:20], r"cannot read"),
    ],
)
def test_a_bad_line_is_named(write, raw, message):
    path = write("bad.jsonl", raw=raw)
    with pytest.raises(DocumentError, match=message) as caught:
        read_questions(path)
    assert caught.value.path == path


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DocumentError, match=r"cannot read the questions .*none.jsonl"):
        read_questions(tmp_path / "none.jsonl")


@given(st.binary(max_size=200))
def test_any_bytes_are_questions_or_a_typed_error(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(raw)
    for read in (read_questions, read_nq, read_squad, read_hotpot):
        with pytest.raises(DocumentError, match="any"):
            read(path)


# SQuAD


def squad(context="The Nile is long.", **question):
    question = {"id": "q1", "question": "What is long?", "answers": [{"text": "Nile", "answer_start": 4}]} | question
    return {"version": "v2.0", "data": [{"title": "The_Nile", "paragraphs": [{"context": context, "qas": [question]}]}]}


def test_squad(write):
    dataset = read_squad(write("dev.json", squad()))
    (document,) = dataset.documents
    assert (document.id, document.title, document.text) == ("The_Nile#0.0", "The Nile", "The Nile is long.")
    assert dataset.questions == (Question("What is long?", ("Nile",), "q1", (Passage("The_Nile#0.0", 4, 8),)),)


def test_squad_without_an_answer(write):
    path = write(
        "dev.json", squad(is_impossible=True, answers=[], plausible_answers=[{"text": "x", "answer_start": 0}])
    )
    assert read_squad(path).questions == (Question("What is long?", (), "q1"),)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (squad(answers=[]), r"data\[0\]\.paragraphs\[0\]\.qas\[0\] of .*no answers"),
        (squad(answers=[{"text": "Nile", "answer_start": 5}]), r"'Nile' is not at character 5"),
        (squad(question=""), r"data\[0\]\.paragraphs\[0\]\.qas\[0\]\.question"),
        ({"data": [{"title": "x"}]}, r"data\[0\]\.paragraphs: Field required"),
    ],
)
def test_bad_squad(write, value, message):
    with pytest.raises(DocumentError, match=message):
        read_squad(write("dev.json", value))


def test_broken_json_and_encoding_name_the_line(write):
    with pytest.raises(DocumentError, match="line 2 of"):
        read_squad(write("dev.json", raw=b'{"data":\n [}'))
    with pytest.raises(DocumentError, match=r"line 3 of .*not UTF-8"):
        read_squad(write("dev.json", raw=b'{"data":\n\n"\xff"}'))


# Natural Questions


def test_open_nq_with_and_without_passages(write):
    contexts = [{"title": "Nobel", "text": "Röntgen got it."}, {"title": "Nobel", "text": "Others did not."}]
    dataset = read_nq(
        write(
            "nq.jsonl",
            {"question": "who got it", "answers": ["Röntgen"], "ctxs": contexts},
            {"question": "who else", "answer": ["nobody"]},
        )
    )
    assert [document.id for document in dataset.documents] == ["Nobel", "Nobel#2"]
    assert dataset.questions == (
        Question("who got it", ("Röntgen",), "1", (Passage("Nobel"),)),
        Question("who else", ("nobody",), "2"),
    )


def test_simplified_nq(write):
    row = {
        "example_id": 7,
        "question_text": "how long is the nile",
        "document_title": "Nile",
        "document_text": "<P> The Nile is 6,650 km long . </P> <P> It is old . </P>",
        "annotations": [
            {
                "short_answers": [{"start_token": 4, "end_token": 6}],
                "long_answer": {"start_token": 0, "end_token": 9},
                "yes_no_answer": "NONE",
            }
        ],
    }
    dataset = read_nq(write("nq.jsonl", row))
    (document,) = dataset.documents
    assert document.text == "The Nile is 6,650 km long . It is old ."
    (question,) = dataset.questions
    assert (question.id, question.answers) == ("7", ("6,650 km",))
    (passage,) = question.passages
    assert document.text[passage.start : passage.end].strip() == "The Nile is 6,650 km long ."


def test_bad_nq(write):
    with pytest.raises(DocumentError, match=r"line 1 of .*neither"):
        read_nq(write("nq.jsonl", {"question": "who"}))
    row = {
        "question_text": "q",
        "document_text": "a b",
        "annotations": [{"short_answers": [{"start_token": 1, "end_token": 9}]}],
    }
    with pytest.raises(DocumentError, match="tokens 1 to 9 are not in the document"):
        read_nq(write("nq.jsonl", row))


# HotpotQA


def test_hotpot(write):
    row = {
        "_id": "h1",
        "question": "Who?",
        "answer": "Ada",
        "supporting_facts": [["Park", 1]],
        "context": [["Park", ["One. ", "Ada did."]], ["Nile", ["Long."]]],
    }
    again = row | {"_id": "h2", "context": row["context"][:1]}
    dataset = read_hotpot(write("hotpot.json", [row, again]))
    assert [document.id for document in dataset.documents] == ["Park", "Nile"]
    assert dataset.questions[0] == Question("Who?", ("Ada",), "h1", (Passage("Park", 5, 13),))
    assert dataset.questions[1].passages == dataset.questions[0].passages
    with pytest.raises(DocumentError, match=r"\[0\]\.context: Field required"):
        read_hotpot(write("hotpot.json", [{name: row[name] for name in row if name != "context"}]))


# BEIR


def test_beir(write, tmp_path):
    write("corpus.jsonl", {"_id": "d1", "title": "T", "text": "One."}, {"_id": "d2", "text": " "})
    write("queries.jsonl", {"_id": "q1", "text": "what"}, {"_id": "q2", "text": "else"})
    write("qrels/test.tsv", raw=b"query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t1\nq2\td1\t0\n")
    dataset = read_beir(tmp_path)
    assert [document.id for document in dataset.documents] == ["d1"]
    assert dataset.questions == (Question("what", None, "q1", (Passage("d1", gain=2.0),)),)
    write("qrels/test.tsv", raw=b"q1\td1\t2\nq1\td9\t1\n")
    with pytest.raises(DocumentError, match=r"line 2 of .*'d9' is not known"):
        read_beir(tmp_path)
    write("qrels/test.tsv", raw=b"q1\td1\t1\nq1 d1 1\n")
    with pytest.raises(DocumentError, match=r"line 2 of .*tabs"):
        read_beir(tmp_path)


# Questions


def test_questions_of_every_form_get_ids():
    questions = to_questions(["Who?", ("Why?", "because"), ("When?", []), Question("Where?", id="w")])
    assert [question.id for question in questions] == ["1", "2", "3", "w"]
    assert [question.answers for question in questions] == [None, ("because",), (), None]
    assert to_questions(Dataset("d", questions)) == questions


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no questions"),
        ([" "], "question 1 is empty"),
        ([("Who?", [""])], "question 1 has an empty answer"),
        ([Question("a", id="x"), Question("b", id="x")], "questions 1 and 2 have the same id 'x'"),
        ([3], "question 1 must be a `Question`"),
    ],
)
def test_bad_questions(rows, message):
    with pytest.raises(ConfigurationError, match=message):
        to_questions(rows)


def test_a_sample_is_the_same_for_a_seed_and_keeps_the_order():
    dataset = Dataset("d", to_questions(f"q{i}" for i in range(20)))
    sample = dataset.sample(5, seed=1)
    assert sample == dataset.sample(5, seed=1) != dataset.sample(5, seed=2)
    assert sorted(map(dataset.questions.index, sample.questions)) == [*map(dataset.questions.index, sample.questions)]
    assert dataset.sample(99).questions == dataset.questions


def test_the_digest_depends_on_all_that_is_known():
    question = Question("Who?", ("Ada",), "1")
    assert digest_of([question]) == digest_of([Question("Who?", ("Ada",), "1")])
    assert len({digest_of([question]), digest_of([Question("Who?", (), "1")]), digest_of([])}) == 3


def test_a_passage_overlaps_spans_of_its_document():
    assert Passage("d", 5, 9).overlaps("d", 8, 12)
    assert not Passage("d", 5, 9).overlaps("d", 9, 12)
    assert not Passage("d", 5, 9).overlaps("e", 5, 9)
    assert Passage("d").overlaps("d", 9, 12)
