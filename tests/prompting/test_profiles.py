import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import ConfigurationError, Message
from leanrag.models import REGISTRY
from leanrag.prompting import STYLES, AnswerForm, ModelProfile, find_profile, profile_named, profiles
from leanrag.types import Adapter, Chunk, Hit, PackedItem

FORMS = {
    "phrase": AnswerForm("Shortest phrase.", 8),
    "sentence": AnswerForm("", 32),
    "explanation": AnswerForm("Why?", 99),
}
NUMBERED = ModelProfile(
    source="[{number}] {text}\n",
    question="\nQuestion: {question}",
    forms=FORMS,
    style="phrase",
    refusal="not in the sources",
)


def item(number, text):
    return PackedItem(number, Hit(Chunk("d", 0, len(text), text), 1.0), text, (), 1)


def test_the_form_of_a_style_stands_in_the_prompt():
    profile = dataclasses.replace(NUMBERED, system="Be short. {form}", question="{question} {form}")
    assert profile.template("phrase").build("Why?", []) == [
        Message("system", "Be short. Shortest phrase."),
        Message("user", "Why? Shortest phrase."),
    ]
    assert profile.template() == profile.template("phrase")
    assert profile.template("explanation").build("Who?", [])[1].content == "Who? Why?"


def test_sources_can_have_numbers_and_no_system_message():
    profile = dataclasses.replace(NUMBERED, source="[{number}] {text}\n")
    (message,) = profile.template().build("Where?", [item(1, "Oslo."), item(2, "Rome.")])
    assert message == Message("user", "[1] Oslo.\n[2] Rome.\n\nQuestion: Where?")


@pytest.mark.parametrize(
    "reply", ["not in the sources", "Not in the sources.", " not in  the Sources [1]", '"Not in the sources"']
)
def test_a_refusal_is_known_by_its_words(reply):
    assert NUMBERED.refuses(reply)


@pytest.mark.parametrize("reply", ["", "Oslo", "in the sources", "not in the sources of the river"])
def test_other_replies_are_not_refusals(reply):
    assert not NUMBERED.refuses(reply)


def test_a_model_without_words_of_refusal_never_refuses():
    profile = dataclasses.replace(NUMBERED, refusal="")
    assert not profile.refuses("")
    assert list(profile.withhold_refusal(["not in ", "the sources"])) == ["not in ", "the sources"]


REPLIES = st.lists(
    st.sampled_from(["not", " in", " the", " sources", ".", " Oslo", "Not", "", " [1]", "\n", "no"]), max_size=8
)


@given(REPLIES)
def test_only_a_refusal_is_withheld(pieces):
    reply = "".join(pieces)
    assert "".join(NUMBERED.withhold_refusal(pieces)) == ("" if NUMBERED.refuses(reply) else reply)


def test_what_cannot_be_a_refusal_is_shown_at_once():
    pieces = iter(["Os", "lo"])
    shown = NUMBERED.withhold_refusal(pieces)
    assert next(shown) == "Os"
    assert list(pieces) == ["lo"]


@pytest.mark.parametrize("name", [spec.name for spec in REGISTRY.values() if spec.kind == "gguf"])
def test_each_model_that_answers_has_a_profile(name):
    profile = profile_named(name)
    assert profile is not None
    assert profile_named(f"{name}:q4_0") is profile
    for style in STYLES:
        assert 8 <= profile.form(style).max_tokens <= 512
        prompt = profile.template(style).build("Who?", [item(1, "Ada signs.")])
        text = prompt if isinstance(prompt, str) else "".join(message.content for message in prompt)
        assert "{" not in text
        assert "Ada signs." in text
        assert "Who?" in text


def test_answers_become_longer_from_style_to_style():
    for profile in profiles._read().profiles.values():
        phrase, sentence, explanation = (profile.form(style).max_tokens for style in STYLES)
        assert phrase <= sentence <= explanation


