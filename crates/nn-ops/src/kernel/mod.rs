//! What every fused CPU kernel of this crate shares: slices out of tensors, GEMM, fixed work splitting, and a way to put
//! a hand-written backward pass into Candle's graph.
//!
//! Results never depend on the number of threads: work is split into pieces fixed by the sizes alone, and partial sums are
//! added in the order of the pieces.

mod attach;
mod attend;
mod few;
mod gemm;
mod link;
mod math;
mod panel;
#[cfg(target_arch = "x86_64")]
mod product;
mod scratch;
mod split;
mod stream;
mod tape;

use std::ops::Deref;

use candle_core::{DType, Result, Shape, Storage, Tensor, WithDType, bail};

pub(crate) use attach::{attach, attach_storage, attach_with_result};
pub(crate) use attend::{HeadSize, Term, attend_head, pack_memory, term_panels};
pub(crate) use few::{few_rows, is_few};
pub(crate) use gemm::{Mat, Product, Threads, gemm};
pub(crate) use link::{View, attach_view};
pub(crate) use panel::{COLUMNS, ROWS, panel_product};
pub(crate) use scratch::{Pool, Scratch};
pub(crate) use split::{column_sums, par_chunks, par_filled, par_sum, zeros};
pub(crate) use stream::{copy_past_caches, settle};
pub use tape::Tape;
#[cfg(feature = "cuda")]
pub(crate) use tape::{Casts, cast, casts_of, with_casts};
pub(crate) use tape::{backward_from, run as run_tape};

/// Values in a storage of their own.
pub(crate) fn stored<T: Real>(values: Vec<T>) -> Storage {
    Storage::Cpu(T::to_cpu_storage_owned(values))
}

/// How an operation is carried out for a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The fused kernel of this crate (CPU, f32 or f64).
    Fused,
    /// The fused kernel in f32, with casts around it (CPU, bf16 or f16).
    ThroughF32,
    /// The kernels of this crate on a GPU (f32 or bf16).
    #[cfg(feature = "cuda")]
    Cuda,
    /// A composition of Candle operations whose gradients were checked (any device).
    Composed,
}

/// The plan for `xs`, by device and type.
pub(crate) fn plan(xs: &Tensor) -> Plan {
    crate::profile::begin();
    #[cfg(feature = "cuda")]
    if xs.device().is_cuda()
        && matches!(xs.dtype(), DType::F32 | DType::BF16)
        && xs.elem_count() > 0
    {
        return Plan::Cuda;
    }
    if !xs.device().is_cpu() {
        return Plan::Composed;
    }
    match xs.dtype() {
        DType::F32 | DType::F64 => Plan::Fused,
        DType::BF16 | DType::F16 => Plan::ThroughF32,
        _ => Plan::Composed,
    }
}

/// `f32` or `f64`: the types the kernels are written for. Always inlined: a call inside a loop would keep it scalar.
pub(crate) trait Real: WithDType + Send + Sync + Default {
    fn exp(self) -> Self;
    /// `e^self` for `self <= 0`; results below the normal numbers may be zero.
    fn exp_down(self) -> Self;
    /// `erfc(self / √2)` for `self >= 0`: the normal distribution outside of `±self`.
    fn two_tails(self) -> Self;
    fn sqrt(self) -> Self;
    /// `ln(1 + self)`.
    fn ln_1p(self) -> Self;
    fn tanh(self) -> Self;
    fn of(v: f64) -> Self;
    fn larger(self, other: Self) -> Self;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Working memory for the next kernel.
    fn pool() -> &'static Pool<Self>;
    /// [`gemm`] by kernels of this crate, where they are faster; whether they were.
    ///
    /// # Safety
    /// Every index of the three matrices must lie inside its slice.
    unsafe fn product(_product: Product<'_, Self>) -> bool {
        false
    }
    /// `y = x wᵀ`, or `y += x wᵀ`, with factors rounded to bf16, where a kernel of this crate does
    /// that; whether one did. Sizes `(out, inner)`.
    fn rounded_product(
        _size: (usize, usize),
        _x: &[Self],
        _w: &[Self],
        _y: &mut [Self],
        _add: bool,
    ) -> bool {
        false
    }
    const NEG_INF: Self;
}

