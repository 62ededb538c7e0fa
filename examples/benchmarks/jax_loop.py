"""
A DQN on Taxi as one jitted loop in JAX, as its users write it for speed: the peer of our compiled loop.

Act, step by tables, store in a ring memory, draw, update, copy the target: everything is inside ``lax.scan``, and XLA
compiles it as a whole. One call trains for thousands of steps. The random numbers are drawn beforehand, all at once.
What was tried and is slower here: weights of shape (out, in), a sparse step on the embedding, gradients by hand, an
inner loop over the updates that is not unrolled.

The memory is a plain ring. Ours does more: it keeps transitions apart that ended well, and finds duplicates.
"""

from typing import Any, NamedTuple

import jax
import numpy as np
import torch as th
from jax import lax
from jax import numpy as jnp
from torch.nn import functional as F

from sb3_lecture_dqn import LectureDQN, TabularModel

LEARNING_RATE = 1e-3
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
Weights = list[Any]  # embedding, then (in, out), bias, slope of PReLU twice, then (in, out), bias


class Settings(NamedTuple):
    """
    What is trained and how.

    :param updates: Updates after every step
    :param batch_size: Transitions in each
    :param adam: Whether to use Adam on Huber's loss, else SGD on the squared error
    :param capacity: Transitions in the memory
    :param gamma: Discount factor
    :param epsilon: Share of the random actions
    :param copy_every: Steps between two copies of the target
    :param step_limit: Steps of the longest episode
    :param keeps_values: Whether to compute the target's values of all states when it is copied, and not in each update
    :param max_norm: Largest norm of the gradient, ``None`` for any
    """

    updates: int
    batch_size: int
    adam: bool
    capacity: int
    gamma: float
    epsilon: float
    copy_every: int
    step_limit: int = 1000
    keeps_values: bool = False
    max_norm: float | None = None


class Memory(NamedTuple):
    """A ring of transitions."""

    states: Any
    actions: Any
    next_states: Any
    rewards: Any
    ends: Any


class Training(NamedTuple):
    """What a step changes."""

    weights: Weights
    moments: tuple[Any, ...]  # of Adam: first and second moments, number of steps
    memory: Memory
    state: Any
    stored: Any
    age: Any  # steps in this episode


def weights_of(network: th.nn.Module) -> Weights:
    """Copy the weights of the lecture's network."""
    arrays = [parameter.detach().numpy() for parameter in network.parameters()]
    return [jnp.array(array.T if i in (1, 4, 7) else array) for i, array in enumerate(arrays)]


def action_values(weights: Weights, states: Any) -> Any:
    """Compute the values of all actions in each state."""
    embedding, w1, b1, slope1, w2, b2, slope2, w3, b3 = weights
    x = embedding[states]
    for w, b, slope in ((w1, b1, slope1), (w2, b2, slope2)):
        z = x @ w + b
        x = jnp.where(z > 0, z, slope * z)
    return x @ w3 + b3


def update(settings: Settings, weights: Weights, moments: tuple[Any, ...], target: Any, batch: Memory) -> Any:
    """
    Make one update.

    :param target: The target network, or its highest value in each state
    :return: Weights and moments
    """
    if settings.keeps_values:
        next_values = target[batch.next_states]
    else:
        next_values = action_values(target, batch.next_states).max(axis=-1)
    y = batch.rewards + settings.gamma * (1 - batch.ends) * next_values

    def loss(weights: Weights) -> Any:
        values = action_values(weights, batch.states)
        error = jnp.take_along_axis(values, batch.actions[:, None], axis=1)[:, 0] - y
        size = jnp.abs(error)
        return jnp.mean(jnp.where(size < 1, 0.5 * error**2, size - 0.5) if settings.adam else error**2)

    gradient = jax.grad(loss)(weights)
    if settings.max_norm is not None:
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in gradient))
        gradient = [g * jnp.minimum(1.0, settings.max_norm / (norm + 1e-6)) for g in gradient]
    if not settings.adam:
        return jax.tree.map(lambda w, g: w - LEARNING_RATE * g, weights, gradient), moments
    first, second, n = moments
    n = n + 1
    first = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, first, gradient)
    second = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g**2, second, gradient)
    size, root = LEARNING_RATE / (1 - BETA1**n), jnp.sqrt(1 - BETA2**n)
    weights = jax.tree.map(lambda w, m, v: w - size * m / (jnp.sqrt(v) / root + EPS), weights, first, second)
    return weights, (first, second, n)


