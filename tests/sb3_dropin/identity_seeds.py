"""
sb3-contrib's ``test_identity`` of QR-DQN over several seeds, by the stock algorithm and by ours with its defaults::

    python tests/sb3_dropin/identity_seeds.py

The test itself has seed 0 alone, and asks for a mean reward of 90; 100 is the best.
"""

from sb3_contrib import QRDQN
from stable_baselines3.common.envs import IdentityEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture_dqn import LectureQRDQN

SEEDS = range(10)
SETTINGS = {
    "learning_rate": 1e-3,
    "gamma": 0.4,
    "learning_starts": 0,
    "policy_kwargs": {"n_quantiles": 25, "net_arch": [32]},
    "target_update_interval": 10,
    "train_freq": 2,
    "batch_size": 256,
}


def mean_reward(make, seed):
    env = DummyVecEnv([lambda: IdentityEnv(4)])
    model = make("MlpPolicy", env, seed=seed, **SETTINGS).learn(1500)
    return evaluate_policy(model, env, n_eval_episodes=20, warn=False)[0]


if __name__ == "__main__":
    for name, make in (("QRDQN", QRDQN), ("LectureQRDQN.with_sb3_defaults", LectureQRDQN.with_sb3_defaults)):
        rewards = [round(mean_reward(make, seed)) for seed in SEEDS]
        passed = sum(reward >= 90 for reward in rewards)
        print(f"{name}: {passed} of {len(rewards)} seeds reach 90; {' '.join(map(str, rewards))}")
