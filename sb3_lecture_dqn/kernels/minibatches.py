"""
Updates on minibatches: loss, gradient, and a step of the optimiser. See :mod:`networks` for what the arrays are.

A minibatch of n transitions is a tuple of arrays, ``batch``: codes and numbers of the observations, codes and numbers
of the next observations, actions, rewards, discounts (0 where the episode ended), and words of the valid next actions.
Work arrays are made by ``engine.compiled.work_arrays``.
"""

import numpy as np

from sb3_lecture_dqn.kernels.compiling import jit
from sb3_lecture_dqn.kernels.kinds import (
    ADAM,
    ADAMW,
    ELU,
    EMBEDDED,
    MSE,
    NESTEROV,
    PRELU,
    QUANTILE,
    RMSPROP,
    TABLE,
    TANH,
)
from sb3_lecture_dqn.kernels.networks import (
    ACTION_ROW,
    ACTIVATION,
    BIAS,
    FIRST,
    KIND,
    N_ACTIONS,
    N_IN,
    N_LAYERS,
    N_OUT,
    N_PARTS,
    N_QUANTILES,
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
    best_allowed,
    copy,
    forward_columns,
    gather,
    means,
    product,
    slope_of,
    transpose,
)
from sb3_lecture_dqn.kernels.simd import (
    add,
    clamped,
    div,
    fma,
    fnma,
    load,
    load_first,
    mul,
    splat,
    sqrt,
    store,
    store_first,
    sub,
    total,
    where_positive,
    zero,
)


@jit
def loss_of(kind, error):
    """The loss of ``error = Q - y``, and its derivative."""
    if kind == MSE:
        return error * error, np.float32(2.0) * error
    if abs(error) < 1:
        return np.float32(0.5) * error * error, error
    return abs(error) - np.float32(0.5), np.float32(np.sign(error))


@jit
def quantile_loss_of(quantile, share, targets, at, n):
    """
    The quantile Huber loss of one quantile against n targets (Dabney et al. 2018).

    :param share: Probability of lower returns, which the quantile stands for.
    :return: Sum of the losses, and its derivative in the quantile.
    """
    q, above, below = splat(quantile), splat(share), splat(np.float32(1) - share)
    one, half, s, d = splat(np.float32(1)), splat(np.float32(0.5)), zero(), zero()
    whole = n & ~7
    for k in range(at, at + whole, 8):
        error = sub(load(targets, k), q)
        near = clamped(error, one)
        weighted = mul(where_positive(error, above, below), near)
        s = fma(weighted, fnma(half, near, error), s)
        d = sub(d, weighted)
    loss, slope = total(s), total(d)
    for k in range(at + whole, at + n):
        e = targets[k] - quantile
        near_e = np.float32(1) if e > 1 else np.float32(-1) if e < -1 else e
        weighted_e = (share if e > 0 else np.float32(1) - share) * near_e
        loss += weighted_e * (e - np.float32(0.5) * near_e)
        slope -= weighted_e
    return loss, slope


# ---------------------------------------------------------------------------------------- values


@jit
def outputs_in_columns(flat, net, codes, numbers, actions, n, columns, big):
    """
    The network on n inputs, see :func:`gather`, one in each column of the last layer's part of z.

    :param big: Work arrays x, x_t, z, h, ...
    """
    x, x_t, z, h = big[0], big[1], big[2], big[3]
    x_row = (net[FIRST + N_IN] + 7) & ~7
    gather(flat, net, codes, numbers, actions, n, columns, x, x_row)
    transpose(x, 0, x_row, columns, x_row, x_t, 0, columns)
    forward_columns(flat, net, x_t, columns, z, h)


