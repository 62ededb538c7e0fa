"""Callbacks for training: the lecture's test, checkpoints, and progress bars over episodes and steps."""

import dataclasses
import os
import pathlib
import warnings
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, EventCallback
from stable_baselines3.common.logger import TensorBoardOutputFormat
from stable_baselines3.common.vec_env import VecEnv
from tqdm import tqdm

from sb3_lecture_dqn.common.bars import Bar
from sb3_lecture_dqn.common.checks import check_number, check_switch, parse_frequency
from sb3_lecture_dqn.common.seeding import make_rng
from sb3_lecture_dqn.envs.make import LECTURE_MAX_EPISODE_STEPS
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.evaluation.env_compare import CannotCopyError
from sb3_lecture_dqn.evaluation.environment import (
    MAX_TEST_ENVS,
    check_ends,
    check_step_limit,
    is_own_to_close,
    make_test_env,
    tabular_env,
)
from sb3_lecture_dqn.evaluation.like_model import step_limit_of
from sb3_lecture_dqn.evaluation.result import TestResult, compact_header, compact_line
from sb3_lecture_dqn.evaluation.run import PENALTY_REWARD, exact_test_on, run_test_on
from sb3_lecture_dqn.saving.checkpointer import Checkpointer, folder_for
from sb3_lecture_dqn.saving.env_state import generators_state, set_generators_state
from sb3_lecture_dqn.saving.logs import outliving_full_disks
from sb3_lecture_dqn.training.due import AT_ONCE, Due, check_is_called_itself
from sb3_lecture_dqn.training.schedule import Every


