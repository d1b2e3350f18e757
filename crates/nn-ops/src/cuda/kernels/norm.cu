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

// --- sums down columns: blocks of (32, 8), grid (columns / 32, chunks) --------------------------------------------
// out[chunk][col] = scale * sum of the chunk's rows of one column
template <class T> __device__ void columns_of(float *out, const T *x, u64 rows, u64 cols, u64 per, float scale) {
  u64 col = (u64)blockIdx.x * 32 + threadIdx.x, from = blockIdx.y * per, to = min(rows, from + per);
  float s = 0.f;
  if (col < cols)
    for (u64 r = from + threadIdx.y; r < to; r += 8) s += up(x[r * cols + col]);
  s = down_block(s);
  if (threadIdx.y == 0 && col < cols) out[blockIdx.y * cols + col] = s * scale;
}
// out[chunk][0][col] = sum g xhat (weight), out[chunk][1][col] = sum g (bias)
template <class T>
__device__ void layer_dw_of(float *out, const T *x, const T *g, const float *stat, u64 rows, int c, u64 per) {
  u64 col = (u64)blockIdx.x * 32 + threadIdx.x, from = blockIdx.y * per, to = min(rows, from + per);
  float a = 0.f, b = 0.f;
  if (col < c)
    for (u64 r = from + threadIdx.y; r < to; r += 8) {
      float gv = up(g[r * c + col]);
      a += gv * (up(x[r * c + col]) - stat[2 * r]) * stat[2 * r + 1];
      b += gv;
    }
  a = down_block(a);
  b = down_block(b);
  if (threadIdx.y == 0 && col < c) {
    out[((u64)blockIdx.y * 2) * c + col] = a;
    out[((u64)blockIdx.y * 2 + 1) * c + col] = b;
  }
}

