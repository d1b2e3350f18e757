//! What every fused CPU kernel of this crate shares: slices out of tensors, GEMM, fixed work splitting, and a way to put
//! a hand-written backward pass into Candle's graph.
//!
//! Results never depend on the number of threads: work is split into pieces fixed by the sizes alone, and partial sums are
//! added in the order of the pieces.

use std::ops::Deref;
use std::sync::Mutex;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Layout, Result, Shape, Storage, Tensor,
    WithDType, bail,
};
use rayon::prelude::*;

/// How an operation is carried out for a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The fused kernel of this crate (CPU, f32 or f64).
    Fused,
    /// The fused kernel in f32, with casts around it (CPU, bf16 or f16).
    ThroughF32,
    /// A composition of Candle operations whose gradients were checked (any device).
    Composed,
}

/// The plan for `xs`, by device and type.
pub(crate) fn plan(xs: &Tensor) -> Plan {
    if !xs.device().is_cpu() {
        return Plan::Composed;
    }
    match xs.dtype() {
        DType::F32 | DType::F64 => Plan::Fused,
        DType::BF16 | DType::F16 => Plan::ThroughF32,
        _ => Plan::Composed,
    }
}

/// `f32` or `f64`: the types the kernels are written for.
pub(crate) trait Real: WithDType + Send + Sync + Default {
    fn exp(self) -> Self;
    fn sqrt(self) -> Self;
    fn erf(self) -> Self;
    fn of(v: f64) -> Self;
    fn larger(self, other: Self) -> Self;
    const NEG_INF: Self;
}

impl Real for f32 {
    fn exp(self) -> Self {
        f32::exp(self)
    }
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    fn erf(self) -> Self {
        libm::erff(self)
    }
    fn of(v: f64) -> Self {
        v as f32
    }
    fn larger(self, other: Self) -> Self {
        if other > self { other } else { self }
    }
    const NEG_INF: Self = f32::NEG_INFINITY;
}

