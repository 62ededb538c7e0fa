"""The compiled engine against PyTorch: the same updates on the same memory, and the choice between the two."""

import copy
import io
import itertools
import math
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from examples import lecture_loop
from sb3_lecture_dqn import DivergedError, LectureDQN, LecturePolicy, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.duplicates import DictIndex
from sb3_lecture_dqn.common.torch_layers import TableNetwork
from sb3_lecture_dqn.kernels import available
from tests.lecture_dqn.test_oracle import NearlyThere, memory_as_tuples

pytest.importorskip("numba")
from sb3_lecture_dqn.common.hash_index import HashIndex

# Every transition of Taxi, as (state, action, next state, reward, terminated).
TAXI = [
    (state, action, *outcomes[0][1:])
    for state, actions in lecture_loop.make_taxi().unwrapped.P.items()
    for action, outcomes in actions.items()
]
SUCCESSES = [transition for transition in TAXI if transition[3] == 20]

POLICIES = ["LecturePolicy", "TablePolicy", "ActionInPolicy"]
# With these no configuration diverges, nor is so unstable that PyTorch's float32 and float64 part within 1000 updates.
LEARNING_RATES = {"sgd": 1e-3, "momentum": 1e-4, "adam": 1e-4}
TARGETS = ["online", "target", "double"]  # double_dqn=False, the lecture's default, double_q=True
COMBINATIONS = list(itertools.product(POLICIES, ["mse", "huber"], LEARNING_RATES, [1, 7, 64], [None, 0.5], TARGETS))


class Spaces(gym.Env):
    """Spaces of Taxi's sizes, and nothing to do in them."""

    action_space = spaces.Discrete(6)

    def __init__(self, start=0):
        self.observation_space = spaces.Discrete(500, start=start)


def policy_kwargs(optimizer, **kwargs):
    if optimizer == "adam":
        return {"optimizer_class": th.optim.Adam, **kwargs}
    return {"optimizer_kwargs": {"momentum": 0.9}, **kwargs} if optimizer == "momentum" else kwargs


def make(engine, combination, *, seed=0, start=0, hidden_dim=32, falling=False):
    """A model with a filled memory; another engine gives one with the same weights, memory and draws."""
    policy, loss, optimizer, batch_size, max_grad_norm, target = combination
    widths = {} if policy == "TablePolicy" else {"hidden_dim": hidden_dim}
    lr = LEARNING_RATES[optimizer]
    model = LectureDQN(
        policy,
        Spaces(start),
        learning_rate=(lambda remaining: lr * remaining) if falling else lr,
        batch_size=batch_size,
        max_grad_norm=max_grad_norm,
        double_dqn=target != "online",
        double_q=target == "double",
        loss=loss,
        policy_kwargs=policy_kwargs(optimizer, **widths),
        engine="torch" if engine == "float64" else engine,
        seed=seed,
        device="cpu",
    )
    assert model.engine_in_use == model.engine
    model.set_logger(configure(None, []))
    rng = np.random.default_rng(seed)
    for transitions, n in ((TAXI, 250), (SUCCESSES, 5)):
        for i in rng.integers(len(transitions), size=n):
            s, a, s_next, r, done = transitions[i]
            observed = (np.array([x + start]) for x in (s, s_next))
            model.replay_buffer.add(*observed, np.array([[a]]), np.array([r], np.float32), np.array([done]), [{}])
    return as_float64(model) if engine == "float64" else model


def as_float64(model):
    model.policy.double()
    draw = model.replay_buffer.sample

    def sample(*args, **kwargs):
        batch = draw(*args, **kwargs)
        return type(batch)(*(x.double() if x is not None and x.is_floating_point() else x for x in batch))

    model.replay_buffer.sample = sample
    return model


def updated(model, n, at_a_time=5, n_in_all=None):
    """Do updates, with a learning rate that falls if it is a schedule; the losses of every call of ``train``."""
    losses = []
    for done in range(0, n, at_a_time):
        model._current_progress_remaining = 1 - done / (n_in_all or n)
        model.train(min(at_a_time, n - done), model.batch_size)
        losses.append(model.logger.name_to_value["train/loss"])
    return losses


def take_over(model, other):
    """Make the state of a model that of another one, as it is there now."""
    model.policy.load_state_dict(other.policy.state_dict())
    model.policy.optimizer.load_state_dict(copy.deepcopy(other.policy.optimizer.state_dict()))
    model.replay_buffer.set_state(other.replay_buffer.get_state())


