#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod batch;
mod config;
mod conv_norm;
pub mod cost;
mod encoder;
mod image_to_text;
pub mod loss;
mod model;
pub mod names;
mod part;
mod presets;
mod semantics;
mod text_to_image;
mod zero_gradient;

pub use batch::{batch_of, batch_tensors};
pub use config::{BackboneConfig, Branch, DecoderConfig, DecoderWords, DmmiConfig};
pub use encoder::{Encoded, FusedEncoder};
pub use image_to_text::ImageToTextDecoder;
pub use loss::{LossConfig, LossTerms, Targets};
pub use mba_fusion::{Directions, FusionConfig, GateInit, Lambda, Variant};
pub use model::{Contrast, Dmmi, DmmiInput, DmmiOutput};
pub use part::Part;
pub use semantics::{CrossLayerPooling, ExpressionVector};
pub use text_to_image::{Decoded, TextToImageDecoder};
pub use zero_gradient::zero_gradient;
