"""
The compiled updates against PyTorch's for every kind of network, observation, optimiser, loss and memory.

:mod:`test_updates` has the lecture's networks on ``Discrete`` observations; here is all the rest, by a cover in which
every two settings stand together.
"""

import copy
import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from gymnasium.vector.utils import concatenate, create_empty_array
from hypothesis import example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import nn

from sb3_lecture_dqn import DiscreteEmbeddingExtractor, LectureCheckpointCallback, LectureDQN, LectureQRDQN
from tests.engine.comparison import distances, numbers

pytest.importorskip("numba")

SPACES = {
    "Discrete": spaces.Discrete(9),
    "MultiDiscrete": spaces.MultiDiscrete([4, 2, 3]),
    "MultiBinary": spaces.MultiBinary(5),
    "Box": spaces.Box(-1, 1, (2, 3)),
    "wide Box": spaces.Box(-1, 1, (61,)),
    "Dict": spaces.Dict(
        {
            "speed": spaces.Box(-2, 2, (3,)),
            "at": spaces.Discrete(6),
            "bits": spaces.MultiBinary(2),
            "goal": spaces.Box(-1, 1, (2, 2)),
            "hand": spaces.MultiDiscrete([3, 2]),
        }
    ),
}
OPTIMIZERS = {
    "sgd": (th.optim.SGD, {}),
    "momentum": (th.optim.SGD, {"momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (th.optim.SGD, {"momentum": 0.9, "nesterov": True}),
    "decay": (th.optim.SGD, {"weight_decay": 0.1}),
    "adam": (th.optim.Adam, {}),
    "adam with decay": (th.optim.Adam, {"weight_decay": 0.01, "betas": (0.8, 0.9), "eps": 1e-5}),
    "adamw": (th.optim.AdamW, {"weight_decay": 0.1}),
    "rmsprop": (th.optim.RMSprop, {}),
    "rmsprop with momentum": (th.optim.RMSprop, {"momentum": 0.9, "weight_decay": 0.01, "alpha": 0.9, "eps": 1e-5}),
}
FACTORS = {
    "space": list(SPACES),
    "policy": ["lecture", "action in", "usual", "embedding", "lecture's quantiles", "usual quantiles"],
    "activation": [nn.ReLU, nn.Tanh, nn.LeakyReLU, nn.ELU, nn.PReLU],
    "optimizer": list(OPTIMIZERS),
    "loss": ["mse", "huber"],
    "max_grad_norm": [None, 0.5],
    "target": ["target", "double", "online"],
    "memory": ["ours", "masks", "stock", "n steps", "optimised", "normalised"],
    "batch_size": [1, 7, 64],
}


def is_possible(case):
    return not (case.get("memory") in ("optimised", "n steps") and case.get("space") == "Dict")  # SB3 has none


def pairs_of(case):
    names = [name for name in FACTORS if name in case]
    return {(a, case[a], b, case[b]) for a, b in itertools.combinations(names, 2)}


def pairwise_cover():
    """Cases in which every possible pair of settings stands together, each chosen to have many new pairs."""
    names = list(FACTORS)
    left = {
        (a, x, b, y)
        for a, b in itertools.combinations(names, 2)
        for x in FACTORS[a]
        for y in FACTORS[b]
        if is_possible({a: x, b: y})
    }
    cases, rng = [], np.random.default_rng(0)
    while left:
        a, x, b, y = min(left, key=str)
        case = {a: x, b: y}
        for name in rng.permutation([name for name in names if name not in case]).tolist():
            options = [value for value in FACTORS[name] if is_possible({**case, name: value})]

            news = {value: len(left & pairs_of({**case, name: value})) for value in options}
            case[name] = max(options, key=news.get)
        left -= pairs_of(case)
        cases.append(case)
    return cases


COVER = pairwise_cover()


class Anything(gym.Env):
    """Observes anything of a space; the reward depends on it, so that there is something to learn."""

    def __init__(self, space, n_actions):
        self.observation_space, self.action_space = space, spaces.Discrete(n_actions)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def observe(self):
        self.observation_space.seed(int(self.np_random.integers(2**31)))  # so that an episode can be replayed
        return self.observation_space.sample()

    def step(self, action):
        self.steps += 1
        obs = self.observe()
        numbers = spaces.flatten(self.observation_space, obs)
        return obs, float(numbers.mean() + action / 4), bool(self.np_random.random() < 0.1), self.steps > 20, {}

    def action_masks(self):
        masks = np.ones(self.action_space.n, bool)
        masks[self.steps % len(masks)] = len(masks) == 1
        return masks


def make(engine, case, *, width=16, n_actions=3, n_layers=2, seed=0, learning_rate=1e-3):
    space, policy, memory = SPACES[case["space"]], case["policy"], case["memory"]
    optimizer_class, optimizer_kwargs = OPTIMIZERS[case["optimizer"]]
    own = {"optimizer_class": optimizer_class, "optimizer_kwargs": optimizer_kwargs}
    embedding = {
        "features_extractor_class": DiscreteEmbeddingExtractor,
        "features_extractor_kwargs": {"embedding_dim": 5},
    }
    kwargs = {}
    if policy.endswith("quantiles"):
        own["n_quantiles"] = 13
    else:
        kwargs["loss"] = case["loss"]
    if policy in ("lecture", "action in", "lecture's quantiles"):
        own["hidden_dim"] = max(width // 2, 1)
    else:
        own |= {"net_arch": [width, width // 2 + 1, width][:n_layers], "activation_fn": case["activation"]}
    if policy == "embedding":
        own |= embedding
    usual = "MultiInputPolicy" if case["space"] == "Dict" else "MlpPolicy"
    name = {"action in": "ActionInPolicy"}.get(policy, "LecturePolicy" if policy.startswith("lecture") else usual)
    env = DummyVecEnv([lambda: Anything(space, n_actions)])
    if memory in ("stock", "optimised"):
        kwargs["replay_buffer_class"] = DictReplayBuffer if case["space"] == "Dict" else ReplayBuffer
    if memory == "optimised":
        kwargs |= {"optimize_memory_usage": True, "replay_buffer_kwargs": {"handle_timeout_termination": False}}
    if memory == "n steps":
        kwargs["n_steps"] = 3
    if memory == "masks":
        kwargs["use_masking"] = True
    if memory == "normalised":
        env = VecNormalize(env, norm_obs=isinstance(space, spaces.Box))
    model = (LectureQRDQN if policy.endswith("quantiles") else LectureDQN)(
        name,
        env,
        learning_rate=learning_rate,
        buffer_size=60,  # so that SB3's buffers are full
        batch_size=case["batch_size"],
        max_grad_norm=case["max_grad_norm"],
        double_dqn=case["target"] != "online",
        double_q=case["target"] == "double",
        learning_starts=10**6,
        policy_kwargs=own,
        engine=engine,
        seed=seed,
        device="cpu",
        **kwargs,
    )
    model.learn(100)
    model.set_logger(configure(None, []))
    model.learning_starts = 0
    assert model.engine_in_use == engine
    return model


def updated(model, n, rounding=None):
    """
    Update a model, after its weights were changed as if they had been rounded; return its numbers.

    A computed sum of n products is the exact one of factors that differ relatively by about sqrt(n) units of rounding
    (Higham 2002, Accuracy and Stability of Numerical Algorithms, 3.1 and 2.8).
    """
    np.random.seed(7)  # noqa: NPY002  # from which SB3's memories draw
    if rounding is not None:
        rng = th.Generator().manual_seed(rounding)
        with th.no_grad():
            for weight in model.policy.parameters():
                units = max(64, *weight.shape) ** 0.5
                weight *= 1 + units * 2**-24 * (2 * th.rand(weight.shape, generator=rng, dtype=weight.dtype) - 1)
    losses = []
    for done in range(0, n, 5):
        model.train(min(5, n - done), model.batch_size)
        losses.append(model.logger.name_to_value["train/loss"])
    return {**numbers(model), "losses": th.tensor(losses, dtype=th.float64)}


def make_float64(case, **options):
    """A model of PyTorch that computes in float64 from the weights that `make` draws in float32."""
    model = make("torch", case, **options)
    model.policy.double()
    for module in model.policy.modules():
        if isinstance(module, nn.Linear):  # SB3 makes float32 of observations
            module.register_forward_pre_hook(lambda module, arguments: (arguments[0].double(),))
    return model


def assert_updates_are_pytorchs(case, n, tolerance, **options):
    """
    Compare weights, target, the optimiser's state and losses.

    Where terms cancel, float32 does not determine a result to the tolerance. Then the compiled numbers must be as near
    to those of float64 as PyTorch's are, or as float64's own from weights that were changed by as much as rounding
    changes a product with them, up to a factor of two; see `assert_as_exact` in :mod:`test_updates`.
    """
    compiled, torch = updated(make("numba", case, **options), n), updated(make("torch", case, **options), n)
    too_far = {name: d for name, d in distances(compiled, torch).items() if d > tolerance}
    if too_far:
        exact = updated(make_float64(case, **options), n)
        own, expected = distances(compiled, exact), distances(torch, exact)
        for seed in range(20):
            if all(own[name] <= max(tolerance, 2 * expected[name]) for name in too_far):
                break  # more could only allow more
            rounded = distances(updated(make_float64(case, **options), n, seed), exact)
            expected = {name: max(distance, rounded[name]) for name, distance in expected.items()}
        for name, distance in too_far.items():
            assert own[name] <= max(tolerance, 2 * expected[name]), (name, distance, own[name], expected[name])


def each(cases):
    return pytest.mark.parametrize(
        "case", cases, ids=lambda case: "-".join(getattr(value, "__name__", str(value)) for value in case.values())
    )


@each(COVER)
def test_an_update_of_every_kind_is_pytorchs(case):
    assert_updates_are_pytorchs(case, 1, 1e-6)


# One transition by plain SGD has kernels of its own.
PLAIN = [
    {"space": space, "policy": policy, "activation": nn.PReLU, "optimizer": "sgd", "loss": loss,
     "max_grad_norm": None, "target": target, "memory": memory, "batch_size": 1}
    for policy, space, loss, target, memory in [
        ("lecture", "MultiDiscrete", "mse", "target", "ours"),
        ("lecture", "Dict", "huber", "double", "masks"),
        ("lecture", "Discrete", "mse", "double", "stock"),
        ("lecture", "wide Box", "mse", "online", "n steps"),
        ("action in", "Dict", "huber", "target", "ours"),
        ("action in", "MultiBinary", "mse", "double", "masks"),
        ("usual", "Box", "huber", "target", "stock"),
        ("usual", "Discrete", "mse", "double", "ours"),
        ("usual", "Dict", "mse", "target", "normalised"),
        ("embedding", "MultiDiscrete", "mse", "online", "optimised"),
    ]
]  # fmt: skip


@each(PLAIN)
def test_updates_on_one_transition_are_pytorchs(case):
    assert_updates_are_pytorchs(case, 1, 1e-6)
    assert_updates_are_pytorchs(case, 50, 1e-4)


SIZES = st.integers(1, 40) | st.sampled_from([63, 64, 65, 127, 200, 300])
OPTIONS = st.fixed_dictionaries(
    {"width": SIZES, "n_actions": st.integers(1, 20), "n_layers": st.integers(0, 3), "seed": st.integers(0, 2**16)}
)
CASES = st.fixed_dictionaries({name: st.sampled_from(values) for name, values in FACTORS.items()}).filter(is_possible)


#: A loss that is the mean of many numbers, whose sum in float32 was off by more than PyTorch's
OF_MANY_QUANTILES = {
    "space": "Discrete", "policy": "lecture's quantiles", "activation": nn.ReLU, "optimizer": "sgd", "loss": "mse",
    "max_grad_norm": None, "target": "target", "memory": "normalised", "batch_size": 64,
}  # fmt: skip


@hypothesis_settings(max_examples=15)
@given(case=CASES, options=OPTIONS)
@example(case=OF_MANY_QUANTILES, options={"width": 4, "n_actions": 1, "n_layers": 0, "seed": 0})
def test_an_update_of_any_size_is_pytorchs(case, options):
    assert_updates_are_pytorchs(case, 1, 1e-6, **options)


@pytest.mark.slow
@hypothesis_settings(max_examples=1000)
@given(case=CASES, options=OPTIONS)
def test_many_updates_of_many_sizes_are_pytorchs(case, options):
    assert_updates_are_pytorchs(case, 1, 1e-6, **options)


@each(COVER[:4])
def test_a_hundred_updates_are_pytorchs(case):
    assert_updates_are_pytorchs(case, 100, 1e-4, learning_rate=1e-4)


@pytest.mark.slow
@each(COVER)
def test_a_thousand_updates_of_every_kind_are_pytorchs(case):
    assert_updates_are_pytorchs(case, 1000, 1e-4, learning_rate=1e-4)


# What was trained is what PyTorch and the files have.

KINDS = [
    {"space": space, "policy": policy, "activation": activation, "optimizer": optimizer, "loss": "huber",
     "max_grad_norm": 10, "target": "target", "memory": memory, "batch_size": 7}
    for policy, space, activation, optimizer, memory in [
        ("lecture", "Dict", nn.PReLU, "adam", "ours"),
        ("action in", "MultiDiscrete", nn.PReLU, "rmsprop with momentum", "ours"),
        ("usual", "wide Box", nn.Tanh, "adamw", "stock"),
        ("usual", "Dict", nn.ELU, "nesterov", "stock"),
        ("embedding", "MultiDiscrete", nn.LeakyReLU, "rmsprop", "n steps"),
        ("lecture's quantiles", "MultiBinary", nn.PReLU, "adam", "masks"),
        ("usual quantiles", "Box", nn.ReLU, "adam", "stock"),
    ]
]  # fmt: skip


def observations(model, n=20):
    return [model.observation_space.sample() for _ in range(n)]


def actions(model, obs):
    return [int(model.predict(one, deterministic=True)[0]) for one in obs]


@pytest.mark.filterwarnings("ignore:use_masking=True, but predict")
@each(KINDS)
def test_its_greedy_actions_are_pytorchs(case):
    model = make("numba", case)
    updated(model, 20)
    by_pytorch = actions(model, obs := observations(model))
    room = create_empty_array(model.observation_space, len(obs))
    together = concatenate(model.observation_space, obs, room)
    assert model._engine.greedy_actions(together).tolist() == by_pytorch


@pytest.mark.filterwarnings("ignore:use_masking=True, but predict")
@each(KINDS)
def test_it_is_saved_copied_and_taken_over_whole(case, tmp_path):
    model = make("numba", case)
    updated(model, 20)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=model.get_env())
    other = make("numba", case, seed=5)
    other.set_parameters(copy.deepcopy(model.get_parameters()))
    obs = observations(model)
    for taken in (loaded, other):
        assert taken.engine_in_use == "numba"
        assert actions(taken, obs) == actions(model, obs)
        taken.set_logger(configure(None, []))
        taken.replay_buffer = copy.deepcopy(model.replay_buffer)
    copied = copy.deepcopy(model.policy)
    before = actions(model, obs)
    found = [updated(one, 10) for one in (model, loaded, other)]
    assert all(max(distances(one, found[0]).values()) == 0 for one in found)
    assert [int(copied.predict(one, deterministic=True)[0]) for one in obs] == before  # the copy was not trained


@each(KINDS)
def test_a_run_is_resumed_exactly(case, tmp_path):
    whole, stopped = make("numba", case), make("numba", case)
    saving = LectureCheckpointCallback(20, tmp_path, keep=None, verbose=0)
    np.random.seed(3)  # noqa: NPY002  # from which SB3's memories draw
    whole.learn(60)
    np.random.seed(3)  # noqa: NPY002
    stopped.learn(60, callback=saving)
    resumed = type(whole).resume(tmp_path / "checkpoint_40_steps.zip", env=make("numba", case).get_env())
    resumed.learn()
    assert resumed.engine_in_use == "numba"
    for other in (stopped, resumed):
        assert max(distances(numbers(other), numbers(whole)).values()) == 0


# A later PyTorch says the same by a FutureWarning.
@pytest.mark.filterwarnings(
    "ignore:`torch.jit:DeprecationWarning", "ignore:`torch.jit:FutureWarning", "ignore::torch.jit.TracerWarning"
)
@each([case for case in KINDS if case["space"] != "Dict"])
def test_it_is_traced_by_torchscript(case):
    model = make("numba", case)
    updated(model, 20)
    network = model._networks[0]
    obs = th.as_tensor(np.array(observations(model)))
    traced = th.jit.trace(network, obs[:2])
    th.testing.assert_close(traced(obs), network(obs))
