"""Learning curves of one or many runs, from their TensorBoard files."""

import contextlib
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.common.user_yaml import read_yaml_file
from sb3_lecture_dqn.envs.exact import policy_figures
from sb3_lecture_dqn.envs.make import LECTURE_MAX_EPISODE_STEPS, check_env_id, id_step_limit, make_env
from sb3_lecture_dqn.envs.tabular import NotTabularError, TabularModel
from sb3_lecture_dqn.evaluation.run import PENALTY_REWARD
from sb3_lecture_dqn.saving.model_file import ModelSummary, read_summary
from sb3_lecture_dqn.show import pictures
from sb3_lecture_dqn.show.event_reader import read_scalars
from sb3_lecture_dqn.show.pictures import Curve

#: The options of a run on the command line, beside it
CONFIG = "config.yaml"
# Options that do not make a run one of another setting
_NOT_OF_SETTING = ("version", "seed", "episodes", "timesteps", "test_episodes", "checkpoint_freq", "pictures")
_EVENTS = "events.out.tfevents.*"
# Most letters of an option in a label, and most options
_MAX_WORD, _MAX_WORDS = 80, 12
PLOT_SUFFIXES = (".png", ".svg", ".pdf")
CONFIDENCE = 0.95
#: The lecture's test, as it stands in TensorBoard: the name of a scalar and what it is called in a plot.
FIGURES = {
    "Steps": "steps per episode",
    "Penalty": "penalties per episode",
    "Reward": "reward per episode",
    "Solved": "share of solved episodes",
}
#: What the lecture prints after 5000 episodes of Taxi; 99 of its 100 episodes are solved.
LECTURE_RESULT = {"Steps": 23.18, "Penalty": 0.0, "Reward": -2.39, "Solved": 0.99}
_TAXI = ("Taxi-v3", "Taxi-v4")
# What SB3 and this package put at the end of a run's name: a number, or date and time.
_RUN_SUFFIX = re.compile(r"(_\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d)?(_\d+)?$")

Points = dict[int, float]


def plot_runs(
    paths: Sequence[str | pathlib.Path], out: str | pathlib.Path, env_id: str | None = None, progress: bool = False
) -> list[str]:
    """
    Draw the learning curves of runs: steps, penalties, reward and share of solved episodes, by the number of episodes.

    Runs whose names differ only in date, time or number are seeds of one setting: they are one curve, their mean, with
    its 95 % confidence interval. Runs of the command line, which has left their options beside them, only if those are
    the same too; else the curves say what differs.

    :param paths: Folders of runs, or folders that hold such
    :param out: Where the picture goes, ``.png``, ``.svg`` or ``.pdf``
    :param env_id: Environment whose optimum is drawn; ``None`` for that of the models beside the runs, if all have the
        same and it is registered here. With Taxi there is also the result that the lecture prints
    :param progress: Show a bar of the runs that are read
    :return: A line of text about every curve
    :raises ImportError: If matplotlib or scipy is not installed
    :raises ValueError: If there are no runs, or they hold no test of the lecture's
    """
    out = pathlib.Path(out)
    if out.suffix.lower() not in PLOT_SUFFIXES:
        raise ValueError(f"out={str(out)!r} must end in one of {', '.join(PLOT_SUFFIXES)}")
    pictures.require_viz("a plot")
    try:
        import scipy.stats  # noqa: F401
    except ImportError as error:
        raise ImportError("a plot needs scipy: pip install 'sb3-lecture-dqn[viz]'") from error
    folders = find_runs(paths)
    settings: dict[tuple[str, frozenset[str]], list[dict[str, Points]]] = {}
    for folder in tqdm(folders, unit="run", leave=False, dynamic_ncols=True, disable=not progress):
        name = shown(_RUN_SUFFIX.sub("", folder.name) or folder.name, _MAX_WORD)
        settings.setdefault((name, _options(folder)), []).append(read_run(folder))
    panels: dict[str, dict[str, Curve]] = {}
    for figure, title in FIGURES.items():
        for (name, options), runs in settings.items():
            in_common = frozenset.intersection(*(other for same_name, other in settings if same_name == name))
            with_figure = [run[figure] for run in runs if figure in run]
            if with_figure:
                n = len(with_figure)
                label = f"{', '.join([name, *_in_words(options - in_common)])} ({n} run{'s' * (n > 1)})"
                panels.setdefault(title, {})[label] = mean_curve(with_figure)
    if not panels:
        raise ValueError(
            f"runs={[*map(str, paths)]} hold no test of the lecture's ({', '.join(FIGURES)}); train with "
            "LectureTestCallback, or by `sb3-lecture-dqn train`"
        )
    models = _models_of(folders)
    own_id = _env_id_of(models)
    of_models = env_id in (None, own_id)
    references = _references(own_id if of_models else env_id, _step_limit_of(models) if of_models else None)
    out.parent.mkdir(parents=True, exist_ok=True)
    pictures.draw_curves(panels, references, "episodes").savefig(out, dpi=120)
    return [
        f"{label}: {title} {curve.mean[-1]:.2f}"
        + ("" if math.isnan(curve.half_width[-1]) else f" ± {curve.half_width[-1]:.2f}")
        + f" after {int(curve.x[-1])} episodes"
        for title, curves in panels.items()
        for label, curve in curves.items()
    ]


