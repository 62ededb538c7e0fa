"""Stretches of training: the rollouts that nobody needs to see, done by one call of the compiled loop."""

import math
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from sb3_lecture_dqn.common.buffers import SUCCESS_CRITERIA, LatestTransitionBuffer, SuccessFailReplayBuffer
from sb3_lecture_dqn.engine.changes import UserCode
from sb3_lecture_dqn.engine.compiled import CompiledEngine
from sb3_lecture_dqn.engine.known import overridden, shadowed
from sb3_lecture_dqn.envs.tabular_vec_env import TabularVecEnv
from sb3_lecture_dqn.saving.stop_signals import holding_back_ctrl_c
from sb3_lecture_dqn.training.compiled_loop import CompiledLoop, Limits, linear_schedule
from sb3_lecture_dqn.training.due import Due, most_steps_in_a_rollout, name_of, next_due, silent_callback

#: Seconds that a stretch should take: until then, Ctrl-C, SIGTERM and progress bars wait
_SECONDS = 0.04
_MAX_GROWTH = 8
# Environment steps that a stretch may have at most; the loop reserves memory for all of them
_MAX_STEPS = 100_000
# Steps of each environment in a rollout, which is never cut, at most; these take about _SECONDS
_MAX_STEPS_IN_A_ROLLOUT = 20_000
# Methods that the compiled loop does not call.
_LOOP_METHODS = (
    "collect_rollouts", "train", "epsilon", "dump_logs", "_sample_action", "_step", "_store_transition", "_on_step",
    "_copy_target", "_copy_target_by_steps", "_copy_target_by_episodes", "_update_info_buffer",
    "_update_learning_rate", "_update_current_progress_remaining", "_learn_from_a_rollout",
)  # fmt: skip
_ENV_METHODS = ("step", "step_async", "step_wait")
_MEMORY_METHODS = ("add", "draw_minibatches", "_make_room")


