"""Compiled loops around parts of the kernels, so that a part is measured without a call from Python."""

import numba
import numpy as np

from sb3_lecture_dqn.kernels.networks import N_ACTIONS, N_LAYERS, N_STATES, WIDTH, action_values, best_allowed, forward
from sb3_lecture_dqn.kernels.rollouts import draw_positions, keep
from sb3_lecture_dqn.kernels.updates import train

# Not cached on disk: numba would not notice a change of the kernels.
compiled = numba.njit(error_model="numpy")


@compiled
def train_many(rows, positions, start, gamma, rest):
    """Call :func:`updates.train` for each entry of positions, int64 of shape (n, updates, batch)."""
    losses = 0.0
    for i in range(positions.shape[0]):
        losses += train(*rows, positions[i], start, gamma, *rest)[0]
    return losses


@compiled
def act_many(online, net, states, explores, masks, one):
    """Choose the greedy action in each state of the steps that do not explore."""
    actions = 0
    for i in range(states.shape[0]):
        if not explores[i]:
            action_values(online, net, states[i], one[0], one[1], one[2], one[5], 0)
            actions += best_allowed(one[5], 0, net[N_ACTIONS], masks, states[i], 0)
    return actions


@compiled
def value_next_states(target, net, known, cached, rows, positions, one):
    """Look up what each drawn next state is worth, and compute it where that is not known yet."""
    words, n_success, values = rows[2], rows[4], 0.0
    for i in range(positions.shape[0]):
        for k in range(positions.shape[1]):
            at = positions[i, k]
            words, row = (rows[0], at) if at < n_success else (rows[2], at - n_success)
            state = words[row, 1]
            first = state * net[N_ACTIONS]
            if known[state] != known[net[N_STATES]]:
                action_values(target, net, state, one[0], one[1], one[2], cached, first)
                known[state] = known[net[N_STATES]]
            values += cached[first + best_allowed(cached, first, net[N_ACTIONS], words, row, 4)]
    return values


@compiled
def forward_many(online, net, rows, positions, one):
    """Make the forward pass of each drawn state up to the last layer, of which an update needs one row only."""
    n_success = rows[4]
    for i in range(positions.shape[0]):
        for k in range(positions.shape[1]):
            at = positions[i, k]
            state = rows[0][at, 0] if at < n_success else rows[2][at - n_success, 0]
            forward(online, net, net[N_LAYERS] - 1, online, state * net[WIDTH], one[1], one[2])
    return one[2][0]


@compiled
def step_many(next_states, rewards, terminated, pairs):
    """Step the tables of a deterministic environment."""
    state, reward, ends = 0, 0.0, 0
    for i in range(pairs.shape[0]):
        state += next_states[pairs[i]]
        reward += rewards[pairs[i]]
        ends += terminated[pairs[i]]
    return state, reward, ends


@compiled
def keep_many(memory, counts, switches, words, terminal, rng):
    """Store each transition, which is looked up first, and nearly always held already."""
    for i in range(words.shape[0]):
        keep(memory, counts, switches, words[i : i + 1], terminal[i], rng)
    return counts[0]


@compiled
def draw_many(explore_rng, memory_rng, epsilon, n_actions, n_success, n, positions):
    """Draw what one step draws: whether it explores and how, and the positions of its updates, for n steps."""
    actions = 0
    for _ in range(n):
        if explore_rng.random() < epsilon:
            actions += np.int64(explore_rng.random() * n_actions)
        draw_positions(memory_rng, n_success, n_success + 1000, -1.0, positions)
    return actions
