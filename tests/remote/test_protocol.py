"""How single events and errors are read."""

import json

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError, RemoteError
from leanrag.protocols import GenerateOptions
from leanrag.remote import EventDecoder, RemoteModel
from leanrag.remote.events import SurrogateJoiner
from leanrag.remote.keys import Secret
from leanrag.remote.protocol import parse_object, parse_reason, parse_usage
from leanrag.types import Message, Usage
from tests.remote.mocks import MockServer, chunk, events, reply

CHAT = [Message("user", "Who?")]
KEY = "sk-0123456789abcdef"


def make(answer, **settings):
    server = MockServer(answer)
    return RemoteModel("m", n_ctx=4096, count_tokens=len, **server.options | settings), server


# Events


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_an_event_is_complete_with_its_blank_line(end):
    decoder = EventDecoder()
    assert decoder.feed(f"data: a{end}{end}".encode()) == ["a"]
    assert decoder.feed(f"event: error{end}data: b".encode()) == []
    assert decoder.end() == [("error", "b")]


def test_events_without_data_are_passed_over():
    assert EventDecoder().feed(b"event: ping\n\nid: 3\n\ndata:\n\ndata: \n\n: comment\n\n\n\ndata: a\n\n") == ["a"]


@given(st.text(), st.data())
def test_characters_survive_any_cut(text, data):
    units = text.encode("utf-16-le", "surrogatepass")
    halves = [units[i : i + 2].decode("utf-16-le", "surrogatepass") for i in range(0, len(units), 2)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(halves)), max_size=5)))
    join = SurrogateJoiner()
    pieces = ["".join(halves[a:b]) for a, b in zip([0, *cuts], [*cuts, len(halves)], strict=True)]
    joined = "".join(map(join, pieces)) + join("", final=True)
    assert joined == units.decode("utf-16-le", "replace")
    joined.encode()


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)
    )
)
@pytest.mark.slow
def test_any_json_is_an_answer_or_an_error_of_the_library(value):
    for body in (
        value,
        {"choices": value},
        {"choices": [{"message": value}]},
        {"choices": [{"delta": {"content": value}}]},
    ):
        for answer in (reply, events):
            model, _ = make(lambda _, body=body, answer=answer: answer(body))
            with model:
                try:
                    assert isinstance(model.generate(CHAT, max_tokens=9).text, str)
                except RemoteError as error:
                    assert error.status


# Errors


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429, "message": "slowly"}, 429),
        ({"code": "503", "message": "x"}, 503),
        ({"type": "rate_limit_exceeded", "message": "x"}, 429),
        ({"type": "overloaded_error", "message": "x"}, 503),
        ({"type": "server_error", "code": None, "message": "x"}, 500),
        ({"type": "InternalServerError", "message": "x"}, 500),
        ({"type": "api_error", "message": "x"}, 500),
        ({"status": "RESOURCE_EXHAUSTED", "message": "x"}, 429),
        ({"status": "UNAVAILABLE", "message": "x"}, 503),
        ({"status": "DEADLINE_EXCEEDED", "message": "x"}, 504),
        ({"type": "invalid_request_error", "message": "x"}, 400),
        ({"type": "authentication_error", "message": "x"}, 401),
        ({"code": "model_not_found", "message": "x"}, 404),
        ({"message": "The engine is currently overloaded, please try again later"}, 503),
        ({"message": "Provider disconnected"}, 500),
        ("Rate limit reached", 429),
        ({"code": "x", "message": "no"}, None),
        ({"code": 7, "message": "no"}, None),
        ({"code": "²²²"}, None),
        ([7], None),
    ],
)
def test_the_status_that_an_error_stands_for(error, status):
    assert parse_reason({"error": error}).status == status


FORMS = [
    lambda error: {"error": error},
    lambda error: {"object": "error", **error},
    lambda error: {"type": "error", "error": error},
    lambda error: [{"error": error}],
    lambda error: chunk("", "error", error=error),
    lambda error: f"event: error\ndata: {json.dumps(error)}\n\n",
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("code", "retryable"), [(429, True), (500, True), (503, True), (400, False), (401, False)])
def test_an_error_in_mid_stream_says_whether_it_may_pass(form, code, retryable):
    error = form({"code": code, "message": "broken"})
    text = error if isinstance(error, str) else f"data: {json.dumps(error)}\n\n"
    body = f"data: {json.dumps(chunk('Ada'))}\n\n{text}".encode()
    model, server = make(lambda _: reply(body, kind="text/event-stream"))
    stream, pieces = model.stream(CHAT, GenerateOptions(9)), []
    with pytest.raises(RemoteError, match="broken") as caught:
        pieces.extend(stream)
    assert pieces == ["Ada"]
    assert (caught.value.status, caught.value.retryable, len(server.requests)) == (code, retryable, 1)


