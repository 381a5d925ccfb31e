import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from leanrag import ConfigurationError
from leanrag.llama.sampling import Sampler, SamplingOptions, log_probabilities, score_token, score_tokens

LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))
finite = arrays(np.float32, st.integers(1, 40), elements=st.floats(-50, 50, width=32))


def draws(n=4000, **options):
    sampler = Sampler(SamplingOptions(seed=7, **options))
    return np.bincount([sampler(LOGITS) for _ in range(n)], minlength=4) / n


def test_temperature_zero_takes_the_most_probable():
    assert Sampler(SamplingOptions())(np.array([1, 5, 3], np.float32)) == 1
    assert Sampler(SamplingOptions()).seed is None


def test_temperature_one_draws_in_proportion():
    assert draws(temperature=1.0) == pytest.approx([0.5, 0.25, 0.15, 0.1], abs=0.03)


def test_temperature_two_flattens():
    weights = np.sqrt([0.5, 0.25, 0.15, 0.1])
    assert draws(temperature=2.0) == pytest.approx(weights / weights.sum(), abs=0.03)


def test_top_k_keeps_k():
    assert draws(temperature=1.0, top_k=2) == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=0.03)


def test_top_p_keeps_up_to_the_one_that_reaches_it():
    assert draws(temperature=1.0, top_p=0.7) == pytest.approx([2 / 3, 1 / 3, 0, 0], abs=0.03)


def test_min_p_drops_what_is_much_less_probable():
    assert draws(temperature=1.0, min_p=0.29) == pytest.approx(np.array([0.5, 0.25, 0.15, 0]) / 0.9, abs=0.03)


def test_a_seed_repeats_and_a_fresh_one_is_recorded():
    first = Sampler(SamplingOptions(temperature=1.0))
    again = Sampler(SamplingOptions(temperature=1.0, seed=first.seed))
    other = Sampler(SamplingOptions(temperature=1.0, seed=first.seed ^ 1))
    logits = np.zeros(1000, np.float32)
    drawn = [first(logits) for _ in range(20)]
    assert [again(logits) for _ in range(20)] == drawn
    assert [other(logits) for _ in range(20)] != drawn


@given(finite)
def test_probabilities_sum_to_one(logits):
    scores = [score_token(logits, token) for token in range(len(logits))]
    assert sum(math.exp(score.logprob) for score in scores) == pytest.approx(1, abs=1e-4)
    tokens = np.arange(len(logits), dtype=np.int32)
    rows = np.repeat(logits[None], len(logits), axis=0)
    assert log_probabilities(rows, tokens) == pytest.approx([score.logprob for score in scores], abs=1e-4)


@given(finite, st.integers(1, 3), st.data())
def test_a_row_has_the_same_scores_alone_and_among_others(logits, n_others, data):
    token = data.draw(st.integers(0, len(logits) - 1))
    rows = np.concatenate([logits[None], np.repeat(logits[None, ::-1], n_others, axis=0)])
    assert score_tokens(rows, [token] * len(rows))[0] == score_token(logits, token)


def test_the_scores_of_a_token():
    first, second = score_token(LOGITS, 0), score_token(LOGITS, 1)
    assert first.logprob == pytest.approx(math.log(0.5))
    assert first.margin == pytest.approx(math.log(0.5 / 0.25))
    assert second.margin == pytest.approx(math.log(0.25 / 0.5))
    entropy = -sum(p * math.log(p) for p in (0.5, 0.25, 0.15, 0.1))
    assert (first.entropy, second.entropy) == (pytest.approx(entropy), pytest.approx(entropy))
    assert pytest.approx(LOGITS) == np.log(np.array([0.5, 0.25, 0.15, 0.1]))  # not overwritten


@given(finite, st.floats(0.01, 5), st.integers(0, 50), st.floats(0.01, 1), st.floats(0, 1))
def test_always_draws_a_token(logits, temperature, top_k, top_p, min_p):
    sampler = Sampler(SamplingOptions(temperature, top_k, top_p, min_p, seed=1))
    assert 0 <= sampler(logits) < len(logits)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1},
        {"temperature": math.inf},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"min_p": 2},
        {"seed": -1},
    ],
)
def test_impossible_options_are_refused(options):
    name = next(iter(options))
    with pytest.raises(ConfigurationError, match=f"`{name}` must be"):
        SamplingOptions(**options)
