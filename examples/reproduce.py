"""
Measure the figures of the README and the guide again, compare them with the text, and print what no longer holds.

From the root of the repository::

    python examples/reproduce.py --quick                 # half a minute: no long training
    python examples/reproduce.py                         # everything: some hours on one core
    python examples/reproduce.py --only tuned lecture    # some of it, such as what is left; `--list` names all

Every number of the pages comes from a table in ``results``, ``benchmarks/results`` or ``guide``, which a script has
written. So there are two comparisons. ``pages`` compares the pages with these tables (``figures.py`` says where each
number is). The others run the scripts again, into a folder of their own, and compare their tables with the stored ones:
what is random may differ as much as the rules below say, and how many runs are the same to the last digit is printed.
(The compiled engine rounds alike on processors of one kind only.) Times of a processor are compared as ratios to the
peer's, which ran beside.

The exit code is 1 if something does not hold. Each part that is repeated becomes a row of ``results/reproduce.csv``, in
place of the one of the time before, and ``results/reproduce.md`` has the table of all. So a whole run can be made in
several sittings.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

EXAMPLES = Path(__file__).parent
sys.path[:0] = [str(EXAMPLES), str(EXAMPLES / "benchmarks")]

import figures  # noqa: E402
from machine import describe_machine  # noqa: E402
from result_rows import markdown_table, read_rows, write_rows  # noqa: E402

#: How far a figure that was measured again may be from the stored one: relatively, or absolutely
RULES = {
    "solved": (0.0, 0.002),
    "optimality": (0.0, 0.005),
    "reward": (0.0, 0.05),
    "steps": (0.2, 0.0),
    # Of few runs, each of which is chaotic: a different rounding gives other runs.
    "solved, about": (0.0, 0.15),
    "steps, about": (0.5, 0.0),
    # As fast as the peer by at least so much of the stored ratio: the machine may be busy.
    "ratio": (0.4, 0.0),
}
Figures = dict[tuple[str, str], float]


@dataclass(frozen=True)
class Run:
    """
    Scripts that write tables.

    :param name: What ``--only`` calls it
    :param minutes: How long it takes on one core, about
    :param commands: Arguments of ``python``, with the folder of the results
    :param read: Figures in a folder, by what they are of and the name of their rule
    :param stored: The folder of the stored results
    :param runs: Rows of single runs in a folder, to be counted if they are equal; none if there is no such table
    """

    name: str
    minutes: int
    commands: Callable[[Path], list[list[str]]]
    read: Callable[[Path], Figures]
    stored: Path = figures.RESULTS
    runs: Callable[[Path], list[str]] = field(default=lambda folder: [])


def tuned_groups() -> dict[tuple[str, str, str, str], int]:
    """Return the number of stored runs of each group: task, algorithm, masked, whole."""
    groups: dict[tuple[str, str, str, str], int] = {}
    for run in figures.csv_rows("tuned.csv"):
        key = (run["task"], run["algorithm"], run["masked"], run["whole"])
        groups[key] = groups.get(key, 0) + 1
    return groups


def tuned_commands(out: Path) -> list[list[str]]:
    commands = []
    for (task, algorithm, masked, whole), n in tuned_groups().items():
        options = ["--masked"] * (masked == "True") + ["--whole"] * (whole == "True")
        words = ["--tasks", task, "--algo", algorithm, "--seeds", str(n), *options, "--out", str(out)]
        commands.append([str(EXAMPLES / "tuned_results.py"), *words])
    return commands


def tuned(folder: Path) -> Figures:
    """Of each group the worst result, and the median of the steps."""
    groups: dict[str, list[dict[str, str]]] = {}
    for run in figures.csv_rows("tuned.csv", folder):
        name = ", ".join(run[key] for key in ("task", "algorithm", "masked", "whole"))
        groups.setdefault(name, []).append(run)
    found: Figures = {}
    for name, runs in groups.items():
        for figure in ("optimality", "solved"):
            if values := [float(run[figure]) for run in runs if run[figure]]:
                found[f"lowest {figure} of {name}", figure] = min(values)
            else:  # of episodes
                found[f"median reward of {name}", "reward"] = figures.spread(float(run["reward"]) for run in runs)[0]
        found[f"median steps of {name}", "steps"] = figures.spread(float(run["steps"]) for run in runs)[0]
    return found


def rows_without_seconds(file: str) -> Callable[[Path], list[str]]:
    def rows(folder: Path) -> list[str]:
        return [str({**row, "seconds": ""}) for row in figures.csv_rows(file, folder)]

    return rows


def own_tasks(folder: Path) -> Figures:
    """Of each task the median result."""
    runs = figures.csv_rows("own_tasks.csv", folder)
    return {
        (f"median optimality of {task}", "optimality"): figures.spread(
            float(run["optimality"]) for run in runs if run["task"] == task
        )[0]
        for task in dict.fromkeys(run["task"] for run in runs)
    }


def own_tasks_commands(out: Path) -> list[list[str]]:
    """Of each task as many seeds as are stored."""
    tasks = [run["task"] for run in figures.csv_rows("own_tasks.csv")]
    words = (["--tasks", task, "--seeds", str(tasks.count(task)), "--out", str(out)] for task in dict.fromkeys(tasks))
    return [[str(EXAMPLES / "own_tasks.py"), *of_task] for of_task in words]


def ablation(folder: Path) -> Figures:
    """Of each row the solved starts, and the median of the steps until the policy was first optimal."""
    found: Figures = {}
    for row, (_, _, solved, _, _, *steps) in figures.markdown_rows(folder / "ablation.md"):
        found[f"solved starts, {row}", "solved, about"] = solved / 100
        if len(steps) >= 3:  # a median that is not "never"
            found[f"steps, {row}", "steps"] = steps[0]
    return found


def csv_runs(file: str) -> Callable[[Path], list[str]]:
    return lambda folder: [*map(str, figures.csv_rows(file, folder))]


def ladder(folder: Path) -> Figures:
    """Means of each rung."""
    return {
        (f"solved starts of {rung}", "solved, about"): numbers[3] / 100
        for rung, numbers in figures.markdown_rows(folder / "ladder.md")
    }


def large_world(folder: Path) -> Figures:
    """Medians of each contestant."""
    return {
        (f"solved starts of {contestant}", "solved, about"): numbers[2] / 100
        for contestant, numbers in figures.markdown_rows(folder / "large_world_results.md")
    }


def lecture(folder: Path) -> Figures:
    """The solved starts of each seed."""
    rows = figures.lecture(folder)
    return {(f"solved starts of seed {seed}", "solved, about"): numbers[1] / 100 for seed, numbers in rows}


def lecture_runs(folder: Path) -> list[str]:
    return [*map(str, figures.lecture(folder))]


def benchmarks(folder: Path) -> Figures:
    """The ratio to every peer."""
    rows = json.loads((folder / "results.json").read_text(encoding="utf-8"))["rows"]
    return {
        (f"row {number}, {line['work']}, beside {line['peer_name']}", "ratio"): line["value"]
        for number, row in rows.items()
        for line in row["lines"]
        if line["figure"] == "faster" and line["verdict"] != "absent"
    }


def script(name: str, *words: str) -> Callable[[Path], list[list[str]]]:
    return lambda out: [[str(EXAMPLES / name), *words, "--out", str(out)]]


STORED_BENCHMARKS = EXAMPLES / "benchmarks" / "results"
RUNS = [
    Run("tuned", 30, tuned_commands, tuned, runs=rows_without_seconds("tuned.csv")),
    Run("own_tasks", 30, own_tasks_commands, own_tasks, runs=rows_without_seconds("own_tasks.csv")),
    Run("ablation", 12, script("ablation.py", "--processes", "1"), ablation, runs=csv_runs("ablation.csv")),
    Run("lecture", 2, script("benchmarks/run.py", "--rows", "2"), lecture, STORED_BENCHMARKS, lecture_runs),
    Run("ladder", 2, script("lecture_ladder.py", "--seeds", "5", "--processes", "1"), ladder),
    Run("large_world", 60, script("large_world.py"), large_world, EXAMPLES / "guide"),
    Run("speed", 60, script("benchmarks/run.py", "--rows", "1,3,4,5,6,7,13", "--repeats", "3"), benchmarks,
        STORED_BENCHMARKS),
    Run("networks", 60, script("benchmarks/run.py", "--rows", "16,17,18,19,20,21", "--repeats", "3"), benchmarks,
        STORED_BENCHMARKS / "networks"),
]  # fmt: skip
#: What is not measured again here, and why
LEFT_OUT = {
    "engines.md": "needs a C++ compiler and torch.compile: `python examples/benchmarks/engines.py --repeats 5`",
    "vector_tasks.md": "stock DQN takes hours: `python examples/vector_tasks.py`",
    "time_to_optimal.md": "stock DQN takes half an hour: `python examples/benchmarks/time_to_optimal.py`",
    "the study of two switches": "`sb3-lecture-dqn ablate --out study`",
    "memory and long runs (rows 10 to 12)": "`python examples/benchmarks/run.py --rows 10,11,12`",
}


def pages() -> list[str]:
    """Compare the pages with the stored tables."""
    wrong, left_out, n_good = figures.compare_pages()
    print(f"{n_good} tables and sentences of the pages are those that are stored.")
    print(*(f"Not compared: {line}" for line in left_out), sep="\n")
    return wrong


def stored() -> list[str]:
    """Compare the stored tables in Markdown with the stored runs that they were made of."""
    import ablation as ablation_script
    import own_tasks as own_tasks_script
    import search_defaults
    import tuned_results
    import vector_tasks

    made = {
        "tuned.md": tuned_results.markdown(figures.csv_rows("tuned.csv")),
        "own_tasks.md": own_tasks_script.markdown(figures.csv_rows("own_tasks.csv")),
        "defaults.md": search_defaults.markdown(figures.csv_rows("defaults.csv"), search_defaults.TIMESTEPS),
        "vector_tasks.md": vector_tasks.markdown(figures.csv_rows("vector_tasks.csv")),
        "ablation.md": ablation_script.markdown(figures.csv_rows("ablation.csv")),
    }
    wrong = [name for name, text in made.items() if (figures.RESULTS / name).read_text(encoding="utf-8") != text]
    print(f"{len(made) - len(wrong)} of {len(made)} stored tables are those of their runs.")
    return [f"results/{name} is not the table of the runs beside it" for name in wrong]


def short() -> list[str]:
    """Repeat a few stored runs of the recommended settings, which take a second each."""
    import tuned_results

    wrong, n_equal = [], 0
    chosen = [
        run
        for run in figures.csv_rows("tuned.csv")
        if (run["task"], run["algorithm"], run["whole"]) == ("Taxi-v3", "lecture_dqn", "False")
        and int(run["seed"]) < tuned_results.FIRST_SEED + 2
    ]
    for run in chosen:
        found = tuned_results.train(run["task"], run["algorithm"], run["masked"] == "True", False, int(run["seed"]))
        if not (found["solved"] == 1 and abs(found["reward"] - float(run["reward"])) < 1e-9):
            wrong.append(f"Taxi, seed {run['seed']}, masked {run['masked']}: {found}, stored {run}")
        n_equal += found["steps"] == int(run["steps"])
    print(f"{len(chosen)} short runs: {len(chosen) - len(wrong)} hold, {n_equal} took as many steps as the stored.")
    return wrong


def compare(name: str, measured: Figures, expected: Figures) -> list[str]:
    """
    Compare figures by their rules.

    :param name: Of the run
    :param measured: Of the new run
    :param expected: The stored
    :return: What does not hold, each in a line
    """
    wrong = [f"{name}: {of} was not measured" for of, _ in expected.keys() - measured.keys()]
    for (of, rule), value in measured.items():
        if (of, rule) not in expected:
            continue
        stored_value, (relative, absolute) = expected[of, rule], RULES[rule]
        low, high = sorted([stored_value * (1 - relative), stored_value * (1 + relative)])
        above = float("inf") if rule == "ratio" else high + absolute
        if not low - absolute <= value <= above:
            wrong.append(f"{name}: {of}: {value:,.6g}, stored {stored_value:,.6g}")
    return wrong


def repeat(run: Run) -> list[str]:
    """
    Run the scripts of a run again, and compare.

    :param run: The run
    :return: What does not hold, each in a line
    """
    with tempfile.TemporaryDirectory() as folder:
        for words in run.commands(Path(folder)):
            done = subprocess.run([sys.executable, *words], cwd=EXAMPLES.parent, capture_output=True, text=True)
            if done.returncode != 0:
                return [f"{run.name}: {' '.join(words)} failed: {done.stderr.strip().splitlines()[-1:]}"]
        measured, expected = (run.read(Path(at)) for at in (folder, run.stored))
        new, old = (set(run.runs(Path(at))) for at in (folder, run.stored))
    wrong = compare(run.name, measured, expected)
    equal = f", and {len(new & old)} of {len(old)} runs are equal to the last digit" if old else ""
    print(f"{run.name}: {len(measured) - len(wrong)} of {len(measured)} figures hold{equal}.")
    return wrong


QUICK = {"pages": pages, "stored": stored, "short": short}


def when_and_where() -> dict[str, str]:
    """Return the time, the commit, the machine and its load, before a repetition."""
    # The report itself changes from part to part.
    changed = ["git", "diff", "--name-only", "HEAD", "--", ":/", ":(top,exclude)examples/results/reproduce.*"]
    commit, dirty = (
        subprocess.run(words, cwd=EXAMPLES, capture_output=True, text=True).stdout.strip()
        for words in (["git", "rev-parse", "--short", "HEAD"], changed)
    )
    facts = describe_machine("../reproduce.py")
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    return {
        "date": facts["date"],
        "commit": f"{commit}, changed" if dirty else commit or "no repository",
        "machine": f"{facts['cpu']}, {facts['cores']} cores, Python {facts['python']}, {packages}",
        "load": facts["load"],
    }


def report(folder: Path, rows: list[dict[str, str]]) -> None:
    """Write the rows of all repetitions, and their table."""
    write_rows(folder / "reproduce.csv", rows[0], rows)
    about = "Written by `python examples/reproduce.py`: the last repetition of each part, and the load before it."
    cells = [[text.replace("|", r"\|") for text in row.values()] for row in rows]
    text = markdown_table(about, list(rows[0]), cells)
    missing = [run.name for run in RUNS if run.name not in {row["what"] for row in rows}]
    lines = [f"- Not repeated yet: {name}" for name in missing]
    lines += [f"- Not measured again: {what}: {why}" for what, why in LEFT_OUT.items()]
    (folder / "reproduce.md").write_text(text + "\n" + "\n".join(lines) + "\n", encoding="utf-8")


def main(arguments: list[str] | None = None) -> int:
    """
    Compare.

    :param arguments: Of the command line
    :return: The exit code
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    by_name: dict[str, Callable[[], list[str]]] = {**QUICK, **{run.name: lambda run=run: repeat(run) for run in RUNS}}
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}")
    parser.add_argument("--only", nargs="+", choices=by_name, metavar="NAME", help="only some")
    parser.add_argument("--list", action="store_true", help="print the names and the minutes, and measure nothing")
    parser.add_argument("--out", type=Path, default=figures.RESULTS, help="folder of the report (default: results)")
    args = parser.parse_args(arguments)
    if args.list:
        print(*QUICK, *(f"{run.name}: {run.minutes} minutes" for run in RUNS), sep="\n")
        print(*(f"Not measured again: {what}: {why}" for what, why in LEFT_OUT.items()), sep="\n")
        return 0
    names = args.only or (QUICK if args.quick else by_name)
    rows = {row["what"]: row for row in read_rows(args.out / "reproduce.csv")}
    wrong: list[str] = []
    for name in names:
        begin, row = time.perf_counter(), {"what": name, **when_and_where()}
        found = by_name[name]()
        print(*(f"DOES NOT HOLD: {line}" for line in found), sep="\n", end="\n" if found else "", flush=True)
        wrong += found
        if not args.quick:
            seconds = f"{time.perf_counter() - begin:.0f}"
            rows[name] = {**row, "seconds": seconds, "does not hold": "; ".join(found) or "nothing"}
            report(args.out, [rows[what] for what in by_name if what in rows])
    print("All figures hold." if not wrong else f"{len(wrong)} figures do not hold.")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
