//! A map of feature vectors, kept as tokens with its extent.

use candle_core::{Result, Tensor, bail};
use nn_ops::{map_to_tokens, tokens_to_map};

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
        let (_, _, h, w) = map.dims4()?;
        Ok(Self { tokens: map_to_tokens(map)?, extent: (h, w) })
    }

    /// As a map `(B, C, h, w)`.
    pub fn to_map(&self) -> Result<Tensor> {
        tokens_to_map(&self.tokens, self.extent)
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
