"""The compiled loop of :mod:`kernels.rollouts` on a model: what goes in, and what its results change."""

import math
import sys
from itertools import pairwise
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_lecture_dqn.common.buffers import LatestTransitionBuffer
from sb3_lecture_dqn.common.partition import Partition
from sb3_lecture_dqn.common.transition_row import DISCRETE_ROW
from sb3_lecture_dqn.kernels import places as at
from sb3_lecture_dqn.training.due import most_steps_in_a_rollout
from sb3_lecture_dqn.training.exploration import WayToUntried

#: Episodes that may end in one call of the loop, besides those of its last rollout
_MAX_ENDED = 2048
_MIN_NEW_ROWS = 1024
# Minibatches that are drawn at once
_MAX_DRAWN = 64
_NO_LIMIT = sys.maxsize
# All that the arguments of the loop are made of, besides the numbers that every call reads
_of_model = itemgetter(
    "_engine", "env", "replay_buffer", "_exploration", "_budget", "_total_timesteps", "gamma", "tau", "train_freq",
    "gradient_steps", "batch_size", "learning_starts", "target_update_interval", "exploration_decay",
    "exploration_initial_eps", "exploration_final_eps", "exploration_schedule", "lr_schedule", "explore_least_tried",
    "use_masking", "double_q", "max_grad_norm", "n_envs", "action_noise",
)  # fmt: skip
_of_memory = attrgetter(
    "rng", "success", "fail", "success_fraction", "success_criterion", "handle_timeout_termination", "buffer_size",
    "bounds_all", "_is_success",
)  # fmt: skip
_of_env = attrgetter("rng", "model", "step_limit")


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
        from sb3_lecture_dqn.kernels import draws, rollouts  # imported here, since numba takes half a second

        self._run: Any = rollouts.run
        self._address_of: Any = draws.address_of
        self.model = model
        self.callback = callback
        self.log_interval = log_interval
        n_envs = model.n_envs
        self._counts, self._results = np.zeros(at.N_COUNTS, np.int64), np.zeros(at.N_RESULTS, np.int64)
        self._last, self._limits = np.zeros(at.N_LAST), np.zeros(at.N_LIMITS, np.int64)
        # The same memory, for single numbers in a fraction of the time
        self._count_cells, self._last_cells = self._counts.data, self._last.data
        self._result_list = self._results.tolist()
        # Of the last step: states before it, outcomes, whether they ended episodes, and first states of new episodes
        self._before, self._outcomes = np.zeros(n_envs, np.int64), np.zeros(n_envs, np.int64)
        self._dones, self._begun = np.zeros(n_envs, np.bool_), np.full(n_envs, -1)
        self._ended = np.zeros((0, at.N_COLUMNS))
        self._epsilons, self._epsilons_from = np.zeros(1), 0
        self._arguments: tuple[Any, ...] = ()
        self._made_of: Any = None  # see `_of_model`
        self._reserved: list[tuple[Partition, np.ndarray, np.ndarray, float]] = []
        self._n_new = 0  # transitions that a call stores at most
        self._ends_before = 0  # environment steps that are reached at most
        self._recorded_updates = self._logged_at = 0  # updates in the log, and environment steps at its last dump
        #: Whether a step waits for its end: it is time to call the callbacks for it
        self.waits = False
        self._shown: list[Any] = []  # the numbers of the last step, as callbacks see them

    def begin(self, limits: Limits, pauses: bool) -> None:
        """
        Set how far :meth:`go_on` goes. A step that waits is given up.

        :param limits: Where to stop
        :param pauses: Whether to stop after every step of the environments too, before the rest of the work for it
        """
        model, counts = self.model, self._counts
        self._limits[:] = *limits, pauses
        counts[at.COLLECTED], counts[at.EPISODES_BEFORE], counts[at.WAITS] = 0, model._episode_num, False
        n_new = model.n_envs * limits.rollouts * most_steps_in_a_rollout(model)
        self._n_new, self._ends_before = model.n_envs if pauses else n_new, model.num_timesteps + n_new
        self._recorded_updates, self._logged_at = model._n_updates, 0
        self.waits = False

    def stop_after_rollout(self) -> None:
        """Let the next :meth:`go_on` stop after the rollout of the step that waits."""
        self._limits[at.MAX_ROLLOUTS] = 1

    def go_on(self) -> tuple[int, int, int]:
        """
        Do rollouts, and the updates after each, until a limit is reached or a step waits.

        :return: Numbers of rollouts, of steps of each environment, and of episodes that were finished. After this,
            :meth:`check` must be called
        """
        model, memory, env = self.model, self.model.replay_buffer, self.model.env
        counts, last = self._count_cells, self._last_cells
        counts[at.CLOCK], counts[at.N_CALLS] = env.clock, model._n_calls
        counts[at.EPISODES], counts[at.TIMESTEPS] = model._episode_num, model.num_timesteps
        counts[at.UPDATES] = model._n_updates
        counts[at.SUCCESSES], counts[at.FAILURES] = memory.success.size, memory.fail.size
        counts[at.COPIES_COUNTED] = model._target_copies.counted
        last[at.PROGRESS], last[at.LAST_EPSILON] = model._current_progress_remaining, model.exploration_rate
        model._engine.follow_target()
        self._run(*self._arguments)
        status, n_rollouts, n_steps, n_ended, *_ = self._result_list = self._results.tolist()
        self._limits.data[at.MAX_ROLLOUTS] -= n_rollouts
        self.waits = bool(counts[at.WAITS])
        self._update_model()
        if status != at.DONE:
            self._record("train/learning_rate", last[at.LAST_RATE])
        return n_rollouts, n_steps, n_ended

    def check(self) -> None:
        """
        Check whether the updates of the last call of :meth:`go_on` have succeeded.

        :raises DivergedError: If a loss is NaN or infinite
        :raises IndexError: If a transition of the memory does not fit the network
        :raises ValueError: If the memory is empty
        """
        status, model, last = self._result_list[at.STATUS], self.model, self._last_cells
        if status == at.UPDATE_FAILED:
            done = int(last[at.N_UPDATED])
            model._engine.mean_loss(last[at.LOSS_SUM], done, done + 1)
        if status == at.MEMORY_EMPTY:
            model.replay_buffer.draw_minibatches(1, 1)  # raises the error

    # What goes in

    def is_current(self) -> bool:
        """
        Look whether the arguments of the loop are still those of the model, and have room for all that it may store.

        :return: ``False`` if :meth:`make_arguments` must be called before :meth:`go_on`
        """
        try:
            return self._settings() == self._made_of and self._has_room()
        except AttributeError:  # another memory or environment
            return False

    def _settings(self) -> tuple[Any, ...]:
        model = self.model
        of_model = _of_model(vars(model))
        trains = self._ends_before > model.learning_starts and model.gradient_steps != 0
        env, rng, memory = model.env, model._exploration.rng, model.replay_buffer
        schedules = linear_schedule(model.lr_schedule), linear_schedule(model.exploration_schedule)
        of_model += (model.loss_function,)
        return trains, *of_model, *_of_memory(memory), *_of_env(env), len(vars(env)), rng, schedules

    def _has_room(self) -> bool:
        for partition, words, slots, n_rows in self._reserved:
            if partition.words is not words or partition.slots is not slots or partition.size + self._n_new > n_rows:
                return False
        n_epsilons: int = self._epsilons_from + len(self._epsilons) - self.model._episode_num
        return n_epsilons > len(self._ended)

    def make_arguments(self) -> None:
        """Make the arguments of the loop. All that changes from call to call is in arrays that stay the same."""
        model, memory, env = self.model, self.model.replay_buffer, self.model.env
        self._made_of = trains, *_ = self._settings()
        n_ended = _MAX_ENDED + model.n_envs * model.train_freq.frequency
        if len(self._ended) < n_ended:
            kept, self._ended = self._ended, np.zeros((n_ended, at.N_COLUMNS))
            self._ended[: len(kept)] = kept
        tried, way = model._exploration.counts, model._exploration.way
        self._tabulate_epsilons()
        episodes = env.running_episodes()
        codes, numbers = episodes[0].reshape(-1, 1), np.zeros((model.n_envs, 0), np.float32)
        self._arguments = (
            self._limits,
            self._counts,
            self._switches(),
            float(model.tau),
            float(model.gamma),
            -1.0 if memory.success_fraction is None else float(memory.success_fraction),
            env.tables(model.use_masking),
            (*episodes, codes, numbers, self._before, self._outcomes, self._dones, self._begun),
            tuple(self._address_of(rng) for rng in (env.rng, model._exploration.rng, memory.rng)),
            self._rows(),
            np.zeros((0, 0), np.int64) if tried is None else tried,
            _way_arrays(way or WayToUntried(np.zeros((0, 0), np.int64))),
            self._epsilons,
            self._schedules(),
            *model._engine.arguments(model.batch_size, memory.fail.words.shape[1] - DISCRETE_ROW.itemsize // 8, trains),
            self._scratch(),
            self._ended,
            self._last,
            self._results,
        )

    def _scratch(self) -> tuple[np.ndarray, ...]:
        """Make arrays in which the loop keeps what it is about to store and to draw."""
        model = self.model
        row = np.zeros((1, model.replay_buffer.fail.words.shape[1]), np.int64)
        n_updates = model.gradient_steps if 0 <= model.gradient_steps <= _MAX_DRAWN else _MAX_DRAWN
        positions = np.zeros((n_updates, model.batch_size), np.int64)
        return row, row.view(np.float32), np.zeros(model.n_envs, np.bool_), positions

    def _switches(self) -> np.ndarray:
        """Return the settings that are whole numbers."""
        model, memory = self.model, self.model.replay_buffer
        switches = np.zeros(at.N_SWITCHES, np.int64)
        switches[at.TRAIN_FREQ] = model.train_freq.frequency
        switches[at.TRAIN_BY_EPISODE] = model.train_freq.unit == TrainFrequencyUnit.EPISODE
        switches[at.GRADIENT_STEPS] = model.gradient_steps
        switches[at.LEARNING_STARTS] = model.learning_starts
        interval = model.target_update_interval
        if isinstance(interval, int):
            switches[at.COPY_EVERY_CALLS] = max(interval // model.n_envs, 1)
        else:
            switches[at.COPY_EVERY_STEPS if interval[1] == "step" else at.COPY_EVERY_EPISODES] = interval[0]
        switches[at.HAS_TARGET] = model._networks[0] is not model._networks[1]
        switches[at.EXPLORES_BY_EPISODE] = model.exploration_decay is not None
        switches[at.EPSILONS_FROM] = self._epsilons_from
        if model.explore_least_tried:
            switches[at.LEAST_TRIED] = at.IN_THE_STATE if model._exploration.way is None else at.ANYWHERE
        switches[at.CRITERION] = {
            "terminal": at.TERMINAL,
            "positive_reward": at.POSITIVE_REWARD,
            "is_success": at.NEVER,  # tabular environments have no info["is_success"]
        }[memory.success_criterion]
        switches[at.BOOTSTRAPS_TIMEOUTS] = bool(memory.handle_timeout_termination)
        switches[at.IS_LATEST_ONLY] = isinstance(memory, LatestTransitionBuffer)
        switches[at.DEDUPLICATES] = memory.success.index is not None
        for number, partition in ((at.MAX_SUCCESSES, memory.success), (at.MAX_FAILURES, memory.fail)):
            switches[number] = _NO_LIMIT if partition.capacity is None else partition.capacity
        switches[at.MAX_TOGETHER] = memory.buffer_size if memory.bounds_all else 0
        switches[at.STEP_LIMIT] = min(model.env.step_limit, _NO_LIMIT)
        switches[at.ACTS_BY_MASKS] = bool(model.use_masking)
        return switches

    def _rows(self) -> tuple[np.ndarray, ...]:
        """Return the arrays of both partitions, with room for new rows."""
        memory = self.model.replay_buffer
        n_new: float = max(self._n_new, _MIN_NEW_ROWS)
        most = math.inf
        if isinstance(memory, LatestTransitionBuffer):
            most = self.model.n_envs
        elif memory.success.index is not None:  # every outcome once, as an end of an episode and not as one
            most = 2 * self.model.env.model.next_states.size
        arrays: list[np.ndarray] = []
        self._reserved = []
        for partition in (memory.success, memory.fail):
            capacity = math.inf if partition.capacity is None else partition.capacity
            n_rows = int(min(partition.size + min(n_new, most), capacity))
            words, floats, slots = partition.reserve(n_rows)
            arrays += [words, floats, slots]
            has_all = n_new >= most or n_rows == capacity
            self._reserved.append((partition, words, slots, math.inf if has_all else n_rows))
        return tuple(arrays)

    def _tabulate_epsilons(self) -> None:
        """Compute the lecture's exploration rates from this episode on."""
        model, first = self.model, self.model._episode_num + 1
        n = 2 * len(self._ended) if model.exploration_decay is not None else 0
        self._epsilons = np.array([model.epsilon(episode) for episode in range(first, first + n)])
        self._epsilons_from = first if n else sys.maxsize // 2

    def _schedules(self) -> tuple[tuple[float, float, float], ...]:
        model, until_episode = self.model, self.model._budget.until_episode
        exploration = None if model.exploration_decay is not None else linear_schedule(model.exploration_schedule)
        learning = linear_schedule(model.lr_schedule)
        assert learning is not None
        totals = (float(model._total_timesteps), 0.0) if until_episode is None else (0.0, float(until_episode))
        return exploration or (0.0, 0.0, 1.0), learning, (*totals, 0.0)

    # What its results change

    def _update_model(self) -> None:
        """Bring the environment, the memory, the model and the logs to where the loop has come."""
        model, memory, env = self.model, self.model.replay_buffer, self.model.env
        clock, n_calls, _, timesteps, n_updates, n_success, n_fail, copies_counted, *_ = self._counts.tolist()
        _, _, n_steps, n_ended, n_begun, has_updated, _ = self._result_list
        progress, epsilon, recorded_epsilon, loss, rate, _, _ = self._last.tolist()
        env.note_steps(clock, self._outcomes, self._begun if n_begun else None)
        if n_begun:
            self._begun.fill(-1)
        if n_steps:
            memory.set_sizes(n_success, n_fail)
            self._update_observations()
            if n_ended:
                self._log_episodes(self._ended[:n_ended])
            if self._logged_at < timesteps - self.waits * model.n_envs:
                self._record("rollout/exploration_rate", recorded_epsilon)
            model._n_calls, model._current_progress_remaining = n_calls, progress
        if has_updated:
            for group in model.policy.optimizer.param_groups:
                group["lr"] = rate
            if self._recorded_updates < n_updates:
                self._record_updates(rate, n_updates, loss)
            model._n_updates = n_updates
        model.num_timesteps, model.exploration_rate = timesteps, epsilon
        model._target_copies.counted = copies_counted

    def _update_observations(self) -> None:
        """Set the last observations: those before a step that waits, else those after the last step."""
        model, env = self.model, self.model.env
        before = model._last_obs if self.waits else self._before.copy()
        model._last_original_obs = before
        model._last_obs = self._before.copy() if self.waits else env.running_episodes()[0].copy()
        if model.use_masking:
            model._transitions.masks = env.model.action_masks[model._last_obs]

    def _log_episodes(self, ended: np.ndarray) -> None:
        """Do what the end of each episode does, with a dump of the log wherever one is due."""
        model, log_interval, age = self.model, self.log_interval, self.model.env.age
        for start, stop in _runs_of_equals(ended[:, at.AT_TIMESTEP]):  # episodes that ended in the same step
            rows = ended[start:stop].tolist()
            model.num_timesteps = int(rows[0][at.AT_TIMESTEP])
            model.ep_info_buffer.extend(
                {"r": round(row[at.RETURN], 6), "l": int(row[at.LENGTH]), "t": age} for row in rows
            )
            for row in rows:
                model._episode_num += 1
                if log_interval is not None and model._episode_num % log_interval == 0:
                    if self._logged_at < model.num_timesteps:
                        self._record("rollout/exploration_rate", row[at.EPSILON])
                        self._logged_at = model.num_timesteps
                    n_updates = int(row[at.UPDATES_SO_FAR])
                    if self._recorded_updates < n_updates:
                        self._record_updates(row[at.RATE], n_updates, row[at.LOSS])
                    model._n_updates = n_updates
                    model.dump_logs()

    def _record_updates(self, rate: float, n_updates: int, loss: float) -> None:
        self._record("train/learning_rate", rate)
        self._record("train/n_updates", n_updates, "tensorboard")
        self._record("train/loss", loss)
        self._recorded_updates = n_updates

    def _record(self, name: str, value: float, exclude: str | None = None) -> None:
        logger = self.model.logger
        if type(logger) is Logger:  # the same in a fifth of the time
            logger.name_to_value[name], logger.name_to_excluded[name] = value, (exclude or "",)
        else:
            logger.record(name, value, exclude)

    def local_variables(self) -> dict[str, Any]:
        """
        Return the local variables of ``collect_rollouts`` when callbacks are called for the last step.

        :return: The variables by name
        """
        model, env, counts = self.model, self.model.env, self._count_cells
        _, _, _, n_ended, n_begun, _, n_collected = self._result_list
        ends: list[tuple[float, int]] = []
        if self.waits:
            in_last_step = self._ended[n_ended : n_ended + n_begun] if n_begun else ()
            n_in_rollout = counts[at.EPISODES] - counts[at.EPISODES_BEFORE]
        else:
            n_before = n_ended - int(self._dones.sum())
            in_last_step = self._ended[n_before:n_ended]
            rollout_began = model.num_timesteps - n_collected * env.num_envs
            n_in_rollout = int((self._ended[:n_before, at.AT_TIMESTEP] > rollout_began).sum())
        ends = [(float(row[at.RETURN]), int(row[at.LENGTH])) for row in in_last_step]
        new_obs, rewards, dones, infos = env.step_results(self._outcomes, self._dones, ends)
        n_outcomes, n_actions = env.model.n_outcomes, env.model.n_actions
        actions = np.array([outcome // n_outcomes % n_actions for outcome in self._outcomes.tolist()])
        self._shown = _numbers_of(new_obs, rewards, dones, actions)
        return {
            "self": model,
            "env": env,
            "callback": self.callback,
            "train_freq": model.train_freq,
            "replay_buffer": model.replay_buffer,
            "action_noise": model.action_noise,
            "learning_starts": model.learning_starts,
            "log_interval": self.log_interval,
            "num_collected_steps": n_collected,
            "num_collected_episodes": n_in_rollout,
            "by_step": model.train_freq.unit == TrainFrequencyUnit.STEP,
            "continue_training": True,
            "actions": actions,
            "buffer_actions": actions,
            "new_obs": new_obs,
            "rewards": rewards,
            "dones": dones,
            "infos": infos,
        }

    def is_unchanged(self, variables: dict[str, Any]) -> bool:
        """
        Look whether callbacks have left a step that waits as it was: its numbers, its memory, and the environments.

        :param variables: What :meth:`local_variables` has returned for the step
        :return: ``False`` if the step must be finished step by step
        """
        env, new_obs = self.model.env, variables["new_obs"]
        if variables["replay_buffer"] is not self.model.replay_buffer or variables["env"] is not env:
            return False
        numbers = _numbers_of(new_obs, variables["rewards"], variables["dones"], variables["buffer_actions"])
        return numbers == self._shown and bool(env.is_at(new_obs))


def _way_arrays(way: WayToUntried) -> tuple[Any, ...]:
    fresh = np.zeros(min(way.SWEPT, len(way.next_states)), np.int64)
    return way.next_states, way.costs_of_states, way.allowed, fresh, way.REPEATED


def _numbers_of(*arrays: np.ndarray) -> list[Any]:
    return [array.tolist() for array in arrays]


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
    if type(schedule) is LinearSchedule and schedule.end_fraction != 0:  # SB3 divides by it
        return float(schedule.start), float(schedule.end), float(schedule.end_fraction)
    return None


def _runs_of_equals(values: np.ndarray) -> list[tuple[int, int]]:
    """Return where each run of equal values starts and stops."""
    bounds = [0, *(np.flatnonzero(values[1:] != values[:-1]) + 1).tolist(), len(values)]
    return list(pairwise(bounds)) if len(values) else []
