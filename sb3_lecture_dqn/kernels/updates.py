"""
Updates of a deep Q-network: loss, gradient, and a step of the optimiser. See :mod:`networks` for what the arrays are.

A transition is a row of int64 words: state, next state, action, and in the fourth word the reward and whether the
episode ended there, as float32; with masks, further words say which actions are valid in the next state.
"""

import numpy as np

from sb3_lecture_dqn.kernels.compiling import entry, jit, slow_entry
from sb3_lecture_dqn.kernels.kinds import ACTION_IN, ADAM, MSE, TABLE
from sb3_lecture_dqn.kernels.networks import (
    BIAS,
    FIRST,
    KIND,
    N_ACTIONS,
    N_IN,
    N_LAYERS,
    N_OUT,
    N_STATES,
    PER_LAYER,
    SLOPE,
    STRIDE,
    WEIGHTS,
    WIDTH,
    action_values,
    best_allowed,
    copy,
    embed_pair,
    forward,
    forward_columns,
    gather,
    product,
    transpose,
)
from sb3_lecture_dqn.kernels.simd import (
    add,
    div,
    fma,
    fnma,
    load,
    load_first,
    mul,
    splat,
    splat_at,
    sqrt,
    store,
    store_first,
    sub,
    total,
    where_positive,
    zero,
)

#: Words of a transition before those of its mask
MASK_WORD = 4


@jit
def loss_of(kind, error):
    """The loss of ``error = Q - y``, and its derivative."""
    if kind == MSE:
        return error * error, np.float32(2.0) * error
    if abs(error) < 1:
        return np.float32(0.5) * error * error, error
    return abs(error) - np.float32(0.5), np.float32(np.sign(error))


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
    kind, n_actions, width, n_layers, stride = net[KIND], net[N_ACTIONS], net[WIDTH], net[N_LAYERS], net[STRIDE]
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

    # The last layer gives the value of one action.
    last = FIRST + (n_layers - 1) * PER_LAYER
    output = 0 if kind == ACTION_IN else action
    if kind == TABLE:
        at = state * n_actions + action
        loss, slope = loss_of(loss_kind, online[at] - y)
        if np.isfinite(loss):
            online[at] -= lr * slope
        return loss
    if kind == ACTION_IN:
        embed_pair(online, net, state, action, x)
        x_at = 0
        forward(online, net, n_layers - 1, x, x_at, z, h)
    else:
        x_at = state * width
        forward(online, net, n_layers - 1, online, x_at, z, h)
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
        elif kind == ACTION_IN:
            descend(online, net[layer + WEIGHTS], n_out, n_in, dh, 0, lr, x, x_at, dx, 0)
        else:
            descend(online, net[layer + WEIGHTS], n_out, n_in, dh, 0, lr, online, x_at, dx, 0)
        dh, dx = dx, dh
        layer -= PER_LAYER
    subtract(online, state * width, width, lr, dh, 0)
    if kind == ACTION_IN:
        subtract(online, (net[N_STATES] + action) * width, width, lr, dh, width)
    return loss


# ---------------------------------------------------------------------------------------- minibatches


@jit
def room(net, batch_size):
    """
    The columns of a minibatch's work arrays: the most inputs that a network sees at once, in whole vectors.

    :return: Columns, and numbers in a row of inputs.
    """
    n = batch_size * (net[N_ACTIONS] if net[KIND] == ACTION_IN else 1)
    return (n + 15) & ~15, (net[FIRST + N_IN] + 7) & ~7


@jit
def values_in_columns(flat, net, states, actions, n, columns, big):
    """
    Action values of n states, or pairs of state and action, one in each column of the last layer's part of z.

    :param big: Work arrays x, x_t, z, h, ...; see :func:`train`.
    """
    x, x_t, z, h = big[0], big[1], big[2], big[3]
    x_row = (net[FIRST + N_IN] + 7) & ~7
    gather(flat, net, states, actions, n, columns, x, x_row)
    transpose(x, 0, x_row, columns, x_row, x_t, 0, columns)
    forward_columns(flat, net, x_t, columns, z, h)


@jit
def batch_values(flat, net, states, n, pair_states, pair_actions, big, out):
    """
    The values of all actions in n states.

    :param pair_states, pair_actions: Work arrays, int64 of as many numbers as the states have actions.
    :param out: Takes them, one row of ``n_actions`` for each state.
    """
    kind, n_actions = net[KIND], net[N_ACTIONS]
    if kind == TABLE:
        for i in range(n):
            copy(flat, states[i] * n_actions, n_actions, out, i * n_actions)
        return
    n_inputs = n
    if kind == ACTION_IN:
        n_inputs = n * n_actions
        for i in range(n):
            for a in range(n_actions):
                pair_states[i * n_actions + a] = states[i]
                pair_actions[i * n_actions + a] = a
    columns = (n_inputs + 15) & ~15
    values_in_columns(flat, net, pair_states if kind == ACTION_IN else states, pair_actions, n_inputs, columns, big)
    z, at = big[2], (net[N_LAYERS] - 1) * net[STRIDE] * columns
    for i in range(n):
        for a in range(n_actions):
            out[i * n_actions + a] = z[at + i * n_actions + a] if kind == ACTION_IN else z[at + a * columns + i]


