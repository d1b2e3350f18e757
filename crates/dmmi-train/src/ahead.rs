//! Batches on their way to the device while the step before is computed.

use candle_core::Tensor;
use dmmi_model::{DmmiInput, Targets};
use nn_ops::Uploader;
use refzom_dataset::{Batch, Batches};

use crate::error::{Error, Result};

/// A batch, and what a step needs of it on the device.
pub(crate) struct Placed {
    pub(crate) batch: Batch,
    pub(crate) input: DmmiInput,
    pub(crate) targets: Targets,
}

impl Placed {
    /// Without waiting for the copies.
    pub(crate) fn new(batch: Batch, uploader: &mut Uploader) -> Result<Self> {
        let Batch { images, ids, attention, masks, has_target, erased_ids, .. } = &batch;
        let mut all = vec![images, ids, attention, masks, has_target];
        all.extend(erased_ids);
        let (input, targets) = unflat(&uploader.upload(&all)?)?;
        Ok(Self { batch, input, targets })
    }
}

/// In the order that [`unflat`] expects.
pub(crate) fn flat(input: &DmmiInput, targets: &Targets) -> Vec<Tensor> {
    let DmmiInput { images, ids, erased_ids, attention } = input;
    let always = [images, ids, attention, &targets.masks, &targets.has_target];
    always.into_iter().chain(erased_ids).cloned().collect()
}

pub(crate) fn unflat(all: &[Tensor]) -> candle_core::Result<(DmmiInput, Targets)> {
    let [images, ids, attention, masks, has_target, rest @ ..] = all else {
        candle_core::bail!("a batch of {} tensors", all.len());
    };
    let input = DmmiInput {
        images: images.clone(),
        ids: ids.clone(),
        erased_ids: rest.first().cloned(),
        attention: attention.clone(),
    };
    Ok((input, Targets { masks: masks.clone(), has_target: has_target.clone() }))
}

/// The batches of an epoch, the next one already placed where it was ready early enough.
pub(crate) struct Ahead {
    batches: Batches,
    next: Option<Result<Placed>>,
}

impl Ahead {
    pub(crate) fn new(batches: Batches) -> Self {
        Self { batches, next: None }
    }

    /// Places the next batch if it would not have to be waited for. What goes wrong is told by [`next`](Self::next).
    pub(crate) fn prepare(&mut self, uploader: &mut Uploader) {
        if self.next.is_none() && self.batches.is_ready() {
            self.next = self.fetch(uploader);
        }
    }

    pub(crate) fn next(&mut self, uploader: &mut Uploader) -> Option<Result<Placed>> {
        self.next.take().or_else(|| self.fetch(uploader))
    }

    fn fetch(&mut self, uploader: &mut Uploader) -> Option<Result<Placed>> {
        let batch = self.batches.next()?.map_err(Error::from);
        Some(batch.and_then(|batch| Placed::new(batch, uploader)))
    }
}
