"""
Measure the package against its peers: every row of the table of figures in the README, in one run.

From the root of the repository::

    python examples/benchmarks/run.py                 # all, in half an hour
    python examples/benchmarks/run.py --rows 1,3      # some rows
    python examples/benchmarks/run.py --quick         # only checks that it works

It needs the ``dev`` extra. The peers are the lecture's loop and SB3, and SBX (``pip install sbx-rl``) and CleanRL (its
repository on ``PYTHONPATH``) if they are installed. Results go to ``results.json``, ``results.md`` and ``results.png``.
Run it on an idle machine.
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
from measure import HERE, Line, RowResult, use_one_core
from report import markdown, number, plot
from tqdm import tqdm

ALL_ROWS = tuple(range(1, 10))


def measure_row(row: int, args: argparse.Namespace) -> RowResult | None:
    """
    Measure a row in a new process.

    :param row: Its number
    :param args: Arguments of the command line
    :return: Its result; ``None`` if it failed, with a message on stderr
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "row.json"
        command = [sys.executable, str(HERE / "rows.py"), str(row), str(args.repeats), str(int(args.quick)), str(file)]
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
    parser.add_argument("--rows", default="", help="numbers of the rows to measure, such as 1,3 (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of every measurement (default: 5)")
    parser.add_argument(
        "--out", type=Path, default=HERE / "results", help="folder of the results (default: results beside this file)"
    )
    parser.add_argument("--quick", action="store_true", help="small sizes, to see that it works")
    args = parser.parse_args()
    try:
        args.rows = [int(row) for row in args.rows.split(",")] if args.rows else list(ALL_ROWS)
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
            unit = "×" if line.peer else f" {line.unit}"
            tqdm.write(f"row {row}: {line.work}{beside}: {number(line.value)}{unit} {line.verdict}")
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
