"""
Studies in several processes and on several nodes: checks that all give the same rows, and their costs.

From the root of the repository::

    python examples/benchmarks/studies.py cluster       # Ray: a node is killed half-way; then the driver
    python examples/benchmarks/studies.py throughput    # two processes against one, and a trial's overhead
    python examples/benchmarks/studies.py ceiling       # trials a second of Ray, Ray Tune and the table

Ray's nodes are processes of this machine, bound to 127.0.0.1.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # by which Ray stays on 127.0.0.1; read when it is imported

import ray
import yaml
from machine import describe_machine, sentence
from ray.cluster_utils import Cluster

from sb3_lecture_dqn.study import Plan, lecture_plan, read_rows, run_plan, run_plan_on_ray, run_trial
from sb3_lecture_dqn.study.plan import Trial
from sb3_lecture_dqn.study.table import ResultTable

ON_LOOPBACK = {"num_cpus": 1, "node_ip_address": "127.0.0.1"}


def seconds(function: Callable[[], Any]) -> float:
    """Call a function and measure its time."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


# The same rows everywhere


def cluster(args: argparse.Namespace) -> None:
    """Run 4 settings × 10 seeds: here, on a cluster that loses a node, and with a driver that is killed."""
    plan = lecture_plan().changed(seeds=args.seeds, episodes=args.episodes)
    n_trials = len(plan.trials())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        took = seconds(lambda: run_plan(plan, folder / "here", progress=False))
        here = read_rows(folder / "here")
        diverged = sum(row["state"] == "failed" for row in here)
        print(f"here, on all cores: {n_trials} trials in {took:.0f} s, of which {diverged} diverged", flush=True)
        for what, run in {"node": lose_a_node, "driver": lose_the_driver}.items():
            took = seconds(lambda run=run, what=what: run(plan, folder / what))  # type: ignore[misc]
            rows = read_rows(folder / what)
            lost = len(list((folder / what / "ray").rglob("error.txt")))
            different = sum(row != other for row, other in zip(rows, here, strict=True))
            print(
                f"{what} killed: {n_ended(folder / what)} of {n_trials} trials in {took:.0f} s, {lost} of which Ray "
                f"noted as lost; {different} rows differ from those here",
                flush=True,
            )


def n_ended(folder: Path) -> int:
    """Count the trials of a study that are done or have failed. A trial that diverges fails."""
    try:
        return sum(row["state"] != "waiting" for row in read_rows(folder))
    except FileNotFoundError:
        return 0


def wait_until_half_way(plan: Plan, folder: Path) -> None:
    while n_ended(folder) < len(plan.trials()) / 2:
        time.sleep(0.1)


def lose_a_node(plan: Plan, folder: Path) -> None:
    """Run a plan on two nodes, and kill one of them half-way."""
    nodes = Cluster(initialize_head=True, head_node_args=ON_LOOPBACK)
    second = nodes.add_node(**ON_LOOPBACK)

    def kill() -> None:
        wait_until_half_way(plan, folder)
        nodes.remove_node(second, allow_graceful=False)

    killer = threading.Thread(target=kill)
    try:
        ray.init(nodes.address, log_to_driver=False, logging_level="error")
        killer.start()
        run_plan_on_ray(plan, folder, progress=False)
        killer.join()
    finally:
        ray.shutdown()
        nodes.shutdown()


def lose_the_driver(plan: Plan, folder: Path) -> None:
    """Start a plan on two nodes from the command line, kill that process half-way, and start it again."""
    nodes = Cluster(initialize_head=True, head_node_args=ON_LOOPBACK)
    nodes.add_node(**ON_LOOPBACK)
    file = folder.with_suffix(".yaml")
    entries = {"tasks": [*plan.tasks], "settings": plan.settings, "seeds": [*plan.seeds], "episodes": plan.episodes}
    file.write_text(yaml.safe_dump(entries, sort_keys=False))
    options = [str(file), "--out", str(folder), "--ray-address", nodes.address, "--quiet"]
    command = [sys.executable, "-m", "sb3_lecture_dqn", "ablate", *options]
    try:
        driver = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until_half_way(plan, folder)
        driver.kill()
        if driver.wait() != -signal.SIGKILL:
            raise RuntimeError("the driver ended before it was killed")
        print(f"driver killed after {n_ended(folder)} trials", flush=True)
        if subprocess.run(command, stdout=subprocess.DEVNULL).returncode not in (0, 1):  # 1: a trial has diverged
            raise RuntimeError("the study did not go on")
    finally:
        nodes.shutdown()


# Costs


