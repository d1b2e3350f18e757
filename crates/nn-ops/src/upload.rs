//! Batches on their way to a device.

use candle_core::{Device, Result, Tensor};

/// Puts tensors on a device. To a GPU they go through page-locked memory: the copies are queued and nothing waits for them, so they
/// run while the host does other things, and what uses them is queued behind.
#[derive(Debug)]
pub struct Uploader {
    device: Device,
    /// By place in the list of tensors.
    #[cfg(feature = "cuda")]
    held: Vec<Option<crate::cuda::Pinned>>,
}

impl Uploader {
    /// To a device.
    pub fn new(device: &Device) -> Self {
        Self {
            device: device.clone(),
            #[cfg(feature = "cuda")]
            held: Vec::new(),
        }
    }

    /// The same tensors on the device. Tensors in the same place of the next call take the same page-locked memory, where they have
    /// the same size; the call waits until it is free.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn upload(&mut self, tensors: &[&Tensor]) -> Result<Vec<Tensor>> {
        #[cfg(feature = "cuda")]
        if let Device::Cuda(dev) = &self.device {
            self.held.resize_with(tensors.len().max(self.held.len()), || None);
            let places = tensors.iter().zip(&mut self.held);
            return places.map(|(t, held)| crate::cuda::upload(dev, t, held)).collect();
        }
        tensors.iter().map(|t| t.to_device(&self.device)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_the_cpu_tensors_stay_as_they_are() -> Result<()> {
        let (a, b) = (Tensor::arange(0u32, 6, &Device::Cpu)?, Tensor::new(2.5f32, &Device::Cpu)?);
        let found = Uploader::new(&Device::Cpu).upload(&[&a, &b])?;
        assert_eq!(found[0].to_vec1::<u32>()?, [0, 1, 2, 3, 4, 5]);
        assert_eq!(found[1].to_scalar::<f32>()?, 2.5);
        Ok(())
    }
}
