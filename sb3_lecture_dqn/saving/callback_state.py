"""The state of callbacks as data: what is in it beyond the arguments that they were made with."""

import inspect
import warnings
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.common.seeding import generator_state, new_generator, set_generator_state
from sb3_lecture_dqn.saving.codec import encoded
from sb3_lecture_dqn.saving.env_state import generators_state, set_generators_state
from sb3_lecture_dqn.saving.words import word_of_callback

# Every callback has these, also a callback that only shows something.
_COUNTERS = {"n_calls", "num_timesteps"}
# Entries of a state besides attributes
_ENVS, _GENERATORS = "generators of environments", "generators of its own"
# Attributes that are no state
_NOT_STATE = {"model", "logger", "locals", "globals", "parent", "verbose"}

#: For each callback of :func:`callback_tree`, its attributes that are numbers, by name
Numbers = list[dict[str, Any]]


def callback_data(callback: BaseCallback, before: Numbers) -> list[dict[str, Any]]:
    """
    Capture the state of a callback and of all that it calls.

    Callbacks with ``get_state`` and ``set_state`` are saved by those. For others, these attributes are saved: numbers,
    ``None``, and arrays, tensors on the CPU, lists, tuples, deques and dictionaries of these; generators of
    ``numpy.random.default_rng``; and the generators of environments that they test on.

    :param callback: The callback
    :param before: What :func:`callback_numbers` returned when training had begun
    :return: For each of :func:`callback_tree`, its class, its state, encoded, and the names of attributes that are
        ``unchanged`` since training began: constructor arguments, most often
    """
    now = callback_numbers(callback)
    data = []
    for i, (part, numbers) in enumerate(zip(callback_tree(callback), now, strict=True)):
        if _has_own_state(part):
            state = {"n_calls": part.n_calls, "own": encoded(part.get_state())}  # type: ignore[attr-defined]
            unchanged = []
        else:
            state, unchanged = numbers, _unchanged(numbers, before[i]) if len(before) == len(now) else []
        data.append({"class": word_of_callback(type(part)), "state": state, "unchanged": unchanged})
    return data


def callback_numbers(callback: BaseCallback) -> Numbers:
    """
    Capture the attributes of callbacks without ``get_state`` and ``set_state``, see :func:`callback_data`.

    :param callback: The callback
    :return: For each of :func:`callback_tree`, encoded attributes by name
    """
    return [{} if _has_own_state(part) else _numbers_of(part) for part in callback_tree(callback)]


def _unchanged(numbers: dict[str, Any], others: dict[str, Any]) -> list[str]:
    return [name for name, value in numbers.items() if name in others and others[name] == value]


def _has_own_state(callback: BaseCallback) -> bool:
    return hasattr(callback, "get_state") and hasattr(callback, "set_state")


def _numbers_of(callback: BaseCallback) -> dict[str, Any]:
    attributes = {name: value for name, value in vars(callback).items() if name not in _NOT_STATE}
    numbers: dict[str, Any] = {name: encoded(value) for name, value in attributes.items()}
    numbers = {name: value for name, value in numbers.items() if _is_numbers(value.description)}
    envs = {name: encoded(generators_state(env)) for name, env in attributes.items() if isinstance(env, VecEnv)}
    states = {name: generator_state(it) for name, it in attributes.items() if isinstance(it, np.random.Generator)}
    generators = {name: encoded(state) for name, state in states.items() if state is not None}
    return {**numbers, **({_ENVS: envs} if envs else {}), **({_GENERATORS: generators} if generators else {})}


def _is_numbers(described: Any) -> bool:
    """Whether a description is one of numbers: text might name files."""
    if isinstance(described, dict):
        tag = described.get("$")
        if tag is None:
            return all(map(_is_numbers, described.values()))
        if tag in ("tuple", "deque"):
            return _is_numbers(described["items"])
        if tag == "dict":
            return _is_numbers(described["keys"]) and _is_numbers(described["values"])
        return tag in ("float", "array", "scalar", "tensor", "numbers", "scalars")
    if isinstance(described, list):
        return all(map(_is_numbers, described))
    return not isinstance(described, str)


def set_callback_data(callback: BaseCallback, data: list[dict[str, Any]], made: Numbers) -> None:
    """
    Give a callback and all that it calls the states of others, those of the same class in their order.

    Attributes that did not change during the stopped run, and were not changed by the user since, count as constructor
    arguments and are not restored.

    :param callback: The callback, when training has begun
    :param data: What :func:`callback_data` returned, decoded
    :param made: What :func:`callback_numbers` returned before training began
    :raises UnsafeFileError: If a state is none of such a callback
    """
    begun = callback_numbers(callback)
    as_made = made if len(made) == len(begun) else [{} for _ in begun]
    left = list(data)
    for part, at_making, at_beginning in zip(list(callback_tree(callback)), as_made, begun, strict=True):
        name = word_of_callback(type(part))
        match = next((entry for entry in left if entry["class"] == name), None)
        if match is None:
            continue  # it begins now
        left.remove(match)
        arguments = set(match["unchanged"]).intersection(_unchanged(at_beginning, at_making))
        _set_data(part, {name: value for name, value in match["state"].items() if name not in arguments})
    if names := [entry["class"] for entry in left if _has_changed(entry)]:
        warnings.warn(
            f"the callbacks {shown(', '.join(names), 1000)} of the run are not given now; their states are left out"
        )


def _has_changed(entry: dict[str, Any]) -> bool:
    state = entry["state"]
    return bool(state["own"]) if "own" in state else not state.keys() <= _COUNTERS.union(entry["unchanged"])


def _set_data(callback: Any, state: dict[str, Any]) -> None:
    if "own" in state and _has_own_state(callback):
        callback.n_calls = int(state.get("n_calls", callback.n_calls))
        callback.set_state(state["own"])
        return
    for name, generators in state.pop(_ENVS, {}).items():
        if not isinstance(env := vars(callback).get(name), VecEnv):
            raise UnsafeFileError(f"{name!r} is no environment of {word_of_callback(type(callback))}")
        set_generators_state(env, generators)
    for name, generator in state.pop(_GENERATORS, {}).items():
        _set_generator(callback, name, generator)
    for name, value in state.items():
        attribute = _attribute(callback, name)
        # What is no number, such as a list of callbacks or a method, stays what it is.
        if not _is_numbers(encoded([attribute, value]).description):
            if value is None:  # which is no number either: a file that is closed at the end of training
                continue
            raise UnsafeFileError(f"{name!r} is no state of {word_of_callback(type(callback))}")
        if isinstance(attribute, th.Tensor) and isinstance(value, th.Tensor) and attribute.shape == value.shape:
            attribute.copy_(value)  # it may be one of the model's
        else:
            setattr(callback, name, value)


def _set_generator(callback: Any, name: str, state: Any) -> None:
    generator = _attribute(callback, name)
    try:
        if generator is None:  # made at a step that has not come yet
            generator = new_generator(state)
            setattr(callback, name, generator)
        set_generator_state(generator, state)
    except ValueError as error:
        raise UnsafeFileError(f"{name!r} is no generator of {word_of_callback(type(callback))}: {error}") from error


def _attribute(callback: Any, name: str) -> Any:
    """Return the attribute of a name, found without running anything; ``None`` if there is none."""
    if name in _NOT_STATE:
        raise UnsafeFileError(f"{name!r} is no state of {word_of_callback(type(callback))}")
    return inspect.getattr_static(callback, name, None)
