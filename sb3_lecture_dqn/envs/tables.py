"""Tables of transitions: which environments have one, and whether it is valid. See :meth:`TabularModel.from_env`."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker, TimeLimit
from stable_baselines3.common.monitor import Monitor

from sb3_lecture_dqn.common.wrappers import TransparentWrapper

#: Probabilities may miss a sum of 1 by this much, which is more than the rounding of float64
PROBABILITY_TOLERANCE = 1e-8
# Wrappers of `gymnasium.make` and SB3 that change neither observations nor rewards
_TRANSPARENT_WRAPPERS = (PassiveEnvChecker, OrderEnforcing, TimeLimit, Monitor)

Outcome = tuple[float, int, float, bool]
Transitions = Mapping[int, Any] | Sequence[Any]


class NotTabularError(ValueError):
    """An environment has no table of transitions, or its table does not decide everything that it does."""


def opts_in(env: gym.Env) -> bool:
    """
    Look whether the class of an environment says that it is tabular, see :meth:`TabularModel.from_env`.

    :param env: An environment without wrappers
    :return: The value of ``is_tabular``; ``False`` if only a base class has it
    """
    return "is_tabular" in vars(type(env)) and bool(env.is_tabular)  # type: ignore[attr-defined]


def find_table(env: gym.Env, leaving_out: tuple[type[gym.Wrapper], ...]) -> tuple[Any, int | None]:
    """
    Find the tabular environment inside wrappers.

    :param env: An environment
    :param leaving_out: Wrappers to ignore besides those that change nothing
    :return: The environment with the table, and the tightest limit of the ``TimeLimit`` around it
    :raises NotTabularError: If there is no table, or a wrapper may change what happens
    :raises ValueError: If a class says that it is tabular, and has no table
    """
    _check_is_tabular(env.unwrapped)  # before the wrappers, which are not to blame if there is no table
    limits = []
    inner = env
    while isinstance(inner, gym.Wrapper):
        if not (type(inner) in _TRANSPARENT_WRAPPERS or isinstance(inner, (TransparentWrapper, *leaving_out))):
            raise NotTabularError(
                f"{type(inner).__name__} around {env.unwrapped} may change observations, rewards or the end of "
                "episodes, which are not in the environment's P then"
            )
        if isinstance(inner, TimeLimit):
            limits.append(inner._max_episode_steps)
        inner = inner.env
    return inner, min(limits, default=None)


def _check_is_tabular(env: gym.Env) -> None:
    # Imported here because it loads all of gymnasium's toy-text environments.
    from gymnasium.envs.toy_text import CliffWalkingEnv, FrozenLakeEnv, TaxiEnv

    name = type(env).__name__
    if opts_in(env):
        for attribute in ("P", "initial_state_distrib"):
            if not hasattr(env, attribute):
                raise ValueError(f"{name} says is_tabular = True and has no {attribute}, see TabularModel.from_env")
    elif type(env) not in (CliffWalkingEnv, FrozenLakeEnv, TaxiEnv):
        raise NotTabularError(
            f"{name} is not gymnasium's TaxiEnv, FrozenLakeEnv or CliffWalkingEnv, and does not say is_tabular = True; "
            "if a table decides everything that it does, say so (see TabularModel.from_env), or give the table as "
            "TabularModel(P, initial_state_distrib)"
        )
    elif getattr(env, "fickle_passenger", False):  # since gymnasium 1.1
        raise NotTabularError(
            "TaxiEnv(fickle_passenger=True) decides at the start of an episode whether the passenger will change the "
            "destination; this is not part of the state, so P does not decide everything that it does"
        )


def check_spaces(env: Any, n_states: int, n_actions: int) -> None:
    """
    Check that the spaces of an environment are those of its table.

    :param env: An environment
    :param n_states: Number of states of its table
    :param n_actions: Number of actions of its table
    :raises ValueError: If a space is not the ``Discrete`` of that number
    """
    for attribute, n in (("observation_space", n_states), ("action_space", n_actions)):
        if (space := getattr(env, attribute)) != spaces.Discrete(n):
            raise ValueError(f"the {attribute} of {type(env).__name__} is {space}; by its P it must be Discrete({n})")


def without_state(env: gym.Env) -> gym.Env:
    """
    Copy a tabular environment for its names and pictures, without its table, its state and its windows.

    :param env: An environment without wrappers
    :return: The copy
    """
    copied = copy.copy(env)
    for name, value in list(vars(copied).items()):
        if name in ("P", "initial_state_distrib", "s", "lastaction"):
            del vars(copied)[name]
        elif isinstance(value, np.ndarray):
            vars(copied)[name] = value.copy()
            vars(copied)[name].flags.writeable = False
        elif is_drawn(value):
            vars(copied)[name] = None
    vars(copied)["_np_random"] = None
    return copied


def is_drawn(value: Any) -> bool:
    """
    Tell whether an attribute is a window, clock or picture of pygame, which environments make when they need it.

    :param value: The attribute
    :return: Whether it, or a part of it, is one
    """
    if isinstance(value, dict | list | tuple):
        return any(map(is_drawn, value.values() if isinstance(value, dict) else value))
    return type(value).__module__.partition(".")[0] == "pygame"


def read_table(P: Transitions) -> list[list[list[Outcome]]]:
    """
    Read and check a table of transitions.

    :param P: See :class:`TabularModel`
    :return: For every state and action, the outcomes with a probability above 0
    :raises ValueError: If something is missing, out of range or not a distribution; the message says where
    """
    if len(P) == 0:
        raise ValueError("P has no states")
    table = [_read_state(P, state) for state in range(len(P))]
    for state, actions in enumerate(table):
        if len(actions) != len(table[0]):
            raise ValueError(f"P[{state}] has {len(actions)} actions, P[0] has {len(table[0])}")
    return table


def _read_state(P: Transitions, state: int) -> list[list[Outcome]]:
    try:
        actions = P[state]
    except KeyError:
        raise ValueError(f"P has {len(P)} states, which must be numbered from 0, but P[{state}] is missing") from None
    if len(actions) == 0:
        raise ValueError(f"P[{state}] has no actions")
    return [_read_outcomes(actions, state, action, len(P)) for action in range(len(actions))]


def _read_outcomes(actions: Any, state: int, action: int, n_states: int) -> list[Outcome]:
    where = f"P[{state}][{action}]"
    try:
        listed = actions[action]
    except KeyError:
        raise ValueError(
            f"P[{state}] has {len(actions)} actions, which must be numbered from 0, but {where} is missing"
        ) from None
    outcomes: list[Outcome] = []
    for outcome in listed:
        try:
            probability, next_state, reward, terminated = outcome
            probability, reward = float(probability), float(reward)
            whole = int(next_state) == next_state
        except (TypeError, ValueError, OverflowError):
            raise ValueError(
                f"{where} has the outcome {outcome!r}, not (probability, next state, reward, terminated)"
            ) from None
        if not 0 <= probability <= 1 + PROBABILITY_TOLERANCE:
            raise ValueError(f"{where} has an outcome of probability {probability}")
        if not whole or not 0 <= next_state < n_states:
            raise ValueError(f"{where} leads to state {next_state}, which is not in 0, …, {n_states - 1}")
        if not math.isfinite(reward):
            raise ValueError(f"{where} has the reward {reward}")
        if probability > 0:
            outcomes.append((probability, int(next_state), reward, bool(terminated)))
    total = math.fsum(outcome[0] for outcome in outcomes)
    if abs(total - 1) > PROBABILITY_TOLERANCE:
        raise ValueError(f"the probabilities of {where} sum to {total}, not to 1")
    return outcomes


def read_distribution(name: str, values: Sequence[float] | np.ndarray, n: int) -> np.ndarray:
    """
    Read and check a probability distribution.

    :param name: Its name, for messages
    :param values: The probabilities
    :param n: How many there must be
    :return: float64 of shape ``(n,)``
    :raises ValueError: If it is not a distribution; the message says where
    """
    array = np.array(values, dtype=np.float64)
    if array.shape != (n,):
        raise ValueError(f"{name} has the shape {array.shape}, it must have {(n,)}: one probability for every state")
    if not (array >= 0).all():  # also finds NaN
        state = int(np.argmin(array >= 0))
        raise ValueError(f"{name}[{state}] is {array[state]}, which is not a probability")
    if abs(array.sum() - 1) > PROBABILITY_TOLERANCE:
        raise ValueError(f"{name} sums to {array.sum()}, not to 1")
    return array
