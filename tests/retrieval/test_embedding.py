from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

import leanrag._optional
from leanrag.errors import ConfigurationError, MissingDependencyError, ModelLoadError
from leanrag.retrieval.embedding import SentenceTransformerEmbedder

# Computed with SentenceTransformer("all-MiniLM-L6-v2").encode (sentence-transformers 6.2.0, torch 2.13.0, CPU).
REFERENCE = {
    "hello world": [-0.03447726, 0.03102321, 0.00673497, 0.02610898, -0.03936195],
    "A closure captures variables of the enclosing scope.": [0.01648329, 0.04312395, -0.03300250, 0.04843184, 0.01764786],
    "The global statement binds a name in the module namespace.": [
        -0.04609222, -0.03390028, -0.08907304, 0.04309622, -0.01509867,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [("threads", 0), ("batch_size", 0), ("batch_size", -1)])
def test_arguments_are_checked_before_anything_is_loaded(tmp_path, name, value):
    with pytest.raises(ConfigurationError, match=f"`{name}` must be at least 1, got {value}"):
        SentenceTransformerEmbedder(tmp_path, **{name: value})


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(ModelLoadError, match=r"modules\.json") as caught:
        SentenceTransformerEmbedder(tmp_path)
    assert caught.value.path == tmp_path.resolve()


def test_a_missing_package_names_its_extra(tmp_path, monkeypatch):
    (tmp_path / "modules.json").write_text("[]")
    monkeypatch.setattr(leanrag._optional.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'leanrag\[torch\]'") as caught:
        SentenceTransformerEmbedder(tmp_path)
    assert (caught.value.package, caught.value.extra) == ("sentence_transformers", "torch")


@pytest.mark.model
class TestModel:
    def test_rows_are_the_model_s(self, minilm):
        import numpy as np

        rows = minilm.embed_documents(list(REFERENCE))
        assert rows.dtype == np.float32
        assert rows.shape == (3, minilm.dim) == (3, 384)
        np.testing.assert_allclose(rows[:, :5], list(REFERENCE.values()), atol=1e-4)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
        np.testing.assert_allclose(minilm.embed_queries(list(REFERENCE)), rows, atol=1e-6)

    def test_rows_do_not_depend_on_the_batch(self, minilm):
        import numpy as np

        texts = ["word " * n for n in (1, 200, 7, 90)] * 10
        alone = minilm.embed_documents(texts[:1])
        np.testing.assert_allclose(minilm.embed_documents(texts)[[0, 4]], np.repeat(alone, 2, axis=0), atol=1e-5)

    def test_no_texts_are_no_rows(self, minilm):
        assert minilm.embed_queries([]).shape == (0, 384)

    def test_tokens_are_counted_whole_with_special_tokens(self, minilm):
        assert minilm.max_tokens == 256
        assert minilm.count_tokens("") == 2
        assert minilm.count_tokens("hello world") == 4
        assert minilm.count_tokens("word " * 1000) == 1002
        minilm.embed_queries(["hello"])  # sets truncation on the model's own tokenizer
        assert minilm.count_tokens("word " * 1000) == 1002

    def test_long_texts_are_refused(self, minilm):
        assert minilm.embed_queries(["word " * 254]).shape == (1, 384)
        with pytest.raises(ConfigurationError, match=r"query has 257 tokens, but .* reads at most 256"):
            minilm.embed_queries(["ok", "word " * 255])
        with pytest.raises(ConfigurationError, match="document has 257 tokens"):
            minilm.embed_documents(["word " * 255])
        with pytest.raises(ConfigurationError, match="got a string"):
            minilm.embed_documents("hello")

    def test_threads_may_share_it(self, minilm):
        import numpy as np

        texts = list(REFERENCE)
        expected = minilm.embed_queries(texts)
        failures: list[object] = []

        def work():
            for _ in range(5):
                rows = minilm.embed_queries(texts)
                if minilm.count_tokens("hello world") != 4 or not np.allclose(rows, expected, atol=1e-5):
                    failures.append(rows)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []

    def test_prefixes_change_identity_rows_and_room(self, minilm):
        import numpy as np

        from leanrag.models import resolve

        folder = resolve("all-minilm-l6-v2")
        other = SentenceTransformerEmbedder(folder, query_prefix="query: ")
        assert other.id != minilm.id
        assert SentenceTransformerEmbedder(folder).id == minilm.id
        assert other.max_tokens == 254
        np.testing.assert_allclose(other.embed_queries(["hi"]), minilm.embed_queries(["query: hi"]), atol=1e-6)
        np.testing.assert_allclose(other.embed_documents(["hi"]), minilm.embed_documents(["hi"]), atol=1e-6)
        with pytest.raises(ConfigurationError, match="prefixes take 300"):
            SentenceTransformerEmbedder(folder, query_prefix="a " * 300)

    @pytest.mark.slow
    def test_loading_is_silent_and_leaves_settings_alone(self, minilm):
        from leanrag.models import resolve

        script = (
            "import sys, os; import sentence_transformers, transformers, torch\n"
            "threads, bars = torch.get_num_threads(), transformers.utils.logging.is_progress_bar_enabled()\n"
            "environment = dict(os.environ)\n"
            "from leanrag.retrieval.embedding import SentenceTransformerEmbedder as E\n"
            "E(sys.argv[1]).embed_queries(['hello', 'world'])\n"
            "assert threads == torch.get_num_threads()\n"
            "assert bars == transformers.utils.logging.is_progress_bar_enabled()\n"
            "assert environment == dict(os.environ)\n"
        )
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", script, str(resolve("all-minilm-l6-v2"))],
            capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
