//! 2-D convolution with any stride, padding and kernel, on odd sizes too.
//!
//! Candle's backward errs when stride > 1 leaves a remainder, and is several times slower than a GEMM. Here the CPU kernel
//! unfolds tiles of output rows and multiplies; other devices crop the padded input to what the kernel touches, for which
//! Candle's own convolution is right.

use candle_core::{Result, Tensor, bail};
use candle_nn::VarBuilder;

use crate::kernel::{self, Mat, Plan, Real, Threads, dispatch};
use crate::linear::default_init;

/// Stride, zero padding (rows, columns).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Step between outputs, both axes.
    pub stride: usize,
    /// Zeros added on both ends of each axis (rows, columns).
    pub padding: (usize, usize),
}

impl Conv2dConfig {
    /// Stride and equal padding on both axes.
    pub fn new(stride: usize, padding: usize) -> Self {
        Self { stride, padding: (padding, padding) }
    }
}

/// All sizes of one convolution.
#[derive(Clone, Copy, Debug)]
struct Geometry {
    b: usize,
    c_in: usize,
    h: usize,
    w: usize,
    c_out: usize,
    kh: usize,
    kw: usize,
    stride: usize,
    ph: usize,
    pw: usize,
    ho: usize,
    wo: usize,
}

impl Geometry {
    fn of(xs: &Tensor, weight: &Tensor, cfg: Conv2dConfig) -> Result<Self> {
        let (b, c_in, h, w) = xs.dims4()?;
        let (c_out, c_w, kh, kw) = weight.dims4()?;
        let (ph, pw) = cfg.padding;
        if c_w != c_in {
            bail!("conv2d: input has {c_in} channels, weight {:?} takes {c_w}", weight.dims());
        }
        if cfg.stride == 0 || kh == 0 || kw == 0 || h + 2 * ph < kh || w + 2 * pw < kw {
            bail!("conv2d: a {kh}x{kw} kernel with {cfg:?} does not fit a {h}x{w} map");
        }
        let ho = (h + 2 * ph - kh) / cfg.stride + 1;
        let wo = (w + 2 * pw - kw) / cfg.stride + 1;
        Ok(Self { b, c_in, h, w, c_out, kh, kw, stride: cfg.stride, ph, pw, ho, wo })
    }
    fn patch(&self) -> usize {
        self.c_in * self.kh * self.kw
    }
    /// A kernel-1, stride-1 convolution reads its input as it stands.
    fn is_pointwise(&self) -> bool {
        self.kh == 1 && self.kw == 1 && self.stride == 1 && self.ph == 0 && self.pw == 0
    }
    /// Output rows unfolded at once, so that a tile stays near 4 MiB of f32.
    fn tile_rows(&self) -> usize {
        ((1 << 20) / (self.patch() * self.wo).max(1)).clamp(1, self.ho)
    }
    /// Calls `f(kernel row index, output row, input row start, first output column, last + 1, input column of the first)`.
    fn columns(&self, kx: usize) -> (usize, usize) {
        // Output columns whose input column ox * stride + kx - pw lies inside the map.
        let first = self.pw.saturating_sub(kx).div_ceil(self.stride).min(self.wo);
        let end = if self.w + self.pw > kx {
            ((self.w + self.pw - kx - 1) / self.stride + 1).min(self.wo)
        } else {
            0
        };
        (first, end.max(first))
    }
    fn input_row(&self, oy: usize, ky: usize) -> Option<usize> {
        (oy * self.stride + ky).checked_sub(self.ph).filter(|&iy| iy < self.h)
    }
}

