"""A field that a model refuses is left out from then on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import RemoteError
from leanrag.remote import RemoteModel
from leanrag.remote.protocol import Reason
from leanrag.remote.refusals import Fields, Query
from leanrag.types import Message
from tests.remote.mocks import MockServer, chunk, events, refuse, reply

CHAT = [Message("system", "Be brief."), Message("user", "Who?")]
STATUSES = [400, 403, 404, 422, 501]
OPTIONS = {"max_tokens": 20, "temperature": 0.7, "seed": 3, "stop": ["\n\n"]}


def make(answer, name="m", **settings):
    server = MockServer(answer)
    return RemoteModel(name, n_ctx=4096, count_tokens=len, **server.options, **settings), server


def without(field, status, message, **more):
    return lambda body: refuse(status, message, **more) if field in body else events(chunk("Ada Park", "stop"))


WORDS = [
    ("temperature", "Unsupported value: 'temperature' does not support 0.7. Only the default (1) value is supported."),
    ("temperature", "`temperature` is not supported"),
    ("temperature", "temperature is deprecated for this model."),
    ("logprobs", "You are not allowed to request logprobs from this model"),
    ("logprobs", "This model does not support the parameter `top_logprobs`"),
    ("logprobs", "logprobs must be 0"),
    ("stop", "Unsupported parameter: 'stop' is not supported with this model."),
    ("stop", "Unknown field 'stop'. Known fields: messages, model, max_tokens, temperature"),
    ("stop", "'stop' must have at most 1 item"),
    ("seed", "Unrecognized request argument supplied: seed"),
    ("seed", "property 'seed' is unsupported"),
    ("seed", "Extra inputs are not permitted: seed"),
    ("stream_options", "stream_options: Extra inputs are not permitted"),
    ("max_tokens", "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."),
    ("max_tokens", "Unknown parameter: 'max_tokens'."),
]  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(("field", "words"), WORDS)
def test_a_refused_field_is_left_out_from_then_on(status, field, words):
    model, server = make(without(field, status, words))
    assert [model.generate(CHAT, **OPTIONS).text for _ in range(2)] == ["Ada Park"] * 2
    sent, *later = server.bodies
    assert field in sent
    assert len(later) == 2
    for body in later:
        expected = set(sent) - {field} - ({"top_logprobs"} if field == "logprobs" else set())
        assert set(body) == expected | ({"max_completion_tokens"} if field == "max_tokens" else set())


EXTRA = "Extra inputs are not permitted"
UNKNOWN = 'Invalid JSON payload received. Unknown name "{}": Cannot find field.'
REFUSALS = {
    "param": lambda field: {"error": {"message": "Invalid request", "param": field, "code": "unsupported_parameter"}},
    "FastAPI": lambda field: {"detail": [{"loc": ["body", field], "msg": EXTRA, "input": {"temperature": "stop"}}]},
    "vLLM": lambda field: {"object": "error", "message": f"[{{'loc': ('body', '{field}'), 'msg': '{EXTRA}'}}]"},
    "Gemini": lambda field: [{"error": {"message": UNKNOWN.format(field), "status": "INVALID_ARGUMENT"}}],
    "OpenRouter": lambda field: {"error": {"message": "no", "metadata": {"raw": f"{field} is not supported"}}},
}


@pytest.mark.parametrize("field", ["temperature", "seed", "stop", "logprobs", "max_tokens"])
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
@pytest.mark.parametrize("in_stream", [False, True])
def test_the_formats_in_which_servers_refuse(field, refusal, in_stream):
    def answer(body):
        if field not in body:
            return events(chunk("Ada", "stop"))
        return events(refusal(field)) if in_stream else reply(refusal(field), status=422)

    model, server = make(answer)
    assert model.generate(CHAT, **OPTIONS).text == "Ada"
    assert len(server.requests) == 2


def test_all_refusals_are_learnt_one_after_another():
    fields = ("temperature", "seed", "stop", "logprobs", "stream_options", "max_tokens")

    def answer(body):
        refused = next((field for field in fields if field in body), None)
        return refuse(400, f"Unsupported parameter: {refused}") if refused else events(chunk("Ada", "stop"))

    model, server = make(answer)
    generation = model.generate(CHAT, **OPTIONS)
    assert (generation.text, generation.seed, len(server.requests)) == ("Ada", None, 7)
    assert set(server.bodies[-1]) == {"model", "messages", "stream", "max_completion_tokens"}


def test_a_refusal_that_names_no_field_sheds_them_in_turn():
    def answer(body):
        is_plain = not {"logprobs", "stream_options"} & set(body)
        return (
            events(chunk("Ada", "stop")) if is_plain else refuse(404, "No endpoint supports the requested parameters.")
        )

    model, server = make(answer)
    assert model.generate(CHAT, **OPTIONS).text == "Ada"
    assert server.bodies[-1]["seed"] == 3
    assert len(server.requests) == 3


def test_a_server_that_does_not_stream_answers_whole():
    whole = {"choices": [{"message": {"content": "Ada."}, "finish_reason": "stop"}]}
    model, server = make(lambda body: refuse(400, "Streaming is not supported") if body.get("stream") else reply(whole))
    assert model.generate(CHAT, max_tokens=9).text == "Ada."
    assert not {"stream", "stream_options"} & set(server.bodies[-1])


def test_a_model_without_a_system_role_gets_one_message_of_the_user():
    def answer(body):
        if any(message["role"] == "system" for message in body["messages"]):
            return refuse(400, "System role not supported")
        return events(chunk("Ada.", "stop"))

    model, server = make(answer)
    assert model.generate(CHAT, max_tokens=9).text == "Ada."
    assert server.bodies[-1]["messages"] == [{"role": "user", "content": "Be brief.\n\nWho?"}]


@pytest.mark.parametrize("name", ["o1", "o3-mini", "o4-mini-2025-04-16", "openai/o3", "gpt-5", "gpt-5-nano", "gpt-5.1"])
def test_reasoning_models_of_openai_get_nothing_that_they_refuse(name):
    refused = {"temperature", "logprobs", "top_logprobs", "stop", "seed", "max_tokens"}
    model, server = make(lambda body: refuse(400, "no") if refused & set(body) else events(chunk("Ada", "stop")), name)
    assert model.generate(CHAT, max_tokens=20, stop=["\n"]).text == "Ada"
    assert (len(server.requests), server.bodies[0]["max_completion_tokens"]) == (1, 20)


@pytest.mark.parametrize("name", ["gpt-5-chat-latest", "gpt-4o", "gpt-oss-20b", "olmo-2", "o1x", "qwen3", "phi-4"])
def test_other_models_get_the_temperature(name):
    model, server = make(lambda body: events(chunk("Ada", "stop")), name)
    model.generate(CHAT, max_tokens=20)
    assert server.bodies[0]["temperature"] == 0.0


def test_a_seed_is_sent_only_where_it_matters():
    model, server = make(lambda body: events(chunk("Ada", "stop")))
    model.generate(CHAT, max_tokens=9, seed=3)
    model.generate(CHAT, max_tokens=9, seed=3, temperature=0.5)
    assert ["seed" in body for body in server.bodies] == [False, True]


def test_stop_strings_that_the_server_refuses_end_the_text_all_the_same():
    refused = without("stop", 400, "'stop' is not supported")
    model, _ = make(lambda body: refused(body) if "stop" in body else events(chunk("Ada\n\nBo", "stop")))
    generation = model.generate(CHAT, max_tokens=9, stop=["\n\n"])
    assert (generation.text, generation.finish_reason) == ("Ada", "stop")


@pytest.mark.parametrize(
    "words",
    [
        "Temperature must be between 0 and 2",
        "max_tokens is too large: 20. This model supports at most 10 completion tokens",
        "Invalid 'seed': integer below minimum value",
        "The model `m` does not exist",
        "You may not use this model",
        "Please stop sending requests",
        "",
    ],
)
@pytest.mark.parametrize("status", STATUSES)
def test_a_refusal_of_a_value_or_of_the_model_is_an_error(words, status):
    model, server = make(lambda body: refuse(status, words))
    with pytest.raises(RemoteError) as caught:
        model.generate(CHAT, **OPTIONS)
    assert (caught.value.status, len(server.requests)) == (status, 1)


def test_a_temperature_of_zero_that_is_out_of_range_is_left_out():
    model, server = make(without("temperature", 422, "`temperature` must be strictly positive"))
    assert model.generate(CHAT, max_tokens=9).text == "Ada Park"
    assert len(server.requests) == 2


def test_a_refusal_after_text_is_an_error():
    model, server = make(lambda body: events(chunk("Ad"), {"error": {"message": "'seed' is unsupported", "code": 400}}))
    with pytest.raises(RemoteError, match="seed"):
        model.generate(CHAT, **OPTIONS)
    assert len(server.requests) == 1


@given(st.text(), st.text(max_size=20), st.sampled_from([*STATUSES, 200, 401, 500, None]))
def test_any_refusal_is_learnt_at_most_once(words, field, status):
    fields = Fields("m", "m", logprobs=True, extra={})
    query = Query([{"role": "system", "content": "s"}], 1, 5, 0.5, ("a",), 1, 9.0)
    learnt = 0
    while fields.learn(status, Reason(words, field=field), fields.body(query)):
        learnt += 1
    assert learnt <= 8
