"""The command line, ``sb3-lecture-dqn``."""

import argparse
import importlib
import sys
from collections.abc import Sequence

import sb3_lecture_dqn
from sb3_lecture_dqn.commands import COMMANDS
from sb3_lecture_dqn.commands.parser import PROGRAM, HelpFormatter, Parser, as_text, named_errors
from sb3_lecture_dqn.common.text import shown

EXIT_CODES = """\
exit codes:
  0  done
  1  the training, or a trial of a study, failed
  2  a mistake in the arguments
  3  the training diverged
  130 interrupted by Ctrl-C, 143 by SIGTERM
"""


def main(argv: Sequence[str] | None = None) -> int:
    """
    Run a command.

    :param argv: The arguments; ``None`` for those of the process
    :return: The exit code: 0 done, 1 a training or a trial of a study failed after it had begun, 2 a mistake in the
        arguments, 3 the training diverged, 130 interrupted by Ctrl-C, 143 interrupted by SIGTERM
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    args = parser().parse_args(argv)
    args.words = argv[1:]
    try:
        return int(args.run(args))
    except Exception as error:
        if not isinstance(error, named_errors()):
            raise
        print(f"{PROGRAM}: error: {shown(str(error).replace(chr(10), ' '), 2000)}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """
    Make the parser.

    :return: The parser. What it parses has the function of the command as ``run``
    """
    parser = Parser(
        prog=PROGRAM,
        description="The deep Q-network of the lecture, on Stable-Baselines3.",
        formatter_class=HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {sb3_lecture_dqn.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    examples: list[tuple[str, str]] = []
    for name in COMMANDS:
        command = importlib.import_module(f"sb3_lecture_dqn.commands.{name}")
        of_command = commands.add_parser(
            name,
            help=command.SUMMARY,
            description=f"{command.SUMMARY[0].upper()}{command.SUMMARY[1:]}.",
            epilog=as_text(command.EXAMPLES),
            formatter_class=HelpFormatter,
        )
        examples.append(command.EXAMPLES[0])
        command.add_options(of_command)
        of_command.set_defaults(run=command.run)
    parser.epilog = (
        f"{as_text(examples)}\n`{PROGRAM} COMMAND --help` has the options and more examples.\n\n{EXIT_CODES}"
    )
    return parser
