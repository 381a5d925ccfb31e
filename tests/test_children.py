"""Child processes start in Python, and in applications that contain Python."""

import subprocess
import sys

import pytest

from leanrag import children
from leanrag.children import first_line, freeze_support, function_command, python_command


def test_code_runs_in_a_child():
    command = python_command("import sys; print(sys.argv[1:])", "a", "b c")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "['a', 'b c']\n"


def test_a_child_calls_a_function_with_the_arguments_of_the_first_line():
    command, first = function_command("builtins", "print"), first_line(end="one\ntwo")
    child = subprocess.run(command, input=first, capture_output=True, text=True, check=True)
    assert child.stdout == "one\ntwo"


def test_a_child_finds_the_modules_that_its_parent_finds(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text("def show(text):\n    print(text)\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [tmp_path, *sys.path])
    command, first = function_command("only_here", "show"), first_line(text="found")
    assert subprocess.run(command, input=first, capture_output=True, text=True, check=True).stdout == "found\n"


def test_an_argument_that_is_not_a_json_value():
    with pytest.raises(TypeError, match="not JSON serializable"):
        first_line(path=object())


def test_an_application_that_contains_python_does_the_work_of_a_child(monkeypatch, capsys):
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    command = python_command("import sys; print(__name__, sys.argv)", "a")
    assert command[0] == sys.executable
    assert "-c" not in command  # the application would not know the option
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as ended:
        freeze_support()
    assert ended.value.code is None
    assert capsys.readouterr().out == "__main__ ['-c', 'a']\n"


@pytest.mark.parametrize("arguments", [[], ["documents"], ["-c", "print('never')"]])
@pytest.mark.parametrize("frozen", [True, False])
def test_other_arguments_have_no_effect(monkeypatch, capsys, arguments, frozen):
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    monkeypatch.setattr(sys, "argv", ["app", *arguments])
    freeze_support()
    assert capsys.readouterr().out == ""


def test_the_flag_means_nothing_to_python_itself(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["app", children._FLAG, "print('never')"])
    freeze_support()
    assert capsys.readouterr().out == ""