def numbers(model):
    """A copy of the weights of both networks and of what the optimiser remembers, as float64."""
    tensors = {name: weight.double().clone() for name, weight in model.policy.state_dict().items()}
    for parameter, state in model.policy.optimizer.state_dict()["state"].items():
        tensors |= {f"{name} {parameter}": x.double().clone() for name, x in state.items() if x is not None}
    return tensors


def distances(own, expected):
    """For every tensor, the largest difference relative to the largest magnitude; 0 for a tensor of zeros."""
    assert own.keys() == expected.keys()
    return {name: float((own[name] - x).abs().max() / x.abs().max().clamp(min=1e-30)) for name, x in expected.items()}


def assert_as_exact(tolerance, compiled, torch, float64):
    """
    The compiled numbers are PyTorch's within a tolerance, or as near to float64's as float32 can be expected to be.

    Where terms cancel, float32 does not determine a result to 1e-6: the gradient of a PReLU's slope is one number, the
    sum over a layer and a batch. How far it does is seen from what PyTorch itself makes of it, and from what float64
    makes of rounded weights, see :func:`round_weights`. Twice the largest of these is allowed then.

    :param float64: Computes the numbers in float64, from weights with or without that rounding.
    """
    too_far = {name: d for name, d in distances(compiled, torch).items() if d > tolerance}
    if too_far:
        exact = float64()
        own, others = distances(compiled, exact), distances(torch, exact)
        rounded = [distances(float64(rounding=seed), exact) for seed in range(20)]
        for name, distance in too_far.items():
            expected = max(others[name], *(found[name] for found in rounded))
            assert own[name] <= max(tolerance, 2 * expected), (name, distance, own[name], expected)


def round_weights(model, seed):
    """
    Change every weight as if the rounding of a float32 product with it were in the weight.

    A computed sum of n products is the exact one of factors that differ relatively by about sqrt(n) units of rounding
    (Higham 2002, Accuracy and Stability of Numerical Algorithms, 3.1 and 2.8); here n is up to 64.
    """
    rng = th.Generator().manual_seed(seed)
    with th.no_grad():
        for weight in model.policy.parameters():
            weight *= 1 + 8 * 2**-24 * (2 * th.rand(weight.shape, generator=rng, dtype=th.float64) - 1)


# Update by update


def assert_an_update_is_pytorchs(i, seed):
    """Compare weights, target, the optimiser's moments and step, and loss after one update from equal state."""
    combination, rng = COMBINATIONS[i], np.random.default_rng([i, seed])
    n_before, start, hidden_dim = (int(rng.choice(options)) for options in ([0, 1, 20], [0, -7, 3], [1, 4, 32]))
    seed, falling = int(rng.integers(2**16)), bool(rng.integers(2))
    kwargs = {"seed": seed, "start": start, "hidden_dim": hidden_dim, "falling": falling}
    torch, compiled = make("torch", combination, **kwargs), make("numba", combination, **kwargs)
    updated(torch, n_before, n_in_all=50)
    before = copy.copy(torch)
    before.policy, before.replay_buffer = copy.deepcopy(torch.policy), copy.deepcopy(torch.replay_buffer)
    take_over(compiled, torch)

    def once(model):
        model._current_progress_remaining = 0.5
        model.train(1, model.batch_size)
        loss = th.tensor(model.logger.name_to_value["train/loss"], dtype=th.float64)
        return {**numbers(model), "loss": loss}

    def in_float64(rounding=None):
        exact = make("float64", combination, **kwargs)
        take_over(exact, before)
        if rounding is not None:
            round_weights(exact, rounding)
        return once(exact)

    assert_as_exact(1e-6, once(compiled), once(torch), in_float64)


each_combination = pytest.mark.parametrize(
    "i", range(len(COMBINATIONS)), ids=lambda i: "-".join(map(str, COMBINATIONS[i]))
)


@each_combination
@settings(max_examples=1)
@given(seed=st.integers(0, 2**32))
def test_an_update_from_equal_state_is_pytorchs(i, seed):
    assert_an_update_is_pytorchs(i, seed)


@pytest.mark.slow
@each_combination
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32))
def test_many_updates_from_equal_state_are_pytorchs(i, seed):
    assert_an_update_is_pytorchs(i, seed)


def assert_a_thousand_updates_are_pytorchs(combination, **kwargs):
    def thousand(engine, rounding=None):
        model = make(engine, combination, **kwargs)
        if rounding is not None:
            round_weights(model, rounding)
        losses = updated(model, 1000)
        return {**numbers(model), "losses": th.tensor(losses, dtype=th.float64)}

    assert_as_exact(1e-4, thousand("numba"), thousand("torch"), partial(thousand, "float64"))


