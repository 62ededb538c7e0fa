"""
Forward passes of the networks that the compiled engine knows: nothing but arrays and numbers goes in and out.

A network is one flat float32 array with its parameters in the order of ``torch.nn.Module.parameters()``: first rows of
embeddings, all of one width, then dense layers. ``net``, an int64 array, says where in it everything stands:

====================  ================================================================================================
``net[KIND]``         TABLE: Q (n_states, n_actions) is all there is. STATE_IN: the embedding of the state goes into the
                      layers. ACTION_IN: the embeddings of a state and an action do, and give one value. PARTS_IN: a
                      vector made of parts goes into the layers
``net[N_STATES]``     values of the observation, if it is one code: a whole number from 0; else 0
``net[N_ACTIONS]``    actions
``net[N_QUANTILES]``  outputs for each action; those of all actions follow each other
``net[ACTION_ROW]``   first row of the embeddings of actions, which follow the vector made of parts; -1 for none
``net[WIDTH]``        numbers in an embedding (of a table: n_actions)
``net[N_LAYERS]``     dense layers
``net[STRIDE]``       room for the output of one layer in the work arrays
``net[N_PARTS]``      parts of the input
``net[PARTS]``        where in ``net`` they stand, five numbers for each: its kind in :mod:`kinds`; the number of its
                      code, or of its first number, in an observation; values of the code, or how many numbers; first
                      row of the embedding; and where in the vector it stands
``net[FIRST:]``       six numbers for each layer: N_OUT, N_IN, where its weights (n_out, n_in) stand, where its bias,
                      its activation, and where the slope of a PReLU stands, or the bits of another activation's slope
====================  ================================================================================================

An observation is a row of codes, int64, and a row of numbers, float32. Sums run in a fixed order (see :mod:`simd`): one
network on one input gives the same bits wherever it is computed.
"""

import math

import numpy as np

from sb3_lecture_dqn.kernels.compiling import entry, jit
from sb3_lecture_dqn.kernels.kinds import (
    ELU,
    EMBEDDED,
    LINEAR,
    NUMBERS,
    ONE_HOT,
    PRELU,
    STATE_IN,
    TABLE,
    TANH,
)
from sb3_lecture_dqn.kernels.simd import (
    add,
    clamped,
    div,
    float_of,
    fma,
    load,
    load_first,
    mul,
    splat,
    splat_at,
    store,
    store_first,
    store_transposed,
    totals,
    where_positive,
    wide_fma_at,
    wide_load,
    wide_splat,
    wide_store,
    zero,
)

KIND, N_STATES, N_ACTIONS, N_QUANTILES, ACTION_ROW, WIDTH, N_LAYERS, STRIDE, N_PARTS, PARTS, FIRST = range(11)
N_OUT, N_IN, WEIGHTS, BIAS, ACTIVATION, SLOPE, PER_LAYER = range(7)
PART_KIND, SOURCE, N_VALUES, ROW, PLACE, PER_PART = range(6)


# ---------------------------------------------------------------------------------------- one input


