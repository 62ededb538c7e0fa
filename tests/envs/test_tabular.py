import copy
import inspect
import math
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium.envs.toy_text import FrozenLakeEnv, TaxiEnv
from gymnasium.wrappers import TimeLimit, TransformReward
from hypothesis import given
from hypothesis import strategies as st
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecEnv, VecEnvWrapper, VecMonitor, VecNormalize

from sb3_lecture_dqn import (
    LectureDQN,
    LectureTestCallback,
    NotTabularError,
    TablePolicy,
    TabularModel,
    TabularVecEnv,
    exact_test,
    run_test,
)
from sb3_lecture_dqn.envs.exact import EpisodeFigures, policy_figures, run_policy
from tests.pairs import every

TAXI_CAN_RAIN = "is_rainy" in inspect.signature(TaxiEnv).parameters
CLIFF = "CliffWalking-v1" if "CliffWalking-v1" in gym.registry else "CliffWalking-v0"

DETERMINISTIC = [
    pytest.param("Taxi-v3", {}, id="Taxi"),
    pytest.param("FrozenLake-v1", {"is_slippery": False}, id="FrozenLake4x4"),
    pytest.param("FrozenLake8x8-v1", {"is_slippery": False}, id="FrozenLake8x8"),
    pytest.param(CLIFF, {}, id="CliffWalking"),
]
STOCHASTIC = [
    pytest.param("FrozenLake-v1", {}, id="FrozenLake4x4"),
    pytest.param("FrozenLake8x8-v1", {}, id="FrozenLake8x8"),
    pytest.param(
        "CliffWalking-v1",
        {"is_slippery": True},
        id="CliffWalking",
        marks=pytest.mark.skipif(CLIFF != "CliffWalking-v1", reason="not in this gymnasium"),
    ),
    pytest.param(
        "Taxi-v3",
        {"is_rainy": True},
        id="Taxi",
        marks=pytest.mark.skipif(not TAXI_CAN_RAIN, reason="not in this gymnasium"),
    ),
]
# In this one an action is a coin with three sides, and episodes are short.
P_COIN = [
    [[(0.5, 0, -1.0, False), (0.25, 1, 2.0, False), (0.25, 2, 5.0, True)], [(1.0, 1, 0.0, False)]],
    [[(1.0, 2, 1.0, True)], [(0.1, 0, -10.0, False), (0.9, 1, 0.5, False)]],
    [[(1.0, 2, 0.0, True)], [(1.0, 2, 0.0, True)]],
]


@pytest.fixture(scope="module")
def taxi() -> TabularModel:
    return TabularModel.from_env("Taxi-v3")


def coin(**kwargs) -> TabularModel:
    return TabularModel(P_COIN, [0.5, 0.5, 0.0], max_episode_steps=20, **kwargs)


def optimal_values(model: TabularModel, gamma: float = 0.99) -> np.ndarray:
    """Value iteration: float64 of shape (S, A)."""
    q = np.zeros((model.n_states, model.n_actions))
    for _ in range(10_000):
        following = np.where(model.terminated, 0.0, q.max(axis=1)[model.next_states])
        before, q = q, (model.probabilities * (model.rewards + gamma * following)).sum(axis=2)
        if np.abs(q - before).max() < 1e-10:
            return q
    raise AssertionError("no convergence")


def table_model(env, q: np.ndarray, algorithm=LectureDQN):
    """A model that acts greedily on the action values q."""
    kwargs = {} if algorithm is LectureDQN else {"learning_starts": 0, "buffer_size": 10}
    model = algorithm(TablePolicy, env, seed=0, **kwargs)
    with th.no_grad():
        model.q_net.layers[0].weight.copy_(th.as_tensor(q))
    return model


def plain_episode(env: gym.Env, actions: np.ndarray, start: int, limit: int) -> tuple[int, int, float, bool]:
    """(steps, penalties, return, success) of one episode, one step after the other."""
    env.reset()
    state = env.unwrapped.s = start
    steps, penalties, total = 0, 0, 0.0
    while steps < limit:
        state, reward, terminated, _, _ = env.unwrapped.step(int(actions[state]))
        steps, penalties, total = steps + 1, penalties + (reward == -10), total + reward
        if terminated:
            return steps, penalties, total, "Lake" not in type(env.unwrapped).__name__ or reward > 0  # not in a hole
    return steps, penalties, total, False


def z_of_chi_square(observed: np.ndarray, expected: np.ndarray, degrees: float) -> float:
    """Pearson's statistic as a standard normal number (Wilson and Hilferty, 1931)."""
    statistic = ((observed - expected) ** 2 / expected).sum()
    spread = 2 / (9 * degrees)
    return ((statistic / degrees) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)


