"""Caches in a real redis-server, that the tests start, and that dies under them."""

import contextlib
import shutil
import signal
import subprocess

import pytest

import leanrag
from leanrag import ConfigurationError, StorageError
from leanrag.caching import CachedEmbedder
from leanrag.testing import FakeModel, HashEmbedder
from tests.caching.suite import KEY, AnswerCacheSuite, ResultsSuite
from tests.stories import PARK, QUESTION, RIGHT, open_rag

redis = pytest.importorskip("redis")
PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="no redis-server is installed")


@contextlib.contextmanager
def running(folder):
    """Start a server on a socket in `folder`, and yield its process and address."""
    socket = folder / "redis.sock"
    command = [
        PROGRAM,
        "--port",
        "0",
        "--unixsocket",
        str(socket),
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        str(folder),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if "ready to accept connections" in line.lower():
                break
        yield process, f"unix://{socket}"
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with running(tmp_path_factory.mktemp("redis")) as (_, address):
        yield address


@pytest.fixture
def client(address):
    with contextlib.closing(redis.Redis.from_url(address)) as client:
        client.flushall()
        yield client


@pytest.fixture
def make_cache(client, address):
    from leanrag.adapters import RedisAnswerCache

    with contextlib.ExitStack() as caches:
        yield lambda **options: caches.enter_context(RedisAnswerCache(address, **options))


class TestRedisAnswerCache(AnswerCacheSuite):
    def test_answers_and_lists_of_documents_expire(self, make_cache, client, answer):
        make_cache(ttl_seconds=100).put(KEY, answer)
        times = {name.split(b":")[2]: client.pttl(name) for name in client.keys("*")}
        assert 0 < times[b"answer"] <= 100_000 < times[b"document"]

    def test_an_unreadable_answer_is_computed_again(self, make_cache, client, answer, caplog):
        cache = make_cache()
        cache.put(KEY, answer)
        (name,) = client.keys("*answer*")
        client.set(name, b"nonsense")
        assert cache.get(KEY) is None
        assert not client.exists(name)
        assert "cannot be read" in caplog.text

    def test_the_lock_of_a_process_that_died_ends(self, make_cache, client):
        cache = make_cache()
        with cache.computing(KEY, leanrag.CancelToken()):
            (name,) = client.keys("*:lock")
            assert 0 < client.pttl(name) <= 30_000
        assert client.keys("*:lock") == []

    def test_a_client_of_the_user_stays_open(self, client, answer):
        from leanrag.adapters import RedisAnswerCache

        with RedisAnswerCache(client) as cache:
            cache.put(KEY, answer)
        assert client.ping()
        assert cache.get(KEY) == answer


class TestRedisResults(ResultsSuite):
    @pytest.fixture
    def make_results(self, client, address):
        from leanrag.adapters import RedisResults

        with contextlib.ExitStack() as results:
            yield lambda **options: results.enter_context(contextlib.closing(RedisResults(address, **options)))

    def test_a_namespace_does_not_see_the_results_of_another(self, make_results):
        one, two = make_results(namespace="one"), make_results(namespace="two")
        one.put_many({b"a": b"1"})
        assert (one.get(b"a"), two.get(b"a")) == (b"1", None)

    def test_a_result_that_is_used_stays(self, make_results, client):
        results = make_results(ttl_seconds=100)
        results.put_many({b"a": b"1"})
        (name,) = client.keys("*:result:*")
        client.pexpire(name, 5_000)
        results.get(b"a")
        assert 50_000 < client.pttl(name) <= 100_000

    def test_a_damaged_result_is_missing(self, make_results, client):
        results = make_results()
        results.put_many({b"a": b"1"})
        (name,) = client.keys("*:result:*")
        client.setrange(name, 8, b"2")
        assert results.get(b"a") is None

    def test_a_client_of_the_user_stays_open(self, client):
        from leanrag.adapters import RedisResults

        results = RedisResults(client)
        results.put_many({b"a": b"1"})
        results.close()
        assert results.get(b"a") == b"1"


def test_results_are_computed_while_the_server_is_down(tmp_path, caplog):
    from leanrag.adapters import RedisResults

    embedder = CachedEmbedder(HashEmbedder(), RedisResults(f"unix://{tmp_path}/none.sock"))
    assert embedder.embed_queries(["a"]).tolist() == HashEmbedder().embed_queries(["a"]).tolist()
    assert "computed without Redis" in caplog.text
    assert "not stored in Redis" in caplog.text


def test_a_server_that_dies_does_not_fail_a_question(tmp_path, caplog):
    from leanrag.adapters import RedisAnswerCache

    (tmp_path / "redis").mkdir()
    with running(tmp_path / "redis") as (process, address), RedisAnswerCache(address) as cache:

        def reply(prompt):  # the server dies while the model works
            process.kill()
            process.wait()
            return RIGHT

        with open_rag(tmp_path / "kb", model=FakeModel(reply), cache=cache) as rag:
            rag.add(leanrag.Document(PARK, id="park"))
            for _ in range(2):
                assert rag.ask(QUESTION).text.startswith(RIGHT[:-1])
            with pytest.raises(StorageError, match="Start the server"):
                rag.add(leanrag.Document("Other text.", id="park"))
        for call in (cache.stats, cache.clear):
            with pytest.raises(StorageError, match="Start the server"):
                call()
    assert "computed without Redis" in caplog.text


@pytest.mark.slow
def test_a_server_that_hangs_does_not_hold_a_question_up(tmp_path, caplog):
    from leanrag.adapters import RedisAnswerCache

    (tmp_path / "redis").mkdir()
    with (
        running(tmp_path / "redis") as (process, address),
        RedisAnswerCache(address, timeout_seconds=0.05) as cache,
        open_rag(tmp_path / "kb", cache=cache) as rag,
    ):
        rag.add(leanrag.Document(PARK, id="park"))
        process.send_signal(signal.SIGSTOP)
        assert rag.ask(QUESTION).text.startswith(RIGHT[:-1])
    assert "computed without" in caplog.text


@pytest.mark.parametrize("options", [{"ttl_seconds": 0}, {"max_bytes": 0}, {"timeout_seconds": -1}])
def test_arguments_out_of_range_are_refused(options):
    from leanrag.adapters import RedisAnswerCache, RedisResults

    for kind in (RedisAnswerCache, RedisResults):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            kind("redis://localhost", **options)
