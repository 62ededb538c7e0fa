"""Construction of models from the content of a file: the settings are checked and set first, then the weights."""

import contextlib
import inspect
import math
import operator
import pathlib
import re
import sys
from collections import deque
from collections.abc import Mapping
from typing import Any, ClassVar, get_origin

import torch as th
from stable_baselines3.common.buffers import NStepReplayBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.utils import check_for_correct_spaces

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import UnsafeFileError, check_number, is_figure, parse_frequency, shown
from sb3_lecture_dqn.common.stock import stock_algorithm
from sb3_lecture_dqn.saving.archive import DAMAGED
from sb3_lecture_dqn.saving.model_env import take_step_limit, update_env_settings
from sb3_lecture_dqn.saving.model_file import own_settings
from sb3_lecture_dqn.saving.weights_checks import AllocationLimit, check_optimizer_state, fitting, n_numbers

# Settings with a number or a truth value as default that may also have other types; `check_settings` checks them.
_HAS_SEVERAL_TYPES = {"learning_rate", "train_freq", "target_update_interval", "explore_least_tried"}
# Attributes of version 1.0 that belong to a training run; only checkpoints need them.
_ONLY_IN_RUNS = ("_total_episodes", "_began_at")


def make_model(
    cls: Any,
    path: Any,
    settings: dict[str, Any],
    parameters: dict[str, Any],
    env: GymEnv | None,
    device: th.device | str,
    force_reset: bool,
    changes: dict[str, Any],
) -> Any:
    """
    Make a model from the settings and weights of a file.

    :param cls: The algorithm
    :param path: The file, for messages
    :param settings: Attributes of the model by name
    :param parameters: State dictionaries by name
    :param env: The environment to train on, or ``None``
    :param device: Device on which the code should run
    :param force_reset: Whether to reset the environment before training
    :param changes: Settings of the user that replace settings of the file
    :return: A new model
    :raises UnsafeFileError: If the settings or the weights are not valid for this algorithm
    :raises ValueError: If a setting of the user is not valid
    """
    policy_kwargs = settings["policy_kwargs"]
    policy_kwargs.pop("device", None)
    if "policy_kwargs" in changes and changes["policy_kwargs"] != policy_kwargs:
        raise ValueError(
            "The specified policy kwargs do not equal the stored policy kwargs. "
            f"Stored kwargs: {policy_kwargs}, specified kwargs: {changes['policy_kwargs']}"
        )
    memory_kwargs = settings.get("replay_buffer_kwargs", {})
    if settings.get("replay_buffer_class") is NStepReplayBuffer and "n_steps" in memory_kwargs:
        # SB3 shall choose this class again, and add these arguments; neither was the user's choice.
        settings["replay_buffer_class"] = None
        settings["replay_buffer_kwargs"] = {
            name: value for name, value in memory_kwargs.items() if name not in ("n_steps", "gamma")
        }
    own_memory = settings.get("replay_buffer_class") in (SuccessFailReplayBuffer, LatestTransitionBuffer)
    if own_memory and (changes.get("n_steps", 1) != 1 or changes.get("optimize_memory_usage", False)):
        changes = {"replay_buffer_class": None, **changes}  # SB3 shall choose, as it does in the constructor
    if env is not None:
        vec_env = env = cls._wrap_env(env, settings.get("verbose", 0))
        check_for_correct_spaces(vec_env, settings["observation_space"], settings["action_space"])
        settings["n_envs"] = vec_env.num_envs
        if force_reset:
            settings["_last_obs"] = None
    try:
        engine = changes.get("engine", settings.get("engine"))
        device = cls._device_for(device, settings["policy_class"], settings["observation_space"], engine)
        model = cls(policy=settings["policy_class"], env=env, device=device, _init_setup_model=False)
        _check_settings(model, settings)
        model.__dict__.update({name: value for name, value in settings.items() if name not in _ONLY_IN_RUNS})
        update_env_settings(model)
        model._version_1_memory = settings.get("_version_1_memory", True)
        model._check_settings()
    except DAMAGED as error:
        raise UnsafeFileError(f"path={str(path)!r}: {error}") from None
    model._check_keywords(changes)
    model.__dict__.update(changes)
    if model.env is not None and "max_episode_steps" in changes:
        take_step_limit(model, model.env, changes["max_episode_steps"])
    try:
        with AllocationLimit(2 * n_numbers(parameters) + 2**20):
            model._setup_model()
        set_weights(model, parameters, exact_match=True, device=device)
    except DAMAGED as error:
        if changes and isinstance(error, ValueError) and not isinstance(error, UnsafeFileError):
            raise
        raise UnsafeFileError(f"path={str(path)!r}: {error}") from None
    return model


