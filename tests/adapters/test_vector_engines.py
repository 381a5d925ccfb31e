"""The suites of `vector_index_contract.py` on our indexes, on real engines that the tests start, and on stand-ins of clients."""

import contextlib
import http.server
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
import types

import pytest

from leanrag import ConfigurationError, IndexMismatchError
from leanrag.errors import EngineError
from leanrag.retrieval.growing_index import GrowingIndex
from leanrag.retrieval.index import FaissIndex
from tests.adapters.engines import EdgeClient
from tests.adapters.vector_index_contract import (
    DIM,
    EngineContract,
    VectorIndexContract,
    check_same,
    clustered,
    fill,
    open_store,
    put,
)

pytestmark = pytest.mark.slow  # starts engines

NOWHERE = "127.0.0.1:9"  # a port without a server


class TestFaissIndex(VectorIndexContract):
    @pytest.fixture
    def argument(self):
        return FaissIndex

    @pytest.fixture
    def make_index(self, argument):
        return lambda: argument(DIM)


class TestGrowingIndex(TestFaissIndex):
    @pytest.fixture
    def argument(self):
        return GrowingIndex


# PostgreSQL, the real server

_names = itertools.count()


DELIVER = """
import sys
from leanrag.adapters import PgVectorIndex
from leanrag.retrieval import engine_index
from leanrag.retrieval.store import Store

engine_index._BATCH = 10
store, index = Store(sys.argv[1]), PgVectorIndex(sys.argv[2], collection=sys.argv[3])
write = index._engine.write

def say(*arguments):
    write(*arguments)
    print("written", flush=True)

index._engine.write = say
index.update(store)
"""


