"""Real full disks: a small file system in memory where mounting is permitted, and a limit on the length of files."""

import contextlib
import os
import subprocess

import pytest
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN
from tests.saving.helpers import files_of_at_most


def make_model(**settings):
    return LectureDQN("FrozenLake-v1", seed=0, device="cpu", policy_kwargs={"hidden_dim": 8}, **settings)


def state_of(model):
    memory, counts = model.replay_buffer.get_state(), (model.num_timesteps, model._episode_num)
    return str((model.get_parameters(), memory, model.exploration_rng.bit_generator.state, counts))


class FullFrom(BaseCallback):
    """Fills the disk of a folder at one step, but for some bytes."""

    def __init__(self, folder, at, left=0):
        super().__init__()
        self.folder, self.at, self.left = folder, at, left

    def _on_step(self):
        if self.num_timesteps == self.at:
            fill(self.folder, self.left)
        return True


def fill(folder, left=0):
    with (folder / "filler").open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    os.truncate(folder / "filler", max(0, (folder / "filler").stat().st_size - left))


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB, mounted for this test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no file system could be mounted, which needs root: {mounted.stderr}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


# TensorBoard writes in a thread, of which Python itself says that it failed.
thread_says_it_too = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize("left", [0, 4096, 16384])
def test_a_checkpoint_that_does_not_fit_is_warned_of_and_the_last_one_resumes(left, small_disk):
    whole = make_model().learn(total_timesteps=300)
    folder = small_disk / "checkpoints"
    saving = LectureCheckpointCallback(50, folder, keep=None)
    model = make_model()
    with pytest.warns(UserWarning, match=r"no checkpoint at step \d+: .*No space left.*the last one is .*_150_steps"):
        model.learn(total_timesteps=300, callback=[FullFrom(small_disk, 160, left), saving])
    assert state_of(model) == state_of(whole)
    assert names(folder) == [".lock", *(f"checkpoint_{n}_steps.zip" for n in (0, 100, 150, 50))]
    (small_disk / "filler").unlink()
    resumed = LectureDQN.resume(folder)
    assert resumed.num_timesteps == 150
    resumed.learn(callback=[FullFrom(small_disk, -1), LectureCheckpointCallback(50, folder, keep=None)])
    assert state_of(resumed) == state_of(whole)


@thread_says_it_too
def test_logs_on_a_full_disk_are_given_up_and_nothing_else(small_disk):
    whole = make_model().learn(total_timesteps=3000, log_interval=1)
    model = make_model(tensorboard_log=str(small_disk / "runs"))
    with pytest.warns(UserWarning, match="logging stops, and training goes on without it"):
        model.learn(total_timesteps=3000, log_interval=1, callback=FullFrom(small_disk, 10))
    assert state_of(model) == state_of(whole)


def test_a_model_that_does_not_fit_leaves_the_old_file(small_disk):
    make_model().save(small_disk / "model")
    make_model().save_replay_buffer(small_disk / "memory")
    before = {path.name: path.read_bytes() for path in small_disk.iterdir()}
    fill(small_disk)
    model = make_model().learn(total_timesteps=100)
    for save, name in ((model.save, "model"), (model.save_replay_buffer, "memory"), (model.save_checkpoint, "model")):
        with pytest.raises(OSError, match="No space left"):
            save(small_disk / name)
    (small_disk / "filler").unlink()
    assert {path.name: path.read_bytes() for path in small_disk.iterdir()} == before
    LectureDQN.load(small_disk / "model")


# The same where nothing can be mounted


def test_checkpoints_that_the_system_cuts(tmp_path):
    whole = make_model().learn(total_timesteps=300)

    class Cut(BaseCallback):
        def _on_step(self):
            if self.num_timesteps == 160 and not cut:
                cut.append(limits.enter_context(files_of_at_most(8192)))
            return True

    cut = []
    model = make_model()
    with (
        contextlib.ExitStack() as limits,
        pytest.warns(UserWarning, match=r"no checkpoint at step \d+: .*File too large.*the last one is .*_150_steps"),
    ):
        model.learn(total_timesteps=300, callback=[Cut(), LectureCheckpointCallback(50, tmp_path, keep=None)])
    assert state_of(model) == state_of(whole)
    assert names(tmp_path) == [".lock", *(f"checkpoint_{n}_steps.zip" for n in (0, 100, 150, 50))]
    resumed = LectureDQN.resume(tmp_path)
    resumed.learn(callback=[Cut(), LectureCheckpointCallback(50, tmp_path, keep=None)])
    assert state_of(resumed) == state_of(whole)


def test_a_model_that_the_system_cuts(tmp_path):
    make_model().save(tmp_path / "model")
    before = (tmp_path / "model.zip").read_bytes()
    model = make_model().learn(total_timesteps=100)
    with files_of_at_most(4096), pytest.raises(OSError, match="File too large"):
        model.save(tmp_path / "model")
    assert names(tmp_path) == ["model.zip"]
    assert (tmp_path / "model.zip").read_bytes() == before


@thread_says_it_too
def test_logs_that_the_system_cuts(tmp_path):
    whole = make_model().learn(total_timesteps=3000, log_interval=1)
    model = make_model(tensorboard_log=str(tmp_path))
    with files_of_at_most(200), pytest.warns(UserWarning, match="logging stops"):
        model.learn(total_timesteps=3000, log_interval=1)
    assert state_of(model) == state_of(whole)
