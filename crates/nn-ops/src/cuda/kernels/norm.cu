// Layer norm over rows, instance norm over the cells of (B, N, C), batch norm over the planes of (B, C, h w) or the columns of
// (B h w, C), column sums.
// Sums go through partial sums of a fixed split, so that a result is the same every time.
#include "common.cuh"

// --- layer norm: one warp a row, blocks of (32, rows) -------------------------------------------------------------
template <class T>
__device__ void layer_of(T *y, float *stat, const T *x, const float *w, const float *b, u64 rows, int c, float eps) {
  u64 r = (u64)blockIdx.x * blockDim.y + threadIdx.y;
  if (r >= rows) return;
  const T *xr = x + r * c;
  float s = 0.f, q = 0.f;
  for (int i = threadIdx.x; i < c; i += 32) s += up(xr[i]);
  float mean = warp_sum(s) / c;
  for (int i = threadIdx.x; i < c; i += 32) {
    float d = up(xr[i]) - mean;
    q += d * d;
  }
  float rstd = rsqrtf(warp_sum(q) / c + eps);
  if (threadIdx.x == 0) stat[2 * r] = mean, stat[2 * r + 1] = rstd;
  for (int i = threadIdx.x; i < c; i += 32) y[r * c + i] = down<T>((up(xr[i]) - mean) * rstd * w[i] + b[i]);
}
template <class T>
__device__ void layer_dx_of(T *dx, const T *x, const T *g, const float *w, const float *stat, u64 rows, int c) {
  u64 r = (u64)blockIdx.x * blockDim.y + threadIdx.y;
  if (r >= rows) return;
  float mean = stat[2 * r], rstd = stat[2 * r + 1], a = 0.f, b = 0.f;
  for (int i = threadIdx.x; i < c; i += 32) {
    float gw = up(g[r * c + i]) * w[i];
    a += gw;
    b += gw * (up(x[r * c + i]) - mean) * rstd;
  }
  a = warp_sum(a) / c;
  b = warp_sum(b) / c;
  for (int i = threadIdx.x; i < c; i += 32)
    dx[r * c + i] = down<T>(rstd * (up(g[r * c + i]) * w[i] - a - (up(x[r * c + i]) - mean) * rstd * b));
}
// The same by fours in registers, c <= 128 Q and a multiple of four: each number is read once.
template <class T, int Q>
__device__ void layer_held_of(T *y, float *stat, const T *x, const float *w, const float *b, u64 rows, int c, float eps) {
  u64 r = (u64)blockIdx.x * blockDim.y + threadIdx.y;
  if (r >= rows) return;
  const Four<T> *xr = (const Four<T> *)(x + r * c);
  Four<T> v[Q];
  int n = c / 4;
  float s = 0.f, q = 0.f;
#pragma unroll
  for (int k = 0; k < Q; k++) {
    int i = k * 32 + threadIdx.x;
    if (i < n) v[k] = xr[i], s += (up(v[k].v[0]) + up(v[k].v[1])) + (up(v[k].v[2]) + up(v[k].v[3]));
  }
  float mean = warp_sum(s) / c;
#pragma unroll
  for (int k = 0; k < Q; k++)
    if (k * 32 + threadIdx.x < n)
      for (int j = 0; j < 4; j++) {
        float d = up(v[k].v[j]) - mean;
        q += d * d;
      }
  float rstd = rsqrtf(warp_sum(q) / c + eps);
  if (threadIdx.x == 0) stat[2 * r] = mean, stat[2 * r + 1] = rstd;
#pragma unroll
  for (int k = 0; k < Q; k++) {
    int i = k * 32 + threadIdx.x;
    if (i >= n) continue;
    Four<float> wi = ((const Four<float> *)w)[i], bi = ((const Four<float> *)b)[i];
    for (int j = 0; j < 4; j++) v[k].v[j] = down<T>((up(v[k].v[j]) - mean) * rstd * wi.v[j] + bi.v[j]);
    ((Four<T> *)(y + r * c))[i] = v[k];
  }
}
template <class T, int Q>
__device__ void layer_dx_held_of(T *dx, const T *x, const T *g, const float *w, const float *stat, u64 rows, int c) {
  u64 r = (u64)blockIdx.x * blockDim.y + threadIdx.y;
  if (r >= rows) return;
  float mean = stat[2 * r], rstd = stat[2 * r + 1], a = 0.f, b = 0.f;
  Four<T> hat[Q];
  float gw[Q][4];
  int n = c / 4;
#pragma unroll
  for (int k = 0; k < Q; k++) {
    int i = k * 32 + threadIdx.x;
    if (i >= n) continue;
    hat[k] = ((const Four<T> *)(x + r * c))[i];
    Four<T> gi = ((const Four<T> *)(g + r * c))[i];
    Four<float> wi = ((const Four<float> *)w)[i];
    for (int j = 0; j < 4; j++) {
      gw[k][j] = up(gi.v[j]) * wi.v[j];
      a += gw[k][j];
      b += gw[k][j] * (up(hat[k].v[j]) - mean) * rstd;
    }
  }
  a = warp_sum(a) / c;
  b = warp_sum(b) / c;
#pragma unroll
  for (int k = 0; k < Q; k++) {
    int i = k * 32 + threadIdx.x;
    if (i >= n) continue;
    for (int j = 0; j < 4; j++) hat[k].v[j] = down<T>(rstd * (gw[k][j] - a - (up(hat[k].v[j]) - mean) * rstd * b));
    ((Four<T> *)(dx + r * c))[i] = hat[k];
  }
}

