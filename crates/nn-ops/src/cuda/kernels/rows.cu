// Rows and heads put into another order: windows of a map, heads of a projection, tokens and channels exchanged.
#include "common.cuh"

#define NONE 0xffffffffu

// y[b][i] = x[b][take[i]], or the filling (f32 or null: zeros). V elements at a time, c divides by V.
template <class T, class P, int V>
__device__ void take_of(T *y, const T *x, const uint32_t *take, const float *fill, u64 total, int n, int rows, int c) {
  int parts = c / V;
  EACH(total / V) {
    uint32_t p, place;
    u64 row = div_of(i, parts, p), image = div_of(row, n, place);
    uint32_t from = take[place];
    P v;
    if (from != NONE) {
      v = ((const P *)x)[(image * rows + from) * parts + p];
    } else {
      T *e = (T *)&v;
      for (int j = 0; j < V; j++) e[j] = down<T>(fill ? fill[p * V + j] : 0.f);
    }
    ((P *)y)[i] = v;
  }
}
// Heads out of a projection: y[g][m][i][j] = x[g][i][(part m + m) d + j]; and back. wide = parts * heads * d.
template <class T, class P, int V>
__device__ void heads_of(T *y, const T *x, u64 total, int n, int m, int d, int wide, int offset, bool back) {
  int dv = d / V;
  EACH(total / V) {
    uint32_t j, row, head;
    u64 r = div_of(i, dv, j), gm = div_of(r, n, row), g = div_of(gm, m, head);
    u64 at = (((g * n + row) * wide) + offset + head * d) / V + j;
    if (back) ((P *)y)[at] = ((const P *)x)[i];
    else ((P *)y)[i] = ((const P *)x)[at];
  }
}
// (B, n, c) to (B, c, n); blocks of (32, 8), grid (c / 32, n / 32, B)
template <class T> __device__ void turn_of(T *y, const T *x, int n, int c) {
  __shared__ T tile[32][33];
  u64 base = (u64)blockIdx.z * n * c;
  int col = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 32 + threadIdx.y;
  for (int k = 0; k < 32; k += 8)
    if (col < c && row + k < n) tile[threadIdx.y + k][threadIdx.x] = x[base + (u64)(row + k) * c + col];
  __syncthreads();
  int to = blockIdx.y * 32 + threadIdx.x, from = blockIdx.x * 32 + threadIdx.y;
  for (int k = 0; k < 32; k += 8)
    if (to < n && from + k < c) y[base + (u64)(from + k) * n + to] = tile[threadIdx.x][threadIdx.y + k];
}
// y[b][i][q k + j] = x[b][i + j - k / 2][q], the first and the last of the n tokens repeated beyond the ends.
template <class T> __device__ void text_windows_of(T *y, const T *x, u64 total, int n, int c, int k) {
  EACH(total) {
    uint32_t j, q, t;
    u64 row = div_of(div_of(i, k, j), c, q), sample = div_of(row, n, t);
    int from = min(max((int)(t + j) - k / 2, 0), n - 1);
    y[i] = x[(sample * n + from) * c + q];
  }
}
// d[b][t][q] = sum of g over the windows' places that show token t.
template <class T> __device__ void text_windows_back_of(T *d, const T *g, u64 total, int n, int c, int k) {
  EACH(total) {
    uint32_t q, t;
    u64 row = div_of(i, c, q), sample = div_of(row, n, t);
    float sum = 0.f;
    for (int j = 0; j < k; j++) {
      int at = (int)t - j + k / 2, first = t == 0 ? 0 : max(at, 0), last = t + 1 == n ? n - 1 : min(at, n - 1);
      for (int w = first; w <= last; w++) sum += up(g[((sample * n + w) * c + q) * k + j]);
    }
    d[i] = down<T>(sum);
  }
}

#define EXPORT(T, S)                                                                                                      \
  extern "C" __global__ void take_##S(T *y, const T *x, const uint32_t *take, const float *fill, u64 total, int n,        \
                                      int rows, int c) {                                                                  \
    if (c % 4 == 0) take_of<T, Four<T>, 4>(y, x, take, fill, total, n, rows, c);                                          \
    else take_of<T, T, 1>(y, x, take, fill, total, n, rows, c);                                                           \
  }                                                                                                                       \
  extern "C" __global__ void heads_##S(T *y, const T *x, u64 total, int n, int m, int d, int wide, int offset, int back) { \
    if (d % 4 == 0) heads_of<T, Four<T>, 4>(y, x, total, n, m, d, wide, offset, back);                                    \
    else heads_of<T, T, 1>(y, x, total, n, m, d, wide, offset, back);                                                     \
  }                                                                                                                       \
  extern "C" __global__ void text_windows_##S(T *y, const T *x, u64 total, int n, int c, int k) {                          \
    text_windows_of(y, x, total, n, c, k);                                                                                \
  }                                                                                                                       \
  extern "C" __global__ void text_windows_back_##S(T *d, const T *g, u64 total, int n, int c, int k) {                     \
    text_windows_back_of(d, g, total, n, c, k);                                                                           \
  }                                                                                                                       \
  extern "C" __global__ void turn_##S(T *y, const T *x, int n, int c) { turn_of(y, x, n, c); }
EXPORT(float, f32)
EXPORT(bf16, bf16)
