"""Recommended settings for an environment, by its id or by its spaces. They are read from files in RL Zoo's format."""

import math
from collections.abc import Container
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
import yaml
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_dqn.common.buffers import SuccessFailReplayBuffer
from sb3_lecture_dqn.common.checks import parse_frequency
from sb3_lecture_dqn.common.state_numbers import n_states_of
from sb3_lecture_dqn.common.wrappers import TupleToDictWrapper, check_observation_space, needs_flattening
from sb3_lecture_dqn.envs.make import check_is_env, make_training_env
from sb3_lecture_dqn.saving.model_env import announce_env
from sb3_lecture_dqn.training.exploration import ANYWHERE, MAX_COUNTS
from sb3_lecture_dqn.training.settings import can_count

FOLDER = files("sb3_lecture_dqn") / "hyperparams"
#: Key of the entry for environments without an entry of their own
DEFAULT = "default"
# Largest size of the observations in a memory whose size the user has not set
_MEMORY_BYTES = 2**30
# Largest number of states of several parts that get a table
_MAX_TABLE = 10**5
# Why a default has its policy, for `about_default`
_WHY = {
    "TablePolicy": "a row for each of the states, which are few",
    "LecturePolicy": "an embedding for each value of each part",
    "MlpPolicy": "a network for vectors",
    "MultiInputPolicy": "a network for several parts, with vectors among them",
    "CnnPolicy": "a network for images",
}


def read_hyperparams(name: str) -> dict[str, dict[str, Any]]:
    """
    Read a file of settings from the package.

    :param name: Name of the file without extension, such as ``"lecture_dqn"``
    :return: The settings by environment id, as in the file
    :raises ValueError: If there is no such file; the message names the existing ones
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
    Recommended settings for an environment.

    :param n_timesteps: Budget in environment steps, summed over all environments
    :param n_envs: Number of environments
    :param max_episode_steps: Step limit of an episode, ``None`` for the limit of the id
    :param env_wrapper: Wrapper class for each environment, ``None`` for no wrapper
    :param keywords: Arguments of the algorithm's constructor, including ``policy``
    """

    n_timesteps: int
    n_envs: int
    max_episode_steps: int | None
    env_wrapper: type[gym.Wrapper] | None
    keywords: dict[str, Any]


def tuned_settings(name: str, env_id: str) -> TunedSettings:
    """
    Read the settings for an environment from a file.

    :param name: Name of the file without extension
    :param env_id: Id of the environment, or :data:`DEFAULT`
    :return: The settings, with schedules and classes instead of their names
    :raises ValueError: If the file or its entry for the environment does not exist; the message names the existing ones
    """
    known = read_hyperparams(name)
    if env_id not in known:
        raise ValueError(f"env_id={env_id!r} has no settings in {name}.yml, which has {', '.join(map(repr, known))}")
    keywords = known[env_id]
    n_timesteps, n_envs = int(keywords.pop("n_timesteps")), keywords.pop("n_envs", 1)
    # RL Zoo passes env_kwargs to `gymnasium.make`, which has the argument max_episode_steps.
    max_episode_steps = keywords.pop("env_kwargs", {}).get("max_episode_steps")
    env_wrapper = keywords.pop("env_wrapper", None)
    if env_wrapper is not None:
        module, _, name_in_module = env_wrapper.rpartition(".")
        env_wrapper = getattr(import_module(module), name_in_module)
    if isinstance(learning_rate := keywords["learning_rate"], str):
        keywords["learning_rate"] = LinearSchedule(float(learning_rate.removeprefix("lin_")), 0.0, 1.0)
    for key in ("policy_kwargs", "replay_buffer_kwargs"):
        if isinstance(keywords.get(key), str):  # RL Zoo writes classes as Python code in YAML
            keywords[key] = eval(keywords[key], {"dict": dict, "th": th, "nn": th.nn})
    return TunedSettings(n_timesteps, n_envs, max_episode_steps, env_wrapper, keywords)


def has_settings(name: str, env_id: str) -> bool:
    """
    Check whether a file has settings for an environment.

    :param name: Name of the file without extension
    :param env_id: Id of the environment
    :return: Whether the file exists and has an entry for the id
    """
    return env_id != DEFAULT and (FOLDER / f"{name}.yml").is_file() and env_id in read_hyperparams(name)


def has_own_settings(model: Any) -> bool:
    """
    Check whether a file has settings for the environment of a model.

    :param model: The model
    :return: Whether there are some; ``False`` for an environment object
    """
    file = f"{model.hyperparams}_masked" if model.use_masking else model.hyperparams
    return model.env_id is not None and has_settings(file, model.env_id)


