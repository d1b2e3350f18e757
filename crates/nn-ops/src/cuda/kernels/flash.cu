// Attention by tiles, forward: softmax(scale q kᵀ + bias + mask) v for each head, with dropout of the weights.
#include "flash.cuh"

// Which of the four keys from `key` on dropout leaves in row `row` of all rows: bit j is element row K + key + j of the
// scores, a word of Philox each, as in `dropout_of`.
__device__ __forceinline__ uint32_t kept_of_four(const Flash &f, u64 row, int key) {
  Key words(f.k0, f.k1, f.key);
  u64 first = row * f.keys + key;
  uint32_t bits = 0;
  if (f.keys % 4 == 0) {
    uint32_t c[4] = {(uint32_t)(first >> 2), (uint32_t)(first >> 34), 0u, 0u};
    philox(c, words.k0, words.k1);
#pragma unroll
    for (int j = 0; j < 4; j++) bits |= (uint32_t)(c[j] >= f.threshold) << j;
  } else {
#pragma unroll 1
    for (int j = 0; j < 4; j++) {
      u64 e = first + j;
      uint32_t c[4] = {(uint32_t)(e >> 2), (uint32_t)(e >> 34), 0u, 0u};
      philox(c, words.k0, words.k1);
      uint32_t low = e & 1 ? c[1] : c[0], high = e & 1 ? c[3] : c[2];
      bits |= (uint32_t)((e & 2 ? high : low) >= f.threshold) << j;
    }
  }
  return bits;
}
// Drops weights of 16 keys, and keeps the bits for the backward pass. The four lanes of a row pair hold two rows of 16: an
// even lane draws eight keys of the upper row, an odd lane of the lower one, and they exchange them.
__device__ __forceinline__ void drop(float (&a)[4], float (&b)[4], const Flash &f, const At &at, int query, int key) {
  int lane = threadIdx.x & 3, col = lane_col(), upper = query + lane_row(), mine = upper + (lane & 1) * 8, quad = (lane >> 1) * 4;
  uint32_t bits = kept_of_four(f, at.rows + mine, key + quad) << quad;
  bits |= kept_of_four(f, at.rows + mine, key + 8 + quad) << (8 + quad);
  bits |= __shfl_xor_sync(FULL, bits, 2);
  uint32_t other = __shfl_xor_sync(FULL, bits, 1);
  if (lane < 2 && mine < f.queries && key < f.keys) f.kept[(at.rows + mine) * words_of(f.keys) + key / 16] = (uint16_t)bits;
  uint32_t both[2] = {lane & 1 ? other : bits, lane & 1 ? bits : other};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    uint32_t row = both[i >> 1] >> (col + (i & 1));
    if (!(row & 1)) a[i] = 0.f;
    if (!(row & 0x100)) b[i] = 0.f;
  }
}

// Blocks of up to WARPS warps, each with 16 MT queries; KT keys at a time, the next ones on their way meanwhile.
template <int D, int MT, int KT> __device__ __forceinline__ void forward(const Flash &f) {
  constexpr int NT = KT / 8, TILE = KT * (D + 8);
  __shared__ __align__(16) bf16 held[2][2][TILE];
  int query = (blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5)) * 16 * MT;
  GROUPS(f, z) {
    At at = at_of(f, z);
    const bf16 *q = f.q + (u64)at.group * f.queries * f.q_wide + at.head * f.width;
    const bf16 *k = f.k + (u64)at.group * f.keys * f.k_wide + at.head * f.width;
    const bf16 *v = f.v + (u64)at.group * f.keys * f.v_wide + at.head * f.width;
    fetch<D, KT>(held[0][0], k, f.k_wide, 0, f.keys, f.width);
    fetch<D, KT>(held[0][1], v, f.v_wide, 0, f.keys, f.width);
    Terms terms(f, at);
    uint32_t a[MT][D / 16][4];
    float o[MT][D / 8][4] = {}, most[MT][2], sum[MT][2] = {};
#pragma unroll
    for (int m = 0; m < MT; m++) {
      left<D>(a[m], q, f.q_wide, query + m * 16, f.queries, f.width);
      most[m][0] = most[m][1] = -INFINITY;
    }
    float unit = f.scale * 1.4426950408889634f;  // weights are powers of two
    for (int key = 0, stage = 0; key < f.keys; key += KT, stage ^= 1) {
      float s[MT][NT][4] = {};
      terms.begin(s, query, key);
      copied();
      __syncthreads();  // this stage is there; the other one is no longer in use
      if (key + KT < f.keys) {
        fetch<D, KT>(held[stage ^ 1][0], k, f.k_wide, key + KT, f.keys, f.width);
        fetch<D, KT>(held[stage ^ 1][1], v, f.v_wide, key + KT, f.keys, f.width);
      }
      times_rows<D>(s, a, held[stage][0]);
      end_keys(s, key, f.keys);
      // The largest score so far is the origin; sums made with an earlier one are brought to it.
      float shrink[MT][2];
      bool grew = false;
#pragma unroll
      for (int m = 0; m < MT; m++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
          float now = most[m][i];
#pragma unroll
          for (int n = 0; n < NT; n++) now = fmaxf(now, fmaxf(s[m][n][i * 2], s[m][n][i * 2 + 1]));
          now = fmaxf(now, __shfl_xor_sync(FULL, now, 1));
          now = fmaxf(now, __shfl_xor_sync(FULL, now, 2));
          grew |= now > most[m][i];
          shrink[m][i] = power2((most[m][i] - now) * unit);
          most[m][i] = now;
          sum[m][i] *= shrink[m][i];
          float origin = -now * unit;
#pragma unroll
          for (int n = 0; n < NT; n++)
#pragma unroll
            for (int j = i * 2; j < i * 2 + 2; j++) {
              s[m][n][j] = power2(fmaf(s[m][n][j], unit, origin));
              sum[m][i] += s[m][n][j];
            }
        }
      if (__any_sync(FULL, grew)) {
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
          for (int d = 0; d < D / 8; d++)
#pragma unroll
            for (int i = 0; i < 4; i++) o[m][d][i] *= shrink[m][i >> 1];
      }
      if (f.kept) {
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
          for (int n = 0; n < NT; n += 2) drop(s[m][n], s[m][n + 1], f, at, query + m * 16, key + n * 8);
      }
      times<D>(o, s, held[stage][1]);
    }
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        float all = sum[m][i];
        all += __shfl_xor_sync(FULL, all, 1);
        all += __shfl_xor_sync(FULL, all, 2);
        int row = query + m * 16 + i * 8 + lane_row();
        if (row < f.queries && lane_col() == 0) f.lse[at.rows + row] = fmaf(most[m][i], unit, log2f(all));
        sum[m][i] = f.keep / all;
      }
    int wide = f.heads * f.width;
    put<D>(f.out + (u64)at.group * f.queries * wide + at.head * f.width, wide, o, sum, query, f.queries, f.width);
    __syncthreads();  // before the first rows of the next group take a place
  }
}

#define EXPORT(D, MT, KT, WARPS, BLOCKS)                                                     \
  extern "C" __global__ void __launch_bounds__(WARPS * 32, BLOCKS) flash_##D(const Flash f) { \
    forward<D, MT, KT>(f);                                                                   \
  }
// Rows of a warp and warps of a block: `FORWARD` of flash.rs.
EXPORT(32, 1, 48, 9, 2)
EXPORT(64, 2, 32, 4, 2)
EXPORT(96, 1, 32, 8, 2)
EXPORT(128, 1, 32, 8, 1)
