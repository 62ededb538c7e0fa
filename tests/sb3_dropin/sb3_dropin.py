"""
A pytest plugin that puts ``LectureDQN`` in the place of SB3's ``DQN``, and ``LectureQRDQN`` in that of sb3-contrib's
``QRDQN``, to run their own tests against ours.

They come with the source distributions. From the folder that was unpacked there, of SB3 or of sb3-contrib::

    PYTHONPATH=<this folder> python -m pytest -p sb3_dropin tests -k "DQN or dqn" --sb3-defaults

``--sb3-defaults`` restores the values of their constructors' defaults; without it the lecture's are tested.
"""

import inspect

import pytest
import sb3_contrib
import sb3_contrib.qrdqn
import sb3_contrib.qrdqn.qrdqn
import stable_baselines3
import stable_baselines3.dqn
import stable_baselines3.dqn.dqn
from sb3_contrib.qrdqn.qrdqn import QRDQN
from stable_baselines3.dqn.dqn import DQN

from sb3_lecture_dqn import LectureDQN, LectureQRDQN

# What theirs do without a keyword for it: epsilon by timesteps, the limit that an id registers
WITHOUT_KEYWORD = {"exploration_decay": None, "max_episode_steps": None}


def with_defaults_of(original, ours, **more):
    """Our algorithm with the values of the original's constructor defaults."""
    parameters = inspect.signature(original.__init__).parameters
    defaults = {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}
    defaults |= WITHOUT_KEYWORD | more

    class WithDefaults(ours):
        def __init__(self, *args, **kwargs):
            positional = list(parameters)[1 : len(args) + 1]
            super().__init__(*args, **{k: v for k, v in defaults.items() if k not in positional} | kwargs)

    WithDefaults.__name__ = WithDefaults.__qualname__ = f"SB3Defaults{ours.__name__}"  # by which -k chooses tests
    return WithDefaults


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sb3-defaults", action="store_true", help="restore the values of their constructors' defaults")


def pytest_configure(config: pytest.Config) -> None:
    dqn, qrdqn = LectureDQN, LectureQRDQN
    if config.getoption("--sb3-defaults"):
        dqn, qrdqn = with_defaults_of(DQN, dqn, loss="huber"), with_defaults_of(QRDQN, qrdqn)
    for module in (stable_baselines3, stable_baselines3.dqn, stable_baselines3.dqn.dqn):
        module.DQN = dqn
    for module in (sb3_contrib, sb3_contrib.qrdqn, sb3_contrib.qrdqn.qrdqn):
        module.QRDQN = qrdqn