class Stretches:
    """
    Does rollouts in stretches if nothing outside the compiled loop has to be done between them.

    A stretch ends where something is due: the end of the budget, a callback, a checkpoint. It changes the model, the
    environment, the memory, the generators, the callbacks' counters and the logs exactly as the same rollouts do one by
    one.

    :param model: The model, set up for training
    :param callback: The callback of this call of ``learn``
    :param log_interval: Number of episodes between two logs, ``None`` for no logs
    """

    def __init__(self, model: Any, callback: BaseCallback, log_interval: int | None) -> None:
        self.model = model
        self.callback = callback
        self._n_rollouts = 1  # of the next stretch, at most
        self._kind_of_rollouts: Any = None
        self._loop = CompiledLoop(model, callback, log_interval)
        self.is_possible = isinstance(model._engine, CompiledEngine)
        self._looks_again = False
        self._look()

    def _look(self) -> None:
        """Check whether there is something that the compiled loop does not do. If so, there are no more stretches."""
        if self.is_possible and (reason := next(self._reasons(), None)) is not None:
            self.is_possible = False
            self.model._say_once(f"Training step by step, and not in compiled stretches: {reason}")

    def _reasons(self) -> Iterator[str]:
        """Yield what this call of ``learn`` has that the compiled loop does not do."""
        model, env, memory = self.model, self.model.env, self.model.replay_buffer
        if type(env) is not TabularVecEnv:
            yield f"the environment is not tabular, or has a wrapper (it is a {type(env).__name__})"
            return
        silent = silent_callback(self.callback)
        if silent is not None:
            yield f"{name_of(silent)} is called at every step (a callback with the method next_due() is not, see Due)"
        if model._access.code not in (UserCode.NEVER, UserCode.IN_STEPS):
            yield "code from outside the known packages may run at any time"
        if type(memory) not in (SuccessFailReplayBuffer, LatestTransitionBuffer) or not memory.row.is_discrete:
            yield f"it does not know the memory {type(memory).__name__}"
        elif memory._is_success is not SUCCESS_CRITERIA.get(memory.success_criterion):
            yield f"it does not know success_criterion={memory.success_criterion!r}"
        for thing, names in ((model, _LOOP_METHODS), (env, _ENV_METHODS), (memory, _MEMORY_METHODS)):
            if (method := shadowed(thing) or overridden(type(thing), names)) is not None:
                yield f"{type(thing).__name__}.{method} was replaced"
        if model.action_noise is not None:
            yield "there is action noise"
        if linear_schedule(model.lr_schedule) is None:
            yield "it knows learning rates that are constant or a LinearSchedule of SB3"
        if model.exploration_decay is None and linear_schedule(model.exploration_schedule) is None:
            yield "it knows exploration rates that are constant or a LinearSchedule of SB3"
        if not np.isfinite(env._rewards32).all():
            yield "a reward is too large for float32"

    def advance(self, until: Due) -> bool:
        """
        Do as many rollouts as possible, for a few hundredths of a second at most.

        :param until: When something besides the callbacks is due, in steps or episodes from now
        :return: Whether any were done. If not, the next rollout must be done step by step
        :raises DivergedError: See :meth:`LectureAlgorithm.learn`
        """
        if self._looks_again and self.model._access.code is not UserCode.NEVER:
            self._look()  # callbacks of the user were called, and may have changed anything
        self._looks_again = self.is_possible and not self._advance(until)
        return self.is_possible and not self._looks_again

    def _advance(self, until: Due) -> bool:
        model = self.model
        model._in_rollout = True
        model.policy.set_training_mode(False)
        self.callback.on_rollout_start()  # here, callbacks of this package do their work
        model._access.after_rollout_start()
        if model._access.at_rollout_start:
            self._look()
        model._refresh_engine()
        if not self.is_possible or type(model._engine) is not CompiledEngine or not self._fits_now():
            return False
        due = next_due(self.callback)
        limits = None if due is None else self._limits(due.or_before(until))
        if limits is None:
            return False
        began = time.perf_counter()
        with holding_back_ctrl_c():
            n_done = self._loop.run(limits)
            model._in_rollout = False
        self._plan_next(n_done, time.perf_counter() - began)
        return True

    def _fits_now(self) -> bool:
        """Check what a callback, or the user before training, may have changed."""
        model = self.model
        env, memory, exploration, frequency = model.env, model.replay_buffer, model._exploration, model.train_freq
        return (
            env.was_reset
            and env.is_at(model._last_obs)
            and memory.use_masking == model.use_masking
            and all(partition.is_compiled for partition in (memory.success, memory.fail))
            and type(frequency) is TrainFreq
            and (frequency.unit == TrainFrequencyUnit.STEP or env.num_envs == 1)  # else step by step, to the error
            and most_steps_in_a_rollout(model) <= _MAX_STEPS_IN_A_ROLLOUT
            and bool(model.explore_least_tried) == (exploration.counts is not None)
            and all(type(rng) is np.random.Generator for rng in (env.rng, exploration.rng, memory.rng))
            and (model._networks[0] is model._networks[1] or model._engine.is_target_apart)
        )

    def _limits(self, due: Due) -> Limits | None:
        """
        Compute how far the loop may go.

        :param due: When something outside the loop is due
        :return: Where it must stop; ``None`` if it cannot do a rollout
        """
        model, budget = self.model, self.model._budget
        steps, episodes = model.num_timesteps, model._episode_num
        in_a_rollout = most_steps_in_a_rollout(model)
        is_starting = steps <= model.learning_starts
        kind = is_starting, model.train_freq, model.gradient_steps, model.batch_size
        if kind != self._kind_of_rollouts:  # the next rollouts take another time
            self._kind_of_rollouts, self._n_rollouts = kind, 1
        n_rollouts: float = min(self._n_rollouts, max(_MAX_STEPS // (model.n_envs * in_a_rollout), 1))
        if due.calls < math.inf:
            n_rollouts = min(n_rollouts, (max(due.calls, 1) - 1) // in_a_rollout)
        if is_starting:  # no rollout that may be followed by the first update
            n_rollouts = min(n_rollouts, (model.learning_starts - steps) // (model.n_envs * in_a_rollout))
        until_steps = min(steps + due.steps, budget.until_steps, sys.maxsize)
        until_episode = min(episodes + due.episodes, budget.until_episode or sys.maxsize, sys.maxsize)
        if n_rollouts < 1 or until_steps <= steps or until_episode <= episodes:
            return None
        trains = not is_starting and model.gradient_steps != 0
        return Limits(int(n_rollouts), int(until_steps), int(until_episode), trains)

    def _plan_next(self, n_done: int, seconds: float) -> None:
        wanted = n_done * _SECONDS / max(seconds, 1e-6)
        self._n_rollouts = int(max(1, min(wanted, _MAX_GROWTH * max(n_done, 1))))
