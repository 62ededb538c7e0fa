"""optimal_values and TestResult.optimality: against plain recursions on the environments' own P, and known optima."""

import functools
import math

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import VecCheckNan

from sb3_lecture_dqn import (
    LectureDQN,
    LectureTestCallback,
    NotTabularError,
    TablePolicy,
    TabularModel,
    TabularVecEnv,
    TestResult,
    exact_test,
    make_env,
    optimal_values,
    run_test,
)
from sb3_lecture_dqn.envs.exact import policy_figures

CLIFF = "CliffWalking-v1" if "CliffWalking-v1" in gym.registry else "CliffWalking-v0"


def plain_recursion(P, n_steps, combine):
    """What an episode of so many steps is worth from every state, with dictionaries; `combine` is max or the mean."""
    values = dict.fromkeys(P, 0.0)
    for _ in range(n_steps):
        values = {
            state: combine(
                [
                    math.fsum(
                        p * (reward + (0.0 if terminated else values[after]))
                        for p, after, reward, terminated in outcomes
                    )
                    for outcomes in actions.values()
                ]
            )
            for state, actions in P.items()
        }
    return [values[state] for state in range(len(P))]


def mean(values):
    return math.fsum(values) / len(values)


def tabular(env_id, max_episode_steps=None, **kwargs):
    return TabularVecEnv(gym.make(env_id, max_episode_steps=max_episode_steps, **kwargs))


def with_table(env, values):
    """A model that is greedy on these action values."""
    model = LectureDQN(TablePolicy, env, seed=0)
    model.q_net.layers[0].weight.data[:] = model.q_net.layers[0].weight.new_tensor(values)
    return model


def doing(env, actions):
    """A model with these actions."""
    return with_table(env, np.eye(env.action_space.n)[actions])


