"""Copies of gymnasium environments as they are now, without what writes or shows, with statistics that stand still."""

import copy
import functools
import hashlib
import logging
import os
import pathlib
import random
import time
import types
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
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
from sb3_contrib.common.maskable.utils import EXPECTED_METHOD_NAME, is_masking_supported
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_dqn.common.wrappers import ResumableEnv

#: What writes files, keeps records or shows, and changes neither observations nor rewards
LEFT_OUT = (RecordVideo, RecordEpisodeStatistics, HumanRendering, RenderCollection, Monitor, ResumableEnv)
# Of these packages it is known which wrappers write: those above.
_KNOWN_PACKAGES = {"gymnasium", "stable_baselines3", "sb3_contrib", "rl_zoo3", "sb3_lecture_dqn"}
_TRANSFORMS = (gym.ObservationWrapper, gym.RewardWrapper, gym.ActionWrapper, RecordConstructorArgs)
_PROBE_STEPS = 8


class CannotCopyError(ValueError):
    """An environment like the model's own cannot be made; the message says why, and by which argument to give one."""

    def __init__(self, why: str, argument: str = "env") -> None:
        super().__init__(f"{argument}=None: {why}; give a test environment, {argument}=...")
        self.why = why


def chain_of(env: gym.Env) -> Iterator[gym.Env]:
    """
    Go through an environment and all that it wraps.

    :param env: The environment
    :return: Itself first, the unwrapped one last
    """
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env
    yield env


def _is_foreign(wrapper: gym.Env) -> bool:
    return type(wrapper).__module__.split(".")[0] not in _KNOWN_PACKAGES


def copiers(envs: Sequence[gym.Env], n: int, max_episode_steps: int | None) -> list[Callable[[], gym.Env]]:
    """
    Prepare copies of environments that are one task.

    :param envs: The environments, which stay as they are
    :param n: Number of copies
    :param max_episode_steps: Step limit of the copies, ``None`` for those that the environments have
    :return: What makes a copy, to be reset. In it the statistics of ``NormalizeObservation`` and ``NormalizeReward``
        stand still, rewards are not normalised, nothing is shown, and wrappers of :data:`LEFT_OUT` are left out
    :raises CannotCopyError: If they cannot be copied, or are not one task
    """
    originals = [Original(env) for env in envs]
    if len(originals) > 1 or any(_is_foreign(wrapper) for wrapper in originals[0].kept[:-1]):
        check_alike(originals)
    return [functools.partial(originals[0].copied, number, max_episode_steps) for number in range(n)]


def check_made_alike(make: Callable[[], gym.Env]) -> None:
    """
    Check that what is made by an id is the same every time.

    :param make: Makes an environment
    :raises CannotCopyError: If two of them differ, as where a map is drawn at random
    """
    first, second = make(), make()
    try:
        for one, other in zip(chain_of(first), chain_of(second), strict=True):
            if differing := [name for name in _differences(one, other) if not _is_time(vars(one).get(name))]:
                raise CannotCopyError(
                    f"{type(one).__name__} is made with another {', '.join(differing)} every time, so a new one is not "
                    "that of the training"
                )
    finally:
        first.close()
        second.close()


def _is_time(value: Any) -> bool:
    return isinstance(value, float) and min(abs(value - time.time()), abs(value - time.perf_counter())) < 60


