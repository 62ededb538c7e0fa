"""
Measure the same updates on several engines: the reason for the choice of numba.

Every engine has the same network and the same minibatches from the same memory, and computes the same updates: the
lecture's five of plain SGD on one transition, and one of Adam with Huber's loss on 256, with gradients clipped at 10.
Before the times are taken, the weights after both are compared with PyTorch's; a difference is an error.

    python examples/benchmarks/engines.py

It needs the extra ``fast`` and g++. JAX (``pip install jax``) is measured if it is installed. The table goes to
``results/engines.md``.
"""

import argparse
import ctypes
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from abc import abstractmethod
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import contestants
import numpy as np
import torch as th
from machine import describe_machine, sentence
from measure import HERE, Plan, interleave, use_one_core
from report import number
from torch.nn import functional as F

from sb3_lecture_dqn import LectureDQN

GAMMA, LR, MAX_NORM = 0.75, 1e-3, 10.0
BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
# (updates in a call, transitions in a minibatch, whether the optimiser is Adam)
LECTURE, MINIBATCH = (5, 1, False), (1, 256, True)
TOLERANCE = 1e-5

Arrays = list[np.ndarray]


def make_model(adam: bool, engine: str) -> LectureDQN:
    """Make a model with the memory at the end of the lecture's run: 1000 failures and the four successes."""
    settings: dict[str, Any] = {}
    if adam:
        settings = {"loss": "huber", "max_grad_norm": MAX_NORM, "policy_kwargs": {"optimizer_class": th.optim.Adam}}
    model = LectureDQN("Taxi-v3", learning_rate=LR, gamma=GAMMA, seed=0, device="cpu", engine=engine, **settings)
    contestants.fill_memory(model)
    return contestants.silence(model)


def draw(model: LectureDQN, updates: int, batch_size: int) -> Arrays:
    """
    Draw minibatches as our own engines do.

    :return: States, actions, next states, rewards, and discounts that are 0 for a terminal next state; each of shape
        (updates, batch)
    """
    memory = model.replay_buffer
    positions = memory.draw_minibatches(updates, batch_size)
    here = positions < memory.success.size
    at = np.where(here, positions, positions - memory.success.size)
    words = np.where(here[..., None], memory.success.words[np.where(here, at, 0)], memory.fail.words[at])
    floats = words.view(np.float32)
    return [
        *(np.ascontiguousarray(words[..., i]) for i in (0, 2, 1)),
        np.ascontiguousarray(floats[..., 6]),
        (1 - floats[..., 7]) * np.float32(GAMMA),
    ]


class Engine:
    """
    An engine that computes the updates.

    :param adam: Whether to use Adam on Huber's loss, else SGD on the squared error
    """

    name: str
    needs: str
    packages: ClassVar[tuple[str, ...]] = ()
    compiler = False

    def __init__(self, adam: bool) -> None:
        self.adam = adam
        self.model = make_model(adam, "torch")

    def draw(self, updates: int, batch_size: int) -> Any:
        """Convert the minibatches of a call to the engine's form; this is not timed."""
        return draw(self.model, updates, batch_size)

    @abstractmethod
    def train(self, minibatches: Any) -> None:
        """Compute the updates of a call."""

    def train_all(self, drawn: list[Any]) -> None:
        """Compute the updates of many calls, one after the other."""
        for minibatches in drawn:
            self.train(minibatches)

    @abstractmethod
    def weights(self) -> np.ndarray:
        """Return all weights in PyTorch's order."""


def flat_weights(network: th.nn.Module) -> np.ndarray:
    """Copy all parameters into one array."""
    return np.concatenate([parameter.detach().numpy().reshape(-1) for parameter in network.parameters()])


class Torch(Engine):
    """PyTorch: our ``engine="torch"``."""

    name, needs, packages = "PyTorch, eager", "nothing more", ("torch",)

    def draw(self, updates: int, batch_size: int) -> Any:
        return updates, batch_size

    def train(self, minibatches: Any) -> None:
        self.model.train(*minibatches)  # this engine draws the minibatches itself

    def weights(self) -> np.ndarray:
        return flat_weights(self.model.q_net)


