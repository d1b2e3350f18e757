//! PyTorch files of a directory: every tensor's type, size and bytes, foreign objects, and what the loaded network computes.
//!
//! A checkpoint's sidecar may lie beside `*forward*.safetensors` with `image`, `ids`, `attention` and `logits`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device, Tensor};
use dmmi_model::names::{Heads, RELEASE, infer};
use dmmi_model::{BackboneConfig, Dmmi, DmmiConfig};
use nn_ops::{ParamStore, Transfer};
use serde::Deserialize;
use serde_json::Value;
use torch_files::pickle::Node;
use torch_files::{TensorInfo, TorchFile};

use crate::cases::{Found, Kind};
use crate::golden::Golden;
use crate::noise::{Difference, FACTOR};
use crate::report::{Precision, Report};

/// Whether a file is part of a case of this kind.
pub(crate) fn belongs((path, json, kind): &Found, file: &Path) -> bool {
    match kind {
        Kind::Checkpoint => {
            files(path, json).iter().any(|f| f == file) || forward_of(path).as_deref() == Some(file)
        }
        Kind::Tensors => files(path, json).iter().any(|f| f == file),
        _ => false,
    }
}

/// Files the sidecar names, and those whose names go on where its own ends (`g5_ckpt` and `g5_ckpt_legacy.pth`).
fn files(sidecar: &Path, json: &Value) -> Vec<PathBuf> {
    let folder = sidecar.parent().unwrap_or(Path::new("."));
    let named = json.get("files").and_then(Value::as_array).into_iter().flatten();
    let named = named.filter_map(Value::as_str).map(|name| folder.join(name));
    let mut all: BTreeSet<PathBuf> = named.collect();
    let stem = sidecar.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let torch = path.extension().is_some_and(|e| e == "pth" || e == "pt" || e == "bin");
        let own = path.file_stem().is_some_and(|s| s.to_string_lossy().starts_with(&stem));
        if torch && own {
            all.insert(path);
        }
    }
    all.into_iter().collect()
}

/// The recorded forward pass of a checkpoint: `ckpt` in its name becomes `forward`, or the only one of the folder.
fn forward_of(sidecar: &Path) -> Option<PathBuf> {
    let stem = sidecar.file_stem()?.to_string_lossy().into_owned();
    let named = sidecar.with_file_name(format!("{}.safetensors", stem.replace("ckpt", "forward")));
    if stem.contains("ckpt") && named.is_file() {
        return Some(named);
    }
    let folder = std::fs::read_dir(sidecar.parent()?).ok()?.flatten().map(|entry| entry.path());
    let forward = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.contains("forward") && name.ends_with(".safetensors")
    };
    let mut found: Vec<PathBuf> = folder.filter(forward).collect();
    if found.len() == 1 { found.pop() } else { None }
}

/// What a sidecar says of a tensor.
#[derive(Clone, Debug, Deserialize)]
struct Described {
    dtype: String,
    shape: Vec<usize>,
    crc32: Option<u32>,
    values: Option<Vec<f64>>,
}

/// Why a tensor is not the one described.
fn fault(file: &TorchFile, info: &TensorInfo, described: &Described) -> Option<String> {
    let dtype = format!("torch.{}", info.dtype);
    if dtype != described.dtype || info.shape != described.shape {
        return Some(format!(
            "{dtype} {:?} where {} {:?} is recorded",
            info.shape, described.dtype, described.shape
        ));
    }
    if let Some(crc) = described.crc32 {
        match file.bytes(info).map(|bytes| crc32fast::hash(&bytes)) {
            Ok(found) if found == crc => {}
            Ok(found) => return Some(format!("CRC-32 {found} where {crc} is recorded")),
            Err(error) => return Some(error.to_string()),
        }
    }
    if let Some(expected) = &described.values {
        let values = file
            .tensor(info, &Device::Cpu)
            .map_err(anyhow::Error::from)
            .and_then(|t| Ok(t.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?));
        match values {
            Ok(values) if values == *expected => {}
            Ok(values) => return Some(format!("{values:?} where {expected:?} is recorded")),
            Err(error) => return Some(error.to_string()),
        }
    }
    None
}

/// Judges all tensors below `node` against a sidecar's entries, and that neither has more than the other.
fn compare(
    file: &TorchFile,
    node: Node<'_>,
    described: &BTreeMap<String, Described>,
    what: &str,
    report: &mut Report,
) -> Result<()> {
    let found: BTreeMap<String, TensorInfo> = file.tensors_in(node)?.into_iter().collect();
    let mut faults = 0;
    for (name, entry) in described {
        let why = match found.get(name) {
            None => Some("is not in the file".to_owned()),
            Some(info) => fault(file, info, entry),
        };
        if let Some(why) = why {
            faults += 1;
            report.miss(&format!("{what}.{name}"), why);
        }
    }
    for name in found.keys().filter(|name| !described.contains_key(*name)) {
        faults += 1;
        report.miss(&format!("{what}.{name}"), "is in the file, not recorded");
    }
    let title = format!("{what}: tensors of {} that differ", described.len());
    report.judge(&title, f64::from(faults), 0.0);
    Ok(())
}

