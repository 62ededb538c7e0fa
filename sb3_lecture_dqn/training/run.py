"""The frame of one call of ``learn`` around its loop: checkpoints, signals, and environments that fail."""

import contextlib
from typing import Any, Protocol, runtime_checkable

import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from tqdm import tqdm

from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.engine.divergence import DivergedError, Growth
from sb3_lecture_dqn.envs.env_processes import naming_dead_processes
from sb3_lecture_dqn.saving.callback_state import callback_numbers
from sb3_lecture_dqn.saving.checkpointer import Checkpointer
from sb3_lecture_dqn.saving.logs import log_divergence
from sb3_lecture_dqn.saving.run_state import go_on
from sb3_lecture_dqn.saving.stop_signals import StopSignals
from sb3_lecture_dqn.training.callbacks import LectureCheckpointCallback
from sb3_lecture_dqn.training.due import Due


@runtime_checkable
class RecordsDivergence(Protocol):
    """A callback that is told when a training diverges, before ``learn`` raises the error."""

    def on_diverged(self) -> None:
        """Do what is left to do; ``on_training_end`` is not called."""


class Run:
    """
    Context manager for the loop of ``learn``. It saves checkpoints and handles signals between rollouts.

    :param model: The model, set up for training
    :param callback: The callback of this call, before ``on_training_start``
    """

    def __init__(self, model: Any, callback: BaseCallback) -> None:
        self.model = model
        self.callback = callback
        self._checkpointers: list[Checkpointer] = []
        self._contexts = contextlib.ExitStack()
        self._numbers_before_start = callback_numbers(callback) if model._resumed is not None else []
        self._signals: StopSignals | None = None
        self._growth = Growth(model)
        self._with_gradients = th.is_grad_enabled()
        model._access.begin(model, callback)

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: Any) -> bool | None:
        try:
            if isinstance(error, Exception) and self.model._env_raised:  # save what there is
                self._save_as_last(stopped=True)
            if isinstance(error, DivergedError):
                error.growth = str(self._growth)
                log_divergence(self.model.logger, self.model._episode_num)
                for child in callback_tree(self.callback):
                    if isinstance(child, RecordsDivergence):
                        child.on_diverged()
        finally:
            if error is not None:
                th.set_grad_enabled(self._with_gradients)  # Ctrl-C may come when `torch.no_grad` is about to end
                self._close_bars()
                self.release_folders()
            self.model._access.end(failed=error is not None)
            suppresses_error = self._contexts.__exit__(kind, error, traceback)
        return suppresses_error

    def begin(self) -> None:
        """
        Restore what is left of a checkpoint, catch signals, and save a checkpoint if one is due.

        Call this after ``on_training_start`` of the callbacks.
        """
        model = self.model
        model._access.note()
        for child in callback_tree(self.callback):
            if isinstance(child, LectureCheckpointCallback) and child.checkpointer is not None:
                self._checkpointers.append(child.checkpointer)
        go_on(model, self.callback, self._numbers_before_start, bool(self._checkpointers))
        self._contexts.enter_context(naming_dead_processes(model.env, self._how_to_resume))
        if self._checkpointers:
            self._signals = self._contexts.enter_context(StopSignals())
        self._save_if_due()
        self._growth.note()

    def between_rollouts(self, proceeds: bool) -> None:
        """
        Save a checkpoint if one is due, and stop training after a signal.

        :param proceeds: ``False`` if a callback ends training
        :raises KeyboardInterrupt: After Ctrl-C
        :raises SystemExit: After SIGTERM
        """
        if proceeds and self._checkpointers:
            self._save_if_due()
        self._growth.note()
        if self._signals is not None and self.is_stopping:
            self._save_as_last(stopped=True)
            self._signals.stop()

    def next_due(self) -> Due:
        """
        Compute when the next checkpoint, measurement of the action values or test of the goal is due.

        :return: Steps or episodes from now
        """
        due = Due(steps=self._growth.next - self.model.num_timesteps)
        due = due.or_before(self.model._goal.next_due(self.model.num_timesteps))
        for checkpointer in self._checkpointers:
            due = due.or_before(checkpointer.every.from_now(self.model.num_timesteps, self.model._episode_num))
        return due

    @property
    def is_stopping(self) -> bool:
        """Whether a signal has come, so that training ends after this rollout."""
        return self._signals is not None and self._signals.received != 0

    def end(self) -> None:
        """Save the last checkpoint. Call this after ``on_training_end`` of the callbacks."""
        self._save_as_last()

    def _save_if_due(self) -> None:
        for checkpointer in self._checkpointers:
            checkpointer.save_if_due()

    def _save_as_last(self, stopped: bool = False) -> None:
        for checkpointer in self._checkpointers:
            checkpointer.save_as_last(stopped)

    def release_folders(self) -> None:
        """Leave the folders of checkpoints to other processes."""
        for child in callback_tree(self.callback):  # not all are in `_checkpointers` if another failed to start
            if isinstance(child, LectureCheckpointCallback) and child.checkpointer is not None:
                child.checkpointer.release()

    def _close_bars(self) -> None:
        """Close the progress bars of training that does not reach its end; else they would be drawn again later."""
        for child in callback_tree(self.callback):
            bar = vars(child).get("bar", vars(child).get("pbar"))  # this package's and SB3's
            if isinstance(bar, tqdm):
                bar.close()

    def _how_to_resume(self) -> str:
        """Return the part of an error message that tells how to resume after an environment has failed."""
        model = self.model
        when, algorithm = f"this was at environment step {model.num_timesteps}", type(model).__name__
        paths = [checkpointer.last_path for checkpointer in self._checkpointers]
        last = next((path for path in paths if path is not None), None)
        if last is None:
            return f"{when}, and there is no checkpoint: give learn() a LectureCheckpointCallback to be able to resume"
        return f"{when}. To resume from the last checkpoint: {algorithm}.resume({str(last)!r}, env=...).learn(...)"
