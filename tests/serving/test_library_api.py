"""Search, explain, add and documents."""

import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag.serving.app import create_app
from leanrag.serving.failures import ApiError
from leanrag.serving.keys import Keys
from leanrag.serving.library_api import check_file_name, describe_passage
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Document, Mark
from tests.documents.formats.files import pdf
from tests.serving.live import Live

QUESTION = "Who signs all permits?"


@pytest.fixture
def folder(tmp_path):
    """A folder of its own, and its server."""
    with (
        leanrag.open(tmp_path / "kb", model=FakeModel("Ada Park signs."), embedder=HashEmbedder()) as rag,
        Live(create_app({"kb": rag}, upload_bytes=1000)) as server,
    ):
        rag.add_text("Ada Park signs all permits.", title="Permits", id="permits")
        server.rag = rag
        yield server


def test_search_finds_what_the_library_finds(live, rag):
    hits = live.http.post("/search", json={"question": QUESTION, "k": 2}).json()["hits"]
    expected = rag.search(QUESTION, 2)
    assert [(hit["document_id"], hit["start"], hit["end"], hit["text"]) for hit in hits] == [
        (hit.chunk.document_id, hit.chunk.start, hit.chunk.end, hit.chunk.text) for hit in expected
    ]
    assert hits[0]["score"] == pytest.approx(expected[0].score)


def test_explain_shows_the_prompt_and_the_budget(live, rag):
    shown = live.http.post("/explain", json={"question": QUESTION, "folder": "handbook", "context_tokens": 50}).json()
    expected = rag.explain(QUESTION, context_tokens=50)
    assert (shown["prompt"], shown["prompt_tokens"]) == (expected.prompt, expected.prompt_tokens)
    assert shown["sources"]["budget"] == expected.packing.budget == 50
    assert shown["sources"]["shown"][0]["text"] == expected.packing.items[0].text


@pytest.mark.parametrize("path", ["/search", "/explain"])
def test_an_empty_question_is_refused(live, path):
    response = live.http.post(path, json={"question": " "})
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_model_has_no_documents(live):
    error = live.http.post("/search", json={"question": QUESTION, "folder": "echo"}).json()["error"]
    assert error["param"] == "folder"


def test_documents_are_listed_in_parts(folder):
    folder.rag.add(*(Document(f"Text {i}.", id=f"d{i}") for i in range(3)))
    first = folder.http.get("/documents", params={"limit": 2}).json()
    rest = folder.http.get("/documents", params={"limit": 2, "offset": 2}).json()
    assert first["total"] == rest["total"] == 4
    assert [each["id"] for each in first["documents"] + rest["documents"]] == ["permits", "d0", "d1", "d2"]


def test_a_passage_comes_with_the_text_around_it(live, rag):
    text = rag.get_document("handbook").text
    start = text.index("Ada")
    shown = live.http.get("/documents/passage", params={"id": "handbook", "start": start, "end": start + 8}).json()
    assert shown["quote"] == "Ada Park"
    assert shown["before"] + shown["quote"] + shown["after"] == text


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "", "leanrag.db", "a\x00b"])
def test_an_id_is_never_a_path(live, name):
    response = live.http.get("/documents/passage", params={"id": name})
    assert response.status_code == 404
    assert response.json()["error"]["code"] == "document_not_found"


def test_a_passage_outside_of_its_document_is_refused(live):
    response = live.http.get("/documents/passage", params={"id": "handbook", "start": 5, "end": 10**9})
    assert response.status_code == 400


@given(st.lists(st.text(min_size=1, max_size=9), min_size=1, max_size=5), st.data())
def test_a_passage_is_shown_with_its_pages(pages, data):
    text = "".join(pages)
    starts = [sum(map(len, pages[:i])) for i in range(len(pages))]
    document = Document(text, marks=tuple(Mark(start, f"page {i + 1}") for i, start in enumerate(starts)))
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    shown = describe_passage(document, start, end)
    assert shown["before"] + shown["quote"] + shown["after"] == text[shown["start"] : shown["end"]]
    assert shown["quote"] == text[start:end]
    assert shown["start"] in starts
    assert shown["end"] in [*starts, len(text)]


