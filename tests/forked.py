"""Programs in processes of their own, forked from one that has imported the package: importing takes seconds."""

import fcntl
import multiprocessing
import os
import signal
import sys
import termios

import torch as th

_CONTEXT = multiprocessing.get_context("forkserver")


class Forked:
    """
    A running program, much like one of ``subprocess.Popen``.

    :param code: What ``python -c`` would be given
    :param words: Its arguments
    :param folder: Folder of the files ``out`` and ``err``, to which it prints
    :param cwd: Its working folder, if that is another
    :param environment: Variables of its environment besides those of this process
    :param terminal: Name of a terminal, to which it prints instead
    """

    def __init__(self, code, *words, folder, cwd=None, environment=None, terminal=None):
        self._files = [folder / "out", folder / "err"]
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})}
        words = [*map(str, words)]
        arguments = (code, words, str(cwd or folder), variables, [*map(str, self._files)], terminal)
        self.process = _CONTEXT.Process(target=_run, args=arguments)
        self.process.start()

    def wait(self, timeout=120):
        """
        Wait until it has ended.

        :return: Its exit code
        """
        self.process.join(timeout)
        if self.process.exitcode is None:
            self.process.kill()
            raise TimeoutError(f"the program has not ended after {timeout} s: {self.printed}")
        return self.process.exitcode

    @property
    def printed(self):
        """What it has printed so far, and its errors."""
        return tuple(file.read_text(encoding="utf-8") for file in self._files)


def _run(code, words, cwd, variables, files, terminal):
    if terminal is not None:
        os.setsid()
        opened = os.open(terminal, os.O_RDWR)
        fcntl.ioctl(opened, termios.TIOCSCTTY, 0)
        targets = [opened, opened, opened]
    else:
        targets = [os.open(os.devnull, os.O_RDONLY), *(os.open(file, os.O_WRONLY | os.O_CREAT) for file in files)]
    for target, number in zip(targets, (0, 1, 2), strict=True):
        os.dup2(target, number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    sys.argv = ["-c", *words]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    th.set_num_threads(1)
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
