"""
Copies of gymnasium environments in their present state.

A copy leaves out wrappers that write or show, its running statistics do not change, and it draws random numbers of its
own. It shares nothing with the original that either of them could change: functions are copied with the variables that
they have captured. What cannot be copied safely raises :class:`CannotCopyError`.
"""

import copy
import functools
import hashlib
import logging
import os
import pathlib
import random
import types
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import EzPickle, RecordConstructorArgs
from gymnasium.wrappers import (
    HumanRendering,
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    RecordVideo,
    RenderCollection,
    TimeLimit,
)
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_dqn.common.wrappers import ResumableEnv
from sb3_lecture_dqn.envs.tables import is_drawn
from sb3_lecture_dqn.evaluation.env_compare import (
    ATOMS,
    GENERATORS,
    SPEC_ATTRIBUTES,
    CannotCopyError,
    attributes,
    captured,
    chain_of,
    check_alike,
    is_filled,
    is_foreign,
    same,
)

#: Wrappers that write files, keep records or show, and change neither observations nor rewards
LEFT_OUT = (RecordVideo, RecordEpisodeStatistics, HumanRendering, RenderCollection, Monitor, ResumableEnv)
_TRANSFORMS = (gym.ObservationWrapper, gym.RewardWrapper, gym.ActionWrapper, RecordConstructorArgs)


def copiers(envs: Sequence[gym.Env], n: int, max_episode_steps: int | None) -> list[Callable[[], gym.Env]]:
    """
    Prepare copies of the sub-environments of a training, which must all be the same task.

    :param envs: The sub-environments, which stay unchanged
    :param n: Number of copies
    :param max_episode_steps: Step limit of the copies, ``None`` to keep the limits that there are
    :return: Functions that make one copy each, to be reset. In a copy the statistics of ``NormalizeObservation`` and
        ``NormalizeReward`` do not change, rewards are not normalised, and wrappers of :data:`LEFT_OUT` are left out
    :raises CannotCopyError: If the environments cannot be copied, or are not the same task
    """
    originals = [_Original(env) for env in envs]
    if len(originals) > 1 or any(is_foreign(wrapper) for wrapper in originals[0].kept[:-1]):
        check_alike([functools.partial(original.copied, 0) for original in originals])
    return [functools.partial(originals[0].copied, number, max_episode_steps) for number in range(n)]


class _Original:
    """
    A sub-environment of the training, and the objects in it that need care in a copy.

    :param env: The sub-environment
    :raises CannotCopyError: If it has something that must not be copied
    """

    def __init__(self, env: gym.Env) -> None:
        self.env = env
        #: The environment and its wrappers but for LEFT_OUT, the outermost first
        self.kept = [wrapper for wrapper in chain_of(env) if not isinstance(wrapper, LEFT_OUT)]
        self.functions: list[types.FunctionType] = []
        self.generators: list[Any] = []
        self.shared: list[Any] = []  # objects that copies share
        if self.kept[-1].spec is None:
            raise CannotCopyError(
                f"the model's environment, a {type(self.kept[-1]).__name__}, has no gymnasium spec (gymnasium.register "
                "and gymnasium.make give it one), so it is not known whether several of it can exist side by side"
            )
        for wrapper in self.kept[:-1]:
            if is_foreign(wrapper):
                _check_does_not_write(wrapper)
        for wrapper in chain_of(env):
            if type(wrapper) is Monitor:
                _check_hides_nothing(wrapper)
        self._find_parts()

    def _find_parts(self) -> None:
        """Find functions, generators of random numbers, and objects that copies share."""
        seen = {id(wrapper) for wrapper in chain_of(self.env)}
        queue: list[Any] = [value for wrapper in self.kept for value in attributes(wrapper).values()]
        while queue:
            value = queue.pop()
            if isinstance(value, ATOMS) or id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, types.ModuleType | EnvSpec | type):
                self.shared.append(value)
            elif isinstance(value, GENERATORS):
                self.generators.append(value)
            elif isinstance(value, types.FunctionType):
                _check_globals(value)
                defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
                if captured(value) or not all(isinstance(default, ATOMS) for default in defaults):
                    self.functions.append(value)
                queue += [*captured(value), *defaults]
            elif isinstance(value, types.MethodType):
                queue += [value.__self__, value.__func__]
            elif isinstance(value, functools.partial):
                queue += [value.func, *value.args, *value.keywords.values()]
            elif isinstance(value, dict):
                queue += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple | set | frozenset | deque):
                queue += value
            elif hasattr(value, "__dict__"):
                queue += vars(value).values()

    def copied(self, number: int, max_episode_steps: int | None = None) -> gym.Env:
        """
        Make a copy.

        :param number: Number of the copy; copies of different numbers draw different random numbers
        :param max_episode_steps: Step limit in place of all limits of the original
        :return: The copy, to be reset
        """
        # `memo` says which object of the copy takes the place of which object of the original, by its id.
        memo: dict[int, Any] = {id(value): value for value in self.shared}
        memo |= {id(generator): _other_generator(generator, number) for generator in self.generators}
        pairs: list[tuple[gym.Env, gym.Env]] = []  # originals and blank copies, the innermost first
        for original in reversed(list(chain_of(self.env))):
            replaced = max_episode_steps is not None and isinstance(original, TimeLimit)
            if not (replaced or isinstance(original, LEFT_OUT)):
                pairs.append((original, _blank(original)))
            memo[id(original)] = pairs[-1][1]  # in place of a wrapper that is left out, what is inside it
        # `copy.deepcopy` shares functions, so all are replaced first, then filled.
        memo |= {id(function): _blank_function(function) for function in self.functions}
        for function in self.functions:
            _fill_function(function, memo[id(function)], memo)
        for original, blank in pairs:
            _fill(original, blank, memo)
        env = pairs[-1][1]
        unwrapped: Any = env.unwrapped
        unwrapped._np_random = unwrapped._np_random_seed = None  # as in a new environment, until it is seeded
        if getattr(unwrapped, "render_mode", None) == "human":
            unwrapped.render_mode = None
        env = _with_constant_statistics(env)
        return env if max_episode_steps is None else TimeLimit(env, max_episode_steps)


