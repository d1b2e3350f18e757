//! Training mode: losses, gradients, parameter changes and running statistics of the first steps.

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Result, ensure};
use candle_core::{DType, Tensor, Var};
use dmmi_model::{Dmmi, LossConfig, LossTerms, Targets};
use dmmi_train::{OptimizerConfig, PolyDecay, param_groups};
use nn_ops::{AdamW, AdamWConfig, Gradients, Mode, Noise, ParamGroup, ParamStore, Probe, Tape};

use crate::eval::{Inputs, integers, noise_of};
use crate::golden::{Golden, Stored};
use crate::hash::hash_values;
use crate::layout::Slice;
use crate::noise::{Difference, FACTOR, ROUNDING, quantile, scale, tolerance};
use crate::report::{Precision, Report};
use crate::rows::{Allowance, Row, Table};
use crate::sidecar::{Param, Sidecar, Train};
use crate::summary::{Elements, RowDistance, WIDTH, expect_columns, summarise};
use crate::tensors::{judge_tensor, values};

/// Names of our optimiser groups, by the reference's group number.
const GROUPS: [&str; 5] = ["backbone, no decay", "backbone", "classifier", "contrastive", "text"];

/// A loss term and its column.
const LOSSES: [&str; 4] = ["segmentation", "similarity", "contrastive", "total"];

struct Run<'a> {
    golden: &'a Golden,
    sidecar: &'a Sidecar,
    train: &'a Train,
    store: &'a ParamStore,
}

/// Trains the model in `store` for the recorded steps and judges everything on the way.
pub(crate) fn run(
    golden: &Golden,
    sidecar: &Sidecar,
    store: &ParamStore,
    model: &Dmmi,
    dtype: DType,
    report: &mut Report,
) -> Result<()> {
    let Some(train) = &sidecar.train else { return Ok(()) };
    expect_columns(&train.summary_columns, "train.summary_columns")?;
    Run { golden, sidecar, train, store }.steps(model, dtype, report)
}

