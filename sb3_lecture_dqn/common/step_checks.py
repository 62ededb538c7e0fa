"""Checks of the values that one environment returns, before a vectorised environment converts them to arrays."""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_lecture_dqn.common.checks import as_number, changed_by_cast

_INTEGERS = frozenset({int, np.int32, np.int64})
_NUMBERS = frozenset({int, float, np.float32, np.float64})
_BOOLS = frozenset({bool, np.bool_})


class WrongStepError(ValueError):
    """
    An environment returned a value that no step can return.

    :param subject: Name of the value
    :param verb: The wrong value, as a clause
    :param allowed: The values allowed, as a clause
    :param env: Number of the environment
    """

    def __init__(self, subject: str, verb: str, allowed: str, env: int) -> None:
        super().__init__(subject, verb, allowed, env)
        self.step: int | None = None  # set later: a single environment does not know it

    def __str__(self) -> str:
        subject, verb, allowed, env = self.args
        when = "" if self.step is None else f" at environment step {self.step}"
        return f"{subject} of environment {env} {verb}{when}, {allowed}"


class StepCheck:
    """
    Checks the values that an environment returns.

    :param space: Its observation space
    :param env: Its number, for messages
    :param name: Name of the observation, for messages
    """

    def __init__(self, space: spaces.Space[Any], env: int, name: str = "the observation") -> None:
        self.space, self.env, self.name = space, env, name
        self.parts: dict[str, StepCheck] = {}  # SB3 ignores parts that are not in the space
        if isinstance(space, spaces.Dict):
            self.parts = {key: StepCheck(part, env, f"{key!r} of the observation") for key, part in space.items()}
        # For the fast path of usual observations
        self.dtype, self.shape = space.dtype, space.shape
        self.low = self.high = 0
        if isinstance(space, spaces.Discrete):
            self.low, self.high = int(space.start), int(space.start + space.n)

    def check_observation(self, obs: Any) -> None:
        """
        Check that an observation has its space's kind and shape, and that a cast does not change its numbers.

        NaN and numbers out of range are checked later, in the array of all environments.

        :param obs: An observation
        :raises WrongStepError: If it does not fit
        """
        kind = type(obs)
        if kind in _INTEGERS and self.low <= obs < self.high:
            return
        if kind is np.ndarray and obs.dtype == self.dtype and obs.shape == self.shape:
            return
        if isinstance(self.space, spaces.Dict):
            for key, part in self.parts.items():
                try:
                    value = obs[key]
                except (KeyError, IndexError, TypeError):
                    raise self._error(f"has no part {key!r}", f"its space has the parts {list(self.parts)}") from None
                part.check_observation(value)
            return
        try:
            array = np.asarray(obs)
        except Exception:  # an unknown class can raise anything
            array = np.empty((), object)
        if array.dtype.kind not in "biuf" or np.any(changed_by_cast(array, self.space)):
            raise self._error(f"is {obs!r}", f"outside its space {self.space}")
        if array.shape != self.shape and not (array.shape == () and np.prod(self.shape or ()) == 1):
            raise self._error(f"has the shape {array.shape}", f"its space {self.space} has {self.shape}")

    def _error(self, verb: str, allowed: str) -> WrongStepError:
        return WrongStepError(self.name, verb, allowed, self.env)

    def check_outcome(self, reward: Any, terminated: Any, truncated: Any) -> None:
        """
        Check that a reward is a number, and that the flags of an ended episode are true or false.

        :param reward: The reward
        :param terminated: Whether the episode terminated
        :param truncated: Whether the episode was truncated
        :raises WrongStepError: If a value is something else, for example a text or ``None``
        """
        if type(reward) in _NUMBERS and type(terminated) in _BOOLS and type(truncated) in _BOOLS:
            return
        if as_number(reward) is None:
            raise WrongStepError("the reward", f"is {reward!r}", "which is not a number", self.env)
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if as_number(value) not in (0, 1):
                raise WrongStepError(name, f"is {value!r}", "it must be True or False", self.env)
