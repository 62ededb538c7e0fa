"""Estimators of the statistics of few runs, against closed forms, brute force and SciPy."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from sb3_lecture_dqn.common.statistics import (
    estimate_interquartile_mean,
    estimate_means,
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
)

#: Few values, so that there are ties
SCORES = st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0, 10.0]), min_size=1, max_size=12).map(np.array)
TASKS = st.lists(SCORES, min_size=1, max_size=3)


def quick(function, *args):
    """Estimate with few bootstrap samples, if only the value matters."""
    return function(*args, n_resamples=2)


@given(SCORES)
def test_the_interquartile_mean_is_scipys_trimmed_mean(scores):
    assert interquartile_mean(scores) == pytest.approx(scipy.stats.trim_mean(scores, 0.25))


def test_the_interquartile_mean_is_the_mean_of_the_middle_half_along_the_last_axis():
    scores = np.array([[7, 1, 100, 3, -50, 2, 4, 6], [0] * 7 + [8]])
    assert interquartile_mean(scores).tolist() == [(2 + 3 + 4 + 6) / 4, 0]


@given(TASKS)
def test_runs_of_all_tasks_have_one_interquartile_mean(tasks):
    estimate = quick(estimate_interquartile_mean, tasks)
    assert estimate.value == pytest.approx(scipy.stats.trim_mean(np.concatenate(tasks), 0.25))


@given(TASKS, st.data())
def test_the_probability_of_improvement_counts_pairs(tasks, data):
    baseline = [data.draw(SCORES) for _ in tasks]
    by_task = []
    for task, other in zip(tasks, baseline, strict=True):
        pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in itertools.product(task, other)]
        by_task.append(sum(pairs) / len(pairs))
        u = scipy.stats.mannwhitneyu(task, other).statistic
        assert by_task[-1] == pytest.approx(u / (len(task) * len(other)))
    assert quick(probability_of_improvement, tasks, baseline).value == pytest.approx(np.mean(by_task))
    assert quick(probability_of_improvement, baseline, tasks).value == pytest.approx(1 - np.mean(by_task))


@given(TASKS)
def test_the_profile_counts_runs_above_a_threshold(tasks):
    thresholds = np.array([-3.0, -1.0, 0.25, 10.0])
    counted = [np.mean([sum(score > tau for score in task) / len(task) for task in tasks]) for tau in thresholds]
    assert quick(performance_profile, tasks, thresholds).value == pytest.approx(counted)


def test_the_interval_of_a_share_is_the_binomials():
    """If k of n runs are above a threshold, Binomial(n, k / n) runs of a bootstrap sample are."""
    n, k = 20, 14
    scores = [np.array([1.0] * k + [0.0] * (n - k))]
    estimate = performance_profile(scores, np.array([0.5]))
    assert estimate.value == [k / n]
    assert estimate.low == scipy.stats.binom.ppf(0.025, n, k / n) / n
    assert estimate.high == scipy.stats.binom.ppf(0.975, n, k / n) / n


def test_intervals_agree_with_all_possible_samples():
    """Three runs of each of two tasks have 729 equally likely samples; the bootstrap draws some thousands."""
    tasks = [np.array([0.0, 1.0, 5.0]), np.array([10.0, 30.0, 80.0])]
    draws = [list(itertools.product(task, repeat=3)) for task in tasks]
    drawn = [scipy.stats.trim_mean([*a, *b], 0.25) for a, b in itertools.product(*draws)]
    estimate = estimate_interquartile_mean(tasks, n_resamples=40_000)
    low, high = np.quantile(drawn, (0.025, 0.975), method="inverted_cdf")
    assert (float(estimate.low), float(estimate.high)) == pytest.approx((low, high))


def test_the_interval_of_an_improvement_agrees_with_all_possible_samples():
    scores, baseline = np.array([1.0, 2.0, 2.0, 7.0]), np.array([0.0, 2.0, 5.0])
    drawn = [
        np.mean([(a > b) + 0.5 * (a == b) for a in ours for b in theirs])
        for ours in itertools.product(scores, repeat=4)
        for theirs in itertools.product(baseline, repeat=3)
    ]
    estimate = probability_of_improvement([scores], [baseline], n_resamples=40_000)
    low, high = np.quantile(drawn, (0.025, 0.975))
    assert (float(estimate.low), float(estimate.high)) == pytest.approx((low, high), abs=0.02)


def test_the_interval_is_about_scipys():
    scores = np.random.default_rng(1).normal(size=30)
    ours = estimate_interquartile_mean([scores])
    theirs = scipy.stats.bootstrap(
        (scores,),
        lambda x, axis: scipy.stats.trim_mean(x, 0.25, axis),
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * width)


def test_tasks_are_strata():
    """With one run of each task, samples cannot vary, unless all runs are in one stratum."""
    tasks = [np.array([float(i**2)]) for i in range(8)]
    estimate = estimate_interquartile_mean(tasks)
    assert estimate.low == estimate.high == estimate.value
    one = estimate_interquartile_mean([np.concatenate(tasks)])
    assert one.low < one.value < one.high


def test_the_same_seed_gives_the_same_interval():
    tasks = [np.arange(9.0) ** 2]
    assert estimate_interquartile_mean(tasks) == estimate_interquartile_mean(tasks)
    assert estimate_interquartile_mean(tasks, 50).low != estimate_interquartile_mean(tasks, 50, seed=1).low


@pytest.mark.parametrize("scores", [[], [[]], [[1.0, float("nan")]], [[[1.0]]]])
def test_invalid_scores_are_refused(scores):
    with pytest.raises(ValueError, match="scores"):
        estimate_interquartile_mean(scores)


def test_a_baseline_of_other_tasks_is_refused():
    with pytest.raises(ValueError, match="scores of 1 tasks and baseline of 2"):
        probability_of_improvement([[1.0]], [[1.0], [2.0]])


# Means


@given(st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=2), min_size=1, max_size=15), st.integers(0, 3))
def test_the_interval_of_a_mean_holds_the_mean_and_stays_among_the_runs(values, seed):
    runs = np.array(values)
    estimate = estimate_means(runs, n_resamples=50, seed=seed)
    assert np.allclose(estimate.value, runs.mean(axis=0))
    assert (runs.min(axis=0) <= estimate.low + 1e-12).all()
    assert (estimate.low <= estimate.value).all()
    assert (estimate.value <= estimate.high).all()
    assert (estimate.high <= runs.max(axis=0) + 1e-12).all()
    assert ((estimate.low >= 0) & (estimate.high <= 1)).all()


@given(st.lists(st.floats(0, 1), min_size=5, max_size=12).filter(lambda values: np.std(values) > 0.05))
def test_the_interval_of_a_mean_shrinks_with_the_square_root_of_the_runs(values):
    def width(times):
        estimate = estimate_means(np.tile(values, times)[:, None])
        return float(estimate.high[0] - estimate.low[0])

    assert width(16) == pytest.approx(width(1) / 4, rel=0.5)


def test_the_interval_of_a_mean_is_about_the_textbooks():
    """For many runs: mean ± 1.96 s / √n."""
    runs = np.random.default_rng(0).normal(3, 2, size=(400, 1))
    estimate = estimate_means(runs, n_resamples=20_000)
    half = 1.96 * runs.std() / 20
    assert float(estimate.low[0]) == pytest.approx(runs.mean() - half, abs=0.05 * half)
    assert float(estimate.high[0]) == pytest.approx(runs.mean() + half, abs=0.05 * half)


def test_the_interval_of_a_mean_agrees_with_all_possible_samples():
    runs = np.array([0.0, 0.0, 1.0, 5.0, 9.0])
    drawn = [np.mean(sample) for sample in itertools.product(runs, repeat=5)]
    estimate = estimate_means(runs[:, None], n_resamples=40_000)
    expected = np.quantile(drawn, (0.025, 0.975), method="inverted_cdf")
    assert (float(estimate.low[0]), float(estimate.high[0])) == pytest.approx(tuple(expected), abs=0.21)
