"""Chat templates are rendered as `transformers` does, show each message, and cannot do harm."""

import datetime
import json
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leanrag import ConfigurationError, LlamaCppModel, Message
from leanrag.llama.templates import ChatTemplate
from tests.tiny_gguf import CHATML, write_tiny_gguf

HI = [Message("user", "Where is Zoë?")]
TURNS = [Message("system", "Be brief."), *HI, Message("assistant", "In Oslo."), Message("user", "And Bo?")]
EACH = "{% for m in messages %}<{{ m.role }}>BODY</{{ m.role }}>{% endfor %}"
DAY = datetime.date(2024, 7, 26)


def render(source, messages=HI, **options):
    return ChatTemplate(source, bos="<s>", eos="</s>", **options).render(messages)


# The form of the contents


@pytest.mark.parametrize(
    "body",
    [
        "{{ m.content }}",
        "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}",
        "{{ m.content[0].text }}",
        "{{ m.content[0]['text'] | trim }}",
        "{% if m.content is string %}{{ m.content }}{% else %}{{ m.content[0].text }}{% endif %}",
        "{% if m.content is string %}{{ raise_exception('parts only') }}{% endif %}{{ m.content[0].text }}",
        "{% for part in m.content | selectattr('type', 'equalto', 'text') %}{{ part['text'] }}{% endfor %}",
        "{{ m['content'] if m['role'] == 'user' else m['content'] }}",
    ],
)
@pytest.mark.parametrize("messages", [HI, TURNS])
def test_a_content_is_passed_in_the_form_that_the_template_reads(body, messages):
    expected = "".join(f"<{m.role}>{m.content}</{m.role}>" for m in messages)
    assert render(EACH.replace("BODY", body), messages) == expected


def test_each_role_may_have_its_form():
    body = "{% if m.role == 'system' %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}"
    assert render(EACH.replace("BODY", body), TURNS[:2]) == "<system>Be brief.</system><user>Where is Zoë?</user>"


@pytest.mark.parametrize(
    "body", ["", "?", "{{ m.text }}", "{{ m.parts }}", "{% if m.role == 'tool' %}{{ m.content }}{% endif %}"]
)
def test_a_template_that_leaves_out_what_is_asked_is_refused(body):
    with pytest.raises(ConfigurationError, match="leaves out the message of the role 'user'"):
        render(EACH.replace("BODY", body))


def test_a_system_message_that_is_left_out_moves_into_the_first_user_message():
    only_users = "{% for m in messages if m.role == 'user' %}{{ m.content }}|{% endfor %}"
    assert render(only_users, TURNS[:2]) == "Be brief.\n\nWhere is Zoë?|"
    with pytest.raises(ConfigurationError, match="leaves out the message of the role"):
        render(only_users, TURNS)


def test_an_empty_message_and_a_changed_message_are_not_left_out():
    assert render(CHATML, [Message("user", " ")]).startswith("<|im_start|>user\n")
    assert render("{{ messages[0].content | upper }}") == "WHERE IS ZOË?"


@given(st.text(max_size=30))
@settings(deadline=None)
def test_a_content_is_in_the_prompt_whatever_it_spells(text):
    for body in ("{{ m.content }}", "{% for part in m.content %}{{ part.text }}{% endfor %}"):
        if text.strip():
            assert render(EACH.replace("BODY", body), [Message("user", text)]) == f"<user>{text}</user>"


# What transformers gives a template


def test_the_tag_generation_means_nothing():
    source = (
        "{% for m in messages %}{% generation %}{% set x = m.content %}{{ x }}{% endgeneration %}|{% endfor %}{{ x }}"
    )
    assert render(source, TURNS) == "Be brief.|Where is Zoë?|In Oslo.|And Bo?|"


def test_the_day_is_the_same_all_day():
    source = "{{ strftime_now('%d %b %Y, %H:%M') }} {{ messages[0].content }}"
    assert render(source, today=DAY) == "26 Jul 2024, 00:00 Where is Zoë?"
    assert render("{{ strftime_now('%Y') | length }}{{ messages[0].content }}") == "4Where is Zoë?"


