"""Loads a file of unknown origin in a child process first, because a bad file can end the process that loads it.

llama.cpp asserts hundreds of relations between the values of a header, each architecture its own. The check of the header knows the
common ones. A file that passes it and still ends a process ends the child.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pydantic

from leanrag.children import first_line, function_command, is_frozen
from leanrag.errors import ModelLoadError
from leanrag.files import RecordFormat, cache_dir, fingerprint_of, keep_record, recall_record
from leanrag.llama.context import build
from leanrag.llama.files import GGUFInfo

__all__ = ["TrialKind", "try_file"]

logger = logging.getLogger(__name__)

TrialKind = Literal["model", "embedder"]

_FORMAT = RecordFormat("leanrag trials", version=1, noun="file of trials", mend="Delete it")
_LEAST_SECONDS, _BYTES_PER_SECOND = 60.0, 20e6  # time limit of a trial; files may be on slow disks
_MOST_PASSED = 1000  # trials in the file
_passed_here: set[str] = set()


class _Trials(pydantic.BaseModel):
    """The file of trials: the keys of all files that passed, the last one at the end."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid")
    passed: tuple[str, ...] = ()


def try_file(info: GGUFInfo, kind: TrialKind, *, trial: bool | None, n_ctx: int) -> None:
    """Load a checked file in a child process, and compute a few tokens there.

    The child takes about a second longer than the load itself. The result is remembered in the cache folder.

    Args:
        info: The file.
        kind: What it is used for.
        trial: True tries each file. None tries a file that is not in the cache of models and has not passed a trial before; the
            environment variable `LEANRAG_TRIAL=0` turns this off. False tries none.
        n_ctx: The window to load it with.

    Raises:
        ModelLoadError: The file ended the child, or took too long.
    """
    if trial is None:
        is_ours = info.path.resolve().is_relative_to((cache_dir() / "models").resolve())
        if is_ours or os.environ.get("LEANRAG_TRIAL") == "0" or not _can_start_python():
            return
    elif not trial:
        return
    key = _key(info, kind)
    if trial is None and (key in _passed_here or key in _read().passed):
        return
    _run(info, kind, n_ctx)
    _passed_here.add(key)
    _remember(key)


def _can_start_python() -> bool:
    """Whether `sys.executable` is a Python interpreter. In an application that contains Python, it is the application."""
    return not is_frozen() and Path(sys.executable or "").stem.lower().startswith(("python", "pypy"))


def _key(info: GGUFInfo, kind: TrialKind) -> str:
    """Return what the result of a trial depends on: the header, the ends of the file, and llama.cpp."""
    digest = hashlib.sha256(f"{kind} {_build()} {[fingerprint_of(part) for part in info.parts]} ".encode())
    with info.path.open("rb") as file:
        digest.update(file.read(info.header_bytes))
    return digest.hexdigest()


_build = functools.cache(build)


def _run(info: GGUFInfo, kind: TrialKind, n_ctx: int) -> None:
    limit = _LEAST_SECONDS + info.size_bytes / _BYTES_PER_SECOND
    try:
        child = subprocess.run(
            function_command("leanrag.llama.trial_main", "run"),
            input=first_line(path=os.fspath(info.path.absolute()), kind=kind, n_ctx=n_ctx),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, "GGML_NO_BACKTRACE": "1"},  # else a debugger may be started after an assertion
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _failure(info, f"took more than {limit:.0f} seconds", "") from None
    except OSError as error:
        logger.warning("%s is loaded without a trial, because no process can be started: %s", info.path, error)
        return
    if child.returncode:
        status = child.returncode
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit code {status}"
        raise _failure(info, f"ended the process ({how})", child.stderr)


def _failure(info: GGUFInfo, what: str, stderr: str) -> ModelLoadError:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    reason = next((line for line in lines if "GGML_ASSERT" in line or "what():" in line), lines[-1] if lines else "")
    return ModelLoadError(
        f"{str(info.path)!r} cannot be loaded: in a trial it {what}{f': {reason:.300}' if reason else ''}. Get the file "
        "again, or another conversion of this model",
        path=info.path,
        model=info.path.name,
    )


# The file of trials


def _file() -> Path:
    return cache_dir() / "trials.json"


def _read() -> _Trials:
    return recall_record(_file(), _Trials, _FORMAT, effect="files are tried again")


def _remember(key: str) -> None:
    file = _file()
    passed = tuple(dict.fromkeys((*_read().passed, key)))[-_MOST_PASSED:]
    keep_record(file, _Trials(passed=passed), _FORMAT, failure="the result of a trial was not saved")
