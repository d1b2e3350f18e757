//! Bilinear and bicubic resizing with gradients, and the bicubic resizing of relative-position tables.
//!
//! Candle's `upsample_bilinear2d` has no backward pass and is wrong for same-size views.

use candle_core::{DType, Result, Tensor, WithDType, bail};

use crate::kernel::{self, Plan, Real, dispatch};

/// Which points of the two grids coincide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// The centres of the corner cells (`align_corners = true`).
    Corners,
    /// The outer edges (`align_corners = false`).
    Edges,
}

/// For each output position of one axis: the two inputs it lies between and the weight of the second.
#[derive(Clone, Debug)]
struct Axis {
    taps: Vec<(usize, usize, f64)>,
}

impl Axis {
    fn new(from: usize, to: usize, align: Align) -> Self {
        let taps = (0..to)
            .map(|i| {
                let at = match align {
                    Align::Corners if to == 1 => 0.0,
                    Align::Corners => i as f64 * (from - 1) as f64 / (to - 1) as f64,
                    Align::Edges => ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0),
                };
                let low = (at.floor() as usize).min(from - 1);
                let high = (low + 1).min(from - 1);
                (low, high, if high == low { 0.0 } else { at - low as f64 })
            })
            .collect();
        Self { taps }
    }

    /// The axis as a dense `(to, from)` matrix.
    fn matrix(&self, from: usize) -> Vec<f64> {
        let mut m = vec![0.0; self.taps.len() * from];
        for (row, &(low, high, t)) in m.chunks_exact_mut(from).zip(&self.taps) {
            row[low] += 1.0 - t;
            row[high] += t;
        }
        m
    }
}

/// Bilinear resize of `(B, C, h, w)` to `(B, C, h', w')`.
///
/// # Errors
/// When a size is zero.
pub fn resize_bilinear(xs: &Tensor, size: (usize, usize), align: Align) -> Result<Tensor> {
    let (_, _, h, w) = xs.dims4()?;
    if h == 0 || w == 0 || size.0 == 0 || size.1 == 0 {
        bail!("resize_bilinear: cannot resize {h}x{w} to {}x{}", size.0, size.1);
    }
    if (h, w) == size {
        return Ok(xs.clone());
    }
    let axes = (Axis::new(h, size.0, align), Axis::new(w, size.1, align));
    match kernel::plan(xs) {
        Plan::Fused => fused(xs, None, axes.0, axes.1),
        Plan::ThroughF32 => {
            resize_bilinear(&xs.to_dtype(DType::F32)?, size, align)?.to_dtype(xs.dtype())
        }
        #[cfg(feature = "cuda")]
        Plan::Cuda => crate::cuda::resize_bilinear(xs, size, align),
        Plan::Composed => composed(xs, &axes.0, &axes.1),
    }
}

/// Bicubic resize (edges aligned, `A = -0.75`, no antialiasing) of `(B, C, h, w)` to `(B, C, h', w')`. Two products with dense
/// matrices: for parameters, not for maps.
///
/// # Errors
/// When a size is zero.
pub fn resize_bicubic(xs: &Tensor, size: (usize, usize)) -> Result<Tensor> {
    let (_, _, h, w) = xs.dims4()?;
    if h == 0 || w == 0 || size.0 == 0 || size.1 == 0 {
        bail!("resize_bicubic: cannot resize {h}x{w} to {}x{}", size.0, size.1);
    }
    let matrix = |from: usize, to: usize| {
        let mut m = vec![0.0; to * from];
        for (row, taps) in m.chunks_exact_mut(from).zip(cubic_taps(from, to)) {
            taps.into_iter().for_each(|(i, weight)| row[i] += weight);
        }
        m
    };
    products(xs, &matrix(h, size.0), &matrix(w, size.1))
}

