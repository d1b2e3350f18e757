// softmax(scale * x + bias + mask) over rows of k scores of (G, M, N, K), and its gradient.
#include "common.cuh"

// Row r belongs to query r % n, head r / n % m, group r / (n m). bias (M, N, K) and mask (W, NM, K) are f32 or null.
struct Terms { const float *bias, *mask; int k, n, m, w, nm, first; float scale; };

__device__ __forceinline__ void rows_of(const Terms &t, u64 r, const float *&b, const float *&a) {
  uint32_t query, head;
  u64 group = div_of(div_of(r, t.n, query), t.m, head);
  b = t.bias ? t.bias + ((u64)head * t.n + query) * t.k : nullptr;
  a = t.mask ? t.mask + (u64)(rest_of(group + t.first, t.w) * t.nm + query % t.nm) * t.k : nullptr;
}
__device__ __forceinline__ float score(float x, const Terms &t, const float *b, const float *a, int i) {
  float v = x * t.scale;
  if (b) v += b[i];
  if (a) v += a[i];
  return v;
}

// One warp a row, V scores a lane in registers: k <= 32 V. Blocks of (32, rows).
template <class T, int V> __device__ void forward_warp(T *y, const T *x, u64 rows, const Terms &t) {
  u64 r = (u64)blockIdx.x * blockDim.y + threadIdx.y;
  if (r >= rows) return;
  const float *b, *a;
  rows_of(t, r, b, a);
  const T *xr = x + r * t.k;
  float v[V], most = -INFINITY, sum = 0.f;
#pragma unroll
  for (int j = 0; j < V; j++) {
    int i = j * 32 + threadIdx.x;
    v[j] = i < t.k ? score(up(xr[i]), t, b, a, i) : -INFINITY;
    most = fmaxf(most, v[j]);
  }
  most = warp_max(most);
#pragma unroll
  for (int j = 0; j < V; j++) {
    int i = j * 32 + threadIdx.x;
    v[j] = i < t.k ? expf(v[j] - most) : 0.f;
    sum += v[j];
  }
  float inv = 1.f / warp_sum(sum);
#pragma unroll
  for (int j = 0; j < V; j++) {
    int i = j * 32 + threadIdx.x;
    if (i < t.k) y[r * t.k + i] = down<T>(v[j] * inv);
  }
}
// One block a row, any k; a row of up to HELD scores is read once and held in shared memory.
#define HELD 8192
template <class T> __device__ void forward_block(T *y, const T *x, const Terms &t) {
  extern __shared__ float held[];
  u64 r = blockIdx.x;
  const float *b, *a;
  rows_of(t, r, b, a);
  const T *xr = x + r * t.k;
  bool hold = t.k <= HELD;
  float most = -INFINITY, sum = 0.f;
  for (int i = threadIdx.x; i < t.k; i += blockDim.x) {
    float v = score(up(xr[i]), t, b, a, i);
    if (hold) held[i] = v;
    most = fmaxf(most, v);
  }
  most = block_max(most);
  for (int i = threadIdx.x; i < t.k; i += blockDim.x) {
    float e = expf((hold ? held[i] : score(up(xr[i]), t, b, a, i)) - most);
    if (hold) held[i] = e;
    sum += e;
  }
  float inv = 1.f / block_sum(sum);
  for (int i = threadIdx.x; i < t.k; i += blockDim.x)
    y[r * t.k + i] = down<T>((hold ? held[i] : expf(score(up(xr[i]), t, b, a, i) - most)) * inv);
}
// dx = scale * y (g - g.y)
template <class T, int V> __device__ void backward_warp(T *dx, const T *y, const T *g, u64 rows, int k, float scale) {
  u64 r = (u64)blockIdx.x * blockDim.y + threadIdx.y;
  if (r >= rows) return;
  float vy[V], vg[V], dot = 0.f;
#pragma unroll
  for (int j = 0; j < V; j++) {
    int i = j * 32 + threadIdx.x;
    vy[j] = i < k ? up(y[r * k + i]) : 0.f;
    vg[j] = i < k ? up(g[r * k + i]) : 0.f;
    dot += vy[j] * vg[j];
  }
  dot = warp_sum(dot);
#pragma unroll
  for (int j = 0; j < V; j++) {
    int i = j * 32 + threadIdx.x;
    if (i < k) dx[r * k + i] = down<T>(scale * vy[j] * (vg[j] - dot));
  }
}
template <class T> __device__ void backward_block(T *dx, const T *y, const T *g, int k, float scale) {
  u64 at = (u64)blockIdx.x * k;
  float dot = 0.f;
  for (int i = threadIdx.x; i < k; i += blockDim.x) dot += up(y[at + i]) * up(g[at + i]);
  dot = block_sum(dot);
  for (int i = threadIdx.x; i < k; i += blockDim.x)
    dx[at + i] = down<T>(scale * up(y[at + i]) * (up(g[at + i]) - dot));
}

