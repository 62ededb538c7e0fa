"""Running a plan on this machine, with one process for every core."""

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

from sb3_lecture_dqn.algorithms import STOCK_ALGORITHMS
from sb3_lecture_dqn.common.bars import Bar
from sb3_lecture_dqn.common.checks import check_number, shown
from sb3_lecture_dqn.saving.stop_signals import StopSignals
from sb3_lecture_dqn.study.plan import Plan, Trial
from sb3_lecture_dqn.study.table import ResultTable
from sb3_lecture_dqn.study.trial import Row, attempt, check_trials, reason

#: How often a trial may lose its process before it counts as failed
MAX_LOSSES = 5
CHECKPOINT_FREQ = 10_000
_POLL_SECONDS = 0.2

Record = Callable[[Trial, Row], None]
#: How Python starts the processes: anew, as on every system
START_METHOD = "spawn"


def trials_folder(folder: str | pathlib.Path) -> pathlib.Path:
    """
    Return the folder that holds the folders of the trials.

    :param folder: The study's folder
    :return: The folder
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
    Run the unfinished trials of a plan on this machine.

    Each result is written to ``results.sqlite`` in the folder when its trial ends. A study that was stopped in any way
    continues with another call: finished trials are kept, interrupted trials continue from their last checkpoints,
    failed trials begin again. Ctrl-C and SIGTERM save checkpoints first. If a process is lost, its trial continues in
    another process.

    Python spawns the processes, so a script that calls this needs ``if __name__ == "__main__":``.

    :param plan: The plan. It may add trials to the folder; a trial with the task, setting and seed of an earlier trial
        must be equal to it
    :param folder: The study's folder
    :param processes: Number of processes with one trial each; ``None`` for one process on every core
    :param checkpoint_freq: Environment steps between two checkpoints of a trial
    :param progress: Whether to print a line for each finished trial, and a bar with the time left
    :return: All rows of the folder, see :meth:`ResultTable.rows`
    :raises ValueError: Before any trial runs: if the plan cannot run, or contradicts the trials in the folder
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
    Check a plan, lock the study, and add the plan's trials to its table, for every way of running the trials.

    :param plan: The plan
    :param folder: The study's folder
    :param progress: Whether to print results and a progress bar
    :return: A context with the table of results, the unfinished trials, and a function that records a result
    :raises ValueError: If the plan cannot run, contradicts the trials in the folder, or another process runs the study
    """
    check_trials(plan)
    table = ResultTable(folder)
    with table.locked():
        trials = plan.trials()
        table.add(trials)
        waiting = table.unfinished(trials)
        done = len(trials) - len(waiting)
        with Bar(total=len(trials), initial=done, unit="trial", disable=not progress) as bar:

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
    """A process that runs one trial after another, in its own pool, so that its loss affects no other trial."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(1, multiprocessing.get_context(START_METHOD), initializer=_begin_worker)
        self._pid = self._pool.submit(os.getpid)

    def start(self, trial: Trial, folder: pathlib.Path, checkpoint_freq: int) -> "Future[Row]":
        return self._pool.submit(attempt, trial, folder, checkpoint_freq)

    def ask_to_stop(self) -> None:
        """Make the trial save a checkpoint and end."""
        with contextlib.suppress(BrokenProcessPool, ProcessLookupError):
            os.kill(self._pid.result(), signal.SIGTERM)  # waits until a new process has started

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent stops the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit with the parent process, so that no worker of a killed study runs when the study is started again."""
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
                    else:  # the process was lost; an error of the trial would be its result
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
    how = "begins again" if trial.algorithm in STOCK_ALGORITHMS else "continues from its last checkpoint"
    warnings.warn(f"{trial}: its process was lost, and it {how}: {error!r}")