def test_a_remembered_prompt_is_written_anew_on_the_next_day(monkeypatch):
    class Calendar(datetime.date):
        now = DAY

        @classmethod
        def today(cls):
            return cls.now

    monkeypatch.setattr(datetime, "date", Calendar)
    template = ChatTemplate("{{ strftime_now('%d %b') }} {{ messages[0].content }}")
    assert template.compose(HI) is template.compose(list(HI))
    assert template.render(HI) == "26 Jul Where is Zoë?"
    Calendar.now = DAY + datetime.timedelta(days=1)
    assert template.render(HI) == "27 Jul Where is Zoë?"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ messages | tojson }}", '[{"role": "user", "content": "<é> \\"q\\" & \'s\'"}]'),
        ("{{ messages[0] | tojson(indent=1) }}", '{\n "role": "user",\n "content": "<é> \\"q\\" & \'s\'"\n}'),
        ("{{ messages[0] | tojson(separators=(',', ':')) }}", '{"role":"user","content":"<é> \\"q\\" & \'s\'"}'),
        ("{{ messages[0] | tojson(ensure_ascii=True) }}", '{"role": "user", "content": "<\\u00e9> \\"q\\" & \'s\'"}'),
        ("{{ messages[0] | tojson(sort_keys=True) }}", '{"content": "<é> \\"q\\" & \'s\'", "role": "user"}'),
        (("{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i > 2 %}{% break %}{% endif %}{{ i }}"
          "{% endfor %}{{ messages[0].content }}"), "02<é> \"q\" & 's'"),
        ("{{ bos_token }}{{ tools is none }}{{ documents is none }}{{ x is defined }}{{ messages[0].content }}{{ eos_token }}",
         "<s>TrueTrueFalse<é> \"q\" & 's'</s>"),
        (("{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}"
          "{{ dict(a=1).a }}{{ messages[0].content }}"), "11<é> \"q\" & 's'"),
    ],
)  # fmt: skip
@pytest.mark.slow
def test_templates_find_what_transformers_gives_them(source, expected):
    assert render(source, [Message("user", "<é> \"q\" & 's'")]) == expected
    reference = pytest.importorskip("transformers.utils.chat_template_utils")
    rows = [[{"role": "user", "content": "<é> \"q\" & 's'"}]]
    texts, _ = reference.render_jinja_template(
        rows, chat_template=source, add_generation_prompt=True, bos_token="<s>", eos_token="</s>"
    )
    assert texts == [expected]


# Variables and thoughts


@pytest.mark.parametrize(
    ("source", "thinking", "end"),
    [
        ("{{ enable_thinking }}", False, "False"),
        ("{{ enable_thinking }}", True, "True"),
        ("{{ enable_thinking is defined }}", None, "False"),
        ("{% if not thinking %}</think>{% endif %}", False, "</think>"),
        ("{{ thinking_mode }}", False, "disabled"),
        ("{{ thinking_option }}", True, "on"),
        ("{{ thinking_budget }}", False, "0"),
        ("{{ reasoning_effort }}", False, "low"),
        ("{{ reasoning_effort is defined }}", True, "False"),
        ("{{ '<think>\n' }}", False, "<think>\n\n</think>\n\n"),
        ("{{ '<think>\n' }}", True, "<think>\n"),
        ("[THINK]", False, "[THINK]\n[/THINK]\n\n"),
        ("{% if 0 %}<think>{% endif %}", False, "<think>\n\n</think>\n\n"),
        (
            "{% if 0 %}<|channel|>analysis<|message|><|channel|>final<|message|>{% endif %}",
            False,
            "<|channel|>final<|message|>",
        ),
        ("assistant:", False, "assistant:"),
    ],
)
def test_thinking_is_switched_as_the_template_allows(source, thinking, end):
    assert render("{{ messages[0].content }}|" + source, thinking=thinking) == "Where is Zoë?|" + end


def test_variables_are_plain_values_and_go_before_the_switch():
    source = "{{ messages[0].content }} {{ reasoning_effort }} {{ enable_thinking }} {{ n | tojson }}"
    variables = {"reasoning_effort": "high", "enable_thinking": True, "n": {"a": (1, 2.5)}}
    assert render(source, variables=variables, thinking=False) == 'Where is Zoë? high True {"a": [1, 2.5]}'


@pytest.mark.parametrize("variables", [{"x": object()}, {"f": len}, {"messages": []}, {"add_generation_prompt": False}])
def test_variables_that_cannot_be_set_are_refused(variables):
    with pytest.raises(ConfigurationError, match="template_variables"):
        render("{{ messages[0].content }}", variables=variables)


def test_a_model_and_its_child_process_take_variables_switch_and_day(tmp_path):
    from leanrag.llama.process import IsolatedModel

    source = CHATML + "{{ effort }} {{ thinking }} {{ strftime_now('%Y-%m-%d') }}"
    path = write_tiny_gguf(tmp_path / "variables.gguf", chat_template=source)
    options = {"template_variables": {"effort": "low"}, "thinking": False, "today": DAY}
    with LlamaCppModel(path, **options) as model, IsolatedModel(path, **options) as child:
        assert model.render(HI).endswith("low False 2024-07-26")
        assert model.render(HI) == child.render(HI)
        assert model.count(HI) == child.count(HI)


# Limits

GROWING = {
    "a sum": "{% set x = x + x %}",
    "a join of values": "{% set x = x ~ x %}",
    "a block": "{% set x %}{{ x }}{{ x }}{% endset %}",
    "a list": "{% set x = [x, x] %}",
    "a tuple": "{% set x = (x, x, x) %}",
    "a dictionary": "{% set x = {'a': x, 'b': x} %}",
    "a call": "{% set x = dict(a=x, b=x) %}",
    "a product": "{% set x = x * 2 %}",
    "a replacement": "{% set x = x | replace('a', 'aa') %}",
    "a number": "{% set n = n * n %}",
}


