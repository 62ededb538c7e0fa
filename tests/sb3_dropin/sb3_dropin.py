"""
A pytest plugin that puts ``LectureDQN`` in the place of SB3's ``DQN``, to run SB3's own tests against it.

They come with SB3's source distribution. From the folder that was unpacked there::

    PYTHONPATH=<this folder> python -m pytest -p sb3_dropin tests -k "DQN or dqn" --sb3-defaults

``--sb3-defaults`` restores the values of SB3's constructor defaults; without it the lecture's are tested.
"""

import inspect

import pytest
import stable_baselines3
import stable_baselines3.dqn
import stable_baselines3.dqn.dqn
from stable_baselines3.dqn.dqn import DQN

from sb3_lecture_dqn import LectureDQN

SB3_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(DQN.__init__).parameters.items()
    if parameter.default is not inspect.Parameter.empty
}
SB3_DEFAULTS["exploration_decay"] = None  # epsilon by timesteps
SB3_DEFAULTS["loss"] = "huber"
SB3_DEFAULTS["max_episode_steps"] = None  # the limit that the id registers
SB3_DEFAULTS["replay_buffer_class"] = None


class SB3DefaultsDQN(LectureDQN):
    """LectureDQN with the values of SB3's constructor defaults."""

    def __init__(self, *args, **kwargs):
        positional = list(inspect.signature(DQN.__init__).parameters)[1 : len(args) + 1]
        super().__init__(*args, **{k: v for k, v in SB3_DEFAULTS.items() if k not in positional} | kwargs)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--sb3-defaults", action="store_true", help="restore the values of SB3's constructor defaults")


def pytest_configure(config: pytest.Config) -> None:
    stand_in = SB3DefaultsDQN if config.getoption("--sb3-defaults") else LectureDQN
    for module in (stable_baselines3, stable_baselines3.dqn, stable_baselines3.dqn.dqn):
        module.DQN = stand_in
