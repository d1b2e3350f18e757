//! Named intermediate results of a forward pass, for parity checks and pictures.

use std::collections::BTreeMap;

use candle_core::Tensor;

/// Collects named tensors, or nothing at no cost.
#[derive(Debug, Default)]
pub struct Probe {
    seen: Option<BTreeMap<String, Tensor>>,
    prefix: String,
}

impl Probe {
    /// Records nothing.
    pub fn off() -> Self {
        Self::default()
    }

    /// Records every named tensor (detached).
    pub fn recording() -> Self {
        Self { seen: Some(BTreeMap::new()), prefix: String::new() }
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
