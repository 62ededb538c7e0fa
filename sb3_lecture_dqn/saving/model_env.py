"""The environment of a model: made by its id, and which of it a file knows."""

from typing import Any

import gymnasium as gym
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_dqn.envs.make import make_training_env
from sb3_lecture_dqn.evaluation.like_model import check_made_by_id, step_limit_of


def announce_env(env_id: str, verbose: int) -> None:
    """
    Say that an environment is made by its id, in SB3's words.

    :param env_id: The id
    :param verbose: Verbosity level of the model; 0 for nothing
    """
    if verbose >= 1:
        print(f"Creating environment from the given name '{env_id}'")


def make_model_env(model: Any) -> GymEnv:
    """
    Make an environment by a model's id.

    :param model: A model with an ``env_id``
    :return: The environment, with the model's step limit, number of environments and wrapper
    """
    return make_training_env(model.env_id, model.max_episode_steps, getattr(model, "n_envs", 1), model.env_wrapper)


def set_made_env(model: Any, env: GymEnv | None = None) -> None:
    """
    Give a model an environment that was made by its id.

    :param model: The model
    :param env: The environment; ``None``: it is made here, and training begins with a new episode
    """
    if env is None:
        check_made_by_id(model)
    OffPolicyAlgorithm.set_env(model, make_model_env(model) if env is None else env, force_reset=env is None)


def know_env(model: Any) -> None:
    """
    Set a model's id, wrapper and step limit by its environment, after settings came from a file or the environment from
    the user.

    :param model: The model
    """
    if model.env is not None:
        model.env_id = model.env_wrapper = None
        model.max_episode_steps = step_limit_of(model.env)
    elif model.env_id is not None and model.max_episode_steps is None:
        # Version 1.0 wrote None for the registered limit. The limit of the lecture's tasks is not the registered one.
        spec = gym.registry.get(model.env_id.rpartition(":")[2])
        model.max_episode_steps = None if spec is None else spec.max_episode_steps


def keep_own_step_limit(model: Any, env: VecEnv, asked_for: int | None) -> None:
    """
    Set a model's step limit to that of an environment that it was given.

    :param model: The model
    :param env: The environment
    :param asked_for: The limit that the user gave, or ``None``
    :raises ValueError: If the user gave another limit than the environment has
    """
    model.max_episode_steps = step_limit_of(env)
    if asked_for is not None and model.max_episode_steps != asked_for:
        raise ValueError(
            f"max_episode_steps={asked_for} is for an environment that is given by its id; the one that was given "
            f"has {model.max_episode_steps or 'no limit'}: put gymnasium's TimeLimit around it, or leave this out"
        )
