"""Reading masks of valid actions from environments."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from sb3_contrib.common.maskable.utils import EXPECTED_METHOD_NAME, is_masking_supported
from stable_baselines3.common.env_util import is_wrapped
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_lecture_dqn.common.wrappers import TransparentWrapper
from sb3_lecture_dqn.envs.tabular import TabularModel
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv

INFO_KEY = "action_mask"


class ActionMaskInfo(TransparentWrapper):
    """
    Adds the mask of an environment's ``action_masks()`` to every info, as ``info["action_mask"]``, but of a terminal
    state.

    A vectorised environment resets itself at the end of an episode. Then only the info still has the mask of the last
    state. The algorithms of this package put this wrapper around the environments of a ``DummyVecEnv``; put it around
    environments in other processes yourself.

    :param env: An environment with a method ``action_masks()``, such as sb3-contrib's ``ActionMasker``
    :raises ValueError: If it has no such method
    """

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        if not is_masking_supported(env):
            raise ValueError(f"env={env} has no method action_masks(); sb3-contrib's ActionMasker adds one")
        if not callable(env.get_wrapper_attr(EXPECTED_METHOD_NAME)):
            raise ValueError(f"env={env} has action_masks as a property, and it must be a method: action_masks()")

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """See gymnasium's ``Env``."""
        more = {} if options is None else {"options": options}  # as in SB3: an environment may lack this argument
        obs, info = self.env.reset(seed=seed, **more)
        return obs, {**info, INFO_KEY: self._masks_now()}

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """See gymnasium's ``Env``."""
        obs, reward, terminated, truncated, info = super().step(action)
        # Of a terminal state nobody needs a mask, and an environment may have none.
        masks = {} if terminated else {INFO_KEY: self._masks_now()}
        return obs, reward, terminated, truncated, {**info, **masks}

    def _masks_now(self) -> np.ndarray:
        return np.array(self.env.get_wrapper_attr(EXPECTED_METHOD_NAME)())


def give_mask_infos(env: VecEnv) -> None:
    """
    Put an :class:`ActionMaskInfo` around the sub-environments of a ``DummyVecEnv`` that have masks but no such wrapper.

    :param env: The environment to learn from; other kinds of environments stay unchanged
    """
    base = env.unwrapped
    if isinstance(base, DummyVecEnv):
        base.envs = [_with_info(sub_env) for sub_env in base.envs]


def _with_info(env: gym.Env) -> gym.Env:
    return ActionMaskInfo(env) if is_masking_supported(env) and not is_wrapped(env, ActionMaskInfo) else env


