"""
Compiled gradient updates and greedy actions.

A network is one flat float32 array of its parameters, in the order of ``torch.nn.Module.parameters()``. Gradients and
the optimiser's moments have the same order. The int64 array ``layout`` describes a network: ``[kind, n_states,
n_actions, d0, d1, d2]``, with the widths of the embedding and the two hidden layers (0 for a table):

====================  ==================================================================
TABLE                 Q (n_states, n_actions)
STATE_IN              E (n_states, d0), then the layers
ACTION_IN             E (n_states, d0), F (n_actions, d0), then the layers
the layers            W1 (d1, d_in), b1, slope, W2 (d2, d1), b2, slope, W3 (n_out, d2), b3
====================  ==================================================================

``d_in, n_out`` are ``d0, n_actions`` for STATE_IN and ``2 * d0, 1`` for ACTION_IN.
"""

import numpy as np

from sb3_lecture_dqn.kernels.compiling import jit
from sb3_lecture_dqn.kernels.kinds import ACTION_IN, ADAM, MSE, SGD, STATE_IN, TABLE


@jit
def _copy(source, destination):
    """Do ``destination[:] = source``. Numba needs two seconds to compile that assignment, for its error message."""
    for i in range(destination.shape[0]):
        destination[i] = source[i]


@jit
def _layer_offsets(layout):
    """Return the offset of the layers in the flat array, and the widths of their input and output."""
    kind, n_states, n_actions, d0 = layout[0], layout[1], layout[2], layout[3]
    if kind == STATE_IN:
        return n_states * d0, d0, n_actions
    return (n_states + n_actions) * d0, 2 * d0, 1


@jit
def _layers(flat, layout):
    """Return views of W1, b1, slope 1, W2, b2, slope 2, W3, b3 in a flat array."""
    o, d_in, n_out = _layer_offsets(layout)
    d1, d2 = layout[4], layout[5]
    w1 = flat[o : o + d1 * d_in].reshape((d1, d_in))
    o += d1 * d_in
    b1 = flat[o : o + d1]
    o += d1
    p1 = flat[o : o + 1]
    o += 1
    w2 = flat[o : o + d2 * d1].reshape((d2, d1))
    o += d2 * d1
    b2 = flat[o : o + d2]
    o += d2
    p2 = flat[o : o + 1]
    o += 1
    w3 = flat[o : o + n_out * d2].reshape((n_out, d2))
    o += n_out * d2
    b3 = flat[o : o + n_out]
    return w1, b1, p1, w2, b2, p2, w3, b3


# ---------------------------------------------------------------------------------------- one state at a time
@jit
def _affine(w, b, x, out):
    """Do ``out[:] = w @ x + b`` for one input."""
    for o in range(w.shape[0]):
        total = np.float32(0.0)
        for k in range(w.shape[1]):
            total += w[o, k] * x[k]
        out[o] = total + b[o]


@jit
def _prelu(z, slope, out):
    """Write to ``out``: z where it is positive, ``slope * z`` elsewhere."""
    for o in range(z.shape[0]):
        out[o] = z[o] if z[o] > 0 else slope * z[o]


@jit
def _argmax(values):
    """Return the first index of the largest value."""
    best = 0
    for a in range(1, values.shape[0]):
        if values[a] > values[best]:
            best = a
    return best


@jit
def _best_allowed(values, mask):
    """Return the first index of the largest value among those that a mask allows; an empty mask allows all."""
    if mask.shape[0] == 0:
        return _argmax(values)
    best = -1
    for a in range(values.shape[0]):
        if mask[a] and (best < 0 or values[a] > values[best]):
            best = a
    return best


@jit
def _row(state, start, layout):
    """Return the row of a state in the embedding. Raise an error for a row outside of it, which is foreign memory."""
    if not start <= state < start + layout[1]:
        raise IndexError("an observation is outside the observation space")
    return state - start


@jit
def _greedy_by_table(flat, layout, states, start, masks, actions):
    n_actions = layout[2]
    for i in range(states.shape[0]):
        row = _row(states[i], start, layout)
        actions[i] = _best_allowed(flat[row * n_actions : (row + 1) * n_actions], masks[i])


