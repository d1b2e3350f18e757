//! Attention inside windows, with a learnt bias for each relative position and a mask for shifted windows.

use candle_core::{Device, Result, Tensor};
use candle_nn::{Init, VarBuilder};
use nn_ops::{
    Linear, Mode, Projected, RowIndex, RowMap, ScoreTerms, attend_projected, linear_with_init,
    relative_bias, reshape, take_rows,
};

/// How a map is cut into windows, plain and shifted by half a window.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    pub(super) plain: Cut,
    pub(super) shifted: Cut,
    /// Of the shifted windows.
    pub(super) mask: Tensor,
    /// The cells in squares of 2 by 2.
    pub(super) squares: RowMap,
}

/// Cells into windows, and back.
#[derive(Clone, Debug)]
pub(super) struct Cut {
    cut: RowMap,
    join: RowMap,
}

impl Cut {
    fn new(extent: (usize, usize), window: usize, shift: usize) -> Result<Self> {
        let cut = windows(extent, window, shift)?;
        Ok(Self { join: cut.inverse(), cut: cut.in_groups_of(window * window)? })
    }
}

impl Windows {
    pub(super) fn new(extent: (usize, usize), window: usize, device: &Device) -> Result<Self> {
        let padded = (extent.0.next_multiple_of(window), extent.1.next_multiple_of(window));
        Ok(Self {
            plain: Cut::new(extent, window, 0)?,
            shifted: Cut::new(extent, window, window / 2)?,
            mask: shift_mask(padded, window, window / 2, device)?,
            squares: squares(extent)?,
        })
    }
}

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
        (dim, heads): (usize, usize),
        pairs: &Pairs,
        init: Init,
        vb: VarBuilder,
    ) -> Result<Self> {
        let Pairs { index, window } = pairs.clone();
        let rows = bias_rows(window);
        let table = vb.get_with_hints((rows, heads), "relative_position_bias_table", init)?;
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

    /// Cells `(B, N, C)` of a map cut into windows of `n = window²` by `windows` to `(B, N, C)`; `mask` `(W, n, n)` is added
    /// to the scores. Cells of padding are zeros, so their query, key and value are the bias.
    pub(super) fn forward(
        &self,
        xs: &Tensor,
        windows: &Cut,
        mask: Option<&Tensor>,
    ) -> Result<Tensor> {
        let n = self.window * self.window;
        let qkv = take_rows(&self.qkv.forward(xs)?, &windows.cut, self.qkv.bias())?;
        let bias = reshape(&relative_bias(&self.table, &self.index)?, (self.heads, n, n))?;
        let terms = ScoreTerms { bias: Some(&bias), mask };
        let ys = attend_projected(Projected::One(&qkv), self.heads, terms, 0.0, Mode::Eval)?;
        self.proj.forward(&take_rows(&ys, &windows.join, None)?)
    }
}

/// The pairs of cells of a window, the same for all blocks.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    index: RowIndex,
    window: usize,
}

impl Pairs {
    pub(super) fn new(window: usize, device: &Device) -> Result<Self> {
        let index = RowIndex::new(relative_position_index(window), bias_rows(window), device)?;
        Ok(Self { index, window })
    }
}

/// Rows of a bias table: one an offset.
fn bias_rows(window: usize) -> usize {
    (2 * window - 1) * (2 * window - 1)
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

/// The cells of a map of `(h, w)` in windows, row-major in both, after a cyclic shift towards the origin; none where the map
/// was padded to whole windows.
fn windows((h, w): (usize, usize), window: usize, shift: usize) -> Result<RowMap> {
    let (hp, wp) = (h.next_multiple_of(window), w.next_multiple_of(window));
    let cell = |wy: usize, wx: usize, i: usize| {
        let y = (wy * window + i / window + shift) % hp;
        let x = (wx * window + i % window + shift) % wp;
        (y < h && x < w).then_some(y * w + x)
    };
    let cells = (0..hp / window).flat_map(|wy| {
        (0..wp / window).flat_map(move |wx| (0..window * window).map(move |i| cell(wy, wx, i)))
    });
    RowMap::new(cells, h * w)
}

/// The cells of a map of `(h, w)` in squares of 2 by 2, the left column of a square before the right one; none beyond the end.
fn squares((h, w): (usize, usize)) -> Result<RowMap> {
    let cell = |y: usize, x: usize| (y < h && x < w).then_some(y * w + x);
    let square = move |y: usize, x: usize| {
        [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(dy, dx)| cell(2 * y + dy, 2 * x + dx))
    };
    let cells = (0..h.div_ceil(2)).flat_map(|y| (0..w.div_ceil(2)).flat_map(move |x| square(y, x)));
    RowMap::new(cells, h * w)
}

/// The mask of windows after a cyclic shift: `(W, n, n)`, -100 between cells that are neighbours only by the wrap.
fn shift_mask(
    (h, w): (usize, usize),
    window: usize,
    shift: usize,
    device: &Device,
) -> Result<Tensor> {
    // Three bands an axis: whole windows, the rest of the last window before the shift, what was wrapped around.
    let band = |i: usize, n: usize| usize::from(i >= n - window) + usize::from(i >= n - shift);
    let n = window * window;
    let (down, across) = (h / window, w / window);
    // Zeros but in the last windows of an axis.
    let mut mask = vec![0f32; down * across * n * n];
    for (i, mask) in mask.chunks_exact_mut(n * n).enumerate() {
        let (wy, wx) = (i / across, i % across);
        if wy + 1 < down && wx + 1 < across {
            continue;
        }
        let region =
            |i: usize| 3 * band(wy * window + i / window, h) + band(wx * window + i % window, w);
        let regions: Vec<usize> = (0..n).map(region).collect();
        for (row, a) in mask.chunks_exact_mut(n).zip(&regions) {
            for (v, b) in row.iter_mut().zip(&regions) {
                *v = if a == b { 0.0 } else { -100.0 };
            }
        }
    }
    Tensor::from_vec(mask, (down * across, n, n), device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_a_shifted_padded_map() -> Result<()> {
        // A 3x5 map in windows of 2, shifted by 1: rows 1 2 | pad 0, columns 1 2 | 3 4 | pad 0.
        let cells = Tensor::arange(1f32, 16., &Device::Cpu)?.reshape((1, 15, 1))?;
        let map = windows((3, 5), 2, 1)?;
        let found = take_rows(&cells, &map, None)?.flatten_all()?.to_vec1::<f32>()?;
        let want = [
            [7., 8., 12., 13.],
            [9., 10., 14., 15.],
            [0., 6., 0., 11.],
            [0., 0., 2., 3.],
            [0., 0., 4., 5.],
            [0., 0., 0., 1.],
        ];
        assert_eq!(found, want.concat());
        let back = take_rows(&take_rows(&cells, &map, None)?, &map.inverse(), None)?;
        assert_eq!(back.to_vec3::<f32>()?, cells.to_vec3::<f32>()?);
        Ok(())
    }

    #[test]
    fn squares_of_an_odd_map_end_with_none() -> Result<()> {
        let cells = Tensor::arange(1f32, 16., &Device::Cpu)?.reshape((1, 15, 1))?;
        let found = take_rows(&cells, &squares((3, 5))?, None)?.flatten_all()?.to_vec1::<f32>()?;
        let want = [
            [1., 6., 2., 7.],
            [3., 8., 4., 9.],
            [5., 10., 0., 0.],
            [11., 0., 12., 0.],
            [13., 0., 14., 0.],
            [15., 0., 0., 0.],
        ];
        assert_eq!(found, want.concat());
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
