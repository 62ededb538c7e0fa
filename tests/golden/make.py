"""Write the files of this version that later versions have to load: ``python tests/golden/make.py``."""

from pathlib import Path

import numpy as np

from sb3_lecture_dqn import LectureDQN, LectureQRDQN, __version__

for name, algorithm in {"dqn": LectureDQN, "qrdqn": LectureQRDQN}.items():
    more = {} if name == "dqn" else {"n_quantiles": 5}
    model = algorithm("FrozenLake-v1", seed=0, device="cpu", policy_kwargs={"hidden_dim": 4, **more})
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
