import collections
import gc
import logging
import os
import re
import sys

import pytest
from hypothesis import settings

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # tests run in several processes, and some load torch before leanrag

os.environ.setdefault("LEANRAG_TRIAL", "0")  # many tests write a model of their own; test_trial.py tries files

# The same examples in every run, so that it says something about the change; HYPOTHESIS_PROFILE=default draws new ones, and
# HYPOTHESIS_PROFILE=few tries fewer, for the fast tests.
# No deadline: how long an example takes says how busy the machine is.
settings.register_profile("same", derandomize=True, deadline=None)
settings.register_profile("few", derandomize=True, deadline=None, max_examples=20)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


def pytest_ignore_collect(collection_path, config):
    """Import no module whose tests are all left out: some of them import a whole framework."""
    names = re.findall(r"not (\w+)", config.option.markexpr)
    if collection_path.suffix != ".py" or not names:
        return None
    marks = re.search(r"^pytestmark = (.+)$", collection_path.read_text(encoding="utf-8"), re.MULTILINE)
    return True if marks and any(f"mark.{name}" in marks[1] for name in names) else None


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Start with the files that take long, so that no worker waits for another that began with them late."""
    work = collections.Counter()
    for item in items:
        work[item.path] += 50 if item.get_closest_marker("slow") or item.get_closest_marker("model") else 1
    items.sort(key=lambda item: -work[item.path])


def pytest_collection_finish():
    """Spare each test some work.

    The loggers of torch pass their records on: to forty that do not, pytest would add handlers six times a test. What was imported
    and collected is alive until the end, so that the garbage collector need not look at it.
    """
    gc.freeze()
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch")]:
        logging.getLogger(name).propagate = True


def pytest_unconfigure():
    """Close the files that llama_cpp opens at its import and never closes, before Python warns of them."""
    if utils := sys.modules.get("llama_cpp._utils"):
        utils.outnull_file.close()
        utils.errnull_file.close()


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory):
    """A 23 kB random-weight INT4 model: real file, real tokenizer, real limits, meaningless words."""
    from tests.tiny_gguf import write_tiny_gguf

    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny(tiny_gguf):
    from leanrag import LlamaCppModel

    with LlamaCppModel(tiny_gguf, threads=1) as model:
        yield model


@pytest.fixture(scope="session")
def smollm():
    """The real INT4 model of the demo."""
    from leanrag import LlamaCppModel
    from leanrag.models import resolve

    with LlamaCppModel(resolve("smollm2-135m"), name="smollm2-135m", n_ctx=2048) as model:
        yield model


@pytest.fixture(scope="session")
def minilm():
    """The real embedder of the demo."""
    from leanrag import SentenceTransformerEmbedder
    from leanrag.models import resolve

    return SentenceTransformerEmbedder(resolve("all-minilm-l6-v2"))
