//! Rows of a learnt table picked by a fixed index, transposed: the relative position bias.

use candle_core::{DType, Result, Tensor};

use super::{MAPS, Output, device, f32_of, int, launch, loop_grid, open};
use crate::kernel::attach_storage;

/// `out[m][i] = table[index[i]][m]`: `(R, M)` to f32 `(M, N)`. `starts` `(R + 1)` and `places` `(N)` list where each row
/// is used, so that its gradient is gathered.
pub(crate) fn relative_bias(
    table: &Tensor,
    index: &Tensor,
    starts: &Tensor,
    places: &Tensor,
) -> Result<Tensor> {
    let table = f32_of(table)?;
    let ((rows, m), n) = (table.dims2()?, index.dims1()?);
    let dev = device(&table)?;
    let y = Output::new(&dev, (m, n), DType::F32)?;
    launch!(
        &dev,
        MAPS,
        "bias_rows",
        loop_grid(m * n)?,
        [y.at, open(&table)?.at, open(index)?.at, int(n)?, int(m)?]
    );
    let (starts, places) = (starts.clone(), places.clone());
    let backward = move |grad: &Tensor| {
        let d = Output::new(&dev, (rows, m), DType::F32)?;
        launch!(
            &dev,
            MAPS,
            "bias_rows_back",
            loop_grid(rows * m)?,
            [
                d.at,
                open(grad)?.at,
                open(&starts)?.at,
                open(&places)?.at,
                int(rows)?,
                int(n)?,
                int(m)?
            ]
        );
        Ok(vec![d.tensor()])
    };
    let (value, shape) = y.value();
    attach_storage("relative-bias", &[&table], value, shape, backward)
}
