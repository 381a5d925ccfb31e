"""The limit on how long threads of OpenMP spin. Each case runs in a new process, because libgomp reads its environment once."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="libgomp is a library of Linux")

SHOW = "import os; print(os.environ.get('GOMP_SPINCOUNT'), os.environ.get('OMP_WAIT_POLICY'))"


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    kept |= {"PYTHONPATH": os.pathsep.join(sys.path), **environment}
    return subprocess.run([sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True)


@pytest.mark.parametrize(
    "load",
    [
        "from leanrag.retrieval.index import FaissIndex; FaissIndex(2)",
        "from leanrag.llama.library import library; library()",
    ],
)
@pytest.mark.slow
def test_each_library_finds_the_limit_when_it_is_loaded(load):
    shown = run(f"{load}\n{SHOW}", OMP_DISPLAY_ENV="verbose")
    assert shown.stdout == "1000 None\n"
    assert "GOMP_SPINCOUNT = '1000'" in shown.stderr


def test_optional_packages_find_it_too():
    code = f"from leanrag._optional import require; require('json', extra='x', why='y')\n{SHOW}"
    assert run(code).stdout == "1000 None\n"


def test_child_processes_find_it():
    code = "import subprocess, sys; from leanrag.openmp import limit_spinning; limit_spinning()\n"
    assert run(code + f"subprocess.run([sys.executable, '-c', {SHOW!r}])").stdout == "1000 None\n"


@pytest.mark.parametrize(
    ("environment", "shown"),
    [({"GOMP_SPINCOUNT": "5"}, "5 None"), ({"OMP_WAIT_POLICY": "active"}, "None active")],
)
@pytest.mark.slow
def test_what_the_user_set_is_kept(environment, shown):
    code = f"import faiss; from leanrag.openmp import limit_spinning, unlimited_libraries; limit_spinning()\n{SHOW}"
    assert run(code + "; print(unlimited_libraries())", **environment).stdout == f"{shown}\n()\n"


def test_importing_leanrag_changes_nothing():
    assert run(f"import leanrag\n{SHOW}").stdout == "None None\n"


@pytest.mark.slow
def test_a_library_that_was_loaded_before_is_named():
    code = "from leanrag.openmp import unlimited_libraries\n"
    assert run(code + "print(unlimited_libraries())").stdout == "()\n"
    assert "libgomp" in run("import faiss\n" + code + "print(*unlimited_libraries())").stdout
