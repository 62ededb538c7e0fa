"""The command `diagnose`."""

import argparse
import json
import os

from sb3_lecture_dqn.commands.parser import existing, model_file

SUMMARY = "say why a saved agent is not optimal, and what to change"
EXAMPLES = [
    ("diagnose runs/RUN", "why it is not optimal"),
    ("diagnose runs/RUN --language ko", "in Korean"),
    ("diagnose taxi.zip --json", "a model's file, as JSON"),
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "model", metavar="MODEL", help="the folder of a run, whose checkpoints have the memory, or a model's zip file"
    )
    parser.add_argument("--env", metavar="ID", help="environment id, if not the model's own")
    parser.add_argument("--json", action="store_true", help="print JSON, for tools")
    parser.add_argument("--language", choices=["en", "ko"], default="en", help="language of the texts")


def run(args: argparse.Namespace) -> int:
    """Print the diagnosis."""
    file = existing(args.model) if os.path.isdir(args.model) else model_file(args.model)
    from sb3_lecture_dqn.algorithms import load_run
    from sb3_lecture_dqn.evaluation.diagnosis import diagnose
    from sb3_lecture_dqn.show.plot import read_run

    model = load_run(file)
    solved = read_run(file).get("Solved") if file.is_dir() else None
    diagnosis = diagnose(model, args.env, solved=solved, language=args.language)
    print(json.dumps(diagnosis.to_dict(), ensure_ascii=False, indent=2) if args.json else diagnosis)
    return 0