@jit
def all_outputs(flat, net, codes, numbers, n, every, big, out):
    """
    The values, or quantiles, of all actions for n observations.

    :param every: int64 without entries, for :func:`gather`.
    :param out: Takes them, one row for each observation.
    """
    n_actions = net[N_ACTIONS]
    if net[KIND] == TABLE:
        for i in range(n):
            copy(flat, codes[i, 0] * n_actions, n_actions, out, i * n_actions)
        return
    takes_action, n_outputs = net[ACTION_ROW] >= 0, n_actions * net[N_QUANTILES]
    n_inputs = n * n_actions if takes_action else n
    columns = (n_inputs + 15) & ~15
    outputs_in_columns(flat, net, codes, numbers, every, n_inputs, columns, big)
    z, at = big[2], (net[N_LAYERS] - 1) * net[STRIDE] * columns
    if takes_action:
        copy(z, at, n_inputs, out, 0)
        return
    for i in range(n):
        for o in range(n_outputs):
            out[i * n_outputs + o] = z[at + o * columns + i]


@jit
def best_action(outputs, at, net, masks, row, mean):
    """The valid action of highest value, or highest mean of the quantiles."""
    n_actions, n_quantiles = net[N_ACTIONS], net[N_QUANTILES]
    if n_quantiles == 1:
        return best_allowed(outputs, at, n_actions, masks, row, 0)
    means(outputs, at, n_actions, n_quantiles, mean)
    return best_allowed(mean, 0, n_actions, masks, row, 0)


@jit
def next_values(online, target, net, known, cached, batch, double_q, work):
    """
    Write what the next states are worth: a value, or as many quantiles as there are, for each.

    :param known, cached: See :func:`updates.learn_from_one`.
    """
    _, _, next_codes, next_numbers, _, _, _, masks = batch
    big, _, q, values, _, wanted, every = work
    n, n_actions, n_quantiles = next_codes.shape[0], net[N_ACTIONS], net[N_QUANTILES]
    n_outputs, keeps = n_actions * n_quantiles, known.shape[0] > 0
    target_q, online_q, mean = q[0], q[1], q[2]
    if keeps:
        n_wanted, version = 0, known[net[N_STATES]]
        for i in range(n):
            if known[next_codes[i, 0]] != version:
                known[next_codes[i, 0]] = version
                wanted[n_wanted, 0] = next_codes[i, 0]
                n_wanted += 1
        all_outputs(target, net, wanted, next_numbers, n_wanted, every, big, target_q)
        for i in range(n_wanted):
            copy(target_q, i * n_outputs, n_outputs, cached, wanted[i, 0] * n_outputs)
    else:
        all_outputs(target, net, next_codes, next_numbers, n, every, big, target_q)
    if double_q:
        all_outputs(online, net, next_codes, next_numbers, n, every, big, online_q)
    for i in range(n):
        source = cached if keeps else target_q
        at = (next_codes[i, 0] if keeps else i) * n_outputs
        if double_q:
            best = best_action(online_q, i * n_outputs, net, masks, i, mean)
        else:
            best = best_action(source, at, net, masks, i, mean)
        for k in range(n_quantiles):
            values[i * n_quantiles + k] = source[at + k * n_actions + best]


# ---------------------------------------------------------------------------------------- gradient


@jit
def activation_backward(kind, z, h, dh, at, dh_at, n_rows, columns, slope, gradient, slope_at, b_at):
    """Of a batch: dh becomes the gradient in z; those of the bias under it and of a PReLU's slope are written."""
    p, one, change = splat(slope), splat(np.float32(1)), np.float64(0.0)
    for r in range(n_rows):
        dp, db = zero(), zero()
        for c in range(0, columns, 8):
            v, d = load(z, at + r * columns + c), load(dh, dh_at + r * columns + c)
            if kind == TANH:
                y = load(h, at + r * columns + c)
                d = mul(d, fnma(y, y, one))
            elif kind == ELU:
                d = where_positive(v, d, mul(d, add(load(h, at + r * columns + c), p)))
            else:
                dp = add(dp, where_positive(v, zero(), mul(d, v)))
                d = where_positive(v, d, mul(d, p))
            db = add(db, d)
            store(dh, dh_at + r * columns + c, d)
        change += total(dp)
        gradient[b_at + r] = total(db)
    if kind == PRELU:
        gradient[slope_at] = np.float32(change)


@jit
def add_range(x, at, n, y, y_at):
    """``x[at : at + n] += y[y_at : y_at + n]``."""
    for k in range(n):
        x[at + k] += y[y_at + k]


