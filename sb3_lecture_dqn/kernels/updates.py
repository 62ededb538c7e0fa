"""
Updates of a deep Q-network: those on one transition by plain SGD, and the loops over updates of any kind. See
:mod:`networks` for what the arrays are, and :mod:`minibatches` for updates on several transitions.

A transition between ``Discrete`` states is a row of int64 words: state, next state, action, and in the fourth word the
reward and whether the episode ended there, as float32; with masks, further words say which actions are valid in the
next state.
"""

import numpy as np

from sb3_lecture_dqn.kernels.compiling import entry, jit, slow_entry
from sb3_lecture_dqn.kernels.kinds import ACTION_IN, EMBEDDED, TABLE
from sb3_lecture_dqn.kernels.minibatches import learn_from_batch, loss_of
from sb3_lecture_dqn.kernels.networks import (
    ACTION_ROW,
    BIAS,
    FIRST,
    KIND,
    N_ACTIONS,
    N_IN,
    N_LAYERS,
    N_OUT,
    N_PARTS,
    N_STATES,
    PART_KIND,
    PARTS,
    PER_LAYER,
    PER_PART,
    PLACE,
    ROW,
    SLOPE,
    SOURCE,
    STRIDE,
    WEIGHTS,
    WIDTH,
    action_values,
    best_allowed,
    copy,
    embed_action,
    embed_pair,
    forward,
    is_known,
    make_input,
    values_of,
)
from sb3_lecture_dqn.kernels.simd import (
    add,
    fma,
    fnma,
    load,
    load_first,
    mul,
    splat,
    splat_at,
    store,
    store_first,
    total,
    where_positive,
    zero,
)

#: Words of a transition before those of its mask
MASK_WORD = 4


# ---------------------------------------------------------------------------------------- one transition, plain SGD


@jit
def dot(flat, at, n, x, x_at):
    """A row of weights times x, summed as :func:`affine` does."""
    s = zero()
    whole, rest = n & ~7, n & 7
    for k in range(0, whole, 8):
        s = fma(load(flat, at + k), load(x, x_at + k), s)
    if rest:
        s = fma(load_first(flat, at + whole, rest), load_first(x, x_at + whole, rest), s)
    return total(s)


@jit
def descend(flat, w_at, n_out, n_in, dz, dz_at, lr, x, x_at, dx, dx_at):
    """One SGD step on the weights of a layer ``z = W @ x + b``; its gradient in x, before the step, goes to dx."""
    k, rate = 0, splat(lr)
    while k + 32 <= n_in:
        x0, x1, x2, x3 = load(x, x_at + k), load(x, x_at + k + 8), load(x, x_at + k + 16), load(x, x_at + k + 24)
        d0 = d1 = d2 = d3 = zero()
        at = w_at + k
        for o in range(n_out):
            d = splat_at(dz, dz_at + o)
            step = mul(rate, d)
            w0, w1, w2, w3 = load(flat, at), load(flat, at + 8), load(flat, at + 16), load(flat, at + 24)
            d0, d1, d2, d3 = fma(d, w0, d0), fma(d, w1, d1), fma(d, w2, d2), fma(d, w3, d3)
            store(flat, at, fnma(step, x0, w0))
            store(flat, at + 8, fnma(step, x1, w1))
            store(flat, at + 16, fnma(step, x2, w2))
            store(flat, at + 24, fnma(step, x3, w3))
            at += n_in
        store(dx, dx_at + k, d0)
        store(dx, dx_at + k + 8, d1)
        store(dx, dx_at + k + 16, d2)
        store(dx, dx_at + k + 24, d3)
        k += 32
    while k < n_in:
        n = min(n_in - k, 8)
        x0, d0 = load_first(x, x_at + k, n), zero()
        at = w_at + k
        for o in range(n_out):
            d = splat_at(dz, dz_at + o)
            w0 = load_first(flat, at, n)
            d0 = fma(d, w0, d0)
            store_first(flat, at, fnma(mul(rate, d), x0, w0), n)
            at += n_in
        store(dx, dx_at + k, d0)
        k += 8


