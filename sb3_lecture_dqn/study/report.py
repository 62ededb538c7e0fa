"""The report of a study: a table in Markdown and CSV, and a figure."""

import csv
import io
import json
import pathlib
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_lecture_dqn.common.checks import parse_frequency, shown
from sb3_lecture_dqn.common.statistics import (
    Estimate,
    estimate_interquartile_mean,
    performance_profile,
    probability_of_improvement,
)
from sb3_lecture_dqn.evaluation.result import tells_optimality
from sb3_lecture_dqn.saving.files import written_whole
from sb3_lecture_dqn.show.curves import (
    MIN_RUNS_OF_BAND,
    Curve,
    LineStyle,
    RunLine,
    draw_curve,
    heights_of,
    limits_around,
    mean_curve,
    styles_of,
)
from sb3_lecture_dqn.show.pictures import as_plain_text, require_viz
from sb3_lecture_dqn.study.table import read_rows
from sb3_lecture_dqn.study.trial import reason

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The reported fields of a row, and their names in the report. For each, higher is better
METRICS = {"success_rate": "solved", "mean_reward": "reward", "optimality": "optimality"}
#: The metrics that have a meaningful mean over tasks; rewards of different tasks do not compare
_OVER_TASKS = ("success_rate", "optimality")
ALL_TASKS = "all tasks"
#: Most pairs of a task and a setting in a report, and most tasks in its figure
MAX_GROUPS, MAX_PANELS = 500, 40
#: Columns of a terminal
_COLUMNS = 80
BETTER = "better than baseline"

Rows = list[dict[str, Any]]
Record = dict[str, Any]


def write_report(folder: str | pathlib.Path) -> list[str]:
    """
    Write ``report.md``, ``report.csv`` and, if matplotlib is installed, ``report.png`` into a study's folder.

    :param folder: The study's folder. The study may still run
    :return: Lines of text of at most 80 columns, but for long names: the figures, and the runs that they leave out
    :raises FileNotFoundError: If the folder has no study
    :raises ValueError: If no run is done
    """
    folder = pathlib.Path(folder)
    rows = read_rows(folder)
    for name in ("report.md", "report.csv", "report.png"):
        if (folder / name).is_symlink():
            raise ValueError(f"{folder / name} is a symbolic link, and its target would be overwritten: remove it")
        if (folder / name).exists() and not (folder / name).is_file():
            raise ValueError(f"{folder / name} is no file, and would be written to: remove it")
    records = summary(rows)
    missing = left_out(rows)
    text = "\n".join([*markdown(records), "", *map(_as_text, missing)])
    _write(folder / "report.md", text.rstrip() + "\n")
    lines = [*for_terminal(records), *[line for entry in missing for line in _wrapped(entry)]]
    _write(folder / "report.csv", to_csv(records))
    try:
        require_viz("the figure of a study")
    except ImportError as error:
        return [*lines, str(error)]
    if (n_tasks := len({row["task"] for row in _done(rows)})) > MAX_PANELS:
        return [*lines, f"No figure is drawn: the study has {n_tasks} tasks, and a figure at most {MAX_PANELS}."]
    with written_whole(folder / "report.png", "png") as file:
        draw(rows).savefig(file, dpi=120)
    return [*lines, f"Figure: {folder / 'report.png'}"]


