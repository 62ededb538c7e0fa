"""What a study found: a table in Markdown and CSV, and a figure."""

import csv
import io
import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_lecture_dqn.common.checks import shown
from sb3_lecture_dqn.evaluation.result import tells_optimality
from sb3_lecture_dqn.show import pictures
from sb3_lecture_dqn.show.pictures import as_plain_text
from sb3_lecture_dqn.study.statistics import (
    Estimate,
    estimate_interquartile_mean,
    performance_profile,
    probability_of_improvement,
)
from sb3_lecture_dqn.study.table import read_rows
from sb3_lecture_dqn.study.trial import reason

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Figures of a run, by what they are called here. Higher is better for each
METRICS = {"success_rate": "solved", "mean_reward": "reward", "optimality": "optimality"}
# Rewards of different tasks have no mean that says anything.
_OVER_TASKS = ("success_rate", "optimality")
ALL_TASKS = "all tasks"
#: Most pairs of a task and a setting in a report, most tasks in its picture, and most points of a curve there
MAX_GROUPS, MAX_PANELS, MAX_POINTS = 500, 40, 2000
BETTER = "better than baseline"

Rows = list[dict[str, Any]]
Record = dict[str, Any]


def write_report(folder: str | pathlib.Path) -> list[str]:
    """
    Write ``report.md``, ``report.csv`` and, where matplotlib is installed, ``report.png`` into a study's folder.

    :param folder: The study's folder, which may be of a study that still runs
    :return: Lines of text: the table, and what was left out of it
    :raises FileNotFoundError: If there is no study
    :raises ValueError: If no trial is done
    """
    folder = pathlib.Path(folder)
    rows = read_rows(folder)
    for name in ("report.md", "report.csv", "report.png"):
        if (folder / name).is_symlink():
            raise ValueError(
                f"{folder / name} is a symbolic link, and what it leads to would be overwritten: remove it"
            )
    records = summary(rows)
    lines = [*markdown(records), "", *left_out(rows)]
    (folder / "report.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    (folder / "report.csv").write_text(to_csv(records), encoding="utf-8")
    try:
        pictures.require_viz("the figure of a study")
    except ImportError as error:
        return [*lines, str(error)]
    if (n_tasks := len({row["task"] for row in _done(rows)})) > MAX_PANELS:
        return [*lines, f"There is no figure of {n_tasks} tasks: {MAX_PANELS} are the most."]
    draw(rows).savefig(folder / "report.png", dpi=120)
    return [*lines, f"Figure: {folder / 'report.png'}"]


def summary(rows: Rows) -> list[Record]:
    """
    What is known of every setting on every task, and on all together: interquartile means with 95 % intervals.

    The first setting is the baseline: of the others it is told how likely a run has a higher reward than one of it.

    :param rows: What :func:`read_rows` returned
    :return: A record for every task and setting with ``task``, ``setting``, ``runs``, ``failed`` if any trial has, the
        :class:`Estimate` of every metric and of :data:`BETTER`; ``None`` where there is none. Ends of an interval are
        NaN where a task has one run only, which does not say how runs differ
    :raises ValueError: If no trial is done
    """
    done, settings = _done(rows), _settings(rows)
    if (n_groups := len({(row["task"], row["setting"]) for row in rows})) > MAX_GROUPS:
        raise ValueError(f"of {n_groups} tasks and settings there is no report: {MAX_GROUPS} are the most")
    failed = [row for row in rows if row["state"] == "failed"]
    tasks = list(dict.fromkeys(row["task"] for row in done))
    records = []
    for name, group in [*((task, [task]) for task in tasks), *([(ALL_TASKS, tasks)] if len(tasks) > 1 else [])]:
        baseline = _scores(done, settings[0], group, "mean_reward")
        for setting in settings:
            record: Record = {"task": name, "setting": setting}
            for name_of_count, counted in (("runs", done), *([("failed", failed)] if failed else [])):
                record[name_of_count] = sum(row["setting"] == setting and row["task"] in group for row in counted)
            for metric, title in METRICS.items():
                is_told = len(group) == 1 or metric in _OVER_TASKS
                scores = _scores(done, setting, group, metric) if is_told else None
                record[title] = None if scores is None else _told(estimate_interquartile_mean(scores), scores)
            scores = _scores(done, setting, group, "mean_reward")
            record[BETTER] = None
            if scores is not None and baseline is not None and setting != settings[0]:
                record[BETTER] = _told(probability_of_improvement(scores, baseline), [*scores, *baseline])
            records.append(record)
    return records


def _told(estimate: Estimate, scores: Sequence[np.ndarray]) -> Estimate:
    """The estimate with its interval, if there are runs enough for one."""
    nan = np.array(np.nan)
    return Estimate(estimate.value, nan, nan) if min(map(len, scores)) < 2 else estimate


def _done(rows: Rows) -> Rows:
    done = [row for row in rows if row["state"] == "done"]
    if not done:
        raise ValueError(f"of {len(rows)} trials none is done")
    return done


def _settings(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["setting"] for row in rows))


