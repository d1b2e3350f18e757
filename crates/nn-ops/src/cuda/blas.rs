//! Matrix products through cuBLAS on addresses: any operand transposed, batches with a stride, results in another type.

use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::cublas::{result, sys};
use candle_core::{CudaDevice, DType, Error, Result, bail};

use super::int;

/// Matrices stored row by row, one after another: `(rows, cols)` as stored, read as it stands or transposed.
#[derive(Clone, Copy)]
pub(super) struct Side {
    /// Address of the first element.
    pub(super) at: u64,
    /// Elements from one row to the next.
    pub(super) row: usize,
    /// Elements from one matrix to the next; 0: the same for all.
    pub(super) step: usize,
    /// Read transposed.
    pub(super) t: bool,
}

impl Side {
    pub(super) fn new(at: u64, row: usize, step: usize) -> Self {
        Self { at, row, step, t: false }
    }
    pub(super) fn t(self) -> Self {
        Self { t: !self.t, ..self }
    }
}

/// Element types of operands and result.
#[derive(Clone, Copy)]
pub(super) struct Types {
    pub(super) operands: DType,
    pub(super) result: DType,
}

impl Types {
    pub(super) fn all(dtype: DType) -> Self {
        Self { operands: dtype, result: dtype }
    }
}

fn cuda_type(dtype: DType) -> Result<sys::cudaDataType> {
    match dtype {
        DType::F32 => Ok(sys::cudaDataType_t::CUDA_R_32F),
        DType::BF16 => Ok(sys::cudaDataType_t::CUDA_R_16BF),
        other => bail!("cuBLAS products take f32 or bf16 here, not {other:?}"),
    }
}

/// `c[i] = a[i] b[i]` for `count` products of `(m, k)` and `(k, n)`; `c` is packed, row by row. Sums in f32.
pub(super) fn products(
    dev: &CudaDevice,
    count: usize,
    (m, n, k): (usize, usize, usize),
    a: Side,
    b: Side,
    c: u64,
    types: Types,
) -> Result<()> {
    let compute = match types.operands {
        DType::F32 if super::gemm::tf32() => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32,
        _ => sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    let turn = |s: Side| {
        if s.t { sys::cublasOperation_t::CUBLAS_OP_T } else { sys::cublasOperation_t::CUBLAS_OP_N }
    };
    let (one, zero) = (1f32, 0f32);
    let (operand, result_type) = (cuda_type(types.operands)?, cuda_type(types.result)?);
    let blas = dev.cublas_handle();
    // cuBLAS reads columns first: what is stored row by row is transposed to it, and cᵀ = bᵀ aᵀ.
    // SAFETY: addresses are those of live tensors of the sizes stated beside them; constants live across the call.
    let done = unsafe {
        result::gemm_strided_batched_ex(
            *blas.handle(),
            turn(b),
            turn(a),
            int(n)?,
            int(m)?,
            int(k)?,
            (&raw const one).cast::<c_void>(),
            b.at as *const c_void,
            operand,
            int(b.row)?,
            b.step as i64,
            a.at as *const c_void,
            operand,
            int(a.row)?,
            a.step as i64,
            (&raw const zero).cast::<c_void>(),
            c as *mut c_void,
            result_type,
            int(n)?,
            (m * n) as i64,
            int(count)?,
            compute,
            sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT_TENSOR_OP,
        )
    };
    done.map_err(Error::wrap)
}
