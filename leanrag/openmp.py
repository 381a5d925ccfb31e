"""How long the threads of OpenMP spin while they wait for each other.

Several libraries compute with the threads of libgomp: llama.cpp, FAISS and torch each bring or load a copy of it. A thread that
waits spins, by default for so long that other processes on the same cores hardly run, and this one neither. With a limit, it
sleeps sooner; on an idle machine this costs nothing that can be measured.

libgomp reads its environment when it is loaded, so the limit must be set before.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

__all__ = ["SPIN_SETTINGS", "limit_spinning", "unlimited_libraries"]

logger = logging.getLogger(__name__)

SPIN_SETTINGS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
"""Variables of the environment of which either says how long threads spin; a value of the user's is kept."""

_SPIN_COUNT = SPIN_SETTINGS[0]
_LIMIT = "1000"  # turns of the waiting loop: a few microseconds

_lock = threading.Lock()
_unlimited: tuple[str, ...] | None = None  # None before the first call of `limit_spinning`


def limit_spinning() -> None:
    """Limit how long threads spin, in the libraries that are loaded from now on and in child processes.

    Does nothing if the environment says how long already. Call it before each import that may load libgomp.
    """
    global _unlimited
    with _lock:
        if _unlimited is not None:
            return
        _unlimited = ()
        if any(name in os.environ for name in SPIN_SETTINGS):
            return
        _unlimited = _loaded()
        os.environ[_SPIN_COUNT] = _LIMIT  # `os.environ` calls putenv, so that the getenv of libgomp finds it
        if _unlimited:
            logger.info(
                "%s was loaded before leanrag, so its threads spin while they wait, which is slow on a busy machine. Set"
                " %s=%s before Python starts",
                " and ".join(_unlimited),
                _SPIN_COUNT,
                _LIMIT,
            )


def unlimited_libraries() -> tuple[str, ...]:
    """Return the copies of libgomp that were loaded before the limit, whose threads spin for long; empty if there are none."""
    limit_spinning()
    with _lock:
        return _unlimited or ()


def _loaded() -> tuple[str, ...]:
    """Return the paths of the copies of libgomp in this process; none where the system does not tell."""
    if sys.platform != "linux":
        return ()
    try:
        lines = Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    paths = {line[line.index("/") :] for line in lines if "/" in line}
    return tuple(sorted(path for path in paths if Path(path).name.startswith("libgomp")))
