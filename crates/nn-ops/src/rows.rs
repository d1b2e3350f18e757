//! Rows of tokens put into another order, with a filling where there is none: windows of a map, shifted and padded.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use crate::kernel::{self, Plan, dispatch};

const NONE: u32 = u32::MAX;

/// Which row of the input each row of the output is. Every input row is taken at most once.
#[derive(Clone, Debug)]
pub struct RowMap {
    take: Arc<[u32]>,
    inverse: Arc<[u32]>,
    /// Rows of a group of the output; none: all are one group.
    group: Option<usize>,
    #[cfg(feature = "cuda")]
    on_device: Arc<std::sync::OnceLock<OnDevice>>,
}

/// A map on a GPU, with the output rows that take none.
#[cfg(feature = "cuda")]
#[derive(Clone, Debug)]
pub(crate) struct OnDevice {
    pub(crate) take: Tensor,
    pub(crate) inverse: Tensor,
    pub(crate) holes: Option<Tensor>,
}

impl RowMap {
    /// `take[i]` is the row of `rows` that output `i` takes, or none.
    ///
    /// # Errors
    /// When a row does not exist or is taken twice.
    pub fn new(take: impl IntoIterator<Item = Option<usize>>, rows: usize) -> Result<Self> {
        let mut inverse = vec![NONE; rows];
        let take = take.into_iter().enumerate().map(|(i, row)| match row {
            None => Ok(NONE),
            Some(row) => match inverse.get_mut(row) {
                Some(to) if *to == NONE => {
                    *to = i as u32;
                    Ok(row as u32)
                }
                Some(_) => bail!("row map: row {row} is taken twice"),
                None => bail!("row map: there is no row {row} among {rows}"),
            },
        });
        let take = take.collect::<Result<Vec<_>>>()?.into();
        Ok(Self::of(take, inverse.into()))
    }

    /// Brings every row back to where it was taken from; rows that were not taken are none.
    pub fn inverse(&self) -> Self {
        Self::of(self.inverse.clone(), self.take.clone())
    }

    /// The same with the rows of the output in groups of `n`: windows of a map.
    ///
    /// # Errors
    /// When the rows do not divide into such groups.
    pub fn in_groups_of(mut self, n: usize) -> Result<Self> {
        if n == 0 || !self.take.len().is_multiple_of(n) {
            bail!("row map: {} rows do not divide into groups of {n}", self.take.len());
        }
        self.group = Some(n);
        Ok(self)
    }

    /// Shape of what is taken out of `b` images of `c` channels.
    pub(crate) fn output_shape(&self, b: usize, c: usize) -> (usize, usize, usize) {
        let group = self.group.unwrap_or(self.take.len());
        (b * self.take.len() / group.max(1), group, c)
    }

    fn of(take: Arc<[u32]>, inverse: Arc<[u32]>) -> Self {
        Self {
            take,
            inverse,
            group: None,
            #[cfg(feature = "cuda")]
            on_device: Arc::default(),
        }
    }

    /// The map on the device it was first used on, uploaded once.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_device(&self, device: &candle_core::Device) -> Result<OnDevice> {
        let made = || -> Result<OnDevice> {
            let holes = (0..self.take.len() as u32).filter(|&i| self.take[i as usize] == NONE);
            let holes: Vec<u32> = holes.collect();
            let up = |index: &[u32]| Tensor::new(index, device);
            let holes = if holes.is_empty() { None } else { Some(up(&holes)?) };
            Ok(OnDevice { take: up(&self.take)?, inverse: up(&self.inverse)?, holes })
        };
        match self.on_device.get() {
            Some(known) if known.take.device().same_device(device) => Ok(known.clone()),
            Some(_) => made(),
            None => {
                let made = made()?;
                Ok(self.on_device.get_or_init(|| made).clone())
            }
        }
    }
}

/// `(B, R, C)`, or the same rows in any groups, to `(B, rows of the map, C)`, or to the groups of the map; `fill` `(C)` or
/// zeros where the map has no row.
///
/// # Errors
/// When the map is for another number of rows or `fill` has another width.
pub fn take_rows(xs: &Tensor, map: &RowMap, fill: Option<&Tensor>) -> Result<Tensor> {
    let (groups, rows, c) = xs.dims3()?;
    if map.inverse.is_empty() || !(groups * rows).is_multiple_of(map.inverse.len()) {
        bail!("take_rows: a map of {} rows on {:?}", map.inverse.len(), xs.dims());
    }
    if let Some(fill) = fill
        && fill.dims() != [c]
    {
        bail!("take_rows: filling {:?} for rows of {c}", fill.dims());
    }
    match kernel::plan(xs) {
        Plan::Fused => fused(xs, map, fill),
        #[cfg(feature = "cuda")]
        Plan::Cuda if !map.take.is_empty() => crate::cuda::take_rows(xs, map, fill),
        _ => composed(xs, map, fill),
    }
}

