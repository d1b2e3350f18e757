// Maps (B, C, h, w), or (B, h, w, C) where it says "last": bilinear resize, max-pool, sums over neighbours, unfolding for convolution, each with its gradient.
// Gradients are gathered, never scattered: no atomics, the same result every time.
#include "common.cuh"

// Where output i of one axis reads: taps low, low + 1 and the weight of the second. scale and shift as in the CPU path.
struct Axis { int from, to; double scale, shift; };
__device__ __forceinline__ void tap(const Axis &a, int i, int &low, int &high, float &t) {
  double at = fmax(((double)i + a.shift) * a.scale - a.shift, 0.0);
  low = min((int)floor(at), a.from - 1);
  high = min(low + 1, a.from - 1);
  t = high == low ? 0.f : (float)(at - low);
}
// Outputs that may read input i: a safe superset, each checked by its taps.
__device__ __forceinline__ void readers(const Axis &a, int i, int &first, int &last) {
  if (a.scale <= 0.0) { first = 0, last = a.to - 1; return; }
  first = max((int)floor((i - 1 + a.shift) / a.scale - a.shift) - 1, 0);
  last = min((int)ceil((i + 1 + a.shift) / a.scale - a.shift) + 1, a.to - 1);
  if (i == 0) first = 0;
  if (i == a.from - 1) last = a.to - 1;
}
__device__ __forceinline__ float weight(const Axis &a, int out, int in) {
  int low, high;
  float t;
  tap(a, out, low, high, t);
  return (low == in ? 1.f - t : 0.f) + (high == in ? t : 0.f);
}

// Where the planes of a map lie among `wide` planes an image: `c` of them, after the first `offset`.
struct Among { int c, wide, offset; };
__device__ __forceinline__ u64 plane_of(const Among &a, u64 plane) {
  uint32_t c;
  u64 image = div_of(plane, a.c, c);
  return image * a.wide + a.offset + c;
}
template <class T> __device__ void resize_of(T *y, const T *x, u64 planes, Axis v, Axis u, Among to) {
  EACH(planes * v.to * u.to) {
    uint32_t ox, oy;
    u64 plane = div_of(div_of(i, u.to, ox), v.to, oy);
    const T *p = x + plane * v.from * u.from;
    int y0, y1, x0, x1;
    float ty, tx;
    tap(v, oy, y0, y1, ty);
    tap(u, ox, x0, x1, tx);
    float a = up(p[(u64)y0 * u.from + x0]) * (1.f - tx) + up(p[(u64)y0 * u.from + x1]) * tx;
    float b = up(p[(u64)y1 * u.from + x0]) * (1.f - tx) + up(p[(u64)y1 * u.from + x1]) * tx;
    y[(plane_of(to, plane) * v.to + oy) * u.to + ox] = down<T>(a * (1.f - ty) + b * ty);
  }
}
template <class T> __device__ void resize_back_of(T *d, const T *g, u64 planes, Axis v, Axis u, Among of) {
  EACH(planes * v.from * u.from) {
    uint32_t ix, iy;
    int r0, r1, c0, c1;
    const T *p = g + plane_of(of, div_of(div_of(i, u.from, ix), v.from, iy)) * v.to * u.to;
    readers(v, iy, r0, r1);
    readers(u, ix, c0, c1);
    float s = 0.f;
    for (int r = r0; r <= r1; r++) {
      float wr = weight(v, r, iy);
      if (wr == 0.f) continue;
      float row = 0.f;
      for (int c = c0; c <= c1; c++) row += weight(u, c, ix) * up(p[(u64)r * u.to + c]);
      s += wr * row;
    }
    d[i] = down<T>(s);
  }
}

// Planes of `cells` into their place among others, or out of it.
template <class T> __device__ void planes_of(T *y, const T *x, int cells, Among a, bool out) {
  u64 there = plane_of(a, blockIdx.x) * cells, here = (u64)blockIdx.x * cells;
  if ((cells & 3) == 0) {
    for (int i = threadIdx.x; i < cells / 4; i += blockDim.x)
      ((Four<T> *)(y + (out ? here : there)))[i] = ((const Four<T> *)(x + (out ? there : here)))[i];
  } else {
    for (int i = threadIdx.x; i < cells; i += blockDim.x) y[(out ? here : there) + i] = x[(out ? there : here) + i];
  }
}

