//! What a pickle says about a tensor, checked against its storage; and the copy of its elements into row-major order.

use crate::dtype::Dtype;
use crate::pickle::{Node, Pickle};
use crate::storage::{StorageRef, storage};

/// A tensor of a file, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Type of its elements.
    pub dtype: Dtype,
    /// Sizes.
    pub shape: Vec<usize>,
    /// Elements of the storage from one index to the next, each axis.
    pub strides: Vec<usize>,
    /// First element in the storage.
    pub offset: usize,
    /// Key of the storage; tensors of one storage share memory in PyTorch.
    pub storage: String,
    /// Where it lay when it was saved (`cpu`, `cuda:0`).
    pub location: String,
    /// Number of elements.
    pub elements: usize,
    /// Elements of the storage.
    pub(crate) storage_elements: usize,
}

/// Most axes PyTorch gives a tensor.
const AXES: usize = 64;
/// How many wrappers (`Parameter`, subclasses) may lie around a tensor.
const WRAPPERS: usize = 8;

/// The tensor that lies at `node`; nothing when something else does.
pub(crate) fn tensor_at(node: Node<'_>, pickle: &Pickle) -> Result<Option<TensorInfo>, String> {
    let mut class = match node.class() {
        Some(class) if node.args().is_some() => class,
        _ => return Ok(None),
    };
    let mut args: Vec<Node<'_>> = elements(node.args());
    for _ in 0..WRAPPERS {
        let inner = match class {
            "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2" => {
                return rebuilt(&args, None, pickle).map(Some);
            }
            "torch._utils._rebuild_tensor_v3" => {
                let dtype = args.get(6).and_then(|node| node.class());
                let dtype = dtype.and_then(|name| Dtype::from_name(name.strip_prefix("torch.")?));
                let dtype = dtype.ok_or("a tensor has an unknown element type")?;
                return rebuilt(&args, Some(dtype), pickle).map(Some);
            }
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
                args.first().copied()
            }
            // (function, type, arguments, state): a tensor with attributes or of a subclass.
            "torch._tensor._rebuild_from_type" | "torch._tensor._rebuild_from_type_v2" => {
                class = args.first().and_then(|f| f.class()).ok_or("a tensor is damaged")?;
                args = elements(args.get(2).copied());
                continue;
            }
            other if other.starts_with("torch._utils._rebuild_") => {
                return Err(format!(
                    "tensors made by {other} (sparse, quantised, meta) are not read; save dense ones, for example tensor.to_dense()"
                ));
            }
            _ => return Ok(None),
        };
        let inner = inner.ok_or("a parameter holds no tensor")?;
        class = inner.class().ok_or_else(|| format!("a parameter holds {}", inner.describe()))?;
        args = elements(inner.args());
    }
    Err("a tensor is wrapped too often".into())
}