// --- sums down columns: blocks of (32, 8), V neighbouring columns a thread, grid (columns / 32 V, chunks) -----------
template <class T, int V> struct alignas(V * sizeof(T)) Pack { T v[V]; };
template <class T, int V> __device__ __forceinline__ Pack<T, V> pack(const T *at) { return *(const Pack<T, V> *)at; }
// The first of a thread's columns.
template <int V> __device__ __forceinline__ int first_column() { return (blockIdx.x * 32 + threadIdx.x) * V; }
// Sums down the columns of a block of (32, 8), V a thread; the threads of row 0 get them. In a fixed order.
template <int V> __device__ __forceinline__ void down_block(float (&v)[V]) {
  __shared__ float tile[V][8][33];
  __syncthreads();
  for (int j = 0; j < V; j++) tile[j][threadIdx.y][threadIdx.x] = v[j];
  __syncthreads();
  if (threadIdx.y) return;
  for (int j = 0; j < V; j++) {
    v[j] = 0.f;
    for (int k = 0; k < 8; k++) v[j] += tile[j][k][threadIdx.x];
  }
}
// out[chunk][col] = scale * sum of the chunk's rows of one column
template <class T, int V> __device__ void columns_of(float *out, const T *x, u64 rows, u64 cols, u64 per, float scale) {
  u64 col = first_column<V>(), from = blockIdx.y * per, to = min(rows, from + per);
  float s[V] = {};
  if (col < cols)
#pragma unroll 8
    for (u64 r = from + threadIdx.y; r < to; r += 8) {
      Pack<T, V> p = pack<T, V>(x + r * cols + col);
      for (int j = 0; j < V; j++) s[j] += up(p.v[j]);
    }
  down_block(s);
  if (threadIdx.y == 0 && col < cols)
    for (int j = 0; j < V; j++) out[blockIdx.y * cols + col + j] = s[j] * scale;
}
// out[chunk][0][col] = sum g xhat (weight), out[chunk][1][col] = sum g (bias)
template <class T, int V>
__device__ void layer_dw_of(float *out, const T *x, const T *g, const float *stat, u64 rows, int c, u64 per) {
  u64 from = blockIdx.y * per, to = min(rows, from + per);
  int col = first_column<V>();
  float a[V] = {}, b[V] = {};
  if (col < c)
#pragma unroll 8
    for (u64 r = from + threadIdx.y; r < to; r += 8) {
      Pack<T, V> gv = pack<T, V>(g + r * c + col), xv = pack<T, V>(x + r * c + col);
      float mean = stat[2 * r], rstd = stat[2 * r + 1];
      for (int j = 0; j < V; j++) a[j] += up(gv.v[j]) * (up(xv.v[j]) - mean) * rstd, b[j] += up(gv.v[j]);
    }
  down_block(a);
  down_block(b);
  if (threadIdx.y == 0 && col < c) {
    float *o = out + (u64)blockIdx.y * 2 * c + col;
    for (int j = 0; j < V; j++) o[j] = a[j], o[c + j] = b[j];
  }
}

