"""The command `ablate`."""

import argparse

SUMMARY = "compare settings over many seeds, and report the results with intervals"
EXAMPLES = [
    ("ablate --out study", "the lecture's two switches, 20 seeds each"),
    ("ablate plan.yaml --seeds 5 --out mine", "a comparison of your own"),
    ("ablate --report study", "its table and figure"),
]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "plan",
        nargs="?",
        metavar="PLAN",
        help="YAML file; without it, the lecture's two switches, on and off: four settings",
    )
    parser.add_argument("--seeds", type=int, metavar="N", help="number of seeds, instead of the plan's (20)")
    parser.add_argument("--episodes", type=int, metavar="N", help="episodes of a run, instead of the plan's (5000)")
    parser.add_argument("--processes", type=int, metavar="N", help="number of processes; all cores by default")
    parser.add_argument(
        "--out", metavar="DIR", help="the study's folder, `study` by default; a study that was stopped continues"
    )
    parser.add_argument("--ray", action="store_true", help="run on Ray, on this machine (extra ray)")
    parser.add_argument("--ray-address", metavar="ADDRESS", help="run on the Ray cluster of that address, or auto")
    parser.add_argument("--report", metavar="DIR", help="run nothing: report the results in a study's folder")
    parser.add_argument("--quiet", action="store_true", help="no progress, only the report")


def run(args: argparse.Namespace) -> int:
    """Run the study, or only write its report. Return 1 if a run failed."""
    if args.report is not None and (
        args.ray or {args.plan, args.seeds, args.episodes, args.processes, args.out, args.ray_address} != {None}
    ):
        raise ValueError("--report runs nothing: leave out the plan, --out, and the options of a run")
    from sb3_lecture_dqn import study

    folder = args.report or args.out or "study"
    if args.report is None:
        plan = study.lecture_plan() if args.plan is None else study.Plan.from_yaml(args.plan)
        plan = plan.changed(args.seeds, args.episodes)
        try:
            if args.ray or args.ray_address is not None:
                study.run_plan_on_ray(plan, folder, args.ray_address, args.processes, progress=not args.quiet)
            else:
                study.run_plan(plan, folder, args.processes, progress=not args.quiet)
        except KeyboardInterrupt:
            return _stopped(folder, 130)
        except SystemExit:  # SIGTERM, for which Ray's handler exits with 15
            return _stopped(folder, 143)
    print("\n".join(study.write_report(folder)))
    return int(any(row["state"] == "failed" for row in study.read_rows(folder)))


def _stopped(folder: str, exit_code: int) -> int:
    from sb3_lecture_dqn import study

    try:
        rows = study.read_rows(folder)
    except FileNotFoundError:  # stopped before it began
        rows = []
    print(f"Interrupted: {sum(row['state'] == 'done' for row in rows)} of {len(rows)} runs are done in {folder}.")
    print("To go on: the same command again")
    return exit_code
