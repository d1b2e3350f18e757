//! Rows put into another order, and tokens and channels exchanged.

use candle_core::{Result, Shape, Tensor};

use super::norm::column_sums;
use super::{Output, ROWS, device, f32_of, grid, int, launch, loop_grid, open, suffix, whole};
use crate::kernel::attach_storage;
use crate::rows::RowMap;

/// As [`crate::take_rows`], on checked sizes.
pub(crate) fn take_rows(xs: &Tensor, map: &RowMap, fill: Option<&Tensor>) -> Result<Tensor> {
    let xs = whole(xs)?;
    let fill = fill.map(f32_of).transpose()?;
    let on = map.on_device(xs.device())?;
    let (c, given) = (xs.dim(2)?, xs.shape().clone());
    let images = xs.elem_count() / (on.inverse.dims1()? * c);
    let shape = map.output_shape(images, c);
    let y = taken(&xs, &on.take, on.inverse.dims1()?, shape, fill.as_ref())?;
    let with_fill = fill.is_some();
    let backward = move |grad: &Tensor| {
        let n = on.take.dims1()?;
        let mut found = vec![taken(grad, &on.inverse, n, given.clone(), None)?.tensor()];
        if with_fill {
            found.push(match &on.holes {
                Some(holes) => {
                    let shape = (images * holes.dims1()?, c);
                    column_sums(&taken(grad, holes, n, shape, None)?.tensor(), 1.0)?
                }
                None => Tensor::zeros(c, candle_core::DType::F32, grad.device())?,
            });
        }
        Ok(found)
    };
    let (value, shape) = y.value();
    match &fill {
        Some(f) => attach_storage("take-rows", &[&xs, f], value, shape, backward),
        None => attach_storage("take-rows", &[&xs], value, shape, backward),
    }
}

/// Rows of images of `rows` rows each, as a result of `shape`.
fn taken(
    xs: &Tensor,
    take: &Tensor,
    rows: usize,
    shape: impl Into<Shape>,
    fill: Option<&Tensor>,
) -> Result<Output> {
    let (c, n, dev, shape) = (xs.dim(2)?, take.dims1()?, device(xs)?, shape.into());
    let (total, fill) = (shape.elem_count(), fill.map(open).transpose()?);
    let y = Output::new(&dev, shape, xs.dtype())?;
    launch!(
        &dev,
        ROWS,
        format!("take_{}", suffix(xs.dtype())?),
        loop_grid(total.div_ceil(4))?,
        [
            y.at,
            open(xs)?.at,
            open(take)?.at,
            fill.as_ref().map_or(0u64, |t| t.at),
            total as u64,
            int(n)?,
            int(rows)?,
            int(c)?,
        ]
    );
    Ok(y)
}

/// As [`crate::text_windows`], on checked sizes.
pub(crate) fn text_windows(xs: &Tensor, k: usize) -> Result<Tensor> {
    let xs = whole(xs)?;
    let ((b, n, c), dev, s) = (xs.dims3()?, device(&xs)?, suffix(xs.dtype())?);
    let run = move |name: String, from: &Tensor, (rows, wide): (usize, usize)| {
        let y = Output::new(&dev, (b, rows, wide), from.dtype())?;
        let total = b * rows * wide;
        launch!(
            &dev,
            ROWS,
            name,
            loop_grid(total)?,
            [y.at, open(from)?.at, total as u64, int(n)?, int(c)?, int(k)?]
        );
        Ok::<_, candle_core::Error>(y)
    };
    let (value, shape) = run(format!("text_windows_{s}"), &xs, (n, c * k))?.value();
    let backward = move |grad: &Tensor| {
        Ok(vec![run(format!("text_windows_back_{s}"), grad, (n, c))?.tensor()])
    };
    attach_storage("text-windows", &[&xs], value, shape, backward)
}

/// `(B, N, C)` to `(B, C, N)`.
pub(crate) fn turn(xs: &Tensor) -> Result<Tensor> {
    let xs = whole(xs)?;
    let (value, shape) = turned(&xs)?.value();
    let backward = move |grad: &Tensor| Ok(vec![turned(grad)?.tensor()]);
    attach_storage("turn", &[&xs], value, shape, backward)
}

/// `(B, N, C)` in order to `(B, C, N)`.
pub(super) fn turned(xs: &Tensor) -> Result<Output> {
    let ((b, n, c), dev) = (xs.dims3()?, device(xs)?);
    let y = Output::new(&dev, (b, c, n), xs.dtype())?;
    let config = grid((c.div_ceil(32), n.div_ceil(32), b), (32, 8))?;
    launch!(
        &dev,
        ROWS,
        format!("turn_{}", suffix(xs.dtype())?),
        config,
        [y.at, open(xs)?.at, int(n)?, int(c)?]
    );
    Ok(y)
}