/// A coarse map resized to the extent of a finer one, and the finer one behind it: `(B, C, h, w)` and `(B, D, h', w')` to
/// `(B, C + D, h', w')`.
///
/// # Errors
/// As [`resize_bilinear`], and when batches differ.
pub fn resize_beside(coarse: &Tensor, fine: &Tensor, align: Align) -> Result<Tensor> {
    let ((b, _, h, w), (bf, _, ho, wo)) = (coarse.dims4()?, fine.dims4()?);
    if b != bf || [h, w, ho, wo].contains(&0) {
        bail!("resize_beside: {:?} beside {:?}", coarse.dims(), fine.dims());
    }
    #[cfg(feature = "cuda")]
    if kernel::plan(coarse) == Plan::Cuda && fine.dtype() == coarse.dtype() && fine.elem_count() > 0
    {
        return crate::cuda::resize_beside(coarse, fine, align);
    }
    if kernel::plan(coarse) == Plan::Fused && fine.dtype() == coarse.dtype() {
        let axes = (Axis::new(h, ho, align), Axis::new(w, wo, align));
        return fused(coarse, Some(fine), axes.0, axes.1);
    }
    Tensor::cat(&[&resize_bilinear(coarse, (ho, wo), align)?, fine], 1)
}

/// Two products with constant matrices, in f32 at least: oracle of the kernel, and the path of other devices.
fn composed(xs: &Tensor, rows: &Axis, cols: &Axis) -> Result<Tensor> {
    let (_, _, h, w) = xs.dims4()?;
    products(xs, &rows.matrix(h), &cols.matrix(w))
}

/// The rows and the columns of each map times a matrix, `(h', h)` and `(w', w)`.
fn products(xs: &Tensor, rows: &[f64], cols: &[f64]) -> Result<Tensor> {
    let dtype = xs.dtype();
    if matches!(dtype, DType::BF16 | DType::F16) {
        return products(&xs.to_dtype(DType::F32)?, rows, cols)?.to_dtype(dtype);
    }
    let (b, c, h, w) = xs.dims4()?;
    let (ho, wo) = (rows.len() / h, cols.len() / w);
    let constant = |matrix: &[f64], from: usize| {
        Tensor::from_slice(matrix, (matrix.len() / from, from), xs.device())?
            .to_dtype(xs.dtype())?
            .t()?
            .contiguous()
    };
    let wide = xs.contiguous()?.reshape((b * c * h, w))?.matmul(&constant(cols, w)?)?;
    let turned = wide.reshape((b * c, h, wo))?.transpose(1, 2)?.contiguous()?;
    let tall = turned.reshape((b * c * wo, h))?.matmul(&constant(rows, h)?)?;
    tall.reshape((b, c, wo, ho))?.transpose(2, 3)?.contiguous()
}

