"""Names to files: what pull brings is verified, whole or absent, and found again offline. Wheels come through the real pip."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import sys
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from leanrag import ConfigurationError, ModelLoadError, StorageError, files, pull
from leanrag.files import cache_dir
from leanrag.models import (
    REGISTRY,
    HubFile,
    ModelFile,
    ModelSpec,
    WheelMember,
    fetching,
    hub,
    keep_copy,
    list_models,
    load_encoding,
    registry,
    resolve,
)

BLOB = bytes(range(256)) * 5000  # more than one block of a copy
WHEEL_ONLY = ("wheel",)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def write_wheel(folder: Path, package: str, members: dict[str, bytes]) -> Path:
    name = package.replace("-", "_")
    info = f"{name}-1.0.dist-info"
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        for member, data in members.items():
            wheel.writestr(member, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def member(package: str, path: str) -> WheelMember:
    return WheelMember(package, "1.0", path)


ONE = ModelSpec(
    "one",
    "gguf",
    "MIT",
    (ModelFile("one.gguf", len(BLOB), sha256(BLOB), (member("fake-one", "fake_one/data/one.gguf"),)),),
)
JOINED = ModelSpec(
    "joined",
    "gguf",
    "MIT",
    (
        ModelFile(
            "joined.gguf",
            len(BLOB),
            sha256(BLOB),
            (member("fake-part1", "p1/a.part0"), member("fake-part2", "p2/a.part1")),
        ),
    ),
    terms="Only for good.",
)
FOLDER = ModelSpec(
    "folder",
    "sentence-transformers",
    "MIT",
    (
        ModelFile("config.json", 2, sha256(b"{}"), (member("fake-folder", "f/config.json"),)),
        ModelFile("1_Pooling/config.json", 3, sha256(b"[1]"), (member("fake-folder", "f/1_Pooling/config.json"),)),
    ),
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, a registry of three models, and a pip whose only index is a folder of wheels."""
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "REGISTRY", {spec.name: spec for spec in (ONE, JOINED, FOLDER)})
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    write_wheel(tmp_path / "wheels", "fake-one", {"fake_one/data/one.gguf": BLOB})
    write_wheel(tmp_path / "wheels", "fake-part1", {"p1/a.part0": BLOB[:1000]})
    write_wheel(tmp_path / "wheels", "fake-part2", {"p2/a.part1": BLOB[1000:]})
    write_wheel(tmp_path / "wheels", "fake-folder", {"f/config.json": b"{}", "f/1_Pooling/config.json": b"[1]"})
    return tmp_path / "cache"


@pytest.fixture
def pip_calls(monkeypatch):
    """Counts the wheels downloaded."""
    calls = []
    download = fetching._download_wheel

    def counted(part, wheel, show):
        calls.append(part.package)
        download(part, wheel, show)

    monkeypatch.setattr(fetching, "_download_wheel", counted)
    return calls


def leftovers(cache: Path) -> list[str]:
    """Files that are neither a model's nor its record."""
    known = {"one.gguf", "joined.gguf", "config.json", "verified.json"}
    return [str(path) for path in cache.rglob("*") if path.is_file() and path.name not in known]


# Pulling


@pytest.mark.slow
def test_a_model_comes_out_of_its_wheel_and_is_found_again(cache, pip_calls):
    with pytest.raises(ModelLoadError, match="leanrag pull one"):
        resolve("one")
    path = pull("one")
    assert path == cache / "models" / ONE.sha256 / "one.gguf"
    assert path.read_bytes() == BLOB
    assert resolve("one") == path
    assert pull("one") == path
    assert pip_calls == ["fake-one"]
    assert leftovers(cache) == []


@pytest.mark.slow
def test_parts_are_joined_after_the_terms_were_accepted(cache, pip_calls):
    with pytest.raises(ConfigurationError, match=r"Only for good.*--accept-terms"):
        pull("joined")
    assert not cache.exists()
    assert pull("joined", accept_terms=True).read_bytes() == BLOB
    assert pip_calls == ["fake-part1", "fake-part2"]
    assert leftovers(cache) == []
    assert pull("joined").read_bytes() == BLOB  # accepted once: it is here