@jit
def write_gradient(online, net, batch, slopes, big, gradient):
    """
    Write the gradient of the layers, and add that of the embeddings to zeros.

    :param slopes: The loss's derivatives in the value, or the quantiles, of each action that was done.
    :param big: As :func:`outputs_in_columns` has left them for these observations and actions.
    """
    x, z, h, dh, dx, rows = big[0], big[2], big[3], big[4], big[5], big[6]
    codes, actions, n = batch[0], batch[4], batch[0].shape[0]
    n_actions, n_quantiles, width, n_layers = net[N_ACTIONS], net[N_QUANTILES], net[WIDTH], net[N_LAYERS]
    if net[KIND] == TABLE:
        for i in range(n):
            gradient[codes[i, 0] * n_actions + actions[i]] += slopes[i]
        return
    takes_action = net[ACTION_ROW] >= 0
    columns, x_row = (n + 15) & ~15, (net[FIRST + N_IN] + 7) & ~7
    stride = net[STRIDE] * columns
    layer = FIRST + (n_layers - 1) * PER_LAYER
    n_out = net[layer + N_OUT]
    for at in range(n_out * columns):
        dh[at] = np.float32(0.0)
    for i in range(n):
        for k in range(n_quantiles):
            dh[(0 if takes_action else k * n_actions + actions[i]) * columns + i] = slopes[i * n_quantiles + k]
    for o in range(n_out):
        db = zero()
        for c in range(0, columns, 8):
            db = add(db, load(dh, o * columns + c))
        gradient[net[layer + BIAS] + o] = total(db)
    for i in range(n_layers - 1, 0, -1):
        n_out, n_in, w_at = net[layer + N_OUT], net[layer + N_IN], net[layer + WEIGHTS]
        below, row = layer - PER_LAYER, (n_in + 7) & ~7
        at = (i - 1) * stride
        transpose(h, at, columns, n_in, columns, rows, 0, row)
        product(dh, 0, columns, 1, n_out, n, rows, 0, row, n_in, -1, gradient, w_at, n_in)
        product(online, w_at, 1, n_in, n_in, n_out, dh, 0, columns, columns, -1, dx, 0, columns)
        slope, slope_at = slope_of(online, net, below), net[below + SLOPE]
        activation_backward(
            net[below + ACTIVATION], z, h, dx, at, 0, n_in, columns, slope, gradient, slope_at, net[below + BIAS]
        )
        dh, dx = dx, dh
        layer = below
    n_out, n_in, w_at = net[layer + N_OUT], net[layer + N_IN], net[layer + WEIGHTS]
    product(dh, 0, columns, 1, n_out, n, x, 0, x_row, n_in, -1, gradient, w_at, n_in)  # dW = dz @ X
    if w_at == 0:  # there are no embeddings
        return
    product(dh, 0, 1, columns, n, n_out, online, w_at, n_in, n_in, -1, dx, 0, x_row)  # dX = dz.T @ W
    for i in range(n):
        part = net[PARTS]
        for _ in range(net[N_PARTS]):
            if net[part + PART_KIND] == EMBEDDED:
                row = net[part + ROW] + codes[i, net[part + SOURCE]]
                add_range(gradient, row * width, width, dx, i * x_row + net[part + PLACE])
            part += PER_PART
        if takes_action:
            add_range(gradient, (net[ACTION_ROW] + actions[i]) * width, width, dx, i * x_row + n_in - width)


@jit
def note_row(row, rows, n, place):
    """Add a row to a list of n rows if it is not in it, and return how many there are then."""
    at = place[row]
    if not (0 <= at < n and rows[at] == row):
        place[row] = n
        rows[n] = row
        n += 1
    return n


@jit
def embedded_rows(net, codes, actions, rows, place):
    """
    List the rows of the embeddings that a batch has, each once.

    :param rows: Takes their numbers.
    :param place: Room for a number of each embedding; only what leads to an equal row is believed (Briggs and Torczon
        1993), whatever stands there.
    :return: How many there are.
    """
    n = 0
    for i in range(codes.shape[0]):
        part = net[PARTS]
        for _ in range(net[N_PARTS]):
            if net[part + PART_KIND] == EMBEDDED:
                n = note_row(net[part + ROW] + codes[i, net[part + SOURCE]], rows, n, place)
            part += PER_PART
    if net[ACTION_ROW] >= 0:
        for i in range(codes.shape[0]):
            n = note_row(net[ACTION_ROW] + actions[i], rows, n, place)
    return n


