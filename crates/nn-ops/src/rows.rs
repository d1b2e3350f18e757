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
        Ok(Self { take, inverse: inverse.into() })
    }

    /// Brings every row back to where it was taken from; rows that were not taken are none.
    pub fn inverse(&self) -> Self {
        Self { take: self.inverse.clone(), inverse: self.take.clone() }
    }
}

/// `(B, R, C)` to `(B, rows of the map, C)`; `fill` `(C)` or zeros where the map has no row.
///
/// # Errors
/// When the map is for another number of rows or `fill` has another width.
pub fn take_rows(xs: &Tensor, map: &RowMap, fill: Option<&Tensor>) -> Result<Tensor> {
    let (_, rows, c) = xs.dims3()?;
    if rows != map.inverse.len() {
        bail!("take_rows: a map of {} rows on {:?}", map.inverse.len(), xs.dims());
    }
    if let Some(fill) = fill
        && fill.dims() != [c]
    {
        bail!("take_rows: filling {:?} for rows of {c}", fill.dims());
    }
    match kernel::plan(xs) {
        Plan::Fused => fused(xs, map, fill),
        _ => composed(xs, map, fill),
    }
}

/// By an index over the rows and one more: oracle of the kernel, and the path of other devices and types.
pub(crate) fn composed(xs: &Tensor, map: &RowMap, fill: Option<&Tensor>) -> Result<Tensor> {
    let (b, rows, c) = xs.dims3()?;
    let last = match fill {
        Some(fill) => {
            fill.to_dtype(xs.dtype())?.reshape((1, 1, c))?.broadcast_as((b, 1, c))?.contiguous()?
        }
        None => Tensor::zeros((b, 1, c), xs.dtype(), xs.device())?,
    };
    let index: Vec<u32> = map.take.iter().map(|i| (*i).min(rows as u32)).collect();
    let index = Tensor::new(index, xs.device())?;
    Tensor::cat(&[&xs.contiguous()?, &last], 1)?.index_select(&index, 1)
}

fn fused(xs: &Tensor, map: &RowMap, fill: Option<&Tensor>) -> Result<Tensor> {
    let xs = xs.contiguous()?;
    let (b, rows, c) = xs.dims3()?;
    let n = map.take.len();
    let fill = fill.map(|f| f.contiguous()).transpose()?;
    dispatch!(xs.dtype(), T => {
        let ys = {
            let x = kernel::read(&xs)?;
            let f = fill.as_ref().map(kernel::read).transpose()?;
            let f = f.as_ref().map(|f| f.slice::<T>()).transpose()?;
            moved(x.slice::<T>()?, (b, rows, c), &map.take, f)
        };
        let (inverse, with_fill) = (map.inverse(), fill.is_some());
        let backward = move |_: &Tensor, grad: &Tensor| {
            let g = kernel::read(grad)?;
            let g = g.slice::<T>()?;
            let dx = moved(g, (b, n, c), &inverse.take, None);
            let mut found = vec![kernel::from_vec(dx, (b, rows, c))?];
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
        match &fill {
            Some(f) => kernel::attach("take-rows", &[&xs, f], ys, (b, n, c), backward),
            None => kernel::attach("take-rows", &[&xs], ys, (b, n, c), backward),
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
    let mut ys = vec![T::default(); b * n * c];
    kernel::par_chunks(&mut ys, c, |i, y| match (take[i % n], fill) {
        (NONE, Some(fill)) => y.copy_from_slice(fill),
        (NONE, None) => {}
        (row, _) => {
            let at = (i / n * rows + row as usize) * c;
            y.copy_from_slice(&x[at..at + c]);
        }
    });
    ys
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
