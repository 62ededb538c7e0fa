"""The checkpoints of a run: when they are written, where they are, and which of them are kept."""

import pathlib
import warnings
from collections.abc import Callable
from typing import Any

from tqdm import tqdm

from sb3_lecture_dqn.saving.checkpoint_folder import (
    checkpoint_path,
    checkpoint_steps,
    checkpoints_in,
    claim,
    remove_later,
    remove_unfinished,
)
from sb3_lecture_dqn.saving.env_state import unknown_parts
from sb3_lecture_dqn.saving.run_state import check_can_be_resumed, write_run


def folder_for(model: Any, save_path: pathlib.Path | None) -> pathlib.Path:
    """
    Make the folder for a run's checkpoints, and check that the checkpoints can be written there.

    :param model: The model, when its logger is made
    :param save_path: The folder. If ``None``, ``checkpoints`` in the folder of the logs
    :return: The folder
    :raises ValueError: If ``save_path`` is ``None`` and there are no logs, if the folder contains checkpoints of
        another run, or if the model cannot be checkpointed
    """
    check_can_be_resumed(model)
    if save_path is None:
        if model.logger.dir is None or (model.tensorboard_log is None and not model._custom_logger):
            raise ValueError("save_path=None, but the model logs to no folder: set save_path or tensorboard_log")
        save_path = pathlib.Path(model.logger.dir) / "checkpoints"
    save_path.mkdir(parents=True, exist_ok=True)
    steps_of_others = checkpoint_steps(save_path).values() if model._resumed is None else ()
    if steps_of_others and (model.num_timesteps == 0 or max(steps_of_others) > model.num_timesteps):
        raise ValueError(
            f"save_path={str(save_path)!r} has checkpoints of another run: continue it by {type(model).__name__}."
            f"resume({str(save_path)!r}), or choose another folder"
        )
    if unknown := unknown_parts(model.env):
        warnings.warn(
            f"{', '.join(unknown)}: their position in an episode cannot be saved, so resume will begin new episodes; "
            "wrap every sub-environment in ResumableEnv, and add get_state() and set_state() to the wrappers"
        )
    return save_path


class Checkpointer:
    """
    Write the checkpoints of a run between its rollouts.

    :param model: The model that trains
    :param folder: The folder for checkpoints, see :func:`folder_for`
    :param every: Interval between two checkpoints, see :class:`schedule.Every`
    :param keep: Number of newest checkpoints to keep, ``None`` for all
    :param verbose: Verbosity level: 1 to print after Ctrl-C how to resume, 2 to print every checkpoint too
    :param before_save: Function that is called before a checkpoint is written
    :param locks: Whether to keep other processes from the folder
    :raises ValueError: If another process trains into this folder
    """

    def __init__(
        self,
        model: Any,
        folder: pathlib.Path,
        every: Any,
        keep: int | None,
        verbose: int,
        before_save: Callable[[], None],
        locks: bool = True,
    ) -> None:
        self.model = model
        self.folder = folder
        self.every = every
        self.keep = keep
        self.verbose = verbose
        self.before_save = before_save
        #: The newest checkpoint of this run
        self.last_path: pathlib.Path | None = None
        self._is_first = model._resumed is None
        self._lock = claim(folder) if locks else None
        remove_unfinished(folder)
        self.every.start(model.num_timesteps, model._episode_num)

    def save_if_due(self) -> None:
        """Save a checkpoint if one is due. The first is due at once, and an error while saving it ends training."""
        due = self.every.due(self.model.num_timesteps, self.model._episode_num)
        if self._is_first:  # if checkpoints cannot be saved at all, fail before work is lost
            self._is_first = False
            self._save()
        elif due:
            self._save_or_warn()

    def save_as_last(self, stopped: bool = False) -> None:
        """
        Save a checkpoint when training ends.

        :param stopped: Whether training ends early; then print how to resume
        """
        self._save_or_warn()
        if stopped and self.verbose >= 1:
            model = self.model
            tqdm.write(
                f"Stopped after {model._episode_num} episodes, {model.num_timesteps} steps. To go on: "
                f"{type(model).__name__}.resume({str(self.folder)!r}).learn(...), with the same arguments"
            )

    def release(self) -> None:
        """Leave the folder to other processes."""
        if self._lock is not None:
            self._lock.release()

    def _save_or_warn(self) -> None:
        try:
            self._save()
        except OSError as error:
            last = "none was saved before" if self.last_path is None else f"the last one is {self.last_path}"
            warnings.warn(f"no checkpoint at step {self.model.num_timesteps}: {error}; {last}")

    def _save(self) -> None:
        self.before_save()
        path = checkpoint_path(self.folder, self.model.num_timesteps)
        write_run(self.model, path)
        remove_later(self.folder, self.model.num_timesteps)
        self.last_path = path
        if self.verbose >= 2:
            tqdm.write(f"Saved {path}")
        for old in checkpoints_in(self.folder)[self.keep :] if self.keep is not None else []:
            if old != path:
                old.unlink(missing_ok=True)
