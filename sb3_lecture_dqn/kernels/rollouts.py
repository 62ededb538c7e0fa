"""
The training loop on a tabular environment: whole rollouts and the updates after each, until something else is due.

It does what ``training/algorithm.py`` does step by step, with the same draws in the same order: see there for the
meaning.
"""

import numpy as np

from sb3_lecture_dqn.kernels.compiling import jit, slow_entry
from sb3_lecture_dqn.kernels.index import add, find, remove
from sb3_lecture_dqn.kernels.networks import N_ACTIONS, N_STATES, action_values, best_allowed
from sb3_lecture_dqn.kernels.updates import MASK_WORD, copy_target, train

#: Numbers of ``counts``: totals that go in and come out
CLOCK, N_CALLS, EPISODES, TIMESTEPS, UPDATES, SUCCESSES, FAILURES, N_COUNTS = range(8)
#: Numbers of ``limits``. The loop comes back after MAX_ROLLOUTS, or after the rollout that reaches one of the others
MAX_ROLLOUTS, STOP_STEP, STOP_EPISODE, N_LIMITS = range(4)
#: Numbers of ``switches``: the settings
(
    TRAIN_FREQ,
    TRAIN_BY_EPISODE,
    GRADIENT_STEPS,
    LEARNING_STARTS,
    COPY_EVERY_CALLS,
    COPY_EVERY_STEPS,
    COPY_EVERY_EPISODES,
    BATCH_SIZE,
    EXPLORES_BY_EPISODE,
    LEAST_TRIED,
    CRITERION,
    BOOTSTRAPS_TIMEOUTS,
    IS_LATEST_ONLY,
    DEDUPLICATES,
    MAX_SUCCESSES,
    MAX_FAILURES,
    MAX_TOGETHER,
    STEP_LIMIT,
    ACTS_BY_MASKS,
    N_SWITCHES,
) = range(20)
#: More tries than any
MANY = 2**62
#: Which transitions are successes
TERMINAL, POSITIVE_REWARD, NEVER = range(3)
#: Columns of ``ended``: what Monitor says of an episode, and what the log has when it ends
RETURN, LENGTH, AT_TIMESTEP, EPSILON, LOSS, RATE, UPDATES_SO_FAR, N_COLUMNS = range(8)
#: Numbers of ``last``: progress and exploration rate after the last step; mean loss and learning rate of the last
#: updates; sum of the losses of the last rollout's updates, and their number
PROGRESS, LAST_EPSILON, LAST_LOSS, LAST_RATE, LOSS_SUM, N_UPDATED, N_LAST = range(7)
#: Rows of ``schedules``: what the exploration rate and the learning rate are at the start, at the end, and after which
#: share of the budget the end is reached; and the budget, in steps and in episodes, of which one is 0
EXPLORATION, LEARNING, BUDGET = range(3)
#: Numbers of ``results``: why the loop came back, rollouts, steps of each environment, episodes, optimiser's steps; and
#: the steps of each environment in the last rollout
STATUS, ROLLOUTS, STEPS, ENDED, OPTIMIZED, COLLECTED, N_RESULTS = range(7)
#: ``results[STATUS]``
DONE, UPDATE_FAILED, MEMORY_EMPTY = range(3)


@jit
def bisect(cumulative, first, n, u):
    """How many of n increasing numbers are at most u."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2
        if cumulative[first + middle] <= u:
            low = middle + 1
        else:
            high = middle
    return low


@jit
def linear(schedule, remaining):
    """SB3's ``LinearSchedule``, from the share of the budget that remains."""
    start, end, end_fraction = schedule
    if 1 - remaining > end_fraction:
        return end
    return start + (1 - remaining) * (end - start) / end_fraction


@jit
def fill(array, number):
    """Write a number everywhere."""
    for i in range(array.shape[0]):
        array[i] = number


@jit
def forget_values(known):
    """Forget the target's action values, because the target has changed."""
    if known.shape[0] > 0:
        known[known.shape[0] - 1] += 1


