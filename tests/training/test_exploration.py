"""Exploration: no model is needed."""

import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from sb3_lecture_dqn import UnsafeFileError
from sb3_lecture_dqn.common.seeding import make_rng
from sb3_lecture_dqn.training.exploration import Exploration, WayToUntried, lecture_epsilon

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


def test_each_observation_has_a_mask_of_its_own():
    explorer = exploration()
    for _ in range(30):
        actions = explorer.choose(0.5, np.zeros(5, int), greedy, np.eye(5, dtype=bool))
        np.testing.assert_array_equal(actions, np.arange(5))


def test_equal_steps_of_several_environments_count_as_many():
    explorer = exploration(states=STATES)
    explorer.count(np.array([12, 12, 13]), np.array([1, 1, 1]))
    assert explorer.counts[2:, 1].tolist() == [2, 1]
    assert explorer.counts.sum() == 3


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


# By the way to untried actions


def explore_everything(next_states, n_steps, allowed=None, seed=0):
    """Explore a deterministic table from state 0, and return how many actions were untried after every step."""
    n_states, n_actions = next_states.shape
    explorer = Exploration(make_rng(seed, "exploration"), n_actions, spaces.Discrete(n_states), anywhere=True)
    state, untried = 0, []
    for _ in range(n_steps):
        masks = None if allowed is None else allowed[[state]]
        (action,) = explorer.draw(1, np.array([state]), masks)
        successor = next_states[state, action]
        explorer.count(np.array([state]), np.array([action]), np.array([successor]), masks)
        state = successor
        tried = explorer.counts > 0
        untried.append(int((~tried if allowed is None else allowed & ~tried).sum()))
    return explorer, untried


def corridor(n):
    """The actions go left and right, and stay at the ends."""
    states = np.arange(n)
    return np.stack([np.maximum(states - 1, 0), np.minimum(states + 1, n - 1)], axis=1)


def test_it_goes_to_untried_actions_of_other_states():
    """A walk by local counts needs about n² steps to the end of the corridor, this one a small multiple of n."""
    n = 60
    _, untried = explore_everything(corridor(n), 5 * n)
    assert untried[-1] == 0
    local = exploration(states=spaces.Discrete(n), n_actions=2)
    state = 0
    for _ in range(5 * n):
        action = local.draw(1, np.array([state])).item()
        local.count(np.array([state]), np.array([action]))
        state = corridor(n)[state, action]
    assert (local.counts == 0).sum() > n / 2


@pytest.mark.parametrize("n", [1, 3])
def test_in_training_trying_comes_before_epsilon(n):
    explorer = Exploration(make_rng(0, "exploration"), 3, spaces.Discrete(2), anywhere=True)
    obs = np.zeros(n, int)
    for i in range(3):
        actions = explorer.choose(0.0, obs, greedy, is_training=True)
        assert (explorer.counts[0, actions] == 0).all()
        explorer.count(obs[:1], np.array([i]), np.array([0]))
        assert (explorer.choose(0.0, obs, greedy) == 2).all()  # a prediction
    for _ in range(30):
        explorer.count(obs[:1], np.array([0]), np.array([0]))
    assert (explorer.choose(0.0, obs, greedy, is_training=True) == 2).all()


def test_it_goes_on_with_the_actions_tried_least():
    explorer, _ = explore_everything(corridor(10), 4000)
    assert explorer.counts.min() > 50


def test_masked_actions_are_neither_tried_nor_waited_for():
    allowed = np.ones((8, 2), bool)
    allowed[[0, 7], [0, 1]] = False  # to stay
    explorer, untried = explore_everything(corridor(8), 100, allowed)
    assert untried[-1] == 0
    assert explorer.counts[~allowed].sum() == 0


@given(st.integers(0, 10**6), st.integers(2, 30), st.integers(1, 4))
def test_costs_are_those_of_the_shortest_ways(seed, n_states, n_actions):
    """The oracle: Bellman-Ford over all actions, until nothing changes."""
    rng = np.random.default_rng(seed)
    next_states, counts = rng.integers(n_states, size=(n_states, n_actions)), rng.integers(0, 4, (n_states, n_actions))
    way = WayToUntried(counts)
    way.next_states[:] = next_states
    for _ in range(2 * n_states + 4 * way.REPEATED):
        way.learn(counts, np.array([0]), np.array([0]), next_states[:1, 0], None)
    here = counts * way.REPEATED
    expected = here.copy()
    for _ in range(2 * n_states):
        expected = np.where(here == 0, 0, np.minimum(here, 1 + expected.min(axis=1)[next_states]))
    np.testing.assert_array_equal(way.costs(counts, np.arange(n_states)), expected)


def test_many_states_are_swept_in_turn(monkeypatch):
    monkeypatch.setattr(WayToUntried, "SWEPT", 7)
    explorer, untried = explore_everything(corridor(20), 400)
    assert untried[-1] == 0
    assert 0 <= explorer.way.costs_of_states[-1] < 20


def test_a_sweep_begins_where_the_last_one_ended(monkeypatch):
    monkeypatch.setattr(WayToUntried, "SWEPT", 7)
    counts, begins = np.ones((20, 2), np.int64), []
    way, step = WayToUntried(counts), np.array([0])
    for _ in range(6):
        begins.append(int(way.costs_of_states[-1]))
        way.learn(counts, step, step, step, None)
    assert begins == [0, 7, 14, 1, 8, 15]


def test_a_forbidden_action_is_not_waited_for():
    counts, step = np.array([[1, 0], [1, 1]]), np.array([0])
    way = WayToUntried(counts)
    way.learn(counts, step, step, step, np.array([[True, False]]))
    assert way.costs_of_states[:2].tolist() == [1, 1]


def test_the_way_is_part_of_the_state():
    explorer, _ = explore_everything(corridor(9), 30)
    other = Exploration(make_rng(1, "exploration"), 2, spaces.Discrete(9), anywhere=True)
    other.set_state(explorer.get_state())
    np.testing.assert_array_equal(other.draw(50, np.arange(50) % 9), explorer.draw(50, np.arange(50) % 9))


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {"next_states": np.zeros((9, 2), np.int64)},
        {
            "next_states": np.full((9, 2), 9),
            "costs_of_states": np.zeros(10, np.int64),
            "allowed": np.ones((9, 2), bool),
        },
        {"next_states": np.zeros((9, 2), int), "costs_of_states": np.zeros(9, int), "allowed": np.ones((9, 2), bool)},
        {"next_states": np.zeros((9, 2), int), "costs_of_states": -np.ones(10, int), "allowed": np.ones((9, 2), bool)},
        {
            "next_states": np.zeros((9, 2), int),
            "costs_of_states": np.array([*[-1] * 9, 0]),
            "allowed": np.ones((9, 2), bool),
        },
    ],
)
def test_a_way_that_leads_nowhere_is_refused(wrong):
    explorer = Exploration(make_rng(0, "exploration"), 2, spaces.Discrete(9), anywhere=True)
    with pytest.raises(UnsafeFileError):
        explorer.set_state({**explorer.get_state(), "way": wrong})
