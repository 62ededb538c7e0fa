"""
The state of a training run: captured for a checkpoint, and restored when the run is resumed.

The state is a dictionary of the states of the run's parts. Each part defines its state by its own ``get_state`` and
``set_state``. :func:`write_run` writes a checkpoint. :func:`read_run` makes a model of it, and :func:`restore` brings
the model to the state of the run. When ``learn`` has begun, :func:`go_on` restores the rest.
"""

import pathlib
import time
import warnings
from collections import deque
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import check_for_correct_spaces
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, is_vecenv_wrapped

from sb3_lecture_dqn.common.checks import OtherArithmeticError, UnsafeFileError, check_number, check_observations, shown
from sb3_lecture_dqn.common.seeding import global_generators, set_global_generators
from sb3_lecture_dqn.engine.divergence import check_weights
from sb3_lecture_dqn.evaluation.env_compare import CannotCopyError
from sb3_lecture_dqn.evaluation.like_model import check_made_by_id
from sb3_lecture_dqn.saving import checkpoint_file
from sb3_lecture_dqn.saving.archive import DAMAGED
from sb3_lecture_dqn.saving.callback_state import callback_data, callback_numbers, set_callback_data
from sb3_lecture_dqn.saving.codec import is_data
from sb3_lecture_dqn.saving.env_state import EpisodeNotReplayedError, env_state, set_env_state, set_wrapper_states
from sb3_lecture_dqn.saving.event_files import check_mark
from sb3_lecture_dqn.saving.from_file import check_progress, make_model
from sb3_lecture_dqn.saving.logs import hide_later_events, log_folder, log_state, pending_logs, set_pending_logs
from sb3_lecture_dqn.saving.memory_file import is_described_memory
from sb3_lecture_dqn.saving.model_env import make_model_env, set_made_env
from sb3_lecture_dqn.saving.model_file import DERIVED
from sb3_lecture_dqn.saving.run_folder import keep_confirmed_run_folder
from sb3_lecture_dqn.saving.version_1 import parts_of_run


def capture(model: Any, path: pathlib.Path) -> dict[str, Any]:
    """
    Capture the state of a run, except for settings, weights and replay memory.

    After an environment has failed in a step, the positions in the running episodes are unknown; :func:`restore` then
    begins new episodes.

    :param model: The model that trains
    :param path: Path of the checkpoint; the path of the logs is stored relative to it
    :return: States of the parts by name
    """
    has_logger = hasattr(model, "_logger")
    return {
        **{name: part.get_state() for name, part in model._parts().items()},
        "generators": global_generators(),
        "arithmetic": model._engine.arithmetic,
        "env": None if model.env is None else env_state(model.env, with_episodes=not model._in_rollout),
        "in_rollout": model._in_rollout,
        "elapsed_ns": 0 if model._learning_since is None else time.monotonic_ns() - model._learning_since,
        "logs": log_state(model.logger, path, model._log_mark) if has_logger else None,
        "log_mark": model._log_mark,
        "pending_logs": pending_logs(model.logger) if has_logger else {},
    }


def write_run(model: Any, path: pathlib.Path) -> None:
    """
    Write a checkpoint.

    :param model: The model that trains
    :param path: The file
    :raises ValueError: If the memory cannot be described as data, or if the checkpoint could not be read again
    :raises DivergedError: If weights are not finite
    """
    check_can_be_resumed(model)
    parameters = model.get_parameters()
    check_weights(model)
    state = capture(model, path)
    callbacks = [] if model._callback is None else callback_data(model._callback, model._callback_start)
    left_out = {*model._excluded_save_params(), *DERIVED}
    settings = {name: value for name, value in model.__dict__.items() if name not in left_out}
    if model.ep_info_buffer is not None:
        episodes = [{name: value for name, value in info.items() if is_data(value)} for info in model.ep_info_buffer]
        settings["ep_info_buffer"] = deque(episodes, model.ep_info_buffer.maxlen)
    try:
        check_progress(settings)
    except ValueError as error:
        raise checkpoint_file.UnreadableCheckpointError(f"it could not be read again: {error}") from error
    algorithm = model.word_in_files
    checkpoint_file.write_checkpoint(
        path, algorithm, settings, state, callbacks, parameters, model.replay_buffer, model.policy_aliases
    )