// --- instance norm: columns of each sample's (N, C). Grid (C / 32 V, chunks, B), blocks (32, 8) ---------------------
// part[b][chunk][3][c]: count, mean, m2. Rows are held in registers, 8 R at a time, between their two passes.
template <class T, int V, int R> __device__ void instance_part_of(float *part, const T *x, int n, int c, int per) {
  int col = first_column<V>(), from = blockIdx.y * per, to = min(n, from + per);
  const T *xs = x + (u64)blockIdx.z * n * c + col;
  __shared__ float means[V][32];
  float count = 0.f, mean[V] = {}, m2[V] = {};
  for (int at = from; at < to; at += 8 * R) {
    Pack<T, V> held[R];
    float rows = min(to - at, 8 * R), s[V] = {}, q[V] = {};
#pragma unroll
    for (int k = 0; k < R; k++) {
      int r = at + k * 8 + threadIdx.y;
      if (r >= to || col >= c) continue;
      held[k] = pack<T, V>(xs + (u64)r * c);
      for (int j = 0; j < V; j++) s[j] += up(held[k].v[j]);
    }
    down_block(s);
    if (threadIdx.y == 0)
      for (int j = 0; j < V; j++) means[j][threadIdx.x] = s[j] / rows;
    __syncthreads();
#pragma unroll
    for (int k = 0; k < R; k++) {
      if (at + k * 8 + (int)threadIdx.y >= to || col >= c) continue;
      for (int j = 0; j < V; j++) {
        float d = up(held[k].v[j]) - means[j][threadIdx.x];
        q[j] += d * d;
      }
    }
    down_block(q);
    if (threadIdx.y == 0)
      for (int j = 0; j < V; j++) {
        float sofar = count;
        merge(sofar, mean[j], m2[j], rows, means[j][threadIdx.x], q[j]);
      }
    count += rows;
  }
  if (threadIdx.y == 0 && col < c) {
    float *p = part + ((u64)blockIdx.z * gridDim.y + blockIdx.y) * 3 * c + col;
    for (int j = 0; j < V; j++) p[j] = count, p[c + j] = mean[j], p[2 * c + j] = m2[j];
  }
}
// stat[b][2][c]: mean and, by `what`, 1/sqrt(var + eps), the variance, or 1. Grid (c / 32, B), blocks (32, 8): eight runs of chunks, merged in order
extern "C" __global__ void instance_stat_f32(float *stat, const float *part, int c, int chunks, float eps, int what) {
  int col = blockIdx.x * 32 + threadIdx.x, s = blockIdx.y;
  __shared__ float runs[3][8][33];
  float n = 0.f, mean = 0.f, m2 = 0.f;
  if (col < c)
    for (int k = threadIdx.y; k < chunks; k += 8) {
      const float *p = part + ((u64)s * chunks + k) * 3 * c + col;
      merge(n, mean, m2, p[0], p[c], p[2 * c]);
    }
  runs[0][threadIdx.y][threadIdx.x] = n, runs[1][threadIdx.y][threadIdx.x] = mean, runs[2][threadIdx.y][threadIdx.x] = m2;
  __syncthreads();
  if (threadIdx.y || col >= c) return;
  for (int j = 1; j < 8; j++) merge(n, mean, m2, runs[0][j][threadIdx.x], runs[1][j][threadIdx.x], runs[2][j][threadIdx.x]);
  stat[(u64)s * 2 * c + col] = mean;
  stat[(u64)s * 2 * c + c + col] = what == 0 ? rsqrtf(m2 / n + eps) : what == 1 ? m2 / n : 1.f;
}
template <class T, int V>
__device__ void instance_of(T *y, const T *x, const float *stat, int n, int c, int per) {
  int col = first_column<V>(), to = min(n, (int)(blockIdx.y + 1) * per);
  if (col >= c) return;
  const float *s = stat + (u64)blockIdx.z * 2 * c + col;
  float mean[V], rstd[V];
  for (int j = 0; j < V; j++) mean[j] = s[j], rstd[j] = s[c + j];
  u64 at = (u64)blockIdx.z * n * c + col;
#pragma unroll 4
  for (int r = blockIdx.y * per + threadIdx.y; r < to; r += 8) {
    Pack<T, V> p = pack<T, V>(x + at + (u64)r * c);
    for (int j = 0; j < V; j++) p.v[j] = down<T>((up(p.v[j]) - mean[j]) * rstd[j]);
    *(Pack<T, V> *)(y + at + (u64)r * c) = p;
  }
}
// part[b][chunk][2][c]: sum g, sum g y, where y is the result
template <class T, int V>
__device__ void instance_back_part_of(float *part, const T *y, const T *g, int n, int c, int per) {
  int col = first_column<V>(), from = blockIdx.y * per, to = min(n, from + per);
  u64 at = (u64)blockIdx.z * n * c + col;
  float a[V] = {}, b[V] = {};
  if (col < c)
#pragma unroll 4
    for (int r = from + threadIdx.y; r < to; r += 8) {
      Pack<T, V> gv = pack<T, V>(g + at + (u64)r * c), yv = pack<T, V>(y + at + (u64)r * c);
      for (int j = 0; j < V; j++) a[j] += up(gv.v[j]), b[j] += up(gv.v[j]) * up(yv.v[j]);
    }
  down_block(a);
  down_block(b);
  if (threadIdx.y == 0 && col < c) {
    float *p = part + ((u64)blockIdx.z * gridDim.y + blockIdx.y) * 2 * c + col;
    for (int j = 0; j < V; j++) p[j] = a[j], p[c + j] = b[j];
  }
}
// mean[b][2][c]. Grid (2 c / 32, B), blocks (32, 8)
extern "C" __global__ void instance_back_stat_f32(float *mean, const float *part, int c, int chunks, float n) {
  int col = blockIdx.x * 32 + threadIdx.x, s = blockIdx.y;
  float t[1] = {};
  if (col < 2 * c)
    for (int k = threadIdx.y; k < chunks; k += 8) t[0] += part[((u64)s * chunks + k) * 2 * c + col];
  down_block(t);
  if (threadIdx.y == 0 && col < 2 * c) mean[(u64)s * 2 * c + col] = t[0] / n;
}
template <class T, int V>
__device__ void instance_dx_of(T *d, const T *y, const T *g, const float *stat, const float *mean, int n, int c, int per) {
  int col = first_column<V>(), to = min(n, (int)(blockIdx.y + 1) * per);
  if (col >= c) return;
  u64 of = (u64)blockIdx.z * 2 * c + col, at = (u64)blockIdx.z * n * c + col;
  float rstd[V], a[V], b[V];
  for (int j = 0; j < V; j++) rstd[j] = stat[of + c + j], a[j] = mean[of + j], b[j] = mean[of + c + j];
#pragma unroll 4
  for (int r = blockIdx.y * per + threadIdx.y; r < to; r += 8) {
    u64 i = at + (u64)r * c;
    Pack<T, V> p = pack<T, V>(y + i), q = pack<T, V>(g + i);
    for (int j = 0; j < V; j++) p.v[j] = down<T>(rstd[j] * (up(q.v[j]) - a[j] - up(p.v[j]) * b[j]));
    *(Pack<T, V> *)(d + i) = p;
  }
}

