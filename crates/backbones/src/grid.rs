//! A map of feature vectors, kept as tokens with its extent.

use candle_core::{Result, Tensor, bail};
use nn_ops::{reshape, turn};

/// Tokens `(B, N, C)` of a map of `h` by `w` cells, `N = h w`, row-major.
#[derive(Clone, Debug)]
pub struct FeatureGrid {
    tokens: Tensor,
    extent: (usize, usize),
}

impl FeatureGrid {
    /// # Errors
    /// When the tokens do not fill the extent.
    pub fn new(tokens: Tensor, extent: (usize, usize)) -> Result<Self> {
        let (_, n, _) = tokens.dims3()?;
        if n != extent.0 * extent.1 {
            bail!("{n} tokens cannot fill a {}x{} grid", extent.0, extent.1);
        }
        Ok(Self { tokens, extent })
    }

    /// From a map `(B, C, h, w)`.
    pub fn from_map(map: &Tensor) -> Result<Self> {
        let (b, c, h, w) = map.dims4()?;
        Ok(Self { tokens: turn(&reshape(map, (b, c, h * w))?)?, extent: (h, w) })
    }

    /// As a map `(B, C, h, w)`.
    pub fn to_map(&self) -> Result<Tensor> {
        let (b, _, c) = self.tokens.dims3()?;
        reshape(&turn(&self.tokens)?, (b, c, self.extent.0, self.extent.1))
    }

    /// Other tokens of the same extent.
    pub fn with_tokens(&self, tokens: Tensor) -> Result<Self> {
        Self::new(tokens, self.extent)
    }

    /// `(B, N, C)`.
    pub fn tokens(&self) -> &Tensor {
        &self.tokens
    }

    /// `(h, w)` in cells.
    pub fn extent(&self) -> (usize, usize) {
        self.extent
    }
}
