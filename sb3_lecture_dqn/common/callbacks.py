"""The lecture's test as an SB3 callback, and a progress bar over episodes."""

import os
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, EventCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_lecture_dqn.common.checks import check_number, parse_frequency
from sb3_lecture_dqn.common.envs import LECTURE_MAX_EPISODE_STEPS
from sb3_lecture_dqn.common.evaluation import (
    MAX_TEST_ENVS,
    PENALTY_REWARD,
    TestResult,
    exact_test_on,
    make_test_env,
    tabular_env,
    test_on,
)
from sb3_lecture_dqn.common.seeding import make_rng
from sb3_lecture_dqn.common.tabular_vec_env import TabularVecEnv


class LectureTestCallback(EventCallback):
    """
    The lecture's test: greedy episodes on a separate environment, after the first and then after every 50th episode.

    A test comes when the updates that follow the episode's last step are done. Its averages are printed, written to
    TensorBoard as ``Steps``, ``Penalty`` and ``Reward`` with the number of finished episodes as the step (and, beyond
    the lecture, the share of ``Solved`` episodes), and logged as ``eval/*`` at the timestep, under the names of SB3's
    ``EvalCallback``; in tabular environments also ``eval/optimality``, see :class:`TestResult`. Works with every
    algorithm of SB3.

    Where several episodes end between two updates (several environments, long rollouts) there is one test for all.
    The children are triggered after a test; one that returns ``False`` ends the training at the next step.

    :param test_env: The environment to test on, ``None`` for a new one like the training environment
    :param n_test_episodes: The number of episodes of a test
    :param test_freq: Test after every that many environment steps, or by episodes with a tuple such as
        ``(50, "episode")``; by episodes there is also a test after the first
    :param max_episode_steps: Steps after which a test episode is cut, ``None`` for the environment's own limit
    :param penalty_reward: The reward that counts as a penalty
    :param callback_on_new_best: Callback to trigger when there is a new best mean reward
    :param callback_after_test: Callback to trigger after every test
    :param best_model_save_path: Folder in which the model with the best mean reward is kept, as ``best_model.zip``
    :param seed: Seed of the test environment, ``None`` for one made from the model's
    :param exact: Compute what the episodes of a test would average to, instead of running them; see :func:`exact_test`.
        Only on a tabular environment
    :param verbose: 1 prints the tests, 0 does not
    :raises ValueError: If an argument is out of range
    """

    def __init__(
        self,
        test_env: gym.Env | VecEnv | str | None = None,
        n_test_episodes: int = 100,
        test_freq: int | tuple[int, str] = (50, "episode"),
        max_episode_steps: int | None = LECTURE_MAX_EPISODE_STEPS,
        penalty_reward: float = PENALTY_REWARD,
        callback_on_new_best: BaseCallback | None = None,
        callback_after_test: BaseCallback | None = None,
        best_model_save_path: str | None = None,
        seed: int | None = None,
        exact: bool = False,
        verbose: int = 1,
    ) -> None:
        super().__init__(callback_after_test, verbose)
        check_number("n_test_episodes", n_test_episodes, 1, integer=True)
        if max_episode_steps is not None:
            check_number("max_episode_steps", max_episode_steps, 1, integer=True)
        self.n_test_episodes = n_test_episodes
        self.test_freq = parse_frequency("test_freq", test_freq)
        self.max_episode_steps = max_episode_steps
        self.penalty_reward = penalty_reward
        self.callback_on_new_best = callback_on_new_best
        if callback_on_new_best is not None:
            callback_on_new_best.parent = self
        self.best_model_save_path = best_model_save_path
        self.seed = seed
        self.exact = exact
        self.given_env = test_env
        self.test_env: VecEnv | None = None
        self.n_episodes = 0
        self.results: list[tuple[int, TestResult]] = []
        self.best_mean_reward = -np.inf
        self.last_mean_reward = -np.inf
        self._tested_at = 0
        self._continue_training = True

    def _init_callback(self) -> None:
        super()._init_callback()
        if self.best_model_save_path is not None:
            os.makedirs(self.best_model_save_path, exist_ok=True)
        if self.callback_on_new_best is not None:
            self.callback_on_new_best.init_callback(self.model)
        if self.test_env is None:
            if self.exact:
                self.test_env = tabular_env(self.model, self.given_env, self.max_episode_steps)
            else:
                self.test_env = make_test_env(
                    self.model, self.given_env, self.max_episode_steps, min(self.n_test_episodes, MAX_TEST_ENVS)
                )
            seed = self.seed
            if seed is None and self.model.seed is not None:
                seed = int(make_rng(self.model.seed, "test").integers(2**31 - 1))
            if seed is not None:
                self.test_env.seed(seed)

    def _on_training_start(self) -> None:
        super()._on_training_start()
        if self.callback_on_new_best is not None:
            self.callback_on_new_best.on_training_start(self.locals, self.globals)
        # Off-policy algorithms count episodes, also over several calls of learn().
        if self.model.num_timesteps == 0 or self.model._episode_num > 0:
            self.n_episodes = self.model._episode_num
        self._tested_at = self._count()
        self._continue_training = True

    def _on_rollout_start(self) -> None:
        self._test_if_due()  # the updates that followed the last rollout are done

    def _on_step(self) -> bool:
        self.n_episodes += int(np.sum(self.locals["dones"]))
        return self._continue_training

    def _on_training_end(self) -> None:
        self._test_if_due()

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        """
        Hand the local variables of the training loop on to the children.

        :param locals_: The local variables during rollout collection
        """
        for child in (self.callback, self.callback_on_new_best):
            if child is not None:
                child.update_locals(locals_)

    def _count(self) -> int:
        return self.n_episodes if self.test_freq[1] == "episode" else self.model.num_timesteps

    def _test_if_due(self) -> None:
        every, unit = self.test_freq
        count, before = self._count(), self._tested_at
        self._tested_at = count
        if count // every > before // every or (unit == "episode" and before == 0 and count > 0):
            self._test()

    def _test(self) -> None:
        assert self.test_env is not None
        if isinstance(self.test_env, TabularVecEnv) and self.exact:
            result = exact_test_on(self.model, self.test_env, self.max_episode_steps, self.penalty_reward)
        else:
            result = test_on(
                self.model, self.test_env, self.n_test_episodes, self.max_episode_steps, self.penalty_reward
            )
        self.results.append((self.n_episodes, result))
        self.last_mean_reward = result.mean_reward
        if self.verbose >= 1:
            tqdm.write(f"Episode {self.n_episodes}, step {self.num_timesteps}: {result}")
        self._log(result)
        proceed = True
        if result.mean_reward > self.best_mean_reward:
            self.best_mean_reward = result.mean_reward
            if self.best_model_save_path is not None:
                self.model.save(os.path.join(self.best_model_save_path, "best_model"))
            if self.callback_on_new_best is not None:
                proceed = self.callback_on_new_best.on_step()
        self._continue_training = self._on_event() and proceed

    def _log(self, result: TestResult) -> None:
        for output in self.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                output.writer.add_scalar("Steps", result.mean_steps, self.n_episodes)
                output.writer.add_scalar("Penalty", result.mean_penalties, self.n_episodes)
                output.writer.add_scalar("Reward", result.mean_reward, self.n_episodes)
                output.writer.add_scalar("Solved", result.success_rate, self.n_episodes)
        self.logger.record("eval/mean_reward", result.mean_reward)
        self.logger.record("eval/mean_ep_length", result.mean_steps)
        self.logger.record("eval/mean_penalties", result.mean_penalties)
        self.logger.record("eval/success_rate", result.success_rate)
        if result.optimality is not None:
            self.logger.record("eval/optimality", result.optimality)
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)


class EpisodeProgressBarCallback(BaseCallback):
    """A tqdm bar over the episodes of a budget in episodes: what ``learn(progress_bar=True)`` shows for one."""

    def _on_training_start(self) -> None:
        total = self.model._total_episodes  # type: ignore[attr-defined]
        self.bar = tqdm(total=total, initial=self.model._episode_num, unit="episode", dynamic_ncols=True)

    def _on_step(self) -> bool:
        ended = int(np.sum(self.locals["dones"]))
        if ended:
            self.bar.update(ended)
        return True

    def _on_training_end(self) -> None:
        self.bar.close()