# ---------------------------------------------------------------------------------------- optimisers


@jit
def sgd(weights, gradient, moment, at, end, momentum, nesterov, decay, lr):
    """A step of ``torch.optim.SGD`` on a range; without momentum there need be no moments."""
    keep, shrink, rate = splat(momentum), splat(decay), splat(lr)
    for k in range(at, end, 8):
        n = min(end - k, 8)
        w = load_first(weights, k, n)
        g = fma(shrink, w, load_first(gradient, k, n))
        if momentum != 0:
            m = fma(keep, load_first(moment, k, n), g)
            store_first(moment, k, m, n)
            g = fma(keep, m, g) if nesterov else m
        store_first(weights, k, fnma(rate, g, w), n)


@jit
def adam_vector(w, g, m, v, take1, keep2, take2, size, scale, small):
    """Adam's step of eight weights: the new weights, first and second moments."""
    m = fma(take1, sub(g, m), m)
    v = fma(mul(take2, g), g, mul(keep2, v))
    return sub(w, div(mul(size, m), fma(sqrt(v), scale, small))), m, v


@jit
def adam(weights, gradient, moment1, moment2, lr, beta1, beta2, eps, decay, decoupled, step):
    """
    A step of ``torch.optim.Adam`` (Kingma and Ba 2015), the ``step``-th.

    :param decay: Weight decay, added to the gradient; if ``decoupled``, it shrinks the weights as ``AdamW`` does.
    """
    size = splat(np.float32(lr / (1 - beta1**step)))
    scale = splat(np.float32(1 / np.sqrt(1 - beta2**step)))
    take1, take2 = splat(np.float32(1 - beta1)), splat(np.float32(1 - beta2))
    keep2, small = splat(np.float32(beta2)), splat(np.float32(eps))
    keep = splat(np.float32(1 - lr * decay if decoupled else 1.0))
    pull = splat(np.float32(0.0 if decoupled else decay))
    n = weights.shape[0]
    whole, rest = n & ~7, n & 7
    for k in range(0, whole, 8):
        w = load(weights, k)
        w, m, v = adam_vector(mul(w, keep), fma(pull, w, load(gradient, k)), load(moment1, k), load(moment2, k),
                              take1, keep2, take2, size, scale, small)  # fmt: skip
        store(weights, k, w)
        store(moment1, k, m)
        store(moment2, k, v)
    if rest:
        w = load_first(weights, whole, rest)
        w, m, v = adam_vector(mul(w, keep), fma(pull, w, load_first(gradient, whole, rest)),
                              load_first(moment1, whole, rest), load_first(moment2, whole, rest),
                              take1, keep2, take2, size, scale, small)  # fmt: skip
        store_first(weights, whole, w, rest)
        store_first(moment1, whole, m, rest)
        store_first(moment2, whole, v, rest)


@jit
def rmsprop(weights, gradient, moment1, moment2, lr, alpha, momentum, eps, decay):
    """A step of ``torch.optim.RMSprop`` that is not centred; without momentum there need be no second moments."""
    keep, take, small = splat(np.float32(alpha)), splat(np.float32(1 - alpha)), splat(np.float32(eps))
    shrink, rate, again = splat(np.float32(decay)), splat(np.float32(lr)), splat(np.float32(momentum))
    for k in range(0, weights.shape[0], 8):
        n = min(weights.shape[0] - k, 8)
        w = load_first(weights, k, n)
        g = fma(shrink, w, load_first(gradient, k, n))
        v = fma(mul(take, g), g, mul(keep, load_first(moment1, k, n)))
        store_first(moment1, k, v, n)
        g = div(g, add(sqrt(v), small))
        if momentum != 0:
            g = fma(again, load_first(moment2, k, n), g)
            store_first(moment2, k, g, n)
        store_first(weights, k, fnma(rate, g, w), n)


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
def clip(gradient, layers_at, width, rows, n_rows, max_norm):
    """Scale the gradient to a largest norm, as ``torch.nn.utils.clip_grad_norm_``: the layers and these embeddings."""
    norm2 = squares(gradient, layers_at, gradient.shape[0])
    for i in range(n_rows):
        norm2 += squares(gradient, rows[i] * width, (rows[i] + 1) * width)
    factor = np.float32(max_norm / (np.sqrt(norm2) + 1e-6))
    if factor < 1:
        scale_range(gradient, layers_at, gradient.shape[0], factor)
        for i in range(n_rows):
            scale_range(gradient, rows[i] * width, (rows[i] + 1) * width, factor)


