import base64
import struct

import openai
import pytest

from leanrag.types import Message
from tests.serving.live import events_of

QUESTION = "Who signs all permits?"


@pytest.fixture(scope="module")
def client(live):
    with openai.OpenAI(base_url=f"{live.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


def ask(client, **options):
    return client.chat.completions.create(
        **{"model": "leanrag", "messages": [{"role": "user", "content": QUESTION}], **options}
    )


def test_a_folder_answers_with_citations_usage_and_confidence(client, rag):
    response, answer = ask(client), rag.ask(QUESTION)
    choice = response.choices[0]
    assert choice.message.content == answer.text == "Ada Park signs all permits [1]."
    assert choice.finish_reason == "stop"
    assert response.usage.prompt_tokens == answer.usage.prompt_tokens
    assert response.usage.total_tokens == answer.usage.total_tokens
    details = response.leanrag
    assert details["citations"][0]["quote"] == answer.citations[0].quote == "Ada Park signs all permits."
    assert details["citations"][0]["document_id"] == "handbook"
    assert details["is_supported"] is True
    assert details["confidence"] == answer.confidence
    assert details["sources"]["tokens"] == answer.packing.tokens


def test_a_stream_has_the_words_then_the_citations_then_the_usage(client):
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert words == "Ada Park signs all permits."
    ends = [chunk for chunk in chunks if chunk.choices and chunk.choices[0].finish_reason]
    assert len(ends) == 1
    assert ends[0].leanrag["text"] == "Ada Park signs all permits [1]."
    assert ends[0].leanrag["citations"][0]["number"] == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 0
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_without_usage_has_none(client):
    assert not any(chunk.usage for chunk in ask(client, stream=True))


def test_a_stream_ends_with_done(live):
    body = {"model": "leanrag", "stream": True, "messages": [{"role": "user", "content": QUESTION}]}
    response = live.http.post("/v1/chat/completions", json=body)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.text.endswith("data: [DONE]\n\n")
    assert events_of(response.text)[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}


def test_the_folder_has_its_own_name_too(client):
    assert ask(client, model="handbook").choices[0].message.content == "Ada Park signs all permits [1]."


def test_a_bare_model_reads_all_messages(client):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Good day!"}]
    assert (
        ask(client, model="echo", messages=messages)
        .choices[0]
        .message.content.endswith("<user>Good day!</user><assistant>")
    )


def test_a_completion_of_a_bare_model_continues_the_text(client):
    response = client.completions.create(model="echo", prompt="Once upon a time", max_tokens=50)
    assert response.choices[0].text == "Once upon a time"
    assert response.object == "text_completion"


def test_a_completion_can_be_streamed(client):
    chunks = list(client.completions.create(model="echo", prompt="Once upon a time", max_tokens=50, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "Once upon a time"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_a_short_answer_says_that_it_was_cut(client):
    response = client.completions.create(model="echo", prompt="one two three four five", max_tokens=3)
    assert response.choices[0].finish_reason == "length"
    assert response.usage.completion_tokens == 3


def test_stop_strings_end_the_text(client):
    response = client.completions.create(model="echo", prompt="one two three", max_tokens=50, stop="two")
    assert response.choices[0].text == "one "


def test_content_may_come_in_parts(client):
    parts = [{"type": "text", "text": "Who signs"}, {"type": "text", "text": "all permits?"}]
    response = ask(client, messages=[{"role": "user", "content": parts}])
    assert response.choices[0].message.content == "Ada Park signs all permits [1]."


def test_options_of_a_folder_are_passed_on(client):
    response = ask(client, extra_body={"leanrag": {"where": {"team": "nobody"}}})
    assert response.leanrag["model"] is None
    assert response.leanrag["citations"] == []


def test_what_has_no_effect_is_reported(client):
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}]
    response = ask(client, messages=messages, presence_penalty=0.5, user="ada")
    assert response.leanrag["ignored"] == ["presence_penalty", "user", "system messages"]


def test_models_are_listed(client):
    assert [model.id for model in client.models.list()] == ["leanrag", "handbook", "echo", "hash-64"]
    assert client.models.retrieve("handbook").owned_by == "leanrag"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("other")


def test_embeddings_come_as_numbers_and_as_bytes(client, live):
    embedder = live.app.state.service.embedders["hash-64"]
    texts = ["Ada Park signs.", "Bo Lind keeps keys."]
    expected = embedder.embed_documents(texts)
    response = client.embeddings.create(model="hash-64", input=texts)  # the client asks for bytes, and reads them
    assert [pytest.approx(list(row)) for row in expected] == [each.embedding for each in response.data]
    assert response.usage.prompt_tokens == sum(map(embedder.count_tokens, texts))
    body = {"model": "hash-64", "input": texts[0]}
    assert live.http.post("/v1/embeddings", json=body).json()["data"][0]["embedding"] == expected[0].tolist()
    encoded = live.http.post("/v1/embeddings", json={**body, "encoding_format": "base64"}).json()
    assert struct.unpack("<64f", base64.b64decode(encoded["data"][0]["embedding"])) == tuple(expected[0].tolist())


@pytest.mark.parametrize(
    ("change", "param"),
    [({"input": [[1, 2]]}, "input"), ({"input": " "}, "input"), ({"dimensions": 3}, "dimensions")],
)
def test_what_cannot_be_embedded_is_refused(live, change, param):
    response = live.http.post("/v1/embeddings", json={"model": "hash-64", "input": "a", **change})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == param


def test_earlier_messages_are_a_conversation(client, rag):
    first, second = QUESTION, "And who keeps the keys of the archive?"
    said = [Message("user", first), Message("assistant", "Ada Park signs all permits.")]
    expected = rag.chat(said).ask(second)
    messages = [
        {"role": "assistant", "content": "How can I help?"},
        {"role": "user", "content": first},
        {"role": "assistant", "content": "Ada Park signs all permits [1]."},
        {"role": "user", "content": second},
    ]
    response = ask(client, messages=messages)
    assert response.choices[0].message.content == expected.text
    assert response.usage.prompt_tokens == expected.usage.prompt_tokens > rag.ask(second).usage.prompt_tokens
