"""Checks of keyword arguments, such as ``policy_kwargs``, against the classes that will be called with them."""

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.policies import BasePolicy


class UnknownKeywordError(ValueError, TypeError):
    """Unknown keyword argument. It is also a ``TypeError``, as Python's own error for this case."""


def accepted_keywords(kind: type, filled: Iterable[str] = ()) -> list[str] | None:
    """
    Return the names of the keyword arguments that a class accepts.

    :param kind: The class
    :param filled: Names of the arguments that the caller of the class sets itself; these are left out
    :return: The names in the order of the signature; ``None`` if the class accepts all names
    """
    names: dict[str, None] = {}
    for base in inspect.getmro(kind):
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        names |= dict.fromkeys(p.name for p in parameters if p.kind in named)
        # A class with **kwargs passes further keywords on to the next class.
        if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
            return [name for name in names if name not in set(filled)]
    return None


def check_keywords(argument: str, value: Any, kind: type, filled: Iterable[str] = (), hint: str = "") -> None:
    """
    Check that a class accepts keyword arguments.

    :param argument: Name of the argument that holds the keywords, for the message
    :param value: Value of this argument
    :param kind: The class
    :param filled: Keywords that the caller of the class sets itself
    :param hint: Hint at an alternative, added to the end of the message
    :raises ValueError: If ``value`` is not a dictionary, or has a keyword that the class does not accept or that is in
        ``filled``; the message names the most similar keyword and all accepted ones
    """
    if not isinstance(value, Mapping):
        raise ValueError(f"{argument}={value!r} must be a dictionary of keyword arguments of {kind.__name__}")
    accepted = accepted_keywords(kind, filled)
    unknown = [name for name in value if accepted is not None and name not in accepted]
    if accepted is None or not unknown:
        return
    name = unknown[0]
    if name in set(filled):
        raise UnknownKeywordError(f"{argument}: the algorithm itself sets {name!r} of {kind.__name__}")
    near = difflib.get_close_matches(str(name), accepted, n=1)
    nearest = f", the nearest is {near[0]!r}" if near else ""
    takes = ", ".join(map(repr, accepted)) or "none"
    raise UnknownKeywordError(
        f"{argument}: {kind.__name__} takes no {name!r} (given as {_short(value[name])}){nearest}; it takes {takes}"
        + (f". {hint}" if hint else "")
    )


#: What the lecture's program calls the arguments, and what they are here
_OF_LECTURE = {
    "lr": "learning_rate",
    "epsilon_decay": "exploration_decay",
    "min_epsilon": "exploration_final_eps",
    "num_episodes": "learn(total_episodes=...)",
    "max_time_steps": "max_episode_steps",
    "renew_target": 'target_update_interval=(..., "episode")',
    "replay_memory_fail_size": "buffer_size",
    "updates_per_step": "gradient_steps",
    "hidden_dim": "policy_kwargs=dict(hidden_dim=...)",
    "test_freq": "LectureTestCallback(test_freq=...)",
    "num_tests": "LectureTestCallback(n_test_episodes=...)",
}


def check_constructor_keywords(kind: type, keywords: Iterable[str]) -> None:
    """
    Check the keywords of an algorithm's constructor.

    :param kind: The algorithm
    :param keywords: Names of the keywords
    :raises UnknownKeywordError: If the constructor does not accept one; the message names what it is called here if the
        lecture has it, else the most similar keyword
    """
    parameters = inspect.signature(kind.__init__).parameters  # type: ignore[misc]
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    takes = [name for name in [*parameters][1:] if not name.startswith("_")]
    for name in keywords:
        if name not in parameters:
            near = [_OF_LECTURE[name]] if name in _OF_LECTURE else difflib.get_close_matches(name, takes, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it takes {', '.join(takes)}"
            raise UnknownKeywordError(f"{kind.__name__} takes no argument {name!r}; {hint}")


def check_policy_keywords(kind: type[BasePolicy], value: Any, other: str, other_class: type[BasePolicy]) -> None:
    """
    Check ``policy_kwargs``, and in it ``optimizer_kwargs`` and ``features_extractor_kwargs``.

    :param kind: Class of the policy
    :param value: Value of ``policy_kwargs``
    :param other: Name of SB3's policy for these observations
    :param other_class: Class of SB3's policy
    :raises ValueError: As by :func:`check_keywords`; the message names SB3's policy if that accepts the keywords
    """
    takes_all = isinstance(value, Mapping) and set(value) <= set(accepted_keywords(other_class, _SET_FOR_POLICY) or ())
    check_keywords("policy_kwargs", value, kind, _SET_FOR_POLICY, f"policy={other!r} takes it" if takes_all else "")
    for name, filled in (("optimizer", _SET_FOR_OPTIMIZER), ("features_extractor", _SET_FOR_EXTRACTOR)):
        default = inspect.signature(kind).parameters.get(f"{name}_class")
        part: Any = value.get(f"{name}_class", None if default is None else default.default)
        kwargs = value.get(f"{name}_kwargs")
        if isinstance(part, type) and kwargs is not None:
            check_keywords(f"policy_kwargs['{name}_kwargs']", kwargs, part, filled)


_SET_FOR_POLICY = ("observation_space", "action_space", "lr_schedule")
_SET_FOR_OPTIMIZER = ("params", "lr")
_SET_FOR_EXTRACTOR = ("observation_space",)


def check_memory_keywords(kind: type[BaseBuffer], value: Any) -> None:
    """
    Check ``replay_buffer_kwargs``.

    :param kind: Class of the replay memory
    :param value: Value of ``replay_buffer_kwargs``
    :raises ValueError: As by :func:`check_keywords`
    """
    check_keywords("replay_buffer_kwargs", value, kind, _SET_FOR_MEMORY)


_SET_FOR_MEMORY = (
    *("buffer_size", "observation_space", "action_space", "device", "n_envs", "optimize_memory_usage"),
    *("env", "use_masking"),
)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
