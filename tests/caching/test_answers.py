"""The cache of answers: what it finds, what it forgets, and what happens to its file."""

import contextlib
import dataclasses
import gc
import logging
import sqlite3
import subprocess
import sys
import threading

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

import leanrag
from leanrag import CancelToken, ConfigurationError, StorageError
from leanrag.caching import AnswerCache
from leanrag.caching.waiting import KeyLocks
from leanrag.testing import FakeModel, HashEmbedder
from tests.caching.suite import KEY, AnswerCacheSuite
from tests.examples import max_examples
from tests.stories import NILE, PARK, QUESTION, RIGHT, open_rag


@pytest.fixture(scope="module")
def answer(tmp_path_factory):
    with open_rag(tmp_path_factory.mktemp("kb")) as rag:
        rag.add(leanrag.Document(PARK, id="park"), leanrag.Document(NILE, id="nile"))
        return rag.ask(QUESTION)


class TestFile(AnswerCacheSuite):
    @pytest.fixture
    def make_cache(self, tmp_path):
        with contextlib.ExitStack() as caches:
            yield lambda **options: caches.enter_context(AnswerCache(tmp_path / "answers.db", **options))


def numbered(answer, i):
    return dataclasses.replace(answer, text=f"answer {i}")


def key_of(i):
    return dataclasses.replace(KEY, question=f"q{i}")


# Equal questions


def test_an_answer_is_found_again_by_another_cache_of_the_file(tmp_path, answer):
    with AnswerCache(tmp_path / "answers.db") as cache:
        assert cache.get(KEY) is None
        cache.put(KEY, answer)
        assert cache.get(KEY) == answer
    with AnswerCache(tmp_path / "answers.db") as cache:
        assert cache.get(KEY) == answer
        assert (cache.stats().answers, cache.stats().hits) == (1, 2)


@pytest.mark.parametrize(("now", "found"), [(0.0, True), (9.9, True), (10.0, False), (-1.0, False)])
def test_an_old_answer_and_one_from_the_future_are_not_used(answer, now, found):
    times = [100.0]
    with AnswerCache(ttl_seconds=10, clock=lambda: times[0]) as cache:
        cache.put(KEY, answer)
        times[0] += now
        assert (cache.get(KEY) is not None) == found


def test_two_keys_share_one_stored_answer(answer):
    with AnswerCache() as cache:
        cache.put(key_of(1), answer)
        cache.put(key_of(2), answer)
        assert (cache.get(key_of(1)), cache.get(key_of(2)), cache.stats().answers) == (answer, answer, 1)


def test_an_answer_that_another_cache_removed_meanwhile_is_stored_again(tmp_path, answer):
    with AnswerCache(tmp_path / "answers.db") as cache, AnswerCache(tmp_path / "answers.db") as other:
        cache.put(key_of(1), answer)
        other.forget(["park"])
        cache.put(key_of(2), answer)
        assert (other.get(key_of(1)), other.get(key_of(2)), other.stats().answers) == (None, answer, 1)
        cache.put(key_of(3), numbered(answer, 3))
        cache.put(key_of(3), answer)  # nothing refers to the other answer any more
        assert (other.get(key_of(3)), other.stats().answers) == (answer, 1)


# The budget


def test_the_answers_that_are_worth_least_make_room(answer):
    worth = {f"answer {i}": float(i) for i in range(6)}
    with AnswerCache() as cache:
        cache.put(key_of(0), numbered(answer, 0))
        size = cache.stats().bytes
    with AnswerCache(max_bytes=3 * size + 30, worth=lambda each: worth[each.text]) as cache:
        for i in (5, 1, 4, 2, 3):
            cache.put(key_of(i), numbered(answer, i))
        assert [i for i in range(1, 6) if cache.get(key_of(i))] == [3, 4, 5]
        assert (cache.stats().answers, cache.stats().evicted) == (3, 2)
        assert cache.stats().bytes <= 3 * size + 30


@max_examples(25, suppress_health_check=list(HealthCheck))
@given(puts=st.lists(st.tuples(st.integers(0, 8), st.integers(1, 3000)), max_size=20), most=st.integers(200, 6000))
def test_the_budget_holds_and_the_last_answer_that_fits_is_there(answer, puts, most):
    with AnswerCache(max_bytes=most) as cache:
        for i, length in puts:
            text = "".join(chr(97 + (j * j + i) % 26) for j in range(length))
            value = dataclasses.replace(answer, text=text)
            before = cache.stats()
            cache.put(key_of(i), value)
            after = cache.stats()
            assert after.bytes <= most
            assert (
                cache.get(key_of(i)) == value
                or after == before
                or after.answers == 0
                or cache.get(key_of(i)) is not None
            )


