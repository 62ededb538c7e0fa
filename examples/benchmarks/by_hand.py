"""The lecture's updates in C by hand, for AVX2 (``updates_avx2.c``): the limit for the compiled kernels."""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from measure import HERE

OPTIONS = ("-O3", "-mavx2", "-mfma", "-shared", "-fPIC")


class UpdatesByHand:
    """
    Plain SGD on single transitions, five at a time.

    :param online: The network's parameters in PyTorch's order, changed in place
    :param target: Those of the target network
    :param memory: Rows of the replay memory, int64 of shape (n, 4)
    :param gamma: Discount factor
    :param learning_rate: Learning rate
    """

    def __init__(
        self, online: np.ndarray, target: np.ndarray, memory: np.ndarray, gamma: float, learning_rate: float
    ) -> None:
        self.function = _compiled().train
        self.kept, self.known = np.zeros(500, np.float32), np.zeros(500, np.uint8)
        self.arrays = online, target, self.kept, self.known, memory
        self.numbers = ctypes.c_float(gamma), ctypes.c_float(learning_rate)

    def train(self, positions: np.ndarray) -> None:
        """Make five updates for each row of positions, int64 of shape (n, 5)."""
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*self.arrays, positions)]
        self.function(*pointers, ctypes.c_int64(len(positions)), *self.numbers)


def why_not_by_hand() -> str:
    """Return what is missing for the C, an empty text if nothing is."""
    if shutil.which("gcc") is None:
        return "gcc is not installed"
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text().split() if cpuinfo.exists() else []
    return "" if {"avx2", "fma"} <= set(flags) else "the processor has no AVX2"


def _compiled() -> ctypes.CDLL:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "updates.so"
        subprocess.run(["gcc", *OPTIONS, str(HERE / "updates_avx2.c"), "-o", str(file)], check=True)
        return ctypes.CDLL(str(file))
