import datetime
import doctest
import json
import math
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from leanrag.errors import ConfigurationError, StorageError
from leanrag.routing.calibration import (
    Calibration,
    DriftAudit,
    auroc,
    brier,
    clopper_pearson_upper,
    cross_fit,
    expected_calibration_error,
    fit_isotonic,
    fit_logistic,
    fitting,
    guarantee,
    guaranteed_threshold,
    labels_needed,
    least_escalation,
    quality,
    rows_needed,
    stored,
)
from leanrag.routing.calibration.stored import _cut
from tests.records import rewrite_record

SHA_A, SHA_B = "a" * 64, "b" * 64
MODELS = {"small": SHA_A, "large": SHA_B}
DAY = datetime.date(2026, 1, 2)

scored = st.lists(
    st.tuples(st.integers(0, 6).map(lambda n: n / 4), st.integers(0, 1)), min_size=1, max_size=25
)  # few distinct scores: many ties


@pytest.mark.parametrize("module", [fitting, quality, guarantee, stored])
def test_the_examples_in_the_docs_run(module):
    found = doctest.testmod(module, extraglobs={"auroc": auroc})
    assert found.attempted > 0
    assert found.failed == 0


# Logistic


def test_one_yes_or_no_feature_gives_the_log_odds_of_the_table():
    x = np.repeat([0.0, 0.0, 1.0, 1.0], [30, 10, 5, 15])[:, None]
    y = np.repeat([0, 1, 0, 1], [30, 10, 5, 15])
    model = fit_logistic(x, y, l2=1e-9)
    np.testing.assert_allclose(model.predict([[0.0], [1.0]]), [0.25, 0.75], atol=1e-9)
    assert model.weights[0] / model.scales[0] == pytest.approx(math.log(9), abs=1e-7)


@given(
    st.integers(6, 40).flatmap(
        lambda n: st.tuples(
            st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1, 1)), min_size=n, max_size=n),
            st.lists(st.integers(0, 1), min_size=n, max_size=n),
        )
    ),
    st.sampled_from([0.01, 1.0, 10.0]),
)
def test_the_gradient_vanishes_at_the_fit(rows, l2):
    x, y = np.array(rows[0]), np.array(rows[1])
    assume(0 < y.sum() < len(y))
    model = fit_logistic(x, y, l2)
    p = model.predict(x)
    assert ((p >= 0) & (p <= 1)).all()
    z = (x - np.array(model.means)) / np.array(model.scales)
    assert p.sum() == pytest.approx(y.sum(), abs=1e-6)  # the intercept is free
    np.testing.assert_allclose(z.T @ (p - y) + l2 * np.array(model.weights), 0, atol=1e-6)


def test_a_feature_that_does_not_vary_has_no_weight():
    x = np.column_stack([np.full(20, 0.1), np.arange(20.0)])
    model = fit_logistic(x, np.arange(20) % 3 == 0)
    assert (model.weights[0], model.scales[0]) == (0.0, 1.0)


def test_units_of_a_feature_do_not_matter():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 2))
    y = rng.random(60) < 1 / (1 + np.exp(-x[:, 0]))
    a, b = fit_logistic(x, y), fit_logistic(x * [1e-6, 1e6] + [3, -5], y)
    np.testing.assert_allclose(a.predict(x), b.predict(x * [1e-6, 1e6] + [3, -5]), atol=1e-7)


def test_rows_that_a_line_separates_still_have_an_optimum():
    model = fit_logistic(np.arange(10.0)[:, None], np.arange(10) >= 5)
    assert 0.5 < model.predict([[9.0]])[0] < 1.0


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        ([[1.0], [2.0]], [1, 1], "2 with label 1 and 0 with label 0"),
        ([[1.0], [math.nan]], [0, 1], r"nan at \(1, 0\)"),
        ([[1.0], [None]], [0, 1], "finite|numbers"),
        ([["a"], ["b"]], [0, 1], "numbers"),
        ([[1.0], [2.0]], [0, 1, 1], "one entry for each of 2 rows, got 3"),
        ([1.0, 2.0], [0, 1], "2 dimensions"),
        ([[1.0], [2.0]], [0, 2], "must be 0 or 1, got 2"),
        ([[1.0], [2.0]], [0, math.nan], "finite"),
        (np.empty((0, 1)), [], "empty"),
    ],
)
def test_rows_that_cannot_be_fitted_say_why(features, labels, message):
    with pytest.raises(ConfigurationError, match=message):
        fit_logistic(features, labels)


