"""When callbacks must be called next, so that the steps before it can be done in one compiled call."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeGuard

from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    ConvertCallback,
    EvalCallback,
    EventCallback,
    EveryNTimesteps,
    LogEveryNTimesteps,
    ProgressBarCallback,
    StopTrainingOnMaxEpisodes,
)
from stable_baselines3.common.type_aliases import TrainFrequencyUnit

from sb3_lecture_dqn.common.checks import check_number
from sb3_lecture_dqn.engine.known import from_known_package, overridden, shadowed

_ROLLOUT_METHODS = ("on_rollout_start", "_on_rollout_start", "on_rollout_end", "_on_rollout_end")
_METHODS = ("on_step", "_on_step", "update_locals", "update_child_locals", "count_episodes", *_ROLLOUT_METHODS)


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


def most_steps_in_a_rollout(model: Any) -> Any:
    """
    Compute how many steps of each environment a rollout has at most.

    :param model: A model on a tabular environment
    :return: Number of steps, infinity without a step limit if ``train_freq`` is in episodes
    """
    by_step = model.train_freq.unit == TrainFrequencyUnit.STEP
    return model.train_freq.frequency * (1 if by_step else model.env.step_limit)


def step_by_step_before(due: Due, model: Any) -> Due:
    """
    Make the rollout after which something is due one that is done step by step, so that callbacks have seen its steps.

    :param due: When it is due, in steps or episodes
    :param model: The model that trains
    :return: When the rollouts in which that may happen begin
    """
    # The end of an episode is not known before. So all rollouts in which it may end are done step by step.
    steps = due.steps - model.n_envs * most_steps_in_a_rollout(model)
    episodes = due.episodes - model.n_envs * model.train_freq.frequency
    return Due(due.calls, steps, episodes) if min(steps, episodes) > 0 else AT_ONCE


def _never(callback: Any) -> Due:
    return Due()


def _every_n_calls(callback: Any) -> Due:
    if not isinstance(callback, CheckpointCallback):
        every = callback.eval_freq
    elif (every := callback.save_freq) <= 0:
        return AT_ONCE  # it divides by 0
    return Due(calls=every - callback.n_calls % every) if every > 0 else Due()


def _every_n_timesteps(callback: Any) -> Due:
    missing = callback.last_time_trigger + callback.n_steps - callback.model.num_timesteps
    return Due(calls=max(1, -(-missing // callback.model.n_envs)))


def _after_episodes(callback: Any) -> Due:
    return step_by_step_before(Due(episodes=callback._total_max_episodes - callback.n_episodes), callback.model)


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


def check_is_called_itself(callback: BaseCallback) -> None:
    """
    Check that a callback is not the child of another one, which would call it at steps only, and not at rollouts.

    :param callback: A callback that does its work at the start of rollouts
    :raises ValueError: If it is, as in ``EveryNTimesteps(500, LectureTestCallback())``
    """
    if isinstance(callback.parent, EventCallback):
        raise ValueError(
            f"{type(callback.parent).__name__} calls its child at steps only, and {type(callback).__name__} works "
            "between rollouts: give it to learn() itself, alone or in a list; its own arguments say how often it works"
        )


def next_due(callback: BaseCallback) -> Due:
    """
    Find out when a callback must be called next.

    :param callback: A callback, which may be a list
    :return: When it is due: at the next step if it does not say so, see :func:`silent_callback`
    :raises TypeError: If its own ``next_due`` returns something else
    :raises ValueError: If its own ``next_due`` returns a number of calls that is no number
    """
    if not _is_list(callback):
        return _own_due(callback) or AT_ONCE
    due = Due()
    for child in callback.callbacks:
        due = due.or_before(next_due(child))
    return due


def _is_list(callback: BaseCallback) -> TypeGuard[CallbackList]:
    return type(callback) is CallbackList and shadowed(callback) is None


def _own_due(callback: BaseCallback) -> Due | None:
    """Find out when a callback that is not a list must be called next; ``None`` if it does not say so."""
    if shadowed(callback) is not None:
        return None
    if type(callback) in _STOCK:
        return None if overridden(type(callback), _METHODS) else _STOCK[type(callback)](callback)
    if not _speaks_for_itself(type(callback)):
        return None
    own: Any = callback.next_due()  # type: ignore[attr-defined]
    if not isinstance(own, Due):
        raise TypeError(f"{type(callback).__name__}.next_due() returned {own!r}, it must return a Due")
    check_number(f"{type(callback).__name__}.next_due(): calls", own.calls, -math.inf)
    return own


def silent_callback(callback: BaseCallback) -> BaseCallback | None:
    """
    Find the callback that must be called at every step.

    :param callback: A callback, which may be a list
    :return: The first that does not say when it is due; ``None`` if all do
    """
    if _is_list(callback):
        return next((found for found in map(silent_callback, callback.callbacks) if found is not None), None)
    return callback if _own_due(callback) is None else None


def name_of(callback: BaseCallback) -> str:
    """
    Name a callback for a message.

    :param callback: A callback, not a list
    :return: Name of its class; if it only calls a function, name of the function
    """
    named: Any = callback.callback if type(callback) is ConvertCallback else callback
    return str(getattr(named, "__name__", type(named).__name__))


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
    elif from_known_package(getattr(type(callback), "count_episodes", None)):
        callback.count_episodes(n_episodes)  # type: ignore[attr-defined]