// --- instance norm of a projection, from the covariance of what is projected ----------------------------------------
// r[b][d] = 1/sqrt(half[b][d] . w[d] + eps), one warp each; `rows` are B D, half is the weight (d, c) times the covariance
extern "C" __global__ void rstd_f32(float *r, const float *half, const float *w, u64 rows, int d, int c, float eps) {
  u64 row = (u64)blockIdx.x * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  const float *wr = w + (u64)rest_of(row, d) * c;
  float s = 0.f;
  for (int i = threadIdx.x; i < c; i += 32) s += half[row * c + i] * wr[i];
  s = warp_sum(s);
  if (threadIdx.x == 0) r[row] = rsqrtf((s < 0.f ? 0.f : s) + eps); // rounding may make it negative
}
// y[b][d][c] = dvar[b][d] w[d][c], where dvar = -g r^3 / 2 is the gradient of the variance
extern "C" __global__ void rstd_back_f32(float *y, const float *r, const float *g, const float *w, u64 n, int d, int c) {
  EACH(n) {
    uint32_t k;
    u64 row = div_of(i, c, k);
    float v = r[row];
    y[i] = -0.5f * g[row] * v * v * v * w[(u64)rest_of(row, d) * c + k];
  }
}
// dw[d][c] = 2 sum over b of dvar half
extern "C" __global__ void rstd_dw_f32(float *dw, const float *r, const float *g, const float *half, int b, int d, int c) {
  u64 n = (u64)d * c;
  EACH(n) {
    u64 row = i / c;
    float s = 0.f;
    for (int k = 0; k < b; k++) {
      float v = r[(u64)k * d + row];
      s -= g[(u64)k * d + row] * v * v * v * half[k * n + i];
    }
    dw[i] = s;
  }
}
// y = x s[row / rows][col], rows of c
template <class T> __device__ void scale_columns_of(T *y, const T *x, const float *s, u64 n, int rows, int c) {
  EACH(n) {
    uint32_t col;
    u64 row = div_of(i, c, col);
    uint32_t rest;
    y[i] = down<T>(up(x[i]) * s[div_of(row, rows, rest) * c + col]);
  }
}
// ds[group][col] = sum of g x over the group's rows. Grid (c / 32, groups), blocks (32, 8)
template <class T> __device__ void scale_columns_back_of(float *ds, const T *g, const T *x, int rows, int c) {
  int col = blockIdx.x * 32 + threadIdx.x;
  u64 at = (u64)blockIdx.y * rows * c + col;
  float s[1] = {};
  if (col < c)
    for (int r = threadIdx.y; r < rows; r += 8) s[0] += up(g[at + (u64)r * c]) * up(x[at + (u64)r * c]);
  down_block(s);
  if (threadIdx.y == 0 && col < c) ds[(u64)blockIdx.y * c + col] = s[0];
}

