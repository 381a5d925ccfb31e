"""Questions are answered by replicas on a Ray cluster: Ray Serve starts them, spreads requests over them and replaces them."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING, Any, Literal

import pydantic

import leanrag
from leanrag._optional import require
from leanrag.checks import check_at_least, check_whole, first_problem
from leanrag.errors import ConfigurationError, GenerationError
from leanrag.pipeline.loading import closed_with, load_embedder, load_language_model

if TYPE_CHECKING:
    from fastapi import FastAPI

    from leanrag.serving.service import Service

__all__ = ["ReplicaSettings", "answer_application", "make_application", "open_app", "run_on_ray"]

_NAME = "leanrag"
_DRAIN_SECONDS = 20.0

OpenApp = Callable[[], AbstractContextManager["FastAPI"]]
"""Opens what a replica answers with; the models are closed at the end of the block."""


class ReplicaSettings(pydantic.BaseModel):
    """What each replica answers with, and how many there are: the arguments of `answer_application` in a file of Ray Serve.

    Attributes:
        folders: Databases by the names that clients use. Every machine must reach them by the same path.
        model: Names or files of the models that answer, the smallest first; empty for the best on the machine.
        embedder: Name or folder of the embedder.
        keys_env: Environment variable of the replicas with the keys of the clients; without it, everybody who reaches the port may
            ask.
        can_add: Whether clients may add documents. Several replicas must not.
        missing_shards: As for `leanrag.open`.
        min_replicas: Replicas that stay when nobody asks; 0 to stop all after `keep_alive`.
        max_replicas: Most replicas.
        requests: Requests under way for each replica above which another replica is started.
        parallel: Most requests that a replica answers at the same time: its engine computes them together.
        keep_alive: Seconds without enough questions after which a replica stops.
        cpus: CPU cores of each replica.
        gpus: GPUs of each replica.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    folders: dict[str, str]
    model: tuple[str, ...] = ()
    embedder: str = "all-minilm-l6-v2"
    keys_env: str = "LEANRAG_KEYS"
    can_add: bool = False
    missing_shards: Literal["fail", "partial"] = "fail"
    min_replicas: int = pydantic.Field(default=0, ge=0)
    max_replicas: int = pydantic.Field(default=4, ge=1)
    requests: float = pydantic.Field(default=4.0, gt=0)
    parallel: int = pydantic.Field(default=16, ge=1)
    keep_alive: float = pydantic.Field(default=600.0, ge=0)
    cpus: float = pydantic.Field(default=1.0, ge=0)
    gpus: float = pydantic.Field(default=0.0, ge=0)

    @classmethod
    def of(cls, values: ReplicaSettings | Mapping[str, Any]) -> ReplicaSettings:
        """Return the settings with these values.

        Raises:
            ConfigurationError: A setting is unknown or out of range.
        """
        try:
            return cls.model_validate(values)
        except pydantic.ValidationError as error:
            where, problem, value = first_problem(error)
            raise ConfigurationError(
                f"the setting {where!r} of the replicas is {value!r:.100}, which is wrong: {problem}"
            ) from error


@contextlib.contextmanager
def open_app(settings: ReplicaSettings) -> Iterator[FastAPI]:
    """Open folders and models, and yield the HTTP application over them, the one of `leanrag serve`."""
    from leanrag.pipeline.defaults import cascade_of, default_models
    from leanrag.serving.app import create_app
    from leanrag.serving.keys import Keys

    with ExitStack() as stack:
        names = settings.model or default_models()
        models = {name: closed_with(stack, load_language_model(name)) for name in names}
        embedder = closed_with(stack, load_embedder(settings.embedder))
        folders = {
            name: stack.enter_context(
                leanrag.open(
                    path,
                    model=cascade_of(names, models),
                    embedder=embedder,
                    create=False,
                    missing_shards=settings.missing_shards,
                )
            )
            for name, path in settings.folders.items()
        }
        keys = Keys.parse(os.environ.get(settings.keys_env, ""), variable=settings.keys_env)
        yield create_app(folders, embedders={settings.embedder: embedder}, keys=keys, can_add=settings.can_add)


def answer_application(settings: ReplicaSettings | Mapping[str, Any]) -> Any:
    """Return the application of a file of Ray Serve, with `import_path: leanrag.serving.on_ray:answer_application`.

    Raises:
        ConfigurationError: A setting is unknown or out of range.
    """
    settings = ReplicaSettings.of(settings)
    return make_application(
        functools.partial(open_app, settings),
        min_replicas=settings.min_replicas,
        max_replicas=settings.max_replicas,
        requests=settings.requests,
        parallel=settings.parallel,
        keep_alive=settings.keep_alive,
        cpus=settings.cpus,
        gpus=settings.gpus,
    )


