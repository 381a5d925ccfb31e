"""Files that appear whole, and records that are parsed and never trusted."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag import files
from leanrag.errors import StorageError
from leanrag.files import (
    RecordFormat,
    fingerprint_of,
    locked_folder,
    read_record,
    remove_abandoned,
    sha256_of,
    whole_file,
    write_record,
)
from tests.records import rewrite_record


class Fruit(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", allow_inf_nan=False)

    name: str
    weights: tuple[float, ...] = ()


FORMAT = RecordFormat("leanrag fruit", version=3, noun="fruit", mend="Pick it again", max_bytes=1000)


# Whole files


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with whole_file(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_after_an_error_the_old_file_stays(tmp_path, error):
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(type(error)), whole_file(target) as part:  # noqa: PT012
        part.write_text("new")
        raise error
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_full_disk_is_a_typed_error(tmp_path):
    target = tmp_path / "a.txt"
    with pytest.raises(StorageError, match="No space left") as caught, whole_file(target):
        raise OSError(28, "No space left on device")
    assert caught.value.path == target
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_missing_is_a_typed_error(tmp_path):
    with pytest.raises(StorageError, match="Check the folder"), whole_file(tmp_path / "none" / "a.txt"):
        pytest.fail("nothing can be written there")


KILLED = """
import pathlib, sys, time
from leanrag.files import whole_file
with whole_file(pathlib.Path(sys.argv[1])) as part:
    part.write_bytes(b"x" * 1000)
    print("written", flush=True)
    sys.stdin.read()
