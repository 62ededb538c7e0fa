// The updates of engines.py in plain C++: Embedding(500, 64), Linear(64, 64), PReLU, Linear(64, 32), PReLU,
// Linear(32, 6), all parameters in one array in PyTorch's order.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace {
constexpr int S = 500, D = 64, H1 = 64, H2 = 32, A = 6;
constexpr int W1 = S * D, B1 = W1 + H1 * D, P1 = B1 + H1, W2 = P1 + 1, B2 = W2 + H2 * H1, P2 = B2 + H2, W3 = P2 + 1,
              B3 = W3 + A * H2, SIZE = B3 + A;
constexpr float LR = 1e-3f, MAX_NORM = 10.f;
constexpr double BETA1 = 0.9, BETA2 = 0.999, EPS = 1e-8;

struct Pass {
    float z1[H1], h1[H1], z2[H2], h2[H2], q[A];
};

template <int OUT, int IN>
void affine(const float* __restrict w, const float* __restrict b, const float* __restrict x, float* __restrict out) {
    for (int o = 0; o < OUT; o++) {
        float sum = 0;
        for (int k = 0; k < IN; k++) sum += w[o * IN + k] * x[k];
        out[o] = sum + b[o];
    }
}

template <int N> void prelu(const float* __restrict z, float p, float* __restrict h) {
    for (int o = 0; o < N; o++) h[o] = z[o] > 0 ? z[o] : p * z[o];
}

void forward(const float* w, int64_t state, Pass& f) {
    affine<H1, D>(w + W1, w + B1, w + state * D, f.z1);
    prelu<H1>(f.z1, w[P1], f.h1);
    affine<H2, H1>(w + W2, w + B2, f.h1, f.z2);
    prelu<H2>(f.z2, w[P2], f.h2);
    affine<A, H2>(w + W3, w + B3, f.h2, f.q);
}

// Gradients of a layer and of its input, of which the first is added up and the second is written.
template <int OUT, int IN>
void affine_backward(const float* __restrict w, const float* __restrict x, const float* __restrict dz,
                     float* __restrict gw, float* __restrict gb, float* __restrict dx) {
    std::fill(dx, dx + IN, 0.f);
    for (int o = 0; o < OUT; o++) {
        for (int k = 0; k < IN; k++) {
            dx[k] += dz[o] * w[o * IN + k];
            gw[o * IN + k] += dz[o] * x[k];
        }
        gb[o] += dz[o];
    }
}

template <int N> void prelu_backward(const float* __restrict z, float p, float* __restrict dh, float* gp) {
    float sum = 0;
    for (int o = 0; o < N; o++) {
        sum += z[o] > 0 ? 0.f : dh[o] * z[o];
        dh[o] *= z[o] > 0 ? 1.f : p;
    }
    *gp += sum;
}
}  // namespace

// Updates by Adam on Huber's loss, or by SGD on the squared error; the gradient is 0 on entry and exit.
extern "C" void train(float* w, const float* target, float* g, float* m, float* v, const int64_t* states,
                      const int64_t* actions, const int64_t* next_states, const float* rewards, const float* discounts,
                      int updates, int batch, int adam, int done) {
    for (int u = 0; u < updates; u++) {
        const int64_t* s = states + u * batch;
        for (int i = 0; i < batch; i++) {
            const int at = u * batch + i;
            const int64_t action = actions[at];
            Pass f, next;
            forward(target, next_states[at], next);
            forward(w, s[i], f);
            const float error = f.q[action] - rewards[at] - discounts[at] * *std::max_element(next.q, next.q + A);
            const float slope = (adam ? std::clamp(error, -1.f, 1.f) : 2 * error) / batch;
            float dh2[H2], dh1[H1], dx[D];
            affine_backward<1, H2>(w + W3 + action * H2, f.h2, &slope, g + W3 + action * H2, g + B3 + action, dh2);
            prelu_backward<H2>(f.z2, w[P2], dh2, g + P2);
            affine_backward<H2, H1>(w + W2, f.h1, dh2, g + W2, g + B2, dh1);
            prelu_backward<H1>(f.z1, w[P1], dh1, g + P1);
            affine_backward<H1, D>(w + W1, w + s[i] * D, dh1, g + W1, g + B1, dx);
            for (int k = 0; k < D; k++) g[s[i] * D + k] += dx[k];
        }
        if (!adam) {
            auto descend = [&](int from, int to) {
                for (int i = from; i < to; i++) w[i] -= LR * g[i], g[i] = 0;
            };
            for (int i = 0; i < batch; i++) descend(s[i] * D, (s[i] + 1) * D);
            descend(W1, SIZE);
            continue;
        }
        float squares = 0;
        for (int i = 0; i < SIZE; i++) squares += g[i] * g[i];
        const float scale = std::min(1.f, MAX_NORM / (std::sqrt(squares) + 1e-6f));
        const float size = LR / (1 - std::pow(BETA1, done + u + 1));
        const float root = 1 / std::sqrt(1 - std::pow(BETA2, done + u + 1));
        const float take1 = 1 - BETA1, keep2 = BETA2, take2 = 1 - BETA2, eps = EPS;
        for (int i = 0; i < SIZE; i++) {
            const float d = scale * g[i];
            m[i] += take1 * (d - m[i]);
            v[i] = keep2 * v[i] + take2 * d * d;
            w[i] -= size * m[i] / (std::sqrt(v[i]) * root + eps);
            g[i] = 0;
        }
    }
}
