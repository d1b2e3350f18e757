//! Maps whose channels come last in memory: `(B, C, h, w)` as a view of `(B, h, w, C)` in order. Tokens are such maps already,
//! and the tensor cores want them so: cuDNN turns every other map around before and after a convolution.
//!
//! An operation that knows the layout works on the tensor behind the view and gives a view of its result; for all others the
//! view is a strided tensor like any other.

use candle_core::{Result, Tensor};

use super::whole;
use crate::combine::permute;

/// `(B, h, w, C)` in order behind a map whose channels come last in memory.
pub(crate) fn behind(map: &Tensor) -> Result<Option<Tensor>> {
    let [_, c, h, w] = map.dims() else { return Ok(None) };
    if map.is_contiguous() || *map.layout().stride() != [h * w * c, 1, w * c, *c] {
        return Ok(None);
    }
    whole(&permute(map, [0, 2, 3, 1])?).map(Some)
}

/// The map `(B, C, h, w)` of what lies in order as `(B, h, w, C)`.
pub(crate) fn map_of(last: &Tensor) -> Result<Tensor> {
    permute(last, [0, 3, 1, 2])
}

/// A map with its channels last, whatever its layout was.
pub(super) fn last(map: &Tensor) -> Result<Tensor> {
    if let Some(last) = behind(map)? {
        return Ok(last);
    }
    let (b, c, h, w) = map.dims4()?;
    let flat = crate::reshape(&whole(map)?, (b, c, h * w))?;
    crate::reshape(&super::turn(&flat)?, (b, h, w, c))
}