def _scores(done: Rows, setting: str, tasks: Sequence[str], metric: str) -> list[np.ndarray] | None:
    """The metric of every run, one array for every task; ``None`` if a task has none."""
    scores = [
        np.array([row[metric] for row in done if (row["setting"], row["task"]) == (setting, task)], dtype=object)
        for task in tasks
    ]
    if any(not len(task) or None in task for task in scores):
        return None
    return [task.astype(np.float64) for task in scores]


def left_out(rows: Rows) -> list[str]:
    """
    What the tables do not tell of.

    :param rows: What :func:`read_rows` returned
    :return: A line about trials that are not done, and one for each that failed
    """
    waiting = sum(row["state"] == "waiting" for row in rows)
    lines = [f"{waiting} of {len(rows)} trials are not done, and left out."] if waiting else []
    for row in rows:
        if row["state"] == "failed":
            trial = f"{row['task']}, {row['setting']}, seed {row['seed']}"
            lines.append(f"Failed, and left out: {trial}: {shown(reason(row['error']), 500)}")
    return lines


def markdown(records: Sequence[Record]) -> list[str]:
    """
    The table for readers.

    :param records: What :func:`summary` returned
    :return: Its lines
    """
    columns = list(records[0])
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for record in records:
        solved = record["solved"]
        untold = ["optimality"] if solved is not None and not tells_optimality(float(solved.value)) else []
        cells = [_cell(name, None if name in untold else value) for name, value in record.items()]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        f"Interquartile means of runs (of `{BETTER}`, the probability of a higher reward), with 95 % intervals where "
        "there are two runs or more. Optimality (0: the random policy, 1: the best) is left out where at most half of "
        "the episodes are solved: it would look better than it is.",
    ]
    if "failed" in columns:
        lines += ["The figures are those of the runs that ended; they say nothing of those that failed."]
    return lines


def _cell(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, Estimate):
        return str(value)
    form = "{:.1%}" if name in ("solved", BETTER) else "{:.3f}" if name == "optimality" else "{:.2f}"
    if np.isnan(value.low):
        return form.format(float(value.value))
    return f"{form} ({form} – {form})".format(*map(float, value))