@jit
def affine(flat, w_at, b_at, n_out, n_in, x, x_at, out, out_at):
    """``out = W @ x + b``, eight rows of W at a time; the last rows are taken twice to fill up eight."""
    whole, rest = n_in & ~7, n_in & 7
    for o in range(0, n_out, 8):
        last = n_out - 1
        r0, r1, r2, r3 = w_at + o * n_in, min(o + 1, last), min(o + 2, last), min(o + 3, last)
        r1, r2, r3 = w_at + r1 * n_in, w_at + r2 * n_in, w_at + r3 * n_in
        r4, r5, r6, r7 = min(o + 4, last), min(o + 5, last), min(o + 6, last), min(o + 7, last)
        r4, r5, r6, r7 = w_at + r4 * n_in, w_at + r5 * n_in, w_at + r6 * n_in, w_at + r7 * n_in
        s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = zero()
        for k in range(0, whole, 8):
            v = load(x, x_at + k)
            s0 = fma(load(flat, r0 + k), v, s0)
            s1 = fma(load(flat, r1 + k), v, s1)
            s2 = fma(load(flat, r2 + k), v, s2)
            s3 = fma(load(flat, r3 + k), v, s3)
            s4 = fma(load(flat, r4 + k), v, s4)
            s5 = fma(load(flat, r5 + k), v, s5)
            s6 = fma(load(flat, r6 + k), v, s6)
            s7 = fma(load(flat, r7 + k), v, s7)
        if rest:
            v = load_first(x, x_at + whole, rest)
            s0 = fma(load_first(flat, r0 + whole, rest), v, s0)
            s1 = fma(load_first(flat, r1 + whole, rest), v, s1)
            s2 = fma(load_first(flat, r2 + whole, rest), v, s2)
            s3 = fma(load_first(flat, r3 + whole, rest), v, s3)
            s4 = fma(load_first(flat, r4 + whole, rest), v, s4)
            s5 = fma(load_first(flat, r5 + whole, rest), v, s5)
            s6 = fma(load_first(flat, r6 + whole, rest), v, s6)
            s7 = fma(load_first(flat, r7 + whole, rest), v, s7)
        sums = totals(s0, s1, s2, s3, s4, s5, s6, s7)
        if o + 8 <= n_out:
            store(out, out_at + o, add(sums, load(flat, b_at + o)))
        else:
            store_first(out, out_at + o, add(sums, load_first(flat, b_at + o, n_out - o)), n_out - o)


@jit
def tanh(v):
    """The hyperbolic tangent, by the quotient of polynomials that Eigen uses; exact to 3 units in the last place."""
    x = clamped(v, splat(np.float32(7.90531110763549805)))
    x2 = mul(x, x)
    p = fma(x2, splat(np.float32(-2.76076847742355e-16)), splat(np.float32(2.00018790482477e-13)))
    p = fma(x2, p, splat(np.float32(-8.60467152213735e-11)))
    p = fma(x2, p, splat(np.float32(5.12229709037114e-08)))
    p = fma(x2, p, splat(np.float32(1.48572235717979e-05)))
    p = fma(x2, p, splat(np.float32(6.37261928875436e-04)))
    p = mul(x, fma(x2, p, splat(np.float32(4.89352455891786e-03))))
    q = fma(x2, splat(np.float32(1.19825839466702e-06)), splat(np.float32(1.18534705686654e-04)))
    q = fma(x2, q, splat(np.float32(2.26843463243900e-03)))
    q = fma(x2, q, splat(np.float32(4.89352518554385e-03)))
    return div(p, q)


@jit
def slope_of(flat, net, layer):
    """The slope of a layer's activation."""
    return flat[net[layer + SLOPE]] if net[layer + ACTIVATION] == PRELU else float_of(net[layer + SLOPE])


@jit
def activate(kind, z, at, n, slope, h):
    """``h = f(z)`` in work arrays, which have room for whole vectors, from ``at`` on."""
    if kind == TANH:
        for o in range(at, at + n, 8):
            store(h, o, tanh(load(z, o)))
    elif kind == ELU:
        for o in range(at, at + n):
            h[o] = z[o] if z[o] > 0 else slope * np.float32(math.expm1(z[o]))
    else:
        p = splat(slope)
        for o in range(at, at + n, 8):
            v = load(z, o)
            store(h, o, where_positive(v, v, mul(v, p)))


@jit
def forward(flat, net, n_layers, x, x_at, z, h):
    """The first layers on one input: layer l leaves its output at ``l * stride`` of z, activated in h."""
    layer, stride = FIRST, net[STRIDE]
    for i in range(n_layers):
        n_out, kind = net[layer + N_OUT], net[layer + ACTIVATION]
        at = i * stride
        if i == 0:
            affine(flat, net[layer + WEIGHTS], net[layer + BIAS], n_out, net[layer + N_IN], x, x_at, z, at)
        else:
            affine(flat, net[layer + WEIGHTS], net[layer + BIAS], n_out, net[layer + N_IN], h, at - stride, z, at)
        if kind != LINEAR:
            activate(kind, z, at, n_out, slope_of(flat, net, layer), h)
        layer += PER_LAYER


@jit
def copy(source, source_at, n, to, to_at):
    """Copy n numbers; an assignment of slices takes two seconds to compile, for its error message."""
    for k in range(n):
        to[to_at + k] = source[source_at + k]