def make_application(
    open_app: OpenApp,
    *,
    min_replicas: int = 0,
    max_replicas: int = 4,
    requests: float = 4.0,
    parallel: int = 16,
    keep_alive: float = 600.0,
    cpus: float = 1.0,
    gpus: float = 0.0,
    poll_seconds: float = 10.0,
) -> Any:
    """Return an application for `ray.serve.run`: replicas that each hold folders and models.

    Requests of one replica are computed together by its engine, so Ray does not batch them. Replicas are added when more than
    `requests` of each are under way. A replica that is stopped takes no new requests and finishes those under way.

    Args:
        open_app: Opens what a replica answers with, such as the application of `leanrag.serving.app.create_app`. It runs on the
            machine of the replica.
        min_replicas: Replicas that stay when nobody asks; 0 to stop all after `keep_alive`.
        max_replicas: Most replicas.
        requests: Requests under way for each replica above which another replica is started.
        parallel: Most requests under way in a replica.
        keep_alive: Seconds without enough questions after which a replica stops.
        cpus: CPU cores of each replica.
        gpus: GPUs of each replica.
        poll_seconds: Seconds between two checks of the health of a replica.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigurationError: An argument is out of range.
    """
    check_whole(0, min_replicas=min_replicas)
    check_whole(1, max_replicas=max_replicas, parallel=parallel)
    check_at_least(0, keep_alive=keep_alive, cpus=cpus, gpus=gpus)
    if min_replicas > max_replicas:
        raise ConfigurationError(
            f"`min_replicas` must be at most `max_replicas`, got {min_replicas!r} and {max_replicas!r}"
        )
    serve = require("ray.serve", extra="ray", why="to answer on a cluster")
    deployment = serve.deployment(
        name=_NAME,
        max_ongoing_requests=parallel,
        autoscaling_config={
            "min_replicas": min_replicas,
            "initial_replicas": max(1, min_replicas),
            "max_replicas": max_replicas,
            "target_ongoing_requests": requests,
            "upscale_delay_s": min(2.0, poll_seconds),
            "downscale_delay_s": keep_alive,
            "downscale_to_zero_delay_s": keep_alive,
            "metrics_interval_s": min(1.0, poll_seconds),
            "look_back_period_s": min(5.0, max(2.0, poll_seconds)),
        },
        health_check_period_s=poll_seconds,
        health_check_timeout_s=3 * poll_seconds,
        graceful_shutdown_timeout_s=_DRAIN_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
        ray_actor_options={"num_cpus": cpus, "num_gpus": gpus},
    )(serve.ingress()(_Replica))
    return deployment.bind(open_app)


def run_on_ray(
    settings: ReplicaSettings,
    *,
    host: str,
    port: int,
    address: str | None = None,
    wait: Callable[[], object],
    on_start: Callable[[], None] = lambda: None,
) -> None:
    """Serve on a cluster until `wait` returns or raises; then the replicas finish their requests and stop.

    Args:
        settings: What answers, and how many replicas.
        host: Address that the proxy of each machine listens on.
        port: Its port.
        address: The cluster, such as "auto" or "ray://host:10001"; None starts Ray on this machine alone.
        wait: Returns when the server is to stop.
        on_start: Called when the first replica answers.

    Raises:
        MissingDependencyError: Ray is not installed.
        ConfigurationError: The cluster cannot be reached, or it has another version of Ray or Python.
        GenerationError: No replica could be started; the log of Ray says why.
    """
    ray, serve = (require(name, extra="ray", why="to answer on a cluster") for name in ("ray", "ray.serve"))
    application = answer_application(settings)
    stop = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise ConfigurationError(
            f"the Ray cluster {address!r} cannot be used: {error}. Start it with `ray start`, and install the same versions of "
            "Python and Ray on all machines"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)  # Ray 2.60 replaces it by a handler that aborts the process
    try:
        serve.start(proxy_location="EveryNode", http_options={"host": host, "port": port})
        try:
            serve.run(application, name=_NAME, route_prefix="/", logging_config={"log_level": "ERROR"})
        except RuntimeError as error:
            raise GenerationError(f"no replica could be started on Ray: {error}. The log of Ray says why") from error
        on_start()
        wait()
    finally:
        serve.shutdown()
        ray.shutdown()


class _Replica:
    """One process that holds folders and models.

    Args:
        open_app: Opens them.
    """

    def __init__(self, open_app: OpenApp) -> None:
        self._stack = ExitStack()
        self._app = self._stack.enter_context(open_app())

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    def check_health(self) -> None:
        """Raise an error if the replica cannot answer any more; Ray then replaces it."""
        from leanrag.serving.backends import FolderBackend

        service: Service = self._app.state.service
        for backend in service.backends.values():
            if isinstance(backend, FolderBackend):
                backend.rag.stats()

    def __del__(self) -> None:
        self._stack.close()
