"""Speculation: a draft, whoever makes it, changes no answer; it is made only where it saves time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import leanrag
from leanrag import ConfigurationError, LlamaCppModel, ModelLoadError
from leanrag.llama import ComputeOptions, load_model
from leanrag.llama.draft import DraftModel
from leanrag.llama.lookup import PromptLookup
from leanrag.llama.speculation import MAX_DRAFT, Drafts, Payoff, ShareRight, Speculation
from leanrag.testing import HashEmbedder
from tests.examples import max_examples
from tests.plain import Alike, consistent
from tests.tiny_gguf import write_tiny_gguf

PROMPTS = ("the quick brown fox " * 4, "abcabcabcabc", "x" * 100)


class Free(Payoff):
    """Rows after the first cost nothing, so each draft pays."""

    def record(self, n_rows, seconds):
        super().record(n_rows, 1.0)


class Scripted:
    """Proposes tokens from a list, right or wrong, and remembers what it was asked."""

    def __init__(self, draws):
        self.draws, self.lengths = draws, []

    def count_unread(self, tokens):
        return 1

    def propose(self, tokens, at_most):
        self.lengths.append(at_most)
        return [next(self.draws) for _ in range(at_most)]


def always_drafts(model, drafter=None):
    """Let a model draft at each token, whatever it costs."""
    speculation = Speculation(drafter)
    speculation.payoff = Free()
    model._engine._sequences._speculation = speculation
    return model


@pytest.fixture(scope="module")
def drafting(tiny_gguf):
    with LlamaCppModel(tiny_gguf, threads=1, compute=ComputeOptions(speculate=True)) as model:
        yield model


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "seed": 3}])
@pytest.mark.parametrize("prompt", PROMPTS)
def test_drafts_from_the_prompt_change_no_answer(drafting, tiny, prompt, options):
    expected = tiny.generate(prompt, max_tokens=40, **options)
    assert Alike(always_drafts(drafting).generate(prompt, max_tokens=40, **options)) == Alike(expected)
    assert consistent(drafting._engine)


@max_examples(25)
@given(draws=st.lists(st.integers(0, 200), min_size=1, max_size=9), prompt=st.text("abc ", min_size=1, max_size=20))
def test_no_draft_changes_an_answer(drafting, tiny, draws, prompt):
    answer = tiny.generate(prompt, max_tokens=24)

    def some():
        while True:  # sometimes right, mostly wrong
            yield from (*draws, *answer.token_ids)

    always_drafts(drafting, Scripted(some()))
    assert Alike(drafting.generate(prompt, max_tokens=24)) == Alike(answer)
    assert consistent(drafting._engine)


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.slow
def test_a_draft_model_changes_no_answer(tiny_gguf, tiny, tmp_path, seed):
    """With seed 0 the draft model is the model itself, so all drafts are right; with seed 1 it knows nothing."""
    draft = write_tiny_gguf(tmp_path / "draft.gguf", seed=seed)
    with LlamaCppModel(tiny_gguf, threads=1, draft=draft) as model:
        always_drafts(model, model._engine._model._draft)
        for prompt in PROMPTS:
            for options in ({}, {"temperature": 1.0, "seed": 3}):
                expected = tiny.generate(prompt, max_tokens=40, **options)
                assert Alike(model.generate(prompt, max_tokens=40, **options)) == Alike(expected)
        many = model.generate_many(PROMPTS, max_tokens=20)  # several answers at once are not drafted
        assert [Alike(each) for each in many] == [Alike(tiny.generate(prompt, max_tokens=20)) for prompt in PROMPTS]
        assert consistent(model._engine)


def test_the_draft_model_proposes_what_it_would_write(tiny_gguf, tiny, monkeypatch):
    monkeypatch.setattr("leanrag.llama.draft._LEAST_PROBABILITY", 0.0)  # a random model is never sure
    with LlamaCppModel(tiny_gguf, threads=1, draft=tiny_gguf) as model:
        draft = model._engine._model._draft
        assert isinstance(draft, DraftModel)
        tokens = tiny.encode("abc")
        written = list(tiny.generate("abc", max_tokens=8).token_ids)
        assert draft.count_unread(tokens) == len(tokens)
        assert draft.propose(tokens, 4) == written[:4]
        assert draft.count_unread([*tokens, *written[:4]]) == 1
        assert draft.propose([*tokens, *written[:2]], 6) == written[2:8]
        assert draft.propose(tokens, model.n_ctx) == []  # beyond its window


def test_a_draft_model_with_other_tokens_is_refused(tiny_gguf, tmp_path):
    other = write_tiny_gguf(tmp_path / "other.gguf")
    content = other.read_bytes()
    swapped = content.replace(b"<0x41>", b"<swap>", 1).replace(b"<0x42>", b"<0x41>", 1).replace(b"<swap>", b"<0x42>", 1)
    other.write_bytes(swapped)
    with pytest.raises(
        ConfigurationError, match=r"another vocabulary .* token 71 is b'<0x42>' there and b'<0x41>' here"
    ):
        LlamaCppModel(tiny_gguf, threads=1, draft=other)


def test_a_draft_model_that_is_no_file_is_refused(tiny_gguf, tmp_path):
    with pytest.raises(ModelLoadError):
        LlamaCppModel(tiny_gguf, draft=tmp_path / "missing.gguf")


def test_a_freed_model_loads_its_draft_again(tiny_gguf, tiny):
    with LlamaCppModel(tiny_gguf, threads=1, draft=tiny_gguf, keep_alive=0) as model:
        for _ in range(2):
            assert Alike(model.generate("abc", max_tokens=8)) == Alike(tiny.generate("abc", max_tokens=8))


@pytest.mark.slow
def test_an_isolated_model_drafts_too(tiny_gguf, tiny):
    with load_model(tiny_gguf, isolation="process", threads=1, draft=tiny_gguf) as model:
        assert Alike(model.generate("abc", max_tokens=8)) == Alike(tiny.generate("abc", max_tokens=8))


def test_a_folder_is_opened_with_a_draft(tiny, tmp_path):
    path = write_tiny_gguf(tmp_path / "long.gguf", n_ctx=2048)
    with leanrag.open(tmp_path / "kb", model=path, draft=path, embedder=HashEmbedder()) as rag:
        rag.add_text("Ada Park signs off releases.")
        assert rag.ask("Who signs off releases?", max_tokens=4).usage.completion_tokens <= 4
    with pytest.raises(ConfigurationError, match=r"`draft=.*` has no effect on a model that is already loaded"):
        leanrag.open(tmp_path / "kb", model=tiny, draft=path, embedder=HashEmbedder())


# What a draft is worth


def test_what_followed_before_is_proposed():
    lookup = PromptLookup([1, 2, 3, 4, 5, 6, 7, 8, 9])
    assert lookup.propose([1], 4) == []
    assert lookup.propose([1, 2, 3], 4) == [4, 5, 6, 7]
    assert lookup.propose([1, 2, 3, 4], 2) == [5, 6]


@given(
    share=st.floats(0, 1),
    alone=st.floats(1e-4, 10),
    more=st.lists(st.floats(0, 2), min_size=MAX_DRAFT, max_size=MAX_DRAFT),
    at_most=st.integers(0, 20),
    token_seconds=st.floats(0, 1),
)
def test_the_length_of_a_draft_pays(share, alone, more, at_most, token_seconds):
    payoff, seconds = Payoff(), [alone]
    for extra in more:
        seconds.append(seconds[-1] + extra * alone)
    for n_rows, taken in enumerate(seconds, start=1):
        payoff.record(n_rows, taken)
    length, saved = payoff.best_length(share, at_most, token_seconds)
    assert 0 <= length <= min(at_most, MAX_DRAFT)
    tokens = sum(share**i for i in range(length + 1))
    per_token = (seconds[length] + length * token_seconds) / tokens
    assert saved == pytest.approx(alone - per_token if length else 0, abs=1e-9)
    assert per_token <= alone


def test_nothing_is_drafted_before_the_first_measurement_nor_at_full_price():
    payoff = Payoff()
    assert payoff.best_length(1.0) == (0, 0.0)
    payoff.record(1, 1.0)
    assert payoff.best_length(1.0)[0] > 0  # it is tried
    for n_rows in range(2, MAX_DRAFT + 2):
        payoff.record(n_rows, 1.0 * n_rows)  # each row costs as much as the first
    assert payoff.best_length(1.0) == (0, 0.0)


def test_an_old_measurement_is_forgotten():
    payoff = Payoff()
    payoff.record(2, 100.0)
    for _ in range(300):
        payoff.record(1, 1.0)
    assert payoff.best_length(0.99)[0] > 0


def test_wrong_drafts_end_drafting_and_a_quotation_begins_it_again():
    speculation = Speculation()
    speculation.payoff = Free()
    quoted = [*range(10, 60)]
    drafts = Drafts(np.array([*quoted, 1, 2, 3, 99, 1, 2, 3, 98], np.int32), speculation)
    drafts.learn(drafted=0, accepted=0, is_alone=True)
    answer = [1, 2, 3]
    n_drafted = 0
    for i in range(20):  # the prompt always proposes what does not follow
        n_drafted += bool(drafts.propose(answer, 8))
        drafts.learn(drafted=8, accepted=0, is_alone=True)
        answer += [4 + i, 1, 2, 3]
    speculation.payoff = Payoff()
    speculation.payoff.record(1, 1.0)
    assert drafts.propose(answer, 8) == []
    for token in quoted[:30]:
        answer.append(token)
        drafts.propose(answer, 8)
    assert drafts.propose(answer, 4) == quoted[30 : 30 + len(drafts.propose(answer, 4))] != []


def test_the_share_of_right_tokens_follows_the_drafts():
    share = ShareRight()
    before = share.value
    share.record(drafted=4, accepted=4)
    assert before < share.value < 1
    for _ in range(100):
        share.record(drafted=4, accepted=0)
    assert share.value < 0.01


def test_a_draft_model_that_does_not_pay_is_not_asked_and_tried_again_later():
    drafter = Scripted(iter([0] * 10**6))
    speculation = Speculation(drafter)
    speculation.payoff.record(1, 1.0)
    asked = []
    for _ in range(80):
        speculation.start(np.array([1], np.int32))
        before = len(drafter.lengths)
        if speculation.ask_drafter([1, 2], 100):
            for _ in range(50):
                speculation.judge_drafter(drafted=1, accepted=0)
        asked.append(len(drafter.lengths) > before)
    assert asked[0]
    assert not any(asked[1:32])
    assert any(asked[32:])


def test_reading_the_prompt_must_pay_too():
    drafter = Scripted(iter([0] * 10**6))
    drafter.count_unread = lambda tokens: len(tokens)
    speculation = Speculation(drafter)
    speculation.payoff.record(1, 1.0)
    speculation._read_seconds = 1.0
    assert speculation.ask_drafter([1] * 1000, 10) == []
    assert speculation.ask_drafter([1] * 2, 100) != []
