"""Observations of several discrete parts: a table for them, and exploration that counts in their states."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture_dqn import (
    DiscreteObservationWrapper,
    LectureCheckpointCallback,
    LectureDQN,
    TabularModel,
    TabularVecEnv,
)
from tests.saving.test_checkpoint import Crash, CrashAt, equal, everything


class Lock(gym.Env):
    """A corridor of five cells: fetch the key at the left, then open the door at the right."""

    action_space, limit = spaces.Discrete(3), 30
    spaces_of = {
        "numbers": spaces.MultiDiscrete([5, 2]),
        "bits": spaces.MultiBinary(4),
        "dict": spaces.Dict(cell=spaces.Discrete(5, start=1), key=spaces.Discrete(2)),
    }

    def __init__(self, kind="numbers"):
        self.kind, self.observation_space = kind, self.spaces_of[kind]

    def observe(self):
        if self.kind == "dict":
            return {"cell": self.cell + 1, "key": self.key}
        bits = [*(self.cell >> k & 1 for k in range(3)), self.key]
        return np.array([self.cell, self.key]) if self.kind == "numbers" else np.array(bits, np.int8)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.cell, self.key, self.n = int(self.np_random.integers(5)), 0, 0
        return self.observe(), {}

    def step(self, action):
        self.n += 1
        if action < 2:
            self.cell = min(max(self.cell + 2 * int(action) - 1, 0), 4)
        elif self.cell == 0:
            self.key = 1
        opened = action == 2 and self.cell == 4 and self.key == 1
        return self.observe(), 1.0 if opened else -0.01, opened, not opened and self.n >= self.limit, {}


KINDS = list(Lock.spaces_of)
SETTINGS = {
    "exploration_decay": None, "exploration_fraction": 0.5, "explore_least_tried": "anywhere", "learning_starts": 20,
    "gradient_steps": 4, "batch_size": 3, "learning_rate": 0.1, "target_update_interval": 5, "device": "cpu",
}  # fmt: skip


def lock(kind="numbers", numbered=False, n_envs=1):
    makers = [lambda: DiscreteObservationWrapper(Lock(kind)) if numbered else Lock(kind)] * n_envs
    return DummyVecEnv(makers)


def weights(model):
    return {name: value.numpy().copy() for name, value in model.q_net.state_dict().items()}


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_as_on_the_numbers_of_the_states_to_the_bit(kind, n_envs):
    pytest.importorskip("numba")
    models = [
        LectureDQN("TablePolicy", lock(kind, numbered, n_envs), seed=3, engine="numba", **SETTINGS).learn(600)
        for numbered in (False, True)
    ]
    np.testing.assert_array_equal(models[0].action_counts, models[1].action_counts)
    np.testing.assert_equal(weights(models[0]), weights(models[1]))
    assert np.abs(weights(models[0])["layers.0.weight"]).max() > 0.5  # it has met the reward


@pytest.mark.parametrize("kind", KINDS)
def test_the_compiled_engine_updates_the_table_as_pytorch_does(kind):
    pytest.importorskip("numba")
    models = [
        LectureDQN("TablePolicy", lock(kind), seed=3, engine=engine, **{**SETTINGS, "exploration_final_eps": 1.0})
        for engine in ("numba", "torch")
    ]
    values = [weights(model.learn(300))["layers.0.weight"] for model in models]
    np.testing.assert_allclose(*values, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(models[0].action_counts, models[1].action_counts)


class Chain(gym.Env):
    """The table of :func:`chain`, step by step, with the state in two parts."""

    observation_space, action_space = spaces.MultiDiscrete([3, 4]), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.n = 0, 0
        return np.array(divmod(self.state, 4)), {}

    def step(self, action):
        self.n += 1
        self.state = min(self.state + 1, 11) if action else max(self.state - 1, 0)
        ends = self.state == 11
        return np.array(divmod(self.state, 4)), float(ends), ends, not ends and self.n >= 40, {}


def chain():
    outcomes = [[(1.0, max(s - 1, 0), 0.0, False)] for s in range(12)]
    ahead = [[(1.0, min(s + 1, 11), float(s >= 10), s >= 10)] for s in range(12)]
    table = [list(pair) for pair in zip(outcomes, ahead, strict=True)]
    return TabularVecEnv(TabularModel(table, np.eye(12)[0], max_episode_steps=40))


def test_the_compiled_loop_on_the_table_does_the_same_to_the_bit():
    pytest.importorskip("numba")
    compiled, stepped = (LectureDQN("TablePolicy", env, seed=1, **SETTINGS).learn(500) for env in (chain(), Chain()))
    np.testing.assert_array_equal(compiled.action_counts, stepped.action_counts)
    np.testing.assert_equal(weights(compiled), weights(stepped))


@pytest.mark.parametrize("policy", ["TablePolicy", "LecturePolicy"])
def test_it_is_resumed_exactly(policy, tmp_path):
    results = []
    for crashes in (False, True):
        model = LectureDQN(policy, Lock(), seed=0, tensorboard_log=str(tmp_path / str(crashes)), **SETTINGS)
        callbacks = [LectureCheckpointCallback(70, verbose=0), CrashAt(200 if crashes else 10**9)]
        if crashes:
            with pytest.raises(Crash):
                model.learn(300, callback=callbacks)
            model.logger.close()
            model = LectureDQN.resume(model.logger.dir, env=Lock())
            callbacks = [LectureCheckpointCallback(70, verbose=0), CrashAt(10**9)]
        model.learn(300, callback=callbacks)
        results.append(everything(model))
    one, other = results
    assert [name for name in one if not equal(one[name], other[name])] == []


def test_a_table_is_saved_and_predicts_for_raw_observations(tmp_path):
    model = LectureDQN("TablePolicy", Lock("dict"), seed=0, **SETTINGS).learn(1500)
    model.save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model", device="cpu")
    obs = {"cell": np.repeat(np.arange(1, 6), 2), "key": np.tile([0, 1], 5)}
    np.testing.assert_array_equal(loaded.predict(obs, deterministic=True)[0], model.predict(obs, deterministic=True)[0])
    actions = loaded.predict(obs, deterministic=True)[0].reshape(5, 2)
    np.testing.assert_array_equal(actions[:, 0], [2, 0, 0, 0, 0])  # to the key, and take it
    np.testing.assert_array_equal(actions[:, 1], [1, 1, 1, 1, 2])  # to the door, and open it
    with pytest.raises(IndexError, match="outside the observation space"):
        loaded.q_net({"cell": th.tensor([6]), "key": th.tensor([0])})


def test_actions_cannot_be_counted_in_too_many_states():
    class Wide(Lock):
        observation_space = spaces.MultiBinary(20)

        def __init__(self):
            pass

    with pytest.raises(ValueError, match=r"explore_least_tried='anywhere' .* at most 1,000,000 states together"):
        LectureDQN("LecturePolicy", Wide(), explore_least_tried="anywhere")
    with pytest.raises(ValueError, match=r"TablePolicy needs .* at most 1,000,000 states together, not MultiBinary"):
        LectureDQN("TablePolicy", Wide())
