"""What people paste, shortened by its structure: valid, verbatim, within the budget, and with what the question names."""

import ast
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag.compression import detect_kind
from leanrag.compression.pasted.bracket_text import parse_brackets
from leanrag.errors import BudgetError, ConfigurationError
from leanrag.types import Compression
from tests.examples import max_examples


def words(text):
    return len(text.split())


def compress(text, **options):
    result = leanrag.compress(text, **{"count_tokens": len, **options})
    check(result, text)
    return result


def check(result: Compression, text):
    assert result.tokens_after == len(result.text) or result.tokens_after <= len(result.text)
    at = 0
    for segment in result.segments:
        assert result.text[segment.start : segment.end] == text[segment.source_start : segment.source_end]
        between = result.text[at : segment.start]
        assert not between.strip() or between.strip().endswith("times)")
        at = segment.end
    dropped = "".join(text[span.source_start : span.source_end] for span in result.dropped)
    kept = "".join(text[s.source_start : s.source_end] for s in result.segments)
    assert sorted("".join((kept + dropped).split())) == sorted("".join(text.split()))


CODE = '''\
import os
from math import (
    sqrt,
)

LIMIT = 10


# Reads the settings.
@cached
def read_settings(path: str, *, strict: bool = False) -> dict:
    """Return the settings of a file."""
    with open(path) as file:
        lines = file.readlines()
    if strict and not lines:
        raise ValueError(path)
    return dict(line.split("=") for line in lines)


class Pump:
    """A pump in the cellar."""

    maximum = 40

    def __init__(self, name):
        self.name = name
        self.pressure = 0

    def start(self, pressure):
        for step in range(pressure):
            self.pressure += step
        log("started", self.name)
        return self.pressure

    class Valve:
        def close(self):
            self.is_open = False


if __name__ == "__main__":
    Pump("a").start(3)
'''

DATA = {
    "users": [
        {"id": i, "name": name, "email": f"{name.lower()}@example.org", "address": {"city": city, "zip": 10000 + i}}
        for i, (name, city) in enumerate([("Ada", "Oslo"), ("Bob", "Rome"), ("Cleo", "Lima"), ("Dan", "Bonn")])
    ],
    "settings": {"theme": "dark", "timeout_seconds": 30, "proxies": [], "notes": None},
    "text": 'The pump was replaced in May. It had failed twice. "Never again", said the owner.\nNobody knows why. ' * 2,
}

LOG = "\n".join(
    [f"2024-05-01 10:{i:02d}:00 INFO worker {i} polled queue in {i * 3} ms" for i in range(30)]
    + ["2024-05-01 10:31:00 ERROR disk /dev/sda1 is full", "Traceback (most recent call last):", "  OSError: no space"]
    + [f"2024-05-01 10:{i:02d}:30 WARN retry {i}" for i in range(32, 40)]
    + ["2024-05-01 10:50:00 INFO user ada logged in from 10.0.0.7"]
)

CHAT = """User: Our office moved to Oslo in May. The landlord is friendly.
Assistant: Noted. The lease runs for ten years, and parking costs 120 euros a month.
User: We also bought a coffee machine. It is red. It came from Milan by train.
Assistant: How lovely. Coffee machines need to be cleaned every week.
User: What does parking cost?"""

TABLE = "part,colour,price\n" + "\n".join(f"P-{i:03d},{'red green blue'.split()[i % 3]},{i * 7}.50" for i in range(40))

