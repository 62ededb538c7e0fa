"""Learning curves: their palette, means of runs, and panels of lines with bands. Drawing needs the extra ``viz``."""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sb3_lecture_dqn.common.statistics import Estimate, estimate_means
from sb3_lecture_dqn.show.pictures import as_plain_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: The colours of lines. Any two of these eight, and each of them and black or white, can be told apart by readers with
#: and without deuteranopia and protanopia: ``tests/show/test_curves.py`` measures it. The first two are Okabe & Ito's,
#: some of whose eight are too near to each other; the rest come from a search. Black is left to the reference lines
COLOURS = ("#0072B2", "#E69F00", "#870000", "#00D2B4", "#3CB4FF", "#0F0F96", "#B4695A", "#694B5A")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "*")
#: Names that have the same colour in every plot, as those of the lecture's four settings in runs and in studies
_PLACES = {
    "SR_True_DD_True": 0,
    "SR_True_DD_False": 1,
    "SR_False_DD_True": 2,
    "SR_False_DD_False": 3,
    "replay, target network": 0,
    "no target network": 1,
    "no replay": 2,
    "neither": 3,
}
#: With fewer runs, each run is a thin line. With more, there is a band
MIN_RUNS_OF_BAND = 5
#: Most points of a mean
MAX_POINTS = 2000
_REFERENCES = (":", "--", "-.")


class LineStyle(NamedTuple):
    """
    How the line of a name looks.

    :param colour: As ``#RRGGBB``
    :param dash: Matplotlib's ``linestyle``
    :param marker: Matplotlib's ``marker``
    """

    colour: str
    dash: Any
    marker: str


def styles_of(names: Iterable[str]) -> dict[str, LineStyle]:
    """
    Choose a line style for every name.

    A name has the same colour in every plot, unless another name of the plot wants it too. No two lines of a plot have
    the same colour if the colours suffice, and no two have the same style.

    :param names: The names of all lines of a plot
    :return: A style for every name, in the order of the names
    """
    names = list(dict.fromkeys(names))
    places: dict[str, int] = {}
    # The order does not depend on which names come first in the plot.
    for name in sorted(names, key=lambda name: (name not in _PLACES, _number(name))):
        first = _PLACES.get(name, _number(name) % len(COLOURS))
        rounds = (r * len(COLOURS) + (first + k) % len(COLOURS) for r in itertools.count() for k in range(len(COLOURS)))
        places[name] = next(place for place in rounds if place not in places.values())
    return {name: _style(places[name]) for name in names}


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:8], "big")


def _style(place: int) -> LineStyle:
    round_, colour = divmod(place, len(COLOURS))
    return LineStyle(
        COLOURS[colour], DASHES[(colour + round_) % len(DASHES)], MARKERS[(colour + round_) % len(MARKERS)]
    )


class RunLine(NamedTuple):
    """
    The tests of one run.

    :param x: Episodes or environment steps of the tests, rising, shape ``(n,)``
    :param y: Their results, shape ``(n,)``
    :param diverged: Whether the run ended because it diverged
    """

    x: np.ndarray
    y: np.ndarray
    diverged: bool = False


class Curve(NamedTuple):
    """
    The mean of some runs with its band, and the runs.

    :param x: Shape ``(n,)``
    :param mean: Height of the line, shape ``(n,)``
    :param low: Lower edge of the band, NaN for no band, shape ``(n,)``
    :param high: Upper edge of the band, shape ``(n,)``
    :param runs: The runs
    """

    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    runs: Sequence[RunLine] = ()

    @property
    def has_band(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite(self.low).any())


