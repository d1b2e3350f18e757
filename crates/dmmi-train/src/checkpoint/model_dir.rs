//! A model for use: `model.safetensors` and a `config.json` with the network, the picture size and the vocabulary, so that
//! a folder can be moved anywhere and needs nothing else.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use dmmi_model::{Dmmi, DmmiConfig};
use nn_ops::ParamStore;
use refzom_dataset::Resampling;
use serde::{Deserialize, Serialize};

use super::commit::{commit, remove_leftovers, verify};
use super::foreign::{ReleaseOptions, load_release};
use super::run_dir::find_checkpoint;
use super::weights::{WeightsReader, save_tensors};
use crate::error::{Error, Result};

/// File of the weights in a checkpoint folder.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// File of the model's description in a checkpoint folder.
pub(crate) const MODEL_FILE: &str = "config.json";

/// `config.json`: what a picture and a sentence must become for these weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Format of this file; 1.
    pub format: u32,
    /// The network.
    pub model: DmmiConfig,
    /// `[height, width]` of its input, pixels.
    pub image_size: [usize; 2],
    /// How pictures come to that size; not in older files.
    #[serde(default)]
    pub resize: Resampling,
    /// Word pieces of an expression.
    pub max_words: usize,
    /// The WordPiece vocabulary, a piece a line.
    pub vocab: String,
    /// Optimiser steps behind the weights.
    pub step: usize,
    /// Epochs behind the weights.
    pub epoch: usize,
    /// Their score on the validation split and its name, if it was evaluated.
    pub score: Option<(String, f64)>,
}

/// A model ready for use.
pub struct LoadedModel {
    /// The network; evaluation only, records no graph.
    pub model: Dmmi,
    /// Its parameters and buffers.
    pub store: ParamStore,
    /// What goes with it.
    pub file: ModelFile,
    /// The folder it came from, after [`find_checkpoint`].
    pub path: PathBuf,
    /// Where it computes.
    pub device: Device,
}

/// Puts weights and description into an existing folder.
pub(crate) fn write_model(folder: &Path, store: &ParamStore, file: &ModelFile) -> Result<()> {
    save_tensors(&folder.join(WEIGHTS), &store.tensors())?;
    write_json(&folder.join(MODEL_FILE), file)
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let text =
        serde_json::to_vec_pretty(value).map_err(|error| Error::write(path)(error.into()))?;
    std::fs::write(path, text).map_err(Error::write(path))
}

/// Writes a model into a folder of its own, atomically; a folder that is there is replaced. What a process left that was killed
/// in the middle of it is cleared away, so only one may write the folder at a time.
///
/// # Errors
/// [`Error::Write`]; what was there is intact then.
pub fn save_model(folder: impl AsRef<Path>, store: &ParamStore, file: &ModelFile) -> Result<()> {
    let folder = folder.as_ref();
    let root = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = folder.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Error::checkpoint(folder, "is no name for a folder; use letters and digits")
    })?;
    remove_leftovers(root, Some(name))?;
    commit(root, name, |path| write_model(path, store, file)).map(|_| ())
}

/// Reads the description of the checkpoint that `path` means (see [`find_checkpoint`]) without its weights.
///
/// # Errors
/// [`Error::Checkpoint`] or [`Error::Read`] when there is none or it is damaged.
pub fn read_model_file(path: impl AsRef<Path>) -> Result<(PathBuf, ModelFile)> {
    let folder = find_checkpoint(path)?;
    let path = folder.join(MODEL_FILE);
    let bytes = std::fs::read(&path).map_err(Error::read(&path))?;
    let file: ModelFile = serde_json::from_slice(&bytes).map_err(|error| {
        Error::checkpoint(&folder, format!("{MODEL_FILE} does not describe a DMMI model ({error}); use a checkpoint of this program"))
    })?;
    if file.format != 1 {
        let message = format!(
            "{MODEL_FILE} has format {}, this program reads format 1; use the program that wrote it",
            file.format
        );
        return Err(Error::checkpoint(&folder, message));
    }
    file.model
        .validate()
        .map_err(|message| Error::checkpoint(&folder, format!("{MODEL_FILE}: model: {message}")))?;
    Ok((folder, file))
}

/// Loads the model that `path` means (see [`find_checkpoint`]), or a checkpoint of the authors ([`load_release`]): every tensor of the network must be in the file in its shape, and
/// nothing else.
///
/// On the CPU, in a program with [`mapped_vec`]'s allocator, f32 weights stay in the pages of their file: it may be replaced
/// ([`save_model`] does), but not cut short while the model lives.
///
/// # Errors
/// [`Error::Checkpoint`] or [`Error::Read`], naming the file and the first tensor at fault.
pub fn load_model(path: impl AsRef<Path>, device: &Device) -> Result<LoadedModel> {
    let path = path.as_ref();
    // The weights of a checkpoint folder stand for the folder.
    let folder = path.parent().filter(|folder| folder.join(MODEL_FILE).is_file());
    if let (Some(folder), true) = (folder, path.file_name().is_some_and(|name| name == WEIGHTS)) {
        return load_model(folder, device);
    }
    // A PyTorch file of the authors, with what is published for what it does not say.
    if path.is_file() {
        return Ok(load_release(path, &ReleaseOptions::default(), device)?.0);
    }
    let (folder, file) = read_model_file(path)?;
    let store = ParamStore::new(0);
    let committed = folder.join("MANIFEST").exists();
    let read = || -> Result<()> {
        let weights = WeightsReader::open(&folder.join(WEIGHTS))?;
        // A network that names the parameters; the one that is used shares their values and records no graph.
        if let Some(vectors) = weights.mapped()? {
            Dmmi::new(&file.model, store.taking(vectors, DType::F32, device))?;
            weights.check(&store)
        } else {
            Dmmi::new(&file.model, store.blank(DType::F32, device))?;
            weights.fill(&store)
        }
    };
    // Reading and checking a gigabyte take equally long.
    let (intact, read) = rayon::join(|| if committed { verify(&folder) } else { Ok(()) }, read);
    intact.and(read)?;
    let model = Dmmi::new(&file.model, store.frozen(DType::F32, device))?;
    Ok(LoadedModel { model, store, file, path: folder, device: device.clone() })
}
