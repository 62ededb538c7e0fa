"""Runs as a page takes them: recorded ones, those with checkpoints, and models."""

import contextlib
import copy
import dataclasses
import pathlib
from typing import Any

from sb3_lecture_dqn.algorithms import load_model, load_run
from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.common.checks import UnsafeFileError
from sb3_lecture_dqn.common.run_files import MODEL, RECORDING
from sb3_lecture_dqn.envs.tabular import NotTabularError
from sb3_lecture_dqn.saving.checkpoint_folder import checkpoint_steps
from sb3_lecture_dqn.show.page.callback import LecturePageCallback, check_can_be_shown
from sb3_lecture_dqn.show.page.moment import Moment, Taker
from sb3_lecture_dqn.show.page.recording import Recording
from sb3_lecture_dqn.show.page.world import World
from sb3_lecture_dqn.training.algorithm import LectureAlgorithm


@dataclasses.dataclass
class Source:
    """
    A run for a page.

    :param name: Name of the run
    :param model: A model with its settings and networks, which stays unchanged
    :param world: Its environment
    :param moments: Its moments, in the order of time
    :param last: The model at the last moment with its memory, if it is known
    """

    name: str
    model: Any
    world: World
    moments: list[Moment]
    last: Any = None


def open_run(run: Any) -> Source:
    """
    Open a run.

    :param run: The folder of a run, the file of a model, or a model of this package
    :return: The run
    :raises TypeError: If it is something else
    :raises FileNotFoundError: If it does not exist, or the folder has no recording, no checkpoints and no ``model.zip``
    :raises NotTabularError: If its environment is not tabular; the message says why
    """
    if isinstance(run, LectureAlgorithm):
        return _of_model(run)
    if not isinstance(run, str | pathlib.Path):
        raise TypeError(f"runs: {type(run).__name__} is neither a folder nor a model of LectureDQN or LectureQRDQN")
    path = pathlib.Path(run)
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"run={str(path)!r}: there is no such folder or file")
        return _of_one_moment(path.stem, load_model(path))
    if (recording := Recording(path / RECORDING)).exists():
        source = _of_recording(path.resolve().name, recording)
        with contextlib.suppress(OSError, ValueError):  # a run that was stopped has no model, or an older one
            last = load_run(path)
            source.last = last if last.num_timesteps == source.moments[-1].step else None
        return source
    for folder in (path / "checkpoints", path):
        if steps := checkpoint_steps(folder):
            return _of_checkpoints(path.resolve().name, sorted(steps, key=lambda file: steps[file]))
    if (path / MODEL).is_file():
        return _of_one_moment(path.resolve().name, load_model(path / MODEL))
    raise FileNotFoundError(
        f"run={str(path)!r}: there is no recording (see LecturePageCallback), no checkpoint and no {MODEL}"
    )


def _of_model(model: LectureAlgorithm) -> Source:
    for child in callback_tree(model._callback) if model._callback is not None else ():
        if isinstance(child, LecturePageCallback) and child.recording is not None and child.recording.exists():
            source = _of_recording(child.recording.folder.parent.resolve().name, child.recording)
            source.last = model if model.num_timesteps == source.moments[-1].step else None
            return source
    return _of_one_moment(type(model).__name__, model)


def _of_recording(name: str, recording: Recording) -> Source:
    model, described = recording.run()
    try:
        world = World.of_description(described, model.gamma)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UnsafeFileError(f"{recording.folder}: its world is not valid: {error}") from None
    if not (moments := recording.moments()):
        raise UnsafeFileError(f"{recording.folder}: it has no moment that can be read")
    return Source(name, model, world, moments)


def _of_one_moment(name: str, model: Any) -> Source:
    world = _world_of(name, model)
    return Source(name, model, world, [_kept(Taker(model, world.table, model._n_updates).take(["end"]))], model)


def _of_checkpoints(name: str, files: list[pathlib.Path]) -> Source:
    moments: list[Moment] = []
    source: Source | None = None
    for file in files:
        model = load_run(file)
        world = _world_of(name, model) if source is None else source.world
        why = ["start"] if model.num_timesteps == 0 else ["checkpoint"]
        moments.append(_kept(Taker(model, world.table, 0).take(why if file != files[-1] else [*why, "end"])))
        source = Source(name, model, world, moments, model)
    assert source is not None
    return source


def _world_of(name: str, model: Any) -> World:
    try:
        return check_can_be_shown(model)
    except NotTabularError as error:
        raise NotTabularError(f"{name}: {error}") from error


def _kept(moment: Moment) -> Moment:
    """Copy the arrays of a moment, which are those of a model."""
    return copy.deepcopy(moment)