def assert_same_infos(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if key == "episode":
            assert {k: v for k, v in ours[key].items() if k != "t"} == {k: v for k, v in value.items() if k != "t"}
            assert [type(v) for v in ours[key].values()] == [type(v) for v in value.values()]
            assert list(ours[key]) == list(value)
        elif isinstance(value, np.ndarray):
            np.testing.assert_array_equal(ours[key], value, strict=True)
        else:
            assert ours[key] == value
            assert type(ours[key]) is type(value)


# --- the model -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("env_id", "kwargs"), DETERMINISTIC + STOCHASTIC)
def test_model_is_the_P_of_the_environment(env_id, kwargs):
    env = gym.make(env_id, **kwargs)
    model = TabularModel.from_env(env)
    inner = env.unwrapped
    assert (model.n_states, model.n_actions) == (env.observation_space.n, env.action_space.n)
    np.testing.assert_array_equal(model.initial_state_distrib, inner.initial_state_distrib)
    for s in range(model.n_states):
        for a in range(model.n_actions):
            outcomes = [(float(p), int(n), float(r), bool(d)) for p, n, r, d in inner.P[s][a] if p > 0]
            k = len(outcomes)
            arrays = (model.probabilities, model.next_states, model.rewards, model.terminated)
            assert list(zip(*(array[s, a, :k].tolist() for array in arrays), strict=True)) == outcomes
            assert not model.probabilities[s, a, k:].any()
    assert model.max_episode_steps == env.spec.max_episode_steps
    assert model.deterministic == (not kwargs.get("is_slippery", "FrozenLake" in env_id) and "is_rainy" not in kwargs)


def test_masks_are_those_of_taxi(taxi):
    env = gym.make("Taxi-v3").unwrapped
    np.testing.assert_array_equal(taxi.action_masks, [env.action_mask(s) for s in range(500)])
    assert TabularModel.from_env("FrozenLake-v1").action_masks is None


def test_arrays_cannot_be_changed_under_other_environments(taxi):
    with pytest.raises(ValueError, match="read-only"):
        taxi.rewards[0] = 1


def test_step_limit_is_the_tightest():
    env = TimeLimit(TimeLimit(FrozenLakeEnv(), 30), 50)
    assert TabularModel.from_env(env).max_episode_steps == 30
    assert TabularModel.from_env(FrozenLakeEnv()).max_episode_steps is None
    assert TabularModel.from_env(Monitor(gym.make("Taxi-v3"))).max_episode_steps == 200


def test_outcomes_without_probability_do_not_make_a_model_stochastic():
    model = TabularModel([[[(0.0, 0, 5.0, True), (1.0, 0, 1.0, False)]]], [1.0])
    assert model.deterministic
    assert model.rewards.item() == 1.0


def test_P_may_be_dictionaries_or_lists():
    as_dicts = TabularModel({s: dict(enumerate(actions)) for s, actions in enumerate(P_COIN)}, [0.5, 0.5, 0.0])
    for name in ("probabilities", "next_states", "rewards", "terminated"):
        np.testing.assert_array_equal(getattr(as_dicts, name), getattr(coin(), name), strict=True)


def broken(state: int, action: int, outcomes: list) -> list:
    P = copy.deepcopy(P_COIN)
    P[state][action] = outcomes
    return P


@pytest.mark.parametrize(
    ("P", "start", "message"),
    [
        (broken(1, 0, [(0.9, 0, 0.0, False)]), [1, 0, 0], r"probabilities of P\[1\]\[0\] sum to 0.9"),
        (broken(1, 0, []), [1, 0, 0], r"probabilities of P\[1\]\[0\] sum to 0"),
        (broken(1, 1, [(-0.5, 0, 0.0, False), (1.5, 0, 0.0, False)]), [1, 0, 0], r"P\[1\]\[1\].*probability -0.5"),
        (broken(1, 1, [(float("nan"), 0, 0.0, False)]), [1, 0, 0], r"P\[1\]\[1\].*probability nan"),
        (broken(2, 0, [(1.0, 3, 0.0, False)]), [1, 0, 0], r"P\[2\]\[0\] leads to state 3"),
        (broken(2, 0, [(1.0, -1, 0.0, False)]), [1, 0, 0], r"P\[2\]\[0\] leads to state -1"),
        (broken(2, 0, [(1.0, 0.5, 0.0, False)]), [1, 0, 0], r"P\[2\]\[0\] leads to state 0.5"),
        (broken(0, 1, [(1.0, 0, float("inf"), False)]), [1, 0, 0], r"P\[0\]\[1\] has the reward inf"),
        (broken(0, 1, [(1.0, 0, 0.0)]), [1, 0, 0], r"P\[0\]\[1\] has the outcome \(1.0, 0, 0.0\)"),
        ([*P_COIN[:2], P_COIN[2][:1]], [1, 0, 0], r"P\[2\] has 1 actions, P\[0\] has 2"),
        ({1: P_COIN[1], 2: P_COIN[2], 3: P_COIN[2]}, [1, 0, 0], r"P\[0\] is missing"),
        ([{0: [(1.0, 0, 0.0, True)], 2: []}], [1], r"P\[0\]\[1\] is missing"),
        ([[]], [1], r"P\[0\] has no actions"),
        ([], [], "no states"),
        (P_COIN, [1, 0], r"initial_state_distrib has the shape \(2,\)"),
        (P_COIN, [0.5, 0, 0], "initial_state_distrib sums to 0.5"),
        (P_COIN, [2, -1, 0], r"initial_state_distrib\[1\] is -1"),
        (P_COIN, [float("nan"), 1, 0], r"initial_state_distrib\[0\] is nan"),
    ],
)
def test_errors_say_where(P, start, message):
    with pytest.raises(ValueError, match=message):
        TabularModel(P, start)


def test_masks_must_fit():
    with pytest.raises(ValueError, match=r"action_masks has the shape \(2, 3\)"):
        coin(action_masks=np.ones((2, 3)))


class MyTaxi(TaxiEnv):
    pass


@pytest.mark.parametrize(
    ("env", "message"),
    [
        pytest.param(
            lambda: gym.make("Taxi-v3", fickle_passenger=True),
            "fickle_passenger=True.*not part of the state",
            marks=pytest.mark.skipif(not TAXI_CAN_RAIN, reason="not in this gymnasium"),
        ),
        (lambda: TransformReward(gym.make("Taxi-v3"), lambda r: 2 * r), "TransformReward around .*rewards"),
        (lambda: MyTaxi(), "MyTaxi is not gymnasium's"),
        (lambda: "CartPole-v1", "CartPoleEnv is not gymnasium's"),
        (lambda: "Blackjack-v1", "BlackjackEnv is not gymnasium's"),
    ],
)
def test_refuses_what_P_does_not_tell(env, message):
    with pytest.raises(NotTabularError, match=message):
        TabularVecEnv(env())


# --- stepping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env_id", "kwargs", "limit", "n_envs"), every(2, [task.values for task in DETERMINISTIC], [7, 100], [1, 3])
)
def test_trajectories_are_those_of_the_environment(env_id, kwargs, limit, n_envs):
    """Everything that a step returns, compared with SB3's DummyVecEnv over Monitor over the environment."""

    def make():
        return Monitor(gym.make(env_id, max_episode_steps=limit, **kwargs))

    theirs = DummyVecEnv([make] * n_envs)
    ours = TabularVecEnv(make(), n_envs, seed=0)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    optimal = optimal_values(ours.model).argmax(axis=1)
    rng = np.random.default_rng(1)
    theirs.reset()
    obs = ours.reset()
    terminations = truncations = 0

    def copy_states():
        for i, real in enumerate(theirs.envs):
            real.unwrapped.s = int(obs[i])

    copy_states()
    for i in range(n_envs):
        assert ours.reset_infos[i].keys() == theirs.reset_infos[i].keys()
    for _ in range(1500):
        random = rng.random(n_envs) < 0.1
        actions = np.where(random, rng.integers(ours.action_space.n, size=n_envs), optimal[obs])
        obs, rewards, dones, infos = ours.step(actions)
        real_obs, real_rewards, real_dones, real_infos = theirs.step(actions)
        np.testing.assert_array_equal(rewards, real_rewards, strict=True)
        np.testing.assert_array_equal(dones, real_dones, strict=True)
        np.testing.assert_array_equal(obs[~dones], real_obs[~dones], strict=True)
        for ours_info, real_info in zip(infos, real_infos, strict=True):
            assert_same_infos(ours_info, real_info)
            truncations += ours_info["TimeLimit.truncated"]
            terminations += "episode" in ours_info and not ours_info["TimeLimit.truncated"]
        if dones.any():
            copy_states()  # the next episodes start anywhere
    if limit == 7:
        assert truncations > 10
    else:
        assert terminations > 10


def outcome_counts(model: TabularModel, n: int, seed: int) -> np.ndarray:
    """How often n steps of every state and action led to each of its outcomes, (S, A, K)."""
    pairs = model.n_states * model.n_actions
    states, actions = np.divmod(np.arange(pairs), model.n_actions)
    env = TabularVecEnv(model, pairs, max_episode_steps=-1, seed=seed)
    env.reset()
    counts = np.zeros(model.probabilities.shape)
    flat = [a.reshape(pairs, -1) for a in (model.probabilities, model.next_states, model.rewards, model.terminated)]
    for _ in range(n):
        env.set_state({**env.get_state(), "states": states})
        obs, rewards, dones, infos = env.step(actions)
        for i in np.flatnonzero(dones):
            obs[i] = infos[i]["terminal_observation"]
        # Outcomes that look alike are counted together, at the first of them.
        alike = (flat[0] > 0) & (flat[1] == obs[:, None]) & (flat[3] == dones[:, None])
        alike &= np.isclose(flat[2], rewards[:, None])
        assert alike.any(axis=1).all()
        counts.reshape(pairs, -1)[np.arange(pairs), np.argmax(alike, axis=1)] += 1
    return counts


