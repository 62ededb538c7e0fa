"""
The training loop on a tabular environment: act, step, store, update, copy the target, until something else is due.

What stands here is what ``training/algorithm.py`` does step by step, with the same draws in the same order: see there
for the meaning.
"""

import numpy as np

from sb3_lecture_dqn.kernels.compiling import entry, jit
from sb3_lecture_dqn.kernels.index import add, find, replace
from sb3_lecture_dqn.kernels.networks import N_ACTIONS, action_values, best_allowed
from sb3_lecture_dqn.kernels.updates import MASK_WORD, train

#: Numbers in ``counts``, which go in and come out
CLOCK, N_CALLS, EPISODES, TIMESTEPS, UPDATES, SUCCESSES, FAILURES, N_COUNTS = 0, 1, 2, 3, 4, 5, 6, 7
#: What ``switches`` says of a run
(
    TRAIN_FREQ,
    TRAIN_BY_EPISODE,
    GRADIENT_STEPS,
    BATCH_SIZE,
    LEARNING_STARTS,
    TARGET_STEPS,
    TARGET_EPISODES,
    EPSILON_BY,
    RATE_BY,
    LEAST_TRIED,
    CRITERION,
    BOOTSTRAP_TIMEOUTS,
    LATEST_ONLY,
    DEDUPLICATE,
    N_OUTCOMES,
    STEP_LIMIT,
    HAS_MASKS,
    PLAIN,
    DOUBLE_Q,
    LOSS,
    N_SWITCHES,
) = range(21)
#: How the tables of exploration and learning rates are read: not at all but the first entry; by the steps done from now
#: on; by the episodes ended from now on; or by those that had ended before the last step, from entry 1 on, which is what
#: SB3 counts its progress by
CONSTANT, BY_STEP, BY_EPISODE, BY_PROGRESS = 0, 1, 2, 3
#: Columns of ``ended``: what Monitor would say of an episode, and what the log has when it ends
RETURN, LENGTH, SUB_ENV, AT_TIMESTEP, EPSILON, LAST_LOSS, LAST_RATE, N_DONE_UPDATES, N_COLUMNS = range(9)
#: ``CRITERION``
TERMINAL, POSITIVE_REWARD, NEVER = 0, 1, 2
#: Numbers in ``last``
N_LAST = 5
#: Why the loop came back
DONE, NOT_FINITE, EMPTY_MEMORY = 0, 1, 2


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
def looked_up(table, by, step, episode, progress):
    """An entry of a schedule."""
    at = np.int64(0)
    if by == BY_STEP:
        at = step
    elif by == BY_EPISODE:
        at = episode
    elif by == BY_PROGRESS:
        at = progress
    return table[at]


