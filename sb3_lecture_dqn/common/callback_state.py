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


def callback_data(callback: BaseCallback, before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """
    The state of a callback and all that it calls.

    One that has ``get_state`` and ``set_state`` says itself what it is; of others it is all attributes that are
    numbers, or arrays and containers of numbers, and the generators of environments that they test on.

    :param callback: The callback
    :param before: What :func:`callback_numbers` returned when training had begun
    :return: For each of :func:`callback_tree`, its class, its state as JSON, and names of what of that is ``unchanged``
        since training began: arguments, most often
    """
    now = callback_numbers(callback)
    data = []
    for i, (one, numbers) in enumerate(zip(callback_tree(callback), now, strict=True)):
        if _says_itself(one):
            state = {"n_calls": one.n_calls, "own": describe(one.get_state(), {})}  # type: ignore[attr-defined]
            unchanged = []
        else:
            state, unchanged = numbers, _same(numbers, before[i]) if len(before) == len(now) else []
        data.append({"class": _class_name(one), "state": state, "unchanged": unchanged})
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


def _class_name(callback: BaseCallback) -> str:
    return f"{type(callback).__module__}.{type(callback).__qualname__}"


def _numbers_of(callback: BaseCallback) -> dict[str, Any]:
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
        name = _class_name(one)
        match = next((entry for entry in left if entry["class"] == name), None)
        if match is None:
            continue  # one that begins now
        left.remove(match)
        arguments = set(match["unchanged"]).intersection(_same(now, was))
        _set_data(one, {name: value for name, value in match["state"].items() if name not in arguments})
    if names := [entry["class"] for entry in left if _says_something(entry)]:
        warnings.warn(f"the callbacks {', '.join(names)} of the run are not given now; their states are left out")


def _says_something(entry: dict[str, Any]) -> bool:
    state = entry["state"]
    return bool(state["own"]) if "own" in state else not state.keys() <= _COUNTERS.union(entry["unchanged"])


def _set_data(callback: Any, state: dict[str, Any]) -> None:
    if "own" in state and _says_itself(callback):
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
