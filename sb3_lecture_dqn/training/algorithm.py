"""
The training loop: act, step, store; update; copy the target network; test. A copy by steps comes before the updates.

:meth:`LectureAlgorithm.learn` loops over rollouts, :meth:`LectureAlgorithm._do_rollout_and_update` does one iteration
of the loop, and :meth:`LectureAlgorithm.collect_rollouts` steps the environments. Tests are callbacks: they run at the
start of a rollout, after the updates of the rollout before it, and at the end of training.
"""

import pathlib
import warnings
from collections.abc import Callable
from operator import itemgetter
from typing import Any, TypeVar

import numpy as np
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, ConvertCallback, EvalCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.type_aliases import MaybeCallback, RolloutReturn, Schedule, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import polyak_update, update_learning_rate
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_lecture_dqn.common.callback_tree import callback_tree
from sb3_lecture_dqn.common.checks import Observation
from sb3_lecture_dqn.common.hindsight import waits_for_episode
from sb3_lecture_dqn.common.step_checks import WrongStepError
from sb3_lecture_dqn.engine.divergence import check_weights
from sb3_lecture_dqn.envs.env_processes import naming_dead_processes
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.saving.checkpoint_folder import check_is_free
from sb3_lecture_dqn.saving.logs import outliving_full_disks
from sb3_lecture_dqn.saving.model_env import set_made_env
from sb3_lecture_dqn.saving.run_folder import (
    begin_logs,
    goes_on_in_its_logs,
    lecture_logger,
    make_run_folder,
    warn_of_missing_logs,
)
from sb3_lecture_dqn.saving.run_state import begin_clock, time_learning
from sb3_lecture_dqn.training.callbacks import EpisodeProgressBarCallback, StepProgressBarCallback
from sb3_lecture_dqn.training.goal import Goal
from sb3_lecture_dqn.training.model import LectureModel
from sb3_lecture_dqn.training.run import Run
from sb3_lecture_dqn.training.schedule import Budget
from sb3_lecture_dqn.training.stretches import Stretches

SelfAlgorithm = TypeVar("SelfAlgorithm", bound="LectureAlgorithm")