@pytest.mark.slow
def test_a_model_of_several_files_is_a_folder(cache, pip_calls):
    folder = pull("folder")
    assert folder == resolve("folder") == cache / "models" / FOLDER.sha256
    assert (folder / "1_Pooling" / "config.json").read_bytes() == b"[1]"
    assert pip_calls == ["fake-folder"]  # one wheel, opened for each file
    lines = sorted([f"{sha256(b'[1]')}  1_Pooling/config.json\n", f"{sha256(b'{}')}  config.json\n"])
    assert FOLDER.sha256 == sha256("".join(lines).encode())


def test_an_installed_package_saves_the_download(cache, pip_calls, tmp_path, monkeypatch):
    installed = tmp_path / "site" / "fake_one" / "data" / "one.gguf"
    installed.parent.mkdir(parents=True)
    installed.write_bytes(BLOB)
    (installed.parent.parent / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert pull("one").read_bytes() == BLOB
    assert pip_calls == []
    assert "fake_one" not in sys.modules


@pytest.mark.slow
def test_an_installed_package_with_other_bytes_is_passed_over(cache, pip_calls, tmp_path, monkeypatch):
    installed = tmp_path / "site" / "fake_one" / "data" / "one.gguf"
    installed.parent.mkdir(parents=True)
    installed.write_bytes(b"another version")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert pull("one").read_bytes() == BLOB
    assert pip_calls == ["fake-one"]


def test_the_hub_is_asked_before_the_wheel(cache, pip_calls, tmp_path, monkeypatch):
    (tmp_path / "from-hub").write_bytes(BLOB)
    monkeypatch.setattr(hub, "find_file", lambda file: tmp_path / "from-hub")
    file = dataclasses.replace(ONE.files[0], hub=HubFile("owner/repository", "one.gguf"))
    monkeypatch.setattr(registry, "REGISTRY", {"one": dataclasses.replace(ONE, files=(file,))})
    assert pull("one").read_bytes() == BLOB
    assert pip_calls == []


@pytest.mark.slow
def test_a_hub_out_of_reach_leaves_the_wheel(cache, pip_calls, monkeypatch):
    def unreachable(file):
        raise StorageError("ConnectError: no network", path=file.filename)

    monkeypatch.setattr(hub, "find_file", unreachable)
    file = dataclasses.replace(ONE.files[0], hub=HubFile("owner/repository", "one.gguf"))
    monkeypatch.setattr(registry, "REGISTRY", {"one": dataclasses.replace(ONE, files=(file,))})
    assert pull("one").read_bytes() == BLOB
    assert pip_calls == ["fake-one"]
    with pytest.raises(StorageError, match="hub: ConnectError: no network"):
        pull("one", force=True, sources=("hub",))


# Copies of other types


def halve(source, target):
    target.write_bytes(source.read_bytes()[::2])


@pytest.mark.slow
def test_a_copy_is_made_once_and_found_by_its_name(cache):
    with pytest.raises(ModelLoadError, match=r"leanrag pull one$"):
        keep_copy("one", "q4_0", halve)
    pull("one")
    with pytest.raises(
        ModelLoadError, match=r"'one:q4_0' is not on this machine\. Get it with: leanrag pull one --type q4_0"
    ):
        resolve("one:q4_0")
    copy = keep_copy("one", "q4_0", halve)
    assert copy == resolve("one:q4_0") == cache / "models" / ONE.sha256 / "q4_0" / "one.q4_0.gguf"
    assert copy.read_bytes() == BLOB[::2]
    assert keep_copy("one", "q4_0", None) == copy  # not made again
    assert [status.copies for status in list_models()] == [{"q4_0": copy}, {}, {}]
    assert resolve("one").read_bytes() == BLOB


@pytest.mark.slow
def test_a_copy_that_was_changed_is_made_again(cache):
    pull("one")
    copy = keep_copy("one", "q4_0", halve)
    copy.write_bytes(b"changed")
    assert list_models()[0].copies == {}
    with pytest.raises(ModelLoadError, match="--type q4_0"):
        resolve("one:q4_0")
    assert keep_copy("one", "q4_0", halve).read_bytes() == BLOB[::2]


@pytest.mark.slow
def test_a_copy_that_was_not_finished_is_none(cache):
    def interrupted(source, target):
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    pull("one")
    with pytest.raises(KeyboardInterrupt):
        keep_copy("one", "q4_0", interrupted)
    with pytest.raises(ModelLoadError):
        resolve("one:q4_0")


@pytest.mark.slow
def test_copies_that_cannot_be(cache, monkeypatch):
    pull("one")
    for name, kind in (("one", "../q4_0"), ("one", "")):
        with pytest.raises(ConfigurationError, match="Only a model has copies"):
            keep_copy(name, kind, halve)
    with pytest.raises(ConfigurationError, match="not an existing path and not a known model"):
        resolve("two:q4_0")
    with pytest.raises(ConfigurationError, match="Did you mean 'one'"):
        resolve("one:")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StorageError, match="cannot write the cache"):
        keep_copy("one", "q4_0", full)


