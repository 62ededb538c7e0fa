"""
The RL Zoo with the algorithms of this package::

    python -m sb3_lecture_dqn.zoo train --algo lecture_dqn --env Taxi-v3

Commands and options are the zoo's own. ``--conf-file`` also takes the name of a file of this package, such as
``lecture``. All files of a run's folder are read as data; with ``--trust`` the zoo reads them in its own way, and runs
code in them. Needs the extra ``zoo``.
"""

import argparse
import contextlib
import difflib
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import gymnasium as gym

from sb3_lecture_dqn.common.checks import UnsafeFileError, shown
from sb3_lecture_dqn.saving.saveable import Saveable
from sb3_lecture_dqn.zoo.files import HOW_TO_TRUST, load_results, read_as_data
from sb3_lecture_dqn.zoo.patching import replaced
from sb3_lecture_dqn.zoo.registration import ALGOS, hyperparams_files, register
from sb3_lecture_dqn.zoo.with_masks import masked_episodes, masked_evaluation

COMMANDS = {
    "train": "rl_zoo3.train",
    "enjoy": "rl_zoo3.enjoy",
    "record_video": "rl_zoo3.record_video",
    "record_training": "sb3_lecture_dqn.zoo.videos",
    "benchmark": "rl_zoo3.benchmark",
    "push_to_hub": "rl_zoo3.push_to_hub",
    "load_from_hub": "rl_zoo3.load_from_hub",
    "plot_train": "rl_zoo3.plots.plot_train",
    "all_plots": "rl_zoo3.plots.all_plots",
    "plot_from_file": "rl_zoo3.plots.plot_from_file",
}
#: Commands for which the zoo has a script but no function
_SCRIPTS = ("record_video", "benchmark", "push_to_hub", "load_from_hub")
#: Packages that raise an error if the Hugging Face Hub is not reached
_NETWORK = ("huggingface_hub", "requests", "httpx", "httpx2", "httpcore", "urllib3")


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command of the zoo.

    SB3 and the zoo are as before when it returns. (The import of the zoo itself replaces gymnasium's ``TimeLimit``.)

    :param argv: Name and arguments of the command; ``None`` for those of the process
    :return: The exit code: 0 done, 2 a mistake in the arguments, or a file that is not read without ``--trust``
    """
    command, *args = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        print(
            f"usage: python -m sb3_lecture_dqn.zoo {{{','.join(COMMANDS)}}} ... [--trust]\n\n{(__doc__ or '').strip()}"
        )
        return 0
    if command not in COMMANDS:
        near = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        return _mistake(f"{command!r} is not a command; known are {', '.join(COMMANDS)}{hint}")
    trust = "--trust" in args
    args = [word for word in args if word != "--trust"]
    try:
        with _restored(), read_as_data() if not trust else _trusted():
            return _run(command, args, trust)
    except ModuleNotFoundError as error:
        return _mistake(f"{error}: install the extra `zoo` (pip install 'sb3-lecture-dqn[zoo]')")
    except ImportError as error:  # the zoo does not fit the installed version of a package
        return _mistake(f"`{command}` cannot run with the installed packages: {error}")
    except UnsafeFileError as error:
        return _mistake(str(error) if "--trust" in str(error) else f"{error}; {HOW_TO_TRUST}")
    except Exception as error:
        if type(error).__module__.split(".")[0] in _NETWORK:
            hint = " (try --no-hub)" if command == "benchmark" else ""
            return _mistake(f"`{command}` needs the Hugging Face Hub, which cannot be reached{hint}: {error}")
        # An error within a training keeps its traceback
        known = isinstance(error, ValueError | OSError | AssertionError | gym.error.Error) and str(error)
        if command == "train" or not known:
            raise
        return _mistake(str(error))


def _run(command: str, args: list[str], trust: bool) -> int:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--algo")
    parser.add_argument("--env")
    parser.add_argument("-conf", "--conf-file")
    known, _ = parser.parse_known_args(args)
    register(known.env)
    if command == "train" and known.algo in ALGOS:
        settings = known.conf_file or known.algo
        args = [*args, "--conf-file", hyperparams_files().get(settings, settings)]  # the last --conf-file wins
    if command == "record_training" and trust:
        args = [*args, "--trust"]  # for the commands that it runs
    sys.argv = [f"{sys.argv[0]} {command}", *args]

    def call(words: Sequence[str], *_: Any, **__: Any) -> int:
        """Run our `enjoy` here; the zoo's `benchmark` would start its own in a new process."""
        try:
            return main(["enjoy", *words[2:], *(["--trust"] * trust)])
        except Exception:  # `benchmark` goes on with the next model
            traceback.print_exc()
            return 1

    with contextlib.ExitStack() as stack:
        stack.enter_context(masked_evaluation())
        if command in ("enjoy", "record_video", "push_to_hub"):
            stack.enter_context(masked_episodes())
        if command == "benchmark":
            stack.enter_context(replaced(subprocess, "call", call))
        if command in _SCRIPTS:
            runpy.run_module(COMMANDS[command], run_name="__main__")
            return 0
        module = import_module(COMMANDS[command])
        if command == "plot_from_file" and not trust:
            stack.enter_context(replaced(module, "pickle", SimpleNamespace(load=load_results)))
        run: Callable[[], None] = getattr(module, command)
        run()
    return 0


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """After this context, the arguments of the process and the tables of the zoo are as before."""
    words = sys.argv
    from rl_zoo3 import ALGOS as ZOO_ALGOS
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    tables: list[dict[str, Any]] = [ZOO_ALGOS, HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER]
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        sys.argv = words
        for table, content in zip(tables, before, strict=True):
            table.clear()
            table.update(content)


@contextlib.contextmanager
def _trusted() -> Iterator[None]:
    """Within this context, load models and memories of this package as SB3 does, which runs code in them."""
    load, load_memory = Saveable.load.__func__, Saveable.load_replay_buffer  # type: ignore[attr-defined]

    def trusting(cls: type, *args: Any, **kwargs: Any) -> Any:
        return load(cls, *args, **{**kwargs, "trust": True})

    def trusting_memory(model: Any, *args: Any, **kwargs: Any) -> None:
        load_memory(model, *args, **{**kwargs, "trust": True})

    with (
        replaced(Saveable, "load", classmethod(trusting)),
        replaced(Saveable, "load_replay_buffer", trusting_memory),
    ):
        yield


def _mistake(text: str) -> int:
    print(f"sb3_lecture_dqn.zoo: error: {shown(' '.join(text.split()), 2000)}", file=sys.stderr)
    return 2
