"""One seed, many independent generators: every stateful part owns its own, and nothing reads NumPy's global one."""

from typing import Literal

import numpy as np

_STREAMS = ("exploration", "memory", "test")


def make_rng(seed: int | None, stream: Literal["exploration", "memory", "test"]) -> np.random.Generator:
    """
    The generator of one part of a run.

    It shares no draws with those of the other parts, nor with an environment that was given the same seed.

    :param seed: The run's seed; ``None`` for one from the operating system.
    :param stream: The part.
    :return: A generator at its start.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAMS.index(stream),)))
