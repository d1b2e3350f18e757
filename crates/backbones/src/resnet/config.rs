//! Sizes of residual networks (He et al. 2016, Table 1).

use serde::{Deserialize, Serialize};

/// A residual network of bottleneck blocks with four stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResNetConfig {
    /// Blocks per stage.
    pub layers: [usize; 4],
    /// Channels of the stem and of the first bottleneck; each next stage doubles them.
    #[serde(default = "stem")]
    pub width: usize,
}

fn stem() -> usize {
    64
}

impl ResNetConfig {
    /// ResNet-50.
    pub fn resnet50() -> Self {
        Self { layers: [3, 4, 6, 3], width: 64 }
    }

    /// ResNet-101: the encoder of DMMI's convolutional variant.
    pub fn resnet101() -> Self {
        Self { layers: [3, 4, 23, 3], width: 64 }
    }

    /// Why the sizes are impossible, if they are.
    pub fn validate(&self) -> Result<(), String> {
        if self.layers.contains(&0) || self.width == 0 {
            return Err(format!(
                "layers {:?} and width {} must be positive",
                self.layers, self.width
            ));
        }
        if self.width > 1 << 12 || self.layers.iter().any(|&blocks| blocks > 1 << 10) {
            return Err(format!(
                "layers {:?} and width {} are beyond all reason; use at most 1024 blocks and a width of 4096",
                self.layers, self.width
            ));
        }
        Ok(())
    }
}
