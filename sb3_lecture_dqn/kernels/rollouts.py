"""
The training loop on a tabular environment: whole rollouts and the updates after each, until something else is due.

It does what ``training/algorithm.py`` does step by step, with the same draws in the same order: see there for the
meaning.
"""

import numpy as np

from sb3_lecture_dqn.kernels import places as at
from sb3_lecture_dqn.kernels.compiling import jit, slow_entry
from sb3_lecture_dqn.kernels.draws import random
from sb3_lecture_dqn.kernels.exploration import find_ways, leads_somewhere, note_step, random_action
from sb3_lecture_dqn.kernels.index import add, find, remove
from sb3_lecture_dqn.kernels.networks import N_ACTIONS, N_STATES, action_values, best_allowed, values_of
from sb3_lecture_dqn.kernels.updates import MASK_WORD, copy_target, train_on


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
def copy_row(words, of, to):
    """Copy a row over another."""
    for k in range(words.shape[1]):
        words[to, k] = words[of, k]


@jit
def forget(words, slots, size, index, deduplicates):
    """Remove a row as ``Partition.remove`` does: the last row moves to its place."""
    last = size - 1
    if deduplicates:
        remove(slots, words, index)
        if index != last:
            remove(slots, words, last)
    if index != last:
        copy_row(words, last, index)
        if deduplicates:
            add(slots, words, index)


@jit
def insert(words, slots, size, capacity, deduplicates, row, rng):
    """Store a transition that is not held as ``Partition.insert`` does, and return the number of rows afterwards."""
    index, full = size, size == capacity
    if full:
        index = np.int64(random(rng) * size)
        if deduplicates:
            remove(slots, words, index)
    for k in range(row.shape[1]):
        words[index, k] = row[0, k]
    if deduplicates:
        add(slots, words, index)
    return size if full else size + 1


@jit
def keep(memory, counts, switches, row, succeeds, rng):
    """Store a transition as ``SuccessFailReplayBuffer.add`` does."""
    success, success_slots, fail, fail_slots = memory[0], memory[2], memory[3], memory[5]
    deduplicates = switches[at.DEDUPLICATES] == 1
    words, slots = (success, success_slots) if succeeds else (fail, fail_slots)
    if deduplicates and find(slots, words, row) >= 0:
        return
    n_success, n_fail = counts[at.SUCCESSES], counts[at.FAILURES]
    if switches[at.MAX_TOGETHER] > 0 and n_success + n_fail >= switches[at.MAX_TOGETHER]:
        forgets_success = n_success >= n_fail if succeeds else n_success > n_fail
        if forgets_success:
            forget(success, success_slots, n_success, np.int64(random(rng) * n_success), deduplicates)
            counts[at.SUCCESSES] -= 1
        else:
            forget(fail, fail_slots, n_fail, np.int64(random(rng) * n_fail), deduplicates)
            counts[at.FAILURES] -= 1
    which, capacity = (
        (at.SUCCESSES, switches[at.MAX_SUCCESSES]) if succeeds else (at.FAILURES, switches[at.MAX_FAILURES])
    )
    counts[which] = insert(words, slots, counts[which], capacity, deduplicates, row, rng)


@jit
def draw_positions(rng, n_success, n, fraction, positions):
    """Draw minibatches as ``SuccessFailReplayBuffer.draw_minibatches`` does; a fraction below 0 stands for none."""
    n_batches, batch_size = positions.shape
    mixed = fraction >= 0 and n_success != 0 and n_success != n
    for update in range(n_batches):
        from_success = np.int64(batch_size * fraction + random(rng)) if mixed else 0
        for i in range(batch_size):
            if not mixed:
                positions[update, i] = np.int64(random(rng) * n)
            elif i < from_success:
                positions[update, i] = np.int64(random(rng) * n_success)
            else:
                positions[update, i] = n_success + np.int64(random(rng) * (n - n_success))


