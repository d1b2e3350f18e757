// Attention by tiles, backward. With p the weights, u what dropout multiplies them by, and dp = (grad vᵀ) u:
//   dv = (p u)ᵀ grad,  ds = p (dp - dot),  dq = scale ds k,  dk = scale dsᵀ q.
// One kernel goes along the keys for dq, one along the queries for dk and dv; each computes p and ds for itself, so that
// every sum has one owner and one order.
#include "flash.cuh"

// dot: four lanes a query and head.
extern "C" __global__ void flash_dot(const Flash f, u64 total) {
  struct alignas(16) Eight { bf16 v[8]; };
  u64 i = ((u64)blockIdx.x * blockDim.x + threadIdx.x) >> 2;
  float sum = 0.f;
  if (i < total) {
    for (int col = (threadIdx.x & 3) * 8; col < f.width; col += 32) {
      Eight g = *(const Eight *)(f.grad + i * f.width + col), o = *(const Eight *)(f.out + i * f.width + col);
#pragma unroll
      for (int j = 0; j < 8; j++) sum = fmaf(up(g.v[j]), up(o.v[j]), sum);
    }
  }
  sum += __shfl_xor_sync(FULL, sum, 1);
  sum += __shfl_xor_sync(FULL, sum, 2);
  if (i >= total || (threadIdx.x & 3)) return;
  uint32_t head, query;
  u64 group = div_of(div_of(i, f.heads, head), f.queries, query);
  f.dot[(group * f.heads + head) * f.queries + query] = sum;
}

// Gradients of 16 x 16 scores, or sums of them, into the rows of a head.
template <class T>
__device__ __forceinline__ void put_scores(T *head, const Flash &f, const float (&s)[2][4], int query, int key) {
  struct alignas(2 * sizeof(T)) Two { T v[2]; };
#pragma unroll
  for (int i = 0; i < 2; i++) {
    int row = query + lane_row() + i * 8;
    if (row >= f.queries) continue;
    T *to = head + (u64)row * f.keys;
#pragma unroll
    for (int n = 0; n < 2; n++) {
      int col = key + n * 8 + lane_col();
      T low = down<T>(s[n][i * 2]), high = down<T>(s[n][i * 2 + 1]);
      if (f.keys % 2 == 0) {
        if (col < f.keys) *(Two *)(to + col) = Two{low, high};
      } else {
        if (col < f.keys) to[col] = low;
        if (col + 1 < f.keys) to[col + 1] = high;
      }
    }
  }
}