/// The resized map, and what goes behind its channels.
fn fused(xs: &Tensor, behind: Option<&Tensor>, rows: Axis, cols: Axis) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let behind = behind.map(Tensor::contiguous).transpose()?;
    let (b, c, h, w) = xs.dims4()?;
    let (ho, wo) = (rows.taps.len(), cols.taps.len());
    let d = behind.as_ref().map_or(Ok(0), |t| t.dim(1))?;
    let (cells, all) = (ho * wo, c + d);
    dispatch!(xs.dtype(), T => {
        let typed = |axis: &Axis| -> Vec<(usize, usize, T)> {
            axis.taps.iter().map(|&(l, h, t)| (l, h, <T as Real>::of(t))).collect()
        };
        let (lines, columns) = (typed(&rows), typed(&cols));
        let one = <T as Real>::of(1.0);
        let ys = {
            let x = kernel::read(&xs)?;
            let x = x.slice::<T>()?;
            let fine = behind.as_ref().map(kernel::read).transpose()?;
            let fine = fine.as_ref().map(|t| t.slice::<T>()).transpose()?.unwrap_or_default();
            kernel::par_filled(b * all * cells, cells, |p, y| {
                let (image, channel) = (p / all, p % all);
                if channel >= c {
                    let from = (image * d + channel - c) * cells;
                    return y.copy_from_slice(&fine[from..from + cells]);
                }
                let x = &x[(image * c + channel) * h * w..][..h * w];
                for (line, &(top, bottom, v)) in y.chunks_exact_mut(wo).zip(&lines) {
                    let (top, bottom) = (&x[top * w..(top + 1) * w], &x[bottom * w..(bottom + 1) * w]);
                    for (y, &(l, r, t)) in line.iter_mut().zip(&columns) {
                        let up = top[l] * (one - t) + top[r] * t;
                        let down = bottom[l] * (one - t) + bottom[r] * t;
                        *y = up * (one - v) + down * v;
                    }
                }
            })
        };
        let backward = move |grad: &Tensor| {
            let g = kernel::read(grad)?;
            let g = g.slice::<T>()?;
            let dx = kernel::par_filled(b * c * h * w, h * w, |p, d: &mut [T]| {
                let g = &g[(p / c * all + p % c) * cells..][..cells];
                // Each line across, then the lines, in f64: a cell that is enlarged much gets thousands of terms.
                let mut sums = vec![0.0; (1 + h) * w];
                let (across, sums) = sums.split_at_mut(w);
                for (line, &(top, bottom, v)) in g.chunks_exact(wo).zip(&rows.taps) {
                    across.fill(0.0);
                    for (g, &(l, r, t)) in line.iter().zip(&cols.taps) {
                        let g = WithDType::to_f64(*g);
                        across[l] += g * (1.0 - t);
                        across[r] += g * t;
                    }
                    for (row, share) in [(top, 1.0 - v), (bottom, v)] {
                        let sums = sums[row * w..(row + 1) * w].iter_mut();
                        sums.zip(&*across).for_each(|(sum, g)| *sum += g * share);
                    }
                }
                d.iter_mut().zip(sums).for_each(|(d, sum)| *d = <T as Real>::of(*sum));
            });
            let mut found = vec![kernel::from_vec(dx, (b, c, h, w))?];
            if d > 0 {
                let df = kernel::par_filled(b * d * cells, cells, |p, df: &mut [T]| {
                    df.copy_from_slice(&g[(p / d * all + c + p % d) * cells..][..cells]);
                });
                found.push(kernel::from_vec(df, (b, d, ho, wo))?);
            }
            Ok(found)
        };
        let inputs: Vec<&Tensor> = [Some(&xs), behind.as_ref()].into_iter().flatten().collect();
        kernel::attach("resize-bilinear", &inputs, ys, (b, all, ho, wo), backward)
    })
}

/// For each output position of one axis: four inputs and their weights, edges aligned, `A = -0.75`.
fn cubic_taps(from: usize, to: usize) -> Vec<[(usize, f64); 4]> {
    let cubic = |x: f64| {
        let (x, a) = (x.abs(), -0.75);
        if x <= 1.0 {
            ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
        } else if x < 2.0 {
            ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
        } else {
            0.0
        }
    };
    (0..to)
        .map(|i| {
            let at = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
            let base = at.floor();
            std::array::from_fn(|k| {
                let j = base as isize + k as isize - 1;
                (j.clamp(0, from as isize - 1) as usize, cubic(at - (base + k as f64 - 1.0)))
            })
        })
        .collect()
}

/// Bicubic resize (edges aligned, `A = -0.75`, no antialiasing) of a table of square windows: `(from², M)` to `(to², M)`,
/// as pretrained Swin relative-position tables are fitted to another window. Not differentiable; computed in f64.
///
/// # Errors
/// When the rows of the table are not a square number.
pub fn resize_bias_table(table: &Tensor, to: usize) -> Result<Tensor> {
    let (rows, heads) = table.dims2()?;
    let from = rows.isqrt();
    if from * from != rows || from == 0 || to == 0 {
        bail!("resize_bias_table: {rows} rows are not a square window");
    }
    if from == to {
        return Ok(table.clone());
    }
    let taps = cubic_taps(from, to);
    let source = table.to_dtype(DType::F64)?.to_vec2::<f64>()?;
    let mut out = Vec::with_capacity(to * to * heads);
    for ty in &taps {
        for tx in &taps {
            out.extend((0..heads).map(|m| {
                let line = |y: usize| -> f64 {
                    tx.iter().map(|&(x, wx)| wx * source[y * from + x][m]).sum()
                };
                ty.iter().map(|&(y, wy)| wy * line(y)).sum::<f64>()
            }));
        }
    }
    Tensor::from_vec(out, (to * to, heads), &candle_core::Device::Cpu)?
        .to_dtype(table.dtype())?
        .to_device(table.device())
}