class NumbaFromPython(Torch):
    """Our ``engine="numba"`` in the stepwise loop."""

    name, needs, packages = "numba (ours), called from Python", "`pip install numba`", ("numba", "llvmlite")

    def __init__(self, adam: bool) -> None:
        self.adam = adam
        self.model = make_model(adam, "numba")


class Numba(NumbaFromPython):
    """Our ``engine="numba"`` in the compiled loop."""

    name = "numba (ours), in the compiled loop"

    def draw(self, updates: int, batch_size: int) -> Any:
        return self.model.replay_buffer.draw_minibatches(updates, batch_size)

    def train(self, minibatches: Any) -> None:
        self.train_all([minibatches])

    def train_all(self, drawn: list[Any]) -> None:
        import drivers

        engine, memory, positions = self.model._engine, self.model.replay_buffer, np.stack(drawn)
        rows = (memory.success.words, memory.success.floats, memory.fail.words, memory.fail.floats, memory.success.size)
        arguments = engine.arguments(positions.shape[2], 0)
        drivers.train_many(rows, positions, 0, GAMMA, arguments)
        engine.add_steps(len(positions) * positions.shape[1] if self.adam else 0)


class TorchCompile(Torch):
    """``torch.compile`` around the loss, and around the optimiser's step."""

    name, needs, compiler, packages = "`torch.compile`", "a C++ compiler on the user's machine", True, ("torch",)

    def __init__(self, adam: bool) -> None:
        super().__init__(adam)
        model = self.model
        parameters = list(model.q_net.parameters())
        self.optimizer = optimizer = model.policy.optimizer
        loss_of = F.smooth_l1_loss if adam else F.mse_loss

        def loss(s: th.Tensor, a: th.Tensor, s_next: th.Tensor, r: th.Tensor, discount: th.Tensor) -> th.Tensor:
            with th.no_grad():
                y = r + discount * model.q_net_target.layers(s_next).max(dim=1).values
            return loss_of(model.q_net.layers(s).gather(1, a[:, None])[:, 0], y)

        def step() -> None:
            if adam:
                th.nn.utils.clip_grad_norm_(parameters, MAX_NORM)
            optimizer.step()

        self.loss, self.step = th.compile(loss, dynamic=False), th.compile(step, dynamic=False)

    def draw(self, updates: int, batch_size: int) -> Any:
        return [*zip(*(th.from_numpy(array) for array in draw(self.model, updates, batch_size)), strict=True)]

    def train(self, minibatches: Any) -> None:
        for minibatch in minibatches:
            self.optimizer.zero_grad()
            self.loss(*minibatch).backward()
            self.step()


class Cpp(Engine):
    """Plain loops in C++, ``engines.cpp``, called through ctypes."""

    name, needs, compiler = "C++", "a C++ compiler, or a wheel for each platform", True
    library: ClassVar[ctypes.CDLL]

    def __init__(self, adam: bool) -> None:
        super().__init__(adam)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "engines.so"
            options = ["-O3", "-march=native", "-ffast-math", "-shared", "-fPIC"]
            subprocess.run(["g++", *options, str(HERE / "engines.cpp"), "-o", str(file)], check=True)
            self.function = ctypes.CDLL(str(file)).train
        self.online, self.target = flat_weights(self.model.q_net), flat_weights(self.model.q_net_target)
        self.rest = [np.zeros_like(self.online) for _ in range(3)]  # gradient and moments
        self.done = 0

    def train(self, minibatches: Any) -> None:
        updates, batch_size = minibatches[0].shape
        arrays = [self.online, self.target, *self.rest, *minibatches]
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in arrays]
        self.function(*pointers, updates, batch_size, int(self.adam), self.done)
        self.done += updates

    def weights(self) -> np.ndarray:
        return self.online.copy()