// --- batch norm: one block a plane of (B, C, cells) ---------------------------------------------------------------
// part[plane][2]: mean, m2
template <class T> __device__ void batch_part_of(float *part, const T *x, int cells) {
  const T *p = x + (u64)blockIdx.x * cells;
  float s = 0.f, q = 0.f;
  for (int i = threadIdx.x; i < cells; i += blockDim.x) s += up(p[i]);
  float mean = block_sum(s) / cells;
  for (int i = threadIdx.x; i < cells; i += blockDim.x) {
    float d = up(p[i]) - mean;
    q += d * d;
  }
  q = block_sum(q);
  if (threadIdx.x == 0) part[2 * (u64)blockIdx.x] = mean, part[2 * (u64)blockIdx.x + 1] = q;
}
// mean[c], var[c] (biased)
extern "C" __global__ void batch_stat_f32(float *mean_out, float *var_out, const float *part, int b, int c, float cells) {
  int k = blockIdx.x * blockDim.x + threadIdx.x;
  if (k >= c) return;
  float n = 0.f, mean = 0.f, m2 = 0.f;
  for (int s = 0; s < b; s++) {
    const float *p = part + ((u64)s * c + k) * 2;
    merge(n, mean, m2, cells, p[0], p[1]);
  }
  mean_out[k] = mean, var_out[k] = m2 / n;
}
// scale = w rstd, shift = b - mean scale
extern "C" __global__ void batch_affine_f32(float *scale, float *shift, const float *mean, const float *var, const float *w,
                                            const float *b, int c, float eps) {
  int k = blockIdx.x * blockDim.x + threadIdx.x;
  if (k >= c) return;
  float s = w[k] * rsqrtf(var[k] + eps);
  scale[k] = s, shift[k] = b[k] - mean[k] * s;
}
// part[plane][2]: sum g, sum g xhat
template <class T>
__device__ void batch_back_part_of(float *part, const T *x, const T *g, const float *mean, const float *var, int c, int cells,
                                   float eps) {
  int k = blockIdx.x % c;
  float m = mean[k], r = rsqrtf(var[k] + eps), a = 0.f, b = 0.f;
  u64 at = (u64)blockIdx.x * cells;
  for (int i = threadIdx.x; i < cells; i += blockDim.x) {
    float gv = up(g[at + i]);
    a += gv;
    b += gv * (up(x[at + i]) - m) * r;
  }
  a = block_sum(a);
  b = block_sum(b);
  if (threadIdx.x == 0) part[2 * (u64)blockIdx.x] = a, part[2 * (u64)blockIdx.x + 1] = b;
}
extern "C" __global__ void batch_back_stat_f32(float *dw, float *db, const float *part, int b, int c) {
  int k = blockIdx.x * blockDim.x + threadIdx.x;
  if (k >= c) return;
  float g = 0.f, gx = 0.f;
  for (int s = 0; s < b; s++) g += part[((u64)s * c + k) * 2], gx += part[((u64)s * c + k) * 2 + 1];
  db[k] = g, dw[k] = gx;
}
template <class T>
__device__ void batch_dx_of(T *d, const T *x, const T *g, const float *mean, const float *var, const float *w, const float *dw,
                            const float *db, int c, int cells, float count, float eps) {
  int k = blockIdx.x % c;
  u64 at = (u64)blockIdx.x * cells;
  float r = rsqrtf(var[k] + eps), m = mean[k], wr = w[k] * r, a = db[k] / count, b = dw[k] / count * r;
  if ((cells & 3) == 0) {
    for (int i = threadIdx.x; i < cells / 4; i += blockDim.x) {
      Four<T> p = ((const Four<T> *)(x + at))[i], q = ((const Four<T> *)(g + at))[i];
#pragma unroll
      for (int j = 0; j < 4; j++) p.v[j] = down<T>(wr * (up(q.v[j]) - a - (up(p.v[j]) - m) * b));
      ((Four<T> *)(d + at))[i] = p;
    }
  } else {
    for (int i = threadIdx.x; i < cells; i += blockDim.x) d[at + i] = down<T>(wr * (up(g[at + i]) - a - (up(x[at + i]) - m) * b));
  }
}