class TestPgVectorIndex(EngineContract):
    @pytest.fixture
    def table(self):
        return f"vectors{next(_names)}"

    @pytest.fixture
    def make_index(self, postgres, table):
        from leanrag.adapters import PgVectorIndex

        with contextlib.ExitStack() as indexes:
            yield lambda collection="kb", **options: indexes.enter_context(
                PgVectorIndex(postgres, collection=f"{table}_{collection}", **options)
            )

    @pytest.fixture
    def down(self):
        from leanrag.adapters import PgVectorIndex

        return PgVectorIndex(f"postgresql://user:secret@{NOWHERE}/kb")

    def test_a_server_that_was_started_again_is_reached(self, make_index, store, execute, monkeypatch):
        from leanrag.adapters import _postgres

        monkeypatch.setattr(_postgres, "_IDLE_SECONDS", -1)
        fill(store)
        index = make_index()
        index.update(store)
        execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        check_same(index, store)

    def test_a_process_that_is_killed_while_it_sends_loses_nothing(self, make_index, store, postgres, table, tmp_path):
        put(store, "large", clustered(300))
        command = [sys.executable, "-c", DELIVER, str(tmp_path / "kb"), postgres, f"{table}_kb"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        said = [process.stdout.readline() for _ in range(5)]
        process.kill()
        process.communicate()
        assert said[-1].strip() == "written"
        check_same(make_index(), store)

    def test_a_server_that_is_busy_is_not_waited_for(self, make_index, store, postgres, table):
        import psycopg

        fill(store)
        index = make_index(timeout_seconds=0.1)
        index.update(store)
        with psycopg.connect(postgres) as connection:
            connection.execute(f"LOCK TABLE {table}_kb")
            with pytest.raises(EngineError, match=r"did not answer within 0.1 s.*`timeout_seconds`") as raised:
                index.search(clustered(1), 3)
            assert raised.value.retryable
        check_same(index, store)

    @pytest.mark.parametrize("idle", [-1, 1000], ids=["tried first", "used at once"])
    def test_a_server_that_hangs_is_not_waited_for(self, make_index, store, execute, monkeypatch, idle):
        from leanrag.adapters import _postgres

        fill(store)
        index = make_index(timeout_seconds=0.1)
        index.update(store)
        monkeypatch.setattr(_postgres, "_IDLE_SECONDS", idle)
        monkeypatch.setattr(_postgres, "_GRACE_SECONDS", 0.1)
        pids = [
            row[0]
            for row in execute(
                "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        ]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            if idle < 0:  # another connection is made
                check_same(index, store)
            else:
                with pytest.raises(EngineError, match=r"did not answer within 0\.1 s"):
                    index.search(clustered(1), 3)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        check_same(index, store)

    def test_a_full_disk_is_named(self, make_index, store, execute, table):
        fill(store)
        make_index().update(store)
        execute(
            "CREATE FUNCTION pg_temp.fail() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
        )
        execute(f"CREATE TRIGGER full_disk BEFORE INSERT ON {table}_kb EXECUTE FUNCTION pg_temp.fail()")
        put(store, "e", clustered(2))
        with pytest.raises(EngineError, match=r"could not extend file.*Free space") as raised:
            make_index().update(store)
        assert raised.value.retryable
        execute(f"DROP TRIGGER full_disk ON {table}_kb")
        check_same(make_index(), store)

    def test_an_old_version_is_refused(self, make_index, store, execute):
        make_index().update(store)
        try:
            execute("UPDATE pg_extension SET extversion = '0.4.4' WHERE extname = 'vector'")
            with pytest.raises(EngineError, match=r"pgvector 0\.4\.4.*0\.5 or later.*ALTER EXTENSION"):
                make_index().update(store)
        finally:
            execute("UPDATE pg_extension SET extversion = '0.6.2' WHERE extname = 'vector'")

    def test_another_metric_and_another_table_are_refused(self, make_index, store, execute, table):
        fill(store)
        make_index().update(store)
        execute(f"DROP INDEX {table}_kb_by_vector")
        execute(f"CREATE INDEX {table}_kb_by_vector ON {table}_kb USING hnsw (vector vector_l2_ops)")
        with pytest.raises(IndexMismatchError, match=r"another metric.*vector_l2_ops.*Drop that index"):
            make_index().update(store)
        execute(f"CREATE TABLE {table}_theirs (id int)")
        with pytest.raises(IndexMismatchError, match=r"was not made by leanrag.*Name another collection"):
            make_index(collection="theirs").update(store)

    def test_a_user_without_rights_is_told(self, store, postgres, execute):
        from leanrag.adapters import PgVectorIndex

        execute("DROP ROLE IF EXISTS reader")
        execute("CREATE ROLE reader LOGIN")
        with (
            PgVectorIndex(postgres.replace("postgres:", "reader:"), collection="denied") as index,
            pytest.raises(EngineError, match=r"permission denied.*Grant the user"),
        ):
            index.update(store)

    def test_more_columns_than_a_graph_can_have(self, make_index, tmp_path):
        with open_store(tmp_path / "wide", 2001) as store:
            put(store, "a", clustered(5, 2001))
            check_same(make_index(collection="wide"), store)

    def test_a_word_of_sql_is_a_name(self, postgres, execute, store):
        from leanrag.adapters import PgVectorIndex

        fill(store)
        with PgVectorIndex(postgres, collection="user") as index:
            check_same(index, store)
        execute('DROP TABLE "user", user_state')

    @pytest.mark.parametrize("options", [{"collection": "a; DROP TABLE b"}, {"timeout_seconds": 0}])
    def test_arguments_out_of_range_are_refused(self, postgres, options):
        from leanrag.adapters import PgVectorIndex

        with pytest.raises(ConfigurationError, match=next(iter(options))):
            PgVectorIndex(postgres, **options)
        with pytest.raises(ConfigurationError, match="cannot be read") as raised:
            PgVectorIndex("postgresql://user:secret@[::/kb")
        assert "secret" not in str(raised.value)


# Qdrant: the real engine in this process, and the stand-in of its client


class QdrantContract(EngineContract):
    """A subclass has a fixture `client`."""

    @pytest.fixture
    def make_index(self, client):
        from leanrag.adapters import QdrantIndex

        return lambda collection="kb", server=client: QdrantIndex(server, collection=collection)

    @pytest.fixture
    def down(self):
        from leanrag.adapters import QdrantIndex

        with QdrantIndex(f"http://{NOWHERE}", api_key="secret") as index:
            yield index

    def test_an_old_version_is_refused(self, make_index, client, store, monkeypatch):
        monkeypatch.setattr(client, "info", lambda: types.SimpleNamespace(version="1.9.7"), raising=False)
        with pytest.raises(EngineError, match=r"version 1\.9\.7.*1\.10 or later.*Upgrade"):
            make_index().update(store)

    def test_another_metric_is_refused(self, make_index, client, store):
        from qdrant_client import models

        client.create_collection("kb", vectors_config=models.VectorParams(size=DIM, distance=models.Distance.DOT))
        with pytest.raises(IndexMismatchError, match=r"metric Dot.*needs Cosine.*Name another collection"):
            make_index().update(store)

    def test_a_collection_that_vanished_is_filled_again(self, make_index, client, store):
        fill(store)
        index = make_index()
        index.update(store)
        client.delete_collection("kb")
        with pytest.raises(EngineError, match="not found"):
            index.search(clustered(1), 3)
        check_same(index, store)

    @pytest.mark.parametrize("options", [{"collection": "a/b"}, {"timeout_seconds": 0}])
    def test_arguments_out_of_range_are_refused(self, client, options):
        from leanrag.adapters import QdrantIndex

        with pytest.raises(ConfigurationError, match=next(iter(options))):
            QdrantIndex(client, **options)


class TestQdrantEdge(QdrantContract):
    """The engine of Qdrant itself, without a server."""

    @pytest.fixture
    def client(self, tmp_path):
        pytest.importorskip("qdrant_client")
        pytest.importorskip("qdrant_edge")
        (tmp_path / "qdrant").mkdir()
        with contextlib.closing(EdgeClient(tmp_path / "qdrant")) as client:
            yield client

    def test_rows_are_on_disk(self, make_index, client, store, tmp_path):
        fill(store)
        make_index().update(store)
        client.close()
        with contextlib.closing(EdgeClient(tmp_path / "qdrant")) as again:
            check_same(make_index(server=again), store)


@pytest.mark.filterwarnings("ignore:Local mode performs exact", "ignore:Payload indexes have no effect")
class TestQdrantStandIn(QdrantContract):
    """`QdrantClient(":memory:")`: the calls of the client, on an imitation of the engine in Python."""

    @pytest.fixture
    def client(self):
        package = pytest.importorskip("qdrant_client")
        with contextlib.closing(package.QdrantClient(":memory:")) as client:
            yield client


class _Replies(http.server.BaseHTTPRequestHandler):
    """Answers each request with the `status` and the `text` of the server; never, if there is no status."""

    def reply(self):
        if self.server.status is None:
            self.server.stopped.wait(30)
            return
        body = json.dumps({"status": {"error": self.server.text}}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = reply  # noqa: N815 - names of the base class

    def log_message(self, *_):
        """Print nothing."""


@contextlib.contextmanager
def replying(status, text=""):
    """Start a server that fails, and yield its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Replies) as server:
        server.status, server.text, server.stopped = status, text, threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.stopped.set()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "text", "message", "is_retryable"),
    [
        (401, "Invalid API key", r"status 401.*Pass the right `api_key`", False),
        (500, "No space left on device", r"status 500.*No space left.*Free space", True),
        (503, "overloaded", r"status 503.*The log of the server", True),
        (None, "", r"did not answer within 1 s.*`timeout_seconds`", True),
    ],
)
def test_failures_of_a_qdrant_server_are_named(tmp_path, status, text, message, is_retryable):
    pytest.importorskip("qdrant_client")
    from leanrag.adapters import QdrantIndex

    with (
        replying(status, text) as address,
        QdrantIndex(f"http://{address}", timeout_seconds=1) as index,
        open_store(tmp_path / "kb") as store,
        pytest.raises(EngineError, match=message) as raised,
    ):
        index.update(store)
    assert raised.value.retryable is is_retryable
    assert address in str(raised.value)


# Milvus: the stand-in of its client


@pytest.fixture(scope="session")
def milvus(tmp_path_factory):
    package = pytest.importorskip("pymilvus")
    pytest.importorskip("milvus_lite")
    from pymilvus.client import grpc_handler

    # the client sleeps for half a second before it asks whether the index of a new collection is ready
    hasty = types.SimpleNamespace(**{**vars(time), "sleep": lambda seconds: time.sleep(seconds / 100)})
    path = str(tmp_path_factory.mktemp("milvus") / "milvus.db")
    with pytest.MonkeyPatch.context() as patch, contextlib.closing(package.MilvusClient(path)) as client:
        patch.setattr(grpc_handler, "time", hasty)
        yield client


@pytest.mark.slow  # the client and the imitation take two seconds to import
class TestMilvusStandIn(EngineContract):
    """`milvus-lite`: the calls of the client, on an imitation of the server in Python."""

    @pytest.fixture
    def client(self, milvus):
        return milvus

    @pytest.fixture
    def make_index(self, client):
        from leanrag.adapters import MilvusIndex

        name = f"vectors{next(_names)}"
        return lambda collection="kb": MilvusIndex(client, collection=f"{name}_{collection}")

    @pytest.fixture
    def down(self):
        pytest.importorskip("pymilvus")
        from leanrag.adapters import MilvusIndex

        with MilvusIndex(f"http://{NOWHERE}", token="user:secret", timeout_seconds=0.5) as index:
            yield index

    def test_an_old_version_is_refused(self, make_index, client, store, monkeypatch):
        monkeypatch.setattr(client, "get_server_version", lambda **_: "2.3.9")
        with pytest.raises(EngineError, match=r"version 2\.3\.9.*2\.4 or later.*Upgrade"):
            make_index().update(store)

    def test_a_document_with_too_much_metadata_is_named(self, make_index, store):
        put(store, "a", clustered(1), many=list(range(5000)))
        with pytest.raises(EngineError, match=r"at most 4096 tags.*Remove some"):
            make_index().update(store)

    @pytest.mark.parametrize("options", [{"collection": "a b"}, {"timeout_seconds": 0}])
    def test_arguments_out_of_range_are_refused(self, client, options):
        from leanrag.adapters import MilvusIndex

        with pytest.raises(ConfigurationError, match=next(iter(options))):
            MilvusIndex(client, **options)
