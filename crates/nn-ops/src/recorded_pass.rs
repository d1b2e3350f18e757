//! A pass of training that is recorded on a GPU, as [`Replayed`](crate::Replayed) records an evaluation.

use candle_core::{Result, Tensor};
#[cfg(feature = "cuda")]
use {
    crate::cuda::{Graph, keep_uploads, open},
    crate::kernel::{Casts, casts_of, with_casts},
    crate::replay::{Kinds, kinds},
    candle_core::{CudaDevice, Device},
    std::thread::ThreadId,
};

use crate::gradients::Gradients;
use crate::mode::Noise;

/// Computes what is to be read of a pass, one tensor without a graph, and its gradients.
pub type Pass<'a> = dyn Fn(&[Tensor], &Noise) -> Result<(Tensor, Gradients)> + 'a;

/// Forward and backward pass over batches of the same shapes. On a GPU the third is recorded, with the change of running
/// statistics, and from then on one call queues it instead of thousands; dropout and drop-path draw what they would draw
/// unrecorded.
///
/// It is not recorded on the CPU; for other shapes than it was recorded for; on another thread; with activation
/// checkpointing; or if the passes before took more than two fifths of the GPU's memory, for a recording has memory of its
/// own.
#[derive(Default)]
pub struct RecordedPass {
    #[cfg(feature = "cuda")]
    stage: Stage,
}

#[cfg(feature = "cuda")]
#[derive(Default)]
enum Stage {
    #[default]
    Nothing,
    /// One pass was made on inputs like these, which drew so many masks.
    Seen(Kinds, usize),
    /// Another was made from memory that a recording can read.
    Ready(Box<Ready>),
    /// It is recorded.
    Recorded(Box<Ready>, Graph),
    /// It cannot be recorded.
    Refused,
}

#[cfg(feature = "cuda")]
struct Ready {
    /// Of the inputs.
    like: Kinds,
    masks: usize,
    /// The inputs' place, and behind them the keys of masks, if there are any.
    inputs: Vec<Tensor>,
    /// Of the gradients.
    names: Vec<String>,
    /// The parameters that the pass multiplies in bf16.
    casts: Casts,
    /// Uploads are kept by thread.
    thread: ThreadId,
}

impl RecordedPass {
    /// Nothing recorded yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether passes on inputs like the last are replayed.
    pub fn is_recorded(&self) -> bool {
        #[cfg(feature = "cuda")]
        return matches!(self.stage, Stage::Recorded(..));
        #[cfg(not(feature = "cuda"))]
        false
    }

    /// What `run` finds, which must queue the same work for all inputs of the same shapes and types, and read nothing back.
    /// The next call overwrites what a recorded pass found.
    ///
    /// # Errors
    /// Those of `run`.
    pub fn call(
        &mut self,
        inputs: &[Tensor],
        noise: &Noise,
        run: &Pass<'_>,
    ) -> Result<(Tensor, Gradients)> {
        #[cfg(feature = "cuda")]
        if let Some(Device::Cuda(dev)) = inputs.first().map(Tensor::device)
            && inputs.iter().all(|t| t.device().is_cuda() && !t.track_op())
        {
            return self.on_gpu(&dev.clone(), inputs, noise, run);
        }
        run(inputs, noise)
    }

