"""Environments in processes of their own: which of them died, where SB3 has a bare ``EOFError``."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

_SECONDS_TO_END = 5.0


class EnvironmentProcessError(EOFError):
    """The process of an environment ended; SB3 raises an ``EOFError`` too."""


@contextmanager
def naming_dead_processes(env: VecEnv | None, way_on: Callable[[], str] = str) -> Iterator[None]:
    """
    Within this context, the error of an environment whose process has died says which one it was, and of what it died.

    :param env: A vectorised environment
    :param way_on: Says how to go on, when the error is raised
    :raises EnvironmentProcessError: If a process of the environment is gone, in place of what SB3 raises then
    """
    try:
        yield
    except EnvironmentProcessError:
        raise
    except (EOFError, ConnectionError) as error:
        if not (dead := dead_processes(env)):
            raise
        raise EnvironmentProcessError("; ".join(filter(None, [", ".join(dead), way_on()]))) from error


def dead_processes(env: VecEnv | None) -> list[str]:
    """
    Find the processes of an environment that have died.

    :param env: A vectorised environment
    :return: For each, which environment it was and how it ended
    """
    base = None if env is None else env.unwrapped
    if not isinstance(base, SubprocVecEnv) or base.closed:
        return []
    wait([process.sentinel for process in base.processes], _SECONDS_TO_END)  # its pipe is closed a moment before
    codes = {i: process.exitcode for i, process in enumerate(base.processes)}
    return [
        f"environment {i} of {len(codes)} is gone: its process {base.processes[i].pid} {_ended(code)}"
        for i, code in codes.items()
        if code is not None
    ]


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}, and has printed why"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
