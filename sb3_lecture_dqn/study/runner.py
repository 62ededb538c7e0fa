"""Runs a plan on this machine, one process for every core."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import pathlib
import signal
import threading
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from tqdm import tqdm

from sb3_lecture_dqn.common.checks import check_number, shown
from sb3_lecture_dqn.saving.stop_signals import StopSignals
from sb3_lecture_dqn.study.plan import STOCK_ALGORITHMS, Plan, Trial
from sb3_lecture_dqn.study.table import ResultTable
from sb3_lecture_dqn.study.trial import Row, attempt, check_trials, reason

#: How often a trial may lose its process before it counts as failed
MAX_LOSSES = 5
CHECKPOINT_FREQ = 10_000
_POLL_SECONDS = 0.2

Record = Callable[[Trial, Row], None]


def trials_folder(folder: str | pathlib.Path) -> pathlib.Path:
    """
    Where a study has its trials.

    :param folder: The study's folder
    :return: The folder in which every trial has its own
    """
    return pathlib.Path(folder).resolve() / "trials"


def run_plan(
    plan: Plan,
    folder: str | pathlib.Path,
    processes: int | None = None,
    checkpoint_freq: int = CHECKPOINT_FREQ,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """
    Run all trials of a plan, or what is left of them, on this machine.

    The results go to ``results.sqlite`` in the folder as trials finish. Called again after a stop of any kind, it goes
    on: what is done is not run again, what was running goes on from its last checkpoint, what has failed begins anew.
    Ctrl-C and SIGTERM save checkpoints first. A process that is lost is replaced, and its trial goes on.

    As with all of Python's processes that are spawned, a script that calls this needs ``if __name__ == "__main__":``.

    :param plan: The plan. It may have more trials than what is in the folder, but not others of the same names
    :param folder: The study's folder
    :param processes: Number of processes, one trial each; ``None`` for one for every core
    :param checkpoint_freq: Environment steps between two checkpoints of a trial
    :param progress: Whether to print trials that are done, and a bar with the time left
    :return: All rows of the folder, see :meth:`ResultTable.rows`
    :raises ValueError: Before anything runs: if the plan cannot be run, or is not that of the folder
    """
    if processes is None:
        processes = _n_cores()
    check_number("processes", processes, 1, integer=True)
    check_number("checkpoint_freq", checkpoint_freq, 1, integer=True)
    with open_study(plan, folder, progress) as (table, waiting, record):
        _run(waiting, trials_folder(folder), min(processes, len(waiting)), checkpoint_freq, record)
        return table.rows()


@contextlib.contextmanager
def open_study(
    plan: Plan, folder: str | pathlib.Path, progress: bool
) -> Iterator[tuple[ResultTable, list[Trial], Record]]:
    """
    What running a plan is, wherever the trials run.

    :param plan: The plan
    :param folder: The study's folder
    :param progress: Whether to print
    :return: A context with the table of results, the trials that are left, and what records a result
    :raises ValueError: If the plan cannot be run, is not that of the folder, or another process runs it
    """
    check_trials(plan)
    table = ResultTable(folder)
    with table.locked():
        trials = plan.trials()
        table.add(trials)
        waiting = table.unfinished(trials)
        done = len(trials) - len(waiting)
        with tqdm(total=len(trials), initial=done, unit="trial", dynamic_ncols=True, disable=not progress) as bar:

            def record(trial: Trial, row: Row) -> None:
                table.record(trial, row)
                if progress:
                    bar.write(f"{trial}: {_summary(row)}")
                bar.update()

            yield table, waiting, record


def _summary(row: Row) -> str:
    if "error" in row:
        return f"failed: {shown(reason(row['error']), 500)}"
    return (
        f"{row['success_rate']:.1%} solved, {row['mean_reward']:.2f} reward after {row['episodes']} episodes, "
        f"{row['timesteps']} steps"
    )


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Worker:
    """A process that runs one trial after the other, in a pool of its own: its loss is that of no other trial."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=_begin_worker)
        self._pid = self._pool.submit(os.getpid)

    def start(self, trial: Trial, folder: pathlib.Path, checkpoint_freq: int) -> "Future[Row]":
        return self._pool.submit(attempt, trial, folder, checkpoint_freq)

    def ask_to_stop(self) -> None:
        """Let its trial save a checkpoint, and end it."""
        with contextlib.suppress(BrokenProcessPool, ProcessLookupError):
            os.kill(self._pid.result(), signal.SIGTERM)  # one that is just starting would begin its trial

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal: the first one decides
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """So that a study whose first process was killed is not still running when it is begun again."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run(trials: list[Trial], folder: pathlib.Path, n_workers: int, checkpoint_freq: int, record: Record) -> None:
    waiting, losses = deque(trials), Counter[tuple[str, str, int]]()
    idle = [_Worker() for _ in range(n_workers)]
    running: dict[Future[Row], tuple[Trial, _Worker]] = {}
    with StopSignals() as signals:
        try:
            while (waiting or running) and not signals.received:
                while waiting and idle:
                    trial, worker = waiting.popleft(), idle.pop()
                    running[worker.start(trial, folder, checkpoint_freq)] = trial, worker
                finished, _ = concurrent.futures.wait(running, _POLL_SECONDS, concurrent.futures.FIRST_COMPLETED)
                for future in finished:
                    trial, worker = running.pop(future)
                    error = future.exception()
                    if error is None:
                        record(trial, future.result())
                    else:  # the trial's own errors are results
                        worker.close()
                        worker = _Worker()
                        losses[trial.key] += 1
                        if losses[trial.key] < MAX_LOSSES:
                            _warn_of_loss(trial, error)
                            waiting.appendleft(trial)
                        else:
                            record(trial, {"error": f"its process was lost {MAX_LOSSES} times: {error!r}"})
                    idle.append(worker)
        finally:
            workers = [*idle, *(worker for _, worker in running.values())]
            for worker in workers:
                worker.ask_to_stop()
            for worker in workers:
                worker.close()
        if signals.received:
            signals.stop()


def _warn_of_loss(trial: Trial, error: BaseException) -> None:
    how = "begins again" if trial.algorithm in STOCK_ALGORITHMS else "goes on from its last checkpoint"
    warnings.warn(f"{trial}: its process was lost, and it {how}: {error!r}")
