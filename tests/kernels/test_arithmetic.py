"""The bits that the kernels compute: a run that is resumed must go on with those with which it began."""

import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("numba")

from sb3_lecture_dqn.engine.compiled import room_for_one, work_arrays
from sb3_lecture_dqn.kernels import compiling, networks, updates
from sb3_lecture_dqn.kernels.kinds import (
    ACTION_IN,
    ADAM,
    ARITHMETIC,
    EMBEDDED,
    HUBER,
    LINEAR,
    MSE,
    PRELU,
    SGD,
    STATE_IN,
)

#: Of :data:`ARITHMETIC`, with fused multiply-add and without: see :func:`checksum`
KNOWN = {
    (2, True): "c6e3907290c51d94dc324a3eb3a549e438d6d54e97d0be457ea0ce0cedc9c522",
    (2, False): "3225c030c42cad94100c81306eaf373f978cbf37d451066595c6a7c96a8c3e95",
}
N_STATES, N_ACTIONS = 9, 5


def net_of(kind, width, hidden):
    """:return: The description of a network, and the number of its weights."""
    at = (N_STATES + (N_ACTIONS if kind == ACTION_IN else 0)) * width
    n_in, layers = width * (2 if kind == ACTION_IN else 1), []
    sizes = [*hidden, 1 if kind == ACTION_IN else N_ACTIONS]
    for i, n_out in enumerate(sizes):
        slope = at + n_out * n_in + n_out if i < len(sizes) - 1 else -1
        layers += [n_out, n_in, at, at + n_out * n_in, LINEAR if slope < 0 else PRELU, slope]
        at, n_in = at + n_out * n_in + n_out + (slope >= 0), n_out
    stride = (max(sizes) + 7) & ~7
    action_row, part = N_STATES if kind == ACTION_IN else -1, [EMBEDDED, 0, N_STATES, 0, 0]
    header = [kind, N_STATES, N_ACTIONS, 1, action_row, width, len(sizes), stride, 1, 10 + len(layers)]
    return np.array([*header, *layers, *part]), at


def checksum():
    """:return: The checksum of networks after updates of many kinds, from numbers that any machine makes alike."""
    digest = hashlib.sha256()
    for kind, width, hidden, batch_size, optimizer, loss, double_q in [
        (STATE_IN, 12, (16, 7), 1, (SGD, 0.01, 0.0, 0.0, 0.0, 0.0), MSE, False),
        (STATE_IN, 13, (9, 11), 5, (ADAM, 0.01, 0.9, 0.999, 1e-8, 0.0), HUBER, True),
        (ACTION_IN, 3, (8, 17), 18, (SGD, 0.01, 0.9, 0.0, 0.0, 0.0), MSE, False),
    ]:
        rng = np.random.default_rng(0)
        net, n = net_of(kind, width, hidden)
        online, target = ((rng.random(n) - 0.5).astype(np.float32) for _ in range(2))
        words = np.zeros((40, 4), np.int64)
        words[:, :2], words[:, 2] = rng.integers(N_STATES, size=(40, 2)), rng.integers(N_ACTIONS, size=40)
        floats = words.view(np.float32)
        floats[:, 6], floats[:, 7] = rng.random(40), rng.random(40) < 0.2
        plain = optimizer[0] == SGD and batch_size == 1
        batch, work = (None, None) if plain else work_arrays(net, batch_size, 0)
        others = [np.zeros(n, np.float32) for _ in range(3)]
        total, done = updates.train(
            words, floats, words, floats, 40, rng.integers(40, size=(30, batch_size)), 0, 0.9,
            (online, target, *others), net, np.arange(N_STATES + 1), np.zeros(N_STATES * N_ACTIONS, np.float32),
            batch, loss, double_q, optimizer, np.inf if plain else 1.0, np.zeros(1, np.float32), work,
            True if plain else None, np.zeros((6, room_for_one(net)), np.float32),
        )  # fmt: skip
        assert done == 30
        updates.copy_target(online, target, 0.3)
        actions = np.zeros(N_STATES, np.int64)
        one = np.zeros((6, room_for_one(net)), np.float32)
        states, nothing = np.arange(N_STATES)[:, None], np.zeros((N_STATES, 0), np.int64)
        networks.greedy_actions(online, net, states, nothing.astype(np.float32), nothing, one, actions)
        for result in (np.array(total), online, target, *others, actions):
            digest.update(result.tobytes())
    return digest.hexdigest()


def test_the_bits_are_those_of_the_arithmetics_number():
    """If they are other bits by intention, raise `kernels.kinds.ARITHMETIC`, and put the new checksums above."""
    assert checksum() == KNOWN[ARITHMETIC, compiling.fuses()]


@pytest.mark.slow
def test_the_bits_are_known_for_a_processor_without_fused_multiply_add(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import *; print(checksum(), compiling.fuses())"],
        cwd=pathlib.Path(__file__).parent.parent.parent,
        env={**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [KNOWN[ARITHMETIC, False], "False"], done.stderr
