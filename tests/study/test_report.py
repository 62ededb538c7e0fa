"""The report of a study: tables and a figure."""

import itertools

import numpy as np
import pytest

from sb3_lecture_dqn.show.pictures import to_array
from sb3_lecture_dqn.study import report


def row(task, setting, seed, reward, solved=1.0, state="done", at=(1, 3)):
    points = {"mean_reward": [reward - 1, reward], "success_rate": [solved, solved], "optimality": [None, None]}
    return {
        **{"task": task, "setting": setting, "seed": seed, "state": state, "error": None, "mean_reward": reward},
        **{"success_rate": solved, "optimality": None, "definition": '{"test_freq": [2, "episode"]}'},
        "curve": {"episodes": list(at), "timesteps": [10, 30], **points},
    }


ROWS = [
    *(row("A", "base", seed, float(seed)) for seed in range(4)),
    *(row("A", "other", seed, 2.0 + seed, solved=0.5) for seed in range(4)),
    {**row("A", "other", 4, 0.0, state="failed"), "error": "Traceback ...\nValueError: why\n"},
    row("B", "base", 0, 1.0),
    {**row("B", "other", 0, 0.0, state="waiting")},
]


def test_the_table_has_every_setting_and_names_the_left_out_trials():
    records = report.summary(ROWS)
    found = {(record["task"], record["setting"]): record for record in records}
    assert list(found) == [(task, setting) for task in ("A", "B", report.ALL_TASKS) for setting in ("base", "other")]
    assert found["A", "base"]["reward"].value == 1.5
    assert found["A", "other"]["reward"].value == 3.5
    assert found["A", "other"]["solved"].value == 0.5
    assert found["A", "base"][report.BETTER] is None
    assert found["A", "other"][report.BETTER].value == 14 / 16  # one of 16 pairs is lower (0), two are equal (1 / 2)
    assert [found["B", "other"][name] for name in ("runs", "reward", report.BETTER)] == [0, None, None]
    assert [found[task, "other"]["failed"] for task in ("A", "B", report.ALL_TASKS)] == [1, 0, 1]
    assert found[report.ALL_TASKS, "base"]["reward"] is None  # rewards of different tasks have no mean
    assert found[report.ALL_TASKS, "base"]["solved"].value == 1
    lines = report.markdown(records)
    assert lines[0] == "| task | setting | runs | failed | solved | reward | optimality | better than baseline |"
    assert lines[2].startswith("| A | base | 4 | 0 | 100.0% (100.0% – 100.0%) | 1.50 (")
    assert "|  | 87.5% (" in lines[3]
    assert lines[4] == "| B | base | 1 | 0 | 100.0% | 1.00 |  |  |"  # one run has no interval
    assert lines[-1] == "The numbers describe the runs that ended. They say nothing about the failed runs."
    assert report.left_out(ROWS) == [
        "1 of 11 runs are not done, and left out.",
        "Failed, and left out: A, other, seed 4: ValueError: why",
    ]
    header, first, _, one_run, *_ = report.to_csv(records).splitlines()
    assert header.startswith("task,setting,runs,failed,solved,solved low,solved high,reward,reward low")
    assert first.startswith("A,base,4,0,1.0,1.0,1.0,1.5,")
    assert one_run.startswith("B,base,1,0,1.0,,,1.0,,,")


def test_where_nothing_failed_the_table_does_not_speak_of_it():
    records = report.summary([one for one in ROWS if one["state"] != "failed"])
    assert "failed" not in records[0]
    assert "failed" not in "".join(report.markdown(records))


def test_an_improvement_has_an_interval_only_if_both_settings_have_several_runs():
    (_, few), (_, many) = (
        report.summary([*(row("A", "base", seed, 0.0) for seed in range(n)), *(row("A", "x", i, 1.0) for i in "ab")])
        for n in (1, 2)
    )
    assert (few[report.BETTER].value, many[report.BETTER].value) == (1, 1)
    assert np.isnan(few[report.BETTER].low)
    assert many[report.BETTER].low == 1


