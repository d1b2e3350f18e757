//! A loaded checkpoint that answers expressions about pictures, one at a time.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use dmmi_train::{Evaluation, LoadedModel, Split};
use refzom_dataset::{DatasetConfig, Encoded, ExpressionTokenizer, ImageTransform, RgbImage};

use super::found::{Found, at_size};
use super::texts;

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
    /// Network and resizing.
    pub(crate) milliseconds: f64,
    /// What a reader of the answer should know.
    pub(crate) notices: Vec<String>,
}

impl Engine {
    /// Loads what `checkpoint` means: a checkpoint folder, or a run's folder (its best checkpoint).
    ///
    /// # Errors
    /// Bad input: no checkpoint there, a damaged one, or weights of another configuration.
    pub(crate) fn load(checkpoint: &Path, device: &Device) -> Result<Self> {
        let loaded = dmmi_train::load_model(checkpoint, device)?;
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

    /// Finds what `expression` means in the picture.
    ///
    /// # Errors
    /// If the expression cannot be tokenized, or the network's output is not finite.
    pub(crate) fn answer(&self, picture: &Prepared, expression: &str) -> Result<Answer> {
        let clock = Instant::now();
        let encoded = self.tokenizer.encode(expression)?;
        let device = &self.loaded.device;
        let words = encoded.ids.len();
        let ids = Tensor::from_vec(encoded.ids.clone(), (1, words), device)?;
        let attention = Tensor::from_vec(encoded.attention.clone(), (1, words), device)?;
        let logits = self.loaded.model.segment(&picture.pixels, &ids, &attention)?; // (1, 2, H, W)
        let (_, _, h, w) = logits.dims4()?;
        let logits = logits.squeeze(0)?;
        let difference = (logits.get(1)? - logits.get(0)?)?.flatten_all()?.to_vec1::<f32>()?;
        let found = at_size(&difference, (h, w), picture.size)?;
        let milliseconds = clock.elapsed().as_secs_f64() * 1e3;
        Ok(Answer { found, milliseconds, notices: self.notices(expression, &encoded) })
    }

    /// Opens a split as this model wants it.
    ///
    /// # Errors
    /// If files are missing or hold nothing usable.
    pub(crate) fn open(&self, dataset: &DatasetConfig, batch_size: usize) -> Result<Split> {
        Ok(Split::for_model(dataset, &self.loaded.file, batch_size)?)
    }

    /// Scores a split, at the model's size and at the pictures' own sizes; `progress` is told how many are done.
    ///
    /// # Errors
    /// If the split cannot be read.
    pub(crate) fn evaluate(
        &self,
        split: &Split,
        mut progress: impl FnMut(usize),
    ) -> Result<Evaluation> {
        let mut tell = |done, _| {
            progress(done);
            Ok(())
        };
        let LoadedModel { model, device, .. } = &self.loaded;
        Ok(dmmi_train::evaluate(model, device, split, true, &mut tell)?)
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

    /// Words of which the vocabulary knows nothing: foreign scripts, `[UNK]`, and, in the small vocabulary of
    /// synthetic data, words that fall apart into letters.
    fn unknown_words<'a>(&self, expression: &'a str, encoded: &Encoded) -> Vec<&'a str> {
        let small = self.tokenizer.vocab_size() < SMALL_VOCABULARY;
        let lost = |piece: &str| {
            piece == "[UNK]" || (small && piece.len() == 3 && piece.starts_with("##"))
        };
        let mut words = texts::foreign_words(expression);
        for (id, &(from, to)) in encoded.ids.iter().zip(&encoded.offsets) {
            if to > from && self.tokenizer.piece(*id).is_some_and(|piece| lost(&piece)) {
                let word = texts::word_at(expression, from);
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        words
    }
}

/// Fewer pieces than this is no vocabulary of a language: BERT has 30,522.
const SMALL_VOCABULARY: usize = 5_000;

fn side(pixels: usize) -> Result<u32> {
    u32::try_from(pixels).context("the checkpoint's picture size is impossible")
}

/// Up to five words.
fn listed(words: &[&str]) -> String {
    let more = if words.len() > 5 { ", ..." } else { "" };
    format!("{}{more}", words[..words.len().min(5)].join(", "))
}
