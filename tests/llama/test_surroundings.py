"""What surrounds the engine is broken or changes: the right answer, or a typed error. Each case is a process of its own."""

import os
import subprocess
import sys

import pytest

from leanrag import ConfigurationError, LlamaCppModel, ModelLoadError
from leanrag.llama import ComputeOptions
from leanrag.threads import ThreadCount, usable_cores
from tests.plain import Alike
from tests.tiny_gguf import write_tiny_gguf

linux = pytest.mark.skipif(sys.platform != "linux", reason="affinity and libgomp are of Linux")
PROMPT = "the quick brown fox jumps over the lazy dog"
ANSWER = f"print(*model.generate({PROMPT!r}, max_tokens=12).token_ids)\n"


def answer(path, before="", after=ANSWER, options="", **environment):
    """Return the tokens that a new process answers, and what it writes as an error."""
    code = f"import os, sys\n{before}\nfrom leanrag import LlamaCppModel\nmodel = LlamaCppModel({str(path)!r}{options})\n{after}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_", "KMP_"))}
    kept |= {"PYTHONPATH": os.pathsep.join(sys.path), **environment}
    child = subprocess.run(
        [sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=True, timeout=120
    )
    return [tuple(map(int, line.split())) for line in child.stdout.splitlines()]


@pytest.fixture(scope="module")
def expected(tiny):
    return tiny.generate(PROMPT, max_tokens=12).token_ids


@linux
@pytest.mark.parametrize(
    "environment",
    [
        {"OMP_NUM_THREADS": "many"},
        {"OMP_NUM_THREADS": "0"},
        {"OMP_NUM_THREADS": "-3"},
        {"OMP_NUM_THREADS": "99999999999999999999"},
        {"OMP_NUM_THREADS": ""},
        {"OMP_THREAD_LIMIT": "1"},
        {"OMP_THREAD_LIMIT": "nonsense"},
        {"OMP_WAIT_POLICY": "sometimes"},
        {"OMP_PROC_BIND": "spread", "OMP_PLACES": "{0}"},
        {"OMP_PLACES": "{no such place"},
        {"OMP_DYNAMIC": "true", "OMP_SCHEDULE": "?"},
        {"OMP_STACKSIZE": "1"},
        {"GOMP_SPINCOUNT": "fast"},
        {"GOMP_CPU_AFFINITY": "77-99"},
    ],
    ids=lambda environment: " ".join(f"{name}={value}" for name, value in environment.items()),
)
@pytest.mark.slow
def test_settings_of_openmp_that_make_no_sense(tiny_gguf, expected, environment):
    assert answer(tiny_gguf, options=", threads=2", **environment) == [expected]


@linux
@pytest.mark.parametrize("package", ["faiss", "torch"])
@pytest.mark.slow
def test_a_library_of_openmp_that_was_loaded_before(tiny_gguf, expected, package):
    pytest.importorskip(package)
    assert answer(tiny_gguf, before=f"import {package}", options=", threads=2") == [expected]


@linux
@pytest.mark.slow
def test_cores_that_are_taken_away_while_it_runs(tiny_gguf, expected):
    after = ANSWER + (
        "core = min(os.sched_getaffinity(0))\n"
        "for thread in os.listdir('/proc/self/task'):\n"  # as `taskset --all-tasks` does
        "    os.sched_setaffinity(int(thread), {core})\n"
        f"{ANSWER}from leanrag.threads import usable_cores\nprint(usable_cores())\n"
    )
    for options in ("", ", threads=2", ", threads=64"):
        assert answer(tiny_gguf, after=after, options=options) == [expected, expected, (1,)]


@pytest.mark.parametrize(
    ("quota", "cores"), [("50000 100000", 1), ("1000 100000", 1), ("0 100000", None), ("nonsense", None)]
)
def test_a_quota_of_half_a_core_is_one_thread(monkeypatch, quota, cores):
    whole = usable_cores()
    from leanrag import threads

    read = threads._read
    monkeypatch.setattr(threads, "_read", lambda path: quota if path == "/sys/fs/cgroup/cpu.max" else read(path))
    assert usable_cores() == (cores or whole)
    assert ThreadCount(None).most == (cores or whole)
    assert ThreadCount(None, "background").most >= 1


def test_states_of_another_type_of_keys_are_not_used(tmp_path):
    path, folder = write_tiny_gguf(tmp_path / "model.gguf", n_ctx=512), tmp_path / "states"
    prompt = PROMPT * 4
    for flash, is_known in ((False, False), (True, False), (False, True), (True, True)):
        compute = ComputeOptions(flash_attn=flash)
        with LlamaCppModel(path, threads=1, compute=compute, cache_dir=folder) as model:
            generation = model.generate(prompt, max_tokens=8)
            assert (generation.usage.cached_tokens > 0) is is_known
        with LlamaCppModel(path, threads=1, compute=compute) as fresh:
            assert Alike(generation) == Alike(fresh.generate(prompt, max_tokens=8))


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_small_keys_need_flash_attention_and_heads_of_whole_blocks(tiny_gguf, kind):
    with pytest.raises(ConfigurationError, match=f"`kv_type` '{kind}' needs `flash_attn`"):
        ComputeOptions(kv_type=kind, flash_attn=False)
    with pytest.raises(ModelLoadError, match="cannot make a context"):  # heads of 16 numbers, and blocks of 32
        LlamaCppModel(tiny_gguf, compute=ComputeOptions(kv_type=kind))


def test_an_unknown_type_of_keys_is_refused():
    with pytest.raises(ConfigurationError, match="`kv_type` must be one of 'auto', 'f16', 'q8_0', 'q4_0'"):
        ComputeOptions(kv_type="q5_0")
