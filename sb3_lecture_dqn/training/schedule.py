"""When something is due, and when training ends; counted in environment steps or in episodes."""

import sys
from dataclasses import asdict, dataclass
from typing import Any

from sb3_lecture_dqn.common.checks import check_number, parse_frequency

#: Episodes that ``learn`` trains for if it is given no budget: the lecture's
DEFAULT_TOTAL_EPISODES = 5000


class Every:
    """
    Says when something is due that comes every n environment steps or every n episodes.

    :param n: How many
    :param unit: ``"step"`` or ``"episode"``
    :param first: Whether it is due after the first one too
    """

    def __init__(self, n: int, unit: str, *, first: bool = False) -> None:
        self.n = n
        self.unit = unit
        self.first = first
        self._counted = 0  # steps or episodes at the last look

    @classmethod
    def parse(cls, name: str, frequency: Any, *, first_episode: bool = False) -> "Every":
        """
        Read a frequency as a user gives it.

        :param name: Name of the argument, for the message
        :param frequency: A number of steps, or a tuple such as ``(20, "episode")``
        :param first_episode: Whether it is due after the first episode too, if it counts episodes
        :return: The same as an object
        :raises ValueError: If it is not such a number or tuple
        """
        n, unit = parse_frequency(name, frequency)
        return cls(n, unit, first=first_episode and unit == "episode")

    def count(self, steps: int, episodes: int) -> int:
        """
        Choose the number that counts here.

        :param steps: Environment steps so far
        :param episodes: Episodes so far
        :return: One of them
        """
        return steps if self.unit == "step" else episodes

    def start(self, steps: int, episodes: int) -> None:
        """
        Begin to count: nothing of what was before is due.

        :param steps: Environment steps so far
        :param episodes: Episodes so far
        """
        self._counted = self.count(steps, episodes)

    def due(self, steps: int, episodes: int) -> bool:
        """
        Look whether it has become due since the last look; several times in between are one.

        :param steps: Environment steps so far
        :param episodes: Episodes so far
        :return: Whether it is due
        """
        before, self._counted = self._counted, self.count(steps, episodes)
        return self._counted // self.n > before // self.n or (self.first and before == 0 < self._counted)

    def next_due(self) -> int:
        """
        Say when it will be due next.

        :return: The number of steps or episodes
        """
        if self.first and self._counted == 0:
            return 1
        return (self._counted // self.n + 1) * self.n

    def get_state(self) -> int:
        """
        Return what a checkpoint keeps.

        :return: Steps or episodes at the last look
        """
        return self._counted

    def set_state(self, state: Any) -> None:
        """
        Go on from where another object was.

        :param state: What its :meth:`get_state` returned
        :raises ValueError: If it is no such state
        """
        check_number("steps or episodes at the last look", state, 0, integer=True)
        self._counted = state


@dataclass
class Budget:
    """
    Says how long a call of ``learn`` trains: to a number of environment steps, or to a number of episodes.

    :param steps_before: Environment steps of the model when the call began
    :param episodes_before: Its episodes then
    :param until_steps: Environment steps at which the call ends
    :param until_episode: Episodes at which it ends; ``None`` if steps are counted
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
        Read the budget that ``learn`` is given.

        :param total_timesteps: Environment steps of the call, or ``None``
        :param total_episodes: Episodes of the call, or ``None``
        :param steps_before: Environment steps before the call
        :param episodes_before: Episodes before it
        :param default_timesteps: Environment steps if neither is given; ``None`` for the lecture's 5000 episodes
        :return: The budget
        :raises ValueError: If both are given, or one is no whole number, or below 0
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
        Look whether training is at its end.

        :param steps: Environment steps so far
        :param episodes: Episodes so far
        :return: Whether it is
        """
        return steps >= self.until_steps or (self.until_episode is not None and episodes >= self.until_episode)

    def get_state(self) -> dict[str, Any]:
        """
        Return what a checkpoint keeps.

        :return: The fields by name
        """
        return asdict(self)

    def set_state(self, state: Any) -> None:
        """
        Go on with the budget of a call that was stopped.

        :param state: What :meth:`get_state` returned
        :raises ValueError: If it is no such state
        """
        if not isinstance(state, dict) or state.keys() != asdict(self).keys():
            raise ValueError(f"budget={state!r} must have {', '.join(asdict(self))}")
        for name, number in state.items():
            if number is not None or name != "until_episode":
                check_number(f"budget: {name}", number, 0, integer=True)
        self.__dict__.update(state)
