// One value in, one out: activations, bias, channel-wise affine, dropout, sums and products. Four elements a thread where n divides by four.
#include "common.cuh"

struct Gelu {
  static __device__ float value(float x) { return 0.5f * x * (1.f + erff(x * 0.70710678118654752f)); }
  static __device__ float slope(float x) {
    return 0.5f * (1.f + erff(x * 0.70710678118654752f)) + x * 0.3989422804014327f * expf(-0.5f * x * x);
  }
};
struct Relu {  // the slope at 0 is 0, as in PyTorch; not-a-number passes
  static __device__ float value(float x) { return x <= 0.f ? 0.f : x; }
  static __device__ float slope(float x) { return x <= 0.f ? 0.f : 1.f; }
};

struct Tanh {
  static __device__ float value(float x) { return tanhf(x); }
  static __device__ float slope(float x) {
    float y = tanhf(x);
    return 1.f - y * y;
  }
};

template <class F, class T> __device__ void value_of(T *y, const T *x, u64 n) {
  if ((n & 3) == 0) {
    EACH(n / 4) {
      Four<T> a = ((const Four<T> *)x)[i];
#pragma unroll
      for (int j = 0; j < 4; j++) a.v[j] = down<T>(F::value(up(a.v[j])));
      ((Four<T> *)y)[i] = a;
    }
  } else {
    EACH(n) y[i] = down<T>(F::value(up(x[i])));
  }
}
template <class F, class T> __device__ void slope_of(T *d, const T *x, const T *g, u64 n) {
  if ((n & 3) == 0) {
    EACH(n / 4) {
      Four<T> a = ((const Four<T> *)x)[i], b = ((const Four<T> *)g)[i];
#pragma unroll
      for (int j = 0; j < 4; j++) a.v[j] = down<T>(F::slope(up(a.v[j])) * up(b.v[j]));
      ((Four<T> *)d)[i] = a;
    }
  } else {
    EACH(n) d[i] = down<T>(F::slope(up(x[i])) * up(g[i]));
  }
}
// y[r][c] = x[r][c] + bias[c]; in place allowed
template <class T> __device__ void bias_of(T *y, const T *x, const float *bias, u64 n, int c) {
  if ((c & 3) == 0) {
    EACH(n / 4) {
      Four<T> a = ((const Four<T> *)x)[i];
      const float *b = bias + rest_of(i * 4, c);
#pragma unroll
      for (int j = 0; j < 4; j++) a.v[j] = down<T>(up(a.v[j]) + b[j]);
      ((Four<T> *)y)[i] = a;
    }
  } else {
    EACH(n) y[i] = down<T>(up(x[i]) + bias[rest_of(i, c)]);
  }
}
// y[r][c] = F(x[r][c] + bias[c]), and the gradient of the sum
template <class F, class T> __device__ void value_of_sum(T *y, const T *x, const float *bias, u64 n, int c) {
  if ((c & 3) == 0) {
    EACH(n / 4) {
      Four<T> a = ((const Four<T> *)x)[i];
      const float *b = bias + rest_of(i * 4, c);
#pragma unroll
      for (int j = 0; j < 4; j++) a.v[j] = down<T>(F::value(up(a.v[j]) + b[j]));
      ((Four<T> *)y)[i] = a;
    }
  } else {
    EACH(n) y[i] = down<T>(F::value(up(x[i]) + bias[rest_of(i, c)]));
  }
}
template <class F, class T>
__device__ void slope_of_sum(T *d, const T *x, const T *g, const float *bias, u64 n, int c) {
  if ((c & 3) == 0) {
    EACH(n / 4) {
      Four<T> a = ((const Four<T> *)x)[i], e = ((const Four<T> *)g)[i];
      const float *b = bias + rest_of(i * 4, c);
#pragma unroll
      for (int j = 0; j < 4; j++) a.v[j] = down<T>(F::slope(up(a.v[j]) + b[j]) * up(e.v[j]));
      ((Four<T> *)d)[i] = a;
    }
  } else {
    EACH(n) d[i] = down<T>(F::slope(up(x[i]) + bias[rest_of(i, c)]) * up(g[i]));
  }
}

