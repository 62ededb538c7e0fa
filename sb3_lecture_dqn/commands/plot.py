"""The command `plot`."""

import argparse

SUMMARY = "draw the learning curves of one or many runs"
EXAMPLES = [
    ("plot runs --out curves.png", "the mean of all seeds, and the optimum"),
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument("runs", nargs="+", metavar="RUNS", help="folders of runs, or folders that contain them")
    parser.add_argument("--out", default="curves.png", metavar="FILE", help="the picture, .png, .svg or .pdf")
    parser.add_argument("--env", metavar="ID", help="environment whose optimum is drawn, if not that of the models")


def run(args: argparse.Namespace) -> int:
    """Draw the curves, and print what was drawn."""
    from sb3_lecture_dqn.show.plot import plot_runs

    for line in plot_runs(args.runs, args.out, args.env, progress=True):
        print(line)
    print(f"Picture: {args.out}")
    return 0
