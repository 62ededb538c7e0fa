"""Checks of what one environment returns, before a vectorised one makes it a part of its arrays."""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_lecture_dqn.common.checks import as_number, changed_by_cast

_NUMBERS = frozenset({int, float, np.float32, np.float64})
_BOOLS = frozenset({bool, np.bool_})


class WrongStepError(ValueError):
    """
    An environment returned something that no step can give.

    :param subject: What is wrong
    :param verb: What it is
    :param allowed: What it must be
    :param env: Number of the environment
    """

    def __init__(self, subject: str, verb: str, allowed: str, env: int) -> None:
        super().__init__(subject, verb, allowed, env)
        self.step: int | None = None  # of all environments, which a single one does not know

    def __str__(self) -> str:
        subject, verb, allowed, env = self.args
        when = "" if self.step is None else f" at environment step {self.step}"
        return f"{subject} of environment {env} {verb}{when}, {allowed}"


def check_observed(obs: Any, space: spaces.Space[Any], env: int) -> None:
    """
    Check that an observation is of its space's kind and shape, and that its number is not changed by a cast.

    NaN and numbers out of range are left to checks of the arrays that the observation becomes a part of.

    :param obs: What the environment observes
    :param space: Its observation space
    :param env: Number of the environment, for the message
    :raises WrongStepError: If it is not
    """
    if type(obs) is np.ndarray:
        if obs.dtype == space.dtype and obs.shape == space.shape:
            return
    elif type(space) is spaces.Discrete and isinstance(obs, int | np.integer):
        if space.start <= obs < space.start + space.n:
            return
    elif isinstance(space, spaces.Dict):
        for key, part in space.spaces.items():  # SB3 lets parts that are not in the space pass, and uses none
            try:
                value = obs[key]
            except (KeyError, IndexError, TypeError):
                allowed = f"its space has the keys {list(space.spaces)}"
                raise WrongStepError("the observation", f"has no part {key!r}", allowed, env) from None
            _check_part(f"{key!r} of the observation", value, part, env)
        return
    _check_part("the observation", obs, space, env)


def _check_part(what: str, value: Any, space: spaces.Space[Any], env: int) -> None:
    try:
        array = np.asarray(value)
    except Exception:  # whatever a stranger's class raises
        array = np.empty((), object)
    shape: Any = space.shape
    if array.dtype.kind not in "biuf" or np.any(changed_by_cast(array, space)):
        raise WrongStepError(what, f"is {value!r}", f"outside its space {space}", env)
    # One number is one number in every shape.
    if array.shape != shape and not (array.size == 1 and np.prod(shape) == 1):
        raise WrongStepError(what, f"has the shape {array.shape}", f"its space {space} has {shape}", env)


def check_outcome(reward: Any, terminated: Any, truncated: Any, env: int) -> None:
    """
    Check that a reward is a number, and that what ends an episode is true or false.

    :param reward: What the environment returned
    :param terminated: What it returned
    :param truncated: What it returned
    :param env: Number of the environment, for the message
    :raises WrongStepError: If one is not, as a text or ``None``
    """
    if type(reward) in _NUMBERS and type(terminated) in _BOOLS and type(truncated) in _BOOLS:
        return  # nearly all of training, in a fraction of the time
    if as_number(reward) is None:
        raise WrongStepError("the reward", f"is {reward!r}", "which is no number", env)
    for name, value in (("terminated", terminated), ("truncated", truncated)):
        if as_number(value) not in (0, 1):
            raise WrongStepError(name, f"is {value!r}", "it must be True or False", env)
