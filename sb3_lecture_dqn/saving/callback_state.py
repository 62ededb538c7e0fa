"""The state of callbacks as data: what is in it beyond the arguments that they were made with."""

import contextlib
import inspect
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.common.seeding import generator_state, new_generator, set_generator_state
from sb3_lecture_dqn.saving.codec import describe
from sb3_lecture_dqn.saving.env_state import generators_state, set_generators_state
from sb3_lecture_dqn.saving.words import current_word, word_of_callback

# Every callback has these, also one that only shows something.
_COUNTERS = {"n_calls", "num_timesteps"}


_ENVS = "generators of environments"


_GENERATORS = "generators of its own"


_NOT_OWN = {"model", "logger", "locals", "globals", "parent", "verbose"}


def callback_data(callback: BaseCallback, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    The state of a callback and all that it calls.

    One that has ``get_state`` and ``set_state`` says itself what it is; of others it is all attributes that are
    numbers, ``None``, or arrays, tensors on the CPU, lists, tuples, deques and dictionaries of these; generators of
    ``numpy.random.default_rng``; and the generators of environments that they test on.

    :param callback: The callback
    :param before: What :func:`callback_numbers` returned when training had begun
    :return: For each of :func:`callback_tree`, its class, its state as JSON, and names of what of that is ``unchanged``
        since training began: arguments, most often
    """
    now = callback_numbers(callback)
    data = []
    for i, (one, numbers) in enumerate(zip(callback_tree(callback), now, strict=True)):
        if _says_itself(one):
            state = {"n_calls": one.n_calls, "own": describe(_packed(one.get_state()), {})}  # type: ignore[attr-defined]
            unchanged = []
        else:
            state, unchanged = numbers, _same(numbers, before[i]) if len(before) == len(now) else []
        data.append({"class": word_of_callback(type(one)), "state": state, "unchanged": unchanged})
    return data


def callback_numbers(callback: BaseCallback) -> list[dict[str, Any]]:
    """
    What is the state of callbacks that do not say themselves what theirs is, see :func:`callback_data`.

    :param callback: The callback
    :return: For each of :func:`callback_tree`, descriptions by name
    """
    return [{} if _says_itself(one) else _numbers_of(one) for one in callback_tree(callback)]


def _same(numbers: dict[str, Any], others: dict[str, Any]) -> list[str]:
    return [name for name, value in numbers.items() if name in others and others[name] == value]


def _says_itself(callback: BaseCallback) -> bool:
    return hasattr(callback, "get_state") and hasattr(callback, "set_state")


def _numbers_of(callback: BaseCallback) -> dict[str, Any]:
    data = {name: value for name, value in vars(callback).items() if name not in _NOT_OWN}
    described = {name: describe(_packed(value), {}) for name, value in data.items()}
    numbers = {name: value for name, value in described.items() if _is_numbers(value)}
    envs = {name: describe(generators_state(env), {}) for name, env in data.items() if isinstance(env, VecEnv)}
    states = {name: generator_state(value) for name, value in data.items() if isinstance(value, np.random.Generator)}
    own = {name: describe(state, {}) for name, state in states.items() if state is not None}
    return {**numbers, **({_ENVS: envs} if envs else {}), **({_GENERATORS: own} if own else {})}


# A list to which every step adds a number is packed into an array: as JSON it would soon be more than is read. Tensors,
# and dictionaries whose keys are no text, are packed as a description has no word for them.
_LONG = 100


_NUMBERS, _SCALARS, _TENSOR, _ITEMS = "numbers of a list", "NumPy's numbers of a list", "a tensor", "keys and values"


_UNPACK: dict[str, Callable[[Any], Any]] = {
    _NUMBERS: np.ndarray.tolist,
    _SCALARS: list,
    _TENSOR: th.from_numpy,
    _ITEMS: lambda pair: dict(zip(*map(_unpacked, pair), strict=True)),
}


_ARRAY_KINDS = {bool: "b", int: "iu", float: "f"}  # of arrays that hold such numbers as they are


def _packed(value: Any) -> Any:
    """A value as :func:`describe` knows it, in few entries."""
    kind = type(value)
    if kind is list and len(value) >= _LONG and len(kinds := set(map(type, value))) == 1:
        (item_kind,) = kinds
        if item_kind in _ARRAY_KINDS and (array := np.array(value)).dtype.kind in _ARRAY_KINDS[item_kind]:
            return {_NUMBERS: array}
        if issubclass(item_kind, np.number | np.bool_):
            return {_SCALARS: np.array(value)}
    if kind is th.Tensor:
        with contextlib.suppress(TypeError, RuntimeError):  # on another device, with gradients, of numbers of its own
            return {_TENSOR: value.numpy()}
    if kind is dict and not all(type(key) is str for key in value):
        return {_ITEMS: [_packed(list(value)), _packed(list(value.values()))]}
    return _each(_packed, value)


def _unpacked(value: Any) -> Any:
    """The inverse of :func:`_packed`."""
    if type(value) is dict and len(value) == 1:
        ((key, content),) = value.items()
        if key in _UNPACK:
            return _UNPACK[key](content)
    return _each(_unpacked, value)


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {key: function(item) for key, item in value.items()}
    if kind in (list, tuple):
        return kind(map(function, value))
    return deque(map(function, value), value.maxlen) if kind is deque else value


def _is_numbers(described: Any) -> bool:
    """Whether a description is one of numbers: text might name files."""
    if isinstance(described, dict):
        if "$" in described:
            return described["$"] in ("float", "array", "scalar") or (
                described["$"] in ("tuple", "deque") and _is_numbers(described["items"])
            )
        return all(map(_is_numbers, described.values()))
    if isinstance(described, list):
        return all(map(_is_numbers, described))
    return not isinstance(described, str)


def set_callback_data(callback: BaseCallback, data: list[dict[str, Any]], made: list[dict[str, Any]]) -> None:
    """
    Give a callback and all that it calls the states of others, those of the same class in their order.

    What had not changed in the others, and is in this one as it was made, is an argument, and stays.

    :param callback: The callback, when training has begun
    :param data: What :func:`callback_data` returned, restored
    :param made: What :func:`callback_numbers` returned before training began
    :raises UnsafeFileError: If a state is none of such a callback
    """
    begun = callback_numbers(callback)
    as_made = made if len(made) == len(begun) else [{} for _ in begun]
    left = list(data)
    for one, was, now in zip(list(callback_tree(callback)), as_made, begun, strict=True):
        name = word_of_callback(type(one))
        match = next((entry for entry in left if current_word(entry["class"]) == name), None)
        if match is None:
            continue  # one that begins now
        left.remove(match)
        arguments = set(match["unchanged"]).intersection(_same(now, was))
        _set_data(one, {name: value for name, value in match["state"].items() if name not in arguments})
    if names := [entry["class"] for entry in left if _says_something(entry)]:
        warnings.warn(
            f"the callbacks {shown(', '.join(names), 1000)} of the run are not given now; their states are left out"
        )


def _says_something(entry: dict[str, Any]) -> bool:
    state = entry["state"]
    return bool(state["own"]) if "own" in state else not state.keys() <= _COUNTERS.union(entry["unchanged"])


def _set_data(callback: Any, state: dict[str, Any]) -> None:
    if "own" in state and _says_itself(callback):
        callback.n_calls = int(state.get("n_calls", callback.n_calls))
        callback.set_state(_unpacked(state["own"]))
        return
    for name, generators in state.pop(_ENVS, {}).items():
        if not isinstance(env := vars(callback).get(name), VecEnv):
            raise UnsafeFileError(f"{name!r} is no environment of {word_of_callback(type(callback))}")
        set_generators_state(env, generators)
    for name, generator in state.pop(_GENERATORS, {}).items():
        own = _attribute(callback, name)
        if own is None:  # made at a step that has not come yet
            own = new_generator(generator)
            setattr(callback, name, own)
        try:
            set_generator_state(own, generator)
        except ValueError as error:
            raise UnsafeFileError(f"{name!r} is no generator of {word_of_callback(type(callback))}: {error}") from error
    for name, value in state.items():
        own = _attribute(callback, name)
        # What is no number, such as a list of callbacks or a method, stays what it is.
        if not _is_numbers(describe([_packed(own), value], {})):
            if value is None:  # which is no number either: a file that is closed at the end of training
                continue
            raise UnsafeFileError(f"{name!r} is no state of {word_of_callback(type(callback))}")
        value = _unpacked(value)
        if isinstance(own, th.Tensor) and isinstance(value, th.Tensor) and own.shape == value.shape:
            own.copy_(value)  # it may be one of the model's
        else:
            setattr(callback, name, value)


def _attribute(callback: Any, name: str) -> Any:
    """What there is under a name, found without running anything; ``None`` if there is nothing."""
    if name in _NOT_OWN:
        raise UnsafeFileError(f"{name!r} is no state of {word_of_callback(type(callback))}")
    return inspect.getattr_static(callback, name, None)