@pytest.mark.parametrize("form", FORMS)
def test_an_error_before_any_text_is_tried_again(form):
    def answer(_):
        error = form({"code": 503, "message": "busy"})
        text = error if isinstance(error, str) else f"data: {json.dumps(error)}\n\n"
        return (
            reply(text.encode(), kind="text/event-stream") if len(server.requests) < 3 else events(chunk("Ada", "stop"))
        )

    model, server = make(answer)
    assert model.generate(CHAT, max_tokens=9).text == "Ada"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("reason", "retryable"), [("content_filter", False), ("SAFETY", False), ("error", True), ("abort", True)]
)
def test_an_answer_that_was_withheld_is_an_error(reason, retryable):
    model, _ = make(lambda _: events(chunk("Ada"), chunk(finish=reason)))
    with pytest.raises(RemoteError, match=reason) as caught:
        model.generate(CHAT, max_tokens=9)
    assert caught.value.retryable == retryable


def test_a_model_that_declines_is_quoted():
    pieces = [{"choices": [{"delta": {"refusal": text}}]} for text in ("I may not ", "say.")]
    model, _ = make(lambda _: events(*pieces, chunk(finish="stop")))
    with pytest.raises(RemoteError, match=r"refuses to answer \(I may not say\.\)"):
        model.generate(CHAT, max_tokens=9)


def test_the_message_of_a_validation_error_is_without_the_input():
    detail = [
        {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": KEY}
    ]
    assert parse_reason({"detail": detail}).words == "body.seed: Extra inputs are not permitted"


# Values


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2}, Usage(9, 2)),
        ({"input_tokens": 9, "output_tokens": 2, "input_tokens_details": {"cached_tokens": 4}}, Usage(9, 2, 4)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 5}, Usage(9, 2, 5)),
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None}, Usage(9, 2)),
        ({"prompt_tokens": 10**400, "completion_tokens": 2}, Usage(10**400, 2)),
        ({"prompt_tokens": -9, "completion_tokens": 2}, None),
    ],
)
def test_usage(usage, expected):
    assert parse_usage(usage) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_json_in_any_encoding(encoding):
    assert parse_object('{"a": "Grüße"}'.encode(encoding)) == ({"a": "Grüße"}, "")


@pytest.mark.parametrize("secret", [KEY, "with 'quotes' and \\", 'with "these"', "ümlaut-key", "a+b/c=d e&f"])
def test_a_secret_is_hidden_in_every_usual_form(secret):
    forms = [secret, secret.upper(), repr(secret), json.dumps(secret), str(httpx.URL("http://x", params={"k": secret}))]
    for form in forms:
        hidden = Secret(secret).hide_in(f"before {form} after")
        assert "***" in hidden
        assert secret.lower() not in hidden.lower()


# Addresses


@pytest.mark.parametrize(
    "path", ["/openai/deployments/d", "/openai/deployments/d/chat/completions", "/openai/deployments/d/"]
)
@pytest.mark.parametrize("in_url", [True, False])
def test_the_query_of_azure_is_sent(path, in_url):
    version = "2024-10-21"
    url = f"https://r.openai.azure.com{path}{f'?api-version={version}' if in_url else ''}"
    query = {} if in_url else {"query": {"api-version": version}}
    model, server = make(lambda _: events(chunk("Ada", "stop")), base_url=url, headers={"api-key": KEY}, **query)
    assert model.generate(CHAT, max_tokens=9).text == "Ada"
    expected = f"https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version={version}"
    assert (str(server.requests[0].url), server.requests[0].headers["api-key"]) == (expected, KEY)
    assert model.base_url == "https://r.openai.azure.com/openai/deployments/d"
    assert KEY not in repr(model)


def test_a_key_in_the_query_is_secret():
    refusal = reply({"error": {"message": f"{KEY} is wrong, version v1beta too"}}, status=401)
    model, server = make(lambda _: refusal, query={"key": KEY, "version": "v1beta"})
    with pytest.raises(RemoteError, match=r"\*\*\* is wrong, version v1beta too"):
        model.generate(CHAT, max_tokens=9)
    assert server.requests[0].url.params["key"] == KEY
    assert KEY not in repr(model) + repr(vars(model))
    for name in ("key", "api_key", "subscription-key", "access_token", "sig", "code"):
        with pytest.raises(ConfigurationError, match="must not have a user") as caught:
            make(None, base_url=f"https://x/v1?{name}={KEY}")
        assert KEY not in str(caught.value)
    with pytest.raises(ConfigurationError, match="unencrypted"):
        make(None, base_url="http://10.0.0.1/v1", query={"key": KEY})
    make(None, base_url="http://10.0.0.1/v1?api-version=2024-10-21")