def _check_settings(model: Any, settings: dict[str, Any]) -> None:
    """Check that the settings of a file are attributes of a saved model, and have the types of their defaults."""
    excluded = set(model._excluded_save_params())
    annotations = (entry for cls in type(model).__mro__ for entry in inspect.get_annotations(cls).items())
    constants = {name for name, kind in annotations if get_origin(kind) is ClassVar}  # type: ignore[comparison-overlap]
    for name, value in settings.items():
        known = inspect.getattr_static(type(model), name, None)
        is_method = callable(known) or isinstance(known, property | classmethod | staticmethod)
        if is_method or name in constants or name.startswith("__"):
            raise UnsafeFileError(f"{shown(repr(name))} is not a setting")
        if name in excluded and value is not None:
            raise UnsafeFileError(f"{name!r} is a part of the model, not a setting")
        default = model.__dict__.get(name)
        if isinstance(default, bool) and not isinstance(value, bool) and name not in _HAS_SEVERAL_TYPES:
            raise UnsafeFileError(f"{name}={value!r} must be True or False")
        is_number = isinstance(default, int | float) and not isinstance(default, bool)
        if is_number and value is not None and name not in _HAS_SEVERAL_TYPES:
            check_number(name, value, -sys.float_info.max)
    check_progress(settings)


def check_progress(settings: dict[str, Any]) -> None:
    """
    Check the counters and logs of a training, when a model is loaded and before a checkpoint is written.

    :param settings: Attributes of the model by name
    :raises ValueError: If an attribute is not valid; partly as the subclass ``UnsafeFileError``
    """
    for name in ("num_timesteps", "_episode_num", "_n_updates", "_n_calls", "_total_timesteps"):
        check_number(name, settings.get(name, 0), 0, integer=True)
    for name in ("_total_episodes", "_default_timesteps", "max_episode_steps"):
        if settings.get(name) is not None:
            check_number(name, settings[name], 0, integer=True)
    steps_before, episodes_before = _check_type("_began_at", settings.get("_began_at", (0, 0)), tuple)
    for count in (steps_before, episodes_before):
        check_number("_began_at", count, 0, integer=True)
    _check_names(settings)
    _check_type("action_noise", settings.get("action_noise"), ActionNoise | None)
    for name, is_entry, kind in (
        ("ep_info_buffer", _is_episode, "an episode with numbers 'r' and 'l'"),
        ("ep_success_buffer", is_figure, "a number"),
    ):
        for entry in _check_type(name, settings.get(name), deque | None) or ():
            if not is_entry(entry):
                raise UnsafeFileError(f"{name} has {shown(repr(entry))}, which is not {kind}")
    check_number("n_envs", settings.get("n_envs", 1), 1, 2**16, integer=True)  # a limit, since `learn` makes as many
    check_number("exploration_rate", settings.get("exploration_rate", 0), 0, 1)


def _is_episode(entry: Any) -> bool:
    return isinstance(entry, dict) and is_figure(entry.get("r")) and is_figure(entry.get("l"))


def _check_type(name: str, value: Any, kind: Any) -> Any:
    if not isinstance(value, kind):
        raise UnsafeFileError(f"{name}={shown(repr(value))} must be {getattr(kind, '__name__', kind)}")
    return value


