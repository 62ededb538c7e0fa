"""Tabular environments as arrays: their model, a vectorised environment over it, and exact or sampled episodes."""

import copy
import functools
import math
import time
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from sb3_lecture_dqn.common.checks import check_number

# Probabilities may miss a sum of 1 by this much, which is more than rounding of float64 amounts to.
PROBABILITY_TOLERANCE = 1e-8

# What `gymnasium.make` and SB3 put around an environment; none of these changes an observation or a reward.
_TRANSPARENT_WRAPPERS = (PassiveEnvChecker, OrderEnforcing, TimeLimit, Monitor)

Outcome = tuple[float, int, float, bool]
Transitions = Mapping[int, Any] | Sequence[Any]


class NotTabularError(ValueError):
    """An environment has no tables, or its tables are not all that decides what it does."""


class TabularModel:
    """
    The model of a tabular environment: states and actions are numbered from 0, all probabilities are known.

    With S states, A actions and at most K outcomes of an action in a state, the arrays are read-only and of these
    shapes. Where there are fewer than K outcomes, the rest of the row has the probability 0.

    - ``probabilities``, float64 of shape ``(S, A, K)``
    - ``next_states``, int64 of shape ``(S, A, K)``
    - ``rewards``, float64 of shape ``(S, A, K)``
    - ``terminated``, bool of shape ``(S, A, K)``: whether the outcome ends the episode
    - ``initial_state_distrib``, float64 of shape ``(S,)``
    - ``action_masks``, bool of shape ``(S, A)``, True for a valid action; ``None`` if nothing says which are valid

    The model is ``deterministic`` if K is 1, though the start may be random all the same.

    :param P: ``P[s][a]`` is the list of outcomes ``(probability, next state, reward, terminated)`` of action a in state
        s, as gymnasium's toy-text environments have it: dictionaries or lists
    :param initial_state_distrib: Probability of every state to be the first of an episode, shape ``(S,)``
    :param action_masks: Which actions are valid in which state, shape ``(S, A)``
    :param max_episode_steps: Steps after which an episode is truncated, ``None`` for no limit
    :param spec: gymnasium's specification of the environment, from which one can be made to render states
    :raises ValueError: If something is missing, out of range or no distribution; the message says where
    """

    def __init__(
        self,
        P: Transitions,
        initial_state_distrib: Sequence[float] | np.ndarray,
        action_masks: Sequence[Sequence[bool]] | np.ndarray | None = None,
        max_episode_steps: int | None = None,
        spec: EnvSpec | None = None,
    ) -> None:
        if len(P) == 0:
            raise ValueError("P has no states")
        if max_episode_steps is not None:
            check_number("max_episode_steps", max_episode_steps, 1, integer=True)
        table = [_read_state(P, state) for state in range(len(P))]
        self.n_states, self.n_actions = len(table), len(table[0])
        self.n_outcomes = max(len(outcomes) for actions in table for outcomes in actions)
        self.deterministic = self.n_outcomes == 1
        shape = (self.n_states, self.n_actions, self.n_outcomes)
        self.probabilities = np.zeros(shape)
        self.next_states = np.zeros(shape, dtype=np.int64)
        self.rewards = np.zeros(shape)
        self.terminated = np.zeros(shape, dtype=bool)
        for state, actions in enumerate(table):
            if len(actions) != self.n_actions:
                raise ValueError(f"P[{state}] has {len(actions)} actions, P[0] has {self.n_actions}")
            for action, outcomes in enumerate(actions):
                columns = zip(*outcomes, strict=True)
                for array in (self.probabilities, self.next_states, self.rewards, self.terminated):
                    array[state, action, : len(outcomes)] = next(columns)
        self.initial_state_distrib = _distribution("initial_state_distrib", initial_state_distrib, self.n_states)
        self.action_masks: np.ndarray | None = None
        if action_masks is not None:
            self.action_masks = np.array(action_masks, dtype=bool)
            if self.action_masks.shape != shape[:2]:
                raise ValueError(f"action_masks has the shape {self.action_masks.shape}, it must have {shape[:2]}")
        self.max_episode_steps = max_episode_steps
        self.spec = spec
        # A draw u in [0, 1) takes the first outcome whose cumulative probability is above it. The last one's is 1
        # whatever the rounding of the sum, so that no draw falls behind it.
        self.cumulative = self.probabilities.cumsum(axis=2).reshape(-1, self.n_outcomes)
        self.cumulative[self.cumulative >= self.cumulative[:, -1:]] = 1.0
        self.start_states = np.flatnonzero(self.initial_state_distrib)
        self._start_cumulative = self.initial_state_distrib[self.start_states].cumsum()
        self._start_cumulative[-1] = 1.0
        self._start_list: list[int] = self.start_states.tolist()
        self._start_cumulative_list: list[float] = self._start_cumulative.tolist()
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False

    @classmethod
    def from_env(cls, env: gym.Env | str) -> "TabularModel":
        """
        Read the model of one of gymnasium's toy-text environments: Taxi, FrozenLake or CliffWalking.

        Of an environment that is none of these, only its author knows whether ``P`` is all there is to it, who can give
        it to the constructor.

        :param env: The environment or its id; it is not stepped
        :return: Its model, with the step limit of its ``TimeLimit``
        :raises NotTabularError: If the environment has no such model; the message says why
        """
        if isinstance(env, str):
            made = gym.make(env)
            try:
                return cls.from_env(made)
            finally:
                made.close()
        max_episode_steps: int | None = None
        inner = env
        while isinstance(inner, gym.Wrapper):
            if type(inner) not in _TRANSPARENT_WRAPPERS:
                raise NotTabularError(
                    f"{type(inner).__name__} around {env.unwrapped} may change observations, rewards or the end of "
                    "episodes, which the environment's P knows nothing of"
                )
            if isinstance(inner, TimeLimit):
                limit = inner._max_episode_steps
                max_episode_steps = limit if max_episode_steps is None else min(max_episode_steps, limit)
            inner = inner.env
        _check_known(inner)
        table: Any = inner  # has the attributes of toy-text environments
        masks = [table.action_mask(s) for s in range(len(table.P))] if hasattr(table, "action_mask") else None
        return cls(table.P, table.initial_state_distrib, masks, max_episode_steps, inner.spec)

    def draw_starts(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """
        Draw first states of episodes.

        :param n: How many
        :param rng: Draws ``n`` numbers
        :return: int64 of shape ``(n,)``
        """
        return self.start_states[np.searchsorted(self._start_cumulative, rng.random(n), side="right")]

    def draw_start(self, rng: np.random.Generator) -> int:
        """
        Draw one first state, as ``draw_starts(1, rng)`` does but in a fraction of its time.

        :param rng: Draws a number
        :return: The state
        """
        return self._start_list[bisect_right(self._start_cumulative_list, rng.random())]

    def draw_outcomes(self, pairs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """
        Draw what comes of actions in states.

        :param pairs: Every state and action as ``state * A + action``, int64 of shape ``(n,)``
        :param rng: Draws ``n`` numbers, none if the model is deterministic
        :return: Indices into the flattened ``(S, A, K)`` arrays, int64 of shape ``(n,)``
        """
        if self.deterministic:
            return pairs
        drawn: np.ndarray = rng.random(len(pairs))[:, None] >= self.cumulative[pairs]
        outcomes: np.ndarray = pairs * self.n_outcomes + drawn.sum(axis=1)
        return outcomes


def _check_known(env: gym.Env) -> None:
    # Imported here because it loads all of gymnasium's toy-text environments.
    from gymnasium.envs.toy_text import CliffWalkingEnv, FrozenLakeEnv, TaxiEnv

    if type(env) not in (CliffWalkingEnv, FrozenLakeEnv, TaxiEnv):
        raise NotTabularError(
            f"{type(env).__name__} is none of gymnasium's TaxiEnv, FrozenLakeEnv and CliffWalkingEnv; if a table of "
            "outcomes is all that decides what it does, give it as TabularModel(P, initial_state_distrib)"
        )
    # Taxi has it since gymnasium 1.1.
    if getattr(env, "fickle_passenger", False):
        raise NotTabularError(
            "TaxiEnv(fickle_passenger=True) decides at the start of an episode whether the passenger will change the "
            "destination; this is no part of the state, so P is not all that decides what it does"
        )


def _read_state(P: Transitions, state: int) -> list[list[Outcome]]:
    try:
        actions = P[state]
    except KeyError:
        raise ValueError(f"P has {len(P)} states, which must be numbered from 0, but P[{state}] is missing") from None
    if len(actions) == 0:
        raise ValueError(f"P[{state}] has no actions")
    return [_read_outcomes(actions, state, action, len(P)) for action in range(len(actions))]


def _read_outcomes(actions: Any, state: int, action: int, n_states: int) -> list[Outcome]:
    where = f"P[{state}][{action}]"
    try:
        given = actions[action]
    except KeyError:
        raise ValueError(
            f"P[{state}] has {len(actions)} actions, which must be numbered from 0, but {where} is missing"
        ) from None
    outcomes: list[Outcome] = []
    for outcome in given:
        try:
            probability, next_state, reward, terminated = outcome
            probability, reward = float(probability), float(reward)
            whole = int(next_state) == next_state
        except (TypeError, ValueError, OverflowError):
            raise ValueError(
                f"{where} has the outcome {outcome!r}, not (probability, next state, reward, terminated)"
            ) from None
        if not 0 <= probability <= 1 + PROBABILITY_TOLERANCE:
            raise ValueError(f"{where} has an outcome of probability {probability}")
        if not whole or not 0 <= next_state < n_states:
            raise ValueError(f"{where} leads to state {next_state}, which is none of 0, …, {n_states - 1}")
        if not math.isfinite(reward):
            raise ValueError(f"{where} has the reward {reward}")
        if probability > 0:
            outcomes.append((probability, int(next_state), reward, bool(terminated)))
    total = math.fsum(outcome[0] for outcome in outcomes)
    if abs(total - 1) > PROBABILITY_TOLERANCE:
        raise ValueError(f"the probabilities of {where} sum to {total}, not to 1")
    return outcomes


def _distribution(name: str, given: Sequence[float] | np.ndarray, n: int) -> np.ndarray:
    array = np.array(given, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(f"{name} has the shape {array.shape}, it must have {(n,)}: one probability for every state")
    if not (array >= 0).all():  # nor is NaN
        state = int(np.argmin(array >= 0))
        raise ValueError(f"{name}[{state}] is {array[state]}, which is no probability")
    if abs(array.sum() - 1) > PROBABILITY_TOLERANCE:
        raise ValueError(f"{name} sums to {array.sum()}, not to 1")
    return array


class EpisodeFigures(NamedTuple):
    """
    What the lecture's test counts, for many episodes or as expectations for many first states.

    :param steps: Steps, float64 of shape ``(n,)``
    :param penalties: Steps with the penalty's reward, float64 of shape ``(n,)``
    :param returns: Undiscounted sums of rewards, float64 of shape ``(n,)``
    :param successes: 1 if the episode terminated, 0 if it was cut, float64 of shape ``(n,)``
    """

    steps: np.ndarray
    penalties: np.ndarray
    returns: np.ndarray
    successes: np.ndarray


def policy_figures(
    model: TabularModel, actions: np.ndarray, max_episode_steps: int, penalty_reward: float
) -> EpisodeFigures:
    """
    The expected figures of one episode from every state, computed and not sampled.

    With deterministic outcomes counts are exact, and so are returns of whole-numbered rewards; everything else is exact
    up to the rounding of float64.

    :param model: The environment
    :param actions: What the policy does in every state, integers of shape ``(S,)``
    :param max_episode_steps: Steps after which an episode is cut
    :param penalty_reward: The reward that counts as a penalty
    :return: One entry for every first state
    """
    every = np.arange(model.n_states)
    next_states, rewards = model.next_states[every, actions], model.rewards[every, actions]
    terminated = model.terminated[every, actions]
    penalties = rewards == penalty_reward
    if model.deterministic:
        columns = (penalties[:, 0], rewards[:, 0])
        return _figures_by_doubling(next_states[:, 0], *columns, terminated[:, 0], max_episode_steps)
    probabilities = model.probabilities[every, actions]
    # Expectations of one step: a step, a penalty, the reward, the end of the episode.
    one_step = np.stack([np.ones_like(rewards), penalties, rewards, terminated], axis=2)
    gains = np.einsum("sk,skf->sf", probabilities, one_step)
    going_on = probabilities * ~terminated
    # Backward recursion: with h + 1 steps to go, one step and then what h steps to go are worth in the next state.
    values = np.zeros_like(gains)
    for _ in range(max_episode_steps):
        before, values = values, gains + np.einsum("sk,skf->sf", going_on, values[next_states])
        if np.array_equal(values, before):
            break  # no bit would change in any further step
    return EpisodeFigures(*values.T)


def _figures_by_doubling(
    next_states: np.ndarray, penalties: np.ndarray, rewards: np.ndarray, terminated: np.ndarray, max_episode_steps: int
) -> EpisodeFigures:
    """
    Run deterministic episodes from all states in O(log(max_episode_steps)) array operations.

    Where 2h steps lead, and what they sum up to, follows from doing h steps twice. An episode of any length is put
    together from such jumps of 1, 2, 4, … steps, as its number of steps is from powers of 2.
    """
    n = len(next_states)
    end = n  # one more state, for episodes that have terminated: it leads to itself, and nothing is counted there
    jump = np.append(np.where(terminated, end, next_states), end)
    gains = np.zeros((n + 1, 3))
    gains[:n] = np.stack([np.ones(n), penalties, rewards], axis=1)
    reached, totals = np.arange(n), np.zeros((n, 3))
    while max_episode_steps > 0:
        if max_episode_steps % 2 == 1:
            totals += gains[reached]
            reached = jump[reached]
        gains = gains + gains[jump]
        jump = jump[jump]
        max_episode_steps //= 2
    steps, penalties, returns = totals.T
    return EpisodeFigures(steps, penalties, returns, (reached == end).astype(np.float64))


def run_policy(
    model: TabularModel,
    actions: np.ndarray,
    starts: np.ndarray,
    max_episode_steps: int,
    penalty_reward: float,
    rng: np.random.Generator,
) -> EpisodeFigures:
    """
    Run episodes of a deterministic policy, all of them together.

    :param model: The environment
    :param actions: What the policy does in every state, integers of shape ``(S,)``
    :param starts: First state of every episode, int64 of shape ``(n,)``
    :param max_episode_steps: Steps after which an episode is cut
    :param penalty_reward: The reward that counts as a penalty
    :param rng: Draws outcomes; not used if the model is deterministic
    :return: One entry for every episode
    """
    if model.deterministic:  # nothing is left to chance, so the expectation is what happens
        expected = policy_figures(model, actions, max_episode_steps, penalty_reward)
        return EpisodeFigures(*(column[starts] for column in expected))
    next_states, rewards, terminated = model.next_states.ravel(), model.rewards.ravel(), model.terminated.ravel()
    figures = EpisodeFigures(*np.zeros((4, len(starts))))
    running, states = np.arange(len(starts)), starts
    for _ in range(max_episode_steps):
        outcomes = model.draw_outcomes(states * model.n_actions + actions[states], rng)
        step_rewards, ended = rewards[outcomes], terminated[outcomes]
        figures.steps[running] += 1
        figures.penalties[running] += step_rewards == penalty_reward
        figures.returns[running] += step_rewards
        figures.successes[running[ended]] = 1
        running, states = running[~ended], next_states[outcomes[~ended]]
        if len(running) == 0:
            break
    return figures


class _SubEnv:
    """What ``get_attr``, ``set_attr`` and ``env_method`` find of one sub-environment."""

    def __init__(self, venv: "TabularVecEnv", index: int) -> None:
        self._venv = venv
        self._index = index
        self.model = venv.model
        self.spec = venv.spec
        self.metadata = venv.metadata
        # As with every environment that SB3 makes from an id
        self.render_mode = None if venv.spec is None else "rgb_array"
        if venv.model.action_masks is not None:
            self.action_masks = self._action_masks

    @property
    def s(self) -> int:
        """The state, under the name that toy-text environments have for it."""
        return int(self._venv._states[self._index])

    @s.setter
    def s(self, state: int) -> None:
        self._venv._check_states(np.array([state]))
        self._venv._states[self._index] = state

    @property
    def observation_space(self) -> spaces.Discrete:
        return self._venv.observation_space

    @property
    def action_space(self) -> spaces.Discrete:
        return self._venv.action_space

    @property
    def unwrapped(self) -> "_SubEnv":
        return self

    def _action_masks(self) -> np.ndarray:
        masks: np.ndarray = self._venv.action_masks()[self._index]
        return masks

    def render(self) -> np.ndarray:
        return self._venv._draw(self.s)


class TabularVecEnv(VecEnv):
    """
    SB3's ``VecEnv`` over a :class:`TabularModel`: array work in place of a Python object for every environment.

    Steps, rewards, ``infos`` and resets are those of ``DummyVecEnv`` over ``Monitor`` and ``TimeLimit`` around the
    environment itself. The ``infos`` are the caller's own dictionaries; the masks in them are shared and read-only.

    All randomness comes from one generator, :attr:`rng`; :meth:`seed` replaces it at the next reset. Options for resets
    have no effect, as in toy-text environments.

    :param env: A model, or an environment or its id that :meth:`TabularModel.from_env` can read
    :param n_envs: Number of environments
    :param max_episode_steps: Steps after which an episode is truncated. ``None`` for the limit of the environment,
        -1 for no limit, as in ``gymnasium.make``
    :param seed: Seed of the generator, ``None`` for one from the operating system
    :raises NotTabularError: If the environment has no model
    :raises ValueError: If an argument is out of range
    """

    observation_space: spaces.Discrete
    action_space: spaces.Discrete

    def __init__(
        self,
        env: TabularModel | gym.Env | str,
        n_envs: int = 1,
        max_episode_steps: int | None = None,
        seed: int | None = None,
    ) -> None:
        check_number("n_envs", n_envs, 1, integer=True)
        model = self.model = env if isinstance(env, TabularModel) else TabularModel.from_env(env)
        if max_episode_steps is None:
            max_episode_steps = model.max_episode_steps
        elif max_episode_steps == -1:
            max_episode_steps = None
        else:
            check_number("max_episode_steps", max_episode_steps, 1, integer=True)
        self.max_episode_steps = max_episode_steps
        self.rng = np.random.default_rng(seed)
        self.spec = copy.copy(model.spec)
        self.metadata: dict[str, Any] = {"render_modes": []}
        if self.spec is not None:
            self.spec.max_episode_steps = max_episode_steps
            self.metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 4}
        self._render_env: gym.Env | None = None
        self._sub_envs = [_SubEnv(self, index) for index in range(n_envs)]
        metadata = self.metadata
        super().__init__(n_envs, spaces.Discrete(model.n_states), spaces.Discrete(model.n_actions))
        self.metadata = metadata  # SB3 leaves out the frames per second

        self._limit = math.inf if max_episode_steps is None else max_episode_steps
        self._next_states, self._rewards = model.next_states.ravel(), model.rewards.ravel()
        self._terminated, self._probabilities = model.terminated.ravel(), model.probabilities.ravel()
        self._rewards32 = self._rewards.astype(np.float32)
        # One environment is stepped without NumPy, whose calls cost more than the work on single numbers.
        self._one = n_envs == 1
        self._was_reset = False
        self._pairs: Any = None  # state * A + action of the next step: int64 of shape (n_envs,), an int for one
        self._t_start = time.time()
        self._set_episodes(np.zeros(n_envs, np.int64), np.zeros(n_envs, np.int64), np.zeros(n_envs))

    # What stepping needs of the model as Python objects: made by the first step, as tests on arrays do without.

    @functools.cached_property
    def _infos(self) -> list[dict[str, Any]]:
        """The info of a step into every state, to be copied: that is faster than to build one."""
        plain = {"prob": 1.0, "TimeLimit.truncated": False}
        if self.model.action_masks is None:
            return [plain] * self.model.n_states
        return [{**plain, "action_mask": mask} for mask in self.model.action_masks.view(np.int8)]

    @functools.cached_property
    def _outcomes(self) -> list[tuple[int, float, bool, float]]:
        """Next state, reward, terminated and probability of every outcome."""
        columns = (self._next_states, self._rewards, self._terminated, self._probabilities)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    @functools.cached_property
    def _cumulative(self) -> list[list[float]]:
        """Cumulative probabilities of the outcomes of every state and action."""
        cumulative: list[list[float]] = self.model.cumulative.tolist()
        return cumulative

    def _set_episodes(self, states: np.ndarray, lengths: np.ndarray, returns: np.ndarray) -> None:
        """The running episodes: their states, how many steps they have had, and the sums of their rewards."""
        # One clock for all and the times at which episodes began: so nothing is counted for every environment, and
        # the step limit needs no look at them before the earliest deadline.
        self._clock = 0
        columns = (states, -lengths, returns)
        self._states: Any
        self._began: Any
        self._returns: Any
        self._states, self._began, self._returns = (c.tolist() if self._one else c.copy() for c in columns)
        self._deadline = min(self._began) + self._limit

    def reset(self) -> np.ndarray:
        """
        Begin an episode in every environment.

        :return: The first states, int64 of shape ``(n_envs,)``
        """
        states = self.draw_starts(self.num_envs)
        self._reset_options()
        self._set_episodes(states, np.zeros(self.num_envs, np.int64), np.zeros(self.num_envs))
        self.reset_infos = [self._reset_info(state) for state in states.tolist()]
        self._was_reset = True
        return states

    def draw_starts(self, n: int) -> np.ndarray:
        """
        Draw first states of episodes, as a reset would but without one.

        :param n: How many
        :return: int64 of shape ``(n,)``
        """
        if self._seeds[0] is not None:
            self.rng = np.random.default_rng(self._seeds[0])
            self._reset_seeds()
        return self.model.draw_starts(n, self.rng)

    def step_async(self, actions: np.ndarray) -> None:
        """
        Take note of the actions of the next :meth:`step_wait`.

        :param actions: Integers of shape ``(n_envs,)``
        :raises ValueError: If they are not, or one is out of range
        """
        if not self._was_reset:
            raise gym.error.ResetNeeded("reset() the environment before the first step")
        actions = np.asarray(actions)
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            raise ValueError(
                f"actions must be integers of shape ({self.num_envs},), not {actions.dtype} of shape {actions.shape}"
            )
        n_actions = self.model.n_actions
        if self._one:
            action = actions.item()
            if not 0 <= action < n_actions:
                raise ValueError(f"action {action} is none of 0, …, {n_actions - 1}")
            self._pairs = self._states[0] * n_actions + action
            return
        try:
            # Looks for numbers out of range in passing, where comparisons would take longer than all this.
            self._pairs = np.ravel_multi_index((self._states, actions), (self.model.n_states, n_actions))
        except ValueError:
            index = int(np.argmax((actions < 0) | (actions >= n_actions)))
            raise ValueError(
                f"action {actions[index]} of environment {index} is none of 0, …, {n_actions - 1}"
            ) from None

    def step_wait(self) -> VecEnvStepReturn:
        """
        Step all environments; one whose episode ends is reset at once.

        :return: States (int64), rewards (float32) and dones (bool), each of shape ``(n_envs,)``, and infos
        """
        self._clock += 1
        if self._one:
            return self._step_one()
        outcomes = self.model.draw_outcomes(self._pairs, self.rng)
        states = self._next_states[outcomes]
        dones = terminated = self._terminated[outcomes]
        if self._clock >= self._deadline:
            dones = terminated | (self._clock - self._began >= self._limit)
        self._returns += self._rewards[outcomes]
        table = self._infos
        infos = [table[state].copy() for state in states.tolist()]
        if not self.model.deterministic:
            for info, probability in zip(infos, self._probabilities[outcomes].tolist(), strict=True):
                info["prob"] = probability
        ended = dones.nonzero()[0].tolist()
        for index in ended:
            states[index] = self._end_episode(index, infos[index], int(states[index]), bool(terminated[index]))
        if ended:
            self._deadline = self._began.min() + self._limit
        self._states = states
        return states.copy(), self._rewards32[outcomes], dones, infos

    def _step_one(self) -> VecEnvStepReturn:
        outcome = self._pairs
        if not self.model.deterministic:
            outcome = outcome * self.model.n_outcomes + bisect_right(self._cumulative[outcome], self.rng.random())
        state, reward, terminated, probability = self._outcomes[outcome]
        self._returns[0] += reward
        info = self._infos[state].copy()
        info["prob"] = probability
        done = terminated or self._clock >= self._deadline
        if done:
            state = self._end_episode(0, info, state, terminated)
            self._deadline = self._clock + self._limit
        self._states[0] = state
        return np.array([state], np.int64), np.array([reward], np.float32), np.array([done]), [info]

    def _reset_info(self, state: int) -> dict[str, Any]:
        info = self._infos[state].copy()
        del info["TimeLimit.truncated"]
        return info

    def _end_episode(self, index: int, info: dict[str, Any], state: int, terminated: bool) -> int:
        """Complete the info of an episode's last step and begin the next episode with the state returned."""
        info["episode"] = {
            "r": round(float(self._returns[index]), 6),
            "l": self._clock - int(self._began[index]),
            "t": round(time.time() - self._t_start, 6),
        }
        info["TimeLimit.truncated"] = not terminated
        info["terminal_observation"] = state
        start = self.model.draw_start(self.rng)
        self._began[index] = self._clock
        self._returns[index] = 0.0
        self.reset_infos[index] = self._reset_info(start)
        return start

    def action_masks(self) -> np.ndarray:
        """
        Which actions are valid now.

        :return: bool of shape ``(n_envs, A)``
        :raises ValueError: If the model has no masks
        """
        if self.model.action_masks is None:
            raise ValueError("the model of the environment has no action_masks")
        masks: np.ndarray = self.model.action_masks[self._states]
        return masks

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """
        Seed all environments at the next reset.

        :param seed: The seed, ``None`` for one from the operating system
        :return: A seed for every environment, of which the first one is used for all
        """
        # SB3 would draw it from NumPy's global generator.
        return super().seed(int(np.random.SeedSequence().generate_state(1)[0]) if seed is None else int(seed))

    def get_state(self) -> dict[str, Any]:
        """
        All that decides how stepping goes on.

        :return: Arrays of shape ``(n_envs,)``, plain numbers, and the state of the generator
        """
        return {
            "states": np.array(self._states, dtype=np.int64),
            "lengths": self._clock - np.array(self._began, dtype=np.int64),
            "returns": np.array(self._returns, dtype=np.float64),
            "was_reset": self._was_reset,
            "seed": self._seeds[0],
            "rng": self.rng.bit_generator.state,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Go on from where :meth:`get_state` was called.

        :param state: What it returned, of an environment of the same model and size
        :raises ValueError: If it does not fit this environment
        """
        for name in ("states", "lengths", "returns"):
            if np.shape(state[name]) != (self.num_envs,):
                raise ValueError(f"{name} has the shape {np.shape(state[name])}, it must have ({self.num_envs},)")
        states = np.asarray(state["states"], np.int64)
        self._check_states(states)
        self._set_episodes(states, np.asarray(state["lengths"], np.int64), np.asarray(state["returns"], np.float64))
        self._was_reset = bool(state["was_reset"])
        self._reset_seeds()
        if state["seed"] is not None:
            self.seed(state["seed"])
        self.rng.bit_generator.state = state["rng"]

    def _check_states(self, states: np.ndarray) -> None:
        if not ((states >= 0) & (states < self.model.n_states)).all():
            raise ValueError(f"states {states} are not all of 0, …, {self.model.n_states - 1}")

    def close(self) -> None:
        """Close the window of the environment that renders, if there is one."""
        if self._render_env is not None:
            self._render_env.close()
            self._render_env = None

    def get_images(self) -> Sequence[np.ndarray | None]:
        """
        Pictures of all environments.

        :return: RGB arrays, uint8 of shape ``(height, width, 3)``
        :raises ValueError: If there is no gymnasium environment of the model
        """
        return [self._draw(int(state)) for state in self._states]

    def _draw(self, state: int) -> np.ndarray:
        if self._render_env is None:
            if self.spec is None:
                raise ValueError("there is no picture of a model that was not read from an environment with a spec")
            self._render_env = gym.make(self.spec, render_mode="rgb_array").unwrapped
            self._render_env.reset()
        self._render_env.s = state  # type: ignore[attr-defined]
        picture: np.ndarray = self._render_env.render()  # type: ignore[assignment]
        return picture

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """See SB3's ``VecEnv``; the state is ``s``, as in toy-text environments."""
        return [getattr(self._sub_envs[index], attr_name) for index in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """See SB3's ``VecEnv``; the state is ``s``, as in toy-text environments."""
        for index in self._get_indices(indices):
            setattr(self._sub_envs[index], attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """See SB3's ``VecEnv``."""
        return [method(*method_args, **method_kwargs) for method in self.get_attr(method_name, indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """See SB3's ``VecEnv``; what ``Monitor`` and ``TimeLimit`` do is done here, so they count as wrapped."""
        limited = wrapper_class is TimeLimit and self.max_episode_steps is not None
        return [wrapper_class is Monitor or limited for _ in self._get_indices(indices)]
