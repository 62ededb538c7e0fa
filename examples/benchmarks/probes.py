"""
Measurements that need a new process: imports, compilation, memory use, whole runs.

``python probes.py <function> '<arguments as JSON>'`` prints what the function returns as JSON. Modules are imported
where they are used, because some functions measure imports.
"""

import gc
import importlib
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any


def resident_bytes() -> int:
    """Return the resident memory of this process, from the kernel of Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def import_seconds(modules: list[str]) -> float:
    """Measure the time to import modules, one after the other."""
    start = time.perf_counter()
    for module in modules:
        importlib.import_module(module)
    return time.perf_counter() - start


def compile_seconds(steps: int) -> dict[str, float]:
    """Measure how much longer the first training on the compiled engine takes than the second."""
    package = import_seconds(["sb3_lecture_dqn"])
    numba = import_seconds(["numba"])
    from sb3_lecture_dqn import LectureDQN

    def train(engine: str, steps: int = steps) -> float:
        start = time.perf_counter()
        LectureDQN("Taxi-v3", device="cpu", seed=0, engine=engine).learn(total_timesteps=steps)
        return time.perf_counter() - start

    train("torch", 2)  # PyTorch imports more modules when a process makes its first optimiser
    cpu = time.process_time()
    first = train("numba")
    cpu = time.process_time() - cpu
    return {
        "import": package,
        "import numba": numba,
        "first training": first,
        "first training, CPU": cpu,
        "second training": train("numba"),
    }


def whole_run(seed: int, episodes: int) -> dict[str, Any]:
    """Make the lecture's run as the command line does: with its tests, TensorBoard, and checkpoints."""
    imports = import_seconds(["sb3_lecture_dqn"])
    from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, LectureTestCallback, exact_test

    every = 50
    test, checkpoint = LectureTestCallback(verbose=0), LectureCheckpointCallback((every, "episode"), verbose=0)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:  # on a disk, because /tmp is often in memory
        start = time.perf_counter()
        model = LectureDQN("Taxi-v3", device="cpu", seed=seed, tensorboard_log=folder)
        model.learn(total_episodes=episodes, callback=[test, checkpoint])
        seconds = time.perf_counter() - start
        written = sum(file.stat().st_size for file in Path(folder).rglob("events.out.tfevents.*"))
    return {
        "seed": seed,
        "seconds": seconds,
        "import": imports,
        "engine": model.engine_in_use,
        "tests": len(test.results),
        "checkpoints": episodes // every,
        "run_test": asdict(test.results[-1][1]),
        "exact_test": asdict(exact_test(model)),
        "env_steps": model.num_timesteps,
        "success_size": model.replay_buffer.success_size,
        "fail_size": model.replay_buffer.fail_size,
        "tensorboard_bytes": written,
    }


def tuned_seconds(seed: int, use_masking: bool, timesteps: int | None = None) -> float:
    """Measure the training by the recommended settings of Taxi, for their whole budget if no other is given."""
    from sb3_lecture_dqn import LectureDQN

    settings = {"use_masking": use_masking, "device": "cpu"}
    LectureDQN.tuned("Taxi-v3", seed=seed, **settings).learn(5_000)  # compiles, also what begins after 4000 steps
    model = LectureDQN.tuned("Taxi-v3", seed=seed, **settings)
    start = time.perf_counter()
    model.learn(timesteps)
    return time.perf_counter() - start


def study(seeds: int, episodes: int) -> dict[str, Any]:
    """Run the lecture's study on all cores."""
    from measure import use_all_cores

    from sb3_lecture_dqn.study import lecture_plan, run_plan

    use_all_cores()
    processes = os.cpu_count() or 1
    plan = lecture_plan().changed(seeds=seeds, episodes=episodes)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        start = time.perf_counter()
        rows = run_plan(plan, folder, processes=processes, progress=False)
        seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "processes": processes,
        "runs": len(rows),
        "failed": sum(row["state"] == "failed" for row in rows),
        "env_steps": sum(row["timesteps"] or 0 for row in rows),
    }


