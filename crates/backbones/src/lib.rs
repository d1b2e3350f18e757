#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod bert;
mod grid;
pub mod names;
mod resnet;
mod sizes;
mod stage;
mod swin;

pub use bert::{BertConfig, BertEncoder};
pub use grid::FeatureGrid;
pub use resnet::{ResNet, ResNetConfig};
pub use stage::{Plain, StageHook, StageInfo, StageOutput, StagedBackbone};
pub use swin::{SwinConfig, SwinTransformer, relative_position_index};
