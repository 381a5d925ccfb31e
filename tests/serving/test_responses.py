import openai
import pytest

QUESTION = "Who signs all permits?"


@pytest.fixture(scope="module")
def client(live):
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def test_a_whole_response(client, rag):
    response, answer = client.responses.create(model="leanrag", input=QUESTION), rag.ask(QUESTION)
    assert response.output_text == answer.text
    assert response.status == "completed"
    assert response.usage.input_tokens == answer.usage.prompt_tokens
    assert response.leanrag["citations"][0]["quote"] == answer.citations[0].quote


def test_a_streamed_response_has_the_events_of_the_api_in_order(client):
    events = list(client.responses.create(model="leanrag", input=QUESTION, stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    words = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert words == events[-4].text == "Ada Park signs all permits."
    assert events[-1].response.output_text == "Ada Park signs all permits [1]."


def test_instructions_and_messages_reach_a_model(client):
    messages = [{"role": "user", "content": [{"type": "input_text", "text": "Good day!"}]}]
    response = client.responses.create(model="echo", input=messages, instructions="Be brief.")
    assert response.output_text.endswith("<user>Good day!</user><assistant>")


def test_a_cut_response_is_incomplete(client):
    response = client.responses.create(model="echo", input="one two three", max_output_tokens=2)
    assert response.status == "incomplete"
    assert response.incomplete_details.reason == "max_output_tokens"


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"previous_response_id": "resp-1"}, "previous_response_id"),
        ({"background": True}, "background"),
        ({"input": [{"type": "function_call_output", "call_id": "a", "output": "b"}]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]},
            "input[0].content[0]",
        ),
        ({"max_output_tokens": -1}, "max_output_tokens"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"text": {"format": {"type": "poem"}}}, "text.format"),
        ({"input": []}, "input"),
    ],
    ids=repr,
)
def test_what_the_server_cannot_do_is_refused(live, change, param):
    response = live.http.post("/v1/responses", json={"model": "leanrag", "input": QUESTION, **change})
    assert response.status_code == 400
    assert response.json()["error"]["param"].startswith(param)
