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
from sb3_lecture_dqn.saving.stop_signals import HeldCtrlC
from sb3_lecture_dqn.training.compiled_loop import CompiledLoop, Limits, linear_schedule
from sb3_lecture_dqn.training.due import (
    Due,
    leave_out,
    most_steps_in_a_rollout,
    name_of,
    next_due,
    silent_callback,
)
from sb3_lecture_dqn.training.exploration import ANYWHERE
from sb3_lecture_dqn.training.run import Run

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
    "_update_learning_rate", "_update_current_progress_remaining", "_do_rollout_and_update",
    "_update_after_rollout", "_finish_step",
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
    :param run: The frame of this call of ``learn``
    """

    def __init__(self, model: Any, callback: BaseCallback, log_interval: int | None, run: Run) -> None:
        self.model = model
        self.callback = callback
        self.run = run
        self._n_rollouts = 1  # of the next stretch, at most
        self._kind_of_rollouts: Any = None
        self._loop: CompiledLoop | None = None
        self._silent = silent = silent_callback(callback)
        self._pauses = silent is not None
        if not isinstance(model._engine, CompiledEngine):
            return
        if (reason := next(self._reasons(), None)) is not None:
            model._say_once(f"Training step by step, and not in compiled stretches: {reason}")
            return
        if silent is not None:
            model._say_once(
                f"{name_of(silent)} is called at every step, which takes time: with a method next_due(), see Due, it "
                "would only be called when it is due"
            )
        self._loop = CompiledLoop(model, callback, log_interval)

    @property
    def are_possible(self) -> bool:
        """Whether :meth:`advance` may do something in this call of ``learn``."""
        return self._loop is not None

    def _reasons(self) -> Iterator[str]:
        """Yield what the compiled loop does not do in this whole call of ``learn``."""
        model, env = self.model, self.model.env
        if type(env) is not TabularVecEnv:
            yield f"the environment is not stepped as a table, or has a wrapper ({type(env).__name__})"
            return
        if model._access.code not in (UserCode.NEVER, UserCode.IN_STEPS):
            called = "" if self._silent is None else f"{name_of(self._silent)} is called at every step, and "
            yield f"{called}code that is not of the known packages may run between steps"
        yield from self._reasons_now()

    def _reasons_now(self) -> Iterator[str]:
        """Yield what the compiled loop does not do with the model as it is now."""
        model, env, frequency = self.model, self.model.env, self.model.train_freq
        if type(model._engine) is not CompiledEngine:
            yield "the engine is PyTorch"
        if type(env) is not TabularVecEnv or not env.was_reset or not np.isfinite(env.rewards).all():
            yield "the environment is another one, was not reset, or has rewards too large for float32"
        elif not env.is_at(model._last_obs):
            yield "the environment's state was changed"
        if type(frequency) is not TrainFreq:
            yield f"it does not know train_freq={frequency!r}"
        elif self._silent is not None and frequency != (1, TrainFrequencyUnit.STEP):
            yield f"{name_of(self._silent)} is called at every step, and train_freq is not 1 (see Due)"
        elif frequency.unit == TrainFrequencyUnit.EPISODE and env.num_envs > 1:
            yield "train_freq counts episodes, and there are several environments"  # an error, step by step
        elif most_steps_in_a_rollout(model) > _MAX_STEPS_IN_A_ROLLOUT:
            yield f"a rollout may have more than {_MAX_STEPS_IN_A_ROLLOUT} steps"
        if not all(type(rng) is np.random.Generator for rng in (env.rng, model._exploration.rng)):
            yield "a random generator is not one of NumPy's"
        if model._networks[0] is not model._networks[1] and not model._engine.is_target_apart:
            yield "the target network shares memory with the online network"
        yield from self._memory_reasons()
        yield from self._exploration_reasons()
        methods = ((model, _LOOP_METHODS), (env, _ENV_METHODS), (model.replay_buffer, _MEMORY_METHODS))
        for thing, names in methods:
            if (method := shadowed(thing) or overridden(type(thing), names)) is not None:
                yield f"{type(thing).__name__}.{method} was replaced"

    def _memory_reasons(self) -> Iterator[str]:
        model, memory = self.model, self.model.replay_buffer
        if type(memory) not in (SuccessFailReplayBuffer, LatestTransitionBuffer) or not memory.row.is_discrete:
            yield f"it does not know the memory {type(memory).__name__}"
        elif memory._is_success is not SUCCESS_CRITERIA.get(memory.success_criterion):
            yield f"it does not know success_criterion={memory.success_criterion!r}"
        elif memory.use_masking != model.use_masking:
            yield "only one of model and memory uses masks"
        elif type(memory.rng) is not np.random.Generator:
            yield "the random generator of the memory is not one of NumPy's"
        elif not all(partition.is_compiled for partition in (memory.success, memory.fail)):
            yield "the memory was made without numba"

    def _exploration_reasons(self) -> Iterator[str]:
        model = self.model
        exploration, wanted = model._exploration, model.explore_least_tried
        if bool(wanted) != (exploration.counts is not None) or (wanted == ANYWHERE) != (exploration.way is not None):
            yield "explore_least_tried was changed"
        if model.action_noise is not None:
            yield "there is action noise"
        if linear_schedule(model.lr_schedule) is None:
            yield "learning_rate is a function; it knows constants and a LinearSchedule of SB3"
        if model.exploration_decay is None and linear_schedule(model.exploration_schedule) is None:
            yield "the exploration schedule is neither constant nor a LinearSchedule of SB3"

    def advance(self) -> bool | None:
        """
        Do as many rollouts as possible, for a few hundredths of a second at most.

        :return: Whether training goes on, ``False`` if a callback ends it. ``None`` if no rollout was done: then one
            must be done step by step
        :raises DivergedError: See :meth:`LectureAlgorithm.learn`
        """
        model, loop = self.model, self._loop
        assert loop is not None
        model._in_rollout = True
        model.policy.set_training_mode(False)
        self.callback.on_rollout_start()  # here, callbacks of this package do their work
        model._access.after_rollout_start()
        model._refresh_engine()
        if next(self._reasons_now(), None) is not None:
            return None
        limits = self._limits(next_due(self.callback).or_before(self.run.next_due()))
        if limits is None:
            return None
        loop.begin(limits, self._pauses)
        with HeldCtrlC() as held:
            if not loop.is_current():
                with held:  # kernels that index the memory anew do not bear Ctrl-C
                    loop.make_arguments()
            began = time.perf_counter()
            proceeds, n_rollouts = self._walk(loop, held) if self._pauses else self._run(loop, held)
        self._plan_next(n_rollouts, time.perf_counter() - began)
        model._in_rollout = not proceeds
        return proceeds

    def _is_ready(self, loop: CompiledLoop, held: HeldCtrlC) -> bool:
        """Look whether the loop can go on, with what callbacks may have changed."""
        if loop.is_current():
            return True
        if next(self._reasons_now(), None) is not None:
            return False
        with held:
            loop.make_arguments()
        return True

    def _run(self, loop: CompiledLoop, held: HeldCtrlC) -> tuple[bool, int]:
        """Do the rollouts in one call."""
        with held:
            n_rollouts, n_steps, n_episodes = loop.go_on()
            self.callback.update_locals(loop.local_variables())
            leave_out(self.callback, n_steps, n_episodes, self.model.num_timesteps)
            loop.check()
            self.model._in_rollout = False
        return True, n_rollouts

    def _walk(self, loop: CompiledLoop, held: HeldCtrlC) -> tuple[bool, int]:
        """Do the rollouts, of one step each, and call the callbacks at every step."""
        model, callback, n_rollouts = self.model, self.callback, 0
        while True:
            with held:
                n_rollouts += loop.go_on()[0]
                loop.check()
                if not loop.waits:
                    return True, n_rollouts
                variables = loop.local_variables()
            model._access.handed_out = False
            callback.update_locals(variables)
            if not model._call_back(callback, variables["new_obs"], variables["dones"], variables["infos"]):
                return False, n_rollouts
            model._refresh_engine()
            if not self._is_ready(loop, held) or not loop.is_unchanged(variables):
                model._finish_rollout(callback, variables)
                return True, n_rollouts + 1
            if self.run.is_stopping:
                loop.stop_after_rollout()

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
        if due.calls < math.inf and not self._pauses:
            n_rollouts = min(n_rollouts, (max(due.calls, 1) - 1) // in_a_rollout)
        if is_starting:  # no rollout that may be followed by the first update
            n_rollouts = min(n_rollouts, (model.learning_starts - steps) // (model.n_envs * in_a_rollout))
        until_steps = min(steps + due.steps, budget.until_steps, sys.maxsize)
        until_episode = min(episodes + due.episodes, budget.until_episode or sys.maxsize, sys.maxsize)
        if n_rollouts < 1 or until_steps <= steps or until_episode <= episodes:
            return None
        return Limits(int(n_rollouts), int(until_steps), int(until_episode))

    def _plan_next(self, n_done: int, seconds: float) -> None:
        wanted = n_done * _SECONDS / max(seconds, 1e-6)
        self._n_rollouts = int(max(1, min(wanted, _MAX_GROWTH * max(n_done, 1))))
