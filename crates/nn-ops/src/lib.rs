#![doc = include_str!("../README.md")]
#![deny(missing_docs)]

mod activation;
mod attend;
mod attention;
#[cfg(test)]
mod audit;
mod box_sum;
mod broadcast;
mod checkpoint;
mod combine;
mod conv;
mod cross_entropy;
#[cfg(feature = "cuda")]
mod cuda;
pub mod device;
mod dropout;
mod embedding;
mod feed_forward;
pub mod gradcheck;
mod gradients;
mod interpolate;
mod kernel;
mod linear;
mod load;
mod matmul;
mod mode;
pub mod names;
mod norm;
mod optim;
mod outline;
mod params;
mod pass;
mod philox;
mod pool;
mod probe;
pub mod profile;
mod recorded_pass;
mod relative;
mod replay;
mod rows;
pub mod selftest;
pub mod simd;
mod softmax;
mod transfer;
mod turn;
mod upload;
mod windows;

pub use activation::{gelu, relu, tanh};
pub use attend::{Projected, attend, attend_projected};
pub use attention::{
    DecoderLayerConfig, MultiHeadAttention, TransformerDecoderLayer, merge_heads, split_heads,
};
pub use box_sum::{box_sum2d, run_sum};
pub use broadcast::{add_repeated, scale_rows, weighted_sum};
pub use checkpoint::checkpoint;
pub use combine::{add, mul, permute, reshape};
pub use conv::{After, Conv2d, Conv2dConfig, conv2d, conv2d_layer, conv2d_no_bias};
pub use cross_entropy::{class_cross_entropy, pixel_cross_entropy};
pub use dropout::{add_drop_path, drop_path, drop_path_rates, dropout};
pub use embedding::embedding;
pub use feed_forward::{Activation, feed_forward};
pub use gradients::Gradients;
pub use interpolate::{Align, resize_beside, resize_bias_table, resize_bicubic, resize_bilinear};
pub use kernel::Tape;
pub use linear::{
    Linear, conv1x1, default_init, linear, linear_layer, linear_no_bias, linear_with_init,
};
pub use load::LoadReport;
pub use matmul::{matmul, matmul_nt};
pub use mode::{Mode, Noise};
pub use norm::{
    BatchNorm2d, LayerNorm, batch_norm2d, centre, covariance, instance_norm, layer_norm,
    layer_norm_layer, projected_rstd, scale_columns,
};
pub use optim::{AdamW, AdamWConfig, ParamGroup};
pub use outline::Outline;
pub use params::ParamStore;
pub use pool::{global_avg_pool, max_pool2d};
pub use probe::Probe;
pub use recorded_pass::{Pass, RecordedPass};
pub use relative::{RowIndex, relative_bias};
pub use replay::Replayed;
pub use rows::{RowMap, take_rows};
pub use softmax::{ScoreTerms, attention_softmax, softmax};
pub use transfer::{TensorSource, Transfer};
pub use turn::{map_to_tokens, tokens_to_map, turn};
pub use upload::Uploader;
pub use windows::text_windows;
