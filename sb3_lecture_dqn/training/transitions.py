"""Transitions: checks of the environments' output, and its storage in the replay memory."""

import copy
import warnings
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecNormalize, is_vecenv_wrapped

from sb3_lecture_dqn.common.buffers import SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import (
    Observation,
    UnsafeFileError,
    check_observations,
    check_outcomes,
    check_rewards,
    checked_dones,
)
from sb3_lecture_dqn.envs.masks import MaskReader, give_mask_infos
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.saving.env_state import gives_new_arrays

_BOOL = np.dtype(bool)


class Transitions:
    """
    Check the output of the environments at every step, and store it as transitions.

    At the end of an episode, the next observation of a transition is the terminal one, not the first one of the next
    episode that a ``VecEnv`` returns. Observations and rewards are stored before normalisation by ``VecNormalize``.
    Observations that the environment may overwrite are copied.

    :param n_envs: Number of environments
    :param n_actions: Number of actions
    """

    def __init__(self, n_envs: int, n_actions: int) -> None:
        self._shape = n_envs, n_actions  # of masks
        #: Valid actions in the last observations, bool of shape ``(n_envs, n_actions)``; ``None`` without masks
        self.masks: np.ndarray | None = None
        self._mask_reader: MaskReader | None = None
        self._states = range(0)  # all states of a Discrete observation space
        self._copies_obs = True
        self._is_stacked = False  # VecFrameStack orders the bounds of vectors differently from their values
        self._warned_of_bounds = False

    def begin(self, model: Any, env: VecEnv, was_reset: bool) -> None:
        """
        Prepare for training on an environment.

        :param model: The model that trains; its ``_last_obs`` and ``_last_original_obs`` are read and set, as by SB3
        :param env: The environment
        :param was_reset: Whether the environment has just been reset
        :raises ValueError: If an observation is not in the observation space, or if masks are used and the environment
            or the replay memory does not support them
        """
        space = model.observation_space
        self._is_stacked = is_vecenv_wrapped(env, VecFrameStack)
        self._copies_obs = not gives_new_arrays(env)
        if isinstance(space, spaces.Discrete):
            self._states = range(int(space.start), int(space.start) + int(space.n))
        if not was_reset and type(env) is TabularVecEnv and not env.is_at(model._last_obs):
            model._last_obs = env.states  # somebody has stepped or reset it since
        self._check_obs(model, model._last_obs)
        if self._copies_obs:
            model._last_obs = _copied(model._last_obs, space)
        self._find_masks(model, env, was_reset)

    def _find_masks(self, model: Any, env: VecEnv, was_reset: bool) -> None:
        self._mask_reader = None
        if not model.use_masking:
            self.masks = None
            return
        buffer = model.replay_buffer
        if not isinstance(buffer, SuccessFailReplayBuffer) or not buffer.use_masking:
            raise ValueError(f"use_masking=True, but the replay memory, a {type(buffer).__name__}, stores no masks")
        give_mask_infos(env)
        self._mask_reader = MaskReader(env)
        if was_reset or self.masks is None or self._mask_reader.knows_the_present:
            self.masks = self._mask_reader.at_start(was_reset)

    def store(
        self,
        model: Any,
        memory: Any,
        actions: np.ndarray,
        new_obs: Observation,
        rewards: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Check a step of the environments, store its transitions, and set the model's last observations.

        :param model: The model that trains
        :param memory: The replay memory
        :param actions: Actions, int64 of shape ``(n_envs,)``
        :param new_obs: Observations after the step; where an episode ended, the first one of the next episode
        :param rewards: Rewards, of shape ``(n_envs,)``
        :param dones: Whether the episodes ended, of shape ``(n_envs,)``
        :param infos: Info dictionaries, one per environment
        :raises ValueError: If the output of an environment is invalid, see :meth:`LectureDQN.learn`
        """
        check_rewards(rewards, model.num_timesteps)
        if dones.dtype is not _BOOL:
            dones = checked_dones(dones, model.num_timesteps)
        self._check_obs(model, new_obs)
        any_done = dones.item() if model.n_envs == 1 else dones.any()
        if any_done:
            check_outcomes(infos, dones, model.num_timesteps)
            self._check_terminal_obs(model, dones, infos)
        normalize = model._vec_normalize_env
        if normalize is None:
            model._last_original_obs, original_obs = model._last_obs, new_obs
        else:
            original_obs, rewards = normalize.get_original_obs(), normalize.get_original_reward()
        next_obs = _with_terminal_obs(original_obs, dones, infos, normalize) if any_done else original_obs
        if isinstance(next_obs, dict):
            next_obs = dict(next_obs)  # SB3's DictReplayBuffer reshapes the entries of the dictionary that it is given
        if model.explore_least_tried:
            model._exploration.count(model._last_obs, actions, new_obs, self.masks)
        if self._mask_reader is None:
            memory.add(model._last_original_obs, next_obs, actions, rewards, dones, infos)
        else:
            self.masks, next_masks = self._mask_reader.after_step(dones, infos)
            memory.add(model._last_original_obs, next_obs, actions, rewards, dones, infos, next_masks)
        self._set_last_obs(model, new_obs)

    def follow(self, model: Any, new_obs: Observation, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        """
        Set the model's last observations after a step that is not stored, because a callback has ended training.

        In SB3, they would stay those before the step, and the next training would begin with an action for a state in
        which the environment no longer is.

        :param model: The model that trains
        :param new_obs: See :meth:`store`, also for the following arguments
        :param dones: Whether the episodes ended
        :param infos: Info dictionaries
        """
        if self._mask_reader is not None:
            self.masks, _ = self._mask_reader.after_step(np.asarray(dones, dtype=bool), infos)
        self._set_last_obs(model, new_obs)

    def _set_last_obs(self, model: Any, new_obs: Observation) -> None:
        model._last_obs = _copied(new_obs, model.observation_space) if self._copies_obs else new_obs
        if model._vec_normalize_env is not None:
            model._last_original_obs = model._vec_normalize_env.get_original_obs()

    def _check_obs(self, model: Any, obs: Observation) -> None:
        """Check observations before normalisation, since the bounds of the space do not apply to normalised ones."""
        if type(obs) is np.ndarray and obs.shape == (1,) and type(state := obs.item()) is int and state in self._states:
            return  # a fast check for the usual case
        normalize, space = model._vec_normalize_env, model.observation_space
        if normalize is not None:
            obs, space = normalize.get_original_obs(), normalize.venv.observation_space
        self._warn_of_bounds(check_observations(obs, space, model.num_timesteps, ignore_bounds=self._is_stacked))

    def _check_terminal_obs(self, model: Any, dones: np.ndarray, infos: list[dict[str, Any]]) -> None:
        no_bounds = model._vec_normalize_env is not None or self._is_stacked
        for i in dones.nonzero()[0].tolist():
            if (obs := infos[i].get("terminal_observation")) is not None:
                batch = _batch_of_one(obs, model.observation_space)
                outside = check_observations(
                    batch, model.observation_space, model.num_timesteps, i, ignore_bounds=no_bounds
                )
                self._warn_of_bounds(outside)

    def _warn_of_bounds(self, outside: str | None) -> None:
        if outside is not None and not self._warned_of_bounds:
            self._warned_of_bounds = True
            warnings.warn(
                f"{outside}; training continues as in SB3, and this warning is not repeated: set the bounds of the "
                "observation space to those of the observations, or clip the observations"
            )

    def get_state(self) -> np.ndarray | None:
        """
        Return the state for a checkpoint.

        :return: Masks of the last observations, bool of shape ``(n_envs, n_actions)``; ``None`` without masks
        """
        return self.masks

    def set_state(self, state: Any) -> None:
        """
        Restore the state of another object.

        :param state: Return value of its :meth:`get_state`
        :raises UnsafeFileError: If the state is not valid
        """
        shape = self._shape
        if state is not None and not (isinstance(state, np.ndarray) and (state.shape, state.dtype) == (shape, _BOOL)):
            raise UnsafeFileError(f"masks of the last observations must be a bool array of shape {shape}")
        self.masks = state


def _copied(obs: Any, space: spaces.Space[Any]) -> Any:
    """Copy observations for the next step; those of a ``Discrete`` space become int64."""
    return np.array(obs, np.int64) if isinstance(space, spaces.Discrete) else copy.deepcopy(obs)


def _with_terminal_obs(
    obs: Observation, dones: np.ndarray, infos: list[dict[str, Any]], normalize: VecNormalize | None
) -> Observation:
    """Replace the first observations of next episodes by the terminal observations of the episodes that ended."""
    obs = copy.deepcopy(obs)
    for i in dones.nonzero()[0].tolist():
        if (terminal := infos[i].get("terminal_observation")) is None:
            continue
        if normalize is not None:
            terminal = normalize.unnormalize_obs(terminal if isinstance(terminal, dict) else np.asarray(terminal))
        if isinstance(obs, dict):
            for key in obs:
                obs[key][i] = terminal[key]
        else:
            obs[i] = terminal
    return obs


def _batch_of_one(obs: Any, space: spaces.Space[Any]) -> Observation:
    """Add a leading dimension of 1 to an observation. For shape ``(1,)``, a plain number is accepted too."""
    if isinstance(obs, dict) and isinstance(space, spaces.Dict):
        parts = {key: _batch_of_one(obs[key], part) for key, part in space.items() if key in obs}
        return parts  # type: ignore[return-value]
    array, shape = np.asarray(obs), space.shape or ()
    return array.reshape(1, *shape) if array.shape == () and np.prod(shape) == 1 else array[None]
