"""
Measure where the time of one training step goes: the lecture's schedule, one Taxi, the compiled engine.

In the compiled loop, in nanoseconds: each part is repeated by a compiled loop of its own (``drivers.py``), on the
states, transitions and draws of steps that were recorded before. What no part explains is the loop's rest; it is below
0 where the processor does several parts at once.

    python examples/benchmarks/profile_step.py --epsilon 0.1

With a callback that is called at every step, for which the compiled loop pauses, and step by step, in microseconds:
``learn`` runs with a clock around one part at a time, in turn with runs without a clock. So every part is measured in
its place, with the caches that the other parts leave, and without a profiler.

    python examples/benchmarks/profile_step.py --loop pausing
    python examples/benchmarks/profile_step.py --loop stepwise
"""

import argparse
import inspect
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import contestants
import numpy as np
import torch as th
from measure import Plan, interleave, seconds, seconds_per_call, use_one_core

from sb3_lecture_dqn import LectureTestCallback
from sb3_lecture_dqn.kernels import places as at

UPDATES = contestants.SETTINGS["gradient_steps"]
#: Steps before anything is measured, in which the memory fills up
WARM_UP = 30_000

# ------------------------------------------------------------------------------------ in the compiled loop


class Recorded:
    """
    A training in the middle of the lecture's run, and some of its steps.

    :param epsilon: Share of the random actions
    :param steps: Number of recorded steps
    """

    def __init__(self, epsilon: float, steps: int) -> None:
        from sb3_lecture_dqn.kernels import rollouts

        self.kernel = rollouts.run
        self.model = contestants.lecture_dqn(epsilon, 0, engine="numba")
        given: list[Any] = []

        def spy(*arguments: Any) -> None:
            given[:] = arguments
            self.kernel(*arguments)

        with mock.patch.object(rollouts, "run", spy):
            self.model.learn(WARM_UP)
        #: Arguments of the compiled loop by name
        self.given = dict(zip(inspect.signature(self.kernel.py_func).parameters, given, strict=True))
        counts = self.given["counts"]
        self.episodes_before = counts[at.EPISODES]
        self.pairs, before = np.zeros(steps, np.int64), np.zeros(steps, np.int64)
        last_state, last_pair = self.given["episodes"][5:7]
        for i in range(steps):
            self.run(1)
            before[i], self.pairs[i] = last_state[0], last_pair[0]
        self.states = before
        next_states, _, rewards_f, terminated = self.given["env"][:4]
        self.words = np.zeros((steps, 4), np.int64)
        self.words[:, :3] = np.stack([before, next_states[self.pairs], self.pairs % self.n_actions], axis=1)
        floats = self.words.view(np.float32)
        self.terminal = terminated[self.pairs]
        floats[:, 6], floats[:, 7] = rewards_f[self.pairs], self.terminal
        n_success, n_fail = int(counts[at.SUCCESSES]), int(counts[at.FAILURES])
        self.n_success = n_success
        rng = np.random.default_rng(0)
        self.explores = rng.random(steps) < epsilon
        self.positions = rng.integers(n_success + n_fail, size=(steps, UPDATES))
        success, success_f, _, fail, fail_f, _ = self.given["memory"]
        self.rows = success, success_f, fail, fail_f, n_success

    @property
    def n_actions(self) -> int:
        return int(self.model.action_space.n)

    def run(self, rollouts: int) -> None:
        """Call the compiled loop itself, again where it has no room for more ended episodes."""
        unlimited, counts, results = 2**62, self.given["counts"], self.given["results"]
        while rollouts > 0:
            counts[at.EPISODES] = counts[at.EPISODES_BEFORE] = self.episodes_before  # it has ε for a few thousand more
            self.kernel(**{**self.given, "limits": np.array([rollouts, unlimited, unlimited, False])})
            rollouts -= results[at.ROLLOUTS]

    def rest_of_train(self) -> tuple[Any, ...]:
        """Return the arguments of :func:`kernels.updates.train` after ``gamma``."""
        arguments: tuple[Any, ...] = self.model._engine.arguments(1, 0)
        return arguments