// dq: 16 queries a warp, KT keys at a time. TILES: so many times KT keys at most, and the gradients of scores are summed over
// the groups of a block; 0: any number of keys, and the gradients are written where they are wanted.
template <int D, int KT, int TILES> __device__ __forceinline__ void back_q(const Flash &f) {
  __shared__ __align__(16) bf16 held[2][2][KT * (D + 8)];
  int query = (blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5)) * 16, wide = f.heads * f.width;
  int words = words_of(f.keys), channel = blockIdx.y * f.width;
  float sums[TILES ? TILES * KT / 16 : 1][2][4] = {}, unit = f.scale * 1.4426950408889634f;
  GROUPS(f, z) {
    At at = at_of(f, z);
    u64 first = (u64)at.group * f.queries;
    const bf16 *k = f.k + (u64)at.group * f.keys * f.k_wide + channel;
    const bf16 *v = f.v + (u64)at.group * f.keys * f.v_wide + channel;
    fetch<D, KT>(held[0][0], k, f.k_wide, 0, f.keys, f.width);
    fetch<D, KT>(held[0][1], v, f.v_wide, 0, f.keys, f.width);
    Terms terms(f, at);
    uint32_t q[1][D / 16][4], g[1][D / 16][4];
    left<D>(q[0], f.q + first * f.q_wide + channel, f.q_wide, query, f.queries, f.width);
    left<D>(g[0], f.grad + first * wide + channel, wide, query, f.queries, f.width);
    float lse[2], dot[2], dq[1][D / 8][4] = {};
#pragma unroll
    for (int i = 0; i < 2; i++) {
      int row = query + lane_row() + i * 8;
      lse[i] = row < f.queries ? f.lse[at.rows + row] : INFINITY;
      dot[i] = row < f.queries ? f.dot[at.rows + row] : 0.f;
    }
#pragma unroll(TILES ? TILES : 1)
    for (int t = 0; TILES ? t < TILES : true; t++) {
      int key = t * KT, stage = t & 1;
      if (key >= f.keys) break;
      copied();
      __syncthreads();  // this stage is there; the other one is no longer in use
      if (key + KT < f.keys) {
        fetch<D, KT>(held[stage ^ 1][0], k, f.k_wide, key + KT, f.keys, f.width);
        fetch<D, KT>(held[stage ^ 1][1], v, f.v_wide, key + KT, f.keys, f.width);
      }
#pragma unroll
      for (int n = 0; n < KT / 16; n++) {
        const bf16 *tk = held[stage][0] + n * 16 * (D + 8), *tv = held[stage][1] + n * 16 * (D + 8);
        float s[1][2][4] = {}, dp[1][2][4] = {};
        terms.begin(s, query, key + n * 16);
        uint32_t bits = 0;  // the upper row's in the lower half
        if (f.kept) {
          const uint16_t *word = f.kept + at.rows * words + min(key / 16 + n, words - 1);
#pragma unroll
          for (int i = 0; i < 2; i++)
            bits |= (uint32_t)word[min(query + lane_row() + i * 8, f.queries - 1) * words] << (16 * i);
        }
        times_rows<D>(s, q, tk);
        times_rows<D>(dp, g, tv);
        end_keys(s, key + n * 16, f.keys);
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
          for (int i = 0; i < 4; i++) {
            float d = dp[0][j][i];
            if (f.kept) d = bits >> ((i >> 1) * 16 + j * 8 + lane_col() + (i & 1)) & 1 ? d * f.keep : 0.f;
            s[0][j][i] = power2(fmaf(s[0][j][i], unit, -lse[i >> 1])) * (d - dot[i >> 1]);
            if (TILES) sums[TILES ? t * (KT / 16) + n : 0][j][i] += s[0][j][i];
          }
        if (!TILES && f.ds) put_scores(f.ds + ((u64)z * f.heads + at.head) * f.queries * f.keys, f, s[0], query, key + n * 16);
        times<D>(dq, s, tk);
      }
    }
    float by[1][2] = {{f.scale, f.scale}};
    put<D>(f.dq + first * f.q_wide + channel, f.q_wide, dq, by, query, f.queries, f.width);
    __syncthreads();  // before the first rows of the next group take a place
  }
  if (!TILES) return;
  float *to = f.sums + ((u64)blockIdx.z * f.heads + blockIdx.y) * f.queries * f.keys;
#pragma unroll
  for (int n = 0; n < TILES * KT / 16; n++) put_scores(to, f, sums[n], query, n * 16);
}