class JaxLoop:
    """
    Trainings with the same settings, compiled once.

    :param settings: What is trained and how
    :param steps: Environment steps of a run, a multiple of ``copy_every``
    """

    def __init__(self, settings: Settings, steps: int) -> None:
        assert steps % settings.copy_every == 0
        self.settings, self.steps = settings, steps
        table = TabularModel.from_env("Taxi-v3")
        self.next_states = jnp.array(table.next_states[:, :, 0], jnp.int32)
        self.rewards = jnp.array(table.rewards[:, :, 0], jnp.float32)
        self.ends = jnp.array(table.terminated[:, :, 0], jnp.float32)
        self.starts = jnp.array(table.start_states, jnp.int32)
        self.train = jax.jit(self._train, donate_argnums=0)

    def run(self, training: Training, seed: int) -> Training:
        """Train on from what :meth:`start` has made, which is used up."""
        result: Training = jax.block_until_ready(self.train(training, jax.random.key(seed)))
        return result

    def start(self, seed: int) -> Training:
        """Make the weights of ``LectureDQN`` with this seed, and an empty memory."""
        weights = weights_of(LectureDQN("Taxi-v3", seed=seed, device="cpu").q_net)
        zeros = jax.tree.map(jnp.zeros_like, weights)
        moments = (zeros, jax.tree.map(jnp.zeros_like, weights), jnp.float32(0)) if self.settings.adam else ()
        types = (jnp.int32, jnp.int32, jnp.int32, jnp.float32, jnp.float32)
        memory = Memory(*(jnp.zeros(self.settings.capacity, kind) for kind in types))
        return Training(weights, moments, memory, self.starts[seed], jnp.int32(0), jnp.int32(0))

    def _train(self, training: Training, key: Any) -> Training:
        keys = jax.random.split(key, self.steps // self.settings.copy_every)
        return lax.scan(self._until_copy, training, keys)[0]

    def _until_copy(self, training: Training, key: Any) -> tuple[Training, None]:
        """Train with one target: the weights at the start."""
        settings, n = self.settings, self.settings.copy_every
        keys = jax.random.split(key, 4)
        chances = (
            jax.random.uniform(keys[0], (n,)),
            jax.random.randint(keys[1], (n,), 0, self.rewards.shape[1]),
            jax.random.randint(keys[2], (n,), 0, len(self.starts)),
            jax.random.uniform(keys[3], (n, settings.updates, settings.batch_size)),
        )
        target = training.weights
        if settings.keeps_values:
            target = action_values(target, jnp.arange(len(self.rewards))).max(axis=-1)
        return lax.scan(lambda training, chance: self._step(training, target, chance), training, chances)

    def _step(self, training: Training, target: Any, chance: Any) -> tuple[Training, None]:
        """Make a step, and the updates after it."""
        settings, (weights, moments, memory, state, stored, age) = self.settings, training
        explores, random_action, first_state, draws = chance
        greedy = action_values(weights, state).argmax()
        action = jnp.where(explores < settings.epsilon, random_action, greedy).astype(jnp.int32)
        next_state, end = self.next_states[state, action], self.ends[state, action]
        transition = Memory(state, action, next_state, self.rewards[state, action], end)
        place = stored % settings.capacity
        memory = jax.tree.map(lambda ring, value: ring.at[place].set(value), memory, transition)
        positions = (draws * jnp.minimum(stored + 1, settings.capacity)).astype(jnp.int32)
        for i in range(settings.updates):
            batch = jax.tree.map(lambda ring, i=i: ring[positions[i]], memory)
            weights, moments = update(settings, weights, moments, target, batch)
        is_over = (end > 0) | (age + 1 >= settings.step_limit)
        state = jnp.where(is_over, self.starts[first_state], next_state)
        return Training(weights, moments, memory, state, stored + 1, jnp.where(is_over, 0, age + 1)), None


def check(settings: Settings) -> None:
    """
    Compare three updates with those of PyTorch, by the change of the weights.

    :raises RuntimeError: If they differ
    """
    net, target = (LectureDQN("Taxi-v3", seed=seed, device="cpu").q_net for seed in (0, 1))
    kinds = th.optim.Adam if settings.adam else th.optim.SGD
    optimizer = kinds(net.parameters(), lr=LEARNING_RATE)
    weights, of_target = weights_of(net), weights_of(target)
    before = [np.array(w) for w in weights]
    if settings.keeps_values:
        of_target = action_values(of_target, jnp.arange(500)).max(axis=-1)
    moments = (*(jax.tree.map(jnp.zeros_like, weights) for _ in range(2)), jnp.float32(0)) if settings.adam else ()
    rng, n = np.random.default_rng(0), settings.batch_size
    jitted = jax.jit(lambda *arguments: update(settings, *arguments))
    for _ in range(3):
        s, s_next, a = rng.integers(500, size=n), rng.integers(500, size=n), rng.integers(6, size=n)
        r, d = rng.choice([-1, -10, 20], size=n).astype(np.float32), (rng.random(n) < 0.2).astype(np.float32)
        weights, moments = jitted(weights, moments, of_target, Memory(*map(jnp.array, (s, a, s_next, r, d))))
        with th.no_grad():
            next_values = target.layers(th.from_numpy(s_next)).max(dim=1).values
            y = th.from_numpy(r) + settings.gamma * (1 - th.from_numpy(d)) * next_values
        values = net.layers(th.from_numpy(s)).gather(1, th.from_numpy(a)[:, None])[:, 0]
        optimizer.zero_grad()
        (F.smooth_l1_loss if settings.adam else F.mse_loss)(values, y).backward()
        optimizer.step()
    exact = weights_of(net)
    changes = [(np.asarray(w) - b, np.asarray(e) - b) for w, e, b in zip(weights, exact, before, strict=True)]
    error = max(np.abs(own - right).max() / np.abs(right).max() for own, right in changes)
    if not error < 1e-2:  # of a change that is small beside the weights
        raise RuntimeError(f"JAX and PyTorch differ: {error:.1e} of the change of a weight, {settings}")
