import io
import math
import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv

from sb3_lecture_dqn import LectureDQN, SuccessFailReplayBuffer, UnsafeFileError
from sb3_lecture_dqn.saving import memory_file
from tests.pairs import every
from tests.saving.helpers import MODELS, OwnBuffer


def test_a_loaded_memory_does_not_need_one_to_be_there(tmp_path):
    model = MODELS["masks"]().learn(total_timesteps=20)
    model.save_replay_buffer(tmp_path / "memory")
    state, model.replay_buffer = model.replay_buffer.get_state(), None
    model.load_replay_buffer(tmp_path / "memory")
    assert repr(model.replay_buffer.get_state()) == repr(state)


def test_a_memory_is_a_file_that_numpy_reads(tmp_path):
    model = LectureDQN("Taxi-v3", seed=0).learn(total_episodes=2)
    model.save_replay_buffer(tmp_path / "memory")
    with np.load(tmp_path / "memory.npz", allow_pickle=False) as file:
        assert (file["1"] == model.replay_buffer.fail.filled()).all()


def test_fields_are_read_by_name(tmp_path):
    """Another version may put them in another order."""
    model = LectureDQN("Taxi-v3", seed=0).learn(total_timesteps=30)
    model.save_replay_buffer(tmp_path / "memory")
    rows = model.replay_buffer.fail.filled()
    turned = np.zeros(len(rows), [(name, *rows.dtype.fields[name][:1]) for name in reversed(rows.dtype.names)])
    for name in rows.dtype.names:
        turned[name] = rows[name]
    with zipfile.ZipFile(tmp_path / "memory.npz") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "turned.npz", "w") as archive:
        for name, content in members.items():
            if name == "1.npy":
                file = io.BytesIO()
                np.save(file, turned)
                content = file.getvalue()
            archive.writestr(name, content)
    model.replay_buffer.reset()
    model.load_replay_buffer(tmp_path / "turned")
    assert (model.replay_buffer.fail.filled() == rows).all()


def test_a_memory_of_another_kind_or_size_does_not_fit(tmp_path):
    model = LectureDQN("Taxi-v3", seed=0, buffer_size=50).learn(total_timesteps=100)
    model.save_replay_buffer(tmp_path / "memory")
    smaller = LectureDQN("Taxi-v3", seed=0, buffer_size=5)
    before = repr(smaller.replay_buffer.get_state())
    for other, message in (
        (smaller, "at most 5 are held"),
        (LectureDQN("FrozenLake-v1", buffer_size=50), "outside the space"),
        (LectureDQN("MlpPolicy", "CartPole-v1"), "rows of"),
        (LectureDQN("Taxi-v3", replay_buffer_class=ReplayBuffer), "it is of a SuccessFailReplayBuffer"),
    ):
        with pytest.raises(UnsafeFileError, match=rf"memory.*{message}"):
            other.load_replay_buffer(tmp_path / "memory")
    assert repr(smaller.replay_buffer.get_state()) == before


def test_a_full_memory_of_sb3_is_for_one_of_its_size(tmp_path):
    def model(buffer_size):
        return LectureDQN.with_sb3_defaults("MlpPolicy", "FrozenLake-v1", buffer_size=buffer_size, learning_starts=99)

    model(50).learn(60).save_replay_buffer(tmp_path / "memory")
    with pytest.raises(UnsafeFileError, match=r"full, of a model with buffer_size=50, and this memory has 500"):
        model(500).load_replay_buffer(tmp_path / "memory")


def filled(space, n, **settings):
    """One of SB3's memories of 5 transitions, after n of observations that are as in the space."""
    buffer = ReplayBuffer(5, space, spaces.Discrete(2, start=1), "cpu", **settings)
    for _ in range(n):
        obs, next_obs = (np.array(space.sample()).reshape(1, *buffer.obs_shape) for _ in range(2))
        buffer.add(obs, next_obs, np.array([1]), np.array([0.5]), np.array([False]), [{}])
    return buffer