// (B, C, cells): y = x * scale[c] + shift[c]; either may be null. In place allowed.
template <class T>
__device__ void channels_of(T *y, const T *x, const float *scale, const float *shift, u64 n, int c, int cells) {
  if ((cells & 3) == 0) {
    EACH(n / 4) {
      uint32_t cell;
      uint32_t k = rest_of(div_of(i * 4, cells, cell), c);
      float s = scale ? scale[k] : 1.f, t = shift ? shift[k] : 0.f;
      Four<T> a = ((const Four<T> *)x)[i];
#pragma unroll
      for (int j = 0; j < 4; j++) a.v[j] = down<T>(up(a.v[j]) * s + t);
      ((Four<T> *)y)[i] = a;
    }
  } else {
    EACH(n) {
      uint32_t cell;
      uint32_t k = rest_of(div_of(i, cells, cell), c);
      y[i] = down<T>(up(x[i]) * (scale ? scale[k] : 1.f) + (shift ? shift[k] : 0.f));
    }
  }
}

// y = x + b * scale[sample]; scale may be null (1). n elements, `each` of a sample.
template <class T> __device__ void add_of(T *y, const T *x, const T *b, const float *scale, u64 n, u64 each) {
  if ((each & 3) == 0) {
    EACH(n / 4) {
      float s = scale ? scale[i * 4 / each] : 1.f;
      Four<T> p = ((const Four<T> *)x)[i], q = ((const Four<T> *)b)[i];
#pragma unroll
      for (int j = 0; j < 4; j++) p.v[j] = down<T>(up(p.v[j]) + up(q.v[j]) * s);
      ((Four<T> *)y)[i] = p;
    }
  } else {
    EACH(n) y[i] = down<T>(up(x[i]) + up(b[i]) * (scale ? scale[i / each] : 1.f));
  }
}

template <class T> __device__ void mul_of(T *y, const T *a, const T *b, u64 n) {
  if ((n & 3) == 0) {
    EACH(n / 4) {
      Four<T> p = ((const Four<T> *)a)[i], q = ((const Four<T> *)b)[i];
#pragma unroll
      for (int j = 0; j < 4; j++) p.v[j] = down<T>(up(p.v[j]) * up(q.v[j]));
      ((Four<T> *)y)[i] = p;
    }
  } else {
    EACH(n) y[i] = down<T>(up(a[i]) * up(b[i]));
  }
}

// base + w[r] x into `wide` or `y`, whichever is there; base may be null
template <class T>
__device__ void weigh_of(float *wide, T *y, const float *base, const T *x, const float *w, int r, u64 n) {
  float factor = w[r];
  EACH(n) {
    float v = (base ? base[i] : 0.f) + factor * up(x[i]);
    if (wide) wide[i] = v;
    else y[i] = down<T>(v);
  }
}
// dx = w[r] g, and each block's share of sum g x; g is `wide` or `g`, whichever is there
template <class T>
__device__ void weigh_back_of(T *dx, float *part, const float *wide, const T *g, const T *x, const float *w, int r, u64 n) {
  float factor = w[r], sum = 0.f;
  EACH(n) {
    float v = wide ? wide[i] : up(g[i]);
    dx[i] = down<T>(factor * v);
    sum += v * up(x[i]);
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) part[blockIdx.x] = sum;
}
// The gradient of one of `count` weights; one block
extern "C" __global__ void weigh_sum(float *dw, const float *part, int blocks, int r, int count) {
  float sum = 0.f;
  for (int i = threadIdx.x; i < blocks; i += blockDim.x) sum += part[i];
  sum = block_sum(sum);
  for (int i = threadIdx.x; i < count; i += blockDim.x) dw[i] = i == r ? sum : 0.f;
}

// Keeps x where the word of its index is not below the threshold, times `scale`. Indices begin at `start`.
template <class T>
__device__ void dropout_of(T *y, const T *x, u64 n, u64 start, const Key &key, uint32_t threshold, float scale) {
  u64 first = start / 4, end = start + n;
  EACH((end + 3) / 4 - first) {
    u64 block = first + i;
    uint32_t c[4] = {(uint32_t)block, (uint32_t)(block >> 32), 0u, 0u};
    philox(c, key.k0, key.k1);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      u64 e = block * 4 + j;
      if (e >= start && e < end) y[e - start] = down<T>(c[j] < threshold ? 0.f : up(x[e - start]) * scale);
    }
  }
}

