"""Importing the package imports nothing heavy, and its names, rooms and environment ids are there all the same."""

import subprocess
import sys

import pytest

import sb3_lecture_dqn


def run(code):
    """Run Python in a process of its own. Return what it printed."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_package_imports_nothing_heavy():
    heavy = "{'numpy', 'gymnasium', 'torch', 'stable_baselines3', 'sb3_contrib', 'matplotlib'}"
    assert run(f"import sys, sb3_lecture_dqn; print(sorted({heavy} & sys.modules.keys()))") == "[]\n"


@pytest.mark.parametrize(
    "imports",
    [
        "import sb3_lecture_dqn, gymnasium as gym",
        "import gymnasium as gym, sb3_lecture_dqn",
        "import sb3_lecture_dqn, importlib.util; importlib.util.find_spec('gymnasium'); import gymnasium as gym",
        "import sb3_lecture_dqn, gymnasium.spaces; import gymnasium as gym",
        "import sb3_lecture_dqn, sys; from gymnasium.envs import registration; gym = sys.modules['gymnasium']",
        "from sb3_lecture_dqn.commands import test; import gymnasium as gym",
    ],
)
def test_the_ids_are_registered_whatever_is_imported_first(imports):
    code = f"""
{imports}
for env_id in ("Taxi-v3", "TaxiRainy-v3", "FrozenLakeNotSlippery-v1", "sb3_lecture_dqn:FrozenLake8x8NotSlippery-v1"):
    gym.make(env_id).close()
import importlib.resources, sys
assert importlib.resources.files("gymnasium").is_dir()
print([type(finder).__name__ for finder in sys.meta_path if type(finder).__module__.startswith("sb3")])
print("torch" in sys.modules)
"""
    assert run(code) == "[]\nFalse\n"


def test_a_module_named_by_an_id_registers_the_ids():
    code = "import gymnasium as gym; print(gym.make('sb3_lecture_dqn:TaxiRainy-v3').spec.id)"
    assert run(code) == "TaxiRainy-v3\n"


def test_an_id_of_another_package_is_kept():
    code = """
import gymnasium as gym
gym.register("TaxiRainy-v3", entry_point="their:Taxi")
import sb3_lecture_dqn
print(gym.spec("TaxiRainy-v3").entry_point)
"""
    assert run(code) == "their:Taxi\n"


def test_rooms_and_names_are_imported_when_they_are_used():
    code = """
import sb3_lecture_dqn, pickle
print(sb3_lecture_dqn.training.due.Due.__name__, sb3_lecture_dqn.show.tensorboard.__name__)
assert "LectureDQN" in dir(sb3_lecture_dqn)
names = dict(vars(sb3_lecture_dqn))
from sb3_lecture_dqn import *
missing = [name for name in sb3_lecture_dqn.__all__ if name not in globals()]
print(missing, LectureDQN is sb3_lecture_dqn.lecture_dqn.lecture_dqn.LectureDQN, LectureDQN.__module__)
print(pickle.loads(pickle.dumps(sb3_lecture_dqn.SuccessFailReplayBuffer)).__name__)
"""
    assert run(code).splitlines() == [
        "Due sb3_lecture_dqn.show.tensorboard",
        "[] True sb3_lecture_dqn.lecture_dqn.lecture_dqn",
        "SuccessFailReplayBuffer",
    ]


def test_a_pickle_that_names_a_class_needs_no_import():
    code = """
import pickle
print(pickle.loads(b"csb3_lecture_dqn.common.buffers\\nSuccessFailReplayBuffer\\n.").__name__)
print(pickle.loads(b"csb3_lecture_dqn\\nLectureDQN\\n.").__name__)
"""
    assert run(code) == "SuccessFailReplayBuffer\nLectureDQN\n"


def test_a_name_that_the_package_lacks_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'sb3_lecture_dqn' has no attribute 'LectureDNQ'"):
        sb3_lecture_dqn.LectureDNQ  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'LectureDNQ'"):
        from sb3_lecture_dqn import LectureDNQ  # noqa: F401
    assert not hasattr(sb3_lecture_dqn, "__wrapped__")
