"""Small mistakes in the package, each of which a named test has to notice; ``run.py`` beside this file tries them."""

from typing import NamedTuple


class Mutant(NamedTuple):
    """
    One mistake.

    :param file: File in the package
    :param old: Text that stands in the file exactly once
    :param new: Text in its place
    :param tests: What ``pytest`` is called with; one of these tests has to fail
    """

    file: str
    old: str
    new: str
    tests: tuple[str, ...]


def _tests(file: str, *names: str) -> tuple[str, ...]:
    return tuple(f"tests/{file}.py::test_{name}" for name in names) or (f"tests/{file}.py",)


def buffers(*names: str) -> tuple[str, ...]:
    return _tests("common/test_buffers", *names)


def masks(*names: str) -> tuple[str, ...]:
    return _tests("envs/test_masks", *names)


def checkpoint(*names: str) -> tuple[str, ...]:
    return _tests("saving/test_checkpoint", *names)


UPDATES = (*_tests("engine/test_kinds"), *_tests("engine/test_updates"))
STRETCHES = _tests("training/test_stretches", "stretches_come_to_what_steps_come_to", "every_setting")
EXPLORATION = _tests("training/test_exploration")
SCHEDULE = _tests("training/test_schedule")
DUE = _tests("training/test_due")
GOAL = _tests("training/test_goal")
STOPS = _tests("training/test_transitions")
FILES = _tests("saving/test_files")

