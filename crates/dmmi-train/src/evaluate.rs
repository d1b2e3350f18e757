//! A network and a split to the RIS and GRES tables (spec section 9), at model size and at original size, with a record a sample.
//!
//! The mask is the argmax of the two classes. At *model size* it is compared with the truth resized by nearest neighbour, as
//! the released `test.py` does. At *original size* the difference of the two logits is resized bilinearly to the picture's own size
//! (`align_corners = false`: pixel centres, as pictures are resized) and compared with the annotation itself.
//! A sample is answered ("found") when any pixel is foreground; ties go to the background, as PyTorch's argmax does.

use std::collections::BTreeMap;
use std::time::Instant;

use candle_core::{DType, Device, IndexOp, Tensor};
use dmmi_model::Dmmi;
use metrics::{GresReport, KindReport, Overlap, RisReport};
use nn_ops::{Align, Replayed, Uploader, resize_bilinear};
use refzom_dataset::Sample;
use serde::{Deserialize, Serialize};

use crate::config::Score;
use crate::data::Split;
use crate::error::{Error, Result};

/// Scores of a split, and what they were computed from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Name of the split.
    pub split: String,
    /// `[height, width]` of the network's input, pixels.
    pub model_size: [usize; 2],
    /// Tables at model size: of `all` samples, and of those with `zero`, `one` or `many` targets, where there are any.
    pub at_model_size: BTreeMap<String, Tables>,
    /// The same at each picture's own size, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_original_size: Option<BTreeMap<String, Tables>>,
    /// One record an expression, in the split's order.
    pub records: Vec<Record>,
    /// Wall time, seconds.
    pub seconds: f64,
}

/// Both protocols over one group of samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tables {
    /// Samples in the group.
    pub samples: u64,
    /// oIoU, mIoU, Prec@0.5-0.9 over targeted samples, Acc over zero-target ones.
    pub ris: RisReport,
    /// gIoU, cIoU, N-acc, T-acc, Pr@0.7-0.9.
    pub gres: GresReport,
}

impl Tables {
    /// Names and values (0-1) of the RIS protocol's columns; none where no sample of the group counts.
    pub fn ris_scores(&self) -> Vec<(&'static str, Option<f64>)> {
        let ris = &self.ris;
        let mut scores = vec![("oIoU", ris.overall_iou), ("mIoU", ris.mean_iou)];
        scores.extend(["P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9"].into_iter().zip(ris.precision));
        scores.push(("Acc", ris.zero_accuracy));
        scores
    }

    /// The same of the GRES protocol.
    pub fn gres_scores(&self) -> Vec<(&'static str, Option<f64>)> {
        let gres = &self.gres;
        let mut scores = vec![
            ("gIoU", gres.g_iou),
            ("cIoU", gres.c_iou),
            ("N-acc", gres.no_target_accuracy),
            ("T-acc", gres.target_accuracy),
        ];
        scores.extend(["Pr@0.7", "Pr@0.8", "Pr@0.9"].into_iter().zip(gres.precision));
        scores
    }

    /// The headline numbers.
    pub fn summary(&self) -> Summary {
        Summary {
            overall_iou: self.ris.overall_iou,
            mean_iou: self.ris.mean_iou,
            zero_accuracy: self.ris.zero_accuracy,
            giou: self.gres.g_iou,
            ciou: self.gres.c_iou,
        }
    }
}

impl From<KindReport> for Tables {
    fn from(report: KindReport) -> Self {
        Self { samples: report.samples, ris: report.ris, gres: report.gres }
    }
}

/// One expression and how it was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Position in the split.
    pub index: usize,
    /// Id of the sentence in the refs file.
    pub id: i64,
    /// The picture's file.
    pub image: String,
    /// The expression.
    pub expression: String,
    /// `zero`, `one` or `many`.
    pub kind: String,
    /// Whether anything was marked, at model size.
    pub found: bool,
    /// Largest foreground probability of a pixel, 0-1.
    pub confidence: f32,
    /// Intersection over union at model size, 0-1; none for zero-target samples.
    pub iou: Option<f64>,
    /// Pixel counts at model size.
    pub model: Overlap,
    /// Pixel counts at original size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original: Option<Overlap>,
}