@jit
def _greedy_by_network(flat, layout, states, start, masks, actions):
    kind, n_states, n_actions, d0, d1, d2 = layout
    w1, b1, p1, w2, b2, p2, w3, b3 = _layers(flat, layout)
    z1, h1 = np.empty(d1, np.float32), np.empty(d1, np.float32)
    z2, h2 = np.empty(d2, np.float32), np.empty(d2, np.float32)
    values, x = np.empty(n_actions, np.float32), np.empty(w1.shape[1], np.float32)
    n_inputs, width = (1, n_actions) if kind == STATE_IN else (n_actions, 1)
    for i in range(states.shape[0]):
        row = _row(states[i], start, layout)
        _copy(flat[row * d0 : (row + 1) * d0], x[:d0])
        for a in range(n_inputs):
            if kind == ACTION_IN:
                _copy(flat[(n_states + a) * d0 : (n_states + a + 1) * d0], x[d0:])
            _affine(w1, b1, x, z1)
            _prelu(z1, p1[0], h1)
            _affine(w2, b2, h1, z2)
            _prelu(z2, p2[0], h2)
            _affine(w3, b3, h2, values[a : a + width])
        actions[i] = _best_allowed(values, masks[i])


@jit
def greedy_allowed_actions(flat, layout, states, start, masks):
    """
    Choose the valid actions with the highest values. Among equal values, choose the first action.

    :param flat: The network
    :param layout: Layout of the network
    :param states: int64 of shape ``(n,)``
    :param start: Number of the first state
    :param masks: Valid actions, bool of shape ``(n, n_actions)``, or ``(n, 0)`` if all are valid
    :return: Actions, int64 of shape ``(n,)``
    :raises IndexError: If a state is outside the observation space
    """
    actions = np.empty(states.shape[0], np.int64)
    if layout[0] == TABLE:
        _greedy_by_table(flat, layout, states, start, masks, actions)
    else:
        _greedy_by_network(flat, layout, states, start, masks, actions)
    return actions


@jit
def greedy_actions(flat, layout, states, start):
    """
    Choose the actions with the highest values. Among equal values, choose the first action.

    :param flat: The network
    :param layout: Layout of the network
    :param states: int64 of shape ``(n,)``
    :param start: Number of the first state
    :return: Actions, int64 of shape ``(n,)``
    :raises IndexError: If a state is outside the observation space
    """
    return greedy_allowed_actions(flat, layout, states, start, np.empty((states.shape[0], 0), np.bool_))


@jit
def _loss(kind, error):
    """Return the loss of ``error = Q - y`` and its derivative."""
    if kind == MSE:
        return error * error, np.float32(2.0) * error
    if abs(error) < 1:
        return np.float32(0.5) * error * error, error
    return abs(error) - np.float32(0.5), np.float32(np.sign(error))


@jit
def _descend(w, dz, scale, x, dx):
    """Do an SGD step on w of a layer ``z = w @ x + b``; write the gradient in x from before the step to ``dx``."""
    dx[:] = np.float32(0.0)
    for o in range(w.shape[0]):
        d, step = dz[o], scale * dz[o]
        for k in range(w.shape[1]):
            dx[k] += d * w[o, k]
            w[o, k] -= step * x[k]


@jit
def _prelu_descend(z, dh, slope, b, lr):
    """Do an SGD step on the slope of a PReLU and on the bias of its input; turn ``dh`` into the gradient in z."""
    p, dp = slope[0], np.float32(0.0)
    for o in range(z.shape[0]):  # without branches, since the CPU would mispredict half of them
        negative = z[o] <= 0
        dp += dh[o] * z[o] if negative else np.float32(0.0)
        dz = p * dh[o] if negative else dh[o]
        dh[o] = dz
        b[o] -= lr * dz
    slope[0] -= lr * dp


@jit
def _transition(success, success_f, fail, fail_f, n_success, position):
    """Return state, next state, action, reward and done of a transition; :func:`train` explains the arguments."""
    if position < n_success:
        at, words, floats = position, success, success_f
    else:
        at, words, floats = position - n_success, fail, fail_f
    return words[at, 0], words[at, 1], words[at, 2], floats[at, 6], floats[at, 7]


@jit
def _is_inside(state, next_state, action, start, layout):
    """Return whether a transition is in the spaces of the networks; other numbers would address foreign memory."""
    end = start + layout[1]
    return start <= state < end and start <= next_state < end and 0 <= action < layout[2]