def check_can_be_resumed(model: Any) -> None:
    """
    Check that a checkpoint of the model can be written.

    :param model: The model
    :raises ValueError: If its replay memory cannot be described as data
    """
    if model.replay_buffer is None or not is_described_memory(model.replay_buffer):
        raise ValueError(
            f"replay_buffer_class={type(model.replay_buffer).__name__}: this memory cannot be described as data, so "
            "it cannot be part of a checkpoint; SuccessFailReplayBuffer and SB3's ReplayBuffer, DictReplayBuffer "
            "and NStepReplayBuffer can"
        )


def read_run(
    cls: Any, path: pathlib.Path, env: Any, device: Any, custom_objects: dict[str, Any] | None, exact: bool = True
) -> Any:
    """
    Load the model of a run from its checkpoint, see :meth:`LectureDQN.resume`.

    :param cls: The algorithm
    :param path: The checkpoint
    :param env: The environment; ``None`` to make it by the id in the checkpoint
    :param device: Device on which the code should run; ``"auto"`` for the kind of device on which the run was, if this
        machine has one
    :param custom_objects: Settings that replace settings of the file
    :param exact: Whether to refuse a checkpoint whose run would go on with other rounding
    :return: A model in the middle of its training
    """
    checkpoint = checkpoint_file.read_checkpoint(path, cls.word_in_files, cls.policy_aliases, custom_objects)
    if device == "auto":
        device = _device_of_run(checkpoint.state)
    model = make_model(cls, path, checkpoint.settings, checkpoint.parameters, None, device, False, {})
    if env is None and model.env_id is None:
        raise ValueError("env=None, but the run had an environment object without an id: pass a similar one")
    if exact and "engine" not in (custom_objects or {}):
        _check_arithmetic(model, checkpoint.state, path)
    _set_env(model, path, env)
    try:
        checkpoint.state |= parts_of_run(checkpoint.state, checkpoint.settings)
        restore(model, checkpoint.state, path)
        if (mark := checkpoint.state.get("log_mark")) is not None:
            check_mark(mark)
        logs = log_folder(path, checkpoint.state["logs"])
        if "tensorboard_log" not in (custom_objects or {}):
            keep_confirmed_run_folder(model, logs, mark)
    except UnsafeFileError as error:
        raise UnsafeFileError(f"path={str(path)!r}: {error}") from None
    except (gym.error.Error, *DAMAGED) as error:
        raise UnsafeFileError(f"path={str(path)!r}: {error!r}") from None
    model._resumed, model._resumed_logs = checkpoint, logs
    return model


def _device_of_run(state: dict[str, Any]) -> str:
    arithmetic = str(state.get("arithmetic", "auto"))
    if arithmetic == "torch":
        return "cpu"
    return "cuda" if arithmetic.startswith("torch on cuda") and th.cuda.is_available() else "auto"


def _check_arithmetic(model: Any, state: dict[str, Any], path: pathlib.Path) -> None:
    """Check that the run goes on with the bits that it would have had if it had not been stopped."""
    # Version 1.0 did not write it. Its compiled engine knew fewer networks, and rounded otherwise.
    before = state.get("arithmetic", "numba 1" if model._engine.was_in_version_1 else "torch")
    if str(before).startswith("torch") and model.engine == "auto":
        model.engine = "torch"
        model._make_engine()
    now = model._engine.arithmetic
    if before != now:
        raise OtherArithmeticError(
            f"path={str(path)!r}: the run has been computed by {shown(str(before))!r} (the engine, the version of its "
            f"arithmetic, and the kind of processor or GPU), and would go on by {now!r}, with other rounding: resume "
            "it where, on the device, and with the version with which it began, or pass exact=False (--inexact on the "
            "command line) to go on nearly as it would have"
        )


def _set_env(model: Any, path: pathlib.Path, env: Any) -> None:
    """Set the environment of a resumed model; make it by the id if ``env`` is ``None``."""
    try:
        if env is None:
            check_made_by_id(model)
        new_env = model._wrap_env(make_model_env(model) if env is None else env, model.verbose)
        if env is None:
            check_for_correct_spaces(new_env, model.observation_space, model.action_space)
    except CannotCopyError:
        raise
    except (gym.error.Error, *DAMAGED) as error:
        if env is not None:
            raise
        raise UnsafeFileError(f"path={str(path)!r}: env_id={model.env_id!r}: {error}") from None
    if new_env.num_envs != model.n_envs:
        raise ValueError(f"env has {new_env.num_envs} environments, but the run had {model.n_envs}")
    if env is None:
        set_made_env(model, new_env)
    else:
        model.set_env(new_env, force_reset=False)
    if model.seed is not None:
        new_env.seed(model.seed)