MUTANTS = {
    # ------------------------------------------------------------------------------------------------ replay memory
    "memory: a full partition never overwrites its last row": Mutant(
        "common/partition.py",
        "at = int(rng.random() * self.size)",
        "at = int(rng.random() * (self.size - 1))",
        buffers("the_overwritten_slot_is_uniform"),
    ),
    "memory: a removed row stays in the index": Mutant(
        "common/partition.py",
        "for row in {at, last} if self.index is not None else ():",
        "for row in {last} if self.index is not None else ():",
        buffers(
            "no_more_than_buffer_size_transitions_are_ever_held", "successes_stay_until_they_are_half_of_a_full_memory"
        ),
    ),
    "memory: of two equally large partitions the other one forgets": Mutant(
        "common/buffers.py",
        "partition.size >= other.size else other",
        "partition.size > other.size else other",
        buffers(
            "what_is_forgotten_is_a_uniformly_random_one_of_the_larger_part",
            "successes_stay_until_they_are_half_of_a_full_memory",
            "no_more_than_buffer_size_transitions_are_ever_held",
        ),
    ),
    "memory: a duplicate makes room": Mutant(
        "common/buffers.py",
        "if self.size() < self.buffer_size or partition.holds(self.row.words):",
        "if self.size() < self.buffer_size:",
        buffers("a_transition_that_is_held_makes_no_room"),
    ),
    "memory: a time limit counts as an end": Mutant(
        "common/buffers.py",
        'info.get("TimeLimit.truncated", False)',
        'info.get("truncated", False)',
        buffers("a_truncated_episode_is_stored_as_not_done_and_as_a_failure"),
    ),
    "memory: the share of successes is rounded to the nearest number": Mutant(
        "common/buffers.py",
        "int(batch_size * self.success_fraction + self.rng.random())",
        "int(batch_size * self.success_fraction + 0.5)",
        buffers("the_share_of_successes_is_rounded_at_random_and_exactly"),
    ),
    "memory: it is full one transition too late": Mutant(
        "common/buffers.py",
        "self.full = self.pos >= self.buffer_size",
        "self.full = self.pos > self.buffer_size",
        buffers(
            "buffer_size_bounds_the_whole_memory_of_an_algorithm_and_is_used_up",
            "no_more_than_buffer_size_transitions_are_ever_held",
        ),
    ),
    "memory: a refused state has already changed the memory": Mutant(
        "common/buffers.py",
        """        with _errors_name("success partition"):
            success = self.success.holding(state["success"])
""",
        """        with _errors_name("success partition"):
            self.success = success = self.success.holding(state["success"])
""",
        buffers("a_wrong_state_is_refused_and_changes_nothing"),
    ),
    "memory: the last transition is lost where its mask is not known": Mutant(
        "common/buffers.py",
        "if before is not None and self.size() == 0:",
        "if before is not None and self.size() < 0:",
        masks("without_replay_a_step_of_unknown_masks_does_not_empty_the_memory"),
    ),
    "memory: minus zero is another reward than zero": Mutant(
        "common/transition_row.py",
        "floats[REWARD_FLOAT] = reward + 0.0",
        "floats[REWARD_FLOAT] = reward",
        buffers("a_reward_of_minus_zero_equals_one_of_zero"),
    ),
    "memory: a terminal transition is stored with the mask that the environment says": Mutant(
        "common/transition_row.py",
        "= self._all_valid if terminal else mask",
        "= mask",
        masks(
            "masked_actions_are_not_executed_explored_or_bootstrapped_from",
            "masks_are_a_part_of_what_makes_transitions_equal",
            "each_transition_has_a_mask_of_its_own",
            "an_update_is_that_of_the_equation",
        ),
    ),
    "memory: a row of a file that is not filled is read": Mutant(
        "saving/memory_file.py",
        'has_next = buffer.optimize_memory_usage and name == "observations" and pos > 0',
        "has_next = False",
        _tests("saving/test_memory_file", "what_is_not_filled_is_not_read"),
    ),
    # ------------------------------------------------------------------------------------------------ kernels
    "index: a removal moves no entry of which the home is the hole": Mutant(
        "kernels/index.py",
        "if (at - home) & last >= (at - hole) & last:",
        "if (at - home) & last > (at - hole) & last:",
        _tests("kernels/test_index"),
    ),
    "kernel: in an Adam step the second moment is as if it were the first step": Mutant(
        "kernels/minibatches.py", "np.sqrt(1 - beta2**step)", "np.sqrt(1 - beta2)", UPDATES
    ),
    "kernel: AdamW adds its decay to the gradient": Mutant(
        "kernels/minibatches.py", "np.float32(0.0 if decoupled else decay)", "np.float32(decay)", UPDATES
    ),
    "kernel: Nesterov's momentum is plain momentum": Mutant(
        "kernels/minibatches.py", "g = fma(keep, m, g) if nesterov else m", "g = m", UPDATES
    ),
    "kernel: the norm that is clipped leaves out the embeddings": Mutant(
        "kernels/minibatches.py",
        "        norm2 += squares(gradient, rows[i] * width, (rows[i] + 1) * width)\n",
        "        pass\n",
        UPDATES,
    ),
    "kernel: the gradient of embeddings is not cleared": Mutant(
        "kernels/minibatches.py",
        """        for k in range(rows[i] * width, (rows[i] + 1) * width):
            gradient[k] = np.float32(0.0)
""",
        """        for k in range(rows[i] * width, (rows[i] + 1) * width - 1):
            gradient[k] = np.float32(0.0)
""",
        UPDATES,
    ),
    "kernel: the target network chooses the next action of a minibatch": Mutant(
        "kernels/minibatches.py",
        "best = best_action(online_q, i * n_outputs, net, masks, i, mean)",
        "best = best_action(source, at, net, masks, i, mean)",
        UPDATES,
    ),
    "kernel: the target network chooses the next action of one transition": Mutant(
        "kernels/updates.py",
        """        action_values(online, net, next_state, x, z, h, values, 0)
        best = best_allowed(values, 0, n_actions, words, row, MASK_WORD)
    if known""",
        """        action_values(target, net, next_state, x, z, h, values, 0)
        best = best_allowed(values, 0, n_actions, words, row, MASK_WORD)
    if known""",
        masks("an_update_is_that_of_the_equation"),
    ),
    "kernel: far quantiles are weighted as near ones": Mutant(
        "kernels/minibatches.py",
        "near_e = np.float32(1) if e > 1 else np.float32(-1) if e < -1 else e",
        "near_e = np.float32(1) if e > 1 else e",
        _tests("lecture_qrdqn/test_lecture_qrdqn", "quantiles_far_from_their_targets_are_compiled_as_pytorch_has_them"),
    ),
    "kernel: Huber's loss is squared up to an error of 2": Mutant(
        "kernels/minibatches.py", "if abs(error) < 1:", "if abs(error) < 2:", UPDATES
    ),
    "kernel: the bias of the last layer does not learn": Mutant(
        "kernels/updates.py", "    online[net[last + BIAS] + output] -= lr * slope\n", "", UPDATES
    ),
    "kernel: the slope of a PReLU does not learn": Mutant(
        "kernels/updates.py", "    flat[slope_at] -= lr * total(change)\n", "", UPDATES
    ),
    "kernel: of a mask only the first 64 actions are looked at": Mutant(
        "kernels/networks.py",
        "allowed = (masks[row, word + a // 64] >> (a % 64)) & 1",
        "allowed = (masks[row, word] >> (a % 64)) & 1",
        (
            *STRETCHES,
            *masks(
                "an_update_is_that_of_the_equation", "compiled_updates_are_masked_where_the_memory_is_not_read_directly"
            ),
        ),
    ),
    "kernel: of two equal actions the last one is greedy": Mutant(
        "kernels/networks.py",
        "if allowed and (best < 0 or values[at + a] > values[at + best]):",
        "if allowed and (best < 0 or values[at + a] >= values[at + best]):",
        _tests("training/test_stretches", "of_equal_actions_the_first_valid_one_is_greedy"),
    ),
    "kernel: of two equal actions the last one is greedy, without masks": Mutant(
        "kernels/networks.py",
        "            if values[at + a] > values[at + best]:\n                best = a\n        return best",
        "            if values[at + a] >= values[at + best]:\n                best = a\n        return best",
        _tests("training/test_stretches", "of_equal_actions_the_first_valid_one_is_greedy"),
    ),
    "loop: an episode is one step longer than the limit": Mutant(
        "kernels/rollouts.py",
        "counts[at.CLOCK] - began[i] >= switches[at.STEP_LIMIT]",
        "counts[at.CLOCK] - began[i] > switches[at.STEP_LIMIT]",
        STRETCHES,
    ),
    "loop: values of the old target are used after a copy": Mutant(
        "kernels/rollouts.py",
        """                copy_target(online, target, tau)
                forget_values(known)
            counts[at.COPIES_COUNTED] = now""",
        """                copy_target(online, target, tau)
            counts[at.COPIES_COUNTED] = now""",
        STRETCHES,
    ),
    "loop: of two equally large partitions the other one forgets": Mutant(
        "kernels/rollouts.py",
        "forgets_success = n_success >= n_fail if",
        "forgets_success = n_success > n_fail if",
        STRETCHES,
    ),
    "loop: a success of which there is no failure is drawn as a mixture": Mutant(
        "kernels/rollouts.py",
        "mixed = fraction >= 0 and n_success != 0 and n_success != n",
        "mixed = fraction >= 0 and n_success != 0",
        STRETCHES,
    ),
    "loop: masks of exactly 64 actions are cut": Mutant(
        "kernels/rollouts.py", "np.int64(-1) if left >= 64 else", "np.int64(-1) if left > 64 else", STRETCHES
    ),
    "loop: a terminal transition has the mask of its last state": Mutant(
        "kernels/rollouts.py",
        "every if terminal else masks[next_states[outcome], k - MASK_WORD]",
        "masks[next_states[outcome], k - MASK_WORD]",
        STRETCHES,
    ),
    "loop: ways are computed from the first state on each time": Mutant(
        "kernels/exploration.py",
        "costs_of_states[n_states] = (first + fresh.shape[0]) % n_states",
        "costs_of_states[n_states] = fresh.shape[0] % n_states",
        (*STRETCHES, *EXPLORATION),
    ),
    # ------------------------------------------------------------------------------------------------ exploration
    "exploration: the first episode has the ε of before it": Mutant(
        "training/exploration.py", "initial * decay**episode)\n", "initial * decay ** (episode - 1))\n", EXPLORATION
    ),
    "exploration: masks of other environments are taken": Mutant(
        "training/exploration.py",
        "*(mask[explores] for mask in masks)",
        "*(mask[: explores.sum()] for mask in masks)",
        EXPLORATION,
    ),
    "exploration: ways lead over forbidden actions": Mutant(
        "training/exploration.py",
        "np.where(self.allowed[swept], self.costs(counts, swept), np.iinfo(np.int64).max)",
        "self.costs(counts, swept)",
        EXPLORATION,
    ),
    "exploration: equal steps of several environments count once": Mutant(
        "training/exploration.py",
        "np.add.at(self.counts, (states, actions), 1)",
        "self.counts[states, actions] += 1",
        EXPLORATION,
    ),
    "exploration: a sweep begins where the last one began": Mutant(
        "training/exploration.py", "(swept[-1] + 1) % n_states", "swept[0]", EXPLORATION
    ),
    "exploration: a way in a checkpoint may have costs below 0": Mutant(
        "training/exploration.py", 'or state["costs_of_states"].min() < 0', "", EXPLORATION
    ),
    # ------------------------------------------------------------------------------------------------ schedules
    "schedule: the first time comes before anything was counted": Mutant(
        "training/schedule.py",
        "(self.first and self.counted == 0 < now)",
        "(self.first and self.counted == 0)",
        SCHEDULE,
    ),
    "schedule: what is due in a checkpoint is not due afterwards": Mutant(
        "training/schedule.py", "now // self.n * self.n - 1", "now // self.n * self.n", SCHEDULE
    ),
    "schedule: a budget ends one step too late": Mutant(
        "training/schedule.py", "return steps >= self.until_steps or", "return steps > self.until_steps or", SCHEDULE
    ),
    "schedule: a tenth of a later budget counts the steps before it": Mutant(
        "training/schedule.py",
        "max((self.until_steps - self.steps_before) // 10, 1)",
        "max(self.until_steps // 10, 1)",
        SCHEDULE,
    ),
    "schedule: a callback is called a step too late": Mutant(
        "training/due.py",
        "max(1, -(-missing // callback.model.n_envs))",
        "max(1, 1 - (-missing // callback.model.n_envs))",
        DUE,
    ),
    "schedule: the end of an episode in several environments comes unseen": Mutant(
        "training/due.py",
        "episodes = due.episodes - model.n_envs * model.train_freq.frequency",
        "episodes = due.episodes - model.train_freq.frequency",
        DUE,
    ),
    "schedule: a progress bar counts one step for several environments": Mutant(
        "training/due.py", "update(n_calls * callback.training_env.num_envs)", "update(n_calls)", DUE
    ),
    # ------------------------------------------------------------------------------------------------ masks
    "masks: a forbidden action has the value 0": Mutant(
        "common/masks.py",
        "masked_fill(~masks, -th.inf)",
        "masked_fill(~masks, 0.0)",
        masks(
            "masked_actions_are_not_executed_explored_or_bootstrapped_from",
            "an_update_is_that_of_the_equation",
            "a_cut_episode_whose_last_masks_are_unknown_is_not_bootstrapped_from",
        ),
    ),
    "masks: a mask without a valid action is taken": Mutant(
        "common/masks.py",
        "if not masks.any(axis=1).all():",
        "if not masks.any():",
        masks("predict_takes_masks_as_maskable_ppo_does"),
    ),
    "masks: the action before the drawn one is taken": Mutant(
        "common/masks.py",
        "> rank[:, None]).argmax(axis=1)",
        ">= rank[:, None]).argmax(axis=1)",
        masks("exploration_is_uniform_over_valid_actions"),
    ),
    "masks: the state after an episode's end stands for its last state": Mutant(
        "envs/masks.py",
        "            reached[i] = False\n",
        "",
        masks(
            "masked_actions_are_not_executed_explored_or_bootstrapped_from",
            "an_update_is_that_of_the_equation",
            "a_cut_episode_whose_last_masks_are_unknown_is_not_bootstrapped_from",
        ),
    ),
    # ------------------------------------------------------------------------------------------------ goal
    "goal: good tests need not follow each other": Mutant(
        "training/goal.py", "self._in_a_row + 1 if is_good else 0", "self._in_a_row + is_good", GOAL
    ),
    "goal: of equal tests the earliest one is kept": Mutant(
        "training/goal.py",
        "result.mean_reward >= self._best.mean_reward:",
        "result.mean_reward > self._best.mean_reward:",
        GOAL,
    ),
    "goal: the best weights are those of the end": Mutant(
        "training/best_weights.py", 'value.detach().to("cpu", copy=True)', "value.detach()", GOAL
    ),
    "goal: VecNormalize keeps the moments of the end": Mutant(
        "training/best_weights.py", 'setattr(moments, name, value.item() if name == "count" else value)', "pass", GOAL
    ),
    "goal: a threshold is for any rewards": Mutant(
        "training/goal.py",
        "spec.reward_threshold is None or may_change_rewards(model.env)",
        "spec.reward_threshold is None",
        GOAL,
    ),
    "goal: a threshold is for any step limit": Mutant("training/goal.py", "if has_its_limit else None", "", GOAL),
    "transitions: a stop leaves the last observations behind": Mutant(
        "training/algorithm.py",
        "            if not continues:\n                self._transitions.follow",
        "            if False:\n                self._transitions.follow",
        STOPS,
    ),
    "transitions: a stop leaves the masks behind": Mutant(
        "training/transitions.py", "self.masks, _ = self._mask_reader.after_step", "self._mask_reader.after_step", STOPS
    ),
    "transitions: every info may have a terminal observation": Mutant(
        "training/transitions.py",
        "for i in dones.nonzero()[0].tolist():\n        if (terminal := infos[i]",
        "for i in range(len(infos)):\n        if (terminal := infos[i]",
        STOPS,
    ),
    "masks: those of a terminal state are asked for": Mutant(
        "envs/masks.py", "{} if terminated else {INFO_KEY: self._masks_now()}", "{INFO_KEY: self._masks_now()}", STOPS
    ),
    "goal: each test plays other episodes": Mutant(
        "training/goal.py",
        'make_rng(model.seed or 0, "test")',
        'make_rng(model.num_timesteps, "test")',
        GOAL,
    ),
    "goal: one more budget than allowed": Mutant(
        "training/goal.py", ">= MAX_BUDGETS * (self.n_timesteps or 0)", "> MAX_BUDGETS * (self.n_timesteps or 0)", GOAL
    ),
    "goal: a resumed run begins to count good tests anew": Mutant(
        "training/goal.py",
        "numbers = (self.n_timesteps, self._every.counted, self._n_tests, self._in_a_row, self._best_step)",
        "numbers = (self.n_timesteps, self._every.counted, self._n_tests, 0, self._best_step)",
        GOAL,
    ),
    "goal: a resumed run begins its tests anew": Mutant(
        "training/algorithm.py", "return self._goal if is_resumed else Goal(", "return Goal(", GOAL
    ),
    # ------------------------------------------------------------------------------------------------ diagnosis
    "diagnosis: a full memory has forgotten nothing if the steps were counted anew": Mutant(
        "evaluation/training_record.py",
        "forgets = _is_full(memory)\n",
        "forgets = _is_full(memory) and n_held < steps\n",
        _tests("evaluation/test_diagnosis", "a_memory_of_several_calls_of_learn_is_not_complete"),
    ),
    "diagnosis: successes of an odd memory are never forgotten": Mutant(
        "evaluation/training_record.py",
        "memory.fail.size > memory.success.size + 1",
        "memory.fail.size > memory.success.size",
        _tests("evaluation/test_diagnosis", "a_record_is_complete_only_if_nothing_was_forgotten"),
    ),
    "diagnosis: it runs the network in training mode": Mutant(
        "evaluation/values.py",
        "with evaluating(network), th.no_grad()",
        "with th.no_grad()",
        _tests("evaluation/test_diagnosis", "dropout_and_running_statistics_stay_as_they_are"),
    ),
    # ------------------------------------------------------------------------------------------------ saving, resuming
    "files: a file has its name before it is on the disk": Mutant(
        "saving/files.py", "            os.fsync(file.fileno())\n", "", FILES
    ),
    "files: an existing file is overwritten in its place": Mutant(
        "saving/files.py",
        "        os.replace(beside, target)\n",
        "        target.write_bytes(beside.read_bytes())\n        beside.unlink()\n",
        FILES,
    ),
    "files: the new name may be lost in a power cut": Mutant(
        "saving/files.py", "    flush_folder(target.parent)\n", "", FILES
    ),
    "checkpoint: a changed part is not noticed": Mutant(
        "saving/checkpoint_file.py",
        'if sha256.hexdigest() != checksum["sha256"]:',
        "if False:",
        checkpoint("a_part_of_another_checkpoint_is_noticed"),
    ),
    "checkpoint: the oldest is taken for the newest": Mutant(
        "saving/checkpoint_folder.py",
        "key=lambda path: steps[path], reverse=True)",
        "key=lambda path: steps[path])",
        checkpoint("a_damaged_one_is_passed_over_with_the_reason", "the_newest_are_kept"),
    ),
    "checkpoint: going on from an older one removes that one too": Mutant(
        "saving/checkpoint_folder.py",
        "if steps > n_steps]",
        "if steps >= n_steps]",
        checkpoint("a_run_that_goes_on_from_an_older_one_gives_up_the_later_ones"),
    ),
    "checkpoint: one more than asked for is kept": Mutant(
        "saving/checkpointer.py",
        "checkpoints_in(self.folder)[self.keep :]",
        "checkpoints_in(self.folder)[self.keep + 1 :]",
        checkpoint("the_newest_are_kept"),
    ),
    "resume: generators of Python, NumPy and PyTorch begin anew": Mutant(
        "saving/run_state.py",
        '        set_global_generators(resumed.state["generators"])\n',
        "",
        checkpoint(
            "a_run_that_is_stopped_three_times_ends_like_one_that_is_not",
            "every_checkpoint_of_a_run_ends_alike_also_one_at_which_callbacks_have_something_to_do",
        ),
    ),
    "resume: what waits to be logged is lost": Mutant(
        "saving/run_state.py",
        '        set_pending_logs(model.logger, resumed.state["pending_logs"])\n',
        "",
        checkpoint(
            "a_run_that_is_stopped_three_times_ends_like_one_that_is_not",
            "every_checkpoint_of_a_run_ends_alike_also_one_at_which_callbacks_have_something_to_do",
        ),
    ),
    "resume: a run goes on with other rounding": Mutant(
        "saving/run_state.py",
        "    if before != now:\n",
        "    if False:\n",
        _tests("saving/test_golden_files", "checkpoints_from_before_version_2_resume"),
    ),
    "resume: speed is measured over the steps since the restart": Mutant(
        "saving/run_state.py",
        "        model._num_timesteps_at_start = model._budget.steps_before\n",
        "",
        checkpoint(
            "a_run_that_is_stopped_three_times_ends_like_one_that_is_not",
            "every_checkpoint_of_a_run_ends_alike_also_one_at_which_callbacks_have_something_to_do",
        ),
    ),
    "resume: the discounted return of VecNormalize begins anew": Mutant(
        "saving/env_state.py",
        '        wrapper.returns = _array_like("returns of VecNormalize", state["returns"], wrapper.returns)\n',
        "",
        checkpoint(
            "a_run_that_is_stopped_three_times_ends_like_one_that_is_not",
            "every_checkpoint_of_a_run_ends_alike_also_one_at_which_callbacks_have_something_to_do",
        ),
    ),
    "resume: later lines of the log stay": Mutant(
        "saving/logs.py",
        "                opened.truncate(sizes[file.name])\n",
        "                pass\n",
        _tests("saving/test_event_files", "curves_are_those_of_a_run_alone_whatever_the_clock_does"),
    ),
    "resume: arguments of callbacks that were changed are set back": Mutant(
        "saving/callback_state.py",
        "if name not in arguments})",
        "})",
        checkpoint("arguments_of_callbacks_that_are_changed_on_resuming_stay_changed"),
    ),
    "resume: a run that still trains is resumed": Mutant(
        "training/algorithm.py",
        "            check_is_free(self._resumed.folder)  # before they are cut\n",
        "            pass\n",
        checkpoint("a_run_that_still_trains_is_not_resumed"),
    ),
    "resume: a folder is not locked": Mutant(
        "saving/checkpoint_folder.py",
        "        lock.acquire()\n",
        "        pass\n",
        checkpoint("a_run_that_still_trains_is_not_resumed", "a_run_does_not_begin_in_the_folder_of_one_that_trains"),
    ),
    "resume: a folder stays locked after an error": Mutant(
        "training/run.py",
        "                self._close_bars()\n                self.release_folders()\n",
        "                self._close_bars()\n",
        checkpoint("a_folder_is_free_when_training_has_ended"),
    ),
    "loading: a file sets constants of the class": Mutant(
        "saving/from_file.py",
        "        if is_method or name in constants or",
        "        if is_method or",
        _tests("saving/test_hostile_files"),
    ),
}
