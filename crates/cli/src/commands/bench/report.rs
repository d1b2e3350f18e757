//! The measurements as JSON and as a table.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dmmi_model::DmmiConfig;
use serde::Serialize;

use super::{BenchMode, Precision};
use crate::progress::count;

/// Everything one run of `bench` found; the peer writes the same keys.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) program: String,
    pub(super) mode: BenchMode,
    pub(super) device: String,
    pub(super) dtype: Precision,
    /// Results of a pass: pictures, or sentences about one.
    pub(super) batch: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sentences: Option<u32>,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) tokens: usize,
    pub(super) threads: usize,
    pub(super) parameters: usize,
    /// Seconds from the start of the process to the end of the first pass, drawing of weights included.
    pub(super) first_s: Option<f64>,
    pub(super) times_ms: Vec<f64>,
    pub(super) total_ms: f64,
    pub(super) images_per_s: f64,
    /// Names of the parts in the order of the data; maps of JSON readers have none.
    pub(super) order: Vec<String>,
    #[serde(serialize_with = "as_map")]
    pub(super) parts_ms: Vec<(String, f64)>,
    #[serde(serialize_with = "as_map")]
    pub(super) flops: Vec<(String, u64)>,
    pub(super) memory: Memory,
    pub(super) matmul_gflops: f64,
    pub(super) model: DmmiConfig,
}

/// Memory in MiB; none where the system does not say.
#[derive(Debug, Serialize)]
pub(super) struct Memory {
    /// Of the process before the first pass.
    pub(super) loaded_rss_mib: Option<f64>,
    /// The most of the process, parts not included.
    pub(super) peak_rss_mib: Option<f64>,
    /// The most of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) device_peak_mib: Option<f64>,
}

/// Pairs as a JSON object in their own order.
fn as_map<V: Serialize, S: serde::Serializer>(
    pairs: &[(String, V)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(name, value)| (name, value)))
}

/// The middle value; the mean of the two middle ones of an even number.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    if n == 0 { f64::NAN } else { (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0 }
}

/// The median of each part over several passes, in the order of the first.
pub(super) fn medians(passes: &[Vec<(String, f64)>]) -> Vec<(String, f64)> {
    let mut by_part: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, ms) in passes.iter().flatten() {
        by_part.entry(name).or_default().push(*ms);
    }
    let names = passes.first().into_iter().flatten().map(|(name, _)| name);
    names.map(|name| (name.clone(), median(&by_part[name.as_str()]))).collect()
}

impl Measured {
    pub(super) fn table(&self) -> String {
        let mut text = format!(
            "{} {:?} {:?}, {} parameters, {} of {} x {} pixels (height x width), {} tokens, {}, {} threads\n\n",
            self.program,
            self.mode,
            self.dtype,
            count(self.parameters),
            match self.sentences {
                Some(n) => format!("{n} sentences about one picture"),
                None => format!("batch {}", self.batch),
            },
            self.height,
            self.width,
            self.tokens,
            self.device,
            self.threads
        )
        .to_lowercase();
        let flops: BTreeMap<&str, u64> =
            self.flops.iter().map(|(name, n)| (name.as_str(), *n)).collect();
        let mut line = |name: &str, ms: f64, flops: Option<u64>| {
            let (speed, share) = match flops {
                Some(n) => {
                    let speed = n as f64 / ms / 1e6;
                    (format!("{speed:.1}"), format!("{:.0}", 100.0 * speed / self.matmul_gflops))
                }
                None => ("-".into(), "-".into()),
            };
            let _ = writeln!(text, "{name:<24}{ms:>12.1}{speed:>12}{share:>14}");
        };
        if !self.parts_ms.is_empty() {
            for (name, ms) in &self.parts_ms {
                line(name, *ms, flops.get(name.as_str()).copied());
            }
        }
        line("all, median", self.total_ms, Some(flops.values().sum()));
        let head = format!("{:<24}{:>12}{:>12}{:>14}\n", "part", "ms", "GFLOP/s", "% of matmul");
        let at = text.find("\n\n").map_or(0, |i| i + 2);
        text.insert_str(at, &head);
        let mib = |value: Option<f64>| value.map_or("unknown".into(), |v| format!("{v:.0} MiB"));
        let _ = writeln!(
            text,
            "\n{:.3} images/s; times {} ms; a matrix product of this program reaches {:.0} GFLOP/s\nmemory: {} before the first pass, {} at most{}",
            self.images_per_s,
            self.times_ms.iter().map(|ms| format!("{ms:.0}")).collect::<Vec<_>>().join(" "),
            self.matmul_gflops,
            mib(self.memory.loaded_rss_mib),
            mib(self.memory.peak_rss_mib),
            match self.memory.device_peak_mib {
                Some(peak) => format!("; device {peak:.0} MiB at most"),
                None => String::new(),
            }
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_by_part() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        let pass = |a: f64, b: f64| vec![("b".to_owned(), b), ("a".to_owned(), a)];
        let found = medians(&[pass(1.0, 5.0), pass(3.0, 7.0), pass(2.0, 6.0)]);
        assert_eq!(found, pass(2.0, 6.0));
    }
}
