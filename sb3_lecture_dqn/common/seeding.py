"""Independent generators from one seed: every part of a run has its own, and none reads NumPy's global generator."""

import random
import struct
import sys
from typing import Any, Literal, get_args

import numpy as np
import torch as th

from sb3_lecture_dqn.common.checks import check_number

Stream = Literal["exploration", "memory", "test", "tensorboard"]
_STREAMS = get_args(Stream)


def draw_indices(rng: np.random.Generator, low: int, high: int, shape: int | tuple[int, ...]) -> np.ndarray:
    """
    Draw integers uniformly, from one double each: for few integers several times faster than ``rng.integers``.

    :param rng: The generator
    :param low: Lowest integer
    :param high: The integer above the highest; ``high - low`` must be far below 2**53, so that all are equally likely
    :param shape: Shape of the result
    :return: int64 of that shape
    """
    if shape == 1:  # a fast path for the usual case
        return np.array([low + int(rng.random() * (high - low))], np.int64)
    drawn = (rng.random(shape) * (high - low)).astype(np.int64)
    return low + drawn if low else drawn


def make_rng(seed: int | None, stream: Stream) -> np.random.Generator:
    """
    Make the generator of one part of a run.

    Its draws are independent of the other parts' draws, and of an environment with the same seed.

    :param seed: The run's seed; ``None`` for a seed from the operating system
    :param stream: The part
    :return: A new generator
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAMS.index(stream),)))


# Generators whose state a file may set. NumPy and PyTorch do not check the position in a state: with a position beyond
# its words, a file could make them read other memory of the process.

_BIT_GENERATORS = (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)
_MT19937_WORDS = 624
_PHILOX_NUMBERS = 4
# The state of PyTorch's generator on the CPU. Head: the seed, the number of words left, whether it is seeded, the next
# word. Tail, after the words: three numbers of the normal distribution, whether there is one, and a float32 one.
_TORCH_HEAD, _TORCH_TAIL = struct.Struct("<QiiQ"), struct.Struct("<dddixxxxfi")
_TORCH_BYTES = _TORCH_HEAD.size + 8 * _MT19937_WORDS + _TORCH_TAIL.size


def generator_state(generator: Any) -> dict[str, Any] | None:
    """
    Return the state of a generator of NumPy's.

    :param generator: Any object
    :return: Its state as data, for :func:`set_generator_state`; ``None`` for a generator of another kind
    """
    bits: Any = getattr(generator, "bit_generator", None)
    return dict(bits.state) if type(bits) in _BIT_GENERATORS else None


def set_generator_state(generator: Any, state: Any) -> None:
    """
    Set the state of a generator, which may come from a file.

    :param generator: A ``numpy.random.Generator``
    :param state: The result of :func:`generator_state` for a generator of the same kind
    :raises ValueError: If it is not the state of such a generator
    """
    bits: Any = getattr(generator, "bit_generator", None)
    if type(bits) not in _BIT_GENERATORS:
        raise ValueError(f"{generator!r} is not a generator whose state can be set")
    try:
        _check_bits(type(bits).__name__, state)
        bits.state = state
    except (LookupError, TypeError, OverflowError) as error:
        raise ValueError(f"not the state of a {type(bits).__name__}: {error!r}") from error


def new_generator(state: Any) -> np.random.Generator:
    """
    Make a generator of the kind that a state belongs to.

    :param state: The result of :func:`generator_state`
    :return: A new generator, whose state :func:`set_generator_state` can set
    :raises ValueError: If the kind is not known
    """
    kinds = {kind.__name__: kind for kind in _BIT_GENERATORS}
    name = state.get("bit_generator") if isinstance(state, dict) else None
    if name not in kinds:
        raise ValueError(f"not the state of a generator: {str(state)[:100]}")
    return np.random.Generator(kinds[name]())


def _check_bits(kind: str, state: Any) -> None:
    if not isinstance(state, dict) or state.get("bit_generator") != kind:
        raise ValueError(f"not the state of a {kind}: {str(state)[:100]}")
    if not isinstance(state["state"], dict):
        raise ValueError(f"not the state of a {kind}: its state is {str(state['state'])[:100]}")
    if kind == "MT19937":
        check_number("position in MT19937", state["state"]["pos"], 0, _MT19937_WORDS, integer=True)
    elif kind == "Philox":
        check_number("position in Philox", state["buffer_pos"], 1, _PHILOX_NUMBERS, integer=True)
    for name, numbers in state["state"].items():
        if np.any(np.asarray(numbers) < 0):  # NumPy 1 would take them for other numbers
            raise ValueError(f"not the state of a {kind}: {name} has numbers below 0")


def _check_torch(state: Any) -> None:
    """Check that PyTorch stays within the words of its generator, and that its numbers are finite."""
    fits = isinstance(state, np.ndarray) and state.dtype == np.uint8 and state.shape == (_TORCH_BYTES,)
    if not fits:
        raise ValueError(f"the state of PyTorch's generator must be uint8 of shape ({_TORCH_BYTES},)")
    content = state.tobytes()
    _, left, seeded, position = _TORCH_HEAD.unpack_from(content)
    *normal, has_normal, single, has_single = _TORCH_TAIL.unpack_from(content, len(content) - _TORCH_TAIL.size)
    # It draws all words left but one, then makes new ones.
    check_number("position in PyTorch's generator", position, 0, _MT19937_WORDS, integer=True)
    check_number("numbers left in PyTorch's generator", left, 1, _MT19937_WORDS + 1 - position, integer=True)
    for flag in (seeded, has_normal, has_single & 0xFF):
        check_number("a switch in PyTorch's generator", flag, 0, 1, integer=True)
    for number in (*normal, single):
        _check_number("second number of PyTorch's generator", number)


def _check_number(name: str, number: Any) -> None:
    check_number(name, number, -sys.float_info.max, sys.float_info.max)


def global_generators() -> dict[str, Any]:
    """
    Return the states of the global generators of Python, NumPy and PyTorch, which SB3's memories and dropout use.

    :return: The states by name
    """
    version, python_words, gauss = random.getstate()
    state: dict[str, Any] = {
        "python": {"version": version, "words": np.array(python_words, np.uint32), "gauss": gauss},
        "numpy": np.random.get_state(legacy=False),  # noqa: NPY002
        "torch": th.get_rng_state().numpy(),
    }
    if th.cuda.is_available():
        state["cuda"] = [device.cpu().numpy() for device in th.cuda.get_rng_state_all()]
    return state


def set_global_generators(state: dict[str, Any]) -> None:
    """
    Set the states of the global generators.

    :param state: The result of :func:`global_generators`
    :raises ValueError: If it is not a state of these generators
    """
    python, numpy = state["python"], state["numpy"]
    _check_bits(type(np.random.get_bit_generator()).__name__, numpy)  # type: ignore[attr-defined] # NumPy has no type
    _check_number("second number of NumPy's generator", numpy["gauss"])
    if python["gauss"] is not None:
        _check_number("second number of Python's generator", python["gauss"])
    _check_torch(state["torch"])
    random.setstate((python["version"], tuple(python["words"].tolist()), python["gauss"]))
    np.random.set_state(numpy)  # noqa: NPY002
    th.set_rng_state(th.from_numpy(state["torch"]))
    devices: list[np.ndarray] = state.get("cuda", [])
    if devices and th.cuda.is_available() and len(devices) == th.cuda.device_count():
        th.cuda.set_rng_state_all([th.from_numpy(device) for device in devices])