def loop_profile(epsilon: float, steps: int, repeats: int) -> str:
    """
    Measure the compiled loop and its parts in turn.

    :param epsilon: Share of the random actions
    :param steps: Steps of each measurement
    :param repeats: Repeats of every measurement
    :return: A Markdown table
    """
    import drivers

    from sb3_lecture_dqn.kernels.updates import copy_target

    it = Recorded(epsilon, steps)
    given, engine = it.given, it.model._engine
    online, target, net = engine.online, engine.target, engine.net
    next_states, rewards, _, terminated, *_, masks = given["env"]
    _, explore_rng, memory_rng = given["rngs"]
    all_known = np.zeros_like(engine.known)
    nothing_known, no_values = np.zeros_like(engine.known), np.zeros_like(engine.kept)
    every_state = np.stack([np.argwhere(np.ones(it.n_success + 1000))[:, 0]], axis=1)

    model = contestants.lecture_dqn(epsilon, 0, engine="numba").learn(WARM_UP)

    def learn() -> None:
        model.learn(steps, callback=LectureTestCallback(verbose=0), reset_num_timesteps=False)

    def renew_target() -> None:
        """Copy the target, and compute all values that the memory asks for."""
        copy_target(online, target, 1.0)
        nothing_known[-1] += 1
        drivers.value_next_states(target, net, nothing_known, no_values, it.rows, every_state, engine.one)

    gamma = float(it.model.gamma)
    parts: dict[str, tuple[Callable[[], Any], float]] = {
        "`learn`": (learn, steps),
        "the compiled loop": (lambda: it.run(steps), steps),
        "forward pass of the greedy action": (
            lambda: drivers.act_many(online, net, it.states, it.explores, masks, engine.one),
            steps,
        ),
        "step of the environment": (
            lambda: drivers.step_many(next_states, rewards, terminated, it.pairs),
            steps,
        ),
        "look-up in the memory, and storing": (
            lambda: drivers.keep_many(
                given["memory"], given["counts"], given["switches"], it.words, it.terminal, memory_rng
            ),
            steps,
        ),
        "random draws": (
            lambda: drivers.draw_many(
                explore_rng, memory_rng, epsilon, it.n_actions, it.n_success, steps, np.zeros((UPDATES, 1), np.int64)
            ),
            steps,
        ),
        "five updates": (
            lambda: drivers.train_many(it.rows, it.positions[:, :, None], 0, gamma, it.rest_of_train()),
            steps,
        ),
        "value of the next state": (
            lambda: drivers.value_next_states(target, net, all_known, engine.kept, it.rows, it.positions, engine.one),
            steps,
        ),
        "forward pass": (lambda: drivers.forward_many(online, net, it.rows, it.positions, engine.one), steps),
    }
    measures: dict[str, Callable[[int], float]] = {}
    for name, (work, n) in parts.items():
        work()  # compiles
        measures[name] = lambda _, work=work, n=n: 1e9 * seconds(work) / n
    renew_target()
    renewal = "a copy of the target, and its values once more"
    measures[renewal] = lambda _: 1e9 * seconds_per_call(renew_target, 0.01)
    found = interleave(Plan(repeats), "parts of the loop", measures)
    cost = {name: statistics.median(samples) for name, samples in found.items()}

    copies = model._episode_num // 20
    copying = cost.pop(renewal) * copies / model.num_timesteps
    updates, whole, loop = cost["five updates"], cost["`learn`"], cost["the compiled loop"]
    descent = updates - cost["value of the next state"] - cost["forward pass"]
    rows = [
        (name, cost[name])
        for name in (
            "forward pass of the greedy action",
            "step of the environment",
            "look-up in the memory, and storing",
            "random draws",
            "five updates",
        )
    ]
    rest = loop - copying - sum(nanoseconds for _, nanoseconds in rows)
    rows += [
        ("– value of the next state", cost["value of the next state"]),
        ("– forward pass", cost["forward pass"]),
        ("– gradients and descent", descent),
        (f"copies of the target, {copies} in {model.num_timesteps:,} steps, and its values once more", copying),
        ("the loop's rest", rest),
        ("**the compiled loop**", loop),
        ("outside of it: the beginning of `learn`, tests, logs, stretches", whole - loop),
        ("**`learn(callback=LectureTestCallback())`**", whole),
    ]
    lines = ["| part | ns a step | share |", "|---|---|---|"]
    lines += [f"| {name} | {nanoseconds:,.0f} | {nanoseconds / whole:.0%} |" for name, nanoseconds in rows]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------ with a clock around parts

# Names of parts, and of each its subparts: a name, the owner and the name of the function, and a level. Those of level
# 0 add up to the part; one of a higher level is inside the one above it.
Parts = dict[str, list[tuple[str, Any, str, int]]]


