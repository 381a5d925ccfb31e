"""The site builds without a warning, fetches nothing from elsewhere, and every link of it leads somewhere."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")

specification = importlib.util.spec_from_file_location("docs_pages", DOCS / "pages.py")
pages = importlib.util.module_from_spec(specification)
specification.loader.exec_module(pages)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    built = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder


def test_each_stage_has_its_page_and_its_protocol():
    import leanrag.protocols

    intro, sections = pages.split_stages((DOCS / "stages.md").read_text(encoding="utf-8"))
    assert intro.startswith("# Bring your own stage")
    assert list(sections) == list(pages.PROTOCOLS)
    for name, body in sections.items():
        assert "```python" in body, name
        assert all(hasattr(leanrag.protocols, each) for each in pages.PROTOCOLS[name])


def test_messages_of_the_troubleshooting_page_are_those_of_the_library():
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "leanrag").rglob("*.py"))
    rows = re.findall(r"^\| (`.+?`) \|", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) >= 10
    for fragment in re.findall(r"`(.+?)`", " ".join(rows)):
        assert fragment in sources, fragment


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(site):
    for page in site.rglob("*.html"):
        html = page.read_text(encoding="utf-8")
        for tag in re.findall(r"<(?:script|link|img|iframe|source|video|audio|object|embed)\b[^>]*>", html):
            assert not re.search(r"""(?:src|href|data)=["']?(?:https?:)?//""", tag), (page, tag)
    for sheet in site.rglob("*.css"):
        assert not re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


@pytest.mark.slow
def test_every_page_of_the_repository_is_in_the_site(site):
    for page in DOCS.glob("*.md"):
        assert (site / page.name.replace(".md", ".html")).is_file(), page.name
    for name in pages.PROTOCOLS:
        html = (site / pages.stage_path(name).replace(".md", ".html")).read_text(encoding="utf-8")
        assert "<h1" in html
        assert "leanrag." in html
    assert not list(site.rglob("*.py"))


@pytest.mark.slow
def test_a_language_model_finds_the_pages(site):
    text = (site / "llms.txt").read_text(encoding="utf-8")
    links = re.findall(r"^- \[.+\]\((.+)\): .{10,}$", text, re.MULTILINE)
    assert len(links) == text.count("\n- ") >= 15
    for link in links:
        assert (site / link).is_file(), link
    assert "Ten minutes with leanrag" in (site / "llms-full.txt").read_text(encoding="utf-8")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Print nothing."""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
@pytest.mark.parametrize("page", ["index.html", "stages/own-retriever.html", "api/index.html"])
def test_a_browser_without_network_shows_it(site, page, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        shown = subprocess.run(
            [
                "chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}",
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr", "--log-level=0",
                "--virtual-time-budget=3000", "--dump-dom", f"http://127.0.0.1:{server.server_port}/{page}",
            ],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        server.shutdown()
    assert 'class="md-nav__link md-nav__link--active"' in shown.stdout or "md-nav__link--active" in shown.stdout
    assert "js" in re.search(r"<html[^>]*class=\"([^\"]*)\"", shown.stdout)[1].split()  # its scripts ran
    errors = [line for line in shown.stderr.splitlines() if "CONSOLE" in line and "Error" in line]
    assert not errors