/// By an index over the rows and one more: oracle of the kernel, and the path of other devices and types.
pub(crate) fn composed(xs: &Tensor, map: &RowMap, fill: Option<&Tensor>) -> Result<Tensor> {
    let (b, rows, c) = sizes(xs, map)?;
    let last = match fill {
        Some(fill) => {
            fill.to_dtype(xs.dtype())?.reshape((1, 1, c))?.broadcast_as((b, 1, c))?.contiguous()?
        }
        None => Tensor::zeros((b, 1, c), xs.dtype(), xs.device())?,
    };
    let index: Vec<u32> = map.take.iter().map(|i| (*i).min(rows as u32)).collect();
    let index = Tensor::new(index, xs.device())?;
    let xs = xs.contiguous()?.reshape((b, rows, c))?;
    let ys = Tensor::cat(&[&xs, &last], 1)?.index_select(&index, 1)?;
    ys.reshape(map.output_shape(b, c))
}

/// Images, rows of each, channels.
fn sizes(xs: &Tensor, map: &RowMap) -> Result<(usize, usize, usize)> {
    let ((groups, rows, c), each) = (xs.dims3()?, map.inverse.len());
    Ok((groups * rows / each.max(1), each, c))
}

fn fused(xs: &Tensor, map: &RowMap, fill: Option<&Tensor>) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let (b, rows, c) = sizes(&xs, map)?;
    let (n, given) = (map.take.len(), xs.shape().clone());
    let fill = fill.map(|f| f.contiguous()).transpose()?;
    dispatch!(xs.dtype(), T => {
        let ys = {
            let x = kernel::read(&xs)?;
            let f = fill.as_ref().map(kernel::read).transpose()?;
            let f = f.as_ref().map(|f| f.slice::<T>()).transpose()?;
            moved(x.slice::<T>()?, (b, rows, c), &map.take, f)
        };
        let (inverse, with_fill) = (map.inverse(), fill.is_some());
        let backward = move |grad: &Tensor| {
            let g = kernel::read(grad)?;
            let g = g.slice::<T>()?;
            let dx = moved(g, (b, n, c), &inverse.take, None);
            let mut found = vec![kernel::from_vec(dx, given.clone())?];
            if with_fill {
                let mut df = vec![T::default(); c];
                for image in g.chunks_exact((n * c).max(1)) {
                    let rows = image.chunks_exact(c.max(1)).zip(inverse.inverse.iter());
                    for (row, _) in rows.filter(|(_, from)| **from == NONE) {
                        df.iter_mut().zip(row).for_each(|(d, g)| *d += *g);
                    }
                }
                found.push(kernel::from_vec(df, c)?);
            }
            Ok(found)
        };
        let shape = map.output_shape(b, c);
        match &fill {
            Some(f) => kernel::attach("take-rows", &[&xs, f], ys, shape, backward),
            None => kernel::attach("take-rows", &[&xs], ys, shape, backward),
        }
    })
}

fn moved<T: kernel::Real>(
    x: &[T],
    (b, rows, c): (usize, usize, usize),
    take: &[u32],
    fill: Option<&[T]>,
) -> Vec<T> {
    let n = take.len();
    kernel::par_filled(b * n * c, c, |i, y| match (take[i % n], fill) {
        (NONE, Some(fill)) => y.copy_from_slice(fill),
        (NONE, None) => {}
        (row, _) => {
            let at = (i / n * rows + row as usize) * c;
            y.copy_from_slice(&x[at..at + c]);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, gradients, several};

    #[test]
    fn take_rows_passes_the_audit() -> Result<()> {
        let order = |n: usize| {
            RowMap::new(
                (0..n + 2).map(|i| (i % 3 != 1).then_some(i * 5 % (n + 2)).filter(|r| *r < n)),
                n,
            )
        };
        let (small, large) = (several(&[&[2, 7, 3], &[3]])?, several(&[&[2, 301, 17], &[17]])?);
        let map = |x: &[Tensor]| order(x[0].dim(1)?);
        let f = |x: &[Tensor]| take_rows(&x[0], &map(x)?, Some(&x[1]));
        audit("take_rows", &small, &large, &f, &|x| composed(&x[0], &map(x)?, Some(&x[1])))?;
        gradients("take_rows, zeros", &small[..1], &|x| take_rows(&x[0], &map(x)?, None))
    }

    #[test]
    fn there_and_back() -> Result<()> {
        let xs = &several(&[&[2, 6, 3]])?[0];
        let map =
            RowMap::new([Some(3), None, Some(0), Some(5), Some(1), None, Some(2), Some(4)], 6)?;
        let back = take_rows(&take_rows(xs, &map, None)?, &map.inverse(), None)?;
        assert_eq!(xs.to_vec3::<f64>()?, back.to_vec3::<f64>()?);
        assert!(RowMap::new([Some(1), Some(1)], 2).is_err());
        assert!(RowMap::new([Some(2)], 2).is_err());
        assert!(take_rows(xs, &RowMap::new([Some(0)], 5)?, None).is_err());
        Ok(())
    }
}
