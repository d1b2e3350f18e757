//! Attention in one operation: heads are cut out of the projections as they come, scores are never part of the graph.
//!
//! Scores are computed anew in the backward pass, some groups at a time, so that neither pass keeps more than [`AT_ONCE`]
//! bytes of them: a map of 3,600 cells has 13 million scores a head.

use candle_core::{CudaDevice, DType, Result, Tensor};

use super::blas::{Side, Types, products};

use super::softmax::{
    Rows, is_long, long_gradient_rows, long_rows, softmax_gradient_rows, softmax_rows,
};
use super::{
    ELEMENTWISE, Output, ROWS, device, f32_of, flash, int, launch, loop_grid, open, suffix, whole,
};
use crate::attend::Projected;
use crate::dropout::Drawn;
use crate::kernel::{attach_storage, attach_with_result};
use crate::softmax::ScoreTerms;

/// Bytes of scores at once.
pub(crate) const AT_ONCE: usize = 256 << 20;

/// Sizes of one attention.
#[derive(Clone, Copy)]
pub(super) struct Size {
    pub(super) groups: usize,
    pub(super) heads: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) width: usize,
}

impl Size {
    /// Groups whose scores are computed together.
    pub(super) fn chunk(&self, dtype: DType, at_once: usize) -> usize {
        let each = self.heads * self.queries * self.keys * dtype.size_in_bytes();
        (at_once / each.max(1)).clamp(1, self.groups)
    }
}

/// Where queries, keys and values stand: the input, and the part of its channels.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) input: usize,
    pub(super) part: usize,
    pub(super) of: usize,
}

fn places(x: &Projected) -> [Place; 3] {
    let at = |input: usize, part: usize, of: usize| Place { input, part, of };
    match x {
        Projected::One(_) => [at(0, 0, 3), at(0, 1, 3), at(0, 2, 3)],
        Projected::Two(..) => [at(0, 0, 1), at(1, 0, 2), at(1, 1, 2)],
        Projected::Three(..) => [at(0, 0, 1), at(1, 0, 1), at(2, 0, 1)],
    }
}

/// As [`crate::attend_projected`], on checked sizes.
pub(crate) fn attend(
    x: Projected,
    heads: usize,
    terms: ScoreTerms,
    drop: Option<Drawn>,
    at_once: usize,
) -> Result<Tensor> {
    let places = places(&x);
    let inputs = match x {
        Projected::One(t) => vec![t],
        Projected::Two(q, kv) => vec![q, kv],
        Projected::Three(q, k, v) => vec![q, k, v],
    };
    let mut inputs = inputs.into_iter().map(whole).collect::<Result<Vec<_>>>()?;
    let (groups, queries, wide) = inputs[0].dims3()?;
    let keys = inputs[places[1].input].dim(1)?;
    let size = Size { groups, heads, queries, keys, width: wide / places[0].of / heads };
    let by_tiles = flash::fits(inputs[0].dtype(), size);
    if by_tiles {
        inputs = inputs.into_iter().map(flash::aligned).collect::<Result<Vec<_>>>()?;
    }
    let bias = terms.bias.map(f32_of).transpose()?;
    let mask = terms.mask.map(|t| f32_of(&t.detach())).transpose()?;
    let pass = Pass { size, places, mask, drop, at_once };
    let detached: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
    let fixed = bias.as_ref().map(Tensor::detach);
    let mut all: Vec<&Tensor> = inputs.iter().collect();
    all.extend(&bias);
    if by_tiles {
        let (out, left) = pass.flash(&detached, fixed.as_ref())?;
        let (value, shape) = out.value();
        let backward = move |out: &Tensor, grad: &Tensor| {
            pass.flash_backward(&detached, fixed.as_ref(), &left, (out, grad))
        };
        return attach_with_result("attend", &all, value, shape, backward);
    }
    let (value, shape) = pass.forward(&detached, fixed.as_ref())?.value();
    let backward = move |grad: &Tensor| pass.backward(&detached, fixed.as_ref(), grad);
    attach_storage("attend", &all, value, shape, backward)
}

pub(super) struct Pass {
    pub(super) size: Size,
    pub(super) places: [Place; 3],
    pub(super) mask: Option<Tensor>,
    pub(super) drop: Option<Drawn>,
    pub(super) at_once: usize,
}

impl Pass {
    /// Queries, keys and values by heads, `(G, M, rows, d)` each.
    fn split(&self, inputs: &[Tensor]) -> Result<[Output; 3]> {
        let one = |p: Place| cut(&inputs[p.input], p, self.size);
        Ok([one(self.places[0])?, one(self.places[1])?, one(self.places[2])?])
    }

