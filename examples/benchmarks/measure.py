"""Tools of all measurements: interleaved repeats, one core, and fresh processes where necessary."""

import contextlib
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def use_one_core() -> None:
    """Bind this process and its children to one core, so that ours and peers are measured on one core."""
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
    # Use the package and the lecture's loop of this checkout, whatever is installed.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def use_all_cores() -> None:
    """Undo the binding of :func:`use_one_core`, for what runs in several processes."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


@dataclass(frozen=True)
class Plan:
    """
    The extent of a measurement.

    :param repeats: Repeats of every measurement
    :param quick: Whether to check only that everything works, with small sizes and meaningless figures
    :param before: A revision of this repository to compare with; ``None`` for no comparison
    """

    repeats: int = 5
    quick: bool = False
    before: str | None = None

    def size(self, full: int, quick: int) -> int:
        """Return the size of some work: ``full``, or ``quick`` in a quick run."""
        return quick if self.quick else full


@dataclass
class Line:
    """
    One line of the table: samples of ours, samples of a peer measured in turn, and the goals.

    :param work: What was done
    :param unit: Unit of both samples; a unit that ends in ``/s`` is a rate
    :param ours: One figure for every repeat
    :param peer_name: Name of the peer; empty if there is no peer
    :param peer: One figure for every repeat; none if the peer is absent because something is not installed
    :param figure: ``"faster"``: how many times as fast as the peer we are, the more the better; ``"cost"``: how many
        times the peer's figure ours is, the less the better; ``"own"``: ours alone, the less the better
    :param must: The goal that the figure must reach; ``None`` if it is for information only
    :param aim: A better goal
    :param row: Number of the row, which ``rows.py`` fills in
    """

    work: str
    unit: str
    ours: list[float]
    peer_name: str = ""
    peer: list[float] = field(default_factory=list)
    figure: str = "faster"
    must: float | None = None
    aim: float | None = None
    row: int = 0

    @property
    def is_absent(self) -> bool:
        """Look whether there is no figure, because the peer could not be measured."""
        return self.figure != "own" and not self.peer

    @property
    def figures(self) -> list[float]:
        """Return the figure of every repeat; of an absent peer there are none."""
        if self.figure == "own":
            return self.ours
        if self.is_absent:
            return []
        ours_on_top = self.figure == "cost" or self.unit.endswith("/s")
        pairs = zip(self.ours, self.peer, strict=True)
        return [ours / peer if ours_on_top else peer / ours for ours, peer in pairs]

    @property
    def value(self) -> float:
        """Return the median figure, NaN without a figure."""
        return statistics.median(self.figures or [math.nan])

    def reaches(self, goal: float) -> bool:
        """Look whether the median figure reaches a goal."""
        return self.value >= goal if self.figure == "faster" else self.value <= goal

    @property
    def verdict(self) -> str:
        """
        Judge the figure.

        :return: The best goal that is reached, ``"aim"`` or ``"must"``, or ``"no"``; ``"absent"`` without a figure, an
            empty text without goals
        """
        if self.must is None:
            return ""
        if self.is_absent:
            return "absent"
        if self.aim is not None and self.reaches(self.aim):
            return "aim"
        return "must" if self.reaches(self.must) else "no"


@dataclass
class RowResult:
    """
    The result of a row.

    :param lines: Its lines of the table
    :param notes: Other measurements by name, for the JSON file
    :param remarks: Sentences for the reader of the table
    """

    lines: list[Line]
    notes: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)


def lines_beside(
    work: str,
    unit: str,
    found: Mapping[str, list[float]],
    goals: Mapping[str, tuple[float, float | None]],
    figure: str = "faster",
) -> list[Line]:
    """
    Make a line for each peer.

    :param work: What was done
    :param unit: Unit of all samples
    :param found: Samples by name, ours first
    :param goals: What must be reached beside a peer, and what is aimed at; a peer that was not measured gets a line too
    :param figure: See :class:`Line`
    :return: The lines, those with goals first
    """
    ours, *peers = found
    names = [*goals, *(name for name in peers if name not in goals)]
    return [
        Line(work, unit, found[ours], name, found.get(name, []), figure, *goals.get(name, (None, None)))
        for name in names
    ]


def interleave(
    plan: Plan, title: str, contestants: Mapping[str, Callable[[int], Any]], repeats: int | None = None
) -> dict[str, list[Any]]:
    """
    Measure contestants in turn, so that a drift of the machine affects all of them.

    :param plan: How much to measure
    :param title: Shown beside the progress bar
    :param contestants: Functions that get the number of the repeat, measure, and return the result
    :param repeats: Number of repeats in place of the plan's
    :return: The results of each contestant, one for every repeat
    """
    repeats = plan.repeats if repeats is None else repeats
    found: dict[str, list[Any]] = {name: [] for name in contestants}
    # A progress bar would fill a log file.
    with tqdm(total=repeats * len(contestants), desc=title, leave=False, dynamic_ncols=True, disable=None) as bar:
        for repeat in range(repeats):
            for name, measure in contestants.items():
                bar.set_postfix_str(name)
                gc.collect()
                found[name].append(measure(repeat))
                bar.update()
    return found


def seconds(work: Callable[[], Any]) -> float:
    """Measure the wall time of some work in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def seconds_per_call(work: Callable[[], Any], at_least: float = 0.1) -> float:
    """Measure the wall time of one call in seconds, over as many calls as take ``at_least`` seconds."""
    calls, total = 1, seconds(work)
    while total < at_least:
        calls = max(2 * calls, int(calls * 1.2 * at_least / max(total, 1e-9)))
        total = seconds(lambda n=calls: [work() for _ in range(n)])
    return total / calls


def fresh_process(function: str, environment: Mapping[str, str] | None = None, **arguments: Any) -> Any:
    """
    Call a function of ``probes.py`` in a new Python process.

    :param function: Its name
    :param environment: Variables to add to the environment
    :param arguments: Its arguments
    :return: Its result
    :raises RuntimeError: If it failed; the message is its stderr
    """
    done = subprocess.run(
        [sys.executable, str(HERE / "probes.py"), function, json.dumps(arguments)],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{function}({arguments}) failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


@contextlib.contextmanager
def checked_out(revision: str | None) -> Iterator[Path | None]:
    """
    Lay the files of a revision of this repository into a temporary folder.

    :param revision: A commit or a tag, or ``None``
    :return: The folder; ``None`` if there is no such revision here, as in a copy without history
    """
    if revision is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "files.tar"
        done = subprocess.run(["git", "-C", str(ROOT), "archive", "-o", str(archive), revision], capture_output=True)
        if done.returncode != 0:
            yield None
            return
        subprocess.run(["tar", "-xf", str(archive), "-C", folder], check=True)
        yield Path(folder)
