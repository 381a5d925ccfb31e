"""How many threads compute, and how important they are."""

import os
import sys
import threading

import pytest

from leanrag import ConfigurationError, LlamaCppModel, threads
from leanrag.threads import ThreadCount, lower_priority, running_elsewhere, shared_property, usable_cores


@pytest.mark.parametrize(
    ("cores", "cpus", "running", "expected"),
    [
        (2, 2, 0, 2),  # idle
        (2, 2, 1, 1),
        (2, 2, 14, 1),  # never none
        (8, 8, 3, 5),
        (4, 8, 3, 4),  # the others find CPUs beside the cores of this process
        (2, 64, 30, 2),  # a container on a large machine
        (1, 1, 0, 1),
    ],
)
def test_threads_follow_what_is_free(cores, cpus, running, expected):
    count = ThreadCount(None, cores=lambda: cores, running=lambda: running, cpus=cpus)
    assert (count.most, count.now()) == (cores, expected)


def test_threads_may_change_between_two_computations():
    running = iter([0, 7, 2])
    count = ThreadCount(None, cores=lambda: 4, running=lambda: next(running), cpus=4)
    assert [count.now() for _ in range(3)] == [4, 1, 2]


def test_a_number_that_was_chosen_stays():
    count = ThreadCount(3, "background", cores=lambda: 1, running=lambda: 9, cpus=1)
    assert (count.most, count.now()) == (3, 3)


@pytest.mark.parametrize(("cores", "most"), [(1, 1), (2, 1), (3, 1), (8, 4)])
def test_the_background_leaves_half_of_the_cores(cores, most):
    assert ThreadCount(None, "background", cores=lambda: cores, running=lambda: 0, cpus=cores).now() == most


def test_cores_and_load_of_this_machine():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
    assert running_elsewhere() >= 0


def test_a_system_that_does_not_tell_its_load(monkeypatch):
    for text in ("", "nonsense", "0.1 0.2 0.3 x/y 9"):
        monkeypatch.setattr(threads, "_read", lambda path, text=text: text)
        assert running_elsewhere() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
@pytest.mark.parametrize(("running", "expected"), [(1, 0), (2, 0), (3, 1), (15, 13)])
def test_threads_of_this_process_are_not_counted(monkeypatch, running, expected):
    assert threads._running_here() >= 1  # the calling one
    monkeypatch.setattr(threads, "_read", lambda path: f"14.10 9.01 4.00 {running}/210 4711")
    monkeypatch.setattr(threads, "_running_here", lambda: 2)
    assert running_elsewhere() == expected


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 4),
        ({"/sys/fs/cgroup/cpu.max": "max 100000"}, 4),
        ({"/sys/fs/cgroup/cpu.max": "150000 100000"}, 2),
        ({"/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000", "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000"}, 1),
    ],
)
def test_the_quota_of_a_control_group(monkeypatch, files, cores):
    monkeypatch.setattr(threads, "_read", lambda path: files.get(path, ""))
    monkeypatch.setattr(threads, "_core_of", str)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    assert usable_cores() == cores


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def in_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no niceness")
def test_a_thread_and_those_that_it_starts_give_way():
    before = niceness()

    def work():
        lower_priority()
        lower_priority()  # again changes nothing
        return niceness(), in_thread(niceness)

    assert in_thread(work) == (max(before, 10), max(before, 10))
    assert niceness() == before


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no niceness")
def test_a_model_in_the_background(tiny_gguf, tiny):
    with LlamaCppModel(tiny_gguf, name=tiny.name, priority="background") as model:
        assert os.getpriority(os.PRIO_PROCESS, model._engine._thread.native_id) >= 10
        assert model.generate("ab", max_tokens=4).text == tiny.generate("ab", max_tokens=4).text


def test_a_recent_number_is_asked_for_after_a_while():
    seconds, running, asked = [0.0], [0], []
    count = ThreadCount(
        None, cores=lambda: 4, running=lambda: asked.append(1) or running[0], cpus=4, clock=lambda: seconds[0]
    )
    assert (count.recent(), len(asked)) == (4, 1)
    running[0] = 3
    seconds[0] = 0.05
    assert (count.recent(), len(asked)) == (4, 1)
    seconds[0] = 0.051
    assert (count.recent(), len(asked)) == (1, 2)
    running[0] = 2
    assert (count.recent(), count.now(), count.recent(), len(asked)) == (1, 2, 2, 3)


def test_the_threads_of_a_model_change_between_requests(tiny_gguf, monkeypatch):
    running = [0]
    monkeypatch.setattr(threads, "usable_cores", lambda: 3)
    monkeypatch.setattr(threads, "running_elsewhere", lambda: running[0])
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 3)
    used = []
    with LlamaCppModel(tiny_gguf) as model:
        context = model._engine._context
        for running[0] in (0, 2, 1):
            model.generate("ab", max_tokens=2)
            lib, handle = context._lib, context._handle
            used.append((lib.llama_n_threads(handle), lib.llama_n_threads_batch(handle)))
    assert used == [(3, 3), (1, 1), (2, 2)]


def test_an_unknown_priority(tiny_gguf):
    with pytest.raises(ConfigurationError, match="`priority` must be one of 'normal', 'background', got 'low'"):
        LlamaCppModel(tiny_gguf, priority="low")


def test_threads_that_ask_together_wait_for_one_that_computes():
    entered, may_end, computed, found = threading.Event(), threading.Event(), [], []

    class Vocabulary:
        @shared_property
        def texts(self):
            """Of all tokens."""
            entered.set()
            may_end.wait(60)
            computed.append(threading.current_thread())
            return ["a"]

    vocabulary = Vocabulary()
    askers = [threading.Thread(target=lambda: found.append(vocabulary.texts)) for _ in range(8)]
    for asker in askers:
        asker.start()
    assert entered.wait(60)
    may_end.set()
    for asker in askers:
        asker.join()
    assert len(computed) == 1
    assert found == [["a"]] * 8
    assert all(texts is vocabulary.texts for texts in found)
    assert Vocabulary.texts.__doc__ == "Of all tokens."
