"""The page in a real browser: with the keyboard, for a screen reader, dark and light, narrow and wide."""

import re
from pathlib import Path

import pytest

import leanrag
from leanrag.serving.app import create_app
from leanrag.serving.guard import CONTENT_SECURITY_POLICY
from leanrag.serving.keys import Keys
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Document, Mark
from tests.documents.formats.files import pdf
from tests.serving.browser import CHROMIUM, Browser
from tests.serving.live import Live

STATIC = Path(create_app.__code__.co_filename).parent / "static"
HOSTILE = '<img src=x onerror="window.stolen=1"><script>window.stolen=1</script> \x1b[2J \u202eevil'
PAGES = ["Page one is about keys.\n", "Ada Park signs all permits. 𝒳 is far away.\n", "Page three is empty.\n"]


def in_browser(test):
    """Mark a test that needs a browser."""
    return pytest.mark.slow(pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")(test))


def test_the_files_load_nothing_from_elsewhere(live):
    for path in ("/", "/page.js", "/page.css"):
        response = live.http.get(path)
        assert response.status_code == 200
        assert response.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
        assert response.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"https?://|innerHTML|insertAdjacentHTML|document\.write|eval\(", response.text)
    assert " style=" not in live.http.get("/").text


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two folders: a manual with pages, and one whose documents, titles and answers try to be more than text."""
    base = tmp_path_factory.mktemp("page")
    manual = Document(
        "".join(PAGES), id="manual", title="Manual",
        marks=tuple(Mark(sum(map(len, PAGES[:i])), f"page {i + 1}") for i in range(3)),
    )  # fmt: skip
    hostile = Document(f"The word is {HOSTILE}.", id=HOSTILE, title=HOSTILE)
    with (
        leanrag.open(
            base / "manuals", model=FakeModel("Ada Park signs all permits."), embedder=HashEmbedder()
        ) as first,
        leanrag.open(base / "hostile", model=FakeModel(f"The word is {HOSTILE}."), embedder=HashEmbedder()) as second,
    ):
        first.add(manual)
        second.add(hostile)
        yield {"manuals": first, "hostile": second}


@pytest.fixture(scope="module")
def server(folders):
    with Live(create_app(folders)) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def ask(tab, question="Who signs all permits?"):
    tab.until("document.querySelector('#documents li') && document.activeElement.id === 'question'")
    tab.type(question)
    tab.press("Enter")
    tab.until("document.querySelector('.facts')")


@in_browser
def test_a_question_by_keyboard_up_to_the_page_of_its_source(browser, server):
    tab = browser.open(server.url)
    ask(tab)
    assert tab.run("document.querySelector('.answer').textContent") == "Ada Park signs all permits [1]."
    assert tab.run("document.querySelector('.verdict').textContent") == "The sources support this answer."
    assert "tokens" in tab.run("document.querySelector('.facts').textContent")
    assert tab.run("document.querySelector('meter').value") > 0
    tab.run("document.querySelector('.citation').focus()")
    tab.press("Enter")
    assert tab.until("!document.querySelector('#passage').hidden && document.activeElement.id") == "passage"
    assert tab.run("document.querySelector('#passage mark').textContent") == "Ada Park signs all permits."
    assert tab.run("document.querySelector('#passage-text').textContent") == PAGES[1]  # the page, and nothing else
    assert tab.run("document.querySelector('#passage-place').textContent").startswith("page 2")
    tab.press("Escape")
    assert tab.run("document.activeElement.className") == "citation"
    assert tab.run("document.querySelector('#passage').hidden") is True
    assert tab.problems == []
    assert {url.split("/")[2] for url in tab.addresses if url.startswith("http")} == {f"127.0.0.1:{server.port}"}


@in_browser
def test_a_page_of_a_pdf_file_is_shown_as_a_picture(browser, tmp_path):
    pytest.importorskip("pypdfium2")
    path = tmp_path / "manual.pdf"
    path.write_bytes(pdf(["Contents"], ["Ada Park signs all permits."]))
    model = FakeModel("Ada Park signs all permits.")
    with (
        leanrag.open(tmp_path / "kb", model=model, embedder=HashEmbedder()) as rag,
        Live(create_app({"kb": rag})) as server,
    ):
        rag.add(path)
        tab = browser.open(server.url)
        ask(tab)
        tab.run("document.querySelector('.citation').click()")
        tab.until("!document.querySelector('#passage-page').hidden")
        assert (
            tab.run("document.querySelector('#passage-page').getAttribute('aria-label')")
            == "Picture of page 2; its text follows"
        )
        dark = """(() => { const canvas = document.querySelector('#passage-page');
          const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          return data.filter((value, i) => i % 4 === 0 && value < 100).length; })()"""
        assert tab.run(dark) > 100  # letters
        assert "Ada Park" in tab.run("document.querySelector('#passage-text').textContent")
        path.unlink()
        tab.run("document.querySelector('.citation').click()")
        tab.until("document.querySelector('#passage-page').hidden")
        assert "Ada Park" in tab.run("document.querySelector('#passage-text').textContent")


@in_browser
def test_a_conversation_sends_what_was_said(browser, server):
    tab = browser.open(server.url)
    ask(tab)
    tab.type("And who keeps the keys?")
    tab.press("Enter")
    tab.until("document.querySelectorAll('.facts').length === 2")
    assert tab.run("document.querySelectorAll('.turn').length") == 2
    tab.run("document.querySelector('#new').click()")
    assert tab.run("document.querySelectorAll('.turn').length") == 0


@in_browser
def test_text_of_documents_stays_text(browser, server):
    tab = browser.open(server.url)
    tab.until("document.querySelector('#documents li')")
    tab.run(
        "const list = document.querySelector('#folder'); list.value = 'hostile'; list.dispatchEvent(new Event('change'))"
    )
    tab.until("document.querySelector('#documents').textContent.includes('onerror')")
    ask(tab, "What is the word?")
    tab.run("document.querySelector('.citation').click()")
    tab.until("!document.querySelector('#passage').hidden")
    assert tab.run("document.querySelectorAll('img, main script').length") == 0
    assert tab.run("typeof window.stolen") == "undefined"
    shown = tab.run("document.querySelector('#passage-text').textContent")
    assert "<img src=x" in shown
    assert "\\u001b[2J \\u202eevil" in shown
    assert tab.problems == []


@in_browser
def test_a_dropped_file_is_added_and_found(browser, tmp_path):
    with (
        leanrag.open(tmp_path / "kb", model=FakeModel("Bo Lind."), embedder=HashEmbedder()) as rag,
        Live(create_app({"kb": rag})) as server,
    ):
        rag.add_text("Ada Park signs all permits.", title="Permits")
        add_files(browser, server)
        assert [hit.chunk.title for hit in rag.search("Who keeps the archive?", 1)] == ["archive.txt"]
        assert sorted(path.name for path in (tmp_path / "kb" / "uploads").iterdir()) == ["archive.txt"]


def add_files(browser, server):
    tab = browser.open(server.url)
    tab.until("document.querySelector('#documents li')")
    drop = """(() => { const data = new DataTransfer();
      data.items.add(new File(['Bo Lind keeps the archive.'], 'archive.txt'));
      data.items.add(new File([new Uint8Array([0, 1, 2, 255])], 'broken.pdf'));
      document.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })); })()"""
    tab.run(drop)
    tab.until("document.querySelector('#count').textContent === '2 documents'")
    lines = tab.run("[...document.querySelectorAll('#added li')].map((line) => line.textContent)")
    assert lines[0] == "archive.txt: added, 1 chunk"
    assert lines[1].startswith("broken.pdf: 'broken.pdf' is damaged")
    assert tab.run("document.querySelector('#files').labels[0].textContent").startswith("Add files")


@in_browser
def test_every_control_has_a_name(browser, server):
    tab = browser.open(server.url)
    ask(tab)
    names = tab.names()
    controls = [name for role, name in names if role in ("button", "textbox", "combobox", "meter", "log", "searchbox")]
    assert all(controls), names
    assert "Citation 1: Manual, page 2" in controls
    assert {"Question", "Ask", "Stop", "Folder", "Questions and answers"} <= set(controls)
    assert tab.run("document.querySelector('[role=log]').getAttribute('aria-live')") == "polite"


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 1200])
def test_it_fits_and_can_be_read(browser, server, scheme, width):
    tab = browser.open(server.url, width=width, scheme=scheme)
    ask(tab)
    assert tab.run("document.documentElement.scrollWidth <= window.innerWidth")
    assert tab.run("getComputedStyle(document.querySelector('main')).gridTemplateColumns.split(' ').length") == (
        1 if width < 960 else 2
    )
    contrasts = tab.run(CONTRASTS)
    assert all(contrast >= 4.5 for contrast in contrasts.values()), contrasts  # WCAG 2.2, 1.4.3


CONTRASTS = """(() => {
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    return color === 'rgba(0, 0, 0, 0)' && node.parentElement ? behind(node.parentElement) : color;
  };
  const found = {};
  for (const selector of ['body', '.question', '.answer', '.verdict', '.facts', '#hint', '#send', '.citation', '#count']) {
    const node = document.querySelector(selector);
    const [a, b] = [luminance(getComputedStyle(node).color), luminance(behind(node))];
    found[selector] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }
  return found;
})()"""


@in_browser
def test_a_server_with_keys_asks_for_the_key(browser, folders):
    with Live(create_app(folders, keys=Keys.parse("correct-horse"))) as server:
        tab = browser.open(server.url)
        tab.until("document.querySelector('#key-dialog').open")
        tab.type("correct-horse")
        tab.press("Enter")
        ask(tab)
        assert tab.run("document.querySelector('.answer').textContent") == "Ada Park signs all permits [1]."


@in_browser
def test_an_error_is_said_and_the_question_stays(browser, server):
    tab = browser.open(server.url)
    tab.until("document.querySelector('#documents li')")
    question = "word " * 5000
    tab.type(question)
    tab.press("Enter")
    assert "tokens" in tab.until("document.querySelector('#error').textContent")
    assert tab.run("document.querySelector('#question').value") == question.strip()
