"""
Statistics of few runs, with intervals: means, interquartile means, performance profiles, probabilities of improvement.

The estimators, but for the plain mean, are those of Agarwal, Schwarzer, Castro, Courville & Bellemare, "Deep
Reinforcement Learning at the Edge of the Statistical Precipice" (NeurIPS 2021). The scores of a setting are a list with
one array for every task, which has one number for every run. Intervals are percentiles of a stratified bootstrap: each
sample draws from the runs of a task, with replacement, as many as the task has.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

N_RESAMPLES = 10_000
CONFIDENCE = 0.95

Scores = Sequence[np.ndarray]


class Estimate(NamedTuple):
    """
    A number or an array of numbers, with its interval.

    :param value: The estimate
    :param low: Lower end of the interval, of the same shape
    :param high: Upper end of the interval, of the same shape
    """

    value: np.ndarray
    low: np.ndarray
    high: np.ndarray


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """
    Return the mean of the middle half: without the ⌊n/4⌋ lowest and the ⌊n/4⌋ highest of n scores.

    :param scores: Shape ``(..., n)``
    :return: Shape ``(...)``
    """
    n = scores.shape[-1]
    cut = n // 4
    middle: np.ndarray = np.partition(scores, (cut, n - cut - 1), axis=-1)[..., cut : n - cut].mean(axis=-1)
    return middle


def estimate_interquartile_mean(scores: Scores, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Estimate:
    """
    Estimate the interquartile mean over the runs of all tasks.

    :param scores: One array for every task
    :param n_resamples: Number of bootstrap samples
    :param seed: Seed of the bootstrap
    :return: The mean, a number
    """
    scores = _checked(scores)
    rng = np.random.default_rng(seed)
    drawn = [task[rng.integers(len(task), size=(n_resamples, len(task)))] for task in scores]
    return _estimate(interquartile_mean(np.concatenate(scores)), interquartile_mean(np.concatenate(drawn, axis=1)))


def estimate_means(scores: np.ndarray, n_resamples: int = 2000, seed: int = 0) -> Estimate:
    """
    Estimate the mean over runs at every point of a curve.

    A bootstrap sample draws whole runs, the same ones at all points. No interval leaves the range of the runs, so the
    interval of a share is within [0, 1].

    :param scores: Shape ``(n, p)`` for n runs and p points
    :param n_resamples: Number of bootstrap samples
    :param seed: Seed of the bootstrap
    :return: The means, shape ``(p,)``. The interval holds for each point separately
    """
    weights = _bootstrap_weights(len(scores), n_resamples, np.random.default_rng(seed))
    value, low, high = _estimate(scores.mean(axis=0), weights @ scores)
    # Rounding may move an end a little too far
    return Estimate(
        value, np.clip(low, scores.min(axis=0), value), np.clip(high, value, np.maximum(value, scores.max(axis=0)))
    )


def performance_profile(
    scores: Scores, thresholds: np.ndarray, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Estimate:
    """
    Estimate the share of runs with a score above each threshold, as a mean over tasks.

    :param scores: One array for every task
    :param thresholds: Shape ``(t,)``
    :param n_resamples: Number of bootstrap samples
    :param seed: Seed of the bootstrap
    :return: The shares, shape ``(t,)``. The interval holds for each threshold separately
    """
    above = [(task[:, None] > thresholds).astype(np.float64) for task in _checked(scores)]
    weights = [
        _bootstrap_weights(len(task), n_resamples, np.random.default_rng([seed, i])) for i, task in enumerate(above)
    ]
    value = np.mean([task.mean(axis=0) for task in above], axis=0)
    return _estimate(value, np.mean([w @ task for w, task in zip(weights, above, strict=True)], axis=0))


def probability_of_improvement(
    scores: Scores, baseline: Scores, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Estimate:
    """
    Estimate the probability that a run is better than a run of the baseline, as a mean over tasks. A tie counts half.

    :param scores: One array for every task
    :param baseline: Scores of another setting on the same tasks
    :param n_resamples: Number of bootstrap samples
    :param seed: Seed of the bootstrap
    :return: The probability, a number. If the interval contains 0.5, the runs do not tell which setting is better
    :raises ValueError: If ``scores`` and ``baseline`` have different numbers of tasks
    """
    scores, baseline = _checked(scores), _checked(baseline)
    if len(scores) != len(baseline):
        raise ValueError(f"scores of {len(scores)} tasks and baseline of {len(baseline)}: give the same tasks")
    rng = np.random.default_rng(seed)
    values, resampled = [], []
    for task, other in zip(scores, baseline, strict=True):
        better = (task[:, None] > other) + 0.5 * (task[:, None] == other)
        ours, theirs = (_bootstrap_weights(len(runs), n_resamples, rng) for runs in (task, other))
        values.append(better.mean())
        resampled.append(((ours @ better) * theirs).sum(axis=1))
    return _estimate(np.mean(values), np.mean(resampled, axis=0))


def _bootstrap_weights(n: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the share of every run in each bootstrap sample, shape ``(n_resamples, n)``."""
    return rng.multinomial(n, np.full(n, 1 / n), size=n_resamples) / n


def _estimate(value: np.ndarray | np.floating, resampled: np.ndarray) -> Estimate:
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(resampled, (outside, 1 - outside), axis=0)
    return Estimate(np.asarray(value), low, high)


def _checked(scores: Scores) -> list[np.ndarray]:
    arrays = [np.asarray(task, np.float64) for task in scores]
    if not arrays:
        raise ValueError("scores must have an array for every task, and is empty")
    for task in arrays:
        if task.ndim != 1 or not len(task) or not np.isfinite(task).all():
            raise ValueError(f"scores: every task must have a list of finite numbers, not {task.tolist()}")
    return arrays