def test_other_models_have_the_profile_of_their_size():
    named = {
        find_profile("x", is_chat=True, n_params=n).template() for n in (135_000_000, 500_000_000, 8_000_000_000, None)
    }
    assert named <= {profile.template() for profile in profiles._read().profiles.values()}
    assert find_profile("x", is_chat=True, n_params=135_000_000) is profile_named("smollm2-135m")
    assert find_profile("x", is_chat=True) is profile_named("qwen2.5-coder-1.5b")
    assert not find_profile("x", is_chat=False).is_chat


def test_an_adapter_names_its_profile():
    adapter = Adapter(Path("mine.gguf"), 1.0, "0" * 64, "gemma3-270m")
    assert find_profile("smollm2-135m+mine.gguf", is_chat=False, adapters=[adapter]) is profile_named("gemma3-270m")


def test_a_name_decides_only_for_models_that_read_the_same():
    assert find_profile("smollm2-135m", is_chat=False).is_chat is False


def test_a_file_is_not_read_if_the_name_has_a_profile(tmp_path, monkeypatch):
    monkeypatch.setattr(profiles, "_registered_name", lambda *_: pytest.fail("the file is read"))
    adapter = Adapter(Path("mine.gguf"), 1.0, "0" * 64, "gemma3-270m")
    for name, adapters in (("smollm2-135m", ()), ("smollm2-135m:q4_0", ()), ("renamed", (adapter,))):
        expected = profile_named(adapters[0].profile if adapters else name)
        assert find_profile(name, is_chat=expected.is_chat, path=tmp_path, adapters=adapters) is expected


def test_a_file_is_known_by_its_content(tmp_path, monkeypatch):
    spec, read = REGISTRY["smollm2-135m"], profiles._read()
    file = tmp_path / "renamed.gguf"
    file.write_bytes(b"weights")
    fake = dataclasses.replace(spec, files=(dataclasses.replace(spec.files[0], size_bytes=7),))
    monkeypatch.setattr(profiles, "REGISTRY", {fake.name: fake})
    monkeypatch.setattr(profiles, "known_sha256", lambda path: spec.sha256 if path == file else "")
    assert find_profile("renamed", is_chat=True, path=file, n_params=9_000_000_000) is profile_named("smollm2-135m")
    adapter = dataclasses.replace(spec, name="smollm2-135m+x", kind="adapter", base="smollm2-135m")
    monkeypatch.setattr(profiles, "REGISTRY", {fake.name: fake, adapter.name: adapter})
    known = {**profiles._read().profiles, adapter.name: NUMBERED}
    monkeypatch.setattr(profiles, "_read", lambda: dataclasses.replace(read, profiles=known))
    assert find_profile("renamed", is_chat=True, path=file, adapters=[Adapter(file, 1.0, spec.sha256)]) is NUMBERED
    assert find_profile("smollm2-135m:q4_0+x", is_chat=True) is NUMBERED
    file.write_bytes(b"other weights")
    assert find_profile("renamed", is_chat=True, path=file) is profile_named("qwen2.5-coder-1.5b")
    assert find_profile("gone", is_chat=True, path=tmp_path / "gone.gguf") is profile_named("qwen2.5-coder-1.5b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style": "poem"}, "`style` must be one of"),
        ({"forms": {"phrase": AnswerForm("", 8)}}, "must have the keys phrase, sentence, explanation"),
        ({"source": "no field"}, "must contain"),
        ({"question": "{form}"}, "must contain"),
        ({"context_tokens": 0}, "`context_tokens` must be at least 1"),
    ],
)
def test_profiles_that_cannot_work_are_refused(change, message):
    with pytest.raises(ConfigurationError, match=message):
        dataclasses.replace(NUMBERED, **change)


def test_the_file_names_no_unknown_field():
    content = json.loads(Path(profiles.__file__).with_name("profiles.json").read_text(encoding="utf-8"))
    fields = {field.name for field in dataclasses.fields(ModelProfile)}
    for profile in content["profiles"].values():
        assert set(profile) <= fields
