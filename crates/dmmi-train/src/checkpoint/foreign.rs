//! Weights of other programs: PyTorch files and safetensors under whatever names, and the authors' checkpoints as models of ours.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use dmmi_model::Dmmi;
use dmmi_model::names::{self, Heads};
use nn_ops::{LoadReport, ParamStore, TensorSource, Transfer};
use refzom_dataset::Resampling;
use torch_files::{TensorInfo, TorchFile};

use super::model_dir::{LoadedModel, ModelFile};
use super::weights::load_tensors;
use crate::data::load_vocabulary;
use crate::error::{Error, Result};

/// A file of tensors, read one by one.
pub(crate) struct WeightsFile {
    path: PathBuf,
    content: Content,
}

enum Content {
    /// Names without what data-parallel training and `torch.compile` put into them.
    Torch(Box<TorchFile>, BTreeMap<String, TensorInfo>),
    Safetensors(BTreeMap<String, Tensor>),
}

/// What `DataParallel` and `DistributedDataParallel` put in front of a network's names, and `torch.compile` anywhere in them.
const PARALLEL: &str = "module";
const COMPILED: &str = "_orig_mod";

impl WeightsFile {
    /// Opens `.safetensors`, or whatever `torch.save` wrote.
    ///
    /// # Errors
    /// When the file cannot be read or is neither.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let content = if path.extension().is_some_and(|e| e == "safetensors") {
            Content::Safetensors(load_tensors(path, &Device::Cpu)?)
        } else {
            let file = TorchFile::open(path)?;
            let tensors = file.tensors()?.into_iter().map(|(name, info)| (plain(&name), info));
            let tensors = tensors.collect();
            Content::Torch(Box::new(file), tensors)
        };
        Ok(Self { path: path.to_path_buf(), content })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Values beside the tensors, where the format has any.
    fn torch(&self) -> Option<&TorchFile> {
        match &self.content {
            Content::Torch(file, _) => Some(file),
            Content::Safetensors(_) => None,
        }
    }
}

/// `module.` taken from the front of a name, or from behind its first part (`model.module.backbone`); `_orig_mod.` everywhere.
fn plain(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| *part != COMPILED).collect();
    let kept = parts.iter().enumerate().filter(|(i, part)| *i > 1 || **part != PARALLEL);
    kept.map(|(_, part)| *part).collect::<Vec<_>>().join(".")
}

impl TensorSource for WeightsFile {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        match &self.content {
            Content::Torch(_, tensors) => {
                tensors.iter().map(|(name, info)| (name.clone(), info.shape.clone())).collect()
            }
            Content::Safetensors(tensors) => tensors.shapes(),
        }
    }

    fn read(&self, name: &str) -> candle_core::Result<Tensor> {
        match &self.content {
            Content::Torch(file, tensors) => match tensors.get(name) {
                Some(info) => file.tensor(info, &Device::Cpu).map_err(candle_core::Error::wrap),
                None => candle_core::bail!("there is no tensor {name}"),
            },
            Content::Safetensors(tensors) => tensors.read(name),
        }
    }
}

/// What a checkpoint of the authors does not say of itself. None: what is published, or what its `args` say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReleaseOptions {
    /// Numbers of attention heads.
    pub heads: Heads,
    /// `bert-base-uncased`, `synthetic` or a `vocab.txt`.
    pub vocab: Option<String>,
    /// Pixels a side of the network's input.
    pub image_size: Option<usize>,
    /// Word pieces of an expression; 20.
    pub max_words: Option<usize>,
}

/// The release's input where the checkpoint does not tell.
const IMAGE_SIZE: usize = 480;
const MAX_WORDS: usize = 20;

