"""The clients and llama-server of llama.cpp; `benchmarks.servers.llama_server` says how the program is found."""

import pytest

from benchmarks.servers.llama_server import CHECKS, VARIABLE, ask_llama_server, find_llama_server

PROGRAM = find_llama_server()
CASES = [(kind, check) for kind, checks in CHECKS.items() for check in checks]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.model,
    pytest.mark.skipif(PROGRAM is None, reason=f"no llama-server on the PATH, and {VARIABLE} names none"),
]


@pytest.fixture(scope="module")
def server(request):
    with ask_llama_server(PROGRAM, request.param) as started:
        yield started


@pytest.mark.parametrize(
    ("server", "check"), CASES, ids=[f"{kind}{check.__name__}" for kind, check in CASES], indirect=["server"]
)
def test_llama_server_is_read(server, check):
    assert check(server)