TOOLS = [
    {
        "name": name,
        "description": f"{text} " + "This tool is old and well tested by everybody who has ever worked here. It logs each call.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "Name of the place."}},
            "required": ["city"],
        },
    }
    for name, text in [("get_weather", "Return the weather of a city."), ("book_train", "Book a train to a city.")]
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (CODE, "code"), (json.dumps(DATA), "json"), (json.dumps(DATA, indent=2), "json"), (LOG, "log"), (CHAT, "chat"),
        (TABLE, "table"), ("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |", "table"), (json.dumps(TOOLS), "tools"),
        ("The tower is tall. It is old.", "text"), ("", "text"), ("{not json}", "text"), ("[]", "text"), ("42", "text"),
        (("The supplier shall\n(a) deliver the goods within five days;\n(b) bear all costs of the return of the goods;\n(c) inform "
         "the buyer about every delay;\n(d) insure the goods for the whole of the way; and\n(e) keep the records."), "text"),
        ("function f(a) {\n  return a;\n}\nconst b = f(2);\n", "code"),
    ],
)  # fmt: skip
def test_kinds_are_found(text, kind):
    assert detect_kind(text) == kind


@pytest.mark.parametrize("budget", [150, 250, 400, 600, 800])
def test_python_stays_python_with_its_signatures_first(budget):
    result = compress(CODE, budget=budget)
    ast.parse(result.text)
    if budget >= 400:
        for signature in ("def read_settings(path", "class Pump", "def start(self", "def close(self"):
            assert signature in result.text


def test_the_function_that_is_asked_about_comes_whole():
    result = compress(CODE, budget=500, question="How does a pump start?")
    ast.parse(result.text)
    assert "for step in range(pressure):\n            self.pressure += step" in result.text
    result = compress(CODE, budget=500, question="What does strict do when settings are read?")
    assert "raise ValueError(path)" in result.text
    assert "# Reads the settings." in result.text


def test_blocks_of_other_languages_keep_their_brackets():
    text = "function area(w, h) {\n  const a = w * h;\n  return a;\n}\n\n"
    text += "function name(user) {\n  if (user) {\n    return user.name;\n  }\n}\n"
    result = compress(text, budget=100, question="What is the name of a user?", kind="code")
    assert "return user.name;" in result.text
    for budget in range(30, len(text), 7):
        small = compress(text, budget=budget, kind="code").text
        assert small.count("{") == small.count("}")
        assert small.count("(") == small.count(")")


GO = """\
package main

import "os"

// Load reads the settings.
// It returns an error if the file is missing.
func Load(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return parse(data)
}

func (c *Config) Address() string {
	if c.Port == 0 {
		return c.Host
	} else if c.Port == 80 {
		return c.Host + ":http"
	} else {
		return join(c.Host, c.Port)
	}
}
"""
JAVA = """\
/**
 * Sends mails.
 */
public class Mailer {
    private int retries = 3;

    /**
     * Tries a mail again after a failure.
     */
    @Override
    public void send(
        Mail mail,
        Clock clock
    ) throws IOException {
        for (int i = 0; i < retries; i++) {
            try {
                queue.put(mail);
            } catch (IOException e) {
                log.warn("failed {", e);
            }
        }
    }

    public List<Mail> pending() {
        return queue.list();
    }
}
"""
RUBY = """\
# Stores the orders of a shop.
class Orders
  def initialize(path)
    @path = path
    @rows = []
  end

  # Adds an order.
  def add(order)
    if @rows.size > 20
      raise "too many"
    else
      @rows << order
    end
  end
end
"""
SHELL = """\
#!/bin/sh
# Starts the pump.
start() {
  if [ -e "$1" ]; then
    echo "on"
  else
    echo "off"
  fi
}

while read -r line; do
  start "$line"
done
"""
HEADER = """\
#ifndef PUMP_H
#define PUMP_H
#include <stddef.h>

/* Opens a pump, or returns NULL. */
extern struct pump *pump_open (const char *name, int flags) __THROW
  __wur;

extern int pump_count (void);
extern void pump_close (struct pump *p);
/* Closes a pump, and waits until it
   has stopped. */

static int
pump_speed (struct pump *p)
{
  return p->speed;
}
#endif
"""