@jit
def embed_pair(flat, net, state, action, x):
    """The input of an ACTION_IN network: the embedding of a state, and behind it that of an action."""
    width = net[WIDTH]
    copy(flat, state * width, width, x, 0)
    copy(flat, (net[ACTION_ROW] + action) * width, width, x, width)


@jit
def make_input(flat, net, codes, numbers, row, x, at):
    """Write the vector of an observation, made of its parts, to x from ``at`` on."""
    width, part = net[WIDTH], net[PARTS]
    for _ in range(net[N_PARTS]):
        kind, source, n, place = net[part + PART_KIND], net[part + SOURCE], net[part + N_VALUES], at + net[part + PLACE]
        if kind == EMBEDDED:
            copy(flat, (net[part + ROW] + codes[row, source]) * width, width, x, place)
        elif kind == ONE_HOT:
            for k in range(place, place + n):
                x[k] = np.float32(0.0)
            x[place + codes[row, source]] = np.float32(1.0)
        else:
            for k in range(n):
                x[place + k] = numbers[row, source + k]
        part += PER_PART


@jit
def embed_action(flat, net, action, x, at):
    """Write the embedding of an action behind the vector of an observation that stands from ``at`` on."""
    width = net[WIDTH]
    copy(flat, (net[ACTION_ROW] + action) * width, width, x, at + net[FIRST + N_IN] - width)


@jit
def action_values(flat, net, state, x, z, h, out, out_at):
    """
    The values of all actions in a state, by a network that embeds states.

    :param flat: The network.
    :param net: Where it has what; its kind is not PARTS_IN.
    :param state: From 0.
    :param x, z, h: Work arrays.
    :param out: Takes the values from ``out_at`` on.
    """
    n_actions, width = net[N_ACTIONS], net[WIDTH]
    last = (net[N_LAYERS] - 1) * net[STRIDE]
    if net[KIND] == TABLE:
        copy(flat, state * n_actions, n_actions, out, out_at)
    elif net[KIND] == STATE_IN:
        forward(flat, net, net[N_LAYERS], flat, state * width, z, h)
        copy(z, last, n_actions, out, out_at)
    else:
        for action in range(n_actions):
            embed_pair(flat, net, state, action, x)
            forward(flat, net, net[N_LAYERS], x, 0, z, h)
            out[out_at + action] = z[last]


@jit
def values_of(flat, net, codes, numbers, row, x, z, h, out):
    """
    The values of all actions for one observation; with quantiles, their means.

    :param codes, numbers: Observations; this is number ``row``.
    :param out: Takes the values.
    """
    n_actions, n_quantiles = net[N_ACTIONS], net[N_QUANTILES]
    last = (net[N_LAYERS] - 1) * net[STRIDE]
    if net[KIND] == TABLE:
        copy(flat, codes[row, 0] * n_actions, n_actions, out, 0)
        return
    make_input(flat, net, codes, numbers, row, x, 0)
    if net[ACTION_ROW] >= 0:
        for action in range(n_actions):
            embed_action(flat, net, action, x, 0)
            forward(flat, net, net[N_LAYERS], x, 0, z, h)
            out[action] = z[last]
        return
    forward(flat, net, net[N_LAYERS], x, 0, z, h)
    if n_quantiles == 1:
        copy(z, last, n_actions, out, 0)
    else:
        means(z, last, n_actions, n_quantiles, out)


@jit
def means(quantiles, at, n_actions, n_quantiles, out):
    """The mean quantile of every action."""
    for a in range(n_actions):
        out[a] = np.float32(0.0)
    for k in range(n_quantiles):
        for a in range(n_actions):
            out[a] += quantiles[at + k * n_actions + a]
    for a in range(n_actions):
        out[a] /= np.float32(n_quantiles)


