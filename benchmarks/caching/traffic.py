"""Whole questions through `leanrag.open`: edited documents, changed keys, time of a hit, and repeated questions."""

from __future__ import annotations

import dataclasses
import multiprocessing
import random
import re
import statistics
import tempfile
import time
from pathlib import Path

import leanrag
from leanrag.caching import AnswerCache, SimilarQuestions
from leanrag.ledger import CostLedger
from leanrag.protocols import Embedder
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Answer, AskKey, Document, Usage

__all__ = ["keys", "ledger", "speed", "stale", "zipf"]

Figures = dict[str, float | int | None]
EDITED = 0.2
_NAMES = "Ada Olu Ines Tom Mei Lars Priya Omar Zoe Ivan Lena Kofi".split()
_TOOLS = "saw drill lathe press crane pump kiln loom forge mixer".split()


class ReadingModel(FakeModel):
    """Answers with the sentence of the prompt that has the asked-for name; a token costs a cent."""

    def __init__(self) -> None:
        super().__init__(_read, n_ctx=4096)

    def price(self, usage: Usage) -> float:
        return usage.total_tokens / 100


def _read(prompt: str) -> str:
    asked = prompt.strip().splitlines()[-1]
    name = next(iter(re.findall(r"[A-Z]{2}-\d+", asked)), "")
    return next(
        (line for line in re.split(r"(?<=[.])\s+|\n", prompt) if name and name in line and "is kept by" in line),
        "I do not know.",
    )


def _document(i: int, version: int) -> Document:
    keeper = _NAMES[(i * 7 + version * 5) % len(_NAMES)]
    tool = _TOOLS[i % len(_TOOLS)]
    return Document(
        f"The {tool} {chr(65 + i % 26)}{chr(65 + i // 26 % 26)}-{i} is kept by {keeper}.",
        id=f"d{i}",
        title=f"sheet {i}",
    )


def _question(i: int, form: int = 0) -> str:
    name = f"{chr(65 + i % 26)}{chr(65 + i // 26 % 26)}-{i}"
    tool = _TOOLS[i % len(_TOOLS)]
    return f"Who keeps the {tool} {name}?" if form == 0 else f"By whom is the {tool} {name} kept?"


def stale(embedder: Embedder, n: int) -> Figures:
    """Return the share of answers that are those of the edited documents' old text, for equal and for similar questions."""
    figures: Figures = {"stale_n": n}
    for cache in ("exact", "similar"):
        with tempfile.TemporaryDirectory() as folder:
            policy = SimilarQuestions(threshold=0.3, audit=0.02)
            answers = AnswerCache(None, similar=policy if cache == "similar" else None)
            with leanrag.open(folder, model=ReadingModel(), embedder=embedder, cache=answers, k=3) as rag:
                rag.add(*(_document(i, 0) for i in range(n)))
                for i in range(n):
                    rag.ask(_question(i))
                edited = random.Random(0).sample(range(n), round(EDITED * n))
                rag.add(*(_document(i, 1) for i in edited))
                form = 0 if cache == "exact" else 1
                second = [rag.ask(_question(i, form)) for i in range(n)]
            hits = sum(answer.usage.total_tokens == 0 for answer in second)
            wrong = sum(second[i].text.partition(" [")[0] not in _document(i, 1).text for i in edited)
            print(f"{cache}: {hits} of {n} hits, {wrong} stale", flush=True)
            figures |= {f"stale_{'exact' if form == 0 else 'semantic'}": wrong / n, f"stale_{cache}_hits": hits / n}
    return figures


def keys() -> Figures:
    """Return how many parts of a key, changed alone, miss, of all parts."""
    key = AskKey("q", "{}", "{}", "/kb", ("m",), ("s",), "d", "e")
    with AnswerCache() as cache, AnswerCache(namespace="other") as other:
        cache.put(key, _answer(0))
        fields = dataclasses.asdict(key)
        changed = [
            AskKey(**{**fields, name: ("x",) if isinstance(value, tuple) else "x"}) for name, value in fields.items()
        ]
        missed = sum(cache.get(each) is None for each in changed) + (other.get(key) is None)
        assert cache.get(key) is not None
    return {"key_parts": len(changed) + 1, "key_parts_missed": missed}


