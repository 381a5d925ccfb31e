"""Keys, limits of clients, hosts and origins, and the figures."""

import logging
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag.errors import ConfigurationError
from leanrag.serving.app import create_app
from leanrag.serving.failures import ApiError
from leanrag.serving.guard import is_loopback
from leanrag.serving.keys import Client, Keys
from leanrag.serving.limits import ClientLimits
from leanrag.serving.metrics import Counter, Histogram, Metrics
from leanrag.testing import FakeModel, HashEmbedder
from tests.serving.live import Live

SECRET, OTHER = "correct-horse-battery", "another-long-secret"
KEYS = f'{{"ada": {{"key": "{SECRET}", "models": ["first"], "max_tokens": 3}}, "bo": {{"key": "{OTHER}"}}}}'
CHAT = "/v1/chat/completions"


def body(model, **more):
    return {"model": model, "messages": [{"role": "user", "content": "Who signs?"}], **more}


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture(scope="module")
def guarded():
    models = [FakeModel("one two three four", name="first"), FakeModel("five", name="second")]
    with Live(create_app(models=models, keys=Keys.parse(KEYS), origins=["https://good.example"])) as server:
        yield server


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong"),
        bearer(SECRET + "x"),
        {"Authorization": SECRET},
        {"Authorization": f"Basic {SECRET}"},
    ],
)
def test_a_request_without_a_right_key_is_refused(guarded, headers):
    for method, path in (("POST", CHAT), ("GET", "/v1/models"), ("GET", "/metrics"), ("POST", "/add"), ("GET", "/x")):
        response = guarded.http.request(method, path, headers=headers)
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert SECRET not in response.text


def test_the_page_and_health_need_no_key(guarded):
    assert all(guarded.http.get(path).status_code == 200 for path in ("/", "/page.js", "/page.css", "/health"))


def test_a_client_sees_only_its_models(guarded):
    names = [model["id"] for model in guarded.http.get("/v1/models", headers=bearer(SECRET)).json()["data"]]
    assert names == ["first"]
    assert guarded.http.post(CHAT, json=body("second"), headers=bearer(SECRET)).status_code == 404
    assert "second" not in guarded.http.post(CHAT, json=body("x"), headers=bearer(SECRET)).text
    assert guarded.http.post(CHAT, json=body("second"), headers=bearer(OTHER)).status_code == 200


@pytest.mark.parametrize("asked", [{}, {"max_tokens": 100}])
def test_the_answers_of_a_client_are_cut_at_its_limit(guarded, asked):
    answer = guarded.http.post(CHAT, json=body("first", **asked), headers=bearer(SECRET)).json()
    assert answer["usage"]["completion_tokens"] == 3
    assert guarded.http.post(CHAT, json=body("first"), headers=bearer(OTHER)).json()["usage"]["completion_tokens"] > 3


def test_keys_appear_nowhere(guarded, caplog):
    keys = Keys.parse(KEYS)
    assert SECRET not in repr(keys)
    assert SECRET not in str(vars(keys))
    with caplog.at_level(logging.DEBUG):
        guarded.http.post(CHAT, json=body("first"), headers=bearer(SECRET))
        guarded.http.post(CHAT, content=b"{", headers=bearer(SECRET))
    assert SECRET not in "\n".join(
        record.getMessage() for record in caplog.records if record.name.startswith("leanrag")
    )
    assert SECRET not in guarded.http.get("/metrics", headers=bearer(SECRET)).text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("short", "at least 8"),
        ('{"ada": {"key": "short"}}', "ada.key"),
        ('{"ada": {"key": "long-enough-secret", "model": []}}', "ada.model"),
        ('{"ada": {"key": "long-enough-secret", "parallel": 0}}', "ada.parallel"),
        ('{"ada": ', "JSON object"),
        ("long-enough-secret,long-enough-secret", "same key"),
    ],
)
def test_keys_that_cannot_be_read_are_refused_without_being_shown(text, problem):
    with pytest.raises(ConfigurationError, match=problem) as caught:
        Keys.parse(text, variable="MY_KEYS")
    assert "MY_KEYS" in str(caught.value)
    assert "long-enough-secret" not in str(caught.value)


@given(st.text(alphabet=st.characters(exclude_characters=",", exclude_categories=["C", "Z"]), min_size=8, max_size=30))
def test_every_key_opens_only_with_itself(key):
    if key.startswith("{"):
        return
    keys = Keys.parse(f"{key}, unrelated-key")
    assert keys.client(f"Bearer {key}").name == "key-1"
    with pytest.raises(ApiError):
        keys.client(f"Bearer {key}x")


def test_a_key_for_an_unknown_model_is_refused():
    with pytest.raises(ConfigurationError, match="'nothing'"):
        create_app(models=[FakeModel()], keys=Keys.parse('{"a": {"key": "long-enough", "models": ["nothing"]}}'))


