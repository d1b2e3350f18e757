//! Where time goes, operation by operation, forward and backward: for `dmmi-cli bench --by-op`.
//!
//! While it is on, every operation of this crate waits for the device before and after; what lies between two of them are
//! plain Candle operations, listed under the name of the operation they follow. Off, it costs a load.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use candle_core::Device;

static ON: AtomicBool = AtomicBool::new(false);
static CLOCK: Mutex<Option<Clock>> = Mutex::new(None);

struct Clock {
    device: Device,
    last: Instant,
    after: String,
    spent: BTreeMap<String, (f64, usize)>,
}

/// One line of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct OpTime {
    /// Operation and shape of its result.
    pub name: String,
    /// Milliseconds in all.
    pub ms: f64,
    /// How often it ran.
    pub count: usize,
}

/// Starts anew.
pub fn start(device: &Device) {
    let _ = device.synchronize();
    let clock = Clock {
        device: device.clone(),
        last: Instant::now(),
        after: "the beginning".into(),
        spent: BTreeMap::new(),
    };
    *CLOCK.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock);
    ON.store(true, Ordering::Relaxed);
}

/// Ends, and returns all lines, the longest first.
pub fn finish() -> Vec<OpTime> {
    spent("Candle after", None);
    ON.store(false, Ordering::Relaxed);
    let clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner).take();
    let lines = clock.into_iter().flat_map(|c| c.spent);
    let mut lines: Vec<_> = lines.map(|(name, (ms, count))| OpTime { name, ms, count }).collect();
    lines.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    lines
}

/// An operation begins.
pub(crate) fn begin() {
    if ON.load(Ordering::Relaxed) {
        spent("Candle after", None);
    }
}

/// It ended.
pub(crate) fn end(pass: &str, name: &str, shape: &[usize]) {
    if ON.load(Ordering::Relaxed) {
        spent(pass, Some(format!("{name} {shape:?}")));
    }
}

fn spent(pass: &str, name: Option<String>) {
    let mut clock = CLOCK.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(clock) = clock.as_mut() else { return };
    let _ = clock.device.synchronize();
    let now = Instant::now();
    let ms = now.duration_since(clock.last).as_secs_f64() * 1e3;
    clock.last = now;
    let key = format!("{pass} {}", name.as_ref().unwrap_or(&clock.after));
    let line = clock.spent.entry(key).or_default();
    *line = (line.0 + ms, line.1 + 1);
    if let Some(name) = name {
        clock.after = format!("{pass} {name}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_and_what_follows_them_are_listed() -> candle_core::Result<()> {
        let device = Device::Cpu;
        let x = candle_core::Var::rand(0f32, 1.0, (3, 5), &device)?;
        start(&device);
        let y = crate::softmax(x.as_tensor())?;
        (y * 2.0)?.sum_all()?.backward()?;
        let lines = finish();
        let has = |part: &str| lines.iter().any(|l| l.name.starts_with(part) && l.count > 0);
        assert!(has("forward softmax") && has("backward softmax") && has("Candle after"));
        assert!(finish().is_empty(), "off");
        Ok(())
    }
}