@pytest.mark.parametrize("l2", [0.0, -1.0, math.inf, math.nan])
def test_without_a_penalty_there_is_no_fit(l2):
    with pytest.raises(ConfigurationError, match="l2"):
        fit_logistic([[0.0], [1.0]], [0, 1], l2)


def test_another_number_of_columns_is_refused():
    with pytest.raises(ConfigurationError, match="1 columns, as fitted, got 2"):
        fit_logistic([[0.0], [1.0]], [0, 1]).predict([[0.0, 1.0]])


# Isotonic


def test_isotonic_pools_what_falls():
    model = fit_isotonic([1, 2, 3, 4, 5, 6], [0, 1, 0, 0, 1, 1])
    assert model.scores == (1.0, 3.0, 5.5)  # 2, 3 and 4 are pooled, and 5 and 6, which are alike
    assert model.values == (0.0, pytest.approx(1 / 3), 1.0)
    np.testing.assert_allclose(model.predict([0, 2, 3, 4.25, 9]), [0, 1 / 6, 1 / 3, 2 / 3, 1])


def test_isotonic_leaves_calibrated_probabilities_as_they_are():
    p = np.repeat([0.1, 0.4, 0.9], 10)
    y = np.concatenate([np.arange(10) < k for k in (1, 4, 9)])
    model = fit_isotonic(p, y)
    np.testing.assert_allclose(model.predict([0.1, 0.25, 0.4, 0.9]), [0.1, 0.25, 0.4, 0.9], atol=1e-15)


@given(scored)
def test_isotonic_is_monotone_and_made_of_probabilities(rows):
    x, y = map(list, zip(*rows, strict=True))
    model = fit_isotonic(x, y)
    p = model.predict(np.linspace(-1, 3, 200))
    assert (np.diff(p) >= 0).all()
    assert p.min() >= 0
    assert p.max() <= 1
    assert list(model.scores) == sorted(set(model.scores))
    assert list(model.values) == sorted(set(model.values))


@given(scored)
def test_isotonic_blocks_are_those_of_the_minimax_formula(rows):
    x, y = map(np.array, zip(*sorted(rows), strict=True))
    distinct = np.unique(x)
    groups = [y[x == score] for score in distinct]

    def mean(a, b):
        return Fraction(int(sum(map(np.sum, groups[a:b]))), sum(map(len, groups[a:b])))

    m = len(groups)
    steps = [max(min(mean(a, b) for b in range(i + 1, m + 1)) for a in range(i + 1)) for i in range(m)]
    model = fit_isotonic(x, y)
    assert model.values == pytest.approx([float(value) for value in sorted(set(steps))])


def test_one_score_gives_the_mean():
    np.testing.assert_allclose(fit_isotonic([2, 2, 2, 2], [0, 1, 1, 1]).predict([-5, 2, 7]), 0.75)


# Cross-fitting


def test_no_row_is_seen_by_the_fit_that_predicts_it():
    x = np.arange(23.0)[:, None]
    y = np.arange(23) % 4 == 0
    seen = []

    def fit(rows, labels):
        assert 0 < labels.sum() < len(labels)
        train = set(rows[:, 0].tolist())

        def predict(rows):
            held = set(rows[:, 0].tolist())
            assert not held & train
            assert len(held | train) == 23
            seen.extend(held)
            return rows[:, 0] / 100

        return predict

    np.testing.assert_array_equal(cross_fit(x, y, fit, folds=4), x[:, 0] / 100)
    assert sorted(seen) == list(range(23))


def test_the_seed_decides_the_folds():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 3)), rng.random(40) < 0.5

    def fit(rows, labels):
        return fit_logistic(rows, labels).predict

    np.testing.assert_array_equal(cross_fit(x, y, fit, seed=3), cross_fit(x, y, fit, seed=3))
    assert not np.array_equal(cross_fit(x, y, fit, seed=3), cross_fit(x, y, fit, seed=4))


@pytest.mark.parametrize("folds", [0, 1, 5])
def test_folds_must_be_possible(folds):
    with pytest.raises(ConfigurationError, match="folds"):
        cross_fit([[1.0], [2.0], [3.0], [4.0]], [0, 1, 0, 1], lambda x, y: lambda x: x[:, 0], folds=folds)


# Metrics


@given(scored)
def test_auroc_is_the_share_of_pairs_in_order(rows):
    ones = [score for score, label in rows if label]
    zeros = [score for score, label in rows if not label]
    assume(ones and zeros)
    pairs = [(a > b) + (a == b) / 2 for a in ones for b in zeros]
    assert auroc(*zip(*rows, strict=True)) == pytest.approx(sum(pairs) / len(pairs))