/// The numbers an epoch's line shows, at model size over all samples; 0-1, none where no sample counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Pixel-summed IoU of targeted samples.
    pub overall_iou: Option<f64>,
    /// Mean IoU of targeted samples.
    pub mean_iou: Option<f64>,
    /// Share of zero-target samples with no foreground pixel.
    pub zero_accuracy: Option<f64>,
    /// GRES mean IoU.
    pub giou: Option<f64>,
    /// GRES pixel-summed IoU.
    pub ciou: Option<f64>,
}

impl Summary {
    /// The score that chooses checkpoints; none when the split has no sample it counts.
    pub fn score(&self, by: Score) -> Option<f64> {
        match by {
            Score::OverallIou => self.overall_iou,
            Score::MeanIou => self.mean_iou,
            Score::Giou => self.giou,
            Score::Ciou => self.ciou,
            Score::Balanced => {
                let known: Vec<f64> = [self.overall_iou, self.mean_iou, self.zero_accuracy]
                    .into_iter()
                    .flatten()
                    .collect();
                (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
            }
        }
    }
}

impl Evaluation {
    /// The headline numbers at model size.
    pub fn summary(&self) -> Summary {
        self.at_model_size.get(ALL).map(Tables::summary).unwrap_or_default()
    }
}

const ALL: &str = "all";

/// Scores `model` on every sample of `split`; `original` adds the tables at original size.
///
/// Give it the detached network ([`Network::eval`](crate::Network)): one that records a graph needs many times the memory.
/// `progress` is told `(done, total)` after each batch and may end the evaluation with an error.
///
/// # Errors
/// What reading the split or `progress` answers, [`Error::NonFiniteOutput`] naming the first such sentence (see
/// [`Error::of_checkpoint`]), or no memory.
pub fn evaluate(
    model: &Dmmi,
    device: &Device,
    split: &Split,
    original: bool,
    progress: &mut dyn FnMut(usize, usize) -> Result<()>,
) -> Result<Evaluation> {
    let clock = Instant::now();
    let total = split.len();
    let mut records = Vec::with_capacity(total);
    progress(0, total)?;
    let mut uploader = Uploader::new(device);
    let mut segment = Replayed::new(|x| model.segment(&x[0], &x[1], &x[2]));
    for batch in split.epoch(0, 0)? {
        let batch = batch?;
        let placed = uploader.upload(&[&batch.images, &batch.ids, &batch.attention])?;
        let logits = segment.call(&placed)?;
        let margin = margins(&logits)?; // (B, H, W) on the CPU
        let (b, h, w) = margin.dims3()?;
        let truth = batch
            .masks
            .to_device(&Device::Cpu)?
            .flatten_all()?
            .to_dtype(DType::U8)?
            .to_vec1::<u8>()?;
        for i in 0..b {
            let (one, sample) = (margin.i(i)?, &batch.samples[i]);
            let values = one.flatten_all()?.to_vec1::<f32>()?;
            if !values.iter().all(|value| value.is_finite()) {
                let (split, sentence) = (split.name().to_owned(), sample.sentence_id);
                return Err(Error::NonFiniteOutput { split, sentence });
            }
            let model_counts = overlap(&values, &truth[i * h * w..(i + 1) * h * w])?;
            let original_counts =
                if original { Some(at_original_size(&one, sample)?) } else { None };
            records.push(Record {
                index: batch.indices[i],
                id: sample.sentence_id,
                image: sample.image_path.display().to_string(),
                expression: sample.expression.clone(),
                kind: sample.kind.to_string(),
                found: model_counts.predicted > 0,
                confidence: confidence(&values),
                iou: sample.kind.has_target().then(|| model_counts.iou()),
                model: model_counts,
                original: original_counts,
            });
        }
        progress(records.len(), total)?;
    }
    let at_original_size =
        original.then(|| by_kind(&records, |record| record.original.unwrap_or_default()));
    Ok(Evaluation {
        split: split.name().to_owned(),
        model_size: split.image_size(),
        at_model_size: by_kind(&records, |record| record.model),
        at_original_size,
        records,
        seconds: clock.elapsed().as_secs_f64(),
    })
}

/// Foreground minus background logit, `(B, 2, H, W)` to `(B, H, W)` on the CPU.
fn margins(logits: &Tensor) -> Result<Tensor> {
    let logits = logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
    Ok((logits.i((.., 1))? - logits.i((.., 0))?)?.contiguous()?)
}

/// Counts the pixels whose margin is above 0 against the truth.
fn overlap(margin: &[f32], truth: &[u8]) -> Result<Overlap> {
    let predicted: Vec<u8> = margin.iter().map(|value| u8::from(*value > 0.0)).collect();
    Overlap::of_bytes(&predicted, truth)
        .map_err(|error| candle_core::Error::Msg(error.to_string()).into())
}

/// Largest foreground probability; softmax of two classes is the logistic function of their difference.
fn confidence(margin: &[f32]) -> f32 {
    let largest = margin.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    1.0 / (1.0 + (-largest).exp())
}

fn at_original_size(margin: &Tensor, sample: &Sample) -> Result<Overlap> {
    let truth = sample.mask()?;
    let size = (truth.height() as usize, truth.width() as usize);
    let (h, w) = margin.dims2()?;
    let resized = resize_bilinear(&margin.reshape((1, 1, h, w))?, size, Align::Edges)?;
    overlap(&resized.flatten_all()?.to_vec1::<f32>()?, truth.bits())
}

fn by_kind(records: &[Record], counts: impl Fn(&Record) -> Overlap) -> BTreeMap<String, Tables> {
    let mut sums = metrics::Evaluation::new();
    for record in records {
        let kind = match record.kind.as_str() {
            "zero" => metrics::Kind::Zero,
            "one" => metrics::Kind::One,
            _ => metrics::Kind::Many,
        };
        sums.add(kind, counts(record));
    }
    let report = sums.report();
    [(ALL, report.overall), ("zero", report.zero), ("one", report.one), ("many", report.many)]
        .into_iter()
        .filter(|(name, report)| report.samples > 0 || *name == ALL)
        .map(|(name, report)| (name.to_owned(), report.into()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: &str, intersection: u64, predicted: u64, truth: u64) -> Record {
        Record {
            index: 0,
            id: 1,
            image: "a.png".into(),
            expression: "the red circle".into(),
            kind: kind.into(),
            found: predicted > 0,
            confidence: 0.5,
            iou: None,
            model: Overlap { intersection, predicted, truth },
            original: None,
        }
    }

    #[test]
    fn groups_are_scored_apart_and_together() {
        let records = [
            record("one", 5, 10, 5),
            record("many", 10, 10, 10),
            record("zero", 0, 0, 0),
            record("zero", 0, 7, 0),
        ];
        let tables = by_kind(&records, |record| record.model);
        assert_eq!(tables.keys().collect::<Vec<_>>(), ["all", "many", "one", "zero"]);
        let all = tables["all"].summary();
        assert_eq!(
            (all.overall_iou, all.mean_iou, all.zero_accuracy),
            (Some(0.75), Some(0.75), Some(0.5))
        );
        assert_eq!(tables["zero"].summary().mean_iou, None);
        assert_eq!(all.score(Score::Balanced), Some((0.75 + 0.75 + 0.5) / 3.0));
        assert_eq!(tables["zero"].summary().score(Score::OverallIou), None);
        let text = serde_json::to_string(&tables).expect("serialises");
        assert_eq!(
            serde_json::from_str::<BTreeMap<String, Tables>>(&text).expect("reads back"),
            tables
        );
    }

    #[test]
    fn ties_are_background_and_confidence_is_a_probability() {
        let counts = overlap(&[0.0, 0.1, -0.1], &[1, 1, 1]).expect("equal lengths");
        assert_eq!((counts.intersection, counts.predicted, counts.truth), (1, 1, 3));
        assert!((confidence(&[0.0, -3.0]) - 0.5).abs() < 1e-6);
        assert!(confidence(&[f32::MIN, -100.0]) < 1e-6);
    }
}
