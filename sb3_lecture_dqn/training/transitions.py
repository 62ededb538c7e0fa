"""The way from a step of the environments into the replay memory."""

import copy
import warnings
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, is_vecenv_wrapped

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
from sb3_lecture_dqn.saving.env_state import gives_new_arrays

_BOOL = np.dtype(bool)


class Transitions:
    """
    Checks what environments give in a step, and stores it as transitions.

    The observation that a transition ends in is that of the episode's own end, where SB3 already gives the first one of
    the next episode; neither observations nor rewards are normalised; and a copy is kept of observations that the
    environment may overwrite.

    :param model: The model that trains; its ``_last_obs`` and ``_last_original_obs`` are read and set, as by SB3
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        #: Which actions are valid in the last observations, bool of shape ``(n_envs, n_actions)``
        self.masks: np.ndarray | None = None
        self._mask_reader: MaskReader | None = None
        self._states = range(0)  # of a Discrete observation space
        self._copies_obs = True
        # In VecFrameStack the bounds of vectors are in another order than the numbers.
        self._is_stacked = False
        self._warned_of_bounds = False

    def begin(self, env: VecEnv, was_reset: bool) -> None:
        """
        Begin to train on an environment.

        :param env: The environment
        :param was_reset: Whether it has just been reset
        :raises ValueError: If an observation is not one of its space, or there are no masks where they are asked for
        """
        model, space = self.model, self.model.observation_space
        self._is_stacked = is_vecenv_wrapped(env, VecFrameStack)
        self._copies_obs = not gives_new_arrays(env)
        if isinstance(space, spaces.Discrete):
            self._states = range(int(space.start), int(space.start) + int(space.n))
        self._check_obs(model._last_obs)
        if self._copies_obs:
            model._last_obs = self._kept(model._last_obs)
        self._find_masks(env, was_reset)

    def _find_masks(self, env: VecEnv, was_reset: bool) -> None:
        self._mask_reader = None
        if not self.model.use_masking:
            self.masks = None
            return
        buffer = self.model.replay_buffer
        if not isinstance(buffer, SuccessFailReplayBuffer) or not buffer.use_masking:
            raise ValueError(f"use_masking=True and the replay memory, a {type(buffer).__name__}, stores no masks")
        give_mask_infos(env)
        self._mask_reader = MaskReader(env)
        if was_reset or self.masks is None:
            self.masks = self._mask_reader.at_start(was_reset)

    def store(
        self,
        memory: Any,
        actions: np.ndarray,
        new_obs: Observation,
        rewards: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        """
        Check and store a step, and go on to its observations.

        :param memory: The replay memory
        :param actions: Actions of the environments
        :param new_obs: Observations after the step; of an episode that ended, the first ones of the next
        :param rewards: Rewards
        :param dones: Which episodes ended
        :param infos: Infos
        :raises ValueError: If the environment misbehaves; see :meth:`LectureDQN.learn`
        """
        model = self.model
        check_rewards(rewards, model.num_timesteps)
        if dones.dtype is not _BOOL:
            dones = checked_dones(dones, model.num_timesteps)
        self._check_obs(new_obs)
        any_done = dones.item() if model.n_envs == 1 else dones.any()
        if any_done:
            check_outcomes(infos, dones, model.num_timesteps)
            self._check_terminal_obs(infos)
        normalize = model._vec_normalize_env
        if normalize is None:
            model._last_original_obs, original_obs = model._last_obs, new_obs
        else:
            original_obs, rewards = normalize.get_original_obs(), normalize.get_original_reward()
        next_obs = self._with_terminal_obs(original_obs, infos) if any_done else original_obs
        if isinstance(next_obs, dict):
            next_obs = dict(next_obs)  # SB3's DictReplayBuffer puts parts of other shapes into the one it is given
        model._exploration.count(model._last_obs, actions)
        if self._mask_reader is None:
            memory.add(model._last_original_obs, next_obs, actions, rewards, dones, infos)
        else:
            self.masks, next_masks = self._mask_reader.after_step(dones, infos)
            memory.add(model._last_original_obs, next_obs, actions, rewards, dones, infos, next_masks)
        model._last_obs = self._kept(new_obs) if self._copies_obs else new_obs
        if normalize is not None:
            model._last_original_obs = original_obs

    def _kept(self, obs: Any) -> Any:
        """Copy observations that are needed until the next step, states as whole numbers."""
        if isinstance(self.model.observation_space, spaces.Discrete):
            return np.array(obs, np.int64)
        return copy.deepcopy(obs)

    def _with_terminal_obs(self, obs: Observation, infos: list[dict[str, Any]]) -> Observation:
        """Put the last observations of episodes in the place of the first ones of the next episodes."""
        obs = copy.deepcopy(obs)
        normalize = self.model._vec_normalize_env
        for i, info in enumerate(infos):
            if (terminal := info.get("terminal_observation")) is None:
                continue
            if normalize is not None:
                terminal = normalize.unnormalize_obs(terminal if isinstance(terminal, dict) else np.asarray(terminal))
            if isinstance(obs, dict):
                for key in obs:
                    obs[key][i] = terminal[key]
            else:
                obs[i] = terminal
        return obs

    def _check_obs(self, obs: Observation) -> None:
        """Check observations as the environments gave them: normalised ones have no bounds."""
        if type(obs) is np.ndarray and obs.shape == (1,) and type(state := obs.item()) is int and state in self._states:
            return  # nearly all of training, in a fraction of the time
        model = self.model
        normalize, space = model._vec_normalize_env, model.observation_space
        if normalize is not None:
            obs, space = normalize.get_original_obs(), normalize.venv.observation_space
        self._warn_of_bounds(check_observations(obs, space, model.num_timesteps, ignore_bounds=self._is_stacked))

    def _check_terminal_obs(self, infos: list[dict[str, Any]]) -> None:
        model = self.model
        no_bounds = model._vec_normalize_env is not None or self._is_stacked
        for i, info in enumerate(infos):
            if (obs := info.get("terminal_observation")) is not None:
                batch = _batch_of_one(obs, model.observation_space)
                outside = check_observations(
                    batch, model.observation_space, model.num_timesteps, i, ignore_bounds=no_bounds
                )
                self._warn_of_bounds(outside)

    def _warn_of_bounds(self, outside: str | None) -> None:
        if outside is not None and not self._warned_of_bounds:
            self._warned_of_bounds = True
            warnings.warn(
                f"{outside}; training goes on, as in SB3, and this is said once: give the environment the bounds that "
                "its observations have, or clip them, if it matters"
            )

    def get_state(self) -> np.ndarray | None:
        """
        Return what a checkpoint keeps.

        :return: The masks of the last observations
        """
        return self.masks

    def set_state(self, state: Any) -> None:
        """
        Go on from where another object was.

        :param state: What its :meth:`get_state` returned
        :raises UnsafeFileError: If it is no such state
        """
        shape = (self.model.n_envs, self.model.action_space.n)
        if state is not None and not (isinstance(state, np.ndarray) and (state.shape, state.dtype) == (shape, _BOOL)):
            raise UnsafeFileError(f"masks of the last observations must be a bool array of shape {shape}")
        self.masks = state


def _batch_of_one(obs: Any, space: spaces.Space[Any]) -> Observation:
    """Make one observation a batch of one, with a leading dimension of 1; a number may stand for an array of one."""
    if isinstance(obs, dict) and isinstance(space, spaces.Dict):
        parts = {key: _batch_of_one(obs[key], part) for key, part in space.items() if key in obs}
        return parts  # type: ignore[return-value]
    array, shape = np.asarray(obs), space.shape or ()
    return array.reshape(1, *shape) if array.shape == () and np.prod(shape) == 1 else array[None]
