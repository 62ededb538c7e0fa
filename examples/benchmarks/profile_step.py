"""
Measure where the time of one training step goes: the lecture's schedule, one Taxi, the compiled engine.

In the compiled loop, in nanoseconds: each part is repeated by a compiled loop of its own (``drivers.py``), on the
states, transitions and draws of steps that were recorded before. What no part explains is the loop's rest.

    python examples/benchmarks/profile_step.py --epsilon 0.1

Step by step, as with a callback that must be called at every step, in microseconds: ``learn`` runs with a clock around
one part at a time, in turn with runs without a clock. So every part is measured in its place, with the caches that the
other parts leave, and without a profiler.

    python examples/benchmarks/profile_step.py --stepwise
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
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn import LectureTestCallback

UPDATES = contestants.SETTINGS["gradient_steps"]

# ------------------------------------------------------------------------------------ in the compiled loop


class Recorded:
    """
    A training in the middle of the lecture's run, and some of its steps.

    :param epsilon: Share of the random actions
    :param steps: Number of recorded steps
    """

    def __init__(self, epsilon: float, steps: int) -> None:
        from sb3_lecture_dqn.kernels import rollouts

        self.kernel, self.epsilon, self.n = rollouts.run, epsilon, steps
        self.model = contestants.lecture_dqn(epsilon, 0, engine="numba")
        given: list[Any] = []

        def spy(*arguments: Any) -> None:
            given[:] = arguments
            self.kernel(*arguments)

        with mock.patch.object(rollouts, "run", spy):
            self.learn(30_000)
        #: Arguments of the compiled loop by name
        self.given = dict(zip(inspect.signature(self.kernel.py_func).parameters, given, strict=True))
        assert self.given["results"][rollouts.STATUS] == rollouts.DONE
        self.pairs, before = np.zeros(steps, np.int64), np.zeros(steps, np.int64)
        last_state, last_pair = self.given["episodes"][3:5]
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
        n_success, n_fail = (int(n) for n in self.given["counts"][5:7])
        self.n_success = n_success
        rng = np.random.default_rng(0)
        self.explores = rng.random(steps) < epsilon
        self.positions = rng.integers(n_success + n_fail, size=(steps, UPDATES))
        success, success_f, _, fail, fail_f, _ = self.given["memory"]
        self.rows = success, success_f, fail, fail_f, n_success

    @property
    def n_actions(self) -> int:
        return int(self.model.action_space.n)

    def learn(self, steps: int, callback: BaseCallback | None = None) -> None:
        """Train on."""
        self.model.learn(steps, callback=callback, reset_num_timesteps=False)

    def run(self, rollouts: int) -> None:
        """Call the compiled loop itself."""
        unlimited = 2**62
        self.kernel(**{**self.given, "limits": np.array([rollouts, unlimited, unlimited])})

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

    def learn() -> None:
        it.learn(steps, LectureTestCallback(verbose=0))

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

    copies = it.model._episode_num // 20
    copying = cost.pop(renewal) * copies / it.model.num_timesteps
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
        (f"copies of the target, {copies} in {it.model.num_timesteps:,} steps, and its values once more", copying),
        ("the loop's rest", rest),
        ("**the compiled loop**", loop),
        ("outside of it: tests, logs, stretches", whole - loop),
        ("**`learn(callback=LectureTestCallback())`**", whole),
    ]
    lines = ["| part | ns a step | share |", "|---|---|---|"]
    lines += [f"| {name} | {nanoseconds:,.0f} | {nanoseconds / whole:.0%} |" for name, nanoseconds in rows]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------ step by step

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
    index, networks, updates = type(model.replay_buffer.fail.index), model._engine.networks, model._engine.updates
    return dict(
        zip(
            PARTS,
            [
                [("`env.step`", env, "step", 0)],
                [
                    ("`_sample_action`", algorithm, "_sample_action", 0),
                    ("`greedy_actions`", learner, "greedy_actions", 1),
                    ("compiled forward pass", networks, "greedy_actions", 2),
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
                    ("five compiled updates", updates, "train", 1),
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
    """Measure a call of the updates' kernel without updates: the cost of the call itself, in seconds."""
    learner, memory = model._engine, model.replay_buffer
    success, fail = memory.success, memory.fail
    rows = (success.words, success.floats, fail.words, fail.floats, success.size, np.zeros((0, 1), np.int64))
    rest = (learner.start, float(model.gamma), *learner.arguments(1, 0))
    return seconds_per_call(lambda: learner.updates.train(*rows, *rest), 0.05)


def step_profile(epsilon: float, steps: int, repeats: int) -> str:
    """
    Measure whole steps of the stepwise loop and their parts in turn.

    :param epsilon: Share of the random actions
    :param steps: Steps of a run
    :param repeats: Repeats of every measurement
    :return: A Markdown table
    """

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
    parser = argparse.ArgumentParser(description="Where the time of one training step goes.")
    parser.add_argument("--epsilon", type=float, default=0.1, help="share of random actions (default: 0.1)")
    parser.add_argument("--steps", type=int, help="steps of every measurement (default: 30000, 3000 step by step)")
    parser.add_argument("--repeats", type=int, default=7, help="repeats of every measurement (default: 7)")
    parser.add_argument("--stepwise", action="store_true", help="the stepwise loop, not the compiled one")
    args = parser.parse_args()
    use_one_core()
    th.set_num_threads(1)
    profile, steps = (step_profile, 3_000) if args.stepwise else (loop_profile, 30_000)
    print(profile(args.epsilon, args.steps or steps, args.repeats))


if __name__ == "__main__":
    main()
