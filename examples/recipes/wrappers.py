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
    """Make Taxi with sb3-contrib's action masks, by a function that can be sent to another process."""
    env = make_env("Taxi-v3", max_episode_steps=100)
    return Monitor(ActionMaskInfo(ActionMasker(env, lambda env: env.unwrapped.action_mask(env.unwrapped.s))))


def normalized() -> None:
    """Normalise observations by running means, which are saved beside the model and loaded for tests."""
    env = VecNormalize(make_vec_env("CartPole-v1", n_envs=2))
    model = LectureDQN("LecturePolicy", env, seed=0, **SETTINGS).learn(500)
    model.save("runs/normalized/model")
    env.save("runs/normalized/vecnormalize.pkl")
    test_env = VecNormalize.load("runs/normalized/vecnormalize.pkl", make_vec_env("CartPole-v1"))  # your own file only
    test_env.training, test_env.norm_reward = False, False
    mean, _ = evaluate_policy(LectureDQN.load("runs/normalized/model"), test_env, n_eval_episodes=3)
    print(f"VecNormalize: mean reward {mean}")


def stacked() -> None:
    """Stack the last four observations, for environments whose state is not in one observation."""
    env = VecFrameStack(make_vec_env("CartPole-v1", n_envs=2), n_stack=4)
    model = LectureDQN("MlpPolicy", env, seed=0, **SETTINGS).learn(500)
    print(f"VecFrameStack: observations of shape {model.observation_space.shape}")


def in_processes() -> None:
    """Run slow environments in other processes; ActionMaskInfo sends their masks."""
    env = SubprocVecEnv([masked_taxi, masked_taxi], start_method="spawn")
    model = LectureDQN(env, use_masking=True, seed=0, **SETTINGS).learn(200)
    env.close()
    print(f"SubprocVecEnv: {model.num_timesteps} steps in {model.n_envs} processes")


def monitored() -> None:
    """Write the files of a Monitor, for SB3's and RL Zoo's plots."""
    env = DummyVecEnv([lambda: Monitor(make_env("FrozenLake-v1"), "runs/monitored/0")])
    LectureDQN(env, seed=0).learn(total_episodes=20)
    print(f"Monitor: {len(load_results('runs/monitored'))} episodes")


if __name__ == "__main__":  # SubprocVecEnv starts processes that import this file
    normalized()
    stacked()
    in_processes()
    monitored()