def mean_curve(runs: Sequence[RunLine], estimate: Callable[[np.ndarray], Estimate] = estimate_means) -> Curve:
    """
    Compute the mean of several runs, as far as all of them go.

    Between two tests of a run, its earlier test counts. The interval is a bootstrap's, with a fixed seed. There is none
    with fewer than five runs, which show too little of how runs differ.

    :param runs: The runs, each with at least one test
    :param estimate: Function from the tests of all runs, shape ``(runs, points)``, to their mean with its interval
    :return: The mean from the first point that all runs have reached to the last point of the shortest run. It is empty
        if there are no such points
    """
    x = np.unique(np.concatenate([run.x for run in runs]))
    x = x[(x >= max(run.x[0] for run in runs)) & (x <= min(run.x[-1] for run in runs))]
    if len(x) > MAX_POINTS:
        x = x[np.linspace(0, len(x) - 1, MAX_POINTS).astype(int)]
    tests = np.array([run.y[np.searchsorted(run.x, x, side="right") - 1] for run in runs], np.float64)
    mean, low, high = estimate(tests) if len(x) else (np.empty(0),) * 3
    if len(runs) < MIN_RUNS_OF_BAND:
        low = high = np.full(len(x), np.nan)
    return Curve(x, mean, low, high, runs)