class Jax(Engine):
    """The updates of ``jax_loop.py`` in one scan over all calls, so that a call from Python costs nothing."""

    name, needs, packages = (
        "JAX, one `scan`",
        "`pip install jax`",
        ("jax", "jaxlib", "ml_dtypes", "opt_einsum", "scipy"),
    )

    def __init__(self, adam: bool) -> None:
        super().__init__(adam)
        import jax_loop
        from jax import block_until_ready, jit, lax, tree
        from jax import numpy as jnp

        settings = jax_loop.Settings(0, 0, adam, 0, GAMMA, 0, 0, max_norm=MAX_NORM if adam else None)

        def train(state: Any, target: Any, minibatches: Any) -> Any:
            def one(state: Any, batch: Any) -> Any:
                return jax_loop.update(settings, *state, target, batch), None

            return lax.scan(one, state, minibatches, unroll=5)[0]

        self.function, self.ready, self.array = jit(train, donate_argnums=0), block_until_ready, jnp.array
        self.minibatch = jax_loop.Memory
        weights, self.target = (jax_loop.weights_of(net) for net in (self.model.q_net, self.model.q_net_target))
        moments = (*(tree.map(jnp.zeros_like, weights) for _ in range(2)), jnp.float32(0)) if adam else ()
        self.state = weights, moments

    def train(self, minibatches: Any) -> None:
        self.train_all([minibatches])

    def train_all(self, drawn: list[Any]) -> None:
        s, a, s_next, r, discounts = (np.concatenate(arrays) for arrays in zip(*drawn, strict=True))
        states = (array.astype(np.int32) for array in (s, a, s_next))
        minibatches = self.minibatch(*map(self.array, (*states, r, 1 - discounts / np.float32(GAMMA))))
        self.state = self.ready(self.function(self.state, self.target, minibatches))

    def weights(self) -> np.ndarray:
        weights = (np.asarray(w) for w in self.state[0])
        return np.concatenate([(w.T if i in (1, 4, 7) else w).reshape(-1) for i, w in enumerate(weights)])


ENGINES: tuple[type[Engine], ...] = (Torch, TorchCompile, Cpp, Jax, NumbaFromPython, Numba)


def is_here(engine: type[Engine]) -> bool:
    """Look whether the packages that an engine needs are installed."""
    return (not engine.compiler or shutil.which("g++") is not None) and (engine is not Jax or contestants.has("jax"))


def prepare(engine: type[Engine], work: tuple[int, int, bool]) -> tuple[Engine, float]:
    """
    Make an engine, and compare its first call with PyTorch's.

    :return: The engine, and the seconds until the end of its first call, with all compilation
    :raises RuntimeError: If the weights after the first call are not those of PyTorch
    """
    updates, batch_size, adam = work
    expected = Torch(adam)
    before = expected.weights()
    expected.train(expected.draw(updates, batch_size))
    start = time.perf_counter()
    own = engine(adam)
    own.train(own.draw(updates, batch_size))
    first = time.perf_counter() - start
    exact = expected.weights()
    # Compare the change of the weights: the weights themselves would be nearly equal without any update.
    error = np.abs(own.weights() - exact).max() / np.abs(exact).max()
    changed = np.linalg.norm(own.weights() - exact) / np.linalg.norm(exact - before)
    if not (error <= TOLERANCE and changed <= 1e-2):
        raise RuntimeError(f"{engine.name}, {work}: weights differ by {error:.1e}, their change by {changed:.1e}")
    return own, first