def test_two_things_of_one_name_are_refused(tmp_path):
    with leanrag.open(tmp_path, model=FakeModel(), embedder=HashEmbedder()) as rag:
        with pytest.raises(ConfigurationError, match="'kb'"):
            create_app({"kb": rag}, models=[FakeModel(name="kb")])
        with pytest.raises(ConfigurationError, match="'leanrag'"):
            create_app({"kb": rag, "leanrag": rag})


def test_requests_in_a_minute_are_limited():
    now = 0.0
    limits, client = ClientLimits(lambda: now), Client("ada", requests_per_minute=2)
    for _ in range(2):
        with limits.counting(client):
            pass
    now = 20.0
    with pytest.raises(ApiError) as caught, limits.counting(client):
        pass
    assert (caught.value.status, caught.value.headers["Retry-After"]) == (429, "40")
    now = 60.0
    with limits.counting(client), limits.counting(Client("bo", requests_per_minute=2)):
        pass


def test_requests_at_the_same_time_are_limited():
    limits, client = ClientLimits(), Client("ada", parallel=1)
    with limits.counting(client), pytest.raises(ApiError, match="1 requests under way"), limits.counting(client):
        pass
    with limits.counting(client):
        pass


def test_other_names_of_this_machine_are_refused(rag):
    with Live(create_app({"kb": rag}, hosts=["127.0.0.1", "localhost"])) as server:
        assert server.http.get("/folders").status_code == 200
        assert server.http.get("/folders", headers={"Host": "localhost:1234"}).status_code == 200
        response = server.http.get("/folders", headers={"Host": "attacker.example"})
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "wrong_host"


def test_web_pages_of_other_origins_are_refused_unless_they_are_allowed(guarded, live):
    question = {"json": body("first")}
    assert live.http.post(CHAT, headers={"Origin": "https://evil.example"}, **question).status_code == 403
    assert live.http.post(CHAT, headers={"Origin": "null"}, **question).status_code == 403
    assert live.http.get("/folders", headers={"Origin": live.url}).status_code == 200
    assert "access-control-allow-origin" not in live.http.get("/folders", headers={"Origin": live.url}).headers
    headers = {**bearer(SECRET), "Origin": "https://good.example"}
    allowed = guarded.http.post(CHAT, headers=headers, **question)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://good.example"
    ask = {"Origin": "https://good.example", "Access-Control-Request-Method": "POST"}
    assert guarded.http.options(CHAT, headers=ask).status_code == 200


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("example.org", False),
    ],
)
def test_which_addresses_reach_only_this_machine(host, expected):
    assert is_loopback(host) is expected


# Figures


LINE = re.compile(r'[a-z_]+(\{([a-z_]+="([^"\\\n]|\\["\\n])*",?)+\})? [-+0-9.e]+(inf)?')


def test_the_figures_count_requests_tokens_and_answers(rag):
    with Live(create_app({"kb": rag})) as server:
        usage = server.http.post(CHAT, json=body("kb")).json()["usage"]
        server.http.get("/nothing/at/all")
        text = server.http.get("/metrics").text
    for line in (
        'leanrag_requests_total{endpoint="/v1/chat/completions",status="200"} 1',
        'leanrag_requests_total{endpoint="other",status="404"} 1',
        f'leanrag_tokens_total{{model="kb",kind="prompt"}} {usage["prompt_tokens"]}',
        'leanrag_answers_total{model="kb",supported="true"} 1',
        'leanrag_documents{model="kb"} 1',
        'leanrag_request_seconds_count{endpoint="/v1/chat/completions"} 1',
    ):
        assert line in text.splitlines()
    assert all(LINE.fullmatch(line) for line in text.splitlines() if not line.startswith("#"))


@given(st.text(), st.floats(0, 1e9))
def test_any_label_and_value_keep_to_the_format(label, value):
    counter = Counter("leanrag_test_total", "A test.", ("name",))
    counter.add(value, label)
    line = "\n".join(counter.lines()).split("\n")
    assert len(line) == 3
    assert LINE.fullmatch(line[2])


@given(st.lists(st.floats(0, 200), max_size=20))
def test_buckets_of_a_histogram_add_up(values):
    histogram = Histogram("leanrag_test_seconds", "A test.", bounds=(1.0, 10.0))
    for value in values:
        histogram.observe(value)
    lines = histogram.lines()[2:]
    expected = [sum(value <= bound for value in values) for bound in (1, 10, 10**9)]
    assert [int(line.split()[-1]) for line in lines[:3]] == (expected if values else [])


def test_a_server_without_requests_has_figures():
    assert "leanrag_refused_total 0" in Metrics().text()
