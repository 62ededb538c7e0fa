"""The palette of lines, means of runs, and their drawing."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sb3_lecture_dqn.show.curves import (
    COLOURS,
    MIN_RUNS_OF_BAND,
    Curve,
    RunLine,
    draw_curves,
    limits_around,
    mean_curve,
    styles_of,
)
from sb3_lecture_dqn.show.pictures import to_array
from tests.show.palette_check import VISIONS, contrast_with_white, difference, lab

# The palette

# Pairs of colours in CIELAB and their difference, from table 1 of Sharma, Wu & Dalal (2005)
PUBLISHED = [
    ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
    ((50, 2.5, 0), (50, 3.2592, 0.3350), 1.0000),
    ((50, 2.5, 0), (73, 25, -18), 27.1492),
    ((50, 2.5, 0), (56, -27, -3), 31.9030),
    ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
    ((2.0776, 0.0795, -1.1350), (0.9033, -0.0636, -0.5514), 0.9082),
]


@pytest.mark.parametrize(("first", "second", "published"), PUBLISHED)
def test_differences_of_colours_are_the_published_ones(first, second, published):
    assert difference(first, second) == pytest.approx(published, abs=5e-5)
    assert difference(second, first) == pytest.approx(published, abs=5e-5)


def test_the_measure_knows_bad_palettes():
    """To readers with deuteranopia, matplotlib's green and red are nearly one colour."""
    assert difference(lab("#2ca02c"), lab("#d62728")) > 60
    assert difference(lab("#2ca02c", "deuteranopia"), lab("#d62728", "deuteranopia")) < 12


@pytest.mark.parametrize("vision", VISIONS)
def test_any_two_lines_differ_for_every_reader(vision):
    """Also from the black of the reference lines."""
    assert len(COLOURS) == 8
    seen = {colour: lab(colour, vision) for colour in ("#000000", *COLOURS)}
    for first, second in itertools.combinations(seen, 2):
        assert difference(seen[first], seen[second]) >= 20, (first, second)


def test_lines_are_visible_on_white():
    assert min(map(contrast_with_white, COLOURS)) >= 1.8


NAMES = st.lists(st.text(min_size=1, max_size=8) | st.sampled_from(["SR_True_DD_True", "neither"]), unique=True)


@given(NAMES.filter(lambda names: len(names) <= len(COLOURS)))
def test_no_two_lines_of_a_plot_have_one_colour_while_the_colours_suffice(names):
    styles = styles_of(names)
    assert list(styles) == names
    assert len({style.colour for style in styles.values()}) == len(names)


def test_no_two_of_many_lines_have_one_style():
    assert len(set(styles_of(map(str, range(50))).values())) == 50


@given(NAMES, st.randoms())
def test_the_order_of_the_names_does_not_matter(names, random):
    shuffled = random.sample(names, len(names))
    assert styles_of(names) == styles_of(shuffled)


@given(st.text(min_size=1), st.text(min_size=1))
def test_a_setting_keeps_its_colour_beside_another_that_wants_another(name, other):
    alone = styles_of([name])[name]
    together = styles_of([other, name])
    if styles_of([other])[other].colour != alone.colour:
        assert together[name] == alone


def test_the_lectures_settings_have_the_same_colours_in_runs_and_studies():
    runs = styles_of([f"SR_{replay}_DD_{target}" for replay in (True, False) for target in (True, False)])
    study = styles_of(["replay, target network", "no target network", "no replay", "neither"])
    assert list(runs.values()) == list(study.values())
    assert styles_of(["a", "neither", "b"])["neither"] == study["neither"]


# Means


def lines(*runs):
    return [RunLine(np.array([*run]), np.array([*run.values()], float)) for run in runs]


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=12))
def test_a_mean_of_shares_and_its_interval_are_shares(values):
    curve = mean_curve(lines(*(dict(zip((1, 50, 100), row, strict=True)) for row in values)))
    assert curve.x.tolist() == [1, 50, 100]
    assert np.allclose(curve.mean, np.mean(values, axis=0))
    assert curve.has_band == (len(values) >= MIN_RUNS_OF_BAND)
    if curve.has_band:
        assert (curve.low >= 0).all()
        assert (curve.high <= 1).all()
        assert (curve.low <= curve.mean).all()
        assert (curve.mean <= curve.high).all()


@given(
    st.lists(st.dictionaries(st.integers(1, 9), st.integers(0, 9), min_size=1), min_size=1, max_size=7).map(
        lambda runs: [dict(sorted(run.items())) for run in runs]
    )
)
def test_a_mean_is_of_all_runs_and_ends_with_the_shortest(runs):
    """Compared with a plain loop."""
    expected = {}
    for x in sorted(set().union(*runs)):
        so_far = [[value for episode, value in run.items() if episode <= x] for run in runs]
        if all(so_far) and x <= min(max(run) for run in runs):
            expected[x] = np.mean([values[-1] for values in so_far])
    curve = mean_curve(lines(*runs))
    assert curve.x.tolist() == list(expected)
    assert curve.mean.tolist() == pytest.approx([*expected.values()])


