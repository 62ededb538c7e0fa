"""
A pytest plugin that puts ``LectureDQN`` in the place of SB3's ``DQN``, and ``LectureQRDQN`` in that of sb3-contrib's
``QRDQN``, to run their own tests against ours.

They come with the source distributions (``pip download --no-deps --no-binary :all: stable_baselines3 sb3_contrib``).
From the folder that was unpacked there, of SB3 or of sb3-contrib::

    PYTHONPATH=<this folder> python -m pytest -p sb3_dropin tests -k "DQN or dqn" --sb3-defaults

``--sb3-defaults`` puts ``with_sb3_defaults`` in their place; without it the lecture's defaults are tested.
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


def with_defaults_of(original, ours):
    """A class that makes what ``with_sb3_defaults`` makes, and takes arguments by position too, as the original."""
    names = list(inspect.signature(original.__init__).parameters)[1:]

    class WithDefaults(ours):
        def __init__(self, *args, **kwargs):
            given = dict(zip(names, args, strict=False)) | kwargs
            self.__dict__.update(ours.with_sb3_defaults(**given).__dict__)
            if hasattr(self, "policy"):
                self._make_engine()  # for this object

    WithDefaults.__name__ = WithDefaults.__qualname__ = f"SB3Defaults{ours.__name__}"  # by which -k chooses tests
    return WithDefaults


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sb3-defaults", action="store_true", help="restore the values of their constructors' defaults")


def pytest_configure(config: pytest.Config) -> None:
    dqn, qrdqn = LectureDQN, LectureQRDQN
    if config.getoption("--sb3-defaults"):
        dqn, qrdqn = with_defaults_of(DQN, dqn), with_defaults_of(QRDQN, qrdqn)
    for module in (stable_baselines3, stable_baselines3.dqn, stable_baselines3.dqn.dqn):
        module.DQN = dqn
    for module in (sb3_contrib, sb3_contrib.qrdqn, sb3_contrib.qrdqn.qrdqn):
        module.QRDQN = qrdqn
