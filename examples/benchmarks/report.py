"""The results as a Markdown table and as a picture."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from machine import sentence
from measure import Line, RowResult

VERDICTS = {"aim": "yes, and the aim", "must": "yes", "no": "**no**", "absent": "absent", "": ""}
#: Index of a verdict's colour in the palette of the package
PLACES = {"aim": 3, "must": 0, "no": 2}


def number(value: float) -> str:
    """Format a number with three digits and without exponents."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _with_unit(value: float, line: Line) -> str:
    return f"{number(value)}×" if line.figure != "own" else f"{number(value)} {line.unit}"


def _goal(goal: float | None, line: Line) -> str:
    if goal is None:
        return ""
    return f"{'≥' if line.figure == 'faster' else '≤'} {_with_unit(goal, line)}"


def _cells(line: Line) -> list[str]:
    figures = line.figures
    spread = f" ({number(min(figures))} – {number(max(figures))})" if len(figures) > 1 else ""
    peer = line.peer_name
    if peer:
        peer += ": absent" if line.is_absent else f": {number(statistics.median(line.peer))} {line.unit}"
    return [
        str(line.row),
        line.work,
        f"{number(statistics.median(line.ours))} {line.unit}",
        peer,
        "" if line.is_absent else _with_unit(line.value, line) + spread,
        _goal(line.must, line),
        _goal(line.aim, line),
        VERDICTS[line.verdict],
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows]]


def markdown(results: Mapping[int, RowResult], machine: Mapping[str, Any]) -> str:
    """
    Write the table of the guide.

    :param results: Results by number of row
    :param machine: Facts about the machine and the run, by name
    :return: A table of rows with goals, a table of rows without, and remarks
    """
    lines = [line for result in results.values() for line in result.lines]
    remarks = [remark for result in results.values() for remark in result.remarks]
    header = ["#", "work", "ours", "peer", "median (min – max)", "must", "aim", "met"]
    text = [
        f"{sentence(machine)} Ours and the peers took turns, {machine['repeats']} times each; the figures are medians "
        "over the repeats.",
        "",
    ]
    if machine["quick"]:
        text = ["**A quick run: it shows that everything works, its figures mean nothing.**", "", *text]
    text += _table(header, [_cells(line) for line in lines if line.must is not None])
    rest = [_cells(line)[:5] for line in lines if line.must is None]
    if rest:
        text += ["", "For comparison:", "", *_table(header[:5], rest)]
    if remarks:
        text += ["", *(f"- {remark}" for remark in remarks)]
    return "\n".join(text) + "\n"


def plot(results: Mapping[int, RowResult], file: Path) -> None:
    """
    Draw every figure as a multiple of its goal, so that all fit on one logarithmic axis.

    :param results: Results by number of row
    :param file: Path of the picture
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, NullLocator

    from sb3_lecture_dqn.show.curves import COLOURS

    lines = [line for result in results.values() for line in result.lines if line.must is not None]
    lines = [line for line in lines if not line.is_absent]
    fig, ax = plt.subplots(figsize=(11, 1.5 + 0.4 * len(lines)), layout="constrained")
    for y, line in enumerate(lines):

        def margin(value: float, line: Line = line) -> float:
            # Growth of memory may be 0 or negative, which a logarithmic axis cannot show.
            good = value / line.must if line.figure == "faster" else line.must / max(value, 1e-2 * line.must)
            return min(good, 100.0)

        margins = [margin(value) for value in line.figures]
        middle = margin(line.value)
        ax.barh(y, middle - 1, left=1, color=COLOURS[PLACES[line.verdict]], alpha=0.7)
        ax.plot([min(margins), max(margins)], [y, y], color="black", linewidth=1.5)
        if line.aim is not None:
            ax.plot([margin(line.aim)] * 2, [y - 0.4, y + 0.4], color=COLOURS[PLACES["aim"]], linewidth=2)
        label = f"{_with_unit(line.value, line)}   (must be {_goal(line.must, line)})"
        ax.text(1.01, y, label, transform=ax.get_yaxis_transform(), va="center", fontsize=8)
    ax.axvline(1, color="black", linewidth=1)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())
    names = [f"{line.row}  {line.work}" + (f", beside {line.peer_name}" if line.peer_name else "") for line in lines]
    ax.set_yticks(range(len(lines)), names, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("how many times as good as it must be; a green mark is the aim, a line the spread")
    fig.savefig(file, dpi=120)
    plt.close(fig)