impl Run<'_> {
    fn steps(&self, model: &Dmmi, dtype: DType, report: &mut Report) -> Result<()> {
        let (golden, train) = (self.golden, self.train);
        let losses = golden.tensor("train.losses")?;
        let steps = losses.shape.first().map_or(0, |rows| rows.saturating_sub(1));
        losses.expect_matrix("train.losses", steps + 1, LOSSES.len())?;
        let inputs = Inputs::of(golden, self.sidecar, train.size, dtype, &report.device)?;
        let device = report.device.clone();
        let get = |part: &str| {
            integers(golden, &format!("s{}.in.{part}", train.size), DType::U8, &device)
        };
        let targets = Targets { masks: get("target")?, has_target: get("target_flag")? };
        let batch = inputs.batch(&inputs.masked_ids);
        let schedule = self.learning_rates(report);
        let mut optimizer = AdamW::new(
            self.groups(report),
            AdamWConfig {
                beta1: train.adamw.betas[0],
                beta2: train.adamw.betas[1],
                eps: train.adamw.eps,
            },
        )?;
        let gradients = self.table("grad", Elements::Rms, false)?;
        let mut curve = Vec::new();
        // Dropout and stochastic depth are 0, so nothing is drawn.
        let nothing = Noise::new(0, 0);
        for step in 0..=steps {
            let mut probe = if step == 0 { Probe::recording() } else { Probe::off() };
            let _tape = Tape::begin();
            let out = model.forward_probed(&batch, Mode::Train(&nothing), &mut probe)?;
            if step == 0 {
                self.first_logits(&probe.into_seen(), report)?;
            }
            let release = LossConfig::release();
            let terms = LossTerms::of(&out, &targets, &release)?;
            let total = terms.total(&release)?;
            let mut row = [0.0; 4];
            for (value, t) in row.iter_mut().zip([
                &terms.segmentation,
                &terms.similarity,
                &terms.contrastive,
                &total,
            ]) {
                *value = t.to_dtype(DType::F64)?.to_scalar()?;
            }
            curve.push(row);
            self.buffers(step + 1, report)?;
            if step == steps {
                break;
            }
            let grads = Gradients::of(&total, &self.store.parameters())?;
            drop((out, terms, total));
            if step == 0 {
                self.gradients(&gradients, &grads, report)?;
            }
            optimizer.step(&grads, schedule.lr(step))?;
            drop(grads);
            self.changes(step + 1, report)?;
        }
        self.losses(losses, &curve, report)
    }

    /// Logits in training mode, before the first step. Their noise is recorded for evaluation only.
    fn first_logits(&self, seen: &BTreeMap<String, Tensor>, report: &mut Report) -> Result<()> {
        let name = "train.logits";
        let Some(stored) = self.golden.tensors.get(name) else { return Ok(()) };
        let noise = noise_of(&self.sidecar.stage_noise, &format!("s{}.logits", self.train.size));
        Ok(judge_tensor(report, name, seen.get("logits"), stored, &Slice::default(), noise)?)
    }

    /// The schedule, judged against the rates that were used.
    fn learning_rates(&self, report: &mut Report) -> PolyDecay {
        let (adamw, poly) = (&self.train.adamw, self.train.poly);
        let schedule =
            PolyDecay { base: adamw.lr, total: poly.total_iters, power: poly.power, warmup: 0 };
        for (step, lr) in self.train.lr_used.iter().enumerate() {
            let error = (schedule.lr(step) - lr).abs() / scale(*lr, adamw.lr);
            report.judge(&format!("train.lr step {step}"), error, FACTOR * f64::EPSILON);
        }
        schedule
    }

    /// Our optimiser groups, judged against the recorded ones.
    fn groups(&self, report: &mut Report) -> Vec<ParamGroup> {
        let adamw = &self.train.adamw;
        let cfg = OptimizerConfig {
            lr: adamw.lr,
            weight_decay: adamw.weight_decay,
            betas: adamw.betas,
            eps: adamw.eps,
            ..OptimizerConfig::release()
        };
        let groups = param_groups(self.store.parameters(), &cfg);
        let ours: BTreeMap<&str, i64> = groups
            .iter()
            .flat_map(|group| {
                let number =
                    GROUPS.iter().position(|g| *g == group.name).map_or(i64::MAX, |i| i as i64);
                group.params.iter().map(move |(name, _)| (name.as_str(), number))
            })
            .collect();
        let known = || self.train.params.iter().filter(|p| self.store.get(&p.name).is_some());
        for (number, title) in (-1..).zip(std::iter::once("not optimised").chain(GROUPS)) {
            let differs = |p: &&Param| {
                let ours = ours.get(p.name.as_str()).copied().unwrap_or(-1);
                (ours == number) != (p.group == number)
            };
            let wrong = known().filter(differs).count();
            report.judge(
                &format!("train.group {number} ({title}): parameters that differ"),
                wrong as f64,
                0.0,
            );
        }
        groups
    }

    /// The rows of one parameter table that can be compared; of the optimised parameters only, for changes.
    fn table(&self, kind: &str, how: Elements, changes: bool) -> Result<Table<'_>> {
        let params = &self.train.params;
        let stored = |name: String| -> Result<&Stored> {
            let table = self.golden.tensor(&name)?;
            table.expect_matrix(&name, params.len(), WIDTH)?;
            Ok(table)
        };
        let reference = stored(format!("train.{kind}_summary"))?;
        let torch_f32 = stored(format!("train.{kind}_summary_torch_f32"))?;
        let rows =
            params.iter().enumerate().filter(|(_, p)| p.has_grad && !p.zero_grad_by_invariance);
        let rows = rows.filter(|(_, p)| !changes || p.group >= 0).map(|(i, p)| {
            let (undefined, allowance) = match changes {
                true => self.without_true_gradient(p),
                false => (Vec::new(), Allowance::None),
            };
            let name = format!("{kind} {}", p.name);
            Row {
                name,
                n: p.elements(),
                reference: reference.row(i),
                torch_f32: torch_f32.row(i),
                undefined,
                allowance,
            }
        });
        Ok(Table::new(rows.collect(), how))
    }

    fn gradients(&self, table: &Table, grads: &Gradients, report: &mut Report) -> Result<()> {
        let params = &self.train.params;
        let torch_f32 = self.golden.tensor("train.grad_summary_torch_f32")?;
        let reference = self.golden.tensor("train.grad_summary")?;
        // True gradient zero: PyTorch's own result is rounding noise. In f64, that of its f64 run.
        let noise_rows = if report.precision == Precision::F64 { reference } else { torch_f32 };
        let invariant = || params.iter().enumerate().filter(|(_, p)| p.zero_grad_by_invariance);
        let rms = |i: usize, p: &Param| noise_rows.row(i)[0] / (p.elements() as f64).sqrt();
        let floor = quantile(invariant().map(|(i, p)| rms(i, p)), 1.0);
        let (mut rows, mut ignored) = (0, 0);
        let mut squares = 0.0;
        for (i, p) in params.iter().enumerate() {
            let at = rows;
            rows += usize::from(p.has_grad && !p.zero_grad_by_invariance);
            let name = format!("grad {}", p.name);
            if self.store.get(&p.name).is_none() {
                ignored += 1;
                continue;
            }
            let Some(grad) = grads.get(&p.name) else {
                match p.has_grad {
                    true => report.miss(&name, "no gradient reaches it here"),
                    false => report.judge(&format!("{name}: none"), 0.0, 0.0),
                }
                continue;
            };
            let ours = values(grad)?;
            let row = summarise(&ours, &p.name);
            squares += row[0] * row[0];
            if !p.has_grad {
                report.judge(&format!("{name}: none"), row[0], 0.0);
            } else if p.zero_grad_by_invariance {
                let n = (p.elements() as f64).sqrt();
                report.judge(
                    &format!("{name} (true value 0) rms"),
                    row[0] / n,
                    FACTOR * rms(i, p).max(floor),
                );
            } else {
                table.judge(at, &row, report);
                if let Some(full) = self.golden.tensors.get(&format!("train.grad.{}", p.name)) {
                    let error =
                        Difference::between(&ours, &full.values).relative_rms / table.scale(at);
                    let allowed = tolerance(table.element_noise(), report.precision);
                    report.judge(&format!("{name} in full, rms"), error, allowed);
                }
            }
        }
        if ignored > 0 {
            report.remark(format!(
                "  {ignored} parameters of the table are dead copies that our model does not have"
            ));
        }
        if let Some(expected) = self.train.total_grad_l2 {
            let error = (squares.sqrt() - expected).abs() / expected;
            report.judge("grad: norm of all", error, tolerance(table.usual().l2, report.precision));
        }
        Ok(())
    }

    /// Parameters after `steps` steps, as their change from the first values.
    fn changes(&self, steps: usize, report: &mut Report) -> Result<()> {
        let kind = format!("delta{steps}");
        if !self.golden.tensors.contains_key(&format!("train.{kind}_summary")) {
            return Ok(());
        }
        let table = self.table(&kind, Elements::Median, true)?;
        let entries: BTreeMap<&str, _> =
            self.sidecar.weights.table.iter().map(|e| (e.name.as_str(), e)).collect();
        let (mut rows, mut skipped) = (0, 0);
        for p in &self.train.params {
            let compared = p.has_grad && !p.zero_grad_by_invariance && p.group >= 0;
            let at = rows;
            rows += usize::from(compared);
            let (Some(var), Some(entry)) = (self.store.get(&p.name), entries.get(p.name.as_str()))
            else {
                continue;
            };
            if p.zero_grad_by_invariance {
                skipped += 1;
                continue;
            }
            let change = change(
                &var,
                &hash_values(
                    &p.name,
                    self.sidecar.weights.seed,
                    entry.base,
                    entry.scale,
                    p.elements(),
                ),
            )?;
            let row = summarise(&change, &p.name);
            if compared {
                table.judge(at, &row, report);
            } else {
                report.judge(&format!("{kind} {}: unchanged", p.name), row[0], 0.0);
            }
        }
        if skipped > 0 {
            report.remark(format!("  {kind}: {skipped} parameters with a true gradient of 0 not compared (Adam moves them by rounding noise)"));
        }
        Ok(())
    }

    /// Elements whose true gradient is zero, so that Adam moves them by rounding noise: the keys' third of a `qkv` bias,
    /// the padding word, and whatever else is zero to f32 precision where the whole gradient is stored.
    fn without_true_gradient(&self, p: &Param) -> (Vec<Range<usize>>, Allowance) {
        let third = p.elements() / 3;
        // softmax ignores what is added to all scores of a query.
        if p.name.ends_with("attn.qkv.bias") || p.name.ends_with("in_proj_bias") {
            return (std::iter::once(third..2 * third).collect(), Allowance::NoTotals);
        }
        if p.name.ends_with("word_embeddings.weight") {
            return (
                std::iter::once(0..p.shape.last().copied().unwrap_or(0)).collect(),
                Allowance::NoTotals,
            );
        }
        let Some(full) = self.golden.tensors.get(&format!("train.grad.{}", p.name)) else {
            return (Vec::new(), Allowance::None);
        };
        let n = full.values.len().max(1) as f64;
        let rms = (full.values.iter().map(|g| g * g).sum::<f64>() / n).sqrt();
        let zero = full.values.iter().enumerate().filter(|(_, g)| g.abs() <= ROUNDING * rms);
        let zero: Vec<Range<usize>> = zero.map(|(i, _)| i..i + 1).collect();
        let count = zero.len();
        (zero, if count > 0 { Allowance::Elements(count) } else { Allowance::None })
    }

    /// Running statistics after `steps` forward passes.
    fn buffers(&self, steps: usize, report: &mut Report) -> Result<()> {
        let names = &self.train.buffer_rows;
        let suffix = format!("@{steps}");
        if !names.iter().any(|n| n.ends_with(&suffix)) {
            return Ok(());
        }
        let reference = self.golden.tensor("train.buffer_summary")?;
        let torch_f32 = self.golden.tensor("train.buffer_summary_torch_f32")?;
        reference.expect_matrix("train.buffer_summary", names.len(), WIDTH)?;
        torch_f32.expect_matrix("train.buffer_summary_torch_f32", names.len(), WIDTH)?;
        let mut rows = Vec::new();
        let mut ours = Vec::new();
        for (i, full) in names.iter().enumerate() {
            let Some(name) = full.strip_suffix(&suffix) else { continue };
            let Some(var) = self.store.get(name) else {
                report.miss(&format!("buffer {full}"), "our model has no such buffer");
                continue;
            };
            let now = values(var.as_tensor())?;
            rows.push(Row {
                name: format!("buffer {full}"),
                n: now.len(),
                reference: reference.row(i),
                torch_f32: torch_f32.row(i),
                undefined: Vec::new(),
                allowance: self.drift(reference, name, i, now.len())?,
            });
            ours.push(summarise(&now, name));
        }
        let table = Table::new(rows, Elements::Rms);
        for (i, row) in ours.iter().enumerate() {
            table.judge(i, row, report);
        }
        Ok(())
    }

    /// After the first step running statistics follow the parameters: how far they went since, times the relative noise of
    /// the recorded parameter changes, is noise too.
    fn drift(&self, reference: &Stored, name: &str, now: usize, n: usize) -> Result<Allowance> {
        let names = &self.train.buffer_rows;
        let first = names.iter().position(|row| row.strip_suffix("@1") == Some(name));
        let steps = names[now].rsplit('@').next().unwrap_or_default();
        let kind = format!("delta{steps}");
        match first {
            Some(first)
                if first != now
                    && self.golden.tensors.contains_key(&format!("train.{kind}_summary")) =>
            {
                let went = RowDistance::between(
                    reference.row(first),
                    reference.row(now),
                    n,
                    Elements::Rms,
                    |_| false,
                );
                let changes = self.table(&kind, Elements::Median, true)?;
                Ok(Allowance::Noise(went.elements * changes.usual().elements))
            }
            _ => Ok(Allowance::None),
        }
    }

    /// Losses before each step and after the last. Noise grows with the steps: the path of the loss, times the relative
    /// noise of the recorded parameter changes, is the floor. All of it relative to the loss; where that is 0, to the total.
    fn losses(&self, reference: &Stored, ours: &[[f64; 4]], report: &mut Report) -> Result<()> {
        let torch_f32 = self.golden.tensor("train.losses_torch_f32")?;
        torch_f32.expect_matrix("train.losses_torch_f32", ours.len(), LOSSES.len())?;
        let mut change_noise = 0.0_f64;
        let (mut path, mut so_far) = ([0.0; 4], 0.0_f64);
        for (step, ours) in ours.iter().enumerate() {
            let (row, noise) = (reference.row(step), torch_f32.row(step));
            // The step's deltas, or those of the next step that was stored.
            let stored = (step.max(1)..=reference.shape[0]).map(|k| format!("delta{k}"));
            let next = stored
                .into_iter()
                .find(|k| self.golden.tensors.contains_key(&format!("train.{k}_summary")));
            if let (Some(kind), true) = (next, step > 0) {
                change_noise =
                    change_noise.max(self.table(&kind, Elements::Median, true)?.usual().l2);
            }
            let scale = |k: usize| scale(row[k], row[3]);
            let relative = |k: usize| (noise[k] - row[k]).abs() / scale(k);
            so_far = so_far.max((0..4).map(relative).fold(0.0, f64::max));
            for (k, title) in LOSSES.iter().enumerate() {
                if step > 0 {
                    path[k] += (row[k] - reference.row(step - 1)[k]).abs();
                }
                let error = (ours[k] - row[k]).abs() / scale(k);
                let floor = path[k] * change_noise / scale(k);
                let at = if step + 1 == reference.shape[0] {
                    format!("after step {step}")
                } else {
                    format!("before step {step}")
                };
                report.judge(
                    &format!("train.loss {title} {at}"),
                    error,
                    tolerance(so_far.max(floor), report.precision),
                );
            }
        }
        Ok(())
    }
}