    #[cfg(feature = "cuda")]
    fn on_gpu(
        &mut self,
        dev: &CudaDevice,
        inputs: &[Tensor],
        noise: &Noise,
        run: &Pass<'_>,
    ) -> Result<(Tensor, Gradients)> {
        let like = kinds(inputs);
        match std::mem::take(&mut self.stage) {
            Stage::Seen(of, masks) if of == like => {
                let ready = Ready::new(like, masks, inputs, noise)?;
                let (values, gradients, ready) = ready.prepare(dev, run)?;
                let room = crate::device::has_room(dev)?;
                self.stage = if room { Stage::Ready(Box::new(ready)) } else { Stage::Refused };
                Ok((values, gradients))
            }
            Stage::Ready(ready) if ready.like == like && ready.is_here() => {
                let Some(graph) = ready.record(run)? else {
                    self.stage = Stage::Refused;
                    return run(inputs, noise);
                };
                let found = ready.replay(&graph, inputs, noise);
                self.stage = Stage::Recorded(ready, graph);
                found
            }
            Stage::Recorded(ready, graph) => {
                let found = if ready.like == like && ready.is_here() {
                    ready.replay(&graph, inputs, noise)
                } else {
                    run(inputs, noise)
                };
                self.stage = Stage::Recorded(ready, graph);
                found
            }
            Stage::Refused => {
                self.stage = Stage::Refused;
                run(inputs, noise)
            }
            _ => {
                let found = run(inputs, noise)?;
                self.stage = match noise.only_masks() {
                    Some(masks) => Stage::Seen(like, masks),
                    None => Stage::Refused,
                };
                Ok(found)
            }
        }
    }
}

#[cfg(feature = "cuda")]
impl Ready {
    fn new(like: Kinds, masks: usize, inputs: &[Tensor], noise: &Noise) -> Result<Self> {
        let given = with_keys(inputs, noise, masks)?;
        let own = given.iter().map(Tensor::force_contiguous).collect::<Result<_>>()?;
        let thread = std::thread::current().id();
        Ok(Self { like, masks, inputs: own, names: Vec::new(), casts: Casts::new(), thread })
    }

    fn is_here(&self) -> bool {
        std::thread::current().id() == self.thread
    }

    /// Draws from the keys in their place.
    fn noise(&self) -> Result<Noise> {
        let at = match self.inputs.get(self.like.len()) {
            Some(keys) => open(keys)?.at,
            None => 0,
        };
        Ok(Noise::placed(at, self.masks))
    }

    /// The pass that finds out what will be recorded.
    fn prepare(mut self, dev: &CudaDevice, run: &Pass<'_>) -> Result<(Tensor, Gradients, Self)> {
        let _kept = keep_uploads(dev);
        let noise = self.noise()?;
        let ((values, gradients), casts) =
            casts_of(|| run(&self.inputs[..self.like.len()], &noise))?;
        self.casts = casts;
        self.names = gradients.iter().map(|(name, _)| name.clone()).collect();
        Ok((values, gradients, self))
    }

    fn record(&self, run: &Pass<'_>) -> Result<Option<Graph>> {
        Graph::record(self.inputs.clone(), &|inputs| {
            let noise = self.noise()?;
            let inputs = &inputs[..self.like.len()];
            let (values, gradients) = with_casts(&self.casts, || run(inputs, &noise))?;
            if !gradients.iter().map(|(name, _)| name).eq(&self.names) {
                candle_core::bail!("other parameters than before have gradients");
            }
            Ok(std::iter::once(values).chain(gradients.iter().map(|(_, g)| g.clone())).collect())
        })
    }

    /// What the recording finds for another batch.
    fn replay(
        &self,
        graph: &Graph,
        inputs: &[Tensor],
        noise: &Noise,
    ) -> Result<(Tensor, Gradients)> {
        let found = graph.run(&with_keys(inputs, noise, self.masks)?)?;
        let Some((values, gradients)) = found.split_first() else {
            candle_core::bail!("a recorded pass without results");
        };
        let named = self.names.iter().cloned().zip(gradients.iter().cloned());
        Ok((values.clone(), Gradients::from_map(named.collect())))
    }
}

/// The inputs, and behind them the keys of the next `masks` masks, if there are any.
#[cfg(feature = "cuda")]
fn with_keys(inputs: &[Tensor], noise: &Noise, masks: usize) -> Result<Vec<Tensor>> {
    let mut all = inputs.to_vec();
    if masks > 0
        && let Some(first) = inputs.first()
    {
        let bits: Vec<i64> = noise.keys(masks).into_iter().map(u64::cast_signed).collect();
        all.push(Tensor::from_vec(bits, masks, first.device())?);
    }
    Ok(all)
}

impl std::fmt::Debug for RecordedPass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordedPass").field("recorded", &self.is_recorded()).finish()
    }
}
