"""The model of a tabular environment as arrays: its draws, and its best values."""

import functools
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.envs.read_only import ReadOnlyDict, ReadOnlyList
from sb3_lecture_dqn.envs.tables import (
    NotTabularError,
    Outcome,
    Transitions,
    check_spaces,
    find_table,
    opts_in,
    read_distribution,
    read_table,
    without_state,
)
from sb3_lecture_dqn.registration import registered

__all__ = ["NotTabularError", "OptimalValues", "TabularModel"]

# Value iteration with γ = 0.999 needs at most ln(1e-14) / ln(γ) sweeps, about 32,000.
_MAX_SWEEPS = 200_000


class TabularModel:
    """
    The model of a tabular environment: states and actions are numbered from 0, and all probabilities are known.

    With S states, A actions and at most K outcomes of an action in a state, it has these read-only arrays. If an action
    has fewer than K outcomes, the rest of its row has the probability 0.

    - ``probabilities``, float64 of shape ``(S, A, K)``
    - ``next_states``, int64 of shape ``(S, A, K)``
    - ``rewards``, float64 of shape ``(S, A, K)``
    - ``terminated``, bool of shape ``(S, A, K)``: whether the outcome ends the episode
    - ``initial_state_distrib``, float64 of shape ``(S,)``
    - ``action_masks``, bool of shape ``(S, A)``, True for a valid action; ``None`` if the environment has no masks

    The model is ``deterministic`` if K is 1. The start may be random even then.

    :param P: ``P[s][a]`` is the list of outcomes ``(probability, next state, reward, terminated)`` of action a in state
        s, in the format of gymnasium's toy-text environments: dictionaries or lists
    :param initial_state_distrib: Probability of every state to be the first of an episode, shape ``(S,)``
    :param action_masks: Which actions are valid in which state, shape ``(S, A)``
    :param max_episode_steps: Steps after which an episode is truncated, ``None`` for no limit
    :param spec: gymnasium's specification of the environment, from which an environment can be made to render states
    :raises ValueError: If something is missing, out of range or not a distribution; the message says where
    """

    def __init__(
        self,
        P: Transitions,
        initial_state_distrib: Sequence[float] | np.ndarray,
        action_masks: Sequence[Sequence[bool]] | np.ndarray | None = None,
        max_episode_steps: int | None = None,
        spec: EnvSpec | None = None,
    ) -> None:
        if max_episode_steps is not None:
            check_number("max_episode_steps", max_episode_steps, 1, integer=True)
        table = read_table(P)
        self.n_states, self.n_actions = len(table), len(table[0])
        self.n_outcomes = max(len(outcomes) for actions in table for outcomes in actions)
        self.deterministic = self.n_outcomes == 1
        shape = (self.n_states, self.n_actions, self.n_outcomes)
        self.probabilities = np.zeros(shape)
        self.next_states = np.zeros(shape, dtype=np.int64)
        self.rewards = np.zeros(shape)
        self.terminated = np.zeros(shape, dtype=bool)
        for state, actions in enumerate(table):
            for action, outcomes in enumerate(actions):
                columns = zip(*outcomes, strict=True)
                for array in (self.probabilities, self.next_states, self.rewards, self.terminated):
                    array[state, action, : len(outcomes)] = next(columns)
        self.initial_state_distrib = read_distribution("initial_state_distrib", initial_state_distrib, self.n_states)
        self.action_masks: np.ndarray | None = None
        if action_masks is not None:
            self.action_masks = np.array(action_masks, dtype=bool)
            if self.action_masks.shape != shape[:2]:
                raise ValueError(f"action_masks has the shape {self.action_masks.shape}, it must have {shape[:2]}")
        self.max_episode_steps = max_episode_steps
        self.spec = spec
        self._env: gym.Env | None = None
        # A draw u in [0, 1) takes the first outcome whose cumulative probability is above u. The last cumulative
        # probability is set to 1, because rounding may have left it below u.
        self.cumulative = self.probabilities.cumsum(axis=2).reshape(-1, self.n_outcomes)
        self.cumulative[self.cumulative >= self.cumulative[:, -1:]] = 1.0
        self.start_states = np.flatnonzero(self.initial_state_distrib)
        self.start_cumulative = self.initial_state_distrib[self.start_states].cumsum()
        self.start_cumulative[-1] = 1.0
        self._start_list: list[int] = self.start_states.tolist()
        self._start_cumulative_list: list[float] = self.start_cumulative.tolist()
        for value in vars(self).values():
            if isinstance(value, np.ndarray):
                value.flags.writeable = False
        self._optimum_at: dict[int, OptimalValues] = {}

    @classmethod
    def from_env(cls, env: gym.Env | str, *, leaving_out: tuple[type[gym.Wrapper], ...] = ()) -> "TabularModel":
        """
        Read the model of a tabular environment: gymnasium's Taxi, FrozenLake or CliffWalking, or a class that opts in.

        A class of your own opts in by ``is_tabular = True``. It says that the next state, the reward and the end of an
        episode depend on the state and the action alone, with the probabilities in ``P``. Then an environment of it
        that is made by its id is stepped on arrays. The class has

        - ``is_tabular = True`` in the class itself, or a property where it depends on settings. A subclass must say it
          again, because it may change what a step does;
        - ``P`` and ``initial_state_distrib``, see :class:`TabularModel`;
        - ``observation_space = Discrete(S)`` and ``action_space = Discrete(A)``;
        - ``action_mask(state)``, if it has masks: the valid actions in a state, shape ``(A,)``;
        - ``s``, the current state, if it has pictures: ``render()`` must draw ``s``.

        Truncation is left to ``max_episode_steps``, and ``info`` is not part of the model.

        :param env: The environment or its id; it is not stepped
        :param leaving_out: Wrappers to ignore
        :return: Its model, with the step limit of its ``TimeLimit``
        :raises NotTabularError: If the environment has no such model; the message says why
        :raises ValueError: If a class opts in, and something is missing or its table is not valid
        """
        if isinstance(env, str):
            made_env = gym.make(registered(env))
            try:
                return cls.from_env(made_env)
            finally:
                made_env.close()
        inner, max_episode_steps = find_table(env, leaving_out)
        masks = [inner.action_mask(s) for s in range(len(inner.P))] if hasattr(inner, "action_mask") else None
        if masks is None and opts_in(inner) and hasattr(inner, "action_masks"):
            raise ValueError(
                f"{type(inner).__name__} says is_tabular = True and has action_masks(), which gives the mask of the "
                "present state only: it needs action_mask(state) too, or is_tabular = False"
            )
        model = cls(inner.P, inner.initial_state_distrib, masks, max_episode_steps, inner.spec)
        if opts_in(inner):
            check_spaces(inner, model.n_states, model.n_actions)
        model._env = without_state(inner)
        return model

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "P"}  # it follows from the arrays

    @functools.cached_property
    def P(self) -> Mapping[int, Mapping[int, Sequence[Outcome]]]:
        """
        The table in the format of toy-text environments: ``P[s][a]`` is the list of outcomes of action a in state s.

        It cannot be changed, because steps use the arrays; a copy by ``copy.deepcopy`` can be changed.
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
        An environment without a state, for its map, its names of states and its pictures.

        It is a copy of the environment that the model was read from, or made by the ``spec``; ``None`` if there is
        neither.
        """
        if self._env is None and self.spec is not None:
            return without_state(gym.make(self.spec).unwrapped)
        return self._env

    @property
    def draws(self) -> bool:
        """Whether :attr:`env` can draw a state, as far as is known before it is made."""
        return self._env is None or "rgb_array" in self._env.metadata.get("render_modes", ())

    def same_as(self, other: "TabularModel") -> bool:
        """
        Compare with another model.

        :param other: The other model
        :return: Whether all arrays and the step limit are equal
        """
        arrays = ("probabilities", "next_states", "rewards", "terminated", "initial_state_distrib", "action_masks")
        if self.max_episode_steps != other.max_episode_steps:
            return False
        return self is other or all(np.array_equal(getattr(self, name), getattr(other, name)) for name in arrays)

    def mean_over_starts(self, values: np.ndarray) -> float:
        """
        Average values of states over the first states of episodes.

        :param values: A value for every state, float64 of shape ``(S,)``
        :return: Their mean, weighted by ``initial_state_distrib``
        """
        weights = self.initial_state_distrib[self.start_states]
        # Equally likely starts get the weight 1, so that sums of integers stay exact.
        return float(np.average(values[self.start_states], weights=weights / weights.max()))

    def optimum(self, max_episode_steps: int) -> "OptimalValues":
        """
        Compute the best values that any policy can have, and those of the random policy, once for every step limit.

        With h steps to go, summed over the outcomes k of action a in state s,

            ``Q_h(s, a) = Σ_k p_k · (r_k + [not terminated_k] · V_{h-1}(s'_k))``, ``V_0 = 0``,

        with ``V_h(s) = max_a Q_h(s, a)`` for the optimum (backward induction: Puterman 1994, *Markov Decision
        Processes*, section 4.5) and the mean over all actions for the random policy. Both are exact up to the rounding
        of float64; the optimum of a deterministic model with integer rewards is exact.

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
                    break  # further steps would change nothing
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
        Compute the discounted values that a DQN approaches, for episodes without a step limit:

            ``Q(s, a) = Σ_k p_k · (r_k + γ · [not terminated_k] · max_a' Q(s'_k, a'))``

        This is value iteration (Puterman 1994, *Markov Decision Processes*, section 6.3) until no value changes by more
        than the rounding of float64.

        :param gamma: The discount factor γ, between 0 and 1
        :return: ``Q``, float64 of shape ``(S, A)``
        :raises ValueError: If γ is out of range, or so near 1 that the values of endless episodes do not converge
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

    @functools.cached_property
    def successes(self) -> np.ndarray:
        """
        Which outcomes end an episode well, bool of shape ``(S, A, K)``.

        An episode may end badly too, for example in a hole of FrozenLake, and only the rewards tell which ends are
        good: those with a reward above 0, or if there are none, those with the highest reward. (Taxi's only end has
        the reward 20, CliffWalking's -1; FrozenLake has ends with 1 and 0.)
        """
        acting = self.acting_states()[:, None, None]
        good: np.ndarray = self.terminated & (self.probabilities > 0) & acting
        if good.any():
            highest = float(self.rewards[good].max())
            good &= self.rewards > 0 if highest > 0 else self.rewards == highest
        good.flags.writeable = False
        return good

    def acting_states(self) -> np.ndarray:
        """
        Find the states in which an agent can act: those that an episode can reach and that do not end it.

        :return: bool of shape ``(S,)``
        """
        acting: np.ndarray = self.initial_state_distrib > 0
        leads_on = (self.probabilities > 0) & ~self.terminated
        frontier = self.start_states
        while len(frontier):
            reached = np.unique(self.next_states[frontier][leads_on[frontier]])
            frontier = reached[~acting[reached]]
            acting[frontier] = True
        return acting

    def draw_starts(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """
        Draw first states of episodes.

        :param n: How many
        :param rng: Draws ``n`` numbers
        :return: int64 of shape ``(n,)``
        """
        return self.start_states[np.searchsorted(self.start_cumulative, rng.random(n), side="right")]

    def draw_start(self, rng: np.random.Generator) -> int:
        """
        Draw one first state: the same as ``draw_starts(1, rng)`` in a fraction of its time.

        :param rng: Draws a number
        :return: The state
        """
        return self._start_list[bisect_right(self._start_cumulative_list, rng.random())]

    def draw_outcomes(self, pairs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """
        Draw the outcomes of actions.

        :param pairs: Every state and action as ``state * A + action``, int64 of shape ``(n,)``
        :param rng: Draws ``n`` numbers, or none if the model is deterministic
        :return: Indices into the flattened ``(S, A, K)`` arrays, int64 of shape ``(n,)``
        """
        if self.deterministic:
            return pairs
        drawn: np.ndarray = rng.random(len(pairs))[:, None] >= self.cumulative[pairs]
        outcomes: np.ndarray = pairs * self.n_outcomes + drawn.sum(axis=1)
        return outcomes


class OptimalValues(NamedTuple):
    """
    The best undiscounted returns of a tabular environment with a step limit, and those of the random policy.

    Under a step limit the best action depends on the steps left. ``actions`` are the best with all steps left. They are
    a best policy only if the limit does not matter.

    :param values: Highest expected return of an episode from every state, read-only float64 of shape ``(S,)``
    :param actions: A best first action in every state (the lowest of several), read-only int64 of shape ``(S,)``
    :param mean_reward: Mean of ``values`` over the starts: no policy's expected return is higher
    :param random_values: Expected returns of the policy that draws uniformly from all actions, also from invalid ones,
        read-only float64 of shape ``(S,)``
    :param random_mean_reward: Mean of ``random_values`` over the starts
    """

    values: np.ndarray
    actions: np.ndarray
    mean_reward: float
    random_values: np.ndarray
    random_mean_reward: float
