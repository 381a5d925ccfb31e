"""The scripts in the shells that are installed."""

import shutil
import subprocess

import pytest

from leanrag.cli import main as cli
from leanrag.models import REGISTRY


@pytest.fixture
def script(capsys):
    def print_script(shell):
        assert cli.main(["completion", shell]) == 0
        return capsys.readouterr().out

    return print_script


def needs(shell):
    return pytest.mark.skipif(not shutil.which(shell), reason=f"needs {shell}")


def run(*command, text):
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True, timeout=60).stdout.split()


LINES = [
    (["leanrag", "as"], {"ask"}),
    (["leanrag", "--v"], {"--version"}),
    (["leanrag", "ask", "--sty"], {"--style"}),
    (["leanrag", "ask", "--style", ""], {"phrase", "sentence", "explanation"}),
    (["leanrag", "completion", ""], {"bash", "zsh", "fish"}),
    (["leanrag", "ask", "--model", "qwen"], {name for name in REGISTRY if name.startswith("qwen")}),
    (["leanrag", "pull", "all-mini"], {"all-minilm-l6-v2"}),
    (["leanrag", "ask", "--folder", "x"], set()),  # the shell completes files
]


@needs("bash")
@pytest.mark.parametrize(
    ("line", "expected"), LINES, ids=lambda value: " ".join(sorted(value) if isinstance(value, set) else value)
)
def test_bash_completes(script, line, expected):
    words = " ".join(f"'{word}'" for word in line)
    asked = f'{script("bash")}\nCOMP_WORDS=({words}); COMP_CWORD={len(line) - 1}; _leanrag; echo "${{COMPREPLY[@]}}"\n'
    assert set(run("bash", "--norc", "--noprofile", "-s", text=asked)) == expected


@needs("fish")
@pytest.mark.parametrize(
    ("line", "expected"),
    [each for each in LINES if each[0][1] != "--v"][:6],
    ids=lambda value: " ".join(sorted(value) if isinstance(value, set) else value),
)
def test_fish_completes(script, line, expected, tmp_path):
    asked = f"{script('fish')}\ncomplete -C '{' '.join(line)}' | string split -f1 \\t; true\n"
    found = run("fish", "--no-config", "-c", asked, text="")
    assert expected <= set(found)
    assert all(each.startswith(line[-1]) for each in found)


@needs("zsh")
def test_zsh_reads_the_script(script, tmp_path):
    asked = f'{script("zsh")}\nprint -r -- "$_comps[leanrag]"\n'
    assert run("zsh", "-f", "-s", text=asked)[:1] == ["_bash_complete"]


def test_a_script_has_each_command(script):
    for shell in ("bash", "zsh", "fish"):
        text = script(shell)
        assert all(name in text for name in ("add", "search", "ask", "doctor", "completion"))
