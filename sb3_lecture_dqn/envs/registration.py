"""How environments are made by their ids."""

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

_ALIAS = "Taxi-v3"


def registered(env_id: str) -> str | EnvSpec:
    """
    What to give ``gymnasium.make`` for an id.

    :param env_id: A registered environment id
    :return: The id; of ``Taxi-v3`` its specification, as gymnasium advises an upgrade where it is made by the id: see
        :func:`register_taxi_v3`
    """
    is_alias = env_id.removeprefix("sb3_lecture_dqn:") == _ALIAS
    return gym.registry[_ALIAS] if is_alias and _ALIAS in gym.registry else env_id
