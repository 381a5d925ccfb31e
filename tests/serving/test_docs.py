"""The commands of the page on the server."""

import dataclasses
import json
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("pypdfium2")

import leanrag
from leanrag.documents import load_file
from leanrag.serving.app import create_app
from leanrag.testing import FakeModel, HashEmbedder
from tests.documents.formats.files import pdf
from tests.serving.live import Live

PAGE = Path(__file__).parents[2] / "docs" / "serving.md"
COMMANDS = re.findall(r"^    (curl (?:.*\\\n)*.*)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    (folder / "rules.txt").write_text("Cy Moss reads the meters.")
    model = FakeModel("Ada Park signs all permits.")
    with leanrag.open(folder / "kb", model=model, embedder=HashEmbedder()) as rag:
        rag.add_text("Ada Park signs all permits.", id="rules", title="Rules")
        (folder / "manual.pdf").write_bytes(pdf(["Contents"], ["Ada Park signs."]))
        rag.add(dataclasses.replace(load_file(folder / "manual.pdf"), id="manual.pdf"))
        with Live(create_app({"kb": rag}, embedders={"all-minilm-l6-v2": HashEmbedder()})) as server:
            server.folder = folder
            yield server


def test_there_are_commands():
    assert len(COMMANDS) == 15


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.slow
def test_a_command_works(server, command):
    address, method, headers, content = "", "GET", {}, None
    words = iter(shlex.split(command.replace("\\\n", " "))[1:])
    for word in words:
        if word == "-H":
            name, _, value = next(words).partition(": ")
            headers[name] = value
        elif word in ("-d", "--data-binary"):
            data = next(words)
            method, content = "POST", (server.folder / data[1:]).read_bytes() if data.startswith("@") else data
        elif word == "--output":
            next(words)
        else:
            address = word.removeprefix("http://127.0.0.1:8000")
    response = server.http.request(method, address, headers=headers, content=content)
    assert response.status_code == 200, response.text
    if response.headers["content-type"] == "application/json":
        json.loads(response.text)