/// Reads a checkpoint of the authors (`model` and `bert_model` state dicts in a PyTorch file): the configuration from the shapes,
/// every tensor in its place or listed in the report.
///
/// # Errors
/// [`Error::Torch`] for a file that cannot be read, [`Error::Checkpoint`] for one of another network or one that does not say
/// enough; names what is missing and the option that states it.
pub fn load_release(
    path: impl AsRef<Path>,
    options: &ReleaseOptions,
    device: &Device,
) -> Result<(LoadedModel, LoadReport)> {
    let path = path.as_ref();
    let refuse = |message: String| Error::checkpoint(path, message);
    let source = WeightsFile::open(path)?;
    let shapes = source.shapes();
    let plan = names::RELEASE.plan(shapes.keys().map(String::as_str)).ok_or_else(|| {
        refuse("is no checkpoint of DMMI: it lacks model.classifier or bert_model; encoders alone serve as init = { visual = \"..\" } or { text = \"..\" } of a training".into())
    })?;
    let moved = plan
        .moves
        .iter()
        .filter_map(|(to, from)| Some((to.clone(), shapes.get(from.first()?)?.clone())));
    let model = names::infer(&moved.collect(), options.heads)
        .map_err(|why| refuse(format!("{why}; see dmmi-cli convert --help")))?;
    let args = source.torch().and_then(|file| file.root().get("args"));
    let side =
        options.image_size.or_else(|| args?.get("img_size")?.as_size()).unwrap_or(IMAGE_SIZE);
    let name = options.vocab.as_deref().unwrap_or("bert-base-uncased");
    let (vocab, size) = load_vocabulary(name)?;
    if size != model.text.vocab_size {
        return Err(refuse(format!(
            "its text encoder knows {} word pieces, the vocabulary {name} has {size}: give its own one with dmmi-cli convert --vocab vocab.txt",
            model.text.vocab_size
        )));
    }
    let epoch = source.torch().and_then(|file| file.root().get("epoch")?.as_size());
    let file = ModelFile {
        format: 1,
        model,
        image_size: [side, side],
        resize: Resampling::default(),
        max_words: options.max_words.unwrap_or(MAX_WORDS),
        vocab,
        step: 0,
        epoch: epoch.map_or(0, |last| last + 1),
        score: None,
    };
    let store = ParamStore::new(0);
    Dmmi::new(&file.model, store.blank(DType::F32, device))?;
    let transfer = Transfer::plan(&store, "", &source, plan, &[]);
    transfer.report().clone().strict().map_err(|error| refuse(error.to_string()))?;
    let mut report = transfer.run()?;
    report.ignored.extend(untouched(&source));
    let model = Dmmi::new(&file.model, store.frozen(DType::F32, device))?;
    let (path, device) = (path.to_path_buf(), device.clone());
    Ok((LoadedModel { model, store, file, path, device }, report))
}

/// Parts of the file that hold no tensors: each is named, so that nothing is left out silently.
fn untouched(source: &WeightsFile) -> Vec<(String, String)> {
    let entries = source.torch().and_then(|file| file.root().entries());
    let names = entries.into_iter().flatten().filter_map(|(key, _)| key.as_str());
    let known = ["model", "bert_model", "optimizer"];
    names
        .filter(|name| !known.contains(name))
        .map(|name| (name.to_owned(), "state of the training".to_owned()))
        .collect()
}

/// Writes a model as the authors' code loads it: `model` and `bert_model`, with the dead copies, counts and constants that
/// `load_state_dict(strict=True)` wants, and `epoch`.
///
/// # Errors
/// [`Error::Torch`] when the file cannot be written; what was there is intact then.
pub fn save_release(path: impl AsRef<Path>, loaded: &LoadedModel) -> Result<usize> {
    use torch_files::Saved;
    let (model, text) = names::export(&loaded.file.model, &loaded.store.tensors())?;
    let tensors = model.len() + text.len();
    let value = Saved::Dict(vec![
        ("model".into(), Saved::state_dict(model)),
        ("bert_model".into(), Saved::state_dict(text)),
        ("epoch".into(), Saved::Int(loaded.file.epoch.saturating_sub(1) as i64)),
    ]);
    torch_files::save(path, &value)?;
    Ok(tensors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_training_leaves_no_trace_in_names() {
        assert_eq!(plain("module.patch_embed.x"), "patch_embed.x");
        assert_eq!(plain("model.module.backbone.x"), "model.backbone.x");
        assert_eq!(plain("model.backbone.module.x"), "model.backbone.module.x");
        assert_eq!(plain("model._orig_mod.module.backbone._orig_mod.x"), "model.backbone.x");
    }
}