def test_ece_of_known_bins():
    p = [0.1, 0.1, 0.3, 0.3, 0.8, 0.8]
    y = [0, 0, 0, 1, 1, 1]
    assert expected_calibration_error(p, y, bins=3) == pytest.approx((2 * 0.1 + 2 * 0.2 + 2 * 0.2) / 6)
    assert expected_calibration_error(p, y, bins=1) == pytest.approx(0.1)


@given(
    scored.filter(lambda rows: max(score for score, _ in rows) <= 1),
    st.randoms(use_true_random=False),
    st.integers(1, 20),
)
@pytest.mark.slow
def test_ece_ignores_the_order_of_rows(rows, random, bins):
    shuffled = random.sample(rows, len(rows))
    a, b = (expected_calibration_error(*zip(*some, strict=True), bins=bins) for some in (rows, shuffled))
    assert a == pytest.approx(b)
    assert 0 <= a <= 1


def test_brier_of_known_values():
    assert brier([0.0, 0.5, 1.0, 1.0], [0, 0, 1, 0]) == pytest.approx(1.25 / 4)


@pytest.mark.parametrize("metric", [expected_calibration_error, brier])
def test_what_is_no_probability_is_refused(metric):
    with pytest.raises(ConfigurationError, match=r"1\.5"):
        metric([0.5, 1.5], [0, 1])


# Clopper and Pearson


def binomial_tail(errors, n, p):
    """Exact `P(Binomial(n, p) <= errors)`, in fractions."""
    return sum(math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(errors + 1))


@given(
    st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))),
    st.sampled_from([0.01, 0.05, 0.1, 0.5, 0.9]),
)
def test_the_bound_inverts_the_binomial_sum(counts, delta):
    errors, n = counts
    bound = Fraction(clopper_pearson_upper(errors, n, delta))
    gap = Fraction(1, 10**10)
    assert binomial_tail(errors, n, max(bound - gap, Fraction(0))) >= Fraction(delta)
    assert binomial_tail(errors, n, min(bound + gap, Fraction(1))) <= Fraction(delta)


@pytest.mark.parametrize(
    ("errors", "n", "delta", "bound"),
    [
        (0, 45, 0.1, 1 - 0.1 ** (1 / 45)),
        (0, 1000, 0.05, 1 - 0.05 ** (1 / 1000)),
        (9, 10, 0.05, 0.95 ** (1 / 10)),
        (3, 3, 0.05, 1.0),
        (0, 0, 0.05, 1.0),
        (5, 100, 0.025, 0.112834911105),  # the two-sided interval at 95 % of 5 in 100
    ],
)
def test_known_bounds(errors, n, delta, bound):
    assert clopper_pearson_upper(errors, n, delta) == pytest.approx(bound, abs=1e-9)


def test_a_bound_of_many_rows_inverts_the_sum_too():
    with localcontext() as context:
        context.prec = 50
        bound = Decimal(clopper_pearson_upper(100, 2000, 0.1))
        low, high = (binomial_tail(100, 2000, bound + sign * Decimal("1e-9")) for sign in (-1, 1))
    assert high < 0.1 < low


@given(st.integers(1, 300), st.sampled_from([0.01, 0.1, 0.5]), st.data())
def test_the_bound_grows_with_errors_and_shrinks_with_delta(n, delta, data):
    errors = data.draw(st.integers(0, n - 1))
    bound = clopper_pearson_upper(errors, n, delta)
    assert errors / n < bound < clopper_pearson_upper(errors + 1, n, delta)
    assert clopper_pearson_upper(errors, n, delta / 2) > bound


@pytest.mark.parametrize(
    ("errors", "n", "delta"), [(-1, 5, 0.1), (6, 5, 0.1), (1, 5, 0.0), (1, 5, 1.0), (1, 5, math.nan)]
)
def test_impossible_counts_are_refused(errors, n, delta):
    with pytest.raises(ConfigurationError, match=r"errors|delta"):
        clopper_pearson_upper(errors, n, delta)


@pytest.mark.parametrize(("alpha", "delta"), [(0.05, 0.1), (0.01, 0.05), (0.1, 0.1), (0.5, 0.5)])
def test_labels_needed_are_the_fewest(alpha, delta):
    n = labels_needed(alpha, delta)
    assert clopper_pearson_upper(0, n, delta) <= alpha + 1e-15
    assert clopper_pearson_upper(0, n - 1, delta) > alpha


# Thresholds


