"""Checks of dictionaries of keyword arguments, before something is called with them."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.policies import BasePolicy


class UnknownKeywordError(ValueError, TypeError):
    """An argument that nothing takes. Also a ``TypeError``, which is what Python raises for one."""


def accepted_keywords(kind: type, filled: Iterable[str] = ()) -> list[str] | None:
    """
    The keyword arguments that a class takes.

    :param kind: The class
    :param filled: Those that whoever calls it gives by itself
    :return: Their names in the order of the signature; ``None``, if it takes any
    """
    names: dict[str, None] = {}
    for base in inspect.getmro(kind):
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names |= dict.fromkeys(p.name for p in parameters if p.kind in named)
        # Keywords that a class passes on are those of the next one.
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            return [name for name in names if name not in set(filled)]
    return None


def check_keywords(argument: str, given: Any, kind: type, filled: Iterable[str] = (), way_on: str = "") -> None:
    """
    Check that a class takes what it is to be called with.

    :param argument: Name of the argument that holds the keywords
    :param given: What was given for it
    :param kind: The class
    :param filled: Keywords that whoever calls the class gives by itself
    :param way_on: Another way to what may have been meant, put at the end of the message
    :raises ValueError: If it is no dictionary, or has a keyword that the class does not take or is given anyway; the
        message names the nearest one, and all that it takes
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{argument}={given!r} must be a dictionary of keyword arguments of {kind.__name__}")
    accepted = accepted_keywords(kind, filled)
    unknown = [name for name in given if accepted is not None and name not in accepted]
    if accepted is None or not unknown:
        return
    name = unknown[0]
    if name in set(filled):
        raise UnknownKeywordError(f"{argument}: {name!r} of {kind.__name__} is what the algorithm gives it")
    near = difflib.get_close_matches(str(name), accepted, n=1)
    hint = f", the nearest is {near[0]!r}" if near else ""
    takes = ", ".join(map(repr, accepted)) or "none"
    raise UnknownKeywordError(
        f"{argument}: {kind.__name__} takes no {name!r} (given as {_short(given[name])}){hint}; it takes {takes}"
        + (f". {way_on}" if way_on else "")
    )


def check_policy_keywords(kind: type[BasePolicy], given: Any, other: str, of_other: type[BasePolicy]) -> None:
    """
    Check ``policy_kwargs``, and the keywords in it for what a policy makes.

    :param kind: The policy's class
    :param given: What was given for ``policy_kwargs``
    :param other: Name of SB3's policy for these observations
    :param of_other: Its class
    :raises ValueError: As by :func:`check_keywords`; the message names SB3's policy if that takes them
    """
    takes_all = isinstance(given, Mapping) and set(given) <= set(accepted_keywords(of_other, _OF_POLICY) or ())
    check_keywords("policy_kwargs", given, kind, _OF_POLICY, f"policy={other!r} takes it" if takes_all else "")
    for name, filled in (("optimizer", _OF_OPTIMIZER), ("features_extractor", _OF_EXTRACTOR)):
        default = inspect.signature(kind).parameters.get(f"{name}_class")
        made: Any = given.get(f"{name}_class", None if default is None else default.default)
        kwargs = given.get(f"{name}_kwargs")
        if isinstance(made, type) and kwargs is not None:
            check_keywords(f"policy_kwargs['{name}_kwargs']", kwargs, made, filled)


_OF_POLICY = ("observation_space", "action_space", "lr_schedule")
_OF_OPTIMIZER = ("params", "lr")
_OF_EXTRACTOR = ("observation_space",)


def check_memory_keywords(kind: type[BaseBuffer], given: Any) -> None:
    """
    Check ``replay_buffer_kwargs``.

    :param kind: The memory's class
    :param given: What was given
    :raises ValueError: As by :func:`check_keywords`
    """
    check_keywords("replay_buffer_kwargs", given, kind, _OF_MEMORY)


_OF_MEMORY = (
    *("buffer_size", "observation_space", "action_space", "device", "n_envs", "optimize_memory_usage"),
    *("env", "use_masking"),
)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
