"""`leanrag serve`: answer over HTTP, with OpenAI's API and a page."""

from __future__ import annotations

import argparse
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from leanrag._optional import require
from leanrag.cli.options import Commands, open_folder
from leanrag.cli.output import OK, print_text
from leanrag.errors import ConfigurationError

if TYPE_CHECKING:
    from leanrag.llama.model import LlamaCppModel

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
        "--allow-origin", action="append", default=[], metavar="ORIGIN", help="web pages that may use the server"
    )


def _run(options: argparse.Namespace) -> int:
    for package in ("fastapi", "uvicorn"):
        require(package, extra="server", why="to serve over HTTP")
    from leanrag.serving.app import create_app
    from leanrag.serving.guard import is_loopback
    from leanrag.serving.keys import Keys
    from leanrag.serving.running import open_port, run_server

    keys = Keys.parse(os.environ.get(options.keys_env, ""), variable=options.keys_env)
    if not keys and not is_loopback(options.host):
        raise ConfigurationError(
            f"the address {options.host!r} can be reached from other machines, so the server needs keys. Set {options.keys_env}, "
            "or listen on 127.0.0.1"
        )
    names = options.folders or ([] if options.models else [options.folder])
    hosts = None if keys else sorted({"localhost", "127.0.0.1", "[::1]", options.host})
    with contextlib.ExitStack() as stack:
        folders = {}
        for path in names:
            name = Path(path).resolve().name.lstrip(".")
            if name in folders:
                raise ConfigurationError(f"two folders have the name {name!r}; rename one of them")
            folder = argparse.Namespace(**{**vars(options), "folder": path})
            folders[name] = stack.enter_context(open_folder(folder, create=bool(options.folders)))
        models = [stack.enter_context(_load(name)) for name in options.models]
        app = create_app(folders, models=models, keys=keys, hosts=hosts, origins=options.allow_origin)
        port = open_port(options.host, options.port)
        address = f"http://{options.host}:{port.getsockname()[1]}"
        run_server(
            app,
            port,
            on_start=lambda: print_text(f"leanrag serves {', '.join([*folders, *options.models])} on {address}"),
        )
    return OK


def _load(name: str) -> LlamaCppModel:
    """Load a model that is served without documents."""
    from leanrag.llama.process import load_model
    from leanrag.models import resolve_model
    from leanrag.routing.cascade import model_name

    files = resolve_model(name)
    return load_model(files.path, adapters=files.adapters, name=model_name(name))