fn change(var: &Var, first: &[f32]) -> Result<Vec<f64>> {
    let mut now = values(var.as_tensor())?;
    ensure!(
        now.len() == first.len(),
        "the weight table has {} elements, ours {}",
        first.len(),
        now.len()
    );
    now.iter_mut().zip(first).for_each(|(now, first)| *now -= f64::from(*first));
    Ok(now)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::golden::read_json;
    use crate::report::Printing;

    fn golden() -> Result<(Golden, Sidecar)> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/g1_tiny_swin.json");
        let golden = Golden::open(path.as_ref(), read_json(path.as_ref())?, true)?;
        let sidecar = golden.part("")?;
        Ok((golden, sidecar))
    }

    fn report() -> Report {
        Report::new(Precision::F32, None, Printing::Nothing)
    }

    #[test]
    fn losses_and_rates_may_be_zero() -> Result<()> {
        let (mut golden, mut sidecar) = golden()?;
        for name in ["train.losses", "train.losses_torch_f32"] {
            let table = golden.tensors.get_mut(name).expect("stored");
            table.values.iter_mut().skip(2).step_by(LOSSES.len()).for_each(|loss| *loss = 0.0);
        }
        let train = sidecar.train.as_mut().expect("trained");
        train.poly.total_iters = 1;
        train.lr_used = vec![train.adamw.lr, 0.0];
        let (train, store) = (sidecar.train.as_ref().expect("trained"), ParamStore::new(0));
        let run = Run { golden: &golden, sidecar: &sidecar, train, store: &store };
        let losses = golden.tensor("train.losses")?;
        let mut ours: Vec<[f64; 4]> =
            losses.values.chunks_exact(4).map(|row| [row[0], row[1], row[2], row[3]]).collect();
        let mut found = report();
        run.learning_rates(&mut found);
        run.losses(losses, &ours, &mut found)?;
        assert_eq!((found.lines.len(), found.misses()), (2 + losses.values.len(), 0));
        ours[0][2] = 0.1 * ours[0][3];
        run.losses(losses, &ours, &mut found)?;
        assert_eq!(found.misses(), 1);
        Ok(())
    }

    #[test]
    fn a_missing_gradient_does_not_shift_the_rows_after_it() -> Result<()> {
        let (golden, sidecar) = golden()?;
        let train = sidecar.train.as_ref().expect("trained");
        let full = |p: &Param| golden.tensors.get(&format!("train.grad.{}", p.name));
        let compared = || train.params.iter().filter(|p| p.has_grad && !p.zero_grad_by_invariance);
        let lost = compared().next().expect("one");
        let kept = compared().skip(1).find(|p| full(p).is_some()).expect("one in full");
        let store = ParamStore::new(0);
        let vb = store.builder(DType::F32, &Device::Cpu);
        for p in [lost, kept] {
            vb.get(p.shape.clone(), &p.name)?;
        }
        let values = full(kept).expect("stored").values.clone();
        let grad = Tensor::from_vec(values, kept.shape.clone(), &Device::Cpu)?;
        let grads = Gradients::from_map([(kept.name.clone(), grad)].into());
        let run = Run { golden: &golden, sidecar: &sidecar, train, store: &store };
        let mut found = report();
        run.gradients(&run.table("grad", Elements::Rms, false)?, &grads, &mut found)?;
        let of = |name: &str| {
            let name = format!("grad {name}");
            found.lines.iter().filter(move |line| line.name.starts_with(&name)).collect::<Vec<_>>()
        };
        assert!(of(&lost.name).len() == 1 && !of(&lost.name)[0].ok);
        assert!(of(&kept.name).len() > 1 && of(&kept.name).iter().all(|line| line.ok));
        Ok(())
    }
}