# Documents


def test_answers_are_forgotten_with_each_document_they_contain(answer):
    with AnswerCache() as cache:
        cache.put(KEY, answer)
        cache.forget(["unknown"])
        assert cache.get(KEY) == answer
        cache.forget(["nile"])
        assert (cache.get(KEY), cache.stats().answers, cache.stats().bytes) == (None, 0, 0)


@pytest.mark.parametrize("reopened_with", ["exact", None])
def test_a_folder_keeps_no_answer_that_contains_a_removed_document(tmp_path, reopened_with):
    with open_rag(tmp_path, cache="exact") as rag:
        rag.add(leanrag.Document(PARK, id="park"), leanrag.Document(NILE, id="nile"))
        rag.ask(QUESTION)
    path = tmp_path / "answers.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (value,) = connection.execute("SELECT value FROM answers").fetchone()
    assert value[:64] in path.read_bytes()
    with open_rag(tmp_path, cache=reopened_with) as rag:
        rag.remove("park")
    assert [file.name for file in tmp_path.glob("answers.db*") if file.is_file()] == ["answers.db"]
    assert value[:64] not in path.read_bytes()
    with AnswerCache(tmp_path / "answers.db") as cache:
        assert cache.stats().answers == 0


def test_a_document_stays_when_its_answers_cannot_be_removed(tmp_path):
    class Stuck(dict):
        put, __call__ = dict.__setitem__, None

        def forget(self, document_ids):
            raise StorageError("the disk is full", path=tmp_path)

    with open_rag(tmp_path, cache=Stuck()) as rag:
        with pytest.raises(StorageError, match="disk is full"):
            rag.add(leanrag.Document(PARK, id="park"))
        assert rag.stats().documents == 0


def test_another_document_leaves_an_answer_usable_when_the_evidence_is_the_same(tmp_path):
    model = FakeModel(RIGHT)
    with open_rag(tmp_path, model=model, cache="exact", k=1) as rag:
        rag.add(leanrag.Document(PARK, id="park"), leanrag.Document(NILE, id="nile"))
        first = rag.ask(QUESTION)
        rag.add_text("Bananas are yellow.", id="bananas")
        second, third = rag.ask(QUESTION), rag.ask("  Who signs off\nthe releases? ")
    assert [stage.details.get("tier") for answer in (first, second, third) for stage in answer.trace if stage.name == "cache"] == [
        None, None, None, "evidence", "exact",
    ]  # fmt: skip
    assert (len(model.prompts), second.text, second.usage.total_tokens, second.cost) == (1, first.text, 0, 0.0)


def test_an_edited_document_is_answered_anew(tmp_path):
    model = FakeModel(lambda prompt: "Releases are signed off by Bo." if "Bo" in prompt else RIGHT)
    with open_rag(tmp_path, model=model, cache="exact") as rag:
        rag.add(leanrag.Document(PARK, id="park"))
        assert rag.ask(QUESTION).text.startswith(RIGHT[:-1])
        rag.add(leanrag.Document("Releases are signed off by Bo.", id="park"))
        assert rag.ask(QUESTION).text.startswith("Releases are signed off by Bo")


def test_a_copied_folder_has_its_own_answers(tmp_path):
    cache = AnswerCache()
    texts = {"a": "Releases are signed off by Ada.", "b": "Releases are signed off by Bo."}
    for name, text in texts.items():
        with open_rag(tmp_path / name, model=FakeModel(text), cache=cache) as rag:
            rag.add_text(text, id="same")
            assert rag.ask(QUESTION).text.startswith(text[:-1])


# Many at once


def test_a_stream_left_half_way_does_not_block_the_same_question(tmp_path):
    with open_rag(tmp_path, model=FakeModel(RIGHT), cache="exact") as rag:
        rag.add(leanrag.Document(PARK, id="park"))
        stream = rag.stream(QUESTION)
        assert rag.ask(QUESTION).text == stream.answer.text