def test_a_text_is_added_and_found(folder):
    report = folder.http.post("/add", json={"text": "Bo Lind keeps the keys.", "title": "Keys"}).json()
    assert len(report["added"]) == 1
    hits = folder.http.post("/search", json={"question": "Who keeps the keys?", "k": 1}).json()["hits"]
    assert hits[0]["title"] == "Keys"


def add_file(server, name, content):
    return server.http.post(
        "/add/file", params={"name": name}, content=content, headers={"Content-Type": "application/octet-stream"}
    )


def test_a_file_is_added_replaced_and_kept_when_its_successor_cannot_be_read(folder):
    assert len(add_file(folder, "keys.md", b"# Keys\n\nBo Lind keeps the keys.").json()["added"]) == 1
    assert len(add_file(folder, "keys.md", b"# Keys\n\nCy Moss keeps the keys.").json()["updated"]) == 1
    response = add_file(folder, "keys.md", b"\x00\x01\x02" * 50)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "invalid_document"
    assert str(folder.rag.path) not in response.text
    hits = folder.rag.search("Who keeps the keys?", 1)
    assert "Cy Moss" in hits[0].chunk.text
    uploads = folder.rag.path / "uploads"
    assert [path.name for path in uploads.iterdir()] == ["keys.md"]
    assert "Cy Moss" in (uploads / "keys.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "..", "../up.txt", "a/b.txt", "a\\b.txt", "/etc/passwd", ".hidden", "c:x.txt", "nul.txt", "COM1", "a\x00b",
        "a\nb", "a\u202eb", "x" * 300, "ends.", "ends ",
    ],
)  # fmt: skip
@pytest.mark.slow
def test_a_name_with_a_path_or_a_trick_is_refused(folder, name):
    response = add_file(folder, name, b"text")
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "name"
    assert not (folder.rag.path / "uploads").exists()
    assert [path.name for path in folder.rag.path.parent.iterdir()] == ["kb"]


@given(st.text(max_size=40))
def test_an_accepted_name_stays_in_its_folder(name):
    try:
        accepted = check_file_name(name)
    except ApiError:
        return
    from pathlib import Path, PureWindowsPath

    assert Path("/uploads", accepted).parent == Path("/uploads")
    assert PureWindowsPath("c:/uploads", accepted).parent == PureWindowsPath("c:/uploads")


def test_a_path_on_the_server_cannot_be_named(folder, tmp_path):
    (tmp_path / "secret.txt").write_text("secret")
    for name in ("path", "source", "sources"):
        response = folder.http.post("/add", json={"text": "a", name: str(tmp_path / "secret.txt")})
        assert response.status_code == 400


def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(folder):
    assert add_file(folder, "big.txt", b"a" * 2000).status_code == 413
    assert add_file(folder, "big.txt", (b"a" * 100 for _ in range(20))).status_code == 413
    assert list((folder.rag.path / "uploads").iterdir()) == []


def test_a_folder_that_may_only_be_read(tmp_path):
    with leanrag.open(tmp_path, model=FakeModel(), embedder=HashEmbedder()) as rag:
        with Live(create_app({"kb": rag}, can_add=False)) as server:
            assert server.http.post("/add", json={"text": "a"}).json()["error"]["code"] == "not_allowed"
            assert add_file(server, "a.txt", b"a").status_code == 403
            assert server.http.get("/folders").json() == {"folders": [{"name": "kb", "can_add": False}]}
        keys = Keys.parse('{"reader": {"key": "correct-horse", "can_add": false}}')
        with Live(create_app({"kb": rag}, keys=keys)) as server:
            server.http.headers["Authorization"] = "Bearer correct-horse"
            assert server.http.post("/add", json={"text": "a"}).status_code == 403


def test_a_second_server_reads_the_folder_and_waits_to_write(tmp_path):
    options = {"model": FakeModel("Ada Park signs."), "embedder": HashEmbedder()}
    with leanrag.open(tmp_path, **options) as first, leanrag.open(tmp_path, **options) as second:
        first.add_text("Ada Park signs all permits.")
        with Live(create_app({"kb": second})) as server:
            assert server.http.post("/search", json={"question": QUESTION}).json()["hits"]
            with first._store.writer():
                response = server.http.post("/add", json={"text": "Bo Lind keeps keys."})
                assert add_file(server, "keys.txt", b"Bo Lind keeps keys.").status_code == 503
                assert list((tmp_path / "uploads").iterdir()) == []
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
            assert "another process is writing" in response.json()["error"]["message"]
            assert server.http.post("/add", json={"text": "Bo Lind keeps keys."}).status_code == 200


