// Weighted cross-entropy of two classes over pixels: logits (B, 2, cells) f32, masks (B, cells) u8.
#include "common.cuh"

// log(1 + e^v), without overflow
__device__ __forceinline__ float softplus(float v) { return fmaxf(v, 0.f) + log1pf(expf(-fabsf(v))); }

// part[block][2]: sum of weighted losses, sum of weights
extern "C" __global__ void entropy_part(double *part, const float *x, const unsigned char *mask, u64 pixels, int cells, float w0,
                                        float w1) {
  float loss = 0.f, weight = 0.f;
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < pixels; i += (u64)gridDim.x * blockDim.x) {
    uint32_t cell;
    u64 image = div_of(i, cells, cell), at = image * 2 * cells + cell;
    bool fore = mask[i] != 0;
    float d = x[at + cells] - x[at], w = fore ? w1 : w0;
    loss += w * softplus(fore ? -d : d);
    weight += w;
  }
  loss = block_sum(loss);
  weight = block_sum(weight);
  if (threadIdx.x == 0) part[2 * blockIdx.x] = loss, part[2 * blockIdx.x + 1] = weight;
}
// out: loss, total weight
extern "C" __global__ void entropy_total(float *out, const double *part, int n) {
  __shared__ double lanes[2][256];
  double a = 0.0, b = 0.0;
  for (int i = threadIdx.x; i < n; i += 256) a += part[2 * i], b += part[2 * i + 1];
  lanes[0][threadIdx.x] = a, lanes[1][threadIdx.x] = b;
  __syncthreads();
  for (int half = 128; half > 0; half >>= 1) {
    if (threadIdx.x < half)
      for (int j = 0; j < 2; j++) lanes[j][threadIdx.x] += lanes[j][threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) out[0] = (float)(lanes[0][0] / lanes[1][0]), out[1] = (float)lanes[1][0];
}
extern "C" __global__ void entropy_back(float *d, const float *x, const unsigned char *mask, const float *total, const float *grad,
                                        u64 pixels, int cells, float w0, float w1) {
  float scale = *grad / total[1];
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < pixels; i += (u64)gridDim.x * blockDim.x) {
    uint32_t cell;
    u64 image = div_of(i, cells, cell), at = image * 2 * cells + cell;
    bool fore = mask[i] != 0;
    float p = 1.f / (1.f + expf(x[at] - x[at + cells]));  // of the foreground
    float g = scale * (fore ? w1 * (p - 1.f) : w0 * p);
    d[at] = -g, d[at + cells] = g;
  }
}
// (planes, cells): every cell of a plane gets value[plane] * scale
template <class T> __device__ void spread_of(T *y, const float *value, int cells, float scale) {
  T v = down<T>(value[blockIdx.x] * scale);
  for (int i = threadIdx.x; i < cells; i += blockDim.x) y[(u64)blockIdx.x * cells + i] = v;
}
// y[b][i][c] = scale * value[b][c]
template <class T> __device__ void spread_last_of(T *y, const float *value, u64 total, uint32_t n, int c, float scale) {
  for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < total; i += (u64)gridDim.x * blockDim.x) {
    uint32_t k;
    u64 image = div_of(i, c, k) / n;
    y[i] = down<T>(value[image * c + k] * scale);
  }
}
extern "C" __global__ void spread_last_f32(float *y, const float *v, u64 total, uint32_t n, int c, float scale) {
  spread_last_of(y, v, total, n, c, scale);
}
extern "C" __global__ void spread_last_bf16(bf16 *y, const float *v, u64 total, uint32_t n, int c, float scale) {
  spread_last_of(y, v, total, n, c, scale);
}
extern "C" __global__ void spread_f32(float *y, const float *v, int cells, float scale) { spread_of(y, v, cells, scale); }
extern "C" __global__ void spread_bf16(bf16 *y, const float *v, int cells, float scale) { spread_of(y, v, cells, scale); }
