//! Named intermediate results of a forward pass, for parity checks and pictures, or the time its parts take.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Instant;

use candle_core::{Device, Tensor};

/// Collects named tensors or times, or nothing at no cost.
#[derive(Debug, Default)]
pub struct Probe {
    seen: Option<BTreeMap<String, Tensor>>,
    prefix: String,
    clock: Option<Clock>,
}

/// Time between marks.
#[derive(Debug)]
struct Clock {
    device: Device,
    last: Instant,
    /// Name and milliseconds, in the order of first marks.
    spent: Vec<(String, f64)>,
}

impl Probe {
    /// Records nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Records every named tensor (detached).
    pub fn recording() -> Self {
        Self { seen: Some(BTreeMap::new()), ..Self::default() }
    }

    /// Measures the time between [marks](Self::mark), starting now; waits for `device` at each.
    pub fn timing(device: &Device) -> Self {
        let _ = device.synchronize();
        let clock = Clock { device: device.clone(), last: Instant::now(), spent: Vec::new() };
        Self { clock: Some(clock), ..Self::default() }
    }

    /// The time since the last mark was spent on `part`. An error of the device is left to the next operation on it.
    pub fn mark(&mut self, part: impl Display) {
        let Some(clock) = &mut self.clock else { return };
        let _ = clock.device.synchronize();
        let now = Instant::now();
        let spent = now.duration_since(clock.last).as_secs_f64() * 1e3;
        clock.last = now;
        let part = part.to_string();
        match clock.spent.iter_mut().find(|(name, _)| *name == part) {
            Some((_, sum)) => *sum += spent,
            None => clock.spent.push((part, spent)),
        }
    }

    /// Parts and their milliseconds, in the order of their first marks.
    pub fn into_times(self) -> Vec<(String, f64)> {
        self.clock.map_or_else(Vec::new, |clock| clock.spent)
    }

    /// Remembers `t` under the current prefix and `name`.
    pub fn record(&mut self, name: &str, t: &Tensor) {
        if let Some(seen) = &mut self.seen {
            seen.insert(format!("{}{name}", self.prefix), t.detach());
        }
    }

    /// Runs `f` with `scope.` added to the prefix.
    pub fn scoped<R>(&mut self, scope: &str, f: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.prefix.len();
        if self.seen.is_some() {
            self.prefix.push_str(scope);
            self.prefix.push('.');
        }
        let out = f(self);
        self.prefix.truncate(length);
        out
    }

    /// What was recorded, by full name.
    pub fn into_seen(self) -> BTreeMap<String, Tensor> {
        self.seen.unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_by_part() {
        let mut probe = Probe::timing(&Device::Cpu);
        let nap = || std::thread::sleep(std::time::Duration::from_millis(2));
        for part in ["a", "b", "a"] {
            nap();
            probe.mark(part);
        }
        let times = probe.into_times();
        assert_eq!(times.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert!(times[0].1 >= 4.0 && times[1].1 >= 2.0, "{times:?}");
        let mut off = Probe::off();
        off.mark("a");
        assert!(off.into_times().is_empty());
    }
}