impl Real for f32 {
    #[inline(always)]
    fn exp(self) -> Self {
        math::exp(self)
    }
    #[inline(always)]
    fn exp_down(self) -> Self {
        math::exp_down(self)
    }
    #[inline(always)]
    fn two_tails(self) -> Self {
        math::two_tails(self)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        f32::ln_1p(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        f32::tanh(self)
    }
    #[inline(always)]
    fn of(v: f64) -> Self {
        v as f32
    }
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f32::mul_add(self, a, b)
    }
    fn pool() -> &'static Pool<Self> {
        static POOL: Pool<f32> = Pool::new();
        &POOL
    }
    #[cfg(target_arch = "x86_64")]
    unsafe fn product(product: Product<'_, f32>) -> bool {
        // SAFETY: the caller's promise.
        unsafe { product::product(product) }
    }
    #[cfg(target_arch = "x86_64")]
    fn rounded_product(
        size: (usize, usize),
        x: &[f32],
        w: &[f32],
        y: &mut [f32],
        add: bool,
    ) -> bool {
        product::rounded_product(size, x, w, y, add);
        true
    }
    const NEG_INF: Self = f32::NEG_INFINITY;
}

impl Real for f64 {
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn exp_down(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn two_tails(self) -> Self {
        libm::erfc(self * std::f64::consts::FRAC_1_SQRT_2)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn ln_1p(self) -> Self {
        f64::ln_1p(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    #[inline(always)]
    fn of(v: f64) -> Self {
        v
    }
    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f64::mul_add(self, a, b)
    }
    fn pool() -> &'static Pool<Self> {
        static POOL: Pool<f64> = Pool::new();
        &POOL
    }
    const NEG_INF: Self = f64::NEG_INFINITY;
}

/// Runs `$body` with `$T` bound to the Rust type of a float `DType`.
macro_rules! dispatch {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => candle_core::bail!("fused kernels take f32 or f64, not {other:?}"),
        }
    };
}
pub(crate) use dispatch;

/// A function over slices, compiled for every [`Level`](crate::simd::Level). Rust neither fuses nor reorders float operations,
/// so all copies give the same bits. (A closure would not do: it is not inlined into the copies.)
macro_rules! wide {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        $vis fn $name<T: Real>($($arg: $type),*) {
            #[inline(always)]
            fn body<T: Real>($($arg: $type),*) $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2<T: Real>($($arg: $type),*) {
                    body($($arg),*);
                }
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
                fn avx512<T: Real>($($arg: $type),*) {
                    body($($arg),*);
                }
                match $crate::simd::level() {
                    // SAFETY: the processor has AVX-512 F, VL, BW and DQ: `level` never exceeds `best`.
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: the processor has AVX2, likewise.
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Level::Baseline => {}
                }
            }
            body($($arg),*);
        }
    };
}
pub(crate) use wide;

/// Read access to the elements of a contiguous CPU tensor.
pub(crate) struct Reading<G> {
    guard: G,
    start: usize,
    end: usize,
}

impl<G: Deref<Target = Storage>> Reading<G> {
    pub(crate) fn slice<T: Real>(&self) -> Result<&[T]> {
        match &*self.guard {
            Storage::Cpu(s) => Ok(&s.as_slice::<T>()?[self.start..self.end]),
            _ => bail!("a CPU kernel was given a tensor on another device"),
        }
    }
}

/// Opens a contiguous tensor for reading. Callers make tensors contiguous first.
pub(crate) fn read(t: &Tensor) -> Result<Reading<impl Deref<Target = Storage> + '_>> {
    let (guard, layout) = t.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a CPU kernel needs a contiguous tensor, got {layout:?}");
    };
    Ok(Reading { guard, start, end })
}

/// Opens a tensor whose last dimension is contiguous: its elements and what lies between its rows.
pub(crate) fn read_rows(t: &Tensor) -> Result<Reading<impl Deref<Target = Storage> + '_>> {
    let (guard, layout) = t.storage_and_layout();
    let (dims, strides) = (layout.dims(), layout.stride());
    if strides.last() != Some(&1) || dims.contains(&0) {
        bail!("a CPU kernel needs rows in order, got {layout:?}");
    }
    let last: usize = dims.iter().zip(strides).map(|(d, s)| (d - 1) * s).sum();
    let start = layout.start_offset();
    Ok(Reading { guard, start, end: start + last + 1 })
}

/// A tensor on the CPU from the elements a kernel computed.
pub(crate) fn from_vec<T: Real>(v: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(v, shape.into(), &candle_core::Device::Cpu)
}
