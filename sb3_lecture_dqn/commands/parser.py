"""What the parsers of all commands have in common, and checks that need no heavy module."""

import argparse
import difflib
import errno
import os
import pathlib
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from sb3_lecture_dqn.common.run_files import MODEL

PROGRAM = "sb3-lecture-dqn"


class HelpFormatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Adds the default of an option to its help, if it has one, and keeps the lines of the examples."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, False, []) else super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Answers a mistake by one line, with the nearest words that are known."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake, and exit with code 2."""
        self.exit(2, f"{self.prog}: error: {message}\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse options that are not known here, so that the message comes from the parser of the command."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            known = [option for option in self._option_string_actions if option.startswith("--")]
            names = [word.partition("=")[0] for word in unknown if word.startswith("-")]
            hints = [nearest(name, known) for name in names]
            is_setting = any("_" in name and name.replace("_", "-") not in known for name in names)
            if "--set" in known and names and (is_setting or not any(hints)):
                hints = [f"a setting of the algorithm is --set {names[0].strip('-').replace('-', '_')}=VALUE"]
            hint = " ".join(filter(None, hints)) or f"see `{self.prog} --help`"
            self.error(f"unrecognized arguments: {' '.join(unknown)}; {hint}")
        return namespace, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            choices = list(action.choices)
            hint = nearest(str(value), choices) or f"choose from {', '.join(choices)}"
            raise argparse.ArgumentError(action, f"invalid choice: {value!r}; {hint}")


def as_text(examples: Iterable[tuple[str, str]]) -> str:
    """
    Lay out the examples of a help.

    :param examples: Words of a command without the program's name, and what they do
    :return: Lines of at most 80 columns
    """
    lines = [f"  {PROGRAM} {words}\n      {meaning}\n" for words, meaning in examples]
    return f"examples:\n{''.join(lines)}"


def nearest(word: str, known: Iterable[str]) -> str:
    """
    Return a hint for a word that may be misspelt.

    :param word: The word
    :param known: The words that are known
    :return: Such as ``did you mean --episodes?``; empty if no word is near
    """
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.7)
    return f"did you mean {near[0]}?" if near else ""


def check_at_least(args: argparse.Namespace, low: int, *names: str) -> None:
    """
    Check whole numbers among the options.

    :param args: The options
    :param low: The lowest value allowed
    :param names: Names of options, whose values may be ``None``
    :raises ValueError: If one is lower; the message names the option
    """
    for name in names:
        value = getattr(args, name)
        if value is not None and value < low:
            raise ValueError(f"--{name.replace('_', '-')}={value} must be an integer at least {low}")


def existing(path: str | pathlib.Path) -> pathlib.Path:
    """
    Check that a file or folder exists.

    :param path: Its path
    :return: The path
    :raises FileNotFoundError: If it does not exist
    """
    if not os.path.exists(path):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    return pathlib.Path(path)


def model_file(path: str) -> pathlib.Path:
    """
    Find the file of a model.

    :param path: The file, with or without ``.zip``, or the folder of a run
    :return: The file
    :raises FileNotFoundError: If there is none
    """
    if os.path.isdir(path):
        if not (pathlib.Path(path) / MODEL).is_file():
            raise FileNotFoundError(f"{path!r} is not the folder of a run: it has no {MODEL}")
        return pathlib.Path(path) / MODEL
    with_suffix = pathlib.Path(f"{path}.zip")
    return with_suffix if not os.path.exists(path) and with_suffix.exists() else existing(path)


def named_errors() -> tuple[type[Exception], ...]:
    """Return the errors that are printed in one line. gymnasium's are among them once it is imported."""
    gymnasium = sys.modules.get("gymnasium")
    return (ValueError, OSError, ImportError, MemoryError, *([gymnasium.error.Error] if gymnasium else []))