@jit
def random_action(rng, state, n_actions, masks, tried, least_tried):
    """An action drawn uniformly: of all, of the valid ones, or of those of them that were tried least in the state."""
    fewest = np.int64(0)
    if least_tried:
        fewest = np.iinfo(np.int64).max
        for a in range(n_actions):
            if masks.shape[1] == 0 or (masks[state, a // 64] >> (a % 64)) & 1:
                fewest = min(fewest, tried[state, a])
    elif masks.shape[1] == 0:
        return np.int64(rng.random() * n_actions)
    n = 0
    for turn in range(2):
        if turn == 1:
            n = np.int64(rng.random() * n)
        for a in range(n_actions):
            if masks.shape[1] > 0 and not (masks[state, a // 64] >> (a % 64)) & 1:
                continue
            if least_tried and tried[state, a] != fewest:
                continue
            if turn == 1 and n == 0:
                return np.int64(a)
            n += 1 - 2 * turn
    return np.int64(-1)


@jit
def insert(words, slots, size, capacity, deduplicate, row, rng):
    """Store a transition as ``Partition.insert`` does; the number of transitions held afterwards is returned."""
    if deduplicate and find(slots, words, row) >= 0:
        return size
    if size != capacity:
        for k in range(row.shape[1]):
            words[size, k] = row[0, k]
        if deduplicate:
            add(slots, words, size)
        return size + 1
    at = np.int64(rng.random() * size)
    if deduplicate:
        replace(slots, words, at, row)
    else:
        for k in range(row.shape[1]):
            words[at, k] = row[0, k]
    return size


@jit
def draw_positions(rng, n_success, n, fraction, positions):
    """Draw minibatches as ``SuccessFailReplayBuffer.draw_minibatches`` does; a fraction below 0 stands for none."""
    for update in range(positions.shape[0]):
        from_success = positions.shape[1] if n_success == n else 0
        mixed = fraction >= 0 and n_success != 0 and n_success != n
        if mixed:
            from_success = np.int64(positions.shape[1] * fraction + rng.random())
        for i in range(positions.shape[1]):
            if not mixed:
                positions[update, i] = np.int64(rng.random() * n)
            elif i < from_success:
                positions[update, i] = np.int64(rng.random() * n_success)
            else:
                positions[update, i] = n_success + np.int64(rng.random() * (n - n_success))


@jit
def copy_target(online, target, tau):
    """``target = (1 - tau) * target + tau * online``."""
    if tau == 1:
        for i in range(online.shape[0]):
            target[i] = online[i]
    else:
        keep, take = np.float32(1 - tau), np.float32(tau)
        for i in range(online.shape[0]):
            target[i] = keep * target[i] + take * online[i]


@entry
def run(max_rollouts, stop_episode, counts, switches, tau, gamma, fraction, env, episodes, rngs, memory, capacities,
        tried, epsilons, rates, networks, net, known, cached, batch, optimizer, max_norm, first_step, work, one,
        positions, ended, last):  # fmt: skip
    """
    Do whole rollouts and the updates that follow each.

    :param max_rollouts: Most of them.
    :param stop_episode: Come back after the rollout in which this many episodes have ended in all.
    :param counts: int64 of ``N_COUNTS`` numbers, changed in place.
    :param switches: int64 of ``N_SWITCHES`` numbers.
    :param tau: Share of the online network that a copy takes into the target.
    :param fraction: Share of a minibatch from the successes, below 0 for none.
    :param env: Next states, rewards (float64), terminal flags, cumulative probabilities by state, action and outcome,
        all flat; first states and their cumulative probabilities; masks, int64 words of shape (n_states, words).
    :param episodes: State, clock at the beginning, and return of the running episodes, of shape (n_envs,).
    :param rngs: Generators of environment, exploration and memory.
    :param memory: Words, floats and slots of the successes, then of the failures; there is room for all that comes.
    :param capacities: Most successes and failures, -1 for no bound.
    :param tried: How often every action was tried in every state, int64; without rows nothing is counted.
    :param epsilons, rates: Exploration and learning rates from now on, float64; read as the switches say.
    :param first_step: The optimiser's number of the next update, from 1.
    :param positions: int64 of shape (updates after a rollout, batch size).
    :param ended: float64 of shape (episodes, N_COLUMNS), takes what is to be known of those that end.
    :param last: float64 of N_LAST numbers, changed in place: the exploration rate of the last step, the mean loss and the
        learning rate of the last updates, and the sum of losses and the number of updates of the last rollout's.
    :return: Why it came back, how many rollouts were done, and how many episodes have ended.
    """
    env_rng, explore_rng, memory_rng = rngs
    next_states, rewards, terminated, cumulative, starts, start_cumulative, masks = env
    states, began, returns = episodes
    success, success_f, success_slots, fail, fail_f, fail_slots = memory
    opt_kind, _, beta1, beta2, eps = optimizer
    n_envs, n_actions, n_outcomes = states.shape[0], net[N_ACTIONS], switches[N_OUTCOMES]
    n_words = success.shape[1]
    row = np.zeros((1, n_words), np.int64)
    row_f = row.view(np.float32)
    actions = np.zeros(n_envs, np.int64)
    explore, outcomes = np.zeros(n_envs, np.bool_), np.zeros(n_envs, np.int64)
    done = np.zeros(n_envs, np.bool_)
    online, target = networks[0], networks[1]
    x, z, h, values = one[0], one[1], one[2], one[5]
    own_masks = masks if switches[HAS_MASKS] else masks[:, :0]
    first_episode, n_ended, n_steps, n_rollouts, progress = counts[EPISODES], 0, 0, 0, 0
    step_of_optimizer = first_step
    while n_rollouts < max_rollouts and counts[EPISODES] < stop_episode and n_ended < ended.shape[0]:
        episodes_before, collected, collected_episodes = counts[EPISODES], 0, 0
        while (collected_episodes if switches[TRAIN_BY_EPISODE] else collected) < switches[TRAIN_FREQ]:
            # Act
            starting = counts[TIMESTEPS] < switches[LEARNING_STARTS]
            epsilon = looked_up(
                epsilons, switches[EPSILON_BY], n_steps, counts[EPISODES] - first_episode, progress
            )
            for i in range(n_envs):
                explore[i] = starting or explore_rng.random() < epsilon
            for i in range(n_envs):
                if explore[i]:
                    actions[i] = random_action(
                        explore_rng, states[i], n_actions, own_masks, tried, switches[LEAST_TRIED]
                    )
                else:
                    action_values(online, net, states[i], x, z, h, values, 0)
                    actions[i] = best_allowed(values, 0, n_actions, own_masks, states[i], 0)
            # Step
            counts[CLOCK] += 1
            for i in range(n_envs):
                pair = states[i] * n_actions + actions[i]
                outcomes[i] = pair
                if n_outcomes > 1:
                    first = pair * n_outcomes
                    outcomes[i] = first + bisect(cumulative, first, n_outcomes, env_rng.random())
            collected += 1
            n_steps += 1
            counts[TIMESTEPS] += n_envs
            if switches[LATEST_ONLY]:
                success_slots[:] = -1
                fail_slots[:] = -1
                counts[SUCCESSES], counts[FAILURES] = 0, 0
            # Store
            for i in range(n_envs):
                outcome, state, action = outcomes[i], states[i], actions[i]
                reward, next_state = np.float32(rewards[outcome]), next_states[outcome]
                returns[i] += rewards[outcome]
                done[i] = terminated[outcome] or counts[CLOCK] - began[i] >= switches[STEP_LIMIT]
                terminal = done[i] and (terminated[outcome] or not switches[BOOTSTRAP_TIMEOUTS])
                if switches[LEAST_TRIED]:
                    tried[state, action] += 1
                row[0, 0], row[0, 1], row[0, 2] = state, next_state, action
                row_f[0, 6], row_f[0, 7] = reward + np.float32(0.0), np.float32(terminal)
                for k in range(n_words - MASK_WORD):
                    # No action is chosen in a terminal state: all are allowed there.
                    left = n_actions - 64 * k
                    every = np.int64(-1) if left >= 64 else (np.int64(1) << left) - 1
                    row[0, MASK_WORD + k] = every if terminal else masks[next_state, k]
                succeeded = switches[CRITERION] == TERMINAL and terminal
                succeeded = succeeded or (switches[CRITERION] == POSITIVE_REWARD and reward > 0)
                if succeeded:
                    counts[SUCCESSES] = insert(
                        success, success_slots, counts[SUCCESSES], capacities[0], switches[DEDUPLICATE], row, memory_rng
                    )
                else:
                    counts[FAILURES] = insert(
                        fail, fail_slots, counts[FAILURES], capacities[1], switches[DEDUPLICATE], row, memory_rng
                    )
                states[i] = next_state
            counts[N_CALLS] += 1
            if switches[TARGET_STEPS] > 0 and counts[N_CALLS] % switches[TARGET_STEPS] == 0:
                copy_target(online, target, tau)
                known[:] = False
            last[0] = epsilon
            progress = 1 + counts[EPISODES] - first_episode
            # Where an episode has ended, the next begins
            for i in range(n_envs):
                if done[i]:
                    if n_ended < ended.shape[0]:
                        ended[n_ended, RETURN], ended[n_ended, LENGTH] = returns[i], counts[CLOCK] - began[i]
                        ended[n_ended, SUB_ENV], ended[n_ended, AT_TIMESTEP] = i, counts[TIMESTEPS]
                        ended[n_ended, EPSILON], ended[n_ended, LAST_LOSS] = epsilon, last[1]
                        ended[n_ended, LAST_RATE], ended[n_ended, N_DONE_UPDATES] = last[2], counts[UPDATES]
                    n_ended += 1
                    collected_episodes += 1
                    counts[EPISODES] += 1
                    states[i] = starts[bisect(start_cumulative, 0, starts.shape[0], env_rng.random())]
                    began[i], returns[i] = counts[CLOCK], 0.0
        n_rollouts += 1
        # Update
        n_updates = switches[GRADIENT_STEPS] if switches[GRADIENT_STEPS] >= 0 else collected * n_envs
        if counts[TIMESTEPS] > switches[LEARNING_STARTS] and n_updates > 0:
            n = counts[SUCCESSES] + counts[FAILURES]
            if n == 0:
                return EMPTY_MEMORY, n_rollouts, n_ended
            if positions.shape[0] != n_updates:
                positions = np.empty((n_updates, positions.shape[1]), np.int64)
            draw_positions(memory_rng, counts[SUCCESSES], n, fraction, positions)
            rate = looked_up(rates, switches[RATE_BY], n_steps, counts[EPISODES] - first_episode, progress)
            total, n_done = train(
                success, success_f, fail, fail_f, counts[SUCCESSES], positions, 0, gamma, networks, net, known, cached,
                batch, switches[LOSS], switches[DOUBLE_Q] == 1, (opt_kind, rate, beta1, beta2, eps), max_norm,
                step_of_optimizer, switches[PLAIN] == 1, work, one,
            )  # fmt: skip
            step_of_optimizer += n_done
            last[2], last[3], last[4] = rate, total, n_done
            if n_done < n_updates:
                return NOT_FINITE, n_rollouts, n_ended
            last[1] = total / n_updates
            counts[UPDATES] += n_updates
        # Copy the target
        every = switches[TARGET_EPISODES]
        if every > 0 and counts[EPISODES] // every > episodes_before // every:
            copy_target(online, target, tau)
            known[:] = False
    return DONE, n_rollouts, n_ended
