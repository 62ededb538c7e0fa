"""The command `page`."""

import argparse
import pathlib

from sb3_lecture_dqn.commands.parser import existing
from sb3_lecture_dqn.common.run_files import PAGE

SUMMARY = "write a page that shows how an agent learned, or two side by side"
EXAMPLES = [
    ("page runs/RUN", "one HTML file, to be opened in a browser"),
    ("page runs/RUN runs/OTHER --out two.html", "two runs side by side"),
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="folder of a run, or file of a model; two are shown side by side. Runs of `train --page` show the most",
    )
    parser.add_argument("--out", metavar="FILE", help=f"the page, .html; {PAGE} beside the first model by default")


def run(args: argparse.Namespace) -> int:
    """Write the page, and print where it is."""
    first, *_ = [existing(run) for run in args.runs]
    from sb3_lecture_dqn.show.page.page import write_page

    folder = first if first.is_dir() else first.parent
    out = write_page(args.runs, pathlib.Path(args.out) if args.out else folder / PAGE)
    print(f"Page: {out} ({out.stat().st_size / 1e6:.1f} MB; open it in a browser)")
    return 0
