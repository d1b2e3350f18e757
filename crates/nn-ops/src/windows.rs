//! Windows of consecutive tokens.

use candle_core::{Result, Tensor, bail};

/// Windows of `k` tokens around each position: `(B, L, C)` to `(B, L, C k)`, channel-major.
///
/// The ends are padded by repeating the first token `k / 2` times and the last `(k - 1) / 2` times, so position `i` sees
/// tokens `i - k/2 ..= i + (k-1)/2` (spec section 3, text windows).
///
/// # Errors
/// When `k` is zero or there are no tokens.
pub fn text_windows(xs: &Tensor, k: usize) -> Result<Tensor> {
    let (b, l, c) = xs.dims3()?;
    if k == 0 || l == 0 {
        bail!("text_windows: {k} tokens out of {l}");
    }
    if k == 1 {
        return Ok(xs.clone());
    }
    let (before, after) = (k / 2, (k - 1) / 2);
    let mut parts = vec![xs.narrow(1, 0, 1)?; before];
    parts.push(xs.clone());
    parts.extend(vec![xs.narrow(1, l - 1, 1)?; after]);
    let padded = Tensor::cat(&parts, 1)?;
    let shifted = (0..k).map(|i| padded.narrow(1, i, l)).collect::<Result<Vec<_>>>()?;
    Tensor::stack(&shifted, 3)?.reshape((b, l, c * k))
}