def merged_probabilities(model: TabularModel) -> np.ndarray:
    """Probabilities with those of outcomes that look alike added to the first of them, (S, A, K)."""
    merged = np.zeros_like(model.probabilities)
    for s, a, k in np.argwhere(model.probabilities > 0):
        alike = (
            (model.next_states[s, a] == model.next_states[s, a, k])
            & (model.rewards[s, a] == model.rewards[s, a, k])
            & (model.terminated[s, a] == model.terminated[s, a, k])
            & (model.probabilities[s, a] > 0)
        )
        merged[s, a, np.argmax(alike)] += model.probabilities[s, a, k]
    return merged


@pytest.mark.parametrize(("env_id", "kwargs"), STOCHASTIC)
def test_successors_come_as_often_as_P_says(env_id, kwargs):
    model = TabularModel.from_env(gym.make(env_id, **kwargs))
    n = 500
    counts, expected = outcome_counts(model, n, seed=0), n * merged_probabilities(model)
    total, degrees = 0.0, 0
    for s in range(model.n_states):
        for a in range(model.n_actions):
            possible = expected[s, a] > 0
            assert counts[s, a, ~possible].sum() == 0
            if possible.sum() > 1:
                observed, wanted = counts[s, a, possible], expected[s, a, possible]
                # 4.9: one chance in a thousand that any of 2000 states and actions is above
                assert z_of_chi_square(observed, wanted, possible.sum() - 1) < 4.9, (s, a)
                total += ((observed - wanted) ** 2 / wanted).sum()
                degrees += possible.sum() - 1
    assert degrees > 10
    assert abs((total / degrees) ** (1 / 3) - 1 + 2 / (9 * degrees)) / math.sqrt(2 / (9 * degrees)) < 3.3


def test_one_environment_draws_as_many_do():
    """The way of one environment, without NumPy, makes of the same random numbers what the other one makes."""
    model, rng = coin(), np.random.default_rng(0)
    one = TabularVecEnv(model, 1, seed=3)
    obs, state = one.reset(), np.random.default_rng(3)
    assert obs[0] == model.draw_starts(1, state)[0]
    for action in rng.integers(2, size=2000):
        outcome = model.draw_outcomes(obs * 2 + action, state)
        obs, rewards, dones, infos = one.step(np.array([action]))
        assert rewards[0] == model.rewards.flat[outcome[0]]
        assert infos[0]["prob"] == model.probabilities.flat[outcome[0]]
        reached = infos[0]["terminal_observation"] if dones[0] else obs[0]
        assert reached == model.next_states.flat[outcome[0]]
        if dones[0]:
            assert obs[0] == model.draw_starts(1, state)[0]


def test_prob_is_that_of_the_outcome():
    env = TabularVecEnv(coin(), 50, seed=0)
    env.reset()
    seen = {info["prob"] for _ in range(20) for info in env.step(np.zeros(50, int))[3]}
    assert seen == {0.25, 0.5, 1.0}


@pytest.mark.parametrize("by", ["reset", "end of an episode"])
@pytest.mark.parametrize("env_id", ["Taxi-v3", "coin"])
def test_starts_come_as_often_as_the_distribution_says(env_id, by, taxi):
    model = taxi if env_id == "Taxi-v3" else TabularModel(P_COIN, [0.3, 0.7, 0.0])
    env = TabularVecEnv(model, 1000, max_episode_steps=1, seed=1)
    starts = [env.reset()]
    for _ in range(40):
        starts.append(env.reset() if by == "reset" else env.step(np.ones(1000, dtype=int))[0])
    counts = np.bincount(np.concatenate(starts), minlength=model.n_states)
    possible = model.initial_state_distrib > 0
    assert counts[~possible].sum() == 0
    expected = 41_000 * model.initial_state_distrib[possible]
    assert z_of_chi_square(counts[possible], expected, possible.sum() - 1) < 3.3


def test_statistics_of_an_episode_are_rounded_as_by_monitor():
    env = TabularVecEnv(TabularModel([[[(1.0, 0, 1 / 3, False)]]], [1.0]), 2, max_episode_steps=4)
    env.reset()
    for _ in range(4):
        _, rewards, _, infos = env.step(np.zeros(2, dtype=int))
    assert rewards.dtype == np.float32
    assert infos[1]["episode"]["r"] == round(4 / 3, 6)
    assert infos[1]["episode"]["t"] == round(infos[1]["episode"]["t"], 6)
    assert infos[1]["episode"]["l"] == 4


def test_termination_at_the_limit_is_no_truncation():
    env = TabularVecEnv(TabularModel([[[(1.0, 0, 0.0, True)]]], [1.0]), 2, max_episode_steps=1)
    env.reset()
    _, _, dones, infos = env.step(np.zeros(2, dtype=int))
    assert dones.all()
    assert [info["TimeLimit.truncated"] for info in infos] == [False, False]


@pytest.mark.parametrize("n_envs", [1, 2])
def test_environments_end_each_at_its_own_time(n_envs):
    """The limit counts from every episode's own beginning, also when another one has ended before."""
    stay_or_end = TabularModel([[[(1.0, 0, 0.0, False)], [(1.0, 0, 0.0, True)]]], [1.0])
    env = TabularVecEnv(stay_or_end, n_envs, max_episode_steps=3)
    env.reset()
    ended = []
    for t in range(8):
        actions = np.zeros(n_envs, dtype=int)
        actions[0] = t == 1  # the first environment terminates at its second step
        _, _, _, infos = env.step(actions)
        ended += [
            (t, i, info["episode"]["l"], info["TimeLimit.truncated"])
            for i, info in enumerate(infos)
            if "episode" in info
        ]
    first = [(1, 0, 2, False), (4, 0, 3, True), (7, 0, 3, True)]
    second = [(2, 1, 3, True), (5, 1, 3, True)]
    assert sorted(ended) == sorted(first + (second if n_envs == 2 else []))


@pytest.mark.parametrize("n_envs", [1, 3])
def test_what_is_returned_is_the_callers(taxi, n_envs):
    env, same = TabularVecEnv(taxi, n_envs, seed=0), TabularVecEnv(taxi, n_envs, seed=0)
    env.reset()[:] = 0
    same.reset()
    for action in (0, 1, 2, 3, 4, 5) * 50:
        actions = np.full(n_envs, action)
        obs, rewards, dones, infos = env.step(actions)
        expected = same.step(actions)
        for ours, theirs in zip((obs, rewards, dones), expected, strict=False):
            np.testing.assert_array_equal(ours, theirs)
            ours[:] = 0
        for i in range(n_envs):
            infos[i].pop("episode", None)
            expected[3][i].pop("episode", None)
            assert_same_infos(infos[i], expected[3][i])
            infos[i].clear()
            env.reset_infos[i].clear()
        actions[:] = 77