def test_a_picture_can_be_repeated():
    runs = lines(*({1: i**2, 2: i} for i in range(9)))
    first, second = mean_curve(runs), mean_curve(runs)
    assert (first.low == second.low).all()
    assert (first.high == second.high).all()


# Drawing


def test_few_runs_are_thin_lines_and_many_have_a_band():
    for n in (1, 3, 7):
        figure = draw_curves({"a": {"x": mean_curve(lines(*({1: i, 2: i + 1} for i in range(n))))}}, {}, "episodes")
        (axes,) = figure.axes
        mean, *thin = axes.lines
        assert len(thin) == (n if n == 3 else 0)
        assert all(line.get_linewidth() < mean.get_linewidth() / 2 for line in thin)
        assert len(axes.collections) == (n == 7)


def test_longer_runs_go_on_as_thin_lines():
    runs = [{1: 0, 2: 1, 3: 2, 4: 5}, *({1: i, 2: i} for i in range(6))]
    (axes,) = draw_curves({"a": {"x": mean_curve(lines(*runs))}}, {}, "episodes").axes
    mean, rest = axes.lines
    assert mean.get_xdata().tolist() == [1, 2]
    assert rest.get_xydata().tolist() == [[2, 1], [3, 2], [4, 5]]


def test_a_run_that_diverged_ends_in_a_cross():
    good, bad = lines({1: 0, 2: 1, 3: 2}, {1: 0, 2: -5})
    figure = draw_curves({"a": {"x": mean_curve([good, bad._replace(diverged=True)])}}, {}, "episodes")
    crosses = [line for line in figure.axes[0].lines if line.get_marker() == "X"]
    assert [cross.get_xydata().tolist() for cross in crosses] == [[[2, -5]]]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["x", "diverged"]


def test_curves_have_bands_and_reference_lines_and_nothing_is_outside():
    x = np.array([1, 50])
    curves = {"a": Curve(x, np.array([1.0, 2.0]), np.array([0.5, -7.0]), np.array([1.5, 2.25]))}
    curves["b"] = Curve(x, x * 1.0, x * np.nan, x * np.nan)
    panels = {"steps": curves, "reward": {"a": curves["a"]}}
    figure = draw_curves(panels, {"optimum": {"steps": 130.0, "reward": -99.0}}, "episodes")
    steps, reward = figure.axes
    assert [line.get_ydata()[0] for line in steps.lines] == [1.0, 1.0, 130.0]
    band = steps.collections[0].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == (-7.0, 2.25)
    for axes, low, high in ((steps, -7, 130), (reward, -99, 2.25)):
        bottom, top = axes.get_ylim()
        assert bottom < low
        assert high < top
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "optimum"]


@pytest.mark.parametrize(("letters", "n_panels"), [(24, 2), (40, 2), (40, 3), (56, 3)])
def test_no_text_is_cut_off_and_no_two_panels_overlap(letters, n_panels):
    curve = mean_curve(lines({1: 0, 5000: 1}, {1: -1000, 5000: 1}))
    names = {f"{i} a long name of a setting, gamma=0.99 and more (2 runs)"[:letters]: curve for i in range(12)}
    panels = {**dict.fromkeys(["share", "reward", "steps"][:n_panels], names), "penalties": {"x": lines_at_zero()}}
    figure = draw_curves(panels, {"optimum": {"share": 1.0}}, "episodes")
    to_array(figure)
    width, height = figure.bbox.size
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    for box in [*boxes, *(legend.get_window_extent() for legend in figure.legends)]:
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
    for first, second in itertools.combinations(boxes, 2):
        assert not (first.x0 < second.x1 and second.x0 < first.x1 and first.y0 < second.y1 and second.y0 < first.y1)


def lines_at_zero():
    return mean_curve(lines({1: 0, 5000: 0}))


def test_a_panel_in_which_nothing_varies_is_small_and_last():
    varies = mean_curve(lines({1: 0, 5000: 1}))
    panels = {"penalties": {"x": lines_at_zero()}, "share": {"x": varies}, "reward": {"x": varies}}
    figure = draw_curves(panels, {"optimum": {"penalties": 0.0}}, "episodes")
    to_array(figure)
    share, _, penalties = figure.axes
    assert penalties.get_title() == "penalties: 0 in all tests"
    assert penalties.bbox.height < share.bbox.height / 3
    (only,) = draw_curves({"penalties": {"x": lines_at_zero()}}, {}, "episodes").axes
    assert only.get_title() == "penalties"


def test_limits_pass_over_what_is_no_number():
    assert limits_around([np.array([0.0, np.nan]), np.array([1.0, np.inf])]) == (-0.05, 1.05)
    assert limits_around([np.array([np.nan])]) == (-1, 1)