@pytest.mark.parametrize(
    ("code", "question", "budget", "kept", "left_out"),
    [
        (
            GO,
            "What does Address return for port 80?",
            200,
            ['} else if c.Port == 80 {\n\t\treturn c.Host + ":http"'],
            ["os.R"],
        ),
        (
            GO,
            "When does Load return an error?",
            250,
            ["// It returns an error", "func Load(path", "return nil, err"],
            ["c.Host +"],
        ),
        (
            JAVA,
            "What does pending return?",
            220,
            ["    public List<Mail> pending() {\n        return queue.list();\n    }"],
            ["for ("],
        ),
        (
            JAVA,
            "What happens to a mail after a failure?",
            300,
            ["Tries a mail again", "@Override\n    public void send(\n"],
            ["retries"],
        ),
        (
            RUBY,
            "When does add raise?",
            180,
            ['  def add(order)\n    if @rows.size > 20\n      raise "too many"'],
            ["@path"],
        ),
        (SHELL, "When is it off?", 110, ['  else\n    echo "off"\n  fi\n}'], ["read"]),
        (
            HEADER,
            "What does pump_open return?",
            160,
            ["/* Opens a pump", "pump_open (const char *name, int flags) __THROW\n  __wur;"],
            ["stopped"],
        ),
        (HEADER, "Does pump_close wait?", 140, ["extern void pump_close", "has stopped. */"], ["Opens"]),
        (
            HEADER,
            "What is the pump_speed?",
            140,
            ["static int\npump_speed (struct pump *p)\n{\n  return p->speed;\n}"],
            ["Closes"],
        ),
    ],
)
def test_what_is_asked_about_comes_with_its_signature_and_comment(code, question, budget, kept, left_out):
    assert detect_kind(code) == "code"
    text = compress(code, budget=budget, question=question).text
    assert [part for part in kept if part not in text] == []
    assert [part for part in left_out if part in text] == []


@pytest.mark.parametrize("code", [GO, JAVA, RUBY, SHELL, HEADER])
@pytest.mark.parametrize("question", ["", "What does the start return?"])
def test_what_ends_a_body_stays_with_its_beginning(code, question):
    for budget in range(40, len(code), 9):
        try:
            text = compress(code, budget=budget, question=question, kind="code").text
        except BudgetError:
            continue
        words = re.findall(r"[a-z]+", re.sub(r"(?m)^\s*(?:#|//|/?\*).*", "", text))
        quiet = re.sub(r'"[^"]*"', "", text)
        for opening, closing in ("{}", "()", "[]"):
            assert quiet.count(opening) == quiet.count(closing)
        if code is SHELL:
            assert (words.count("then"), words.count("do")) == (words.count("fi"), words.count("done"))
        if code is RUBY:
            assert words.count("end") == words.count("class") + words.count("def") + words.count("if")


def test_signatures_come_before_bodies_in_other_languages():
    text = compress(GO, budget=95).text
    assert "func Load(path string) (*Config, error) {\n}\n\nfunc (c *Config) Address() string {\n}" in text


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("budget", [60, 150, 300, 600])
def test_json_stays_json_that_the_original_contains(indent, budget):
    text = json.dumps(DATA, indent=indent)

    def contains(whole, part):
        if isinstance(part, dict):
            return all(key in whole and contains(whole[key], value) for key, value in part.items())
        if isinstance(part, list):
            return all(any(contains(each, value) for each in whole) for value in part)
        if isinstance(part, str) and len(part) > 150:
            return True
        return part == whole or (isinstance(part, str) and isinstance(whole, str))

    found = json.loads(compress(text, budget=budget).text)
    assert contains(DATA, found)


def test_the_field_that_is_asked_for_stays_with_its_record():
    text = json.dumps(DATA)
    assert json.loads(compress(text, question="What is the email of Cleo?", budget=66).text) == {
        "users": [{"name": "Cleo", "email": "cleo@example.org"}]
    }
    assert json.loads(compress(text, question="How long is the timeout?", budget=45).text) == {
        "settings": {"timeout_seconds": 30}
    }