@jit
def random_action(rng, state, n_actions, masks, tried, least_tried):
    """An action drawn uniformly: of all, of the valid ones, or of those of them that were tried least in the state."""
    fewest = MANY
    if least_tried:
        for a in range(n_actions):
            if masks.shape[1] == 0 or (masks[state, a // 64] >> (a % 64)) & 1:
                fewest = min(fewest, tried[state, a])
    elif masks.shape[1] == 0:
        return np.int64(rng.random() * n_actions)
    n = 0
    for turn in range(2):  # count the candidates, then go to the drawn one
        if turn == 1:
            n = np.int64(rng.random() * n)
        for a in range(n_actions):
            if masks.shape[1] > 0 and not (masks[state, a // 64] >> (a % 64)) & 1:
                continue
            if least_tried and tried[state, a] != fewest:
                continue
            if turn == 0:
                n += 1
            elif n == 0:
                return np.int64(a)
            else:
                n -= 1
    return np.int64(-1)


@jit
def copy_row(words, of, to):
    """Copy a row over another."""
    for k in range(words.shape[1]):
        words[to, k] = words[of, k]


@jit
def forget(words, slots, size, at, deduplicates):
    """Remove a row as ``Partition.remove`` does: the last row moves to its place."""
    last = size - 1
    if deduplicates:
        remove(slots, words, at)
        if at != last:
            remove(slots, words, last)
    if at != last:
        copy_row(words, last, at)
        if deduplicates:
            add(slots, words, at)


@jit
def insert(words, slots, size, capacity, deduplicates, row, rng):
    """Store a transition that is not held as ``Partition.insert`` does, and return the number of rows afterwards."""
    at, full = size, size == capacity
    if full:
        at = np.int64(rng.random() * size)
        if deduplicates:
            remove(slots, words, at)
    for k in range(row.shape[1]):
        words[at, k] = row[0, k]
    if deduplicates:
        add(slots, words, at)
    return size if full else size + 1


@jit
def keep(memory, counts, switches, row, succeeds, rng):
    """Store a transition as ``SuccessFailReplayBuffer.add`` does."""
    success, success_slots, fail, fail_slots = memory[0], memory[2], memory[3], memory[5]
    deduplicates = switches[DEDUPLICATES] == 1
    words, slots = (success, success_slots) if succeeds else (fail, fail_slots)
    if deduplicates and find(slots, words, row) >= 0:
        return
    n_success, n_fail = counts[SUCCESSES], counts[FAILURES]
    if switches[MAX_TOGETHER] > 0 and n_success + n_fail >= switches[MAX_TOGETHER]:
        forgets_success = n_success >= n_fail if succeeds else n_success > n_fail
        if forgets_success:
            forget(success, success_slots, n_success, np.int64(rng.random() * n_success), deduplicates)
            counts[SUCCESSES] -= 1
        else:
            forget(fail, fail_slots, n_fail, np.int64(rng.random() * n_fail), deduplicates)
            counts[FAILURES] -= 1
    which, capacity = (SUCCESSES, switches[MAX_SUCCESSES]) if succeeds else (FAILURES, switches[MAX_FAILURES])
    counts[which] = insert(words, slots, counts[which], capacity, deduplicates, row, rng)


@jit
def draw_positions(rng, n_success, n, fraction, positions):
    """Draw minibatches as ``SuccessFailReplayBuffer.draw_minibatches`` does; a fraction below 0 stands for none."""
    n_batches, batch_size = positions.shape
    mixed = fraction >= 0 and n_success != 0 and n_success != n
    for update in range(n_batches):
        from_success = np.int64(batch_size * fraction + rng.random()) if mixed else 0
        for i in range(batch_size):
            if not mixed:
                positions[update, i] = np.int64(rng.random() * n)
            elif i < from_success:
                positions[update, i] = np.int64(rng.random() * n_success)
            else:
                positions[update, i] = n_success + np.int64(rng.random() * (n - n_success))


@slow_entry
def run(limits, counts, switches, tau, gamma, fraction, env, episodes, rngs, memory, tried, epsilons,  # noqa: C901
        schedules, networks, net, known, cached, batch, loss_kind, double_q, optimizer, max_norm, first_step, work,
        plain, one, ended, last, results):  # fmt: skip
    """
    Do rollouts and the updates after each.

    :param limits: int64, see :data:`N_LIMITS`.
    :param counts: int64, see :data:`N_COUNTS`, changed in place.
    :param switches: int64, see :data:`N_SWITCHES`.
    :param tau: Share of the online network that a copy takes into the target.
    :param gamma: Discount factor.
    :param fraction: Share of a minibatch from the successes, below 0 for none.
    :param env: Next states, rewards (float64 and float32), ends, and cumulative probabilities of the outcomes, each
        flat, by state, action and outcome; first states and their cumulative probabilities; valid actions, int64 words
        of shape (n_states, words), without columns if there are none.
    :param episodes: Of the environments, each of shape (n_envs,): state, clock at the beginning, return, state before
        the last step, outcome of the last step, whether it ended an episode, first state of an episode that has begun.
    :param rngs: Generators of environment, exploration and memory.
    :param memory: Words, floats and slots of the successes, then of the failures; there is room for all that comes.
    :param tried: How often every action was tried in every state, int64; without rows nothing is counted.
    :param epsilons: Exploration rates of this episode and the next, as many as ``ended`` has room for, if the lecture's
        schedule is used.
    :param schedules: Three triples of float64, see :data:`EXPLORATION`.
    :param networks, net, known, cached, batch, loss_kind, double_q, optimizer, max_norm, first_step, work, plain, one:
        See :func:`updates.train`.
    :param ended: float64, one row of :data:`N_COLUMNS` numbers for each episode that ends, with room for those of one
        rollout more than the loop stops at.
    :param last: float64, see :data:`N_LAST`, changed in place.
    :param results: int64, see :data:`N_RESULTS`, written.
    """
    env_rng, explore_rng, memory_rng = rngs
    next_states, rewards, rewards_f, terminated, cumulative, starts, start_cumulative, masks = env
    states, began, returns, before, outcomes, dones, begun = episodes
    success, success_f, success_slots, fail, fail_f, fail_slots = memory
    opt_kind, _, beta1, beta2, eps = optimizer
    n_envs, n_actions, batch_size = states.shape[0], net[N_ACTIONS], switches[BATCH_SIZE]
    n_outcomes = next_states.shape[0] // (net[N_STATES] * n_actions)
    online, target = networks[0], networks[1]
    row = np.zeros((1, success.shape[1]), np.int64)
    row_f = row.view(np.float32)
    explores = np.zeros(n_envs, np.bool_)
    positions = np.empty((0, batch_size), np.int64)
    x, z, h, values = one[0], one[1], one[2], one[5]
    allowed = masks if switches[ACTS_BY_MASKS] else masks[:, :0]
    room = ended.shape[0] - n_envs * switches[TRAIN_FREQ]
    first_episode, n_ended, n_steps, n_rollouts = counts[EPISODES], 0, 0, 0
    status, step_of_optimizer, collected = DONE, first_step, 0
    while (
        n_rollouts < limits[MAX_ROLLOUTS]
        and counts[TIMESTEPS] < limits[STOP_STEP]
        and counts[EPISODES] < limits[STOP_EPISODE]
        and n_ended <= room
    ):
        steps_before, episodes_before, collected = counts[TIMESTEPS], counts[EPISODES], 0
        while (counts[EPISODES] - episodes_before if switches[TRAIN_BY_EPISODE] else collected) < switches[TRAIN_FREQ]:
            # Act
            starting = counts[TIMESTEPS] < switches[LEARNING_STARTS]
            if switches[EXPLORES_BY_EPISODE]:
                last[LAST_EPSILON] = epsilons[counts[EPISODES] - first_episode]
            for i in range(n_envs):
                explores[i] = starting or explore_rng.random() < last[LAST_EPSILON]
            for i in range(n_envs):
                before[i] = states[i]
                if explores[i]:
                    action = random_action(
                        explore_rng, states[i], n_actions, allowed, tried, switches[LEAST_TRIED] == 1
                    )
                else:
                    action_values(online, net, states[i], x, z, h, values, 0)
                    action = best_allowed(values, 0, n_actions, allowed, states[i], 0)
                outcomes[i] = (states[i] * n_actions + action) * n_outcomes
            # Step, and store
            counts[CLOCK] += 1
            counts[TIMESTEPS] += n_envs
            n_steps += 1
            collected += 1
            if n_outcomes > 1:
                for i in range(n_envs):
                    outcomes[i] += bisect(cumulative, outcomes[i], n_outcomes, env_rng.random())
            if switches[IS_LATEST_ONLY]:
                fill(success_slots, -1)
                fill(fail_slots, -1)
                counts[SUCCESSES], counts[FAILURES] = 0, 0
            for i in range(n_envs):
                outcome, state = outcomes[i], before[i]
                action = outcome // n_outcomes % n_actions
                states[i] = next_states[outcome]
                returns[i] += rewards[outcome]
                dones[i] = terminated[outcome] or counts[CLOCK] - began[i] >= switches[STEP_LIMIT]
                terminal = dones[i] and (terminated[outcome] or not switches[BOOTSTRAPS_TIMEOUTS])
                if switches[LEAST_TRIED]:
                    tried[state, action] += 1
                row[0, 0], row[0, 1], row[0, 2] = state, states[i], action
                row_f[0, 6], row_f[0, 7] = rewards_f[outcome] + np.float32(0.0), np.float32(terminal)
                for k in range(MASK_WORD, row.shape[1]):
                    # No action is chosen in a terminal state: all are valid there.
                    left = n_actions - 64 * (k - MASK_WORD)
                    every = np.int64(-1) if left >= 64 else (np.int64(1) << left) - 1
                    row[0, k] = every if terminal else masks[states[i], k - MASK_WORD]
                succeeds = switches[CRITERION] == TERMINAL and terminal
                succeeds = succeeds or (switches[CRITERION] == POSITIVE_REWARD and rewards_f[outcome] > 0)
                keep(memory, counts, switches, row, succeeds, memory_rng)
            # Copy the target if a number of calls is over
            counts[N_CALLS] += 1
            if switches[COPY_EVERY_CALLS] > 0 and counts[N_CALLS] % switches[COPY_EVERY_CALLS] == 0:
                copy_target(online, target, tau)
                forget_values(known)
            if schedules[BUDGET][1] > 0:
                last[PROGRESS] = max(0.0, 1.0 - counts[EPISODES] / schedules[BUDGET][1])
            else:
                last[PROGRESS] = 1.0 - counts[TIMESTEPS] / schedules[BUDGET][0]
            if not switches[EXPLORES_BY_EPISODE]:
                last[LAST_EPSILON] = linear(schedules[EXPLORATION], last[PROGRESS])
            # Begin new episodes where one has ended
            for i in range(n_envs):
                if dones[i]:
                    ended[n_ended, RETURN], ended[n_ended, LENGTH] = returns[i], counts[CLOCK] - began[i]
                    ended[n_ended, AT_TIMESTEP], ended[n_ended, EPSILON] = counts[TIMESTEPS], last[LAST_EPSILON]
                    ended[n_ended, LOSS], ended[n_ended, RATE] = last[LAST_LOSS], last[LAST_RATE]
                    ended[n_ended, UPDATES_SO_FAR] = counts[UPDATES]
                    n_ended += 1
                    counts[EPISODES] += 1
                    states[i] = starts[bisect(start_cumulative, 0, starts.shape[0], env_rng.random())]
                    began[i], returns[i], begun[i] = counts[CLOCK], 0.0, states[i]
        n_rollouts += 1
        # Update
        n_updates = switches[GRADIENT_STEPS] if switches[GRADIENT_STEPS] >= 0 else collected * n_envs
        last[LOSS_SUM], last[N_UPDATED] = 0.0, 0
        if counts[TIMESTEPS] > switches[LEARNING_STARTS] and n_updates > 0:
            last[LAST_RATE] = linear(schedules[LEARNING], last[PROGRESS])
            n = counts[SUCCESSES] + counts[FAILURES]
            if n == 0:
                status = MEMORY_EMPTY
                break
            if positions.shape[0] != n_updates:
                positions = np.empty((n_updates, batch_size), np.int64)
            draw_positions(memory_rng, counts[SUCCESSES], n, fraction, positions)
            total, n_updated = train(
                success, success_f, fail, fail_f, counts[SUCCESSES], positions, 0, gamma, networks, net, known, cached,
                batch, loss_kind, double_q, (opt_kind, last[LAST_RATE], beta1, beta2, eps), max_norm,
                step_of_optimizer, work, plain, one,
            )  # fmt: skip
            step_of_optimizer += n_updated
            last[LOSS_SUM], last[N_UPDATED] = total, n_updated
            if n_updated < n_updates:
                status = UPDATE_FAILED
                break
            last[LAST_LOSS] = total / n_updates
            counts[UPDATES] += n_updates
        # Copy the target if a number of steps or episodes is over
        every_steps, every_episodes = switches[COPY_EVERY_STEPS], switches[COPY_EVERY_EPISODES]
        if (every_steps > 0 and counts[TIMESTEPS] // every_steps > steps_before // every_steps) or (
            every_episodes > 0 and counts[EPISODES] // every_episodes > episodes_before // every_episodes
        ):
            copy_target(online, target, tau)
            forget_values(known)
    results[STATUS], results[ROLLOUTS], results[STEPS], results[ENDED] = status, n_rollouts, n_steps, n_ended
    results[OPTIMIZED], results[COLLECTED] = step_of_optimizer - first_step, collected