class LectureAlgorithm(LectureModel):
    """
    The lecture's training loop for a DQN of SB3 or sb3-contrib. Use it as the first base class.

    - ε of episode i = 1, 2, … is ``max(exploration_final_eps, exploration_initial_eps * exploration_decay**i)``. With
      several environments, i is one more than the total number of episodes that have ended in them.
    - The target network is copied after the updates that follow the last step of every n-th episode; if the interval is
      in steps, it is copied before the updates, as in SB3.
    - The budget of :meth:`learn` may be a number of episodes.

    A subclass defines its networks, ``_networks``, and the equation, ``compute_loss``; the words ``word_in_files`` and
    ``hyperparams``; and ``_create_aliases``, which makes the target the online network if ``double_dqn=False``.
    """

    exploration_schedule: Schedule
    batch_norm_stats: list[th.Tensor]
    batch_norm_stats_target: list[th.Tensor]
    _n_calls: int
    _env_raised = False

    def learn(
        self: SelfAlgorithm,
        total_timesteps: int | None = None,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        *,
        total_episodes: int | None = None,
    ) -> SelfAlgorithm:
        """
        Train for a budget of environment steps or of episodes.

        Both budgets are lower bounds, as in SB3: training stops after the rollout (see ``train_freq``) that reaches the
        budget. With one environment and the default ``train_freq=1``, the budget is met exactly.

        :param total_timesteps: Budget in environment steps. With 0, the logger is set up and nothing is trained, as in
            SB3
        :param callback: Callback(s) called at every step with the state of the algorithm
        :param log_interval: Number of episodes between two logs
        :param tb_log_name: Name of the TensorBoard run, to which SB3 adds a number. If ``None``, the lecture's name
            ``SR_<store_and_replay>_DD_<double_dqn>_<date-time>``, see :meth:`make_run_folder`
        :param reset_num_timesteps: Whether to start counting steps and episodes from zero
        :param progress_bar: Show a progress bar, over episodes if the budget is in episodes
        :param total_episodes: Budget in episodes; 5000 if no budget is given, unless the model is :meth:`tuned`, which
            then trains until a test is solved or tests no longer improve, and keeps the model of the best test, see
            :class:`Goal`
        :return: The trained model
        :raises DivergedError: If a loss or a weight is NaN or infinite; the message says what helps. If it was a loss,
            the model keeps the weights from before that update
        :raises ValueError: If both budgets are given or one is below 0. Also if the environment returns a reward that
            is not finite, an end of an episode that is not a boolean, or an observation that has the wrong shape, is
            NaN, or is outside a discrete space. Finite observations outside a ``Box`` only cause a warning, once
        """
        is_resumed = self._resumed is not None  # this call continues the call of `learn` that was stopped
        self._in_rollout = self._env_raised = False
        reset_num_timesteps = reset_num_timesteps and not is_resumed
        budget = self._budget = self._budget_of_call(total_timesteps, total_episodes, reset_num_timesteps, is_resumed)
        goal = self._goal = self._goal_of_call(total_timesteps, total_episodes, budget, is_resumed)
        total_timesteps, callback = self._begin(callback, reset_num_timesteps, tb_log_name, progress_bar)

        self._access.note()  # before the engine reads the networks
        self._make_engine()  # the user may have changed settings since the last call

        with Run(self, callback) as run:
            callback.on_training_start(locals(), globals())
            run.begin()
            goal.begin(self)
            stretches = Stretches(self, callback, log_interval, run)
            while goal.goes_on(self, budget):
                # Do rollouts by the compiled loop if it can do them; else do one here.
                proceeds = stretches.advance() if stretches.are_possible else None
                if proceeds is None:
                    proceeds = self._do_rollout_and_update(callback, log_interval)
                run.between_rollouts(proceeds)
                if not proceeds:
                    break
            else:
                goal.end(self)
            check_weights(self)

        try:
            callback.on_training_end()
            run.end()
        finally:
            run.release_folders()
        return self

    def _do_rollout_and_update(self, callback: BaseCallback, log_interval: int) -> bool:
        """Collect a rollout, update, copy the target network if due; return ``False`` if a callback ends training."""
        assert self.env is not None
        self._in_rollout = True
        rollout = self.collect_rollouts(
            self.env,
            train_freq=self.train_freq,  # type: ignore[arg-type]
            action_noise=self.action_noise,
            callback=callback,
            learning_starts=self.learning_starts,
            replay_buffer=self.replay_buffer,  # type: ignore[arg-type]
            log_interval=log_interval,
        )
        if not rollout.continue_training:
            return False
        self._update_after_rollout(rollout.episode_timesteps, rollout.n_episodes)
        self._in_rollout = False
        return True

    def _update_after_rollout(self, n_steps: int, n_episodes: int) -> None:
        """Update after a rollout of so many steps and ended episodes, and copy the target network if due."""
        if self.num_timesteps > self.learning_starts and not waits_for_episode(self.replay_buffer):
            gradient_steps = self.gradient_steps if self.gradient_steps >= 0 else n_steps
            if gradient_steps > 0:
                self.train(batch_size=self.batch_size, gradient_steps=gradient_steps)
        self._copy_target_by_episodes(n_episodes)

    def _finish_rollout(self, callback: BaseCallback, step: dict[str, Any]) -> None:
        """
        Do all that follows the callbacks in a rollout of one step.

        :param callback: The callback
        :param step: Local variables of :meth:`collect_rollouts` when the callbacks were called
        """
        arguments = itemgetter("replay_buffer", "actions", "new_obs", "rewards", "dones", "infos", "log_interval")(step)
        n_episodes = self._finish_step(*arguments)
        callback.on_rollout_end()
        self._update_after_rollout(len(step["dones"]), n_episodes)
        self._in_rollout = False

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        train_freq: TrainFreq,
        replay_buffer: ReplayBuffer,
        action_noise: ActionNoise | None = None,
        learning_starts: int = 0,
        log_interval: int | None = None,
    ) -> RolloutReturn:
        """
        Step the environments and store the transitions.

        This is SB3's method without the parts that a DQN does not use. Callbacks see the same local variables.

        :param env: The training environment
        :param callback: Callback that is called at the start of the rollout, at every step and at the end
        :param train_freq: How many steps or episodes to collect
        :param replay_buffer: Replay memory that stores the transitions
        :param action_noise: Noise that is reset at the end of an episode
        :param learning_starts: Number of steps with random actions before learning starts
        :param log_interval: Number of episodes between two logs
        :return: Number of collected steps and episodes, and whether to continue training
        """
        if self._engine.name == "torch" or self.policy.training:  # it walks through all modules
            self.policy.set_training_mode(False)
        num_collected_steps, num_collected_episodes = 0, 0
        by_step = train_freq.unit == TrainFrequencyUnit.STEP
        assert by_step or env.num_envs == 1, "You must use only one env when doing episodic training."
        callback.on_rollout_start()
        self._access.after_rollout_start()
        continue_training = True  # never changes; callbacks see it, as in SB3
        while (num_collected_steps if by_step else num_collected_episodes) < train_freq.frequency:
            actions, buffer_actions = self._sample_action(learning_starts, action_noise, env.num_envs)
            new_obs, rewards, dones, infos = self._step(env, actions)
            self.num_timesteps += env.num_envs
            num_collected_steps += 1

            callback.update_locals(locals())
            if not self._call_back(callback, new_obs, dones, infos):
                return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, False)
            num_collected_episodes += self._finish_step(
                replay_buffer, buffer_actions, new_obs, rewards, dones, infos, log_interval, action_noise
            )
            idx, done = len(dones) - 1, bool(dones[-1])  # callbacks see them at the next step, as in SB3
        callback.on_rollout_end()
        return RolloutReturn(num_collected_steps * env.num_envs, num_collected_episodes, continue_training)

    def _call_back(
        self, callback: BaseCallback, new_obs: Observation, dones: np.ndarray, infos: list[dict[str, Any]]
    ) -> bool:
        """Call the callbacks after a step, and return whether training goes on; if not, the step is not stored."""
        continues = False
        try:
            continues = callback.on_step()
        finally:
            if not continues:
                self._transitions.follow(self, new_obs, dones, infos)
        self._access.after_step()
        return continues

    def _finish_step(
        self,
        replay_buffer: ReplayBuffer,
        actions: np.ndarray,
        new_obs: Observation,
        rewards: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
        log_interval: int | None,
        action_noise: ActionNoise | None = None,
    ) -> int:
        """Do all that follows the callbacks in a step, and return the number of episodes that it has ended."""
        self._update_info_buffer(infos, dones)
        self._store_transition(replay_buffer, actions, new_obs, rewards, dones, infos)
        self._update_current_progress_remaining(self.num_timesteps, self._total_timesteps)
        self._on_step()
        n_ended = 0
        for idx, done in enumerate(dones.tolist()):
            if done:
                n_ended += 1
                self._episode_num += 1
                if action_noise is not None:
                    action_noise.reset(**({"indices": [idx]} if len(dones) > 1 else {}))
                if log_interval is not None and self._episode_num % log_interval == 0:
                    self.dump_logs()
        return n_ended

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.exploration_decay is not None:
            self.exploration_rate = self.epsilon(self._episode_num + 1)
        obs, masks, exploration = self._last_obs, self._transitions.masks, self._exploration
        assert obs is not None
        if self.num_timesteps < learning_starts:
            actions = exploration.draw(n_envs, obs, masks)
        else:
            self._refresh_engine()
            actions = exploration.choose(
                self.exploration_rate, obs, self._engine.greedy_actions, masks, is_training=True
            )
        return actions, actions

    def _step(self, env: VecEnv, actions: np.ndarray) -> Any:
        """Step the environments, and add the number of the step to their errors."""
        self._access.handed_out = False
        try:
            return env.step(actions)
        except WrongStepError as error:
            self.num_timesteps += env.num_envs
            error.step = self.num_timesteps
            raise
        except Exception:
            self._env_raised = True
            raise

    def _store_transition(
        self,
        replay_buffer: ReplayBuffer,
        buffer_action: np.ndarray,
        new_obs: Observation,
        reward: np.ndarray,
        dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:
        self._transitions.store(self, replay_buffer, buffer_action, new_obs, reward, dones, infos)

    def train(self, gradient_steps: int, batch_size: int = 1) -> None:
        """
        Update the online network.

        :param gradient_steps: Number of updates
        :param batch_size: Number of transitions in each minibatch
        """
        self._update_learning_rate(self.policy.optimizer)
        self._refresh_engine()
        loss = self._engine.train(gradient_steps, batch_size)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", loss)

    def _on_step(self) -> None:
        self._n_calls += 1
        self._copy_target_by_steps()
        if self.exploration_decay is None:
            self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def _copy_target_by_steps(self) -> None:
        """Copy the online network to the target network if so many calls are over; before updates, as in SB3."""
        interval = self.target_update_interval
        if isinstance(interval, int) and self._n_calls % max(interval // self.n_envs, 1) == 0:
            self._copy_target()

    def _copy_target_by_episodes(self, n_ended: int) -> None:
        """Copy the online network to the target network if so many episodes are over; after updates, as the lecture."""
        interval = self.target_update_interval
        if not isinstance(interval, int) and (n_ended or interval[1] == "step"):
            self._target_copies.n, self._target_copies.unit = interval  # a callback may have changed it
            if self._target_copies.due(self.num_timesteps, self._episode_num):
                self._copy_target()

    def _copy_target(self) -> None:
        online, target = self._networks
        if target is not online:
            self._refresh_engine()  # a callback may have changed the networks in this step
            self._engine.copy_target(self.tau)
            # As in SB3, running statistics of batch normalisation are copied without averaging.
            polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)

    def _update_learning_rate(self, optimizers: list[th.optim.Optimizer] | th.optim.Optimizer) -> None:
        """Set the learning rate as SB3 does, but evaluate the schedule once instead of twice."""
        learning_rate = self.lr_schedule(self._current_progress_remaining)
        self.logger.record("train/learning_rate", learning_rate)
        for optimizer in optimizers if isinstance(optimizers, list) else [optimizers]:
            update_learning_rate(optimizer, learning_rate)

    # The beginning of a call of `learn`

    def _budget_of_call(
        self, total_timesteps: int | None, total_episodes: int | None, from_zero: bool, is_resumed: bool
    ) -> Budget:
        counts_before = (0, 0) if from_zero else (self.num_timesteps, self._episode_num)
        if is_resumed:
            if total_timesteps is None and total_episodes is None:
                return self._budget
            counts_before = (self._budget.steps_before, self._budget.episodes_before)
        return Budget.parse(total_timesteps, total_episodes, *counts_before, self._default_timesteps)

    def _goal_of_call(
        self, total_timesteps: int | None, total_episodes: int | None, budget: Budget, is_resumed: bool
    ) -> Goal:
        if total_timesteps is not None or total_episodes is not None:
            return Goal()
        return self._goal if is_resumed else Goal(self._default_timesteps, budget.steps_before, budget.episodes_before)

    def _begin(
        self, callback: MaybeCallback, from_zero: bool, tb_log_name: str | None, progress_bar: bool
    ) -> tuple[int, BaseCallback]:
        """Set up the logger, callbacks and counters as SB3 does, and check the first observations."""
        if self.env is None and self.env_id is not None:  # the model was loaded without an environment
            set_made_env(self)
            if self.seed is not None:
                self.get_env().seed(self.seed)  # type: ignore[union-attr]
        if self.env is None:
            raise ValueError(
                "env=None: the model has no environment, and its file has no id of one; call set_env(...) or "
                "load(path, env=...)"
            )
        will_be_reset = from_zero or self._last_obs is None
        goes_on = not from_zero and self._resumed is None and self.num_timesteps > self.n_envs
        counts = self._exploration.counts  # of all steps but one after which a callback has ended training
        if goes_on and counts is not None and not counts.any():
            warnings.warn(
                f"explore_least_tried={self.explore_least_tried!r}: a model's file has no counts of the actions, so "
                "exploration begins anew; to go on exactly, resume a checkpoint"
            )
        # SB3 adds `num_timesteps` to this number.
        total_timesteps = self._budget.until_steps - (0 if from_zero else self.num_timesteps)
        try:
            with naming_dead_processes(self.env):
                set_up = self._setup_learn(total_timesteps, callback, from_zero, tb_log_name, progress_bar)
                self._transitions.begin(self, self.env, will_be_reset)
        except WrongStepError as error:
            error.step = self.num_timesteps
            raise
        self._target_copies.start(self.num_timesteps, self._episode_num)
        return set_up

    def _setup_learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        reset_num_timesteps: bool = True,
        tb_log_name: str | None = "run",
        progress_bar: bool = False,
    ) -> tuple[int, BaseCallback]:
        warn_of_missing_logs(self)
        if self._resumed is not None and goes_on_in_its_logs(self):
            check_is_free(self._resumed.folder)  # before they are cut
        keeps_folder = self._resumed is not None and self._run_folder is not None
        if (tb_log_name is not None and not keeps_folder) or self.tensorboard_log is None or self._custom_logger:
            return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, str(tb_log_name), progress_bar)
        # SB3 would add a number to the name of the lecture's folder, but it does not replace a custom logger.
        self.set_logger(lecture_logger(self, reset_num_timesteps))
        try:
            return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, "", progress_bar)
        finally:
            self._custom_logger = False

    def make_run_folder(self) -> pathlib.Path:
        """
        Make the folder of a new run. Its name consists of settings and the time.

        :return: ``<tensorboard_log>/SR_<store_and_replay>_DD_<double_dqn>_<date-time>``, as in the lecture. If more
            than these two settings differs from the lecture's run, the name says what, such as
            ``taxi-v3_tuned_masks_seed1_<date-time>``
        """
        return make_run_folder(self)

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        # At this point, SB3 has reset its counters and made the logger, and nothing has been logged yet.
        begin_clock(self)
        begin_logs(self)
        if progress_bar:
            callbacks = callback if isinstance(callback, list) else [callback]
            by_steps = self._budget.until_episode is None
            bar = StepProgressBarCallback() if by_steps else EpisodeProgressBarCallback()
            callback = CallbackList([*map(_as_callback, callbacks), bar])
        with warnings.catch_warnings():
            if type(self.env) is TabularVecEnv and _all_evaluate_on(callback, DummyVecEnv):
                # SB3 compares only the types; both classes step the same environments.
                warnings.filterwarnings("ignore", "Training and eval env are not of the same type")
            return super()._init_callback(callback)

    def _update_current_progress_remaining(self, num_timesteps: int, total_timesteps: int) -> None:
        until_episode = self._budget.until_episode
        if until_episode is None:
            super()._update_current_progress_remaining(num_timesteps, total_timesteps)
        else:
            # A rollout may end more episodes than the budget has.
            self._current_progress_remaining = max(0.0, 1.0 - self._episode_num / until_episode)

    def dump_logs(self) -> None:
        """Write the log as SB3 does. If that fails, as on a full disk, training continues without logs."""
        time_learning(self)
        with outliving_full_disks(self.logger):
            super().dump_logs()


def _as_callback(callback: BaseCallback | Callable[..., bool] | None) -> BaseCallback:
    return callback if isinstance(callback, BaseCallback) else ConvertCallback(callback)


def _all_evaluate_on(callback: MaybeCallback, kind: type[VecEnv]) -> bool:
    """Return whether the environments of every ``EvalCallback`` are exactly of this class."""
    roots = callback if isinstance(callback, list) else [callback]
    callbacks = [child for root in roots if isinstance(root, BaseCallback) for child in callback_tree(root)]
    return all(type(child.eval_env) is kind for child in callbacks if isinstance(child, EvalCallback))
