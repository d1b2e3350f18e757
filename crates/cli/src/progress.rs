//! Progress on the terminal: bars with loss terms, images a second and the time that is left.
//!
//! Everything goes to standard error, so that results on standard output can be piped. Without a terminal there are no bars,
//! only a line an epoch.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::Device;
use dmmi_train::{EpochRecord, Evaluation, Observer, PretrainRecord, Result, Start, StepRecord};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::device::describe;
use crate::out::tell;

/// Shows a training run on standard error, by one bar at a time.
pub(crate) struct Console {
    bar: ProgressBar,
    shown: Shown,
    quiet: bool,
    device: String,
    start: Option<Start>,
    rate: Rate,
}

/// What the bar is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    Pretraining,
    Steps,
    Validation,
}

impl Console {
    /// For a run on `device`. `quiet`: no bars, one line an epoch.
    pub(crate) fn new(quiet: bool, device: &Device) -> Self {
        let opening = || spinner("reading annotations, checking pictures");
        Self {
            bar: if quiet { ProgressBar::hidden() } else { opening() },
            shown: Shown::Nothing,
            quiet,
            device: describe(device),
            start: None,
            rate: Rate::default(),
        }
    }

    fn print(&self, line: &str) {
        self.bar.suspend(|| tell!("{line}"));
    }

    /// Puts a bar in the place of another.
    fn show(&mut self, what: Shown, length: usize) {
        if self.quiet || self.shown == what {
            return;
        }
        self.hide();
        self.bar = match what {
            Shown::Validation => bar(length as u64),
            _ => loss_bar(length as u64),
        };
        self.shown = what;
    }

    fn hide(&mut self) {
        self.bar.finish_and_clear();
        self.bar = ProgressBar::hidden();
        self.shown = Shown::Nothing;
    }

    fn total_steps(&self) -> usize {
        self.start.as_ref().map_or(0, |start| start.total_steps)
    }
}

/// Share of an epoch's time spent waiting for data that is worth a word.
const NOTABLE_WAIT: f64 = 0.02;

impl Observer for Console {
    fn started(&mut self, start: &Start) -> Result<()> {
        self.hide();
        let val = start.val_samples.map_or_else(String::new, |n| format!(", {n} for validation"));
        self.print(&format!(
            "on {}: {} expressions for training{val}; {} of {} parameters trained; {} steps an epoch, {} epochs",
            self.device,
            start.train_samples,
            count(start.trained),
            count(start.parameters),
            start.steps_per_epoch,
            start.epochs
        ));
        self.start = Some(start.clone());
        if start.pretrain_steps == 0 {
            self.show(Shown::Steps, start.total_steps);
            self.bar.set_position(start.step as u64);
        }
        Ok(())
    }

    fn pretraining(&mut self, record: &PretrainRecord) -> Result<()> {
        self.rate.add(record.samples, record.seconds);
        self.show(Shown::Pretraining, record.steps);
        self.bar.set_prefix("visual encoder");
        self.bar.set_message(format!(
            "ETA {} {:.0} img/s loss {:.3} cells right {:.0} %",
            clock(self.rate.seconds_per_step() * record.steps.saturating_sub(record.step) as f64),
            self.rate.samples_per_second(),
            record.loss,
            100.0 * record.accuracy,
        ));
        self.bar.set_position(record.step as u64);
        if record.step == record.steps {
            self.rate = Rate::default();
            self.show(Shown::Steps, self.total_steps());
        }
        Ok(())
    }

    fn step(&mut self, record: &StepRecord) -> Result<()> {
        self.rate.add(record.samples, record.seconds);
        self.show(Shown::Steps, self.total_steps());
        let Some(start) = &self.start else { return Ok(()) };
        let s = &record.stats;
        let left = start.total_steps.saturating_sub(record.step) as f64;
        self.bar.set_prefix(format!("epoch {}/{}", record.epoch, start.epochs));
        // The line fits 80 columns in most runs; what a narrower one cuts off stands last.
        self.bar.set_message(format!(
            "ETA {} {:.0} img/s loss {:.3} seg {:.2} sim {:.2} con {:.2}",
            clock(self.rate.seconds_per_step() * left),
            self.rate.samples_per_second(),
            s.total,
            s.segmentation,
            s.similarity,
            s.contrastive,
        ));
        self.bar.set_position(record.step as u64);
        Ok(())
    }

    fn evaluating(&mut self, done: usize, total: usize) -> Result<()> {
        self.show(Shown::Validation, total);
        self.bar.set_prefix("validation");
        self.bar.set_position(done as u64);
        Ok(())
    }

    fn evaluated(&mut self, _evaluation: &Evaluation) -> Result<()> {
        self.hide();
        Ok(())
    }

