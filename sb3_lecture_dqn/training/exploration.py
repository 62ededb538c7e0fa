"""
Exploration: the lecture's ε, and the choice of ε-greedy actions. :mod:`algorithm` says which ε a step has.

The compiled loop explores in the same way, see :mod:`kernels.exploration`: change both.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_lecture_dqn.common.checks import Observation, UnsafeFileError
from sb3_lecture_dqn.common.masks import draw_allowed
from sb3_lecture_dqn.common.seeding import draw_indices, generator_state, new_generator, set_generator_state
from sb3_lecture_dqn.common.state_numbers import StateNumbers

#: A value of ``explore_least_tried``: exploration goes to actions of other states too
ANYWHERE = "anywhere"
#: Most counts of actions, one for every state and action, if an observation has several parts
MAX_COUNTS = 10**7


def lecture_epsilon(episode: int, initial: float, decay: float, final: float) -> float:
    """
    Compute the lecture's ε, ``max(final, initial * decay**episode)``.

    :param episode: Number of the episode, counted from 1
    :param initial: Initial ε
    :param decay: Factor by which ε changes from one episode to the next
    :param final: Lowest ε
    :return: Probability of a random action
    """
    return max(final, initial * decay**episode)


class WayToUntried:
    """
    The shortest ways, through the steps seen so far, to actions that were tried least often.

    To try an action for the n-th time more costs ``n * REPEATED``, and to walk costs 1 per step. The cost of an action
    is the least of both: of trying it here, and of taking it as the first step to an action elsewhere. So exploration
    goes to the nearest untried action. Where all are tried, it goes on with those that were tried least. In training,
    trying comes first: as long as there is a way to an untried action of less than ``REPEATED`` steps, every action is
    one of exploration, whatever ε is.

    The costs are those of the best ways through the last successor that each action had: exact in a deterministic
    environment, a guess in a stochastic one. At every step, they are computed once more for up to ``SWEPT`` states.
    Networks do not learn from them.

    :param counts: Number of times each action was tried in each state, int64 of shape ``(n_states, n_actions)``
    """

    #: Cost of trying an action again, in steps, for every time that it was tried before
    REPEATED = 25
    #: Most states whose costs are computed at a step
    SWEPT = 1000

    def __init__(self, counts: np.ndarray) -> None:
        n_states, n_actions = counts.shape
        #: State that followed each action the last time, int64; at the end of an episode, the first of the next one
        self.next_states = np.zeros((n_states, n_actions), np.int64)
        #: Lowest cost in each state, and behind them the state with which the next sweep begins, int64
        self.costs_of_states = np.zeros(n_states + 1, np.int64)
        #: Whether each action was valid in each state the last time, bool
        self.allowed = np.ones((n_states, n_actions), np.bool_)

    def costs(self, counts: np.ndarray, states: np.ndarray) -> np.ndarray:
        """
        Compute the cost of each action.

        :param counts: See :class:`WayToUntried`
        :param states: States, int64 of shape ``(n,)``
        :return: Costs, int64 of shape ``(n, n_actions)``
        """
        here: np.ndarray = counts[states] * self.REPEATED
        np.minimum(here, 1 + self.costs_of_states[self.next_states[states]], out=here, where=here > 0)
        return here

    def learn(
        self,
        counts: np.ndarray,
        states: np.ndarray,
        actions: np.ndarray,
        next_states: np.ndarray,
        action_masks: np.ndarray | None,
    ) -> None:
        """
        Remember where a step has led, and compute costs once more.

        :param counts: See :class:`WayToUntried`, with this step
        :param states: States before the step, int64 of shape ``(n,)``
        :param actions: Actions, int64 of shape ``(n,)``
        :param next_states: States in which the environments went on, int64 of shape ``(n,)``
        :param action_masks: Valid actions in ``states``, bool of shape ``(n, n_actions)``; ``None`` if all are valid
        """
        for state, action, next_state in zip(states.tolist(), actions.tolist(), next_states.tolist(), strict=True):
            self.next_states[state, action] = next_state
        if action_masks is not None:
            self.allowed[states] = action_masks
        n_states = len(counts)
        swept = np.arange(min(self.SWEPT, n_states)) + self.costs_of_states[-1]
        swept %= n_states
        costs = np.where(self.allowed[swept], self.costs(counts, swept), np.iinfo(np.int64).max)
        self.costs_of_states[swept] = costs.min(axis=1)
        self.costs_of_states[-1] = (swept[-1] + 1) % n_states

    def leads_somewhere(self, states: np.ndarray) -> np.ndarray:
        """
        Look whether there is a short way to an untried action.

        :param states: States, int64 of shape ``(n,)``
        :return: bool of shape ``(n,)``
        """
        short: np.ndarray = self.costs_of_states[states] < self.REPEATED
        return short

    def get_state(self) -> dict[str, np.ndarray]:
        """
        Return the state for a checkpoint.

        :return: The arrays by name
        """
        return dict(vars(self))

    def set_state(self, state: Any) -> None:
        """
        Restore the state of another object.

        :param state: Return value of its :meth:`get_state`
        :raises UnsafeFileError: If the state is not valid
        """
        if not isinstance(state, dict) or state.keys() != vars(self).keys():
            raise UnsafeFileError(f"the way to untried actions must have {', '.join(vars(self))}")
        n_states = len(self.next_states)
        for name, array in state.items():
            current = vars(self)[name]
            if not isinstance(array, np.ndarray) or (array.shape, array.dtype) != (current.shape, current.dtype):
                raise UnsafeFileError(f"{name} must be a {current.dtype} array of shape {current.shape}")
        places = np.append(state["next_states"].ravel(), state["costs_of_states"][-1])
        if places.min() < 0 or places.max() >= n_states or state["costs_of_states"].min() < 0:
            raise UnsafeFileError("the way to untried actions names states that do not exist, or costs below 0")
        self.__dict__.update(state)


class Exploration:
    """
    Choose ε-greedy actions, for training and for predictions that are not deterministic.

    :param rng: Random generator
    :param n_actions: Number of actions
    :param states: Observation space, all of whose parts are discrete. If given, actions are counted in each state, and
        exploration draws among those that were tried least often; if ``None``, it draws among all actions. A state of
        several parts has a number, see :class:`StateNumbers`
    :param anywhere: Whether exploration goes to actions of other states that were tried less often, see
        :class:`WayToUntried`
    """

    def __init__(
        self, rng: np.random.Generator, n_actions: int, states: spaces.Space[Any] | None = None, anywhere: bool = False
    ) -> None:
        self.rng = rng
        self.n_actions = n_actions
        self._numbers = None if states is None else StateNumbers(states)
        #: Number of times each action was tried in each state, int64 of shape ``(n_states, n_actions)``
        self.counts = None if self._numbers is None else np.zeros((self._numbers.n, n_actions), np.int64)
        self.way = WayToUntried(self.counts) if anywhere and self.counts is not None else None

    def choose(
        self,
        epsilon: float,
        obs: Observation,
        greedy: Callable[..., np.ndarray],
        action_masks: np.ndarray | None = None,
        is_training: bool = False,
    ) -> np.ndarray:
        """
        Choose one action per observation.

        :param epsilon: Probability of a random action, drawn separately for every observation
        :param obs: Batch of ``n`` observations
        :param greedy: Function that chooses greedy actions from observations, and from masks if there are any
        :param action_masks: Valid actions, bool of shape ``(n, n_actions)``; ``None`` if all are valid
        :param is_training: Whether to explore where a short way leads to an untried action, see :class:`WayToUntried`
        :return: Actions, int64 of shape ``(n,)``
        """
        seeks: Any = False
        if is_training and self.way is not None:
            seeks = self.way.leads_somewhere(self._states(obs))
        n = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
        if n == 1:  # the usual case in training: faster, with the same draws as below
            if self.rng.random() < epsilon or np.all(seeks):
                return self.draw(1, obs, action_masks)
            return greedy(obs) if action_masks is None else greedy(obs, action_masks)
        masks = () if action_masks is None else (action_masks,)
        explores: np.ndarray = (self.rng.random(n) < epsilon) | seeks
        actions = greedy(obs, *masks)
        exploring = {key: part[explores] for key, part in obs.items()} if isinstance(obs, dict) else obs[explores]
        actions[explores] = self.draw(int(explores.sum()), exploring, *(mask[explores] for mask in masks))
        return actions

    def draw(self, n: int, obs: Observation, action_masks: np.ndarray | None = None) -> np.ndarray:
        """
        Draw random actions for exploration.

        :param n: Number of actions
        :param obs: Batch of ``n`` observations, only used if actions are counted
        :param action_masks: As for :meth:`choose`
        :return: Actions, int64 of shape ``(n,)``
        """
        if self.counts is not None:
            states = self._states(obs)
            tries = self.counts[states] if self.way is None else self.way.costs(self.counts, states)
            if action_masks is not None:
                tries = np.where(action_masks, tries, np.iinfo(tries.dtype).max)
            return draw_allowed(self.rng, tries == tries.min(axis=1, keepdims=True))
        if action_masks is not None:
            return draw_allowed(self.rng, action_masks)
        return draw_indices(self.rng, 0, self.n_actions, n)

    def count(self, obs: Any, actions: np.ndarray, new_obs: Any = None, action_masks: np.ndarray | None = None) -> None:
        """
        Count the actions of a step. Do nothing if actions are not counted.

        :param obs: Batch of ``n`` observations in which the actions were taken
        :param actions: Actions, int64 of shape ``(n,)``
        :param new_obs: Observations with which the environments went on
        :param action_masks: Valid actions in ``obs``, bool of shape ``(n, n_actions)``; ``None`` if all are valid
        """
        if self.counts is not None:
            states = self._states(obs)
            np.add.at(self.counts, (states, actions), 1)
            if self.way is not None:
                self.way.learn(self.counts, states, actions, self._states(new_obs), action_masks)

    def _states(self, obs: Observation) -> np.ndarray:
        """Number observations, int64 of shape ``(n,)``."""
        assert self._numbers is not None
        return self._numbers.of(obs)

    def get_state(self) -> dict[str, Any]:
        """
        Return the state for a checkpoint.

        :return: State of the random generator, and the counts
        """
        way = None if self.way is None else self.way.get_state()
        return {"rng": generator_state(self.rng), "counts": self.counts, "way": way}

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Restore the state of another object.

        :param state: Return value of its :meth:`get_state`
        :raises UnsafeFileError: If the state is not valid
        """
        rng, counts = state["rng"], state["counts"]
        if counts is not None:
            current = np.zeros((0, self.n_actions)) if self.counts is None else self.counts
            if not isinstance(counts, np.ndarray) or (counts.shape, counts.dtype) != (current.shape, current.dtype):
                raise UnsafeFileError(f"counts of actions must be an int64 array of shape {current.shape}")
            self.counts = counts
        if self.way is not None:
            self.way.set_state(state.get("way"))
        self.rng = new_generator(rng)
        set_generator_state(self.rng, rng)
