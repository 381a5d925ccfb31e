import pytest


@pytest.fixture(scope="module")
def vocabulary(tiny):
    return tiny._engine.vocabulary
