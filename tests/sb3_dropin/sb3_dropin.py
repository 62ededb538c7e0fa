"""
A pytest plugin that puts ``LectureDQN`` in the place of SB3's ``DQN``, and ``LectureQRDQN`` in that of sb3-contrib's
``QRDQN``, to run their own tests against ours.

They come with the source distributions; ``make sb3-tests`` downloads and runs them. By hand, from
the folder that was unpacked there, of SB3 or of sb3-contrib::

    PYTHONPATH=<this folder> python -m pytest -p sb3_dropin tests -k "DQN or dqn" --sb3-defaults

``--sb3-defaults`` puts ``with_sb3_defaults`` in their place; without it the lecture's defaults are tested.
"""

import inspect
from collections import Counter

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
from sb3_lecture_dqn.engine.compiled import CompiledEngine
from sb3_lecture_dqn.engine.torch_engine import TorchEngine
from sb3_lecture_dqn.training.compiled_loop import CompiledLoop


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


# Which engines trained in how many tests


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    seen = set()
    patched = {CompiledEngine: ("train",), CompiledLoop: ("go_on",), TorchEngine: ("update",)}
    originals = [(cls, name, getattr(cls, name)) for cls, names in patched.items() for name in names]
    for cls, name, original in originals:
        word = "PyTorch" if cls is TorchEngine else "the compiled engine"
        setattr(cls, name, noting(original, seen, word))
    try:
        return (yield)
    finally:
        for cls, name, original in originals:
            setattr(cls, name, original)
        item.user_properties += [("trained by", word) for word in sorted(seen)]


def noting(method, seen, word):
    """A method that notes that it was called."""

    def noted(*args, **kwargs):
        seen.add(word)
        return method(*args, **kwargs)

    return noted


def pytest_terminal_summary(terminalreporter):
    passed = terminalreporter.stats.get("passed", [])
    counts = Counter(word for report in passed for name, word in report.user_properties if name == "trained by")
    for word, n in counts.items():
        terminalreporter.write_line(f"{word} trained in {n} of {len(passed)} tests that passed")
