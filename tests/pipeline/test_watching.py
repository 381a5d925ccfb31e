"""Folders that are watched: each change is stored, and what cannot be stored yet is stored later."""

import sys
import threading

import pytest

from leanrag.errors import DocumentError, MissingDependencyError, StorageError
from leanrag.pipeline.watching import find_changes, follow_changes
from leanrag.types import AddReport
from tests.stories import NILE, PARK, open_rag


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "park.txt").write_text(PARK, encoding="utf-8")
    return folder


def test_each_change_is_stored(tmp_path, docs):
    def changes():
        yield set()  # nothing has changed since the first sync
        (docs / "nile.txt").write_text(NILE, encoding="utf-8")
        yield {"nile.txt"}
        (docs / "park.txt").unlink()
        yield {"park.txt"}
        yield set()

    with open_rag(tmp_path / "kb") as rag:
        reports = list(follow_changes(lambda: rag.sync(docs), changes()))
        titles = [record.title for record in rag.documents()]
    assert [(len(report.added), len(report.removed)) for report in reports] == [(1, 0), (1, 0), (0, 1)]
    assert titles == ["nile.txt"]


def outcomes(*values):
    """Return what returns or raises the values in turn."""
    remaining = list(values)

    def sync():
        value = remaining.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    return sync


DONE = AddReport(added=("a",))
ERRORS = [StorageError("another process is writing", path="kb"), DocumentError("no such folder", path="docs")]


@pytest.mark.parametrize(
    "error", [StorageError("another process is writing", path="kb"), DocumentError("no such folder", path="kb")]
)
def test_what_fails_is_tried_again_at_the_next_tick(error, caplog):
    sync = outcomes(AddReport(), AddReport(), error, error, DONE)
    assert list(follow_changes(sync, [set(), {"a"}, set(), set(), set()])) == [AddReport(), DONE]
    assert caplog.text.count("not stored yet") == 2


@pytest.mark.parametrize(
    "error", [StorageError("the folder is read-only", path="kb"), DocumentError("no such folder", path="kb")]
)
def test_what_fails_at_once_is_an_error(error):
    with pytest.raises(type(error)):
        next(follow_changes(outcomes(error), []))


def test_a_file_that_cannot_be_read_is_reported():
    report = AddReport(added=("a",))
    error = DocumentError("cannot read b", path="kb")
    error.report = report
    assert list(follow_changes(outcomes(error), [])) == [report]


@pytest.mark.slow
def test_files_are_watched(tmp_path, docs):
    stop = threading.Event()
    with open_rag(tmp_path / "kb") as rag:
        reports = rag.watch(docs, stop=stop)
        assert len(next(reports).added) == 1
        (docs / "nile.txt").write_text(NILE, encoding="utf-8")  # before or after the watching begins: both count
        assert len(next(reports).added) == 1
        stop.set()
        assert list(reports) == []


def test_a_database_in_the_folder_does_not_set_off_itself(docs):
    class Watcher:
        def watch(self, *folders, watch_filter, **_):
            self.counts = watch_filter
            return iter(())

    watcher, database = Watcher(), docs / "kb"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "watchfiles", watcher)
        patch.setattr("leanrag.pipeline.watching.require", lambda *_, **__: watcher)
        find_changes([docs], database, None)
    counted = {
        "a.txt": True, "sub/a.txt": True, ".gitignore": True, "sub/.gitignore": True, ".hidden": False, ".git/index": False,
        "kb/documents.db": False, "kb": False,
    }  # fmt: skip
    assert {name: watcher.counts(None, str(docs / name)) for name in counted} == counted


def test_the_package_is_named_if_it_is_missing(tmp_path, docs, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with open_rag(tmp_path / "kb") as rag, pytest.raises(MissingDependencyError, match=r"leanrag\[watch\]"):
        rag.watch(docs)