def test_a_threshold_by_hand():
    # 100 rows, and one loss among the 40 most confident, at the 31st; CP(0, 100) = .0228, CP(1, 100) = .0383
    confidences = np.arange(100, 0, -1) / 100
    losses = np.zeros(100)
    losses[30] = losses[40] = 1
    found = guaranteed_threshold(confidences, losses, 0.03, 0.1)
    assert (found.threshold, found.kept, found.losses, found.n) == (0.71, 0.3, 0, 100)
    assert found.bound == pytest.approx(1 - 0.1**0.01)
    found = guaranteed_threshold(confidences, losses, 0.04, 0.1)
    assert (found.threshold, found.kept, found.losses) == (0.61, 0.4, 1)
    assert guaranteed_threshold(confidences, losses, 0.04, 0.1, grid=[0.9, 0.65, 0.5, 0.1]).threshold == 0.65


def test_the_first_failure_ends_it():
    confidences = np.array([0.9] * 50 + [0.1] * 50)
    losses = np.array([1] * 50 + [0] * 50)
    assert guaranteed_threshold(confidences, losses, 0.2, 0.1).threshold is None
    found = guaranteed_threshold(confidences, losses, 0.2, 0.1, grid=[0.95, 0.05])
    assert (found.threshold, found.kept, found.bound) == (0.95, 0.0, pytest.approx(1 - 0.1**0.01))


def test_equally_confident_answers_are_kept_or_passed_on_together():
    found = guaranteed_threshold([0.5] * 99 + [0.9], [0] * 98 + [1, 0], 0.03, 0.1)
    assert (found.threshold, found.kept) == (0.9, 0.01)


def test_with_too_few_rows_nothing_is_kept():
    found = guaranteed_threshold(np.linspace(0, 1, 44), np.zeros(44), 0.05, 0.1)
    assert (found.threshold, found.kept, found.bound) == (None, 0.0, 0.0)
    assert guaranteed_threshold(np.linspace(0, 1, 45), np.zeros(45), 0.05, 0.1).kept == 1.0


@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 9).map(lambda n: int(n == 0))), min_size=1, max_size=150),
    st.sampled_from([0.02, 0.1, 0.3]),
    st.sampled_from([0.05, 0.1, 0.5]),
)
def test_no_observed_risk_above_alpha_is_certified(rows, alpha, delta):
    x, y = map(np.array, zip(*rows, strict=True))
    for grid in (None, np.linspace(0, 1, 11)):
        found = guaranteed_threshold(x, y, alpha, delta, grid)
        keeps = np.zeros(len(x), bool) if found.threshold is None else x >= found.threshold
        assert found.kept == keeps.mean()
        assert found.losses == y[keeps].sum()
        assert found.losses / found.n <= found.bound <= alpha


def test_the_guarantee_holds_in_200_splits_and_the_best_looking_threshold_does_not():
    alpha, delta, n = 0.05, 0.1, 300
    rng = np.random.default_rng(7)
    confidences = rng.beta(2, 1, 30_000)
    losses = rng.random(30_000) < 0.6 * (1 - confidences)

    order = np.argsort(-confidences)
    risks = np.concatenate([[0.0], np.cumsum(losses[order]) / len(losses)])

    def risk(threshold):
        return risks[0 if threshold is None else np.searchsorted(-confidences[order], -threshold, side="right")]

    bad = naive_bad = 0
    kept = []
    for seed in range(200):
        rows = np.random.default_rng(seed).integers(30_000, size=n)
        found = guaranteed_threshold(confidences[rows], losses[rows], alpha, delta)
        kept.append(found.kept)
        bad += risk(found.threshold) > alpha
        ranked = rows[np.argsort(-confidences[rows])]
        naive = np.flatnonzero(np.cumsum(losses[ranked]) / n <= alpha)[-1]
        naive_bad += risk(confidences[ranked[naive]]) > alpha
    assert bad <= delta * 200
    assert naive_bad > 0.3 * 200  # so that the test could fail
    assert np.mean(kept) > 0.3


def test_what_any_method_must_pass_on():
    assert least_escalation(0.3, 0.1) == pytest.approx(0.2)
    assert least_escalation(0.3, 0.1, of="kept") == pytest.approx(0.2 / 0.9)
    assert least_escalation(0.05, 0.1) == 0.0


@given(st.integers(1, 200), st.data(), st.floats(0.01, 0.9))
def test_an_oracle_needs_no_less_and_no_more(n, data, alpha):
    wrong = data.draw(st.integers(0, n))
    for of in ("all", "kept"):
        least = least_escalation(wrong / n, alpha, of=of)
        escalated = math.ceil(least * n - 1e-9)  # an oracle passes on wrong ones
        assert 0 <= escalated <= wrong
        among = n if of == "all" else max(1, n - escalated)
        assert (wrong - escalated) / among <= alpha + 1e-9
        if escalated:
            fewer = escalated - 1
            assert (wrong - fewer) / (n if of == "all" else n - fewer) > alpha - 1e-9