def parts_of_pauses(model: Any, callback: type) -> Parts:
    """List the parts of a step for which the compiled loop pauses."""
    from sb3_lecture_dqn.kernels import rollouts
    from sb3_lecture_dqn.training.compiled_loop import CompiledLoop

    return {
        "the loop": [
            ("`go_on`", CompiledLoop, "go_on", 0),
            ("the compiled loop, in two halves", rollouts, "run", 1),
            ("`_update_model`", CompiledLoop, "_update_model", 1),
        ],
        "the callback": [
            ("`local_variables`", CompiledLoop, "local_variables", 0),
            ("`callback.update_locals`", callback, "update_locals", 0),
            ("`callback.on_step`", callback, "on_step", 0),
        ],
        "what it may have changed": [
            ("`after_step`", type(model._access), "after_step", 0),
            ("`_refresh_engine`", type(model), "_refresh_engine", 0),
            ("`is_current`", CompiledLoop, "is_current", 0),
        ],
    }


def parts_of_steps(model: Any, callback: type) -> Parts:
    """List the parts of a step of the stepwise loop."""
    algorithm, env, memory = type(model), type(model.env), type(model.replay_buffer)
    partition, engine = type(model.replay_buffer.fail), type(model._engine)
    index, networks, updates = type(model.replay_buffer.fail.index), model._engine.networks, model._engine.updates
    return {
        "the environment": [("`env.step`", env, "step", 0)],
        "the action": [
            ("`_sample_action`", algorithm, "_sample_action", 0),
            ("`greedy_actions`", engine, "greedy_actions", 1),
            ("compiled forward pass", networks, "greedy_actions", 2),
        ],
        "the memory": [
            ("`_store_transition`", algorithm, "_store_transition", 0),
            ("`replay_buffer.add`", memory, "add", 1),
            ("`Partition.insert`", partition, "insert", 2),
            ("look-up in the duplicate index", index, "find", 3),
        ],
        "the updates": [
            ("`train`", algorithm, "train", 0),
            ("learning rate", algorithm, "_update_learning_rate", 1),
            ("drawing the minibatches", memory, "draw_minibatches", 1),
            ("five compiled updates", updates, "train", 1),
        ],
        "SB3's contract": [
            ("`callback.update_locals`", callback, "update_locals", 0),
            ("`callback.on_step`", callback, "on_step", 0),
            ("`callback.on_rollout_start`", callback, "on_rollout_start", 0),
            ("`callback.on_rollout_end`", callback, "on_rollout_end", 0),
            ("`_update_info_buffer`", algorithm, "_update_info_buffer", 0),
            ("`_update_current_progress_remaining`", algorithm, "_update_current_progress_remaining", 0),
            ("`_on_step`", algorithm, "_on_step", 0),
        ],
    }


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


def step_profile(epsilon: float, steps: int, repeats: int, stepwise: bool) -> str:
    """
    Measure whole steps and their parts in turn.

    :param epsilon: Share of the random actions
    :param steps: Steps of a run
    :param repeats: Repeats of every measurement
    :param stepwise: Whether to prevent the compiled loop, by a learning rate that is a function
    :return: A Markdown table
    """
    settings = {"learning_rate": lambda _: 0.001} if stepwise else {}
    model = contestants.lecture_dqn(epsilon, 0, engine="numba", **settings)
    callback = contestants.SaysNothing

    def run() -> None:
        model.learn(total_timesteps=steps, callback=callback(), reset_num_timesteps=False)

    run()  # compiles, and fills the memory
    by_part = (parts_of_steps if stepwise else parts_of_pauses)(model, callback)
    whole = "a whole step of `learn`"
    measures: dict[str, Callable[[int], float]] = {whole: lambda _: seconds(run) / steps}
    for group in by_part.values():
        for name, owner, attribute, _ in group:
            measures[name] = lambda _, o=owner, a=attribute: clock(o, a, run) / steps
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
    add("the loops around them", rest, "**")
    add(whole, cost[whole], "**")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Where the time of one training step goes.")
    parser.add_argument("--epsilon", type=float, default=0.1, help="share of random actions (default: 0.1)")
    parser.add_argument("--steps", type=int, help="steps of every measurement (default: 30000 compiled, else 5000)")
    parser.add_argument("--repeats", type=int, default=7, help="repeats of every measurement (default: 7)")
    parser.add_argument("--loop", choices=["compiled", "pausing", "stepwise"], default="compiled")
    args = parser.parse_args()
    use_one_core()
    th.set_num_threads(1)
    if args.loop == "compiled":
        print(loop_profile(args.epsilon, args.steps or 30_000, args.repeats))
    else:
        print(step_profile(args.epsilon, args.steps or 5_000, args.repeats, args.loop == "stepwise"))


if __name__ == "__main__":
    main()