@jit
def subtract(flat, at, n, scale, x, x_at):
    """``flat[at : at + n] -= scale * x``."""
    s = splat(scale)
    whole, rest = n & ~7, n & 7
    for k in range(0, whole, 8):
        store(flat, at + k, fnma(s, load(x, x_at + k), load(flat, at + k)))
    if rest:
        at, x_at = at + whole, x_at + whole
        store_first(flat, at, fnma(s, load_first(x, x_at, rest), load_first(flat, at, rest)), rest)


@jit
def prelu_descend(flat, slope_at, b_at, n, lr, z, z_at, dh, dh_at):
    """One SGD step on a PReLU and the bias under it; dh becomes the gradient in z. Beyond n, z and dh are 0."""
    p, change, rate = splat(flat[slope_at]), zero(), splat(lr)
    for o in range(0, n, 8):
        m = min(n - o, 8)
        v, d = load_first(z, z_at + o, m), load_first(dh, dh_at + o, m)
        change = add(change, where_positive(v, zero(), mul(d, v)))
        d = where_positive(v, d, mul(d, p))
        store(dh, dh_at + o, d)
        store_first(flat, b_at + o, fnma(rate, d, load_first(flat, b_at + o, m)), m)
    flat[slope_at] -= lr * total(change)


@jit
def descend_layers(online, net, x, x_at, output, y, loss_kind, lr, z, h, dh, dx):
    """
    One step of plain SGD on the dense layers, with a PReLU between every two, for one output of the last layer.

    :param x: The input, from ``x_at`` on; it may be part of the network.
    :param y: What the output should be.
    :param dh, dx: Work arrays; the gradient in x is in ``dh`` if the number of layers is odd, else in ``dx``.
    :return: The loss before the step. If it is not finite, nothing has changed.
    """
    n_layers, stride = net[N_LAYERS], net[STRIDE]
    last = FIRST + (n_layers - 1) * PER_LAYER
    forward(online, net, n_layers - 1, x, x_at, z, h)
    n, w_at = net[last + N_IN], net[last + WEIGHTS] + output * net[last + N_IN]
    h_at = (n_layers - 2) * stride
    loss, slope = loss_of(loss_kind, dot(online, w_at, n, h, h_at) + online[net[last + BIAS] + output] - y)
    if not np.isfinite(loss):
        return loss
    scale = splat(slope)
    for k in range(0, n, 8):
        store(dh, k, mul(scale, load_first(online, w_at + k, min(n - k, 8))))
    subtract(online, w_at, n, lr * slope, h, h_at)
    online[net[last + BIAS] + output] -= lr * slope

    # From the last hidden layer to the first; the gradient in the output of each takes turns between dh and dx.
    layer = last - PER_LAYER
    for i in range(n_layers - 2, -1, -1):
        n_out, n_in = net[layer + N_OUT], net[layer + N_IN]
        prelu_descend(online, net[layer + SLOPE], net[layer + BIAS], n_out, lr, z, i * stride, dh, 0)
        if i > 0:
            descend(online, net[layer + WEIGHTS], n_out, n_in, dh, 0, lr, h, (i - 1) * stride, dx, 0)
        else:
            descend(online, net[layer + WEIGHTS], n_out, n_in, dh, 0, lr, x, x_at, dx, 0)
        dh, dx = dx, dh
        layer -= PER_LAYER
    return loss