def draw_curve(axes: Any, curve: Curve, style: LineStyle, label: str | None = None, **keywords: Any) -> Any:
    """
    Draw a mean with its band. Draw each run too, as a thin line, if there are fewer than five. Else draw what goes on
    where the mean has ended. A run that diverged ends in a cross.

    :param axes: Matplotlib's axes
    :param curve: The mean and its runs
    :param style: Colour, dash and marker
    :param label: Entry of a legend
    :param keywords: More keywords of ``axes.plot`` for the mean
    :return: Matplotlib's line of the mean
    """
    number = COLOURS.index(style.colour) if style.colour in COLOURS else 0
    every = max(1, len(curve.x) // 8)
    options = {
        "color": style.colour,
        "linestyle": style.dash,
        "marker": style.marker,
        "markersize": 4.5,
        "markevery": (number * every // len(COLOURS) if len(curve.x) > 8 else 0, every),
        "linewidth": 1.8,
        **keywords,
    }
    (line,) = axes.plot(curve.x, curve.mean, label=label, **options)
    if curve.has_band:
        step = "post" if keywords.get("drawstyle") == "steps-post" else None
        axes.fill_between(curve.x, curve.low, curve.high, step=step, color=style.colour, alpha=0.2, linewidth=0)
    thin = {"color": style.colour, "linewidth": 0.7, "alpha": 0.7, "zorder": 1.5}
    for run in _thin_lines(curve):
        axes.plot(run.x, run.y, **thin)
    for run in curve.runs:
        if run.diverged:
            axes.plot(run.x[-1:], run.y[-1:], color=style.colour, **_DIVERGED)
    axes.grid(alpha=0.3)
    return line


_DIVERGED: dict[str, Any] = {
    "marker": "X",
    "markersize": 10,
    "markeredgecolor": "black",
    "linestyle": "none",
    "zorder": 5,
    "clip_on": False,
}


def _thin_lines(curve: Curve) -> list[RunLine]:
    """Return the runs if they are few, else what goes on where the mean has ended."""
    if len(curve.runs) < MIN_RUNS_OF_BAND:
        return list(curve.runs) if len(curve.runs) > 1 else []
    end = curve.x[-1] if len(curve.x) else -np.inf
    rests = [run._replace(x=run.x[run.x >= end], y=run.y[run.x >= end]) for run in curve.runs]
    return [rest for rest in rests if len(rest.x) > 1]


def heights_of(curve: Curve) -> list[np.ndarray]:
    """
    Return all heights that :func:`draw_curve` draws.

    :param curve: The curve
    :return: Arrays of numbers, some NaN
    """
    ends = [run.y[-1:] for run in curve.runs if run.diverged]
    return [curve.mean, curve.low, curve.high, *(run.y for run in _thin_lines(curve)), *ends]


def limits_around(heights: Sequence[np.ndarray]) -> tuple[float, float]:
    """
    Return the limits of an axis that shows some values with a margin.

    :param heights: Arrays of the values
    :return: The lowest and the highest finite value, moved apart by 5 % of their distance at each end
    """
    values = np.concatenate([np.asarray(array, np.float64) for array in heights])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def draw_curves(
    panels: Mapping[str, Mapping[str, Curve]],
    references: Mapping[str, Mapping[str, float]],
    x_label: str,
    styles: Mapping[str, LineStyle] | None = None,
) -> "Figure":
    """
    Draw learning curves, one panel for every quantity. A panel in which nothing varies is small, and comes last.

    All that is drawn is within its panel.

    :param panels: Curves by panel and by name
    :param references: Heights of horizontal lines, by name and by panel
    :param x_label: Label of the x axis
    :param styles: A style for every name, :func:`styles_of` by default
    :return: The figure
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import EngFormatter

    names = dict.fromkeys(name for curves in panels.values() for name in curves)
    styles = styles_of(names) if styles is None else styles
    heights = {
        panel: [height for curve in curves.values() for height in heights_of(curve)]
        + [np.array([levels[panel]]) for levels in references.values() if panel in levels]
        for panel, curves in panels.items()
    }
    flat = [panel for panel in panels if _is_flat(heights[panel])]
    flat = flat if len(flat) < len(panels) else []
    tall = [panel for panel in panels if panel not in flat]
    n_columns = 2 if len(tall) > 1 else 1
    n_rows = -(-len(tall) // n_columns)
    n_entries = len(names) + len(references) + 1
    longest = max(map(len, [*names, *references]))
    is_short = longest <= 40
    # In the place of a missing panel, or below all panels
    has_room = len(tall) % 2 == 1 and len(tall) > 1 and is_short and n_entries <= 10
    width = 4.6 * n_columns  # in inches, of which an entry needs about 0.75 and 0.08 for each letter
    n_legend_columns = max(1, min(3, int(width / (0.75 + 0.08 * longest))))
    below = 0.0 if has_room else 0.25 * -(-n_entries // n_legend_columns)
    figure = Figure(figsize=(width, 3.2 * n_rows + 1.1 * len(flat) + below + 0.2), layout="constrained")
    grid = figure.add_gridspec(n_rows + len(flat), n_columns, height_ratios=[1] * n_rows + [0.16] * len(flat))
    lines: dict[str, Any] = {}
    for index, panel in enumerate([*tall, *flat]):
        row = index // n_columns if panel in tall else n_rows + index - len(tall)
        axes = figure.add_subplot(grid[row, index % n_columns] if panel in tall else grid[row, :])
        for name, curve in panels[panel].items():
            lines[name] = draw_curve(axes, curve, styles[name])
        for dash, (name, levels) in zip(_REFERENCES, references.items(), strict=False):
            if panel in levels:
                lines[name] = axes.axhline(levels[panel], color="black", linestyle=dash, linewidth=1, zorder=1)
        axes.set(title=panel, xlabel=x_label, ylim=limits_around(heights[panel]))
        if panel in flat:
            level = next(iter(_finite(heights[panel])), None)
            axes.set_title(f"{panel}: {'no numbers' if level is None else f'{level:g} in all tests'}", fontsize=10)
            axes.set_yticks([] if level is None else [level])
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    # In the order of the names, and references last
    lines = {name: lines[name] for name in [*names, *references] if name in lines}
    if any(run.diverged for curves in panels.values() for curve in curves.values() for run in curve.runs):
        lines["diverged"] = Line2D([], [], color="white", **_DIVERGED)
    labels = [*map(as_plain_text, lines)]
    if has_room:
        room = figure.add_subplot(grid[n_rows - 1, 1])
        room.set_axis_off()
        room.legend(list(lines.values()), labels, loc="center", handlelength=3.5)
    else:
        n_legend_columns = min(n_legend_columns, len(lines))
        figure.legend(
            list(lines.values()), labels, loc="outside lower center", ncols=n_legend_columns, handlelength=3.5
        )
    return figure


def _finite(heights: Sequence[np.ndarray]) -> np.ndarray:
    values = np.concatenate(heights) if heights else np.empty(0)
    finite: np.ndarray = values[np.isfinite(values)]
    return finite


def _is_flat(heights: Sequence[np.ndarray]) -> bool:
    values = _finite(heights)
    return not len(values) or float(values.min()) == float(values.max())
