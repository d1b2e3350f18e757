//! Products with the bias added on the way out, through cuBLASLt: one pass over the result less.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_void;
use std::rc::Rc;

use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::cudarc::cublas::sys::cublasOperation_t as Operation;
use candle_core::cuda_backend::cudarc::cublaslt::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, DevicePtr};
use candle_core::{CudaDevice, DType, Error, Result};

use super::blas::Side;

/// Scratch memory that an algorithm may take, bytes: what NVIDIA advises for Hopper.
const WORKSPACE: usize = 32 << 20;

/// What decides an algorithm: sizes, operands as stored with the alignment of their addresses, type, TF32.
type Key = (DeviceId, (usize, usize, usize), [(usize, bool, u32); 2], DType, bool);

thread_local! {
    /// One a thread: handles are made for one device each.
    static HANDLES: RefCell<HashMap<DeviceId, Rc<Handle>>> = RefCell::default();
    /// None: there is no algorithm for it.
    static PLANS: RefCell<HashMap<Key, Option<Rc<Plan>>>> = RefCell::default();
}

struct Handle(sys::cublasLtHandle_t);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: it was made by `create_handle` and is dropped once.
        let _ = unsafe { result::destroy_handle(self.0) };
    }
}

/// How a matrix lies in memory.
struct Layout(sys::cublasLtMatrixLayout_t);

impl Layout {
    /// Columns first.
    fn new(of: sys::cudaDataType, rows: usize, cols: usize, step: usize) -> Result<Self> {
        let made = result::create_matrix_layout(of, rows as u64, cols as u64, step as i64);
        made.map(Self).map_err(Error::wrap)
    }
}

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: as of a handle.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

/// What is computed.
struct Task(sys::cublasLtMatmulDesc_t);

