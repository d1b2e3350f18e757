//! What a report shows, as plain values: it can be filled from any run and saved beside it.

use serde::{Deserialize, Serialize};

/// Everything on the page, top to bottom.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ReportData {
    /// Heading and page title.
    pub(crate) title: String,
    /// One or two sentences under the heading: what ran, on what, for how long.
    pub(crate) summary: String,
    /// The few numbers a reader came for.
    pub(crate) headline: Vec<Headline>,
    /// Remarks on the numbers: which target was missed, by how much and why.
    pub(crate) remarks: Vec<String>,
    /// One table a resolution and protocol.
    pub(crate) tables: Vec<ScoreTable>,
    /// Course of the training.
    pub(crate) course: Course,
    /// Pictures.
    pub(crate) gallery: Vec<Section>,
    /// The run's configuration as TOML.
    pub(crate) configuration: String,
    /// Name and value: threads, duration, seed, versions.
    pub(crate) environment: Vec<(String, String)>,
    /// What it does, and the command.
    pub(crate) commands: Vec<(String, String)>,
}

/// A number against its target; both 0-1.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Headline {
    /// Short name, as in the field's papers.
    pub(crate) name: String,
    /// What it means, in one line.
    pub(crate) meaning: String,
    /// `None`: there was no sample to measure it on.
    pub(crate) value: Option<f64>,
    /// `None`: the run has no target.
    pub(crate) target: Option<f64>,
}

impl Headline {
    /// Whether the target is reached; `None` without a target.
    pub(crate) fn reached(&self) -> Option<bool> {
        self.target.map(|target| self.value.is_some_and(|value| value >= target))
    }
}

/// Scores of one protocol at one resolution.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScoreTable {
    /// Such as "RIS protocol, at the original size".
    pub(crate) title: String,
    /// Heads of the score columns.
    pub(crate) columns: Vec<String>,
    /// One row a group of samples.
    pub(crate) rows: Vec<ScoreRow>,
}

/// A row of a [`ScoreTable`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ScoreRow {
    /// Such as "all", "one target".
    pub(crate) group: String,
    /// Samples in the group.
    pub(crate) samples: usize,
    /// One a column, 0-1; `None` where the score is not defined for the group.
    pub(crate) scores: Vec<Option<f64>>,
}

/// Course of the training.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Course {
    /// One record a logged step.
    pub(crate) steps: Vec<StepPoint>,
    /// One line a validation score.
    pub(crate) scores: Vec<ScoreLine>,
}

/// A validation score over the epochs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ScoreLine {
    /// Such as "oIoU".
    pub(crate) name: String,
    /// `(epoch, value 0-1)`.
    pub(crate) points: Vec<(f64, f64)>,
    /// Drawn as a broken line.
    pub(crate) target: Option<f64>,
}

/// One optimisation step.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct StepPoint {
    /// Steps done so far.
    pub(crate) step: u64,
    /// Weighted sum of the three terms.
    pub(crate) total: f64,
    /// Cross-entropy of the mask.
    pub(crate) segmentation: f64,
    /// Reconstruction of the erased words.
    pub(crate) similarity: f64,
    /// Picture against sentence.
    pub(crate) contrastive: f64,
    /// Learning rate.
    pub(crate) learning_rate: f64,
}

/// A row of pictures that answer one question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Section {
    /// Heading.
    pub(crate) title: String,
    /// How the pictures were chosen.
    pub(crate) note: String,
    /// The pictures.
    pub(crate) cards: Vec<Card>,
}

/// One expression on one picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Card {
    /// The expression as given to the model.
    pub(crate) sentence: String,
    /// "zero", "one" or "many" targets.
    pub(crate) kind: String,
    /// Intersection over union, 0-1; `None` for zero-target samples.
    pub(crate) iou: Option<f64>,
    /// Whether the answer is right: IoU >= 0.5, or nothing answered where nothing is meant.
    pub(crate) right: bool,
    /// Share of the picture that was predicted, 0-1.
    pub(crate) predicted_share: f64,
    /// File the picture came from, for looking it up.
    pub(crate) source: String,
    /// Width and height in pixels.
    pub(crate) size: (u32, u32),
    /// PNG of the picture, base64.
    pub(crate) picture: String,
    /// PNG of truth against prediction, base64.
    pub(crate) overlay: String,
}

