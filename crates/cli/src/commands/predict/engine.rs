//! A loaded checkpoint that answers expressions about pictures.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use dmmi_train::{Evaluation, LoadedModel, Split};
use refzom_dataset::{DatasetConfig, Encoded, ExpressionTokenizer, ImageTransform, RgbImage};

use super::found::{Found, at_size};
use super::texts;
use crate::device::Arithmetic;
use crate::progress::spinner;

/// Expressions that are answered together: more would cost memory (about 0.2 GB each at Swin-B, 480 pixels).
const TOGETHER: usize = 8;

/// The network with its tokenizer and its picture size.
pub(crate) struct Engine {
    loaded: LoadedModel,
    tokenizer: ExpressionTokenizer,
    transform: ImageTransform,
}

/// A picture as the network wants it; made once for all expressions about it.
pub(crate) struct Prepared {
    pixels: Tensor, // (1, 3, H, W)
    size: (u32, u32),
}

/// The answer to one expression.
pub(crate) struct Answer {
    /// Mask at the picture's own size, and its score.
    pub(crate) found: Found,
    /// Network and resizing; the network's time is shared equally by the expressions that were answered together.
    pub(crate) milliseconds: f64,
    /// What a reader of the answer should know.
    pub(crate) notices: Vec<String>,
}

impl Engine {
    /// Loads what `checkpoint` means ([`load`]), with its tokenizer.
    ///
    /// # Errors
    /// Bad input: no checkpoint there, a damaged one, or weights of another configuration.
    pub(crate) fn load(checkpoint: &Path, device: &Device, arithmetic: Arithmetic) -> Result<Self> {
        let loaded = load(checkpoint, device, arithmetic)?;
        let file = &loaded.file;
        let tokenizer = ExpressionTokenizer::from_vocab_str(&file.vocab, file.max_words)
            .with_context(|| format!("vocabulary of {}", loaded.path.display()))?;
        let [height, width] = file.image_size;
        let transform = ImageTransform {
            resampling: file.resize,
            ..ImageTransform::imagenet(side(height)?, side(width)?)
        };
        transform
            .validate()
            .with_context(|| format!("picture size of {}", loaded.path.display()))?;
        Ok(Self { loaded, tokenizer, transform })
    }

    /// The folder the weights came from.
    pub(crate) fn path(&self) -> &Path {
        &self.loaded.path
    }

    /// Height and width at which the network looks.
    pub(crate) fn model_size(&self) -> [usize; 2] {
        self.loaded.file.image_size
    }

    /// Resizes and normalises a picture.
    ///
    /// # Errors
    /// If there is no memory for it on the device.
    pub(crate) fn prepare(&self, picture: &RgbImage) -> Result<Prepared> {
        let [height, width] = self.model_size();
        let values = self.transform.apply(picture);
        let pixels = Tensor::from_vec(values, (1, 3, height, width), &self.loaded.device)?;
        Ok(Prepared { pixels, size: (picture.height(), picture.width()) })
    }