class MaskReader:
    """
    Reads the masks of a vectorised environment, from ``action_masks()`` or else from ``info["action_mask"]``.

    :param env: The environment. It is not changed; :func:`give_mask_infos` does that
    """

    def __init__(self, env: VecEnv) -> None:
        self.env = env
        self.n_actions = int(env.action_space.n)  # type: ignore[attr-defined]
        base = env.unwrapped
        self._vec_env: Any = base
        self._tabular = isinstance(base, TabularVecEnv) and base.model.action_masks is not None
        self._has_method = is_masking_supported(base)
        # Reading the info is cheaper than calling the method.
        in_infos = isinstance(base, DummyVecEnv) and all(base.env_is_wrapped(ActionMaskInfo))
        self._by_method = self._has_method and not in_infos

    @property
    def knows_the_present(self) -> bool:
        """Whether it reads the masks of the present states at any time, and not from infos after a reset or a step."""
        return self._tabular or self._has_method

    def at_start(self, was_reset: bool = True) -> np.ndarray:
        """
        Return the masks of the present states.

        :param was_reset: Whether all environments have just been reset
        :return: bool of shape ``(n_envs, n_actions)``
        :raises ValueError: If the environment has no masks, a mask has another shape or allows no action, or the masks
            are only in infos and the environments were not just reset
        """
        if self._tabular:
            table_masks(self._vec_env.model)  # checks all states now, so that steps need no check
            return self._current([])
        if self._has_method:
            return self._check_some(self._stacked(self.env.env_method(EXPECTED_METHOD_NAME)))
        if not was_reset:
            raise ValueError("the masks of the episodes that are running are not known: reset the environment")
        return self._check_some(self._current(self._vec_env.reset_infos))

    def after_step(self, dones: np.ndarray, infos: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
        """
        Return the masks after a step.

        :param dones: Which episodes ended, shape ``(n_envs,)``
        :param infos: The infos of the step
        :return: Two bool arrays of shape ``(n_envs, n_actions)``: the masks of the states to act in next, and those of
            the states that the step led to. They differ if an episode ended. The second mask allows no action if it is
            not known or the state is terminal
        :raises ValueError: As for :meth:`at_start`
        """
        if not dones.any():
            masks = self._check_some(self._current(infos))
            return masks, masks
        resets: Any = self._vec_env.reset_infos
        masks = self._current([resets[i] if done else infos[i] for i, done in enumerate(dones)])
        self._check_some(masks)
        reached = masks.copy()
        for i in dones.nonzero()[0].tolist():
            reached[i] = False
            if infos[i].get("TimeLimit.truncated", False) and INFO_KEY in infos[i]:
                reached[i] = self._check_some(self._stacked([infos[i][INFO_KEY]], i), i)[0]
        return masks, reached

    def _current(self, infos: Sequence[dict[str, Any]]) -> np.ndarray:
        if self._tabular:
            masks: np.ndarray = self._vec_env.action_masks()
            return masks
        if self._by_method:
            return self._stacked(self.env.env_method(EXPECTED_METHOD_NAME))
        for i, info in enumerate(infos):
            if INFO_KEY not in info:
                raise ValueError(
                    f"use_masking=True and environment {i} offers no masks: it has neither a method action_masks(), "
                    "which sb3-contrib's ActionMasker adds, nor info['action_mask'] after every reset and step"
                )
        return self._stacked([info[INFO_KEY] for info in infos])

    def _stacked(self, masks: Sequence[Any], first_env: int = 0) -> np.ndarray:
        for i, mask in enumerate(masks):
            if np.shape(mask) != (self.n_actions,):
                raise ValueError(
                    f"the action mask of environment {first_env + i} has the shape {np.shape(mask)}, it must have "
                    f"({self.n_actions},): one entry for every action"
                )
        return np.array(masks).astype(bool)

    def _check_some(self, masks: np.ndarray, first_env: int = 0) -> np.ndarray:
        if self._tabular:
            return masks
        some = masks.any(axis=1)
        if not some.all():
            raise ValueError(
                f"the action mask of environment {first_env + int(some.argmin())} allows no action in a state that is "
                "not terminal"
            )
        return masks


def table_masks(model: TabularModel) -> np.ndarray:
    """
    Return the masks of all states of a tabular environment.

    :param model: The environment
    :return: bool of shape ``(S, A)``; in states where no action is ever chosen, all actions are allowed
    :raises ValueError: If it has no masks, or the mask of a state to act in allows no action
    """
    if model.action_masks is None:
        raise ValueError(
            "use_masking=True, but the table of the environment has no masks: it takes them from a method "
            "action_mask(state) of the class, or from the argument action_masks of TabularModel"
        )
    allowed: np.ndarray = model.action_masks
    going_on = allowed[:, :, None] & ~model.terminated & (model.probabilities > 0)
    acted_in = np.union1d(model.start_states, model.next_states[going_on])
    nothing = np.logical_not(allowed.any(axis=1))
    if nothing[acted_in].any():
        state = int(acted_in[nothing[acted_in].argmax()])
        raise ValueError(f"the action mask of state {state} allows no action, and the state is not terminal")
    masks: np.ndarray = allowed | nothing[:, None]
    return masks
