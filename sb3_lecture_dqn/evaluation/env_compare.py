"""
Comparing environments: with each other, and with themselves an episode later.

An attribute that an episode changes, such as a step counter, says nothing about the task. So two environments count as
different only in attributes that stay the same from one episode to the next.
"""

import random
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from gymnasium.wrappers import NormalizeReward
from sb3_contrib.common.maskable.utils import EXPECTED_METHOD_NAME, is_masking_supported
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper

# Only wrappers of other packages are checked for what they keep and whether they write.
_KNOWN_PACKAGES = {"gymnasium", "stable_baselines3", "sb3_contrib", "rl_zoo3", "sb3_lecture_dqn"}
#: Attributes that say how an environment was made; the ``spec`` of a copy says it too
SPEC_ATTRIBUTES = ("_saved_kwargs", "_cached_spec", "_ezpickle_args", "_ezpickle_kwargs", "spec")
#: Values without parts
ATOMS = (str, bytes, int, float, complex, bool, type(None), np.ndarray, np.generic, types.BuiltinFunctionType)
#: Generators of random numbers
GENERATORS = (np.random.Generator, np.random.RandomState, random.Random)
_NUMBERS = (np.ndarray, np.generic, int, float)
_PROBE_STEPS = 8


class CannotCopyError(ValueError):
    """
    No environment like the model's own can be made.

    :param why: The reason
    :param argument: The argument by which the user can give a test environment
    """

    def __init__(self, why: str, argument: str = "env") -> None:
        super().__init__(f"{argument}=None: {why}; give a test environment, {argument}=...")
        self.why = why


def chain_of(env: gym.Env) -> Iterator[gym.Env]:
    """
    Go through an environment and everything that it wraps.

    :param env: The environment
    :return: The environment itself first, the unwrapped one last
    """
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def is_foreign(wrapper: gym.Env) -> bool:
    """
    Look whether a wrapper comes from the user or from another package.

    :param wrapper: A wrapper
    :return: ``False`` for the packages whose wrappers are known here
    """
    return type(wrapper).__module__.split(".")[0] not in _KNOWN_PACKAGES


def may_change_rewards(env: VecEnv) -> bool:
    """
    Look whether a wrapper may change the rewards that tests see. They see raw rewards where training normalises them.

    :param env: The environment of a model
    :return: Whether one may
    """
    vec_env: Any = env
    while isinstance(vec_env, VecEnvWrapper):
        if type(vec_env).__module__.split(".")[0] not in _KNOWN_PACKAGES:
            return True
        vec_env = vec_env.venv
    return any(_changes_rewards(wrapper) for sub_env in vec_env.envs for wrapper in chain_of(sub_env))


def _changes_rewards(wrapper: gym.Env) -> bool:
    if not isinstance(wrapper, gym.Wrapper) or isinstance(wrapper, NormalizeReward):
        return False
    if not is_foreign(wrapper):
        return isinstance(wrapper, gym.RewardWrapper)
    return type(wrapper).step not in (gym.Wrapper.step, gym.ObservationWrapper.step, gym.ActionWrapper.step)


def attributes(env: gym.Env) -> dict[str, Any]:
    """
    Return the attributes of an environment or wrapper that decide what it does.

    :param env: The environment
    :return: All but :data:`SPEC_ATTRIBUTES`
    """
    return {name: value for name, value in vars(env).items() if name not in SPEC_ATTRIBUTES}


def check_alike(makers: Sequence[Callable[[], gym.Env]]) -> None:
    """
    Check that sub-environments are the same task, and that the user's wrappers begin every episode alike.

    :param makers: For every sub-environment, a function that makes a copy of it
    :raises CannotCopyError: If not; the message names the attribute
    """
    new = [_after_reset(make()) for make in makers]
    used = [_after_reset(_after_steps(_after_reset(make()))) for make in makers]
    chains = [list(zip(chain_of(a), chain_of(b), strict=True)) for a, b in zip(new, used, strict=True)]
    for wrapper, used_wrapper in chains[0]:
        is_checked = isinstance(wrapper, gym.Wrapper) and is_foreign(wrapper)
        if is_checked and (changed := _differences(wrapper, used_wrapper)):
            raise CannotCopyError(
                f"{type(wrapper).__name__} around the model's environment keeps {', '.join(changed)} from one episode "
                "to the next, and a test would go on with it"
            )
    for i, chain in enumerate(chains[1:], start=1):
        if [type(wrapper) for wrapper, _ in chain] != [type(wrapper) for wrapper, _ in chains[0]]:
            raise CannotCopyError(f"sub-environments 0 and {i} of the model's environment are wrapped differently")
        for (first, used_first), (other, used_other) in zip(chains[0], chain, strict=True):
            moving = {*_differences(first, used_first), *_differences(other, used_other)}
            if differing := [name for name in _differences(first, other) if name not in moving]:
                raise CannotCopyError(
                    f"sub-environments 0 and {i} of the model's environment differ in {', '.join(differing)} of "
                    f"{type(other).__name__}"
                )


