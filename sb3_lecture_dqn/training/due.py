"""When callbacks must be called next, so that the steps before it can be done in one compiled call."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    ConvertCallback,
    EvalCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
)

from sb3_lecture_dqn.engine.known import from_known_package, overridden, shadowed

_ROLLOUT_METHODS = ("on_rollout_start", "_on_rollout_start", "on_rollout_end", "_on_rollout_end")
_METHODS = ("on_step", "_on_step", "update_locals", "update_child_locals", *_ROLLOUT_METHODS)


@dataclass(frozen=True)
class Due:
    """
    When a callback must be called next.

    A callback of your own is called at every step, and training is slower, unless it has a method ``next_due`` that
    returns when it must be called::

        class EveryThousandCalls(BaseCallback):
            def next_due(self):
                return Due(calls=1000 - self.n_calls % 1000)

            def _on_step(self):
                if self.n_calls % 1000 == 0:
                    ...
                return True

    The calls before that are left out; ``n_calls`` and ``num_timesteps`` count on. A call may come earlier, so
    ``_on_step`` still has to ask whether it is due. A class with ``next_due`` that overrides ``_on_rollout_start`` or
    ``_on_rollout_end`` is called at every step nevertheless, and so is a subclass that overrides ``_on_step`` without
    ``next_due``.

    :param calls: Number of calls of ``on_step`` up to the one that must not be left out: 1 for the next. Infinity for
        none
    """

    calls: float = math.inf
    # Of this package's callbacks, which do their work at the start of a rollout: after how many environment steps and
    # episodes this is due.
    steps: float = math.inf
    episodes: float = math.inf

    def or_before(self, other: "Due") -> "Due":
        """
        Combine two callbacks.

        :param other: When the other is due
        :return: When the first of them is due
        """
        return Due(min(self.calls, other.calls), min(self.steps, other.steps), min(self.episodes, other.episodes))


#: Due at the next step
AT_ONCE = Due(calls=1)


def _never(callback: Any) -> Due:
    return Due()


def _every_n_calls(callback: Any) -> Due:
    every = callback.save_freq if isinstance(callback, CheckpointCallback) else callback.eval_freq
    return Due(calls=every - callback.n_calls % every) if every > 0 else Due()


def _every_n_timesteps(callback: Any) -> Due:
    missing = callback.last_time_trigger + callback.n_steps - callback.model.num_timesteps
    return Due(calls=max(1, -(-missing // callback.model.n_envs)))


def _after_episodes(callback: Any) -> Due:
    missing = callback._total_max_episodes - callback.n_episodes
    # The end of the episode is not known before. So the rollouts in which it may end are done step by step.
    in_a_rollout = callback.model.n_envs * callback.model.train_freq.frequency
    return Due(episodes=missing - in_a_rollout) if missing > in_a_rollout else AT_ONCE


def _of_function(callback: Any) -> Due | None:
    return Due() if callback.callback is None else None


# Callbacks of SB3 and sb3-contrib. A subclass may do anything, so it is not among them.
_STOCK: dict[type, Callable[[Any], Due | None]] = {
    EvalCallback: _every_n_calls,
    MaskableEvalCallback: _every_n_calls,
    CheckpointCallback: _every_n_calls,
    EveryNTimesteps: _every_n_timesteps,
    LogEveryNTimesteps: _every_n_timesteps,
    ProgressBarCallback: _never,
    StopTrainingOnMaxEpisodes: _after_episodes,
    ConvertCallback: _of_function,
}


def next_due(callback: BaseCallback) -> Due | None:
    """
    Find out when a callback must be called next.

    :param callback: A callback, which may be a list
    :return: When it is due; ``None`` if it does not say so, see :func:`silent_callback`
    :raises TypeError: If its own ``next_due`` returns something else
    """
    if type(callback) is CallbackList:
        due = Due()
        for child in callback.callbacks:
            of_child = next_due(child)
            if of_child is None:
                return None
            due = due.or_before(of_child)
        return due
    if shadowed(callback) is not None:
        return None
    if type(callback) in _STOCK:
        return None if overridden(type(callback), _METHODS) else _STOCK[type(callback)](callback)
    if not _speaks_for_itself(type(callback)):
        return None
    own: Any = callback.next_due()  # type: ignore[attr-defined]
    if not isinstance(own, Due):
        raise TypeError(f"{type(callback).__name__}.next_due() returned {own!r}, it must return a Due")
    return own


def silent_callback(callback: BaseCallback) -> BaseCallback | None:
    """
    Find the callback that must be called at every step.

    :param callback: A callback, which may be a list
    :return: The first that does not say when it is due; ``None`` if all do
    """
    if type(callback) is CallbackList:
        return next((found for found in map(silent_callback, callback.callbacks) if found is not None), None)
    return callback if next_due(callback) is None else None


def _speaks_for_itself(cls: type) -> bool:
    """Whether a class has a ``next_due`` that no later override of another method makes wrong."""
    definer = _definer(cls, "next_due")
    if definer is None:
        return False
    later = cls.__mro__[: cls.__mro__.index(definer)]
    if any(name in vars(base) for base in later for name in _METHODS):
        return False
    if from_known_package(definer):
        return overridden(cls, _METHODS) is None
    return all(_definer(cls, name) is BaseCallback for name in _ROLLOUT_METHODS)


def _definer(cls: type, name: str) -> type | None:
    return next((base for base in cls.__mro__ if name in vars(base)), None)


def leave_out(callback: BaseCallback, n_calls: int, n_episodes: int, timesteps: int) -> None:
    """
    Count calls that a callback did not get.

    :param callback: A callback, which may be a list
    :param n_calls: Number of calls of ``on_step`` that were left out
    :param n_episodes: Number of episodes that ended meanwhile
    :param timesteps: Total number of environment steps at the last of these calls
    """
    callback.n_calls += n_calls
    callback.num_timesteps = timesteps
    if type(callback) is CallbackList:
        for child in callback.callbacks:
            leave_out(child, n_calls, n_episodes, timesteps)
    elif type(callback) is ProgressBarCallback:
        callback.pbar.update(n_calls * callback.training_env.num_envs)
    elif type(callback) is StopTrainingOnMaxEpisodes:
        callback.n_episodes += n_episodes
    elif hasattr(callback, "count_episodes"):
        callback.count_episodes(n_episodes)