/// Made-up values for tests and for looking at the page.
#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod samples {
    use base64::Engine;
    use image::{Rgb, RgbImage};

    use super::*;

    fn card(index: u32, kind: &str) -> Card {
        let (w, h) = if index % 3 == 2 { (240, 160) } else { (160, 160) };
        let image = RgbImage::from_fn(w, h, |x, y| {
            let centre = (i64::from(x) - 70).pow(2) + (i64::from(y) - 80).pow(2);
            if centre < 1600 {
                Rgb([200, 40, 40])
            } else {
                Rgb([90, (x % 80 + 90) as u8, (y / 2 + 80) as u8])
            }
        });
        let disc = |cx: i64, r: i64| -> Vec<u8> {
            let inside =
                |i: u32| (i64::from(i % w) - cx).pow(2) + (i64::from(i / w) - 80).pow(2) < r * r;
            (0..w * h).map(|i| u8::from(inside(i))).collect()
        };
        let truth = if kind == "zero" { vec![0; (w * h) as usize] } else { disc(70, 40) };
        let predicted = disc(70 + i64::from(index) * 9, 38);
        let overlay = crate::viz::overlay::comparison(&image, &predicted, &truth).unwrap();
        let png = |image: &RgbImage| {
            let mut bytes = std::io::Cursor::new(Vec::new());
            image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
            base64::engine::general_purpose::STANDARD.encode(bytes.into_inner())
        };
        Card {
            sentence: "the two small red circles left of the large blue square".into(),
            kind: kind.into(),
            iou: (kind != "zero").then(|| 0.93 - 0.17 * f64::from(index)),
            right: kind != "zero" && index < 3,
            predicted_share: 0.18,
            source: format!("images/test_{index:06}.png"),
            size: (w, h),
            picture: png(&image),
            overlay: png(&overlay),
        }
    }

    /// A report with something in every part.
    pub(crate) fn full() -> ReportData {
        let headline = |name: &str, meaning: &str, value, target| Headline {
            name: name.into(),
            meaning: meaning.into(),
            value: Some(value),
            target: Some(target),
        };
        let section = |title: &str, kind: &str| Section {
            title: title.into(),
            note: "Every sixth sample, by rising IoU.".into(),
            cards: (0..5).map(|i| card(i, kind)).collect(),
        };
        let row = |group: &str, scores: &[f64]| ScoreRow {
            group: group.into(),
            samples: 240,
            scores: scores.iter().map(|s| (*s >= 0.0).then_some(*s)).collect(),
        };
        let table = |title: &str| ScoreTable {
            title: title.into(),
            columns: ["oIoU", "mIoU", "P@0.5", "P@0.6", "P@0.7", "P@0.8", "P@0.9", "Acc"]
                .map(String::from)
                .to_vec(),
            rows: vec![
                row("all", &[0.78, 0.74, 0.85, 0.8, 0.72, 0.6, 0.21, 0.88]),
                row("zero targets", &[-1.0, -1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 0.88]),
                row("one target", &[0.79, 0.76, 0.86, 0.8, 0.72, 0.6, 0.22, -1.0]),
                row("many targets", &[0.77, 0.71, 0.84, 0.8, 0.72, 0.6, 0.19, -1.0]),
            ],
        };
        let step = |i: u64| {
            let x = i as f64 / 200.0;
            let noise = ((i * 7919) % 101) as f64 / 101.0 - 0.5;
            StepPoint {
                step: i,
                total: 0.7 * (-x).exp() + 0.05 + 0.1 * noise * (-x).exp(),
                segmentation: 0.6 * (-x).exp() + 0.04 + 0.1 * noise * (-x).exp(),
                similarity: 0.9 * (-x / 2.0).exp() + 0.05 * noise,
                contrastive: 5.0 * (-x / 3.0).exp() + noise,
                learning_rate: 1e-3 * (1.0 - i as f64 / 1500.0).powf(0.9),
            }
        };
        let rising = |name: &str, top: f64| ScoreLine {
            name: name.into(),
            points: (1..=12).map(|e| (e as f64, top * (1.0 - 0.7f64.powi(e)))).collect(),
            target: Some(top - 0.05),
        };
        ReportData {
            title: "DMMI quickstart".into(),
            summary: "A 1.9 M parameter DMMI, trained from scratch on 1,600 synthetic scenes in 8 min 12 s on 2 CPU threads, then scored on 200 scenes it never saw.".into(),
            headline: vec![
                headline("oIoU", "all intersections over all unions, targeted expressions", 0.78, 0.75),
                headline("mIoU", "mean IoU of targeted expressions", 0.74, 0.70),
                headline("zero-target Acc", "expressions that mean nothing and got no pixel", 0.81, 0.85),
            ],
            remarks: vec!["zero-target Acc is 4.0 points below its target: 46 of 240 expressions that mean nothing got pixels.".into()],
            tables: vec![table("RIS protocol, original size"), table("RIS protocol, model size")],
            course: Course {
                steps: (0..1500).map(step).collect(),
                scores: vec![rising("oIoU", 0.8), rising("mIoU", 0.75), rising("Acc", 0.9)],
            },
            gallery: vec![section("Best", "one"), section("Worst", "many"), section("Nothing meant", "zero")],
            configuration: "[model]\nkind = \"swin\"\nembed_dim = 24\n\n[train]\nseed = 7\n".into(),
            environment: vec![("threads".into(), "2".into()), ("seed".into(), "7".into()), ("dmmi-cli".into(), "0.1.0".into())],
            commands: vec![("the same run again".into(), "cargo run --release --bin dmmi-cli -- quickstart --out runs/quickstart".into())],
        }
    }

    /// `cargo test -p dmmi-cli -- --ignored sample_page` writes the page to `$REPORT_SAMPLE` to look at.
    #[test]
    #[ignore = "writes a page for people to look at"]
    fn sample_page() {
        let path = std::env::var("REPORT_SAMPLE").unwrap();
        crate::report::write(&full(), std::path::Path::new(&path)).unwrap();
    }
}
