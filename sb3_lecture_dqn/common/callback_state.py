"""The state of callbacks as data: what is in it beyond the arguments that they were made with."""

import warnings
from collections.abc import Iterator
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback, CallbackList
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.common.description import describe
from sb3_lecture_dqn.common.env_state import generators_state, set_generators_state

# Every callback has these, also one that only shows something.
_COUNTERS = {"n_calls", "num_timesteps"}
_ENVS = "generators of environments"
_NOT_OWN = {"model", "logger", "locals", "globals", "parent", "verbose"}


def callback_tree(callback: BaseCallback) -> Iterator[BaseCallback]:
    """
    Go through a callback and all that it calls.

    :param callback: The callback
    :return: Itself, then its children, each before its own, and each once
    """
    left, seen = [callback], set[int]()
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        children = one.callbacks if isinstance(one, CallbackList) else vars(one).values()
        left.extend(reversed([child for child in children if isinstance(child, BaseCallback)]))


def callback_data(callback: BaseCallback) -> list[dict[str, Any]]:
    """
    The state of a callback and all that it calls.

    One that has ``get_state`` and ``set_state`` says itself what it is; of others it is all attributes that are
    numbers, or arrays and containers of numbers, and the generators of environments that they test on.

    :param callback: The callback
    :return: For each of :func:`callback_tree`, its class and its state as JSON
    """
    return [{"class": _class_name(one), "state": _data_of(one)} for one in callback_tree(callback)]


def _class_name(callback: BaseCallback) -> str:
    return f"{type(callback).__module__}.{type(callback).__qualname__}"


def _data_of(callback: Any) -> dict[str, Any]:
    if hasattr(callback, "get_state") and hasattr(callback, "set_state"):
        return {"n_calls": callback.n_calls, "own": describe(callback.get_state(), {})}
    data = {name: value for name, value in vars(callback).items() if name not in _NOT_OWN}
    described = {name: describe(value, {}) for name, value in data.items()}
    numbers = {name: value for name, value in described.items() if _is_numbers(value)}
    envs = {name: describe(generators_state(env), {}) for name, env in data.items() if isinstance(env, VecEnv)}
    return {**numbers, **({_ENVS: envs} if envs else {})}


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


def changed_data(now: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    Leave out what has been the same since training began, which are arguments and not state.

    :param now: What :func:`callback_data` returned
    :param before: What it had returned at the start
    :return: The same with fewer entries
    """
    if [one["class"] for one in now] != [one["class"] for one in before]:
        return now
    return [
        {**one, "state": {name: value for name, value in one["state"].items() if old["state"].get(name) != value}}
        for one, old in zip(now, before, strict=True)
    ]


def set_callback_data(callback: BaseCallback, data: list[dict[str, Any]]) -> None:
    """
    Give a callback and all that it calls the states of others, those of the same class in their order.

    :param callback: The callback
    :param data: What :func:`changed_data` returned, restored
    :raises UnsafeFileError: If a state is none of such a callback
    """
    left = list(data)
    for one in callback_tree(callback):
        name = _class_name(one)
        match = next((entry for entry in left if entry["class"] == name), None)
        if match is None:
            continue  # one that begins now
        left.remove(match)
        _set_data(one, match["state"])
    if names := [entry["class"] for entry in left if _says_something(entry["state"])]:
        warnings.warn(f"the callbacks {', '.join(names)} of the run are not given now; their states are left out")


def _says_something(state: dict[str, Any]) -> bool:
    return bool(state["own"]) if "own" in state else not state.keys() <= _COUNTERS


def _set_data(callback: Any, state: dict[str, Any]) -> None:
    if "own" in state and hasattr(callback, "set_state"):
        callback.n_calls = int(state.get("n_calls", callback.n_calls))
        callback.set_state(state["own"])
        return
    for name, generators in state.pop(_ENVS, {}).items():
        if not isinstance(env := vars(callback).get(name), VecEnv):
            raise UnsafeFileError(f"{name!r} is no environment of {_class_name(callback)}")
        set_generators_state(env, generators)
    for name, value in state.items():
        both = [vars(callback).get(name, ""), value]  # what is no number, such as a list of callbacks, stays what it is
        if name in _NOT_OWN or not _is_numbers(describe(both, {})):
            raise UnsafeFileError(f"{name!r} is no state of {_class_name(callback)}")
        setattr(callback, name, value)
