"""Replicas that are processes of this machine, with a queue and an autoscaler in front: what the simulation is compared with.

A replica holds a folder and a model that takes a known time to load and for each token, and longer for a token while it writes
several answers, as an engine does that computes a batch.
"""

from __future__ import annotations

import collections
import multiprocessing
import queue
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import leanrag
from leanrag.planning import Autoscaler, Scaling
from leanrag.testing import FakeModel, HashEmbedder

__all__ = ["LOAD_SECONDS", "TOKEN_SECONDS", "LocalReplicas", "Observed", "Replica", "question"]

TOKEN_SECONDS = 0.02
LOAD_SECONDS = 4.0
_SLOWER = 0.4  # how much longer a token takes for each further answer that is being written
_WORDS = " word"


def question(number: int, tokens: int) -> str:
    """Return a question whose answer has about so many tokens."""
    return f"How is part {number} checked? Say {tokens} words."


class _BatchModel(FakeModel):
    """Writes as many words as the question says; a token takes longer while several answers are written."""

    def __init__(self) -> None:
        super().__init__(lambda prompt: _WORDS * _words_asked(prompt))
        self._lock, self._writing = threading.Lock(), 0

    def _say(self, rendered: str) -> Iterator[str]:
        with self._lock:
            self._writing += 1
        try:
            for token in super()._say(rendered):
                time.sleep(TOKEN_SECONDS * (1 + _SLOWER * (self._writing - 1)))
                yield token
        finally:
            with self._lock:
                self._writing -= 1


def _words_asked(prompt: str) -> int:
    return int(prompt.rpartition(" words.")[0].rpartition(" ")[2]) // 2  # a word and the space before it are two tokens


def _serve(connection: Connection, slots: int, load_seconds: float) -> None:
    """Answer the questions that come, several at once, until None comes: the work of the process of a replica."""
    lock = threading.Lock()
    with (
        tempfile.TemporaryDirectory() as folder,
        leanrag.open(folder, model=_BatchModel(), embedder=HashEmbedder(), max_tokens=400) as rag,
        ThreadPoolExecutor(slots) as pool,
    ):
        rag.add_text("Each part is checked by Ada Park in the first week of the year.")

        def answer(number: int, text: str) -> None:
            rag.ask(text)
            with lock:
                connection.send(number)

        rag.ask(question(0, 2))
        time.sleep(load_seconds)
        connection.send(-1)  # ready
        while (item := connection.recv()) is not None:
            pool.submit(answer, *item)


class Replica:
    """A process that answers questions.

    Args:
        slots: Questions that it answers at once.
        load_seconds: Seconds that its model takes to load.
        events: Gets `(replica, number of the question)` for each answer, and -1 when the replica is ready.
    """

    def __init__(self, slots: int, load_seconds: float, events: queue.SimpleQueue[tuple[Replica, int]]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            [__name__, "leanrag.pipeline.opening", "faiss"]
        )  # so that a start computes little
        self._connection, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, slots, load_seconds), daemon=True)
        self._process.start()
        child.close()
        self.load, self.is_ready, self.accepts = 0, False, True
        self._events = events
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        try:
            while True:
                self._events.put((self, self._connection.recv()))
        except (EOFError, OSError):
            return

    def ask(self, number: int, text: str) -> None:
        """Send a question."""
        self.load += 1
        self._connection.send((number, text))

    def stop(self) -> None:
        """Let the process end; it has no questions."""
        self.accepts = False
        self._connection.send(None)

    def join(self) -> None:
        """Wait for the end of the process."""
        self._process.join()
        self._connection.close()


@dataclass(slots=True)
class Observed:
    """What happened.

    Attributes:
        seconds: From arrival to answer, for each question.
        times: When the autoscaler looked.
        ready: Replicas that took questions then.
        start_seconds: How long each start took.
    """

    seconds: list[float]
    times: list[float] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)
    start_seconds: list[float] = field(default_factory=list)


class LocalReplicas:
    """One queue, replicas behind it, and the autoscaler of the library.

    Args:
        scaling: How many replicas there are.
        slots: Questions that a replica answers at once.
        load_seconds: Seconds that the model of a replica takes to load.
    """

    def __init__(self, scaling: Scaling, slots: int, load_seconds: float = LOAD_SECONDS) -> None:
        self._scaling, self._slots, self._load_seconds = scaling, slots, load_seconds
        self._events: queue.SimpleQueue[tuple[Replica, int]] = queue.SimpleQueue()
        self._replicas: list[Replica] = []
        self._ended: list[Replica] = []
        self._begun: dict[Replica, float] = {}

    def run(self, arrivals: Sequence[float], texts: Sequence[str]) -> Observed:
        """Ask the questions when they arrive, and return when each was answered."""
        observed, waiting = Observed([0.0] * len(arrivals)), collections.deque[int]()
        for _ in range(self._scaling.least):
            self._start()
        while not all(replica.is_ready for replica in self._replicas):
            self._note(self._events.get(), observed, 0.0, arrivals)
        scaler, began = Autoscaler(self._scaling), time.perf_counter()
        i, answered, look = 0, 0, 0.0
        while answered < len(arrivals):
            now = time.perf_counter() - began
            while i < len(arrivals) and arrivals[i] <= now:
                waiting.append(i)
                i += 1
            if now >= look:
                self._scale(scaler, now, i - answered, observed)
                look += self._scaling.interval_seconds
            self._spread(waiting, texts)
            until = min([look, *arrivals[i : i + 1]]) - (time.perf_counter() - began)
            try:
                event = self._events.get(timeout=max(until, 0.0)) if until > 0 else self._events.get_nowait()
            except queue.Empty:
                continue
            answered += self._note(event, observed, time.perf_counter() - began, arrivals)
        for replica in self._replicas:
            replica.stop()
        for replica in (*self._replicas, *self._ended):
            replica.join()
        return observed

    def _start(self) -> None:
        replica = Replica(self._slots, self._load_seconds, self._events)
        self._begun[replica] = time.perf_counter()
        self._replicas.append(replica)

    def _note(self, event: tuple[Replica, int], observed: Observed, now: float, arrivals: Sequence[float]) -> bool:
        """Note an answer, or that a replica is ready; return whether it is an answer."""
        replica, number = event
        if number < 0:
            replica.is_ready = True
            observed.start_seconds.append(time.perf_counter() - self._begun[replica])
            return False
        replica.load -= 1
        observed.seconds[number] = now - arrivals[number]
        if not replica.accepts and not replica.load:
            self._end(replica)
        return True

    def _spread(self, waiting: collections.deque[int], texts: Sequence[str]) -> None:
        while waiting:
            free = [
                replica
                for replica in self._replicas
                if replica.is_ready and replica.accepts and replica.load < self._slots
            ]
            if not free:
                return
            number = waiting.popleft()
            min(free, key=lambda replica: replica.load).ask(number, texts[number])

    def _scale(self, scaler: Autoscaler, now: float, questions: int, observed: Observed) -> None:
        able = [replica for replica in self._replicas if replica.accepts]
        wanted = scaler.decide(now, questions, len(able))
        for _ in range(wanted - len(able)):
            self._start()
        for replica in sorted(able, key=lambda replica: (replica.is_ready, replica.load))[: max(len(able) - wanted, 0)]:
            replica.accepts = False
            if not replica.load:
                self._end(replica)
        observed.times.append(now)
        observed.ready.append(sum(replica.is_ready and replica.accepts for replica in self._replicas))

    def _end(self, replica: Replica) -> None:
        self._replicas.remove(replica)
        self._ended.append(replica)
        replica.stop()
