//! One unit of the measured work: a mask, or a training step.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Device, Result, Tensor, Var};
use dmmi_model::{
    BackboneConfig, Dmmi, DmmiConfig, DmmiInput, LossConfig, LossTerms, Part, Targets, batch_of,
    batch_tensors,
};
use dmmi_train::{TrainConfig, optimizer_of};
use nn_ops::{
    AdamW, Gradients, LoadReport, Mode, Noise, ParamStore, Probe, RecordedPass, Replayed, Tape,
};

use super::BenchMode;
use super::inputs::Inputs;

/// A model with its inputs, and what training adds.
pub(crate) struct Work {
    store: ParamStore,
    model: Arc<Dmmi>,
    /// The same for a mask, as an evaluation computes batch after batch.
    masks: Replayed<'static>,
    inputs: Inputs,
    training: Option<Training>,
    device: Device,
    /// All sentences are about the first picture; then there are no times by part.
    pub(crate) one_picture: bool,
}

struct Training {
    /// The same variables in a model without dropout and drop-path, whose first step can be compared.
    quiet: Dmmi,
    optimizer: AdamW,
    trained: Vec<(String, Var)>,
    losses: LossConfig,
    lr: f64,
    step: u64,
    recorded: RecordedPass,
}

impl Work {
    pub(crate) fn new(
        config: &TrainConfig,
        mode: BenchMode,
        (dtype, compute): (DType, DType),
        checkpoint: bool,
        inputs: Inputs,
        device: &Device,
    ) -> anyhow::Result<Self> {
        let store = ParamStore::new(0);
        let made = Dmmi::new(&config.model, store.blank(dtype, device))?
            .compute_in(compute)
            .checkpointing(checkpoint);
        store.draw()?;
        let (model, training) = match mode {
            // A model without graph, over the same values.
            BenchMode::Infer => (Dmmi::new(&config.model, store.frozen(dtype, device))?, None),
            BenchMode::Train => {
                let quiet = Dmmi::new(&without_noise(&config.model), store.builder(dtype, device))?
                    .compute_in(compute)
                    .checkpointing(checkpoint);
                let (optimizer, trained) = optimizer_of(store.parameters(), &config.optimizer)?;
                let (losses, lr) = (config.loss.clone(), config.optimizer.lr);
                (
                    made,
                    Some(Training {
                        quiet,
                        optimizer,
                        trained,
                        losses,
                        lr,
                        step: 0,
                        recorded: RecordedPass::new(),
                    }),
                )
            }
        };
        let model = Arc::new(model);
        let of_masks = model.clone();
        let masks = Replayed::new(move |x| of_masks.segment(&x[0], &x[1], &x[2]));
        let device = device.clone();
        Ok(Self { store, model, masks, inputs, training, device, one_picture: false })
    }

    /// Numbers in all parameters.
    pub(crate) fn parameters(&self) -> usize {
        self.store.parameters().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// All values in f32, by name.
    pub(crate) fn weights(&self) -> Result<BTreeMap<String, Tensor>> {
        let wide = |(name, tensor): (String, Tensor)| Ok((name, tensor.to_dtype(DType::F32)?));
        self.store.tensors().into_iter().map(wide).collect()
    }

    pub(crate) fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<LoadReport> {
        self.store.load(tensors)
    }

    /// What can be compared with another implementation: logits, or losses and gradient norm without noise and update.
    pub(crate) fn first(&mut self) -> Result<BTreeMap<String, Tensor>> {
        let f32s = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu);
        let Some(training) = &self.training else {
            return Ok(BTreeMap::from([("logits".into(), f32s(&self.mask(&mut Probe::off())?)?)]));
        };
        let noise = Noise::new(0, 0);
        let output = training.quiet.forward(&self.inputs.input, Mode::Train(&noise))?;
        let terms = LossTerms::of(&output, &self.inputs.targets, &training.losses)?;
        let total = terms.total(&training.losses)?;
        let four = [&terms.segmentation, &terms.similarity, &terms.contrastive, &total];
        let losses = Tensor::stack(&four.map(Tensor::detach), 0)?;
        let norm = Gradients::of(&total, &training.trained)?.global_norm()?;
        Ok(BTreeMap::from([
            ("losses".into(), f32s(&losses)?),
            ("grad_norm".into(), Tensor::new(&[norm as f32], &Device::Cpu)?),
        ]))
    }