    /// `softmax(q kᵀ / sqrt(d) + bias + mask)` of groups `from..from + count`, computed in `scores`. It stays there when
    /// `used` is another place; `used` gets what dropout leaves of it.
    #[allow(clippy::too_many_arguments)]
    fn weights(
        &self,
        dev: &CudaDevice,
        [q, k]: [u64; 2],
        bias: Option<&Tensor>,
        (from, count): (usize, usize),
        scores: u64,
        used: Option<u64>,
        dtype: DType,
    ) -> Result<()> {
        let Size { heads, queries, keys, width, .. } = self.size;
        let bytes = dtype.size_in_bytes();
        let at = |base: u64, rows: usize| base + (from * heads * rows * width * bytes) as u64;
        let q = Side::new(at(q, queries), width, queries * width);
        let k = Side::new(at(k, keys), width, keys * width);
        let types = Types::all(dtype);
        products(dev, count * heads, (queries, keys, width), q, k.t(), scores, types)?;
        let rows = Rows { groups: count, first: from, heads, queries, keys };
        let (scale, mask) = (self.scale(), self.mask.as_ref());
        if is_long(keys) {
            let kept = if used == Some(scores) { 0 } else { scores };
            let into = (kept, used.unwrap_or(0));
            return long_rows(dev, into, scores, rows, scale, bias, mask, self.drop, dtype);
        }
        softmax_rows(dev, scores, scores, rows, scale, bias, mask, dtype)?;
        match used {
            Some(used) => {
                self.dropped(dev, from, scores, count * heads * queries * keys, used, dtype)
            }
            None => Ok(()),
        }
    }

    pub(super) fn scale(&self) -> f64 {
        1.0 / (self.size.width as f64).sqrt()
    }

    /// Drops elements of the scores of groups from `from` on; the mask of an element depends on its own place only.
    fn dropped(
        &self,
        dev: &CudaDevice,
        from: usize,
        of: u64,
        n: usize,
        into: u64,
        dtype: DType,
    ) -> Result<()> {
        let Some(d) = self.drop else { return Ok(()) };
        let Size { heads, queries, keys, .. } = self.size;
        let start = (from * heads * queries * keys) as u64;
        launch!(
            dev,
            ELEMENTWISE,
            format!("dropout_{}", suffix(dtype)?),
            loop_grid(n.div_ceil(4))?,
            [
                into,
                of,
                n as u64,
                start,
                d.key as u32,
                (d.key >> 32) as u32,
                d.at,
                d.threshold,
                d.scale
            ]
        );
        Ok(())
    }

    fn forward(&self, inputs: &[Tensor], bias: Option<&Tensor>) -> Result<Output> {
        let (dev, dtype) = (device(&inputs[0])?, inputs[0].dtype());
        let Size { groups, heads, queries, keys, width } = self.size;
        let [q, k, v] = self.split(inputs)?;
        let out = Output::new(&dev, (groups, heads, queries, width), dtype)?;
        let chunk = self.size.chunk(dtype, self.at_once);
        let scores = Output::new(&dev, (chunk, heads, queries, keys), dtype)?;
        let bytes = dtype.size_in_bytes();
        for from in (0..groups).step_by(chunk) {
            let count = chunk.min(groups - from);
            let used = Some(scores.at);
            self.weights(&dev, [q.at, k.at], bias, (from, count), scores.at, used, dtype)?;
            let p = Side::new(scores.at, keys, queries * keys);
            let v =
                Side::new(v.at + (from * heads * keys * width * bytes) as u64, width, keys * width);
            let to = out.at + (from * heads * queries * width * bytes) as u64;
            products(&dev, count * heads, (queries, width, keys), p, v, to, Types::all(dtype))?;
        }
        let joined = Output::new(&dev, (groups, queries, heads * width), dtype)?;
        let whole = Place { input: 0, part: 0, of: 1 };
        join(&dev, &out, joined.at, whole, queries, self.size, dtype)?;
        Ok(joined)
    }