def throughput(args: argparse.Namespace) -> None:
    """Run the same trials in one process and in two, and tiny trials that are mostly overhead."""
    plan = lecture_plan().changed(seeds=2, episodes=args.episodes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_study(folder / "compiled", 1, lambda plan, path: run_plan(plan, path, 1, progress=False))
        took = {
            n: seconds(lambda n=n: run_plan(plan, folder / str(n), processes=n, progress=False))  # type: ignore[misc]
            for n in (1, 2)
        }
        print(
            f"{len(plan.trials())} trials of {args.episodes} episodes: {took[1]:.1f} s in one process, {took[2]:.1f} s "
            f"in two: {took[1] / took[2]:.2f} times the throughput",
            flush=True,
        )
        first = plan.trials()[0]
        by_hand = []
        for n in (1, 2):
            with ProcessPoolExecutor(n) as pool:
                list(pool.map(by_hand_trial, [first] * n, [folder / f"warm {n} {i}" for i in range(n)]))
                folders = [folder / f"by hand {n} {i}" for i in range(n)]
                by_hand.append(seconds(lambda: list(pool.map(by_hand_trial, [first] * n, folders))))  # noqa: B023
        print(
            f"one trial twice at once takes {by_hand[1] / by_hand[0]:.2f} times as long as once: two processes of this "
            f"machine do at most {2 * by_hand[0] / by_hand[1]:.2f} times the work of one",
            flush=True,
        )
        places: dict[str, Callable[[Plan, Path], Any]] = {
            "no place at all": lambda plan, path: [run_trial(trial, path) for trial in plan.trials()],
            "a process here": lambda plan, path: run_plan(plan, path, 1, progress=False),
            "Ray": lambda plan, path: run_plan_on_ray(plan, path, processes=1, progress=False),
        }
        cost = {}
        for place, run in places.items():
            few, many = (tiny_study(folder / f"{place} {n}", n, run) for n in (10, 60))
            cost[place] = (many - few) / 50
            print(f"a tiny trial in {place}: {cost[place]:.3f} s, {few - 10 * cost[place]:.1f} s to start", flush=True)
        for place in ("a process here", "Ray"):
            print(f"overhead of a trial in {place}: {cost[place] - cost['no place at all']:.3f} s", flush=True)


def by_hand_trial(trial: Trial, folder: Path) -> None:
    run_trial(trial, folder)


def tiny_study(folder: Path, n_trials: int, run: Callable[[Plan, Path], Any]) -> float:
    """Run a plan of tiny trials; return the seconds it takes."""
    plan = Plan(["FrozenLake-v1"], {"tiny": {}}, seeds=n_trials, timesteps=20, test_freq=20)
    return seconds(lambda: run(plan, folder))


# Upper limits


def ceiling(args: argparse.Namespace) -> None:
    """Measure tasks and trials that do nothing, and writing rows."""
    ray.init(num_cpus=os.cpu_count(), log_to_driver=False, logging_level="error")

    @ray.remote
    def nothing() -> None:
        pass

    ray.get([nothing.remote() for _ in range(1000)])  # starts the workers
    took = seconds(lambda: ray.get([nothing.remote() for _ in range(args.trials)]))
    print(f"Ray: {args.trials / took:,.0f} empty tasks in a second", flush=True)
    for n_trials in (args.trials // 100, args.trials // 20):
        took = seconds(lambda n=n_trials: tune_nothing(n))  # type: ignore[misc]
        print(f"Ray Tune: {n_trials} empty trials in {took:.1f} s, {n_trials / took:.1f} in a second", flush=True)
    ray.shutdown()
    with tempfile.TemporaryDirectory() as folder:
        table = ResultTable(folder)
        plan = lecture_plan().changed(seeds=args.trials // 4)
        trials = plan.trials()
        took = seconds(lambda: table.add(trials))
        row = run_trial(Plan(["FrozenLake-v1"], {"tiny": {}}, 1, episodes=100, test_freq=1).trials()[0], folder)
        recorded = trials[:1000]
        written = seconds(lambda: [table.record(trial, row) for trial in recorded])
        read = seconds(table.rows)
    print(
        f"table: {len(trials):,} trials added in {took:.1f} s, {len(recorded) / written:,.0f} rows recorded in a "
        f"second, all rows read in {read:.1f} s"
    )


def tune_nothing(n_trials: int) -> None:
    """Have Ray Tune run trials that do nothing, with the settings of ``run_plan_on_ray``."""
    from ray import tune

    with tempfile.TemporaryDirectory() as folder:
        tune.Tuner(
            tune.with_resources(lambda config: tune.report({"row": config["index"]}), {"cpu": 1}),
            param_space={"index": tune.grid_search(list(range(n_trials)))},
            tune_config=tune.TuneConfig(reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        ).fit()


def main() -> None:
    """Run the measurement of the command line, and describe the machine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["cluster", "throughput", "ceiling"])
    parser.add_argument("--seeds", type=int, default=10, help="of the cluster's four settings")
    parser.add_argument("--episodes", type=int, default=50, help="of a trial")
    parser.add_argument("--trials", type=int, default=10_000, help="for which the ceiling is looked for")
    args = parser.parse_args()
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    print(sentence(describe_machine("studies.py"), "all were"), flush=True)
    {"cluster": cluster, "throughput": throughput, "ceiling": ceiling}[args.what](args)


if __name__ == "__main__":
    main()