// The same, channels last: the results are the first c of `wide` channels. V channels at a time.
template <class T, class P, int V> __device__ void resize_last_of(T *y, const T *x, u64 images, Axis v, Axis u, int c, int wide) {
  int parts = c / V;
  EACH(images * v.to * u.to * parts) {
    uint32_t p, ox, oy;
    u64 cell = div_of(i, parts, p), image = div_of(div_of(cell, u.to, ox), v.to, oy);
    int y0, y1, x0, x1;
    float ty, tx;
    tap(v, oy, y0, y1, ty);
    tap(u, ox, x0, x1, tx);
    const P *from = (const P *)(x + image * v.from * u.from * c) + p;
    P corner[4] = {from[((u64)y0 * u.from + x0) * parts], from[((u64)y0 * u.from + x1) * parts],
                   from[((u64)y1 * u.from + x0) * parts], from[((u64)y1 * u.from + x1) * parts]};
    P out;
#pragma unroll
    for (int j = 0; j < V; j++) {
      float a = up(((T *)&corner[0])[j]) * (1.f - tx) + up(((T *)&corner[1])[j]) * tx;
      float b = up(((T *)&corner[2])[j]) * (1.f - tx) + up(((T *)&corner[3])[j]) * tx;
      ((T *)&out)[j] = down<T>(a * (1.f - ty) + b * ty);
    }
    ((P *)(y + cell * wide))[p] = out;
  }
}
template <class T, class P, int V>
__device__ void resize_last_back_of(T *d, const T *g, u64 images, Axis v, Axis u, int c, int wide) {
  int parts = c / V;
  EACH(images * v.from * u.from * parts) {
    uint32_t p, ix, iy;
    int r0, r1, c0, c1;
    u64 image = div_of(div_of(div_of(i, parts, p), u.from, ix), v.from, iy);
    readers(v, iy, r0, r1);
    readers(u, ix, c0, c1);
    float s[V] = {};
    for (int r = r0; r <= r1; r++) {
      float wr = weight(v, r, iy);
      if (wr == 0.f) continue;
      float row[V] = {};
      for (int k = c0; k <= c1; k++) {
        float wc = weight(u, k, ix);
        if (wc == 0.f) continue;
        P e = ((const P *)(g + ((image * v.to + r) * u.to + k) * wide))[p];
#pragma unroll
        for (int j = 0; j < V; j++) row[j] += wc * up(((T *)&e)[j]);
      }
#pragma unroll
      for (int j = 0; j < V; j++) s[j] += wr * row[j];
    }
    P out;
#pragma unroll
    for (int j = 0; j < V; j++) ((T *)&out)[j] = down<T>(s[j]);
    ((P *)d)[i] = out;
  }
}
// Rows of c into their place among `wide`, or out of it. V at a time.
template <class T, class P, int V> __device__ void beside_of(T *y, const T *x, u64 total, int c, int wide, int offset, bool out) {
  int parts = c / V;
  EACH(total / V) {
    uint32_t p;
    u64 there = (div_of(i, parts, p) * wide + offset) / V + p;
    if (out) ((P *)y)[i] = ((const P *)x)[there];
    else ((P *)y)[there] = ((const P *)x)[i];
  }
}