def thousand_updates(combination, i):
    """
    Compare the states after 1000 updates: within 1e-4 of PyTorch's, or of float64's as nearly as PyTorch's own.

    A PReLU's input near 0 or two nearly equal action values are taken on different sides by runs that differ in the
    last bit; they then differ by one gradient's term, in PyTorch between float32 and float64 as much as between the
    engines (with Adam and momentum by 1e-3 for a while, in one of 150 runs). So there is float64 for comparison, and a
    second draw of weights and memory: no mistake in an update would pass only one of the two.
    """
    options = {"start": (0, -7)[i % 2], "hidden_dim": (32, 4, 8)[i % 3], "falling": i % 5 == 1}
    try:
        assert_a_thousand_updates_are_pytorchs(combination, seed=i, **options)
    except AssertionError:
        assert_a_thousand_updates_are_pytorchs(combination, seed=i + 1000, **options)


# Every setting stands together with every other in one of these.
SOME = [
    ("TablePolicy", "huber", "momentum", 64, 0.5, "double"),
    ("ActionInPolicy", "mse", "sgd", 7, 0.5, "target"),
    ("LecturePolicy", "mse", "momentum", 1, None, "online"),
    ("TablePolicy", "huber", "adam", 7, None, "online"),
    ("ActionInPolicy", "huber", "sgd", 1, None, "double"),
    ("LecturePolicy", "huber", "adam", 1, 0.5, "target"),
    ("ActionInPolicy", "mse", "adam", 64, 0.5, "online"),
    ("TablePolicy", "mse", "sgd", 64, None, "target"),
    ("LecturePolicy", "mse", "momentum", 7, 0.5, "double"),
    ("LecturePolicy", "huber", "sgd", 64, None, "online"),
    ("ActionInPolicy", "huber", "momentum", 64, None, "target"),
    ("TablePolicy", "mse", "adam", 1, 0.5, "double"),
]


@pytest.mark.parametrize("i", range(len(SOME)), ids=lambda i: "-".join(map(str, SOME[i])))
def test_a_thousand_updates_end_where_pytorchs_do(i):
    thousand_updates(SOME[i], i)


test_a_thousand_updates_end_where_pytorchs_do.__doc__ = thousand_updates.__doc__


@pytest.mark.slow
@each_combination
def test_a_thousand_updates_end_where_pytorchs_do_for_every_combination(i):
    thousand_updates(COMBINATIONS[i], i)


test_a_thousand_updates_end_where_pytorchs_do_for_every_combination.__doc__ = thousand_updates.__doc__


@pytest.mark.parametrize("optimizer", LEARNING_RATES)
def test_many_updates_in_one_call_are_as_many_calls(optimizer):
    """Compiled loops run over updates too: the number of the step and the partial gradients must carry over."""
    combination = ("LecturePolicy", "mse", optimizer, 7, None, "target")
    one, other = make("numba", combination), make("numba", combination)
    updated(one, 60, at_a_time=60)
    updated(other, 60, at_a_time=1)
    assert distances(numbers(one), numbers(other)) == dict.fromkeys(numbers(one), 0.0)


# Runs


class Actions(BaseCallback):
    """All actions."""

    def __init__(self):
        super().__init__()
        self.actions = []

    def _on_step(self):
        self.actions += self.locals["actions"].tolist()
        return True


def run(engine, total_timesteps, env=None, policy="LecturePolicy", **kwargs):
    """A model trained on Taxi, and its actions."""
    record = Actions()
    env = gym.make("Taxi-v3", max_episode_steps=200) if env is None else env()
    model = LectureDQN(policy, env, engine=engine, **{"seed": 0, "device": "cpu", **kwargs})
    return model.learn(total_timesteps, record), record.actions


def assert_near(one, other, tolerance=1e-4):
    for name, distance in distances(numbers(one), numbers(other)).items():
        assert distance <= tolerance, (name, distance)


