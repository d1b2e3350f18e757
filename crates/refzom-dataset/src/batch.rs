//! Samples stacked to tensors: what the network and the losses take.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::prepare::{Prepared, Words};
use crate::{DataError, Sample, TargetKind};

/// A batch of `B` samples: images of `H` x `W` pixels, expressions of `L` word pieces. Tensors lie on the CPU.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `(B, 3, H, W)` f32, normalised.
    pub images: Tensor,
    /// `(B, L)` u32, word pieces of the expressions.
    pub ids: Tensor,
    /// `(B, L)` u32, the same with one phrase hidden; `None` if nothing is erased.
    pub erased_ids: Option<Tensor>,
    /// `(B, L)` u8, 1 on word pieces and 0 on padding; of both `ids` and `erased_ids`.
    pub attention: Tensor,
    /// `(B, H, W)` u8, 1 on the target.
    pub masks: Tensor,
    /// `(B)` u8, 0 for one-to-zero samples, else 1.
    pub has_target: Tensor,
    /// What each sample refers to.
    pub kinds: Vec<TargetKind>,
    /// Place of each sample in the data set.
    pub indices: Vec<usize>,
    /// The sentences.
    pub expressions: Vec<String>,
    /// The samples themselves, for masks at the original size and for messages.
    pub samples: Vec<Arc<Sample>>,
}

impl Batch {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }

    /// Stacks samples prepared at one size.
    ///
    /// # Errors
    /// There is none, or their sizes differ.
    pub fn stack(prepared: Vec<Prepared>) -> Result<Self, DataError> {
        let Some(size) = prepared.first().map(|first| first.size) else {
            return Err(DataError::Empty("a batch needs one sample at least".into()));
        };
        let (mut images, mut masks, mut words) = (Vec::new(), Vec::new(), Vec::new());
        for one in prepared {
            images.extend_from_slice(&one.image);
            masks.extend_from_slice(&one.mask);
            let Prepared { sample, index, ids, erased_ids, attention, .. } = one;
            words.push(Words { sample, index, ids, erased_ids, attention });
        }
        Self::collect(words, images, masks, size)
    }

    /// Of words, and pictures and masks that lie one after the other already.
    pub(crate) fn collect(
        words: Vec<Words>,
        images: Vec<f32>,
        masks: Vec<u8>,
        (h, w): (usize, usize),
    ) -> Result<Self, DataError> {
        let b = words.len();
        let l = words.first().map_or(0, |first| first.ids.len());
        let erases = words.first().is_some_and(|first| first.erased_ids.is_some());
        let (mut ids, mut erased, mut attention) = (Vec::new(), Vec::new(), Vec::new());
        for one in &words {
            ids.extend_from_slice(&one.ids);
            erased.extend_from_slice(one.erased_ids.as_deref().unwrap_or_default());
            attention.extend_from_slice(&one.attention);
        }
        let indices = words.iter().map(|one| one.index).collect();
        let samples: Vec<Arc<Sample>> = words.into_iter().map(|one| one.sample).collect();
        let has_target: Vec<u8> = samples.iter().map(|s| s.kind.has_target().into()).collect();
        let cpu = &Device::Cpu;
        Ok(Self {
            images: Tensor::from_vec(images, (b, 3, h, w), cpu)?,
            ids: Tensor::from_vec(ids, (b, l), cpu)?,
            erased_ids: if erases { Some(Tensor::from_vec(erased, (b, l), cpu)?) } else { None },
            attention: Tensor::from_vec(attention, (b, l), cpu)?,
            masks: Tensor::from_vec(masks, (b, h, w), cpu)?,
            has_target: Tensor::from_vec(has_target, b, cpu)?,
            kinds: samples.iter().map(|s| s.kind).collect(),
            indices,
            expressions: samples.iter().map(|s| s.expression.clone()).collect(),
            samples,
        })
    }
}
