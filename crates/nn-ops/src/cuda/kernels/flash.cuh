// Attention by tiles on tensor cores, bf16 (FlashAttention-2, Dao 2023): what the forward and the backward pass share.
//
// Scores never leave the registers of a warp. D is the width of a head, or the next width there is a kernel for: channels
// beyond the head's own are zeros. A warp has MT tiles of 16 rows; C-fragments are those of mma.cuh. Rows in shared memory
// are D + 8 long, so that the eight rows of a tile lie in different banks.
#pragma once
#include "common.cuh"
#include "mma.cuh"

#define FULL 0xffffffffu

// One attention; `Args` of flash.rs. Group g's row i of the queries begins at q + (g N + i) q_wide, head m at channel m d.
struct Flash {
  const bf16 *q, *k, *v;
  const float *bias, *mask;    // (M, N, K) and (W, NM, K), or null
  bf16 *out;                   // (G, N, M d)
  float *lse;                  // (G, M, N): log2 of the sum of exponentials of a row
  uint16_t *kept;              // (G, M, N, words): a bit for each key that dropout leaves; null: no dropout
  const bf16 *grad;            // as out
  float *dot;                  // (G, M, N): sum of grad out over the channels of a head
  bf16 *dq, *dk, *dv;          // where q, k and v have their values
  bf16 *ds;                    // (groups of the launch, M, N, K): gradient of the scores; null: not wanted
  float *sums;                 // (blocks across the groups, M, N, K): its sums over a block's groups
  const uint32_t *key;         // of dropout; null: k0 and k1
  int q_wide, k_wide, v_wide;  // from a row to the next
  int first, groups;           // those of the launch
  int heads, queries, keys, width, w, nm;
  uint32_t k0, k1, threshold;
  float scale, keep;
};

// Blocks: (tile of rows, head, one of the groups; the next of a block is as many further as there are blocks across).
#define GROUPS(f, z) for (int z = blockIdx.z; z < (f).groups; z += gridDim.z)
struct At { int head, group; u64 rows; };  // rows: number of the first query of this head among all (G, M, N)
__device__ __forceinline__ At at_of(const Flash &f, int z) {
  int group = f.first + z, head = blockIdx.y;
  return {head, group, ((u64)group * f.heads + head) * f.queries};
}
__device__ __forceinline__ int lane_row() { return (threadIdx.x & 31) >> 2; }
__device__ __forceinline__ int lane_col() { return (threadIdx.x & 3) * 2; }

// Rows first.. of `count` as A-fragments, zeros beyond. Here and below what lies outside is read at the edge and not used: all
// loads are on their way at once, none behind a branch.
template <int D>
__device__ __forceinline__ void left(uint32_t (&a)[D / 16][4], const bf16 *x, int wide, int first, int count, int width) {
#pragma unroll
  for (int k = 0; k < D / 16; k++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      int row = first + lane_row() + (i & 1) * 8, col = k * 16 + lane_col() + (i >> 1) * 8;
      uint32_t v = *(const uint32_t *)(x + (u64)min(row, count - 1) * wide + min(col, width - 2));
      a[k][i] = row < count && col < width ? v : 0u;
    }
}
// ROWS rows from `first` on into shared memory, zeros beyond `count`.
template <int D, int ROWS>
__device__ __forceinline__ void fetch(bf16 *to, const bf16 *x, int wide, int first, int count, int width) {
  const bf16 *from = x + (u64)first * wide;
#pragma unroll 1
  for (int i = threadIdx.x; i < ROWS * (D / 8); i += blockDim.x) {
    int row = i / (D / 8), col = i % (D / 8) * 8;
    bool there = first + row < count && col < width;
    copy16(to + row * (D + 8) + col, there ? from + (u64)row * wide + col : from, there);
  }
}
// s += a xᵀ for the 8 NT rows of x in shared memory.
template <int D, int MT, int NT>
__device__ __forceinline__ void times_rows(float (&s)[MT][NT][4], const uint32_t (&a)[MT][D / 16][4], const bf16 *x) {
  int lane = threadIdx.x & 31;
  const bf16 *from = x + ((lane & 7) + (lane >> 4) * 8) * (D + 8) + (lane >> 3 & 1) * 8;
#pragma unroll
  for (int k = 0; k < D / 16; k++)
#pragma unroll
    for (int n = 0; n < NT; n += 2) {
      uint32_t b[4];
      tiles(b, from + n * 8 * (D + 8) + k * 16);
#pragma unroll
      for (int m = 0; m < MT; m++) mma(s[m][n], a[m][k], b[0], b[1]), mma(s[m][n + 1], a[m][k], b[2], b[3]);
    }
}
// o += p x, where p has the layout of sums and is rounded to bf16.
template <int D, int MT, int NT>
__device__ __forceinline__ void times(float (&o)[MT][D / 8][4], const float (&p)[MT][NT][4], const bf16 *x) {
  int lane = threadIdx.x & 31;
  const bf16 *from = x + (lane & 15) * (D + 8) + (lane >> 4) * 8;
#pragma unroll
  for (int n = 0; n < NT; n += 2) {
    uint32_t a[MT][4];
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int i = 0; i < 4; i++) a[m][i] = pair_of(p[m][n + (i >> 1)][(i & 1) * 2], p[m][n + (i >> 1)][(i & 1) * 2 + 1]);
#pragma unroll
    for (int k = 0; k < D / 8; k += 2) {
      uint32_t b[4];
      tiles_turned(b, from + n * 8 * (D + 8) + k * 8);
#pragma unroll
      for (int m = 0; m < MT; m++) mma(o[m][k], a[m], b[0], b[1]), mma(o[m][k + 1], a[m], b[2], b[3]);
    }
  }
}
// Rows first.. of a result, times `by` (of the lane's upper and lower row of each tile).
template <int D, int MT>
__device__ __forceinline__ void put(bf16 *x, int wide, const float (&o)[MT][D / 8][4], const float (&by)[MT][2], int first,
                                    int count, int width) {
#pragma unroll
  for (int m = 0; m < MT; m++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      int row = first + m * 16 + i * 8 + lane_row();
      if (row >= count) continue;
#pragma unroll
      for (int k = 0; k < D / 8; k++) {
        int col = k * 8 + lane_col();
        if (col < width)
          *(uint32_t *)(x + (u64)row * wide + col) = pair_of(o[m][k][i * 2] * by[m][i], o[m][k][i * 2 + 1] * by[m][i]);
      }
    }
}