    fn epoch(&mut self, record: &EpochRecord) -> Result<()> {
        let epochs = self.start.as_ref().map_or(0, |start| start.epochs);
        let mut line = format!(
            "epoch {:>3}/{epochs}  loss {:.4} (seg {:.4}, sim {:.3}, con {:.3})  {:.1} img/s",
            record.epoch,
            record.total,
            record.segmentation,
            record.similarity,
            record.contrastive,
            record.samples_per_second
        );
        if let Some(val) = &record.val {
            line += &format!(
                "  val oIoU {} mIoU {} Acc {}",
                percent(val.overall_iou),
                percent(val.mean_iou),
                percent(val.zero_accuracy)
            );
            if record.best.is_some_and(|best| best.epoch == record.epoch) {
                line += "  best";
            }
        }
        if record.data_wait >= NOTABLE_WAIT {
            let percent = 100.0 * record.data_wait;
            line += &format!("  {percent:.0} % of the time waiting for data (raise data.workers)");
        }
        self.print(&line);
        Ok(())
    }

    fn checkpoint(&mut self, _path: &Path) -> Result<()> {
        Ok(())
    }

    fn note(&mut self, text: &str) -> Result<()> {
        self.print(text);
        Ok(())
    }
}

/// A bar for work that is counted: `prefix [===>    ] 12/40 3.1/s ETA 0:09`.
pub(crate) fn bar(length: u64) -> ProgressBar {
    styled(length, "{prefix} [{bar:8}] {pos}/{len} {pace}")
}

/// A bar for steps, whose message tells losses and what is left.
fn loss_bar(length: u64) -> ProgressBar {
    styled(length, "{prefix} [{bar:8}] {pos}/{len} {wide_msg}")
}

fn styled(length: u64, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr_with_hz(8));
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("pace", |state: &ProgressState, text: &mut dyn fmt::Write| {
            // Text in memory takes any write.
            let _ = text.write_str(&pace(state.per_sec(), state.eta()));
        });
    bar.set_style(style.progress_chars("=> "));
    bar
}

/// `3.1/s ETA 0:09`; nothing before the first piece is done.
fn pace(per_second: f64, left: Duration) -> String {
    if per_second <= 0.0 {
        return String::new();
    }
    let digits = if per_second < 1.0 { 2 } else { 1 };
    format!("{per_second:.digits$}/s ETA {}", clock(left.as_secs_f64()))
}

/// A turning mark for work whose length is unknown; gone when it is dropped.
pub(crate) fn spinner(message: &str) -> ProgressBar {
    let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(8));
    spinner.set_message(message.to_owned());
    spinner.enable_steady_tick(std::time::Duration::from_millis(125));
    spinner
}

/// Recent speed: exponentially forgetting, so that a slow start or an evaluation does not mislead for long.
#[derive(Debug, Default)]
struct Rate {
    seconds: f64,
    steps: f64,
    samples: f64,
}

impl Rate {
    fn add(&mut self, samples: usize, seconds: f64) {
        const KEEP: f64 = 0.95;
        self.seconds = self.seconds * KEEP + seconds;
        self.steps = self.steps * KEEP + 1.0;
        self.samples = self.samples * KEEP + samples as f64;
    }

    fn samples_per_second(&self) -> f64 {
        self.samples / self.seconds.max(1e-9)
    }

    fn seconds_per_step(&self) -> f64 {
        self.seconds / self.steps.max(1.0)
    }
}

/// `0.6877` as `68.77`, nothing as `-`: the unit of the papers' tables.
pub(crate) fn percent(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{:.2}", 100.0 * value))
}

/// `1234567` as `1.23 M`.
pub(crate) fn count(n: usize) -> String {
    let n = n as f64;
    if n >= 1e9 {
        format!("{:.2} G", n / 1e9)
    } else if n >= 1e6 {
        format!("{:.2} M", n / 1e6)
    } else if n >= 1e3 {
        format!("{:.1} k", n / 1e3)
    } else {
        format!("{n}")
    }
}

/// `3 h 05 min`, `4 min 10 s`, `7 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).map_or(0, |d| d.as_secs());
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s:02} s"),
        (h, m, _) => format!("{h} h {m:02} min"),
    }
}

/// `3:05:00`, `4:10`, `0:07`.
fn clock(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).map_or(0, |d| d.as_secs());
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, m, s) => format!("{m}:{s:02}"),
        (h, m, s) => format!("{h}:{m:02}:{s:02}"),
    }
}

/// Seconds since `clock`, written as [`duration`].
pub(crate) fn since(clock: Instant) -> String {
    duration(clock.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(percent(Some(0.687_74)), "68.77");
        assert_eq!(percent(None), "-");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1.23 M");
        assert_eq!(duration(7.9), "7 s");
        assert_eq!(duration(250.0), "4 min 10 s");
        assert_eq!(duration(11_100.0), "3 h 05 min");
        assert_eq!((clock(7.0), clock(11_100.0)), ("0:07".to_owned(), "3:05:00".to_owned()));
        assert_eq!(duration(f64::INFINITY), "0 s");
        assert_eq!(pace(3.12, Duration::from_secs(9)), "3.1/s ETA 0:09");
        assert_eq!(pace(0.25, Duration::from_secs(80)), "0.25/s ETA 1:20");
        assert_eq!(pace(0.0, Duration::ZERO), "");
    }

    #[test]
    fn speed_follows_the_recent_past() {
        let mut rate = Rate::default();
        for _ in 0..200 {
            rate.add(8, 1.0);
        }
        for _ in 0..200 {
            rate.add(8, 2.0);
        }
        assert!((rate.samples_per_second() - 4.0).abs() < 0.01);
    }
}
