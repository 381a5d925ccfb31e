"""What clients send that they should not: each gets an error in OpenAI's shape, and the server lives."""

import json

import pytest

QUESTION = {"model": "leanrag", "messages": [{"role": "user", "content": "Who signs all permits?"}]}
CHAT = "/v1/chat/completions"


def error_of(response, status):
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return error


@pytest.fixture(autouse=True)
def lives(live):
    yield
    assert live.http.post(CHAT, json=QUESTION).json()["choices"][0]["message"]["content"].startswith("Ada Park")


def test_a_body_of_ten_megabytes(live):
    body = json.dumps({**QUESTION, "user": "x" * 10_000_000})
    error = error_of(live.http.post(CHAT, content=body, headers={"Content-Type": "application/json"}), 413)
    assert error["code"] == "body_too_large"


def test_a_body_of_ten_megabytes_in_chunks_of_unknown_number(live):
    chunks = (b" " * 100_000 for _ in range(100))
    error = error_of(live.http.post(CHAT, content=chunks, headers={"Content-Type": "application/json"}), 413)
    assert error["code"] == "body_too_large"


@pytest.mark.parametrize(
    "body",
    [
        '{"model": "leanrag", "mess',
        "",
        "[]",
        "null",
        "[" * 100_000,
        '{"model": ' + "1" * 5000 + "}",
        b'{"model": "\xff"}',
        '"\\ud800"',
    ],
    ids=lambda body: repr(body[:30]),
)
def test_a_body_that_is_no_request(live, body):
    error = error_of(live.http.post(CHAT, content=body, headers={"Content-Type": "application/json"}), 400)
    assert error["type"] == "invalid_request_error"


def test_a_body_of_another_type(live):
    error_of(live.http.post(CHAT, content=json.dumps(QUESTION), headers={"Content-Type": "text/plain"}), 400)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"max_tokens": -1}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"seed": -1}, "seed"),
        ({"n": 2}, "n"),
        ({"stop": [""]}, "stop"),
        ({"stop": "end"}, "stop"),
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": " "}]}, None),
        ({"messages": [{"role": "assistant", "content": "a"}]}, "messages"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format"),
        ({"messages": [{"role": "tool", "content": "a", "tool_call_id": "b"}]}, "messages[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]},
            "messages[0].content[0]",
        ),
        ({"leanrag": {"k": 0}}, "leanrag.k"),
        ({"leanrag": {"unknown": 1}}, "leanrag.unknown"),
        ({"leanrag": {"where": {"a": {"$bad": 1}}}}, None),
        ({"stream": "perhaps"}, "stream"),
    ],
    ids=repr,
)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_value_is_named(live, change, param, stream):
    body = json.dumps({"stream": stream, **QUESTION, **change})  # `json=` of httpx refuses NaN
    error = error_of(live.http.post(CHAT, content=body, headers={"Content-Type": "application/json"}), 400)
    assert (error["param"] or "").startswith(param or "")


def test_a_model_that_does_not_exist(live):
    error = error_of(live.http.post(CHAT, json={**QUESTION, "model": "gpt-4o"}), 404)
    assert error["code"] == "model_not_found"
    assert "'handbook'" in error["message"]


def test_a_prompt_longer_than_the_window(live):
    messages = [{"role": "user", "content": "word " * 10_000}]
    error = error_of(live.http.post(CHAT, json={"model": "echo", "messages": messages}), 400)
    assert error["code"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/v1/nothing", 404), ("GET", CHAT, 405), ("DELETE", "/health", 405), ("GET", "/../etc/passwd", 404)],
)
def test_an_address_that_does_not_exist(live, method, path, status):
    error_of(live.http.request(method, path), status)
