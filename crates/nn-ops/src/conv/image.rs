//! The convolution of one image: tiles of output rows unfolded (im2col) and multiplied.

use candle_core::{Result, Tensor, bail};

use super::Conv2dConfig;
use crate::kernel::{self, Mat, Real, Threads};

/// All sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Geometry {
    pub(crate) b: usize,
    pub(crate) c_in: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c_out: usize,
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) stride: usize,
    pub(crate) ph: usize,
    pub(crate) pw: usize,
    pub(crate) ho: usize,
    pub(crate) wo: usize,
}

impl Geometry {
    pub(super) fn of(xs: &Tensor, weight: &Tensor, cfg: Conv2dConfig) -> Result<Self> {
        let (b, c_in, h, w) = xs.dims4()?;
        let (c_out, c_w, kh, kw) = weight.dims4()?;
        let (ph, pw) = cfg.padding;
        if c_w != c_in {
            bail!("conv2d: input has {c_in} channels, weight {:?} takes {c_w}", weight.dims());
        }
        if [b, c_in, h, w, c_out].contains(&0) {
            bail!("conv2d: empty input {:?} or weight {:?}", xs.dims(), weight.dims());
        }
        if cfg.stride == 0 || kh == 0 || kw == 0 || h + 2 * ph < kh || w + 2 * pw < kw {
            bail!("conv2d: a {kh}x{kw} kernel with {cfg:?} does not fit a {h}x{w} map");
        }
        let ho = (h + 2 * ph - kh) / cfg.stride + 1;
        let wo = (w + 2 * pw - kw) / cfg.stride + 1;
        Ok(Self { b, c_in, h, w, c_out, kh, kw, stride: cfg.stride, ph, pw, ho, wo })
    }
    pub(crate) fn patch(&self) -> usize {
        self.c_in * self.kh * self.kw
    }
    /// A kernel-1, stride-1 convolution reads its input as it stands.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kh == 1 && self.kw == 1 && self.stride == 1 && self.ph == 0 && self.pw == 0
    }
    /// Output rows unfolded at once, so that a tile stays near 4 MiB of f32.
    fn tile_rows(&self) -> usize {
        ((1 << 20) / (self.patch() * self.wo).max(1)).clamp(1, self.ho)
    }
    /// Output columns (first, end) whose input column `ox * stride + kx - pw` lies inside the map.
    fn columns(&self, kx: usize) -> (usize, usize) {
        let first = self.pw.saturating_sub(kx).div_ceil(self.stride).min(self.wo);
        let end = if self.w + self.pw > kx {
            ((self.w + self.pw - kx - 1) / self.stride + 1).min(self.wo)
        } else {
            0
        };
        (first, end.max(first))
    }
    /// The input row under kernel row `ky` at output row `oy`, unless it is padding.
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

pub(super) fn forward_image<T: Real>(
    g: &Geometry,
    x: &[T],
    w: &[T],
    y: &mut [T],
    threads: Threads,
) {
    let (cells, patch) = (g.ho * g.wo, g.patch());
    if g.is_pointwise() {
        let (a, b) = (Mat::rows(w, patch), Mat::rows(x, cells));
        kernel::gemm((g.c_out, cells, patch), y, cells, false, a, b, threads);
        return;
    }
    let step = g.tile_rows();
    let mut cols = vec![T::default(); patch * step * g.wo];
    for rows in tiles(g.ho, step) {
        let n = rows.len() * g.wo;
        let at = rows.start * g.wo;
        unfold(g, x, rows, &mut cols, threads);
        let (a, b) = (Mat::rows(w, patch), Mat::rows(&cols, n));
        kernel::gemm((g.c_out, n, patch), &mut y[at..], cells, false, a, b, threads);
    }
}

pub(super) fn input_gradient_image<T: Real>(
    g: &Geometry,
    w: &[T],
    dy: &[T],
    dx: &mut [T],
    threads: Threads,
) {
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

pub(super) fn weight_gradient_image<T: Real>(
    g: &Geometry,
    x: &[T],
    dy: &[T],
    dw: &mut [T],
    threads: Threads,
) {
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
