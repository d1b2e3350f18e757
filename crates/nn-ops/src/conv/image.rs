//! Convolutions by unfolding (im2col): tiles of output rows, or of several small images side by side, as one product.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

use super::Conv2dConfig;
use crate::kernel::{self, Mat, Real, Scratch, Threads};

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
    /// Whether every image is multiplied as it stands: a kernel of 1, and maps that fill a product.
    pub(super) fn is_plain(&self) -> bool {
        self.is_pointwise() && (self.b == 1 || self.ho * self.wo >= PLAIN)
    }
    /// What is unfolded at once, near [`TILE`] values: some whole images, or some rows of one. Decided by the sizes alone, as
    /// it decides the order of the sums of a weight gradient.
    fn tiles(&self) -> impl Iterator<Item = Tile> + use<> {
        let (images, ho) = (self.b, self.ho);
        let rows = (TILE / (self.patch() * self.wo).max(1)).clamp(1, images * ho);
        let at_once = (rows / ho).max(1);
        let at_once = images.div_ceil(images.div_ceil(at_once));
        let step = rows.min(ho);
        (0..images).step_by(at_once).flat_map(move |i| {
            let images = i..(i + at_once).min(images);
            (0..ho)
                .step_by(step)
                .map(move |r| Tile { images: images.clone(), rows: r..(r + step).min(ho) })
        })
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

/// Values unfolded at once: 4 MiB of f32.
const TILE: usize = 1 << 20;
/// Cells of a map that fill a product by themselves.
const PLAIN: usize = 256;

/// Output rows of some images: all rows, or there is one image.
#[derive(Clone, Debug)]
struct Tile {
    images: Range<usize>,
    rows: Range<usize>,
}

impl Tile {
    /// Outputs of one channel of an image.
    fn each(&self, g: &Geometry) -> usize {
        self.rows.len() * g.wo
    }
    /// Outputs of one channel: the columns of a product.
    fn columns(&self, g: &Geometry) -> usize {
        self.images.len() * self.each(g)
    }
    /// The part of `maps`, `(B, channels, ho, wo)`, that it covers as a matrix `(channels, columns)`, if it lies there as one.
    fn view<'a, T>(&self, g: &Geometry, maps: &'a [T], channels: usize) -> Option<Mat<'a, T>> {
        let (cells, first) = (g.ho * g.wo, self.images.start);
        let data = &maps[first * channels * cells + self.rows.start * g.wo..];
        (self.images.len() == 1).then_some(Mat { data, rs: cells, cs: 1 })
    }
}

/// Unfolds a tile of the images `(B, C, h, w)` into `cols`, `(C kh kw, columns)`.
fn unfold<T: Real>(g: &Geometry, tile: &Tile, x: &[T], cols: &mut [T]) {
    let (each, wo) = (tile.each(g), g.wo);
    kernel::par_chunks(cols, tile.columns(g), |i, dst| {
        let (c, ky, kx) = (i / (g.kh * g.kw), i / g.kw % g.kh, i % g.kw);
        let (first, end) = g.columns(kx);
        for (image, dst) in tile.images.clone().zip(dst.chunks_exact_mut(each)) {
            let plane = &x[(image * g.c_in + c) * g.h * g.w..][..g.h * g.w];
            for (oy, line) in tile.rows.clone().zip(dst.chunks_exact_mut(wo)) {
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
                        for (d, s) in line[first..end].iter_mut().zip(src.iter().step_by(g.stride))
                        {
                            *d = *s;
                        }
                    }
                }
            }
        }
    });
}