@pytest.mark.parametrize(
    ("seed", "kwargs"),
    [
        (0, {}),
        (1, {"double_q": True, "loss": "huber", "policy": "ActionInPolicy", "gradient_steps": 1, "batch_size": 4}),
    ],
)
def test_the_same_seed_gives_the_same_2000_actions(seed, kwargs):
    """By the lecture's settings, but for the 200 steps after which Taxi cuts an episode by itself."""
    compiled, actions = run("numba", 2000, seed=seed, **kwargs)
    torch, expected = run("torch", 2000, seed=seed, **kwargs)
    assert (compiled.engine_in_use, torch.engine_in_use) == ("numba", "torch")
    assert actions == expected
    assert len(actions) == 2000
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
    net = lecture_loop.LectureNet(500, 6)
    net.load_state_dict(model.q_net.state_dict())
    rngs = {
        "explore_rng": copy.deepcopy(model.exploration_rng),
        "memory_rng": copy.deepcopy(model.replay_buffer.rng),
    }
    model.learn(total_episodes=10, callback=record)
    expected = lecture_loop.run(
        NearlyThere(lecture_loop.make_taxi()),
        net,
        episodes=10,
        store_and_replay=store_and_replay,
        double_dqn=double_dqn,
        fail_capacity=100,
        max_episode_steps=20,
        env_seed=5,
        **rngs,
    )
    assert record.actions == expected.actions
    for name, weight in expected.net.state_dict().items():
        th.testing.assert_close(model.q_net.state_dict()[name], weight, rtol=1e-5, atol=1e-5)
    for name, weight in expected.target.state_dict().items():
        th.testing.assert_close(model.q_net_target.state_dict()[name], weight, rtol=1e-5, atol=1e-5)
    if store_and_replay:
        assert memory_as_tuples(model.replay_buffer) == (expected.memory.success, expected.memory.fail)
        assert model.replay_buffer.rng.bit_generator.state == rngs["memory_rng"].bit_generator.state
    assert model.exploration_rng.bit_generator.state == rngs["explore_rng"].bit_generator.state


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


def trained(engine, optimizer="adam", **kwargs):
    model, _ = run(engine, 60, policy_kwargs=policy_kwargs(optimizer), batch_size=4, **kwargs)
    return model


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
    net = lecture_loop.LectureNet(500, 6)
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


# The choice


class OneLayer(LecturePolicy):
    """Another network by the same policy."""

    class Net(TableNetwork):
        def forward(self, obs):
            return 2 * super().forward(obs)

    def make_q_net(self):
        return self.Net(self.observation_space, self.action_space)


class Tanh(LecturePolicy):
    """The lecture's network with other activations."""

    def make_q_net(self):
        net = super().make_q_net()
        net.layers[2], net.layers[4] = nn.Tanh(), nn.Tanh()
        return net


class ManySlopes(LecturePolicy):
    """The lecture's network with a slope for each unit."""

    def make_q_net(self):
        net = super().make_q_net()
        net.layers[2] = nn.PReLU(net.layers[1].out_features)
        return net


class Frozen(LecturePolicy):
    """The lecture's network with an embedding that is not trained."""

    def make_q_net(self):
        net = super().make_q_net()
        net.layers[0].requires_grad_(False)
        return net


class OwnSample(SuccessFailReplayBuffer):
    """A memory that gives other rewards than it holds."""

    def sample(self, *args, **kwargs):
        batch = super().sample(*args, **kwargs)
        return batch._replace(rewards=batch.rewards / 20)


def kwargs_of(optimizer_class, **options):
    return {"policy_kwargs": {"optimizer_class": optimizer_class, "optimizer_kwargs": options}}


UNKNOWN = {
    "MlpPolicy": ({"policy": "MlpPolicy"}, "LecturePolicy.*not a network of type QNetwork"),
    "other network": ({"policy": OneLayer}, "not a network of type Net"),
    "RMSprop": (kwargs_of(th.optim.RMSprop), "RMSprop"),
    "AdamW": (kwargs_of(th.optim.AdamW), "AdamW"),
    "weight_decay": (kwargs_of(th.optim.SGD, weight_decay=0.1), "weight_decay=0.1"),
    "amsgrad": (kwargs_of(th.optim.Adam, amsgrad=True), "amsgrad=True"),
    "nesterov": (kwargs_of(th.optim.SGD, nesterov=True, momentum=0.9), "nesterov=True"),
    "other activations": ({"policy": Tanh}, ""),
    "frozen": ({"policy": Frozen}, ""),
    "dampening": (kwargs_of(th.optim.SGD, dampening=0.5, momentum=0.9), "dampening=0.5"),
    "maximize": (kwargs_of(th.optim.SGD, maximize=True), "maximize=True"),
    "slopes": ({"policy": ManySlopes}, ""),
    "own sample": ({"replay_buffer_class": OwnSample}, "OwnSample"),
}


