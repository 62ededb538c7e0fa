"""The score of Hugging Face's Deep RL course, unit 2: Taxi-v3 on the course's 100 seeds."""

from dataclasses import dataclass

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture_dqn.envs.make import make_env
from sb3_lecture_dqn.evaluation.environment import make_test_env
from sb3_lecture_dqn.evaluation.run import run_test
from sb3_lecture_dqn.registration import TAXI_IDS, TAXI_V3

#: ``max_steps`` of the course
MAX_STEPS = 99
#: ``eval_seed`` of the course's notebook: the seed of each episode's reset, of which some repeat
# fmt: off
SEEDS = (
    16, 54, 165, 177, 191, 191, 120, 80, 149, 178, 48, 38, 6, 125, 174, 73, 50, 172, 100, 148,
    146, 6, 25, 40, 68, 148, 49, 167, 9, 97, 164, 176, 61, 7, 54, 55, 161, 131, 184, 51,
    170, 12, 120, 113, 95, 126, 51, 98, 36, 135, 54, 82, 45, 95, 89, 59, 95, 124, 9, 113,
    58, 85, 51, 134, 121, 169, 105, 21, 30, 11, 50, 65, 12, 43, 82, 145, 152, 97, 106, 55,
    31, 85, 38, 112, 102, 168, 123, 97, 21, 83, 158, 26, 80, 63, 5, 81, 32, 11, 28, 148,
)
# fmt: on
#: The result of an optimal agent, 7.56 - 2.71, and the one that the course asks for
BEST_RESULT, PASS_RESULT = 4.85, 4.5


@dataclass(frozen=True)
class CourseScore:
    """
    The reward of the course's episodes.

    :param mean_reward: Mean of the undiscounted returns
    :param std_reward: Their standard deviation, of the population as ``numpy.std`` computes it
    """

    mean_reward: float
    std_reward: float

    @property
    def result(self) -> float:
        """The number by which the course's leaderboard ranks: the mean less the standard deviation."""
        return self.mean_reward - self.std_reward

    def __str__(self) -> str:
        return (
            f"result {self.result:.2f} = mean reward {self.mean_reward:.2f} - standard deviation {self.std_reward:.2f} "
            f"over the course's {len(SEEDS)} seeds; best possible: {BEST_RESULT:.2f}, to pass: {PASS_RESULT:.2f}"
        )


def course_test(model: BaseAlgorithm, env_id: str | None = None) -> CourseScore:
    """
    Test a model as the course does: one greedy episode of Taxi-v3 for each of :data:`SEEDS`, of at most 99 steps.

    :param model: Any algorithm of SB3 or made on it
    :param env_id: ``"Taxi-v3"`` or ``"Taxi-v4"``. ``None``: the id of the model's environment
    :return: The score
    :raises ValueError: If the id is another, or the model's spaces are not Taxi's
    """
    env_id = getattr(model, "env_id", None) if env_id is None else env_id
    if env_id not in TAXI_IDS:
        raise ValueError(f"env={env_id!r}: the course's score is that of Taxi-v3, to which its seeds belong")
    wrapper = getattr(model, "env_wrapper", None)
    taxi = DummyVecEnv([lambda: make_env(TAXI_V3, MAX_STEPS, wrapper)])
    env = make_test_env(model, taxi, None, 1)
    try:
        returns = [run_test(model, env, n_episodes=1, seed=seed).mean_reward for seed in SEEDS]
    finally:
        env.close()
    return CourseScore(float(np.mean(returns)), float(np.std(returns)))