/// Unfolds output rows `rows` of one image `(C, h, w)` into `cols`, `(C kh kw, rows * wo)`.
fn unfold<T: Real>(
    g: &Geometry,
    image: &[T],
    rows: std::ops::Range<usize>,
    cols: &mut [T],
    threads: Threads,
) {
    let (n, wo) = (rows.len() * g.wo, g.wo);
    let one = |i: usize, dst: &mut [T]| {
        let (c, ky, kx) = (i / (g.kh * g.kw), i / g.kw % g.kh, i % g.kw);
        let plane = &image[c * g.h * g.w..(c + 1) * g.h * g.w];
        let (first, end) = g.columns(kx);
        for (oy, line) in rows.clone().zip(dst.chunks_exact_mut(wo)) {
            let Some(iy) = g.input_row(oy, ky) else {
                line.fill(T::default());
                continue;
            };
            line[..first].fill(T::default());
            line[end..].fill(T::default());
            if first < end {
                let src = &plane[iy * g.w + first * g.stride + kx - g.pw..];
                if g.stride == 1 {
                    line[first..end].copy_from_slice(&src[..end - first]);
                } else {
                    for (d, s) in line[first..end].iter_mut().zip(src.iter().step_by(g.stride)) {
                        *d = *s;
                    }
                }
            }
        }
    };
    let cols = &mut cols[..g.patch() * n];
    match threads {
        Threads::One => cols.chunks_exact_mut(n).enumerate().for_each(|(i, d)| one(i, d)),
        Threads::All => kernel::par_chunks(cols, n, one),
    }
}

/// The transpose of `unfold`: adds `cols` back into one image.
fn fold<T: Real>(
    g: &Geometry,
    cols: &[T],
    rows: std::ops::Range<usize>,
    image: &mut [T],
    threads: Threads,
) {
    let (n, wo, k) = (rows.len() * g.wo, g.wo, g.kh * g.kw);
    let one = |c: usize, plane: &mut [T]| {
        for (i, src) in cols[c * k * n..(c + 1) * k * n].chunks_exact(n).enumerate() {
            let (ky, kx) = (i / g.kw, i % g.kw);
            let (first, end) = g.columns(kx);
            if first >= end {
                continue;
            }
            for (oy, line) in rows.clone().zip(src.chunks_exact(wo)) {
                let Some(iy) = g.input_row(oy, ky) else { continue };
                let dst = &mut plane[iy * g.w + first * g.stride + kx - g.pw..];
                if g.stride == 1 {
                    for (d, s) in dst.iter_mut().zip(&line[first..end]) {
                        *d += *s;
                    }
                } else {
                    for (d, s) in dst.iter_mut().step_by(g.stride).zip(&line[first..end]) {
                        *d += *s;
                    }
                }
            }
        }
    };
    match threads {
        Threads::One => image.chunks_exact_mut(g.h * g.w).enumerate().for_each(|(c, p)| one(c, p)),
        Threads::All => kernel::par_chunks(image, g.h * g.w, one),
    }
}

/// Ranges of output rows, `step` at a time.
fn tiles(ho: usize, step: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..ho).step_by(step.max(1)).map(move |r| r..(r + step).min(ho))
}

fn forward_image<T: Real>(
    g: &Geometry,
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    y: &mut [T],
    threads: Threads,
) {
    let (cells, patch) = (g.ho * g.wo, g.patch());
    if let Some(b) = bias {
        for (plane, b) in y.chunks_exact_mut(cells).zip(b) {
            plane.fill(*b);
        }
    }
    let acc = bias.is_some();
    if g.is_pointwise() {
        let (a, b) = (Mat::rows(w, patch), Mat::rows(x, cells));
        kernel::gemm((g.c_out, cells, patch), y, cells, acc, a, b, threads);
        return;
    }
    let step = g.tile_rows();
    let mut cols = vec![T::default(); patch * step * g.wo];
    for rows in tiles(g.ho, step) {
        let n = rows.len() * g.wo;
        let at = rows.start * g.wo;
        unfold(g, x, rows, &mut cols, threads);
        let (a, b) = (Mat::rows(w, patch), Mat::rows(&cols, n));
        kernel::gemm((g.c_out, n, patch), &mut y[at..], cells, acc, a, b, threads);
    }
}

fn input_gradient_image<T: Real>(g: &Geometry, w: &[T], dy: &[T], dx: &mut [T], threads: Threads) {
    let (cells, patch) = (g.ho * g.wo, g.patch());
    let wt = Mat::rows(w, patch).t();
    if g.is_pointwise() {
        let dy = Mat::rows(dy, cells);
        kernel::gemm((patch, cells, g.c_out), dx, cells, false, wt, dy, threads);
        return;
    }
    let step = g.tile_rows();
    let mut cols = vec![T::default(); patch * step * g.wo];
    for rows in tiles(g.ho, step) {
        let n = rows.len() * g.wo;
        let dy = Mat { data: &dy[rows.start * g.wo..], rs: cells, cs: 1 };
        kernel::gemm((patch, n, g.c_out), &mut cols, n, false, wt, dy, threads);
        fold(g, &cols[..patch * n], rows, dx, threads);
    }
}