# Calibration


def questions(n, seed=0):
    """Signals, and who was right: the first column tells of the smaller model, the second of the larger."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 3))
    right = rng.random(n) < 1 / (1 + np.exp(-2 * x[:, 0]))
    larger = rng.random(n) < 1 / (1 + np.exp(-2 - 2 * x[:, 1]))
    return x, right, larger


def fitted(n=600, **options):
    x, right, larger = questions(n)
    return Calibration.fit(
        x, right, larger, **{"names": ("a", "b", "c"), "models": MODELS, "created": DAY, "alpha": 0.1, **options}
    )


def test_a_calibration_knows_right_answers_and_gaps():
    calibration = fitted(2000)
    assert (calibration.rows_fitted, calibration.rows_certified) == (1000, 1000)
    assert calibration.right.weights[0] > 1.0 > abs(calibration.right.weights[1])
    assert calibration.gap.weights[0] < -1.0
    assert calibration.gap.weights[1] > 0.3  # who is wrong where the larger model is right
    assert calibration.isotonic is not None
    x, right, larger = questions(20_000, seed=1)
    p = calibration.confidence(x)
    assert expected_calibration_error(p, right) < 0.04
    assert auroc(p, right) > 0.8
    assert calibration.auroc == pytest.approx(auroc(p, right), abs=0.03)
    keeps = calibration.keeps(x)
    assert (keeps & ~right & larger).mean() <= 0.1
    assert keeps.mean() == pytest.approx(calibration.kept, abs=0.05)
    loss = (~right & larger).mean()
    assert calibration.least_escalated == pytest.approx(loss - 0.1, abs=0.04)


def test_few_rows_have_no_isotonic_correction_unless_asked():
    assert fitted(400).isotonic is None
    assert fitted(400, isotonic=True).isotonic is not None
    assert fitted(800, isotonic=False).isotonic is None


def test_without_the_larger_model_the_loss_is_a_wrong_answer():
    x, right, _ = questions(600)
    calibration = Calibration.fit(
        x, right, names="abc", models=MODELS, created=DAY, alpha=0.2, label_source="agreement with large"
    )
    assert calibration.gap is None
    np.testing.assert_array_equal(calibration.keep_score(x), calibration.right.predict(x))
    assert calibration.least_escalated == pytest.approx(0.3, abs=0.08)
    assert 0 < calibration.kept < 0.7
    assert calibration.label_source == "agreement with large"


def test_the_rows_that_certify_are_not_those_that_fit():
    # labels without any pattern, and features to learn them by heart: seen rows would look certain
    rng = np.random.default_rng(3)
    x, right = rng.normal(size=(120, 40)), rng.random(120) < 0.5
    calibration = Calibration.fit(x, right, names=[f"f{i}" for i in range(40)], models=MODELS, created=DAY, l2=0.01)
    assert calibration.auroc < 0.7
    assert calibration.kept < 0.3


def test_when_nothing_can_be_kept_nothing_is():
    calibration = fitted().model_copy(update={"threshold": None})
    assert not calibration.keeps(questions(50)[0]).any()


@pytest.mark.slow
def test_the_guarantee_of_a_whole_fit_holds_in_200_draws():
    x, right, larger = questions(5_000, seed=5)
    loss = ~right & larger
    bad = 0
    for seed in range(200):
        rows = np.random.default_rng(seed).integers(5_000, size=200)
        calibration = Calibration.fit(
            x[rows], right[rows], larger[rows], names="abc", models=MODELS, created=DAY, alpha=0.1, delta=0.1, seed=seed
        )
        bad += (loss & calibration.keeps(x)).mean() > 0.1
    assert bad <= 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": ("a", "b")}, "3 columns"),
        ({"names": ("a", "b", "b")}, "once"),
        ({"models": {}}, "models"),
        ({"models": {"small": "beef"}}, "64 digits"),
        ({"label_source": "my own"}, "agreement with"),
        ({"label_source": "agreement with "}, "agreement with"),
        ({"label_source": "agreement with large"}, "larger_right"),
        ({"alpha": 0.0}, "alpha"),
        ({"delta": 0.0}, "delta"),
        ({"delta": 0.7}, "delta"),
        ({"fit_share": 1.0}, "fit_share"),
        ({"l2": 0.0}, "l2"),
    ],
)
def test_arguments_that_cannot_work_are_refused(change, message):
    with pytest.raises(ConfigurationError, match=message):
        fitted(**change)


def test_too_few_rows_say_how_many_are_needed():
    assert rows_needed(0.05, 0.1) == 90
    x, right, _ = questions(89)
    with pytest.raises(ConfigurationError, match=r"89 rows .* at least 90 are"):
        Calibration.fit(x, right, names="abc", models=MODELS, created=DAY)
    x, right, _ = questions(90)
    assert Calibration.fit(x, right, names="abc", models=MODELS, created=DAY).rows_certified == 45


def test_one_class_only_is_refused():
    x = questions(200)[0]
    for same in (np.ones(200), np.zeros(200)):
        with pytest.raises(
            ConfigurationError, match=r"at least 5 rows of each class .* among 100 fitted rows, 50% of 200"
        ):
            Calibration.fit(x, same, names="abc", models=MODELS, created=DAY)


def test_a_missing_signal_is_refused():
    x, right, larger = questions(200)
    x[17, 2] = math.nan
    with pytest.raises(ConfigurationError, match=r"nan at \(17, 2\)"):
        Calibration.fit(x, right, larger, names="abc", models=MODELS, created=DAY)
    with pytest.raises(ConfigurationError, match="larger_right"):
        Calibration.fit(questions(200)[0], right, larger[:-1], names="abc", models=MODELS, created=DAY)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "high"])
@pytest.mark.parametrize("method", ["confidence", "keep_score", "keeps"])
def test_no_answer_is_judged_by_a_signal_that_is_no_number(method, value):
    with pytest.raises(ConfigurationError, match=r"`features` must be (finite|numbers).*Replace missing values"):
        getattr(fitted(200), method)([[0.0, 1.0, 0.5], [0.0, value, 0.5]])


# Files


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "calibration.json"
    fitted().save(path)
    return path


def test_a_saved_calibration_comes_back_the_same(file):
    calibration = fitted()
    back = Calibration.load(file, models=MODELS, features=("a", "b", "c"))
    assert back == calibration
    x = questions(20)[0]
    np.testing.assert_array_equal(back.confidence(x), calibration.confidence(x))
    np.testing.assert_array_equal(back.keeps(x), calibration.keeps(x))
    body = json.loads(file.read_text())
    assert (body["format"], body["version"], body["created"]) == ("leanrag calibration", 1, "2026-01-02")
    assert [path.name for path in file.parent.iterdir()] == ["calibration.json"]


def test_white_space_and_order_may_change(file):
    body = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(body.items()))))
    assert Calibration.load(file) == fitted()


@pytest.mark.parametrize("field", ["threshold", "alpha", "bound", "label_source", "created", "checksum"])
def test_an_edited_file_is_refused(file, field):
    body = json.loads(file.read_text())
    body[field] = "2027-01-01" if isinstance(body[field], str) else body[field] / 2
    file.write_text(json.dumps(body))
    with pytest.raises(StorageError, match=r"changed after it was written.*Calibrate again") as caught:
        Calibration.load(file)
    assert caught.value.path == file


def test_a_torn_file_is_refused(file):
    whole = file.read_bytes().rstrip()
    for length in range(0, len(whole), 7):
        file.write_bytes(whole[:length])
        with pytest.raises(StorageError, match="cut short"):
            Calibration.load(file)


def test_one_that_keeps_no_answer_can_be_saved(file):
    none = fitted().model_copy(update={"threshold": None})
    none.save(file)
    assert Calibration.load(file) == none


@pytest.mark.parametrize("text", [b"", b"[]", b"null", b"{}", b'{"format": "x"}', b"GGUF\x03\xff\xfe", b"[" * 100_000])
def test_what_is_no_calibration_is_refused(file, text):
    file.write_bytes(text)
    with pytest.raises(StorageError, match="Calibrate again"):
        Calibration.load(file)


def test_a_later_version_is_refused(file):
    file.write_text(file.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(StorageError, match=r"version 2.*Calibrate again, or upgrade"):
        Calibration.load(file)


def test_a_file_whose_checksum_is_right_is_parsed_all_the_same(file):
    rewrite_record(file, lambda fields: fields["right"]["weights"].pop())
    with pytest.raises(StorageError, match="one weight for each"):
        Calibration.load(file)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "place", [("threshold",), ("right", "weights", 1), ("gap", "intercept"), ("right", "scales", 0)]
)
def test_a_file_with_a_number_that_is_not_finite_is_refused(file, place, number):
    def change(fields):
        *way, last = place
        for step in way:
            fields = fields[step]
        fields[last] = number

    rewrite_record(file, change)
    with pytest.raises(StorageError, match=f"{place[0]}.*finite number.*Calibrate again"):
        Calibration.load(file)


def test_a_file_that_is_not_there_says_so(tmp_path):
    with pytest.raises(StorageError, match="cannot read"):
        Calibration.load(tmp_path / "none.json")
    with pytest.raises(StorageError, match="cannot write"):
        fitted().save(tmp_path / "none" / "c.json")


@pytest.mark.parametrize(
    "models",
    [
        {"small": SHA_A},
        {"small": SHA_B, "large": SHA_B},
        {"large": SHA_B, "small": SHA_A},
        {"small": SHA_A, "other": SHA_B},
        {"small": SHA_A, "large": SHA_B, "third": SHA_A},
    ],
)
def test_other_models_are_refused(file, models):
    with pytest.raises(ConfigurationError, match="was made for 'small'"):
        Calibration.load(file, models=models)


def test_a_model_without_a_file_goes_by_its_name(file):
    assert Calibration.load(file, models={"small": SHA_A.upper(), "large": None}) == fitted()


def test_other_signals_are_refused(file):
    with pytest.raises(ConfigurationError, match="'c', 'd'"):
        Calibration.load(file, features=("a", "b", "d"))
    with pytest.raises(ConfigurationError, match="another order"):
        Calibration.load(file, features=("b", "a", "c"))


def test_the_old_file_stays_when_the_new_one_cannot_be_written(file, monkeypatch):
    before = file.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        fitted(800).save(file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["calibration.json"]


# Drift


def test_the_choice_can_be_repeated_and_is_as_rare_as_asked():
    audit = DriftAudit(alpha=0.05, share=0.1)
    chosen = [audit.chooses(f"question {i}") for i in range(5000)]
    assert chosen == [audit.record(True).chooses(f"question {i}") for i in range(5000)]
    assert np.mean(chosen) == pytest.approx(0.1, abs=0.015)
    other = DriftAudit(alpha=0.05, share=0.1, seed=1)
    assert chosen != [other.chooses(f"question {i}") for i in range(5000)]
    assert not DriftAudit(alpha=0.05, share=0.0).chooses("x")
    assert DriftAudit(alpha=0.05, share=1.0).chooses("lone surrogate \ud800")


def test_a_larger_share_chooses_the_same_questions_and_more():
    low, high = DriftAudit(alpha=0.05, share=0.05), DriftAudit(alpha=0.05, share=0.2)
    assert all(high.chooses(str(i)) for i in range(2000) if low.chooses(str(i)))


def test_the_bound_follows_what_is_recorded():
    audit = DriftAudit(alpha=0.05)
    assert (audit.bound, audit.is_certified, audit.evidence, audit.has_drifted) == (
        1.0,
        False,
        pytest.approx(1.0),
        False,
    )
    for _ in range(44):
        audit = audit.record(False)
    assert not audit.is_certified
    audit = audit.record(False)
    assert audit.is_certified
    assert audit.bound == clopper_pearson_upper(0, 45, 0.1)
    audit = audit.record(True)
    assert (audit.n, audit.losses, audit.is_certified, audit.has_drifted) == (46, 1, False, False)


def test_losses_withdraw_the_guarantee():
    audit = DriftAudit(alpha=0.05, delta=0.05)  # 1 / delta is between what one loss shows, 10.5, and two
    losses = 0
    while not audit.has_drifted:
        audit = audit.record(True)
        losses += 1
    assert losses == 2
    assert audit.evidence == pytest.approx((1 - 0.05**3) / 3 / (0.95 * 0.05**2))  # the integral of p^2, over (.05, 1)


def test_a_drift_is_not_taken_back_by_what_follows():
    audit = DriftAudit(alpha=0.05, delta=0.05, n=2, losses=2)
    for _ in range(100):
        audit = audit.record(False)
    assert audit.evidence < 1
    assert audit.has_drifted
    assert not DriftAudit(alpha=0.05, delta=0.05, n=102, losses=2).has_drifted  # the counts alone do not tell


@given(st.lists(st.booleans(), max_size=60), st.sampled_from([0.05, 0.3]), st.sampled_from([0.1, 0.5]))
def test_a_drift_is_one_as_soon_as_the_evidence_has_ever_sufficed(losses, alpha, delta):
    audit, has_sufficed = DriftAudit(alpha=alpha, delta=delta), False
    for loss in losses:
        audit = audit.record(loss)
        has_sufficed |= audit.evidence >= 1 / delta
        assert audit.has_drifted == has_sufficed
    assert (audit.n, audit.losses) == (len(losses), sum(losses))


@given(
    st.integers(0, 400).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), st.sampled_from([0.02, 0.1, 0.4])
)
def test_the_evidence_is_a_martingale_at_alpha(counts, alpha):
    n, losses = counts
    audit = DriftAudit(alpha=alpha, n=n, losses=losses)
    assume(audit.evidence < 1e200)
    expected = alpha * audit.record(True).evidence + (1 - alpha) * audit.record(False).evidence
    assert expected == pytest.approx(audit.evidence, rel=1e-8)
    assert audit.record(True).evidence >= audit.evidence >= audit.record(False).evidence


@pytest.mark.slow
def test_no_false_alarm_at_alpha_and_a_true_one_above_it():
    def alarms(risk):
        found = 0
        for seed in range(100):
            audit = DriftAudit(alpha=0.1)
            for loss in np.random.default_rng(seed).random(200) < risk:
                audit = audit.record(bool(loss))
                if audit.has_drifted:
                    found += 1
                    break
        return found

    assert alarms(0.1) <= 10
    assert alarms(0.25) >= 90


@pytest.mark.parametrize(
    "change", [{"alpha": 0.0}, {"delta": 1.0}, {"share": 1.5}, {"n": 1, "losses": 2}, {"n": 9, "has_drifted": True}]
)
def test_an_audit_that_cannot_be_is_refused(change):
    with pytest.raises(ConfigurationError):
        DriftAudit(**{"alpha": 0.05, **change})


# What is known before a model is asked


def foreseen(n=200, seed=0):
    """Rows of `(found, sure)`: where nothing is found there is no answer; of the others those that are sure are right."""
    random = np.random.default_rng(seed)
    found, sure = random.random(n) < 0.6, random.random(n) < 0.8
    rows = np.stack([found + 0.01 * random.random(n), sure * found + 0.01 * random.random(n)], axis=1)
    return rows, found & sure, ~found


def foreseeing(before=("found",), **options):
    rows, right, silent = foreseen()
    return Calibration.fit(
        rows,
        right,
        right,
        silent,
        names=("found", "sure"),
        before=before,
        models={"small": None, "large": None},
        created=datetime.date(2026, 1, 1),
        **options,
    )


def test_what_is_known_beforehand_spares_asking():
    calibration = foreseeing()
    assert calibration.before.weights[1] == 0.0  # what is known afterwards does not count
    assert calibration.asks([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]).tolist() == [False, False, True]
    assert calibration.losses == 0
    assert calibration.kept == 1.0


def test_without_anything_known_beforehand_every_model_is_asked():
    calibration = foreseeing(before=())
    assert (calibration.before, calibration.ask_from) == (None, None)
    assert calibration.asks([[0.0, 0.0]]).tolist() == [True]


def test_what_is_known_beforehand_is_kept_in_the_file(tmp_path):
    calibration = foreseeing()
    calibration.save(tmp_path / "c.json")
    assert Calibration.load(tmp_path / "c.json") == calibration


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans(), st.booleans()), min_size=1, max_size=30), st.booleans())
def test_a_cut_is_as_good_as_any(rows, is_last):
    scores, right, silent = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    scores = scores / 7

    def worth(cut):
        return np.where(scores < cut, silent, right).sum()

    found = _cut(scores, right, silent, is_last=is_last)
    cuts = [0.0, 1.0, *(scores + 0.01)]
    assert worth(found) == max(map(worth, cuts))
    others = [cut for cut in cuts if worth(cut) == worth(found)]
    below = (scores < found).sum()
    counts = [(scores < cut).sum() for cut in others]
    assert below == (max(counts) if is_last else min(counts))


@pytest.mark.parametrize("low", [0.3, float(np.nextafter(0.3, 1))])
def test_a_cut_parts_scores_that_are_neighbours(low):
    high = float(np.nextafter(low, 1))
    cut = _cut(np.array([low, high]), np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    assert low < cut <= high


def test_what_would_lose_too_much_is_asked_all_the_same():
    rows, right, silent = foreseen()
    spoilt = silent & (np.arange(len(silent)) % 5 != 0)  # a fifth of what looks unanswerable has an answer after all
    found = Calibration.fit(
        rows,
        right,
        np.ones(len(right)),
        spoilt,
        names=("found", "sure"),
        before=("found",),
        models={"small": None, "large": None},
        created=datetime.date(2026, 1, 1),
        alpha=0.05,
    )
    assert (found.before is not None, found.ask_from) == (True, None)
    assert foreseeing(alpha=0.05).ask_from is not None
