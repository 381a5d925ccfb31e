import sqlite3
from contextlib import closing

from hypothesis import given
from hypothesis import strategies as st

from leanrag.retrieval.generations import ChunkCounter, next_generation, read_generation


def change(connection, wanted):
    """Make `wanted` the number of chunks, in a commit of its own."""
    connection.execute("DELETE FROM chunks")
    connection.executemany("INSERT INTO chunks VALUES (?)", [(i,) for i in range(wanted)])
    next_generation(connection)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), max_size=6))
def test_chunks_are_counted_once_for_each_commit(steps):
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE meta (key TEXT PRIMARY KEY, value)")
        connection.execute("CREATE TABLE chunks (id INTEGER PRIMARY KEY)")
        connection.execute("INSERT INTO meta VALUES ('generation', 0)")
        statements = []
        connection.set_trace_callback(statements.append)
        counter = ChunkCounter()
        for wanted, n_looks in steps:
            change(connection, wanted)
            statements.clear()
            assert [counter.count(connection) for _ in range(n_looks)] == [wanted] * n_looks
            assert sum("count(*)" in statement for statement in statements) == min(n_looks, 1)

        assert read_generation(connection) == len(steps)
