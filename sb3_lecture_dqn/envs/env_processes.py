"""Environments in other processes: an error that says which process died, in place of SB3's bare ``EOFError``."""

import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

from stable_baselines3.common.vec_env import SubprocVecEnv, VecEnv

_SECONDS_TO_END = 5.0


class EnvironmentProcessError(EOFError):
    """The process of an environment has ended. SB3 raises an ``EOFError`` then, so this is one too."""


@contextmanager
def naming_dead_processes(env: VecEnv | None, advice: Callable[[], str] = str) -> Iterator[None]:
    """
    Replace SB3's error about a dead process by one that says which environment it was and how it ended.

    :param env: A vectorised environment
    :param advice: Returns a text to add to the message; it is called when the error is raised
    :raises EnvironmentProcessError: If a process of the environment has ended
    """
    try:
        yield
    except EnvironmentProcessError:
        raise
    except (EOFError, ConnectionError) as error:
        if not (dead := dead_processes(env)):
            raise
        # Its frames hold a view of what could not be sent. Python 3.12.1 crashes when it collects it, 3.13 complains.
        traceback.clear_frames(error.__traceback__)
        raise EnvironmentProcessError("; ".join(filter(None, [", ".join(dead), advice()]))) from error


def dead_processes(env: VecEnv | None) -> list[str]:
    """
    Find the processes of an environment that have died.

    :param env: A vectorised environment
    :return: A message for each: which environment it was and how it ended
    """
    base = None if env is None else env.unwrapped
    if not isinstance(base, SubprocVecEnv) or base.closed:
        return []
    wait([process.sentinel for process in base.processes], _SECONDS_TO_END)  # its pipe closes shortly before it ends
    codes = {i: process.exitcode for i, process in enumerate(base.processes)}
    return [
        f"environment {i} of {len(codes)} is gone: its process {base.processes[i].pid} {_ended(code)}"
        for i, code in codes.items()
        if code is not None
    ]


def _ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}, and has printed the reason"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"