// --- instance norm: columns of each sample's (N, C). Grid (C / 32, chunks, B), blocks (32, 8) ---------------------
// part[b][chunk][3][c]: count, mean, m2
template <class T> __device__ void instance_part_of(float *part, const T *x, int n, int c, int per) {
  int col = blockIdx.x * 32 + threadIdx.x, from = blockIdx.y * per, to = min(n, from + per), count = to - from;
  const T *xs = x + (u64)blockIdx.z * n * c;
  __shared__ float mean[32];
  float s = 0.f, q = 0.f;
  if (col < c)
    for (int r = from + threadIdx.y; r < to; r += 8) s += up(xs[(u64)r * c + col]);
  s = down_block(s);
  if (threadIdx.y == 0) mean[threadIdx.x] = s / max(count, 1);
  __syncthreads();
  if (col < c)
    for (int r = from + threadIdx.y; r < to; r += 8) {
      float d = up(xs[(u64)r * c + col]) - mean[threadIdx.x];
      q += d * d;
    }
  q = down_block(q);
  if (threadIdx.y == 0 && col < c) {
    float *p = part + ((u64)blockIdx.z * gridDim.y + blockIdx.y) * 3 * c + col;
    p[0] = count, p[c] = mean[threadIdx.x], p[2 * c] = q;
  }
}
// stat[b][2][c]: mean, 1/sqrt(var + eps), or with `plain` the variance itself. Grid (c / 32, B), blocks (32, 8): eight runs of chunks, merged in order
extern "C" __global__ void instance_stat_f32(float *stat, const float *part, int c, int chunks, float eps, int plain) {
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
  stat[(u64)s * 2 * c + c + col] = plain ? m2 / n : rsqrtf(m2 / n + eps);
}
template <class T>
__device__ void instance_of(T *y, const T *x, const float *stat, int n, int c, int per) {
  int col = blockIdx.x * 32 + threadIdx.x, to = min(n, (int)(blockIdx.y + 1) * per);
  if (col >= c) return;
  const float *s = stat + (u64)blockIdx.z * 2 * c + col;
  float mean = s[0], rstd = s[c];
  u64 at = (u64)blockIdx.z * n * c + col;
  for (int r = blockIdx.y * per + threadIdx.y; r < to; r += 8)
    y[at + (u64)r * c] = down<T>((up(x[at + (u64)r * c]) - mean) * rstd);
}
// part[b][chunk][2][c]: sum g, sum g xhat
template <class T>
__device__ void instance_back_part_of(float *part, const T *x, const T *g, const float *stat, int n, int c, int per) {
  int col = blockIdx.x * 32 + threadIdx.x, from = blockIdx.y * per, to = min(n, from + per);
  u64 at = (u64)blockIdx.z * n * c;
  float a = 0.f, b = 0.f;
  if (col < c) {
    float mean = stat[(u64)blockIdx.z * 2 * c + col], rstd = stat[(u64)blockIdx.z * 2 * c + c + col];
    for (int r = from + threadIdx.y; r < to; r += 8) {
      float gv = up(g[at + (u64)r * c + col]);
      a += gv;
      b += gv * (up(x[at + (u64)r * c + col]) - mean) * rstd;
    }
  }
  a = down_block(a);
  b = down_block(b);
  if (threadIdx.y == 0 && col < c) {
    float *p = part + ((u64)blockIdx.z * gridDim.y + blockIdx.y) * 2 * c + col;
    p[0] = a, p[c] = b;
  }
}
// mean[b][2][c]. Grid (2 c / 32, B), blocks (32, 8)
extern "C" __global__ void instance_back_stat_f32(float *mean, const float *part, int c, int chunks, float n) {
  int col = blockIdx.x * 32 + threadIdx.x, s = blockIdx.y;
  float t = 0.f;
  if (col < 2 * c)
    for (int k = threadIdx.y; k < chunks; k += 8) t += part[((u64)s * chunks + k) * 2 * c + col];
  t = down_block(t);
  if (threadIdx.y == 0 && col < 2 * c) mean[(u64)s * 2 * c + col] = t / n;
}
template <class T>
__device__ void instance_dx_of(T *d, const T *x, const T *g, const float *stat, const float *mean, int n, int c, int per) {
  int col = blockIdx.x * 32 + threadIdx.x, to = min(n, (int)(blockIdx.y + 1) * per);
  if (col >= c) return;
  u64 of = (u64)blockIdx.z * 2 * c + col, at = (u64)blockIdx.z * n * c + col;
  float m = stat[of], rstd = stat[of + c], a = mean[of], b = mean[of + c];
  for (int r = blockIdx.y * per + threadIdx.y; r < to; r += 8) {
    u64 i = at + (u64)r * c;
    d[i] = down<T>(rstd * (up(g[i]) - a - (up(x[i]) - m) * rstd * b));
  }
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
#define EACH(n) for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (u64)gridDim.x * blockDim.x)
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
// part[chunk][2][c]: sum g', sum g' xhat, where g' is what max(0, .) lets through of g. Grid (c / 32, chunks), blocks (32, 8)
template <class T>
__device__ void affine_back_part_of(float *part, const T *x, const T *g, const float *mean, const float *var, const float *scale,
                                    const float *shift, u64 rows, int c, u64 per, float eps, int relu) {
  int col = blockIdx.x * 32 + threadIdx.x;
  u64 from = blockIdx.y * per, to = min(rows, from + per);
  float a = 0.f, b = 0.f;
  if (col < c) {
    float m = mean[col], r = rsqrtf(var[col] + eps), s = scale[col], t = shift[col];
    for (u64 k = from + threadIdx.y; k < to; k += 8) {
      float xv = up(x[k * c + col]), gv = up(g[k * c + col]);
      if (relu && xv * s + t <= 0.f) gv = 0.f;
      a += gv;
      b += gv * (xv - m) * r;
    }
  }
  a = down_block(a);
  b = down_block(b);
  if (threadIdx.y == 0 && col < c) part[(u64)blockIdx.y * 2 * c + col] = a, part[((u64)blockIdx.y * 2 + 1) * c + col] = b;
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
  extern "C" __global__ void layer_dw_##S(float *o, const T *x, const T *g, const float *stat, u64 rows, int c, u64 per) \
  { layer_dw_of(o, x, g, stat, rows, c, per); }                                                                          \
  extern "C" __global__ void columns_##S(float *o, const T *x, u64 rows, u64 cols, u64 per, float scale)                 \
  { columns_of(o, x, rows, cols, per, scale); }                                                                          \
  extern "C" __global__ void instance_part_##S(float *p, const T *x, int n, int c, int per)                              \
  { instance_part_of(p, x, n, c, per); }                                                                                 \
  extern "C" __global__ void instance_##S(T *y, const T *x, const float *stat, int n, int c, int per)                    \
  { instance_of(y, x, stat, n, c, per); }                                                                              \
  extern "C" __global__ void instance_back_part_##S(float *p, const T *x, const T *g, const float *stat, int n, int c,   \
                                                    int per) { instance_back_part_of(p, x, g, stat, n, c, per); }        \
  extern "C" __global__ void instance_dx_##S(T *d, const T *x, const T *g, const float *stat, const float *mean,         \
                                             int n, int c, int per) { instance_dx_of(d, x, g, stat, mean, n, c, per); }  \
  extern "C" __global__ void affine_##S(T *y, const T *x, const float *scale, const float *shift, u64 n, int c, int relu) { \
    if (c % 4 == 0) affine_of<T, Four<T>, 4>(y, x, scale, shift, n, c, relu);                                            \
    else affine_of<T, T, 1>(y, x, scale, shift, n, c, relu);                                                             \
  }                                                                                                                      \
  extern "C" __global__ void affine_back_part_##S(float *p, const T *x, const T *g, const float *mean, const float *var, \
                                                  const float *scale, const float *shift, u64 rows, int c, u64 per,      \
                                                  float eps, int relu)                                                   \
  { affine_back_part_of(p, x, g, mean, var, scale, shift, rows, c, per, eps, relu); }                                    \
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