def speed(entries: int, processes: int) -> Figures:
    """Return the time of a hit among `entries` answers, alone and with other processes, and what they lost or doubled."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "answers.db"
        with AnswerCache(path, max_bytes=8 << 30) as cache:
            for i in range(entries):
                cache.put(_key(i), _answer(i))
        alone = _time_hits(path, entries, seed=0)
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            together = [
                each
                for times in pool.starmap(_time_hits, [(path, entries, i) for i in range(processes)])
                for each in times
            ]
            written = pool.starmap(_write_some, [(path, entries, i) for i in range(processes)])
        with AnswerCache(path, max_bytes=8 << 30) as cache:
            lost = sum(
                (found := cache.get(_key(i))) is None or found.text != _answer(i).text
                for i in sorted(set().union(*written))
            )
            doubled = cache.stats().answers - entries - len(set().union(*written))
    figures: Figures = {"speed_entries": entries, "lost_or_doubled": lost + doubled}
    for name, times in (("exact", alone), ("exact_8", together)):
        ordered = sorted(times)
        figures |= {
            f"{name}_p50_ms": statistics.median(ordered) * 1e3,
            f"{name}_p99_ms": ordered[int(0.99 * len(ordered))] * 1e3,
        }
    return figures


def _time_hits(path: Path, entries: int, seed: int) -> list[float]:
    draw, times = random.Random(seed), []
    with AnswerCache(path, max_bytes=8 << 30) as cache:
        for _ in range(1000):
            i = draw.randrange(entries)
            started = time.perf_counter()
            answer = cache.get(_key(i))
            times.append(time.perf_counter() - started)
            assert answer is not None
            assert answer.text == _answer(i).text
    return times


def _write_some(path: Path, entries: int, seed: int) -> set[int]:
    draw = random.Random(seed)
    written = {entries + draw.randrange(500) for _ in range(100)}
    with AnswerCache(path, max_bytes=8 << 30) as cache:
        for i in sorted(written):
            cache.put(_key(i), _answer(i))
    return written


def _key(i: int) -> AskKey:
    return AskKey(f"question {i}", "{}", "{}", "/kb", ("m",), ("s",), "d", "")


def _answer(i: int) -> Answer:
    if not _made:
        with (
            tempfile.TemporaryDirectory() as folder,
            leanrag.open(folder, model=FakeModel("Ada."), embedder=HashEmbedder()) as rag,
        ):
            rag.add(*(_document(j, 0) for j in range(10)))
            _made.append(rag.ask(_question(3)))
    return dataclasses.replace(_made[0], text=f"answer {i}")


_made: list[Answer] = []


def zipf(asked: int, different: int) -> Figures:
    """Return what questions drawn by Zipf's law (s = 1.1) cost with a cache, as a share of what they cost without."""
    draw = random.Random(0)
    weights = [1 / (i + 1) ** 1.1 for i in range(different)]
    drawn = draw.choices(range(different), weights, k=asked)
    with tempfile.TemporaryDirectory() as folder:
        with leanrag.open(folder, model=ReadingModel(), embedder=HashEmbedder(), k=3) as rag:
            rag.add(*(_document(i, 0) for i in range(different)))
            alone = {i: rag.ask(_question(i)).cost or 0.0 for i in sorted(set(drawn))}
        with leanrag.open(folder, model=ReadingModel(), embedder=HashEmbedder(), k=3, cache=AnswerCache()) as rag:
            cost = sum(rag.ask(_question(i)).cost or 0.0 for i in drawn)
    without = sum(alone[i] for i in drawn)
    repeated = 1 - len(set(drawn)) / asked
    print(f"zipf: {repeated:.3f} of {asked} questions repeat an earlier one", flush=True)
    return {"zipf_asked": asked, "zipf_repeat_rate": repeated, "zipf_cost_ratio": cost / without}


def ledger(asked: int) -> Figures:
    """Return how much longer `ask` takes with a ledger in a file: the median over questions that are asked both ways in turn."""
    with tempfile.TemporaryDirectory() as folder, CostLedger(Path(folder) / "costs.db") as costs:
        kb = Path(folder) / "kb"
        with (
            leanrag.open(kb, model=ReadingModel(), embedder=HashEmbedder(), k=3) as without,
            leanrag.open(kb, model=ReadingModel(), embedder=HashEmbedder(), k=3, ledger=costs) as with_ledger,
        ):
            without.add(*(_document(i, 0) for i in range(100)))
            differences = []
            for i in range(asked):
                times = {}
                for rag in (without, with_ledger) if i % 2 else (with_ledger, without):
                    started = time.perf_counter()
                    rag.ask(_question(i % 100))
                    times[rag] = time.perf_counter() - started
                differences.append(times[with_ledger] - times[without])
    return {"ledger_asked": asked, "ledger_ms": statistics.median(differences) * 1e3}