def test_an_upload_that_breaks_off_leaves_nothing(folder):
    head = "POST /add/file?name=half.txt HTTP/1.1\r\nHost: a\r\nContent-Length: 900\r\n\r\n"
    uploads = folder.rag.path / "uploads"
    with socket.create_connection(("127.0.0.1", folder.port)) as connection:
        connection.sendall(head.encode() + b"half of it")
        while not uploads.exists():  # until the server has begun to read
            assert folder.http.get("/health").status_code == 200
    folder.stop()
    folder.join()
    assert list(uploads.iterdir()) == []
    assert [record.id for record in folder.rag.documents()] == ["permits"]


def test_files_of_one_name_at_once_leave_one_whole_file(folder):
    contents = [f"Client {i} keeps the keys.".encode() for i in range(8)]
    with ThreadPoolExecutor(8) as threads:
        responses = list(threads.map(lambda content: add_file(folder, "keys.txt", content), contents))
    assert {response.status_code for response in responses} == {200}
    uploads = folder.rag.path / "uploads"
    assert [path.name for path in uploads.iterdir()] == ["keys.txt"]
    stored = next(record.id for record in folder.rag.documents() if record.id != "permits")
    assert (uploads / "keys.txt").read_bytes() in contents
    assert folder.rag.get_document(stored).text.encode() == (uploads / "keys.txt").read_bytes()


@pytest.mark.slow
def test_a_page_of_a_pdf_file_is_drawn(tmp_path):
    pytest.importorskip("pypdfium2")
    keys = Keys.parse(
        '{"ada": {"key": "correct-horse", "models": ["kb"]}, "bo": {"key": "battery-staple", "models": ["other"]}}'
    )
    options = {"model": FakeModel(), "embedder": HashEmbedder()}
    with (
        leanrag.open(tmp_path / "kb", **options) as rag,
        leanrag.open(tmp_path / "other", **options) as other,
        Live(create_app({"kb": rag, "other": other}, keys=keys)) as server,
    ):
        server.http.headers["Authorization"] = "Bearer correct-horse"
        assert add_file(server, "manual.pdf", pdf(["Contents"], ["Ada Park signs."])).status_code == 200
        [record] = rag.documents()
        where = {"folder": "kb", "id": record.id}
        start = rag.get_document(record.id).text.index("Ada")
        assert server.http.get("/documents/passage", params={**where, "start": start}).json()["page"] == 2
        response = server.http.get("/documents/page", params={**where, "page": 2})
        assert (response.status_code, response.headers["content-type"]) == (200, "image/png")
        assert response.content.startswith(b"\x89PNG")
        for page, status in ((3, 404), (0, 400), (-1, 400), (10**9, 400), ("../2", 400)):
            refused = server.http.get("/documents/page", params={**where, "page": page})
            assert (refused.status_code, set(refused.json()["error"])) == (status, {"message", "type", "param", "code"})
        for name in ("/etc/passwd", record.source + "/../manual.pdf", "../manual.pdf", "\x00"):
            response = server.http.get("/documents/page", params={**where, "id": name, "page": 1})
            assert response.json()["error"]["code"] == "document_not_found"
        rag.add_text("A text.", id="text")
        assert server.http.get("/documents/passage", params={"folder": "kb", "id": "text"}).json()["page"] is None
        assert server.http.get("/documents/page", params={"folder": "kb", "id": "text", "page": 1}).status_code == 404
        (tmp_path / "kb" / "uploads" / "manual.pdf").unlink()
        assert (
            server.http.get("/documents/page", params={**where, "page": 2}).json()["error"]["code"] == "page_not_drawn"
        )
        for key, status in (("battery-staple", 404), ("wrong-wrong", 401)):
            server.http.headers["Authorization"] = f"Bearer {key}"
            assert server.http.get("/documents/page", params={**where, "page": 2}).status_code == status
