"""`leanrag serve`: answer over HTTP, with OpenAI's API and a page."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from leanrag._optional import require
from leanrag.cli.options import Commands, add_config, open_folder
from leanrag.cli.output import OK, print_text
from leanrag.errors import ConfigurationError

if TYPE_CHECKING:
    from leanrag.pipeline.rag import Rag
    from leanrag.protocols import LanguageModel
    from leanrag.serving.keys import Keys

__all__ = ["register"]

_KEYS_VARIABLE = "LEANRAG_KEYS"


def register(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add("serve", _run, commands.answering, "answer over HTTP: OpenAI's API, search, and a page")
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="databases to serve (default: that of --folder)")
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME", help="models to serve without documents")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument(
        "--keys-env",
        default=_KEYS_VARIABLE,
        metavar="NAME",
        help="environment variable with the API keys (default: %(default)s)",
    )
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let web pages of this origin use the server, such as https://example.org",
    )
    parser.add_argument("--read-only", action="store_true", help="let nobody add documents")
    cluster = parser.add_argument_group("on a Ray cluster (needs the extra `ray`; nobody can add documents)")
    cluster.add_argument(
        "--ray",
        nargs="?",
        const="",
        metavar="ADDRESS",
        help="answer in replicas on this cluster, such as `auto`; without an address, on this machine alone",
    )
    cluster.add_argument("--replicas", type=int, default=4, help="most replicas (default: %(default)s)")
    cluster.add_argument(
        "--least-replicas", type=int, default=0, help="replicas that stay when nobody asks (default: %(default)s)"
    )
    cluster.add_argument(
        "--keep-alive",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="time without enough questions after which a replica stops (default: %(default)s)",
    )
    cluster.add_argument("--cpus", type=float, default=1.0, help="CPU cores of a replica (default: %(default)s)")
    cluster.add_argument("--gpus", type=float, default=0.0, help="GPUs of a replica (default: %(default)s)")
    add_config(parser)


def _run(options: argparse.Namespace) -> int:
    for package in ("fastapi", "uvicorn"):
        require(package, extra="server", why="to serve over HTTP")
    from leanrag.pipeline.defaults import cascade_of, default_models
    from leanrag.pipeline.loading import closed_with, load_embedder, load_language_model
    from leanrag.serving.app import create_app
    from leanrag.serving.keys import Keys
    from leanrag.serving.running import open_port, run_server

    keys = Keys.parse(os.environ.get(options.keys_env, ""), variable=options.keys_env)
    _check_address(options, keys)
    paths = _folder_paths(options)
    if options.ray is not None:
        return _run_on_ray(options, paths)
    port = open_port(options.host, options.port)
    with contextlib.closing(port), contextlib.ExitStack() as stack:
        names = options.model or ([] if options.config or not paths else default_models())
        loaded: dict[str, LanguageModel] = {}
        for name in dict.fromkeys((*names, *options.models)):
            loaded[name] = closed_with(stack, load_language_model(name))
        embedder = closed_with(stack, load_embedder(options.embedder))
        folders: dict[str, Rag] = {}
        for folder_name, path in paths.items():
            settings = {
                **vars(options),
                "folder": path,
                "embedder": embedder,
                "model": cascade_of(names, loaded) if names else None,
            }
            create = bool(options.folders) and not options.read_only
            folders[folder_name] = stack.enter_context(open_folder(argparse.Namespace(**settings), create=create))
        app = create_app(
            folders,
            models=[loaded[name] for name in options.models],
            embedders={options.embedder: embedder},
            keys=keys,
            hosts=None if keys else sorted({"localhost", "127.0.0.1", "[::1]", options.host}),
            origins=options.allow_origin,
            can_add=not options.read_only,
        )
        shown = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{shown}:{port.getsockname()[1]}"
        text = f"leanrag serves {', '.join([*folders, *options.models])} on {address}"
        run_server(app, port, on_start=lambda: print_text(text))
    return OK


def _run_on_ray(options: argparse.Namespace, paths: dict[str, str]) -> int:
    import threading

    from leanrag.serving.on_ray import ReplicaSettings, run_on_ray
    from leanrag.stopping import Terminated

    if options.models or options.allow_origin or options.config is not None:
        raise ConfigurationError(
            "`--models`, `--allow-origin` and `--config` cannot be used with `--ray`. Leave them out, or serve without Ray"
        )
    settings = ReplicaSettings.of(
        {
            "folders": {name: str(Path(path).resolve()) for name, path in paths.items()},
            "model": tuple(options.model or ()),
            "embedder": options.embedder,
            "keys_env": options.keys_env,
            "min_replicas": options.least_replicas,
            "max_replicas": options.replicas,
            "keep_alive": options.keep_alive,
            "cpus": options.cpus,
            "gpus": options.gpus,
        }
    )
    text = f"leanrag serves {', '.join(paths)} on http://{options.host}:{options.port}, with Ray"
    with contextlib.suppress(Terminated):
        run_on_ray(
            settings,
            host=options.host,
            port=options.port,
            address=options.ray or None,
            wait=threading.Event().wait,
            on_start=lambda: print_text(text),
        )
    return OK


def _check_address(options: argparse.Namespace, keys: Keys) -> None:
    from leanrag.serving.guard import is_loopback

    if not keys and not is_loopback(options.host):
        raise ConfigurationError(
            f"the address {options.host!r} can be reached from other machines, so the server needs keys. Put them into the "
            f"environment variable {options.keys_env}, or listen on 127.0.0.1"
        )


def _folder_paths(options: argparse.Namespace) -> dict[str, str]:
    """Return the folders to serve by their names: the last parts of their paths."""
    paths: dict[str, str] = {}
    for path in options.folders or ([] if options.models else [options.folder]):
        name = Path(path).resolve().name.lstrip(".")
        if name in paths:
            raise ConfigurationError(f"the folders {paths[name]!r} and {path!r} have the same name; rename one of them")
        paths[name] = path
    return paths
