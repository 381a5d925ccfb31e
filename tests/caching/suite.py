"""What every cache of answers, and of what models compute, promises: suites that run on each of them."""

import dataclasses
import threading

import pytest

import leanrag
from leanrag import CancelToken
from leanrag.abilities import ComputesOnce, ForgetsDocuments
from leanrag.caching import CachedEmbedder, CachedModel
from leanrag.protocols import GenerateOptions
from leanrag.testing import FakeModel, HashEmbedder
from leanrag.types import AskKey, Stage
from tests.stories import NILE, PARK, QUESTION, RIGHT, open_rag

KEY = AskKey("q", "{}", "{}", "/kb", ("m",), ("s",), "d", "e")


class AnswerCacheSuite:
    """A subclass has a fixture `make_cache`: it returns caches of the same answers; options are `namespace` and `max_bytes`."""

    @pytest.fixture
    def answer(self, tmp_path):
        with open_rag(tmp_path / "source") as rag:
            rag.add(leanrag.Document(PARK, id="park"), leanrag.Document(NILE, id="\udc80nile"))
            return rag.ask(QUESTION)

    def test_another_cache_finds_the_answer(self, make_cache, answer):
        first, second = make_cache(), make_cache()
        assert first.get(KEY) is None
        first.put(KEY, answer)
        assert first.get(KEY) == second.get(KEY) == answer
        assert first.stats().answers == second.stats().answers == 1

    @pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(AskKey)])
    def test_each_part_of_the_key_counts(self, make_cache, answer, name):
        cache = make_cache()
        cache.put(KEY, answer)
        other = ("x",) if isinstance(getattr(KEY, name), tuple) else "x"
        assert cache.get(dataclasses.replace(KEY, **{name: other})) is None
        assert cache.get(KEY) == answer

    def test_a_namespace_does_not_see_the_answers_of_another(self, make_cache, answer):
        one, two = make_cache(namespace="one"), make_cache(namespace="two")
        one.put(KEY, answer)
        assert (one.get(KEY), two.get(KEY)) == (answer, None)

    def test_the_last_answer_of_a_key_counts(self, make_cache, answer):
        cache = make_cache()
        for text in ("first", "second"):
            cache.put(KEY, dataclasses.replace(answer, text=text))
        assert cache.get(KEY).text == "second"

    def test_answers_are_forgotten_with_each_document_they_contain(self, make_cache, answer):
        cache = make_cache()
        assert isinstance(cache, ForgetsDocuments)
        for document_id in ("park", "\udc80nile"):
            cache.put(KEY, answer)
            cache.forget(["unknown"])
            assert cache.get(KEY) == answer
            cache.forget([document_id])
            assert (cache.get(KEY), cache.stats().answers, cache.stats().bytes) == (None, 0, 0)

    def test_a_cleared_cache_is_empty(self, make_cache, answer):
        cache = make_cache()
        cache.put(KEY, answer)
        cache.clear()
        assert (cache.get(KEY), cache.stats().answers) == (None, 0)

    def test_an_answer_that_is_too_large_is_not_stored(self, make_cache, answer):
        cache = make_cache(max_bytes=100)
        cache.put(KEY, answer)
        assert (cache.get(KEY), cache.stats().answers) == (None, 0)

    def test_an_answer_with_values_of_another_kind_is_not_stored(self, make_cache, answer):
        cache = make_cache()
        cache.put(KEY, dataclasses.replace(answer, trace=(Stage("pack", 0.1, {"object": object()}),)))
        assert cache.get(KEY) is None

    def test_hits_are_counted(self, make_cache, answer):
        cache = make_cache()
        cache.put(KEY, answer)
        for _ in range(3):
            cache.get(KEY)
        cache.get(dataclasses.replace(KEY, question="other"))
        stats = cache.stats()
        assert stats.hits == 3
        assert stats.saved_seconds == pytest.approx(3 * answer.seconds, rel=1e-6)

    def test_only_one_of_equal_questions_is_computed(self, make_cache, tmp_path):
        begun, go_on = threading.Event(), threading.Event()

        def reply(prompt):
            begun.set()
            go_on.wait(60)
            return RIGHT

        cache, model, answers = make_cache(), FakeModel(reply), []
        assert isinstance(cache, ComputesOnce)
        with open_rag(tmp_path / "kb", model=model, cache=cache) as rag:
            rag.add(leanrag.Document(PARK, id="park"))
            threads = [threading.Thread(target=lambda: answers.append(rag.ask(QUESTION))) for _ in range(4)]
            threads[0].start()
            assert begun.wait(60)
            for thread in threads[1:]:
                thread.start()
            go_on.set()
            for thread in threads:
                thread.join()
        assert (len(model.prompts), len(answers), len({answer.text for answer in answers})) == (1, 4, 1)

    def test_a_wait_ends_when_the_question_is_cancelled(self, make_cache):
        first, second, cancel = make_cache(), make_cache(), CancelToken()
        cancel.cancel()
        order = []

        def compute():
            with second.computing(KEY, cancel):
                order.append("cancelled")

        with first.computing(KEY, CancelToken()):
            thread = threading.Thread(target=compute)
            thread.start()
            thread.join()
            order.append("holder")
        with second.computing(KEY, CancelToken()):
            order.append("next")
        assert order == ["cancelled", "holder", "next"]

    def test_a_removed_document_takes_its_answers_with_it(self, make_cache, tmp_path):
        cache = make_cache()
        with open_rag(tmp_path / "kb", cache=cache) as rag:
            rag.add(leanrag.Document(PARK, id="park"), leanrag.Document(NILE, id="nile"))
            rag.ask(QUESTION)
            assert cache.stats().answers > 0
            rag.remove("park")
            assert cache.stats().answers == 0


class ResultsSuite:
    """A subclass has a fixture `make_results`: it returns objects with the same results; an option is `max_bytes`."""

    def test_others_find_what_was_stored(self, make_results):
        first, second = make_results(), make_results()
        assert (first.get(b"a"), first.get_many([]), first.put_many({})) == (None, {}, None)
        first.put_many({b"a": b"1", b"b": b"", b"\xff\0": b"\0\xff"})
        assert second.get_many([b"a", b"b", b"c", b"\xff\0", b"a"]) == {b"a": b"1", b"b": b"", b"\xff\0": b"\0\xff"}
        second.put_many({b"a": b"2"})
        assert first.get(b"a") == b"2"

    def test_many_keys_are_looked_up_at_once(self, make_results):
        results = make_results()
        results.put_many({i.to_bytes(2, "big"): b"x" for i in range(1500)})
        assert len(results.get_many(i.to_bytes(2, "big") for i in range(1600))) == 1500

    def test_what_is_too_large_is_not_stored(self, make_results):
        results = make_results(max_bytes=20)
        results.put_many({b"a": b"x" * 21, b"b": b"x" * 5})
        assert results.get_many([b"a", b"b"]) == {b"b": b"x" * 5}

    def test_a_model_and_an_embedder_compute_once(self, make_results):
        model, embedder, options = FakeModel(RIGHT), HashEmbedder(), GenerateOptions(max_tokens=20)
        computed, rows, texts = [], [], []
        embedder.embed_documents = lambda texts: computed.append(texts) or HashEmbedder.embed_documents(embedder, texts)
        for _ in range(2):
            cached = CachedModel(model, make_results())
            texts.append(cached.stream("Who signs off?", options).result.text)
            rows.append(CachedEmbedder(embedder, make_results()).embed_documents(["a", "b"]).tolist())
        assert texts[0] == texts[1]
        assert rows[0] == rows[1]
        assert (len(model.prompts), computed) == (1, [["a", "b"]])
