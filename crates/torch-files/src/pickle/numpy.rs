//! numpy's scalars, which training scripts leave in checkpoints (`best_iou`, `lr`).

use super::Node;

/// A number in numpy's own spelling.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
}

impl Scalar {
    pub(super) fn as_bool(self) -> Option<bool> {
        match self {
            Self::Bool(flag) => Some(flag),
            _ => None,
        }
    }

    pub(super) fn as_i64(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            _ => None,
        }
    }

    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Bool(flag) => f64::from(u8::from(flag)),
            Self::Int(number) => number as f64,
            Self::Float(number) => number,
        }
    }
}

/// `numpy.core.multiarray.scalar(dtype, bytes)`, with `dtype` made as `numpy.dtype('f8', ..)` and the state
/// `(version, byte order, ..)`.
pub(super) fn scalar(node: Node<'_>) -> Option<Scalar> {
    if !matches!(node.class()?, "numpy.core.multiarray.scalar" | "numpy._core.multiarray.scalar") {
        return None;
    }
    let mut args = node.args()?.elements()?;
    let (dtype, bytes) = (args.next()?, args.next()?);
    if dtype.class()? != "numpy.dtype" {
        return None;
    }
    let code = dtype.args()?.elements()?.next()?.as_str()?;
    let order = dtype.attributes().and_then(|state| state.elements()?.nth(1)?.as_str());
    let mut bytes = bytes.bytes()?.into_owned();
    if order == Some(">") {
        bytes.reverse();
    }
    let wide = |fill: u8| -> Option<[u8; 8]> {
        let mut out = [fill; 8];
        out.get_mut(..bytes.len())?.copy_from_slice(&bytes);
        Some(out)
    };
    let size = bytes.len();
    match code {
        "b1" if size == 1 => Some(Scalar::Bool(bytes[0] != 0)),
        "i1" | "i2" | "i4" | "i8" => {
            let fill = if bytes.last()? & 0x80 != 0 { 0xff } else { 0 };
            Some(Scalar::Int(i64::from_le_bytes(wide(fill)?)))
        }
        "u1" | "u2" | "u4" | "u8" => {
            i64::try_from(u64::from_le_bytes(wide(0)?)).ok().map(Scalar::Int)
        }
        "f4" => Some(Scalar::Float(f32::from_le_bytes(bytes.try_into().ok()?).into())),
        "f8" => Some(Scalar::Float(f64::from_le_bytes(bytes.try_into().ok()?))),
        _ => None,
    }
}