@jit
def learn_from_one(online, target, net, known, cached, words, floats, row, start, gamma, loss_kind, double_q, lr, work):
    """
    One step of plain SGD on one transition.

    :param online: The network.
    :param target: Its target, which may be the same array.
    :param known: ``cached`` has the target's action values of state s if ``known[s]`` equals the last number, int64
        of shape (n_states + 1,); without entries, none are kept.
    :param words, floats: A partition of the memory, and the number ``row`` of the transition in it.
    :param work: float32 of shape (6, room).
    :return: The loss before the step. If it is not finite, nothing has changed.
    """
    x, z, h, dh, dx, values = work[0], work[1], work[2], work[3], work[4], work[5]
    kind, n_actions, width, n_layers = net[KIND], net[N_ACTIONS], net[WIDTH], net[N_LAYERS]
    state, next_state, action = words[row, 0] - start, words[row, 1] - start, words[row, 2]
    reward, done = floats[row, 6], floats[row, 7]
    best = -1
    if double_q:
        action_values(online, net, next_state, x, z, h, values, 0)
        best = best_allowed(values, 0, n_actions, words, row, MASK_WORD)
    if known.shape[0] == 0:
        action_values(target, net, next_state, x, z, h, values, 0)
        if best < 0:
            best = best_allowed(values, 0, n_actions, words, row, MASK_WORD)
        next_value = values[best]
    else:
        at = next_state * n_actions
        if known[next_state] != known[net[N_STATES]]:
            action_values(target, net, next_state, x, z, h, cached, at)
            known[next_state] = known[net[N_STATES]]
        if best < 0:
            best = best_allowed(cached, at, n_actions, words, row, MASK_WORD)
        next_value = cached[at + best]
    y = reward + (np.float32(1) - done) * gamma * next_value

    if kind == TABLE:
        at = state * n_actions + action
        loss, slope = loss_of(loss_kind, online[at] - y)
        if np.isfinite(loss):
            online[at] -= lr * slope
        return loss
    if kind == ACTION_IN:
        embed_pair(online, net, state, action, x)
        loss = descend_layers(online, net, x, 0, 0, y, loss_kind, lr, z, h, dh, dx)
    else:
        loss = descend_layers(online, net, online, state * width, action, y, loss_kind, lr, z, h, dh, dx)
    if np.isfinite(loss):
        change = dh if n_layers % 2 == 1 else dx
        subtract(online, state * width, width, lr, change, 0)
        if kind == ACTION_IN:
            subtract(online, (net[ACTION_ROW] + action) * width, width, lr, change, width)
    return loss


@jit
def learn_from_one_of_parts(online, target, net, batch, i, loss_kind, double_q, lr, work):
    """
    One step of plain SGD on one transition between observations of any kind, by a network with PReLUs.

    :param online: The network.
    :param target: Its target, which may be the same array.
    :param batch: Transitions, see :mod:`minibatches`; this is number ``i``.
    :param work: float32 of shape (6, room).
    :return: The loss before the step. If it is not finite, nothing has changed.
    """
    x, z, h, dh, dx, values = work[0], work[1], work[2], work[3], work[4], work[5]
    codes, numbers, next_codes, next_numbers, actions, rewards, discounts, masks = batch
    n_actions, width, takes_action = net[N_ACTIONS], net[WIDTH], net[ACTION_ROW] >= 0
    action, n_in = actions[i], net[FIRST + N_IN]
    best = -1
    if double_q:
        values_of(online, net, next_codes, next_numbers, i, x, z, h, values)
        best = best_allowed(values, 0, n_actions, masks, i, 0)
    values_of(target, net, next_codes, next_numbers, i, x, z, h, values)
    if best < 0:
        best = best_allowed(values, 0, n_actions, masks, i, 0)
    y = rewards[i] + discounts[i] * values[best]
    make_input(online, net, codes, numbers, i, x, 0)
    if takes_action:
        embed_action(online, net, action, x, 0)
    output = np.int64(0) if takes_action else action
    loss = descend_layers(online, net, x, 0, output, y, loss_kind, lr, z, h, dh, dx)
    if np.isfinite(loss):
        change, part = dh if net[N_LAYERS] % 2 == 1 else dx, net[PARTS]
        for _ in range(net[N_PARTS]):
            if net[part + PART_KIND] == EMBEDDED:
                at = (net[part + ROW] + codes[i, net[part + SOURCE]]) * width
                subtract(online, at, width, lr, change, net[part + PLACE])
            part += PER_PART
        if takes_action:
            subtract(online, (net[ACTION_ROW] + action) * width, width, lr, change, n_in - width)
    return loss