fn weight_gradient_image<T: Real>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T], threads: Threads) {
    let (cells, patch) = (g.ho * g.wo, g.patch());
    let size = (g.c_out, patch, cells);
    if g.is_pointwise() {
        let (dy, x) = (Mat::rows(dy, cells), Mat::rows(x, cells).t());
        kernel::gemm(size, dw, patch, true, dy, x, threads);
        return;
    }
    let step = g.tile_rows();
    let mut cols = vec![T::default(); patch * step * g.wo];
    for rows in tiles(g.ho, step) {
        let n = rows.len() * g.wo;
        let dy = Mat { data: &dy[rows.start * g.wo..], rs: cells, cs: 1 };
        unfold(g, x, rows, &mut cols, threads);
        kernel::gemm((g.c_out, patch, n), dw, patch, true, dy, Mat::rows(&cols, n).t(), threads);
    }
}

/// 2-D cross-correlation: `(B, Cin, h, w)`, weight `(Cout, Cin, kh, kw)`, bias `(Cout)` to `(B, Cout, h', w')`.
///
/// # Errors
/// When the channels differ or the kernel is larger than the padded map.
pub fn conv2d(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: Conv2dConfig,
) -> Result<Tensor> {
    let g = Geometry::of(xs, weight, cfg)?;
    match kernel::plan(xs) {
        Plan::Fused => fused(xs, weight, bias, g),
        Plan::ThroughF32 => {
            let f32 = candle_core::DType::F32;
            let bias = bias.map(|b| b.to_dtype(f32)).transpose()?;
            conv2d(&xs.to_dtype(f32)?, &weight.to_dtype(f32)?, bias.as_ref(), cfg)?
                .to_dtype(xs.dtype())
        }
        Plan::Composed => composed(xs, weight, bias, cfg),
    }
}

/// Padding, a crop to what the kernel touches, then Candle's convolution without padding: the oracle of the kernel, and
/// the path of other devices.
#[allow(clippy::disallowed_methods)] // the crop leaves no remainder, the only case Candle's backward refuses
pub(crate) fn composed(
    xs: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    cfg: Conv2dConfig,
) -> Result<Tensor> {
    let g = Geometry::of(xs, weight, cfg)?;
    let mut xs = xs.contiguous()?;
    if g.ph > 0 {
        xs = xs.pad_with_zeros(2, g.ph, g.ph)?;
    }
    if g.pw > 0 {
        xs = xs.pad_with_zeros(3, g.pw, g.pw)?;
    }
    let xs = xs
        .narrow(2, 0, (g.ho - 1) * g.stride + g.kh)?
        .narrow(3, 0, (g.wo - 1) * g.stride + g.kw)?
        .contiguous()?;
    let ys = xs.conv2d(&weight.contiguous()?, 0, g.stride, 1, 1)?;
    match bias {
        Some(b) => ys.broadcast_add(&b.reshape((1, g.c_out, 1, 1))?),
        None => Ok(ys),
    }
}

