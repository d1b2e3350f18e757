//! Given weights into a new network: whose names they have is found out, what was done with every name is told.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use backbones::names::{BERT, RESNET, SWIN};
use dmmi_model::names::{FUSION, RELEASE};
use dmmi_model::{BackboneConfig, DmmiConfig};
use nn_ops::names::Plan;
use nn_ops::{ParamStore, TensorSource, Transfer};

use crate::checkpoint::{WEIGHTS, WeightsFile, find_checkpoint};
use crate::config::{InitConfig, InitParts};
use crate::error::{Error, Result};

/// Where the encoders lie in the network.
const VISUAL: &str = "model.backbone.";
const TEXT: &str = "bert_model.";

/// Part of the network a file is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Whatever the names tell.
    Any,
    Model,
    Visual,
    Text,
}

/// Copies the weights that `init` names into the store; a line for each file says what was done.
pub(super) fn start_from(
    store: &ParamStore,
    cfg: &DmmiConfig,
    init: &InitConfig,
) -> Result<Vec<String>> {
    let (files, strict) = match init {
        InitConfig::Whole(path) => (vec![(Part::Any, path)], true),
        InitConfig::Parts(InitParts { model, visual, text, strict }) => {
            let files = [(Part::Model, model), (Part::Visual, visual), (Part::Text, text)];
            (
                files.into_iter().filter_map(|(part, path)| Some((part, path.as_ref()?))).collect(),
                *strict,
            )
        }
    };
    let mut notes = Vec::new();
    for (part, path) in files {
        if !path.exists() {
            let key = match part {
                Part::Any => "init",
                Part::Model => "init.model",
                Part::Visual => "init.visual",
                Part::Text => "init.text",
            };
            let message = format!(
                "{}: there is no such file or folder; mend the path, or leave {key} out",
                path.display()
            );
            return Err(Error::config(key, message));
        }
        let source = WeightsFile::open(&weights_of(path)?)?;
        let loads = plans(store, cfg, &source, part, strict)?;
        for (scheme, transfer) in loads {
            let report = transfer.run()?;
            notes.push(format!("start from {} ({scheme}): {report}", source.path().display()));
        }
    }
    Ok(notes)
}

/// The file a path means: a folder of Hugging Face's holds `model.safetensors` or `pytorch_model.bin`, others are ours.
fn weights_of(path: &Path) -> Result<PathBuf> {
    if path.is_file() {
        return Ok(path.to_path_buf());
    }
    let bin = path.join("pytorch_model.bin");
    if bin.is_file() && !path.join(WEIGHTS).exists() {
        return Ok(bin);
    }
    Ok(find_checkpoint(path)?.join(WEIGHTS))
}

/// What becomes of a file: one load for each part of the network that is in it. Nothing is changed yet.
fn plans<'a>(
    store: &'a ParamStore,
    cfg: &DmmiConfig,
    source: &'a WeightsFile,
    part: Part,
    strict: bool,
) -> Result<Vec<(&'static str, Transfer<'a>)>> {
    let refuse = |message: String| Error::checkpoint(source.path(), format!("init: {message}"));
    let shapes = source.shapes();
    let names = || shapes.keys().map(String::as_str);
    let (visual, family) = match &cfg.backbone {
        BackboneConfig::Swin(_) => (SWIN, "Swin"),
        BackboneConfig::Resnet(_) => (RESNET, "ResNet"),
    };
    let wants = |wanted: Part| part == Part::Any || part == wanted;
    let mut found = Vec::new();
    if wants(Part::Model) {
        found.extend(RELEASE.plan(names()).map(|plan| (Part::Model, plan)));
    }
    // A whole network has its encoders in it.
    if found.is_empty() {
        for (encoder, schemes) in [(Part::Visual, visual), (Part::Text, BERT)] {
            if wants(encoder) {
                found.extend(Plan::of(schemes, names()).map(|plan| (encoder, plan)));
            }
        }
    }
    if found.is_empty() {
        let first: Vec<&str> = names().take(3).collect();
        let wanted = match part {
            Part::Any => format!("a DMMI checkpoint, a {family} or a BERT"),
            Part::Model => "a DMMI checkpoint".to_owned(),
            Part::Visual => format!("a {family} (the network's visual encoder)"),
            Part::Text => "a BERT".to_owned(),
        };
        return Err(refuse(format!(
            "no tensor has a name of {wanted}; use weights of the same network (the file's names begin with {})",
            first.join(", ")
        )));
    }
    let prefixes: Vec<String> = found.iter().map(|(_, plan)| plan.prefix.clone()).collect();
    let mut loads = Vec::new();
    for (i, (part, mut plan)) in found.into_iter().enumerate() {
        let (into, apart) = match part {
            Part::Visual => (VISUAL, FUSION),
            Part::Text => (TEXT, [].as_slice()),
            Part::Any | Part::Model => ("", [].as_slice()),
        };
        // A name under the prefix of another part is that one's to account for.
        let of_another = |name: &str| {
            let under = prefixes.iter().enumerate().filter(|(_, p)| name.starts_with(p.as_str()));
            under.max_by_key(|(_, p)| p.len()).is_some_and(|(owner, _)| owner != i)
        };
        plan.ignored.retain(|(name, _)| !of_another(name));
        plan.unexpected.retain(|name| !of_another(name));
        plan.ignore(apart);
        let scheme = plan.scheme;
        let transfer = Transfer::plan(store, into, source, plan, apart);
        let report = transfer.report();
        if let Some((name, model, file)) = report.mismatched.first() {
            return Err(refuse(format!(
                "{name} has shape {file:?}, the network's is {model:?}; use weights of the same network"
            )));
        }
        if strict && let Err(error) = report.clone().strict() {
            return Err(refuse(format!(
                "{error}; use weights of the same network, or allow it with init = {{ .., strict = false }}"
            )));
        }
        if report.loaded.is_empty() {
            return Err(refuse(
                "nothing in it fits the network; use weights of the same network".into(),
            ));
        }
        loads.push((scheme, transfer));
    }
    if part == Part::Any {
        // The network's own names, which the encoders in the file leave over.
        let ignored = loads.iter().flat_map(|(_, transfer)| &transfer.report().ignored);
        let left: BTreeSet<&String> =
            ignored.map(|(name, _)| name).filter(|name| store.get(name).is_some()).collect();
        if let Some(first) = left.first() {
            return Err(refuse(format!(
                "{} of its tensors belong to the network and would not be loaded, first {first}, because it is no whole network; name its encoders alone with init = {{ visual = \"..\", text = \"..\" }}",
                left.len()
            )));
        }
    }
    Ok(loads)
}
