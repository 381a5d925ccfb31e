"""Helpers of vectors."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from leanrag.vectors import cosines


@given(st.integers(0, 120), st.integers(0, 120), st.integers(1, 400), st.integers(0, 9))
def test_cosines_in_parts_are_those_of_one_product(n, m, dim, seed):
    rows, others = (np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32) for count in (n, m))
    result = cosines(rows, others)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, rows @ others.T, atol=1e-3)