def first_call(engine: type[Engine]) -> float:
    """Measure the seconds until the end of the first calls, in a process that has compiled nothing yet."""
    with tempfile.TemporaryDirectory() as folder:
        caches = {"NUMBA_CACHE_DIR": folder, "TORCHINDUCTOR_CACHE_DIR": folder}
        command = [sys.executable, __file__, "--first-call", engine.__name__]
        done = subprocess.run(command, env={**os.environ, **caches}, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{engine.name} failed:\n{done.stderr}")
    return float(json.loads(done.stdout.splitlines()[-1]))


def megabytes(engine: type[Engine]) -> float:
    """Return the disk space that an engine needs besides PyTorch, by Python's and Debian's records."""
    size = 0
    for package in set(engine.packages) - {"torch"}:
        for file in metadata.files(package) or []:
            path = Path(str(file.locate()))
            size += path.stat().st_size if path.exists() else 0
    if engine.compiler and shutil.which("dpkg-query"):
        said = subprocess.run(
            ["dpkg-query", "-W", "-f", "${Package} ${Installed-Size}\n"], capture_output=True, text=True, check=True
        ).stdout
        parts = ("g++", "gcc", "cpp", "libgcc-", "libstdc++-", "binutils", "libc6-dev", "linux-libc-dev")
        size += sum(1024 * int(line.split()[1]) for line in said.splitlines() if line.startswith(parts))
    return size / 1e6


def markdown(args: argparse.Namespace) -> str:
    """Measure, and return the table and the description of the machine."""
    machine = describe_machine("engines.py")
    engines = [engine for engine in ENGINES if is_here(engine)]
    first = interleave(Plan(args.first_calls), "first calls", {e.name: lambda _, e=e: first_call(e) for e in engines})
    columns: list[dict[str, list[float]]] = []
    for work, calls in ((LECTURE, 200), (MINIBATCH, 100)):
        ready = {engine.name: prepare(engine, work)[0] for engine in engines}
        for own in ready.values():  # JAX compiles for this number of calls
            own.train_all([own.draw(*work[:2]) for _ in range(calls)])

        def timed(own: Engine, work: tuple[int, int, bool] = work, calls: int = calls) -> float:
            own.train_all([own.draw(*work[:2]) for _ in range(10)])
            drawn = [own.draw(*work[:2]) for _ in range(calls)]
            start = time.process_time()
            own.train_all(drawn)
            return (time.process_time() - start) / calls * 1e6

        measures = {name: lambda _, own=own: timed(own) for name, own in ready.items()}
        columns.append(interleave(Plan(args.repeats), "updates", measures))
    rows = [
        [
            engine.name,
            *(
                f"{number(statistics.median(c[engine.name]))} ({number(min(c[engine.name]))} – "
                f"{number(max(c[engine.name]))})"
                for c in columns
            ),
            f"{number(statistics.median(first[engine.name]))} s",
            engine.needs,
            f"{megabytes(engine):.0f} MB" if engine is not Torch else "",
        ]
        for engine in engines
    ]
    header = ["engine", "lecture's 5 updates, µs", "Adam + Huber, batch 256, µs", "first call of both", "needs", "disk"]
    table = [f"| {' | '.join(cells)} |" for cells in [header, ["---"] * len(header), *rows]]
    compiler = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True).stdout.strip()
    return "\n".join(
        [
            f"{sentence(machine)} The compiler was g++ {compiler}. The engines took turns, "
            f"{args.repeats} times each; medians, and the range, in microseconds of the processor. Eager PyTorch, and "
            "numba called from Python, are whole calls of `LectureDQN.train`, with the drawing of the minibatches; the "
            "others get theirs ready-made. JAX computes all calls in one jitted scan, as numba does in the compiled "
            "loop. The first call, in seconds that passed, "
            "is that of a new process without any cache, with the import of the engine but for PyTorch "
            f"({args.first_calls} time each). All weights were those of PyTorch after the first call of either work, "
            f"within {TOLERANCE:.0e} of the largest.",
            "",
            *table,
            "",
        ]
    )


def main() -> None:
    """Print and save the table."""
    parser = argparse.ArgumentParser(description="What the same updates cost on other engines.")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of every measurement (default: 5)")
    parser.add_argument("--first-calls", type=int, default=1, help="repeats of the first calls (default: 1)")
    parser.add_argument("--first-call", help=argparse.SUPPRESS)
    args = parser.parse_args()
    use_one_core()
    th.set_num_threads(1)
    if args.first_call:
        engine: type[Engine] = globals()[args.first_call]
        print(json.dumps(sum(prepare(engine, work)[1] for work in (LECTURE, MINIBATCH))))
        return
    text = markdown(args)
    print(text)
    (HERE / "results" / "engines.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