@jit
def learn_from_batch(networks, net, known, cached, batch, loss_kind, double_q, optimizer, max_norm, step, work):
    """
    One step of an optimiser on a minibatch.

    :param networks: Online network, target, gradient, first and second moments; see :func:`updates.train`.
    :param optimizer: See :func:`updates.train`.
    :param step: Number of this step of the optimiser, from 1.
    :return: The mean loss before the step. If it is not finite, nothing has changed.
    """
    online, target, gradient, moment1, moment2 = networks
    big, ints, _, values, slopes, _, _ = work
    codes, numbers, _, _, actions, rewards, discounts, _ = batch
    n_actions, n_quantiles, width, n = net[N_ACTIONS], net[N_QUANTILES], net[WIDTH], codes.shape[0]
    next_values(online, target, net, known, cached, batch, double_q, work)
    columns = (n + 15) & ~15
    if net[KIND] != TABLE:
        outputs_in_columns(online, net, codes, numbers, actions, n, columns, big)
    z, at = big[2], (net[N_LAYERS] - 1) * net[STRIDE] * columns
    losses = 0.0  # float64: the rounding of so many additions would add up
    for i in range(n):
        action = np.int64(0) if net[ACTION_ROW] >= 0 else actions[i]
        for k in range(n_quantiles):
            values[i * n_quantiles + k] = rewards[i] + discounts[i] * values[i * n_quantiles + k]
        for k in range(n_quantiles):
            if net[KIND] == TABLE:
                value = online[codes[i, 0] * n_actions + action]
            else:
                value = z[at + (k * n_actions + action) * columns + i]
            if loss_kind == QUANTILE:
                share = np.float32((k + 0.5) / n_quantiles)
                one, slope = quantile_loss_of(value, share, values, i * n_quantiles, n_quantiles)
                one, slope = one / np.float32(n_quantiles), slope / np.float32(n_quantiles)
            else:
                one, slope = loss_of(loss_kind, value - values[i])
            losses += one
            slopes[i * n_quantiles + k] = slope / np.float32(n)
    loss = np.float32(losses / n)
    if not np.isfinite(loss):
        return loss
    write_gradient(online, net, batch, slopes, big, gradient)

    # The gradient of embeddings that are not in the batch is 0; a plain step does not change these.
    rows = ints[0]
    n_rows = embedded_rows(net, codes, actions, rows, ints[1])
    layers_at = net[FIRST + WEIGHTS] if net[N_LAYERS] > 0 else online.shape[0]
    if max_norm < np.inf:
        clip(gradient, layers_at, width, rows, n_rows, max_norm)
    kind, lr, beta1, beta2, eps, decay = optimizer
    if kind in (ADAM, ADAMW):
        adam(online, gradient, moment1, moment2, lr, beta1, beta2, eps, decay, kind == ADAMW, step)
    elif kind == RMSPROP:
        rmsprop(online, gradient, moment1, moment2, lr, beta1, beta2, eps, decay)
    else:
        momentum, rate, shrink, nesterov = np.float32(beta1), np.float32(lr), np.float32(decay), kind == NESTEROV
        plain = momentum == 0 and shrink == 0
        sgd(online, gradient, moment1, layers_at if plain else 0, online.shape[0], momentum, nesterov, shrink, rate)
        for i in range(n_rows if plain else 0):
            at = rows[i] * width
            sgd(online, gradient, moment1, at, at + width, momentum, nesterov, shrink, rate)
    for i in range(n_rows):
        for k in range(rows[i] * width, (rows[i] + 1) * width):
            gradient[k] = np.float32(0.0)
    return loss
