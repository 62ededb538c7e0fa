"""The compiled loop of :mod:`kernels.rollouts` on a model: what goes in, and what its results change."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule, update_learning_rate

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer
from sb3_lecture_dqn.common.transition_row import DISCRETE_ROW
from sb3_lecture_dqn.training.due import leave_out

# Ended episodes that a call of the loop has room for, besides those of one rollout
_MAX_ENDED = 2048
_NO_LIMIT = 2**62


class Limits(NamedTuple):
    """
    Where the loop must stop.

    :param rollouts: Number of rollouts from now
    :param steps: Total environment steps; it stops after the rollout that reaches them
    :param episodes: Total episodes; likewise
    """

    rollouts: int
    steps: int
    episodes: int


class CompiledLoop:
    """
    Calls the compiled loop, and brings everything outside it to where the loop has come.

    :param model: A model that :class:`stretches.Stretches` found possible
    :param callback: The callback of this call of ``learn``
    :param log_interval: Number of episodes between two logs, ``None`` for no logs
    """

    def __init__(self, model: Any, callback: BaseCallback, log_interval: int | None) -> None:
        self.model = model
        self.callback = callback
        self.log_interval = log_interval
        self._ended = np.zeros((0, 0))
        self._epsilons = np.zeros(0)
        self._epsilons_of: Any = None  # the settings and the first episode

    def run(self, limits: Limits) -> int:
        """
        Do rollouts, and the updates after each.

        :param limits: Where to stop
        :return: Number of rollouts done
        :raises DivergedError: If a loss is NaN or infinite
        :raises IndexError: If a transition of the memory does not fit the network
        :raises ValueError: If the memory is empty
        """
        from sb3_lecture_dqn.kernels import rollouts as kernel  # imported here, since numba takes half a second

        model, env, memory = self.model, self.model.env, self.model.replay_buffer
        engine = model._engine
        clock, running = env.running_episodes()
        n_envs = len(running[0])
        before, outcomes, begun = np.zeros(n_envs, np.int64), np.zeros(n_envs, np.int64), np.full(n_envs, -1)
        dones = np.zeros(n_envs, np.bool_)
        counts = np.zeros(kernel.N_COUNTS, np.int64)
        counts[kernel.CLOCK], counts[kernel.N_CALLS] = clock, model._n_calls
        counts[kernel.EPISODES], counts[kernel.TIMESTEPS] = model._episode_num, model.num_timesteps
        counts[kernel.UPDATES] = model._n_updates
        counts[kernel.SUCCESSES], counts[kernel.FAILURES] = memory.success.size, memory.fail.size
        last, results = np.zeros(kernel.N_LAST), np.zeros(kernel.N_RESULTS, np.int64)
        last[kernel.PROGRESS] = model._current_progress_remaining
        last[kernel.LAST_EPSILON] = model.exploration_rate
        n_ended = _MAX_ENDED + n_envs * model.train_freq.frequency
        if len(self._ended) < n_ended:
            self._ended = np.zeros((n_ended, kernel.N_COLUMNS))
        tried = model._exploration.counts
        kernel.run(
            np.array(limits),
            counts,
            self._switches(kernel),
            float(model.tau),
            float(model.gamma),
            -1.0 if memory.success_fraction is None else float(memory.success_fraction),
            env.tables(model.use_masking),
            (*running, before, outcomes, dones, begun),
            (env.rng, model._exploration.rng, memory.rng),
            self._rows(limits.rollouts * n_envs * most_steps_in_a_rollout(model)),
            np.zeros((0, 0), np.int64) if tried is None else tried,
            self._epsilons_from_now(n_ended + 1),
            self._schedules(),
            *engine.arguments(model.batch_size, memory.fail.words.shape[1] - DISCRETE_ROW.itemsize // 8),
            self._ended,
            last,
            results,
        )
        env.set_running_episodes(int(counts[kernel.CLOCK]), running, outcomes, begun)
        memory.success.set_size(int(counts[kernel.SUCCESSES]))
        memory.fail.set_size(int(counts[kernel.FAILURES]))
        memory._update_pos()
        model._last_original_obs, model._last_obs = before, running[0]
        if model.use_masking:
            model._transitions.masks = env.action_masks()
        engine.add_steps(int(results[kernel.OPTIMIZED]))
        status, has_updated = results[kernel.STATUS], counts[kernel.UPDATES] > model._n_updates
        if has_updated or status == kernel.UPDATE_FAILED:
            update_learning_rate(model.policy.optimizer, float(last[kernel.LAST_RATE]))
        ended = self._ended[: results[kernel.ENDED]]
        self._update_model(kernel, counts, last, ended)
        self._update_locals(kernel, ended, outcomes, dones, int(results[kernel.COLLECTED]))
        leave_out(self.callback, int(results[kernel.STEPS]), int(results[kernel.ENDED]), model.num_timesteps)
        if status == kernel.UPDATE_FAILED:
            done = int(last[kernel.N_UPDATED])
            engine.mean_loss(float(last[kernel.LOSS_SUM]), done, done + 1)
        if status == kernel.MEMORY_EMPTY:
            memory.draw_minibatches(1, 1)
        return int(results[kernel.ROLLOUTS])

    def _switches(self, kernel: Any) -> np.ndarray:
        """Return the settings in whole numbers, as they are now."""
        model, memory = self.model, self.model.replay_buffer
        switches = np.zeros(kernel.N_SWITCHES, np.int64)
        switches[kernel.TRAIN_FREQ] = model.train_freq.frequency
        switches[kernel.TRAIN_BY_EPISODE] = model.train_freq.unit == TrainFrequencyUnit.EPISODE
        switches[kernel.GRADIENT_STEPS] = model.gradient_steps
        switches[kernel.BATCH_SIZE] = model.batch_size
        switches[kernel.LEARNING_STARTS] = model.learning_starts
        interval = model.target_update_interval
        if model._networks[0] is not model._networks[1]:
            if isinstance(interval, int):
                switches[kernel.COPY_EVERY_CALLS] = max(interval // model.n_envs, 1)
            elif interval[1] == "step":
                switches[kernel.COPY_EVERY_STEPS] = interval[0]
            else:
                switches[kernel.COPY_EVERY_EPISODES] = interval[0]
        switches[kernel.EXPLORES_BY_EPISODE] = model.exploration_decay is not None
        switches[kernel.LEAST_TRIED] = model.explore_least_tried
        switches[kernel.CRITERION] = {
            "terminal": kernel.TERMINAL,
            "positive_reward": kernel.POSITIVE_REWARD,
            "is_success": kernel.NEVER,  # tabular environments have no info["is_success"]
        }[memory.success_criterion]
        switches[kernel.BOOTSTRAPS_TIMEOUTS] = memory.handle_timeout_termination
        switches[kernel.IS_LATEST_ONLY] = isinstance(memory, LatestTransitionBuffer)
        switches[kernel.DEDUPLICATES] = memory.success.index is not None
        for number, partition in ((kernel.MAX_SUCCESSES, memory.success), (kernel.MAX_FAILURES, memory.fail)):
            switches[number] = _NO_LIMIT if partition.capacity is None else partition.capacity
        switches[kernel.MAX_TOGETHER] = memory.buffer_size if memory.bounds_all else 0
        switches[kernel.STEP_LIMIT] = min(model.env.step_limit, _NO_LIMIT)
        switches[kernel.ACTS_BY_MASKS] = model.use_masking
        return switches

    def _rows(self, n_new: int) -> tuple[np.ndarray, ...]:
        """Return the arrays of both partitions, with room for new rows."""
        memory, table = self.model.replay_buffer, self.model.env.model
        if isinstance(memory, LatestTransitionBuffer):
            n_new = self.model.n_envs
        elif memory.success.index is not None:  # each outcome once, as an end and not as an end
            n_new = min(n_new, 2 * table.next_states.size)
        arrays: list[np.ndarray] = []
        for partition in (memory.success, memory.fail):
            n_rows = partition.size + n_new
            arrays += partition.reserve(n_rows if partition.capacity is None else min(n_rows, partition.capacity))
        return tuple(arrays)

    def _epsilons_from_now(self, n: int) -> np.ndarray:
        """Return the lecture's exploration rates of this episode and those that follow, n in all."""
        model, episode = self.model, self.model._episode_num + 1
        decay = model.exploration_decay
        if decay is None:
            return self._epsilons
        settings = model.exploration_initial_eps, decay, model.exploration_final_eps
        first = episode if self._epsilons_of is None else self._epsilons_of[1]
        if self._epsilons_of != (settings, first) or not first <= episode <= first + len(self._epsilons) - n:
            self._epsilons = np.array([model.epsilon(i) for i in range(episode, episode + 2 * n)])
            self._epsilons_of, first = (settings, episode), episode
        return self._epsilons[episode - first :]

    def _schedules(self) -> tuple[tuple[float, float, float], ...]:
        model, budget = self.model, self.model._budget
        exploration = None if model.exploration_decay is not None else linear_schedule(model.exploration_schedule)
        by_episode = budget.until_episode is not None
        totals = (0.0, float(budget.until_episode)) if by_episode else (float(model._total_timesteps), 0.0)
        learning = linear_schedule(model.lr_schedule)
        assert learning is not None
        return exploration or (0.0, 0.0, 1.0), learning, (*totals, 0.0)

    def _update_model(self, kernel: Any, counts: np.ndarray, last: np.ndarray, ended: np.ndarray) -> None:
        """Bring the counters and the logs up to date, with a dump of the logs wherever one was due."""
        model, log_interval, age = self.model, self.log_interval, self.model.env.age
        n_updates_logged, logged_at = model._n_updates, 0
        for start, stop in _runs_of_equals(ended[:, kernel.AT_TIMESTEP]):  # episodes that ended in the same step
            rows = ended[start:stop].tolist()
            model.num_timesteps = int(rows[0][kernel.AT_TIMESTEP])
            model.ep_info_buffer.extend(
                {"r": round(row[kernel.RETURN], 6), "l": int(row[kernel.LENGTH]), "t": age} for row in rows
            )
            for row in rows:
                model._episode_num += 1
                if log_interval is not None and model._episode_num % log_interval == 0:
                    if logged_at < model.num_timesteps:
                        self._record_step(row[kernel.EPSILON])
                    n_updates = int(row[kernel.UPDATES_SO_FAR])
                    if n_updates_logged < n_updates:
                        self._record_updates(row[kernel.RATE], n_updates, row[kernel.LOSS])
                    n_updates_logged, logged_at = n_updates, model.num_timesteps
                    model._n_updates = n_updates
                    model.dump_logs()
        n_updates = int(counts[kernel.UPDATES])
        if logged_at < counts[kernel.TIMESTEPS]:
            self._record_step(float(last[kernel.LAST_EPSILON]))
        if n_updates_logged < n_updates:
            self._record_updates(float(last[kernel.LAST_RATE]), n_updates, float(last[kernel.LAST_LOSS]))
        model.num_timesteps, model._n_updates = int(counts[kernel.TIMESTEPS]), n_updates
        model._n_calls = int(counts[kernel.N_CALLS])
        if not isinstance(model.target_update_interval, int):
            model._target_copies.start(model.num_timesteps, model._episode_num)
        model._current_progress_remaining = float(last[kernel.PROGRESS])
        model.exploration_rate = float(last[kernel.LAST_EPSILON])

    def _update_locals(
        self, kernel: Any, ended: np.ndarray, outcomes: np.ndarray, dones: np.ndarray, n_collected: int
    ) -> None:
        """Give the callbacks the local variables of the last step: some work before the next, at a rollout's start."""
        model, env = self.model, self.model.env
        n_before = len(ended) - int(dones.sum())  # episodes that ended before the last step
        in_last_step = [(total, int(n)) for total, n in ended[n_before:, [kernel.RETURN, kernel.LENGTH]].tolist()]
        new_obs, rewards, dones, infos = env.step_results(outcomes, dones, in_last_step)
        rollout_began = model.num_timesteps - n_collected * env.num_envs
        actions = outcomes // env.model.n_outcomes % env.model.n_actions
        variables = {
            "self": model,
            "env": env,
            "callback": self.callback,
            "train_freq": model.train_freq,
            "replay_buffer": model.replay_buffer,
            "action_noise": model.action_noise,
            "learning_starts": model.learning_starts,
            "log_interval": self.log_interval,
            "num_collected_steps": n_collected,
            "num_collected_episodes": int((ended[:n_before, kernel.AT_TIMESTEP] > rollout_began).sum()),
            "by_step": model.train_freq.unit == TrainFrequencyUnit.STEP,
            "continue_training": True,
            "actions": actions,
            "buffer_actions": actions,
            "new_obs": new_obs,
            "rewards": rewards,
            "dones": dones,
            "infos": infos,
        }
        self.callback.update_locals(variables)

    def _record_step(self, epsilon: float) -> None:
        self.model.logger.record("rollout/exploration_rate", epsilon)

    def _record_updates(self, rate: float, n_updates: int, loss: float) -> None:
        logger = self.model.logger
        logger.record("train/learning_rate", rate)
        logger.record("train/n_updates", n_updates, exclude="tensorboard")
        logger.record("train/loss", loss)


def most_steps_in_a_rollout(model: Any) -> int:
    """
    Compute how many steps of each environment a rollout has at most.

    :param model: A model on a tabular environment, with a step limit if ``train_freq`` is in episodes
    :return: Number of steps
    """
    by_step = model.train_freq.unit == TrainFrequencyUnit.STEP
    return int(model.train_freq.frequency * (1 if by_step else model.env.step_limit))


def linear_schedule(schedule: Any) -> tuple[float, float, float] | None:
    """
    Read a schedule that the compiled loop can compute.

    :param schedule: A schedule of SB3
    :return: Its values at the start and at the end, and the share of the budget after which the end is reached;
        ``None`` if it is neither constant nor linear
    """
    if type(schedule) is FloatSchedule:
        schedule = schedule.value_schedule
    if type(schedule) is ConstantSchedule:
        return float(schedule.val), float(schedule.val), 1.0
    if type(schedule) is LinearSchedule:
        return float(schedule.start), float(schedule.end), float(schedule.end_fraction)
    return None


def _runs_of_equals(values: np.ndarray) -> list[tuple[int, int]]:
    """Return where each run of equal values starts and stops."""
    bounds = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), len(values)]
    return list(pairwise(bounds)) if len(values) else []