@jit
def run_on(limits, counts, switches, tau, gamma, fraction, env, episodes, rngs, memory, tried, way, epsilons,  # noqa: C901
        schedules, networks, net, known, cached, batch, loss_kind, double_q, optimizer, max_norm, steps, work,
        plain, one, scratch, ended, last, results):  # fmt: skip
    """
    Do rollouts and the updates after each.

    If a step waits from the last call, begin with its end: the arguments are those of that call, as far as nothing has
    changed them.

    :param limits: int64, see ``places.N_LIMITS``.
    :param counts: int64, see ``places.N_COUNTS``, changed in place.
    :param switches: int64, see ``places.N_SWITCHES``.
    :param tau: Share of the online network that a copy takes into the target.
    :param gamma: Discount factor.
    :param fraction: Share of a minibatch from the successes, below 0 for none.
    :param env: Next states, rewards (float64 and float32), ends, and cumulative probabilities of the outcomes, each
        flat, by state, action and outcome; first states and their cumulative probabilities; valid actions, int64 words
        of shape (n_states, words), without columns if there are none.
    :param episodes: Of the environments, each of shape (n_envs,): state, clock at the beginning, return; the states
        again as codes of shape (n_envs, 1), and numbers (n_envs, 0); state before the last step, outcome of the last
        step, whether it ended an episode, first state of an episode that has begun.
    :param rngs: Generators of environment, exploration and memory, see :mod:`draws`.
    :param memory: Words, floats and slots of the successes, then of the failures; there is room for all that comes.
    :param tried: How often every action was tried in every state, int64; without rows nothing is counted.
    :param way: The arrays of ``WayToUntried``, an array for the costs of a sweep, and the cost of a repetition; only
        used if ``LEAST_TRIED`` is ``ANYWHERE``.
    :param epsilons: The lecture's exploration rates, if they are used, from episode ``EPSILONS_FROM`` on, for this
        episode and as many more as ``ended`` has room for.
    :param schedules: Three triples of float64, see ``places.EXPLORATION``.
    :param networks, net, known, cached, batch, loss_kind, double_q, optimizer, max_norm, steps, work, plain, one:
        See :func:`updates.train`.
    :param scratch: A row of the memory, as int64 and as float32 words; bool of shape (n_envs,); and int64 of shape
        (updates, batch size), for as many updates as are drawn at once.
    :param ended: float64, a row of ``places.N_COLUMNS`` numbers for each episode that ends. The loop stops when there
        may be no room for those of another rollout.
    :param last: float64, see ``places.N_LAST``, changed in place.
    :param results: int64, see ``places.N_RESULTS``, written. If a step waits, those of the call that has made it.
    """
    env_rng, explore_rng, memory_rng = rngs
    next_states, rewards, rewards_f, terminated, cumulative, starts, start_cumulative, masks = env
    states, began, returns, codes, numbers, before, outcomes, dones, begun = episodes
    success, success_f, success_slots, fail, fail_f, fail_slots = memory
    opt_kind, _, beta1, beta2, eps, decay = optimizer
    n_envs, n_actions = states.shape[0], net[N_ACTIONS]
    n_outcomes = next_states.shape[0] // (net[N_STATES] * n_actions)
    online, target = networks[0], networks[1]
    row, row_f, explores, positions = scratch
    x, z, h, values = one[0], one[1], one[2], one[5]
    allowed = masks if switches[at.ACTS_BY_MASKS] else masks[:, :0]
    room = ended.shape[0] - n_envs * switches[at.TRAIN_FREQ]
    n_ended, n_begun, n_steps, n_rollouts, n_updates_before, status = 0, 0, 0, 0, counts[at.UPDATES], at.DONE
    if counts[at.WAITS]:  # what its step has ended stands after what the last call has finished
        for i in range(n_envs):
            if dones[i]:
                ended[n_ended, at.RETURN] = ended[results[at.ENDED] + n_ended, at.RETURN]
                ended[n_ended, at.LENGTH] = ended[results[at.ENDED] + n_ended, at.LENGTH]
                n_ended += 1
    while True:
        if not counts[at.WAITS]:
            # Act
            starting = counts[at.TIMESTEPS] < switches[at.LEARNING_STARTS]
            if switches[at.EXPLORES_BY_EPISODE]:
                last[at.LAST_EPSILON] = epsilons[counts[at.EPISODES] + 1 - switches[at.EPSILONS_FROM]]
            for i in range(n_envs):
                explores[i] = starting or random(explore_rng) < last[at.LAST_EPSILON]
                if leads_somewhere(way, states[i], switches[at.LEAST_TRIED]):
                    explores[i] = True
            for i in range(n_envs):
                before[i] = states[i]
                if explores[i]:
                    action = random_action(
                        explore_rng, states[i], n_actions, allowed, tried, way, switches[at.LEAST_TRIED]
                    )
                else:
                    if plain is None:  # only the branch that is needed is compiled
                        values_of(online, net, codes, numbers, i, x, z, h, values)
                    else:
                        action_values(online, net, states[i], x, z, h, values, 0)
                    action = best_allowed(values, 0, n_actions, allowed, states[i], 0)
                outcomes[i] = (states[i] * n_actions + action) * n_outcomes
            # Step, and begin new episodes where one ends
            counts[at.CLOCK] += 1
            counts[at.TIMESTEPS] += n_envs
            if n_outcomes > 1:
                for i in range(n_envs):
                    outcomes[i] += bisect(cumulative, outcomes[i], n_outcomes, random(env_rng))
            for i in range(n_envs):
                states[i] = next_states[outcomes[i]]
                returns[i] += rewards[outcomes[i]]
                dones[i] = terminated[outcomes[i]] or counts[at.CLOCK] - began[i] >= switches[at.STEP_LIMIT]
                if dones[i]:
                    ended[n_ended, at.RETURN], ended[n_ended, at.LENGTH] = returns[i], counts[at.CLOCK] - began[i]
                    n_ended += 1
                    n_begun += 1
                    states[i] = starts[bisect(start_cumulative, 0, starts.shape[0], random(env_rng))]
                    began[i], returns[i], begun[i] = counts[at.CLOCK], 0.0, states[i]
            counts[at.WAITS] = 1
            if limits[at.PAUSES]:
                break
        counts[at.WAITS] = 0
        # Store
        n_steps += 1
        counts[at.COLLECTED] += 1
        results[at.IN_ROLLOUT] = counts[at.COLLECTED]
        if switches[at.IS_LATEST_ONLY]:
            fill(success_slots, -1)
            fill(fail_slots, -1)
            counts[at.SUCCESSES], counts[at.FAILURES] = 0, 0
        for i in range(n_envs):
            outcome = outcomes[i]
            action = outcome // n_outcomes % n_actions
            terminal = dones[i] and (terminated[outcome] or not switches[at.BOOTSTRAPS_TIMEOUTS])
            if switches[at.LEAST_TRIED] > 0:
                note_step(tried, way, allowed, before[i], action, states[i], switches[at.LEAST_TRIED])
            row[0, 0], row[0, 1], row[0, 2] = before[i], next_states[outcome], action
            row_f[0, 6], row_f[0, 7] = rewards_f[outcome] + np.float32(0.0), np.float32(terminal)
            for k in range(MASK_WORD, row.shape[1]):
                # No action is chosen in a terminal state: all are valid there.
                left = n_actions - 64 * (k - MASK_WORD)
                every = np.int64(-1) if left >= 64 else (np.int64(1) << left) - 1
                row[0, k] = every if terminal else masks[next_states[outcome], k - MASK_WORD]
            succeeds = switches[at.CRITERION] == at.TERMINAL and terminal
            succeeds = succeeds or (switches[at.CRITERION] == at.POSITIVE_REWARD and rewards_f[outcome] > 0)
            keep(memory, counts, switches, row, succeeds, memory_rng)
        if switches[at.LEAST_TRIED] == at.ANYWHERE:
            find_ways(tried, way)
        # Copy the target if a number of calls is over
        counts[at.N_CALLS] += 1
        every = switches[at.COPY_EVERY_CALLS]
        if every > 0 and counts[at.N_CALLS] % every == 0 and switches[at.HAS_TARGET]:
            copy_target(online, target, tau)
            forget_values(known)
        # Measure progress, and count episodes
        if schedules[at.BUDGET][1] > 0:
            last[at.PROGRESS] = max(0.0, 1.0 - counts[at.EPISODES] / schedules[at.BUDGET][1])
        else:
            last[at.PROGRESS] = 1.0 - counts[at.TIMESTEPS] / schedules[at.BUDGET][0]
        if not switches[at.EXPLORES_BY_EPISODE]:
            last[at.LAST_EPSILON] = linear(schedules[at.EXPLORATION], last[at.PROGRESS])
        last[at.FINISHED_EPSILON] = last[at.LAST_EPSILON]
        first = n_ended
        for i in range(n_envs):
            first -= dones[i]
        for k in range(first, n_ended):  # the log has these numbers when an episode ends
            ended[k, at.AT_TIMESTEP], ended[k, at.EPSILON] = counts[at.TIMESTEPS], last[at.LAST_EPSILON]
            ended[k, at.LOSS], ended[k, at.RATE] = last[at.LAST_LOSS], last[at.LAST_RATE]
            ended[k, at.UPDATES_SO_FAR] = counts[at.UPDATES]
            counts[at.EPISODES] += 1
        n_ended_in_rollout = counts[at.EPISODES] - counts[at.EPISODES_BEFORE]
        if (n_ended_in_rollout if switches[at.TRAIN_BY_EPISODE] else counts[at.COLLECTED]) < switches[at.TRAIN_FREQ]:
            continue
        n_rollouts += 1
        # Update
        n_updates = switches[at.GRADIENT_STEPS] if switches[at.GRADIENT_STEPS] >= 0 else counts[at.COLLECTED] * n_envs
        last[at.LOSS_SUM], last[at.N_UPDATED] = 0.0, 0
        if counts[at.TIMESTEPS] > switches[at.LEARNING_STARTS] and n_updates > 0:
            last[at.LAST_RATE] = linear(schedules[at.LEARNING], last[at.PROGRESS])
            n = counts[at.SUCCESSES] + counts[at.FAILURES]
            if n == 0:
                status = at.MEMORY_EMPTY
                break
            total, n_updated, done, wanted = 0.0, 0, 0, 0
            while n_updated < n_updates and done == wanted:  # as many at once as there is room for
                wanted = min(n_updates - n_updated, positions.shape[0])
                draw_positions(memory_rng, counts[at.SUCCESSES], n, fraction, positions[:wanted])
                total, done = train_on(
                    success, success_f, fail, fail_f, counts[at.SUCCESSES], positions[:wanted], 0, gamma, networks, net,
                    known, cached, batch, loss_kind, double_q, (opt_kind, last[at.LAST_RATE], beta1, beta2, eps, decay),
                    max_norm, steps, work, plain, one, total,
                )  # fmt: skip
                n_updated += done
            last[at.LOSS_SUM], last[at.N_UPDATED] = total, n_updated
            if n_updated < n_updates:
                status = at.UPDATE_FAILED
                break
            last[at.LAST_LOSS] = total / n_updates
            counts[at.UPDATES] += n_updates
        # Copy the target if a number of steps or episodes is over
        every, now = switches[at.COPY_EVERY_STEPS], counts[at.TIMESTEPS]
        if every == 0 and n_ended_in_rollout > 0:
            every, now = switches[at.COPY_EVERY_EPISODES], counts[at.EPISODES]
        if every > 0:
            if now // every > counts[at.COPIES_COUNTED] // every and switches[at.HAS_TARGET]:
                copy_target(online, target, tau)
                forget_values(known)
            counts[at.COPIES_COUNTED] = now
        counts[at.COLLECTED], counts[at.EPISODES_BEFORE] = 0, counts[at.EPISODES]
        if (
            n_rollouts >= limits[at.MAX_ROLLOUTS]
            or counts[at.TIMESTEPS] >= limits[at.STOP_STEP]
            or counts[at.EPISODES] >= limits[at.STOP_EPISODE]
            or n_ended > room
        ):
            break
    results[at.STATUS], results[at.ROLLOUTS], results[at.STEPS], results[at.ENDED] = (
        status,
        n_rollouts,
        n_steps,
        n_ended,
    )
    results[at.BEGUN], results[at.UPDATED] = (
        n_begun,
        counts[at.UPDATES] > n_updates_before or status != at.DONE,
    )
    if counts[at.WAITS]:  # its episodes have not ended yet
        results[at.IN_ROLLOUT] = counts[at.COLLECTED] + 1
        for i in range(n_envs):
            results[at.ENDED] -= dones[i]


@slow_entry
def run(limits, counts, switches, tau, gamma, fraction, env, episodes, rngs, memory, tried, way, epsilons, schedules,
        networks, net, known, cached, batch, loss_kind, double_q, optimizer, max_norm, steps, work, plain, one,
        scratch, ended, last, results):  # fmt: skip
    """See :func:`run_on`."""
    run_on(limits, counts, switches, tau, gamma, fraction, env, episodes, rngs, memory, tried, way, epsilons, schedules,
           networks, net, known, cached, batch, loss_kind, double_q, optimizer, max_norm, steps, work, plain, one,
           scratch, ended, last, results)  # fmt: skip
