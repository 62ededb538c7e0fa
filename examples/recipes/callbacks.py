"""
SB3's callbacks and ours in one training: tests, checkpoints, and an end when the model is good enough.

    python examples/recipes/callbacks.py
"""

from stable_baselines3.common.callbacks import (
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.monitor import Monitor

from sb3_lecture_dqn import LectureDQN, LectureTestCallback, make_env

model = LectureDQN.tuned("FrozenLakeNotSlippery-v1", seed=0)  # 8 environments

# SB3 counts calls of env.step, which steps all environments: 50 calls are 400 timesteps here.
checkpoints = CheckpointCallback(save_freq=50, save_path="runs/checkpoints", save_replay_buffer=True)
evaluation = EvalCallback(
    Monitor(make_env("FrozenLakeNotSlippery-v1", max_episode_steps=100)),
    callback_on_new_best=StopTrainingOnRewardThreshold(reward_threshold=1.0, verbose=1),
    eval_freq=50,
    n_eval_episodes=3,
    best_model_save_path="runs/best",
    log_path="runs/best",
)
test = LectureTestCallback(test_freq=400, n_test_episodes=10)  # ours counts timesteps, or (n, "episode")
model.learn(10_000, callback=CallbackList([checkpoints, evaluation, test]))  # without a number it ends when solved

best = LectureDQN.load("runs/best/best_model")
# Checkpoints of SB3 lack what only ours have, such as the counts by which these settings explore: begin without them.
checkpoint = "runs/checkpoints/rl_model_400_steps"
going_on = LectureDQN.load(checkpoint, env=model.get_env(), explore_least_tried=False)
going_on.load_replay_buffer("runs/checkpoints/rl_model_replay_buffer_400_steps.pkl")
going_on.learn(400, reset_num_timesteps=False)
print(f"stopped after {model.num_timesteps} steps, best: {evaluation.best_mean_reward}, {going_on.num_timesteps=}")
