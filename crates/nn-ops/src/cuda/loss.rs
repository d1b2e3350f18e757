//! Cross-entropy over pixels, and the mean over a map.

use candle_core::{DType, Result, Tensor};

use super::layout::behind;
use super::norm::{Spread, column_moments, plane_moments};
use super::{LOSS, Output, device, f32_of, grid, int, launch, loop_grid, open, suffix, whole};
use crate::kernel::attach_storage;

/// Blocks of partial sums.
const PARTS: usize = 512;

/// As [`crate::pixel_cross_entropy`]: logits in f32, masks as 0 and 1 in u8.
pub(crate) fn pixel_cross_entropy(
    logits: &Tensor,
    masks: &Tensor,
    [w0, w1]: [f32; 2],
) -> Result<Tensor> {
    let (logits, masks) = (whole(logits)?, masks.contiguous()?);
    let (b, _, h, w) = logits.dims4()?;
    let (dev, pixels, cells) = (device(&logits)?, (b * h * w) as u64, int(h * w)?);
    let config = grid((PARTS, 1, 1), (256, 1))?;
    let part = Output::new(&dev, (PARTS, 2), DType::F64)?;
    launch!(
        &dev,
        LOSS,
        "entropy_part",
        config,
        [part.at, open(&logits)?.at, open(&masks)?.at, pixels, cells, w0, w1]
    );
    let both = Output::new(&dev, 2, DType::F32)?;
    launch!(
        &dev,
        LOSS,
        "entropy_total",
        grid((1, 1, 1), (256, 1))?,
        [both.at, part.at, int(PARTS)?]
    );
    let both = both.tensor();
    // The value is a tensor of its own: the first of the two.
    let value = Output::new(&dev, (), DType::F32)?;
    launch!(
        &dev,
        LOSS,
        "spread_f32",
        grid((1, 1, 1), (32, 1))?,
        [value.at, open(&both)?.at, 1i32, 1f32]
    );
    let xd = logits.detach();
    let backward = move |grad: &Tensor| {
        let d = Output::new(&dev, xd.shape(), DType::F32)?;
        launch!(
            &dev,
            LOSS,
            "entropy_back",
            loop_grid(b * h * w)?,
            [
                d.at,
                open(&xd)?.at,
                open(&masks)?.at,
                open(&both)?.at,
                open(grad)?.at,
                pixels,
                cells,
                w0,
                w1
            ]
        );
        Ok(vec![d.tensor()])
    };
    let (value, shape) = value.value();
    attach_storage("cross-entropy", &[&logits], value, shape, backward)
}

/// Mean of each channel: `(B, C, h, w)` to `(B, C)`, summed in f32.
pub(crate) fn global_avg_pool(xs: &Tensor) -> Result<Tensor> {
    if let Some(last) = behind(xs)? {
        return pool_last(&last);
    }
    let xs = whole(xs)?;
    let (b, c, h, w) = xs.dims4()?;
    let (dev, dtype, cells) = (device(&xs)?, xs.dtype(), h * w);
    let means = plane_moments(&xs)?.narrow(2, 0, 1)?.contiguous()?;
    let y = Output::new(&dev, (b, c), dtype)?;
    let one = |y: u64, value: &Tensor, cells: usize, scale: f32| {
        let config = grid((b * c, 1, 1), (if cells == 1 { 32 } else { 256 }, 1))?;
        launch!(
            &dev,
            LOSS,
            format!("spread_{}", suffix(dtype)?),
            config,
            [y, open(value)?.at, int(cells)?, scale]
        );
        Ok::<_, candle_core::Error>(())
    };
    one(y.at, &means, 1, 1.0)?;
    let (value, shape) = y.value();
    let dev = dev.clone();
    let backward = move |grad: &Tensor| {
        let d = Output::new(&dev, (b, c, h, w), dtype)?;
        // Until the kernel is queued.
        let grad = f32_of(grad)?;
        let config = grid((b * c, 1, 1), (256, 1))?;
        launch!(
            &dev,
            LOSS,
            format!("spread_{}", suffix(dtype)?),
            config,
            [d.at, open(&grad)?.at, int(cells)?, 1.0 / cells as f32]
        );
        Ok(vec![d.tensor()])
    };
    attach_storage("global-average", &[&xs], value, shape, backward)
}

/// The same of `(B, h, w, C)`.
fn pool_last(xs: &Tensor) -> Result<Tensor> {
    let (b, h, w, c) = xs.dims4()?;
    let (dev, dtype, n) = (device(xs)?, xs.dtype(), h * w);
    let spread = move |value: &Tensor, n: usize, scale: f32| {
        let y = Output::new(&dev, (b, n, c), dtype)?;
        launch!(
            &dev,
            LOSS,
            format!("spread_last_{}", suffix(dtype)?),
            loop_grid(b * n * c)?,
            [y.at, open(value)?.at, (b * n * c) as u64, n as u32, int(c)?, scale]
        );
        Ok::<_, candle_core::Error>(y)
    };
    let both = column_moments(&xs.reshape((b, n, c))?, Spread::One)?;
    let means = both.narrow(1, 0, 1)?.contiguous()?;
    let (value, _) = spread(&means, 1, 1.0)?.value();
    let backward = move |grad: &Tensor| {
        let d = spread(&f32_of(grad)?, n, 1.0 / n as f32)?;
        Ok(vec![d.tensor().reshape((b, h, w, c))?])
    };
    attach_storage("global-average", &[xs], value, (b, c), backward)
}
