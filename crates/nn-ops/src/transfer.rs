//! From a file with other names into a [`ParamStore`]: planned on names and shapes, then copied tensor by tensor.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};

use crate::interpolate::resize_bias_table;
use crate::load::LoadReport;
use crate::names::{Plan, fits};
use crate::params::ParamStore;

/// Tensors that can be read one at a time.
pub trait TensorSource {
    /// Names and shapes of all.
    fn shapes(&self) -> BTreeMap<String, Vec<usize>>;

    /// One of them.
    fn read(&self, name: &str) -> Result<Tensor>;
}

impl TensorSource for BTreeMap<String, Tensor> {
    fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.iter().map(|(name, t)| (name.clone(), t.dims().to_vec())).collect()
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        match self.get(name) {
            Some(tensor) => Ok(tensor.clone()),
            None => candle_core::bail!("there is no tensor {name}"),
        }
    }
}

/// Name ending of the tables that are resized to another window, as pretrained Swins are.
const TABLE: &str = "relative_position_bias_table";

/// A load that is decided but not done: nothing is changed before [`run`](Self::run).
pub struct Transfer<'a> {
    store: &'a ParamStore,
    source: &'a dyn TensorSource,
    steps: Vec<(String, Vec<String>)>,
    report: LoadReport,
}

impl<'a> Transfer<'a> {
    /// Decides what becomes of every name, for the part of `store` whose names begin with `into`. Names of the store that fit one
    /// of the plan's `lacks` patterns or of `apart` (after `into`) need not be in the file.
    pub fn plan(
        store: &'a ParamStore,
        into: &str,
        source: &'a dyn TensorSource,
        mut plan: Plan,
        apart: &[(&str, &str)],
    ) -> Self {
        let shapes = source.shapes();
        let ours: BTreeMap<String, Vec<usize>> =
            store.tensors().into_iter().map(|(name, t)| (name, t.dims().to_vec())).collect();
        let mut report = LoadReport::default();
        let mut steps = Vec::new();
        for (name, dims) in ours {
            let Some(inner) = name.strip_prefix(into) else { continue };
            let Some(sources) = plan.moves.remove(inner) else {
                let known = plan.lacks.iter().chain(apart).find(|(p, _)| fits(p, inner));
                match known {
                    Some((_, why)) => report.kept.push((name, (*why).to_owned())),
                    None => report.missing.push(name),
                }
                continue;
            };
            let found = joined(&sources, &shapes);
            if found == dims {
                report.loaded.push(name.clone());
                steps.push((name, sources));
            } else if let Some(how) = resized(&name, &found, &dims) {
                report.loaded.push(name.clone());
                report.adapted.push((name.clone(), how));
                steps.push((name, sources));
            } else {
                report.mismatched.push((name, dims, found));
            }
        }
        report.unexpected = plan.unexpected;
        report.unexpected.extend(plan.moves.into_values().flatten());
        report.ignored = plan.ignored;
        Self { store, source, steps, report }
    }

    /// What will be done.
    pub fn report(&self) -> &LoadReport {
        &self.report
    }

    /// Copies what the report calls loaded; one tensor is in memory beside the store at a time.
    ///
    /// # Errors
    /// When a tensor cannot be read; tensors before it are copied by then.
    pub fn run(self) -> Result<LoadReport> {
        for (name, sources) in &self.steps {
            let Some(var) = self.store.get(name) else { continue };
            let parts = sources.iter().map(|s| self.source.read(s)).collect::<Result<Vec<_>>>()?;
            let mut tensor = match parts.as_slice() {
                [one] => one.clone(),
                several => Tensor::cat(several, 0)?,
            };
            if tensor.dims() != var.dims() {
                tensor = resize_bias_table(&tensor, var.dims()[0].isqrt())?;
            }
            var.set(&tensor.to_dtype(var.dtype())?.to_device(var.device())?.contiguous()?)?;
        }
        Ok(self.report)
    }
}

/// Shape of the parts joined along the first axis; of the first alone where they do not fit together.
fn joined(sources: &[String], shapes: &BTreeMap<String, Vec<usize>>) -> Vec<usize> {
    let mut parts = sources.iter().map(|s| shapes.get(s).cloned().unwrap_or_default());
    let mut whole = parts.next().unwrap_or_default();
    for part in parts {
        if let (true, [first, ..]) = (part.get(1..) == whole.get(1..), whole.as_mut_slice()) {
            *first += part.first().copied().unwrap_or(0);
        }
    }
    whole
}

/// How a table of another window is made to fit.
fn resized(name: &str, from: &[usize], to: &[usize]) -> Option<String> {
    let (&[rows, heads], &[wanted, same]) = (from, to) else { return None };
    let side = |n: usize| Some(n.isqrt()).filter(|s| s * s == n && s % 2 == 1);
    let (a, b) = (side(rows)?, side(wanted)?);
    let fits = name.ends_with(TABLE) && heads == same;
    fits.then(|| {
        format!(
            "position tables resized bicubically from window {} to {}",
            a.div_ceil(2),
            b.div_ceil(2)
        )
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::names::{Scheme, To};
    use candle_core::{DType, Device};
    use candle_nn::Init;

    #[test]
    fn parts_are_joined_tables_resized_and_names_accounted_for() {
        let scheme = Scheme {
            name: "test",
            anchors: &["q"],
            rules: &[
                ("q", To::Part("qk", 0, 2)),
                ("k", To::Part("qk", 1, 2)),
                ("t.{p}", To::Name("t.{p}")),
                ("extra", To::Name("nowhere")),
            ],
            lacks: &[("norm", "such files have none")],
        };
        let store = ParamStore::new(1);
        let vb = store.builder(DType::F32, &Device::Cpu).pp("net");
        let init = Init::Const(0.0);
        vb.get_with_hints((4, 2), "qk", init).unwrap();
        vb.get_with_hints((9, 1), &format!("t.{TABLE}"), init).unwrap();
        vb.get_with_hints(3, "norm", init).unwrap();
        vb.get_with_hints(3, "gone", init).unwrap();
        let t = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
        let file: BTreeMap<String, Tensor> = [
            ("q", t(&[2, 2])),
            ("k", t(&[2, 2])),
            ("extra", t(&[1])),
            (&*format!("t.{TABLE}"), t(&[25, 1])),
        ]
        .into_iter()
        .map(|(n, t)| (n.to_owned(), t))
        .collect();
        let plan = scheme.plan(file.keys().map(String::as_str)).unwrap();
        let transfer = Transfer::plan(&store, "net.", &file, plan, &[]);
        let report = transfer.run().unwrap();
        assert_eq!(report.loaded, ["net.qk".to_owned(), format!("net.t.{TABLE}")]);
        assert_eq!(report.adapted.len(), 1);
        assert_eq!(report.missing, ["net.gone"]);
        assert_eq!(report.kept[0].0, "net.norm");
        assert_eq!(report.unexpected, ["extra"]);
        let sum = store.get("net.qk").unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert_eq!(sum, 8.0);
        let table = store.get(&format!("net.t.{TABLE}")).unwrap().flatten_all().unwrap();
        let values = table.to_vec1::<f32>().unwrap();
        assert!(values.iter().all(|v| (v - 1.0).abs() < 1e-6), "{values:?}");
        assert!(report.to_string().contains("window 3 to 2"), "{report}");
    }
}
