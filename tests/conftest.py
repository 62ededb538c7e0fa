"""Settings of the whole suite."""

import gc
import multiprocessing
import os
import signal

import pytest
import torch as th
from filelock import FileLock
from hypothesis import Phase, settings

from sb3_lecture_dqn import LectureDQN

# What a shell starts in the background ignores Ctrl-C, and so would all programs that tests start to interrupt them.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The networks here are small: more threads would only cost, and would fight with pytest-xdist's processes.
th.set_num_threads(1)

# Processes of environments are forked from one that has imported these, in place of importing them each.
multiprocessing.set_forkserver_preload(["gymnasium", "stable_baselines3", "torch", "sb3_lecture_dqn.public"])

# The same examples in every run, so that a failure appears everywhere. HYPOTHESIS_PROFILE=search looks for new ones;
# with HYPOTHESIS_PROFILE=mutants a failure is enough, and no simpler one is looked for.
settings.register_profile("ci", derandomize=True, deadline=None, database=None)
settings.register_profile("search", deadline=None, max_examples=1000)
phases = (Phase.explicit, Phase.reuse, Phase.generate)
settings.register_profile("mutants", derandomize=True, deadline=None, database=None, phases=phases)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session", autouse=True)
def _sb3_makes_no_folders_elsewhere(tmp_path_factory):
    """SB3's logger makes a folder for every run, also if it writes nothing: thousands in the system's one."""
    os.environ["SB3_LOGDIR"] = str(tmp_path_factory.mktemp("logs"))


@pytest.fixture(scope="session", autouse=True)
def _kernels_are_compiled_once(_sb3_makes_no_folders_elsewhere, tmp_path_factory):
    """Have pytest-xdist's processes compile the kernels once; the others read them from numba's cache."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        # Each has kernels of its own; without numba, this takes no time. The last takes as long as the other three.
        cases = [("FrozenLake-v1", 1), ("CartPole-v1", 1), ("CartPole-v1", 2), ("FrozenLake-v1", 2)]
        if os.environ["PYTEST_XDIST_WORKER"] != "gw0":
            cases.reverse()  # so that two processes compile at once
        for env, batch_size in cases:
            with FileLock(tmp_path_factory.getbasetemp().parent / f"kernels_{env}_{batch_size}.lock"):
                LectureDQN(env, batch_size=batch_size, seed=0).learn(10)


def pytest_collection_finish():
    """Spare Python's collector the hundreds of thousands of objects that imports have made: it finds nothing there."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)  # a collection in place of dozens


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """
    Give each of pytest-xdist's processes neighbouring tests, and let one that has none left take from the others.

    By default it deals the tests out in turn, so that each process makes what the tests of a file share.
    """
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log)