def to_csv(records: Sequence[Record]) -> str:
    """
    The table for programs.

    :param records: What :func:`summary` returned
    :return: Comma-separated, an estimate as three columns; what there is not is empty
    """
    flat = []
    for record in records:
        entry: Record = {}
        for name, value in record.items():
            if name in ("task", "setting", "runs", "failed"):
                entry[name] = value
                continue
            numbers = [np.nan] * 3 if value is None else [float(number) for number in value]
            for suffix, number in zip(("", " low", " high"), numbers, strict=True):
                entry[name + suffix] = "" if np.isnan(number) else number
        flat.append(entry)
    out = io.StringIO()
    writer = csv.DictWriter(out, list(flat[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def draw(rows: Rows) -> "Figure":
    """
    Draw the learning curves, the performance profiles and the probabilities of improvement, a row for every task.

    The curve of rewards is shown in the range of its second half: untrained agents are often far below that. Runs that
    were not tested while they trained are in the profiles only.

    :param rows: What :func:`read_rows` returned
    :return: The figure
    :raises ValueError: If no trial is done
    """
    from matplotlib.figure import Figure

    records, done, settings = summary(rows), _done(rows), _settings(rows)
    tasks = list(dict.fromkeys(row["task"] for row in done))
    figure = Figure(figsize=(16, 3.4 * len(tasks) + 0.5), layout="constrained")
    panels = figure.subplots(len(tasks), 4, squeeze=False)
    for (solved, reward, profile, better), task in zip(panels, tasks, strict=True):
        here = [row for row in done if row["task"] == task]
        rewards = np.unique([row["mean_reward"] for row in here])
        # One below all: there every profile begins, at 1
        thresholds = np.insert(rewards, 0, rewards[0] - (0.05 * np.ptp(rewards) or 1.0))
        in_range = []
        for number, setting in enumerate(settings):
            runs = [row for row in here if row["setting"] == setting]
            if not runs:
                continue
            tested = [row for row in runs if row["curve"][_x_axis(row)]]
            if tested:
                for axes, metric in ((solved, "success_rate"), (reward, "mean_reward")):
                    x, curve = learning_curve(tested, metric)
                    _draw_band(axes, x, curve, f"C{number}")
                in_range += [end[len(x) // 2 :] for end in curve]
            share = performance_profile([np.array([row["mean_reward"] for row in runs])], thresholds)
            _draw_band(profile, thresholds, share, f"C{number}", as_plain_text(setting), drawstyle="steps-post")
            of_setting = [record for record in records if (record["task"], record["setting"]) == (task, setting)]
            _draw_improvement(better, number, of_setting[0][BETTER])
        solved.set(
            title=as_plain_text(task), xlabel=_x_axis(here[0]), ylabel="share of solved episodes", ylim=(-0.02, 1.02)
        )
        reward.set(xlabel=_x_axis(here[0]), ylabel="reward")
        if in_range:
            low, high = np.min(np.concatenate(in_range)), np.max(np.concatenate(in_range))
            margin = 0.05 * (high - low) or 1.0
            reward.set(ylim=(low - margin, high + margin))
        profile.set(xlabel="reward τ at the end", ylabel="share of runs above τ", ylim=(-0.02, 1.02))
        baseline = as_plain_text(repr(settings[0]))
        better.set(xlabel=f"probability of more reward than\n{baseline}", xlim=(0, 1))
        better.axvline(0.5, color="black", linestyle=":", linewidth=1)
        better.set_yticks(range(1, len(settings)), [*map(as_plain_text, settings[1:])])
        better.invert_yaxis()
    handles, labels = panels[0][2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(labels)))
    return figure


def learning_curve(runs: Rows, metric: str) -> tuple[np.ndarray, Estimate]:
    """
    The interquartile mean of the tests of several runs; where a run was not tested, its last test before counts.

    :param runs: Rows of one setting on one task
    :param metric: One of :data:`METRICS`
    :return: Episodes or environment steps, as they were tested by, from where all have been tested, shape ``(n,)``; and
        the means there
    """
    at = [np.array(row["curve"][_x_axis(row)]) for row in runs]
    x = np.unique(np.concatenate(at))
    x = x[x >= max(points[0] for points in at)]
    if len(x) > MAX_POINTS:
        x = x[np.linspace(0, len(x) - 1, MAX_POINTS).astype(int)]
    values = np.array(
        [
            np.array(row["curve"][metric])[np.searchsorted(points, x, side="right") - 1]
            for row, points in zip(runs, at, strict=True)
        ]
    )
    means = [estimate_interquartile_mean([column], n_resamples=1000) for column in values.T]
    return x, Estimate(*np.array(means).T)


def _x_axis(row: dict[str, Any]) -> str:
    _, unit = json.loads(row["definition"])["test_freq"]
    return "episodes" if unit == "episode" else "timesteps"


def _draw_band(
    axes: Any, x: np.ndarray, estimate: Estimate, colour: str, label: str | None = None, drawstyle: str = "default"
) -> None:
    axes.plot(x, estimate.value, color=colour, label=label, drawstyle=drawstyle)
    step = "post" if drawstyle == "steps-post" else None
    axes.fill_between(x, estimate.low, estimate.high, step=step, color=colour, alpha=0.2, linewidth=0)
    axes.grid(alpha=0.3)


def _draw_improvement(axes: Any, number: int, estimate: Estimate | None) -> None:
    if estimate is not None:
        low, value, high = (float(end) for end in (estimate.low, estimate.value, estimate.high))
        if not np.isnan(low):
            axes.barh(number, high - low, left=low, height=0.5, color=f"C{number}", alpha=0.4)
        axes.plot([value, value], [number - 0.25, number + 0.25], color=f"C{number}")
