"""
The figures of the README and the guide: where the numbers of each table, and of some sentences, come from.

Two comparisons make a figure good. Here, the pages are compared with the stored raw tables: a number on a page holds if
the stored number rounds to it, at the digits that the page shows. In ``reproduce.py``, the stored tables are compared
with tables that the same scripts write anew.
"""

import csv
import json
import re
import sqlite3
import statistics
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).parent
ROOT = EXAMPLES.parent
RESULTS = EXAMPLES / "results"
NAMES = ("questions", "results", "speed", "studies", "large_world", "page", "evaluation")
#: Pages of which every table is either compared or given a reason
PAGES = {
    "README.md": ROOT / "README.md",
    **{f"{name}.md": EXAMPLES / "guide" / f"{name}.md" for name in NAMES},
}
# A number, with the letter of a thousand or a million
_NUMBER = re.compile(r"(?<![\w.,])[-−]?\d[\d,]*(?:\.\d+)?(?:\s[kM]\b)?")
_SCALES = {"k": 1e3, "M": 1e6}


@dataclass(frozen=True)
class Number:
    """A number on a page: its text, value, and the place of its last digit."""

    text: str
    value: float
    place: float

    def holds(self, measured: float) -> bool:
        """Tell whether a number that was measured, and may have been rounded once already, rounds to it."""
        return abs(self.value - measured) <= 0.51 * self.place


def numbers_in(text: str) -> list[Number]:
    """
    Find the numbers of a text.

    :param text: A part of a page
    :return: Them in order
    """
    found = []
    for match in _NUMBER.findall(text):
        digits, _, scale = match.replace(",", "").replace("−", "-").partition(" ")
        place = 10.0 ** -len(digits.partition(".")[2]) * _SCALES.get(scale, 1)
        found.append(Number(match, float(digits) * _SCALES.get(scale, 1), place))
    return found


@dataclass(frozen=True)
class PageTable:
    """A table of a page, which is found by its header."""

    page: str
    header: str
    rows: list[list[str]]


def cells_of(line: str) -> list[str]:
    """
    Split a line of a table.

    :param line: Such as ``| a | b |``
    :return: Its cells
    """
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables_of(page: str, text: str) -> list[PageTable]:
    """
    Find the tables of a page.

    :param page: Its name
    :param text: Its text, Markdown
    :return: The tables in order; a header that is on the page for the second time ends in ``#2``
    """
    tables: list[PageTable] = []
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        header, _, *rows = block.splitlines()
        n_before = sum(table.header.partition("#")[0] == header for table in tables)
        tables.append(PageTable(page, header + (f"#{n_before + 1}" if n_before else ""), [*map(cells_of, rows)]))
    return tables


# Where the numbers of a table come from. A row is (label, numbers): the label is the first cell, None if it is not
# compared; the numbers are the first ones of the other cells, None if the row is not measured again.
Row = tuple[str | None, list[float] | None]


def spread(values: Iterable[float]) -> list[float]:
    """
    Return the numbers by which a page tells many: the median, the lowest and the highest.

    :param values: The many
    :return: The three, or one if they are equal
    """
    known = [*values]
    return [known[0]] if min(known) == max(known) else [statistics.median(known), min(known), max(known)]


