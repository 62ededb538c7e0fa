"""Rows of the table that train: the lecture's schedule, with callbacks, whole runs, tuned settings, studies."""

import contextlib
import io
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import contestants
from measure import Line, Plan, RowResult, checked_out, fresh_process, interleave, lines_beside, seconds
from stable_baselines3.common import callbacks as stock
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback, EvalCallback

from sb3_lecture_dqn import LectureTestCallback, make_env

ORACLE, SB3, JAX = "plain loop", "SB3 DQN", "jitted JAX loop"
#: Steps of ours, the plain loop, SB3 and JAX; in a quick run
STEPS, SLOW, SLOWER, OF_JAX = (200_000, 4_000), (1_000, 60), (500, 40), (60_000, 200)
#: The schedule for JAX; its target is copied after 20 of the longest episodes
THE_LECTURES = {"updates": 5, "batch_size": 1, "adam": False, "capacity": 1000, "gamma": 0.75, "copy_every": 20_000}

Measure = Callable[[int], float]


def rate(steps: int, work: Callable[[], Any]) -> float:
    """Measure environment steps per second."""
    return steps / seconds(work)


def ours(plan: Plan, epsilon: float, *others: type[BaseCallback]) -> Measure:
    """Measure ours at the lecture's schedule, with the lecture's tests and other callbacks."""
    steps = plan.size(*STEPS)
    contestants.lecture_dqn(epsilon, 0).learn(2_000, callback=[other() for other in others])  # compiles

    def measure(seed: int) -> float:
        model = contestants.lecture_dqn(epsilon, seed)
        callbacks = [LectureTestCallback(verbose=0), *(other() for other in others)]
        return rate(steps, lambda: model.learn(steps, callback=callbacks))

    return measure


def oracle(plan: Plan, epsilon: float) -> Measure:
    """Measure the plain PyTorch loop, which makes no tests."""
    steps = plan.size(*SLOW)
    return lambda seed: rate(steps, lambda: contestants.oracle_loop(epsilon, seed, steps))


def jax_loops(plan: Plan, steps: int, **settings: Any) -> dict[str, Measure]:
    """Measure the jitted loop, and the same with the target's values kept; nothing if JAX is not installed."""
    if not contestants.has("jax"):
        return {}
    from jax_loop import JaxLoop, Settings, check

    settings["copy_every"] = min(settings["copy_every"], steps)
    measures = {}
    for keeps_values in (False, True):
        chosen = Settings(keeps_values=keeps_values, **settings)
        check(chosen)
        loop = JaxLoop(chosen, steps)
        loop.run(loop.start(0), 0)  # compiles

        def measure(seed: int, loop: JaxLoop = loop) -> float:
            training = loop.start(seed)
            return rate(steps, lambda: loop.run(training, seed))

        measures[JAX + ", target's values kept by state" * keeps_values] = measure
    return measures


def schedule(plan: Plan) -> RowResult:
    """Environment steps per second at the lecture's schedule, with mostly random and with mostly greedy actions."""
    slow, slower, of_jax = plan.size(*SLOW), plan.size(*SLOWER), plan.size(*OF_JAX)
    goals = {ORACLE: (350, 600), SB3: (650, 1100), JAX: (3, 5)}
    result = RowResult([])
    for epsilon, when in ((0.99, "as in episode 1"), (0.1, "as from episode 230 on")):

        def learning(make: Callable[..., Any], steps: int, eps: float = epsilon, **settings: Any) -> Measure:
            def measure(seed: int) -> float:
                model = make(eps, seed, **settings)
                return rate(steps, lambda: model.learn(total_timesteps=steps))

            return measure

        def sbx(seed: int, eps: float = epsilon) -> float:
            model = contestants.sbx_dqn(eps, seed)
            model.learn(total_timesteps=20)  # compiles
            return rate(slower, lambda: model.learn(total_timesteps=slower))

        def cleanrl(seed: int, eps: float = epsilon) -> float:
            return contestants.cleanrl_steps_per_second(eps, seed, max(slow, 200))

        measures: dict[str, Measure] = {
            "ours": ours(plan, epsilon),
            ORACLE: oracle(plan, epsilon),
            SB3: learning(contestants.sb3_dqn, slower),
            **jax_loops(plan, of_jax, epsilon=epsilon, **THE_LECTURES),
            "SB3 DQN, MlpPolicy": learning(contestants.sb3_one_hot_dqn, slower),
            "ours, engine='torch'": learning(contestants.lecture_dqn, slow, engine="torch"),
        }
        if contestants.has("sbx"):
            measures["SBX DQN"] = sbx
        if contestants.has("cleanrl.dqn"):
            measures["CleanRL DQN, 1 update a step"] = cleanrl
        found = interleave(plan, f"schedule, ε = {epsilon}", measures)
        work = f"the lecture's schedule, ε {epsilon} {when}"
        result.lines += lines_beside(work, "env steps/s", found, goals)
    return result


def whole_run(plan: Plan) -> RowResult:
    """The lecture's whole run, with another seed in every repeat."""
    episodes = plan.size(5_000, 60)
    fresh_process("compile_seconds", steps=2_000)  # puts the compiled code on the disk
    measures = {"ours": lambda seed: fresh_process("whole_run", seed=seed, episodes=episodes)}
    runs = interleave(plan, "whole run", measures)["ours"]
    work = f"{episodes} episodes, {runs[0]['tests']} tests, TensorBoard, {runs[0]['checkpoints']} checkpoints"
    line = Line(work, "s", [run["seconds"] for run in runs], figure="own", must=12, aim=7)
    remarks = [
        "seed {seed}: {env_steps} env steps; at the end {share:.1%} of the starts solved, {steps:.2f} steps and "
        "{reward:.2f} reward over all of them; {success_size} successes and {fail_size} failures held.".format(
            share=run["exact_test"]["success_rate"],
            steps=run["exact_test"]["mean_steps"],
            reward=run["exact_test"]["mean_reward"],
            **run,
        )
        for run in runs
    ]
    return RowResult([line], {"runs": runs}, remarks)


