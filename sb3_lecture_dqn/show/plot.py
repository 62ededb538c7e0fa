"""Learning curves of one or many runs, from their TensorBoard files."""

import contextlib
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sb3_lecture_dqn.common.bars import Bar
from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.common.run_files import CONFIG
from sb3_lecture_dqn.common.user_yaml import read_yaml_file
from sb3_lecture_dqn.envs.exact import policy_figures
from sb3_lecture_dqn.envs.make import LECTURE_MAX_EPISODE_STEPS, check_env_id, id_step_limit, make_env
from sb3_lecture_dqn.envs.tabular import NotTabularError, TabularModel
from sb3_lecture_dqn.evaluation.run import PENALTY_REWARD
from sb3_lecture_dqn.registration import TAXI_IDS
from sb3_lecture_dqn.saving.logs import DIVERGED_TAG
from sb3_lecture_dqn.saving.model_file import ModelSummary, read_summary
from sb3_lecture_dqn.show import pictures
from sb3_lecture_dqn.show.curves import Curve, RunLine, draw_curves, mean_curve, styles_of
from sb3_lecture_dqn.show.event_reader import read_scalars

#: Options in which runs of one setting may differ
_NOT_OF_SETTING = (
    "version",
    "seed",
    "episodes",
    "timesteps",
    "test_episodes",
    "checkpoint_freq",
    "pictures",
    "image_freq",
    "page",
)
#: Options of a run with the lecture's settings; they do not decide the colour of its line
_LECTURE = {"env=Taxi-v3", "algo=lecture_dqn", "store_and_replay", "double_dqn", "engine=auto"}
_EVENTS = "events.out.tfevents.*"
#: Most letters of an option in a label, and most options
_MAX_WORD, _MAX_WORDS = 80, 12
PLOT_SUFFIXES = (".png", ".svg", ".pdf")
#: The scalars of the lecture's test in TensorBoard: tag and title in a plot
TAGS = {
    "Solved": "share of solved episodes",
    "Reward": "reward per episode",
    "Steps": "steps per episode",
    "Penalty": "penalties per episode",
}
#: The lecture's printed result after 5000 episodes of Taxi; 99 of its 100 episodes are solved
LECTURE_RESULT = {"Steps": 23.18, "Penalty": 0.0, "Reward": -2.39, "Solved": 0.99}
#: The end of a run's name: seed, date and time, by this package, or a number, by SB3
_RUN_SUFFIX = re.compile(r"(_seed\d+)?(_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)?(_\d+)?$")

Points = dict[int, float]