@dataclass
class Original:
    """
    A sub-environment of the training, and what there is in it that needs care in a copy.

    :param env: The sub-environment
    """

    env: gym.Env
    kept: list[gym.Env] = field(init=False)  # the outermost first
    functions: list[types.FunctionType] = field(default_factory=list)
    generators: list[Any] = field(default_factory=list)
    shared: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        whole = list(chain_of(self.env))
        self.kept = [one for one in whole if not isinstance(one, LEFT_OUT)]
        if self.kept[-1].spec is None:
            raise CannotCopyError(
                f"the model's environment, a {type(self.kept[-1]).__name__}, has no gymnasium spec (gymnasium.register "
                "and gymnasium.make give it one), so it is not known whether several of it can be beside one another"
            )
        for wrapper in self.kept[:-1]:
            if _is_foreign(wrapper):
                _check_foreign(wrapper)
        for wrapper in whole:
            if type(wrapper) is Monitor:
                _check_hides_nothing(wrapper)
        self._look_through(whole)

    def _look_through(self, whole: list[gym.Env]) -> None:
        """Find functions, generators of random numbers, and what copies share."""
        seen = {id(one) for one in whole}
        left: list[Any] = [value for one in self.kept for value in _attributes(one).values()]
        while left:
            value = left.pop()
            if isinstance(value, _ATOMS) or id(value) in seen:
                continue
            seen.add(id(value))
            if isinstance(value, types.ModuleType | EnvSpec | type):
                self.shared.append(value)
            elif isinstance(value, np.random.Generator | np.random.RandomState | random.Random):
                self.generators.append(value)
            elif isinstance(value, types.FunctionType):
                _check_globals(value)
                cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
                defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
                if cells or not all(isinstance(default, _ATOMS) for default in defaults):
                    self.functions.append(value)
                left += [*cells, *defaults]
            elif isinstance(value, types.MethodType):
                left += [value.__self__, value.__func__]
            elif isinstance(value, functools.partial):
                left += [value.func, *value.args, *value.keywords.values()]
            elif isinstance(value, dict):
                left += [*value.keys(), *value.values()]
            elif isinstance(value, list | tuple | set | frozenset | deque):
                left += value
            elif hasattr(value, "__dict__"):
                left += vars(value).values()

    def copied(self, number: int, max_episode_steps: int | None = None) -> gym.Env:
        """
        Make a copy.

        :param number: Of several copies, each has random numbers of its own
        :param max_episode_steps: In place of the step limits there are
        :return: The copy, to be reset
        """
        memo: dict[int, Any] = {id(one): one for one in self.shared}
        memo |= {id(generator): _other_numbers(generator, number) for generator in self.generators}
        copies: list[tuple[gym.Env, gym.Env]] = []
        for one in reversed(list(chain_of(self.env))):
            left_out = isinstance(one, LEFT_OUT) or (max_episode_steps is not None and isinstance(one, TimeLimit))
            if not left_out:
                copies.append((one, _blank(one)))
            memo[id(one)] = copies[-1][1]
        # Functions first, as `copy` takes them for what cannot change; then what they have captured.
        for function in self.functions:
            memo[id(function)] = _blank_function(function)
        for function in self.functions:
            _fill_function(function, memo[id(function)], memo)
        for original, made in copies:
            _fill(original, made, memo)
        env = copies[-1][1]
        unwrapped: Any = env.unwrapped
        unwrapped._np_random = unwrapped._np_random_seed = None  # as of a new one, until it is seeded
        if getattr(unwrapped, "render_mode", None) == "human":
            unwrapped.render_mode = None
        env = _with_statistics_frozen(env)
        return env if max_episode_steps is None else TimeLimit(env, max_episode_steps)


_ATOMS = (str, bytes, int, float, complex, bool, type(None), np.ndarray, np.generic, types.BuiltinFunctionType)


def _attributes(env: gym.Env) -> dict[str, Any]:
    """The attributes of an environment or wrapper that are copied."""
    return {name: value for name, value in vars(env).items() if name not in _OF_SPECS}


# How it was made, which `spec` tells of
_OF_SPECS = ("_saved_kwargs", "_cached_spec", "_ezpickle_args", "_ezpickle_kwargs", "spec")


def _is_filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # of a variable that has no value yet
        return False


def _blank_function(function: types.FunctionType) -> types.FunctionType:
    """The same function, without what it has captured."""
    cells = tuple(types.CellType() for _ in function.__closure__ or ())
    made = types.FunctionType(function.__code__, function.__globals__, function.__name__, None, cells)
    made.__module__, made.__qualname__ = function.__module__, function.__qualname__
    return made


