//! Inputs by formula: `dmmi_peer.py` computes the same numbers.

use candle_core::{DType, Device, Result, Tensor};
use dmmi_model::{DmmiInput, Targets};

/// Tensors of a training step; a mask needs the first three only.
pub(crate) struct Inputs {
    pub(crate) input: DmmiInput,
    pub(crate) targets: Targets,
}

/// A multiplicative hash of `index + seed`.
fn hashed(index: usize, seed: u32) -> u32 {
    (index as u32).wrapping_add(seed).wrapping_mul(2_654_435_761)
}

impl Inputs {
    /// Noise for pictures, `batch` sentences of several lengths, a rectangle as mask, every fourth sample without target.
    pub(crate) fn new(
        batch: usize,
        (h, w): (usize, usize),
        tokens: usize,
        vocab: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let images: Vec<f32> = (0..batch * 3 * h * w)
            .map(|i| (hashed(i, 1) >> 8) as f32 / (1 << 22) as f32 - 2.0)
            .collect();
        let real = |b: usize| tokens - (8 + 5 * b) % tokens.saturating_sub(2).max(1);
        let words = vocab.saturating_sub(1).max(1);
        let (mut ids, mut erased, mut attention) = (Vec::new(), Vec::new(), Vec::new());
        for b in 0..batch {
            for t in 0..tokens {
                let kept = t < real(b);
                let id = 1 + hashed(b * tokens + t, 7) as usize % words;
                let id = if kept { id as u32 } else { 0 };
                ids.push(id);
                erased.push(if t == real(b) / 2 { 0 } else { id });
                attention.push(u8::from(kept));
            }
        }
        let inside = |b: usize| {
            let (y, x) = (b / w, b % w);
            (h / 4..h / 2).contains(&y) && (w / 4..w / 2).contains(&x)
        };
        let mask: Vec<u8> = (0..h * w).map(|i| u8::from(inside(i))).collect();
        let delta: Vec<u8> = (0..batch).map(|b| u8::from(b % 4 != 3)).collect();
        let to = |tensor: Tensor| tensor.to_device(device);
        let cpu = &Device::Cpu;
        Ok(Self {
            input: DmmiInput {
                images: to(Tensor::from_vec(images, (batch, 3, h, w), cpu)?.to_dtype(dtype)?)?,
                ids: to(Tensor::from_vec(ids, (batch, tokens), cpu)?)?,
                erased_ids: Some(to(Tensor::from_vec(erased, (batch, tokens), cpu)?)?),
                attention: to(Tensor::from_vec(attention, (batch, tokens), cpu)?)?,
            },
            targets: Targets {
                masks: to(Tensor::from_vec(mask, (1, h, w), cpu)?.repeat((batch, 1, 1))?)?,
                has_target: to(Tensor::from_vec(delta, batch, cpu)?)?,
            },
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Numbers printed by the peer.
    #[test]
    fn the_formula_is_the_peers() {
        let made = Inputs::new(2, (4, 6), 20, 50, DType::F32, &Device::Cpu).unwrap();
        let images = made.input.images.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(images[..3], [0.472_135_78, -1.055_728_2, 1.416_407_8]);
        let ids = made.input.ids.to_vec2::<u32>().unwrap();
        assert_eq!([&ids[0][..4], &ids[1][..4]], [[27, 46, 26, 6], [37, 17, 36, 16]]);
        let erased = made.input.erased_ids.unwrap().to_vec2::<u32>().unwrap();
        assert_eq!((ids[1][3], erased[1][3], erased[0][6]), (16, 0, 0));
        let real = |b: usize| {
            let row = &made.input.attention.to_vec2::<u8>().unwrap()[b];
            row.iter().map(|x| usize::from(*x)).sum::<usize>()
        };
        assert_eq!((real(0), real(1)), (12, 7));
    }
}
