"""Checks of what one environment returns, before a vectorised one makes it a part of its arrays."""

from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_lecture_dqn.common.checks import as_number, changed_by_cast

_INTEGERS = frozenset({int, np.int32, np.int64})
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


class StepCheck:
    """
    Checks what an environment returns.

    :param space: Its observation space
    :param env: Its number, for messages
    :param what: What is observed, for messages
    """

    def __init__(self, space: spaces.Space[Any], env: int, what: str = "the observation") -> None:
        self.space, self.env, self.what = space, env, what
        self.parts: dict[str, StepCheck] = {}  # SB3 lets parts that are not in the space pass, and uses none
        if isinstance(space, spaces.Dict):
            self.parts = {key: StepCheck(part, env, f"{key!r} of the observation") for key, part in space.items()}
        # What nearly all observations are is found out in a fraction of the time.
        self.dtype, self.shape = space.dtype, space.shape
        self.low = self.high = 0
        if isinstance(space, spaces.Discrete):
            self.low, self.high = int(space.start), int(space.start + space.n)

    def check_observation(self, obs: Any) -> None:
        """
        Check that an observation is of its space's kind and shape, and that its numbers are not changed by a cast.

        NaN and numbers out of range are left to checks of the arrays that the observation becomes a part of.

        :param obs: What the environment observes
        :raises WrongStepError: If it is not
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
        except Exception:  # whatever a stranger's class raises
            array = np.empty((), object)
        if array.dtype.kind not in "biuf" or np.any(changed_by_cast(array, self.space)):
            raise self._error(f"is {obs!r}", f"outside its space {self.space}")
        if array.shape != self.shape and not (array.shape == () and np.prod(self.shape or ()) == 1):
            raise self._error(f"has the shape {array.shape}", f"its space {self.space} has {self.shape}")

    def _error(self, verb: str, allowed: str) -> WrongStepError:
        return WrongStepError(self.what, verb, allowed, self.env)

    def check_outcome(self, reward: Any, terminated: Any, truncated: Any) -> None:
        """
        Check that a reward is a number, and that what ends an episode is true or false.

        :param reward: What the environment returned
        :param terminated: What it returned
        :param truncated: What it returned
        :raises WrongStepError: If one is not, as a text or ``None``
        """
        if type(reward) in _NUMBERS and type(terminated) in _BOOLS and type(truncated) in _BOOLS:
            return
        if as_number(reward) is None:
            raise WrongStepError("the reward", f"is {reward!r}", "which is no number", self.env)
        for name, value in (("terminated", terminated), ("truncated", truncated)):
            if as_number(value) not in (0, 1):
                raise WrongStepError(name, f"is {value!r}", "it must be True or False", self.env)