def restore(model: Any, state: dict[str, Any], path: pathlib.Path) -> None:
    """
    Restore the state of a run.

    Global random generators, callbacks and logs are restored later by :func:`go_on`, since they might change before
    ``learn`` continues.

    :param model: A model with the settings and weights of the run, and with its environment
    :param state: Return value of :func:`capture`
    :param path: The checkpoint, which contains the replay memory
    :raises UnsafeFileError: If a state does not fit the model
    """
    check_number("elapsed_ns", state.get("elapsed_ns", 0), 0, 2**63 - 1, integer=True)
    for name, part in model._parts().items():
        if name not in state:
            raise UnsafeFileError(f"it has no state of the run's {name}")
        part.set_state(state[name])
    model.replay_buffer = checkpoint_file.read_checkpoint_memory(path, model.replay_buffer)
    model.replay_buffer.device = model.device
    if model._last_obs is None:
        return  # training had not begun
    try:
        if state["env"] is None or state["in_rollout"]:
            if state["env"] is not None:
                set_wrapper_states(model.env, state["env"])
            when = "in the middle of a rollout" if state["in_rollout"] else "without an environment"
            raise EpisodeNotReplayedError(f"the checkpoint was saved {when}")
        _check_last_obs(model, model.env)
        set_env_state(model.env, state["env"])
    except EpisodeNotReplayedError as error:
        warnings.warn(f"the running episodes cannot be restored, so new episodes begin: {shown(error, 1000)}")
        model._last_obs = None


def _check_last_obs(model: Any, env: VecEnv) -> None:
    def check(obs: Any, space: spaces.Space[Any], no_bounds: bool) -> None:
        if isinstance(space, spaces.Dict):
            for key, part in space.spaces.items():
                check(obs[key], part, no_bounds)
            return
        fits = isinstance(obs, np.ndarray) and obs.shape == (env.num_envs, *(space.shape or ()))
        if not fits or (not no_bounds and not np.can_cast(obs.dtype, np.dtype(space.dtype), "same_kind")):
            raise UnsafeFileError(f"the last observation is not in {space}")
        check_observations(obs, space, model.num_timesteps, ignore_bounds=no_bounds)

    normalize = model._vec_normalize_env
    is_stacked = is_vecenv_wrapped(env, VecFrameStack)
    check(model._last_obs, env.observation_space, normalize is not None or is_stacked)
    if normalize is not None:
        check(model._last_original_obs, normalize.venv.observation_space, is_stacked)


def begin_clock(model: Any) -> None:
    """
    Set the start of ``learn`` for SB3's counts of steps and time. A resumed call keeps the start of the stopped call.

    :param model: The model, when training begins
    """
    elapsed = 0 if model._resumed is None else model._resumed.state.get("elapsed_ns")
    model._learning_since = time.monotonic_ns()
    if elapsed is not None:  # checkpoints of versions before 2.0 lack it
        model._learning_since -= elapsed
        model._num_timesteps_at_start = model._budget.steps_before


def time_learning(model: Any) -> None:
    """
    Set SB3's start time, so that it logs the time since ``learn`` was called by a clock that never goes back.

    :param model: The model
    """
    if model._learning_since is not None:
        model.start_time = time.time_ns() - (time.monotonic_ns() - model._learning_since)


def go_on(model: Any, callback: BaseCallback, as_made: list[dict[str, Any]], has_checkpoints: bool) -> None:
    """
    Restore the global random generators, callbacks and logs of a resumed run. Record the callbacks for checkpoints.

    :param model: The model
    :param callback: The callback of ``learn``, after ``on_training_start``
    :param as_made: Return value of :func:`callback_state.callback_numbers` before ``on_training_start``
    :param has_checkpoints: Whether checkpoints will be saved
    :raises UnsafeFileError: If a state of the checkpoint does not fit
    """
    model._callback, model._callback_start = callback, callback_numbers(callback) if has_checkpoints else []
    resumed, model._resumed = model._resumed, None
    if resumed is None:
        return
    hide_later_events(model.logger, model.num_timesteps)
    try:
        set_callback_data(callback, resumed.callbacks, as_made)
        set_pending_logs(model.logger, resumed.state["pending_logs"])
        set_global_generators(resumed.state["generators"])
    except UnsafeFileError:
        raise
    except DAMAGED as error:
        raise UnsafeFileError(f"the checkpoint's state does not fit: {error!r}") from error