def plot_runs(
    paths: Sequence[str | pathlib.Path], out: str | pathlib.Path, env_id: str | None = None, progress: bool = False
) -> list[str]:
    """
    Draw the learning curves of runs: share of solved episodes, reward, steps and penalties, by the number of episodes.

    Runs whose names differ only in seed, date, time or number are seeds of one setting. They become one curve: their
    mean, as far as all of them go. Fewer than five runs are drawn one by one, too, as thin lines. From five runs on,
    the mean has a 95 % interval, by a bootstrap with a fixed seed. A run that diverged ends in a cross. Runs of the
    command line are seeds of one setting only if their ``config.yaml`` agree too; else the labels show the options that
    differ. A setting has the same colour in every plot, unless another one in the plot has it.

    :param paths: Folders of runs, or folders that contain folders of runs
    :param out: File of the picture, ``.png``, ``.svg`` or ``.pdf``
    :param env_id: Id of the environment whose optimum is drawn; ``None`` for the environment of the models in the runs'
        folders, if they all have the same one, and it is registered in this process. For Taxi, the lecture's printed
        result is drawn too
    :param progress: Whether to show a progress bar
    :return: A line of text about every curve
    :raises ImportError: If matplotlib is not installed
    :raises ValueError: If there are no runs, or none of them has logged the lecture's test
    """
    out = pathlib.Path(out)
    if out.suffix.lower() not in PLOT_SUFFIXES:
        raise ValueError(f"out={str(out)!r} must end in one of {', '.join(PLOT_SUFFIXES)}")
    pictures.require_viz("a plot")
    folders = find_runs(paths)
    settings: dict[tuple[str, frozenset[str]], list[dict[str, Points]]] = {}
    for folder in Bar(folders, unit="run", leave=False, disable=not progress):
        name = shown(_RUN_SUFFIX.sub("", folder.name) or folder.name, _MAX_WORD)
        settings.setdefault((name, _options(folder)), []).append(read_run(folder))
    keys = {setting: _key(*setting) for setting in settings}
    style_of_key = styles_of(keys.values())
    panels: dict[str, dict[str, Curve]] = {}
    styles = {}
    for tag, title in TAGS.items():
        for (name, options), runs in settings.items():
            in_common = frozenset.intersection(*(other for same_name, other in settings if same_name == name))
            tested = [_line(run, tag) for run in runs if tag in run]
            if tested:
                n = len(tested)
                label = f"{', '.join([name, *_label_words(options - in_common)])} ({n} run{'s' * (n > 1)})"
                panels.setdefault(title, {})[label] = mean_curve(tested)
                styles[label] = style_of_key[keys[name, options]]
    if not panels:
        raise ValueError(
            f"runs={[*map(str, paths)]} have not logged the lecture's test ({', '.join(TAGS)}); train with "
            "LectureTestCallback, or by `sb3-lecture-dqn train`"
        )
    models = _models_of(folders)
    models_env_id = _env_id_of(models)
    limit = _step_limit_of(models) if env_id in (None, models_env_id) else None
    references = _references(env_id or models_env_id, limit)
    out.parent.mkdir(parents=True, exist_ok=True)
    draw_curves(panels, references, "episodes", styles).savefig(out, dpi=120)
    return [
        f"{label}: {title} {_in_words(curve)}" for title, curves in panels.items() for label, curve in curves.items()
    ]


def _key(name: str, options: frozenset[str]) -> str:
    """Return the text that decides the colour of a setting. It does not depend on the other settings of the plot."""
    return ", ".join([name, *sorted(options - _LECTURE)])


def _line(run: Mapping[str, Points], tag: str) -> RunLine:
    points = run[tag]
    return RunLine(np.array([*points]), np.array([*points.values()]), DIVERGED_TAG in run)


def _in_words(curve: Curve) -> str:
    """Tell the last point of a curve in words."""
    diverged = sum(run.diverged for run in curve.runs)
    note = f"; {diverged} of {len(curve.runs)} diverged" if diverged else ""
    if not len(curve.x):
        return f"has no mean, as its runs have no episodes in common{note}"
    text = f"{curve.mean[-1]:.2f}"
    if curve.has_band:
        text += f" (95 % interval {curve.low[-1]:.2f} – {curve.high[-1]:.2f})"
    elif len(curve.runs) > 1:
        last = [run.y[np.searchsorted(run.x, curve.x[-1], side="right") - 1] for run in curve.runs]
        text += f" (runs {min(last):.2f} – {max(last):.2f})"
    text += f" after {int(curve.x[-1])} episodes"
    longest = max(int(run.x[-1]) for run in curve.runs)
    if longest > curve.x[-1]:
        text += f", where the shortest run ends; the longest ends at {longest}"
    return text + note


def find_runs(paths: Sequence[str | pathlib.Path]) -> list[pathlib.Path]:
    """
    Find the folders with event files.

    :param paths: Folders with event files, or folders that contain such folders
    :return: The folders with event files, each once, sorted
    :raises ValueError: If a path contains no event files
    """
    all_runs: set[pathlib.Path] = set()
    for path in map(pathlib.Path, paths):
        runs = {events.parent.resolve() for events in path.rglob(_EVENTS) if events.is_file()}
        if not runs:
            raise ValueError(f"runs={str(path)!r} is not a folder with TensorBoard's event files")
        all_runs |= runs
    return sorted(all_runs)


