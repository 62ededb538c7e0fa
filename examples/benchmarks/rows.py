"""
The rows of the table, one function each.

``python rows.py <row> <repeats> <quick: 0 or 1> <file>`` measures one row and writes the result as JSON.
``run.py`` does this for all rows.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import contestants
import numpy as np
import torch as th
from measure import Line, Plan, RowResult, fresh_process, interleave, seconds, seconds_per_call
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from examples import lecture_loop
from sb3_lecture_dqn import LectureDQN, LecturePolicy, TabularModel, TabularVecEnv, exact_test, run_test

CUT = contestants.MAX_EPISODE_STEPS


def row_1(plan: Plan) -> RowResult:
    """Environment steps per second at the lecture's schedule, with mostly random and with mostly greedy actions."""
    steps, slow, slower = plan.size(20_000, 4_000), plan.size(1_000, 60), plan.size(500, 40)
    contestants.lecture_dqn(0.1, 0).learn(total_timesteps=2_000)  # compiles

    def rate(n: int, learn: Callable[[], Any]) -> float:
        return n / seconds(learn)

    result = RowResult([])
    for epsilon, when in ((0.99, "as in episode 1"), (0.1, "as from episode 230 on")):

        def ours(seed: int, eps: float = epsilon) -> float:
            model = contestants.lecture_dqn(eps, seed)
            return rate(steps, lambda: model.learn(total_timesteps=steps))

        def ours_torch(seed: int, eps: float = epsilon) -> float:
            model = contestants.lecture_dqn(eps, seed, engine="torch")
            return rate(slow, lambda: model.learn(total_timesteps=slow))

        def oracle(seed: int, eps: float = epsilon) -> float:
            return rate(slow, lambda: contestants.oracle_loop(eps, seed, slow))

        def stock(seed: int, eps: float = epsilon) -> float:
            model = contestants.sb3_dqn(eps, seed)
            return rate(slower, lambda: model.learn(total_timesteps=slower))

        def stock_one_hot(seed: int, eps: float = epsilon) -> float:
            model = contestants.sb3_one_hot_dqn(eps, seed)
            return rate(slower, lambda: model.learn(total_timesteps=slower))

        def sbx(seed: int, eps: float = epsilon) -> float:
            model = contestants.sbx_dqn(eps, seed)
            model.learn(total_timesteps=20)  # compiles
            return rate(slower, lambda: model.learn(total_timesteps=slower))

        def cleanrl(seed: int, eps: float = epsilon) -> float:
            return contestants.cleanrl_steps_per_second(eps, seed, max(slow, 200))

        measures = {"ours": ours, "oracle loop": oracle, "SB3 DQN": stock}
        information = {"SB3 DQN, MlpPolicy": stock_one_hot, "ours, engine='torch'": ours_torch}
        if contestants.has("sbx"):
            information["SBX DQN"] = sbx
        if contestants.has("cleanrl.dqn"):
            information["CleanRL DQN, 1 update a step"] = cleanrl
        found = interleave(plan, f"row 1, ε = {epsilon}", {**measures, **information})
        goals = {"oracle loop": (60, 100), "SB3 DQN": (90, 160)}
        for peer in list(found)[1:]:
            must, aim = goals.get(peer, (None, None))
            work = f"the lecture's schedule, ε {epsilon} {when}"
            result.lines.append(Line(1, work, "env steps/s", found["ours"], peer, found[peer], "faster", must, aim))
    return result


def row_2(plan: Plan) -> RowResult:
    """The lecture's whole run, with another seed in every repeat."""
    episodes = plan.size(5_000, 60)
    fresh_process("compile_seconds", steps=2_000)  # puts the compiled code on the disk
    measures = {"ours": lambda seed: fresh_process("whole_run", seed=seed, episodes=episodes)}
    runs = interleave(plan, "row 2", measures)["ours"]
    work = f"{episodes} episodes, {runs[0]['tests']} tests, TensorBoard"
    line = Line(2, work, "s", [run["seconds"] for run in runs], figure="own", must=60, aim=30)
    remarks = [
        "Row 2, seed {seed}: {env_steps} env steps; at the end {share:.1%} of the starts solved, {steps:.2f} steps and "
        "{reward:.2f} reward over all of them; {success_size} successes and {fail_size} failures held.".format(
            share=run["exact_test"]["success_rate"],
            steps=run["exact_test"]["mean_steps"],
            reward=run["exact_test"]["mean_reward"],
            **run,
        )
        for run in runs
    ]
    return RowResult([line], {"runs": runs}, remarks)