def _check_names(settings: dict[str, Any]) -> None:
    for name in ("env_id", "tensorboard_log", "_run_folder", "_log_file", "_log_of_file"):
        _check_type(name, settings.get(name), str | pathlib.PurePath | None)
    for keyword in _check_type("_tuned_with", settings.get("_tuned_with", ()), list | tuple):
        _check_type("_tuned_with", keyword, str)
    env_id, run = settings.get("env_id"), settings.get("_run_folder")
    if env_id is not None and not re.fullmatch(r"[\w:./-]{1,200}", str(env_id)):
        raise UnsafeFileError(f"env_id={shown(repr(env_id))} is not an id of an environment")
    if run is not None and pathlib.Path(run).name in ("", ".."):
        raise UnsafeFileError(f"_run_folder={shown(repr(run))} is not a folder of a run")


def set_weights(model: Any, parameters: dict[str, Any], exact_match: bool, device: th.device | str) -> None:
    """
    Set the weights of a model to those of a file.

    :param model: The model
    :param parameters: State dictionaries by name
    :param exact_match: Whether all weights must be present
    :param device: Device on which the code should run
    :raises UnsafeFileError: If the weights do not fit
    """
    known, _ = model._get_torch_save_params()
    if unknown := [name for name in parameters if name not in known]:
        raise UnsafeFileError(f"it has weights of {shown(unknown)}, but only those of {', '.join(known)} can be read")
    if "policy.optimizer" in parameters:
        check_optimizer_state(parameters["policy.optimizer"], model.policy.optimizer)
    fit = fitting_weights(model, parameters, exact_match, from_file=True)
    OffPolicyAlgorithm.set_parameters(model, fit, exact_match, device)


def fitting_weights(model: Any, parameters: dict[str, Any], exact_match: bool, *, from_file: bool) -> dict[str, Any]:
    """
    Check that weights fit the networks of a model, so that PyTorch only copies numbers.

    :param model: The model
    :param parameters: State dictionaries by name
    :param exact_match: Whether all weights must be present
    :param from_file: See :func:`weights_checks.fitting`
    :return: The weights. If the online network is also the target network, the weights of a separate target network are
        replaced
    :raises ValueError: If the weights do not fit; an ``UnsafeFileError`` if they are from a file
    """
    fit = _without_target(parameters) if "policy" in parameters and not model.double_dqn else parameters
    for name, state in fit.items():
        module = None
        with contextlib.suppress(AttributeError, TypeError):  # SB3 raises a clearer error later
            module = operator.attrgetter(name)(model)
        if isinstance(module, th.nn.Module) and isinstance(state, Mapping):
            fit = {**fit, name: fitting(name, state, module, exact_match, from_file=from_file)}
    return fit


def _without_target(parameters: dict[str, Any]) -> dict[str, Any]:
    policy = dict(parameters["policy"])
    for name in policy:
        policy[name] = policy.get(name.replace("_target.", ".", 1), policy[name])
    return {**parameters, "policy": policy}


# Files of stock SB3, and files of this package that stock SB3 can read


def settings_beside_stock(cls: Any, path: Any, custom_objects: dict[str, Any]) -> dict[str, Any]:
    """
    Collect the settings of a file that stock SB3 does not have, or whose values it does not support.

    :param cls: The algorithm
    :param path: File of a model
    :param custom_objects: Settings of the user
    :return: For a file of this package, its settings; for a file of stock SB3, settings that behave like stock SB3
    """
    extra_settings = own_settings(path)
    if extra_settings is not None:
        return {name: value for name, value in extra_settings.items() if name not in custom_objects}
    loss = {"loss": "huber"} if stock_algorithm(cls).__name__ == "DQN" else {}
    return {"exploration_decay": None, "max_episode_steps": None, **loss}


def settings_for_stock(model: Any) -> dict[str, Any]:
    """
    Translate settings whose values stock SB3 or sb3-contrib do not support.

    :param model: The model
    :return: The translated settings by name
    """
    interval, unit = parse_frequency("target_update_interval", model.target_update_interval)
    if unit == "episode":  # the number of steps of that many average episodes; without episodes, the stock default
        interval = max(1, interval * model.num_timesteps // model._episode_num) if model._episode_num else 10_000
    no_clipping = math.inf if stock_algorithm(type(model)).__name__ == "DQN" else None
    norm = model.max_grad_norm
    return {"target_update_interval": interval, "max_grad_norm": no_clipping if norm is None else norm}
