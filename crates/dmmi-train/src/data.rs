//! From a configuration's `[data]` to batches: the only file that knows how datasets are opened.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use refzom_dataset::text::{
    BERT_BASE_UNCASED_VOCAB, EraseMode, ExpressionTokenizer, PerceptronTagger, PhraseEraser,
    Replacement,
};
use refzom_dataset::{
    Batches, DataError, Dataset, DatasetConfig, ImageTransform, Leaks, Loader, LoaderConfig, Order,
    Preparation, Resampling, Sample, Shard, count_reasons,
};

use crate::checkpoint::{Fingerprint, ModelFile};
use crate::config::{
    CarveConfig, DataConfig, EraseChoice, EraseToken, LeakChoice, TrainConfig, ValConfig,
};
use crate::error::{Error, Result};
use crate::pictures::damaged_pictures;

/// The splits a run looks at, and the vocabulary they share.
#[derive(Debug)]
pub struct RunData {
    /// The split trained on.
    pub train: Split,
    /// The split that chooses the best checkpoint.
    pub val: Option<Split>,
    vocab: String,
    vocab_size: usize,
    notes: Vec<String>,
}

/// One split, and how its samples become batches.
#[derive(Debug)]
pub struct Split {
    name: String,
    dataset: Dataset,
    left_out: BTreeMap<String, usize>,
    unknown: usize,
    loader: Loader,
    image_size: [usize; 2],
}

/// A split as read, before it is known how its samples become batches.
struct Opened {
    name: String,
    dataset: Dataset,
    left_out: BTreeMap<String, usize>,
}

/// What samples must become for a network: decided by the training configuration or stored with the weights.
struct Shape<'a> {
    image_size: [usize; 2],
    resize: Resampling,
    max_words: usize,
    vocab: &'a str,
}

impl Shape<'_> {
    fn preparation(&self) -> Result<Preparation> {
        let [height, width] = self.image_size.map(|side| side as u32);
        let tokenizer = ExpressionTokenizer::from_vocab_str(self.vocab, self.max_words)?;
        let transform =
            ImageTransform { resampling: self.resize, ..ImageTransform::imagenet(height, width) };
        Ok(Preparation::new(transform, tokenizer))
    }
}

impl RunData {
    /// Opens the training and the validation split, and looks for training pictures among those held out.
    ///
    /// # Errors
    /// [`Error::Data`] when files are missing or nothing usable is in them, [`Error::Config`] for leaks that are refused.
    pub fn open(config: &TrainConfig) -> Result<Self> {
        let data = &config.data;
        let (vocab, vocab_size) = load_vocabulary(&data.vocab)?;
        let check = if data.check_pictures { data.workers } else { 0 };
        let shape = Shape {
            image_size: data.image_size,
            resize: data.resize,
            max_words: data.max_words,
            vocab: &vocab,
        };
        let how = training_preparation(&shape, data, config.seed)?;
        let mut train = Opened::read(&data.train, check)?;
        let val = match &data.val {
            None => None,
            Some(ValConfig::Split(val)) => Some(Opened::read(val, check)?),
            Some(ValConfig::Carve(part)) => Some(train.carve(part)?),
        };
        let leaks = keep_apart(&mut train, val.as_ref(), data)?;
        let settings = LoaderConfig {
            batch_size: config.schedule.batch_size,
            workers: data.workers,
            prefetch: data.prefetch,
            drop_last: true,
            order: data.order,
            seed: config.seed,
            shard: Shard::default(),
        };
        let train = Split::new(train, how, settings, data.image_size)?;
        let val = match val {
            None => None,
            Some(val) => {
                let mut how = shape.preparation()?;
                how.cache_bytes = data.cache_mb << 20;
                let settings =
                    evaluation_settings(config.eval.batch_size, data.workers, data.prefetch);
                Some(Split::new(val, how, settings, data.image_size)?)
            }
        };
        let notes = std::iter::once(("training", &train))
            .chain(val.as_ref().map(|val| ("validation", val)))
            .flat_map(|(role, split)| split.faults(role))
            .chain(leaks)
            .collect();
        Ok(Self { train, val, vocab, vocab_size, notes })
    }

    /// The vocabulary, a piece a line.
    pub fn vocab(&self) -> &str {
        &self.vocab
    }

