//! Activation checkpointing (Chen et al. 2016): a segment keeps its input only, and is computed again in the backward pass.
//!
//! Candle's graph knows nothing of parameters inside a segment, so their gradients are put aside, and
//! [`Gradients::of`](crate::Gradients::of) adds them to what the graph found.

use candle_core::{Result, Tensor, Var, bail};

use crate::kernel::{Tape, attach_storage, backward_from};
use crate::mode::{Mode, Noise};
use crate::pass;

/// `segment(inputs, mode)` of one to three tensors without keeping what lies inside it when gradients are needed; the same
/// value and gradients.
///
/// In training the segment draws from a noise of its own, so that it can be repeated; running statistics change once. A loss
/// through a checkpoint must be differentiated by [`Gradients::of`](crate::Gradients::of).
///
/// # Errors
/// Those of the segment.
pub fn checkpoint<F>(inputs: &[&Tensor], mode: Mode, segment: F) -> Result<Tensor>
where
    F: Fn(&[Tensor], Mode) -> Result<Tensor> + Send + Sync + 'static,
{
    let mut inputs: Vec<Tensor> = inputs.iter().map(|t| (*t).clone()).collect();
    let Mode::Train(noise) = mode else { return segment(&inputs, mode) };
    let seed = noise.next_key();
    if let Some(first) = inputs.first_mut().filter(|t| !t.track_op()) {
        // The parameters inside need the backward pass though no input does.
        *first = Var::from_tensor(first)?.into_inner();
    }
    let kept: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
    let value = {
        let own = Noise::of_part(seed, 0, 0);
        let _unrecorded = Tape::suspended();
        let y = segment(&kept, Mode::Train(&own))?.contiguous()?;
        own.settle_in(noise)?;
        // A view that begins later than its storage.
        let y = if y.layout().start_offset() > 0 { y.force_contiguous()? } else { y };
        y.detach()
    };
    let shape = value.shape().clone();
    // A copy: the storage of a tensor cannot be taken out of it.
    let storage = {
        let (guard, layout) = value.storage_and_layout();
        guard.try_clone(layout)?
    };
    drop(value);
    let wanted: Vec<bool> = inputs.iter().map(Tensor::track_op).collect();
    let backward = move |grad: &Tensor| {
        let input = |(t, wanted): (&Tensor, &bool)| {
            if *wanted { Var::from_tensor(t).map(Var::into_inner) } else { Ok(t.clone()) }
        };
        let inputs = kept.iter().zip(&wanted).map(input).collect::<Result<Vec<_>>>()?;
        let noise = Noise::of_part(seed, 0, 0);
        let _unrecorded = Tape::suspended();
        let y = segment(&inputs, Mode::Train(&noise))?;
        let mut store = backward_from(&y, grad.to_dtype(y.dtype())?)?;
        let gradient = |(input, wanted): (&Tensor, &bool)| match store.remove(input) {
            Some(found) => Ok(found),
            // Takes the place of what nobody asks for.
            None if !wanted => Ok(input.clone()),
            None => bail!("checkpoint: no gradient reaches an input of the segment"),
        };
        let found = inputs.iter().zip(&wanted).map(gradient).collect::<Result<Vec<_>>>()?;
        if !pass::is_open() {
            bail!("a loss through a checkpoint must be differentiated by Gradients::of");
        }
        pass::put_all_aside(&store)?;
        Ok(found)
    };
    attach_storage("checkpoint", &inputs.iter().collect::<Vec<_>>(), storage, shape, backward)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gradients, dropout, gelu, linear};
    use candle_core::{DType, Device};

    fn variable(shape: &[usize], seed: u32) -> Result<Var> {
        Var::from_tensor(&crate::selftest::values(shape, seed)?)
    }

    /// Two segments that share a weight, dropout in one of them.
    #[test]
    fn value_and_gradients_are_those_without_it() -> Result<()> {
        let (x, w, v) = (variable(&[5, 6], 1)?, variable(&[6, 6], 2)?, variable(&[6, 6], 3)?);
        let params: Vec<(String, Var)> =
            [("x", &x), ("w", &w), ("v", &v)].map(|(n, p)| (n.to_owned(), p.clone())).into();
        let constant = crate::selftest::values(&[5, 6], 4)?;
        let run = |kept: bool| -> Result<(Vec<f64>, Vec<Vec<f64>>)> {
            let noise = Noise::new(7, 1);
            let mode = Mode::Train(&noise);
            let (w1, v1, w2) =
                (w.as_tensor().clone(), v.as_tensor().clone(), w.as_tensor().clone());
            let first = move |x: &[Tensor], mode: Mode| {
                linear(&dropout(&gelu(&linear(&x[0], &w1, None)?)?, 0.3, mode)?, &v1, None)
            };
            let second = move |x: &[Tensor], _: Mode| {
                gelu(&linear(&x[0], &w2, None)?)?.mul(&x[1])?.mul(&x[2])
            };
            // The input again, and a constant.
            let again = |y: Tensor| [y, x.as_tensor().clone(), constant.clone()];
            let y = if kept {
                // The same draws as the checkpoints make.
                let own = || Noise::of_part(noise.next_key(), 0, 0);
                let (a, b) = (own(), own());
                second(&again(first(&[x.as_tensor().clone()], Mode::Train(&a))?), Mode::Train(&b))?
            } else {
                let inputs = again(checkpoint(&[x.as_tensor()], mode, first)?);
                checkpoint(&inputs.each_ref(), mode, second)?
            };
            let grads = Gradients::of(&y.sqr()?.sum_all()?, &params)?;
            let found = params.iter().map(|(n, _)| match grads.get(n) {
                Some(g) => g.flatten_all()?.to_vec1::<f64>(),
                None => bail!("{n} has no gradient"),
            });
            Ok((y.flatten_all()?.to_vec1()?, found.collect::<Result<_>>()?))
        };
        let (plain, checked) = (run(true)?, run(false)?);
        assert_eq!(plain.0, checked.0);
        for (a, b) in plain.1.iter().flatten().zip(checked.1.iter().flatten()) {
            assert!((a - b).abs() < 1e-12 * (1.0 + a.abs()), "{a} {b}");
        }
        Ok(())
    }

    #[test]
    fn a_view_into_an_input_keeps_its_place() -> Result<()> {
        let x = variable(&[3, 2], 1)?;
        let noise = Noise::new(1, 1);
        let y = checkpoint(&[x.as_tensor()], Mode::Train(&noise), |x, _| x[0].narrow(0, 1, 1))?;
        assert_eq!(y.to_vec2::<f64>()?, x.narrow(0, 1, 1)?.to_vec2::<f64>()?);
        let grads = Gradients::of(&y.sum_all()?, &[("x".to_owned(), x)])?;
        let found = grads.get("x").map(|g| g.to_vec2::<f64>()).transpose()?;
        assert_eq!(found, Some(vec![vec![0.0; 2], vec![1.0; 2], vec![0.0; 2]]));
        Ok(())
    }

    #[test]
    fn an_input_without_gradient_still_trains_the_segment() -> Result<()> {
        let w = variable(&[3, 4], 2)?;
        let x = Tensor::ones((2, 4), DType::F64, &Device::Cpu)?;
        let noise = Noise::new(1, 1);
        let inside = w.as_tensor().clone();
        let y = checkpoint(&[&x], Mode::Train(&noise), move |x, _| linear(&x[0], &inside, None))?;
        assert!(y.sum_all()?.backward().is_err(), "gradients of parameters would be lost");
        let grads = Gradients::of(&y.sum_all()?, &[("w".to_owned(), w)])?;
        let found = grads.get("w").map(|g| g.to_vec2::<f64>()).transpose()?;
        assert_eq!(found, Some(vec![vec![2.0; 4]; 3]));
        Ok(())
    }
}
