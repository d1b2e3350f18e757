//! Pictures and the category of each of their cells, batch by batch.

use candle_core::{Device, Tensor};
use refzom_dataset::{CategoryMaps, DataError, ImageTransform, Sampler};

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
    /// Order of the pictures in each pass.
    pub(super) sampler: Sampler,
}

impl Source {
    /// Batch `step`, counted from 0: each pass shows every picture once, in an order of its own.
    pub(super) fn batch(&self, step: usize) -> Result<Pictures, DataError> {
        let n = self.maps.len();
        let (mut images, mut classes) = (Vec::new(), Vec::new());
        let mut order: (usize, Vec<usize>) = (usize::MAX, Vec::new());
        for at in step * self.batch_size..(step + 1) * self.batch_size {
            let (pass, place) = (at / n, at % n);
            if order.0 != pass {
                order = (pass, self.sampler.epoch(pass as u64));
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
}
