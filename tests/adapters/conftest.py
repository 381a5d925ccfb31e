"""Servers that several modules of tests share."""

import pytest

from tests.adapters.engines import running_postgres


@pytest.fixture(scope="session")
def postgres():
    """The address of a PostgreSQL with pgvector."""
    pytest.importorskip("psycopg")
    pytest.importorskip("pgserver")
    with running_postgres() as address:
        yield address


@pytest.fixture
def execute(postgres):
    """Runs a statement in that PostgreSQL."""
    import psycopg

    with psycopg.connect(postgres, autocommit=True) as connection:
        yield connection.execute