def _label_words(options: frozenset[str]) -> list[str]:
    """Shorten options for a label."""
    words = [shown(option, _MAX_WORD) for option in sorted(options)]
    return words if len(words) <= _MAX_WORDS else [*words[:_MAX_WORDS], "…"]


def _options(folder: pathlib.Path) -> frozenset[str]:
    """Return the options that define the setting of a run, as text; none if the command line did not train it."""
    try:
        config = read_yaml_file(folder / CONFIG)
    except (OSError, ValueError):
        return frozenset()
    words: set[str] = set()
    for name, value in config.items() if isinstance(config, dict) else ():
        if value and name not in _NOT_OF_SETTING:
            entries = set(map(str, value)) if isinstance(value, list) else {f"{name}={value}"}
            words |= {str(name)} if value is True else entries
    return frozenset(words)


def read_run(folder: pathlib.Path) -> dict[str, Points]:
    """
    Read the lecture's tests from the event files of a run.

    A run that continued from an earlier point has logged some episodes twice: a value replaces the earlier written
    values of the same and of later episodes.

    :param folder: The run's folder
    :return: For every logged tag of :data:`TAGS`, the values by episode, in the order of the episodes. If the run
        diverged, and was not continued from an earlier point, also :data:`DIVERGED_TAG`
    :raises UnsafeFileError: If a file is damaged, or no event file
    """
    run: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob(_EVENTS)):
        if file.is_file():
            for tag, step, value in read_scalars(file, (*TAGS, DIVERGED_TAG)):
                points = run.setdefault(tag, [])
                while points and points[-1][0] >= step:
                    points.pop()
                points.append((step, value))
                if DIVERGED_TAG in run and step > run[DIVERGED_TAG][-1][0]:
                    del run[DIVERGED_TAG]
    return {tag: dict(points) for tag, points in run.items()}


def _models_of(folders: Sequence[pathlib.Path]) -> list[ModelSummary]:
    """Read the summaries of this package's models in the runs' folders."""
    models = []
    for path in (path for folder in folders for path in folder.glob("*.zip")):
        with contextlib.suppress(UnsafeFileError, OSError):  # no model of this package
            if path.is_file():  # a named pipe would block
                models.append(read_summary(path))
    return models


def _env_id_of(models: Sequence[ModelSummary]) -> str | None:
    """Return the environment id of models, if they all have the same id, and it is registered in this process."""
    env_ids = {model.env_id for model in models}
    env_id = env_ids.pop() if len(env_ids) == 1 else None
    if env_id is not None:
        try:
            check_env_id(env_id)
        except ValueError:
            return None
    return env_id


def _step_limit_of(models: Sequence[ModelSummary]) -> int | None:
    """Return the step limit of models, if they all have the same."""
    limits = {model.max_episode_steps for model in models}
    return limits.pop() if len(limits) == 1 else None


def _references(env_id: str | None, max_episode_steps: int | None = None) -> dict[str, Mapping[str, float]]:
    """Return horizontal lines: by their name, their height in every panel."""
    references: dict[str, Mapping[str, float]] = {}
    if env_id is None:
        return references
    # Without a limit, use the lecture's limit: the best policies of grid worlds need fewer steps.
    limit = max_episode_steps or id_step_limit(env_id) or LECTURE_MAX_EPISODE_STEPS
    env = make_env(env_id, limit)
    try:
        table = TabularModel.from_env(env)
    except NotTabularError:
        return references
    finally:
        env.close()
    best = policy_figures(table, table.optimum(limit).actions, limit, PENALTY_REWARD)
    columns: dict[str, Any] = {
        "Steps": best.steps,
        "Penalty": best.penalties,
        "Reward": best.returns,
        "Solved": best.successes,
    }
    references["optimum"] = {TAGS[tag]: table.mean_over_starts(column) for tag, column in columns.items()}
    if env_id in TAXI_IDS:
        references["printed in the lecture"] = {TAGS[tag]: value for tag, value in LECTURE_RESULT.items()}
    return references