def csv_rows(name: str, folder: Path = RESULTS) -> list[dict[str, str]]:
    """
    Read a stored table of runs.

    :param name: Of the file
    :param folder: Where it is
    :return: A dictionary for each run
    """
    with (folder / name).open(encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def markdown_rows(path: Path) -> list[tuple[str, list[float]]]:
    """
    Read a stored table in Markdown.

    :param path: The file
    :return: For each row its first cell, and the numbers of the others
    """
    found = []
    for table in tables_of(path.name, path.read_text(encoding="utf-8")):
        for first, *others in table.rows:
            found.append((first, [number.value for cell in others for number in numbers_in(cell)]))
    return found


def lecture(folder: Path = EXAMPLES / "benchmarks" / "results") -> list[Row]:
    """
    The lecture's settings, seed by seed.

    :param folder: Of the results of the benchmarks
    :return: Steps, share of solved starts, steps and reward of an episode, and transitions held, of each seed
    """
    text = (folder / "results.md").read_text(encoding="utf-8")
    pattern = (
        r"Row 2: seed (\d+): (\d+) env steps; at the end ([\d.]+)% of the starts solved, ([\d.]+) steps and (-?[\d.]+) "
        r"reward over all of them; (\d+) successes and (\d+) failures held"
    )
    return [(seed, [*map(float, figures)]) for seed, *figures in re.findall(pattern, text)]


def ladder() -> list[Row]:
    """The rungs: steps, diverged, share of solved starts with its range, steps of an episode, reward, first optimal."""
    rows: list[Row] = []
    for rung, figures in markdown_rows(RESULTS / "ladder.md"):
        n_steps, diverged, n_runs, solved, _, low, high, steps, reward, *first = figures
        shares = [solved, low] if low == high else [solved, low, high]
        rows.append((rung, [n_steps, diverged, n_runs, *shares, steps, reward, *first]))
    return rows


#: Task, algorithm, masks, by label of the row
TUNED = {
    "Taxi": ("Taxi-v3", "lecture_dqn", "False"),
    "Taxi, `use_masking=True`": ("Taxi-v3", "lecture_dqn", "True"),
    "Taxi, `LectureQRDQN`": ("Taxi-v3", "lecture_qrdqn", "False"),
    "Taxi in the rain": ("TaxiRainy-v3", "lecture_dqn", "False"),
    "FrozenLake 4x4, slippery": ("FrozenLake-v1", "lecture_dqn", "False"),
    "FrozenLake 8x8, slippery": ("FrozenLake8x8-v1", "lecture_dqn", "False"),
    "CliffWalking, slippery": ("CliffWalkingSlippery-v1", "lecture_dqn", "False"),
    "FrozenLake 4x4, not slippery": ("FrozenLakeNotSlippery-v1", "lecture_dqn", "False"),
    "FrozenLake 8x8, not slippery": ("FrozenLake8x8NotSlippery-v1", "lecture_dqn", "False"),
    "CliffWalking": ("CliffWalking-v1", "lecture_dqn", "False"),
}


def tuned_runs(label: str, whole: bool = False) -> list[dict[str, str]]:
    """
    Return the stored runs of a row of the recommended settings.

    :param label: A key of :data:`TUNED`
    :param whole: Whether those that trained their whole budget
    :return: The runs
    """
    names = ("task", "algorithm", "masked", "whole")
    key = (*TUNED[label], str(whole))
    return [run for run in csv_rows("tuned.csv") if tuple(run[name] for name in names) == key]


def tuned() -> list[Row]:
    """The recommended settings: seeds, reward or optimality, steps, seconds."""
    rows: list[Row] = []
    for label in TUNED:
        runs = tuned_runs(label)
        optimality = [float(run["optimality"]) for run in runs]
        if min(optimality) == max(optimality) == 1:
            # The page has Taxi's reward, and 1 for the others.
            result = [float(runs[0]["reward"]) if TUNED[label][0] == "Taxi-v3" else 1.0]
        else:
            result = [statistics.median(optimality), min(optimality), max(optimality)]
        steps = spread(float(run["steps"]) for run in runs)
        seconds = statistics.median(float(run["seconds"]) for run in runs)
        rows.append((label, [len(runs), *result, *steps, seconds]))
    return rows


#: Task of a row whose result is the mean return of fresh episodes
TUNED_BY_EPISODES = {"CartPole, 100 fresh episodes": "CartPole-v1", "Blackjack, 100,000 episodes each": "Blackjack-v1"}


def tuned_by_episodes() -> list[Row]:
    """The recommended settings without an exact result: seeds, mean return, steps, seconds."""
    rows: list[Row] = []
    for label, task in TUNED_BY_EPISODES.items():
        runs = [run for run in csv_rows("tuned.csv") if run["task"] == task]
        figures = [spread(float(run[name]) for run in runs) for name in ("reward", "steps")]
        seconds = statistics.median(float(run["seconds"]) for run in runs)
        rows.append((label, [len(runs), *figures[0], *figures[1], seconds]))
    return rows


def own_tasks() -> list[Row]:
    """Environments without settings: diverged runs and their number, steps, optimality."""
    runs = csv_rows("own_tasks.csv")
    rows: list[Row] = []
    for task in dict.fromkeys(run["task"] for run in runs):
        of_task = [run for run in runs if run["task"] == task]
        optimality = [float(run["optimality"]) for run in of_task]
        diverged = sum(run["diverged"] == "True" for run in of_task)
        three = [statistics.median(optimality), min(optimality), max(optimality)]
        steps = statistics.median(float(run["steps"]) for run in of_task)
        rows.append((None, [diverged, len(of_task), steps, *three]))
    return rows


def vector_tasks() -> list[Row]:
    """Acrobot and LunarLander: runs, diverged ones, steps, returns of ours and of both models of stock DQN, share."""
    runs = csv_rows("vector_tasks.csv")
    rows: list[Row] = []
    for task in dict.fromkeys(run["task"] for run in runs):
        of = {algo: [run for run in runs if (run["task"], run["algo"]) == (task, algo)] for algo in _ALGOS}
        returns = {algo: [float(run["reward"]) for run in of[algo]] for algo in _ALGOS}
        returns["best"] = [float(run["best_reward"]) for run in of["stock"]]
        mean = {name: statistics.fmean(values) for name, values in returns.items()}
        share = (mean["tuned"] - mean["random"]) / (max(mean["stock"], mean["best"]) - mean["random"])
        diverged = sum(run["diverged"] == "True" for run in of["tuned"])
        steps = statistics.median(int(run["steps"]) for run in of["tuned"])
        three = (figure for name in ("tuned", "stock", "best") for figure in (mean[name], *_ends(returns[name])))
        rows.append((task.partition("-")[0], [len(of["tuned"]), diverged, steps, *three, share]))
    return rows


_ALGOS = ("random", "stock", "tuned")


def _ends(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def ablation() -> list[Row]:
    """Each idea changed: runs that were never optimal, solved starts, steps, difference; with intervals."""
    rows: list[Row] = []
    for label, (_, never, *figures) in markdown_rows(RESULTS / "ablation.md"):
        solved, others = figures[:3], figures[3:]
        rows.append((label, [never, *(solved[:1] if set(solved) == {100} else solved), *others]))
    return rows


def lecture_study() -> list[Row]:
    """The two switches: diverged runs, solved starts with these as 0, and the report's figures of the others."""
    folder = RESULTS / "lecture_study"
    with closing(sqlite3.connect(folder / "results.sqlite")) as table:
        solved = dict(
            table.execute("SELECT setting, SUM(success_rate) FROM trials WHERE state = 'done' GROUP BY setting")
        )
    rows: list[Row] = []
    for _, setting, ended, failed, *cells in tables_of("report.md", (folder / "report.md").read_text("utf-8"))[0].rows:
        share, reward, _, better = (numbers_in(cell) for cell in cells)
        n_runs = int(ended) + int(failed)
        figures = [number.value for part in (share, reward, better) for number in part]
        rows.append((setting, [float(failed), float(n_runs), 100 * solved[setting] / n_runs, *figures]))
    return rows


def time_to_optimal() -> list[Row]:
    """Ours beside stock DQN: steps and seconds, runs that were not optimal, ratio; with intervals."""
    path = EXAMPLES / "benchmarks" / "results" / "time_to_optimal.md"
    return list(markdown_rows(path))


def contestants() -> list[Row]:
    """A world too large for a table: learning rate, solved starts, delivered passengers, steps."""
    rows: list[Row] = []
    for label, (rate, _, *figures) in markdown_rows(EXAMPLES / "guide" / "large_world_results.md"):
        rows.append((label, [rate, *figures[:6], *(figures[6:7] if "masks" in label and "table" not in label else [])]))
    return rows


#: Of the file of the benchmarks: the number of a row, those of its lines, and which of ours, peer, ratio and range
Lines = tuple[int, tuple[int, ...], str]


def benchmark(folder: str, *lines: Lines | None) -> Callable[[], list[Row]]:
    """
    Take lines of the benchmarks.

    :param folder: Of the file, in ``benchmarks/results``
    :param lines: For each row of the page its lines; ``None`` for a row that is not compared
    :return: A function that reads the rows
    """

    def rows() -> list[Row]:
        path = EXAMPLES / "benchmarks" / "results" / folder / "results.json"
        stored = json.loads(path.read_text(encoding="utf-8"))["rows"]
        found: list[Row] = []
        for one in lines:
            if one is None:
                found.append((None, None))
                continue
            number, places, words = one
            of_row = [stored[str(number)]["lines"][place] for place in places]
            found.append((None, [value for word in words.split() for line in of_row for value in _of(line, word)]))
        return found

    return rows


def _of(line: dict[str, Any], word: str) -> list[float]:
    if word == "ratio":
        return [line["value"]]
    if word == "range":
        return [min(line["figures"]), max(line["figures"])]
    return [statistics.median(line[word])]


def engines() -> list[Row]:
    """The same updates in several engines: microseconds of both works."""
    table = markdown_rows(EXAMPLES / "benchmarks" / "results" / "engines.md")
    return [(None, [figures[0], figures[3]]) for _, figures in table]


@dataclass(frozen=True)
class Table:
    """
    A table of a page: what its numbers are compared with, or why they are not.

    :param page: Its name
    :param header: The beginning of its first line
    :param rows: Reads the stored numbers
    :param reason: Why there are none
    """

    page: str
    header: str
    rows: Callable[[], list[Row]] | None = None
    reason: str = ""


ALL = "ours peer ratio range"
SETTINGS = "settings and words, no measurements"
TABLES = [
    Table("README.md", "| with SB3's `DQN` |", reason=SETTINGS),
    Table("README.md", "| lecture | here |", reason=SETTINGS),
    Table("README.md", "| space |", reason=SETTINGS),
    Table("results.md", "| what | command |", reason="commands, no measurements"),
    Table("results.md", "| seed | env steps |", lecture),
    Table("results.md", "| rung |", ladder),
    Table("results.md", "| task | seeds | result |", tuned),
    Table("results.md", "| task | seeds | result at the end |", tuned_by_episodes),
    Table("results.md", "| task | observations |", own_tasks),
    Table("results.md", "| vectors |", vector_tasks),
    Table("results.md", "| change |", ablation),
    Table("speed.md", "| what | then | better |", reason="orders of magnitude of the figures below"),
    Table(
        "speed.md",
        "| work | ours | peer | ratio |",
        benchmark(
            "",
            *((1, (i,), ALL) for i in (0, 1, 2, 6, 7, 8)),
            *((3, (0,), ALL), (4, (0,), ALL), (2, (0,), "ours range"), (7, (0,), ALL), (7, (1,), ALL), (5, (0,), ALL)),
            *((6, (0, 2, 4), "ours peer ratio"), (8, (0,), "ours peer ratio"), None, None),
            *((13, (0,), ALL), (13, (1,), ALL)),
            *(None, None, (10, (0, 1), "ours"), (11, (0,), "ours")),
        ),
    ),
    Table(
        "speed.md",
        "| work | ours | peer | ratio |#2",
        benchmark(
            "networks",
            *((row, (i,), ALL) for row, i in ((16, 0), (16, 1), (17, 0), (17, 1))),
            (18, (0, 1), "ours peer ratio"),
            *((row, (i,), ALL) for row, i in ((20, 0), (19, 0), (19, 2), (19, 1), (21, 0), (21, 1))),
        ),
    ),
    Table("speed.md", "| engine |", engines),
    Table("speed.md", "| until optimal |", time_to_optimal),
    Table("studies.md", "| setting |", lecture_study),
    Table("large_world.md", "| contestant |", contestants),
]


@dataclass(frozen=True)
class Sentence:
    """
    Numbers in a sentence.

    :param page: The page
    :param pattern: The sentence as a regular expression, with a group for each number; a space is an end of a line too
    :param measured: Returns what the numbers must be
    """

    page: str
    pattern: str
    measured: Callable[[], list[float]] = field(compare=False)


def _whole_budget() -> list[float]:
    """The step from which on all tests were optimal, and the first optimal one, without and with masks."""
    figures: list[float] = []
    for name in ("optimal_from", "first_optimal"):
        for label in ("Taxi", "Taxi, `use_masking=True`"):
            figures += spread(float(run[name]) for run in tuned_runs(label, whole=True))
    return figures


def _taxi() -> list[float]:
    """Steps and reward of the best policy, exactly."""
    from sb3_lecture_dqn import TabularModel

    # The best policy gets 20 for the delivery, and loses 1 with each other step.
    best = TabularModel.from_env("Taxi-v3").optimum(1000).mean_reward
    return [21 - best, best]


def _large_world() -> list[float]:
    """States, and the rows of a network with an embedding for each part."""
    from large_world import LargeTaxi

    cells, *passengers = map(int, LargeTaxi(size=20, n_passengers=2, n_stops=4, walls_seed=0).observation_space.nvec)
    states = cells * passengers[0] * passengers[1]
    return [cells, *passengers, states, cells + sum(passengers), cells + sum(passengers) + passengers[0]]


def _course() -> list[float]:
    """The best result of the Deep RL course: mean less standard deviation, and both."""
    from sb3_lecture_dqn import TabularModel, make_env
    from sb3_lecture_dqn.evaluation.course import MAX_STEPS, SEEDS

    with make_env("Taxi-v3") as env:
        starts = [env.reset(seed=seed)[0] for seed in SEEDS]
    best = TabularModel.from_env("Taxi-v3").optimum(MAX_STEPS).values[starts]
    return [float(best.mean() - best.std()), float(best.mean()), float(best.std()), float(len(set(starts)))]


def _lectures_runs() -> list[float]:
    """Of the study's runs with the lecture's settings: the lowest and the highest share of solved starts, and steps."""
    with closing(sqlite3.connect(RESULTS / "lecture_study" / "results.sqlite")) as table:
        query = "SELECT MIN({0}), MAX({0}) FROM trials WHERE setting = 'replay, target network'"
        shares, steps = (table.execute(query.format(name)).fetchone() for name in ("success_rate", "timesteps"))
    return [*(100 * share for share in shares), *steps]


def _n_solved() -> list[float]:
    """Seeds of Taxi of which all starts were solved in the fewest steps, without masks and with."""
    labels = ("Taxi", "Taxi, `use_masking=True`")
    solved = [[run for run in tuned_runs(label) if abs(float(run["optimality"]) - 1) < 1e-9] for label in labels]
    return [float(min(map(len, solved)))]


SENTENCES = [
    Sentence("README.md", r"with each of the (\d+) seeds that were measured, with masks and without", _n_solved),
    Sentence(
        "evaluation.md",
        r"The best possible result is ([\d.]+) = ([\d.]+) − ([\d.]+), .*?The seeds give (\d+) different starts",
        _course,
    ),
    Sentence(
        "results.md",
        r"It solves (\d+) to (\d+) % of the starts .*? which are ([\d,]+) to ([\d,]+) steps",
        _lectures_runs,
    ),
    Sentence("questions.md", r"solve (\d+) to (\d+) % of the starts after 5000", lambda: _lectures_runs()[:2]),
    Sentence("results.md", r"in the fewest steps has ([\d.]+) steps and ([\d.]+) reward", _taxi),
    Sentence(
        "results.md",
        r"optimal from step ([\d,]+) \(([\d,]+) – ([\d,]+)\) on without masks, and ([\d,]+) \(([\d,]+) – ([\d,]+)\) "
        r"with masks\. They were first optimal at step ([\d,]+) \(([\d,]+) – ([\d,]+)\) without masks, and ([\d,]+) "
        r"\(([\d,]+) – ([\d,]+)\) with masks",
        _whole_budget,
    ),
    Sentence(
        "large_world.md",
        r"makes ([\d,]+) × ([\d,]+) × ([\d,]+) = ([\d,]+) states.*?one embedding for each part has (\d+) rows, and "
        r"would have (\d+)",
        _large_world,
    ),
]


def compare_table(table: PageTable, rows: list[Row]) -> list[str]:
    """
    Compare a table of a page with the stored numbers.

    :param table: The table
    :param rows: The numbers
    :return: What does not hold, each in a line
    """
    wrong = []
    if len(table.rows) != len(rows):
        wrong.append(f"{table.page}: {table.header}: {len(table.rows)} rows on the page, {len(rows)} are stored")
    for cells, (label, measured) in zip(table.rows, rows, strict=False):
        if label is not None and cells[0].replace("`", "") != label.replace("`", ""):
            wrong.append(f"{table.page}: the row {cells[0]!r} is stored as {label!r}")
        if measured is not None:
            shown = [number for cell in cells[1:] for number in numbers_in(re.sub("`[^`]*`", "", cell))]
            wrong += _compare(f"{table.page}: {' | '.join(cells)}", shown, measured)
    return wrong


def _compare(where: str, shown: list[Number], measured: list[float]) -> list[str]:
    if len(shown) < len(measured):
        return [f"{where}: numbers for {', '.join(f'{number:,.6g}' for number in measured)} are not there"]
    pairs = zip(shown, measured, strict=False)
    return [f"{where}: {one.text} is {number:,.6g}" for one, number in pairs if not one.holds(number)]


def compare_pages() -> tuple[list[str], list[str], int]:
    """
    Compare all pages with the stored tables.

    :return: What does not hold; what is not compared, with the reason; how many tables and sentences hold
    """
    wrong, left_out, n_good = [], [], 0
    known = {(table.page, table.header): table for table in TABLES}
    texts = {page: path.read_text(encoding="utf-8") for page, path in PAGES.items()}
    for page, text in texts.items():
        for table in tables_of(page, text):
            fitting = [one for key, one in known.items() if key[0] == page and _is_header(table.header, key[1])]
            one = max(fitting, key=lambda found: len(found.header), default=None)
            if one is None:
                if any(numbers_in(cell) for row in table.rows for cell in row):
                    wrong.append(f"{page}: the table {table.header} is not listed in examples/figures.py")
                continue
            known.pop((page, one.header))
            if one.rows is None:
                left_out.append(f"{page}: {table.header}: {one.reason}")
                continue
            found = compare_table(table, one.rows())
            wrong += found
            n_good += not found
    wrong += [f"{page}: there is no table {header}, which is listed" for page, header in known]
    for sentence in SENTENCES:
        pattern = re.sub(" ", r"\\s+", sentence.pattern)
        match = re.search(pattern, texts[sentence.page], re.DOTALL)
        if match is None:
            wrong.append(f"{sentence.page}: there is no sentence {sentence.pattern!r}")
            continue
        found = _compare(f"{sentence.page}: {match[0]!r}", numbers_in(" ; ".join(match.groups())), sentence.measured())
        wrong += found
        n_good += not found
    return wrong, left_out, n_good


def _is_header(header: str, beginning: str) -> bool:
    text, _, count = header.partition("#")
    wanted, _, wanted_count = beginning.partition("#")
    return text.startswith(wanted) and count == wanted_count
