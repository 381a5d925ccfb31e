import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leanrag.retrieval import chunk_ids
from leanrag.retrieval.chunk_ids import find_removed, is_among, rows_of


def connect(ids):
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE chunks (id INTEGER PRIMARY KEY)")
    connection.executemany("INSERT INTO chunks VALUES (?)", [(i,) for i in ids])
    return connection


@given(st.sets(st.integers(1, 60)), st.data(), st.integers(1, 8))
def test_removed_ids_are_those_that_no_chunk_has(known, data, listed):
    removed = data.draw(st.sets(st.sampled_from(sorted(known)))) if known else set()
    later = data.draw(st.sets(st.integers(61, 70)))
    with closing(connect((known - removed) | later)) as connection, pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_ids, "_LISTED", listed)
        found = find_removed(connection, np.array(sorted(known), np.int64))

    assert found.tolist() == sorted(removed)


def test_only_the_neighbours_of_removed_ids_are_read():
    known = np.arange(1, 100_001)
    removed = [5, 6, 7, 99_000]
    with closing(connect(set(known.tolist()) - set(removed))) as connection:
        read = []
        connection.row_factory = lambda _, row: read.append(row) or row
        assert find_removed(connection, known).tolist() == removed

    assert len(read) < 2 * chunk_ids._LISTED + 40


@given(
    st.sets(st.integers(0, 40) | st.integers(0, 900)), st.lists(st.integers(0, 40) | st.integers(0, 950), unique=True)
)
def test_ids_are_found_among_others(ids, wanted):
    ids, wanted = np.array(sorted(ids), np.int64), np.array(wanted, np.int64)

    assert ids[rows_of(ids, wanted)].tolist() == [i for i in wanted.tolist() if i in ids]
    np.testing.assert_array_equal(is_among(ids, wanted), np.isin(ids, wanted))
