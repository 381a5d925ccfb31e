"""The code of README and docs runs, in order, with the real models where it needs them; links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MOVED = ROOT / "tests" / "documents" / "moving" / "folders" / "langchain"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text(encoding="utf-8"))]


WITHOUT_MODELS = {"costs.md", "flow.md", "mcp.md", "scaling.md", "serving.md", "stages.md"}
RUNNABLE = [
    pytest.param(page, id=page.name, marks=() if page.name in WITHOUT_MODELS else pytest.mark.model)
    for page in WITH_CODE
]


@pytest.mark.parametrize("page", RUNNABLE)
@pytest.mark.slow
def test_code_runs(page, tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "global.md").write_text(
        "# The global statement\n\nThe global statement declares that names refer to global variables.\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    source = page.read_text(encoding="utf-8")
    namespace: dict[str, object] = {"moved": MOVED}
    for block in BLOCK.finditer(source):
        line = source[: block.start(1)].count("\n")
        exec(compile("\n" * line + block[1], str(page), "exec"), namespace)  # the page's own line numbers


def test_there_is_code_to_run():
    assert {page.name for page in WITH_CODE} >= {"README.md", "costs.md", "guide.md", "stages.md"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_that_a_page_uses_exist(page):
    import leanrag

    for name in re.findall(r"\bleanrag\.([A-Za-z]\w*)\b", page.read_text(encoding="utf-8")):
        assert (
            hasattr(leanrag, name) or (ROOT / "leanrag" / name).is_dir() or (ROOT / "leanrag" / f"{name}.py").exists()
        ), name


COMMAND = re.compile(r"^ {4}leanrag (.+)$", re.MULTILINE)
WITH_COMMANDS = [page for page in PAGES if COMMAND.search(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.name)
def test_commands_have_the_options_that_a_page_uses(page):
    from leanrag.cli.main import _parser

    for command in COMMAND.findall(page.read_text(encoding="utf-8")):
        assert _parser().parse_args(shlex.split(command, comments=True)).run, command


def test_every_command_is_in_the_guide():
    from leanrag.cli.main import _parser

    (commands,) = (action.choices for action in _parser()._actions if action.choices)
    guide = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.+?) \|", guide.partition("## On the command line")[2], re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(commands)


def test_every_extra_is_in_the_readme():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = project.partition("[project.optional-dependencies]\n")[2].partition("\n[project")[0]
    extras = set(re.findall(r"^([\w-]+) = \[", section, re.MULTILINE)) - {"dev", "docs"}
    rows = re.findall(r"^\| (`.+?) \|", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert extras == set(re.findall(r"`([\w-]+)`", " ".join(rows)))


def test_every_error_is_on_its_page():
    from leanrag import errors

    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)
    assert {*errors.__all__, "SpendingLimitError"} - {"LeanRAGError"} == {name for name in rows if not name.isdigit()}