@jit
def prelu_backward(z, dh, at, dh_at, n_rows, columns, slope, gradient, slope_at, b_at):
    """Of a batch: dh becomes the gradient in z; those of the slope and of the bias under it are written."""
    p, change = splat(slope), np.float64(0.0)
    for r in range(n_rows):
        dp, db = zero(), zero()
        for c in range(0, columns, 8):
            v, d = load(z, at + r * columns + c), load(dh, dh_at + r * columns + c)
            dp = add(dp, where_positive(v, zero(), mul(d, v)))
            d = where_positive(v, d, mul(d, p))
            db = add(db, d)
            store(dh, dh_at + r * columns + c, d)
        change += total(dp)
        gradient[b_at + r] = total(db)
    gradient[slope_at] = np.float32(change)


@jit
def write_gradient(online, net, states, actions, slopes, n, big, gradient):
    """
    Write the gradient of the layers, and add that of the embeddings to zeros.

    :param slopes: The loss's derivative in the value of each action that was done.
    :param big: As :func:`values_in_columns` has left them for these states and actions.
    """
    x, z, h, dh, dx, rows = big[0], big[2], big[3], big[4], big[5], big[6]
    kind, n_actions, width, n_layers = net[KIND], net[N_ACTIONS], net[WIDTH], net[N_LAYERS]
    if kind == TABLE:
        for i in range(n):
            gradient[states[i] * n_actions + actions[i]] += slopes[i]
        return
    columns, x_row = (n + 15) & ~15, (net[FIRST + N_IN] + 7) & ~7
    stride = net[STRIDE] * columns
    layer = FIRST + (n_layers - 1) * PER_LAYER
    n_out = net[layer + N_OUT]
    for at in range(n_out * columns):
        dh[at] = np.float32(0.0)
    for i in range(n):
        dh[(0 if kind == ACTION_IN else actions[i]) * columns + i] = slopes[i]
    for o in range(n_out):
        db = zero()
        for c in range(0, columns, 8):
            db = add(db, load(dh, o * columns + c))
        gradient[net[layer + BIAS] + o] = total(db)
    for i in range(n_layers - 1, -1, -1):
        n_out, n_in, w_at = net[layer + N_OUT], net[layer + N_IN], net[layer + WEIGHTS]
        if i == 0:  # dW = dz @ X, dX = dz.T @ W
            product(dh, 0, columns, 1, n_out, n, x, 0, x_row, n_in, -1, gradient, w_at, n_in)
            product(dh, 0, 1, columns, n, n_out, online, w_at, n_in, n_in, -1, dx, 0, x_row)
            break
        below, row = layer - PER_LAYER, (n_in + 7) & ~7
        at = (i - 1) * stride
        transpose(h, at, columns, n_in, columns, rows, 0, row)
        product(dh, 0, columns, 1, n_out, n, rows, 0, row, n_in, -1, gradient, w_at, n_in)
        product(online, w_at, 1, n_in, n_in, n_out, dh, 0, columns, columns, -1, dx, 0, columns)
        slope_at = net[below + SLOPE]
        prelu_backward(z, dx, at, 0, n_in, columns, online[slope_at], gradient, slope_at, net[below + BIAS])
        dh, dx = dx, dh
        layer = below
    for i in range(n):
        subtract(gradient, states[i] * width, width, np.float32(-1.0), dx, i * x_row)
        if kind == ACTION_IN:
            at = (net[N_STATES] + actions[i]) * width
            subtract(gradient, at, width, np.float32(-1.0), dx, i * x_row + width)


@jit
def sgd(weights, gradient, moment, at, end, momentum, lr):
    """A step of ``torch.optim.SGD`` on a range; without momentum there need be no moments."""
    keep, rate = splat(momentum), splat(lr)
    for k in range(at, end, 8):
        n = min(end - k, 8)
        g = load_first(gradient, k, n)
        if momentum != 0:
            g = fma(keep, load_first(moment, k, n), g)
            store_first(moment, k, g, n)
        store_first(weights, k, fnma(rate, g, load_first(weights, k, n)), n)


@jit
def adam_vector(w, g, m, v, take1, keep2, take2, size, scale, small):
    """Adam's step of eight weights: the new weights, first and second moments."""
    m = fma(take1, sub(g, m), m)
    v = fma(mul(take2, g), g, mul(keep2, v))
    return sub(w, div(mul(size, m), fma(sqrt(v), scale, small))), m, v