@jit
def best_allowed(values, at, n_actions, masks, row, word):
    """
    The first valid action of highest value.

    :param values: Values of the actions from ``at`` on.
    :param masks: int64 words: action a is valid if bit ``a % 64`` of ``masks[row, word + a // 64]`` is set. With no
        columns from ``word`` on, all are.
    """
    best = 0
    if masks.shape[1] <= word:
        for a in range(1, n_actions):
            if values[at + a] > values[at + best]:
                best = a
        return best
    best = -1
    for a in range(n_actions):
        allowed = (masks[row, word + a // 64] >> (a % 64)) & 1
        if allowed and (best < 0 or values[at + a] > values[at + best]):
            best = a
    return best


@jit
def is_known(net, codes, row):
    """Whether an observation has only codes that the network has."""
    part = net[PARTS]
    for _ in range(net[N_PARTS]):
        if net[part + PART_KIND] != NUMBERS and not 0 <= codes[row, net[part + SOURCE]] < net[part + N_VALUES]:
            return False
        part += PER_PART
    return True


@entry
def greedy_actions(flat, net, codes, numbers, masks, work, actions):
    """
    The actions of highest value, the first of them where several are.

    :param flat: The network.
    :param net: Where it has what.
    :param codes, numbers: Observations, int64 of shape (n, codes) and float32 of shape (n, numbers).
    :param masks: Valid actions as in :func:`best_allowed`, of shape (n, words); (n, 0) for all.
    :param work: float32 of shape (4, room) or more.
    :param actions: int64 of shape (n,), takes the result.
    :return: -1, or which observation has a code that the network has not; the actions from there on are not written
        then.
    """
    x, z, h, values = work[0], work[1], work[2], work[3]
    for i in range(codes.shape[0]):
        if not is_known(net, codes, i):
            return i
        values_of(flat, net, codes, numbers, i, x, z, h, values)
        actions[i] = best_allowed(values, 0, net[N_ACTIONS], masks, i, 0)
    return -1


# ---------------------------------------------------------------------------------------- many inputs


@jit
def product(a, a_at, a_row, a_column, n_rows, n_terms, x, x_at, x_row, n_columns, bias_at, out, out_at, out_row):
    """
    ``out = A @ X``, or ``bias + A @ X``, with six rows and sixteen columns of the result in registers.

    Each number of the result is one sum from the first term to the last, whatever stands around it.

    :param a: A in a flat array, its number (r, t) at ``a_at + r * a_row + t * a_column``.
    :param x: X, (t, c) at ``x_at + t * x_row + c``.
    :param bias_at: Where in ``a`` the sums begin, one number for each row; -1 for 0.
    :param out: Takes the result, (r, c) at ``out_at + r * out_row + c``.
    """
    last = n_rows - 1
    for r in range(0, n_rows, 6):
        r1, r2, r3, r4, r5 = min(r + 1, last), min(r + 2, last), min(r + 3, last), min(r + 4, last), min(r + 5, last)
        a0, a1, a2 = a_at + r * a_row, a_at + r1 * a_row, a_at + r2 * a_row
        a3, a4, a5 = a_at + r3 * a_row, a_at + r4 * a_row, a_at + r5 * a_row
        o0, o1, o2 = out_at + r * out_row, out_at + r1 * out_row, out_at + r2 * out_row
        o3, o4, o5 = out_at + r3 * out_row, out_at + r4 * out_row, out_at + r5 * out_row
        b0 = b1 = b2 = b3 = b4 = b5 = np.float32(0.0)
        if bias_at >= 0:
            b0, b1, b2 = a[bias_at + r], a[bias_at + r1], a[bias_at + r2]
            b3, b4, b5 = a[bias_at + r3], a[bias_at + r4], a[bias_at + r5]
        c = 0
        while c + 16 <= n_columns:
            w0, w1, w2 = wide_splat(b0), wide_splat(b1), wide_splat(b2)
            w3, w4, w5 = wide_splat(b3), wide_splat(b4), wide_splat(b5)
            x_here, a_here = x_at + c, 0
            for _ in range(n_terms):
                w = wide_load(x, x_here)
                w0 = wide_fma_at(a, a0 + a_here, w, w0)
                w1 = wide_fma_at(a, a1 + a_here, w, w1)
                w2 = wide_fma_at(a, a2 + a_here, w, w2)
                w3 = wide_fma_at(a, a3 + a_here, w, w3)
                w4 = wide_fma_at(a, a4 + a_here, w, w4)
                w5 = wide_fma_at(a, a5 + a_here, w, w5)
                x_here += x_row
                a_here += a_column
            wide_store(out, o0 + c, w0)
            wide_store(out, o1 + c, w1)
            wide_store(out, o2 + c, w2)
            wide_store(out, o3 + c, w3)
            wide_store(out, o4 + c, w4)
            wide_store(out, o5 + c, w5)
            c += 16
        while c < n_columns:
            n = min(n_columns - c, 8)
            s0, s1, s2, s3, s4, s5 = splat(b0), splat(b1), splat(b2), splat(b3), splat(b4), splat(b5)
            x_here, a_here = x_at + c, 0
            for _ in range(n_terms):
                v = load_first(x, x_here, n)
                s0 = fma(splat_at(a, a0 + a_here), v, s0)
                s1 = fma(splat_at(a, a1 + a_here), v, s1)
                s2 = fma(splat_at(a, a2 + a_here), v, s2)
                s3 = fma(splat_at(a, a3 + a_here), v, s3)
                s4 = fma(splat_at(a, a4 + a_here), v, s4)
                s5 = fma(splat_at(a, a5 + a_here), v, s5)
                x_here += x_row
                a_here += a_column
            store_first(out, o0 + c, s0, n)
            store_first(out, o1 + c, s1, n)
            store_first(out, o2 + c, s2, n)
            store_first(out, o3 + c, s3, n)
            store_first(out, o4 + c, s4, n)
            store_first(out, o5 + c, s5, n)
            c += 8


@jit
def transpose(a, a_at, a_row, n_rows, n_columns, out, out_at, out_row):
    """``out = A.T``; it writes whole vectors, so there has to be room for rows and columns in multiples of eight."""
    for r in range(0, n_rows, 8):
        for c in range(0, n_columns, 8):
            at = a_at + r * a_row + c
            store_transposed(
                out,
                out_at + c * out_row + r,
                out_row,
                load(a, at),
                load(a, at + a_row),
                load(a, at + 2 * a_row),
                load(a, at + 3 * a_row),
                load(a, at + 4 * a_row),
                load(a, at + 5 * a_row),
                load(a, at + 6 * a_row),
                load(a, at + 7 * a_row),
            )


@jit
def gather(flat, net, codes, numbers, actions, n, n_rows, x, x_row):
    """
    Make the inputs of n observations, or of n pairs of an observation and an action.

    :param actions: Those of the pairs; without entries, there are pairs with all actions of every observation, if the
        network takes actions.
    :param x: Takes the inputs, row i from ``i * x_row`` on; those up to ``n_rows`` are made 0.
    """
    n_each = net[N_ACTIONS] if net[ACTION_ROW] >= 0 and actions.shape[0] == 0 else 1
    for i in range(n):
        make_input(flat, net, codes, numbers, i // n_each, x, i * x_row)
        if net[ACTION_ROW] >= 0:
            embed_action(flat, net, i % n_each if actions.shape[0] == 0 else actions[i], x, i * x_row)
    for at in range(n * x_row, n_rows * x_row):
        x[at] = np.float32(0.0)


@jit
def forward_columns(flat, net, x_t, columns, z, h):
    """
    The layers on many inputs, one in each column.

    :param x_t: The inputs, (n_in, columns).
    :param columns: A multiple of 16.
    :param z, h: Take what layer l computes from ``l * stride * columns`` on, (n_out, columns).
    """
    layer, stride = FIRST, net[STRIDE] * columns
    for i in range(net[N_LAYERS]):
        n_out, n_in, w_at = net[layer + N_OUT], net[layer + N_IN], net[layer + WEIGHTS]
        b_at, at, kind = net[layer + BIAS], i * stride, net[layer + ACTIVATION]
        if i == 0:
            product(flat, w_at, n_in, 1, n_out, n_in, x_t, 0, columns, columns, b_at, z, at, columns)
        else:
            product(flat, w_at, n_in, 1, n_out, n_in, h, at - stride, columns, columns, b_at, z, at, columns)
        if kind != LINEAR:
            activate(kind, z, at, n_out * columns, slope_of(flat, net, layer), h)
        layer += PER_LAYER