// --- batch norm of columns, (rows, c), with what may follow: max(0, .) ---------------------------------------------
__device__ __forceinline__ float cut(float v, int relu) { return relu && v <= 0.f ? 0.f : v; }
// y = x scale[c] + shift[c]. V columns at a time.
template <class T, class P, int V>
__device__ void affine_of(T *y, const T *x, const float *scale, const float *shift, u64 n, int c, int relu) {
  EACH(n / V) {
    uint32_t k = rest_of(i * V, c);
    P p = ((const P *)x)[i];
    T *e = (T *)&p;
#pragma unroll
    for (int j = 0; j < V; j++) e[j] = down<T>(cut(up(e[j]) * scale[k + j] + shift[k + j], relu));
    ((P *)y)[i] = p;
  }
}
// part[chunk][2][c]: sum g', sum g' xhat, where g' is what max(0, .) lets through of g. Grid (c / 32 V, chunks), blocks (32, 8)
template <class T, int V>
__device__ void affine_back_part_of(float *part, const T *x, const T *g, const float *mean, const float *var, const float *scale,
                                    const float *shift, u64 rows, int c, u64 per, float eps, int relu) {
  int col = first_column<V>();
  u64 from = blockIdx.y * per, to = min(rows, from + per);
  float a[V] = {}, b[V] = {};
  if (col < c) {
    float m[V], h[V], s[V], t[V];
    for (int j = 0; j < V; j++) m[j] = mean[col + j], h[j] = rsqrtf(var[col + j] + eps), s[j] = scale[col + j], t[j] = shift[col + j];
#pragma unroll 2
    for (u64 k = from + threadIdx.y; k < to; k += 8) {
      Pack<T, V> xs = pack<T, V>(x + k * c + col), gs = pack<T, V>(g + k * c + col);
      for (int j = 0; j < V; j++) {
        float xv = up(xs.v[j]), gv = up(gs.v[j]);
        if (relu && xv * s[j] + t[j] <= 0.f) gv = 0.f;
        a[j] += gv;
        b[j] += gv * (xv - m[j]) * h[j];
      }
    }
  }
  down_block(a);
  down_block(b);
  if (threadIdx.y == 0 && col < c) {
    float *p = part + (u64)blockIdx.y * 2 * c + col;
    for (int j = 0; j < V; j++) p[j] = a[j], p[c + j] = b[j];
  }
}
// dx = scale (g' - mean g' - xhat mean(g' xhat)); sums holds both sums
template <class T, class P, int V>
__device__ void affine_dx_of(T *d, const T *x, const T *g, const float *mean, const float *var, const float *scale,
                             const float *shift, const float *sums, u64 n, int c, float count, float eps, int relu) {
  EACH(n / V) {
    uint32_t k = rest_of(i * V, c);
    P p = ((const P *)x)[i], q = ((const P *)g)[i];
    T *e = (T *)&p, *f = (T *)&q;
#pragma unroll
    for (int j = 0; j < V; j++) {
      int col = k + j;
      float xv = up(e[j]), gv = up(f[j]), s = scale[col];
      if (relu && xv * s + shift[col] <= 0.f) gv = 0.f;
      float hat = (xv - mean[col]) * rsqrtf(var[col] + eps);
      e[j] = down<T>(s * (gv - sums[col] / count - hat * (sums[c + col] / count)));
    }
    ((P *)d)[i] = p;
  }
}

