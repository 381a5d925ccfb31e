"""Servers that several modules of tests share."""

import uuid

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


@pytest.fixture
def database(postgres, execute):
    """The address of an empty database in that PostgreSQL."""
    name = f"test_{uuid.uuid4().hex}"
    execute(f"CREATE DATABASE {name}")
    yield postgres.replace("/postgres?", f"/{name}?")
    execute(f"DROP DATABASE {name} WITH (FORCE)")
