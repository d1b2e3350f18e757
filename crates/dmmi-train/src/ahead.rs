//! Batches on their way to the device while the step before is computed.

use candle_core::Tensor;
use nn_ops::Uploader;
use refzom_dataset::{Batch, Batches};

use crate::error::{Error, Result};

/// A batch, and its tensors on the device in the order of [`dmmi_model::batch_of`].
pub(crate) struct Placed {
    pub(crate) batch: Batch,
    pub(crate) tensors: Vec<Tensor>,
}

impl Placed {
    /// Without waiting for the copies.
    pub(crate) fn new(batch: Batch, uploader: &mut Uploader) -> Result<Self> {
        let Batch { images, ids, attention, masks, has_target, erased_ids, .. } = &batch;
        let mut all = vec![images, ids, attention, masks, has_target];
        all.extend(erased_ids);
        let tensors = uploader.upload(&all)?;
        Ok(Self { batch, tensors })
    }
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
