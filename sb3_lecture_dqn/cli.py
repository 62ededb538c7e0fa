"""The command line, ``sb3-lecture-dqn``."""

import argparse
import importlib
import sys
from collections.abc import Sequence

import sb3_lecture_dqn
from sb3_lecture_dqn.commands import COMMANDS
from sb3_lecture_dqn.commands.parser import PROGRAM, HelpFormatter, Parser, named_errors
from sb3_lecture_dqn.common.text import shown

EXAMPLES = """\
examples:
  sb3-lecture-dqn train                                  the lecture's run: Taxi, 5000 episodes
  sb3-lecture-dqn train --episodes 500 --seed 1          a shorter run that can be repeated
  sb3-lecture-dqn train --no-double-dqn                  without a separate target network
  sb3-lecture-dqn train --env CartPole-v1 --policy MlpPolicy --timesteps 20000
  sb3-lecture-dqn train --tuned --use-masking            solves every start, in half a minute
  sb3-lecture-dqn train --set gamma=0.9 --set batch_size=32
  sb3-lecture-dqn train --config runs/SR_True_DD_True_2026-01-31_12-00-00/config.yaml --seed 2
  sb3-lecture-dqn train --resume runs/SR_True_DD_True_2026-01-31_12-00-00
  sb3-lecture-dqn train --pictures                       with graph, histograms, embeddings, pictures in TensorBoard
  sb3-lecture-dqn test runs/SR_True_DD_True_2026-01-31_12-00-00/model.zip
  sb3-lecture-dqn watch runs/SR_True_DD_True_2026-01-31_12-00-00/model.zip --out taxi.gif
  sb3-lecture-dqn plot runs --out curves.png             the mean of all seeds, and the optimum
  sb3-lecture-dqn ablate --out study                     the lecture's two switches, on and off, 20 seeds each
  sb3-lecture-dqn ablate plan.yaml --seeds 5 --out mine  a comparison of your own
  sb3-lecture-dqn ablate --report study                  its table and figure

exit codes:
  0 done    1 the training, or a trial of a study, failed    2 a mistake in the arguments    3 the training diverged
  130 interrupted by Ctrl-C    143 by SIGTERM
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
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {sb3_lecture_dqn.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        command = importlib.import_module(f"sb3_lecture_dqn.commands.{name}")
        of_command = commands.add_parser(name, help=command.SUMMARY, formatter_class=HelpFormatter)
        command.add_options(of_command)
        of_command.set_defaults(run=command.run)
    return parser