    /// One unit; the loss, of a training step.
    pub(crate) fn step(&mut self) -> Result<Option<f32>> {
        if self.one_picture {
            return self.by_operations();
        }
        if let Some(training) = &mut self.training {
            return training.step(&self.model, &self.inputs).map(Some);
        }
        let DmmiInput { images, ids, attention, .. } = &self.inputs.input;
        self.masks.call(&[images.clone(), ids.clone(), attention.clone()])?;
        Ok(None)
    }

    /// The same, never replayed from a recording.
    pub(crate) fn by_operations(&mut self) -> Result<Option<f32>> {
        self.probed(&mut Probe::off())
    }

    /// One unit, with the milliseconds of each part.
    pub(crate) fn timed_parts(&mut self) -> Result<Vec<(String, f64)>> {
        let mut probe = Probe::timing(&self.device);
        self.probed(&mut probe)?;
        Ok(probe.into_times())
    }

    fn mask(&self, probe: &mut Probe) -> Result<Tensor> {
        let input = &self.inputs.input;
        if self.one_picture {
            let image = input.images.narrow(0, 0, 1)?;
            return self.model.segment_sentences(&image, &input.ids, &input.attention);
        }
        self.model.segment_probed(&input.images, &input.ids, &input.attention, probe)
    }

    fn probed(&mut self, probe: &mut Probe) -> Result<Option<f32>> {
        let Some(training) = &mut self.training else {
            self.mask(probe)?;
            return Ok(None);
        };
        let Inputs { input, targets, .. } = &self.inputs;
        training.step += 1;
        let noise = Noise::new(0, training.step);
        let (total, gradients) = training.pass(&self.model, input, targets, &noise, probe)?;
        training.optimizer.step(&gradients, training.lr)?;
        probe.mark("optimiser");
        // As a loop that prints the loss does.
        total.to_scalar::<f32>().map(Some)
    }
}

impl Training {
    /// One step as a run makes it: its pass is recorded where it can be.
    fn step(&mut self, model: &Dmmi, inputs: &Inputs) -> Result<f32> {
        self.step += 1;
        let all = batch_tensors(&inputs.input, &inputs.targets);
        let mut recorded = std::mem::take(&mut self.recorded);
        let found = recorded.call(&all, &Noise::new(0, self.step), &|x, noise| {
            let (input, targets) = batch_of(x)?;
            self.pass(model, &input, &targets, noise, &mut Probe::off())
        });
        self.recorded = recorded;
        let (total, gradients) = found?;
        self.optimizer.step(&gradients, self.lr)?;
        total.to_scalar::<f32>()
    }

    /// Loss and gradients.
    fn pass(
        &self,
        model: &Dmmi,
        input: &DmmiInput,
        targets: &Targets,
        noise: &Noise,
        probe: &mut Probe,
    ) -> Result<(Tensor, Gradients)> {
        let tape = Tape::begin();
        let output = model.forward_probed(input, Mode::Train(noise), probe)?;
        let total = LossTerms::of(&output, targets, &self.losses)?.total(&self.losses)?;
        probe.mark(Part::Losses);
        let gradients = Gradients::of(&total, &self.trained)?;
        let total = total.detach().to_dtype(DType::F32)?;
        drop((output, tape));
        probe.mark("backward");
        Ok((total, gradients))
    }
}

fn without_noise(config: &DmmiConfig) -> DmmiConfig {
    let mut quiet = config.clone();
    quiet.decoder.dropout = 0.0;
    quiet.text.dropout = 0.0;
    if let BackboneConfig::Swin(swin) = &mut quiet.backbone {
        swin.drop_path = 0.0;
    }
    quiet
}