def stock_callbacks(plan: Plan) -> RowResult:
    """The same with SB3's callbacks and progress bar; the time of ``evaluate_policy`` does not count."""
    epsilon, steps = 0.1, plan.size(*STEPS)
    eval_freq, save_freq = plan.size(10_000, 1_000), plan.size(50_000, 2_000)
    evaluate = stock.evaluate_policy

    def with_callbacks(seed: int) -> float:
        model, evaluating = contestants.lecture_dqn(epsilon, seed), 0.0

        def timed(*args: Any, **kwargs: Any) -> Any:
            nonlocal evaluating
            start = time.perf_counter()
            result = evaluate(*args, **kwargs)
            evaluating += time.perf_counter() - start
            return result

        with (
            tempfile.TemporaryDirectory(dir=Path.cwd()) as folder,
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            mock.patch.object(stock, "evaluate_policy", timed),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # the environment of the evaluation has another type
            callbacks = [
                LectureTestCallback(verbose=0),
                EvalCallback(make_env("Taxi-v3"), eval_freq=eval_freq, verbose=0),
                CheckpointCallback(save_freq, folder),
            ]
            learning = seconds(lambda: model.learn(steps, callback=callbacks, progress_bar=True))
        return steps / (learning - evaluating)

    without = "ours without them"
    alone = ours(plan, epsilon)
    measures = {"ours": with_callbacks, ORACLE: oracle(plan, epsilon), without: alone}
    found = interleave(plan, "SB3's callbacks", measures)
    work = f"row 1, ε {epsilon}, with `EvalCallback`, `CheckpointCallback`, progress bar; evaluations taken out"
    return RowResult(lines_beside(work, "env steps/s", found, {ORACLE: (300, None)}))


def callback_that_says_nothing(plan: Plan) -> RowResult:
    """The same with a user's callback, which is called at every step."""
    epsilon = 0.1
    measures = {"ours": ours(plan, epsilon, contestants.SaysNothing), ORACLE: oracle(plan, epsilon)}
    found = interleave(plan, "a silent callback", measures)
    work = f"row 1, ε {epsilon}, with a callback that says nothing"
    return RowResult(lines_beside(work, "env steps/s", found, {ORACLE: (150, 250)}))


def adam_per_step(plan: Plan) -> RowResult:
    """One update of Adam and Huber's loss on 64 transitions after every step."""
    epsilon, steps, of_jax = 0.1, plan.size(20_000, 500), plan.size(10_000, 200)
    settings = contestants.ADAM_PER_STEP

    def own(seed: int) -> float:
        model = contestants.lecture_dqn(epsilon, seed, **settings)
        return rate(steps, lambda: model.learn(steps))

    contestants.lecture_dqn(epsilon, 0, **settings).learn(200)  # compiles
    measures = {
        "ours": own,
        **jax_loops(
            plan,
            of_jax,
            updates=1,
            batch_size=settings["batch_size"],
            adam=True,
            capacity=settings["buffer_size"],
            gamma=settings["gamma"],
            epsilon=epsilon,
            copy_every=settings["target_update_interval"],
        ),
    }
    found = interleave(plan, "Adam after every step", measures)
    work = f"one Adam + Huber update of {settings['batch_size']} per env step"
    return RowResult(lines_beside(work, "env steps/s", found, {JAX: (1.5, 2)}))


def tuned(plan: Plan) -> RowResult:
    """The recommended settings of Taxi for their whole budget, here and before the compiled loop."""
    result, before = RowResult([]), f"commit {plan.before}"
    goals = {} if plan.before is None else {before: (2.2, 3.0)}
    budget = {} if not plan.quick else {"timesteps": 2_000}
    with checked_out(plan.before) as folder:
        for use_masking in (False, True):

            def measure(seed: int, use_masking: bool = use_masking, **environment: str) -> float:
                arguments = {"seed": seed, "use_masking": use_masking, **budget}
                took: float = fresh_process("tuned_seconds", environment, **arguments)
                return took

            measures: dict[str, Measure] = {"ours": measure}
            if folder is not None:
                measures[before] = lambda seed, m=measure, f=folder: m(seed, PYTHONPATH=str(f))  # type: ignore[misc]
            found = interleave(plan, f"tuned, use_masking={use_masking}", measures)
            work = f'the whole budget of `tuned("Taxi-v3", use_masking={use_masking})`'
            result.lines += lines_beside(work, "s", found, goals)
    return result


def study(plan: Plan) -> RowResult:
    """The lecture's study, once, on all cores."""
    seeds, episodes = plan.size(20, 1), plan.size(5_000, 3)
    found = fresh_process("study", seeds=seeds, episodes=episodes)
    work = f"the lecture's study: {found['runs']} runs of {episodes} episodes, {found['processes']} processes"
    line = Line(work, "min", [found["seconds"] / 60], figure="own", must=15, aim=10)
    remark = "{env_steps:,} env steps in all; {failed} runs diverged.".format(**found)
    return RowResult([line], found, [remark])
