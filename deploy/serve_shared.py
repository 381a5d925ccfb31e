"""Serve a folder whose vectors and costs are in PostgreSQL and whose answers are kept in Redis.

The environment says where they are:

    LEANRAG_FOLDER     the folder
    LEANRAG_MODEL      name of the model
    LEANRAG_POSTGRES   such as postgresql://leanrag@postgres:5432/leanrag
    LEANRAG_REDIS      such as redis://redis:6379/0
    LEANRAG_KEYS       the keys of the clients
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

import leanrag
from leanrag.adapters.pgvector import PgVectorIndex
from leanrag.adapters.postgres_ledger import PostgresLedger
from leanrag.adapters.redis import RedisAnswerCache
from leanrag.serving.app import create_app
from leanrag.serving.keys import Keys
from leanrag.serving.running import open_port, run_server


def open_shared(stack: contextlib.ExitStack, environment: Mapping[str, str], **settings: Any) -> leanrag.Rag:
    """Open the folder; `stack` closes it.

    Args:
        stack: Closes what was opened.
        environment: As above.
        settings: Further arguments of `leanrag.open`.
    """
    postgres, redis = environment["LEANRAG_POSTGRES"], environment["LEANRAG_REDIS"]
    rag = leanrag.open(
        environment["LEANRAG_FOLDER"],
        index=stack.enter_context(contextlib.closing(PgVectorIndex(postgres, collection="kb"))),
        cache=stack.enter_context(RedisAnswerCache(redis)),
        ledger=stack.enter_context(PostgresLedger(postgres)),
        **{"model": environment.get("LEANRAG_MODEL"), **settings},
    )
    return stack.enter_context(rag)


def main() -> None:
    keys = Keys.parse(os.environ.get("LEANRAG_KEYS", ""), variable="LEANRAG_KEYS")
    if not keys:
        raise SystemExit("the server can be reached from other machines: put keys into LEANRAG_KEYS")
    port = open_port("0.0.0.0", 8000)  # noqa: S104 - the port of the container
    with contextlib.closing(port), contextlib.ExitStack() as stack:
        run_server(create_app({"kb": open_shared(stack, os.environ)}, keys=keys), port)


if __name__ == "__main__":
    main()