def trained(plan: Plan) -> LectureDQN:
    """Make a model that solves Taxi from every start."""
    for seed in range(10):
        model = contestants.solver(seed)
        for _ in range(plan.size(20, 1)):
            model.learn(total_timesteps=10_000, reset_num_timesteps=False)
            if exact_test(model).success_rate == 1 or plan.quick:
                return model
    raise RuntimeError("no seed of ten has solved Taxi in 200,000 steps")


def row_3(plan: Plan) -> RowResult:
    """The lecture's test of an untrained network, and of a network that solves all starts."""
    n_episodes = plan.size(100, 3)
    result = RowResult([])
    goals = {"untrained": (500, 2000), "trained": (50, 100)}
    for kind, model in {"untrained": LectureDQN("Taxi-v3", device="cpu", seed=0), "trained": trained(plan)}.items():
        net = lecture_loop.LectureNet(n_states=500, n_actions=6)
        net.load_state_dict(model.q_net.state_dict())
        env = lecture_loop.make_taxi()

        def ours(_: int, model: LectureDQN = model) -> float:
            return seconds_per_call(lambda: run_test(model, n_episodes=n_episodes))

        def oracle(seed: int, net: lecture_loop.LectureNet = net, env: Any = env) -> float:
            return seconds(lambda: lecture_loop.test(net, env, n_episodes, CUT, first_seed=seed))

        found = interleave(plan, f"row 3, {kind} network", {"ours": ours, "oracle": oracle})
        work = f"`run_test`, {n_episodes} episodes, {kind} network"
        result.lines.append(Line(3, work, "s", found["ours"], "oracle loop", found["oracle"], "faster", *goals[kind]))
        result.notes[kind] = asdict(exact_test(model))
    return result


def row_4(plan: Plan) -> RowResult:
    """One update with Adam and Huber's loss on a minibatch of 256, gradients clipped at 10 as SB3 always does."""
    batch_size, fast, slow = 256, plan.size(1_000, 20), plan.size(200, 10)
    settings: dict[str, Any] = {"learning_rate": 1e-3, "gamma": 0.75, "max_grad_norm": 10, "device": "cpu", "seed": 0}
    adam = {"optimizer_class": th.optim.Adam}
    table = TabularModel.from_env("Taxi-v3")
    not_terminal = np.argwhere(~table.terminated[:, :, 0])[:1000]
    terminal = np.argwhere(table.terminated[:, :, 0])[:4]
    pairs = np.concatenate([not_terminal, terminal])  # the lecture's memory at the end of its run

    def filled(model: DQN) -> DQN:
        for state, action in pairs:
            next_state, reward, done = (
                array[state, action] for array in (table.next_states, table.rewards, table.terminated)
            )
            model.replay_buffer.add(np.array([state]), next_state, np.array([[action]]), reward, done, [{}])
        assert model.replay_buffer.size() == len(pairs)
        return contestants.silence(model)

    ours = {
        engine: filled(
            LectureDQN("LecturePolicy", "Taxi-v3", loss="huber", policy_kwargs=adam, engine=engine, **settings)
        )
        for engine in ("numba", "torch")
    }
    stock = filled(DQN(LecturePolicy, "Taxi-v3", buffer_size=len(pairs), policy_kwargs=adam, **settings))

    def per_update(model: Any, updates: int) -> Callable[[int], float]:
        model.train(gradient_steps=2, batch_size=batch_size)
        return lambda _: seconds(lambda: model.train(gradient_steps=updates, batch_size=batch_size)) / updates * 1e6

    measures = {
        "ours": per_update(ours["numba"], fast),
        "SB3 DQN": per_update(stock, slow),
        "ours, engine='torch'": per_update(ours["torch"], slow),
    }
    if contestants.has("sbx"):
        jax_model = contestants.sbx_dqn(0.1, 0)
        jax_model.learn(total_timesteps=1_100)
        jax_model.train(gradient_steps=slow, batch_size=batch_size)  # compiles for this number of updates
        measures["SBX DQN"] = per_update(jax_model, slow)
    found = interleave(plan, "row 4", measures)
    lines = []
    for peer in list(found)[1:]:
        must, aim = (5, 10) if peer == "SB3 DQN" else (None, None)
        work = f"one Adam + Huber update, batch {batch_size}"
        lines.append(Line(4, work, "µs", found["ours"], peer, found[peer], "faster", must, aim))
    return RowResult(lines, {"transitions": len(pairs)})


def row_5(plan: Plan) -> RowResult:
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
        found = interleave(plan, f"row 5, {n_envs} envs", measures)
        work = f"stepping, {n_envs} env{'s' if n_envs > 1 else ''}, full infos"
        peer = found["DummyVecEnv"]
        lines.append(Line(5, work, "env steps/s", found["ours"], "DummyVecEnv", peer, "faster", must, aim))
    return RowResult(lines)


