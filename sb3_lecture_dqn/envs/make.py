"""Registering ids and making environments by them, with the lecture's step limits, on every supported gymnasium."""

import difflib
import math
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_dqn.common.wrappers import TupleToDictWrapper, needs_flattening
from sb3_lecture_dqn.envs.tables import NotTabularError, opts_in
from sb3_lecture_dqn.envs.tabular import TabularModel
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.registration import TAXI_IDS, VARIANTS, registered

#: Step limit of the lecture's tasks, if they are given by an id
LECTURE_MAX_EPISODE_STEPS = 1000
_LECTURE_IDS = {*TAXI_IDS, *VARIANTS}
# Steps on which the table of a user's environment is compared with its steps
_CHECKED_STEPS = 500


def check_env_id(env_id: str) -> None:
    """
    Check that gymnasium knows an environment.

    :param env_id: An id such as ``"Taxi-v3"``
    :raises ValueError: If the id is not registered; the message names the nearest known ids. Also if it has the form
        ``"module:Id-v0"``, because gymnasium would import the module, and an id may come from a file.
    """
    module, colon, bare_id = env_id.partition(":")
    if colon:
        raise ValueError(
            f"env={env_id!r}: an id imports no module here; import {module} yourself, which registers its "
            f"environments, and give the id {bare_id!r}"
        )
    try:
        gym.spec(env_id)
    except gym.error.Error as error:
        near = difflib.get_close_matches(env_id, gym.registry, n=3, cutoff=0.5)
        hint = (
            f"the nearest known ids are {', '.join(map(repr, near))}" if near else "see `gymnasium.pprint_registry()`"
        )
        raise ValueError(f"env={env_id!r} is not a registered environment id: {hint} ({error})") from error


def id_step_limit(env_id: str) -> int | None:
    """
    Return the step limit of an environment that is given by its id.

    :param env_id: A registered environment id
    :return: The lecture's limit for its tasks (``Taxi-v3``, ``Taxi-v4`` and :data:`VARIANTS`), else the registered
        limit, ``None`` if there is none
    :raises ValueError: If the id is unknown
    """
    check_env_id(env_id)
    spec = gym.spec(env_id)
    # Another package may have registered an id of the variants.
    is_toy = isinstance(spec.entry_point, str) and spec.entry_point.startswith("gymnasium.envs.toy_text")
    return LECTURE_MAX_EPISODE_STEPS if is_toy and spec.id in _LECTURE_IDS else spec.max_episode_steps


def check_is_env(env: Any) -> None:
    """
    Check that an argument is an environment.

    :param env: It must be an environment of gymnasium or a ``VecEnv`` of SB3
    :raises ValueError: If it is neither; the message says what to give instead
    """
    if isinstance(env, gym.Env | VecEnv):
        return
    if isinstance(env, gym.vector.VectorEnv):
        raise ValueError(
            f"env={env} is a vector environment of gymnasium, which SB3 does not take: make one of SB3's, "
            f"stable_baselines3.common.env_util.make_vec_env(env_id, n_envs={env.num_envs})"
        )
    if isinstance(env, str):
        way_on = f"an id: give an environment here, sb3_lecture_dqn.make_env({env!r})"
    elif isinstance(env, type) and issubclass(env, gym.Env):
        way_on = f"a class: give an environment, {env.__name__}(...)"
    elif isinstance(env, gym.envs.registration.EnvSpec):
        way_on = f"a specification: give its id, {env.id!r}, or an environment, gymnasium.make(...)"
    elif callable(env) or (isinstance(env, list | tuple) and all(callable(item) for item in env)):
        way_on = "a function: give the environment that it returns, or make_vec_env(function, n_envs=...) of several"
    elif isinstance(env, list | tuple):
        way_on = "several: make one VecEnv of them, stable_baselines3.common.env_util.make_vec_env(env_id, n_envs=...)"
    else:
        way_on = (
            "not an environment: give one of gymnasium (shimmy converts those of OpenAI Gym), a VecEnv of SB3, or an id"
        )
    raise ValueError(f"env={env!r} is {way_on}")


Wrapper = Callable[[gym.Env], gym.Env]