@pytest.mark.parametrize("step", GROWING.values(), ids=GROWING)
@pytest.mark.slow
def test_what_doubles_again_and_again_is_stopped(step):
    with pytest.raises(ConfigurationError, match="refuses these messages"):
        render(
            "{% set x = 'ab' %}{% set n = 3 %}"
            + step * 60
            + "{{ messages[0].content }}{{ x | string | length }}{{ n }}"
        )


BIG = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a recursive loop": "{% for i in range(99999) recursive %}{{ loop(range(99999)) }}{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a macro without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a power": "{% set y = 7 ** (10 ** 8 * messages | length) %}",
    "a constant power": "{{ 7 ** (10 ** 8) }}",
    "copies": "{{ 'a' * 10 ** 10 }}",
    "copies of a list": "{{ ([1] * 10 ** 10) | length }}",
    "center": "{{ 'a'.center(10 ** 9) }}",
    "the filter center": "{{ 'a' | center(10 ** 9) }}",
    "zfill": "{{ '1'.zfill(10 ** 10) }}",
    "a width after %": "{{ '%1000000000d' % 1 }}",
    "a width as argument": "{{ '%*d' % (10 ** 9, 1) }}",
    "the filter format": "{{ '%1000000000d' | format(1) }}",
    "format": "{{ '{:1000000000d}'.format(1) }}",
    "format with a width": "{{ '{:{w}}'.format(1, w=10 ** 9) }}",
    "format_map": "{{ '{a:999999999}'.format_map({'a': 1}) }}",
    "replace": "{% set a = 'a' * 100000 %}{{ a.replace('a', a) | length }}",
    "the filter replace": "{% set a = 'a' * 100000 %}{{ (a | replace(old='a', new=a)) | length }}",
    "join": "{% set a = 'a' * 100000 %}{{ a.join(range(99999) | map('string')) | length }}",
    "the filter join": "{% set a = 'a' * 100000 %}{{ (range(99999) | map('string') | join(a)) | length }}",
    "indent": "{% set a = '\n' * 100000 %}{{ a | indent(9999) | length }}",
    "tabs": "{% set a = '\t' * 100000 %}{{ a.expandtabs(9999) | length }}",
    "JSON": "{{ messages | tojson(indent=10 ** 9) }}",
    "batch": "{{ [1] | batch(10 ** 9, 'x') | list | length }}",
    "round": "{{ 1.5 | round(10 ** 9, 'ceil') }}",
    "lists that are added": "{{ ([[1]] * 99999) | sum(start=[]) | length }}",
    "texts that are kept": "{% set ns = namespace(l=[]) %}{% set x = 'a' * 200000 %}"
    "{% for i in range(99999) %}{% set ns.l = ns.l + [x ~ i] %}{% endfor %}",
    "upper": "{% set x = 'a' * 200000 %}{% for i in range(99999) %}{% set y = x | upper %}{% endfor %}",
    "a list of lists": "{{ ([messages] * 100000) | string | length }}",
}  # fmt: skip


@pytest.mark.parametrize("source", BIG.values(), ids=BIG)
@pytest.mark.slow
def test_a_template_that_works_too_much_is_stopped(source):
    started = time.thread_time()
    with pytest.raises(ConfigurationError, match="refuses these messages"):
        render(source + "{{ messages[0].content }}")
    assert time.thread_time() - started < 30  # no sharp bound: the limit of a render is 2 seconds


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(2) %}" * 25 + "{% endfor %}" * 25,
        "{{" + "(" * 500 + "1" + ")" * 500 + "}}",
        "{% if 1 %}" * 150 + "{% endif %}" * 150,
        "{% break %}",
        "{{ " + "9" * 60_000 + " }}",
        "{{ a" + ".b" * 20_000 + " }}",
        "{{ " + "not " * 3_000 + "1 }}",
    ],
)
def test_a_template_that_cannot_be_compiled_is_a_typed_error(source):
    with pytest.raises(ConfigurationError, match="is not valid"):
        ChatTemplate(source)


def test_a_template_of_many_branches_is_rendered_if_python_can_compile_it():
    source = "{% if 0 %}" + "{% elif 0 %}x" * 3_000 + "{% else %}{{ messages[0].content }}{% endif %}"
    if sys.version_info >= (3, 12):
        assert render(source) == HI[0].content
    else:
        with pytest.raises(ConfigurationError, match="is not valid"):
            ChatTemplate(source)


@pytest.mark.slow
def test_long_conversations_are_within_the_limits():
    messages = [Message(role, "word " * 2_000) for _ in range(100) for role in ("user", "assistant")]
    source = "{% for m in messages %}{{ (m | tojson) if loop.index % 2 else m.content.split('x')[-1] | trim | replace('a', 'b') }}"
    source += "{{ '\\n' ~ loop.index }}{% endfor %}{{ messages | length }}"
    assert render(source, messages).endswith("200")


def test_json_of_messages_is_json():
    assert json.loads(render("{{ messages | tojson }}", TURNS))[3] == {"role": "user", "content": "And Bo?"}