#[cfg(test)]
pub(crate) fn resize_composed(xs: &Tensor, size: (usize, usize), align: Align) -> Result<Tensor> {
    let (_, _, h, w) = xs.dims4()?;
    composed(xs, &Axis::new(h, size.0, align), &Axis::new(w, size.1, align))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several};
    use candle_core::{Device, Var};

    #[test]
    fn resize_bilinear_passes_the_audit() -> Result<()> {
        let (small, large) = (several(&[&[2, 2, 3, 4]])?, several(&[&[2, 5, 31, 29]])?);
        for align in [Align::Corners, Align::Edges] {
            for (size, big) in
                [((5, 7), (63, 57)), ((2, 3), (13, 7)), ((1, 1), (1, 1)), ((6, 2), (62, 9))]
            {
                let of = |x: &Tensor| if x.dims()[2] > 4 { big } else { size };
                let name = format!("resize_bilinear {align:?} {size:?}");
                let f = |x: &[Tensor]| resize_bilinear(&x[0], of(&x[0]), align);
                audit(&name, &small, &large, &f, &|x| resize_composed(&x[0], of(&x[0]), align))?;
            }
        }
        let f = |x: &[Tensor]| resize_bilinear(&x[0], (3, 4), Align::Corners);
        crate::audit::gradients("resize to the same size", &small, &f)
    }

    #[test]
    fn resize_beside_passes_the_audit() -> Result<()> {
        let small = several(&[&[2, 2, 3, 4], &[2, 3, 5, 7]])?;
        let large = several(&[&[2, 5, 31, 29], &[2, 4, 63, 57]])?;
        let composed = |x: &[Tensor]| {
            let (_, _, h, w) = x[1].dims4()?;
            Tensor::cat(&[&resize_composed(&x[0], (h, w), Align::Corners)?, &x[1]], 1)
        };
        let f = |x: &[Tensor]| resize_beside(&x[0], &x[1], Align::Corners);
        audit("resize_beside", &small, &large, &f, &composed)?;
        assert!(resize_beside(&small[0], &large[1].narrow(0, 0, 1)?, Align::Corners).is_err());
        Ok(())
    }

    #[test]
    fn from_a_single_cell() -> Result<()> {
        let one = Tensor::new(&[[[[7f32]]]], &Device::Cpu)?;
        for align in [Align::Corners, Align::Edges] {
            let y = resize_bilinear(&one, (3, 2), align)?.flatten_all()?.to_vec1::<f32>()?;
            assert_eq!(y, [7.0; 6]);
        }
        Ok(())
    }

    #[test]
    fn the_two_alignments_by_hand() -> Result<()> {
        let x = Tensor::new(&[[[[0f64, 1.0]]]], &Device::Cpu)?;
        let row = |align| resize_bilinear(&x, (1, 4), align)?.flatten_all()?.to_vec1::<f64>();
        assert_eq!(row(Align::Edges)?, [0.0, 0.25, 0.75, 1.0]);
        let corners = row(Align::Corners)?;
        assert!(
            corners
                .iter()
                .zip([0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0])
                .all(|(a, b)| (a - b).abs() < 1e-15)
        );
        assert!(resize_bilinear(&x, (0, 4), Align::Edges).is_err());
        Ok(())
    }

    #[test]
    fn a_gradient_of_many_terms_keeps_its_digits() -> Result<()> {
        for (from, to) in [((12, 12), (192, 192)), ((7, 7), (112, 112)), ((3, 5), (480, 480))] {
            let cotangent = several(&[&[1, 3, to.0, to.1]])?.remove(0).to_dtype(DType::F32)?;
            let gradient = |dtype: DType, f: &dyn Fn(&Tensor) -> Result<Tensor>| {
                let x = Var::zeros((1, 3, from.0, from.1), dtype, &Device::Cpu)?;
                let store =
                    (f(x.as_tensor())? * cotangent.to_dtype(dtype)?)?.sum_all()?.backward()?;
                store.get(x.as_tensor()).expect("reached").to_dtype(DType::F64)
            };
            let ours = gradient(DType::F32, &|x| resize_bilinear(x, to, Align::Corners))?;
            let exact = gradient(DType::F64, &|x| resize_composed(x, to, Align::Corners))?;
            let size = |t: &Tensor| t.sqr()?.mean_all()?.sqrt()?.to_scalar::<f64>();
            let error = size(&(&ours - &exact)?)? / size(&exact)?;
            // What dmmi-parity allows: five roundings.
            assert!(error < 5.0 / 16_777_216.0, "{from:?} to {to:?}: {error:e}");
        }
        Ok(())
    }

    /// torch 2.11: `F.interpolate(x, size, mode="bicubic", align_corners=False)` of `sin(1.7 i)` as `(1, 1, 2, 3)`, and the
    /// gradient of the sum of the result times `0..15`.
    #[test]
    fn bicubic_is_pytorchs() -> Result<()> {
        let x = (Tensor::arange(0f64, 6.0, &Device::Cpu)? * 1.7)?.sin()?.reshape((1, 1, 2, 3))?;
        let x = Var::from_tensor(&x)?;
        let near = |ours: &Tensor, want: &[f64]| -> Result<bool> {
            let ours = ours.flatten_all()?.to_vec1::<f64>()?;
            Ok(ours.len() == want.len()
                && ours.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-11))
        };
        let large = resize_bicubic(x.as_tensor(), (3, 5))?;
        let want = [
            -0.011265103771,
            0.550203859682,
            1.034855041296,
            0.257860573888,
            -0.479698204985,
            -0.578663797672,
            0.038883627992,
            0.742889080796,
            0.541199784972,
            0.226217062051,
            -1.146062491573,
            -0.472436603698,
            0.450923120295,
            0.824538996057,
            0.932132329086,
        ];
        assert!(near(&large, &want)?);
        let small = resize_bicubic(x.as_tensor(), (1, 2))?;
        assert!(near(&small, &[-0.173145867909, 0.420669490363])?);
        let weights = Tensor::arange(0f64, 15.0, &Device::Cpu)?.reshape((1, 1, 3, 5))?;
        let store = (large * weights)?.sum_all()?.backward()?;
        let grad = store.get(x.as_tensor()).expect("reached");
        let want =
            [3.263861111111, 8.004, 11.891861111111, 22.464138888889, 28.284, 31.092138888889];
        assert!(near(grad, &want)?);
        assert!(resize_bicubic(x.as_tensor(), (0, 2)).is_err());
        crate::audit::gradients("resize_bicubic", &several(&[&[2, 2, 3, 4]])?, &|x| {
            resize_bicubic(&x[0], (5, 3))
        })
    }

    #[test]
    fn bias_tables_must_be_square() -> Result<()> {
        let t = several(&[&[9, 2], &[8, 2]])?;
        assert_eq!(resize_bias_table(&t[0], 5)?.dims(), [25, 2]);
        assert_eq!(resize_bias_table(&t[0], 3)?.to_vec2::<f64>()?, t[0].to_vec2::<f64>()?);
        assert!(resize_bias_table(&t[1], 5).is_err());
        assert!(resize_bias_table(&t[0], 0).is_err());
        Ok(())
    }
}
