"""Real clusters of Ray on this machine: machines are killed while documents are added and while questions are answered."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

import leanrag
from benchmarks.scale_out.machines import ROOT, free_port, running_machines
from leanrag import RemoteModel
from leanrag.errors import ConfigurationError, ShardError, StorageError
from leanrag.remote.waiting import Retry
from leanrag.retrieval.resharding import divide_corpus
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import Message
from tests.adapters.ray_stand_ins import WaitingEmbedder, find_location, open_app, wait_for

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of Ray


@pytest.fixture(scope="module")
def cluster():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_health_check_period_ms", "500")  # a killed machine is noticed sooner
        with running_machines(0, cpus=1) as machines:
            yield machines


@pytest.fixture
def machines(cluster):
    """Two machines, whatever an earlier test killed."""
    while len(cluster.nodes) < 2:
        cluster.add()
    return cluster


def kill(machines, location):
    """Kill a machine, and the process that works there: Ray would end it a moment later."""
    machines.kill(location.node)
    with contextlib.suppress(ProcessLookupError):
        os.kill(location.process, signal.SIGKILL)


@pytest.fixture
def signals(tmp_path):
    folder = tmp_path / "signals"
    folder.mkdir()
    return folder


def content(rag) -> tuple:
    ids, vectors = rag._store.all_vectors()
    chunks = [chunk.id for chunk in rag._store.get_chunks(ids.tolist())]
    return rag._store.content_hash(), dict(zip(chunks, vectors.tolist(), strict=True))


def test_a_machine_killed_while_adding_loses_and_doubles_nothing(machines, signals, tmp_path):
    from leanrag.adapters.ray import RayWorkers

    docs = tmp_path / "docs"
    docs.mkdir()
    for i in range(24):
        (docs / f"{i}.md").write_text(f"# Topic {i}\n\nThe apple {i} is red.\n\n" + "Filler words here. " * 80)
    (docs / "bad.pdf").write_bytes(b"%PDF-1.4 broken")
    workers = RayWorkers(functools.partial(WaitingEmbedder, str(signals)), actors=2, cpus=0.5)
    options = {"embedder": HashEmbedder(), "model": FakeModel()}
    with (
        leanrag.open(tmp_path / "here", **options) as here,
        leanrag.open(tmp_path / "there", workers=workers, **options) as there,
        ThreadPoolExecutor(1) as pool,
    ):
        adding = pool.submit(there.add, docs)
        try:
            kill(machines, wait_for(lambda: find_location(signals), "embedding"))
        finally:
            (signals / "go").touch()
        report = adding.result()
        assert [len(report.added), [Path(failure.source).name for failure in report.failed]] == [24, ["bad.pdf"]]
        here.add(docs)
        assert content(there) == content(here)
        assert len(there.add(docs).unchanged) == 24


def test_shards_on_actors_are_searched_as_shards_here(machines, tmp_path):
    from leanrag.adapters.ray import RayShards

    options = {"embedder": HashEmbedder(), "model": FakeModel("The apple is red [1].")}
    with leanrag.open(tmp_path / "kb", **options) as rag:
        for i in range(8):
            rag.add_text(f"The apple number {i} is red.", id=f"d{i}")
    divide_corpus(tmp_path / "kb", 2)
    with (
        leanrag.open(tmp_path / "kb", **options) as here,
        leanrag.open(tmp_path / "kb", open_shard=RayShards(cpus=0.5, restarts=0), **options) as there,
    ):
        expected = {hit.chunk.id: hit.score for hit in here.search("apple number 3")}
        assert {hit.chunk.id: hit.score for hit in there.search("apple number 3")} == pytest.approx(expected)
        assert there.ask("What is the apple?").citations
        with pytest.raises(StorageError, match="only reads"):
            there.add_text("new")
    with leanrag.open(
        tmp_path / "kb", open_shard=RayShards(cpus=0.2, restarts=0), missing_shards="partial", **options
    ) as there:
        there.search("apple")
        ray.kill(there._store.parts()[0]._actor)
        wait_for(lambda: len(there.search("apple")) < 8, "the loss of a shard")
        assert there.ask("apple?").is_partial
    with pytest.raises(ConfigurationError, match="is not divided"):
        leanrag.open(tmp_path / "plain", open_shard=RayShards(), **options)
    assert issubclass(ShardError, StorageError)


def test_replicas_start_under_load_survive_a_killed_machine_and_stop_when_idle(machines, signals, tmp_path):
    from ray import serve

    from leanrag.serving.on_ray import make_application

    with leanrag.open(tmp_path / "kb", embedder=HashEmbedder(), model=FakeModel()) as rag:
        rag.add_text("The apple is red.")
    opener = functools.partial(open_app, str(tmp_path / "kb"), str(signals))
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port}, proxy_location="HeadOnly")
    application = make_application(opener, min_replicas=0, max_replicas=2, requests=2, keep_alive=2.0, poll_seconds=0.5)
    model = RemoteModel(
        "kb", base_url=f"http://127.0.0.1:{port}/v1", n_ctx=2048, retry=Retry(max_retries=8, breaker_failures=99)
    )

    def running() -> int:
        states = serve.status().applications["leanrag"].deployments["leanrag"].replica_states
        return sum(count for state, count in states.items() if state == "RUNNING")

    def ask(question: str) -> str:
        return model.generate([Message("user", question)], max_tokens=50).text

    try:
        serve.run(application, name="leanrag", route_prefix="/", logging_config={"log_level": "CRITICAL"})
        assert running() == 1
        with ThreadPoolExecutor(8) as pool:
            waiting = [pool.submit(ask, f"Is the slow apple {i} red?") for i in range(8)]
            try:
                wait_for(lambda: running() == 2, "a second replica")
                kill(machines, wait_for(lambda: find_location(signals), "a question"))
            finally:
                (signals / "go").touch()
            assert [future.result() for future in waiting] == ["The apple is red [1]."] * 8
        wait_for(lambda: running() == 0, "the end of all replicas")
        assert ask("What colour is the apple?") == "The apple is red [1]."  # a replica starts for it
    finally:
        model.close()
        serve.shutdown()


def test_the_committed_file_of_ray_serve_is_valid():
    from ray.serve.schema import ServeDeploySchema

    from leanrag.serving.on_ray import ReplicaSettings, answer_application

    fields = yaml.safe_load((ROOT / "deploy" / "ray_serve.yaml").read_text(encoding="utf-8"))
    application = ServeDeploySchema.model_validate(fields).applications[0]
    assert application.import_path == "leanrag.serving.on_ray:answer_application"
    assert ReplicaSettings.model_validate(application.args).folders == {"handbook": "/shared/handbook"}
    assert answer_application(application.args) is not None
    with pytest.raises(ConfigurationError, match="the setting 'replicas' of the replicas is 3"):
        answer_application({**application.args, "replicas": 3})
    with pytest.raises(ConfigurationError, match="must be at most `max_replicas`"):
        answer_application({**application.args, "min_replicas": 9})