def check_made_alike(make: Callable[[], gym.Env]) -> None:
    """
    Check that a function makes the same environment every time.

    :param make: Makes an environment by its id
    :raises CannotCopyError: If two of them differ, for example because a map is drawn at random
    """
    first, second = make(), make()
    try:
        for a, b in zip(chain_of(first), chain_of(second), strict=True):
            if differing := [name for name in _differences(a, b) if not _is_time(vars(a).get(name))]:
                raise CannotCopyError(
                    f"{type(a).__name__} is made with another {', '.join(differing)} every time, so a new one is not "
                    "the environment of the training"
                )
    finally:
        first.close()
        second.close()


def _is_time(value: Any) -> bool:
    return isinstance(value, float) and min(abs(value - time.time()), abs(value - time.perf_counter())) < 60


def _after_reset(env: gym.Env) -> gym.Env:
    env.reset(seed=0)
    return env


def _after_steps(env: gym.Env) -> gym.Env:
    rng = np.random.default_rng(0)
    for _ in range(_PROBE_STEPS):
        action: Any = None
        if isinstance(env.action_space, spaces.Discrete):
            masks = np.ones(env.action_space.n, bool)
            if is_masking_supported(env):
                masks = np.asarray(env.get_wrapper_attr(EXPECTED_METHOD_NAME)(), bool)
            action = int(env.action_space.start + rng.choice(masks.nonzero()[0]))
        else:
            env.action_space.seed(0)
            action = env.action_space.sample()
        try:
            _, _, terminated, truncated, _ = env.step(action)
        except Exception:  # for example, the action is not valid in this state
            break
        if terminated or truncated:
            break
    return env


def _differences(env: gym.Env, other: gym.Env) -> list[str]:
    """Names of the attributes in which two environments or wrappers of one class differ."""
    a, b = attributes(env), attributes(other)
    return [n for n in {**a, **b} if n != "env" and (n not in a or n not in b or not same(a[n], b[n]))]


def same(a: Any, b: Any, _seen: set[tuple[int, int]] | None = None) -> bool:
    """
    Compare two values of any kind: numbers, arrays, containers, functions, objects with attributes.

    :param a: A value
    :param b: Another value
    :return: ``False`` if they differ. Two generators of random numbers of one type count as equal, and so do two
        objects of one type whose content cannot be seen
    """
    seen = set() if _seen is None else _seen
    if a is b or (id(a), id(b)) in seen:
        return True
    seen.add((id(a), id(b)))
    if isinstance(a, _NUMBERS) and isinstance(b, _NUMBERS):
        left, right = np.asarray(a), np.asarray(b)
        if left.dtype.kind != right.dtype.kind:
            return False
        return np.array_equal(left, right, equal_nan=left.dtype.kind in "fc")
    if isinstance(a, gym.Env) and isinstance(b, gym.Env):  # the caller compares them one by one
        return True
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key], seen) for key in a)
    if isinstance(a, list | tuple | deque):
        return len(a) == len(b) and all(same(x, y, seen) for x, y in zip(a, b, strict=True))
    if isinstance(a, GENERATORS):
        return True
    if isinstance(a, types.FunctionType):
        return a.__code__ == b.__code__ and same(captured(a), captured(b), seen)
    if isinstance(a, types.MethodType):
        return a.__func__ is b.__func__
    if isinstance(a, spaces.Space):
        return bool(a == b)
    if isinstance(a, th.Tensor):
        return same(a.detach().cpu().numpy(), b.detach().cpu().numpy())
    if isinstance(a, set | frozenset):
        return len(a) == len(b) and (a == b or not all(isinstance(item, ATOMS) for item in a))
    if hasattr(a, "__dict__"):
        return same(vars(a), vars(b), seen)
    by_identity: Any = object.__eq__
    return type(a).__eq__ is by_identity or bool(a == b)


def captured(function: types.FunctionType) -> list[Any]:
    """
    Return the values of the outer variables that a function uses.

    :param function: The function
    :return: The values; variables without a value are left out
    """
    return [cell.cell_contents for cell in function.__closure__ or () if is_filled(cell)]


def is_filled(cell: types.CellType) -> bool:
    """
    Look whether a captured variable has a value.

    :param cell: A cell of a function's ``__closure__``
    :return: Whether it has one
    """
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