# What goes wrong


@pytest.mark.slow
def test_wrong_bytes_never_get_the_name(cache, tmp_path):
    write_wheel(tmp_path / "wheels", "fake-one", {"fake_one/data/one.gguf": b"x" + BLOB[1:]})
    with pytest.raises(StorageError, match=f"expected {len(BLOB):,} with {ONE.sha256[:12]}") as caught:
        pull("one")
    assert caught.value.path == cache / "models" / ONE.sha256 / "one.gguf"
    assert not caught.value.path.exists()
    write_wheel(tmp_path / "wheels", "fake-one", {"fake_one/data/one.gguf": BLOB})
    assert pull("one").read_bytes() == BLOB  # the bad wheel was not kept


@pytest.mark.slow
def test_no_wheel_says_what_pip_said(cache, tmp_path):
    for wheel in (tmp_path / "wheels").iterdir():
        wheel.unlink()
    with pytest.raises(StorageError, match=r"pip cannot download fake-one==1\.0 \(ERROR: .*or put a file with sha256"):
        pull("one")
    assert leftovers(cache) == []


@pytest.mark.slow
def test_a_wheel_without_the_file_is_an_error(cache, tmp_path):
    write_wheel(tmp_path / "wheels", "fake-one", {"fake_one/data/two.gguf": BLOB})
    with pytest.raises(StorageError, match=r"cannot get one\.gguf of one .*one\.gguf"):
        pull("one")
    assert leftovers(cache) == []


@pytest.mark.slow
def test_a_wheel_cut_short_is_downloaded_again(cache, tmp_path, pip_calls):
    wheel = fetching._wheel_path(ONE.files[0].parts[0])
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes((tmp_path / "wheels" / "fake_one-1.0-py3-none-any.whl").read_bytes()[:-40])
    assert pull("one").read_bytes() == BLOB
    assert pip_calls == ["fake-one"]


