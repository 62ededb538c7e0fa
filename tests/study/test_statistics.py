"""Estimators of the statistics of few runs, against closed forms, brute force and SciPy."""

import itertools

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from sb3_lecture_dqn.study import report
from sb3_lecture_dqn.common.statistics import (
    estimate_interquartile_mean,
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


# The report


def row(task, setting, seed, reward, solved=1.0, state="done", at=(1, 3)):
    points = {"mean_reward": [reward - 1, reward], "success_rate": [solved, solved], "optimality": [None, None]}
    return {
        **{"task": task, "setting": setting, "seed": seed, "state": state, "error": None, "mean_reward": reward},
        **{"success_rate": solved, "optimality": None, "definition": '{"test_freq": [2, "episode"]}'},
        "curve": {"episodes": list(at), "timesteps": [10, 30], **points},
    }


ROWS = [
    *(row("A", "base", seed, float(seed)) for seed in range(4)),
    *(row("A", "other", seed, 2.0 + seed, solved=0.5) for seed in range(4)),
    {**row("A", "other", 4, 0.0, state="failed"), "error": "Traceback ...\nValueError: why\n"},
    row("B", "base", 0, 1.0),
    {**row("B", "other", 0, 0.0, state="waiting")},
]


def test_the_table_has_every_setting_and_names_the_left_out_trials():
    records = report.summary(ROWS)
    found = {(record["task"], record["setting"]): record for record in records}
    assert list(found) == [(task, setting) for task in ("A", "B", report.ALL_TASKS) for setting in ("base", "other")]
    assert found["A", "base"]["reward"].value == 1.5
    assert found["A", "other"]["reward"].value == 3.5
    assert found["A", "other"]["solved"].value == 0.5
    assert found["A", "base"][report.BETTER] is None
    assert found["A", "other"][report.BETTER].value == 14 / 16  # one of 16 pairs is lower (0), two are equal (1 / 2)
    assert [found["B", "other"][name] for name in ("runs", "reward", report.BETTER)] == [0, None, None]
    assert [found[task, "other"]["failed"] for task in ("A", "B", report.ALL_TASKS)] == [1, 0, 1]
    assert found[report.ALL_TASKS, "base"]["reward"] is None  # rewards of different tasks have no mean
    assert found[report.ALL_TASKS, "base"]["solved"].value == 1
    lines = report.markdown(records)
    assert lines[0] == "| task | setting | runs | failed | solved | reward | optimality | better than baseline |"
    assert lines[2].startswith("| A | base | 4 | 0 | 100.0% (100.0% – 100.0%) | 1.50 (")
    assert "|  | 87.5% (" in lines[3]
    assert lines[4] == "| B | base | 1 | 0 | 100.0% | 1.00 |  |  |"  # one run has no interval
    assert lines[-1] == "The numbers describe the runs that ended. They say nothing about the failed runs."
    assert report.left_out(ROWS) == [
        "1 of 11 trials are not done, and left out.",
        "Failed, and left out: A, other, seed 4: ValueError: why",
    ]
    header, first, _, one_run, *_ = report.to_csv(records).splitlines()
    assert header.startswith("task,setting,runs,failed,solved,solved low,solved high,reward,reward low")
    assert first.startswith("A,base,4,0,1.0,1.0,1.0,1.5,")
    assert one_run.startswith("B,base,1,0,1.0,,,1.0,,,")


def test_where_nothing_failed_the_table_does_not_speak_of_it():
    records = report.summary([one for one in ROWS if one["state"] != "failed"])
    assert "failed" not in records[0]
    assert "failed" not in "".join(report.markdown(records))


def test_an_improvement_has_an_interval_only_if_both_settings_have_several_runs():
    (_, few), (_, many) = (
        report.summary([*(row("A", "base", seed, 0.0) for seed in range(n)), *(row("A", "x", i, 1.0) for i in "ab")])
        for n in (1, 2)
    )
    assert (few[report.BETTER].value, many[report.BETTER].value) == (1, 1)
    assert np.isnan(few[report.BETTER].low)
    assert many[report.BETTER].low == 1


def test_where_no_trial_is_done_there_is_nothing_to_report():
    with pytest.raises(ValueError, match="none of the 1 trials is done"):
        report.summary(ROWS[-1:])


def test_a_curve_counts_the_last_test_before():
    runs = [row("A", "base", 0, 5.0), row("A", "base", 1, 7.0, at=(2, 4))]
    x, curve = report.learning_curve(runs, "mean_reward")
    assert x.tolist() == [2, 3, 4]
    assert curve.value.tolist() == [(4 + 6) / 2, (5 + 6) / 2, (5 + 7) / 2]


def test_the_figure_has_a_row_for_every_task_and_a_curve_for_every_setting():
    figure = report.draw(ROWS)
    assert len(figure.axes) == 8
    solved, reward, profile, better = figure.axes[:4]
    assert [len(axes.lines) for axes in (solved, reward, profile)] == [2, 2, 2]
    assert reward.lines[0].get_xydata().tolist() == [[1, 0.5], [3, 1.5]]
    assert [line.get_xydata()[0].tolist() for line in profile.lines] == [[-0.25, 1], [-0.25, 1]]  # below all runs
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["base", "other"]
    assert [text.get_text() for text in better.get_yticklabels()] == ["other"]
    assert better.lines[0].get_xdata().tolist() == [14 / 16] * 2


def test_runs_that_were_not_tested_have_no_curve_but_all_else():
    nothing = {name: [] for name in ROWS[0]["curve"]}
    untested = [{**one, "curve": nothing} for one in ROWS if one["setting"] == "base"]
    solved, reward, profile, _ = report.draw([*untested, *ROWS[4:8]]).axes[:4]
    assert [len(axes.lines) for axes in (solved, reward, profile)] == [1, 1, 2]
    solved, reward, profile, _ = report.draw(untested).axes[:4]
    assert [len(axes.lines) for axes in (solved, reward, profile)] == [0, 0, 1]
