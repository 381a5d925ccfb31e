"""What a `RemoteModel` makes of servers that misbehave, with everything that a person could read afterwards."""

from __future__ import annotations

import collections
import logging
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from benchmarks.servers.misbehaviours import KEY, MAX_BODY_BYTES, Misbehaviour
from benchmarks.servers.replay import PROMPT, ReplayServer, count_words
from leanrag import Message
from leanrag.errors import LeanRAGError
from leanrag.remote import Clock, RemoteModel, Retry, Safety, Timeouts

__all__ = ["Outcome", "face_all"]

_SHORT = Timeouts(first_token_seconds=0.3, total_seconds=0.9)  # for servers that hang
_LONG = Timeouts(first_token_seconds=30, total_seconds=30)  # for the others: a busy machine must not change the outcome
_HANG_SECONDS = 20.0
_PARALLEL = 8  # servers that hang are waited for together


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a request.

    Attributes:
        answer: The text; None if there was an error.
        error: The error; None if there was an answer.
        shown: All that the logs, the answer and the error show.
        seconds: Time from the call to its end.
    """

    answer: str | None
    error: Exception | None
    shown: str
    seconds: float

    @property
    def is_untyped(self) -> bool:
        """Whether the error is none of the library's."""
        return self.error is not None and not isinstance(self.error, LeanRAGError)

    @property
    def shows_key(self) -> bool:
        """Whether the key can be read, in any case of its letters."""
        return KEY.lower() in self.shown.lower()

    @property
    def has_hung(self) -> bool:
        """Whether the time limit did not end the request."""
        return self.seconds > _HANG_SECONDS


def face_all(misbehaviours: Sequence[Misbehaviour]) -> list[Outcome]:
    """Return what comes of a request to each server, with all logs switched on."""
    acts = (misbehaviour.act for misbehaviour in misbehaviours)
    with _all_logs() as lines, ReplayServer(*acts) as server, ThreadPoolExecutor(_PARALLEL) as pool:
        urls = map(server.url, range(len(misbehaviours)))
        limits = [_SHORT if misbehaviour.hangs else _LONG for misbehaviour in misbehaviours]
        outcomes = list(pool.map(_face, range(len(misbehaviours)), urls, limits))
    return [
        Outcome(outcome.answer, outcome.error, "\n".join([outcome.shown, *lines[_thread_name(i)]]), outcome.seconds)
        for i, outcome in enumerate(outcomes)
    ]


def _face(number: int, url: str, timeouts: Timeouts) -> Outcome:
    """Ask a server, with a key in each place that may have a key."""
    answer, error = None, None
    started = time.monotonic()
    with RemoteModel(
        f"m{number}",
        base_url=url,
        n_ctx=4096,
        count_tokens=count_words,
        api_key=KEY,
        headers={"X-Key": KEY},
        query={"key": KEY},
        timeouts=timeouts,
        retry=Retry(max_retries=1),
        safety=Safety(max_body_bytes=MAX_BODY_BYTES),
        clock=Clock(sleep=_at_once),
    ) as model:
        try:
            options = {"max_tokens": 64, "temperature": 0.5, "seed": 2, "stop": ["\n\n\n"]}
            generation = model.generate([Message("user", PROMPT)], **options)  # type: ignore[arg-type]
            answer, shown = generation.text, repr(generation)
        except Exception as caught:  # noqa: BLE001 - which errors there are is what is measured
            error, shown = caught, _shown(caught)
    return Outcome(answer, error, shown, time.monotonic() - started)


def _thread_name(number: int) -> str:
    return f"leanrag m{number}"


async def _at_once(_seconds: float) -> None:
    pass


@contextmanager
def _all_logs() -> Iterator[dict[str, list[str]]]:
    """Yield the lines of all loggers at their lowest level, by the name of the thread."""
    lines: dict[str, list[str]] = collections.defaultdict(list)

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines[str(record.threadName)].append(f"{record.getMessage()} {record.args!r} {record.exc_info!r}")

    root, handler = logging.getLogger(), Lines(level=1)
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    try:
        yield lines
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def _shown(error: BaseException | None) -> str:
    """Return what an error shows: its words, its fields, its causes, and the variables of the library's frames."""
    texts: list[str] = []
    while error is not None:
        frames: list[dict[str, Any]] = [
            frame.f_locals
            for frame, _ in traceback.walk_tb(error.__traceback__)
            if frame.f_globals.get("__name__", "").partition(".")[0] == "leanrag"
        ]
        texts += [*traceback.format_exception(error), repr(error), repr(vars(error)), repr(frames)]
        error = error.__cause__ or error.__context__
    return "\n".join(texts)