impl Real for f64 {
    fn exp(self) -> Self {
        f64::exp(self)
    }
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    fn erf(self) -> Self {
        libm::erf(self)
    }
    fn of(v: f64) -> Self {
        v
    }
    fn larger(self, other: Self) -> Self {
        if other > self { other } else { self }
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

/// A tensor on the CPU from the elements a kernel computed.
pub(crate) fn from_vec<T: Real>(v: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(v, shape.into(), &candle_core::Device::Cpu)
}

/// Puts a value computed by a kernel into the graph, with the backward pass that belongs to it.
///
/// `backward(result, gradient of result)` returns one gradient for each of `inputs` (1 to 3 of them), in their shapes.
/// It must capture detached tensors only. When no input is tracked, no graph is recorded.
pub(crate) fn attach<T, F>(
    name: &'static str,
    inputs: &[&Tensor],
    value: Vec<T>,
    shape: impl Into<Shape>,
    backward: F,
) -> Result<Tensor>
where
    T: Real,
    F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    let shape = shape.into();
    if !inputs.iter().any(|t| t.track_op()) {
        return from_vec(value, shape);
    }
    let value = Mutex::new(Some((T::to_cpu_storage_owned(value), shape)));
    let op = Attached { name, value, backward };
    match inputs {
        [a] => a.apply_op1(op),
        [a, b] => a.apply_op2(b, op),
        [a, b, c] => a.apply_op3(b, c, op),
        _ => bail!("{name}: an operation takes one to three tensors, got {}", inputs.len()),
    }
}

struct Attached<F> {
    name: &'static str,
    value: Mutex<Option<(CpuStorage, Shape)>>,
    backward: F,
}

impl<F> Attached<F> {
    fn take(&self) -> Result<(CpuStorage, Shape)> {
        match self.value.lock().ok().and_then(|mut v| v.take()) {
            Some(v) => Ok(v),
            None => bail!("{}: the value of a fused operation was taken twice", self.name),
        }
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>>> Attached<F> {
    fn grads<const N: usize>(
        &self,
        args: [&Tensor; N],
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        let found = (self.backward)(&res.detach(), &grad.detach().contiguous()?)?;
        if found.len() != N {
            bail!("{}: {} gradients for {N} inputs", self.name, found.len());
        }
        let mut found = found.into_iter();
        Ok(args.map(|a| found.next().filter(|_| a.track_op())))
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync> CustomOp1 for Attached<F> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(&self, a: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [ga] = self.grads([a], res, grad)?;
        Ok(ga)
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync> CustomOp2 for Attached<F> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [ga, gb] = self.grads([a, b], res, grad)?;
        Ok((ga, gb))
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync> CustomOp3 for Attached<F> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.take()
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [ga, gb, gc] = self.grads([a, b, c], res, grad)?;
        Ok((ga, gb, gc))
    }
}

/// A matrix inside a slice: element (i, j) at `i * rs + j * cs`.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) rs: usize,
    pub(crate) cs: usize,
}

impl<'a, T> Mat<'a, T> {
    /// Rows stored one after another, `cols` wide.
    pub(crate) fn rows(data: &'a [T], cols: usize) -> Self {
        Self { data, rs: cols, cs: 1 }
    }
    /// The transpose.
    pub(crate) fn t(self) -> Self {
        Self { data: self.data, rs: self.cs, cs: self.rs }
    }
}

/// Threads a GEMM may use.
#[derive(Clone, Copy)]
pub(crate) enum Threads {
    One,
    All,
}

/// `dst = beta * dst + a b` for `a` (m, k) and `b` (k, n); `dst` has row stride `dst_rs`.
///
/// # Panics
/// When a matrix reaches past its slice (checked always: the call below is unsafe).
#[allow(clippy::too_many_arguments)]
pub(crate) fn gemm<T: Real>(
    (m, n, k): (usize, usize, usize),
    dst: &mut [T],
    dst_rs: usize,
    accumulate: bool,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    threads: Threads,
) {
    if m == 0 || n == 0 {
        return;
    }
    let fits = |len: usize, r: usize, c: usize, rs: usize, cs: usize| {
        r == 0 || c == 0 || (r - 1) * rs + (c - 1) * cs < len
    };
    assert!(fits(dst.len(), m, n, dst_rs, 1) && dst_rs >= n, "gemm: the result does not fit");
    assert!(fits(a.data.len(), m, k, a.rs, a.cs), "gemm: the left matrix reaches past its slice");
    assert!(fits(b.data.len(), k, n, b.rs, b.cs), "gemm: the right matrix reaches past its slice");
    let parallelism = match threads {
        Threads::One => ::gemm::Parallelism::None,
        Threads::All => ::gemm::Parallelism::Rayon(0),
    };
    // SAFETY: every (row, column) index of the three matrices was shown above to lie inside its slice; `dst` is
    // exclusively borrowed and its rows do not overlap (dst_rs >= n).
    unsafe {
        ::gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr(),
            1,
            dst_rs as isize,
            accumulate,
            a.data.as_ptr(),
            a.cs as isize,
            a.rs as isize,
            b.data.as_ptr(),
            b.cs as isize,
            b.rs as isize,
            T::of(1.0),
            T::of(1.0),
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// Below this many elements a loop stays on the calling thread.
const PARALLEL_FROM: usize = 1 << 13;

/// Calls `f(index, chunk)` for consecutive chunks of `out`, on several threads when that pays.
pub(crate) fn par_chunks<T: Send, F>(out: &mut [T], chunk: usize, f: F)
where
    F: Fn(usize, &mut [T]) + Send + Sync,
{
    let chunk = chunk.max(1);
    if out.len() < PARALLEL_FROM {
        out.chunks_mut(chunk).enumerate().for_each(|(i, c)| f(i, c));
    } else {
        let at_once = (PARALLEL_FROM / 4 / chunk).max(1);
        out.par_chunks_mut(chunk).enumerate().with_min_len(at_once).for_each(|(i, c)| f(i, c));
    }
}

/// Sums `n` partial results of `len` elements, piece by piece in a fixed split: `f(range, partial)` adds the items of
/// `range` into `partial`. The result does not depend on the number of threads.
pub(crate) fn par_sum<T: Real, F>(n: usize, len: usize, cost_of_item: usize, f: F) -> Vec<T>
where
    F: Fn(std::ops::Range<usize>, &mut [T]) + Send + Sync,
{
    let pieces = if n * cost_of_item < PARALLEL_FROM { 1 } else { n.clamp(1, 8) };
    let per = n.div_ceil(pieces.max(1)).max(1);
    let partial = |p: usize| {
        let mut acc = vec![T::default(); len];
        f(p * per..((p + 1) * per).min(n), &mut acc);
        acc
    };
    let used = n.div_ceil(per).max(1);
    let partials: Vec<Vec<T>> = if used == 1 {
        vec![partial(0)]
    } else {
        (0..used).into_par_iter().map(partial).collect()
    };
    let mut partials = partials.into_iter();
    let mut total = partials.next().unwrap_or_else(|| vec![T::default(); len]);
    for p in partials {
        for (t, v) in total.iter_mut().zip(p) {
            *t += v;
        }
    }
    total
}

/// Column sums of a (rows, cols) matrix.
pub(crate) fn column_sums<T: Real>(data: &[T], cols: usize) -> Vec<T> {
    let rows = data.len().checked_div(cols).unwrap_or(0);
    par_sum(rows, cols, cols, |range, acc| {
        for row in data[range.start * cols..range.end * cols].chunks_exact(cols) {
            for (a, v) in acc.iter_mut().zip(row) {
                *a += *v;
            }
        }
    })
}