def test_long_strings_are_cut_between_sentences():
    found = json.loads(compress(json.dumps(DATA), question="What did the owner say?", budget=80).text)
    assert "Never again" in found["text"]
    assert len(found["text"]) < len(DATA["text"])


def test_tools_keep_what_is_needed_to_call_them():
    text = json.dumps(TOOLS)
    found = json.loads(compress(text, question="How will the weather be?", budget=520).text)
    for tool, whole in zip(found, TOOLS, strict=True):
        assert tool["name"] == whole["name"]
        assert tool["parameters"]["required"] == ["city"]
        assert tool["parameters"]["properties"]["city"]["type"] == "string"
    assert "weather of a city" in found[0]["description"]
    with pytest.raises(BudgetError):
        compress(text, budget=50)


def test_a_log_shows_each_event_once_with_its_count():
    result = compress(LOG, budget=420, question="Why did it fail?")
    lines = result.text.split("\n")
    assert "2024-05-01 10:00:00 INFO worker 0 polled queue in 0 ms (30 times)" in lines
    assert "2024-05-01 10:32:30 WARN retry 32 (8 times)" in lines
    assert (
        "2024-05-01 10:31:00 ERROR disk /dev/sda1 is full\nTraceback (most recent call last):\n  OSError: no space"
        in result.text
    )
    tight = compress(LOG, budget=120)
    assert tight.text.startswith("2024-05-01 10:31:00 ERROR disk")
    asked = compress(LOG, budget=80, question="From where did ada log in?")
    assert asked.text == "2024-05-01 10:50:00 INFO user ada logged in from 10.0.0.7"


def test_a_chat_keeps_its_last_turn_and_what_it_asks_for():
    result = compress(CHAT, budget=40, count_tokens=words)
    assert result.text.endswith("User: What does parking cost?")
    assert "120 euros" in result.text
    assert "red" not in result.text


def test_a_table_keeps_its_header():
    result = compress(TABLE, budget=60, question="What is the price of P-017?")
    assert result.text.split("\n")[0] == "part,colour,price"
    assert "P-017,blue,119.50" in result.text


def test_instructions_keep_negations_and_numbers():
    text = "You are a helpful and friendly assistant. Never give prices in dollars. Be kind to everybody. Answer in 3 lines. Smile."
    result = compress(text, kind="prompt", budget=70)
    assert "Never give prices in dollars." in result.text
    assert "Answer in 3 lines." in result.text


@pytest.mark.parametrize("kind", ["json", "tools"])
def test_text_that_is_no_json(kind):
    for text in ('{"a": 1,}', "{'a': 1}", '{"a": NaN, "b": "xxxxxxxxxx"}', "[" * 5000, "nothing of the kind"):
        with pytest.raises(ConfigurationError, match="is not valid JSON"):
            leanrag.compress(text, kind=kind, budget=3, count_tokens=len)


@pytest.mark.parametrize("text", [CODE, json.dumps(DATA), LOG, CHAT, TABLE, "The tower is tall."])
def test_a_budget_under_one_word_is_an_error_that_says_how_much_is_needed(text):
    for budget in (0, 1, 3):
        with pytest.raises(BudgetError) as caught:
            leanrag.compress(text, budget=budget, count_tokens=len)
        assert caught.value.needed > caught.value.available == budget


def test_arguments_that_cannot_work():
    with pytest.raises(ConfigurationError, match="`kind` must be one of 'code', 'json'"):
        leanrag.compress("x", kind="poem", budget=3, count_tokens=len)
    with pytest.raises(ConfigurationError, match="`text` must be a string"):
        leanrag.compress({"a": 1}, budget=3, count_tokens=len)
    with pytest.raises(ConfigurationError, match="exactly one of `budget` and `rate`"):
        leanrag.compress("x", count_tokens=len)
    with pytest.raises(ConfigurationError, match=r"must be in \(0, 1\], got 1.5"):
        leanrag.compress("x", rate=1.5, count_tokens=len)
    with pytest.raises(TypeError):
        leanrag.compress("x", budget=3, speed=2)