impl Task {
    fn set<T>(&self, what: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<()> {
        let bytes = std::ptr::from_ref(value).cast::<c_void>();
        // SAFETY: the descriptor lives, and each attribute below is given a value of its own type.
        unsafe { result::set_matmul_desc_attribute(self.0, what, bytes, size_of::<T>()) }
            .map_err(Error::wrap)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // SAFETY: as of a handle.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

struct Preference(sys::cublasLtMatmulPreference_t);

impl Preference {
    fn set<T>(&self, what: sys::cublasLtMatmulPreferenceAttributes_t, value: T) -> Result<()> {
        let bytes = (&raw const value).cast::<c_void>();
        // SAFETY: as of a task.
        unsafe { result::set_matmul_pref_attribute(self.0, what, bytes, size_of::<T>()) }
            .map_err(Error::wrap)
    }
}

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: as of a handle.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

/// A task with the algorithm chosen for it.
struct Plan {
    handle: Rc<Handle>,
    task: Task,
    /// Of the first and second operand and the result, as cuBLASLt sees them.
    layouts: [Layout; 3],
    algorithm: sys::cublasLtMatmulAlgo_t,
    workspace: usize,
}

/// `c = a b + bias` for `(m, k)` and `(k, n)`, one bias a column, all of one type; `c` is packed, row by row. False, and nothing
/// done: cuBLASLt has no algorithm for it.
pub(super) fn product_and_bias(
    dev: &CudaDevice,
    (m, n, k): (usize, usize, usize),
    a: Side,
    b: Side,
    bias: u64,
    c: u64,
    dtype: DType,
) -> Result<bool> {
    let side = |s: Side| (s.row, s.t, s.at.trailing_zeros().min(8));
    let key = (dev.id(), (m, n, k), [side(a), side(b)], dtype, super::gemm::tf32());
    let known = PLANS.with_borrow(|plans| plans.get(&key).cloned());
    let plan = match known {
        Some(known) => known,
        None => {
            let made = Plan::new(dev, key)?.map(Rc::new);
            PLANS.with_borrow_mut(|plans| plans.insert(key, made.clone()));
            made
        }
    };
    let Some(plan) = plan else { return Ok(false) };
    plan.task.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
    // SAFETY: scratch memory, written before it is read.
    let scratch: CudaSlice<u8> = unsafe { dev.alloc(plan.workspace.max(1))? };
    let stream = dev.cuda_stream();
    let (one, zero) = (1f32, 0f32);
    let [first, second, out] = &plan.layouts;
    let at = |address: u64| address as *const c_void;
    // SAFETY: addresses are those of live tensors of the sizes that the plan was made for; constants live across the call.
    unsafe {
        result::matmul(
            plan.handle.0,
            plan.task.0,
            (&raw const one).cast::<c_void>(),
            (&raw const zero).cast::<c_void>(),
            at(b.at),
            first.0,
            at(a.at),
            second.0,
            at(c),
            out.0,
            c as *mut c_void,
            out.0,
            &raw const plan.algorithm,
            scratch.device_ptr(&stream).0 as *mut c_void,
            plan.workspace,
            stream.cu_stream().cast(),
        )
    }
    .map_err(Error::wrap)?;
    Ok(true)
}

impl Plan {
    fn new(dev: &CudaDevice, (id, (m, n, k), [a, b], dtype, tf32): Key) -> Result<Option<Self>> {
        use sys::cublasComputeType_t as Compute;
        use sys::cublasLtMatmulDescAttributes_t as D;
        use sys::cublasLtMatmulPreferenceAttributes_t as P;
        let (of, compute) = match dtype {
            DType::F32 if tf32 => {
                (sys::cudaDataType::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F_FAST_TF32)
            }
            DType::F32 => (sys::cudaDataType::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F),
            DType::BF16 => (sys::cudaDataType::CUDA_R_16BF, Compute::CUBLAS_COMPUTE_32F),
            _ => return Ok(None),
        };
        let handle = handle(dev, id)?;
        let turn = |(_, turned, _): (usize, bool, u32)| {
            if turned { Operation::CUBLAS_OP_T } else { Operation::CUBLAS_OP_N }
        };
        let scale = sys::cudaDataType::CUDA_R_32F;
        let task = Task(result::create_matmul_desc(compute, scale).map_err(Error::wrap)?);
        // cuBLASLt reads columns first: cᵀ = bᵀ aᵀ, whose rows are the columns of c, which a bias belongs to each.
        task.set(D::CUBLASLT_MATMUL_DESC_TRANSA, &turn(b))?;
        task.set(D::CUBLASLT_MATMUL_DESC_TRANSB, &turn(a))?;
        task.set(
            D::CUBLASLT_MATMUL_DESC_EPILOGUE,
            &sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
        )?;
        let stored = |(step, turned, _): (usize, bool, u32), rows: usize, cols: usize| {
            let (rows, cols) = if turned { (cols, rows) } else { (rows, cols) };
            Layout::new(of, rows, cols, step)
        };
        let layouts = [stored(b, n, k)?, stored(a, k, m)?, Layout::new(of, n, m, n)?];
        let wanted = Preference(result::create_matmul_pref().map_err(Error::wrap)?);
        wanted.set(P::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE)?;
        wanted.set(P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, 1u32 << b.2)?;
        wanted.set(P::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, 1u32 << a.2)?;
        let [first, second, out] = &layouts;
        // SAFETY: all of them live.
        let found = unsafe {
            result::get_matmul_algo_heuristic(
                handle.0, task.0, first.0, second.0, out.0, out.0, wanted.0,
            )
        };
        Ok(found.ok().map(|found| Self {
            handle,
            task,
            layouts,
            algorithm: found.algo,
            workspace: found.workspaceSize,
        }))
    }
}

fn handle(dev: &CudaDevice, id: DeviceId) -> Result<Rc<Handle>> {
    if let Some(known) = HANDLES.with_borrow(|handles| handles.get(&id).cloned()) {
        return Ok(known);
    }
    // It belongs to the device whose context is bound.
    dev.cuda_stream().context().bind_to_thread().map_err(Error::wrap)?;
    let made = Rc::new(Handle(result::create_handle().map_err(Error::wrap)?));
    HANDLES.with_borrow_mut(|handles| handles.insert(id, made.clone()));
    Ok(made)
}
