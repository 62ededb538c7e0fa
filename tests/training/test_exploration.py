"""Exploration: no model is needed."""

import numpy as np
import pytest
from gymnasium import spaces

from sb3_lecture_dqn import UnsafeFileError
from sb3_lecture_dqn.common.seeding import make_rng
from sb3_lecture_dqn.training.exploration import Exploration, lecture_epsilon

STATES = spaces.Discrete(4, start=10)


def greedy(obs, masks=None):
    return np.full(len(obs), 2 if masks is None else masks.argmax(axis=1))


def exploration(seed=0, states=None, n_actions=5):
    return Exploration(make_rng(seed, "exploration"), n_actions, states)


def test_epsilon_is_the_lectures():
    assert [lecture_epsilon(i, 1.0, 0.5, 0.2) for i in (1, 2, 3, 50)] == [0.5, 0.25, 0.2, 0.2]


def test_one_observation_is_drawn_for_as_several_are():
    one, several = exploration(), exploration()
    for _ in range(200):
        assert one.choose(0.5, np.array([3]), greedy) == several.choose(0.5, np.array([3]), greedy)
    draws = exploration()
    explores = draws.rng.random() < 0.5
    expected = int(draws.rng.random() * 5) if explores else 2
    assert exploration().choose(0.5, np.array([3]), greedy).item() == expected


@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize(("epsilon", "share"), [(0.0, 0.0), (1.0, 1.0), (0.3, 0.3)])
def test_the_share_of_random_actions_is_epsilon(n, epsilon, share):
    explorer, others = exploration(n_actions=1000), []
    for _ in range(2000):
        others += [*(explorer.choose(epsilon, np.zeros(n, int), greedy) != 2)]
    assert np.mean(others) == pytest.approx(share, abs=0.04)


@pytest.mark.parametrize("n", [1, 6])
def test_masked_actions_are_never_chosen(n):
    explorer, masks = exploration(), np.zeros((n, 5), bool)
    masks[:, 3:] = True
    actions = np.array([explorer.choose(0.7, np.zeros(n, int), greedy, masks) for _ in range(300)])
    assert set(actions.ravel()) == {3, 4}


def test_the_actions_tried_least_often_explore():
    explorer = exploration(states=STATES)
    for _ in range(10):
        tried = {explorer.draw(1, np.array([12])).item() for _ in range(200)}
        assert tried == {*np.flatnonzero(explorer.counts[2] == explorer.counts[2].min())}
        explorer.count(np.array([12]), np.array([tried.pop()]))
    assert explorer.counts.sum() == 10
    assert explorer.counts[[0, 1, 3]].sum() == 0


def test_it_goes_on_from_its_state():
    explorer, other = exploration(seed=1, states=STATES), exploration(seed=2, states=STATES)
    explorer.count(np.array([11, 11]), np.array([0, 0]))
    explorer.rng.random(3)
    other.set_state(explorer.get_state())
    np.testing.assert_array_equal(other.counts, explorer.counts)
    for _ in range(100):
        obs = np.array([10, 11])
        np.testing.assert_array_equal(other.choose(0.5, obs, greedy), explorer.choose(0.5, obs, greedy))


@pytest.mark.parametrize("counts", [np.zeros((4, 6), int), np.zeros((4, 5)), [[0] * 5] * 4, np.zeros(5, int)])
def test_counts_that_do_not_fit_are_refused(counts):
    explorer = exploration(states=STATES)
    with pytest.raises(UnsafeFileError, match=r"int64 array of shape \(4, 5\)"):
        explorer.set_state({**explorer.get_state(), "counts": counts})


def test_a_generator_that_is_none_is_refused():
    explorer = exploration()
    with pytest.raises(ValueError, match="not the state of a generator"):
        explorer.set_state({"rng": {"bit_generator": "Evil"}, "counts": None})
