//! Bilinear resize, max-pool and sums over neighbours.

use candle_core::{DType, Result, Tensor};

use super::layout::{behind, last, map_of};
use super::{MAPS, Output, device, grid, int, launch, loop_grid, open, suffix, whole};
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

/// A resize of maps `(B, C, h, w)`, or with channels last, whose results are the first C of `wide` channels an image.
#[derive(Clone, Copy)]
struct Resize {
    from: (usize, usize, usize, usize),
    to: (usize, usize),
    align: Align,
    wide: usize,
    last: bool,
}

impl Resize {
    fn launch(&self, name: &str, items: usize, out: u64, from: u64, like: &Tensor) -> Result<()> {
        let (b, c, h, w) = self.from;
        let (v, u) = (axis(h, self.to.0, self.align)?, axis(w, self.to.1, self.align)?);
        let (dev, planes) = (device(like)?, (if self.last { b } else { b * c }) as u64);
        launch!(
            &dev,
            MAPS,
            format!("{name}_{}", suffix(like.dtype())?),
            loop_grid(items)?,
            [out, from, planes, v.0, v.1, v.2, v.3, u.0, u.1, u.2, u.3, int(c)?, int(self.wide)?]
        );
        Ok(())
    }
    fn forward(&self, xs: &Tensor, out: u64) -> Result<()> {
        let (b, c, ..) = self.from;
        let name = if self.last { "resize_last" } else { "resize" };
        self.launch(name, b * c * self.to.0 * self.to.1, out, open(xs)?.at, xs)
    }
    fn gradient(&self, grad: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = self.from;
        let (name, shape) =
            if self.last { ("resize_last_back", (b, h, w, c)) } else { ("resize_back", self.from) };
        let d = Output::new(&device(grad)?, shape, grad.dtype())?;
        self.launch(name, b * c * h * w, d.at, open(grad)?.at, grad)?;
        Ok(d.tensor())
    }
}

pub(crate) fn resize_bilinear(
    xs: &Tensor,
    (ho, wo): (usize, usize),
    align: Align,
) -> Result<Tensor> {
    let xs = whole(xs)?;
    let (b, c, h, w) = xs.dims4()?;
    let resize = Resize { from: (b, c, h, w), to: (ho, wo), align, wide: c, last: false };
    let y = Output::new(&device(&xs)?, (b, c, ho, wo), xs.dtype())?;
    resize.forward(&xs, y.at)?;
    let backward = move |grad: &Tensor| Ok(vec![resize.gradient(grad)?]);
    let (value, shape) = y.value();
    attach_storage("resize", &[&xs], value, shape, backward)
}

/// As [`crate::resize_beside`], on checked sizes: both written into the result where they belong.
pub(crate) fn resize_beside(coarse: &Tensor, fine: &Tensor, align: Align) -> Result<Tensor> {
    if let Some(fine) = behind(fine)? {
        return map_of(&beside_last(&last(coarse)?, &fine, align)?);
    }
    let (coarse, fine) = (whole(coarse)?, whole(fine)?);
    let ((b, c, h, w), (_, d, ho, wo)) = (coarse.dims4()?, fine.dims4()?);
    let resize = Resize { from: (b, c, h, w), to: (ho, wo), align, wide: c + d, last: false };
    let (dev, dtype, cells) = (device(&fine)?, fine.dtype(), ho * wo);
    let y = Output::new(&dev, (b, c + d, ho, wo), dtype)?;
    resize.forward(&coarse, y.at)?;
    let planes = move |y: u64, x: u64, out: bool| {
        let config = grid((b * d, 1, 1), (256, 1))?;
        launch!(
            &dev,
            MAPS,
            format!("planes_{}", suffix(dtype)?),
            config,
            [y, x, int(cells)?, int(d)?, int(c + d)?, int(c)?, i32::from(out)]
        );
        Ok::<_, candle_core::Error>(())
    };
    planes(y.at, open(&fine)?.at, false)?;
    let backward = move |grad: &Tensor| {
        let df = Output::new(&device(grad)?, (b, d, ho, wo), dtype)?;
        planes(df.at, open(grad)?.at, true)?;
        Ok(vec![resize.gradient(grad)?, df.tensor()])
    };
    let (value, shape) = y.value();
    attach_storage("resize-beside", &[&coarse, &fine], value, shape, backward)
}

/// The same of `(B, h, w, C)` and `(B, h', w', D)`.
fn beside_last(coarse: &Tensor, fine: &Tensor, align: Align) -> Result<Tensor> {
    let ((b, h, w, c), (_, ho, wo, d)) = (coarse.dims4()?, fine.dims4()?);
    let resize = Resize { from: (b, c, h, w), to: (ho, wo), align, wide: c + d, last: true };
    let (dev, dtype) = (device(fine)?, fine.dtype());
    let y = Output::new(&dev, (b, ho, wo, c + d), dtype)?;
    resize.forward(coarse, y.at)?;
    let beside = move |y: u64, x: u64, out: bool| {
        let total = b * ho * wo * d;
        launch!(
            &dev,
            MAPS,
            format!("beside_{}", suffix(dtype)?),
            loop_grid(total.div_ceil(4))?,
            [y, x, total as u64, int(d)?, int(c + d)?, int(c)?, i32::from(out)]
        );
        Ok::<_, candle_core::Error>(())
    };
    beside(y.at, open(fine)?.at, false)?;
    let backward = move |grad: &Tensor| {
        let df = Output::new(&device(grad)?, (b, ho, wo, d), dtype)?;
        beside(df.at, open(grad)?.at, true)?;
        Ok(vec![resize.gradient(grad)?, df.tensor()])
    };
    let (value, shape) = y.value();
    attach_storage("resize-beside", &[coarse, fine], value, shape, backward)
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
    let backward = move |grad: &Tensor| {
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
    let backward = move |grad: &Tensor| Ok(vec![pass(grad, after, before)?.tensor()]);
    attach_storage("window_sum", &[&xs], value, shape, backward)
}