# ---------------------------------------------------------------------------------------- updates of any kind


@jit
def is_inside(words, row, start, net):
    """Whether a transition has states and an action that the network has."""
    state, next_state, action = words[row, 0] - start, words[row, 1] - start, words[row, 2]
    n_states = net[N_STATES]
    return 0 <= state < n_states and 0 <= next_state < n_states and 0 <= action < net[N_ACTIONS]


@jit
def read_batch(success, success_f, fail, fail_f, n_success, positions, update, start, gamma, batch):
    """Read the transitions of a minibatch from the two partitions of the memory."""
    codes, _, next_codes, _, actions, rewards, discounts, masks = batch
    for i in range(actions.shape[0]):
        at = positions[update, i]
        words, floats = (success, success_f) if at < n_success else (fail, fail_f)
        at = at if at < n_success else at - n_success
        codes[i, 0], next_codes[i, 0], actions[i] = words[at, 0] - start, words[at, 1] - start, words[at, 2]
        rewards[i] = floats[at, 6]
        discounts[i] = (np.float32(1) - floats[at, 7]) * np.float32(gamma)
        for k in range(masks.shape[1]):
            masks[i, k] = words[at, MASK_WORD + k]


@jit
def train_on(success, success_f, fail, fail_f, n_success, positions, start, gamma, networks, net, known, cached,
             batch, loss_kind, double_q, optimizer, max_norm, steps, work, plain, one,
             total_loss):  # fmt: skip
    """
    Updates, each on a minibatch from the rows of two partitions.

    :param success, fail: Their rows as int64 words; ``_f``: as float32 words.
    :param n_success: Positions below it are rows of ``success``, the others of ``fail``.
    :param positions: int64 of shape (updates, batch).
    :param start: Number of the first state.
    :param gamma: Discount factor.
    :param networks: Online network, target, gradient, first and second moments of the optimiser, all flat float32;
        moments that the optimiser has not are empty. The gradient's embeddings are 0 on entry and exit.
    :param net: Where the networks have what.
    :param known, cached: See :func:`learn_from_one`.
    :param batch, work: Arrays for a minibatch, and work arrays, see :mod:`minibatches`.
    :param plain: ``None``; or ``True``, and ``None`` for ``batch`` and ``work``, for plain SGD on one transition
        without a largest norm. Only the branch that is needed is compiled, because the other's argument is ``None``.
    :param loss_kind: MSE, HUBER or QUANTILE.
    :param double_q: Whether the online network chooses the next action.
    :param optimizer: Kind, learning rate, momentum or beta1 or RMSprop's alpha, beta2 or RMSprop's momentum, eps,
        weight decay; floats but the kind.
    :param max_norm: Largest norm of the gradient, infinity for any.
    :param steps: Numbers of steps that the optimiser has done for each parameter, float32, changed in place; they are
        equal, or empty if the optimiser does not count.
    :param one: Work array for one input.
    :param total_loss: Sum of the losses of updates before.
    :return: Sum of the losses, and the number of updates done: fewer than wanted if a loss is not finite, and then so
        is the sum; or -1 and fewer if a transition has a state or an action that the network has not
    """
    for update in range(positions.shape[0]):
        for i in range(positions.shape[1]):
            at = positions[update, i]
            words, row = (success, at) if at < n_success else (fail, at - n_success)
            if not is_inside(words, row, start, net):
                return -1.0, update
        loss = np.float32(0.0)
        if plain is not None:
            at = positions[update, 0]
            words, floats, row = (success, success_f, at) if at < n_success else (fail, fail_f, at - n_success)
            loss = learn_from_one(networks[0], networks[1], net, known, cached, words, floats, row, start,
                                  np.float32(gamma), loss_kind, double_q, np.float32(optimizer[1]), one)  # fmt: skip
        if work is not None:
            read_batch(success, success_f, fail, fail_f, n_success, positions, update, start, gamma, batch)
            step = np.int64(steps[0]) + 1 if steps.shape[0] > 0 else 1
            loss = learn_from_batch(networks, net, known, cached, batch, loss_kind, double_q, optimizer, max_norm,
                                    step, work)  # fmt: skip
        if not np.isfinite(loss):
            return total_loss + loss, update
        for k in range(steps.shape[0]):
            steps[k] += np.float32(1.0)
        total_loss += loss
    return total_loss, positions.shape[0]