def reread(buffer, other, changed=lambda array: None):
    """What of a memory comes back after a change of what is in the file."""
    file = io.BytesIO()
    changed(buffer)
    memory_file.write_memory(file, buffer)
    file.seek(0)
    return memory_file.read_memory(file, other)


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 7])
@pytest.mark.parametrize("efficient", [False, True])
@pytest.mark.parametrize("space", [spaces.Discrete(4, start=3), spaces.MultiDiscrete([2, 3], start=[1, 2])], ids=str)
def test_a_memory_of_states_that_begin_above_0_need_not_be_full(space, efficient, n):
    """The row that is next to be filled has zeros, which are no states here."""
    space.seed(0)
    settings = {"optimize_memory_usage": efficient, "handle_timeout_termination": not efficient}
    buffer = filled(space, n, **settings)
    read = reread(buffer, filled(space, 0, **settings))
    assert (read.pos, read.full) == (buffer.pos, buffer.full)
    for name in ("observations", "actions", "rewards", "dones", *(() if efficient else ("next_observations",))):
        assert (getattr(read, name) == getattr(buffer, name)).all()


def test_what_is_not_filled_is_not_read():
    space = spaces.Discrete(4, start=3)

    def poison(buffer):
        buffer.observations[3:] = 99
        buffer.rewards[3] = np.nan

    read = reread(filled(space, 3), filled(space, 0), poison)
    assert (read.rewards[3:] == 0).all()
    assert (read.observations[3:] == 0).all()
    # But the memory-efficient variant has the last next observation there.
    efficient = {"optimize_memory_usage": True, "handle_timeout_termination": False}
    with pytest.raises(UnsafeFileError, match="99 is outside the space"):
        reread(filled(space, 3, **efficient), filled(space, 0, **efficient), poison)


def test_a_memory_of_many_long_names_comes_back():
    space = spaces.Dict({f"{i:0120}": spaces.Discrete(2) for i in range(300)})
    buffer, other = (SuccessFailReplayBuffer(10, space, spaces.Discrete(2), "cpu", seed=0) for _ in range(2))
    obs = {name: np.array([1]) for name in space}
    buffer.add(obs, obs, np.array([1]), np.array([1.0]), np.array([False]), [{}])
    with pytest.warns(UserWarning, match="format 2.0"):
        reread(buffer, other)
    assert str(other.get_state()) == str(buffer.get_state())


def test_a_memory_of_an_own_class_is_a_pickle_that_has_to_be_trusted(tmp_path):
    model = LectureDQN("Taxi-v3", seed=0, replay_buffer_class=OwnBuffer).learn(total_timesteps=20)
    model.save_replay_buffer(tmp_path / "memory")
    assert os.listdir(tmp_path) == ["memory.pkl"]
    model.replay_buffer.reset()
    with pytest.raises(UnsafeFileError, match="trust=True"):
        model.load_replay_buffer(tmp_path / "memory.pkl")
    model.load_replay_buffer(tmp_path / "memory", trust=True)
    assert model.replay_buffer.size() == 20


def her_model():
    return LectureDQN(
        "MultiInputPolicy",
        BitFlippingEnv(n_bits=4, max_steps=4),
        replay_buffer_class=HerReplayBuffer,
        learning_starts=5,
        batch_size=8,
        buffer_size=50,
    )


MEMORIES = {
    "ours": lambda: LectureDQN("Taxi-v3"),
    "one transition": lambda: LectureDQN("Taxi-v3", store_and_replay=False),
    "SB3's": MODELS["memory of SB3"],
    "SB3's of a Dict": MODELS["dict memory of SB3"],
    "SB3's of n steps": MODELS["n steps"],
    "HER's": her_model,
    "an own class": lambda: LectureDQN("Taxi-v3", replay_buffer_class=OwnBuffer, buffer_size=50),
}


@pytest.mark.parametrize(
    ("kind", "name"), every(2, MEMORIES, ["memory", "memory.npz", "memory.pkl", "memory.other", "a.b"])
)
def test_a_memory_is_loaded_by_the_name_that_it_was_saved_by(kind, name, tmp_path):
    model = MEMORIES[kind]().learn(total_timesteps=20)
    model.save_replay_buffer(tmp_path / name)
    size = model.replay_buffer.size()
    model.replay_buffer.reset()
    if memory_file.is_described_memory(model.replay_buffer):
        model.load_replay_buffer(tmp_path / name)
    else:
        with pytest.raises(UnsafeFileError, match=r"pickle.*trust=True"):
            model.load_replay_buffer(tmp_path / name)
        model.load_replay_buffer(tmp_path / name, truncate_last_traj=False, trust=True)
    assert model.replay_buffer.size() == size > 0


