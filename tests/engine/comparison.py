"""Models of both engines in equal states, and how far their numbers lie apart."""

import copy

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

from examples import lecture_loop
from sb3_lecture_dqn import LectureDQN

# Every transition of Taxi, as (state, action, next state, reward, terminated).
TAXI = [
    (state, action, *outcomes[0][1:])
    for state, actions in lecture_loop.make_taxi().unwrapped.P.items()
    for action, outcomes in actions.items()
]
SUCCESSES = [transition for transition in TAXI if transition[3] == 20]

# With these no configuration diverges, nor is so unstable that PyTorch's float32 and float64 part within 1000 updates.
LEARNING_RATES = {"sgd": 1e-3, "momentum": 1e-4, "adam": 1e-4}


class Spaces(gym.Env):
    """Spaces, by default of Taxi's sizes, and nothing to do in them."""

    def __init__(self, start=0, n_states=500, n_actions=6):
        self.observation_space = spaces.Discrete(n_states, start=start)
        self.action_space = spaces.Discrete(n_actions)


def random_transitions(n_states, n_actions, n=300):
    """Transitions of sizes that are not Taxi's, in its form."""
    rng = np.random.default_rng([n_states, n_actions])
    sizes = (n_states, n_actions, n_states)
    columns = [rng.integers(size, size=n).tolist() for size in sizes]
    return list(zip(*columns, rng.uniform(-2, 2, n).tolist(), (rng.random(n) < 0.1).tolist(), strict=True))


def policy_kwargs(optimizer, **kwargs):
    if optimizer == "adam":
        return {"optimizer_class": th.optim.Adam, **kwargs}
    return {"optimizer_kwargs": {"momentum": 0.9}, **kwargs} if optimizer == "momentum" else kwargs


def make(engine, combination, *, seed=0, start=0, hidden_dim=32, falling=False, sizes=None):
    """A model with a filled memory; another engine gives one with the same weights, memory and draws."""
    policy, loss, optimizer, batch_size, max_grad_norm, target = combination
    widths = {} if policy == "TablePolicy" else {"hidden_dim": hidden_dim}
    lr = LEARNING_RATES[optimizer]
    model = LectureDQN(
        policy,
        Spaces(start, *(sizes or ())),
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
    memory = ((TAXI, 250), (SUCCESSES, 5)) if sizes is None else ((random_transitions(*sizes), 250),)
    for transitions, n in memory:
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


def trained(engine, optimizer="adam", **kwargs):
    model, _ = run(engine, 40, policy_kwargs=policy_kwargs(optimizer), batch_size=4, **kwargs)
    return model