struct Window { int h, w, ho, wo, k, stride, pad; };
template <class T> __device__ void pool_of(T *y, uint32_t *from, const T *x, u64 planes, Window a) {
  EACH(planes * a.ho * a.wo) {
    int ox = (int)(i % a.wo), oy = (int)(i / a.wo % a.ho);
    const T *p = x + i / ((u64)a.wo * a.ho) * a.h * a.w;
    float best = -INFINITY;
    int at = -1;
    for (int iy = max(oy * a.stride - a.pad, 0); iy < min(oy * a.stride + a.k - a.pad, a.h); iy++)
      for (int ix = max(ox * a.stride - a.pad, 0); ix < min(ox * a.stride + a.k - a.pad, a.w); ix++) {
        float v = up(p[(u64)iy * a.w + ix]);
        if (at < 0 || v > best || isnan(v)) best = v, at = iy * a.w + ix;
      }
    y[i] = down<T>(best);
    from[i] = (uint32_t)at;
  }
}
template <class T> __device__ void pool_back_of(T *d, const T *g, const uint32_t *from, u64 planes, Window a) {
  EACH(planes * a.h * a.w) {
    int ix = (int)(i % a.w), iy = (int)(i / a.w % a.h);
    u64 plane = i / ((u64)a.w * a.h) * a.ho * a.wo;
    int r0 = max((iy + a.pad - a.k + a.stride) / a.stride, 0), r1 = min((iy + a.pad) / a.stride, a.ho - 1);
    int c0 = max((ix + a.pad - a.k + a.stride) / a.stride, 0), c1 = min((ix + a.pad) / a.stride, a.wo - 1);
    float s = 0.f;
    for (int r = r0; r <= r1; r++)
      for (int c = c0; c <= c1; c++) {
        u64 o = plane + (u64)r * a.wo + c;
        if (from[o] == (uint32_t)(iy * a.w + ix)) s += up(g[o]);
      }
    d[i] = down<T>(s);
  }
}

// y[o][i][c] = sum of x[o][j][c] for j in i - before ..= i + after
template <class T> __device__ void run_of(T *y, const T *x, u64 total, int n, int inner, int before, int after) {
  EACH(total) {
    int at = (int)(i / inner % n);
    const T *p = x + i - (u64)at * inner;
    float s = 0.f;
    for (int j = max(at - before, 0); j <= min(at + after, n - 1); j++) s += up(p[(u64)j * inner]);
    y[i] = down<T>(s);
  }
}

// Images (B, C, h, w) to columns (B, C kh kw, ho wo), and the sum back.
struct Patch { int c, h, w, kh, kw, stride, ph, pw, ho, wo; };
template <class T> __device__ void unfold_of(T *cols, const T *x, u64 total, Patch a) {
  EACH(total) {
    int ox = (int)(i % a.wo), oy = (int)(i / a.wo % a.ho);
    u64 rest = i / ((u64)a.wo * a.ho);
    int kx = (int)(rest % a.kw), ky = (int)(rest / a.kw % a.kh);
    u64 plane = rest / ((u64)a.kw * a.kh);
    int iy = oy * a.stride + ky - a.ph, ix = ox * a.stride + kx - a.pw;
    bool in = iy >= 0 && iy < a.h && ix >= 0 && ix < a.w;
    cols[i] = in ? x[(plane * a.h + iy) * a.w + ix] : down<T>(0.f);
  }
}
template <class T> __device__ void fold_of(T *d, const T *cols, u64 total, Patch a) {
  EACH(total) {
    int ix = (int)(i % a.w), iy = (int)(i / a.w % a.h);
    u64 plane = i / ((u64)a.w * a.h);
    float s = 0.f;
    for (int ky = 0; ky < a.kh; ky++) {
      int oy = iy + a.ph - ky;
      if (oy < 0 || oy % a.stride || oy / a.stride >= a.ho) continue;
      for (int kx = 0; kx < a.kw; kx++) {
        int ox = ix + a.pw - kx;
        if (ox < 0 || ox % a.stride || ox / a.stride >= a.wo) continue;
        s += up(cols[(((plane * a.kh + ky) * a.kw + kx) * a.ho + oy / a.stride) * a.wo + ox / a.stride]);
      }
    }
    d[i] = down<T>(s);
  }
}