def find_runs(paths: Sequence[str | pathlib.Path]) -> list[pathlib.Path]:
    """
    Find the folders that hold event files.

    :param paths: Such folders, or folders around them
    :return: All of them, each once, in the order of their names
    :raises ValueError: If a path leads to none
    """
    found: set[pathlib.Path] = set()
    for path in map(pathlib.Path, paths):
        runs = {events.parent.resolve() for events in path.rglob(_EVENTS) if events.is_file()}
        if not runs:
            raise ValueError(f"runs={str(path)!r} is no folder with TensorBoard's event files in it")
        found |= runs
    return sorted(found)


def _in_words(options: frozenset[str]) -> list[str]:
    """Options for a label, which is printed too: not more than can be read."""
    words = [shown(option, _MAX_WORD) for option in sorted(options)]
    return words if len(words) <= _MAX_WORDS else [*words[:_MAX_WORDS], "…"]


def _options(folder: pathlib.Path) -> frozenset[str]:
    """The options that make a run one of its setting, in words; none where it is not known which it had."""
    try:
        config = read_yaml_file(folder / CONFIG)
    except (OSError, ValueError):  # it was not trained on the command line
        return frozenset()
    words: set[str] = set()
    for name, value in config.items() if isinstance(config, dict) else ():
        if value and name not in _NOT_OF_SETTING:
            of_set = set(map(str, value)) if isinstance(value, list) else {f"{name}={value}"}
            words |= {str(name)} if value is True else of_set
    return frozenset(words)


def read_run(folder: pathlib.Path) -> dict[str, Points]:
    """
    Read the lecture's tests from the event files of a run.

    Where a run was taken up again from an earlier point, what it overwrote is left out: a value hides those of the same
    and of later episodes that were written before it.

    :param folder: The run's folder
    :return: The value at every tested episode, in their order, for every name of :data:`FIGURES` that there is
    :raises UnsafeFileError: If a file is damaged, or no event file
    """
    run: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob(_EVENTS)):
        if file.is_file():
            for tag, step, value in read_scalars(file, FIGURES):
                points = run.setdefault(tag, [])
                while points and points[-1][0] >= step:
                    points.pop()
                points.append((step, value))
    return {tag: dict(points) for tag, points in run.items()}


def mean_curve(runs: Sequence[Points]) -> Curve:
    """
    The mean of several runs and its confidence interval, at every episode at which all were tested that got so far.

    The interval is Student's: ``t · s / √n`` for n runs with the standard deviation s.

    :param runs: The value of every run by episode
    :return: The mean, and half the width of the interval where there are at least two runs
    """
    from scipy.stats import t

    episodes = sorted(set().union(*runs))
    means, half_widths = [], []
    for episode in episodes:
        values = np.array([run[episode] for run in runs if episode in run])
        means.append(values.mean())
        n = len(values)
        half_widths.append(
            t.ppf((1 + CONFIDENCE) / 2, n - 1) * values.std(ddof=1) / math.sqrt(n) if n > 1 else math.nan
        )
    return Curve(np.array(episodes), np.array(means), np.array(half_widths))


def _models_of(folders: Sequence[pathlib.Path]) -> list[ModelSummary]:
    """What the models that lie beside the runs are of."""
    found = []
    for path in (path for folder in folders for path in folder.glob("*.zip")):
        with contextlib.suppress(UnsafeFileError, OSError):  # no model of this package
            if path.is_file():  # and no pipe, which would be waited for
                found.append(read_summary(path))
    return found


def _env_id_of(models: Sequence[ModelSummary]) -> str | None:
    """The environment of models, if there is but one and this process knows it."""
    found = {model.env_id for model in models}
    env_id = found.pop() if len(found) == 1 else None
    if env_id is not None:
        try:
            check_env_id(env_id)
        except ValueError:  # the program that trained on it has registered it
            return None
    return env_id


def _step_limit_of(models: Sequence[ModelSummary]) -> int | None:
    """The step limit of models, if there is but one."""
    found = {model.max_episode_steps for model in models}
    return found.pop() if len(found) == 1 else None


def _references(env_id: str | None, max_episode_steps: int | None = None) -> dict[str, Mapping[str, float]]:
    """Horizontal lines: their name, and their height in every panel."""
    references: dict[str, Mapping[str, float]] = {}
    if env_id is None:
        return references
    # Without any limit the lecture's: the best policies of grid worlds need fewer steps.
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
    references["optimum"] = {FIGURES[name]: table.mean_over_starts(column) for name, column in columns.items()}
    if env_id in _TAXI:
        references["printed in the lecture"] = {FIGURES[name]: value for name, value in LECTURE_RESULT.items()}
    return references
