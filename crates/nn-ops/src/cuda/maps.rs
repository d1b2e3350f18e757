//! Bilinear resize, max-pool and sums over neighbours.

use candle_core::{DType, Result, Tensor};

use super::{MAPS, Output, device, int, launch, loop_grid, open, suffix, whole};
use crate::interpolate::Align;
use crate::kernel::attach_storage;

/// `at(i) = (i + shift) * scale - shift` of one axis.
fn axis(from: usize, to: usize, align: Align) -> Result<(i32, i32, f64, f64)> {
    let (scale, shift) = match align {
        Align::Corners if to == 1 => (0.0, 0.0),
        Align::Corners => ((from - 1) as f64 / (to - 1) as f64, 0.0),
        Align::Edges => (from as f64 / to as f64, 0.5),
    };
    Ok((int(from)?, int(to)?, scale, shift))
}

pub(crate) fn resize_bilinear(
    xs: &Tensor,
    (ho, wo): (usize, usize),
    align: Align,
) -> Result<Tensor> {
    let xs = whole(xs)?;
    let (b, c, h, w) = xs.dims4()?;
    let (dev, s, dtype) = (device(&xs)?, suffix(xs.dtype())?, xs.dtype());
    let (v, u) = (axis(h, ho, align)?, axis(w, wo, align)?);
    let planes = (b * c) as u64;
    let y = Output::new(&dev, (b, c, ho, wo), dtype)?;
    launch!(
        &dev,
        MAPS,
        format!("resize_{s}"),
        loop_grid(b * c * ho * wo)?,
        [y.at, open(&xs)?.at, planes, v.0, v.1, v.2, v.3, u.0, u.1, u.2, u.3]
    );
    let backward = move |_: &Tensor, grad: &Tensor| {
        let d = Output::new(&dev, (b, c, h, w), dtype)?;
        launch!(
            &dev,
            MAPS,
            format!("resize_back_{s}"),
            loop_grid(b * c * h * w)?,
            [d.at, open(grad)?.at, planes, v.0, v.1, v.2, v.3, u.0, u.1, u.2, u.3]
        );
        Ok(vec![d.tensor()])
    };
    let (value, shape) = y.value();
    attach_storage("resize", &[&xs], value, shape, backward)
}

pub(crate) fn max_pool2d(xs: &Tensor, k: usize, stride: usize, padding: usize) -> Result<Tensor> {
    let xs = whole(xs)?;
    let (b, c, h, w) = xs.dims4()?;
    let (ho, wo) = ((h + 2 * padding - k) / stride + 1, (w + 2 * padding - k) / stride + 1);
    let (dev, s, dtype) = (device(&xs)?, suffix(xs.dtype())?, xs.dtype());
    let planes = (b * c) as u64;
    let sizes = [int(h)?, int(w)?, int(ho)?, int(wo)?, int(k)?, int(stride)?, int(padding)?];
    let y = Output::new(&dev, (b, c, ho, wo), dtype)?;
    let from = Output::new(&dev, (b, c, ho, wo), DType::U32)?;
    let [h_, w_, ho_, wo_, k_, s_, p_] = sizes;
    launch!(
        &dev,
        MAPS,
        format!("pool_{s}"),
        loop_grid(b * c * ho * wo)?,
        [y.at, from.at, open(&xs)?.at, planes, h_, w_, ho_, wo_, k_, s_, p_]
    );
    let from = from.tensor();
    let backward = move |_: &Tensor, grad: &Tensor| {
        let d = Output::new(&dev, (b, c, h, w), dtype)?;
        launch!(
            &dev,
            MAPS,
            format!("pool_back_{s}"),
            loop_grid(b * c * h * w)?,
            [d.at, open(grad)?.at, open(&from)?.at, planes, h_, w_, ho_, wo_, k_, s_, p_]
        );
        Ok(vec![d.tensor()])
    };
    let (value, shape) = y.value();
    attach_storage("max-pool2d", &[&xs], value, shape, backward)
}

/// `y[i] = Σ x[i - before ..= i + after]` along the middle of `(outer, n, inner)`.
pub(crate) fn window_sum(xs: &Tensor, before: usize, after: usize) -> Result<Tensor> {
    let xs = whole(xs)?;
    let (outer, n, inner) = xs.dims3()?;
    let pass = move |xs: &Tensor, before: usize, after: usize| {
        let (dev, total) = (device(xs)?, outer * n * inner);
        let y = Output::new(&dev, (outer, n, inner), xs.dtype())?;
        launch!(
            &dev,
            MAPS,
            format!("run_{}", suffix(xs.dtype())?),
            loop_grid(total)?,
            [y.at, open(xs)?.at, total as u64, int(n)?, int(inner)?, int(before)?, int(after)?]
        );
        Ok::<_, candle_core::Error>(y)
    };
    let (value, shape) = pass(&xs, before, after)?.value();
    // A cell is in the windows of those that look the other way.
    let backward = move |_: &Tensor, grad: &Tensor| Ok(vec![pass(grad, after, before)?.tensor()]);
    attach_storage("window_sum", &[&xs], value, shape, backward)
}
