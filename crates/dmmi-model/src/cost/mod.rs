//! What a pass costs, computed from the configuration alone: floating-point operations and activation memory by part.
//!
//! **Operations**: two (a multiplication and an addition) for every multiply-add of a matrix product or convolution. Norms,
//! activations, softmax, resizes and sums are left out: a few per cent.
//!
//! **Activations** are an estimate, not a measurement: the numbers in the results that training keeps for the backward pass,
//! for one picture and sentence. An operation keeps what its own backward pass reads: a product its operands, an activation
//! and a norm their input (instance norm and softmax their result), attention its projections; a sum, dropout and rows in
//! another order keep nothing. Not in it: parameters, gradients, the optimiser's moments (three times the
//! parameters with AdamW), and short-lived work space of kernels. A test holds it against the graphs of real passes.

mod decoder;
mod encoder;
mod fusion;

use std::ops::{Add, AddAssign, Mul};

use crate::Part;
use crate::config::DmmiConfig;

/// Which pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// A mask, as `predict` computes it.
    Segment,
    /// The forward half of a training step: also what the losses need, and the text encoder a second time for the
    /// erased expression.
    Train,
}

/// The cost of something, for one picture and sentence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiply-adds of matrix products and convolutions.
    pub macs: u64,
    /// Numbers that training keeps for the backward pass.
    pub kept: u64,
}

impl Cost {
    /// Floating-point operations: two a multiply-add.
    pub fn flops(self) -> u64 {
        2 * self.macs
    }

    /// A product of `(rows, inner)` and `(inner, columns)`, which keeps none but its operands.
    pub(crate) fn product(rows: usize, inner: usize, columns: usize) -> Self {
        Self { macs: (rows * inner * columns) as u64, kept: 0 }
    }

    /// Results that the backward pass of their own operation or of one that takes them reads.
    pub(crate) fn results(numbers: usize) -> Self {
        Self { macs: 0, kept: numbers as u64 }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { macs: self.macs + other.macs, kept: self.kept + other.kept }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<usize> for Cost {
    type Output = Self;

    fn mul(self, times: usize) -> Self {
        Self { macs: self.macs * times as u64, kept: self.kept * times as u64 }
    }
}

impl DmmiConfig {
    /// What a pass over one picture of `(H, W)` pixels and an expression of `words` tokens costs, by part; parts that do
    /// not run are left out.
    pub fn cost(&self, image: (usize, usize), words: usize, pass: Pass) -> Vec<(Part, Cost)> {
        let train = pass == Pass::Train;
        let reconstructs = train && self.reconstruction.is_on();
        let mut parts =
            vec![(Part::Text, encoder::text(&self.text, words) * (1 + usize::from(reconstructs)))];
        let stages = encoder::stages(&self.backbone, image);
        for (i, stage) in stages.iter().enumerate() {
            parts.push((Part::Backbone(i), stage.cost));
            let mba = fusion::stage(self, stage.channels, stage.cells(), words);
            if mba != Cost::default() {
                parts.push((Part::Fusion(i), mba));
            }
        }
        let channels = stages.iter().map(|s| s.channels).collect::<Vec<_>>();
        let extents = stages.iter().map(|s| s.extent).collect::<Vec<_>>();
        parts.push((Part::TextToImage, decoder::text_to_image(self, &channels, &extents, words)));
        if reconstructs {
            parts.push((Part::ImageToText, decoder::image_to_text(self, extents[1], words)));
        }
        if train && self.contrast.is_on() {
            parts.push((Part::Contrast, decoder::contrast(self, words)));
        }
        if train {
            parts.push((Part::Losses, decoder::losses(self, image, words)));
        }
        parts
    }
}

/// Sum over parts.
pub fn total(parts: &[(Part, Cost)]) -> Cost {
    parts.iter().fold(Cost::default(), |sum, (_, cost)| sum + *cost)
}
