"""Runs of the compiled engine are PyTorch's, and its numbers live in PyTorch's objects."""

import copy
import inspect
import io

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from examples import lecture_loop
from sb3_lecture_dqn import LectureDQN
from tests.engine.comparison import (
    LEARNING_RATES,
    Actions,
    assert_near,
    distances,
    numbers,
    policy_kwargs,
    run,
    trained,
    updated,
)
from tests.lecture_dqn.test_oracle import NearlyThere, memory_as_tuples

pytest.importorskip("numba")


@pytest.mark.parametrize("n_steps", [250, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("seed", "kwargs"),
    [
        (0, {}),
        (1, {"double_q": True, "loss": "huber", "policy": "ActionInPolicy", "gradient_steps": 1, "batch_size": 4}),
    ],
)
def test_the_same_seed_gives_the_same_actions(seed, kwargs, n_steps):
    """By the lecture's settings, but for the 200 steps after which Taxi cuts an episode by itself."""
    compiled, actions = run("numba", n_steps, seed=seed, **kwargs)
    torch, expected = run("torch", n_steps, seed=seed, **kwargs)
    assert (compiled.engine_in_use, torch.engine_in_use) == ("numba", "torch")
    assert actions == expected
    assert len(actions) == n_steps
    assert_near(compiled, torch, 1e-4)
    assert memory_as_tuples(compiled.replay_buffer) == memory_as_tuples(torch.replay_buffer)


@pytest.mark.parametrize("store_and_replay", [True, False])
@pytest.mark.parametrize("double_dqn", [True, False])
def test_ten_episodes_are_those_of_the_plain_loop(store_and_replay, double_dqn):
    """As ``test_oracle`` demands of the torch engine, there bit for bit."""
    record = Actions()
    model = LectureDQN(
        TimeLimit(NearlyThere(lecture_loop.make_taxi()), 20),
        buffer_size=100,
        store_and_replay=store_and_replay,
        double_dqn=double_dqn,
        target_update_interval=(20, "episode"),
        seed=5,
        device="cpu",
        engine="numba",
    )
    net = lecture_loop.QNet(500, 6)
    net.load_state_dict(model.q_net.state_dict())
    rngs = copy.deepcopy(model.exploration_rng), copy.deepcopy(model.replay_buffer.rng)
    model.learn(total_episodes=10, callback=record)
    config = lecture_loop.Config(
        num_episodes=10,
        max_time_steps=20,
        replay_memory_fail_size=100,
        store_and_replay=store_and_replay,
        double_dqn=double_dqn,
    )
    expected = lecture_loop.Agent(config, net, *rngs)
    episodes, _ = lecture_loop.train(expected, NearlyThere(lecture_loop.make_taxi()), seed=5)
    assert record.actions == [action for episode in episodes for action in episode.actions]
    for name, weight in expected.net.state_dict().items():
        th.testing.assert_close(model.q_net.state_dict()[name], weight, rtol=1e-5, atol=1e-5)
    for name, weight in expected.target.state_dict().items():
        th.testing.assert_close(model.q_net_target.state_dict()[name], weight, rtol=1e-5, atol=1e-5)
    if store_and_replay:
        assert memory_as_tuples(model.replay_buffer) == (expected.memory.success, expected.memory.fail)
        assert model.replay_buffer.rng.bit_generator.state == rngs[1].bit_generator.state
    assert model.exploration_rng.bit_generator.state == rngs[0].bit_generator.state


def normalized():
    env = DummyVecEnv([lambda: gym.make("Taxi-v3", max_episode_steps=30)])
    return VecNormalize(env, norm_obs=False, norm_reward=True)


MEMORIES = {
    "SB3's": {"replay_buffer_class": ReplayBuffer},
    "SB3's, batches": {"replay_buffer_class": ReplayBuffer, "batch_size": 8},
    "n-step": {"n_steps": 3},
    "n-step, batches": {"n_steps": 3, "batch_size": 8, "policy_kwargs": policy_kwargs("adam")},
    "n-step without a future": {"n_steps": 3, "gamma": 0.0},
    "rewards normalised": {"env": normalized},
    "rewards normalised, batches": {"env": normalized, "batch_size": 8},
    "successes drawn": {
        "replay_buffer_kwargs": {"success_fraction": 0.3, "success_criterion": lambda r, done, info: r == -1},
        "batch_size": 8,
    },
    "the last transition": {"store_and_replay": False},
    "four environments": {"env": lambda: DummyVecEnv([lambda: gym.make("Taxi-v3")] * 4)},
}


@pytest.mark.parametrize("kwargs", MEMORIES.values(), ids=MEMORIES.keys())
def test_every_memory_gives_both_engines_the_same_run(kwargs):
    compiled, actions = run("numba", 120, **kwargs)
    torch, expected = run("torch", 120, **kwargs)
    assert compiled.engine_in_use == "numba"
    assert actions == expected
    assert compiled._n_updates == torch._n_updates >= 150
    assert_near(compiled, torch)


# The numbers live in the objects of PyTorch


@pytest.mark.parametrize("optimizer", LEARNING_RATES)
def test_weights_loaded_in_place_are_those_trained_and_played(optimizer):
    """Also into the target network; and a copy of the target is the compiled loop's target."""
    other = trained("torch", optimizer, seed=3)
    models = [trained(engine, optimizer) for engine in ("torch", "numba")]
    for model in models:
        assert distances(numbers(model), numbers(other))["q_net.layers.5.bias"] > 0.01
        model.q_net.load_state_dict(other.q_net.state_dict())
        model.q_net_target.load_state_dict({k: 2 * v for k, v in other.q_net.state_dict().items()})
        model.exploration_rate = 0.0
        states = np.arange(500)
        expected = other.q_net(th.as_tensor(states)).argmax(1).numpy()
        assert np.array_equal(model.predict(states)[0], expected)
        updated(model, 10)
    assert_near(*models)


@pytest.mark.parametrize("optimizer", LEARNING_RATES)
def test_set_parameters_takes_weights_and_optimizer_over(optimizer):
    other = trained("torch", optimizer, seed=3)
    models = [trained(engine, optimizer) for engine in ("torch", "numba")]
    for model in models:
        model.set_parameters(copy.deepcopy(other.get_parameters()))  # PyTorch does not copy an optimiser's state
        assert numbers(model).keys() == numbers(other).keys()
        assert_near(model, other, 0)
        updated(model, 10)
    assert_near(*models)


@pytest.mark.parametrize("optimizer", LEARNING_RATES)
def test_a_saved_model_goes_on_as_if_it_had_not_been_saved(optimizer, tmp_path):
    model = trained("numba", optimizer)
    model.save(tmp_path / "model")
    loaded = LectureDQN.load(tmp_path / "model", env=model.get_env())
    assert loaded.engine_in_use == "numba"
    assert_near(loaded, model, 0)
    loaded.set_logger(configure(None, []))
    loaded.replay_buffer.set_state(model.replay_buffer.get_state())
    for one in (model, loaded):
        updated(one, 20)
    assert_near(loaded, model, 0)


@pytest.mark.parametrize("optimizer", LEARNING_RATES)
@pytest.mark.parametrize(("first", "second"), [("numba", "torch"), ("torch", "numba")])
def test_the_engine_can_be_changed_in_the_middle(optimizer, first, second):
    def in_two_parts(*engines):
        model, actions = None, Actions()
        for engine in engines:
            if model is None:
                model, _ = run(engine, 1, policy_kwargs=policy_kwargs(optimizer), batch_size=4)
            model.engine = engine
            model.learn(40, actions, reset_num_timesteps=False)
            assert model.engine_in_use == engine
        return model, actions.actions

    changed, actions = in_two_parts(first, second)
    unchanged, expected = in_two_parts(first, first)
    assert actions == expected
    assert_near(changed, unchanged)


def test_the_weights_load_in_a_network_of_plain_pytorch():
    model = trained("numba")
    net = lecture_loop.QNet(500, 6)
    net.load_state_dict(model.q_net.state_dict(), strict=True)
    states = th.arange(500)
    assert th.equal(net(states), model.q_net(states))
    net.layers[0].weight.data.zero_()
    assert model.q_net.layers[0].weight.abs().max() > 0, "a copy, not the model's own memory"


def file_size(content):
    file = io.BytesIO()
    th.save(content, file)
    return len(file.getvalue())


def test_files_are_not_larger_than_pytorchs():
    """Views of one array could each take the whole array along."""
    torch, compiled = trained("torch"), trained("numba")
    n_bytes = sum(4 * parameter.numel() for parameter in compiled.q_net.parameters())
    assert file_size(compiled.q_net.state_dict()) < n_bytes + 8_000
    assert file_size(compiled.policy.state_dict()) < 2 * n_bytes + 16_000
    assert file_size(compiled.policy.optimizer.state_dict()) <= file_size(torch.policy.optimizer.state_dict())
    sizes = []
    for model in (torch, compiled):
        file = io.BytesIO()
        model.save(file)
        sizes.append(len(file.getvalue()))
    assert sizes[1] < sizes[0] + 8_000


def test_a_copy_of_the_network_is_its_own():
    model = trained("numba")
    net = copy.deepcopy(model.q_net)
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    updated(model, 5)
    assert all(th.equal(weight, before[name]) for name, weight in net.state_dict().items())
    assert not th.equal(model.q_net.layers[5].bias, net.layers[5].bias)


def test_a_model_can_be_copied():
    model = trained("numba")
    other = copy.deepcopy(model)
    updated(other, 5)
    assert not th.equal(model.q_net.layers[5].bias, other.q_net.layers[5].bias)


class Narrow(gym.Env):
    """Chance, with numbers of other types than int64."""

    def __init__(self, observations=np.int64, actions=np.int64):
        self.observation_space = spaces.Discrete(5, dtype=observations)
        self.action_space = spaces.Discrete(2, dtype=actions)

    def observe(self):
        return self.observation_space.dtype.type(self.np_random.integers(5))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(), {}

    def step(self, action):
        return self.observe(), 1.0, False, False, {}


@pytest.mark.skipif("dtype" not in inspect.signature(spaces.Discrete).parameters, reason="gymnasium 1.2 has int64 only")
@pytest.mark.parametrize("narrow", [{"observations": np.int32}, {"actions": np.int32}, {"observations": np.uint8}])
def test_narrow_integers_are_trained_on_like_wide_ones(narrow):
    """Rows of the memory then have another layout: taken for the usual one, they would be read out of bounds."""
    compiled, actions = run("auto", 50, env=lambda: Narrow(**narrow))
    torch, expected = run("torch", 50, env=lambda: Narrow(**narrow))
    assert actions == expected
    assert_near(compiled, torch)