/// The transpose of `unfold`: adds `cols` back into the images.
fn fold<T: Real>(g: &Geometry, tile: &Tile, cols: &[T], dx: &mut [T]) {
    let (n, each, wo, k) = (tile.columns(g), tile.each(g), g.wo, g.kh * g.kw);
    let plane = g.h * g.w;
    let images = tile.images.start * g.c_in * plane..tile.images.end * g.c_in * plane;
    kernel::par_chunks(&mut dx[images], plane, |p, plane| {
        let (image, c) = (p / g.c_in, p % g.c_in);
        for (i, src) in cols[c * k * n..(c + 1) * k * n].chunks_exact(n).enumerate() {
            let (ky, kx) = (i / g.kw, i % g.kw);
            let (first, end) = g.columns(kx);
            if first >= end {
                continue;
            }
            let src = &src[image * each..(image + 1) * each];
            for (oy, line) in tile.rows.clone().zip(src.chunks_exact(wo)) {
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
    });
}

/// Maps `(B, channels, cells)` of whole images side by side: `(channels, columns)`.
fn gather<T: Real>(g: &Geometry, tile: &Tile, maps: &[T], channels: usize, out: &mut [T]) {
    let cells = g.ho * g.wo;
    kernel::par_chunks(out, tile.columns(g), |c, row| {
        for (image, to) in tile.images.clone().zip(row.chunks_exact_mut(cells)) {
            to.copy_from_slice(&maps[(image * channels + c) * cells..][..cells]);
        }
    });
}

/// Its inverse.
fn scatter<T: Real>(g: &Geometry, tile: &Tile, from: &[T], channels: usize, maps: &mut [T]) {
    let (cells, n) = (g.ho * g.wo, tile.columns(g));
    let images = tile.images.start * channels * cells..tile.images.end * channels * cells;
    kernel::par_chunks(&mut maps[images], cells, |p, plane| {
        plane.copy_from_slice(&from[p % channels * n + p / channels * cells..][..cells]);
    });
}

/// `f(image, its part of `out`, threads)`: many images one a thread, few with all threads inside each.
fn each_image<T: Real>(
    g: &Geometry,
    out: &mut [T],
    f: impl Fn(usize, &mut [T], Threads) + Send + Sync,
) {
    let each = out.len() / g.b;
    if g.b >= 2 * rayon::current_num_threads() {
        kernel::par_chunks(out, each, |i, out| f(i, out, Threads::One));
    } else {
        out.chunks_exact_mut(each).enumerate().for_each(|(i, out)| f(i, out, Threads::All));
    }
}

/// `(B, Cin, h, w)` and the filters to `(B, Cout, ho, wo)`.
pub(super) fn forward<T: Real>(g: &Geometry, x: &[T], w: &[T], y: &mut [T]) {
    let (cells, patch) = (g.ho * g.wo, g.patch());
    let w = Mat::rows(w, patch);
    if g.is_plain() {
        each_image(g, y, |i, y, threads| {
            let x = Mat::rows(&x[i * patch * cells..], cells);
            kernel::gemm((g.c_out, cells, patch), y, cells, false, w, x, threads);
        });
        return;
    }
    for tile in g.tiles() {
        let n = tile.columns(g);
        let mut cols = Scratch::new(patch * n);
        unfold(g, &tile, x, &mut cols);
        let (size, cols) = ((g.c_out, n, patch), Mat::rows(&cols, n));
        if tile.images.len() == 1 {
            let y = &mut y[tile.images.start * g.c_out * cells + tile.rows.start * g.wo..];
            kernel::gemm(size, y, cells, false, w, cols, Threads::All);
        } else {
            let mut found = Scratch::new(g.c_out * n);
            kernel::gemm(size, &mut found, n, false, w, cols, Threads::All);
            scatter(g, &tile, &found, g.c_out, y);
        }
    }
}

/// The gradient of the input, added to `dx`.
pub(super) fn input_gradient<T: Real>(g: &Geometry, w: &[T], dy: &[T], dx: &mut [T]) {
    let (cells, patch) = (g.ho * g.wo, g.patch());
    let wt = Mat::rows(w, patch).t();
    if g.is_plain() {
        each_image(g, dx, |i, dx, threads| {
            let dy = Mat::rows(&dy[i * g.c_out * cells..], cells);
            kernel::gemm((patch, cells, g.c_out), dx, cells, true, wt, dy, threads);
        });
        return;
    }
    for tile in g.tiles() {
        let n = tile.columns(g);
        let mut cols = Scratch::new(patch * n);
        with_gradient(g, &tile, dy, |dy| {
            kernel::gemm((patch, n, g.c_out), &mut cols, n, false, wt, dy, Threads::All);
        });
        fold(g, &tile, &cols, dx);
    }
}

/// The gradient of the filters, added to `dw`.
pub(super) fn weight_gradient<T: Real>(g: &Geometry, x: &[T], dy: &[T], dw: &mut [T]) {
    let (cells, patch) = (g.ho * g.wo, g.patch());
    if g.is_plain() {
        for i in 0..g.b {
            let dy = Mat::rows(&dy[i * g.c_out * cells..], cells);
            let x = Mat::rows(&x[i * patch * cells..], cells).t();
            kernel::gemm((g.c_out, patch, cells), dw, patch, true, dy, x, Threads::All);
        }
        return;
    }
    for tile in g.tiles() {
        let n = tile.columns(g);
        let mut cols = Scratch::new(patch * n);
        unfold(g, &tile, x, &mut cols);
        with_gradient(g, &tile, dy, |dy| {
            let cols = Mat::rows(&cols, n).t();
            kernel::gemm((g.c_out, patch, n), dw, patch, true, dy, cols, Threads::All);
        });
    }
}

/// `f` of a tile of the gradient above, `(Cout, columns)`.
fn with_gradient<T: Real>(g: &Geometry, tile: &Tile, dy: &[T], f: impl FnOnce(Mat<'_, T>)) {
    match tile.view(g, dy, g.c_out) {
        Some(dy) => f(dy),
        None => {
            let n = tile.columns(g);
            let mut gathered = Scratch::new(g.c_out * n);
            gather(g, tile, dy, g.c_out, &mut gathered);
            f(Mat::rows(&gathered, n));
        }
    }
}
