//! The relative position bias of window attention: rows of a learnt table, one a pair of cells (Liu et al. 2021, eq. 4).

use candle_core::{Device, Result, Tensor, bail};

/// Which row of a table each place takes, and where each row is used.
#[derive(Clone, Debug)]
pub struct RowIndex {
    index: Tensor,
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
        && crate::kernel::plan(table) == crate::kernel::Plan::Cuda
    {
        return crate::cuda::relative_bias(table, &index.index, starts, places);
    }
    table.contiguous()?.index_select(&index.index, 0)?.t()?.contiguous()
}
