"""
Write the files of this version that later versions have to load: ``python tests/saving/golden/make.py``.

Of the checkpoint, which is one of the middle of a run, ``<name>-<version>.after.npz`` says how that run ended.
"""

import shutil
import tempfile
from pathlib import Path

import numpy as np

from sb3_lecture_dqn import LectureCheckpointCallback, LectureDQN, LectureQRDQN, __version__

for name, algorithm in {"dqn": LectureDQN, "qrdqn": LectureQRDQN}.items():
    more = {} if name == "dqn" else {"n_quantiles": 5}
    settings = {"seed": 0, "device": "cpu", "policy_kwargs": {"hidden_dim": 4, **more}}
    model = algorithm("FrozenLake-v1", **settings)
    model.learn(total_timesteps=60)
    start = Path(__file__).parent / f"{name}-{__version__}"
    model.save(f"{start}.zip")
    model.save_replay_buffer(f"{start}.npz")
    np.savez(
        f"{start}.expected.npz",
        actions=model.predict(np.arange(16), deterministic=True)[0],
        observations=model.replay_buffer.observations,
        counts=[model.num_timesteps, model.replay_buffer.size()],
    )
    model = algorithm("FrozenLake-v1", **settings)
    with tempfile.TemporaryDirectory() as folder:
        model.learn(total_timesteps=150, callback=LectureCheckpointCallback(60, folder, keep=None))
        shutil.copy(Path(folder) / "checkpoint_60_steps.zip", f"{start}.checkpoint.zip")
    np.savez(
        f"{start}.after.npz",
        observations=model.replay_buffer.observations,
        drawn=model.exploration_rng.random(3),
        counts=[model.num_timesteps, model._episode_num],
    )