def make_env(
    env_id: str,
    max_episode_steps: int | None = None,
    wrapper: Wrapper | None = None,
    **env_kwargs: Any,
) -> gym.Env:
    """
    Make the environment of an id. The lecture's tasks have the lecture's step limit.

    SB3 cannot take ``Tuple`` and nested observations, so :class:`TupleToDictWrapper` makes them a ``Dict``, unless
    ``wrapper`` has changed them already.

    :param env_id: A registered environment id
    :param max_episode_steps: Steps after which an episode is truncated; ``None`` for :func:`id_step_limit`
    :param wrapper: Put around the environment
    :param env_kwargs: Passed to ``gymnasium.make``
    :return: The environment, which renders to ``rgb_array`` if it can, as in SB3
    :raises ValueError: If the id is unknown
    """
    own_limit = id_step_limit(env_id)
    if max_episode_steps is None:
        max_episode_steps = own_limit
    try:
        with warnings.catch_warnings():
            if "render_mode" not in env_kwargs:  # the user has not asked for pictures
                warnings.filterwarnings("ignore", message=".*render_mode='rgb_array' that is not in the possible")
            env = gym.make(
                registered(env_id), max_episode_steps=max_episode_steps, **{"render_mode": "rgb_array", **env_kwargs}
            )
    except TypeError:  # it has no render_mode argument
        env = gym.make(registered(env_id), max_episode_steps=max_episode_steps, **env_kwargs)
    if wrapper is not None:
        env = wrapper(env)
    return TupleToDictWrapper(env) if needs_flattening(env.observation_space) else env


def make_training_env(
    env_id: str,
    max_episode_steps: int | None = None,
    n_envs: int = 1,
    wrapper: Wrapper | None = None,
) -> gym.Env | VecEnv:
    """
    Make the environment of an id for training.

    :param env_id: A registered environment id
    :param max_episode_steps: As for :func:`make_env`
    :param n_envs: Number of environments
    :param wrapper: Put around each environment
    :return: A :class:`TabularVecEnv` if the environment is tabular, which steps many times faster; else the result of
        :func:`make_env`, or SB3's ``DummyVecEnv`` of several
    :raises ValueError: If the id is unknown, or an environment that says it is tabular does not follow its own table
    """
    env = make_env(env_id, max_episode_steps, wrapper)
    try:
        tabular = _on_arrays(env, n_envs)
    except NotTabularError:
        if n_envs > 1:
            env.close()
            return make_vec_env(lambda: make_env(env_id, max_episode_steps, wrapper), n_envs)
        return env
    except ValueError:
        env.close()
        raise
    env.close()
    return tabular


def make_tabular_env(
    env_id: str, max_episode_steps: int | None = None, wrapper: Wrapper | None = None
) -> TabularVecEnv:
    """
    Make the environment on arrays of an id.

    :param env_id: A registered environment id
    :param max_episode_steps: As for :func:`make_env`
    :param wrapper: Put around the environment
    :return: One environment
    :raises NotTabularError: If the environment is not tabular; the message says why
    :raises ValueError: If the id is unknown, or the environment does not follow its own table
    """
    env = make_env(env_id, max_episode_steps, wrapper)
    try:
        return _on_arrays(env)
    finally:
        env.close()


def _on_arrays(env: gym.Env, n_envs: int = 1) -> TabularVecEnv:
    """``env`` was made here, so it can be stepped to check a user's table."""
    tabular = TabularVecEnv(env, n_envs)
    if opts_in(env.unwrapped):
        _check_follows_table(env.unwrapped, tabular.model)
    return tabular


def _check_follows_table(env: Any, model: TabularModel) -> None:
    """Check on some episodes that resets and steps do what the table says."""
    rng, state = np.random.default_rng(0), None
    name = type(env).__name__
    for step in range(_CHECKED_STEPS):
        if state is None:
            state, _ = env.reset(seed=0 if step == 0 else None)
            if state not in model.start_states:
                raise ValueError(f"{name}.reset() returned state {state}, which initial_state_distrib rules out")
        valid = np.ones(model.n_actions, bool) if model.action_masks is None else model.action_masks[state]
        action = int(rng.choice(valid.nonzero()[0]))
        next_state, reward, terminated, truncated, _ = env.step(action)
        if truncated or not any(
            next_state == outcome[1] and math.isclose(reward, outcome[2]) and bool(terminated) == outcome[3]
            for outcome in model.P[int(state)][action]
        ):
            raise ValueError(
                f"{name}.step({action}) in state {state} returned state {next_state}, reward {reward}, "
                f"terminated={terminated} and truncated={truncated}; P[{state}][{action}] has no such outcome"
            )
        state = None if terminated else next_state
