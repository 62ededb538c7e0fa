"""One seed, many independent generators: every stateful part owns its own, and nothing reads NumPy's global one."""

import math
import random
from typing import Any, Literal, get_args

import numpy as np
import torch as th

from sb3_lecture_dqn.common.checks import check_number

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


def global_generators() -> dict[str, Any]:
    """
    The generators that belong to nobody: Python's, NumPy's and PyTorch's, from which memories of SB3 and dropout draw.

    :return: Their states
    """
    name, words, *rest = np.random.get_state()  # noqa: NPY002
    version, python_words, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": {"version": version, "words": np.array(python_words, np.uint32), "gauss": gauss},
        "numpy": {"name": name, "words": words, "rest": list(rest)},
        "torch": th.get_rng_state().numpy(),
    }
    if th.cuda.is_available():
        state["cuda"] = [device.cpu().numpy() for device in th.cuda.get_rng_state_all()]
    return state


def set_global_generators(state: dict[str, Any]) -> None:
    """
    The inverse of :func:`global_generators`.

    :param state: What that returned
    :raises ValueError: If it is none of these generators
    """
    python, numpy = state["python"], state["numpy"]
    position, has_gauss, gauss = numpy["rest"]
    # NumPy reads at the position that it is given, even if this is beyond its 624 words.
    check_number("position in NumPy's generator", position, 0, 624, integer=True)
    check_number("second number of NumPy's generator", gauss, -math.inf)
    if python["gauss"] is not None:
        check_number("second number of Python's generator", python["gauss"], -math.inf)
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    np.random.set_state((numpy["name"], numpy["words"], position, has_gauss, gauss))  # noqa: NPY002
    th.set_rng_state(th.from_numpy(state["torch"]))
    devices: list[np.ndarray] = state.get("cuda", [])
    if devices and th.cuda.is_available() and len(devices) == th.cuda.device_count():
        th.cuda.set_rng_state_all([th.from_numpy(device) for device in devices])
