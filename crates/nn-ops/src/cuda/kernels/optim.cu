// Over all parameters at once: the norm of the gradients, their scaling, and AdamW. Each block takes one chunk of one
// parameter, as the table of chunks says.
#include "common.cuh"

struct Slot { float *p, *m, *v, *g; u64 n; float keep, step, root, unused; };
struct Chunk { uint32_t slot, start; };

extern "C" __global__ void squares(double *part, const Slot *slots, const Chunk *chunks, int size) {
  Chunk c = chunks[blockIdx.x];
  Slot s = slots[c.slot];
  u64 end = min(s.n, (u64)c.start + size);
  float t = 0.f;
  for (u64 i = c.start + threadIdx.x; i < end; i += blockDim.x) t += s.g[i] * s.g[i];
  t = block_sum(t);
  if (threadIdx.x == 0) part[blockIdx.x] = (double)t;
}
// One block: the sum of the parts, in a fixed order.
extern "C" __global__ void total(double *out, const double *part, int n) {
  __shared__ double lanes[256];
  double t = 0.0;
  for (int i = threadIdx.x; i < n; i += 256) t += part[i];
  lanes[threadIdx.x] = t;
  __syncthreads();
  for (int half = 128; half > 0; half >>= 1) {
    if (threadIdx.x < half) lanes[threadIdx.x] += lanes[threadIdx.x + half];
    __syncthreads();
  }
  if (threadIdx.x == 0) *out = lanes[0];
}
extern "C" __global__ void scale(const Slot *slots, const Chunk *chunks, int size, float factor) {
  Chunk c = chunks[blockIdx.x];
  Slot s = slots[c.slot];
  u64 end = min(s.n, (u64)c.start + size);
  for (u64 i = c.start + threadIdx.x; i < end; i += blockDim.x) s.g[i] *= factor;
}
extern "C" __global__ void adamw(const Slot *slots, const Chunk *chunks, int size, float rest1, float beta2, float rest2,
                                 float eps) {
  Chunk c = chunks[blockIdx.x];
  Slot s = slots[c.slot];
  u64 end = min(s.n, (u64)c.start + size);
  for (u64 i = c.start + threadIdx.x; i < end; i += blockDim.x) {
    float g = s.g[i], m = s.m[i], v = s.v[i];
    // What is left of 1 comes from the host, which has it in f64: 1 - 0.999 in f32 is off by 1e-5.
    m += rest1 * (g - m);
    v = v * beta2 + rest2 * g * g;
    s.m[i] = m, s.v[i] = v;
    s.p[i] = s.p[i] * s.keep - s.step * (m / (sqrtf(v) / s.root + eps));
  }
}
