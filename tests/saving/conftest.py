import pytest

from sb3_lecture_dqn import LectureDQN


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """Numba keeps what it has compiled as pickles of its own, read where it is first needed."""
    path = tmp_path_factory.mktemp("first") / "memory"
    model = LectureDQN("Taxi-v3").learn(total_timesteps=5)
    model.save_replay_buffer(path)
    model.load_replay_buffer(path)
