//! Look-up of learnt vectors.

use candle_core::{Result, Tensor};

use crate::kernel::{self, Plan, dispatch};

/// Rows of `table` `(V, D)` for ids `(B, L)`: `(B, L, D)`.
///
/// With `padding_id`, the rows of that id take part in the value but get no gradient (PyTorch's `padding_idx`).
///
/// # Errors
/// When an id is not below `V` (ids on the CPU; on a GPU the caller checks them before uploading).
pub fn embedding(table: &Tensor, ids: &Tensor, padding_id: Option<u32>) -> Result<Tensor> {
    let (b, l) = ids.dims2()?;
    let (v, d) = table.dims2()?;
    let ids = ids.to_dtype(candle_core::DType::U32)?;
    // Asking a GPU for the largest id would wait for it: there, ids are checked before they are uploaded.
    if ids.elem_count() > 0 && ids.device().is_cpu() {
        let max = ids.flatten_all()?.max(0)?.to_scalar::<u32>()?;
        if max as usize >= v {
            candle_core::bail!("token id {max} is outside the vocabulary of {v}");
        }
    }
    let flat = ids.flatten_all()?;
    if kernel::plan(table) == Plan::Fused && table.is_contiguous() && b * l * d > 0 {
        return fused(table, flat.to_vec1()?, padding_id, (b, l, d));
    }
    composed(table, &flat, padding_id)?.reshape((b, l, d))
}

fn fused(
    table: &Tensor,
    ids: Vec<u32>,
    padding_id: Option<u32>,
    (b, l, d): (usize, usize, usize),
) -> Result<Tensor> {
    let shape = table.shape().clone();
    dispatch!(table.dtype(), T => {
        let ys = {
            let rows = kernel::read(table)?;
            let rows = rows.slice::<T>()?;
            let row = |i: usize| &rows[ids[i] as usize * d..][..d];
            kernel::par_filled(ids.len() * d, d, |i, y| y.copy_from_slice(row(i)))
        };
        let backward = move |grad: &Tensor| {
            let g = kernel::read(grad)?;
            let mut dt = vec![T::default(); shape.elem_count()];
            let rows = ids.iter().zip(g.slice::<T>()?.chunks_exact(d));
            for (id, row) in rows.filter(|(id, _)| Some(**id) != padding_id) {
                let to = &mut dt[*id as usize * d..][..d];
                to.iter_mut().zip(row).for_each(|(t, g)| *t += *g);
            }
            Ok(vec![kernel::from_vec(dt, shape.clone())?])
        };
        kernel::attach("embedding", &[table], ys, (b, l, d), backward)
    })
}

/// `(B L, D)` from Candle operations: oracle of the kernel, and the path of other devices and types.
fn composed(table: &Tensor, flat: &Tensor, padding_id: Option<u32>) -> Result<Tensor> {
    let rows = table.contiguous()?.index_select(flat, 0)?;
    match padding_id {
        Some(id) => {
            let real = flat.ne(id)?.to_dtype(rows.dtype())?.unsqueeze(1)?;
            let held = rows.detach().broadcast_mul(&(1.0 - &real)?)?;
            rows.broadcast_mul(&real)? + held
        }
        None => Ok(rows),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{half, several, threads, values};
    use candle_core::{Device, Var};

    fn ids() -> Result<Tensor> {
        Tensor::new(&[[1u32, 0, 3], [3, 3, 0]], &Device::Cpu)
    }

    #[test]
    fn gradients_add_up_over_repeated_ids() -> Result<()> {
        let table = several(&[&[4, 5]])?;
        crate::audit::gradients("embedding", &table, &|t| embedding(&t[0], &ids()?, None))?;
        half("embedding", &table, &|t| embedding(&t[0], &ids()?, Some(0)))?;
        let many =
            Tensor::from_vec((0..600u32).map(|i| i * i % 97).collect(), (6, 100), &Device::Cpu)?;
        let table = several(&[&[97, 31]])?;
        let f = |t: &[Tensor]| embedding(&t[0], &many, Some(0));
        let oracle =
            |t: &[Tensor]| composed(&t[0], &many.flatten_all()?, Some(0))?.reshape((6, 100, 31));
        crate::audit::oracle("embedding", &table, &f, &oracle)?;
        threads("embedding", &table, &f)
    }

    #[test]
    fn padding_keeps_its_value_and_gets_no_gradient() -> Result<()> {
        let table = Var::from_tensor(&values(&[4, 2], 1)?)?;
        let (a, b) = (embedding(&table, &ids()?, None)?, embedding(&table, &ids()?, Some(0))?);
        assert_eq!(a.flatten_all()?.to_vec1::<f64>()?, b.flatten_all()?.to_vec1::<f64>()?);
        let g = b.sum_all()?.backward()?;
        let g = g.get(&table).map(|g| g.to_vec2::<f64>()).transpose()?;
        assert_eq!(g, Some(vec![vec![0.0; 2], vec![1.0; 2], vec![0.0; 2], vec![3.0; 2]]));
        Ok(())
    }

    #[test]
    fn ids_outside_the_table_are_errors() -> Result<()> {
        let table = values(&[3, 2], 1)?;
        assert!(
            embedding(&table, &ids()?, None).is_err_and(|e| e.to_string().contains("token id 3"))
        );
        let negative = Tensor::new(&[[-1i64]], &Device::Cpu)?;
        assert!(embedding(&table, &negative, None).is_err());
        let none = Tensor::zeros((0, 3), candle_core::DType::U32, &Device::Cpu)?;
        assert_eq!(embedding(&table, &none, None)?.dims(), [0, 3, 2]);
        Ok(())
    }
}