// dk and dv: 16 keys a warp, QT queries at a time. Scores are computed transposed, so that a warp's sums are its next A.
template <int D, int QT> __device__ __forceinline__ void back_kv(const Flash &f) {
  __shared__ __align__(16) bf16 held[2][2][QT * (D + 8)];
  __shared__ float2 rows[2][QT];  // lse and dot
  int key = (blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5)) * 16, wide = f.heads * f.width;
  int words = words_of(f.keys), channel = blockIdx.y * f.width;
  float unit = f.scale * 1.4426950408889634f;
  GROUPS(f, z) {
    At at = at_of(f, z);
    u64 first = (u64)at.group * f.keys;
    const bf16 *q = f.q + (u64)at.group * f.queries * f.q_wide + channel;
    const bf16 *g = f.grad + (u64)at.group * f.queries * wide + channel;
    auto next = [&](int stage, int query) {
      fetch<D, QT>(held[stage][0], q, f.q_wide, query, f.queries, f.width);
      fetch<D, QT>(held[stage][1], g, wide, query, f.queries, f.width);
      for (int i = threadIdx.x; i < QT; i += blockDim.x) {
        u64 row = at.rows + query + i;
        rows[stage][i] = query + i < f.queries ? float2{f.lse[row], f.dot[row]} : float2{INFINITY, 0.f};
      }
    };
    next(0, 0);
    Terms terms(f, at);
    uint32_t k[1][D / 16][4], v[1][D / 16][4];
    left<D>(k[0], f.k + first * f.k_wide + channel, f.k_wide, key, f.keys, f.width);
    left<D>(v[0], f.v + first * f.v_wide + channel, f.v_wide, key, f.keys, f.width);
    float dk[1][D / 8][4] = {}, dv[1][D / 8][4] = {};
    for (int query = 0, stage = 0; query < f.queries; query += QT, stage ^= 1) {
      float s[QT / 16][1][2][4] = {};
#pragma unroll
      for (int n = 0; n < QT / 16; n++) terms.begin_turned(s[n], query + n * 16, key);
      copied();
      __syncthreads();  // this stage is there; the other one is no longer in use
      if (query + QT < f.queries) next(stage ^ 1, query + QT);
#pragma unroll
      for (int n = 0; n < QT / 16; n++) {
        const bf16 *tq = held[stage][0] + n * 16 * (D + 8), *tg = held[stage][1] + n * 16 * (D + 8);
        float dp[1][2][4] = {};
        uint32_t bits[2] = {};  // of two queries each, the second one's in the upper half
        if (f.kept) {
          const uint16_t *word = f.kept + at.rows * words + min(key / 16, words - 1);
#pragma unroll
          for (int i = 0; i < 4; i++) {
            int row = query + n * 16 + (i >> 1) * 8 + lane_col() + (i & 1);
            bits[i >> 1] |= (uint32_t)word[min(row, f.queries - 1) * words] << (16 * (i & 1));
          }
        }
        times_rows<D>(s[n], k, tq);
        times_rows<D>(dp, v, tg);
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
          for (int i = 0; i < 4; i++) {
            float2 row = rows[stage][n * 16 + j * 8 + lane_col() + (i & 1)];
            float p = power2(fmaf(s[n][0][j][i], unit, -row.x)), d = dp[0][j][i];
            bool stays = !f.kept || (bits[j] >> ((i & 1) * 16 + (i >> 1) * 8 + lane_row()) & 1);
            s[n][0][j][i] = stays ? p : 0.f;
            dp[0][j][i] = p * ((stays ? d * f.keep : 0.f) - row.y);
          }
        times<D>(dv, s[n], tg);
        times<D>(dk, dp, tq);
      }
    }
    float by_k[1][2] = {{f.scale, f.scale}}, by_v[1][2] = {{f.keep, f.keep}};
    put<D>(f.dk + first * f.k_wide + channel, f.k_wide, dk, by_k, key, f.keys, f.width);
    put<D>(f.dv + first * f.v_wide + channel, f.v_wide, dv, by_v, key, f.keys, f.width);
    __syncthreads();  // before the first rows of the next group take a place
  }
}

#define EXPORT(D, T_Q, WARPS_Q, BLOCKS_Q, T_KV, WARPS_KV, BLOCKS_KV)                                        \
  extern "C" __global__ void __launch_bounds__(WARPS_Q * 32, BLOCKS_Q) flash_back_q_##D(const Flash f) {    \
    back_q<D, T_Q, 0>(f);                                                                                   \
  }                                                                                                         \
  extern "C" __global__ void __launch_bounds__(WARPS_KV * 32, BLOCKS_KV) flash_back_kv_##D(const Flash f) { \
    back_kv<D, T_KV>(f);                                                                                    \
  }
// Rows at a time, warps of a block (`BACK_Q` and `BACK_KV` of flash.rs), and blocks that a multiprocessor shall hold.
EXPORT(32, 48, 3, 5, 48, 3, 4)
EXPORT(64, 32, 8, 1, 32, 8, 1)
EXPORT(96, 32, 4, 3, 48, 8, 1)
EXPORT(128, 16, 8, 1, 16, 8, 1)
// Windows of up to 144 cells with a bias that learns.
extern "C" __global__ void __launch_bounds__(96, 3) flash_back_q_sums_32(const Flash f) { back_q<32, 48, 3>(f); }