@pytest.mark.slow
def test_an_interrupted_pull_goes_on_where_it_was(cache, pip_calls, monkeypatch):
    write = fetching._write_verified

    def interrupted(file, streams, target):
        if file.path.startswith("1_Pooling"):
            raise KeyboardInterrupt
        write(file, streams, target)

    monkeypatch.setattr(fetching, "_write_verified", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pull("folder")
    with pytest.raises(ModelLoadError):  # one of two files is not a model
        resolve("folder")
    monkeypatch.setattr(fetching, "_write_verified", write)
    assert resolve(pull("folder")) == cache / "models" / FOLDER.sha256
    assert pip_calls == ["fake-folder"]  # the wheel was not brought twice


@pytest.mark.slow
def test_an_interruption_while_writing_leaves_no_part(cache, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pull("one")
    assert list(cache.rglob("*.part")) == []
    assert not (cache / "models" / ONE.sha256 / "one.gguf").exists()


@pytest.mark.slow
def test_a_pull_removes_what_a_killed_pull_left(cache):
    for target in (cache / "models" / ONE.sha256 / "one.gguf", fetching._wheel_path(ONE.files[0].parts[0])):
        target.parent.mkdir(parents=True)
        target.with_name(f".{target.name}.0123456789ab.part").write_bytes(BLOB[:10])
    pull("one")
    assert list(cache.rglob("*.part")) == []


@pytest.mark.slow
def test_a_full_disk_is_a_typed_error(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"cannot write the cache .* No space left"):
        pull("one")


def test_a_cache_that_cannot_be_made_is_a_typed_error(cache, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="cannot write the cache"):
        pull("one")


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"one.gguf": "x"}', b"\xff\xfe"])
@pytest.mark.slow
def test_a_broken_record_is_made_anew(cache, damage):
    path = pull("one")
    record = path.with_name("verified.json")
    record.write_bytes(damage)
    with pytest.raises(ModelLoadError):
        resolve("one")
    assert pull("one") == path
    assert json.loads(record.read_bytes()) == {"one.gguf": [len(BLOB), path.stat().st_mtime_ns]}


@pytest.mark.slow
def test_a_changed_file_is_noticed_and_mended(cache):
    path = pull("one")
    path.write_bytes(BLOB[:-1])
    with pytest.raises(ModelLoadError, match="leanrag pull one"):
        resolve("one")
    assert pull("one").read_bytes() == BLOB


@pytest.mark.slow
def test_a_touched_file_is_hashed_and_kept(cache, pip_calls):
    path = pull("one")
    os.utime(path, ns=(1, 1))
    assert resolve("one") == path
    assert pull("one") == path
    assert pip_calls == ["fake-one"]


@pytest.mark.slow
def test_force_gets_it_again(cache, pip_calls):
    assert pull("one") == pull("one", force=True)
    assert pip_calls == ["fake-one", "fake-one"]


@pytest.mark.slow
def test_a_forced_pull_that_fails_leaves_the_model(cache, tmp_path):
    path = pull("one")
    copy = keep_copy("one", "q4_0", halve)
    (tmp_path / "wheels" / "fake_one-1.0-py3-none-any.whl").unlink()
    with pytest.raises(StorageError, match="pip cannot download"):
        pull("one", force=True)
    assert (resolve("one"), resolve("one:q4_0")) == (path, copy)


@pytest.mark.slow
def test_a_model_is_there_while_it_is_pulled_again(cache, monkeypatch):
    path, found = pull("one"), []
    write = fetching._write_verified
    monkeypatch.setattr(fetching, "_write_verified", lambda *rest: (found.append(pull("one")), write(*rest)))
    assert pull("one", force=True) == path
    assert found == [path]
    assert leftovers(cache) == []


@pytest.mark.slow
def test_a_forced_pull_removes_copies(cache):
    pull("one")
    keep_copy("one", "q4_0", halve)
    pull("one", force=True)
    with pytest.raises(ModelLoadError, match="--type q4_0"):
        resolve("one:q4_0")
    assert pull("folder") == pull("folder", force=True)  # the folders of its files are no copies
    assert resolve("folder").joinpath("1_Pooling/config.json").read_bytes() == b"[1]"


@pytest.fixture
def waits(monkeypatch):
    """Is set when a thread finds a folder locked, before it waits for it."""
    event, lock = threading.Event(), files._lock

    def watched(descriptor, *, wait):
        if not lock(descriptor, wait=False):
            event.set()
        return lock(descriptor, wait=wait)

    monkeypatch.setattr(files, "_lock", watched)
    return event


@pytest.mark.slow
def test_a_second_thread_waits_for_the_model_of_the_first(cache, monkeypatch, pip_calls, waits):
    paths, download = [], fetching._download_wheel
    second = threading.Thread(target=lambda: paths.append(pull("one", sources=WHEEL_ONLY)))

    def download_while_another_waits(*rest):
        second.start()
        assert waits.wait(60)
        download(*rest)

    monkeypatch.setattr(fetching, "_download_wheel", download_while_another_waits)
    paths.append(pull("one", sources=WHEEL_ONLY))
    second.join()
    assert paths == [cache / "models" / ONE.sha256 / "one.gguf"] * 2
    assert paths[0].read_bytes() == BLOB
    assert pip_calls == ["fake-one"]
    assert leftovers(cache) == []


@pytest.mark.slow
def test_a_second_thread_waits_for_the_copy_of_the_first(cache, waits):
    copies, made = [], []
    second = threading.Thread(target=lambda: copies.append(keep_copy("one", "q4_0", make)))

    def make(source, target):
        made.append(target)
        second.start()
        assert waits.wait(60)
        halve(source, target)

    pull("one")
    copies.append(keep_copy("one", "q4_0", make))
    second.join()
    assert copies == made * 2 == [resolve("one:q4_0")] * 2


@pytest.mark.slow
def test_without_locks_another_process_may_remove_the_wheels(cache, monkeypatch, pip_calls):
    looks, others = iter([False, True]), []

    def is_zipfile(path):
        if not others:
            others.append(None)
            others[0] = pull("joined", accept_terms=True, sources=WHEEL_ONLY)
        if others[0] is None:  # the other process looks
            return zipfile.is_zipfile(path)
        return next(
            looks
        )  # True: the second wheel was there when this process looked, and the other one has removed it

    monkeypatch.setattr(fetching, "locked_folder", contextlib.nullcontext)
    monkeypatch.setattr(fetching, "zipfile", SimpleNamespace(**{**vars(zipfile), "is_zipfile": is_zipfile}))
    path = pull("joined", accept_terms=True, sources=WHEEL_ONLY)
    assert [path] == others
    assert path.read_bytes() == BLOB
    assert pip_calls == ["fake-part1", "fake-part2", "fake-part1"]
    assert leftovers(cache) == []


def test_a_python_without_pip_says_so(cache, monkeypatch):
    monkeypatch.setattr(fetching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StorageError, match="ensurepip"):
        pull("one")


# Names


def test_a_path_stands_for_itself(tmp_path):
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    assert resolve(tmp_path / "model.gguf") == tmp_path / "model.gguf"
    assert resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("ask", [resolve, pull])
def test_an_unknown_name_is_answered_with_the_nearest(ask):
    with pytest.raises(ConfigurationError, match=r"'smollm-135m' is not an existing path.*Did you mean 'smollm2-135m'"):
        ask("smollm-135m")
    with pytest.raises(
        ConfigurationError, match="known models are smollm2-135m, gemma3-270m, all-minilm-l6-v2, ms-marco-minilm-l12-v2"
    ):
        ask("nothing-like-it")


@pytest.mark.parametrize("name", ["hf:", "hf:owner", "hf:owner/repository", "hf:owner/repository/", "hf:/x/y"])
def test_a_hub_name_has_three_parts(name):
    with pytest.raises(ConfigurationError, match="hf:OWNER/REPOSITORY/FILE"):
        resolve(name)


def test_a_file_of_the_hub_comes_by_its_name(tmp_path, monkeypatch):
    asked = []

    def download(repository, filename, *, local_files_only):
        asked.append((repository, filename, local_files_only))
        if local_files_only:
            raise FileNotFoundError(filename)
        return str(tmp_path / filename)

    monkeypatch.setattr(hub, "require", lambda *_, **__: SimpleNamespace(hf_hub_download=download))
    with pytest.raises(ModelLoadError, match=r"leanrag pull hf:o/r/dir/x\.gguf"):
        resolve("hf:o/r/dir/x.gguf")
    assert pull("hf:o/r/dir/x.gguf") == tmp_path / "dir" / "x.gguf"
    assert asked == [("o/r", "dir/x.gguf", True), ("o/r", "dir/x.gguf", False)]


@pytest.mark.slow
def test_the_list_says_what_is_here(cache):
    assert [(status.spec.name, status.path) for status in list_models()] == [
        ("one", None),
        ("joined", None),
        ("folder", None),
    ]
    path = pull("one")
    assert list_models()[0].path == path


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("LEANRAG_CACHE_DIR", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.setenv("LEANRAG_CACHE_DIR", "~/models")
    assert cache_dir() == Path.home() / "models"
    monkeypatch.delenv("LEANRAG_CACHE_DIR")
    assert cache_dir().name == "leanrag"


def test_the_registry_is_whole():
    assert list(REGISTRY) == [
        "smollm2-135m",
        "gemma3-270m",
        "all-minilm-l6-v2",
        "ms-marco-minilm-l12-v2",
        "cl100k_base",
        "qwen2.5-coder-0.5b",
        "qwen2.5-coder-1.5b",
        "smollm2-135m+reader",
    ]
    for spec in REGISTRY.values():
        assert all(len(file.sha256) == 64 and file.size_bytes > 0 for file in spec.files)
        assert all(file.parts for file in spec.files) == (spec.kind != "adapter")
    assert REGISTRY["smollm2-135m"].size_bytes == 98_362_432
    assert REGISTRY["gemma3-270m"].terms
    assert len(REGISTRY["gemma3-270m"].files[0].parts) == 4


@pytest.mark.model
def test_an_encoding_counts_offline():
    encoding = load_encoding("cl100k_base")
    assert encoding.encode("hello world") == [15339, 1917]
    assert "TIKTOKEN_CACHE_DIR" not in os.environ


def test_an_encoding_that_is_not_here_is_an_error(cache):
    with pytest.raises(ConfigurationError, match="not an existing path and not a known model"):
        load_encoding("o200k_base")


@pytest.mark.model
def test_the_pulled_models_are_the_ones_of_the_registry():
    here = {status.spec.name: status.path for status in list_models()}
    for name in ("smollm2-135m", "all-minilm-l6-v2", "cl100k_base", "gemma3-270m"):
        spec, path = REGISTRY[name], here[name]
        assert path is not None
        file = spec.files[0]
        assert sha256((path if path.is_file() else path / file.path).read_bytes()) == file.sha256