// Long rows of attention: one block of 256 a row of up to 4096 scores, a multiple of four, held in registers. `kept` gets the
// weights, `used` what dropout leaves of them (the same where there is none); either may be null.
struct Drop { Key key; uint32_t threshold; float scale; u64 start; };
#define QUADS 4
template <class T> __device__ void long_rows(T *kept, T *used, const T *x, const Terms &t, const Drop &d) {
  u64 r = blockIdx.x, at = r * t.k;
  const float *b, *a;
  rows_of(t, r, b, a);
  int quads = t.k / 4;
  float v[QUADS][4], most = -INFINITY, sum = 0.f;
#pragma unroll
  for (int q = 0; q < QUADS; q++) {
    int i = q * 256 + threadIdx.x;
    if (i < quads) {
      Four<T> p = ((const Four<T> *)(x + at))[i];
#pragma unroll
      for (int j = 0; j < 4; j++) v[q][j] = score(up(p.v[j]), t, b, a, i * 4 + j), most = fmaxf(most, v[q][j]);
    }
  }
  most = block_max(most);
#pragma unroll
  for (int q = 0; q < QUADS; q++)
    if (q * 256 + threadIdx.x < quads)
#pragma unroll
      for (int j = 0; j < 4; j++) v[q][j] = expf(v[q][j] - most), sum += v[q][j];
  float inv = 1.f / block_sum(sum);
#pragma unroll
  for (int q = 0; q < QUADS; q++) {
    int i = q * 256 + threadIdx.x;
    if (i >= quads) continue;
    Four<T> p;
#pragma unroll
    for (int j = 0; j < 4; j++) p.v[j] = down<T>(v[q][j] * inv);
    if (kept) ((Four<T> *)(kept + at))[i] = p;
    if (!used) continue;
    if (d.threshold) {
      u64 block = (d.start + at) / 4 + i;
      uint32_t c[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0u, 0u};
      philox(c, d.key.k0, d.key.k1);
#pragma unroll
      for (int j = 0; j < 4; j++) p.v[j] = down<T>(c[j] < d.threshold ? 0.f : up(p.v[j]) * d.scale);
    }
    ((Four<T> *)(used + at))[i] = p;
  }
}
// dx = scale * y (g' - g'.y), where g' is what dropout lets through of g
template <class T> __device__ void long_rows_back(T *dx, const T *y, const T *g, int k, float scale, const Drop &d) {
  u64 at = (u64)blockIdx.x * k;
  int quads = k / 4;
  float vy[QUADS][4], vg[QUADS][4], dot = 0.f;
#pragma unroll
  for (int q = 0; q < QUADS; q++) {
    int i = q * 256 + threadIdx.x;
    if (i >= quads) continue;
    Four<T> p = ((const Four<T> *)(y + at))[i], e = ((const Four<T> *)(g + at))[i];
    uint32_t c[4] = {0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu};
    if (d.threshold) {
      u64 block = (d.start + at) / 4 + i;
      c[0] = (uint32_t)block, c[1] = (uint32_t)(block >> 32), c[2] = 0u, c[3] = 0u;
      philox(c, d.key.k0, d.key.k1);
    }
    float s = d.threshold ? d.scale : 1.f;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      vy[q][j] = up(p.v[j]), vg[q][j] = c[j] < d.threshold ? 0.f : up(e.v[j]) * s;
      dot += vy[q][j] * vg[q][j];
    }
  }
  dot = block_sum(dot);
#pragma unroll
  for (int q = 0; q < QUADS; q++) {
    int i = q * 256 + threadIdx.x;
    if (i >= quads) continue;
    Four<T> p;
#pragma unroll
    for (int j = 0; j < 4; j++) p.v[j] = down<T>(scale * vy[q][j] * (vg[q][j] - dot));
    ((Four<T> *)(dx + at))[i] = p;
  }
}

#define WARPS(T, S, V)                                                                                              \
  extern "C" __global__ void softmax_warp##V##_##S(T *y, const T *x, u64 rows, const float *bias, const float *mask, \
                                                   int k, int n, int m, int w, int nm, int first, float scale) {                \
    forward_warp<T, V>(y, x, rows, Terms{bias, mask, k, n, m, w, nm, first, scale});                                        \
  }                                                                                                                  \
  extern "C" __global__ void softmax_back_warp##V##_##S(T *dx, const T *y, const T *g, u64 rows, int k, float scale) { \
    backward_warp<T, V>(dx, y, g, rows, k, scale);                                                                   \
  }
#define EXPORT(T, S)                                                                                                 \
  WARPS(T, S, 1) WARPS(T, S, 5) WARPS(T, S, 32)                                                                      \
  extern "C" __global__ void long_##S(T *kept, T *used, const T *x, const float *bias, const float *mask, int k,     \
                                      int n, int m, int w, int nm, int first, float scale, uint32_t k0, uint32_t k1, \
                                      const uint32_t *key, uint32_t threshold, float keep, u64 start) {              \
    long_rows<T>(kept, used, x, Terms{bias, mask, k, n, m, w, nm, first, scale}, \
                 Drop{Key(k0, k1, key), threshold, keep, start}); \
  }                                                                                                                  \
  extern "C" __global__ void long_back_##S(T *dx, const T *y, const T *g, int k, float scale, uint32_t k0,           \
                                           uint32_t k1, const uint32_t *key, uint32_t threshold, float keep, \
                                           u64 start) {                                                              \
    long_rows_back<T>(dx, y, g, k, scale, Drop{Key(k0, k1, key), threshold, keep, start});                                     \
  }                                                                                                                  \
  extern "C" __global__ void softmax_block_##S(T *y, const T *x, u64 rows, const float *bias, const float *mask,     \
                                               int k, int n, int m, int w, int nm, int first, float scale) {                    \
    forward_block<T>(y, x, Terms{bias, mask, k, n, m, w, nm, first, scale});                                                \
  }                                                                                                                  \
  extern "C" __global__ void softmax_back_block_##S(T *dx, const T *y, const T *g, u64 rows, int k, float scale) {   \
    backward_block<T>(dx, y, g, k, scale);                                                                           \
  }
EXPORT(float, f32)
EXPORT(bf16, bf16)