# Checks of the original


def _check_does_not_write(wrapper: gym.Env) -> None:
    """Check a wrapper of the user's: only a known kind of wrapper is copied, and only if it holds no path or log."""
    name = type(wrapper).__name__
    if not isinstance(wrapper, _TRANSFORMS):
        raise CannotCopyError(
            f"it is not known what {name} around the model's environment does besides (an ObservationWrapper, "
            "RewardWrapper, ActionWrapper or one with gymnasium's RecordConstructorArgs is copied)"
        )
    for attribute, value in {**getattr(wrapper, "_saved_kwargs", {}), **attributes(wrapper)}.items():
        if isinstance(value, pathlib.PurePath | logging.Logger) or (isinstance(value, str) and _is_path(value)):
            raise CannotCopyError(f"{name} around the model's environment may write: its {attribute} is {value!r}")


def _is_path(text: str) -> bool:
    return os.sep in text or "/" in text or (text not in ("", ".") and "\0" not in text and os.path.exists(text))


def _check_hides_nothing(monitor: Monitor) -> None:
    """Check that ``set_attr`` has not set an attribute on the outermost wrapper, where the environment ignores it."""
    usual = vars(Monitor(gym.Env()))
    for name in vars(monitor).keys() - usual.keys():
        try:
            value = monitor.env.get_wrapper_attr(name)
        except AttributeError:
            continue
        raise CannotCopyError(
            f"{name!r} was set on the Monitor around the model's environment, and training goes on with {value!r}, "
            "which the environment itself has (set_attr sets the outermost wrapper; "
            f"venv.envs[i].unwrapped.{name} = ... sets the environment)"
        )


def _check_globals(function: types.FunctionType) -> None:
    """Check that a function uses no global environment: in a copy it would use that of the training."""
    names, codes = set[str](), [function.__code__]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    for name in sorted(names):
        if isinstance(function.__globals__.get(name), gym.Env | VecEnv | BaseAlgorithm):
            raise CannotCopyError(
                f"the function {function.__qualname__} in the model's environment uses the global variable {name!r}, "
                "which belongs to the training"
            )


# The parts of a copy: each is made blank first, then filled, because they refer to one another.


def _blank(original: gym.Env) -> gym.Env:
    """Make an object of the same class, without attributes but for those that only its constructor can make."""
    kind = type(original)
    if isinstance(original, EzPickle) and not isinstance(original, gym.Wrapper):
        # Its author says that the constructor's arguments make it anew.
        args = [None if value == "human" else value for value in original._ezpickle_args]
        kwargs = {key: None if value == "human" else value for key, value in original._ezpickle_kwargs.items()}
        try:
            blank: gym.Env = kind(*args, **kwargs)
        except Exception as error:
            raise CannotCopyError(
                f"{kind.__name__} cannot be made from its constructor's arguments ({error})"
            ) from error
        return blank
    methods = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__del__")
    overrides = any(getattr(kind, method, None) is not getattr(object, method, None) for method in methods)
    if overrides or any(vars(base).get("__slots__") for base in kind.__mro__):
        raise CannotCopyError(
            f"{kind.__name__} defines how it is copied or deleted (__deepcopy__, __del__, ...), or has __slots__"
        )
    return object.__new__(kind)


