"""The settings of a model for TensorBoard's tab HParams."""

import contextlib
import inspect
import math
from typing import Any

import numpy as np
from stable_baselines3.common.type_aliases import TrainFreq

#: Attributes that are shown besides the keywords of the constructor
_MORE_ATTRIBUTES = ("env_id", "env_wrapper", "n_envs", "engine_in_use")
#: Keywords that are not shown: they say nothing about the training, or are shown in another way
_HIDDEN_KEYWORDS = {"self", "policy", "env", "tensorboard_log", "verbose", "_init_setup_model"}


def model_settings(model: Any) -> dict[str, int | float | str]:
    """
    Return the settings of a model for TensorBoard: every keyword of its constructor, and the entries of dictionaries.

    :param model: The model
    :return: Finite numbers as numbers, all other values as text, by name
    """
    settings: dict[str, Any] = {
        "algorithm": type(model).__name__,
        "policy": type(model.policy).__name__,
        "optimizer": type(model.policy.optimizer).__name__,
    }
    for name in (*_keywords(type(model)), *_MORE_ATTRIBUTES):
        attribute = name if hasattr(model, name) else f"_{name}"  # SB3 stores `stats_window_size` with an underscore
        if name not in _HIDDEN_KEYWORDS and hasattr(model, attribute):
            settings[name] = getattr(model, attribute)
    for name, value in list(settings.items()):
        _add_entries(settings, name, value)
    return {name: _number_or_text(value) for name, value in settings.items()}


def _keywords(cls: type) -> list[str]:
    """Return the keywords of a constructor. If it has ``**kwargs``, add the keywords of its base class."""
    keywords: dict[str, None] = {}
    for base in cls.__mro__:
        if "__init__" in vars(base):
            parameters = inspect.signature(base.__init__).parameters.values()  # type: ignore[misc]
            named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
            keywords |= dict.fromkeys(parameter.name for parameter in parameters if parameter.kind in named)
            if all(parameter.kind is not inspect.Parameter.VAR_KEYWORD for parameter in parameters):
                break
    return list(keywords)


def _add_entries(settings: dict[str, Any], name: str, value: Any) -> None:
    """Add every entry of a dictionary as a setting, so that runs can be sorted and compared by it."""
    for key, entry in value.items() if isinstance(value, dict) else ():
        entry_name = str(key) if str(key) not in settings else f"{name}.{key}"
        settings[entry_name] = entry
        _add_entries(settings, entry_name, entry)


def _number_or_text(value: Any) -> int | float | str:
    plain = value.item() if isinstance(value, np.generic) else value
    # As text, because torch would write True as 1.0
    return plain if type(plain) in (int, float) and math.isfinite(plain) else _text(plain)


def _text(value: Any) -> str:
    """Describe a value, in the same way in every run: without addresses in memory."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, TrainFreq):
        return f"{value.frequency} {value.unit.value}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, type):
        return value.__name__
    if callable(value):  # a schedule
        name = getattr(value, "__qualname__", type(value).__qualname__)
        with contextlib.suppress(Exception):
            return f"{name}: {', '.join(f'{value(progress):g}' for progress in (1.0, 0.5, 0.0))}"
        return name
    return str(value) if type(value).__repr__ is not object.__repr__ else type(value).__name__  # type: ignore[comparison-overlap]