def memory(large: int, small: int, repeats: int) -> dict[str, Any]:
    """
    Measure operations of two full memories in turn, and the size of the larger memory.

    :param large: Entries of one memory
    :param small: Entries of the other
    :param repeats: Repeats of every measurement
    :return: Seconds per operation of both memories, seconds to fill the large one, and bytes per entry
    """
    import numpy as np
    from gymnasium import spaces
    from measure import Plan, interleave, seconds_per_call

    from sb3_lecture_dqn import SuccessFailReplayBuffer

    n_envs = 1000
    n_states = 10 * large
    infos: list[dict[str, Any]] = [{} for _ in range(n_envs)]
    nothing_done = np.zeros(n_envs, bool)

    class Filled:
        """A full memory of different transitions, to which others are added."""

        def __init__(self, entries: int) -> None:
            space = spaces.Discrete(n_states)
            self.buffer = SuccessFailReplayBuffer(entries, space, spaces.Discrete(6), "cpu", n_envs, seed=0)
            self.next_state = 0
            while self.buffer.fail_size < entries:
                self.insert()

        def insert(self) -> None:
            """Add a new transition for every environment."""
            states = np.arange(self.next_state, self.next_state + n_envs) % n_states
            self.next_state += n_envs
            self.last = (states, (7919 * states + 1) % n_states, states % 6, states % 5 - 1.0, nothing_done, infos)
            self.buffer.add(*self.last)

        def insert_again(self) -> None:
            """Add the last transitions again; nearly all are still held."""
            self.buffer.add(*self.last)

    Filled(small)  # compiles, and makes numba's lasting allocations
    before = resident_bytes()
    start = time.perf_counter()
    big = Filled(large)
    fill_seconds = time.perf_counter() - start
    gc.collect()
    grown = resident_bytes() - before
    little = Filled(small)
    memories = {"large": big, "small": little}
    operations = {
        "insert a new transition": (Filled.insert, n_envs),
        "insert one that is held already": (Filled.insert_again, n_envs),
        "draw one": (lambda filled: filled.buffer.sample(1), 1),
        "draw a minibatch of 256": (lambda filled: filled.buffer.sample(256), 256),
    }
    samples = {}
    for title, (operation, count) in operations.items():
        measures = {
            name: lambda _, m=filled, op=operation, n=count: seconds_per_call(lambda: op(m), 0.3) / n
            for name, filled in memories.items()
        }
        samples[title] = interleave(Plan(repeats), title, measures)
    assert big.buffer.fail_size == large
    assert little.buffer.fail_size == small
    return {
        "operations": samples,
        "fill_seconds": fill_seconds,
        "bytes": grown / large,
        "index": type(big.buffer.fail.index).__name__,
    }


def long_run(steps: int, every: int, stationary: bool) -> list[dict[str, float]]:
    """
    Make a long training and measure it at regular steps.

    :param steps: Environment steps
    :param every: Steps between two measurements
    :param stationary: Whether the work of a step stays the same: a constant ε, and a network that does not learn, so
        that episodes do not get shorter
    :return: Steps, resident bytes, wall seconds, CPU seconds and episodes at every measurement
    """
    from stable_baselines3.common.callbacks import BaseCallback

    from sb3_lecture_dqn import LectureDQN
    from sb3_lecture_dqn.training.due import Due

    class Look(BaseCallback):
        """Records the memory and time of the process."""

        def next_due(self) -> Due:
            return Due(calls=every - self.n_calls % every)

        def __init__(self) -> None:
            super().__init__()
            self.seen: list[dict[str, float]] = []
            self.start = time.perf_counter()

        def _on_step(self) -> bool:
            if self.num_timesteps % every == 0:
                self.seen.append(
                    {
                        "steps": self.num_timesteps,
                        "bytes": resident_bytes(),
                        "seconds": time.perf_counter() - self.start,
                        "CPU seconds": time.process_time(),
                        "episodes": self.model._episode_num,
                    }
                )
            return True

    settings = {"learning_rate": 0.0, "exploration_decay": 1.0} if stationary else {}
    if stationary:
        settings.update(exploration_initial_eps=0.5, exploration_final_eps=0.5)
    look = Look()
    LectureDQN("Taxi-v3", device="cpu", seed=0, **settings).learn(total_timesteps=steps, callback=look)
    return look.seen


if __name__ == "__main__":
    name, arguments = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps(globals()[name](**arguments)))
