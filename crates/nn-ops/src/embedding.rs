//! Look-up of learnt vectors.

use candle_core::{Result, Tensor};

/// Rows of `table` `(V, D)` for ids `(B, L)`: `(B, L, D)`.
///
/// With `padding_id`, the rows of that id take part in the value but get no gradient (PyTorch's `padding_idx`).
///
/// # Errors
/// When an id is not below `V`.
pub fn embedding(table: &Tensor, ids: &Tensor, padding_id: Option<u32>) -> Result<Tensor> {
    let (b, l) = ids.dims2()?;
    let (v, d) = table.dims2()?;
    let ids = ids.to_dtype(candle_core::DType::U32)?;
    if ids.elem_count() > 0 {
        let max = ids.flatten_all()?.max(0)?.to_scalar::<u32>()?;
        if max as usize >= v {
            candle_core::bail!("token id {max} is outside the vocabulary of {v}");
        }
    }
    let flat = ids.flatten_all()?;
    let rows = table.contiguous()?.index_select(&flat, 0)?;
    let rows = match padding_id {
        Some(id) => {
            let real = flat.ne(id)?.to_dtype(rows.dtype())?.unsqueeze(1)?;
            let held = rows.detach().broadcast_mul(&(1.0 - &real)?)?;
            (rows.broadcast_mul(&real)? + held)?
        }
        None => rows,
    };
    rows.reshape((b, l, d))
}
