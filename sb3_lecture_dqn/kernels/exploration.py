"""Random actions of the compiled loop, see :mod:`training.exploration` for the meaning."""

import numpy as np

from sb3_lecture_dqn.kernels.compiling import jit
from sb3_lecture_dqn.kernels.draws import random
from sb3_lecture_dqn.kernels.places import ANYWHERE, MANY


@jit
def is_valid(masks, state, a):
    """Whether an action is valid; without words, all are."""
    return masks.shape[1] == 0 or (masks[state, a // 64] >> (a % 64)) & 1 == 1


@jit
def cost(tried, way, state, a):
    """The cost of an action as ``WayToUntried.costs`` computes it."""
    next_states, costs_of_states, _, _, repeated = way
    here = tried[state, a] * repeated
    if here == 0:
        return here
    return min(here, 1 + costs_of_states[next_states[state, a]])


@jit
def leads_somewhere(way, state, least_tried):
    """Whether there is a short way to an untried action."""
    return least_tried == ANYWHERE and way[1][state] < way[4]


@jit
def random_action(rng, state, n_actions, masks, tried, way, least_tried):
    """An action drawn uniformly: of all, of the valid ones, or of those of them that were tried least."""
    fewest = MANY
    if least_tried > 0:
        for a in range(n_actions):
            if is_valid(masks, state, a):
                fewest = min(fewest, cost(tried, way, state, a) if least_tried == ANYWHERE else tried[state, a])
    elif masks.shape[1] == 0:
        return np.int64(random(rng) * n_actions)
    n = 0
    for turn in range(2):  # count the candidates, then go to the drawn one
        if turn == 1:
            n = np.int64(random(rng) * n)
        for a in range(n_actions):
            if not is_valid(masks, state, a):
                continue
            if least_tried > 0 and fewest != (
                cost(tried, way, state, a) if least_tried == ANYWHERE else tried[state, a]
            ):
                continue
            if turn == 0:
                n += 1
            elif n == 0:
                return np.int64(a)
            else:
                n -= 1
    return np.int64(-1)


@jit
def note_step(tried, way, masks, state, action, next_state, least_tried):
    """Count an action, and remember where it has led."""
    tried[state, action] += 1
    if least_tried == ANYWHERE:
        next_states, _, allowed, _, _ = way
        next_states[state, action] = next_state
        if masks.shape[1] > 0:
            for a in range(allowed.shape[1]):
                allowed[state, a] = is_valid(masks, state, a)


@jit
def find_ways(tried, way):
    """Compute the costs of some states once more, as ``WayToUntried.learn`` does."""
    _, costs_of_states, allowed, fresh, _ = way
    n_states, n_actions = allowed.shape
    first = costs_of_states[n_states]
    for k in range(fresh.shape[0]):
        state, fresh[k] = (first + k) % n_states, MANY
        for a in range(n_actions):
            if allowed[state, a]:
                fresh[k] = min(fresh[k], cost(tried, way, state, a))
    for k in range(fresh.shape[0]):
        costs_of_states[(first + k) % n_states] = fresh[k]
    costs_of_states[n_states] = (first + fresh.shape[0]) % n_states