def _fill_function(original: types.FunctionType, made: types.FunctionType, memo: dict[int, Any]) -> None:
    what = f"a variable of the function {original.__qualname__}"
    for theirs, own in zip(original.__closure__ or (), made.__closure__ or (), strict=True):
        if _is_filled(theirs):
            own.cell_contents = _deep(theirs.cell_contents, memo, what)
    made.__defaults__ = _deep(original.__defaults__, memo, what)
    made.__kwdefaults__ = _deep(original.__kwdefaults__, memo, what)
    made.__dict__.update(_deep(vars(original), memo, what))


def _check_globals(function: types.FunctionType) -> None:
    """A function that uses a global environment would use that of the training."""
    names, codes = set[str](), [function.__code__]
    while codes:
        code = codes.pop()
        names.update(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    for name in sorted(names):
        if isinstance(function.__globals__.get(name), gym.Env | VecEnv | BaseAlgorithm):
            raise CannotCopyError(
                f"the function {function.__qualname__} in the model's environment uses the global variable {name!r}, "
                "which is not of the test"
            )


def _check_foreign(wrapper: gym.Env) -> None:
    name = type(wrapper).__name__
    if not isinstance(wrapper, _TRANSFORMS):
        raise CannotCopyError(
            f"it is not known what {name} around the model's environment does besides (an ObservationWrapper, "
            "RewardWrapper, ActionWrapper or one with gymnasium's RecordConstructorArgs is copied)"
        )
    for attribute, value in {**getattr(wrapper, "_saved_kwargs", {}), **_attributes(wrapper)}.items():
        if isinstance(value, pathlib.PurePath | logging.Logger) or (isinstance(value, str) and _is_path(value)):
            raise CannotCopyError(f"{name} around the model's environment may write: its {attribute} is {value!r}")


def _check_hides_nothing(monitor: Monitor) -> None:
    """``set_attr`` sets attributes of the outermost wrapper, where the environment does not see them."""
    usual = vars(Monitor(gym.Env()))
    for name in vars(monitor).keys() - usual.keys():
        try:
            hidden = monitor.env.get_wrapper_attr(name)
        except AttributeError:
            continue
        raise CannotCopyError(
            f"{name!r} was set on the Monitor around the model's environment, and training goes on with {hidden!r}, "
            "which the environment itself has (set_attr sets the outermost wrapper; "
            f"venv.envs[i].unwrapped.{name} = ... sets the environment)"
        )


def _is_path(text: str) -> bool:
    return os.sep in text or "/" in text or (text not in ("", ".") and "\0" not in text and os.path.exists(text))


def _blank(original: gym.Env) -> gym.Env:
    """What is to be a copy, without attributes but for those that its class can make only itself."""
    kind = type(original)
    if isinstance(original, EzPickle) and not isinstance(original, gym.Wrapper):
        # What its constructor's arguments make of it, says its author.
        args = [None if value == "human" else value for value in original._ezpickle_args]
        kwargs = {key: None if value == "human" else value for key, value in original._ezpickle_kwargs.items()}
        try:
            made: gym.Env = kind(*args, **kwargs)
        except Exception as error:
            raise CannotCopyError(
                f"{kind.__name__} cannot be made from its constructor's arguments ({error})"
            ) from error
        return made
    methods = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__del__")
    if any(_overrides(kind, method) for method in methods) or any(vars(base).get("__slots__") for base in kind.__mro__):
        raise CannotCopyError(
            f"{kind.__name__} has a way of its own to be copied or given up (__deepcopy__, __del__, ...)"
        )
    return object.__new__(kind)


def _overrides(kind: type, method: str) -> bool:
    return getattr(kind, method, None) is not getattr(object, method, None)


def _fill(original: gym.Env, made: gym.Env, memo: dict[int, Any]) -> None:
    remade = bool(vars(made))
    for name, value in vars(original).items():
        if name == "_cached_spec":
            vars(made)[name] = None
        elif name in _OF_SPECS:
            vars(made)[name] = value
        elif _is_drawn(value):
            vars(made).setdefault(name, None)  # as before the first picture
        elif not (remade and name in vars(made) and same(value, vars(made)[name])):
            try:
                copied = _deep(value, memo, f"{name!r} of {type(original).__name__}")
                if not same(value, copied):  # some classes leave a part of them out
                    raise CannotCopyError(f"{name!r} of {type(original).__name__} is not the same in a copy")
                vars(made)[name] = copied
            except CannotCopyError:
                if not remade:
                    raise
                # Else it keeps its own, as of a physics engine in C++.


def _is_drawn(value: Any) -> bool:
    """Whether it is a window, a clock or pictures of pygame, which are made when they are needed."""
    parts = value if isinstance(value, list | tuple) else value.values() if isinstance(value, dict) else [value]
    return any(type(part).__module__.split(".")[0] == "pygame" for part in parts)


def _deep(value: Any, memo: dict[int, Any], what: str) -> Any:
    try:
        return copy.deepcopy(value, memo)
    except Exception as error:  # it may be any, of any object
        raise CannotCopyError(f"{what} in the model's environment cannot be copied ({error})") from error


def _other_numbers(generator: Any, number: int) -> Any:
    """A generator of the same kind that draws others, the same ones for the same state."""
    state = generator.getstate() if isinstance(generator, random.Random) else _state_of(generator)
    seed = int.from_bytes(hashlib.sha256(f"{number} {state!r}".encode()).digest()[:16], "little")
    if isinstance(generator, random.Random):
        return random.Random(seed)
    if isinstance(generator, np.random.RandomState):
        return np.random.RandomState(seed % 2**32)
    try:
        return np.random.Generator(type(generator.bit_generator)(seed))
    except TypeError as error:
        raise CannotCopyError(f"the generator {generator} of the model's environment cannot be seeded") from error


def _state_of(generator: Any) -> Any:
    state = (
        generator.get_state(legacy=False)
        if isinstance(generator, np.random.RandomState)
        else generator.bit_generator.state
    )
    # The words of some kinds are an array, whose text leaves most of them out.
    return {key: _listed(value) for key, value in state.items()}


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


class _RewardCounter(gym.Wrapper):
    """Adds up rewards where they are still those of the environment."""

    total = 0.0

    def step(self, action: Any) -> Any:
        outcome = self.env.step(action)
        self.total += float(outcome[1])
        return outcome


class _RawReward(gym.Wrapper):
    """Gives the rewards that a counter below has seen in the step, in place of normalised ones."""

    def __init__(self, env: gym.Env, counter: _RewardCounter) -> None:
        super().__init__(env)
        self.counter = counter

    def step(self, action: Any) -> Any:
        self.counter.total = 0.0
        obs, _, terminated, truncated, info = self.env.step(action)
        return obs, self.counter.total, terminated, truncated, info


def _with_statistics_frozen(env: gym.Env) -> gym.Env:
    counter = None
    for wrapper in chain_of(env):
        if isinstance(wrapper, NormalizeObservation | NormalizeReward):
            _freeze(wrapper)
        if isinstance(wrapper, NormalizeReward):
            # It stays, as what is around it may depend on its rewards.
            counter = wrapper.env = _RewardCounter(wrapper.env)
    return env if counter is None else _RawReward(env, counter)


def _freeze(wrapper: Any) -> None:
    if hasattr(wrapper, "update_running_mean"):
        wrapper.update_running_mean = False
    else:  # gymnasium < 1.0
        statistics = wrapper.obs_rms if isinstance(wrapper, NormalizeObservation) else wrapper.return_rms
        vars(statistics)["update"] = lambda _: None


# Comparing environments


def check_alike(originals: list[Original]) -> None:
    """
    Check that sub-environments are the same task, and that wrappers of the user's begin every episode alike.

    What an episode changes tells of neither: so copies are compared, one that was reset with one that has been through
    a few steps of another episode before.
    """
    fresh = [_after_reset(original.copied(0)) for original in originals]
    used = [_after_reset(_after_steps(_after_reset(original.copied(0)))) for original in originals]
    chains = [list(zip(chain_of(one), chain_of(other), strict=True)) for one, other in zip(fresh, used, strict=True)]
    for one, other in chains[0]:
        changed = _differences(one, other) if isinstance(one, gym.Wrapper) and _is_foreign(one) else []
        if changed:
            raise CannotCopyError(
                f"{type(one).__name__} around the model's environment keeps {', '.join(changed)} from one episode to "
                "the next, which a test would go on with"
            )
    for i, chain in enumerate(chains[1:], start=1):
        if [type(one) for one, _ in chain] != [type(one) for one, _ in chains[0]]:
            raise CannotCopyError(f"sub-environments 0 and {i} of the model's environment are wrapped differently")
        for (first, first_used), (one, one_used) in zip(chains[0], chain, strict=True):
            moving = {*_differences(first, first_used), *_differences(one, one_used)}
            if differing := [name for name in _differences(first, one) if name not in moving]:
                raise CannotCopyError(
                    f"sub-environments 0 and {i} of the model's environment differ in {', '.join(differing)} of "
                    f"{type(one).__name__}"
                )


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
        except Exception:  # as of an action that is not valid here
            break
        if terminated or truncated:
            break
    return env


def _differences(one: gym.Env, other: gym.Env) -> list[str]:
    """Names of attributes in which two environments or wrappers of one kind differ."""
    ours, theirs = _attributes(one), _attributes(other)
    names = {**ours, **theirs}
    return [n for n in names if n != "env" and (n not in ours or n not in theirs or not same(ours[n], theirs[n]))]


def same(one: Any, other: Any, _seen: set[tuple[int, int]] | None = None) -> bool:
    """
    Whether two values are equal, as far as can be told.

    :param one: Anything: numbers, arrays, containers, functions, objects with attributes
    :param other: Anything
    :return: ``False`` if they differ. Generators of random numbers, and objects that say nothing of what they hold,
        count as equal if they are of one type
    """
    seen = set() if _seen is None else _seen
    if one is other or (id(one), id(other)) in seen:
        return True
    seen.add((id(one), id(other)))
    if isinstance(one, np.ndarray | np.generic | int | float) and isinstance(
        other, np.ndarray | np.generic | int | float
    ):
        ours, theirs = np.asarray(one), np.asarray(other)
        return ours.dtype.kind == theirs.dtype.kind and _equal_arrays(ours, theirs)
    if isinstance(one, gym.Env) and isinstance(other, gym.Env):  # they are compared on their own
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], seen) for key in one)
    if isinstance(one, list | tuple | deque):
        return len(one) == len(other) and all(same(a, b, seen) for a, b in zip(one, other, strict=True))
    if isinstance(one, np.random.Generator | np.random.RandomState | random.Random):
        return True
    if isinstance(one, types.FunctionType):
        captured = [[c.cell_contents for c in f.__closure__ or () if _is_filled(c)] for f in (one, other)]
        return one.__code__ == other.__code__ and same(captured[0], captured[1], seen)
    if isinstance(one, types.MethodType):
        return one.__func__ is other.__func__
    if isinstance(one, spaces.Space):
        return bool(one == other)
    if isinstance(one, th.Tensor):
        return same(one.detach().cpu().numpy(), other.detach().cpu().numpy())
    if isinstance(one, set | frozenset):
        return len(one) == len(other) and (one == other or not all(isinstance(item, _ATOMS) for item in one))
    if hasattr(one, "__dict__"):
        return same(vars(one), vars(other), seen)
    by_identity: Any = object.__eq__
    return type(one).__eq__ is by_identity or bool(one == other)


def _equal_arrays(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind in "fc")