// With V for the columns a thread takes: four where they go in fours, which `strips` of the caller knows too.
#define BY_FOURS(c, ...)                                                                                                  \
  if ((c) % 4 == 0) {                                                                                                    \
    constexpr int V = 4;                                                                                                 \
    __VA_ARGS__;                                                                                                         \
  } else {                                                                                                               \
    constexpr int V = 1;                                                                                                 \
    __VA_ARGS__;                                                                                                         \
  }
#define EXPORT(T, S)                                                                                                     \
  extern "C" __global__ void layer_##S(T *y, float *stat, const T *x, const float *w, const float *b, u64 rows, int c,   \
                                       float eps) {                                                                      \
    if (c % 4 == 0 && c <= 256) layer_held_of<T, 2>(y, stat, x, w, b, rows, c, eps);                                     \
    else if (c % 4 == 0 && c <= 1024) layer_held_of<T, 8>(y, stat, x, w, b, rows, c, eps);                               \
    else layer_of(y, stat, x, w, b, rows, c, eps);                                                                       \
  }                                                                                                                      \
  extern "C" __global__ void layer_dx_##S(T *dx, const T *x, const T *g, const float *w, const float *stat, u64 rows,    \
                                          int c) {                                                                       \
    if (c % 4 == 0 && c <= 256) layer_dx_held_of<T, 2>(dx, x, g, w, stat, rows, c);                                      \
    else if (c % 4 == 0 && c <= 1024) layer_dx_held_of<T, 8>(dx, x, g, w, stat, rows, c);                                \
    else layer_dx_of(dx, x, g, w, stat, rows, c);                                                                        \
  }                                                                                                                      \
  extern "C" __global__ void layer_dw_##S(float *o, const T *x, const T *g, const float *stat, u64 rows, int c, u64 per) { \
    BY_FOURS(c, layer_dw_of<T, V>(o, x, g, stat, rows, c, per));                                                         \
  }                                                                                                                      \
  extern "C" __global__ void columns_##S(float *o, const T *x, u64 rows, u64 cols, u64 per, float scale) {                \
    BY_FOURS(cols, columns_of<T, V>(o, x, rows, cols, per, scale));                                                      \
  }                                                                                                                      \
  extern "C" __global__ void instance_part_##S(float *p, const T *x, int n, int c, int per) {                             \
    BY_FOURS(c, instance_part_of<T, V, 8>(p, x, n, c, per));                                                            \
  }                                                                                                                      \
  extern "C" __global__ void instance_##S(T *y, const T *x, const float *stat, int n, int c, int per) {                   \
    BY_FOURS(c, instance_of<T, V>(y, x, stat, n, c, per));                                                               \
  }                                                                                                                      \
  extern "C" __global__ void instance_back_part_##S(float *p, const T *y, const T *g, int n, int c, int per) {            \
    BY_FOURS(c, instance_back_part_of<T, V>(p, y, g, n, c, per));                                                        \
  }                                                                                                                      \
  extern "C" __global__ void instance_dx_##S(T *d, const T *y, const T *g, const float *stat, const float *mean,         \
                                             int n, int c, int per) {                                                    \
    BY_FOURS(c, instance_dx_of<T, V>(d, y, g, stat, mean, n, c, per));                                                   \
  }                                                                                                                      \
  extern "C" __global__ void scale_columns_##S(T *y, const T *x, const float *s, u64 n, int rows, int c) {                \
    scale_columns_of(y, x, s, n, rows, c);                                                                               \
  }                                                                                                                      \
  extern "C" __global__ void scale_columns_back_##S(float *ds, const T *g, const T *x, int rows, int c) {                \
    scale_columns_back_of(ds, g, x, rows, c);                                                                            \
  }                                                                                                                      \
  extern "C" __global__ void affine_##S(T *y, const T *x, const float *scale, const float *shift, u64 n, int c, int relu) { \
    if (c % 4 == 0) affine_of<T, Four<T>, 4>(y, x, scale, shift, n, c, relu);                                            \
    else affine_of<T, T, 1>(y, x, scale, shift, n, c, relu);                                                             \
  }                                                                                                                      \
  extern "C" __global__ void affine_back_part_##S(float *p, const T *x, const T *g, const float *mean, const float *var, \
                                                  const float *scale, const float *shift, u64 rows, int c, u64 per,      \
                                                  float eps, int relu) {                                                 \
    BY_FOURS(c, affine_back_part_of<T, V>(p, x, g, mean, var, scale, shift, rows, c, per, eps, relu));                   \
  }                                                                                                                      \
  extern "C" __global__ void affine_dx_##S(T *d, const T *x, const T *g, const float *mean, const float *var,            \
                                           const float *scale, const float *shift, const float *sums, u64 n, int c,      \
                                           float count, float eps, int relu) {                                           \
    if (c % 4 == 0) affine_dx_of<T, Four<T>, 4>(d, x, g, mean, var, scale, shift, sums, n, c, count, eps, relu);         \
    else affine_dx_of<T, T, 1>(d, x, g, mean, var, scale, shift, sums, n, c, count, eps, relu);                          \
  }                                                                                                                      \
  extern "C" __global__ void batch_part_##S(float *p, const T *x, int cells) { batch_part_of(p, x, cells); }             \
  extern "C" __global__ void batch_back_part_##S(float *p, const T *x, const T *g, const float *mean, const float *var,  \
                                                 int c, int cells, float eps)                                            \
  { batch_back_part_of(p, x, g, mean, var, c, cells, eps); }                                                             \
  extern "C" __global__ void batch_dx_##S(T *d, const T *x, const T *g, const float *mean, const float *var,             \
                                          const float *w, const float *dw, const float *db, int c, int cells,            \
                                          float count, float eps)                                                        \
  { batch_dx_of(d, x, g, mean, var, w, dw, db, c, cells, count, eps); }
EXPORT(float, f32)
EXPORT(bf16, bf16)