@jit
def adam(weights, gradient, moment1, moment2, lr, beta1, beta2, eps, step):
    """A step of ``torch.optim.Adam`` (Kingma and Ba 2015), the ``step``-th."""
    size = splat(np.float32(lr / (1 - beta1**step)))
    scale = splat(np.float32(1 / np.sqrt(1 - beta2**step)))
    take1, take2 = splat(np.float32(1 - beta1)), splat(np.float32(1 - beta2))
    keep2, small = splat(np.float32(beta2)), splat(np.float32(eps))
    n = weights.shape[0]
    whole = n & ~7
    for k in range(0, whole, 8):
        w, m, v = adam_vector(
            load(weights, k),
            load(gradient, k),
            load(moment1, k),
            load(moment2, k),
            take1,
            keep2,
            take2,
            size,
            scale,
            small,
        )
        store(weights, k, w)
        store(moment1, k, m)
        store(moment2, k, v)
    rest = n - whole
    if rest:
        w, m, v = adam_vector(
            load_first(weights, whole, rest),
            load_first(gradient, whole, rest),
            load_first(moment1, whole, rest),
            load_first(moment2, whole, rest),
            take1,
            keep2,
            take2,
            size,
            scale,
            small,
        )
        store_first(weights, whole, w, rest)
        store_first(moment1, whole, m, rest)
        store_first(moment2, whole, v, rest)


@jit
def squares(x, at, end):
    """The sum of squares of a range, in float64 but for each eight neighbours of 512."""
    result = np.float64(0.0)
    for block in range(at, end, 512):
        s = zero()
        for k in range(block, min(block + 512, end), 8):
            v = load_first(x, k, min(end - k, 8))
            s = fma(v, v, s)
        result += total(s)
    return result


@jit
def scale_range(x, at, end, factor):
    """``x[at:end] *= factor``."""
    f = splat(factor)
    for k in range(at, end, 8):
        n = min(end - k, 8)
        store_first(x, k, mul(f, load_first(x, k, n)), n)


@jit
def next_values(target, online, net, known, cached, batch, double_q, big, ints, q):
    """
    Write what the next states are worth.

    :param batch: States, actions, next states, rewards, discounts, slopes, masks, values; the last takes the result.
    :param ints: Work arrays, int64.
    :param q: Work arrays for action values, float32.
    """
    next_states, masks, values = batch[2], batch[6], batch[7]
    n, n_actions = next_states.shape[0], net[N_ACTIONS]
    wanted, pair_states, pair_actions = ints[0], ints[1], ints[2]
    target_q, online_q = q[0], q[1]
    if known.shape[0] > 0:
        n_wanted = 0
        for i in range(n):
            if known[next_states[i]] != known[net[N_STATES]]:
                known[next_states[i]] = known[net[N_STATES]]
                wanted[n_wanted] = next_states[i]
                n_wanted += 1
        batch_values(target, net, wanted, n_wanted, pair_states, pair_actions, big, target_q)
        for i in range(n_wanted):
            copy(target_q, i * n_actions, n_actions, cached, wanted[i] * n_actions)
    else:
        batch_values(target, net, next_states, n, pair_states, pair_actions, big, target_q)
    if double_q:
        batch_values(online, net, next_states, n, pair_states, pair_actions, big, online_q)
    for i in range(n):
        at = i * n_actions
        if double_q:
            best = best_allowed(online_q, at, n_actions, masks, i, 0)
        elif known.shape[0] > 0:
            best = best_allowed(cached, next_states[i] * n_actions, n_actions, masks, i, 0)
        else:
            best = best_allowed(target_q, at, n_actions, masks, i, 0)
        values[i] = cached[next_states[i] * n_actions + best] if known.shape[0] > 0 else target_q[at + best]


