//! One optimisation step: a batch to losses, gradients and new parameters.
//!
//! The parameters change only after losses and gradients were found finite, so a failed step leaves their last good values. The
//! running statistics change with the forward pass: after a failed step they may hold what made it fail.

use candle_core::{DType, Device, Tensor, Var};
use dmmi_model::{DmmiInput, LossConfig, LossTerms, Targets, batch_of};
use nn_ops::{AdamW, Gradients, Mode, Noise, Tape, Uploader};
use refzom_dataset::Batch;
use serde::{Deserialize, Serialize};

use crate::ahead::Placed;
use crate::error::{Error, Result};
use crate::groups::provably_without_gradient;
use crate::network::Network;
use crate::parts::{clip, cut, in_parts, key};

/// What a step decides beyond the network and the batch.
#[derive(Clone, Debug, PartialEq)]
pub struct StepSettings {
    /// Seed of the run; with `step` it decides dropout and drop-path.
    pub seed: u64,
    /// Steps done before this one.
    pub step: usize,
    /// The epoch, counted from 1; for messages.
    pub epoch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Parts of the batch that are computed at the same time.
    pub parts: usize,
    /// Largest global gradient norm; none: no clipping.
    pub clip_norm: Option<f64>,
    /// Whether every trained parameter must have a gradient: on in the first step of a process.
    pub check_gradients: bool,
}

/// Losses of one step (before the update) and the global gradient norm (before clipping).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepStats {
    /// Weighted cross-entropy over pixels.
    pub segmentation: f64,
    /// Distance of reconstructed from fused words.
    pub similarity: f64,
    /// Symmetric image-text contrast.
    pub contrastive: f64,
    /// Weighted sum.
    pub total: f64,
    /// Euclidean norm over all trained parameters.
    pub grad_norm: f64,
}

/// One step of training: forward, losses, backward, update of the parameters and of the running statistics.
///
/// # Errors
/// [`Error::NonFinite`] for a loss or gradient that is not finite, [`Error::NoGradient`] if `check_gradients` finds a trained
/// parameter without gradient that is not [provably so](provably_without_gradient). Parameters are unchanged then; running
/// statistics may have taken up this batch.
pub fn train_step(
    network: &Network,
    optimizer: &mut AdamW,
    trained: &[(String, Var)],
    batch: &Batch,
    losses: &LossConfig,
    settings: &StepSettings,
) -> Result<StepStats> {
    let placed = Placed::new(batch.clone(), &mut Uploader::new(&network.device))?;
    step(network, optimizer, trained, &placed, losses, settings, &mut || {})
}

/// The same, of a batch on the device. `meanwhile` runs while a GPU computes.
pub(crate) fn step(
    network: &Network,
    optimizer: &mut AdamW,
    trained: &[(String, Var)],
    placed: &Placed,
    losses: &LossConfig,
    settings: &StepSettings,
    meanwhile: &mut dyn FnMut(),
) -> Result<StepStats> {
    let Placed { batch, tensors } = placed;
    let non_finite = |what: &str, value: f64| Error::NonFinite {
        what: what.to_owned(),
        value,
        step: settings.step,
        epoch: settings.epoch,
        samples: sample_names(batch),
    };
    let finite = |what: &str, value: f64| {
        if value.is_finite() { Ok(value) } else { Err(non_finite(what, value)) }
    };

    let recording = || {
        let of = trained.iter().map(|(_, var)| var.as_tensor().id()).collect::<Vec<_>>();
        key((format!("{losses:?}"), of))
    };
    let (parts, stream) = ((batch.len(), settings.parts), (settings.seed, settings.step));
    let found = in_parts(parts, stream, |samples, noise, share| {
        let part = tensors.iter().map(|tensor| cut(tensor, &samples));
        let part = part.collect::<candle_core::Result<Vec<_>>>()?;
        let pass = |part: &[Tensor], noise: &Noise| {
            pass(network, trained, &batch_of(part)?, losses, noise, share)
        };
        Ok((network.recording.pass(&recording, &part, noise, share, &pass)?, share))
    })?;
    // Reading waits for a GPU.
    meanwhile();
    let (mut terms, mut gradients) = ([0.0; 4], Gradients::default());
    for ((losses, part), share) in found {
        terms.iter_mut().zip(read(&losses, share)?).for_each(|(sum, value)| *sum += value);
        gradients.add(part)?;
    }
    let segmentation = finite("the segmentation loss", terms[0])?;
    let similarity = finite("the similarity loss", terms[1])?;
    let contrastive = finite("the contrastive loss", terms[2])?;
    let total_value = finite("the total loss", terms[3])?;

    if settings.check_gradients {
        let mut missing = gradients.missing(trained);
        missing.retain(|name| !provably_without_gradient(name, network.last_stage));
        if batch.erased_ids.is_none() {
            // Without an erased expression the image-to-text decoder does not run.
            missing.retain(|name| !name.contains(".lan_func."));
        }
        if !missing.is_empty() {
            return Err(Error::NoGradient(missing));
        }
    }
    let grad_norm = finite("the gradient norm", clip(&mut gradients, settings.clip_norm)?)?;
    optimizer.step(&gradients, settings.lr)?;
    Ok(StepStats { segmentation, similarity, contrastive, total: total_value, grad_norm })
}

/// Forward and backward pass over one part of a batch, which has this share of it: segmentation, similarity and contrastive loss,
/// and their weighted sum times the share; and the sum's gradients.
fn pass(
    network: &Network,
    trained: &[(String, Var)],
    (input, targets): &(DmmiInput, Targets),
    losses: &LossConfig,
    noise: &Noise,
    share: f64,
) -> candle_core::Result<(Tensor, Gradients)> {
    let _tape = Tape::begin();
    let output = network.train.forward(input, Mode::Train(noise))?;
    let terms = LossTerms::of(&output, targets, losses)?;
    let total = (terms.total(losses)? * share)?;
    let gradients = Gradients::of(&total, trained)?;
    let LossTerms { segmentation, similarity, contrastive } = &terms;
    let all = [segmentation, similarity, contrastive, &total];
    let all = all.map(|t| t.detach().to_dtype(DType::F32));
    let all = all.into_iter().collect::<candle_core::Result<Vec<_>>>()?;
    Ok((Tensor::stack(&all, 0)?, gradients))
}

/// A batch as the network's input and the losses' targets, on `device`.
///
/// # Errors
/// When the device has no memory left.
pub fn tensors(batch: &Batch, device: &Device) -> Result<(DmmiInput, Targets)> {
    let placed = Placed::new(batch.clone(), &mut Uploader::new(device))?;
    Ok(batch_of(&placed.tensors)?)
}

/// The losses that [`pass`] found, each times the part's share.
fn read(losses: &Tensor, share: f64) -> Result<[f64; 4]> {
    let found = losses.to_vec1::<f32>()?;
    let mut values = [0.0; 4];
    // The total has its share already.
    for ((value, read), share) in values.iter_mut().zip(found).zip([share, share, share, 1.0]) {
        *value = f64::from(read) * share;
    }
    Ok(values)
}

fn sample_names(batch: &Batch) -> Vec<String> {
    batch.samples.iter().map(|sample| sample.to_string()).collect()
}