@pytest.mark.parametrize(
    ("kwargs", "reason"),
    [
        *(pytest.param(*case, id=name) for name, case in UNKNOWN.items()),
    ],
)
def test_what_the_compiled_engine_does_not_know_is_refused_and_left_to_pytorch_by_auto(kwargs, reason, capsys):
    with pytest.raises(ValueError, match=f"(?s)engine='numba'.*{reason}.*'auto' or 'torch'"):
        LectureDQN(env="Taxi-v3", engine="numba", **kwargs)
    assert capsys.readouterr().out == ""
    model = LectureDQN(env="Taxi-v3", verbose=1, seed=0, **kwargs)
    assert model.engine_in_use == "torch"
    model.learn(4, log_interval=None)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "engine" in line]
    assert line.startswith("Using the torch engine (")


def observing(space):
    class Observing(gym.Env):
        observation_space, action_space = space, spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            return space.sample(), {}

    return Observing()


@pytest.mark.parametrize(
    ("space", "helps"),
    [
        (spaces.MultiDiscrete([4, 2, 2]), True),
        (spaces.MultiDiscrete([10_000, 10_000]), False),  # more states than one number should be
        (spaces.Dict({"a": spaces.Discrete(2)}), True),
        (spaces.Dict({"a": spaces.Box(0, 1, (2,))}), False),
        (spaces.Box(np.arange(250.0, dtype=np.float32), np.arange(1.0, 251.0, dtype=np.float32)), False),
    ],
)
@pytest.mark.parametrize("policy", ["LecturePolicy", "usual"])
def test_why_it_is_pytorch_is_said_in_one_short_line_with_the_way_on(space, helps, policy, capsys):
    if policy == "usual":
        policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    LectureDQN(policy, observing(space), verbose=1)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "engine" in line]
    assert len(line) < 200
    assert ("DiscreteObservationWrapper" in line) == (helps and policy == "LecturePolicy")


@pytest.mark.parametrize("engine", ["auto", "numba"])
def test_the_compiled_engine_is_announced_once(engine, capsys):
    model = LectureDQN("Taxi-v3", engine=engine, verbose=1, seed=0)
    model.learn(4)
    model.learn(4)
    assert [line for line in capsys.readouterr().out.splitlines() if "engine" in line] == ["Using the numba engine"]


def test_nothing_is_announced_without_verbose(capsys):
    LectureDQN("Taxi-v3", seed=0).learn(4)
    LectureDQN("MlpPolicy", "Taxi-v3", seed=0).learn(4)
    assert capsys.readouterr().out == ""


def test_an_engine_that_there_is_not_is_answered_with_those_that_there_are():
    with pytest.raises(ValueError, match="engine='gpu' must be one of 'auto', 'torch', 'numba'"):
        LectureDQN("Taxi-v3", engine="gpu")


def test_an_engine_set_later_that_cannot_be_is_refused_before_anything_is_trained():
    model = LectureDQN("MlpPolicy", "Taxi-v3", seed=0)
    model.engine = "numba"
    with pytest.raises(ValueError, match="engine='numba'"):
        model.learn(4)
    assert model._n_updates == 0


def test_without_numba_everything_is_pytorchs(monkeypatch, capsys, tmp_path):
    with_numba, _ = run("numba", 60)
    with_numba.save(tmp_path / "model")
    with_numba.save_replay_buffer(tmp_path / "memory")

    monkeypatch.setattr(available, "find_spec", lambda name: None)
    model, _ = run("auto", 60, verbose=1)
    assert "torch engine (engine='numba' cannot be used: numba is not installed" in capsys.readouterr().out
    assert model.engine_in_use == "torch"
    assert isinstance(model.replay_buffer.fail.index, DictIndex)
    assert_near(model, with_numba)
    with pytest.raises(ValueError, match=r"engine='numba'.*numba is not installed.*sb3-lecture-dqn\[fast\]"):
        run("numba", 1)
    # What was saved with numba is read without it.
    loaded = LectureDQN.load(tmp_path / "model", engine="auto")
    loaded.load_replay_buffer(tmp_path / "memory")
    assert isinstance(loaded.replay_buffer.fail.index, DictIndex)
    loaded.replay_buffer.check_valid()
    assert loaded.replay_buffer.size() == with_numba.replay_buffer.size()


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


@pytest.mark.parametrize("narrow", [{"observations": np.int32}, {"actions": np.int32}, {"observations": np.uint8}])
def test_narrow_integers_are_trained_on_like_wide_ones(narrow):
    """Rows of the memory then have another layout: taken for the usual one, they would be read out of bounds."""
    compiled, actions = run("auto", 50, env=lambda: Narrow(**narrow))
    torch, expected = run("torch", 50, env=lambda: Narrow(**narrow))
    assert actions == expected
    assert_near(compiled, torch)


# Where nothing can be written


