"""Tabular environments as arrays: their model, and exact or sampled episodes of a policy."""

import copy
import functools
import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from stable_baselines3.common.monitor import Monitor

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.common.wrappers import TransparentWrapper
from sb3_lecture_dqn.envs.read_only import ReadOnlyDict, ReadOnlyList
from sb3_lecture_dqn.envs.registration import registered

# Probabilities may miss a sum of 1 by this much, which is more than rounding of float64 amounts to.
PROBABILITY_TOLERANCE = 1e-8


# Of value iteration: γ = 0.999 needs at most ln(1e-14) / ln(γ), about 32,000.
_MAX_SWEEPS = 200_000


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
        self._env: gym.Env | None = None
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
        self._optimum_at: dict[int, OptimalValues] = {}

    @classmethod
    def from_env(cls, env: gym.Env | str, *, leaving_out: tuple[type[gym.Wrapper], ...] = ()) -> "TabularModel":
        """
        Read the model of one of gymnasium's toy-text environments: Taxi, FrozenLake or CliffWalking.

        Of an environment that is none of these, only its author knows whether ``P`` is all there is to it, who can give
        it to the constructor.

        :param env: The environment or its id; it is not stepped
        :param leaving_out: Wrappers that are passed over, because what they do besides is not wanted
        :return: Its model, with the step limit of its ``TimeLimit``
        :raises NotTabularError: If the environment has no such model; the message says why
        """
        if isinstance(env, str):
            made = gym.make(registered(env))
            try:
                return cls.from_env(made)
            finally:
                made.close()
        _check_known(env.unwrapped)  # first: of an environment without tables no wrapper is to blame
        max_episode_steps: int | None = None
        inner = env
        while isinstance(inner, gym.Wrapper):
            transparent = type(inner) in _TRANSPARENT_WRAPPERS or isinstance(inner, (TransparentWrapper, *leaving_out))
            if not transparent:
                raise NotTabularError(
                    f"{type(inner).__name__} around {env.unwrapped} may change observations, rewards or the end of "
                    "episodes, which the environment's P knows nothing of"
                )
            if isinstance(inner, TimeLimit):
                limit = inner._max_episode_steps
                max_episode_steps = limit if max_episode_steps is None else min(max_episode_steps, limit)
            inner = inner.env
        table: Any = inner  # has the attributes of toy-text environments
        masks = [table.action_mask(s) for s in range(len(table.P))] if hasattr(table, "action_mask") else None
        model = cls(table.P, table.initial_state_distrib, masks, max_episode_steps, inner.spec)
        model._env = _without_state(inner)
        return model

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "P"}  # can be made anew

    @functools.cached_property
    def P(self) -> Mapping[int, Mapping[int, Sequence[Outcome]]]:
        """
        The table as toy-text environments have it: ``P[s][a]`` is the list of outcomes of action a in state s.

        It cannot be changed, as the arrays are what is stepped on; a copy by ``copy.deepcopy`` can.
        """
        arrays = (self.probabilities, self.next_states, self.rewards, self.terminated)
        table = [
            [
                ReadOnlyList("P", [outcome for outcome in zip(*columns, strict=True) if outcome[0] > 0])
                for columns in zip(*state, strict=True)
            ]
            for state in zip(*(array.tolist() for array in arrays), strict=True)
        ]
        return ReadOnlyDict("P", {s: ReadOnlyDict("P", dict(enumerate(actions))) for s, actions in enumerate(table)})

    @functools.cached_property
    def env(self) -> gym.Env | None:
        """
        An environment of this model for what is no part of it: its map, names of states, pictures.

        It is a copy of that which the model was read from, or made by the ``spec``, without a state; ``None`` if there
        is neither.
        """
        if self._env is None and self.spec is not None:
            return _without_state(gym.make(self.spec).unwrapped)
        return self._env

    def same_as(self, other: "TabularModel") -> bool:
        """
        Whether another model is of the same task.

        :param other: The other model
        :return: Whether all arrays are equal, and the step limit
        """
        arrays = ("probabilities", "next_states", "rewards", "terminated", "initial_state_distrib", "action_masks")
        if self.max_episode_steps != other.max_episode_steps:
            return False
        return self is other or all(np.array_equal(getattr(self, name), getattr(other, name)) for name in arrays)

    def mean_over_starts(self, values: np.ndarray) -> float:
        """
        The expectation over first states.

        :param values: What an episode is worth from every state, float64 of shape ``(S,)``
        :return: Its mean, weighted by ``initial_state_distrib``
        """
        weights = self.initial_state_distrib[self.start_states]
        # Starts of equal probability get the weight 1, so that sums of whole numbers stay whole.
        return float(np.average(values[self.start_states], weights=weights / weights.max()))

    def optimum(self, max_episode_steps: int) -> "OptimalValues":
        """
        The best that any policy can do, and what the random one does; computed once for every step limit.

        With h steps to go, and over the outcomes k of action a in state s,

            ``Q_h(s, a) = Σ_k p_k · (r_k + [not terminated_k] · V_{h-1}(s'_k))``, ``V_0 = 0``,

        with ``V_h(s) = max_a Q_h(s, a)`` for the optimum (backward induction: Puterman 1994, *Markov Decision
        Processes*, section 4.5) and the mean over all actions for the random policy. Both are exact up to the rounding
        of float64, and the optimum of a deterministic model with whole-numbered rewards is exact.

        :param max_episode_steps: Steps after which an episode is cut
        :return: Values of all states, and their means over the starts
        """
        if max_episode_steps not in self._optimum_at:
            gains = (self.probabilities * self.rewards).sum(axis=2)
            going_on = self.probabilities * ~self.terminated
            best = random = np.zeros(self.n_states)
            for _ in range(max_episode_steps):
                before, action_values = best, gains + (going_on * best[self.next_states]).sum(axis=2)
                best = action_values.max(axis=1)
                if np.array_equal(best, before):
                    break  # no bit would change in any further step
            for _ in range(max_episode_steps):
                before, random = random, (gains + (going_on * random[self.next_states]).sum(axis=2)).mean(axis=1)
                if np.array_equal(random, before):
                    break
            actions = action_values.argmax(axis=1)
            for array in (best, actions, random):
                array.flags.writeable = False
            means = self.mean_over_starts(best), self.mean_over_starts(random)
            self._optimum_at[max_episode_steps] = OptimalValues(best, actions, means[0], random, means[1])
        return self._optimum_at[max_episode_steps]

    def optimal_action_values(self, gamma: float) -> np.ndarray:
        """
        The discounted values that a DQN of this discount factor learns towards, of episodes without a step limit:

            ``Q(s, a) = Σ_k p_k · (r_k + γ · [not terminated_k] · max_a' Q(s'_k, a'))``

        By value iteration (Puterman 1994, *Markov Decision Processes*, section 6.3) until no value changes by more than
        the rounding of float64.

        :param gamma: The discount factor γ, between 0 and 1
        :return: ``Q``, float64 of shape ``(S, A)``
        :raises ValueError: If γ is out of range, or so near 1 that the values of episodes that need not end do not
            converge
        """
        check_number("gamma", gamma, 0, 1)
        gains = (self.probabilities * self.rewards).sum(axis=2)
        going_on = gamma * self.probabilities * ~self.terminated
        values = np.zeros((self.n_states, self.n_actions))
        for _ in range(_MAX_SWEEPS):
            before, values = values, gains + (going_on * values.max(axis=1)[self.next_states]).sum(axis=2)
            if np.allclose(values, before, rtol=1e-14, atol=1e-14):
                optimal: np.ndarray = values
                return optimal
        raise ValueError(f"gamma={gamma}: the optimal values have not converged after {_MAX_SWEEPS} sweeps")

    @property
    def successes(self) -> np.ndarray:
        """
        Which outcomes end an episode well, bool of shape ``(S, A, K)``.

        An episode may end badly too, as in a hole of FrozenLake, and only the rewards tell: those ends are successes
        whose reward is above 0, or where that is so of none, those of the highest reward. (Taxi has one kind of end,
        with 20; CliffWalking one with -1; FrozenLake two, with 1 and 0.)
        """
        return self._successes

    @functools.cached_property
    def _successes(self) -> np.ndarray:
        acting = self.acting_states()[:, None, None]
        good: np.ndarray = self.terminated & (self.probabilities > 0) & acting
        if good.any():
            highest = float(self.rewards[good].max())
            good &= self.rewards > 0 if highest > 0 else self.rewards == highest
        good.flags.writeable = False
        return good

    def acting_states(self) -> np.ndarray:
        """
        The states in which an agent can come to act: those that an episode can reach, but for terminal ones.

        :return: bool of shape ``(S,)``
        """
        found: np.ndarray = self.initial_state_distrib > 0
        leads_on = (self.probabilities > 0) & ~self.terminated
        frontier = self.start_states
        while len(frontier):
            reached = np.unique(self.next_states[frontier][leads_on[frontier]])
            frontier = reached[~found[reached]]
            found[frontier] = True
        return found

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


