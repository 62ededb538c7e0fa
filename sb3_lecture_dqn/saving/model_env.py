"""The environment of a model: how it is made by its id, and which of its attributes are stored in files."""

from typing import Any

import gymnasium as gym
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import GymEnv
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_dqn.envs.make import make_training_env
from sb3_lecture_dqn.evaluation.like_model import check_made_by_id, step_limit_of


def announce_env(env_id: str, verbose: int) -> None:
    """
    Print SB3's message for an environment that is made by its id.

    :param env_id: The id
    :param verbose: Verbosity level of the model; 0 for no output
    """
    if verbose >= 1:
        print(f"Creating environment from the given name '{env_id}'")


def make_model_env(model: Any) -> GymEnv:
    """
    Make an environment by the id that a model stores.

    :param model: A model with an ``env_id``
    :return: The environment, with the model's step limit, number of environments and wrapper
    """
    return make_training_env(model.env_id, model.max_episode_steps, getattr(model, "n_envs", 1), model.env_wrapper)


def set_made_env(model: Any, env: GymEnv | None = None) -> None:
    """
    Set the environment of a model to one that is made by the model's id.

    :param model: The model
    :param env: The environment. If ``None``, it is made here, and training begins with a new episode
    """
    if env is None:
        check_made_by_id(model)
    OffPolicyAlgorithm.set_env(model, make_model_env(model) if env is None else env, force_reset=env is None)


def update_env_settings(model: Any) -> None:
    """
    Update a model's id, wrapper and step limit after it was loaded or the user has set its environment.

    :param model: The model
    """
    if model.env is not None:
        model.env_id = model.env_wrapper = None
        model.max_episode_steps = step_limit_of(model.env)
    elif model.env_id is not None and model.max_episode_steps is None:
        # Version 1.0 wrote None for the registered limit. For the lecture's tasks, None now means another limit.
        spec = gym.registry.get(model.env_id.rpartition(":")[2])
        model.max_episode_steps = None if spec is None else spec.max_episode_steps


def take_step_limit(model: Any, env: VecEnv, asked_for: int | None) -> None:
    """
    Set a model's step limit to the limit of its environment object.

    :param model: The model
    :param env: The environment
    :param asked_for: The limit that the user passed, or ``None``
    :raises ValueError: If the user passed another limit than the environment has
    """
    model.max_episode_steps = step_limit_of(env)
    if asked_for is not None and model.max_episode_steps != asked_for:
        raise ValueError(
            f"max_episode_steps={asked_for} is only for an environment that is given by its id; the given environment "
            f"has {model.max_episode_steps or 'no limit'}: wrap it in gymnasium's TimeLimit, or omit the argument"
        )
