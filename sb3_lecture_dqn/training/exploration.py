"""Exploration: the lecture's ε, and the choice of ε-greedy actions. :mod:`algorithm` says which ε a step has."""

from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_lecture_dqn.common.checks import Observation, UnsafeFileError
from sb3_lecture_dqn.common.masks import draw_allowed
from sb3_lecture_dqn.common.seeding import draw_indices, generator_state, new_generator, set_generator_state


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


class Exploration:
    """
    Choose ε-greedy actions, for training and for predictions that are not deterministic.

    :param rng: Random generator
    :param n_actions: Number of actions
    :param states: Observation space. If given, actions are counted in each state, and exploration draws among those
        that were tried least often; if ``None``, it draws among all actions
    """

    def __init__(self, rng: np.random.Generator, n_actions: int, states: spaces.Discrete | None = None) -> None:
        self.rng = rng
        self.n_actions = n_actions
        self.first_state = 0 if states is None else int(states.start)
        #: Number of times each action was tried in each state, int64 of shape ``(n_states, n_actions)``
        self.counts = None if states is None else np.zeros((int(states.n), n_actions), np.int64)

    def choose(
        self,
        epsilon: float,
        obs: Observation,
        greedy: Callable[..., np.ndarray],
        action_masks: np.ndarray | None = None,
    ) -> np.ndarray:
        """
        Choose one action per observation.

        :param epsilon: Probability of a random action, drawn separately for every observation
        :param obs: Batch of ``n`` observations
        :param greedy: Function that chooses greedy actions from observations, and from masks if there are any
        :param action_masks: Valid actions, bool of shape ``(n, n_actions)``; ``None`` if all are valid
        :return: Actions, int64 of shape ``(n,)``
        """
        n = len(next(iter(obs.values())) if isinstance(obs, dict) else obs)
        if n == 1:  # the usual case in training: faster, with the same draws as below
            if self.rng.random() < epsilon:
                return self.draw(1, obs, action_masks)
            return greedy(obs) if action_masks is None else greedy(obs, action_masks)
        masks = () if action_masks is None else (action_masks,)
        explores = self.rng.random(n) < epsilon
        actions = greedy(obs, *masks)
        exploring = obs[explores] if self.counts is not None else obs  # type: ignore[index]
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
            tries = self.counts[np.asarray(obs, np.int64) - self.first_state]
            if action_masks is not None:
                tries = np.where(action_masks, tries, np.iinfo(tries.dtype).max)
            return draw_allowed(self.rng, tries == tries.min(axis=1, keepdims=True))
        if action_masks is not None:
            return draw_allowed(self.rng, action_masks)
        return draw_indices(self.rng, 0, self.n_actions, n)

    def count(self, obs: Any, actions: np.ndarray) -> None:
        """
        Count the actions of a step. Do nothing if actions are not counted.

        :param obs: States in which the actions were taken, int64 of shape ``(n,)``
        :param actions: Actions, int64 of shape ``(n,)``
        """
        if self.counts is not None:
            np.add.at(self.counts, (obs - self.first_state, actions), 1)

    def get_state(self) -> dict[str, Any]:
        """
        Return the state for a checkpoint.

        :return: State of the random generator, and the counts
        """
        return {"rng": generator_state(self.rng), "counts": self.counts}

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
        self.rng = new_generator(rng)
        set_generator_state(self.rng, rng)
