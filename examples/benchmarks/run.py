"""
Measure the package against its peers: every row of the tables in the guide's page about speed, in one run.

From the root of the repository::

    python examples/benchmarks/run.py                 # all but row 9, in half an hour
    python examples/benchmarks/run.py --rows 1,3      # some rows
    python examples/benchmarks/run.py --rows all      # also row 9, the lecture's study of 80 runs
    python examples/benchmarks/run.py --quick         # only checks that it works

It needs the extra ``bench``. The peers are the lecture's loop, SB3, a jitted JAX loop (``jax_loop.py``), and C by hand
(gcc); also SBX (``pip install sbx-rl``) and CleanRL (its repository on ``PYTHONPATH``) if they are installed, and
LunarLander if gymnasium's extra ``box2d`` is. What is not installed is marked as absent. Row 7 compares with an earlier
commit, whose files it takes from git. Results go to ``results.json``, ``results.md`` and ``results.png``. Run it on an
idle machine.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from machine import describe_machine, load
from measure import HERE, Line, Plan, RowResult, use_one_core
from report import markdown, number, plot
from tqdm import tqdm

ALL_ROWS = tuple(range(1, 22))
#: Rows that are left out unless asked for
LONG_ROWS = (9,)
#: The last commit before the compiled loop
BEFORE = "4520baf"


def measure_row(row: int, args: argparse.Namespace) -> RowResult | None:
    """
    Measure a row in a new process.

    :param row: Its number
    :param args: Arguments of the command line
    :return: Its result; ``None`` if it failed, with a message on stderr
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "row.json"
        plan = Plan(args.repeats, args.quick, args.before or None)
        command = [sys.executable, str(HERE / "rows.py"), str(row), json.dumps(asdict(plan)), str(file)]
        if subprocess.run(command).returncode != 0:
            return None
        found = json.loads(file.read_text())
    return RowResult([Line(**line) for line in found["lines"]], found["notes"], found["remarks"])


def as_json(results: dict[int, RowResult], machine: dict[str, Any]) -> str:
    """Return all measurements with their figures and verdicts."""
    rows = {
        row: {
            **asdict(result),
            "lines": [
                {**asdict(line), "value": line.value, "figures": line.figures, "verdict": line.verdict}
                for line in result.lines
            ],
        }
        for row, result in results.items()
    }
    return json.dumps({"machine": machine, "rows": rows}, indent=1)


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="Measure the package against its peers.")
    parser.add_argument(
        "--rows", default="", help=f"numbers of the rows, such as 1,3, or 'all' (default: all but {LONG_ROWS[0]})"
    )
    parser.add_argument("--repeats", type=int, default=5, help="repeats of every measurement (default: 5)")
    parser.add_argument(
        "--out", type=Path, default=HERE / "results", help="folder of the results (default: results beside this file)"
    )
    parser.add_argument(
        "--before",
        default=BEFORE,
        metavar="REVISION",
        help=f"commit or tag with which row 7 compares, '' for none (default: {BEFORE}, before the compiled loop)",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    args = parser.parse_args()
    try:
        if args.rows in ("", "all"):
            args.rows = [row for row in ALL_ROWS if args.rows or row not in LONG_ROWS]
        else:
            args.rows = [int(row) for row in args.rows.split(",")]
    except ValueError:
        parser.error(f"--rows {args.rows}: give numbers with commas between them")
    if not set(args.rows) <= set(ALL_ROWS):
        parser.error(f"--rows {args.rows}: there are the rows 1 to {ALL_ROWS[-1]}")
    if args.repeats < 1:
        parser.error(f"--repeats {args.repeats}: must be at least 1")
    return args


def main() -> int:
    """Measure, report, and return how many rows could not be measured."""
    args = parse_args()
    use_one_core()
    machine = describe_machine("run.py") | {"repeats": args.repeats, "quick": args.quick}
    machine["load before each row"] = {}
    args.out.mkdir(parents=True, exist_ok=True)
    results: dict[int, RowResult] = {}
    failed = []
    for row in tqdm(args.rows, desc="rows", unit="row", dynamic_ncols=True, disable=None):
        tqdm.write(f"row {row} …")
        machine["load before each row"][row] = load()
        result = measure_row(row, args)
        if result is None:
            failed.append(row)
            tqdm.write(f"row {row} could not be measured")
            continue
        results[row] = result
        for line in result.lines:
            beside = f" beside {line.peer_name}" if line.peer_name else ""
            unit = f" {line.unit}" if line.figure == "own" else "×"
            figure = "absent" if line.is_absent else f"{number(line.value)}{unit} {line.verdict}"
            tqdm.write(f"row {row}: {line.work}{beside}: {figure}")
        # After every row, so that a run that is stopped keeps its results.
        (args.out / "results.json").write_text(as_json(results, machine) + "\n", encoding="utf-8")
        (args.out / "results.md").write_text(markdown(results, machine), encoding="utf-8")
        plot(results, args.out / "results.png")
    print(f"Results are in {args.out}")
    if failed:
        print(f"Rows that could not be measured: {failed}", file=sys.stderr)
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