def _fill(original: gym.Env, blank: gym.Env, memo: dict[int, Any]) -> None:
    constructed = bool(vars(blank))
    target = vars(blank)
    for name, value in vars(original).items():
        if name == "_cached_spec":
            target[name] = None
        elif name in SPEC_ATTRIBUTES:
            target[name] = value
        elif is_drawn(value):
            target.setdefault(name, None)  # as before the first picture
        elif not (constructed and name in target and same(value, target[name])):
            try:
                copied = _deepcopy(value, memo, f"{name!r} of {type(original).__name__}")
                if not same(value, copied):  # some classes leave out a part of themselves
                    raise CannotCopyError(f"{name!r} of {type(original).__name__} is not the same in a copy")
                target[name] = copied
            except CannotCopyError:
                if not constructed:
                    raise
                # The constructor has made it, for example a physics engine in C++.


def _blank_function(function: types.FunctionType) -> types.FunctionType:
    """Make the same function, without the variables that it has captured."""
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    blank = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    blank.__module__, blank.__qualname__ = function.__module__, function.__qualname__
    return blank


def _fill_function(original: types.FunctionType, blank: types.FunctionType, memo: dict[int, Any]) -> None:
    name = f"a variable of the function {original.__qualname__}"
    for cell, blank_cell in zip(original.__closure__ or (), blank.__closure__ or (), strict=True):
        if is_filled(cell):
            blank_cell.cell_contents = _deepcopy(cell.cell_contents, memo, name)
    blank.__defaults__ = _deepcopy(original.__defaults__, memo, name)
    blank.__kwdefaults__ = _deepcopy(original.__kwdefaults__, memo, name)
    blank.__dict__.update(_deepcopy(vars(original), memo, name))


def _deepcopy(value: Any, memo: dict[int, Any], name: str) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception as error:  # an object can raise anything
        raise CannotCopyError(f"{name} in the model's environment cannot be copied ({error})") from error


def _other_generator(generator: Any, number: int) -> Any:
    """Make a generator of the same kind, whose numbers follow from the state of the original and a number."""
    if isinstance(generator, random.Random):
        state: Any = generator.getstate()
    elif isinstance(generator, np.random.RandomState):
        state = _as_lists(generator.get_state(legacy=False))
    else:
        state = _as_lists(generator.bit_generator.state)
    seed = int.from_bytes(hashlib.sha256(f"{number} {state!r}".encode()).digest()[:16], "little")
    if isinstance(generator, random.Random):
        return random.Random(seed)
    if isinstance(generator, np.random.RandomState):
        return np.random.RandomState(seed % 2**32)
    try:
        return np.random.Generator(type(generator.bit_generator)(seed))
    except TypeError as error:
        raise CannotCopyError(f"the generator {generator} of the model's environment cannot be seeded") from error


def _as_lists(value: Any) -> Any:
    """Replace arrays by lists, because the text of a long array leaves out its middle."""
    if isinstance(value, dict):
        return {key: _as_lists(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


# Running statistics


def _with_constant_statistics(env: gym.Env) -> gym.Env:
    counter = None
    for wrapper in chain_of(env):
        if isinstance(wrapper, NormalizeObservation | NormalizeReward):
            wrapper.update_running_mean = False
        if isinstance(wrapper, NormalizeReward):
            # It stays in the chain, because wrappers around it may depend on its rewards.
            counter = wrapper.env = _RewardCounter(wrapper.env)
    return env if counter is None else _RawReward(env, counter)


class _RewardCounter(gym.Wrapper):
    """Sums up rewards below the wrapper that normalises them."""

    total = 0.0

    def step(self, action: Any) -> Any:
        outcome = self.env.step(action)
        self.total += float(outcome[1])
        return outcome


class _RawReward(gym.Wrapper):
    """Returns the rewards that a counter has seen in the step, in place of the normalised ones."""

    def __init__(self, env: gym.Env, counter: _RewardCounter) -> None:
        super().__init__(env)
        self.counter = counter

    def step(self, action: Any) -> Any:
        self.counter.total = 0.0
        obs, _, terminated, truncated, info = self.env.step(action)
        return obs, self.counter.total, terminated, truncated, info