def _without_state(env: gym.Env) -> gym.Env:
    """A copy of a toy-text environment without what the model has better, and without windows and pictures."""
    copied = copy.copy(env)
    for name, value in list(vars(copied).items()):
        if name in ("P", "initial_state_distrib", "s", "lastaction"):
            del vars(copied)[name]
        elif isinstance(value, np.ndarray):
            vars(copied)[name] = value.copy()
            vars(copied)[name].flags.writeable = False
        elif _is_drawn(value):
            vars(copied)[name] = None
    vars(copied)["_np_random"] = None
    return copied


def _is_drawn(value: Any) -> bool:
    if isinstance(value, dict | list | tuple):
        return any(map(_is_drawn, value.values() if isinstance(value, dict) else value))
    return type(value).__module__.partition(".")[0] == "pygame"


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


class OptimalValues(NamedTuple):
    """
    The best undiscounted returns of a tabular environment whose episodes are cut, and those of the random policy.

    Under a cut the best action depends on the steps left: ``actions`` are the best while all are, and only where the
    cut does not matter are they a best policy.

    :param values: Highest expected return of an episode from every state, read-only float64 of shape ``(S,)``
    :param actions: A best first action in every state (of several the lowest), read-only int64 of shape ``(S,)``
    :param mean_reward: Mean of ``values`` over the starts: no policy's expected return is higher
    :param random_values: Expected returns of the policy that draws uniformly from all actions, also those that a mask
        rules out, read-only float64 of shape ``(S,)``
    :param random_mean_reward: Mean of ``random_values`` over the starts
    """

    values: np.ndarray
    actions: np.ndarray
    mean_reward: float
    random_values: np.ndarray
    random_mean_reward: float
