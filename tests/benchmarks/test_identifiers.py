import pytest

from benchmarks.kinds.identifiers import measure
from leanrag.testing import HashEmbedder


@pytest.mark.slow
def test_the_right_identifier_comes_first():
    figures = measure(True, HashEmbedder())
    assert figures["identifiers_found@1"] >= 0.98
    assert min(figures.values()) >= 0.9
    assert figures == measure(True, HashEmbedder())
