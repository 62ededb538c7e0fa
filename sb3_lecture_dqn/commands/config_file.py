"""``config.yaml``, the file in which the command `train` keeps the options of a run."""

import argparse
import difflib
import pathlib
from collections.abc import Mapping
from typing import Any

import gymnasium as gym

import sb3_lecture_dqn
from sb3_lecture_dqn.common.checks import check_choice
from sb3_lecture_dqn.common.user_yaml import read_yaml, read_yaml_file, write_yaml
from sb3_lecture_dqn.envs.make import LECTURE_MAX_EPISODE_STEPS, id_step_limit
from sb3_lecture_dqn.saving.files import written_whole

#: The entry with the version of the package. Version 1.0 wrote its 15 options and no version
_VERSION, _N_OPTIONS_IN_1_0 = "version", 15


def write_config(file: pathlib.Path, values: Mapping[str, Any]) -> None:
    """
    Write options to a file.

    :param file: The file
    :param values: The values of the options by name
    """
    config = {_VERSION: sb3_lecture_dqn.__version__, **values}
    with written_whole(file, "yaml") as content:
        content.write(write_yaml(config).encode())


def read_config(file: str | pathlib.Path, options: Mapping[str, argparse.Action]) -> dict[str, Any]:
    """
    Read the options of a file.

    :param file: A YAML file of options, such as the ``config.yaml`` of a run
    :param options: The options that a file may have, by name
    :return: Their values by name
    :raises ValueError: If the command line has no such option or value; the message names the option
    """
    config = read_yaml_file(file)
    if not isinstance(config, dict):
        is_empty = "is empty or has only comments, and " if config is None else ""
        raise ValueError(f"{file} {is_empty}must be a table of options; known are {', '.join(options)}")
    is_of_1_0 = _VERSION not in config and len(config) == _N_OPTIONS_IN_1_0
    config.pop(_VERSION, None)
    for name, value in config.items():
        if name not in options:
            near = difflib.get_close_matches(str(name).replace("-", "_"), options, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"{file}: {name!r} is not an option of `train` in a file; known are {', '.join(options)}{hint}"
            )
        try:
            _check_option(options[name], value)
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
    if config.get("episodes") is not None and config.get("timesteps") is not None:
        raise ValueError(f"{file}: episodes={config['episodes']} and timesteps={config['timesteps']}: give one budget")
    if is_of_1_0:
        config = _with_step_limit_of_1_0(config)
    return {name: value for name, value in config.items() if value is not None or options[name].default is None}


def _check_option(action: argparse.Action, value: Any) -> None:
    """
    Check the value of an option in a file. ``None`` means the default.

    :raises ValueError: If the value has another type, or is not one of the option's choices
    """
    name = action.dest
    if value is None:
        return
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ValueError(f"{name}={value!r} must be true or false")
    elif action.type in (int, float):
        if isinstance(value, bool) or not isinstance(value, int if action.type is int else int | float):
            raise ValueError(f"{name}={value!r} must be {'an integer' if action.type is int else 'a number'}")
    elif name == "set":
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            raise ValueError(f"{name}={value!r} must be a list of NAME=VALUE, such as ['gamma=0.9']")
    elif not isinstance(value, str):
        raise ValueError(f"{name}={value!r} must be text")
    elif action.choices is not None:
        check_choice(name, value, tuple(action.choices))


def _with_step_limit_of_1_0(config: dict[str, Any]) -> dict[str, Any]:
    """Add the step limit that a run of version 1.0 had: 1000 for every id, and the registered limit for ``null``."""
    if not isinstance(config.get("env"), str):
        return config
    entries = list(config.get("set") or [])
    limits = [value for name, _, value in (entry.partition("=") for entry in entries) if name == "max_episode_steps"]
    limit: int | None = None
    if not limits and not config.get("tuned") and id_step_limit(config["env"]) != LECTURE_MAX_EPISODE_STEPS:
        limit = LECTURE_MAX_EPISODE_STEPS
    elif limits and read_yaml("config", limits[-1]) is None:
        limit = gym.spec(config["env"]).max_episode_steps
    return config if limit is None else {**config, "set": [*entries, f"max_episode_steps={limit}"]}
