"""
Weights & Biases through TensorBoard: it gets all values that are logged.

    pip install wandb
    WANDB_MODE=offline python examples/recipes/wandb_sync.py    # then: wandb sync wandb/offline-run-*

Without ``WANDB_MODE=offline`` it logs to your account directly, after ``wandb login``.
"""

import wandb

from sb3_lecture_dqn import LectureDQN, LectureTestCallback

settings = {"gamma": 0.9, "learning_rate": 0.004}
with wandb.init(project="sb3_lecture_dqn", config=settings, sync_tensorboard=True) as run:
    model = LectureDQN.tuned("FrozenLakeNotSlippery-v1", seed=0, tensorboard_log="runs", **run.config)
    test = LectureTestCallback(test_freq=500, n_test_episodes=10)
    model.learn(2000, callback=test)
    model.logger.close()
    run.summary["last test"] = test.results[-1][1].mean_reward
    print(f"logged to {run.dir}")