def test_a_failed_question_lets_the_next_one_compute(tmp_path):
    replies = iter([leanrag.GenerationError("no power"), RIGHT])

    def reply(prompt):
        value = next(replies)
        if isinstance(value, Exception):
            raise value
        return value

    with open_rag(tmp_path, model=FakeModel(reply), cache="exact") as rag:
        rag.add(leanrag.Document(PARK, id="park"))
        with pytest.raises(leanrag.GenerationError, match="no power"):
            rag.ask(QUESTION)
        assert rag.ask(QUESTION).text.startswith(RIGHT[:-1])


def test_a_cancelled_wait_goes_on_without_the_lock(tmp_path):
    locks, cancel = KeyLocks(tmp_path / "locks"), CancelToken()
    cancel.cancel()
    order = []

    def wait():
        with locks.hold("a", is_cancelled=lambda: cancel.cancelled):
            order.append("other")

    with locks.hold("a"):
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
        order.append("holder")
    assert order == ["other", "holder"]
    assert list((tmp_path / "locks").iterdir()) == []


HOLD = """
import sys
from pathlib import Path
from leanrag.caching.waiting import KeyLocks
with KeyLocks(Path(sys.argv[1])).hold("a"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.slow
def test_a_lock_is_held_against_other_processes_and_freed_by_their_death(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "held\n"
    looks = []

    def give_up():
        looks.append(1)
        return len(looks) > 3

    with KeyLocks(tmp_path).hold("a", is_cancelled=give_up):
        assert len(looks) > 3  # it gave up waiting
    child.kill()
    child.communicate()
    looks.clear()
    with KeyLocks(tmp_path).hold("a", is_cancelled=give_up):
        assert len(looks) <= 1


# The file


def test_a_damaged_file_is_moved_aside(tmp_path, answer, caplog):
    path = tmp_path / "answers.db"
    path.write_bytes(b"not a database" * 100)
    with caplog.at_level(logging.WARNING), AnswerCache(path) as cache:
        cache.put(KEY, answer)
        assert cache.get(KEY) == answer
    assert "damaged" in caplog.text
    assert path.with_name("answers.db.damaged").read_bytes().startswith(b"not a database")


def test_a_file_of_another_version_or_program_is_refused(tmp_path):
    path = tmp_path / "answers.db"
    AnswerCache(path).close()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StorageError, match="has version 99"):
        AnswerCache(path)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("PRAGMA application_id = 1")
    with pytest.raises(StorageError, match=r"answer cache .* is another kind of database"):
        AnswerCache(path)


def test_a_cache_that_fails_never_fails_a_question(tmp_path, caplog):
    cache = AnswerCache(tmp_path / "answers.db")
    with open_rag(tmp_path / "kb", cache=cache) as rag:
        rag.add(leanrag.Document(PARK, id="park"))
        cache.close()
        assert rag.ask(QUESTION).text.startswith(RIGHT[:-1])
    assert "computed without the cache" in caplog.text


def test_an_unreadable_entry_is_computed_again(tmp_path, answer, caplog):
    path = tmp_path / "answers.db"
    with AnswerCache(path) as cache:
        cache.put(KEY, answer)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE answers SET value = x'00'")
    with AnswerCache(path) as cache:
        assert cache.get(KEY) is None
        cache.put(KEY, numbered(answer, 7))
        assert cache.get(KEY).text == "answer 7"
    assert "cannot be read" in caplog.text


def test_an_unreadable_entry_does_not_keep_the_same_answer_out(tmp_path, answer):
    path = tmp_path / "answers.db"
    with AnswerCache(path) as cache:
        cache.put(KEY, answer)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE answers SET value = x'00'")
    with AnswerCache(path) as cache:
        assert cache.get(KEY) is None
        cache.put(KEY, answer)
    with AnswerCache(path) as cache:
        assert cache.get(KEY) == answer


def test_a_cache_that_nobody_closed_is_closed_when_it_is_forgotten(tmp_path):
    cache = AnswerCache(tmp_path / "answers.db")
    connection = cache._file._connection
    del cache
    gc.collect()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


@pytest.mark.parametrize("options", [{"ttl_seconds": 0}, {"max_bytes": 0}])
def test_arguments_out_of_range_are_refused(options):
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        AnswerCache(**options)


def test_open_names_the_caches_that_it_knows(tmp_path):
    with pytest.raises(ConfigurationError, match="'exact'"):
        leanrag.open(tmp_path, model=FakeModel(), embedder=HashEmbedder(), cache="redis")