@jit
def learn_from_batch(networks, net, known, cached, batch, loss_kind, double_q, optimizer, max_norm, step, work):
    """
    One step of an optimiser on a minibatch.

    :param networks: Online network, target, gradient, first and second moments; see :func:`train`.
    :param batch: See :func:`next_values`.
    :param optimizer: Kind, learning rate, beta1 or momentum, beta2, eps.
    :param work: The work arrays ``big``, ``ints`` and ``q``.
    :return: The mean loss before the step. If it is not finite, nothing has changed.
    """
    online, target, gradient, moment1, moment2 = networks
    big, ints, q = work
    states, actions, _, rewards, discounts, slopes, _, values = batch
    kind, n_actions, width, n = net[KIND], net[N_ACTIONS], net[WIDTH], states.shape[0]
    next_values(target, online, net, known, cached, batch, double_q, big, ints, q)
    columns = (n + 15) & ~15
    if kind != TABLE:
        values_in_columns(online, net, states, actions, n, columns, big)
    z, at = big[2], (net[N_LAYERS] - 1) * net[STRIDE] * columns
    loss = np.float32(0.0)
    for i in range(n):
        if kind == TABLE:
            value = online[states[i] * n_actions + actions[i]]
        else:
            value = z[at + (0 if kind == ACTION_IN else actions[i]) * columns + i]
        one, slope = loss_of(loss_kind, value - (rewards[i] + discounts[i] * values[i]))
        loss += one
        slopes[i] = slope / np.float32(n)
    loss /= np.float32(n)
    if not np.isfinite(loss):
        return loss
    write_gradient(online, net, states, actions, slopes, n, big, gradient)

    # The gradient of embeddings that are not in the batch is 0; without moments these do not change.
    touched = ints[0]
    n_touched = embedded_rows(net, states, actions, touched, ints[3])
    layers_at = net[FIRST + WEIGHTS] if net[N_LAYERS] > 0 else online.shape[0]
    if max_norm < np.inf:
        norm2 = squares(gradient, layers_at, online.shape[0])
        for i in range(n_touched):
            norm2 += squares(gradient, touched[i] * width, (touched[i] + 1) * width)
        factor = np.float32(max_norm / (np.sqrt(norm2) + 1e-6))
        if factor < 1:
            scale_range(gradient, layers_at, online.shape[0], factor)
            for i in range(n_touched):
                scale_range(gradient, touched[i] * width, (touched[i] + 1) * width, factor)
    opt_kind, lr, beta1, beta2, eps = optimizer
    momentum, rate = np.float32(beta1), np.float32(lr)
    if opt_kind == ADAM:
        adam(online, gradient, moment1, moment2, lr, beta1, beta2, eps, step)
    elif momentum != 0:
        sgd(online, gradient, moment1, 0, online.shape[0], momentum, rate)
    else:
        sgd(online, gradient, moment1, layers_at, online.shape[0], momentum, rate)
        for i in range(n_touched):
            sgd(online, gradient, moment1, touched[i] * width, (touched[i] + 1) * width, momentum, rate)
    for i in range(n_touched):
        for k in range(touched[i] * width, (touched[i] + 1) * width):
            gradient[k] = np.float32(0.0)
    return loss


@jit
def embedded_rows(net, states, actions, rows, place):
    """
    List the embeddings of a batch, each once.

    :param rows: Takes their numbers.
    :param place: Room for a number of each embedding; only what leads to an equal row is believed (Briggs and Torczon
        1993), whatever stands there.
    :return: How many there are.
    """
    n = 0
    for i in range(2 * states.shape[0] if net[KIND] == ACTION_IN else states.shape[0]):
        row = states[i] if i < states.shape[0] else net[N_STATES] + actions[i - states.shape[0]]
        at = place[row]
        if not (0 <= at < n and rows[at] == row):
            place[row] = n
            rows[n] = row
            n += 1
    return n


@jit
def is_inside(words, row, start, net):
    """Whether a transition has states and an action that the network has."""
    state, next_state, action = words[row, 0] - start, words[row, 1] - start, words[row, 2]
    n_states = net[N_STATES]
    return 0 <= state < n_states and 0 <= next_state < n_states and 0 <= action < net[N_ACTIONS]


@jit
def read_batch(success, success_f, fail, fail_f, n_success, positions, update, start, gamma, batch):
    """Read the transitions of a minibatch from the two partitions of the memory."""
    states, actions, next_states, rewards, discounts, _, masks, _ = batch
    for i in range(states.shape[0]):
        at = positions[update, i]
        words, floats = (success, success_f) if at < n_success else (fail, fail_f)
        at = at if at < n_success else at - n_success
        states[i], next_states[i], actions[i] = words[at, 0] - start, words[at, 1] - start, words[at, 2]
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
    :param batch, work: Work arrays, see ``compiled.work_arrays``.
    :param plain: ``None``; or ``True``, and ``None`` for ``batch`` and ``work``, for plain SGD on one transition
        without a largest norm. Only the branch that is needed is compiled, because the other's argument is ``None``.
    :param loss_kind: MSE or HUBER.
    :param double_q: Whether the online network chooses the next action.
    :param optimizer: Kind, learning rate, beta1 or momentum, beta2, eps; floats but the kind.
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


@entry
def copy_target(online, target, tau):
    """Move the target network towards the online one: ``target = (1 - tau) * target + tau * online``."""
    if tau == 1:
        copy(online, 0, online.shape[0], target, 0)
    else:
        keep, take = np.float32(1 - tau), np.float32(tau)
        for i in range(online.shape[0]):
            target[i] = keep * target[i] + take * online[i]