"""


def start_writer(target):
    writer = subprocess.Popen([sys.executable, "-c", KILLED, target], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert writer.stdout.readline() == b"written\n"
    return writer


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process by a signal")
def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    target = tmp_path / "model.gguf"
    for _ in range(2):
        writer = start_writer(target)
        os.kill(writer.pid, signal.SIGKILL)
        writer.communicate()
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]  # the second writer removed the first one's
    other = tmp_path / ".other.gguf.0123456789ab.part"
    other.touch()
    with whole_file(target) as part:
        part.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "model.gguf"]


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process by a signal")
def test_a_whole_folder_can_be_cleaned_of_what_killed_writers_left(tmp_path):
    killed, at_work = (start_writer(tmp_path / name) for name in ("a.state", "b.state"))
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    (tmp_path / "note.part").touch()
    remove_abandoned(tmp_path)
    assert [path.name[:8] for path in sorted(tmp_path.iterdir())] == [".b.state", "note.par"]
    at_work.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="file locks work in another way")
def test_a_writer_at_work_is_left_alone(tmp_path):
    target = tmp_path / "model.gguf"
    writer = start_writer(target)
    with whole_file(target) as part:
        part.write_text("mine")
    assert target.read_text() == "mine"
    writer.communicate()  # its input ends, and so does its block
    assert (writer.returncode, target.read_bytes()) == (0, b"x" * 1000)
    assert list(tmp_path.iterdir()) == [target]


def test_a_part_that_another_process_takes_for_abandoned_is_made_again(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    flock, others = fcntl.flock, []

    def flock_second(descriptor, operation):
        if not others:  # another process found the new part before it was locked
            [part] = tmp_path.iterdir()
            others.append(os.open(part, os.O_RDWR))
            flock(others[0], fcntl.LOCK_EX)
            with pytest.raises(BlockingIOError):
                flock(descriptor, operation | fcntl.LOCK_NB)
            assert not operation & fcntl.LOCK_NB  # it waits
            part.unlink()
            os.close(others[0])
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock_second)
    with whole_file(tmp_path / "a.txt") as part:
        part.write_text("whole")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["whole"]


def is_open(path):
    """Whether this process has a file open."""
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # it was closed meanwhile
            if link.readlink() == path:
                return True
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks at the open files of this process")
def test_where_open_files_stay_a_file_is_closed_before_it_is_moved_or_removed(tmp_path, monkeypatch):
    replace, unlink = Path.replace, Path.unlink

    def as_on_windows(change):
        def changed(path, *rest, **options):
            if is_open(path):
                raise PermissionError(
                    13, "The process cannot access the file because it is being used by another process"
                )
            return change(path, *rest, **options)

        return changed

    monkeypatch.setattr(files, "_OPEN_FILES_STAY", True)
    monkeypatch.setattr(Path, "replace", as_on_windows(replace))
    monkeypatch.setattr(Path, "unlink", as_on_windows(unlink))
    target, abandoned = tmp_path / "a.txt", tmp_path / ".a.txt.0123456789ab.part"
    abandoned.touch()
    with whole_file(target) as part:
        part.write_text("outer")
        with whole_file(target) as other:  # leaves the file of the first one
            other.write_text("inner")
        assert target.read_text() == "inner"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "outer"}


@pytest.mark.parametrize("can_lock", [True, False])
def test_one_thread_at_a_time_is_in_a_locked_folder(tmp_path, monkeypatch, can_lock):
    if not can_lock:
        monkeypatch.setattr(files, "_lock", lambda descriptor, *, wait: False)
    folder, steps = tmp_path / "a" / "b", []
    begun = threading.Event()

    def work():
        begun.set()
        with locked_folder(folder):
            steps.append("second")

    thread = threading.Thread(target=work)
    with pytest.raises(KeyError), locked_folder(folder):  # noqa: PT012
        thread.start()
        assert begun.wait(60)
        with locked_folder(tmp_path):  # another folder is free
            steps.append("first")
        raise KeyError
    thread.join()
    assert steps == ["first", "second"]
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_does_not_keep_a_folder_locked(tmp_path):
    reading, writing = os.pipe()
    with locked_folder(tmp_path):
        child = os.fork()
        if child == 0:
            os.read(reading, 1)  # it has the descriptor of the lock until then
            os._exit(0)
    with locked_folder(tmp_path):
        os.write(writing, b"x")
    assert os.waitpid(child, 0)[1] == 0
    os.close(reading)
    os.close(writing)


# Hashes


def test_hashes(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"abc")
    assert sha256_of(file) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    long, other = tmp_path / "long", tmp_path / "other"
    long.write_bytes(b"a" * (3 << 20))
    other.write_bytes(b"a" * (3 << 20) + b"a")
    assert fingerprint_of(long) != fingerprint_of(other)
    assert fingerprint_of(long) == fingerprint_of(long)


# Records


@given(st.text(max_size=50), st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=10))
def test_a_record_comes_back_as_it_was(tmp_path_factory, name, weights):
    path = tmp_path_factory.mktemp("records") / "fruit.json"
    fruit = Fruit(name=name.encode("utf-8", "replace").decode(), weights=tuple(weights))
    write_record(path, fruit, FORMAT)
    assert read_record(path, Fruit, FORMAT) == fruit


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "fruit.json"
    write_record(file, Fruit(name="pear", weights=(1.5, 2.0)), FORMAT)
    return file


def test_a_record_is_json_that_can_be_read(path):
    fields = json.loads(path.read_text())
    assert (fields["format"], fields["version"], fields["name"]) == ("leanrag fruit", 3, "pear")
    assert path.read_text().startswith('{\n "format"')


def test_white_space_and_order_may_change(path):
    path.write_text(json.dumps(dict(reversed(json.loads(path.read_text()).items()))))
    assert read_record(path, Fruit, FORMAT).name == "pear"


def refused(path):
    with pytest.raises(StorageError) as caught:
        read_record(path, Fruit, FORMAT)
    assert caught.value.path == path
    assert "Pick it again" in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_a_record_that_is_missing(tmp_path):
    assert refused(tmp_path / "none.json").startswith("cannot read the fruit")


def test_a_torn_record_is_refused(path):
    whole = path.read_bytes().rstrip()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert "cut short" in refused(path)


@pytest.mark.parametrize("content", [b"[]", b"null", b"3", b"\xff\xfe", b"[" * 900, b"1" * 900, b"PK\x03\x04"])
def test_a_file_that_is_not_a_record_is_refused(path, content):
    path.write_bytes(content)
    assert "is not a valid fruit" in refused(path)


def test_a_large_file_is_refused(path):
    path.write_bytes(b" " * 1001)
    assert "larger than 1,000 bytes" in refused(path)


@pytest.mark.parametrize("change", [{"name": "plum"}, {"weights": [1.5, 2.1]}, {"checksum": "0"}, {"more": 1}])
def test_an_edited_record_is_refused(path, change):
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert "changed after it was written" in refused(path)


@pytest.mark.parametrize("version", [2, 4, None, "3"])
def test_another_version_is_refused(path, version):
    rewrite_record(path, lambda fields: fields.update(version=version))
    assert f"of version {version!r}, but this version of leanrag reads version 3" in refused(path)


def test_another_format_is_refused(path):
    rewrite_record(path, lambda fields: fields.update(format="leanrag vegetable"))
    assert "`format` is not 'leanrag fruit'" in refused(path)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": 3}, "name"),
        ({"weights": [1, "x"]}, "weights[1]"),
        ({"weights": [float("nan")]}, "weights[0]"),
        ({"x": 1}, "x"),
    ],
)
def test_wrong_fields_are_refused_under_a_right_checksum(path, change, where):
    rewrite_record(path, lambda fields: fields.update(change))
    assert f"1 of its fields are wrong; the first is {where}: " in refused(path)