@slow_entry
def train(success, success_f, fail, fail_f, n_success, positions, start, gamma, networks, net, known, cached, batch,
          loss_kind, double_q, optimizer, max_norm, steps, work, plain, one):  # fmt: skip
    """See :func:`train_on`."""
    return train_on(success, success_f, fail, fail_f, n_success, positions, start, gamma, networks, net, known, cached,
                    batch, loss_kind, double_q, optimizer, max_norm, steps, work, plain, one, 0.0)  # fmt: skip


@jit
def part_of(batch, first, n):
    """A minibatch out of several that follow each other."""
    codes, numbers, next_codes, next_numbers, actions, rewards, discounts, masks = batch
    end = first + n
    return (
        codes[first:end], numbers[first:end], next_codes[first:end], next_numbers[first:end], actions[first:end],
        rewards[first:end], discounts[first:end], masks[first:end],
    )  # fmt: skip


@jit
def train_on_batches(batches, batch_size, networks, net, known, cached, loss_kind, double_q, optimizer, max_norm,
                     steps, work, plain, one):  # fmt: skip
    """
    Updates, each on a minibatch of transitions between observations of any kind.

    :param batches: Minibatches that follow each other, see :mod:`minibatches`.
    :param batch_size: Transitions in each.
    :param networks, net, known, cached, loss_kind, double_q, optimizer, max_norm, steps, work, plain, one: See
        :func:`train_on`.
    :return: See :func:`train_on`
    """
    codes, _, next_codes, _, actions, _, _, _ = batches
    total_loss, n_updates = 0.0, actions.shape[0] // batch_size
    for update in range(n_updates):
        first = update * batch_size
        for i in range(first, first + batch_size):
            if not (is_known(net, codes, i) and is_known(net, next_codes, i) and 0 <= actions[i] < net[N_ACTIONS]):
                return -1.0, update
        step = np.int64(steps[0]) + 1 if steps.shape[0] > 0 else 1
        loss = np.float32(0.0)
        if plain is not None:
            loss = learn_from_one_of_parts(networks[0], networks[1], net, batches, first, loss_kind, double_q,
                                           np.float32(optimizer[1]), one)  # fmt: skip
        if work is not None:
            batch = part_of(batches, first, batch_size)
            loss = learn_from_batch(networks, net, known, cached, batch, loss_kind, double_q, optimizer, max_norm,
                                    step, work)  # fmt: skip
        if not np.isfinite(loss):
            return total_loss + loss, update
        for k in range(steps.shape[0]):
            steps[k] += np.float32(1.0)
        total_loss += loss
    return total_loss, n_updates


@slow_entry
def train_batches(batches, batch_size, networks, net, known, cached, loss_kind, double_q, optimizer, max_norm, steps,
                  work, plain, one):  # fmt: skip
    """See :func:`train_on_batches`."""
    return train_on_batches(batches, batch_size, networks, net, known, cached, loss_kind, double_q, optimizer, max_norm,
                            steps, work, plain, one)  # fmt: skip


@entry
def copy_target(online, target, tau):
    """Move the target network towards the online one: ``target = (1 - tau) * target + tau * online``."""
    if tau == 1:
        copy(online, 0, online.shape[0], target, 0)
    else:
        keep, take = np.float32(1 - tau), np.float32(tau)
        for i in range(online.shape[0]):
            target[i] = keep * target[i] + take * online[i]
