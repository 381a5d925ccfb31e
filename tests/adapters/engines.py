"""Vector engines that the tests start: PostgreSQL of the wheel `pgserver`, and Qdrant Edge behind the methods of a client."""

import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

STOP = """
import contextlib, os, shutil, signal, sys
sys.stdin.read()  # ends when the tests do, also when they are killed
with contextlib.suppress(ProcessLookupError):
    os.kill(int(sys.argv[1]), signal.SIGQUIT)  # at once: nothing of it is needed any more
shutil.rmtree(sys.argv[2], ignore_errors=True)
"""


@contextlib.contextmanager
def running_postgres() -> Iterator[str]:
    """Start a PostgreSQL that has pgvector, yield its address, and stop it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a variable for its socket that need not be set
        import pgserver
    import psutil
    import psycopg

    folder = Path(tempfile.mkdtemp(prefix="leanrag-postgres-"))
    try:
        server = pgserver.get_server(folder, cleanup_mode="stop")
        command = [sys.executable, "-c", STOP, str(server.get_pid()), str(folder)]
        stopper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        try:
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute("ALTER SYSTEM SET fsync = off")
                connection.execute("SELECT pg_reload_conf()")
            yield server.get_uri()
        finally:
            process = psutil.Process(server.get_pid())
            process.send_signal(signal.SIGQUIT)
            process.wait(30)
            server.cleanup()
            stopper.communicate()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class EdgeClient:
    """The methods of `QdrantClient` that the adapter calls, on shards of Qdrant Edge in a folder: the engine without a server."""

    def __init__(self, folder: Path) -> None:
        import qdrant_edge

        self._edge, self._folder = qdrant_edge, Path(folder)
        self._shards = {path.name: qdrant_edge.EdgeShard.load(str(path)) for path in self._folder.iterdir()}

    def close(self) -> None:
        for shard in self._shards.values():
            shard.close()
        self._shards = {}

    def info(self):
        return types.SimpleNamespace(version="1.18.0")

    def collection_exists(self, name):
        return name in self._shards

    def create_collection(self, name, *, vectors_config):
        from qdrant_client.models import Distance

        edge, distance = self._edge, vectors_config.distance
        distances = {Distance.COSINE: edge.Distance.Cosine, Distance.DOT: edge.Distance.Dot}
        parameters = edge.EdgeVectorParams(size=vectors_config.size, distance=distances[distance])
        path = self._folder / name
        path.mkdir()
        self._shards[name] = edge.EdgeShard.create(str(path), edge.EdgeConfig(vectors=parameters))
        (path / "distance").write_text(f"{vectors_config.size} {distance.value}")

    def delete_collection(self, name):
        self._shards.pop(name).close()
        shutil.rmtree(self._folder / name)

    def get_collection(self, name):
        size, distance = (self._folder / name / "distance").read_text().split()
        vectors = types.SimpleNamespace(size=int(size), distance=distance)
        return types.SimpleNamespace(config=types.SimpleNamespace(params=types.SimpleNamespace(vectors=vectors)))

    def create_payload_index(self, name, field, kind, *, wait):
        assert wait
        assert kind == "integer"
        schema = self._edge.PayloadSchemaType.Integer
        self._shards[name].update(self._edge.UpdateOperation.create_field_index(field, schema))

    def retrieve(self, name, ids, *, with_payload):
        return self._shards[name].retrieve(ids, with_payload=with_payload, with_vector=False)

    def upsert(self, name, points, *, wait):
        assert wait
        if isinstance(points, list):
            rows = [(point.id, point.vector, point.payload) for point in points]
        else:
            rows = zip(points.ids, points.vectors, points.payloads, strict=True)
        self._shard(name).update(self._edge.UpdateOperation.upsert_points([self._edge.Point(*row) for row in rows]))

    def delete(self, name, selector, *, wait):
        assert wait
        operations = self._edge.UpdateOperation
        if hasattr(selector, "points"):
            self._shard(name).update(operations.delete_points(selector.points))
        else:
            self._shard(name).update(operations.delete_points_by_filter(self._filter(selector)))

    def count(self, name, *, exact):
        return types.SimpleNamespace(count=self._shard(name).count(self._edge.CountRequest(exact=exact)))

    def query_batch_points(self, name, requests):
        edge, responses = self._edge, []
        for request in requests:
            found = self._shard(name).search(
                edge.SearchRequest(
                    edge.Query.Nearest(request.query),
                    request.limit,
                    filter=None if request.filter is None else self._filter(request.filter),
                    params=edge.SearchParams(hnsw_ef=request.params.hnsw_ef, exact=request.params.exact),
                )
            )
            responses.append(types.SimpleNamespace(points=found))
        return responses

    def _shard(self, name):
        if name not in self._shards:
            raise ValueError(f"Collection {name} not found")
        return self._shards[name]

    def _filter(self, condition):
        parts = {name: getattr(condition, name) for name in ("must", "should", "must_not")}
        return self._edge.Filter(
            **{name: None if found is None else list(map(self._condition, found)) for name, found in parts.items()}
        )

    def _condition(self, condition):
        if hasattr(condition, "has_id"):
            return self._edge.HasIdCondition(set(condition.has_id))
        if hasattr(condition, "match"):
            return self._edge.FieldCondition(condition.key, match=self._edge.MatchAny(condition.match.any))
        return self._filter(condition)