fn elements(node: Option<Node<'_>>) -> Vec<Node<'_>> {
    // The functions above take at most eight arguments.
    node.and_then(|node| node.elements()).into_iter().flatten().take(8).collect()
}

/// `(storage, offset, size, stride, ..)`; `dtype` is given where the storage counts bytes.
fn rebuilt(args: &[Node<'_>], dtype: Option<Dtype>, pickle: &Pickle) -> Result<TensorInfo, String> {
    let [data, offset, shape, strides, rest @ ..] = args else {
        return Err("a tensor lacks its storage, offset, size or stride".into());
    };
    let StorageRef { key, dtype: stored, location, elements, view } = storage(*data, pickle)?;
    let sizes = |node: &Node<'_>, what: &str| -> Result<Vec<usize>, String> {
        let bad = || format!("the {what} of a tensor in storage {key} is damaged");
        let values = node.elements().ok_or_else(bad)?;
        if values.len() > AXES {
            return Err(format!("a tensor in storage {key} has {} axes", values.len()));
        }
        values.map(|value| value.as_size().ok_or_else(bad)).collect()
    };
    let (shape, strides) = (sizes(shape, "size")?, sizes(strides, "stride")?);
    let offset = offset
        .as_size()
        .ok_or_else(|| format!("the offset of a tensor in storage {key} is damaged"))?;
    let (dtype, storage_elements) = match dtype {
        // Offsets and strides count elements of the tensor, the storage bytes.
        Some(dtype) => (dtype, elements.saturating_mul(stored.size()) / dtype.size()),
        None => (stored, elements),
    };
    let (first, room) = view.unwrap_or((0, storage_elements));
    let numel = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size));
    let numel =
        numel.ok_or_else(|| format!("size {shape:?} of a tensor in storage {key} overflows"))?;
    if shape.len() != strides.len() {
        return Err(format!("a tensor in storage {key} has size {shape:?} but stride {strides:?}"));
    }
    let last = shape.iter().zip(&strides).try_fold(offset, |at, (&size, &stride)| {
        at.checked_add(size.saturating_sub(1).checked_mul(stride)?)
    });
    if numel > 0 && last.is_none_or(|last| last >= room) {
        return Err(format!(
            "size {shape:?}, stride {strides:?}, offset {offset} reach beyond the {room} elements of storage {key}"
        ));
    }
    // The seventh argument tells of lazy conjugation and negation.
    let lazy = rest.get(2).filter(|_| dtype.size() != dtype.word() || rest.len() == 3);
    if let Some(flags) = lazy
        && ["neg", "conj"].iter().any(|k| flags.get(k).and_then(|f| f.as_bool()) == Some(true))
    {
        return Err(format!(
            "a tensor in storage {key} is negated or conjugated lazily; save tensor.resolve_neg().resolve_conj()"
        ));
    }
    Ok(TensorInfo {
        dtype,
        shape,
        strides,
        offset: first + offset,
        storage: key,
        location,
        elements: numel,
        storage_elements,
    })
}

impl TensorInfo {
    /// Bytes of its elements in a row.
    pub fn bytes(&self) -> u128 {
        self.elements as u128 * self.dtype.size() as u128
    }

    /// Elements of the storage from its first to its last, both included.
    pub(crate) fn span(&self) -> usize {
        if self.elements == 0 {
            return 0;
        }
        // Checked when the tensor was made.
        1 + self.shape.iter().zip(&self.strides).map(|(n, s)| (n - 1) * s).sum::<usize>()
    }

    /// Whether the elements lie in the storage in row-major order without gaps.
    pub fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(&n, &stride)| {
            let fits = n == 1 || stride == expected;
            expected = expected.saturating_mul(n);
            fits
        }) || self.elements == 0
    }

    /// The elements in row-major order, from the bytes of [`span`](Self::span).
    pub(crate) fn gather(&self, span: Vec<u8>) -> Vec<u8> {
        if self.is_contiguous() {
            return span;
        }
        let width = self.dtype.size();
        let mut out = Vec::with_capacity(self.elements * width);
        let mut index = vec![0usize; self.shape.len()];
        let mut at = 0;
        for _ in 0..self.elements {
            out.extend_from_slice(&span[at * width..(at + 1) * width]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                at += self.strides[axis];
                if index[axis] < self.shape[axis] {
                    break;
                }
                at -= self.strides[axis] * self.shape[axis];
                index[axis] = 0;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(shape: &[usize], strides: &[usize]) -> TensorInfo {
        TensorInfo {
            dtype: Dtype::Uint8,
            shape: shape.into(),
            strides: strides.into(),
            offset: 0,
            storage: "0".into(),
            location: "cpu".into(),
            elements: shape.iter().product(),
            storage_elements: 100,
        }
    }

    #[test]
    fn strides_are_followed() {
        let bytes: Vec<u8> = (0..12).collect();
        let transposed = info(&[4, 3], &[1, 4]);
        assert_eq!(transposed.span(), 12);
        assert_eq!(transposed.gather(bytes.clone()), [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11]);
        let expanded = info(&[2, 3], &[0, 0]);
        assert_eq!((expanded.span(), expanded.gather(vec![7])), (1, vec![7; 6]));
        assert!(info(&[3, 1, 4], &[4, 99, 1]).is_contiguous());
        assert!(info(&[0, 3], &[9, 9]).is_contiguous());
        assert_eq!(info(&[], &[]).gather(vec![5]), [5]);
    }
}
