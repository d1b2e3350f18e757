//! Convolution without cuDNN: unfolded columns and cuBLAS, one image after another, so that the memory is that of one image's
//! columns whatever the batch.

use candle_core::{Result, Tensor};

use super::gemm::{Operand, product};
use super::{MAPS, Output, device, int, launch, loop_grid, open, suffix};
use crate::conv::Geometry;

/// Sizes in the order of the kernels' arguments.
fn sizes(g: &Geometry) -> Result<[i32; 10]> {
    let all = [g.c_in, g.h, g.w, g.kh, g.kw, g.stride, g.ph, g.pw, g.ho, g.wo];
    let mut out = [0; 10];
    for (o, n) in out.iter_mut().zip(all) {
        *o = int(n)?;
    }
    Ok(out)
}

/// Images `(b, C, h, w)` to columns `(b, C kh kw, ho wo)`.
fn unfold(g: &Geometry, xs: &Tensor) -> Result<Tensor> {
    let (b, dev) = (xs.dim(0)?, device(xs)?);
    let total = b * g.patch() * g.ho * g.wo;
    let y = Output::new(&dev, (b, g.patch(), g.ho * g.wo), xs.dtype())?;
    let [c, h, w, kh, kw, s, ph, pw, ho, wo] = sizes(g)?;
    launch!(
        &dev,
        MAPS,
        format!("unfold_{}", suffix(xs.dtype())?),
        loop_grid(total)?,
        [y.at, open(xs)?.at, total as u64, c, h, w, kh, kw, s, ph, pw, ho, wo]
    );
    Ok(y.tensor())
}

/// The transpose of [`unfold`]: columns `(b, C kh kw, ho wo)` summed into images `(b, C, h, w)`.
fn fold(g: &Geometry, columns: &Tensor) -> Result<Tensor> {
    let (b, dev) = (columns.dim(0)?, device(columns)?);
    let total = b * g.c_in * g.h * g.w;
    let y = Output::new(&dev, (b, g.c_in, g.h, g.w), columns.dtype())?;
    let [c, h, w, kh, kw, s, ph, pw, ho, wo] = sizes(g)?;
    launch!(
        &dev,
        MAPS,
        format!("fold_{}", suffix(columns.dtype())?),
        loop_grid(total)?,
        [y.at, open(columns)?.at, total as u64, c, h, w, kh, kw, s, ph, pw, ho, wo]
    );
    Ok(y.tensor())
}

pub(super) fn forward(g: &Geometry, xs: &Tensor, weight: &Tensor) -> Result<Output> {
    let cells = g.ho * g.wo;
    let all = (0..g.b)
        .map(|i| {
            let cols = unfold(g, &xs.narrow(0, i, 1)?)?;
            let w = Operand::new(weight, (1, g.c_out, g.patch()));
            let cols = Operand::new(&cols, (1, g.patch(), cells));
            Ok(product(w, cols, (1, g.c_out, g.ho, g.wo), xs.dtype())?.tensor())
        })
        .collect::<Result<Vec<_>>>()?;
    Output::of(Tensor::cat(&all, 0)?)
}

pub(super) fn input_gradient(g: &Geometry, weight: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let cells = g.ho * g.wo;
    let all = (0..g.b)
        .map(|i| {
            let dy = dy.narrow(0, i, 1)?;
            let w = Operand::new(weight, (1, g.c_out, g.patch())).t();
            let shape = (1, g.patch(), cells);
            {
                let dy = Operand::new(&dy, (1, g.c_out, cells));
                fold(g, &product(w, dy, shape, weight.dtype())?.tensor())
            }
        })
        .collect::<Result<Vec<_>>>()?;
    Tensor::cat(&all, 0)
}

pub(super) fn weight_gradient(g: &Geometry, xs: &Tensor, dy: &Tensor) -> Result<Tensor> {
    let cells = g.ho * g.wo;
    let mut total: Option<Tensor> = None;
    for i in 0..g.b {
        let cols = unfold(g, &xs.narrow(0, i, 1)?)?;
        let dy = dy.narrow(0, i, 1)?;
        let right = Operand::new(&cols, (1, g.patch(), cells)).t();
        let shape = (g.c_out, g.c_in, g.kh, g.kw);
        // In f32: a long sum in bf16 would lose the small parts.
        let left = Operand::new(&dy, (1, g.c_out, cells));
        let part = product(left, right, shape, candle_core::DType::F32)?.tensor();
        total = Some(match total {
            Some(t) => (t + part)?,
            None => part,
        });
    }
    match total {
        Some(t) => t.to_dtype(xs.dtype()),
        None => candle_core::bail!("conv2d: no image"),
    }
}