# --- SB3's VecEnv ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("actions", [[6], [-1], [2**40], [1.0], [[1]], 1, [1, 1, 1], [True], []])
def test_invalid_actions_are_refused(taxi, n_envs, actions):
    env = TabularVecEnv(taxi, n_envs)
    env.reset()
    if isinstance(actions, list) and len(actions) == 1 and n_envs == 2:
        actions = [np.zeros_like(actions[0]), *actions]
    with pytest.raises(ValueError, match=r"integers of shape|is not in 0, …, 5"):
        env.step(np.array(actions))


def test_an_invalid_action_is_named(taxi):
    env = TabularVecEnv(taxi, 3)
    env.reset()
    with pytest.raises(ValueError, match="action 6 of environment 1 is not in"):
        env.step(np.array([5, 6, 7]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("n_envs", [1, 200])
def test_actions_of_any_integer_type(taxi, dtype, n_envs):
    env, same = TabularVecEnv(taxi, n_envs, seed=0), TabularVecEnv(taxi, n_envs, seed=0)
    env.reset(), same.reset()
    actions = np.full(n_envs, 5)
    np.testing.assert_array_equal(env.step(actions.astype(dtype))[0], same.step(actions)[0], strict=True)


def test_needs_a_reset(taxi):
    with pytest.raises(gym.error.ResetNeeded):
        TabularVecEnv(taxi).step(np.array([0]))


@pytest.mark.parametrize(
    "kwargs", [{"n_envs": 0}, {"n_envs": 1.5}, {"max_episode_steps": 0}, {"max_episode_steps": -2}]
)
def test_arguments_out_of_range(taxi, kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        TabularVecEnv(taxi, **kwargs)


@pytest.mark.parametrize(("given", "limit"), [(None, 200), (-1, None), (50, 50)])
def test_step_limit(taxi, given, limit):
    env = TabularVecEnv(taxi, max_episode_steps=given)
    assert env.max_episode_steps == limit
    assert env.get_attr("spec")[0].max_episode_steps == limit
    env.reset()
    lengths = [t for t in range(1, 401) if env.step(np.array([0]))[2][0]]
    assert lengths == ([] if limit is None else list(range(limit, 401, limit)))


def rollout(env: VecEnv, n_steps: int = 300, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    steps = [env.step(rng.integers(env.action_space.n, size=env.num_envs))[:3] for _ in range(n_steps)]
    return [np.array(column) for column in zip(*steps, strict=True)]


@pytest.mark.parametrize("n_envs", [1, 4])
def test_seed_takes_effect_at_the_next_reset(n_envs):
    env, same = TabularVecEnv(coin(), n_envs), TabularVecEnv(coin(), n_envs, seed=5)
    assert env.seed(5) == list(range(5, 5 + n_envs))
    np.testing.assert_array_equal(env.reset(), same.reset())
    np.testing.assert_array_equal(rollout(env), rollout(same))
    before = env.get_state()
    env.seed(5)
    assert env.get_state()["rng"] == before["rng"]
    first = [env.reset(), *rollout(env)]
    second = [env.reset(), *rollout(env)]  # goes on with the same generator
    env.seed(5)
    third = [env.reset(), *rollout(env)]
    np.testing.assert_array_equal(np.concatenate(first, axis=None), np.concatenate(third, axis=None))
    assert not np.array_equal(np.concatenate(first, axis=None), np.concatenate(second, axis=None))


def test_the_global_generator_is_left_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    env = TabularVecEnv(coin(), 3)
    env.seed()
    env.reset()
    rollout(env)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    other = TabularVecEnv(coin(), 100)
    other.seed()
    another = TabularVecEnv(coin(), 100)
    another.seed()
    assert not np.array_equal(other.reset(), another.reset())


def test_options_are_taken_and_dropped(taxi):
    env = TabularVecEnv(taxi, 2)
    env.set_options({"anything": 1})
    env.reset()
    assert env._options == [{}, {}]


def test_attributes_of_sub_environments(taxi):
    env = TabularVecEnv(taxi, 3, seed=0)
    obs = env.reset()
    assert env.get_attr("s") == obs.tolist()
    env.set_attr("s", 42, indices=[1])
    assert env.get_attr("s") == [obs[0], 42, obs[2]]
    with pytest.raises(ValueError, match="500"):
        env.set_attr("s", 500, indices=0)
    env.set_attr("colour", "red", indices=2)
    assert env.get_attr("colour", 2) == ["red"]
    assert not env.has_attr("colour")
    assert env.has_attr("spec")
    assert env.get_attr("render_mode", [0, 1]) == ["rgb_array", "rgb_array"]
    assert [e.observation_space for e in env.get_attr("unwrapped")] == [env.observation_space] * 3
    assert env.get_attr("action_space", 0) == [env.action_space]
    assert env.env_is_wrapped(Monitor) == [True] * 3
    assert env.env_is_wrapped(TimeLimit, indices=[0]) == [True]
    assert env.env_is_wrapped(TransformReward) == [False] * 3
    assert TabularVecEnv(taxi, max_episode_steps=-1).env_is_wrapped(TimeLimit) == [False]
    with pytest.raises(AttributeError):
        env.env_method("no_such_method")


ASKED = ["P", "desc", "initial_state_distrib", "nrow", "ncol", "locs", "start_state_index", "_cliff", "lastaction", "s"]
ASKED += ["metadata", "render_mode", "reward_range", "_elapsed_steps", "_max_episode_steps", "no_such_attribute"]


def listed(answer):
    """An answer as a list; ``decode`` of gymnasium 1.2 returns an iterator."""
    return list(answer) if hasattr(answer, "__iter__") else [answer]


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize(("env_id", "kwargs"), DETERMINISTIC)
def test_the_environments_answer_what_toy_text_users_ask(env_id, kwargs, n_envs):
    """The oracle: the environments themselves in a ``DummyVecEnv``, brought to the same states."""
    theirs = make_vec_env(env_id, n_envs, seed=0, env_kwargs=kwargs)
    ours = TabularVecEnv(make_vec_env(env_id, env_kwargs=kwargs).envs[0], n_envs, seed=0)
    theirs.reset(), ours.reset()
    for env, state in zip(theirs.envs, ours.get_attr("s"), strict=True):
        env.unwrapped.s = state
    actions = np.array([2, 1, 0])[:n_envs]
    for _ in range(3):
        for name in ASKED:
            known = theirs.has_attr(name)
            assert ours.has_attr(name) == known
            if known:
                for one, other in zip(ours.get_attr(name), theirs.get_attr(name), strict=True):
                    np.testing.assert_array_equal(one, other)
                    assert one is None or isinstance(one, type(other) | int | dict)
            for inner in (lambda env: env, lambda env: env.unwrapped) if not name.startswith("_el") else ():
                assert hasattr(inner(ours.envs[0]), name) or not hasattr(inner(theirs.envs[0]), name)
        if "Taxi" in env_id:
            states = theirs.get_attr("s")
            for method, *args in [("decode", states[0]), ("encode", 1, 2, 3, 0), ("action_mask", states[0])]:
                answers = zip(ours.env_method(method, *args), theirs.env_method(method, *args), strict=True)
                assert all(listed(one) == listed(other) for one, other in answers)
        assert len(ours.envs) == n_envs
        ours.step(actions), theirs.step(actions)


def test_the_generator_is_the_one_that_is_drawn_from():
    ours = TabularVecEnv("FrozenLake-v1", seed=4)
    ours.reset()
    twin = TabularVecEnv("FrozenLake-v1", seed=4)
    twin.reset()
    (generator,) = ours.get_attr("np_random")
    assert ours.get_attr("np_random_seed") == [4]
    other = np.random.default_rng(7)
    ours.set_attr("np_random", other)
    assert ours.envs[0].np_random is other
    twin.rng = np.random.default_rng(7)
    np.testing.assert_array_equal(rollout(ours)[0], rollout(twin)[0])
    assert generator.random() == np.random.default_rng(4).random(4)[-1] or generator is not other
    with pytest.raises(TypeError, match=r"numpy\.random\.Generator"):
        ours.set_attr("np_random", np.random.RandomState(0))
    with pytest.raises(AttributeError, match=r"one of 2 environments.*seed\(\)"):
        TabularVecEnv("FrozenLake-v1", 2).set_attr("np_random", other)


def test_a_state_that_is_set_is_stepped_from():
    for n_envs in (1, 2):
        env = TabularVecEnv(make_vec_env("FrozenLake-v1", env_kwargs={"is_slippery": False}).envs[0], n_envs)
        env.reset()
        env.envs[0].unwrapped.s = np.int64(9)
        assert env.step(np.full(n_envs, 2))[0][0] == 10
        for wrong in (2.5, 16, -1, True, None):
            with pytest.raises(ValueError, match=r"s=.*at least 0 and at most 15"):
                env.set_attr("s", wrong)


@pytest.mark.parametrize(
    "name", ["P", "desc", "initial_state_distrib", "nrow", "spec", "model", "lastaction", "unwrapped", "_tabular_venv"]
)
def test_what_would_have_no_effect_cannot_be_set(name):
    env = TabularVecEnv("FrozenLake-v1")
    env.reset()
    with pytest.raises(AttributeError, match=rf"'{name}' cannot be set.*gymnasium\.make"):
        env.set_attr(name, 1)
    with pytest.raises(AttributeError, match=rf"'{name}' cannot be set"):
        setattr(env.envs[0].unwrapped, name, 1)


def test_what_would_have_no_effect_cannot_be_changed_in_place():
    env = TabularVecEnv("FrozenLake-v1")
    P = env.envs[0].unwrapped.P
    for change in (
        lambda: P.update({0: {}}),
        lambda: P[0].__setitem__(0, []),
        lambda: P[0].pop(0),
        lambda: P[0][0].append((0.0, 0, 0.0, True)),
        lambda: P[0][0].__setitem__(0, (1.0, 0, 0.0, True)),
        lambda: P[0][0].sort(),
    ):
        with pytest.raises(TypeError, match="P cannot be changed"):
            change()
    for array in (env.envs[0].desc, env.envs[0].initial_state_distrib):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(TypeError):
        env.envs[0] = gym.make("FrozenLake-v1")
    with pytest.raises(AttributeError):
        env.envs = []
    for name in ("reset", "step"):
        with pytest.raises(NotImplementedError, match=rf"a single one has no {name}\(\)"):
            env.env_method(name, *[0] * (name == "step"))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda P: pickle.loads(pickle.dumps(P))])
def test_a_copy_of_the_table_can_be_changed_and_trained_on(copied):
    env = TabularVecEnv("FrozenLake-v1")
    P = copied(env.get_attr("P")[0])
    P[0][0].append((0.0, 0, 0.0, True))
    P[0][1][:] = [(1.0, 15, 7.0, True)]
    changed = TabularVecEnv(TabularModel(P, env.get_attr("initial_state_distrib")[0], max_episode_steps=100))
    changed.reset()
    assert changed.step(np.array([1]))[1:3] == (np.array([7.0]), np.array([True]))
    assert changed.get_attr("P")[0][0][1] == [(1.0, 15, 7.0, True)]
    assert not changed.has_attr("desc")


def test_a_random_map_is_that_of_the_environment():
    """The spec alone makes another one."""
    lake = gym.make("FrozenLake-v1", desc=None, map_name=None)
    env = TabularVecEnv(lake)
    np.testing.assert_array_equal(env.envs[0].unwrapped.desc, lake.unwrapped.desc)
    letters = lake.unwrapped.desc.copy()
    lake.unwrapped.desc[0, 1] = b"G"  # of the caller's own environment
    np.testing.assert_array_equal(env.envs[0].unwrapped.desc, letters)


def test_an_environment_that_has_been_drawn_can_be_read_and_copied():
    pytest.importorskip("pygame")
    lake = gym.make("FrozenLake-v1", render_mode="rgb_array", desc=None, map_name=None)
    lake.reset()
    lake.render()
    env = TabularVecEnv(lake, 2, seed=0)
    env.reset()
    for one in (env, copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        one.step(np.array([1, 2]))
        lake.unwrapped.s, lake.unwrapped.lastaction = one.envs[1].s, 2
        np.testing.assert_array_equal(one.get_images()[1], lake.render())
    assert len(pickle.dumps(env)) < 10**6, "no pictures"


@pytest.mark.parametrize("n_envs", [1, 4])
def test_action_masks(taxi, n_envs):
    env = TabularVecEnv(taxi, n_envs, seed=0)
    env.reset()
    assert is_masking_supported(env)
    for _ in range(5):
        obs, _, _, infos = env.step(np.arange(n_envs))
        masks = get_action_masks(env)
        np.testing.assert_array_equal(masks, taxi.action_masks[obs], strict=True)
        np.testing.assert_array_equal(masks, env.action_masks(), strict=True)
        np.testing.assert_array_equal(masks, [info["action_mask"] for info in infos])
    np.testing.assert_array_equal(env.env_method("action_masks", indices=[0])[0], masks[0])


def test_no_masks_where_the_environment_has_none():
    env = TabularVecEnv(coin())
    env.reset()
    assert not is_masking_supported(env)
    assert env.step(np.array([0]))[3][0].keys() >= {"prob", "TimeLimit.truncated"}
    with pytest.raises(ValueError, match="no action_masks"):
        env.action_masks()


def test_masks_of_ones_own_model():
    masks = np.array([[True, False], [True, True], [False, True]])
    env = TabularVecEnv(coin(action_masks=masks), 4, seed=0)
    obs = env.reset()
    np.testing.assert_array_equal(get_action_masks(env), masks[obs])
    assert env.reset_infos[0]["action_mask"].dtype == np.int8


@pytest.mark.parametrize("env_id", ["Taxi-v3", "FrozenLake-v1", CLIFF])
def test_rendering_shows_the_states(env_id):
    pytest.importorskip("pygame")
    env = TabularVecEnv(env_id, 4, seed=0)
    env.reset()
    real = gym.make(env_id, render_mode="rgb_array")
    real.reset()
    real.unwrapped.s = env.get_attr("s", 1)[0]
    np.testing.assert_array_equal(env.get_images()[1], real.render())
    assert env.render().shape == (2 * real.render().shape[0], 2 * real.render().shape[1], 3)
    np.testing.assert_array_equal(env.env_method("render", indices=1)[0], real.render())
    assert env.metadata["render_fps"] == real.metadata["render_fps"]
    env.close()
    env.close()
    real.close()


def test_ones_own_model_has_no_picture():
    env = TabularVecEnv(coin())
    env.reset()
    with pytest.raises(ValueError, match="no picture"):
        env.get_images()


@pytest.mark.parametrize("n_envs", [1, 5])
def test_state_is_all_that_stepping_depends_on(n_envs):
    env = TabularVecEnv(coin(), n_envs, seed=0)
    env.reset()
    rollout(env, 33)
    state = pickle.loads(pickle.dumps(env.get_state()))
    other = TabularVecEnv(coin(), n_envs, seed=99)
    other.set_state(state)
    assert other.get_attr("s") == env.get_attr("s")
    for _ in range(100):
        actions = np.zeros(n_envs, dtype=int)
        ours, theirs = env.step(actions), other.step(actions)
        np.testing.assert_array_equal(ours[0], theirs[0])
        for a, b in zip(ours[3], theirs[3], strict=True):
            assert_same_infos(a, b)


def test_state_remembers_a_seed_that_waits():
    env, other = TabularVecEnv(coin(), 3), TabularVecEnv(coin(), 3)
    env.seed(8)
    other.set_state(env.get_state())
    with pytest.raises(gym.error.ResetNeeded):
        other.step(np.zeros(3, dtype=int))
    np.testing.assert_array_equal(other.reset(), env.reset())
    np.testing.assert_array_equal(rollout(other), rollout(env))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": [0, 1]}, "states has the shape"),
        ({"states": [0, 1, 3]}, "are not all in"),
        ({"returns": 0}, "returns"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(change, message):
    env = TabularVecEnv(coin(), 3)
    with pytest.raises(ValueError, match=message):
        env.set_state({**env.get_state(), **change})


@pytest.mark.parametrize("n_envs", [1, 3])
def test_copies_and_pickles_go_their_own_way(taxi, n_envs):
    env = TabularVecEnv(taxi, n_envs, seed=0)
    env.reset()
    for other in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        original = env.get_state()
        trajectory = rollout(env)
        np.testing.assert_array_equal(rollout(other)[0], trajectory[0])
        env.set_state(original)


def test_wrappers_of_sb3(taxi):
    plain = TabularVecEnv(taxi, 4, seed=0)
    env = VecCheckNan(VecNormalize(TabularVecEnv(taxi, 4, seed=0), norm_obs=False), raise_exception=True)
    np.testing.assert_array_equal(env.reset(), plain.reset())
    for _ in range(250):
        obs, _, dones, infos = env.step(np.full(4, 3))
        expected = plain.step(np.full(4, 3))
        np.testing.assert_array_equal(obs, expected[0])
        np.testing.assert_array_equal(env.get_original_reward(), expected[1])
    with pytest.warns(UserWarning, match="already wrapped with a `Monitor`"):
        monitored = VecMonitor(TabularVecEnv(taxi, 2, max_episode_steps=3))
    monitored.reset()
    for _ in range(3):
        _, _, dones, infos = monitored.step(np.array([3, 3]))
    assert dones.all()
    assert infos[0]["episode"]["l"] == 3
    assert get_action_masks(env).shape == (4, 6)


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("algorithm", [DQN, PPO, MaskablePPO])
def test_algorithms_of_sb3_learn_on_it(taxi, algorithm, n_envs):
    env = TabularVecEnv(taxi, n_envs, max_episode_steps=20)
    kwargs = {"learning_starts": 50} if algorithm is DQN else {"n_steps": 32, "batch_size": 32}
    model = algorithm("MlpPolicy", env, seed=0, **kwargs).learn(256)
    assert model.num_timesteps >= 256
    assert model.ep_info_buffer[0]["l"] == 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # evaluate_policy warns of an environment without Monitor
        evaluate_policy(model, env, n_eval_episodes=5)


# --- exact and sampled tests -----------------------------------------------------------------------------------------


@st.composite
def models(draw, deterministic: bool) -> TabularModel:
    n_states, n_actions = draw(st.integers(1, 6)), draw(st.integers(1, 3))

    def outcomes():
        weights = draw(st.lists(st.integers(1, 5), min_size=1, max_size=1 if deterministic else 4))
        return [
            (
                weight / sum(weights),
                draw(st.integers(0, n_states - 1)),
                draw(st.sampled_from([-10, -1, 0, 2, 20])),
                draw(st.booleans()),
            )
            for weight in weights
        ]

    P = [[outcomes() for _ in range(n_actions)] for _ in range(n_states)]
    return TabularModel(P, np.full(n_states, 1 / n_states))


@st.composite
def models_with_policies(draw, deterministic: bool):
    model = draw(models(deterministic))
    actions = draw(
        st.lists(st.integers(0, model.n_actions - 1), min_size=model.n_states, max_size=model.n_states).map(np.array)
    )
    return model, actions, draw(st.integers(1, 40))


def ends_well(model: TabularModel, reward: float) -> bool:
    """Whether an end with a reward is a success, where every state can be the first one."""
    ends = [
        model.rewards[s, a, k]
        for s, a, k in np.ndindex(model.rewards.shape)
        if model.terminated[s, a, k] and model.probabilities[s, a, k] > 0
    ]
    return reward > 0 if any(end > 0 for end in ends) else reward == max(ends)


def plain_figures(model: TabularModel, actions: np.ndarray, start: int, limit: int) -> tuple[float, ...]:
    """Expectations by following the distribution over states forwards, one step after the other."""
    at = np.zeros(model.n_states)
    at[start] = 1
    steps = penalties = total = success = 0.0
    for _ in range(limit):
        after = np.zeros(model.n_states)
        for s in np.flatnonzero(at):
            for k in range(model.n_outcomes):
                p = at[s] * model.probabilities[s, actions[s], k]
                reward = model.rewards[s, actions[s], k]
                steps, penalties, total = steps + p, penalties + p * (reward == -10), total + p * reward
                if model.terminated[s, actions[s], k]:
                    success += p * ends_well(model, reward)
                else:
                    after[model.next_states[s, actions[s], k]] += p
        at = after
    return steps, penalties, total, success


@given(models_with_policies(deterministic=True))
def test_deterministic_figures_are_those_of_a_plain_loop(case):
    model, actions, limit = case
    assert model.deterministic
    figures = policy_figures(model, actions, limit, -10.0)
    for start in range(model.n_states):
        assert tuple(column[start] for column in figures) == plain_figures(model, actions, start, limit)


@given(models_with_policies(deterministic=False))
def test_stochastic_figures_are_those_of_a_plain_loop(case):
    model, actions, limit = case
    figures = policy_figures(model, actions, limit, -10.0)
    for start in range(model.n_states):
        expected = plain_figures(model, actions, start, limit)
        np.testing.assert_allclose([column[start] for column in figures], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("ends", "good"),
    [
        ([20.0], [20.0]),  # Taxi: one kind of end
        ([-1.0], [-1.0]),  # CliffWalking
        ([1.0, 0.0], [1.0]),  # FrozenLake, whose terminal states have rows of their own in P
        ([20.0, -50.0, -20.0], [20.0]),
        ([5.0, 10.0], [5.0, 10.0]),  # two goals
        ([-1.0, -100.0], [-1.0]),  # a goal and a pit where every step costs
        ([0.0, -100.0], [0.0]),
    ],
)
def test_an_end_is_good_or_bad_by_its_reward(ends, good):
    """State 0 leads by its actions to as many terminal states; a state that cannot be reached would change it all."""
    last = len(ends) + 1
    here = [[(1.0, 1 + action, reward, True)] for action, reward in enumerate(ends)]
    stay = [[(1.0, state, 0.0, True)] * 1 for state in range(1, last)]
    P = [here, *([outcome] * len(ends) for outcome in stay), [[(1.0, last, 99.0, True)]] * len(ends)]
    model = TabularModel(P, [1.0] + [0.0] * last)
    assert sorted(model.rewards[model.successes]) == sorted(good)
    assert not model.successes[1:].any()
    for action, reward in enumerate(ends):
        figures = policy_figures(model, np.full(last + 1, action), 5, -10.0)
        assert figures.successes[0] == (reward in good)


def test_where_nothing_ends_nothing_succeeds():
    model = TabularModel([[[(1.0, 0, 1.0, False)]]], [1.0])
    assert not model.successes.any()
    assert policy_figures(model, np.zeros(1, int), 9, -10.0).successes[0] == 0


def test_long_horizons_stop_at_the_fixed_point():
    """A loop over a million steps would take seconds: the end is reached, to the last bit, long before."""
    figures = policy_figures(coin(), np.zeros(3, dtype=int), 10**6, -10.0)
    assert figures.steps[0] == pytest.approx(2.5, abs=1e-12)  # v = 1 + v/2 + 1/4
    assert figures.successes[0] == pytest.approx(1.0, abs=1e-12)


def test_deterministic_horizons_may_be_of_any_length(taxi):
    stuck = policy_figures(taxi, np.zeros(500, dtype=int), 10**9, -10.0)
    assert set(stuck.steps) == {10**9}
    assert set(stuck.returns) == {-(10.0**9)}


@pytest.mark.parametrize("policy", ["random", "nearly optimal"])
def test_exact_test_is_brute_force_over_all_starts_of_taxi(taxi, policy):
    rng = np.random.default_rng(0)
    q = optimal_values(taxi)
    if policy == "random":
        q = rng.normal(size=q.shape)
    else:
        q[rng.random(500) < 0.02] = 0.0  # in some states the taxi is stuck
    model = table_model("Taxi-v3", q)
    actions = model.predict(np.arange(500), deterministic=True)[0]
    env = gym.make("Taxi-v3")
    starts = np.flatnonzero(env.unwrapped.initial_state_distrib)
    expected = np.mean([plain_episode(env, actions, start, 60) for start in starts], axis=0)
    result = exact_test(model, max_episode_steps=60)
    assert result.n_episodes == 300
    np.testing.assert_allclose(
        [result.mean_steps, result.mean_penalties, result.mean_reward, result.success_rate], expected, rtol=1e-13
    )
    assert result.mean_penalties > 0 or policy != "random"
    assert result.success_rate < 1


def test_exact_test_of_the_optimal_policy(taxi):
    result = exact_test(table_model("Taxi-v3", optimal_values(taxi)))
    assert result.mean_steps == 3921 / 300  # the shortest ways from all starts, added up: 13.07 steps on average
    assert result.mean_reward == 21 - result.mean_steps
    assert result.mean_penalties == 0
    assert result.success_rate == 1


def sampled_figures(env: TabularVecEnv, actions: np.ndarray, n_rounds: int) -> EpisodeFigures:
    """One episode in every environment, several times over."""
    rounds = []
    for _ in range(n_rounds):
        figures = np.zeros((4, env.num_envs))
        running = np.ones(env.num_envs, dtype=bool)
        obs = env.reset()
        while running.any():
            obs, rewards, dones, _ = env.step(actions[obs])
            figures[0, running] += 1
            figures[1, running] += rewards[running] == -10
            figures[2, running] += rewards[running]
            for i in np.flatnonzero(running & dones):
                figures[3, i] = rewards[i] > 0  # the goal's, in FrozenLake
            running &= ~dones
        rounds.append(figures)
    return EpisodeFigures(*np.concatenate(rounds, axis=1))


@pytest.mark.parametrize("n_episodes", [4 * 10**4, pytest.param(10**6, marks=pytest.mark.slow)])
def test_exact_test_agrees_with_sampled_episodes(n_episodes):
    env = TabularVecEnv("FrozenLake-v1", 10**4, max_episode_steps=40, seed=0)
    q = optimal_values(env.model)
    model = table_model("FrozenLake-v1", q)
    actions = model.predict(np.arange(16), deterministic=True)[0]
    # A reward of 1 counts as a "penalty", so that there are any.
    exact = exact_test(model, env, penalty_reward=1.0)
    sampled = sampled_figures(env, actions, n_episodes // env.num_envs)
    together = run_policy(
        env.model, actions, env.draw_starts(n_episodes), 40, penalty_reward=1.0, rng=np.random.default_rng(1)
    )
    for figures, penalty_known in ((sampled, False), (together, True)):
        pairs = [
            (exact.mean_steps, figures.steps),
            (exact.mean_reward, figures.returns),
            (exact.success_rate, figures.successes),
            *([(exact.mean_penalties, figures.penalties)] if penalty_known else []),
        ]
        for expected, column in pairs:
            assert len(column) == n_episodes
            assert abs(column.mean() - expected) < 4 * column.std() / math.sqrt(n_episodes)
    assert exact.mean_penalties == pytest.approx(exact.mean_reward, abs=1e-12)
    assert 0.2 < exact.mean_reward < 0.9
    assert exact.success_rate == pytest.approx(exact.mean_reward, abs=1e-12)


@pytest.mark.parametrize("policy", ["random", "optimal"])
def test_run_test_gives_the_figures_of_a_plain_loop(taxi, policy):
    q = optimal_values(taxi) if policy == "optimal" else np.random.default_rng(0).normal(size=(500, 6))
    model = table_model("Taxi-v3", q)
    actions = model.predict(np.arange(500), deterministic=True)[0]
    test_env = TabularVecEnv("Taxi-v3", seed=4)
    starts = copy.deepcopy(test_env).draw_starts(40)
    result = run_test(model, test_env, n_episodes=40, max_episode_steps=90)
    env = gym.make("Taxi-v3")
    expected = np.mean([plain_episode(env, actions, start, 90) for start in starts], axis=0)
    assert result.n_episodes == 40
    np.testing.assert_allclose(
        [result.mean_steps, result.mean_penalties, result.mean_reward, result.success_rate], expected, rtol=1e-13
    )


def test_run_test_on_another_environment_agrees(taxi):
    """The way of environments that are not tabular estimates the same."""
    q = optimal_values(taxi)
    q[np.random.default_rng(0).random(500) < 0.02] = 0.0
    model = table_model("Taxi-v3", q)
    exact = exact_test(model, max_episode_steps=30)
    stepped = run_test(model, make_vec_env("Taxi-v3", 20), n_episodes=400, max_episode_steps=30, seed=0)
    on_arrays = run_test(model, n_episodes=400, max_episode_steps=30, seed=0)
    for result in (stepped, on_arrays):
        share = exact.success_rate
        assert abs(result.success_rate - share) < 4 * math.sqrt(share * (1 - share) / 400)


def test_a_seed_makes_a_test_repeatable_and_leaves_episodes_alone(taxi):
    model = table_model("Taxi-v3", np.random.default_rng(0).normal(size=(500, 6)))
    assert run_test(model, seed=1) == run_test(model, seed=1)
    assert run_test(model, seed=1) != run_test(model, seed=2)
    env = TabularVecEnv(taxi, 3, seed=0)
    env.reset()
    env.step(np.zeros(3, dtype=int))
    before = env.get_state()
    run_test(model, env)
    after = env.get_state()
    for name in ("states", "lengths", "returns"):
        np.testing.assert_array_equal(before[name], after[name])


def test_the_tighter_limit_cuts(taxi):
    model = table_model("Taxi-v3", np.zeros((500, 6)))  # always to the south: never ends
    for env, limit, steps in (
        (TabularVecEnv(taxi), 1000, 200),
        (TabularVecEnv(taxi), 30, 30),
        (TabularVecEnv(taxi), None, 200),
        (TabularVecEnv(taxi, max_episode_steps=-1), 17, 17),
        (None, 1000, 1000),
        (None, None, 1000),  # the limit of the model's own environment
        ("Taxi-v3", None, 1000),
    ):
        assert run_test(model, env, max_episode_steps=limit).mean_steps == steps
        assert exact_test(model, env, max_episode_steps=limit).mean_steps == steps
    unlimited = TabularVecEnv(taxi, max_episode_steps=-1)
    for test in (run_test, exact_test):
        with pytest.raises(ValueError, match="max_episode_steps=-1"):
            test(model, max_episode_steps=-1)
        with pytest.raises(ValueError, match="max_episode_steps=None"):
            test(model, unlimited, max_episode_steps=None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: table_model("Taxi-v3", np.zeros((500, 6))),
        lambda: table_model(TabularVecEnv("Taxi-v3", 3), np.zeros((500, 6))),
        lambda: table_model(VecNormalize(TabularVecEnv("Taxi-v3"), norm_obs=False), np.zeros((500, 6))),
        lambda: table_model(gym.make("Taxi-v3"), np.zeros((500, 6))),
        lambda: table_model("Taxi-v3", np.zeros((500, 6)), DQN),
        lambda: PPO("MlpPolicy", make_vec_env("Taxi-v3", 2), n_steps=8, batch_size=8, seed=0),
    ],
    ids=["LectureDQN by id", "TabularVecEnv", "VecNormalize", "gym.Env", "DQN", "PPO"],
)
def test_exact_test_finds_the_environment_of_the_model(make):
    result = exact_test(make(), max_episode_steps=100)
    assert result.n_episodes == 300
    assert result.mean_steps <= 100


def test_rewards_are_those_before_normalisation(taxi):
    env = VecNormalize(TabularVecEnv(taxi, 2), norm_obs=False)
    model = table_model(env, np.zeros((500, 6)))
    env.reset()
    rollout(env, 20)
    assert run_test(model, max_episode_steps=10).mean_reward == -10
    assert run_test(model, env, max_episode_steps=10).mean_reward == -10


class ShapedRewards(VecEnvWrapper):
    def reset(self):
        return self.venv.reset()

    def step_wait(self):
        obs, rewards, dones, infos = self.venv.step_wait()
        return obs, rewards + 100, dones, infos


def test_what_a_users_environment_does_is_not_bypassed(taxi):
    model = table_model("Taxi-v3", np.zeros((500, 6)))
    shaped = ShapedRewards(TabularVecEnv(taxi, 2))
    assert run_test(model, shaped, n_episodes=2, max_episode_steps=10).mean_reward == 990
    wrapped = TransformReward(gym.make("Taxi-v3"), lambda r: r + 100)
    assert run_test(model, wrapped, n_episodes=2, max_episode_steps=10).mean_reward == 990
    with pytest.raises(NotTabularError, match="ShapedRewards"):
        exact_test(model, shaped)
    with pytest.raises(NotTabularError, match="TransformReward"):
        exact_test(model, wrapped)
    with pytest.raises(NotTabularError, match="CartPoleEnv"):
        exact_test(LectureDQN("MlpPolicy", "CartPole-v1"))


def test_callback_tests_on_arrays_by_itself(taxi):
    callback = LectureTestCallback(n_test_episodes=500, test_freq=(2, "episode"), verbose=0)
    model = LectureDQN("Taxi-v3", max_episode_steps=20, seed=0)
    model.learn(total_episodes=2, callback=callback)
    assert isinstance(callback.test_env, TabularVecEnv)
    assert callback.test_env is not model.get_env()
    assert [episode for episode, _ in callback.results] == [1, 2]


def test_callback_tests_exactly():
    callback = LectureTestCallback(exact=True, test_freq=(1, "episode"), verbose=0)
    model = LectureDQN("Taxi-v3", max_episode_steps=30, seed=0)
    model.learn(total_episodes=2, callback=callback)
    assert callback.results[-1] == (2, exact_test(model))
    with pytest.raises(NotTabularError, match="CartPoleEnv"):
        LectureDQN("MlpPolicy", "CartPole-v1").learn(10, callback=LectureTestCallback(exact=True))


# --- LectureDQN ------------------------------------------------------------------------------------------------------


def test_lecture_dqn_takes_the_tabular_environment_by_itself():
    env = LectureDQN("Taxi-v3").get_env()
    assert type(env) is TabularVecEnv
    assert env.max_episode_steps == 1000
    assert LectureDQN("Taxi-v3").get_env().max_episode_steps == 1000
    assert type(LectureDQN("MlpPolicy", "CartPole-v1").get_env()) is DummyVecEnv


def test_an_environment_of_the_users_is_kept():
    env = gym.make("Taxi-v3")
    assert LectureDQN(env).get_env().envs[0].unwrapped is env.unwrapped
    vec_env = TabularVecEnv("Taxi-v3", 5)
    assert LectureDQN(vec_env).get_env() is vec_env


def test_saved_models_find_their_environment(tmp_path):
    model = LectureDQN("FrozenLake-v1", seed=0).learn(50)
    model.save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model")
    assert loaded.get_env() is None
    assert exact_test(loaded) == exact_test(model)
    loaded.learn(50)
    assert type(loaded.get_env()) is TabularVecEnv
    loaded.set_env(TabularVecEnv("FrozenLake-v1"))
    loaded.learn(50)
    for env in (gym.make("FrozenLake-v1"), TabularVecEnv("FrozenLake-v1")):
        LectureDQN.load(tmp_path / "model", env=env).learn(50)


def test_lecture_dqn_on_several_environments():
    env = VecNormalize(TabularVecEnv("Taxi-v3", 8, seed=0), norm_obs=False)
    model = LectureDQN(env, seed=0).learn(400)
    assert model.num_timesteps == 400
    assert run_test(model, n_episodes=10, max_episode_steps=20).n_episodes == 10