@jit
def _read_mask(success, fail, n_success, position, mask):
    """Write the valid actions after a transition to ``mask``, unless it is empty; see :func:`train`."""
    for a in range(mask.shape[0]):
        if position < n_success:
            word = success[position, 4 + a // 64]
        else:
            word = fail[position - n_success, 4 + a // 64]
        mask[a] = (word >> (a % 64)) & 1


@jit
def train_one_by_one(success, success_f, fail, fail_f, n_success, positions, start, gamma, online, target, layout,
                     loss_kind, double_q, lr):  # fmt: skip
    """
    Update a STATE_IN network by plain SGD, each time on one transition.

    This is a faster version of :func:`train`, with the same arguments except the following. It updates the weights
    directly, without an array of gradients. Arrays are local variables instead of parts of tuples, since numba's
    counting of references to arrays in tuples takes as long as the arithmetic.

    :param positions: Positions of the transitions, int64 of shape ``(n_updates, 1)``
    :param online: The online network
    :param target: The target network
    :param lr: Learning rate
    :return: As of :func:`train`; if a loss is not finite, the weights are those from before that update
    """
    w1, b1, p1, w2, b2, p2, w3, b3 = _layers(online, layout)
    v1, c1, q1, v2, c2, q2, v3, c3 = _layers(target, layout)
    d0, d1, d2 = layout[3], layout[4], layout[5]
    z1, h1, dh1, dx = (
        np.empty(d1, np.float32),
        np.empty(d1, np.float32),
        np.empty(d1, np.float32),
        np.empty(d0, np.float32),
    )
    z2, h2, dh2 = np.empty(d2, np.float32), np.empty(d2, np.float32), np.empty(d2, np.float32)
    values, mask = np.empty(layout[2], np.float32), np.empty(layout[2] if fail.shape[1] > 4 else 0, np.bool_)
    f_lr, f_gamma = np.float32(lr), np.float32(gamma)
    total = 0.0
    for u in range(positions.shape[0]):
        state, next_state, action, reward, done = _transition(
            success, success_f, fail, fail_f, n_success, positions[u, 0]
        )
        if not _is_inside(state, next_state, action, start, layout):
            return -1.0, u
        x = online[(state - start) * d0 : (state - start + 1) * d0]
        next_row = slice((next_state - start) * d0, (next_state - start + 1) * d0)
        _read_mask(success, fail, n_success, positions[u, 0], mask)
        best = -1
        if double_q:
            _affine(w1, b1, online[next_row], z1)
            _prelu(z1, p1[0], h1)
            _affine(w2, b2, h1, z2)
            _prelu(z2, p2[0], h2)
            _affine(w3, b3, h2, values)
            best = _best_allowed(values, mask)
        _affine(v1, c1, target[next_row], z1)
        _prelu(z1, q1[0], h1)
        _affine(v2, c2, h1, z2)
        _prelu(z2, q2[0], h2)
        _affine(v3, c3, h2, values)
        y = reward + (np.float32(1) - done) * f_gamma * values[best if double_q else _best_allowed(values, mask)]

        _affine(w1, b1, x, z1)
        _prelu(z1, p1[0], h1)
        _affine(w2, b2, h1, z2)
        _prelu(z2, p2[0], h2)
        value = b3[action]
        for j in range(d2):
            value += w3[action, j] * h2[j]
        loss, dv = _loss(loss_kind, value - y)
        if not np.isfinite(loss):
            return total + loss, u
        total += loss

        step = f_lr * dv
        for j in range(d2):
            dh2[j] = dv * w3[action, j]
            w3[action, j] -= step * h2[j]
        b3[action] -= step
        _prelu_descend(z2, dh2, p2, b2, f_lr)
        _descend(w2, dh2, f_lr, h1, dh1)
        _prelu_descend(z1, dh1, p1, b1, f_lr)
        _descend(w1, dh1, f_lr, x, dx)
        for k in range(d0):
            x[k] -= f_lr * dx[k]
    return total, positions.shape[0]


# ---------------------------------------------------------------------------------------- minibatches
@jit
def _matmul_add(a, b, c):
    """Do ``c += a @ b`` in blocks of four rows and four terms of their sums, so that loaded numbers are reused."""
    n_rows, n_terms = a.shape
    rows, terms = n_rows - n_rows % 4, n_terms - n_terms % 4
    for i in range(0, rows, 4):
        for k in range(0, terms, 4):
            a00, a01, a02, a03 = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            a10, a11, a12, a13 = a[i + 1, k], a[i + 1, k + 1], a[i + 1, k + 2], a[i + 1, k + 3]
            a20, a21, a22, a23 = a[i + 2, k], a[i + 2, k + 1], a[i + 2, k + 2], a[i + 2, k + 3]
            a30, a31, a32, a33 = a[i + 3, k], a[i + 3, k + 1], a[i + 3, k + 2], a[i + 3, k + 3]
            for j in range(b.shape[1]):
                b0, b1, b2, b3 = b[k, j], b[k + 1, j], b[k + 2, j], b[k + 3, j]
                c[i, j] += a00 * b0 + a01 * b1 + a02 * b2 + a03 * b3
                c[i + 1, j] += a10 * b0 + a11 * b1 + a12 * b2 + a13 * b3
                c[i + 2, j] += a20 * b0 + a21 * b1 + a22 * b2 + a23 * b3
                c[i + 3, j] += a30 * b0 + a31 * b1 + a32 * b2 + a33 * b3
    for i in range(n_rows):
        for k in range(terms if i < rows else 0, terms, 4):
            a0, a1, a2, a3 = a[i, k], a[i, k + 1], a[i, k + 2], a[i, k + 3]
            for j in range(b.shape[1]):
                c[i, j] += a0 * b[k, j] + a1 * b[k + 1, j] + a2 * b[k + 2, j] + a3 * b[k + 3, j]
        for k in range(terms, n_terms):
            a0 = a[i, k]
            for j in range(b.shape[1]):
                c[i, j] += a0 * b[k, j]


@jit
def _transposed(a):
    out = np.empty((a.shape[1], a.shape[0]), np.float32)
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            out[j, i] = a[i, j]
    return out


@jit
def _affine_batch(w, b, x, out):
    """Do ``out[:] = x @ w.T + b`` for a batch of inputs."""
    for i in range(out.shape[0]):
        _copy(b, out[i])
    _matmul_add(x, _transposed(w), out)


@jit
def _prelu_batch(z, slope, out):
    for i in range(z.shape[0]):
        _prelu(z[i], slope, out[i])


@jit
def _forward_batch(layers, x):
    """Apply the layers to a batch of inputs; return all arrays that the backward pass needs."""
    w1, b1, p1, w2, b2, p2, w3, b3 = layers
    n = x.shape[0]
    z1 = np.empty((n, w1.shape[0]), np.float32)
    z2 = np.empty((n, w2.shape[0]), np.float32)
    out = np.empty((n, w3.shape[0]), np.float32)
    h1, h2 = np.empty_like(z1), np.empty_like(z2)
    _affine_batch(w1, b1, x, z1)
    _prelu_batch(z1, p1[0], h1)
    _affine_batch(w2, b2, h1, z2)
    _prelu_batch(z2, p2[0], h2)
    for i in range(n):  # row by row, which is faster for such a narrow output
        _affine(w3, b3, h2[i], out[i])
    return z1, h1, z2, h2, out


@jit
def _distinct(keys, n_keys):
    """
    Number the distinct keys, in the order of their first appearance.

    :param keys: int64 of shape ``(n,)``, from 0
    :param n_keys: Number of possible keys
    :return: The distinct keys, and for each of ``keys`` the number of its distinct key
    """
    n = 0
    distinct, numbers = np.empty_like(keys), np.empty_like(keys)
    # This array needs no initialisation, since an entry counts only if it leads to an equal key (Briggs and Torczon
    # 1993).
    places = np.empty(n_keys, np.int64)
    for i in range(keys.shape[0]):
        place = places[keys[i]]
        if not (0 <= place < n and distinct[place] == keys[i]):
            place = places[keys[i]] = n
            distinct[n] = keys[i]
            n += 1
        numbers[i] = place
    return distinct[:n], numbers


@jit
def _pairs(states, actions, n_actions):
    """Encode each state and its action as one number."""
    pairs = np.empty_like(states)
    for i in range(states.shape[0]):
        pairs[i] = states[i] * n_actions + actions[i]
    return pairs


@jit
def _all_pairs(states, n_actions):
    """Encode each state with every action, state by state; see :func:`_pairs`."""
    pairs = np.empty(states.shape[0] * n_actions, np.int64)
    for i in range(states.shape[0]):
        for a in range(n_actions):
            pairs[i * n_actions + a] = states[i] * n_actions + a
    return pairs


@jit
def _inputs(flat, layout, keys):
    """Look up the inputs of the layers: embeddings of states, followed by those of actions if keys are pairs."""
    kind, n_states, n_actions, d0 = layout[0], layout[1], layout[2], layout[3]
    x = np.empty((keys.shape[0], d0 if kind == STATE_IN else 2 * d0), np.float32)
    for i in range(keys.shape[0]):
        state = keys[i] if kind == STATE_IN else keys[i] // n_actions
        _copy(flat[state * d0 : (state + 1) * d0], x[i, :d0])
        if kind == ACTION_IN:
            at = n_states + keys[i] % n_actions
            _copy(flat[at * d0 : (at + 1) * d0], x[i, d0:])
    return x


@jit
def _table_values(flat, layout, states):
    """Look up the rows of a table, of shape ``(batch, n_actions)``."""
    n_actions = layout[2]
    values = np.empty((states.shape[0], n_actions), np.float32)
    for i in range(states.shape[0]):
        _copy(flat[states[i] * n_actions : (states[i] + 1) * n_actions], values[i])
    return values


@jit
def _add_rows(a, out):
    """Do ``out += a.sum(axis=0)``, with sums in float64; in float32, terms that cancel would cost a digit."""
    sums = np.zeros(a.shape[1], np.float64)
    for i in range(a.shape[0]):
        for o in range(a.shape[1]):
            sums[o] += a[i, o]
    for o in range(a.shape[1]):
        out[o] += np.float32(sums[o])


@jit
def _prelu_backward(z, dh, slope, g_slope, g_bias):
    """Turn ``dh`` into the gradient in z; add the gradients of the slope and of the bias to ``g_slope``, ``g_bias``."""
    p, total = slope[0], np.float64(0.0)
    for i in range(z.shape[0]):
        dp = np.float32(0.0)
        for o in range(z.shape[1]):  # two loops without branches, since compilers vectorise these
            dp += dh[i, o] * z[i, o] if z[i, o] <= 0 else np.float32(0.0)
        total += dp
        for o in range(z.shape[1]):
            dh[i, o] *= p if z[i, o] <= 0 else np.float32(1.0)
    g_slope[0] += np.float32(total)
    _add_rows(dh, g_bias)


@jit
def _backward_batch(layers, gradients, passed, dout):
    """
    Add the gradients of the layers to ``gradients``.

    :param passed: The input, and the first four arrays that :func:`_forward_batch` returned for it
    :param dout: Gradient of the loss in the output
    :return: Gradient of the loss in the input
    """
    x, z1, h1, z2, h2 = passed
    w1, _, p1, w2, _, p2, w3, _ = layers
    g_w1, g_b1, g_p1, g_w2, g_b2, g_p2, g_w3, g_b3 = gradients
    _add_rows(dout, g_b3)
    _matmul_add(_transposed(dout), h2, g_w3)
    dh2 = np.zeros_like(h2)
    _matmul_add(dout, w3, dh2)
    _prelu_backward(z2, dh2, p2, g_p2, g_b2)
    _matmul_add(_transposed(dh2), h1, g_w2)
    dh1 = np.zeros_like(h1)
    _matmul_add(dh2, w2, dh1)
    _prelu_backward(z1, dh1, p1, g_p1, g_b1)
    _matmul_add(_transposed(dh1), x, g_w1)
    dx = np.zeros_like(x)
    _matmul_add(dh1, w1, dx)
    return dx


@jit
def _clip(gradient, max_norm):
    """Clip the norm of a gradient, as ``torch.nn.utils.clip_grad_norm_`` does."""
    total = np.float32(0.0)
    for i in range(gradient.shape[0]):
        total += gradient[i] * gradient[i]
    scale = np.float32(max_norm / (np.sqrt(total) + 1e-6))
    if scale < 1:
        for i in range(gradient.shape[0]):
            gradient[i] *= scale


@jit
def _sgd(weights, gradient, momentum, moment, lr):
    """Do a step of ``torch.optim.SGD``; ``moment`` may be empty if the momentum is 0."""
    if momentum == 0:
        for i in range(weights.shape[0]):
            weights[i] -= lr * gradient[i]
    else:
        for i in range(weights.shape[0]):
            moment[i] = momentum * moment[i] + gradient[i]
            weights[i] -= lr * moment[i]


@jit
def _adam(weights, gradient, moment1, moment2, lr, beta1, beta2, eps, step):
    """Do a step of ``torch.optim.Adam`` (Kingma and Ba 2015); ``step`` is its number, from 1."""
    size = np.float32(lr / (1 - beta1**step))
    scale = np.float32(1 / np.sqrt(1 - beta2**step))
    keep2, take1, take2 = np.float32(beta2), np.float32(1 - beta1), np.float32(1 - beta2)
    small = np.float32(eps)
    for i in range(weights.shape[0]):
        g = gradient[i]
        moment1[i] += take1 * (g - moment1[i])
        moment2[i] = keep2 * moment2[i] + take2 * g * g
        weights[i] -= size * moment1[i] / (np.sqrt(moment2[i]) * scale + small)


@jit
def _errors(networks, layout, batch, loss_kind, double_q):
    """
    Compute the loss of a minibatch. States that occur several times pass through the networks once.

    :return: Mean loss; the distinct states of the minibatch, or for ACTION_IN its distinct pairs of state and action;
        gradient of the loss in the network's output for each of them; input and results of :func:`_forward_batch`
    """
    states, actions, next_states, rewards, discounts, masks = batch
    kind, n_states, n_actions, n = layout[0], layout[1], layout[2], states.shape[0]
    all_keys = _pairs(states, actions, n_actions) if kind == ACTION_IN else states
    keys, numbers = _distinct(all_keys, n_states * n_actions)
    next_keys, next_numbers = next_states, np.arange(n)
    if masks.shape[1] == 0:  # with masks, equal states may have different ones
        next_keys, next_numbers = _distinct(next_states, n_states)
    next_inputs = _all_pairs(next_keys, n_actions) if kind == ACTION_IN else next_keys
    n_next = next_keys.shape[0]
    chosen, next_values = np.empty(n_next, np.int64), np.empty(n_next, np.float32)
    x = z1 = h1 = z2 = h2 = values = np.empty((0, 0), np.float32)
    # Turn 0, only with double_q: the online network selects the next action. Turn 1: the target network evaluates it,
    # and selects it without double_q. Turn 2: the online network evaluates the action that was taken. As a loop, this
    # takes less time to compile: numba compiles the forward pass once for every line that calls it.
    for turn in range(0 if double_q else 1, 3):
        flat = networks[1 if turn == 1 else 0]
        inputs = keys if turn == 2 else next_inputs
        if kind == TABLE:
            values = _table_values(flat, layout, inputs)
        else:
            x = _inputs(flat, layout, inputs)
            z1, h1, z2, h2, values = _forward_batch(_layers(flat, layout), x)
        if turn < 2:
            values = values.reshape((n_next, n_actions))
            for i in range(n_next):
                if turn == 0 or not double_q:
                    chosen[i] = _best_allowed(values[i], masks[i])
                next_values[i] = values[i, chosen[i]]

    dout = np.zeros_like(values)
    total = np.float32(0.0)
    for i in range(n):
        output = 0 if kind == ACTION_IN else actions[i]
        y = rewards[i] + discounts[i] * next_values[next_numbers[i]]
        loss, slope = _loss(loss_kind, values[numbers[i], output] - y)
        total += loss
        dout[numbers[i], output] += slope / np.float32(n)
    return total / np.float32(n), keys, dout, (x, z1, h1, z2, h2)


@jit
def _add_gradient(gradient, online, layout, keys, dout, passed):
    """Write the gradient of the layers, and add the gradient of the batch's embeddings, whose entries are 0 before."""
    kind, n_states, n_actions, d0 = layout[0], layout[1], layout[2], layout[3]
    dx, width = dout, n_actions
    if kind != TABLE:
        gradient[_layer_offsets(layout)[0] :] = np.float32(0.0)
        dx, width = _backward_batch(_layers(online, layout), _layers(gradient, layout), passed, dout), d0
    for i in range(keys.shape[0]):
        state, action = keys[i], 0
        if kind == ACTION_IN:
            state, action = keys[i] // n_actions, keys[i] % n_actions
        for k in range(width):
            gradient[state * width + k] += dx[i, k]
            if kind == ACTION_IN:
                gradient[(n_states + action) * d0 + k] += dx[i, d0 + k]


@jit
def _optimize(networks, layout, batch, optimizer, step):
    """Do a step of the optimiser, and reset the gradient of the embeddings to 0."""
    online, _, gradient, moment1, moment2 = networks
    states, actions = batch[0], batch[1]
    opt_kind, lr, beta1, beta2, eps = optimizer
    kind, n_states, n_actions, d0 = layout[0], layout[1], layout[2], layout[3]
    width, layers_at = (n_actions, n_states * n_actions) if kind == TABLE else (d0, _layer_offsets(layout)[0])
    f_lr, f_momentum = np.float32(lr), np.float32(beta1)
    # Without moments, only the layers and the embeddings of this batch change.
    sparse = opt_kind == SGD and beta1 == 0
    if opt_kind == ADAM:
        _adam(online, gradient, moment1, moment2, lr, beta1, beta2, eps, step)
    else:
        part = slice(layers_at if sparse else 0, online.shape[0])
        _sgd(online[part], gradient[part], f_momentum, moment1, f_lr)
    for i in range(states.shape[0]):
        for row in (states[i], n_states + actions[i] if kind == ACTION_IN else states[i]):
            part = slice(row * width, (row + 1) * width)
            if sparse:
                _sgd(online[part], gradient[part], f_momentum, moment1, f_lr)
            gradient[part] = np.float32(0.0)


@jit
def train(success, success_f, fail, fail_f, n_success, positions, start, gamma, networks, layout, loss_kind, double_q,
          optimizer, max_norm, first_step):  # fmt: skip
    """
    Update a network, each time on a minibatch of rows from two partitions.

    :param success: Rows as int64 words: state, next state, action, (reward, done). With masks, further words contain
        the valid actions in the next state: bit ``a % 64`` of further word ``a // 64`` is 1 if action a is valid
    :param success_f: The same rows as float32 words; words 6 and 7 are reward and done
    :param fail: Rows of the second partition, in the same format
    :param fail_f: The same rows as float32 words
    :param n_success: Positions below this number are rows of ``success``; the other positions, minus this number, are
        rows of ``fail``
    :param positions: Positions of the transitions, int64 of shape ``(n_updates, batch_size)``
    :param start: Number of the first state
    :param gamma: Discount factor
    :param networks: Online network, target network, gradient, first and second moments of the optimiser, all flat
        float32; moments that the optimiser does not have are empty. The gradient of embeddings is 0 before and after
    :param layout: Layout of both networks
    :param loss_kind: MSE or HUBER
    :param double_q: Whether the online network selects the next action
    :param optimizer: Kind (int), then floats: learning rate, beta1 or momentum, beta2, eps
    :param max_norm: Largest norm of the gradient, infinity for no limit
    :param first_step: Number of the first update in the optimiser's count, from 1
    :return: Sum of the losses, and the number of finished updates. If a loss is not finite, the updates stop and the
        sum is not finite. If a transition is outside the spaces, they stop and the sum is -1
    """
    n = positions.shape[1]
    states, actions, next_states = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    rewards, discounts = np.empty(n, np.float32), np.empty(n, np.float32)
    masks = np.empty((n, layout[2] if fail.shape[1] > 4 else 0), np.bool_)
    total = 0.0
    for u in range(positions.shape[0]):
        for i in range(n):
            state, next_state, action, reward, done = _transition(
                success, success_f, fail, fail_f, n_success, positions[u, i]
            )
            if not _is_inside(state, next_state, action, start, layout):
                return -1.0, u
            states[i], next_states[i], actions[i] = state - start, next_state - start, action
            rewards[i], discounts[i] = reward, (1 - done) * np.float32(gamma)
            _read_mask(success, fail, n_success, positions[u, i], masks[i])
        batch = states, actions, next_states, rewards, discounts, masks
        loss, keys, dout, passed = _errors(networks, layout, batch, loss_kind, double_q)
        if not np.isfinite(loss):
            return total + loss, u
        total += loss
        _add_gradient(networks[2], networks[0], layout, keys, dout, passed)
        if max_norm < np.inf:
            _clip(networks[2], max_norm)
        _optimize(networks, layout, batch, optimizer, first_step + u)
    return total, positions.shape[0]
