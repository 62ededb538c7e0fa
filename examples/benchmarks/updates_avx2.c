// The lecture's update by hand for AVX2 and FMA: plain SGD on one transition of Taxi, all parameters in one array in
// PyTorch's order. What the target is worth in a state is kept until the caller forgets it.
#include <immintrin.h>
#include <stdint.h>

enum { STATES = 500, IN = 64, HIDDEN1 = 64, HIDDEN2 = 32, ACTIONS = 6, UPDATES = 5 };
enum {
    W1 = STATES * IN, B1 = W1 + HIDDEN1 * IN, SLOPE1 = B1 + HIDDEN1,
    W2 = SLOPE1 + 1, B2 = W2 + HIDDEN2 * HIDDEN1, SLOPE2 = B2 + HIDDEN2,
    W3 = SLOPE2 + 1, B3 = W3 + ACTIONS * HIDDEN2
};

#define INLINE static inline __attribute__((always_inline))
typedef __m256 v8;

INLINE v8 load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void store(float *p, v8 v) { _mm256_storeu_ps(p, v); }
INLINE v8 all(float x) { return _mm256_set1_ps(x); }
INLINE v8 zero(void) { return _mm256_setzero_ps(); }
INLINE v8 positive(v8 v) { return _mm256_cmp_ps(v, zero(), _CMP_GT_OQ); }

INLINE float sum(v8 v) {
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// The sums of eight vectors, one in each lane.
INLINE v8 sums(const v8 s[8]) {
    v8 low = _mm256_hadd_ps(_mm256_hadd_ps(s[0], s[1]), _mm256_hadd_ps(s[2], s[3]));
    v8 high = _mm256_hadd_ps(_mm256_hadd_ps(s[4], s[5]), _mm256_hadd_ps(s[6], s[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31));
}

// z = w x + b, h = PReLU(z), eight rows at a time
INLINE void layer(const float *w, const float *b, float slope, const float *x, int n_in, int n_out, float *z, float *h) {
    for (int o = 0; o < n_out; o += 8, w += 8 * n_in) {
        v8 s[8];
        for (int r = 0; r < 8; r++) s[r] = zero();
        for (int k = 0; k < n_in; k += 8) {
            v8 v = load(x + k);
            for (int r = 0; r < 8; r++) s[r] = _mm256_fmadd_ps(load(w + r * n_in + k), v, s[r]);
        }
        v8 out = _mm256_add_ps(sums(s), load(b + o));
        store(z + o, out);
        store(h + o, _mm256_blendv_ps(_mm256_mul_ps(out, all(slope)), out, positive(out)));
    }
}

INLINE float dot(const float *a, const float *b, int n) {
    v8 s = zero();
    for (int k = 0; k < n; k += 8) s = _mm256_fmadd_ps(load(a + k), load(b + k), s);
    return sum(s);
}

INLINE void subtract(float *w, float scale, const float *x, int n) {
    for (int k = 0; k < n; k += 8) store(w + k, _mm256_fnmadd_ps(all(scale), load(x + k), load(w + k)));
}

// A step on a PReLU and the bias under it; d, the gradient in its output, becomes that in its input.
INLINE void prelu_step(float *slope, float *b, const float *z, float *d, int n, float lr) {
    v8 change = zero(), p = all(*slope);
    for (int o = 0; o < n; o += 8) {
        v8 input = load(z + o), g = load(d + o), is_positive = positive(input);
        change = _mm256_add_ps(change, _mm256_andnot_ps(is_positive, _mm256_mul_ps(g, input)));
        g = _mm256_blendv_ps(_mm256_mul_ps(g, p), g, is_positive);
        store(d + o, g);
        store(b + o, _mm256_fnmadd_ps(all(lr), g, load(b + o)));
    }
    *slope -= lr * sum(change);
}

// A step on the weights of a layer, whose gradient in x, before the step, goes to dx: 32 columns at a time, all rows
INLINE void weights_step(float *w, const float *d, const float *x, float *dx, int n_in, int n_out, float lr) {
    for (int k = 0; k < n_in; k += 32) {
        v8 sum_of[4], input[4];
        for (int c = 0; c < 4; c++) sum_of[c] = zero(), input[c] = load(x + k + 8 * c);
        for (int o = 0; o < n_out; o++) {
            float *row = w + o * n_in + k;
            v8 g = all(d[o]), step = all(lr * d[o]);
            for (int c = 0; c < 4; c++) {
                v8 old = load(row + 8 * c);
                sum_of[c] = _mm256_fmadd_ps(g, old, sum_of[c]);
                store(row + 8 * c, _mm256_fnmadd_ps(step, input[c], old));
            }
        }
        for (int c = 0; c < 4; c++) store(dx + k + 8 * c, sum_of[c]);
    }
}

static float best_value(const float *net, int64_t state) {
    float z1[HIDDEN1], h1[HIDDEN1], z2[HIDDEN2], h2[HIDDEN2], best = -1e30f;
    layer(net + W1, net + B1, net[SLOPE1], net + state * IN, IN, HIDDEN1, z1, h1);
    layer(net + W2, net + B2, net[SLOPE2], h1, HIDDEN1, HIDDEN2, z2, h2);
    for (int a = 0; a < ACTIONS; a++) {
        float value = dot(net + W3 + a * HIDDEN2, h2, HIDDEN2) + net[B3 + a];
        best = value > best ? value : best;
    }
    return best;
}

static void update(float *net, const float *target, float *kept, uint8_t *known, const int64_t *row, float gamma,
                   float lr) {
    int64_t state = row[0], next_state = row[1], action = row[2];
    const float *reward_and_end = (const float *)(row + 3);
    if (!known[next_state]) kept[next_state] = best_value(target, next_state), known[next_state] = 1;
    float y = reward_and_end[0] + (1 - reward_and_end[1]) * gamma * kept[next_state];

    float z1[HIDDEN1], h1[HIDDEN1], d1[HIDDEN1], z2[HIDDEN2], h2[HIDDEN2], d2[HIDDEN2], dx[IN];
    float *x = net + state * IN, *w = net + W3 + action * HIDDEN2;
    layer(net + W1, net + B1, net[SLOPE1], x, IN, HIDDEN1, z1, h1);
    layer(net + W2, net + B2, net[SLOPE2], h1, HIDDEN1, HIDDEN2, z2, h2);
    float slope = 2 * (dot(w, h2, HIDDEN2) + net[B3 + action] - y);

    for (int k = 0; k < HIDDEN2; k += 8) store(d2 + k, _mm256_mul_ps(all(slope), load(w + k)));
    subtract(w, lr * slope, h2, HIDDEN2);
    net[B3 + action] -= lr * slope;
    prelu_step(net + SLOPE2, net + B2, z2, d2, HIDDEN2, lr);
    weights_step(net + W2, d2, h1, d1, HIDDEN1, HIDDEN2, lr);
    prelu_step(net + SLOPE1, net + B1, z1, d1, HIDDEN1, lr);
    weights_step(net + W1, d1, x, dx, IN, HIDDEN1, lr);
    subtract(x, lr, dx, IN);
}

// Five updates for each row of `positions`; `memory` has rows of four words: state, next state, action, and reward and
// end as two floats.
void train(float *net, const float *target, float *kept, uint8_t *known, const int64_t *memory,
           const int64_t *positions, int64_t n, float gamma, float lr) {
    for (int64_t i = 0; i < n * UPDATES; i++) update(net, target, kept, known, memory + 4 * positions[i], gamma, lr);
}
