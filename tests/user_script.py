"""What a user may write, for `mypy --strict` alone: what comes out has types that can be relied upon."""

import gymnasium as gym
import numpy as np
import torch as th
from stable_baselines3 import DQN
from stable_baselines3.common.callbacks import EvalCallback
from typing_extensions import assert_type

from sb3_lecture_dqn import (
    DiscreteEmbeddingExtractor,
    DiscreteObservationWrapper,
    LectureDQN,
    LecturePolicy,
    LectureQRDQN,
    LectureTensorBoardCallback,
    LectureTestCallback,
    OptimalValues,
    SuccessFailReplayBuffer,
    TabularModel,
    TabularVecEnv,
    TestResult,
    exact_test,
    make_env,
    optimal_values,
    run_test,
)


def settings() -> LectureDQN:
    return LectureDQN(
        "LecturePolicy",
        "Taxi-v3",
        target_update_interval=(20, "episode"),
        policy_kwargs={"hidden_dim": 16, "optimizer_class": th.optim.Adam},
        replay_buffer_kwargs={"success_fraction": 0.1},
        use_masking=True,
    )


def main() -> None:
    env: gym.Env = DiscreteObservationWrapper(make_env("Blackjack-v1"))
    model = LectureDQN(env, seed=0)
    assert_type(model.learn(total_episodes=5, callback=LectureTestCallback()), LectureDQN)
    model.save("model")
    assert_type(LectureDQN.load("model"), LectureDQN)
    assert_type(LectureDQN.tuned("Taxi-v3", seed=0), LectureDQN)
    assert_type(LectureQRDQN("Taxi-v3").learn(100), LectureQRDQN)
    assert_type(LectureDQN.with_sb3_defaults("MlpPolicy", "CartPole-v1", double_q=True), LectureDQN)
    assert_type(LectureQRDQN.with_sb3_defaults("MlpPolicy", env), LectureQRDQN)

    callbacks = [LectureTensorBoardCallback(), EvalCallback(make_env("Taxi-v3"))]
    settings().learn(100, callback=callbacks, progress_bar=False)
    actions, _ = settings().predict(np.arange(3), action_masks=np.ones((3, 6), dtype=bool))
    assert actions.shape == (3,)

    assert_type(run_test(model, n_episodes=2), TestResult)
    result = exact_test(LectureDQN("FrozenLake-v1"))
    assert_type(result.mean_steps, float)
    assert_type(optimal_values("Taxi-v3"), OptimalValues)

    table = TabularModel.from_env("Taxi-v3")
    assert_type(table, TabularModel)
    LectureDQN(TabularVecEnv(table, n_envs=4)).learn(8)
    DQN(LecturePolicy, "FrozenLake-v1", replay_buffer_class=SuccessFailReplayBuffer)
    DQN("MlpPolicy", "FrozenLake-v1", policy_kwargs={"features_extractor_class": DiscreteEmbeddingExtractor})


if __name__ == "__main__":
    main()
