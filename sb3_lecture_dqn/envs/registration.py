"""The specification by which gymnasium makes an id without the warning that the id is out of date."""

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec

_ALIAS = "Taxi-v3"


def registered(env_id: str) -> str | EnvSpec:
    """
    Return the argument of ``gymnasium.make`` for an id.

    :param env_id: A registered environment id
    :return: The id; for ``Taxi-v3`` its specification, because gymnasium advises an upgrade if it is made by the id,
        see :func:`register_taxi_v3`
    """
    is_alias = env_id.removeprefix("sb3_lecture_dqn:") == _ALIAS
    return gym.registry[_ALIAS] if is_alias and _ALIAS in gym.registry else env_id