    fn backward(
        &self,
        inputs: &[Tensor],
        bias: Option<&Tensor>,
        grad: &Tensor,
    ) -> Result<Vec<Tensor>> {
        let (dev, dtype) = (device(&inputs[0])?, inputs[0].dtype());
        let Size { groups, heads, queries, keys, width } = self.size;
        let [q, k, v] = self.split(inputs)?;
        let g = cut(grad, Place { input: 0, part: 0, of: 1 }, self.size)?;
        let new = |rows: usize| Output::new(&dev, (groups, heads, rows, width), dtype);
        let (dq, dk, dv) = (new(queries)?, new(keys)?, new(keys)?);
        let chunk = self.size.chunk(dtype, self.at_once);
        let scores = || Output::new(&dev, (chunk, heads, queries, keys), dtype);
        let (p, ds) = (scores()?, scores()?);
        let kept = if self.drop.is_some() { Some(scores()?) } else { None };
        let (bytes, types) = (dtype.size_in_bytes(), Types::all(dtype));
        let mut db: Option<Tensor> = None;
        for from in (0..groups).step_by(chunk) {
            let count = chunk.min(groups - from);
            let (batch, n) = (count * heads, count * heads * queries * keys);
            let at = |base: u64, rows: usize| base + (from * heads * rows * width * bytes) as u64;
            let tokens = |o: &Output, rows: usize| Side::new(at(o.at, rows), width, rows * width);
            let square = |o: &Output| Side::new(o.at, keys, queries * keys);
            let dropped = kept.as_ref().map(|k| k.at);
            self.weights(&dev, [q.at, k.at], bias, (from, count), p.at, dropped, dtype)?;
            let used = kept.as_ref().unwrap_or(&p);
            let dy = tokens(&g, queries);
            products(
                &dev,
                batch,
                (keys, width, queries),
                square(used).t(),
                dy,
                at(dv.at, keys),
                types,
            )?;
            products(&dev, batch, (queries, keys, width), dy, tokens(&v, keys).t(), ds.at, types)?;
            let rows = Rows { groups: count, first: from, heads, queries, keys };
            if is_long(keys) {
                let places = [ds.at, p.at, ds.at];
                long_gradient_rows(&dev, places, rows, self.scale(), self.drop, dtype)?;
            } else {
                self.dropped(&dev, from, ds.at, n, ds.at, dtype)?;
                let (n, scale) = (batch * queries, self.scale());
                softmax_gradient_rows(&dev, ds.at, p.at, ds.at, n, keys, scale, dtype)?;
            }
            products(
                &dev,
                batch,
                (queries, width, keys),
                square(&ds),
                tokens(&k, keys),
                at(dq.at, queries),
                types,
            )?;
            products(
                &dev,
                batch,
                (keys, width, queries),
                square(&ds).t(),
                tokens(&q, queries),
                at(dk.at, keys),
                types,
            )?;
            if bias.is_some() {
                let part = ds.sums(count, heads * queries * keys, 1.0 / self.scale())?;
                db = Some(match db {
                    Some(sum) => (sum + part)?,
                    None => part,
                });
            }
        }
        let mut found = Vec::with_capacity(4);
        for (i, input) in inputs.iter().enumerate() {
            let d = Output::new(&dev, input.shape(), dtype)?;
            for (place, (from, rows)) in
                self.places.iter().zip([(&dq, queries), (&dk, keys), (&dv, keys)])
            {
                if place.input == i {
                    join(&dev, from, d.at, *place, rows, self.size, dtype)?;
                }
            }
            found.push(d.tensor());
        }
        if let Some(db) = db {
            found.push(db.reshape((heads, queries, keys))?);
        }
        Ok(found)
    }
}

impl Output {
    /// Sums down the columns of the first `rows` rows.
    fn sums(&self, rows: usize, cols: usize, scale: f64) -> Result<Tensor> {
        super::norm::column_sums_at(
            &self.storage.device,
            self.at,
            (rows, cols),
            scale,
            self.dtype(),
        )
    }
}

/// One part of a projection by heads.
fn cut(x: &Tensor, place: Place, size: Size) -> Result<Output> {
    let (dev, dtype, rows) = (device(x)?, x.dtype(), x.dim(1)?);
    let y = Output::new(&dev, (size.groups, size.heads, rows, size.width), dtype)?;
    moved(&dev, y.at, open(x)?.at, place, rows, size, dtype, false)?;
    Ok(y)
}

/// Heads back into their part of a projection.
fn join(
    dev: &CudaDevice,
    x: &Output,
    into: u64,
    place: Place,
    rows: usize,
    size: Size,
    dtype: DType,
) -> Result<()> {
    moved(dev, into, x.at, place, rows, size, dtype, true)
}

#[allow(clippy::too_many_arguments)]
fn moved(
    dev: &CudaDevice,
    to: u64,
    from: u64,
    place: Place,
    rows: usize,
    size: Size,
    dtype: DType,
    back: bool,
) -> Result<()> {
    let channels = size.heads * size.width;
    let total = size.groups * rows * channels;
    launch!(
        dev,
        ROWS,
        format!("heads_{}", suffix(dtype)?),
        loop_grid(total.div_ceil(4))?,
        [
            to,
            from,
            total as u64,
            int(rows)?,
            int(size.heads)?,
            int(size.width)?,
            int(place.of * channels)?,
            int(place.part * channels)?,
            i32::from(back),
        ]
    );
    Ok(())
}
