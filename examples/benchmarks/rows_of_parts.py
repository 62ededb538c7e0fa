"""Rows of the table on parts: first trainings, long runs, tests, stepping, the memory, imports."""

import statistics
import tempfile
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import contestants
import numpy as np
from measure import Line, Plan, RowResult, fresh_process, interleave, seconds, seconds_per_call
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from examples import lecture_loop
from sb3_lecture_dqn import LectureDQN, TabularVecEnv, exact_test, run_test

CUT = contestants.MAX_EPISODE_STEPS


def first_training(plan: Plan) -> RowResult:
    """The first training of a process, cold and with a warm cache."""
    found: dict[str, list[dict[str, float]]] = {"cold": [], "cached": []}

    def cold_then_cached(_: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for kind in found:
                found[kind].append(fresh_process("compile_seconds", {"NUMBA_CACHE_DIR": folder}, steps=2_000))

    interleave(plan, "first training", {"cold, then cached": cold_then_cached})
    works = {"cold": "first training in a process, cold", "cached": "the same, compiled before"}
    goals = {"cold": 12, "cached": 0.3}
    lines = []
    for kind, runs in found.items():
        extra = [run["first training"] - run["second training"] for run in runs]
        lines.append(Line(works[kind], "s", extra, figure="own", must=goals[kind]))
    numba = statistics.median(run["import numba"] for run in found["cached"])
    cpu = {kind: statistics.median(run["first training, CPU"] for run in runs) for kind, runs in found.items()}
    remark = (
        "the figures are what the first 2000 steps of training in a process take longer than the same steps again; "
        f"the import of numba, {numba:.2f} s, comes on top. In seconds of the processor these first steps are "
        f"{cpu['cold']:.1f} and {cpu['cached']:.2f}."
    )
    return RowResult(lines, dict(found), [remark])


def long_run(plan: Plan) -> RowResult:
    """A long run: how its memory grows, and whether its steps slow down."""
    every = plan.size(500_000, 2_000)
    steps = 20 * every
    result = RowResult([])
    for stationary in (False, True):
        looks = fresh_process("long_run", steps=steps, every=every, stationary=stationary)
        kind = "constant work" if stationary else "the lecture's settings"
        span = f"step {every:,} to {steps:,}, {kind}"
        grown = [(looks[-1]["bytes"] - looks[0]["bytes"]) / 1e6]
        # Not counting the first stretch: it compiles. In seconds of the processor: minutes pass between the first and
        # the last step, so that no turns can be taken, and whatever else runs must not count.
        pace = [1e6 * (b["CPU seconds"] - a["CPU seconds"]) / every for a, b in pairwise(looks)]
        result.lines.append(Line(f"RSS growth, {span}", "MB", grown, figure="own", must=5))
        flat = Line(
            f"processor time of a step, last quarter, {span}", "µs", pace[-5:], "first quarter", pace[:5], "cost"
        )
        if stationary:
            flat.must = 1.1
        result.lines.append(flat)
        result.notes[kind] = looks
        slope, mean = np.polyfit(np.arange(len(pace)), pace, 1)[0] * 1e6 / every, statistics.mean(pace)
        episodes = [looks[i]["episodes"] - looks[i - 1]["episodes"] for i in (1, -1)]
        result.remarks.append(
            f"{kind}: {mean:.1f} µs a step, {100 * slope / mean:+.1f} % per million steps (least squares); "
            f"{episodes[0]} episodes ended in the first stretch of {every:,} steps and {episodes[1]} in the last."
        )
    return result


def trained(plan: Plan) -> LectureDQN:
    """Make a model that solves Taxi from every start."""
    for seed in range(10):
        model = contestants.solver(seed)
        for _ in range(plan.size(20, 1)):
            model.learn(total_timesteps=10_000, reset_num_timesteps=False)
            if exact_test(model).success_rate == 1 or plan.quick:
                return model
    raise RuntimeError("no seed of ten has solved Taxi in 200,000 steps")


def tests(plan: Plan) -> RowResult:
    """The lecture's test of an untrained network, and of a network that solves all starts."""
    n_episodes = plan.size(100, 3)
    result = RowResult([])
    goals = {"untrained": (500, 2000), "trained": (50, 100)}
    for kind, model in {"untrained": LectureDQN("Taxi-v3", device="cpu", seed=0), "trained": trained(plan)}.items():
        net = lecture_loop.QNet(500, 6)
        net.load_state_dict(model.q_net.state_dict())
        env, config = lecture_loop.make_taxi(), lecture_loop.Config(num_tests=n_episodes, max_time_steps=CUT)

        def ours(_: int, model: LectureDQN = model) -> float:
            return seconds_per_call(lambda: run_test(model, n_episodes=n_episodes))

        def oracle(seed: int, net: lecture_loop.QNet = net, env: Any = env, config: Any = config) -> float:
            return seconds(lambda: lecture_loop.test(net, env, config, seed))

        found = interleave(plan, f"test, {kind} network", {"ours": ours, "oracle": oracle})
        work = f"`run_test`, {n_episodes} episodes, {kind} network"
        result.lines.append(Line(work, "s", found["ours"], "oracle loop", found["oracle"], "faster", *goals[kind]))
        result.notes[kind] = asdict(exact_test(model))
    return result


def stepping(plan: Plan) -> RowResult:
    """Stepping Taxi with random actions."""
    lines = []
    for n_envs, steps, slow, must, aim in ((64, 3_000, 150, 40, 80), (1, 50_000, 5_000, 4, 10)):
        envs: dict[str, tuple[VecEnv, int]] = {
            "ours": (TabularVecEnv("Taxi-v3", n_envs), plan.size(steps, 100)),
            "DummyVecEnv": (make_vec_env("Taxi-v3", n_envs), plan.size(slow, 20)),
        }
        keys = []
        for env, _ in envs.values():
            env.seed(0)
            env.reset()
            keys.append([set(info) for info in env.step(np.zeros(n_envs, np.int64))[3]])
        assert keys[0] == keys[1], "both give the same infos"

        def measure(seed: int, env: VecEnv, n: int) -> float:
            actions = np.random.default_rng(seed).integers(6, size=(n, env.num_envs))
            return n * env.num_envs / seconds(lambda: [env.step(row) for row in actions])

        measures = {name: lambda seed, env=env, n=n: measure(seed, env, n) for name, (env, n) in envs.items()}
        found = interleave(plan, f"stepping, {n_envs} envs", measures)
        work = f"stepping, {n_envs} env{'s' if n_envs > 1 else ''}, full infos"
        peer = found["DummyVecEnv"]
        lines.append(Line(work, "env steps/s", found["ours"], "DummyVecEnv", peer, "faster", must, aim))
    return RowResult(lines)


def large_memory(plan: Plan) -> RowResult:
    """A memory of ten million transitions beside one of a thousand."""
    large, small = plan.size(10_000_000, 100_000), 1_000
    found = fresh_process("memory", large=large, small=small, repeats=plan.repeats)
    lines = []
    for operation, samples in found["operations"].items():
        at_large, at_small = ([1e6 * s for s in samples[size]] for size in ("large", "small"))
        work = f"{operation}, {large:,} entries held"
        lines.append(Line(work, "µs per transition", at_large, f"{small:,} entries", at_small, "cost", 2, 1.3))
    work = f"memory of {large:,} Discrete transitions, all told"
    lines.append(Line(work, "bytes each", [found["bytes"]], figure="own", must=100, aim=48))
    remark = (
        f"the large memory was filled through `add` in {found['fill_seconds']:.0f} s, 1000 transitions a call; "
        f"its duplicates are found by `{found['index']}`. Its bytes are one measurement of the growth of the process."
    )
    return RowResult(lines, found, [remark])


def imports(plan: Plan) -> RowResult:
    """Importing the package, and importing the packages that it depends on."""
    modules = {"ours": ["sb3_lecture_dqn"], "peer": ["stable_baselines3", "sb3_contrib"]}
    measures = {
        name: lambda _, wanted=wanted: fresh_process("import_seconds", modules=wanted)
        for name, wanted in modules.items()
    }
    interleave(plan, "imports, files into RAM", measures, repeats=1)
    found = interleave(plan, "imports", measures, repeats=max(9, plan.repeats))
    line = Line("`import sb3_lecture_dqn`", "s", found["ours"], "import of SB3 and sb3-contrib", found["peer"])
    line.figure, line.must = "cost", 1.1
    return RowResult([line])