def row_6(plan: Plan) -> RowResult:
    """A memory of ten million transitions beside one of a thousand."""
    large, small = plan.size(10_000_000, 100_000), 1_000
    found = fresh_process("memory", large=large, small=small, repeats=plan.repeats)
    lines = []
    for operation, samples in found["operations"].items():
        at_large, at_small = ([1e6 * s for s in samples[size]] for size in ("large", "small"))
        work = f"{operation}, {large:,} entries held"
        lines.append(Line(6, work, "µs per transition", at_large, f"{small:,} entries", at_small, "cost", 2, 1.3))
    work = f"memory of {large:,} Discrete transitions, all told"
    lines.append(Line(6, work, "bytes each", [found["bytes"]], figure="own", must=100, aim=48))
    remark = (
        f"Row 6: the large memory was filled through `add` in {found['fill_seconds']:.0f} s, 1000 transitions a call; "
        f"its duplicates are found by `{found['index']}`. Its bytes are one measurement of the growth of the process."
    )
    return RowResult(lines, found, [remark])


def row_7(plan: Plan) -> RowResult:
    """Importing the package, and importing the packages that it depends on."""
    modules = {"ours": ["sb3_lecture_dqn"], "peer": ["stable_baselines3", "sb3_contrib"]}
    measures = {
        name: lambda _, wanted=wanted: fresh_process("import_seconds", modules=wanted)
        for name, wanted in modules.items()
    }
    interleave(plan, "row 7, files into RAM", measures, repeats=1)
    found = interleave(plan, "row 7", measures, repeats=max(9, plan.repeats))
    line = Line(7, "`import sb3_lecture_dqn`", "s", found["ours"], "import of SB3 and sb3-contrib", found["peer"])
    line.figure, line.must = "cost", 1.1
    return RowResult([line])


def row_8(plan: Plan) -> RowResult:
    """The first training of a process, cold and with a warm cache."""
    found: dict[str, list[dict[str, float]]] = {"cold": [], "cached": []}

    def cold_then_cached(_: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for kind in found:
                found[kind].append(fresh_process("compile_seconds", {"NUMBA_CACHE_DIR": folder}, steps=2_000))

    interleave(plan, "row 8", {"cold, then cached": cold_then_cached})
    works = {"cold": "first compilation, cold", "cached": "the same from the disk cache"}
    goals = {"cold": 20, "cached": 1}
    lines = []
    for kind, runs in found.items():
        extra = [run["first training"] - run["second training"] for run in runs]
        lines.append(Line(8, works[kind], "s", extra, figure="own", must=goals[kind]))
    numba = statistics.median(run["import numba"] for run in found["cached"])
    cpu = {kind: statistics.median(run["first training, CPU"] for run in runs) for kind, runs in found.items()}
    remark = (
        "Row 8 is what the first 2000 steps of training in a process take longer than the same steps again; the import "
        f"of numba, {numba:.2f} s, comes on top. In seconds of the processor these first steps are {cpu['cold']:.1f} "
        f"and {cpu['cached']:.2f}."
    )
    return RowResult(lines, dict(found), [remark])


def row_9(plan: Plan) -> RowResult:
    """A long run: how its memory grows, and whether its steps slow down."""
    every = plan.size(100_000, 2_000)
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
        result.lines.append(Line(9, f"RSS growth, {span}", "MB", grown, figure="own", must=5))
        flat = Line(
            9, f"processor time of a step, last quarter, {span}", "µs", pace[-5:], "first quarter", pace[:5], "cost"
        )
        if stationary:
            flat.must = 1.1
        result.lines.append(flat)
        result.notes[kind] = looks
        slope, mean = np.polyfit(np.arange(len(pace)), pace, 1)[0] * 1e6 / every, statistics.mean(pace)
        episodes = [looks[i]["episodes"] - looks[i - 1]["episodes"] for i in (1, -1)]
        result.remarks.append(
            f"Row 9, {kind}: {mean:.1f} µs a step, {100 * slope / mean:+.1f} % per million steps (least squares); "
            f"{episodes[0]} episodes ended in the first stretch of {every:,} steps and {episodes[1]} in the last."
        )
    return result


ROWS: dict[int, Callable[[Plan], RowResult]] = {
    int(name.removeprefix("row_")): function for name, function in globals().items() if name.startswith("row_")
}


def main() -> None:
    """Measure one row."""
    row, repeats, quick, file = sys.argv[1:]
    th.set_num_threads(1)
    result = ROWS[int(row)](Plan(int(repeats), quick == "1"))
    Path(file).write_text(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
