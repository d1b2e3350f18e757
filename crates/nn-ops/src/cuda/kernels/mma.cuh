// Instructions of compute capability 8.0 that C++ has no name for: products of tiles by a warp, and copies that do not wait.
//
// mma.m16n8k16 (PTX ISA, "Matrix fragments for mma.m16n8k16"): with r = lane / 4 and c = lane % 4 * 2 a lane holds
//   of A (16 x 16) four pairs: (r, c), (r + 8, c), (r, c + 8), (r + 8, c + 8), each with its right neighbour,
//   of B (16 x 8) two pairs down a column: (c, r), (c + 8, r), each with the one below,
//   of the sums C (16 x 8) four: (r, c), (r, c + 1), (r + 8, c), (r + 8, c + 1).
// So the sums of two neighbouring products, rounded to bf16, are the A of a next one.
#pragma once
#include "common.cuh"

// C += A B, bf16, sums in f32.
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// Four 8 x 8 tiles out of shared memory; lane l names the start of row l % 8 of tile l / 8. Each lane gets the pair
// (lane / 4, lane % 4 * 2) of each tile; `turned`: of each tile transposed.
__device__ __forceinline__ void tiles(uint32_t (&r)[4], const bf16 *row) {
  uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}
__device__ __forceinline__ void tiles_turned(uint32_t (&r)[4], const bf16 *row) {
  uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}
// 16 bytes into shared memory, or zeros where `there` is false; they are there after `copied` and a barrier.
__device__ __forceinline__ void copy16(bf16 *to, const bf16 *from, bool there) {
  uint32_t at = (uint32_t)__cvta_generic_to_shared(to);
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from), "r"(there ? 16 : 0) : "memory");
}
__device__ __forceinline__ void copied() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// 2^x; results below the normal numbers are zeros.
__device__ __forceinline__ float power2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Two values as bf16, the first in the lower half.
__device__ __forceinline__ uint32_t pair_of(float low, float high) {
  __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
  return *(uint32_t *)&v;
}
