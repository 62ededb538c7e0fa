"""When something is due, and when training ends: intervals and budgets, counted in environment steps or in episodes."""

import sys
from dataclasses import asdict, dataclass
from typing import Any

from sb3_lecture_dqn.common.checks import check_number, parse_frequency
from sb3_lecture_dqn.training.due import Due

#: Budget of ``learn`` in episodes if none is given, as in the lecture
DEFAULT_TOTAL_EPISODES = 5000


class Every:
    """
    An interval of n environment steps or n episodes. It tells when a test, a copy or a checkpoint is due.

    :param n: Length of the interval
    :param unit: ``"step"`` or ``"episode"``
    :param first: Whether the event is also due after the first step or episode
    """

    def __init__(self, n: int, unit: str, *, first: bool = False) -> None:
        self.n = n
        self.unit = unit
        self.first = first
        #: Steps or episodes at the last call of :meth:`due`
        self.counted = 0

    @classmethod
    def parse(cls, name: str, frequency: Any, *, first_episode: bool = False) -> "Every":
        """
        Make an interval from an argument of the user.

        :param name: Name of the argument, for the message
        :param frequency: A number of steps, or a tuple such as ``(20, "episode")``
        :param first_episode: Whether the event is also due after the first episode, if episodes are counted
        :return: The interval
        :raises ValueError: If the argument is not such a number or tuple
        """
        n, unit = parse_frequency(name, frequency)
        return cls(n, unit, first=first_episode and unit == "episode")

    def count(self, steps: int, episodes: int) -> int:
        """
        Return the number that this interval counts.

        :param steps: Environment steps so far
        :param episodes: Episodes so far
        :return: ``steps`` or ``episodes``
        """
        return steps if self.unit == "step" else episodes

    def start(self, steps: int, episodes: int) -> None:
        """
        Start to count here. Intervals that ended before are not due.

        :param steps: Environment steps so far
        :param episodes: Episodes so far
        """
        self.counted = self.count(steps, episodes)

    def due(self, steps: int, episodes: int) -> bool:
        """
        Check whether an interval has ended since the last call. Several ended intervals count as one.

        :param steps: Environment steps so far
        :param episodes: Episodes so far
        :return: Whether the event is due
        """
        now = self.count(steps, episodes)
        is_due, self.counted = self._is_over(now), now
        return is_due

    def _is_over(self, now: int) -> bool:
        """Whether an interval ends between the last call of :meth:`due` and now."""
        return now // self.n > self.counted // self.n or (self.first and self.counted == 0 < now)

    def next_due(self) -> int:
        """
        Compute when the event is due next.

        :return: The total number of steps or episodes then
        """
        if self.first and self.counted == 0:
            return 1
        return (self.counted // self.n + 1) * self.n

    def from_now(self, steps: int, episodes: int) -> Due:
        """
        Compute how far away the next event is.

        :param steps: Environment steps so far
        :param episodes: Episodes so far
        :return: Steps or episodes from now; 0 or less if it is due
        """
        missing = self.next_due() - self.count(steps, episodes)
        return Due(steps=missing) if self.unit == "step" else Due(episodes=missing)

    def get_state(self, steps: int = 0, episodes: int = 0) -> int:
        """
        Return the state for a checkpoint. It does not depend on when :meth:`due` was called before.

        :param steps: Environment steps so far
        :param episodes: Episodes so far
        :return: Steps or episodes so far; if the event is due, those just before it
        """
        now = max(self.counted, self.count(steps, episodes))
        if not self._is_over(now):
            return now
        return 0 if self.first and self.counted == 0 else now // self.n * self.n - 1

    def set_state(self, state: Any) -> None:
        """
        Restore the state of another object.

        :param state: Return value of its :meth:`get_state`
        :raises ValueError: If the state is not a whole number of at least 0
        """
        check_number("steps or episodes that an interval has counted", state, 0, integer=True)
        self.counted = state


@dataclass
class Budget:
    """
    The budget of a call of ``learn``, in environment steps or in episodes.

    :param steps_before: Environment steps of the model when the call began
    :param episodes_before: Episodes of the model when the call began
    :param until_steps: Total environment steps at which the call ends
    :param until_episode: Total episodes at which the call ends; ``None`` if the budget is in steps
    """

    steps_before: int = 0
    episodes_before: int = 0
    until_steps: int = sys.maxsize
    until_episode: int | None = None

    @classmethod
    def parse(
        cls,
        total_timesteps: Any,
        total_episodes: Any,
        steps_before: int = 0,
        episodes_before: int = 0,
        default_timesteps: int | None = None,
    ) -> "Budget":
        """
        Make a budget from the arguments of ``learn``.

        :param total_timesteps: Environment steps of the call, or ``None``
        :param total_episodes: Episodes of the call, or ``None``
        :param steps_before: Environment steps before the call
        :param episodes_before: Episodes before the call
        :param default_timesteps: Environment steps of the call if both are ``None``. If this is ``None`` too, the
            budget is the lecture's 5000 episodes
        :return: The budget
        :raises ValueError: If both are given, or one is not a whole number of at least 0
        """
        if total_timesteps is not None and total_episodes is not None:
            raise ValueError(
                f"total_timesteps={total_timesteps} and total_episodes={total_episodes}: give one budget, not both"
            )
        if total_timesteps is None and total_episodes is None:
            total_timesteps = default_timesteps
        if total_timesteps is not None:
            if isinstance(total_timesteps, float) and total_timesteps % 1 == 0:  # 1e5, as many write for SB3
                total_timesteps = int(total_timesteps)
            check_number("total_timesteps", total_timesteps, 0, integer=True)
            return cls(steps_before, episodes_before, steps_before + total_timesteps)
        if total_episodes is None:
            total_episodes = DEFAULT_TOTAL_EPISODES
        check_number("total_episodes", total_episodes, 0, integer=True)
        return cls(steps_before, episodes_before, until_episode=episodes_before + total_episodes)

    def is_spent(self, steps: int, episodes: int) -> bool:
        """
        Check whether the call has reached its end.

        :param steps: Environment steps so far
        :param episodes: Episodes so far
        :return: Whether it has
        """
        return steps >= self.until_steps or (self.until_episode is not None and episodes >= self.until_episode)

    def tenth(self) -> tuple[int, str]:
        """
        Return the interval of what happens about ten times.

        :return: A tenth of the budget, at least 1, and its unit, ``"step"`` or ``"episode"``
        """
        if self.until_episode is None:
            return max((self.until_steps - self.steps_before) // 10, 1), "step"
        return max((self.until_episode - self.episodes_before) // 10, 1), "episode"

    def get_state(self) -> dict[str, Any]:
        """
        Return the state for a checkpoint.

        :return: The fields by name
        """
        return asdict(self)

    def set_state(self, state: Any) -> None:
        """
        Restore the budget of a call that was stopped.

        :param state: Return value of :meth:`get_state`
        :raises ValueError: If a field is missing, unknown or not a whole number of at least 0
        """
        if not isinstance(state, dict) or state.keys() != asdict(self).keys():
            raise ValueError(f"budget={state!r} must have {', '.join(asdict(self))}")
        for name, number in state.items():
            if number is not None or name != "until_episode":
                check_number(f"budget: {name}", number, 0, integer=True)
        self.__dict__.update(state)