// Many tensors rounded to bf16 in one launch; `Casts` of cast.rs. A block rounds 4096 elements of one of them, or what is left.
struct Casts {
  const float *from[120];
  bf16 *to[120];
  uint32_t n[120];
  uint32_t first[120];  // block of each
  int count;
};
extern "C" __global__ void __launch_bounds__(256) cast_many(const Casts c) {
  int i = 0;
  for (int step = 64; step; step /= 2)  // the last that begins at this block or before
    if (i + step < c.count && c.first[i + step] <= blockIdx.x) i += step;
  const float *x = c.from[i];
  bf16 *y = c.to[i];
  uint32_t n = c.n[i], start = (blockIdx.x - c.first[i]) * 4096;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    uint32_t at = start + (k * 256 + threadIdx.x) * 4;
    if (at + 4 <= n) {
      Four<float> a = *(const Four<float> *)(x + at);
      Four<bf16> b;
      for (int j = 0; j < 4; j++) b.v[j] = down<bf16>(a.v[j]);
      *(Four<bf16> *)(y + at) = b;
    } else {
      for (; at < n; at++) y[at] = down<bf16>(x[at]);
    }
  }
}

#define PAIR(F, name, T, S)                                                                              \
  extern "C" __global__ void name##_##S(T *y, const T *x, u64 n) { value_of<F>(y, x, n); }               \
  extern "C" __global__ void name##_back_##S(T *d, const T *x, const T *g, u64 n) { slope_of<F>(d, x, g, n); }
#define EXPORT(T, S)                                                                                     \
  PAIR(Gelu, gelu, T, S) PAIR(Relu, relu, T, S) PAIR(Tanh, tanh, T, S)                                     \
  extern "C" __global__ void bias_##S(T *y, const T *x, const float *b, u64 n, int c) { bias_of(y, x, b, n, c); } \
  extern "C" __global__ void gelu_bias_##S(T *y, const T *x, const float *b, u64 n, int c) {               \
    value_of_sum<Gelu>(y, x, b, n, c);                                                                   \
  }                                                                                                      \
  extern "C" __global__ void gelu_bias_back_##S(T *d, const T *x, const T *g, const float *b, u64 n, int c) { \
    slope_of_sum<Gelu>(d, x, g, b, n, c);                                                                 \
  }                                                                                                      \
  extern "C" __global__ void mul_##S(T *y, const T *a, const T *b, u64 n) { mul_of(y, a, b, n); }         \
  extern "C" __global__ void weigh_##S(float *wide, T *y, const float *base, const T *x, const float *w, int r, u64 n) { \
    weigh_of(wide, y, base, x, w, r, n);                                                                  \
  }                                                                                                      \
  extern "C" __global__ void weigh_back_##S(T *dx, float *part, const float *wide, const T *g, const T *x, \
                                            const float *w, int r, u64 n) {                              \
    weigh_back_of(dx, part, wide, g, x, w, r, n);                                                         \
  }                                                                                                      \
  extern "C" __global__ void channels_##S(T *y, const T *x, const float *scale, const float *shift, u64 n, int c, \
                                          int cells) {                                                   \
    channels_of(y, x, scale, shift, n, c, cells);                                                        \
  }                                                                                                      \
  extern "C" __global__ void add_##S(T *y, const T *x, const T *b, const float *scale, u64 n, u64 each) {  \
    add_of(y, x, b, scale, n, each);                                                                      \
  }                                                                                                      \
  extern "C" __global__ void dropout_##S(T *y, const T *x, u64 n, u64 start, uint32_t k0, uint32_t k1,       \
                                         const uint32_t *key, uint32_t threshold, float scale) {         \
    dropout_of(y, x, n, start, Key(k0, k1, key), threshold, scale);                                      \
  }
EXPORT(float, f32)
EXPORT(bf16, bf16)