    /// Its number of pieces.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// What was left out of the splits and why, a line each.
    pub fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

fn training_preparation(shape: &Shape<'_>, data: &DataConfig, seed: u64) -> Result<Preparation> {
    let mut how = shape.preparation()?;
    how.seed = seed;
    how.cache_bytes = data.cache_mb << 20;
    how.erase_once = data.erase == EraseChoice::Released;
    let mode = match data.erase {
        EraseChoice::Aligned => Some(EraseMode::Aligned),
        EraseChoice::Released => Some(EraseMode::Released),
        EraseChoice::Off => None,
    };
    let replacement = match data.erase_with {
        EraseToken::Pad => Replacement::Pad,
        EraseToken::Mask => Replacement::Mask(how.tokenizer.mask_id()),
    };
    if let Some(mode) = mode {
        how.eraser = Some(match &data.tagger {
            None => PhraseEraser::with_builtin_tagger(mode, replacement)?,
            Some(path) => {
                PhraseEraser::new(Arc::new(PerceptronTagger::from_file(path)?), mode, replacement)
            }
        });
    }
    Ok(how)
}

/// Looks for training pictures among those held out and does what `data.leaks` says; notes for the user.
fn keep_apart(train: &mut Opened, val: Option<&Opened>, data: &DataConfig) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    if data.leaks == LeakChoice::Ignore {
        return Ok(notes);
    }
    let name = |cfg: &DatasetConfig| format!("{} {:?}", cfg.dir.display(), cfg.split);
    let mut held: Vec<(String, Dataset)> = Vec::new();
    for cfg in &data.held_out {
        held.push((name(cfg), Dataset::load(cfg)?.0));
    }
    if let Some(cfg) = &data.test {
        match Dataset::load(cfg) {
            Ok((dataset, _)) => held.push((name(cfg), dataset)),
            // Training does not need it.
            Err(error) => notes.push(format!("test split not looked at for leaks: {error}")),
        }
    }
    let named = held.iter().map(|(name, dataset)| (name.as_str(), dataset));
    let val = val.map(|val| ("the validation split", &val.dataset));
    let leaks = Leaks::find(&train.dataset, &named.chain(val).collect::<Vec<_>>());
    if leaks.is_empty() {
        return Ok(notes);
    }
    let samples = leaks.samples;
    match data.leaks {
        LeakChoice::Refuse => {
            let remedy = "set it to \"drop\" to leave them out of training, or to \"warn\" to train on them all the same";
            return Err(Error::config("data.leaks", format!("{leaks}; {remedy}")));
        }
        LeakChoice::Drop => {
            let whole = std::mem::replace(&mut train.dataset, Dataset::from_samples(Vec::new()));
            train.dataset = whole.without(&leaks);
            if train.dataset.is_empty() {
                let message = format!("{leaks}; nothing is left to train on");
                return Err(Error::config("data.leaks", message));
            }
            notes.push(format!("{leaks}: {samples} training samples left out"));
        }
        LeakChoice::Warn | LeakChoice::Ignore => notes.push(format!(
            "{leaks}: scores on them will be too good; data.leaks = \"drop\" leaves the {samples} training samples out"
        )),
    }
    Ok(notes)
}

fn evaluation_settings(batch_size: usize, workers: usize, prefetch: usize) -> LoaderConfig {
    LoaderConfig {
        batch_size,
        workers,
        prefetch,
        drop_last: false,
        order: Order::Sequential,
        seed: 0,
        shard: Shard::default(),
    }
}

impl Opened {
    /// `check`: threads that decode every picture once to leave out damaged ones; 0: none does.
    fn read(cfg: &DatasetConfig, check: usize) -> Result<Self> {
        let (mut dataset, rejected) = Dataset::load(cfg)?;
        let mut left_out: BTreeMap<String, usize> = count_reasons(&rejected)
            .into_iter()
            .map(|(reason, n)| (reason.to_owned(), n))
            .collect();
        if check > 0 {
            let damaged = damaged_pictures(&dataset, check);
            if !damaged.is_empty() {
                let (bad, good): (Vec<Sample>, Vec<Sample>) = dataset
                    .samples()
                    .iter()
                    .cloned()
                    .partition(|s| damaged.contains_key(&s.image_path));
                for sample in &bad {
                    *left_out.entry(damaged[&sample.image_path].clone()).or_insert(0) += 1;
                }
                if good.is_empty() {
                    let first = damaged.into_values().next().unwrap_or_default();
                    return Err(DataError::Empty(format!(
                        "no picture of split {:?} in {} can be decoded; first: {first}",
                        cfg.split,
                        cfg.dir.display()
                    ))
                    .into());
                }
                dataset = Dataset::from_samples(good);
            }
        }
        Ok(Self { name: cfg.split.clone(), dataset, left_out })
    }

    /// Takes some of the pictures out, as a split of their own.
    fn carve(&mut self, part: &CarveConfig) -> Result<Self> {
        let whole = std::mem::replace(&mut self.dataset, Dataset::from_samples(Vec::new()));
        let (train, carved) = whole.carve(part.carve, part.seed)?;
        self.dataset = train;
        let name = format!("{} % of the pictures of {}", part.carve * 100.0, self.name);
        Ok(Self { name, dataset: carved, left_out: BTreeMap::new() })
    }
}