def default_settings(
    name: str, space: spaces.Space[Any], n_actions: int, n_envs: int, policies: Container[str], policy: Any = None
) -> TunedSettings:
    """
    Choose settings for an unknown environment from its spaces.

    The settings are the entry :data:`DEFAULT` of a file, which is for networks with embeddings, with these changes:

    - ``Discrete`` observations, and those of several discrete parts with at most 100,000 states together: a table, if
      the algorithm has one. It distinguishes all states, it does not depend on the scale of the rewards, and it cannot
      diverge. Exploration goes to untried actions.
    - Observations with vectors: SB3's networks with RL Zoo's settings for CartPole, the Huber loss and clipped
      gradients.
    - Observations with images: SB3's networks with the settings of the DQN paper.

    :param name: Name of the file without extension
    :param space: Observation space
    :param n_actions: Number of actions
    :param n_envs: Number of environments; the ratio of updates to environment steps does not depend on it
    :param policies: Names of the algorithm's policies
    :param policy: The policy if the user has chosen one, otherwise ``None``
    :return: The settings
    """
    settings = tuned_settings(name, DEFAULT)
    keywords = settings.keywords
    kind = policy or _policy_for(space, policies)
    if kind == "TablePolicy":
        # The gradient of the squared error is twice the error. With a learning rate of 0.5, an update therefore moves
        # an entry of the table at most to its target, whatever the rewards are. Of a minibatch of n transitions, each
        # would move its entry by an n-th only: in a table of thousands of states, values would not come far.
        keywords |= {"policy_kwargs": {}, "learning_rate": LinearSchedule(0.5, 0.0, 1.0), "batch_size": 1}
        keywords |= {"train_freq": 1, "gradient_steps": 64, "target_update_interval": 4}
    elif kind in ("CnnPolicy", "MultiInputPolicy") and any(map(is_image_space, _parts(space))):
        keywords |= {"learning_rate": 1e-4, "batch_size": 32, "train_freq": 4, "gradient_steps": 1}
        keywords |= {"learning_starts": 1000, "target_update_interval": 1000, "max_grad_norm": 10.0}
    elif kind in ("MlpPolicy", "MultiInputPolicy"):
        keywords |= {"policy_kwargs": {**keywords["policy_kwargs"], "net_arch": [256, 256]}, "learning_rate": 2.3e-3}
        keywords |= {"learning_starts": 1000, "train_freq": 256, "gradient_steps": 128, "target_update_interval": 10}
        keywords |= {"exploration_fraction": 0.16, "exploration_final_eps": 0.04, "max_grad_norm": 10.0}
    if kind in ("MlpPolicy", "CnnPolicy", "MultiInputPolicy") and "TablePolicy" in policies:
        keywords["loss"] = "huber"  # QR-DQN has no such keyword; its loss is a Huber loss anyway
    if kind not in ("LecturePolicy", "TablePolicy"):
        keywords["gamma"] = 0.99
    keywords["policy"] = kind
    if can_count(space, n_actions) and (n_states_of(space) or 0) * n_actions <= MAX_COUNTS:
        keywords["explore_least_tried"] = ANYWHERE
    keywords["buffer_size"] = min(keywords["buffer_size"], max(1000, _MEMORY_BYTES // (2 * _bytes_of(space))))
    keywords["replay_buffer_kwargs"]["success_capacity"] = keywords["buffer_size"]
    updates_per_step = keywords["gradient_steps"] / keywords["train_freq"]
    keywords["train_freq"] = max(1, keywords["train_freq"] // n_envs)
    keywords["target_update_interval"] = max(keywords["target_update_interval"], n_envs)  # SB3 warns of a smaller one
    keywords["gradient_steps"] = max(1, round(updates_per_step * keywords["train_freq"] * n_envs))
    return settings


def _policy_for(space: spaces.Space[Any], policies: Container[str]) -> str:
    n_states = n_states_of(space)
    has_table = n_states is not None and (n_states <= _MAX_TABLE or isinstance(space, spaces.Discrete))
    if has_table and "TablePolicy" in policies:
        return "TablePolicy"
    if isinstance(space, spaces.Dict):
        boxes = [part for part in _parts(space) if isinstance(part, spaces.Box)]
        # SB3's networks take no numbers that do not start at 0. The lecture's take those, but no images.
        count_from_zero = all(np.all(getattr(part, "start", 0) == 0) for part in _parts(space))
        by_sb3 = any(map(is_image_space, boxes)) or (boxes and count_from_zero)
        return "MultiInputPolicy" if by_sb3 else "LecturePolicy"
    if isinstance(space, spaces.Box):
        return "CnnPolicy" if is_image_space(space) else "MlpPolicy"
    return "LecturePolicy"


def _parts(space: spaces.Space[Any]) -> list[spaces.Space[Any]]:
    return list(space.values()) if isinstance(space, spaces.Dict) else [space]


def _bytes_of(space: spaces.Space[Any]) -> int:
    return sum(math.prod(part.shape or (1,)) * np.dtype(part.dtype).itemsize for part in _parts(space))


def about_default(model: Any, source: str) -> str:
    """
    Describe the default settings of a model in one line.

    :param model: A model with :func:`default_settings`
    :param source: The id of its environment in quotes, or other words for the environment
    :return: The line
    """
    policy = next((name for name, kind in model.policy_aliases.items() if kind is model.policy_class), "its policy")
    why = _WHY.get(policy, "as asked for")
    optimizer, space = type(model.policy.optimizer).__name__, " ".join(str(model.observation_space).split())
    return (
        f"There are no settings for {source}, so it gets the default for {space} observations: "
        f"{policy} ({why}), {optimizer}, minibatches of {model.batch_size}, a target network, gamma={model.gamma:g}, "
        f"{model._default_timesteps:,} timesteps and more while tests improve. That is a start, not a tuned result."
    )


def tuned_model(cls: Any, env: Any, use_masking: bool, overrides: dict[str, Any]) -> Any:
    """
    Make a model with recommended settings, see :meth:`LectureDQN.tuned`.

    :param cls: The algorithm
    :param env: The environment, or its id
    :param use_masking: Whether to train with action masks and the settings for masks
    :param overrides: Arguments of the constructor that replace recommended ones
    :return: A new model
    """
    env = overrides.pop("env_id", env)  # version 1.0 named the argument env_id
    if env is None:
        raise ValueError(f"env=None: give an environment or its id, as in {cls.__name__}.tuned('Taxi-v3')")
    file = f"{cls.hyperparams}_masked" if use_masking else cls.hyperparams
    if not isinstance(env, str) or not has_settings(file, env):
        return _with_default_settings(cls, env, {"use_masking": use_masking, **overrides})
    settings = tuned_settings(file, env)
    keywords = {"max_episode_steps": settings.max_episode_steps, **_replaced(cls, settings.keywords, overrides)}
    if settings.n_envs > 1 and parse_frequency("train_freq", keywords.get("train_freq", 1))[1] == "episode":
        raise ValueError(
            f"train_freq={keywords['train_freq']!r} needs one environment, and {env!r} is trained on {settings.n_envs} "
            "by its settings: give a number of steps"
        )
    announce_env(env, keywords.get("verbose", 0))
    vec_env = make_training_env(env, keywords["max_episode_steps"], settings.n_envs, settings.env_wrapper)
    model = cls(env=vec_env, **keywords)
    model.env_id = env
    model.env_wrapper = settings.env_wrapper
    model._default_timesteps, model._tuned_with = settings.n_timesteps, sorted(overrides)
    return model


def _replaced(cls: Any, keywords: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Replace recommended keywords by the user's. Arguments of a policy or memory go with it if another is chosen."""
    keywords, policy = dict(keywords), keywords["policy"]
    chosen = overrides.get("policy", policy)
    if cls.policy_aliases.get(chosen, chosen) is not cls.policy_aliases.get(policy, policy):
        of_any = ("optimizer_class", "optimizer_kwargs")
        keywords["policy_kwargs"] = {k: v for k, v in keywords.get("policy_kwargs", {}).items() if k in of_any}
    memory = overrides.get("replay_buffer_class") or SuccessFailReplayBuffer
    by_sb3 = overrides.get("n_steps", 1) != 1 or overrides.get("optimize_memory_usage", False)
    if by_sb3 or not (isinstance(memory, type) and issubclass(memory, SuccessFailReplayBuffer)):
        keywords.pop("replay_buffer_kwargs", None)
    return {**keywords, **overrides}


def _with_default_settings(cls: Any, env: Any, overrides: dict[str, Any]) -> Any:
    overrides = {"max_episode_steps": None, **overrides}
    train_env: Any = make_training_env(env, overrides["max_episode_steps"]) if isinstance(env, str) else env
    check_is_env(train_env)
    if not isinstance(train_env, VecEnv) and needs_flattening(train_env.observation_space):
        train_env = TupleToDictWrapper(train_env)
    check_observation_space(train_env.observation_space)
    n_actions, n_envs = getattr(train_env.action_space, "n", 1), getattr(train_env, "num_envs", 1)
    settings = default_settings(
        cls.hyperparams, train_env.observation_space, n_actions, n_envs, cls.policy_aliases, overrides.get("policy")
    )
    model = cls(env=train_env, **_replaced(cls, settings.keywords, overrides))
    model._default_timesteps, model._tuned_with = settings.n_timesteps, sorted(overrides)
    if isinstance(env, str):
        model.env_id = env
    if model.verbose >= 1:
        print(about_default(model, repr(env) if isinstance(env, str) else "an environment object"))
    return model
