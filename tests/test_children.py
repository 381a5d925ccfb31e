"""Child processes start in Python, and in applications that contain Python."""

import subprocess
import sys

import pytest

from leanrag import children
from leanrag.children import freeze_support, python_command


def test_code_runs_in_a_child():
    command = python_command("import sys; print(sys.argv[1:])", "a", "b c")
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "['a', 'b c']\n"


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