def python(code, **environment):
    lines = code.strip("\n").splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return subprocess.run(
        [sys.executable, "-c", "\n".join(line[indent:] for line in lines)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def train_without_a_cache(tmp_path, blocked, gradient_steps):
    """
    In a fresh process, where neither beside the package nor in the home folder a cache folder can be made.

    A folder under a regular file cannot be made by anyone, not even by a superuser, whom permissions do not stop.
    """
    (tmp_path / "file").touch()
    missing = str(tmp_path / "file" / "folder")
    environment = {"HOME": missing, "XDG_CACHE_HOME": missing, "LOCALAPPDATA": missing, "PYTHONDONTWRITEBYTECODE": "1"}
    environment["NUMBA_CACHE_DIR"] = missing if blocked == "the folder asked for" else ""  # "": none is asked for
    return python(
        f"""
        import os, pathlib, shutil, sys
        if {blocked != "the folder asked for"}:
            import importlib.util
            package = pathlib.Path(importlib.util.find_spec("sb3_lecture_dqn").origin).parent
            copy = pathlib.Path({str(tmp_path)!r}) / "copy"
            shutil.copytree(package, copy / "sb3_lecture_dqn", ignore=shutil.ignore_patterns("__pycache__"))
            (copy / "sb3_lecture_dqn" / "kernels" / "__pycache__").touch()
            sys.path.insert(0, str(copy))
        from sb3_lecture_dqn import LectureDQN
        from sb3_lecture_dqn.kernels import updates as kernels
        model = LectureDQN("Taxi-v3", engine="numba", gradient_steps={gradient_steps}, seed=0).learn(20)
        print(model.engine_in_use, model._n_updates, kernels.greedy_actions._cache.cache_path)
        """,
        **environment,
    )


@pytest.mark.parametrize("blocked", ["the folder asked for", "every folder"])
def test_a_cache_folder_that_cannot_be_made_breaks_nothing(blocked, tmp_path):
    """Greedy actions and the memory, as the compilation of an update takes its time."""
    result = train_without_a_cache(tmp_path, blocked, gradient_steps=0)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("numba 0 ")
    if blocked == "every folder":
        assert result.stdout.split()[-1] == "None"


@pytest.mark.slow
def test_updates_are_compiled_without_a_cache_folder(tmp_path):
    result = train_without_a_cache(tmp_path, "every folder", gradient_steps=5)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["numba", "100", "None"]


DAMAGES = {
    "empty": lambda content: b"",
    "cut": lambda content: content[:100],
    "cut at the end": lambda content: content[:-1],
    "zeros": lambda content: bytes(len(content)),
    "zeros at the end": lambda content: content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
    "garbage": lambda content: bytes(range(256)) * (len(content) // 256 + 1),
    "a bit": lambda content: (
        content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]
    ),
    "another version": lambda content: pickle.dumps("0.1") + content[20:],
    "another object": lambda content: pickle.dumps(("no", "cache")),
}

ACT = """
    import numpy as np
    from sb3_lecture_dqn import LectureDQN
    model = LectureDQN("Taxi-v3", engine="numba", gradient_steps=0, seed=0).learn(20)
    print(model.num_timesteps, model._engine.greedy_actions(np.arange(5)))
    """


@pytest.fixture(scope="module")
def filled_cache(tmp_path_factory):
    """A cache as greedy actions and the memory fill it; the compilation of an update takes its time."""
    folder = tmp_path_factory.mktemp("cache")
    result = python(ACT, NUMBA_CACHE_DIR=str(folder))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    return folder, result.stdout


@pytest.mark.parametrize(
    "damage", [name if i % 3 == 0 else pytest.param(name, marks=pytest.mark.slow) for i, name in enumerate(DAMAGES)]
)
def test_a_damaged_cache_is_rebuilt_with_one_line_that_says_so(damage, filled_cache, tmp_path):
    source, expected = filled_cache
    folder = tmp_path / "cache"
    shutil.copytree(source, folder)
    note = folder / "a file of the user's.nbi"
    note.write_text("not numba's")
    # The index of one function, of the next what it was compiled to, and so on.
    indices = sorted(file for file in folder.rglob("*.nbi") if file != note)
    assert len(indices) > 1
    for i, index in enumerate(indices):
        for file in [index] if i % 2 else index.parent.glob(index.stem + ".*.nbc"):
            file.write_bytes(DAMAGES[damage](file.read_bytes()))
    result = python(ACT, NUMBA_CACHE_DIR=str(folder))
    assert result.returncode == 0, result.stderr
    assert result.stdout == expected
    (line,) = result.stderr.splitlines()
    assert str(folder) in line
    assert "is damaged" in line
    assert line.endswith("is rebuilt")
    assert note.read_text() == "not numba's"
    if damage == "empty":
        again = python(ACT, NUMBA_CACHE_DIR=str(folder))
        assert (again.stdout, again.stderr) == (expected, "")


def test_a_cache_that_cannot_be_written_is_left_with_a_line_that_says_so(tmp_path):
    """Where the folder is there, but no file can be written, as on a full disk."""
    result = python(
        """
        import numba, sys
        from sb3_lecture_dqn.kernels import updates as kernels
        from numba.core.caching import IndexDataCacheFile
        def full(self, path):
            raise OSError(28, "No space left on device")
        IndexDataCacheFile._open_for_write = full
        """
        + ACT.replace("\n    ", "\n        "),
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    assert result.returncode == 0, result.stderr
    (line,) = result.stderr.splitlines()
    assert "cannot be written" in line
    assert "No space left" in line


# Losses that are no numbers


TOO_HIGH = {"sgd": 2.0, "momentum": 0.2, "adam": 1e10}


def diverging(engine, policy, optimizer, batch_size):
    model = make(engine, (policy, "mse", optimizer, batch_size, None, "target"))
    model.learning_rate = TOO_HIGH[optimizer]
    model._setup_lr_schedule()
    return model


def train_until_it_stops(model, at_a_time):
    """The number of the update that the message names."""

    def train():
        for _ in range(0, 50, at_a_time):
            model.train(at_a_time, model.batch_size)

    with pytest.raises(
        DivergedError, match=r"the loss of update \d+ \(.* is (nan|inf): training has diverged"
    ) as stopped:
        train()
    return int(str(stopped.value).split("update ")[1].split()[0])


DIVERGING = list(itertools.product(["LecturePolicy", "ActionInPolicy"], TOO_HIGH, [1, 8]))


@pytest.mark.parametrize("engine", ["torch", "numba"])
@pytest.mark.parametrize("case", DIVERGING, ids=lambda c: "-".join(map(str, c)))
def test_an_update_with_a_loss_that_is_no_number_changes_nothing(engine, case):
    """The weights and the moments are those before it, to which one update less leads a model with the same seed."""
    model, before = diverging(engine, *case), diverging(engine, *case)
    number = train_until_it_stops(model, at_a_time=1)
    assert 1 < number < 50
    for _ in range(number - 1):
        before.train(1, before.batch_size)
    assert distances(numbers(model), numbers(before)) == dict.fromkeys(numbers(before), 0.0)
    assert all(weight.isfinite().all() for weight in model.q_net.parameters())


@pytest.mark.parametrize("engine", ["torch", "numba"])
@pytest.mark.parametrize("case", DIVERGING, ids=lambda c: "-".join(map(str, c)))
def test_a_loss_that_is_no_number_is_named_by_its_update(engine, case):
    """Wherever in a call of ``train`` it stands."""
    expected = train_until_it_stops(diverging(engine, *case), at_a_time=1)
    model = diverging(engine, *case)
    assert train_until_it_stops(model, at_a_time=50) == expected


# The duplicate index


@pytest.mark.parametrize("seed", range(3))
def test_the_compiled_index_finds_what_a_dictionary_finds(seed):
    """Rows that are overwritten again and again, from few values, so that runs of slots form and wrap around."""
    rng = np.random.default_rng(seed)
    n_rows, n_values = (50, 3_000, 20_000)[seed], (70, 4_000, 10**6)[seed]
    rows = np.zeros((n_rows, 4), np.int64)
    compiled, plain, size = HashIndex(), DictIndex(), 0
    for step in range(100_000):
        row = np.array([[rng.integers(n_values), 0, -1, 1 << 62]])
        found = compiled.find(rows, row)
        assert found == plain.find(rows, row), step
        if found >= 0:
            continue
        if size < n_rows:
            rows[size] = row
            for index in (compiled, plain):
                index.add(rows, size)
            size += 1
        else:
            at = int(rng.integers(n_rows))
            others = rows.copy()  # each writes the row itself
            compiled.replace(rows, at, row)
            plain.replace(others, at, row)
            assert np.array_equal(rows[at], row[0])
            assert np.array_equal(others[at], row[0])
        assert len(compiled) == len(plain) == size
    assert size == n_rows
    for at in range(n_rows):
        assert compiled.find(rows, rows[at : at + 1]) == at


@settings(max_examples=100)
@given(st.lists(st.integers(-100, 99), max_size=300))
def test_the_compiled_index_is_a_set_of_rows(values):
    """Few slots and short words: rows collide, runs wrap around the end, holes are filled from behind."""
    compiled, plain = HashIndex(), DictIndex()
    rows, others, size = np.zeros((40, 1), np.int64), np.zeros((40, 1), np.int64), 0
    for value in values:
        row = np.array([[value]])
        assert compiled.find(rows, row) == plain.find(others, row)
        if compiled.find(rows, row) >= 0:
            continue
        if size < len(rows):
            rows[size] = others[size] = value
            compiled.add(rows, size)
            plain.add(others, size)
            size += 1
        else:
            compiled.replace(rows, value % 40, row)
            plain.replace(others, value % 40, row)
        assert len(compiled) == len(plain) == size
        assert np.array_equal(rows, others)
    for value in range(-100, 100):
        row = np.array([[value]])
        assert compiled.find(rows, row) == plain.find(others, row)


@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 63, 64, 65, 1000])
def test_an_index_built_at_once_is_the_one_built_row_by_row(size):
    rows = np.random.default_rng(size).integers(0, 2**63 - 1, (1001, 3))
    at_once, one_by_one = HashIndex(), HashIndex()
    at_once.build(rows, size)
    for at in range(size):
        one_by_one.add(rows, at)
    assert len(at_once) == len(one_by_one) == size
    for at in range(len(rows)):
        expected = at if at < size else -1
        assert at_once.find(rows, rows[at : at + 1]) == one_by_one.find(rows, rows[at : at + 1]) == expected
    if size > 1:
        rows[size - 1] = rows[0]
        with pytest.raises(ValueError, match=f"transition {size - 1} equals an earlier one"):
            at_once.build(rows, size)


@pytest.mark.parametrize("n_steps", [100_000, pytest.param(1_000_000, marks=pytest.mark.slow)], ids=["10^5", "10^6"])
def test_a_memory_that_has_overwritten_nearly_all_of_its_rows_is_consistent(n_steps):
    buffer = SuccessFailReplayBuffer(5_000, spaces.Discrete(500), spaces.Discrete(6), "cpu", seed=0)
    rng = np.random.default_rng(0)
    values = rng.integers(0, (500, 500, 6), (n_steps, 3))
    infos, reward, done = [{}], np.array([-1.0], np.float32), np.array([False])
    for s, s_next, a in values[:, :, None]:
        buffer.add(s, s_next, a[None], reward, done, infos)
    buffer.check_valid()
    assert isinstance(buffer.fail.index, HashIndex)
    assert buffer.fail_size == 5_000
    held = memory_as_tuples(buffer)[1]
    assert len(set(held)) == 5_000


def test_an_edit_in_one_file_of_kernels_is_seen_by_those_that_call_it(tmp_path):
    """Numba's own cache looks at a function's own file only, and would go on with what the other file was."""
    (tmp_path / "caller.py").write_text(
        "from callee import _number\nfrom sb3_lecture_dqn.kernels.compiling import jit\n\n"
        "@jit\ndef number():\n    return _number()\n"
    )
    printed = []
    for number in (1, 1, 2):
        (tmp_path / "callee.py").write_text(
            f"from sb3_lecture_dqn.kernels.compiling import jit\n\n@jit\ndef _number():\n    return {number}\n"
        )
        result = python(
            f"""
            import sys
            sys.path.insert(0, {str(tmp_path)!r})
            from caller import number
            print(number(), sum(number.stats.cache_hits.values()))
            """,
            PYTHONDONTWRITEBYTECODE="1",
            NUMBA_CACHE_DIR=str(tmp_path / "cache"),
        )
        assert result.returncode == 0, result.stderr
        printed.append(result.stdout.split())
    assert printed == [["1", "0"], ["1", "1"], ["2", "0"]]


def test_numba_that_cannot_be_imported_is_as_none(monkeypatch, capsys):
    """As when NumPy is newer than it knows."""

    def fail(name):
        raise ImportError("Numba needs NumPy 2.4 or less")

    monkeypatch.setattr(available, "import_module", fail)
    model, _ = run("auto", 20, verbose=1)
    assert "cannot be used: numba cannot be imported: Numba needs NumPy 2.4 or less)" in capsys.readouterr().out
    assert isinstance(model.replay_buffer.fail.index, DictIndex)


def test_no_updates_have_no_loss():
    for engine in ("torch", "numba"):
        model, _ = run(engine, 5)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's, of a mean of nothing, as in SB3
            model.train(0, 1)
        assert math.isnan(model.logger.name_to_value["train/loss"])
