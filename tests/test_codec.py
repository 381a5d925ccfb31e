"""Answers as JSON and back."""

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from leanrag.types import Answer, Citation, Segment
from leanrag.types.codec import from_json, to_json
from tests.examples import max_examples
from tests.stories import open_rag

st.register_type_strategy(float, st.floats(allow_nan=False))


@max_examples(40, suppress_health_check=list(HealthCheck))
@given(answer=st.from_type(Answer))
@pytest.mark.slow
def test_an_answer_survives_json(answer):
    assert Answer.from_json(answer.to_json()) == answer


def test_a_real_answer_survives_json_with_its_packing_and_trace(tmp_path):
    with open_rag(tmp_path) as rag:
        rag.add_text("Releases are signed off by Ada Park.", id="park", title="\ud800 odd")
        answer = rag.ask("Who signs off the releases?")
    again = Answer.from_json(answer.to_json())
    assert again == answer
    assert (again.citations[0].quote, again.seconds) == (answer.citations[0].quote, answer.seconds)


CITATION = Citation(1, "d", "t", None, 0, 3, "abc", 0.5)


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.pop("quote"),
        lambda fields: fields.update(extra=1),
        lambda fields: fields.update(number="1"),
        lambda fields: fields.update(number=True),
        lambda fields: fields.update(start=1.5),
        lambda fields: fields.update(source=3),
    ],
)
def test_other_fields_and_other_types_are_refused(change):
    fields = dataclasses.asdict(CITATION)
    assert from_json(Citation, json.dumps(fields)) == CITATION
    change(fields)
    with pytest.raises(ValueError, match="Citation"):
        from_json(Citation, json.dumps(fields))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000])
def test_what_is_not_an_object_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        from_json(Citation, text)


def test_a_value_without_a_json_form_is_named():
    with pytest.raises(TypeError, match="set has no JSON form"):
        to_json(dataclasses.replace(CITATION, number={1}))


def test_an_integer_stays_one_where_a_float_is_meant():
    segment = Segment(0, 1, 0, 0, 1, score=1)
    assert repr(from_json(Segment, to_json(segment))) == repr(segment)