// Bias and mask of a head and group, in units of products of a query and a key: sums begin with them. A mask not below -2^20:
// the key gets no weight beside any other one, and a row of nothing but such keys keeps the digits of its scores.
struct Terms {
  const float *bias, *mask;
  int queries, keys, mask_step;
  float unit;
  bool pairs;  // two neighbours can be loaded at once
  __device__ __forceinline__ Terms(const Flash &f, const At &at) : queries(f.queries), keys(f.keys), unit(1.f / f.scale) {
    bias = f.bias ? f.bias + (u64)at.head * f.queries * f.keys : nullptr;
    mask = f.mask ? f.mask + (u64)(at.group % f.w) * f.nm * f.keys : nullptr;
    mask_step = f.nm == 1 ? 0 : f.keys;
    pairs = f.keys % 2 == 0 && (((u64)f.bias | (u64)f.mask) & 7) == 0;
  }
  template <int MT, int NT> __device__ __forceinline__ void bound(float (&s)[MT][NT][4]) const {
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int n = 0; n < NT; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) s[m][n][i] = s[m][n][i] < -1048576.f ? -1048576.f : s[m][n][i];
  }
  template <int MT, int NT>
  __device__ __forceinline__ void add(float (&s)[MT][NT][4], const float *x, int step, int query, int key) const {
    int col = key + lane_col();
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const float *row = x + min(query + m * 16 + i * 8 + lane_row(), queries - 1) * step;
        if (pairs) {
#pragma unroll
          for (int n = 0; n < NT; n++) {
            float2 v = *(const float2 *)(row + min(col + n * 8, keys - 2));
            s[m][n][i * 2] = fmaf(v.x, unit, s[m][n][i * 2]), s[m][n][i * 2 + 1] = fmaf(v.y, unit, s[m][n][i * 2 + 1]);
          }
        } else {
#pragma unroll
          for (int n = 0; n < NT; n++)
#pragma unroll
            for (int j = 0; j < 2; j++)
              s[m][n][i * 2 + j] = fmaf(row[min(col + n * 8 + j, keys - 1)], unit, s[m][n][i * 2 + j]);
        }
      }
  }
  template <int NT>
  __device__ __forceinline__ void add_turned(float (&s)[1][NT][4], const float *x, int step, int query, int key) const {
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const float *row = x + min(query + n * 8 + lane_col() + (i & 1), queries - 1) * step;
        s[0][n][i] = fmaf(row[min(key + lane_row() + (i >> 1) * 8, keys - 1)], unit, s[0][n][i]);
      }
  }
  // Sums begin: rows are queries.
  template <int MT, int NT> __device__ __forceinline__ void begin(float (&s)[MT][NT][4], int query, int key) const {
    if (bias) add(s, bias, keys, query, key);
    if (mask) add(s, mask, mask_step, query, key), bound(s);
  }
  // Rows are keys.
  template <int NT> __device__ __forceinline__ void begin_turned(float (&s)[1][NT][4], int query, int key) const {
    if (bias) add_turned(s, bias, keys, query, key);
    if (mask) add_turned(s, mask, mask_step, query, key), bound(s);
  }
};
// Keys beyond the last one get no weight.
template <int MT, int NT> __device__ __forceinline__ void end_keys(float (&s)[MT][NT][4], int key, int keys) {
  if (key + NT * 8 <= keys) return;
#pragma unroll
  for (int m = 0; m < MT; m++)
#pragma unroll
    for (int n = 0; n < NT; n++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        if (key + n * 8 + lane_col() + (i & 1) >= keys) s[m][n][i] = -INFINITY;
}
// 16-bit words of a row of `kept`.
__device__ __forceinline__ int words_of(int keys) { return (keys + 15) / 16; }