impl Split {
    fn new(
        opened: Opened,
        how: Preparation,
        settings: LoaderConfig,
        image_size: [usize; 2],
    ) -> Result<Self> {
        let Opened { name, dataset, left_out } = opened;
        let unknown = |sample: &&Sample| {
            let pieces = how.tokenizer.encode(&sample.expression);
            pieces.is_ok_and(|pieces| pieces.ids.iter().any(|&id| how.tokenizer.is_unknown(id)))
        };
        let unknown = dataset.samples().par_iter().filter(unknown).count();
        let loader = Loader::new(&dataset, how, settings)?;
        Ok(Self { name, dataset, left_out, unknown, loader, image_size })
    }

    /// Opens a split for scoring the model that `file` describes, in the order of the refs file. Samples of damaged pictures are
    /// left out.
    ///
    /// # Errors
    /// [`Error::Data`] when files are missing or nothing usable is in them.
    pub fn for_model(cfg: &DatasetConfig, file: &ModelFile, batch_size: usize) -> Result<Self> {
        let shape = Shape {
            image_size: file.image_size,
            resize: file.resize,
            max_words: file.max_words,
            vocab: &file.vocab,
        };
        let settings = evaluation_settings(batch_size, 2, 4);
        Self::new(Opened::read(cfg, 2)?, shape.preparation()?, settings, file.image_size)
    }

    /// Name of the split in the refs file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The samples.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// How many records or sentences were left out, by reason; a damaged picture is a reason of its own.
    pub fn left_out(&self) -> &BTreeMap<String, usize> {
        &self.left_out
    }

    /// Samples whose expression holds a word that the vocabulary does not know.
    pub fn unknown(&self) -> usize {
        self.unknown
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.dataset.len()
    }

    /// Whether there is none; opening such a split is an error.
    pub fn is_empty(&self) -> bool {
        self.dataset.is_empty()
    }

    /// Batches of an epoch.
    pub fn steps(&self) -> usize {
        self.loader.batches()
    }

    /// `[height, width]` of the tensors, pixels.
    pub fn image_size(&self) -> [usize; 2] {
        self.image_size
    }

    /// The batches of an epoch (counted from 0) from `batch` on.
    ///
    /// # Errors
    /// When threads cannot be started.
    pub fn epoch(&self, epoch: usize, batch: usize) -> Result<Batches> {
        Ok(self.loader.epoch_from(epoch as u64, batch)?)
    }

    /// Identifies the samples, to notice that a split changed between a run's parts.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hasher = crc32fast::Hasher::new();
        for sample in self.dataset.samples() {
            hasher.update(&sample.ref_id.to_le_bytes());
            hasher.update(&sample.sentence_id.to_le_bytes());
            hasher.update(&sample.image_id.to_le_bytes());
            hasher.update(sample.expression.as_bytes());
            for id in &sample.annotation_ids {
                hasher.update(&id.to_le_bytes());
            }
        }
        Fingerprint { samples: self.len(), crc32: hasher.finalize() }
    }

    /// One line a kind of fault.
    fn faults(&self, role: &str) -> Vec<String> {
        let left_out = self.left_out.iter();
        let mut faults: Vec<String> =
            left_out.map(|(reason, n)| format!("{role} split: {n} left out: {reason}")).collect();
        if self.unknown > 0 {
            faults.push(format!(
                "{role} split: {} of {} expressions hold words that the vocabulary (data.vocab) does not know",
                self.unknown,
                self.len()
            ));
        }
        faults
    }
}

/// The vocabulary a configuration names: its text and its number of pieces.
///
/// # Errors
/// [`Error::Config`] naming the key when it is neither built in nor a file.
pub fn load_vocabulary(name: &str) -> Result<(String, usize)> {
    let text = match name {
        "bert-base-uncased" => BERT_BASE_UNCASED_VOCAB.to_owned(),
        "synthetic" => refzom_dataset::synthetic::synthetic_vocab(),
        path => std::fs::read_to_string(Path::new(path)).map_err(|error| {
            Error::config("data.vocab", format!("\"{path}\" cannot be read ({error}); use \"bert-base-uncased\", \"synthetic\" or the path of a vocab.txt"))
        })?,
    };
    let size = text.lines().count();
    if size == 0 {
        let message = format!("\"{name}\" is empty; give a vocab.txt with a word piece a line");
        return Err(Error::config("data.vocab", message));
    }
    Ok((text, size))
}
