// What every kernel shares. Tensors are contiguous, f32 or bf16; arithmetic is f32. Each kernel is written once as a
// template `name_of` and exported twice by EXPORT: `name_f32` and `name_bf16`.
#pragma once
#include <cuda_bf16.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16;
typedef unsigned long long u64;

__device__ __forceinline__ float up(float v) { return v; }
__device__ __forceinline__ float up(bf16 v) { return __bfloat162float(v); }
template <class T> __device__ __forceinline__ T down(float v);
template <> __device__ __forceinline__ float down<float>(float v) { return v; }
template <> __device__ __forceinline__ bf16 down<bf16>(float v) { return __float2bfloat16(v); }

// A loop over n items by all threads of a launch.
#define EACH(n) for (u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x; i < (n); i += (u64)gridDim.x * blockDim.x)

// Four neighbouring elements in one load or store.
template <class T> struct alignas(4 * sizeof(T)) Four { T v[4]; };

// Quotient and remainder; 64-bit division costs a hundred instructions, and is seldom needed.
__device__ __forceinline__ u64 div_of(u64 a, uint32_t b, uint32_t &rest) {
  if ((a >> 32) == 0) {
    uint32_t q = (uint32_t)a / b;
    rest = (uint32_t)a - q * b;
    return q;
  }
  u64 q = a / b;
  rest = (uint32_t)(a - q * b);
  return q;
}
__device__ __forceinline__ uint32_t rest_of(u64 a, uint32_t b) {
  uint32_t rest;
  div_of(a, b, rest);
  return rest;
}

__device__ __forceinline__ float warp_sum(float v) {
  for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}
__device__ __forceinline__ float warp_max(float v) {
  for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
  return v;
}
// Sum over all threads of a block of at most 1024 (whole warps); every thread gets it. In a fixed order.
__device__ __forceinline__ float block_sum(float v) {
  __shared__ float parts[32];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  v = warp_sum(v);
  __syncthreads();  // the last use of `parts` is over
  if (lane == 0) parts[warp] = v;
  __syncthreads();
  return warp_sum(lane < warps ? parts[lane] : 0.f);
}
__device__ __forceinline__ float block_max(float v) {
  __shared__ float parts[32];
  int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  v = warp_max(v);
  __syncthreads();
  if (lane == 0) parts[warp] = v;
  __syncthreads();
  return warp_max(lane < warps ? parts[lane] : -INFINITY);
}

// Chan's rule: moments (n, mean, m2) of two sets to those of both.
__device__ __forceinline__ void merge(float &n, float &mean, float &m2, float nb, float meanb, float m2b) {
  float total = n + nb;
  if (total == 0.f) return;
  float delta = meanb - mean;
  mean += delta * (nb / total);
  m2 += m2b + delta * delta * (n * nb / total);
  n = total;
}

// The words of a key: given, or where they lie. A recorded pass finds other keys there each time.
struct Key {
  uint32_t k0, k1;
  __device__ __forceinline__ Key(uint32_t k0, uint32_t k1, const uint32_t *at)
      : k0(at ? __ldg(at) : k0), k1(at ? __ldg(at + 1) : k1) {}
};
// Philox4x32-10 (Salmon et al. 2011): four random words of a counter and a key. The CPU path computes the same words.
__device__ __forceinline__ void philox(uint32_t c[4], uint32_t k0, uint32_t k1) {
#pragma unroll
  for (int r = 0; r < 10; r++) {
    uint32_t h0 = __umulhi(0xD2511F53u, c[0]), l0 = 0xD2511F53u * c[0];
    uint32_t h1 = __umulhi(0xCD9E8D57u, c[2]), l1 = 0xCD9E8D57u * c[2];
    c[0] = h1 ^ c[1] ^ k0;
    c[1] = l1;
    c[2] = h0 ^ c[3] ^ k1;
    c[3] = l0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}