def test_of_two_memories_under_one_name_the_one_of_this_kind_is_loaded(tmp_path):
    her, ours = her_model().learn(total_timesteps=20), LectureDQN("Taxi-v3", seed=0).learn(total_timesteps=20)
    for model in (her, ours):
        model.save_replay_buffer(tmp_path / "memory")
    state = repr(ours.replay_buffer.get_state())
    her.load_replay_buffer(tmp_path / "memory", truncate_last_traj=False, trust=True)
    ours.load_replay_buffer(tmp_path / "memory", trust=True)
    assert type(her.replay_buffer) is HerReplayBuffer
    assert repr(ours.replay_buffer.get_state()) == state
    with pytest.raises(FileNotFoundError, match="nothing"):
        ours.load_replay_buffer(tmp_path / "nothing")


@pytest.mark.parametrize("trust", [False, True])
def test_buffer_size_means_in_a_file_of_version_1_what_it_meant_there(trust, tmp_path):
    def bounds(model):
        return model.replay_buffer.bounds_all, model.replay_buffer.success.capacity, model.replay_buffer.fail.capacity

    model = LectureDQN("MlpPolicy", "CartPole-v1", seed=0, buffer_size=20, gradient_steps=0)
    assert bounds(model) == (True, 20, 20)
    model.save(tmp_path / "version 2")
    del model._version_1_memory  # which it did not know
    model.save(tmp_path / "version 1")
    assert bounds(LectureDQN.load(tmp_path / "version 2", trust=trust)) == (True, 20, 20)
    loaded = LectureDQN.load(tmp_path / "version 1", trust=trust)
    assert bounds(loaded) == (False, None, 20)
    loaded.learn(600)
    assert loaded.replay_buffer.size() > 20
    loaded.save_replay_buffer(tmp_path / "memory")
    loaded.save(tmp_path / "again")
    again = LectureDQN.load(tmp_path / "again")
    again.load_replay_buffer(tmp_path / "memory")
    assert again.replay_buffer.size() == loaded.replay_buffer.size()
    with pytest.raises(UnsafeFileError, match=r"buffer_size=20 .*success_capacity=math.inf"):
        LectureDQN.load(tmp_path / "version 2").load_replay_buffer(tmp_path / "memory")
    kwargs = {"success_capacity": math.inf}
    LectureDQN("MlpPolicy", "CartPole-v1", buffer_size=20, replay_buffer_kwargs=kwargs).save(tmp_path / "unbounded")
    assert bounds(LectureDQN.load(tmp_path / "unbounded")) == (False, None, 20)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux tells how much memory is in use")
def test_a_memory_that_is_nearly_empty_takes_as_much_as_what_it_holds(tmp_path):
    def in_use():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    settings = {"replay_buffer_class": ReplayBuffer, "buffer_size": 30_000_000, "gradient_steps": 0}
    model = LectureDQN("FrozenLake-v1", seed=0, **settings).learn(100)
    model.save_replay_buffer(tmp_path / "memory")
    before = in_use()
    model.load_replay_buffer(tmp_path / "memory")
    assert in_use() < before + 2**26  # its arrays have a gigabyte
    assert model.replay_buffer.pos == 100


def test_a_large_memory_is_never_there_twice(tmp_path):
    settings = {"buffer_size": 1_000_000, "replay_buffer_kwargs": {"deduplicate": False}}
    model = LectureDQN("Taxi-v3", seed=0, **settings)
    rows = np.zeros(1_000_000, model.replay_buffer.fail.rows.dtype)
    rows["observations"][:, 0] = np.arange(1_000_000) % 500
    model.replay_buffer.fail = model.replay_buffer.fail.holding(rows)
    model.save_replay_buffer(tmp_path / "memory")
    loaded = LectureDQN("Taxi-v3", seed=0, **settings)
    tracemalloc.start()
    try:
        model.save_replay_buffer(tmp_path / "memory")
        _, to_save = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        loaded.load_replay_buffer(tmp_path / "memory")
        _, to_load = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert to_save < 0.6 * rows.nbytes
    assert to_load < 1.5 * rows.nbytes
    assert (loaded.replay_buffer.fail.rows[: len(rows)] == rows).all()
