//! Our tensors in the layout in which a golden tensor is stored.
//!
//! Ours: tokens `(B, N, C)`, words `(B, L, D)`, maps `(B, C, h, w)`. Golden tensors may be channels-first, maps may be
//! flattened, and some are stored as a slice of the channels.

use candle_core::Tensor;

/// Golden tensors that are stored channels-first where ours are `(B, tokens, channels)`. Decides when both fit.
const CHANNELS_FIRST: [&str; 4] = ["l", "out_l", "vis_project", "new_lan"];

/// One axis of a slice such as `[:, ::6]`: first index, end (exclusive, if any), step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    start: usize,
    end: Option<usize>,
    step: usize,
}

/// A NumPy slice of leading axes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slice {
    axes: Vec<Range>,
}

impl Slice {
    /// Reads `[:, ::6]`; nothing when it is written otherwise.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
        let axis = |part: &str| {
            let mut fields = part.trim().split(':').map(str::trim);
            let mut number = |default: Option<usize>| match fields.next() {
                None | Some("") => Some(default),
                Some(digits) => digits.parse().ok().map(Some),
            };
            let (start, end, step) = (number(Some(0))??, number(None)?, number(Some(1))??);
            (part.contains(':') && step > 0 && fields.next().is_none()).then_some(Range {
                start,
                end,
                step,
            })
        };
        Some(Self { axes: inner.split(',').map(axis).collect::<Option<_>>()? })
    }

    fn apply(&self, mut t: Tensor) -> candle_core::Result<Tensor> {
        for (dim, range) in self.axes.iter().enumerate() {
            let n = t.dim(dim)?;
            let end = range.end.unwrap_or(n).min(n);
            let picked: Vec<u32> =
                (range.start..end).step_by(range.step).map(|i| i as u32).collect();
            if picked.len() != n {
                let picked = Tensor::new(picked, t.device())?;
                t = t.contiguous()?.index_select(&picked, dim)?;
            }
        }
        Ok(t)
    }
}

/// `ours` in the shape of the golden tensor `name`, after `slice`; an error tells that no layout fits.
pub(crate) fn align(
    ours: &Tensor,
    name: &str,
    shape: &[usize],
    slice: &Slice,
) -> candle_core::Result<Tensor> {
    let mut candidates = vec![ours.clone()];
    if let Ok((b, n, c)) = ours.dims3() {
        let flipped = ours.transpose(1, 2)?;
        match shape {
            [_, _, h, w] if h * w == n => {
                candidates.push(flipped.contiguous()?.reshape((b, c, *h, *w))?)
            }
            _ => candidates.push(flipped),
        }
    }
    if ours.rank() == 4 && shape.len() == 3 {
        let flat = ours.flatten_from(2)?;
        candidates.extend([flat.transpose(1, 2)?, flat]);
    }
    if name.rsplit('.').next().is_some_and(|last| CHANNELS_FIRST.contains(&last)) {
        candidates.reverse();
    }
    for candidate in candidates {
        let candidate = slice.apply(candidate)?;
        if candidate.dims() == shape {
            return Ok(candidate);
        }
    }
    candle_core::bail!("ours is {:?}, the golden tensor {shape:?}", ours.dims())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    fn counting(shape: &[usize]) -> Tensor {
        let n = shape.iter().product::<usize>() as u32;
        Tensor::arange(0, n, &Device::Cpu)
            .unwrap()
            .reshape(shape)
            .unwrap()
            .to_dtype(DType::F64)
            .unwrap()
    }

    #[test]
    fn slices_are_numpys() {
        let axis = |start, end, step| Range { start, end, step };
        let parsed = Slice::parse("[:, ::6, 1:4:2]").unwrap();
        assert_eq!(parsed.axes, [axis(0, None, 1), axis(0, None, 6), axis(1, Some(4), 2)]);
        for bad in ["::6", "[3]", "[:, a:]", "[::0]", "[1:2:3:4]"] {
            assert_eq!(Slice::parse(bad), None, "{bad}");
        }
        let t = Slice::parse("[:, ::2]").unwrap().apply(counting(&[1, 3, 2])).unwrap();
        assert_eq!(t.to_vec3::<f64>().unwrap(), [[[0.0, 1.0], [4.0, 5.0]]]);
    }

    #[test]
    fn tokens_meet_maps_and_channels_first_words() {
        let tokens = counting(&[1, 4, 3]);
        let map = align(&tokens, "patch_embed", &[1, 3, 2, 2], &Slice::default()).unwrap();
        assert_eq!(map.flatten_all().unwrap().to_vec1::<f64>().unwrap()[..4], [0.0, 3.0, 6.0, 9.0]);
        let square = counting(&[1, 2, 2]);
        let kept = align(&square, "stage0.x_out", &[1, 2, 2], &Slice::default()).unwrap();
        assert_eq!(kept.to_vec3::<f64>().unwrap(), square.to_vec3::<f64>().unwrap());
        let words = align(&square, "stage0.l", &[1, 2, 2], &Slice::default()).unwrap();
        assert_eq!(words.to_vec3::<f64>().unwrap(), [[[0.0, 2.0], [1.0, 3.0]]]);
        let part = align(
            &counting(&[1, 7, 4]),
            "stage0.x_out",
            &[1, 2, 7],
            &Slice::parse("[:, ::2]").unwrap(),
        );
        assert_eq!(part.unwrap().dims(), [1, 2, 7]);
        assert!(align(&tokens, "x", &[2, 2], &Slice::default()).is_err());
    }
}
