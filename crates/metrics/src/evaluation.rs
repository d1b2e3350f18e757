//! Both protocols side by side, overall and by the number of targets.

use serde::{Deserialize, Serialize};

use crate::gres::GresMetrics;
use crate::overlap::Overlap;
use crate::report::{EvaluationReport, KindReport};
use crate::ris::RisMetrics;

/// Whether an expression has no target, one, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// No target.
    Zero,
    /// Exactly one.
    One,
    /// Two or more.
    Many,
}

impl Kind {
    /// The kind of an expression with `n` targets.
    pub fn of_count(n: usize) -> Self {
        match n {
            0 => Self::Zero,
            1 => Self::One,
            _ => Self::Many,
        }
    }

    /// `zero`, `one` or `many`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::One => "one",
            Self::Many => "many",
        }
    }
}

/// Running sums of both protocols for each kind; mergeable across threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evaluation {
    zero: Sums,
    one: Sums,
    many: Sums,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sums {
    ris: RisMetrics,
    gres: GresMetrics,
}

impl Sums {
    fn merge(&mut self, other: &Self) {
        self.ris.merge(&other.ris);
        self.gres.merge(&other.gres);
    }

    fn report(&self) -> KindReport {
        KindReport {
            samples: self.gres.samples(),
            ris: (&self.ris).into(),
            gres: (&self.gres).into(),
        }
    }
}

impl Evaluation {
    /// No samples yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a sample whose mask is the model's only answer: an empty mask is a rejection.
    pub fn add(&mut self, kind: Kind, overlap: Overlap) {
        self.add_answer(kind, overlap, overlap.predicts_nothing());
    }

    /// Adds a sample with the model's own answer whether there is a target. The RIS table looks at the mask only,
    /// the GRES table at both.
    pub fn add_answer(&mut self, kind: Kind, overlap: Overlap, rejected: bool) {
        let sums = match kind {
            Kind::Zero => {
                self.zero.ris.add_zero(overlap.predicted);
                self.zero.gres.add_zero(overlap.predicted, rejected);
                return;
            }
            Kind::One => &mut self.one,
            Kind::Many => &mut self.many,
        };
        sums.ris.add_target(overlap);
        sums.gres.add_target(overlap, rejected);
    }

    /// Adds the samples of another.
    pub fn merge(&mut self, other: &Self) {
        self.zero.merge(&other.zero);
        self.one.merge(&other.one);
        self.many.merge(&other.many);
    }

    /// The RIS sums over all kinds.
    pub fn ris(&self) -> RisMetrics {
        self.overall().ris
    }

    /// The GRES sums over all kinds.
    pub fn gres(&self) -> GresMetrics {
        self.overall().gres
    }

    /// All numbers.
    pub fn report(&self) -> EvaluationReport {
        EvaluationReport {
            overall: self.overall().report(),
            one: self.one.report(),
            many: self.many.report(),
            zero: self.zero.report(),
        }
    }

    fn overall(&self) -> Sums {
        let mut all = self.one;
        all.merge(&self.many);
        all.merge(&self.zero);
        all
    }
}