def _as_text(text: str) -> str:
    """Write a text in Markdown so that nothing in it is HTML or ends a cell: a table may be of somebody else."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")


def _write(path: pathlib.Path, text: str) -> None:
    with written_whole(path, path.suffix[1:]) as file:
        file.write(text.encode())


def summary(rows: Rows) -> list[Record]:
    """
    Compute the interquartile means with 95 % intervals of every setting, on every task and over all tasks.

    The first setting is the baseline. For the other settings, compute the probability that a run has a higher reward
    than a run of the baseline.

    :param rows: The rows that :func:`read_rows` returned
    :return: A record for every task and setting with ``task``, ``setting``, ``runs``, ``failed`` if any trial failed,
        and the :class:`Estimate` of every metric and of :data:`BETTER`, ``None`` if there is no estimate. The ends of
        an interval are NaN if a task has only one run
    :raises ValueError: If no run is done
    """
    done, settings = _done(rows), _settings(rows)
    if (n_groups := len({(row["task"], row["setting"]) for row in rows})) > MAX_GROUPS:
        raise ValueError(f"the study has {n_groups} pairs of task and setting; a report has at most {MAX_GROUPS}")
    failed = [row for row in rows if row["state"] == "failed"]
    tasks = list(dict.fromkeys(row["task"] for row in done))
    records = []
    for name, group in [*((task, [task]) for task in tasks), *([(ALL_TASKS, tasks)] if len(tasks) > 1 else [])]:
        baseline = _scores(done, settings[0], group, "mean_reward")
        for setting in settings:
            record: Record = {"task": name, "setting": setting}
            for column, counted in (("runs", done), *([("failed", failed)] if failed else [])):
                record[column] = sum(row["setting"] == setting and row["task"] in group for row in counted)
            for metric, title in METRICS.items():
                has_mean = len(group) == 1 or metric in _OVER_TASKS
                scores = _scores(done, setting, group, metric) if has_mean else None
                record[title] = (
                    None if scores is None else _without_interval_of_one(estimate_interquartile_mean(scores), scores)
                )
            scores = _scores(done, setting, group, "mean_reward")
            record[BETTER] = None
            if scores is not None and baseline is not None and setting != settings[0]:
                improvement = probability_of_improvement(scores, baseline)
                record[BETTER] = _without_interval_of_one(improvement, [*scores, *baseline])
            records.append(record)
    return records


def _without_interval_of_one(estimate: Estimate, scores: Sequence[np.ndarray]) -> Estimate:
    """Remove the interval if a task has one run only, which does not show how runs differ."""
    nan = np.array(np.nan)
    return Estimate(estimate.value, nan, nan) if min(map(len, scores)) < 2 else estimate


def _done(rows: Rows) -> Rows:
    done = [row for row in rows if row["state"] == "done"]
    if not done:
        raise ValueError(f"none of the {len(rows)} runs is done")
    return done


def _settings(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["setting"] for row in rows))


def _scores(done: Rows, setting: str, tasks: Sequence[str], metric: str) -> list[np.ndarray] | None:
    """Return the metric of every run, one array for every task; ``None`` if a task has no run or no such metric."""
    scores = [
        np.array([row[metric] for row in done if (row["setting"], row["task"]) == (setting, task)], dtype=object)
        for task in tasks
    ]
    if any(not len(task) or None in task for task in scores):
        return None
    return [task.astype(np.float64) for task in scores]


def left_out(rows: Rows) -> list[str]:
    """
    Describe the runs that the tables leave out.

    :param rows: The rows that :func:`read_rows` returned
    :return: A line about the unfinished runs, and a line for each failed run
    """
    waiting = sum(row["state"] == "waiting" for row in rows)
    lines = [f"{waiting} of {len(rows)} runs are not done, and left out."] if waiting else []
    for row in rows:
        if row["state"] == "failed":
            run = f"{row['task']}, {row['setting']}, seed {row['seed']}"
            lines.append(f"Failed, and left out: {run}: {shown(reason(row['error']), 500)}")
    return lines


def markdown(records: Sequence[Record]) -> list[str]:
    """
    Format the table in Markdown.

    :param records: The records that :func:`summary` returned
    :return: The lines of the table
    """
    columns = list(records[0])
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for record in records:
        lines.append(f"| {' | '.join(_as_text(_cell_of(record, name)) for name in columns)} |")
    return [*lines, "", *_notes(columns)]


def for_terminal(records: Sequence[Record]) -> list[str]:
    """
    Format the figures for a terminal: a table for every task and metric, at most 80 columns wide.

    :param records: The records that :func:`summary` returned
    :return: The lines of the tables. A setting whose name is too long has a line of its own for the name
    """
    lines: list[str] = []
    for task in dict.fromkeys(record["task"] for record in records):
        of_task = [record for record in records if record["task"] == task]
        for name in (*METRICS.values(), BETTER):
            rows = [(record["setting"], _cell_of(record, name), _counts(record)) for record in of_task]
            rows = [row for row in rows if row[1]]
            if not rows:
                continue
            width = max(len(figures) for _, figures, _ in rows)
            lines += _wrapped(f"{task}: {name}")
            for setting, figures, counts in rows:
                right = f"{figures:<{width}}  {counts}".rstrip()
                room = _COLUMNS - 4 - max(len(f"{figures:<{width}}  {counts}") for _, figures, counts in rows)
                lines += (
                    [f"  {setting:<{room}}  {right}"] if len(setting) <= room else [f"  {setting}", f"{'':6}{right}"]
                )
            lines.append("")
    return [*lines, *(line for note in _notes(list(records[0])) for line in _wrapped(note)), ""]


def _counts(record: Record) -> str:
    runs = f"{record['runs']} run{'s' * (record['runs'] != 1)}"
    return f"{runs}, {record['failed']} failed" if record.get("failed") else runs


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _COLUMNS, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _notes(columns: Sequence[str]) -> list[str]:
    notes = [
        f"Interquartile means of runs (for `{BETTER}`, the probability of a higher reward), with 95 % intervals if "
        "there are at least two runs. Optimality (0: the random policy, 1: the best policy) is left out if at most "
        "half of the episodes are solved, because it would look too good.",
    ]
    if "failed" in columns:
        notes += ["The numbers describe the runs that ended. They say nothing about the failed runs."]
    return notes


def _cell_of(record: Record, name: str) -> str:
    """Format an entry; empty where it would look too good."""
    solved = record["solved"]
    if name == "optimality" and solved is not None and not tells_optimality(float(solved.value)):
        return ""
    return _cell(name, record[name])


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
    Format the table as comma-separated values.

    :param records: The records that :func:`summary` returned
    :return: The text. An estimate has three columns; a missing number is empty
    """
    flat = []
    for record in records:
        entry: Record = {}
        for name, value in record.items():
            if name in ("task", "setting", "runs", "failed"):
                # A spreadsheet would take such a text for a formula.
                is_formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@"))
                entry[name] = f"'{value}" if is_formula else value
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
    Draw the learning curves, the performance profiles and the probabilities of improvement, one row for every task.

    All axes hold all that is drawn. A setting has the same colour in every report, unless another one in the report has
    it. Settings with fewer than five runs have no bands: each of their runs is a thin line. Runs without tests during
    training are in the profiles only.

    :param rows: The rows that :func:`read_rows` returned
    :return: The figure
    :raises ValueError: If no run is done
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter

    records, done, settings = summary(rows), _done(rows), _settings(rows)
    styles = styles_of(settings)
    tasks = list(dict.fromkeys(row["task"] for row in done))
    figure = Figure(figsize=(16, 3.6 * len(tasks) + 0.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # type: ignore[union-attr,call-arg]
    panels = figure.subplots(len(tasks), 4, squeeze=False)
    for (solved, reward, profile, better), task in zip(panels, tasks, strict=True):
        on_task = [row for row in done if row["task"] == task]
        rewards = np.unique([row["mean_reward"] for row in on_task])
        # With a threshold below all rewards, where every profile is 1
        thresholds = np.insert(rewards, 0, limits_around([rewards])[0])
        heights: list[np.ndarray] = []
        for number, setting in enumerate(settings):
            runs = [row for row in on_task if row["setting"] == setting]
            if not runs:
                continue
            style = styles[setting]
            tested = [row for row in runs if row["curve"][_x_axis(row)]]
            if tested:
                for axes, metric in ((solved, "success_rate"), (reward, "mean_reward")):
                    curve = learning_curve(tested, metric)
                    draw_curve(axes, curve, style)
                heights += heights_of(curve)
            shares = performance_profile([np.array([row["mean_reward"] for row in runs])], thresholds)
            if len(runs) < MIN_RUNS_OF_BAND:
                shares = Estimate(shares.value, *[np.full(len(thresholds), np.nan)] * 2)
            label = as_plain_text(setting)
            draw_curve(profile, Curve(thresholds, *shares), style, label, drawstyle="steps-post")
            (record,) = (record for record in records if (record["task"], record["setting"]) == (task, setting))
            _draw_improvement(better, number, record[BETTER], style)
        x_label = _x_axis(on_task[0])
        solved.set(title=as_plain_text(task), xlabel=x_label, ylabel="share of solved episodes", ylim=(-0.03, 1.03))
        reward.set(xlabel=x_label, ylabel="reward per episode")
        for axes in (solved, reward):
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if heights:
            reward.set(ylim=limits_around(heights))
        profile.set(xlabel="reward τ at the end", ylabel="share of runs above τ", ylim=(-0.03, 1.03))
        baseline = as_plain_text("\n".join(textwrap.wrap(f"than {settings[0]!r}", 30)))
        better.set(xlabel=f"probability of more reward\n{baseline}", xlim=(-0.03, 1.03))
        better.axvline(0.5, color="black", linestyle=":", linewidth=1)
        better.set_yticks(range(1, len(settings)), [*map(as_plain_text, settings[1:])])
        better.set_ylim(max(len(settings), 2) - 0.5, 0.5)
    # A setting may have no run on the first task
    entries = {label: line for row in panels for line, label in zip(*row[2].get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries, loc="outside lower center", ncols=min(4, len(entries)), handlelength=3.5)
    return figure


def learning_curve(runs: Rows, metric: str) -> Curve:
    """
    Compute the interquartile mean of the tests of several runs, as far as all of them go.

    Between two tests of a run, its earlier test counts.

    :param runs: Rows of one setting on one task
    :param metric: One of :data:`METRICS`
    :return: The means over episodes or environment steps
    """
    lines = [RunLine(np.array(row["curve"][_x_axis(row)]), np.array(row["curve"][metric], np.float64)) for row in runs]
    return mean_curve(lines, _interquartile_means)


def _interquartile_means(tests: np.ndarray) -> Estimate:
    means = [estimate_interquartile_mean([column], n_resamples=1000) for column in tests.T]
    return Estimate(*np.array(means).T)


def _x_axis(row: dict[str, Any]) -> str:
    _, unit = parse_frequency("test_freq", json.loads(row["definition"])["test_freq"])
    return "episodes" if unit == "episode" else "timesteps"


def _draw_improvement(axes: Any, number: int, estimate: Estimate | None, style: LineStyle) -> None:
    if estimate is not None:
        low, value, high = (float(end) for end in (estimate.low, estimate.value, estimate.high))
        if not np.isnan(low):
            axes.barh(number, high - low, left=low, height=0.5, color=style.colour, alpha=0.4)
        axes.plot([value, value], [number - 0.25, number + 0.25], color=style.colour)