    /// Finds what each expression means in the picture. What the network computes of the picture alone it computes once
    /// for up to [`TOGETHER`] expressions. `progress` is told how many are answered.
    ///
    /// # Errors
    /// If an expression cannot be tokenized, or the network's output is not finite.
    pub(crate) fn answers(
        &self,
        picture: &Prepared,
        expressions: &[String],
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Answer>> {
        let encode =
            |text: &String| self.tokenizer.encode(text).with_context(|| texts::short(text));
        let encoded = expressions.iter().map(encode).collect::<Result<Vec<_>>>()?;
        let mut answers = Vec::with_capacity(expressions.len());
        for (texts, encoded) in expressions.chunks(TOGETHER).zip(encoded.chunks(TOGETHER)) {
            let clock = Instant::now();
            let logits = self.logits(picture, encoded)?; // (S, 2, H, W)
            let (s, _, h, w) = logits.dims4()?;
            let network = clock.elapsed().as_secs_f64() * 1e3 / s as f64;
            for (i, (text, encoded)) in texts.iter().zip(encoded).enumerate() {
                let clock = Instant::now();
                let logits = logits.get(i)?;
                let difference =
                    (logits.get(1)? - logits.get(0)?)?.flatten_all()?.to_vec1::<f32>()?;
                let found = at_size(&difference, (h, w), picture.size).with_context(|| {
                    format!("checkpoint {}: {}", self.path().display(), texts::short(text))
                })?;
                let milliseconds = network + clock.elapsed().as_secs_f64() * 1e3;
                let notices = self.notices(text, encoded);
                answers.push(Answer { found, milliseconds, notices });
            }
            progress(answers.len());
        }
        Ok(answers)
    }

    fn logits(&self, picture: &Prepared, encoded: &[Encoded]) -> Result<Tensor> {
        let device = &self.loaded.device;
        let words = encoded.first().map_or(0, |e| e.ids.len());
        let shape = (encoded.len(), words);
        let ids: Vec<u32> = encoded.iter().flat_map(|e| e.ids.iter().copied()).collect();
        let attention: Vec<_> = encoded.iter().flat_map(|e| e.attention.iter().copied()).collect();
        let ids = Tensor::from_vec(ids, shape, device)?;
        let attention = Tensor::from_vec(attention, shape, device)?;
        Ok(self.loaded.model.segment_sentences(&picture.pixels, &ids, &attention)?)
    }

    /// Opens a split as this model wants it.
    ///
    /// # Errors
    /// If files are missing or hold nothing usable.
    pub(crate) fn open(&self, dataset: &DatasetConfig, batch_size: usize) -> Result<Split> {
        Ok(Split::for_model(dataset, &self.loaded.file, batch_size)?)
    }

    /// Scores a split, at the model's size and at the pictures' own sizes; `progress` is told how many are done, and may end
    /// the scoring with an error.
    ///
    /// # Errors
    /// If the split cannot be read, or what `progress` answers.
    pub(crate) fn evaluate(
        &self,
        split: &Split,
        mut progress: impl FnMut(usize) -> dmmi_train::Result<()>,
    ) -> dmmi_train::Result<Evaluation> {
        let LoadedModel { model, device, path, .. } = &self.loaded;
        dmmi_train::evaluate(model, device, split, true, &mut |done, _| progress(done))
            .map_err(|error| error.of_checkpoint(path))
    }

    /// Numbers in the network's parameters.
    pub(crate) fn parameters(&self) -> usize {
        self.loaded.store.parameters().iter().map(|(_, var)| var.elem_count()).sum()
    }

    fn notices(&self, expression: &str, encoded: &Encoded) -> Vec<String> {
        let mut notices = Vec::new();
        if encoded.truncated {
            let end = encoded.offsets.iter().map(|offset| offset.1).max().unwrap_or(0);
            let read = expression.get(..end).unwrap_or_default();
            notices.push(format!(
                "longer than {} word pieces; only {} is read",
                self.tokenizer.max_len() - 2,
                texts::short(read)
            ));
        }
        let unknown = self.unknown_words(expression, encoded);
        if !unknown.is_empty() {
            notices.push(format!("not in the model's vocabulary: {}", listed(&unknown)));
        }
        notices
    }

    /// Words of which the vocabulary knows nothing, and those of foreign scripts.
    fn unknown_words<'a>(&self, expression: &'a str, encoded: &Encoded) -> Vec<&'a str> {
        let mut words = texts::foreign_words(expression);
        for (id, &(from, to)) in encoded.ids.iter().zip(&encoded.offsets) {
            if to > from && self.tokenizer.is_unknown(*id) {
                let word = texts::word_at(expression, from);
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        words
    }
}

/// Loads what `checkpoint` means: a checkpoint folder, a run's folder (its best checkpoint), or a file of the authors; with a
/// spinner on the terminal.
///
/// # Errors
/// As [`dmmi_train::load_model`].
pub(crate) fn load(
    checkpoint: &Path,
    device: &Device,
    arithmetic: Arithmetic,
) -> dmmi_train::Result<LoadedModel> {
    let _waiting = spinner(&format!("loading {}", checkpoint.display()));
    let loaded = dmmi_train::load_model(checkpoint, device)?;
    Ok(LoadedModel { model: loaded.model.compute_in(arithmetic.activations(device)), ..loaded })
}

fn side(pixels: usize) -> Result<u32> {
    u32::try_from(pixels).context("the checkpoint's picture size is impossible")
}

/// Up to five words.
fn listed(words: &[&str]) -> String {
    let more = if words.len() > 5 { ", ..." } else { "" };
    format!("{}{more}", words[..words.len().min(5)].join(", "))
}
