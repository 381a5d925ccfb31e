"""The clients: many that ask at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx

__all__ = ["CLIENTS", "Outcome", "ask_at_once"]

CLIENTS = 64


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request: its question, what came back, and its time. `text` is None if the answer did not come to its end."""

    question: int
    text: str | None
    status: int
    seconds: float


async def ask(client: httpx.AsyncClient, questions: Sequence[str], i: int, *, stream: bool) -> Outcome:
    """Ask a question over HTTP."""
    body = {"model": "kb", "stream": stream, "messages": [{"role": "user", "content": questions[i]}]}
    started = time.perf_counter()
    text, status = None, 0
    with contextlib.suppress(httpx.HTTPError):
        response = await client.post("/v1/chat/completions", json=body)
        status = response.status_code
        if status == httpx.codes.OK:
            text = _streamed(response.text) if stream else response.json()["leanrag"]["text"]
    return Outcome(i, text, status, time.perf_counter() - started)


def _streamed(text: str) -> str | None:
    """Return the marked answer of a stream that came to its end and whose parts have one id; None otherwise."""
    lines = [line.removeprefix("data: ") for line in text.split("\n") if line.startswith("data: ")]
    if not lines or lines[-1] != "[DONE]":
        return None
    events: list[dict[str, Any]] = [json.loads(line) for line in lines[:-1]]
    if len({event.get("id") for event in events}) != 1:
        return None
    return next((str(event["leanrag"]["text"]) for event in events if "leanrag" in event), None)


def ask_at_once(url: str, questions: Sequence[str], seconds: float) -> tuple[list[Outcome], float]:
    """Let all clients ask one question after the other until the time has passed; return what came back, and the seconds."""
    started = time.perf_counter()
    outcomes = asyncio.run(_ask_at_once(url, questions, seconds))
    return outcomes, time.perf_counter() - started


async def _ask_at_once(url: str, questions: Sequence[str], seconds: float) -> list[Outcome]:
    end, outcomes = time.perf_counter() + seconds, []
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=600, trust_env=False) as client:

        async def work(number: int) -> None:
            for turn in itertools.count():
                if time.perf_counter() >= end:
                    return
                i = (number + 7 * turn) % len(questions)
                outcomes.append(await ask(client, questions, i, stream=(number + turn) % 2 == 0))

        await asyncio.gather(*(work(number) for number in range(CLIENTS)))
    return outcomes
