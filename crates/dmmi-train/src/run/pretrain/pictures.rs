//! Pictures and the category of each of their cells, batch by batch, made ahead of the network.

use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Builder, Scope, ScopedJoinHandle};

use candle_core::{Device, Tensor};
use refzom_dataset::{CategoryMaps, DataError, ImageTransform, Order, Sampler, TargetKind};

use crate::error::Result;

/// One batch.
pub(super) struct Pictures {
    /// `(B, 3, H, W)`.
    pub(super) images: Tensor,
    /// `(B, h, w)`; 0 is no object.
    pub(super) classes: Tensor,
}

/// Every batch of `[pretrain]`: what is in one depends on the seed and its number alone.
pub(super) struct Source {
    pub(super) maps: CategoryMaps,
    pub(super) transform: ImageTransform,
    /// Rows and columns of the network's finest map.
    pub(super) cells: (usize, usize),
    pub(super) batch_size: usize,
    pub(super) seed: u64,
}

impl Source {
    /// Batch `step`, counted from 0: each pass shows every picture once, in an order of its own.
    fn batch(&self, step: usize) -> std::result::Result<Pictures, DataError> {
        let n = self.maps.len();
        let sampler = Sampler::new(vec![TargetKind::One; n], Order::Shuffled, self.seed);
        let (mut images, mut classes) = (Vec::new(), Vec::new());
        let mut order: (usize, Vec<usize>) = (usize::MAX, Vec::new());
        for at in step * self.batch_size..(step + 1) * self.batch_size {
            let (pass, place) = (at / n, at % n);
            if order.0 != pass {
                order = (pass, sampler.epoch(pass as u64));
            }
            let index = order.1.get(place).copied().unwrap_or(place);
            self.maps.load_onto(index, &self.transform, self.cells, &mut images, &mut classes)?;
        }
        let (b, (height, width)) = (self.batch_size, self.transform.size);
        let size = (b, 3, height as usize, width as usize);
        Ok(Pictures {
            images: Tensor::from_vec(images, size, &Device::Cpu)?,
            classes: Tensor::from_vec(classes, (b, self.cells.0, self.cells.1), &Device::Cpu)?,
        })
    }

    /// The batches of `steps` in order, made by `threads` threads, each at most `ahead` batches ahead.
    pub(super) fn batches<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        steps: std::ops::Range<usize>,
        threads: usize,
        ahead: usize,
    ) -> Result<Batches<'scope>> {
        let mut workers = Vec::with_capacity(threads);
        for first in steps.clone().take(threads.max(1)) {
            let (sender, receiver) = sync_channel(ahead.div_ceil(threads.max(1)).max(1));
            let own = (first..steps.end).step_by(threads.max(1));
            let thread =
                Builder::new().name("dmmi-pictures".into()).spawn_scoped(scope, move || {
                    for step in own {
                        let batch = self.batch(step);
                        if sender.send(batch).is_err() {
                            break; // nobody waits for it any more
                        }
                    }
                });
            let thread = thread.map_err(|error| DataError::Worker {
                name: "the pictures of [pretrain]".into(),
                message: error.to_string(),
            })?;
            workers.push((receiver, thread));
        }
        Ok(Batches { workers, next: 0 })
    }
}

type Made = std::result::Result<Pictures, DataError>;

/// See [`Source::batches`].
pub(super) struct Batches<'scope> {
    workers: Vec<(Receiver<Made>, ScopedJoinHandle<'scope, ()>)>,
    next: usize,
}

impl Batches<'_> {
    /// The next batch; there must be one.
    pub(super) fn next(&mut self) -> Result<Pictures> {
        let worker = self.next % self.workers.len().max(1);
        self.next += 1;
        let received = self.workers.get(worker).and_then(|(receiver, _)| receiver.recv().ok());
        let gone = || DataError::Worker {
            name: "the pictures of [pretrain]".into(),
            message: "a thread that decodes them ended early".into(),
        };
        Ok(received.ok_or_else(gone)??)
    }
}

impl Drop for Batches<'_> {
    fn drop(&mut self) {
        for (receiver, thread) in self.workers.drain(..) {
            drop(receiver);
            // A thread that panicked has said so, and `next` has failed.
            let _ = thread.join();
        }
    }
}
