"""`leanrag chat`: turns, commands, Ctrl-C and hostile text."""

import io
import json

import pytest

import leanrag
from leanrag.cli import main as cli
from leanrag.testing import FakeModel, HashEmbedder

TEXT = "The Eiffel Tower is 330 metres tall. The Eiffel Tower was built by Gustave Eiffel."
TALL, BUILT = "The Eiffel Tower is 330 metres tall.", "The Eiffel Tower was built by Gustave Eiffel."


@pytest.fixture
def talk(tmp_path, monkeypatch, capsys):
    """Runs `leanrag chat` with these lines; returns (exit code, standard output, standard error)."""
    opened = leanrag.open
    monkeypatch.chdir(tmp_path)

    def talk(*lines, reply=lambda prompt: BUILT if "built" in prompt.rpartition("uestion")[2] else TALL, options=()):
        def open_with_stand_ins(path, **settings):
            return opened(path, **(settings | {"model": FakeModel(reply), "embedder": HashEmbedder()}))

        monkeypatch.setattr(leanrag, "open", open_with_stand_ins)
        with leanrag.open("kb") as rag:
            rag.add_text(TEXT)
        monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        code = cli.main(["chat", "kb", *options])
        return (code, *capsys.readouterr())

    return talk


def test_questions_are_answered_in_turn(talk):
    code, output, errors = talk("How tall is the Eiffel Tower?", "", "Who built it?", "/quit", "never read")
    assert (code, errors) == (0, "")
    assert (
        output == f"{TALL}\n(1 quote: /sources)\n{BUILT}\n(asked as: Who built the Eiffel Tower?; 1 quote: /sources)\n"
    )


def test_sources_are_shown_on_demand(talk):
    _, output, _ = talk("/sources", "How tall is the Eiffel Tower?", "/sources")
    assert output.startswith("There is no answer yet.\n")
    assert output.count(f'"{TALL}"') == 1 or output.count(TALL) >= 3


def test_a_conversation_is_saved_continued_and_forgotten(talk):
    talk("How tall is the Eiffel Tower?", "/save talk.json", "/save")
    _, output, _ = talk("/sources", "Who built it?", "/new", "Who built it?", options=["--resume", "talk.json"])
    assert output.startswith(f"{TALL}\n{BUILT}\n(asked as: ")
    assert output.count("asked as") == 1


def test_a_damaged_file_is_named(talk, tmp_path):
    (tmp_path / "talk.json").write_text("{", encoding="utf-8")
    code, _, errors = talk("Who built it?", options=["--resume", "talk.json"])
    assert code == 1
    assert "talk.json" in errors


def test_an_unknown_command_is_not_a_question(talk):
    _, output, _ = talk("/surces")
    assert output.startswith("'/surces' is not a command.\n/sources")


def test_an_error_ends_the_turn_only(talk):
    code, output, errors = talk("word " * 5000, "How tall is the Eiffel Tower?")
    assert code == 0
    assert "window" in errors
    assert output.startswith(TALL)


def test_an_interrupt_ends_the_answer_only(talk):
    calls = []

    def reply(prompt):
        calls.append(prompt)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return TALL

    code, output, _ = talk("How tall is the Eiffel Tower?", "How tall is the Eiffel Tower?", reply=reply)
    assert code == 0
    assert output == f"\n(stopped)\n{TALL}\n(1 quote: /sources)\n"
    assert "assistant>The" not in calls[1]  # what was stopped is not part of the conversation


def test_hostile_text_does_not_reach_the_terminal(talk):
    _, output, errors = talk(
        "How \x1b[2J tall?", "/\x1b[2J", "/sources", "/save \x1b[2J/none/x", reply="Red \x1b[31m\x07 text."
    )
    assert "\x1b" not in output + errors
    assert "\x07" not in output + errors
    assert "\\x1b[31m" in output


def test_answers_as_json_are_one_a_line(talk):
    _, output, _ = talk("How tall is the Eiffel Tower?", "/new", "Who built it?", options=["--json"])
    lines = [json.loads(line) for line in output.splitlines()]
    texts = [line.get("text", line.get("message")) for line in lines]
    assert texts == [f"{TALL[:-1]} [1].", "A new conversation.", f"{BUILT[:-1]} [1]."]
