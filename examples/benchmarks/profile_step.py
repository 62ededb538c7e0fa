"""
Measure the parts of one training step in microseconds: the lecture's schedule, one Taxi, the compiled engine.

``learn`` runs with a clock around one part at a time, in turn with runs without a clock. So every part is measured in
its place, with the caches that the other parts leave, and without a profiler.

    python examples/benchmarks/profile_step.py --epsilon 0.1
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import torch as th
from measure import Plan, interleave, seconds, seconds_per_call, use_one_core

PARTS = ("the environment", "the action", "the memory", "the updates", "SB3's contract")


def places(model: Any, callback: type) -> dict[str, list[tuple[str, Any, str, int]]]:
    """
    List the parts to measure.

    :param model: A model on the compiled engine
    :param callback: The class of its callback
    :return: For each part its subparts: a name, the owner and name of the function, and a level. Parts of level 0 add
        up to the part; a part of a higher level is inside the part above it
    """
    algorithm, env, memory = type(model), type(model.env), type(model.replay_buffer)
    partition, learner = type(model.replay_buffer.fail), type(model._engine)
    index, kernels = type(model.replay_buffer.fail.index), model._engine.kernels
    return dict(
        zip(
            PARTS,
            [
                [("`env.step`", env, "step", 0)],
                [
                    ("`_sample_action`", algorithm, "_sample_action", 0),
                    ("`greedy_actions`", learner, "greedy_actions", 1),
                    ("compiled forward pass", kernels, "greedy_actions", 2),
                ],
                [
                    ("`_store_transition`", algorithm, "_store_transition", 0),
                    ("`replay_buffer.add`", memory, "add", 1),
                    ("`Partition.insert`", partition, "insert", 2),
                    ("look-up in the duplicate index", index, "find", 3),
                ],
                [
                    ("`train`", algorithm, "train", 0),
                    ("learning rate", algorithm, "_update_learning_rate", 1),
                    ("drawing the minibatches", memory, "draw_minibatches", 1),
                    ("five compiled updates", kernels, "train_one_by_one", 1),
                ],
                [
                    ("`callback.update_locals`", callback, "update_locals", 0),
                    ("`callback.on_step`", callback, "on_step", 0),
                    ("`callback.on_rollout_start`", callback, "on_rollout_start", 0),
                    ("`callback.on_rollout_end`", callback, "on_rollout_end", 0),
                    ("`_update_info_buffer`", algorithm, "_update_info_buffer", 0),
                    ("`_update_current_progress_remaining`", algorithm, "_update_current_progress_remaining", 0),
                    ("`_on_step`", algorithm, "_on_step", 0),
                ],
            ],
            strict=True,
        )
    )


def clock(owner: Any, attribute: str, run: Callable[[], Any]) -> float:
    """
    Measure the time in one function.

    :param owner: The class or module that has the function
    :param attribute: Its name
    :param run: A function that leads to its calls
    :return: Seconds spent in it
    """
    function, spent, now = getattr(owner, attribute), 0.0, time.perf_counter

    def timed(*args: Any, **kwargs: Any) -> Any:
        nonlocal spent
        start = now()
        try:
            return function(*args, **kwargs)
        finally:
            spent += now() - start

    with mock.patch.object(owner, attribute, timed):
        run()
    return spent


def call_alone(model: Any) -> float:
    """Measure a call of the compiled loop without updates: the cost of the call itself, in seconds."""
    from sb3_lecture_dqn.kernels.kinds import MSE

    learner, memory = model._engine, model.replay_buffer
    kernels, success, fail = learner.kernels, memory.success, memory.fail
    rows = (success.words, success.floats, fail.words, fail.floats, success.size, np.zeros((0, 1), np.int64))
    rest = (learner.start, model.gamma, learner.online, learner.target, learner.layout, MSE, False, 0.0)
    return seconds_per_call(lambda: kernels.train_one_by_one(*rows, *rest), 0.05)


def profile(epsilon: float, steps: int, repeats: int) -> str:
    """
    Measure whole steps and their parts in turn.

    :param epsilon: Share of the random actions
    :param steps: Steps of a run
    :param repeats: Repeats of every measurement
    :return: A Markdown table
    """
    import contestants
    from stable_baselines3.common.callbacks import BaseCallback

    class Nothing(BaseCallback):
        """The smallest callback of a user."""

        def _on_step(self) -> bool:
            return True

    model = contestants.lecture_dqn(epsilon, 0, engine="numba")

    def run() -> None:
        model.learn(total_timesteps=steps, callback=Nothing(), reset_num_timesteps=False)

    run()  # compiles, and fills the memory
    by_part = places(model, Nothing)
    whole, alone = "a whole step of `learn`", "of it the call, by itself with no update"
    measures: dict[str, Callable[[int], float]] = {whole: lambda _: seconds(run) / steps}
    for group in by_part.values():
        for name, owner, attribute, _ in group:
            measures[name] = lambda _, o=owner, a=attribute: clock(o, a, run) / steps
    measures[alone] = lambda _: call_alone(model)
    found = interleave(Plan(repeats), "parts of a step", measures)
    cost = {name: 1e6 * statistics.median(samples) for name, samples in found.items()}

    lines = ["| part | µs a step | share |", "|---|---|---|"]

    def add(name: str, microseconds: float, bold: str = "") -> None:
        lines.append(f"| {bold}{name}{bold} | {bold}{microseconds:.1f}{bold} | {microseconds / cost[whole]:.0%} |")

    rest = cost[whole]
    for part, group in by_part.items():
        of_part = sum(cost[name] for name, _, _, level in group if level == 0)
        rest -= of_part
        add(part, of_part, "**")
        for name, _, _, level in group:
            add("– " * level + name, cost[name])
            if name == "five compiled updates":
                add(f"– – {alone}", cost[alone])
    add("the loops of `learn` and `collect_rollouts`", rest, "**")
    add(whole, cost[whole], "**")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Where the microseconds of one training step go.")
    parser.add_argument("--epsilon", type=float, default=0.1, help="share of random actions (default: 0.1)")
    parser.add_argument("--steps", type=int, default=3000, help="steps of every run (default: 3000)")
    parser.add_argument("--repeats", type=int, default=7, help="repeats of every measurement (default: 7)")
    args = parser.parse_args()
    use_one_core()
    th.set_num_threads(1)
    print(profile(args.epsilon, args.steps, args.repeats))


if __name__ == "__main__":
    main()
