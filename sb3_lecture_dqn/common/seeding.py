"""One seed, many independent generators: every stateful part owns its own, and nothing reads NumPy's global one."""

from typing import Literal, get_args

import numpy as np

Stream = Literal["exploration", "memory", "test", "tensorboard"]
_STREAMS = get_args(Stream)


def draw_indices(rng: np.random.Generator, low: int, high: int, shape: int | tuple[int, ...]) -> np.ndarray:
    """
    Draw integers uniformly, by one double each: several times faster for a few of them than ``rng.integers``.

    :param rng: The generator.
    :param low: Lowest integer.
    :param high: One above the highest; ``high - low`` is far below 2**53, so that all are equally likely.
    :param shape: How many.
    :return: int64 of that shape.
    """
    if shape == 1:  # nearly all of training
        return np.array([low + int(rng.random() * (high - low))], np.int64)
    drawn = (rng.random(shape) * (high - low)).astype(np.int64)
    return low + drawn if low else drawn


def make_rng(seed: int | None, stream: Stream) -> np.random.Generator:
    """
    The generator of one part of a run.

    It shares no draws with those of the other parts, nor with an environment that was given the same seed.

    :param seed: The run's seed; ``None`` for one from the operating system.
    :param stream: The part.
    :return: A generator at its start.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAMS.index(stream),)))