@pytest.mark.parametrize("text", [CODE, json.dumps(DATA), LOG, CHAT, TABLE])
def test_what_fits_comes_back_as_it_is_and_what_is_kept_stays(text):
    assert compress(text, rate=1.0).text == text
    start = len(text) // 2
    span = (start, start + 5)
    result = compress(text, rate=0.6, keep=[span])
    assert any(s.source_start <= span[0] and span[1] <= s.source_end for s in result.segments) or all(
        any(s.source_start <= i < s.source_end for s in result.segments) for i in range(*span) if not text[i].isspace()
    )


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=220),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@max_examples(150)
@given(
    value=json_values,
    indent=st.sampled_from([None, 1]),
    escaped=st.booleans(),
    share=st.floats(0.2, 0.95),
    question=st.text(max_size=10),
)
def test_any_json_stays_json_within_the_budget(value, indent, escaped, share, question):
    text = json.dumps(value, indent=indent, ensure_ascii=escaped)
    try:
        result = leanrag.compress(text, rate=share, kind="json", count_tokens=len, question=question)
    except BudgetError as error:
        assert error.needed > error.available
        return
    check(result, text)
    assert type(json.loads(result.text)) is type(value)
    assert len(result.text) <= max(1, int(len(text) * share)) or result.text == text


SNIPPETS = [
    "x = 1",
    "def f(a, b=2):\n    return a",
    "class A:\n    x = 1\n\n    def g(self):\n        '''Doc.'''\n        pass",
    "@wrap\nasync def h(\n    a,\n    *b,\n) -> None:\n    # why\n    await a\n    async for c in b:\n        yield c",
    "def one(): return 1",
    "if a:\n    b()\nelse:\n    c()",
    "# only a comment",
    "try:\n    pass\nexcept E as e:\n    raise",
    "def deep():\n    def inner():\n        return 1\n    return inner",
    "def odd(\n    x\n): return x",
    "s = '''\ntext\n  with lines\n'''",
]


@max_examples(150)
@given(
    parts=st.lists(st.sampled_from(SNIPPETS), min_size=1, max_size=8),
    share=st.floats(0.1, 0.95),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_any_python_stays_python_within_the_budget(parts, share, end):
    text = "\n\n".join(parts).replace("\n", end)
    try:
        result = leanrag.compress(text, rate=share, kind="code", count_tokens=len, question="inner")
    except BudgetError as error:
        assert error.needed > error.available
        return
    check(result, text)
    assert len(result.text) <= len(text) * share
    ast.parse(result.text)


@max_examples(100)
@given(
    text=st.text(max_size=300),
    share=st.floats(0.1, 1),
    kind=st.sampled_from([None, "code", "log", "chat", "table", "prompt", "text"]),
)
def test_any_text_is_verbatim_and_within_the_budget(text, share, kind):
    try:
        result = leanrag.compress(text, rate=share, kind=kind, count_tokens=len)
    except BudgetError as error:
        assert error.needed > error.available
        return
    check(result, text)
    assert len(result.text) <= len(text)


def test_without_a_counter_tokens_are_those_of_cl100k():
    pytest.importorskip("tiktoken")
    from leanrag.errors import ModelLoadError

    try:
        result = leanrag.compress(LOG, budget=60)
    except ModelLoadError as error:
        pytest.skip(str(error))
    assert 0 < result.tokens_after <= 60


@pytest.mark.parametrize("directives", [0, 40])
def test_a_prototype_is_a_definition_however_many_directives_are_around_it(directives):
    prototypes = ["int add(int a, int b);", "int subtract(int a, int b);"]
    text = "\n".join([*(f"#define SIZE_{i} {i}" for i in range(directives)), *prototypes])
    assert [text[unit.start : unit.end] for unit in parse_brackets(text) if unit.is_definition] == prototypes
