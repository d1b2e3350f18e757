//! A batch as a list of tensors, for passes that take such lists ([`nn_ops::RecordedPass`], [`nn_ops::Uploader`]).

use candle_core::{Result, Tensor, bail};

use crate::loss::Targets;
use crate::model::DmmiInput;

/// All tensors of a batch, in the order that [`batch_of`] expects.
pub fn batch_tensors(input: &DmmiInput, targets: &Targets) -> Vec<Tensor> {
    let DmmiInput { images, ids, erased_ids, attention } = input;
    let always = [images, ids, attention, &targets.masks, &targets.has_target];
    always.into_iter().chain(erased_ids).cloned().collect()
}

/// The batch of these tensors: images, ids, attention, masks, whether there is a target, and the erased ids if there are any.
///
/// # Errors
/// When there are fewer than five tensors.
pub fn batch_of(tensors: &[Tensor]) -> Result<(DmmiInput, Targets)> {
    let [images, ids, attention, masks, has_target, rest @ ..] = tensors else {
        bail!("a batch has five or six tensors, not {}", tensors.len());
    };
    let input = DmmiInput {
        images: images.clone(),
        ids: ids.clone(),
        erased_ids: rest.first().cloned(),
        attention: attention.clone(),
    };
    Ok((input, Targets { masks: masks.clone(), has_target: has_target.clone() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn a_batch_comes_back_from_its_tensors() -> Result<()> {
        let number = |v: f32| Tensor::new(v, &Device::Cpu);
        let all = (0..6).map(|i| number(i as f32)).collect::<Result<Vec<_>>>()?;
        for n in [5, 6] {
            let (input, targets) = batch_of(&all[..n])?;
            assert_eq!(input.erased_ids.is_some(), n == 6);
            let back = batch_tensors(&input, &targets);
            let values = back.iter().map(Tensor::to_scalar::<f32>).collect::<Result<Vec<_>>>()?;
            assert_eq!(values, (0..n).map(|i| i as f32).collect::<Vec<_>>());
        }
        assert!(batch_of(&all[..4]).is_err());
        Ok(())
    }
}