def test_where_no_trial_is_done_there_is_nothing_to_report():
    with pytest.raises(ValueError, match="none of the 1 runs is done"):
        report.summary(ROWS[-1:])


def test_a_curve_counts_the_last_test_before_and_ends_with_the_shortest_run():
    runs = [row("A", "base", 0, 5.0), row("A", "base", 1, 7.0, at=(2, 4))]
    curve = report.learning_curve(runs, "mean_reward")
    assert curve.x.tolist() == [2, 3]
    assert curve.mean.tolist() == [(4 + 6) / 2, (5 + 6) / 2]


def test_the_table_for_a_terminal_has_all_figures_in_80_columns():
    name = "n" * 60
    rows = [*ROWS, *(row("A", name, seed, -1e5 * seed, solved=1 / 3) for seed in range(4))]
    records = report.summary(rows)
    lines = report.for_terminal(records)
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for record in records:
        for title in (*report.METRICS.values(), report.BETTER):
            assert report._cell_of(record, title) in text
    assert "A: solved" in lines
    assert any(line.startswith("  base  ") and line.endswith("100.0% (100.0% – 100.0%)  4 runs") for line in lines)
    assert any(line.startswith("  other") and line.endswith("4 runs, 1 failed") for line in lines)


def test_the_figure_has_a_row_for_every_task_and_a_curve_for_every_setting():
    figure = report.draw(ROWS)
    assert len(figure.axes) == 8
    solved, reward, profile, better = figure.axes[:4]
    # Each of the four runs is a thin line
    assert [len(axes.lines) for axes in (solved, reward, profile)] == [10, 10, 2]
    assert reward.lines[0].get_xydata().tolist() == [[1, 0.5], [3, 1.5]]
    assert not [band for axes in (solved, reward, profile) for band in axes.collections]
    assert [line.get_xydata()[0].tolist() for line in profile.lines] == [[-0.25, 1], [-0.25, 1]]  # below all runs
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["base", "other"]
    assert [text.get_text() for text in better.get_yticklabels()] == ["other"]
    assert better.lines[0].get_xdata().tolist() == [14 / 16] * 2


def test_runs_that_were_not_tested_have_no_curve_but_all_else():
    nothing = {name: [] for name in ROWS[0]["curve"]}
    untested = [{**one, "curve": nothing} for one in ROWS if one["setting"] == "base"]
    solved, reward, profile, _ = report.draw([*untested, *ROWS[4:8]]).axes[:4]
    assert [len(axes.lines) for axes in (solved, reward, profile)] == [5, 5, 2]
    solved, reward, profile, _ = report.draw(untested).axes[:4]
    assert [len(axes.lines) for axes in (solved, reward, profile)] == [0, 0, 1]


def test_settings_with_five_runs_have_bands():
    figure = report.draw([row("A", "base", seed, float(seed)) for seed in range(5)])
    solved, reward, profile, _ = figure.axes
    assert [len(axes.lines) for axes in (solved, reward, profile)] == [1, 1, 1]
    assert [len(axes.collections) for axes in (solved, reward, profile)] == [1, 1, 1]


def test_all_rewards_are_within_their_panel_and_all_texts_within_the_figure():
    rows = [row("A", "a long name of the baseline", seed, float(seed)) for seed in range(6)]
    rows += [row("A", "a long name of another setting", seed, 5000.0 * seed) for seed in range(6)]
    rows[0]["curve"]["mean_reward"][0] = -90_000.0
    figure = report.draw(rows)
    reward = figure.axes[1]
    low, high = reward.get_ylim()
    for line in reward.lines:
        assert low < min(line.get_ydata())
        assert max(line.get_ydata()) < high
    to_array(figure)
    width, height = figure.bbox.size
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert all(box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1 for box in boxes)
    assert all(first.x1 < second.x0 for first, second in itertools.pairwise(boxes))