#define AXES int vf, int vt, double vs, double vd, int uf, int ut, double us, double ud
#define MAKE Axis{vf, vt, vs, vd}, Axis{uf, ut, us, ud}
#define EXPORT(T, S)                                                                                                      \
  extern "C" __global__ void resize_##S(T *y, const T *x, u64 planes, AXES, int c, int wide)                              \
  { resize_of(y, x, planes, MAKE, Among{c, wide, 0}); }                                                                   \
  extern "C" __global__ void resize_back_##S(T *d, const T *g, u64 planes, AXES, int c, int wide)                         \
  { resize_back_of(d, g, planes, MAKE, Among{c, wide, 0}); }                                                              \
  extern "C" __global__ void resize_last_##S(T *y, const T *x, u64 images, AXES, int c, int wide) {                       \
    if (c % 4 == 0 && wide % 4 == 0) resize_last_of<T, Four<T>, 4>(y, x, images, MAKE, c, wide);                          \
    else resize_last_of<T, T, 1>(y, x, images, MAKE, c, wide);                                                            \
  }                                                                                                                       \
  extern "C" __global__ void resize_last_back_##S(T *d, const T *g, u64 images, AXES, int c, int wide) {                  \
    if (c % 4 == 0 && wide % 4 == 0) resize_last_back_of<T, Four<T>, 4>(d, g, images, MAKE, c, wide);                     \
    else resize_last_back_of<T, T, 1>(d, g, images, MAKE, c, wide);                                                       \
  }                                                                                                                       \
  extern "C" __global__ void beside_##S(T *y, const T *x, u64 total, int c, int wide, int offset, int out) {              \
    if (c % 4 == 0 && wide % 4 == 0 && offset % 4 == 0) beside_of<T, Four<T>, 4>(y, x, total, c, wide, offset, out);      \
    else beside_of<T, T, 1>(y, x, total, c, wide, offset, out);                                                           \
  }                                                                                                                       \
  extern "C" __global__ void planes_##S(T *y, const T *x, int cells, int c, int wide, int offset, int out)                \
  { planes_of(y, x, cells, Among{c, wide, offset}, out); }                                                                \
  extern "C" __global__ void pool_##S(T *y, uint32_t *from, const T *x, u64 planes, int h, int w, int ho, int wo, int k,  \
                                      int stride, int pad) { pool_of(y, from, x, planes, Window{h, w, ho, wo, k, stride, pad}); } \
  extern "C" __global__ void pool_back_##S(T *d, const T *g, const uint32_t *from, u64 planes, int h, int w, int ho,      \
                                           int wo, int k, int stride, int pad)                                            \
  { pool_back_of(d, g, from, planes, Window{h, w, ho, wo, k, stride, pad}); }                                             \
  extern "C" __global__ void run_##S(T *y, const T *x, u64 total, int n, int inner, int before, int after)                \
  { run_of(y, x, total, n, inner, before, after); }                                                                       \
  extern "C" __global__ void unfold_##S(T *cols, const T *x, u64 total, int c, int h, int w, int kh, int kw, int stride,  \
                                        int ph, int pw, int ho, int wo)                                                   \
  { unfold_of(cols, x, total, Patch{c, h, w, kh, kw, stride, ph, pw, ho, wo}); }                                          \
  extern "C" __global__ void fold_##S(T *d, const T *cols, u64 total, int c, int h, int w, int kh, int kw, int stride,    \
                                      int ph, int pw, int ho, int wo)                                                     \
  { fold_of(d, cols, total, Patch{c, h, w, kh, kw, stride, ph, pw, ho, wo}); }
EXPORT(float, f32)
EXPORT(bf16, bf16)

// Relative position bias: out[m][i] = table[index[i]][m], and the gradient of each row from the places that use it.
extern "C" __global__ void bias_rows(float *out, const float *table, const uint32_t *index, int n, int m) {
  EACH((u64)n * m) out[i] = table[(u64)index[i % n] * m + i / n];
}
extern "C" __global__ void bias_rows_back(float *d, const float *g, const uint32_t *starts, const uint32_t *places, int rows,
                                          int n, int m) {
  EACH((u64)rows * m) {
    int row = (int)(i / m), head = (int)(i % m);
    float s = 0.f;
    for (uint32_t j = starts[row]; j < starts[row + 1]; j++) s += g[(u64)head * n + places[j]];
    d[i] = s;
  }
}
