"""Recommended settings by environment, from files in RL Zoo's format."""

from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from typing import Any

import gymnasium as gym
import torch as th
import yaml
from stable_baselines3.common.utils import LinearSchedule

FOLDER = files("sb3_lecture_dqn") / "hyperparams"


def read_hyperparams(name: str) -> dict[str, dict[str, Any]]:
    """
    Read one of the files that are shipped with the package.

    :param name: Its name without extension, such as ``"lecture_dqn"``.
    :return: The settings of every environment in it, as the file has them.
    :raises ValueError: If there is no such file; the message says which there are.
    """
    if not (FOLDER / f"{name}.yml").is_file():
        masked = "masked " if name.endswith("_masked") else ""
        known = sorted(file.name.removesuffix(".yml") for file in FOLDER.iterdir())
        raise ValueError(
            f"there are no {masked}settings for {name.removesuffix('_masked')}; there are {', '.join(known)}"
        )
    settings: dict[str, dict[str, Any]] = yaml.safe_load((FOLDER / f"{name}.yml").read_text(encoding="utf-8"))
    return settings


@dataclass(frozen=True)
class TunedSettings:
    """
    What a file has for an environment.

    :param n_timesteps: Budget in environment steps, of all environments together
    :param n_envs: Number of environments
    :param max_episode_steps: Step limit of an episode, ``None`` for that of the id
    :param env_wrapper: What is put around each environment, ``None`` for nothing
    :param keywords: Arguments of the algorithm's constructor, among them ``policy``
    """

    n_timesteps: int
    n_envs: int
    max_episode_steps: int | None
    env_wrapper: type[gym.Wrapper] | None
    keywords: dict[str, Any]


def tuned_settings(name: str, env_id: str) -> TunedSettings:
    """
    The settings that a file has for an environment.

    :param name: The file's name without extension.
    :param env_id: Id of the environment.
    :return: The settings, with schedules and classes in place of the words for them.
    :raises ValueError: If there is no such file, or it has none for it; the message says for which there are.
    """
    known = read_hyperparams(name)
    if env_id not in known:
        raise ValueError(f"env_id={env_id!r} has no settings in {name}.yml, which has {', '.join(map(repr, known))}")
    keywords = known[env_id]
    n_timesteps, n_envs = int(keywords.pop("n_timesteps")), keywords.pop("n_envs", 1)
    # RL Zoo hands them on to `gymnasium.make`, which takes a step limit among them.
    max_episode_steps = keywords.pop("env_kwargs", {}).get("max_episode_steps")
    env_wrapper = keywords.pop("env_wrapper", None)
    if env_wrapper is not None:
        module, _, name_in_module = env_wrapper.rpartition(".")
        env_wrapper = getattr(import_module(module), name_in_module)
    if isinstance(learning_rate := keywords["learning_rate"], str):
        keywords["learning_rate"] = LinearSchedule(float(learning_rate.removeprefix("lin_")), 0.0, 1.0)
    for key in ("policy_kwargs", "replay_buffer_kwargs"):
        if isinstance(keywords.get(key), str):  # RL Zoo's way to have classes in YAML
            keywords[key] = eval(keywords[key], {"dict": dict, "th": th, "nn": th.nn})
    return TunedSettings(n_timesteps, n_envs, max_episode_steps, env_wrapper, keywords)