class LectureTestCallback(EventCallback):
    """
    Run the lecture's test: greedy episodes on a separate environment, after episode 1 and after every 50th episode.

    A test runs once the updates after the last step of the episode are done. It prints its averages and writes them to
    TensorBoard as ``Steps``, ``Penalty``, ``Reward`` and ``Solved`` (the last is not in the lecture) over the number of
    finished episodes. It also logs them over timesteps under the names of SB3's ``EvalCallback``, ``eval/*``; in
    tabular environments, ``eval/optimality`` is added, see :class:`TestResult`. The callback works with every algorithm
    of SB3.

    If several episodes end between two updates (several environments, long rollouts), there is one test for all of
    them. Child callbacks run after a test; if one returns ``False``, training ends at the next step.

    :param test_env: The environment to test on. If ``None``, every test uses a new copy of the training environment,
        see :func:`run_test`
    :param n_test_episodes: Number of episodes in a test
    :param test_freq: Test every ``test_freq`` environment steps. A tuple such as ``(50, "episode")`` counts episodes,
        and adds a test after the first episode
    :param max_episode_steps: Number of steps after which a test episode is truncated, ``None`` for the environment's
        own limit; see :func:`run_test`
    :param penalty_reward: The reward that counts as a penalty
    :param callback_on_new_best: Callback to trigger when there is a new best mean reward
    :param callback_after_test: Callback to trigger after every test
    :param best_model_save_path: Folder where the model with the best mean reward is saved as ``best_model.zip``
    :param seed: Seed of the test environment. If ``None``, it is derived from the model's seed
    :param exact: Whether to compute the expected averages of a test instead of running episodes; see
        :func:`exact_test`. Only for tabular environments
    :param verbose: Verbosity level: 0 for no output, 1 to print the tests
    :param compact: Whether to print a test as a line of at most 80 columns, in a table, instead of as a sentence
    :param test_at_end: Whether to test at the end of training too, if episodes have ended since the last test. Without
        it, the last test of a run may be older than its model
    :raises ValueError: If an argument is out of range
    """

    def __init__(
        self,
        test_env: gym.Env | VecEnv | str | None = None,
        n_test_episodes: int = 100,
        test_freq: int | tuple[int, str] = (50, "episode"),
        max_episode_steps: int | None = None,
        penalty_reward: float = PENALTY_REWARD,
        callback_on_new_best: BaseCallback | None = None,
        callback_after_test: BaseCallback | None = None,
        best_model_save_path: str | None = None,
        seed: int | None = None,
        exact: bool = False,
        verbose: int = 1,
        compact: bool = False,
        test_at_end: bool = False,
    ) -> None:
        super().__init__(callback_after_test, verbose)
        check_number("n_test_episodes", n_test_episodes, 1, integer=True)
        check_step_limit(max_episode_steps)
        self.n_test_episodes = n_test_episodes
        self.test_freq = parse_frequency("test_freq", test_freq)
        self._every = Every.parse("test_freq", test_freq, first_episode=True)
        self.max_episode_steps = max_episode_steps
        self.penalty_reward = penalty_reward
        self.callback_on_new_best = callback_on_new_best
        if callback_on_new_best is not None:
            callback_on_new_best.parent = self
        self.best_model_save_path = best_model_save_path
        self.seed = seed
        self.exact = exact
        self.compact = compact
        self.test_at_end = test_at_end
        self.given_env = test_env
        self.test_env: VecEnv | None = None
        self._made_for: tuple[Any, Any] | None = None  # the model and its environment
        self.n_episodes = 0
        self._tested_episode = 0  # number of episodes at the last test
        self.results: list[tuple[int, TestResult]] = []
        self.best_mean_reward = -np.inf
        self.last_mean_reward = -np.inf
        self._continue_training = True

    def _init_callback(self) -> None:
        super()._init_callback()
        check_is_called_itself(self)
        if self.best_model_save_path is not None:
            os.makedirs(self.best_model_save_path, exist_ok=True)
        if self.callback_on_new_best is not None:
            self.callback_on_new_best.init_callback(self.model)
        made_for = self.model, self.model.get_env()
        if made_for != self._made_for:
            self._make_test_env()
            self._made_for = made_for

    def _make_test_env(self) -> None:
        if self.test_env is not None and is_own_to_close(self.test_env, self.model, self.given_env):
            self.test_env.close()  # it was made for another model
        self.test_env = self._new_test_env()
        check_ends(self.test_env, self.max_episode_steps)
        seed = self.seed
        if seed is None and self.model.seed is not None:
            seed = int(make_rng(self.model.seed, "test").integers(2**31 - 1))
        if seed is not None:
            self.test_env.seed(seed)

    def _new_test_env(self) -> VecEnv:
        if self.exact:
            return tabular_env(self.model, self.given_env, self.max_episode_steps, "test_env")
        n_envs = min(self.n_test_episodes, MAX_TEST_ENVS)
        return make_test_env(self.model, self.given_env, self.max_episode_steps, n_envs, "test_env")

    def _follow_training_env(self) -> None:
        """Copy the training environment again: its attributes and statistics may have changed since the last test."""
        assert self.test_env is not None
        old_env, new_env = self.test_env, self._new_test_env()
        old, new = old_env.unwrapped, new_env.unwrapped
        are_tabular = isinstance(old, TabularVecEnv) and isinstance(new, TabularVecEnv)
        if are_tabular and old.model.same_as(new.model) and old.max_episode_steps == new.max_episode_steps:  # type: ignore[attr-defined]
            return
        set_generators_state(new_env, generators_state(old_env))
        self.test_env = new_env

    def _on_training_start(self) -> None:
        super()._on_training_start()
        if self.callback_on_new_best is not None:
            self.callback_on_new_best.on_training_start(self.locals, self.globals)
        # Off-policy algorithms count episodes over several calls of learn(); others do not.
        if self.model.num_timesteps == 0 or self.model._episode_num > 0:
            self.n_episodes = self.model._episode_num
        if self.model.num_timesteps == 0:
            self._tested_episode = 0
        self._every.start(self.model.num_timesteps, self.n_episodes)
        self._continue_training = True
        self._has_printed = False  # the names of the columns, in a compact table

    def _on_rollout_start(self) -> None:
        self._test_if_due()  # the updates after the last rollout are done

    def _on_step(self) -> bool:
        self.count_episodes(int(np.count_nonzero(self.locals["dones"])))
        return self._continue_training

    def next_due(self) -> Due:
        """
        Return when the next test is due, see :class:`Due`.

        :return: At the next step if training shall end
        """
        return self._every.from_now(self.model.num_timesteps, self.n_episodes) if self._continue_training else AT_ONCE

    def count_episodes(self, n: int) -> None:
        """
        Count episodes.

        :param n: Number of episodes that have ended
        """
        self.n_episodes += n

    def _on_training_end(self) -> None:
        self._test_if_due()
        if self.test_at_end and self.n_episodes > self._tested_episode:
            self._test()

    def update_child_locals(self, locals_: dict[str, Any]) -> None:
        """
        Update the references to the local variables in the child callbacks.

        :param locals_: The local variables during rollout collection
        """
        for child in (self.callback, self.callback_on_new_best):
            if child is not None:
                child.update_locals(locals_)

    def get_state(self) -> dict[str, Any]:
        """
        Return the state for a checkpoint: counters, results, and the random generators of the test environment.

        :return: The state, as data without code
        """
        return {
            "n_episodes": self.n_episodes,
            "tested_at": self._every.get_state(self.num_timesteps, self.n_episodes),
            "results": [[episode, dict(vars(result))] for episode, result in self.results],
            "best_mean_reward": self.best_mean_reward,
            "last_mean_reward": self.last_mean_reward,
            "test_env": None if self.test_env is None else generators_state(self.test_env),
            "continue_training": self._continue_training,
            "tested_episode": self._tested_episode,
            "max_episode_steps": self.max_episode_steps,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Restore the state of another callback.

        :param state: Return value of its :meth:`get_state`
        """
        check_number("n_episodes", state["n_episodes"], 0, integer=True)
        for name in ("best_mean_reward", "last_mean_reward"):
            _check_figure(name, state[name])
        results = [result_of(*entry) for entry in state["results"]]
        last = results[-1][0] if results else 0  # as versions before 2.0 had it
        check_number("tested_episode", tested_episode := state.get("tested_episode", last), 0, integer=True)
        self._every.set_state(state["tested_at"])
        self._tested_episode = tested_episode
        self.n_episodes, self.results = state["n_episodes"], results
        self.best_mean_reward, self.last_mean_reward = state["best_mean_reward"], state["last_mean_reward"]
        self._continue_training = bool(state["continue_training"])
        if "max_episode_steps" not in state:
            self._keep_step_limit_of_1_0()
        if self.test_env is not None:
            set_generators_state(self.test_env, state["test_env"])

    def _keep_step_limit_of_1_0(self) -> None:
        """Keep the step limit of tests for a run that version 1.0 began, whose default limit was another."""
        if self.max_episode_steps is None and self.test_env is not None:
            if step_limit_of(self.test_env) == LECTURE_MAX_EPISODE_STEPS:
                return
            warnings.warn(
                f"version 1.0 began this run, and truncates test episodes after {LECTURE_MAX_EPISODE_STEPS} steps by "
                "default; this limit is kept: pass max_episode_steps=... to change it"
            )
            self.max_episode_steps = LECTURE_MAX_EPISODE_STEPS
            self.test_env = self._new_test_env()

    def _test_if_due(self) -> None:
        if self._every.due(self.model.num_timesteps, self.n_episodes):
            self._test()

    def _test(self) -> None:
        if self.given_env is None:
            try:
                self._follow_training_env()
            except CannotCopyError as error:  # a missing test must not end the training
                warnings.warn(f"no test after episode {self.n_episodes}: {error}")
                return
        assert self.test_env is not None
        limit = self.max_episode_steps
        if isinstance(self.test_env, TabularVecEnv) and self.exact:
            result = exact_test_on(self.model, self.test_env, limit, self.penalty_reward)
        else:
            result = run_test_on(self.model, self.test_env, self.n_test_episodes, limit, self.penalty_reward)
        self.results.append((self.n_episodes, result))
        self._tested_episode = self.n_episodes
        self.last_mean_reward = result.mean_reward
        if self.verbose >= 1:
            self._print(result)
        with outliving_full_disks(self.logger):
            self._log(result)
        proceed = True
        if result.mean_reward > self.best_mean_reward:
            self.best_mean_reward = result.mean_reward
            if self.best_model_save_path is not None:
                self.model.save(os.path.join(self.best_model_save_path, "best_model"))
            if self.callback_on_new_best is not None:
                proceed = self.callback_on_new_best.on_step()
        self._continue_training = self._on_event() and proceed

    def _print(self, result: TestResult) -> None:
        if not self.compact:
            tqdm.write(f"Episode {self.n_episodes}, step {self.num_timesteps}: {result}")
            return
        if not self._has_printed:
            tqdm.write(compact_header(result.knows_success))
            self._has_printed = True
        tqdm.write(compact_line(self.n_episodes, self.num_timesteps, result))

    def _log(self, result: TestResult) -> None:
        for output in self.logger.output_formats:
            if isinstance(output, TensorBoardOutputFormat):
                output.writer.add_scalar("Steps", result.mean_steps, self.n_episodes)
                output.writer.add_scalar("Penalty", result.mean_penalties, self.n_episodes)
                output.writer.add_scalar("Reward", result.mean_reward, self.n_episodes)
                if result.knows_success:
                    output.writer.add_scalar("Solved", result.success_rate, self.n_episodes)
        self.logger.record("eval/mean_reward", result.mean_reward)
        self.logger.record("eval/mean_ep_length", result.mean_steps)
        self.logger.record("eval/mean_penalties", result.mean_penalties)
        self.logger.record("eval/success_rate", result.success_rate)
        if result.optimality is not None:
            self.logger.record("eval/optimality", result.optimality)
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(self.num_timesteps)


def _check_figure(name: str, figure: Any) -> None:
    """Check that a result of a test is a number. NaN is allowed, as some environments do not report success."""
    if not (isinstance(figure, float | np.floating) and np.isnan(figure)):
        check_number(name, figure, -np.inf)


def result_of(episode: Any, figures: dict[str, Any]) -> tuple[int, TestResult]:
    """
    Make the result of a test from its entry in a checkpoint. Figures that the checkpoint lacks are NaN.

    :param episode: Number of finished episodes at the test
    :param figures: Figures by name
    :return: The episode and the result
    """
    check_number("episode of a test", episode, 0, integer=True)
    if not isinstance(figures, dict):
        raise ValueError(f"{figures!r} is not a dictionary of figures")
    known = {field.name: field for field in dataclasses.fields(TestResult)}
    if unknown := figures.keys() - known.keys():
        raise ValueError(f"{', '.join(sorted(unknown))}: this version does not know these figures of a test")
    for name, figure in figures.items():
        default = known[name].default
        if isinstance(default, bool):
            check_switch(name, figure)
        elif figure is not None or default is not None:
            _check_figure(name, figure)
    required = {name: np.nan for name, field in known.items() if field.default is dataclasses.MISSING}
    return episode, TestResult(**{**required, **figures})


class LectureCheckpointCallback(BaseCallback):
    """
    Save checkpoints, from which :meth:`LectureDQN.resume` continues as if training had not been stopped.

    It saves a checkpoint at the start, at the end, and after the updates of every step at which one is due. After
    Ctrl-C or SIGTERM, it waits for the end of the step and saves one too. It also saves one if an environment raises
    an exception; a run that is resumed from that one begins new episodes. If a checkpoint cannot be written, as on a
    full disk, a warning is issued, training continues, and earlier checkpoints are kept. A checkpoint is about as large
    as the replay memory.

    :param save_freq: Save every ``save_freq`` environment steps. A tuple such as ``(50, "episode")`` counts episodes
    :param save_path: Folder for the checkpoints of this run. If ``None``, ``checkpoints`` in the folder of the logs.
        Outside the folder of the logs, a resumed run cannot remove log entries that are newer than the checkpoint
    :param keep: Number of newest checkpoints to keep, ``None`` for all
    :param verbose: Verbosity level: 1 to print after Ctrl-C how to resume, 2 to print every checkpoint too
    :raises ValueError: If an argument is out of range; at the start of training, if the model cannot be checkpointed or
        the folder has checkpoints of another run, or another process trains into it
    """

    #: Whether other processes are kept from the folder; a subclass whose runs are kept apart otherwise may set it
    _locks: ClassVar[bool] = True

    def __init__(
        self,
        save_freq: int | tuple[int, str] = (50, "episode"),
        save_path: str | pathlib.Path | None = None,
        keep: int | None = 3,
        verbose: int = 1,
    ) -> None:
        super().__init__(verbose)
        self.save_freq = parse_frequency("save_freq", save_freq)
        if keep is not None:
            check_number("keep", keep, 1, integer=True)
        self.save_path = None if save_path is None else pathlib.Path(save_path)
        self.keep = keep
        self.checkpointer: Checkpointer | None = None

    def _on_training_start(self) -> None:
        model: Any = self.model
        if not hasattr(model, "save_checkpoint"):
            raise ValueError(
                f"LectureCheckpointCallback is for LectureDQN and LectureQRDQN, not {type(model).__name__}"
            )
        folder, every = folder_for(model, self.save_path), Every(*self.save_freq)
        self.checkpointer = Checkpointer(model, folder, every, self.keep, self.verbose, self._before_save, self._locks)

    def _before_save(self) -> None:
        """Do nothing. A subclass may raise an error to prevent a checkpoint."""

    @property
    def last_path(self) -> pathlib.Path | None:
        """Path of the newest checkpoint of this run, ``None`` before the first."""
        return None if self.checkpointer is None else self.checkpointer.last_path

    # The class `Run` calls the checkpointer between rollouts, so this callback does nothing in steps.

    def _on_step(self) -> bool:
        return True

    def next_due(self) -> Due:
        """
        Return that no call is due, see :class:`Due`.

        :return: Never
        """
        return Due()

    def update_locals(self, locals_: dict[str, Any]) -> None:
        """Do nothing, to save time: this callback does not use the local variables."""

    def get_state(self) -> dict[str, Any]:
        """
        Return the state for a checkpoint.

        :return: An empty dictionary, since the model's counters determine when the next checkpoint is due
        """
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """
        Do nothing, since there is no state.

        :param state: Return value of :meth:`get_state`
        """


class EpisodeProgressBarCallback(BaseCallback):
    """
    Show a progress bar over episodes. ``learn(progress_bar=True)`` uses it if the budget is in episodes.

    If the budget is not in episodes, as with the algorithms of SB3, the bar counts episodes without a total.
    """

    def _on_training_start(self) -> None:
        budget = getattr(self.model, "_budget", None)
        total = None if budget is None else budget.until_episode
        self._begin(Bar(total=total, initial=self.model._episode_num, unit="episode"))

    def _begin(self, bar: Bar) -> None:
        self.bar, self._has_moved = bar, False

    def _on_step(self) -> bool:
        self.count_episodes(int(np.count_nonzero(self.locals["dones"])))
        return True

    def next_due(self) -> Due:
        """
        Return that no call is due, see :class:`Due`.

        :return: Never
        """
        return Due()

    def count_episodes(self, n: int) -> None:
        """
        Move the bar.

        :param n: Number of episodes that have ended
        """
        if not self._has_moved:
            self.bar.unpause()  # the first steps wait for the compiler, and the time left must not be told by that
            self._has_moved = True
        if n:
            self.bar.update(n)

    def _on_training_end(self) -> None:
        self.bar.close()


class StepProgressBarCallback(EpisodeProgressBarCallback):
    """Show a progress bar over environment steps. ``learn(progress_bar=True)`` uses it if the budget is in steps."""

    def _on_training_start(self) -> None:
        budget: Any = self.model._budget  # type: ignore[attr-defined]
        self._begin(Bar(total=budget.until_steps, initial=self.num_timesteps, unit="step"))

    def _on_step(self) -> bool:
        self.count_episodes(0)
        return True

    def next_due(self) -> Due:
        """
        Return that no call is due, see :class:`Due`.

        :return: Never
        """
        return Due()

    def count_episodes(self, n: int) -> None:
        """
        Move the bar to the present step.

        :param n: Number of episodes that have ended
        """
        self.bar.total = self.model._budget.until_steps  # type: ignore[attr-defined]  # a goal extends it
        super().count_episodes(self.num_timesteps - self.bar.n)