@pytest.mark.parametrize(
    ("env_id", "kwargs"),
    [
        ("Taxi-v3", {}),
        (CLIFF, {}),
        ("FrozenLake-v1", {"is_slippery": False}),
        ("FrozenLake-v1", {}),
        ("FrozenLake8x8-v1", {}),
    ],
)
@pytest.mark.parametrize("n_steps", [1, 9, 60])
def test_values_are_those_of_a_plain_recursion(env_id, kwargs, n_steps):
    env = gym.make(env_id, **kwargs).unwrapped
    values = optimal_values(gym.make(env_id, **kwargs), n_steps)
    best, random = (plain_recursion(env.P, n_steps, combine) for combine in (max, mean))
    np.testing.assert_allclose(values.values, best, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(values.random_values, random, rtol=1e-12, atol=1e-12)
    assert values.mean_reward == pytest.approx(np.dot(env.initial_state_distrib, best), rel=1e-12)
    assert values.random_mean_reward == pytest.approx(np.dot(env.initial_state_distrib, random), rel=1e-12)


def test_taxis_optimum_is_reached_from_all_300_starts_in_3921_steps():
    values = optimal_values("Taxi-v3")
    starts = TabularModel.from_env("Taxi-v3").start_states
    assert values.values[starts].sum() == 300 * 21 - 3921
    assert values.mean_reward == (300 * 21 - 3921) / 300
    result = exact_test(doing(tabular("Taxi-v3", 1000), values.actions))
    assert (result.success_rate, result.mean_steps) == (1, 3921 / 300)
    assert result.optimality == 1


def test_the_cliff_is_passed_in_13_steps():
    values = optimal_values(CLIFF, 1000)
    assert (values.mean_reward, values.values[36]) == (-13, -13)
    assert exact_test(doing(tabular(CLIFF, 1000), values.actions)) == TestResult(13, 0, -13, 1, 1)


def test_a_long_way_to_the_frozen_lakes_goal_is_as_good_as_none():
    """The known 14 of 17 of the slippery 4x4 map without a cut; with one the value rises to it from below."""
    means = [optimal_values("FrozenLake-v1", n_steps).mean_reward for n_steps in (5, 6, 20, 100, 1000)]
    assert means[0] == 0 < means[1]
    assert means == sorted(means)
    assert means[-1] == pytest.approx(14 / 17, abs=1e-9)


def random_model(seed, n_states, n_actions, n_outcomes):
    rng = np.random.default_rng(seed)
    P = {
        s: {
            a: [
                (float(p), int(rng.integers(n_states)), float(rng.integers(-5, 6)), bool(rng.random() < 0.2))
                for p in rng.dirichlet(np.ones(n_outcomes))
            ]
            for a in range(n_actions)
        }
        for s in range(n_states)
    }
    return P, TabularModel(P, rng.dirichlet(np.ones(n_states)), max_episode_steps=30)


@given(
    seed=st.integers(0, 10_000),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 3)),
    n_steps=st.integers(1, 12),
)
def test_no_policy_is_better_and_the_plain_recursion_agrees(seed, sizes, n_steps):
    P, model = random_model(seed, *sizes)
    values = optimal_values(model, n_steps)
    np.testing.assert_allclose(values.values, plain_recursion(P, n_steps, max), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(values.random_values, plain_recursion(P, n_steps, mean), rtol=1e-9, atol=1e-9)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        actions = rng.integers(model.n_actions, size=model.n_states)
        returns = policy_figures(model, actions, n_steps, penalty_reward=-10).returns
        assert (returns <= values.values + 1e-9).all()
    # The best first action is worth the value.
    later = plain_recursion(P, n_steps - 1, max)
    for state, action in enumerate(values.actions):
        worth = sum(p * (r + (0 if end else later[after])) for p, after, r, end in P[state][int(action)])
        assert worth == pytest.approx(values.values[state], abs=1e-9)


def test_they_are_computed_once_for_a_model_and_a_limit():
    env = tabular("FrozenLake-v1", 100)
    assert optimal_values(env) is optimal_values(env) is optimal_values(env.model, 100)
    assert optimal_values(env) is not optimal_values(env, 50)
    with pytest.raises(ValueError, match="read-only"):
        optimal_values(env).values[0] = 1


def test_the_tighter_limit_cuts():
    registered = optimal_values(gym.make("FrozenLake-v1"), None)
    assert registered.mean_reward == optimal_values("FrozenLake-v1", 100).mean_reward
    assert registered.mean_reward == optimal_values(gym.make("FrozenLake-v1"), 1000).mean_reward
    assert registered.mean_reward == optimal_values("FrozenLake-v1").mean_reward
    assert registered.mean_reward < optimal_values("FrozenLake-v1", 1000).mean_reward


def test_what_it_cannot_solve_is_refused():
    with pytest.raises(NotTabularError, match="CartPole"):
        optimal_values("CartPole-v1")
    with pytest.raises(ValueError, match="max_episode_steps=0"):
        optimal_values("Taxi-v3", 0)
    with pytest.raises(ValueError, match="no limit"):
        optimal_values(TabularVecEnv("Taxi-v3", max_episode_steps=-1), None)


def test_optimality_is_the_place_between_the_random_policy_and_the_best():
    env = tabular("FrozenLake-v1", 100)
    model = with_table(env, np.random.default_rng(0).random((16, 4)))
    plain = functools.partial(plain_recursion, gym.make("FrozenLake-v1").unwrapped.P, 100)
    best, random = plain(max)[0], plain(mean)[0]
    result = exact_test(model, max_episode_steps=100)
    assert result.optimality == pytest.approx((result.mean_reward - random) / (best - random), rel=1e-9)
    sample = run_test(model, n_episodes=50, max_episode_steps=100, seed=0)
    assert sample.optimality == pytest.approx((sample.mean_reward - random) / (best - random), rel=1e-9)


def test_a_policy_may_be_worse_than_the_random_one():
    still = LectureDQN(TablePolicy, tabular("FrozenLake-v1", 100, is_slippery=False))  # walks into the wall for ever
    assert exact_test(still).mean_reward == 0
    assert exact_test(still).optimality < 0


def test_a_sample_is_compared_with_the_best_from_its_own_starts():
    """So an optimal policy has 1 whatever starts were drawn, where nothing else is left to chance."""
    env = tabular("Taxi-v3", 200)
    model = doing(env, optimal_values(env).actions)
    results = [run_test(model, n_episodes=7, max_episode_steps=200, seed=seed) for seed in range(5)]
    assert len({result.mean_reward for result in results}) > 1
    assert [result.optimality for result in results] == [1] * 5
    # The random policy's place is 0 on the same starts.
    values, starts = optimal_values(env), TabularVecEnv(env.model, seed=3).draw_starts(7)
    result = run_test(with_table(env, np.zeros((500, 6))), TabularVecEnv(env.model, seed=3), 7, 200)
    random, best = values.random_values[starts].mean(), values.values[starts].mean()
    assert result.optimality == pytest.approx((result.mean_reward - random) / (best - random), rel=1e-12)


@pytest.mark.parametrize("reward", [0.0, 0.1])
def test_where_every_policy_is_as_good_there_is_no_optimality(reward):
    """0.1 does not add up exactly, which must not be taken for a difference."""
    P = [[[(1.0, (s + a + 1) % 3, reward, False)] for a in range(3)] for s in range(3)]
    env = TabularVecEnv(TabularModel(P, [1 / 3] * 3, max_episode_steps=50))
    result = exact_test(LectureDQN(env), max_episode_steps=50)
    assert result.mean_reward == pytest.approx(50 * reward)
    assert result.optimality is None
    assert run_test(LectureDQN(env)).optimality is None
    assert "optimality" not in str(result)


def test_elsewhere_there_is_none():
    model = LectureDQN("MlpPolicy", "CartPole-v1")
    assert run_test(model, n_episodes=2, max_episode_steps=5).optimality is None
    assert TestResult(1, 0, 1, 1, 1).optimality is None
    assert TestResult(1, 0, 1, 1, 1, 0.5) == TestResult(1, 0, 1, 1, 1), "it follows from the rest"


def test_it_is_printed_and_logged():
    assert str(TestResult(13.07, 0, 7.93, 1, 300, 0.99987)).endswith("100.0% solved, optimality 0.9999")
    assert str(TestResult(13.07, 0, 7.93, 0.51, 300, 0.8)).endswith("51.0% solved, optimality 0.8000")
    test = LectureTestCallback(n_test_episodes=3, exact=True, verbose=0)
    model = LectureDQN("FrozenLake-v1", seed=0)
    model.learn(total_episodes=1, callback=test)
    assert test.results[0][1].optimality == exact_test(model).optimality


def test_of_an_agent_that_fails_it_is_known_and_not_printed():
    """Standing still is worth more than the random policy's penalties, so it is 0.7 on the way to the best."""
    model = doing(tabular("Taxi-v3", 1000), np.zeros(500, int))
    result = exact_test(model)
    assert result.success_rate == 0
    assert result.optimality == pytest.approx(0.7, abs=0.05)
    assert str(result) == "all 300 starts, exactly: 1000.00 steps, 0.00 penalties, -1000.00 reward, 0.0% solved"
    assert str(TestResult(13.07, 0, 7.93, 0.5, 300, 0.9)).endswith("50.0% solved")
    assert str(exact_test(LectureDQN("FrozenLake-v1"))).startswith("the only start, exactly: ")
    assert str(TestResult(13.07, 0, 7.93, 0.5, 1, 0.9)).startswith("1 test episode: ")
    # Where it is not known what a success is, it is all that tells.
    assert str(TestResult(9, 0, 1, 0, 3, 0.9, knows_success=False)).endswith("0.0% terminated, optimality 0.9000")


def test_wrappers_that_change_nothing_keep_it():
    env = VecCheckNan(tabular("FrozenLake-v1", 100))
    assert run_test(LectureDQN("FrozenLake-v1"), env, n_episodes=3).optimality is not None
    assert exact_test(LectureDQN("FrozenLake-v1"), make_env("FrozenLake-v1")).optimality is not None
