"""The comparison of templates finds what differs."""

import pytest

from benchmarks.models.templates import CONVERSATIONS, measure, renders_equal
from tests.tiny_gguf import CHATML

pytest.importorskip("transformers")

pytestmark = pytest.mark.slow  # imports transformers
TURNS = CONVERSATIONS["several turns"]


@pytest.mark.parametrize("messages", CONVERSATIONS.values(), ids=CONVERSATIONS)
@pytest.mark.parametrize("source", [CHATML, "{{ raise_exception('never') }}", "{% if", "{{ messages | tojson }}"])
def test_equal_renders_and_refusals_are_equal(source, messages):
    assert renders_equal(source, messages)


def test_a_refused_system_message_is_compared_merged():
    refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}" + CHATML
    assert renders_equal(refuses, TURNS)


def test_a_different_render_is_found():
    assert not renders_equal(
        "{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}", TURNS
    )


def test_without_the_source_there_are_no_figures(monkeypatch, tmp_path, capsys):
    from benchmarks.models.llama_source import find_llama_models

    monkeypatch.setenv("LEANRAG_LLAMA_SOURCE", str(tmp_path))
    find_llama_models.cache_clear()
    assert measure(tmp_path, True) == {"templates_equal": None, "templates_tried": None}
    assert "LEANRAG_LLAMA_SOURCE" in capsys.readouterr().out
    (tmp_path / "vendor/llama.cpp/models/templates").mkdir(parents=True)
    (tmp_path / "vendor/llama.cpp/models/templates/a.jinja").write_text(CHATML)
    find_llama_models.cache_clear()
    assert measure(tmp_path, True) == {"templates_equal": 5, "templates_tried": 5}
    find_llama_models.cache_clear()