fn fused(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>, g: Geometry) -> Result<Tensor> {
    let (xs, weight) = (xs.contiguous()?, weight.contiguous()?);
    let bias = bias.map(|b| b.contiguous()).transpose()?;
    let (in_size, out_size) = (g.c_in * g.h * g.w, g.c_out * g.ho * g.wo);
    // Many images: one a thread. Few: all threads inside each. The split of the weight gradient is fixed by the batch.
    let spread = g.b >= 2 * rayon::current_num_threads();
    dispatch!(xs.dtype(), T => {
        let mut ys = vec![T::default(); g.b * out_size];
        {
            let (x, w) = (kernel::read(&xs)?, kernel::read(&weight)?);
            let (x, w) = (x.slice::<T>()?, w.slice::<T>()?);
            let b = bias.as_ref().map(kernel::read).transpose()?;
            let b = b.as_ref().map(|b| b.slice::<T>()).transpose()?;
            let image = |i: usize| &x[i * in_size..(i + 1) * in_size];
            if spread {
                kernel::par_chunks(&mut ys, out_size, |i, y| forward_image(&g, image(i), w, b, y, Threads::One));
            } else {
                for (i, y) in ys.chunks_exact_mut(out_size).enumerate() {
                    forward_image(&g, image(i), w, b, y, Threads::All);
                }
            }
        }
        let (xd, wd, has_bias) = (xs.detach(), weight.detach(), bias.is_some());
        let (need_x, need_w) = (xs.track_op(), weight.track_op());
        let backward = move |_: &Tensor, grad: &Tensor| {
            let (dy, x, w) = (kernel::read(grad)?, kernel::read(&xd)?, kernel::read(&wd)?);
            let (dy, x, w) = (dy.slice::<T>()?, x.slice::<T>()?, w.slice::<T>()?);
            let image = |i: usize| &x[i * in_size..(i + 1) * in_size];
            let above = |i: usize| &dy[i * out_size..(i + 1) * out_size];
            let dx = if need_x {
                let mut dx = vec![T::default(); g.b * in_size];
                if spread {
                    kernel::par_chunks(&mut dx, in_size, |i, d| {
                        input_gradient_image(&g, w, above(i), d, Threads::One);
                    });
                } else {
                    for (i, d) in dx.chunks_exact_mut(in_size).enumerate() {
                        input_gradient_image(&g, w, above(i), d, Threads::All);
                    }
                }
                kernel::from_vec(dx, xd.shape())?
            } else { xd.clone() };
            let dw = if need_w {
                let len = g.c_out * g.patch();
                let dw = if g.b >= 4 {
                    kernel::par_sum::<T, _>(g.b, len, usize::MAX / (2 * g.b), |range, acc| {
                        for i in range {
                            weight_gradient_image(&g, image(i), above(i), acc, Threads::One);
                        }
                    })
                } else {
                    let mut dw = vec![T::default(); len];
                    for i in 0..g.b {
                        weight_gradient_image(&g, image(i), above(i), &mut dw, Threads::All);
                    }
                    dw
                };
                kernel::from_vec(dw, wd.shape())?
            } else { wd.clone() };
            let mut found = vec![dx, dw];
            if has_bias {
                let cells = g.ho * g.wo;
                let mut db = vec![T::default(); g.c_out];
                for (i, plane) in dy.chunks_exact(cells).enumerate() {
                    db[i % g.c_out] += crate::norm::sum(plane);
                }
                found.push(kernel::from_vec(db, g.c_out)?);
            }
            Ok(found)
        };
        let shape = (g.b, g.c_out, g.ho, g.wo);
        match &bias {
            Some(b) => kernel::attach("conv2d", &[&xs, &weight, b], ys, shape, backward),
            None => kernel::attach("conv2d", &[&xs, &weight], ys, shape, backward),
        }
    })
}

/// A 2-D convolution layer.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    cfg: Conv2dConfig,
}

impl Conv2d {
    /// From tensors: weight `(Cout, Cin, kh, kw)`, bias `(Cout)`.
    pub fn new(weight: Tensor, bias: Option<Tensor>, cfg: Conv2dConfig) -> Self {
        Self { weight, bias, cfg }
    }

    /// `(B, Cin, h, w)` to `(B, Cout, h', w')`.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        conv2d(xs, &self.weight, self.bias.as_ref(), self.cfg)
    }
}

/// A square convolution with bias, keys `weight` and `bias`.
pub fn conv2d_layer(
    c_in: usize,
    c_out: usize,
    kernel: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let init = default_init(c_in * kernel * kernel);
    let weight = vb.get_with_hints((c_out, c_in, kernel, kernel), "weight", init)?;
    Ok(Conv2d { weight, bias: Some(vb.get_with_hints(c_out, "bias", init)?), cfg })
}

/// A square convolution without bias, key `weight`.
pub fn conv2d_no_bias(
    c_in: usize,
    c_out: usize,
    kernel: usize,
    cfg: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    let init = default_init(c_in * kernel * kernel);
    let weight = vb.get_with_hints((c_out, c_in, kernel, kernel), "weight", init)?;
    Ok(Conv2d { weight, bias: None, cfg })
}
