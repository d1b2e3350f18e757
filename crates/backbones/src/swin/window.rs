//! Attention inside windows, with a learnt bias for each relative position and a mask for shifted windows.

use candle_core::{D, Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use nn_ops::{
    Linear, RowIndex, ScoreTerms, attention_softmax, linear_with_init, matmul, matmul_nt,
    merge_heads, relative_bias,
};

/// Multi-head self-attention over the cells of one window. Keys `relative_position_bias_table ((2 w - 1)², M)`, `qkv`,
/// `proj`.
#[derive(Clone, Debug)]
pub(super) struct WindowAttention {
    table: Tensor,
    index: RowIndex,
    qkv: Linear,
    proj: Linear,
    heads: usize,
    window: usize,
}

impl WindowAttention {
    pub(super) fn new(
        dim: usize,
        heads: usize,
        window: usize,
        init: Init,
        vb: VarBuilder,
    ) -> Result<Self> {
        let rows = (2 * window - 1) * (2 * window - 1);
        let table = vb.get_with_hints((rows, heads), "relative_position_bias_table", init)?;
        let index = RowIndex::new(relative_position_index(window), rows, vb.device())?;
        let linear = |out: usize, name: &str| {
            linear_with_init(dim, out, true, init, Init::Const(0.0), vb.pp(name))
        };
        Ok(Self {
            table,
            index,
            qkv: linear(3 * dim, "qkv")?,
            proj: linear(dim, "proj")?,
            heads,
            window,
        })
    }

    /// Windows `(B W, n, C)` with `n = window²`; `mask` `(W, n, n)` is added to the scores.
    pub(super) fn forward(&self, xs: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let (g, n, c) = xs.dims3()?;
        let d = c / self.heads;
        let qkv = self.qkv.forward(xs)?.reshape((g, n, 3, self.heads, d))?;
        let part = |i: usize| qkv.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous();
        let (q, k, v) = (part(0)?, part(1)?, part(2)?); // (B W, M, n, d)
        let bias = relative_bias(&self.table, &self.index)?.reshape((self.heads, n, n))?;
        let terms = ScoreTerms { bias: Some(&bias), mask };
        let weights = attention_softmax(&matmul_nt(&q, &k)?, 1.0 / (d as f64).sqrt(), terms)?;
        self.proj.forward(&merge_heads(&matmul(&weights, &v)?)?)
    }

    pub(super) fn window(&self) -> usize {
        self.window
    }
}

/// For each pair of cells of a window, the row of the bias table of their offset; `window⁴` entries, row-major.
pub fn relative_position_index(window: usize) -> Vec<u32> {
    let n = window * window;
    let mut index = Vec::with_capacity(n * n);
    for a in 0..n {
        for b in 0..n {
            let dy = a / window + window - 1 - b / window;
            let dx = a % window + window - 1 - b % window;
            index.push((dy * (2 * window - 1) + dx) as u32);
        }
    }
    index
}

/// `(B, h, w, C)` with whole windows to `(B W, window², C)`.
pub(super) fn partition(xs: &Tensor, window: usize) -> Result<Tensor> {
    let (b, h, w, c) = xs.dims4()?;
    let (rows, cols) = (h / window, w / window);
    xs.reshape((b, rows, window, cols, window, c))?
        .permute((0, 1, 3, 2, 4, 5))?
        .contiguous()?
        .reshape((b * rows * cols, window * window, c))
}

/// The inverse of [`partition`] for a map of `(h, w)` cells.
pub(super) fn unpartition(xs: &Tensor, window: usize, (h, w): (usize, usize)) -> Result<Tensor> {
    let c = xs.dim(D::Minus1)?;
    let (rows, cols) = (h / window, w / window);
    let b = xs.dim(0)? / (rows * cols);
    xs.reshape((b, rows, cols, window, window, c))?
        .permute((0, 1, 3, 2, 4, 5))?
        .contiguous()?
        .reshape((b, h, w, c))
}

/// The mask of windows after a cyclic shift: `(W, n, n)`, -100 between cells that are neighbours only by the wrap.
pub(super) fn shift_mask(
    (h, w): (usize, usize),
    window: usize,
    shift: usize,
    device: &Device,
) -> Result<Tensor> {
    // Three bands an axis: whole windows, the rest of the last window before the shift, what was wrapped around.
    let band = |i: usize, n: usize| usize::from(i >= n - window) + usize::from(i >= n - shift);
    let n = window * window;
    let mut mask = Vec::with_capacity(h / window * (w / window) * n * n);
    for wy in 0..h / window {
        for wx in 0..w / window {
            let region = |i: usize| {
                let (y, x) = (wy * window + i / window, wx * window + i % window);
                3 * band(y, h) + band(x, w)
            };
            for a in 0..n {
                mask.extend((0..n).map(|b| if region(a) == region(b) { 0f32 } else { -100.0 }));
            }
        }
    }
    Tensor::from_vec(mask, (h / window * (w / window), n, n), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_and_back_is_the_identity() -> Result<()> {
        let xs = Tensor::arange(0f32, 2. * 6. * 9. * 2., &Device::Cpu)?.reshape((2, 6, 9, 2))?;
        let back = unpartition(&partition(&xs, 3)?, 3, (6, 9))?;
        assert_eq!(xs.flatten_all()?.to_vec1::<f32>()?, back.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    #[test]
    fn opposite_offsets_have_opposite_rows() {
        let (w, index) = (3, relative_position_index(3));
        let rows = (2 * w - 1) * (2 * w - 1);
        for a in 0..w * w {
            for b in 0..w * w {
                assert_eq!(index[a * w * w + b] + index[b * w * w + a], rows as u32 - 1);
            }
        }
    }

    #[test]
    fn cells_that_were_never_neighbours_are_masked() -> Result<()> {
        // 4x4 map, window 2, shift 1: the last window joins all four corners of the map.
        let mask = shift_mask((4, 4), 2, 1, &Device::Cpu)?.to_vec3::<f32>()?;
        assert_eq!(mask[0], vec![vec![0.0; 4]; 4]);
        for (a, row) in mask[3].iter().enumerate() {
            for (b, v) in row.iter().enumerate() {
                assert_eq!(*v, if a == b { 0.0 } else { -100.0 });
            }
        }
        Ok(())
    }
}
