//! The relative position bias of window attention: rows of a learnt table, one a pair of cells (Liu et al. 2021, eq. 4).

use std::sync::Arc;

use candle_core::{Device, Result, Tensor, bail};

use crate::kernel::{self, Plan, dispatch};

/// Which row of a table each place takes, and where each row is used.
#[derive(Clone, Debug)]
pub struct RowIndex {
    index: Tensor,
    places: Arc<[u32]>,
    #[cfg(feature = "cuda")]
    users: Option<(Tensor, Tensor)>,
    rows: usize,
}

impl RowIndex {
    /// `index[i]` is the row of place `i`, below `rows`.
    ///
    /// # Errors
    /// When an entry is not below `rows`.
    pub fn new(index: Vec<u32>, rows: usize, device: &Device) -> Result<Self> {
        if let Some(row) = index.iter().find(|r| **r as usize >= rows) {
            bail!("row index: row {row} of a table of {rows}");
        }
        Ok(Self {
            #[cfg(feature = "cuda")]
            users: device.is_cuda().then(|| users(&index, rows, device)).transpose()?,
            places: Arc::from(&index[..]),
            index: Tensor::new(index, device)?,
            rows,
        })
    }
}

/// For each row, where its places begin `(rows + 1)`, and all places in the order of the rows.
#[cfg(feature = "cuda")]
fn users(index: &[u32], rows: usize, device: &Device) -> Result<(Tensor, Tensor)> {
    let mut places: Vec<u32> = (0..index.len() as u32).collect();
    places.sort_by_key(|&i| index[i as usize]);
    let mut starts = vec![0u32; rows + 1];
    index.iter().for_each(|&r| starts[r as usize + 1] += 1);
    for r in 0..rows {
        starts[r + 1] += starts[r];
    }
    Ok((Tensor::new(starts, device)?, Tensor::new(places, device)?))
}

/// `out[m][i] = table[index[i]][m]`: `(R, M)` to `(M, N)`.
///
/// # Errors
/// When the table has another number of rows.
pub fn relative_bias(table: &Tensor, index: &RowIndex) -> Result<Tensor> {
    let (rows, _) = table.dims2()?;
    if rows != index.rows {
        bail!("relative bias: a table of {rows} rows for an index into {}", index.rows);
    }
    #[cfg(feature = "cuda")]
    if let Some((starts, places)) = &index.users
        && kernel::plan(table) == Plan::Cuda
    {
        return crate::cuda::relative_bias(table, &index.index, starts, places);
    }
    match kernel::plan(table) {
        Plan::Fused => fused(table, index),
        _ => composed(table, index),
    }
}

/// From Candle's operations: the oracle of the kernel, and the path of other devices.
fn composed(table: &Tensor, index: &RowIndex) -> Result<Tensor> {
    table.contiguous()?.index_select(&index.index, 0)?.t()?.contiguous()
}

fn fused(table: &Tensor, index: &RowIndex) -> Result<Tensor> {
    let table = table.contiguous()?;
    let (rows, m) = table.dims2()?;
    let (places, n) = (index.places.clone(), index.places.len());
    dispatch!(table.dtype(), T => {
        let ys = {
            let t = kernel::read(&table)?;
            let t = t.slice::<T>()?;
            kernel::par_filled(m * n, n, |head, y| {
                let column: Vec<T> = t.iter().skip(head).step_by(m).copied().collect();
                y.iter_mut().zip(places.iter()).for_each(|(y, row)| *y = column[*row as usize]);
            })
        };
        let backward = move |grad: &Tensor| {
            let g = kernel::read(grad)?;
            let g = g.slice::<T>()?;
            let columns = kernel::par_filled(m * rows, rows, |head, column: &mut [T]| {
                let g = &g[head * n..(head + 1) * n];
                g.iter().zip(places.iter()).for_each(|(g, row)| column[*row as usize] += *g);
            });
            let dt = (0..rows * m).map(|i| columns[i % m * rows + i / m]).collect();
            Ok(vec![kernel::from_vec(dt, (rows, m))?])
        };
        kernel::attach("relative-bias", &[&table], ys, (m, n), backward)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{audit, several};

    #[test]
    fn relative_bias_passes_the_audit() -> Result<()> {
        let index = |n: usize, rows: usize| {
            RowIndex::new((0..n).map(|i| (i * 7 % rows) as u32).collect(), rows, &Device::Cpu)
        };
        let (small, large) = (several(&[&[5, 3]])?, several(&[&[61, 7]])?);
        let of = |x: &Tensor| index(if x.dims()[0] == 5 { 11 } else { 2500 }, x.dims()[0]);
        audit("relative-bias", &small, &large, &|x| relative_bias(&x[0], &of(&x[0])?), &|x| {
            composed(&x[0], &of(&x[0])?)
        })?;
        assert!(relative_bias(&small[0], &index(4, 4)?).is_err());
        assert!(RowIndex::new(vec![0, 5], 5, &Device::Cpu).is_err());
        Ok(())
    }
}
