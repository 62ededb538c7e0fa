"""
SB3's vectorised environments and wrappers: VecNormalize, VecFrameStack, SubprocVecEnv, Monitor.

    python examples/recipes/wrappers.py
"""

import gymnasium as gym
import torch as th
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecNormalize

from sb3_lecture_dqn import ActionMaskInfo, LectureDQN, make_env

SETTINGS = {
    "learning_rate": 1e-3,
    "gamma": 0.99,
    "batch_size": 32,
    "buffer_size": 10_000,
    "gradient_steps": 1,
    "policy_kwargs": {"optimizer_class": th.optim.Adam},
}


def masked_taxi() -> gym.Env:
    """Taxi with sb3-contrib's action masks, in a form that passes from process to process."""
    env = make_env("Taxi-v3", max_episode_steps=100)
    return Monitor(ActionMaskInfo(ActionMasker(env, lambda env: env.unwrapped.action_mask(env.unwrapped.s))))


def normalized() -> None:
    """Observations normalised by running means: they are saved beside the model, and loaded for tests."""
    env = VecNormalize(make_vec_env("CartPole-v1", n_envs=2))
    model = LectureDQN("LecturePolicy", env, seed=0, **SETTINGS).learn(500)
    model.save("runs/normalized/model")
    env.save("runs/normalized/vecnormalize.pkl")
    test_env = VecNormalize.load("runs/normalized/vecnormalize.pkl", make_vec_env("CartPole-v1"))  # your own file only
    test_env.training, test_env.norm_reward = False, False
    mean, _ = evaluate_policy(LectureDQN.load("runs/normalized/model"), test_env, n_eval_episodes=3)
    print(f"VecNormalize: mean reward {mean}")


def stacked() -> None:
    """The last four observations at once, for environments whose state one observation does not tell."""
    env = VecFrameStack(make_vec_env("CartPole-v1", n_envs=2), n_stack=4)
    model = LectureDQN("MlpPolicy", env, seed=0, **SETTINGS).learn(500)
    print(f"VecFrameStack: observations of shape {model.observation_space.shape}")


def in_processes() -> None:
    """Environments in processes of their own, where a step takes long; ActionMaskInfo brings the masks across."""
    env = SubprocVecEnv([masked_taxi, masked_taxi], start_method="spawn")
    model = LectureDQN(env, use_masking=True, seed=0, **SETTINGS).learn(200)
    env.close()
    print(f"SubprocVecEnv: {model.num_timesteps} steps in {model.n_envs} processes")


def monitored() -> None:
    """What a Monitor writes, for SB3's and RL Zoo's plots."""
    env = DummyVecEnv([lambda: Monitor(make_env("FrozenLake-v1"), "runs/monitored/0")])
    LectureDQN(env, seed=0).learn(total_episodes=20)
    print(f"Monitor: {len(load_results('runs/monitored'))} episodes")


if __name__ == "__main__":  # SubprocVecEnv starts processes that import this file
    normalized()
    stacked()
    in_processes()
    monitored()