fn title(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Files of odd tensors: the state dict may lie at the top or under `state_dict`.
pub(crate) fn tensors(golden: &Golden, path: &Path, report: &mut Report) -> Result<()> {
    let described: BTreeMap<String, Described> = golden.part("")?;
    let files = files(path, &golden.json);
    if files.is_empty() {
        bail!("no PyTorch file lies beside {}", path.display());
    }
    for path in files {
        let file = TorchFile::open(&path)?;
        let root = file.root();
        let inner = ["state_dict", "model"].iter().find_map(|key| root.get(key)).unwrap_or(root);
        compare(&file, inner, &described, &title(&path), report)?;
    }
    Ok(())
}

/// Checkpoints: tensors, what else lies in them, and the forward pass of the network they are of.
pub(crate) fn checkpoint(golden: &Golden, path: &Path, report: &mut Report) -> Result<()> {
    let files = files(path, &golden.json);
    if files.is_empty() {
        bail!("no PyTorch file lies beside {}", path.display());
    }
    for path in &files {
        let file = TorchFile::open(path)?;
        for part in ["model", "bert_model"] {
            let described: BTreeMap<String, Described> = golden.part(&format!("/{part}"))?;
            let node = file.root().get(part);
            let node = node.with_context(|| format!("{} has no {part}", path.display()))?;
            compare(&file, node, &described, &format!("{} {part}", title(path)), report)?;
        }
        others(golden, &file, path, report)?;
    }
    match forward_of(path) {
        Some(forward) => {
            let recorded = Golden::open(&forward.with_extension("json"), Value::Null, true)?;
            for path in &files {
                self::forward(&recorded, path, report)?;
            }
        }
        None => report.remark("  no recorded forward pass"),
    }
    Ok(())
}

/// Optimiser, arguments, counters: whatever the sidecar records of them.
fn others(golden: &Golden, file: &TorchFile, path: &Path, report: &mut Report) -> Result<()> {
    let root = file.root();
    let recorded = [
        ("/optimizer_state", root.get("optimizer").and_then(|o| o.get("state"))),
        ("/optimizer_param_groups", root.get("optimizer").and_then(|o| o.get("param_groups"))),
        ("/epoch", root.get("epoch")),
        ("/args", root.get("args")),
        ("/lr_scheduler", root.get("lr_scheduler")),
    ];
    for (pointer, node) in recorded {
        let Some(expected) = golden.json.pointer(pointer) else { continue };
        let what = format!("{} {}", title(path), &pointer[1..]);
        let mut faults = Vec::new();
        match node {
            Some(node) => differ(file, node, expected, String::new(), &mut faults)?,
            None => faults.push("is not in the file".into()),
        }
        faults.iter().take(5).for_each(|why| report.miss(&what, why));
        report.judge(&format!("{what}: values that differ"), faults.len() as f64, 0.0);
    }
    Ok(())
}

/// Compares pickled data with JSON. A tensor may stand for a number and the other way round: the step counts of the optimiser
/// are either, depending on PyTorch's version.
fn differ(
    file: &TorchFile,
    node: Node<'_>,
    expected: &Value,
    at: String,
    faults: &mut Vec<String>,
) -> Result<()> {
    if let Some(info) = file.tensor_at(node)? {
        match Described::deserialize(expected) {
            Ok(described) => {
                faults.extend(fault(file, &info, &described).map(|why| format!("{at}: {why}")));
            }
            Err(_) => faults.push(format!("{at}: a tensor where {expected} is recorded")),
        }
        return Ok(());
    }
    match expected {
        Value::Object(entries) if entries.contains_key("crc32") => {
            let first = entries.get("first").and_then(|f| f.get(0)).and_then(Value::as_f64);
            if first.is_none() || node.as_f64() != first {
                faults.push(format!("{at}: {} where {expected} is recorded", node.describe()));
            }
        }
        Value::Object(entries) => {
            let dict = node.attributes().filter(|_| node.entries().is_none()).unwrap_or(node);
            for (key, expected) in entries {
                let entry = dict.get(key).or_else(|| {
                    let number = key.parse::<i64>().ok()?;
                    dict.entries()?.find(|(k, _)| k.as_i64() == Some(number)).map(|(_, v)| v)
                });
                match entry {
                    Some(entry) => differ(file, entry, expected, format!("{at}.{key}"), faults)?,
                    None => faults.push(format!("{at}.{key} is not in the file")),
                }
            }
        }
        Value::Array(elements) => {
            let found: Vec<Node<'_>> = node.elements().into_iter().flatten().collect();
            if found.len() != elements.len() {
                faults.push(format!("{at}: {} elements, {} recorded", found.len(), elements.len()));
            }
            for (i, (node, expected)) in found.into_iter().zip(elements).enumerate() {
                differ(file, node, expected, format!("{at}.{i}"), faults)?;
            }
        }
        Value::Null if node.is_none() => {}
        Value::Bool(flag) if node.as_bool() == Some(*flag) => {}
        Value::Number(number) if node.as_f64() == number.as_f64() => {}
        Value::String(text) if node.as_str() == Some(text) => {}
        other => faults.push(format!("{at}: {} where {other} is recorded", node.describe())),
    }
    Ok(())
}

/// The loaded network against the recorded logits. The files do not tell the numbers of attention heads: those of the release
/// come first, then whatever divides the channels; the best is taken, and named.
fn forward(recorded: &Golden, path: &Path, report: &mut Report) -> Result<()> {
    let source = Tensors::open(path)?;
    let names: Vec<&str> = source.infos.keys().map(String::as_str).collect();
    let plan = RELEASE.plan(names).context("the file is no checkpoint of DMMI")?;
    let shape_of = |sources: &Vec<String>| Some(source.infos.get(sources.first()?)?.shape.clone());
    let shapes: BTreeMap<String, Vec<usize>> =
        plan.moves.iter().filter_map(|(to, from)| Some((to.clone(), shape_of(from)?))).collect();
    let width = shapes.get("bert_model.embeddings.word_embeddings.weight").map_or(0, |s| s[1]);
    let divisors: Vec<usize> = (1..=width).filter(|n| width.is_multiple_of(*n)).collect();
    let decoder = if width.is_multiple_of(8) { vec![8] } else { divisors.clone() };
    let text = match infer(&shapes, Heads::default()) {
        Ok(cfg) => vec![cfg.text.num_heads],
        Err(_) => divisors,
    };
    let mut best: Option<(Heads, f64, f64)> = None;
    let mut closest = f64::INFINITY;
    for (text, decoder) in text.iter().flat_map(|t| decoder.iter().map(move |d| (*t, *d))) {
        let heads = Heads { text: Some(text), decoder: Some(decoder) };
        let cfg = still(infer(&shapes, heads).map_err(anyhow::Error::msg)?);
        let exact = logits(&cfg, &source, &plan, recorded, DType::F64)?;
        let stored = &recorded.tensor("logits")?.values;
        let found = Difference::between(&exact, stored);
        if found.relative_rms < closest {
            closest = found.relative_rms;
            // The case records no noise, and its logits are those of a float32 run: what single precision costs is measured
            // on our own network.
            let single = logits(&cfg, &source, &plan, recorded, DType::F32)?;
            let noise = Difference::between(&single, &exact).relative_rms;
            let found = match report.precision {
                Precision::F64 => found,
                Precision::F32 | Precision::Bf16 => Difference::between(&single, stored),
            };
            best = Some((heads, found.relative_rms, noise));
        }
    }
    let (heads, found, noise) = best.context("no number of heads divides the channels")?;
    report.remark(format!(
        "  {}: {} text heads, {} decoder heads",
        title(path),
        heads.text.unwrap_or(0),
        heads.decoder.unwrap_or(0)
    ));
    let tolerance = FACTOR * noise.max(f64::from(f32::EPSILON));
    report.judge(&format!("{} logits rms", title(path)), found, tolerance);
    Ok(())
}

/// Without anything random.
fn still(mut cfg: DmmiConfig) -> DmmiConfig {
    cfg.decoder.dropout = 0.0;
    if let BackboneConfig::Swin(swin) = &mut cfg.backbone {
        swin.drop_path = 0.0;
    }
    cfg
}

fn logits(
    cfg: &DmmiConfig,
    source: &Tensors,
    plan: &nn_ops::names::Plan,
    recorded: &Golden,
    dtype: DType,
) -> Result<Vec<f64>> {
    let device = &Device::Cpu;
    let store = ParamStore::new(0);
    Dmmi::new(cfg, store.builder(dtype, device))?;
    let transfer = Transfer::plan(&store, "", source, plan.clone(), &[]);
    transfer.run()?.strict()?;
    let model = Dmmi::new(cfg, store.frozen(dtype, device))?;
    let input = |name: &str, dtype: DType| -> Result<Tensor> {
        let stored = recorded.tensor(name)?;
        let t = Tensor::from_vec(stored.values.clone(), stored.shape.as_slice(), device)?;
        Ok(t.to_dtype(dtype)?)
    };
    let (image, ids) = (input("image", dtype)?, input("ids", DType::U32)?);
    let out = model.segment(&image, &ids, &input("attention", DType::U32)?)?;
    Ok(crate::tensors::values(&out)?)
}

/// The tensors of a file as a source of weights.
struct Tensors {
    file: TorchFile,
    infos: BTreeMap<String, TensorInfo>,
}

impl Tensors {
    fn open(path: &Path) -> Result<Self> {
        let file = TorchFile::open(path)?;
        let infos = file.tensors()?.into_iter().collect();
        Ok(Self { file, infos })
    }
}

impl nn_ops::TensorSource for Tensors {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.infos.iter().map(|(name, info)| (name.clone(), info.shape.clone())).collect()
    }

    fn read(&self, name: &str) -> candle_core::Result<Tensor> {
        match self.infos.get(name) {
            Some(info) => self.file.tensor(info, &Device::Cpu).map_err(candle_core::Error::wrap),
            None => candle_core::bail!("there is no tensor {name}"),
        }
    }
}
