//! The similarity maps of several scales as one: `Σ λ_r map_r` (spec section 3).

use candle_core::{Result, Tensor, bail};
use candle_nn::{Init, VarBuilder};
use nn_ops::{reshape, softmax, weighted_sum};

use crate::{Lambda, Variant};

/// Weights of the scales.
#[derive(Clone, Debug)]
pub(crate) enum Scales {
    /// Softmax over the stored numbers (release).
    Softmax(Tensor),
    /// The stored numbers themselves (paper).
    Plain(Tensor),
    /// One over the number of scales.
    Mean,
}

impl Scales {
    /// For `count` scales. Keys `{side}_weight` (release), `{side}_lambda` (paper).
    pub(crate) fn new(
        variant: Variant,
        lambda: Lambda,
        count: usize,
        side: &str,
        vb: &VarBuilder,
    ) -> Result<Self> {
        let get = |suffix: &str, first: f64| {
            vb.get_with_hints(count, &format!("{side}_{suffix}"), Init::Const(first))
        };
        Ok(match (lambda, variant) {
            (Lambda::Fixed, _) => Self::Mean,
            // The softmax of one number is 1 whatever the number: there is nothing to learn.
            (Lambda::Learned, Variant::Release) if count == 1 => Self::Mean,
            (Lambda::Learned, Variant::Release) => Self::Softmax(get("weight", 1.0)?),
            (Lambda::Learned, Variant::Paper) => Self::Plain(get("lambda", 1.0 / count as f64)?),
        })
    }

    /// Maps `(B, 1, rows, columns)` to one `(B, rows, columns)`.
    pub(crate) fn combine(&self, maps: &[Tensor]) -> Result<Tensor> {
        let Some(first) = maps.first() else { bail!("no similarity maps to weigh") };
        let map = match self {
            Self::Softmax(numbers) => weighted_sum(maps, &softmax(numbers)?)?,
            Self::Plain(numbers) => weighted_sum(maps, numbers)?,
            Self::Mean if maps.len() == 1 => first.clone(),
            Self::Mean => {
                let sum = maps[1..].iter().try_fold(first.clone(), |sum, map| sum + map)?;
                (sum / maps.len() as f64)?
            }
        };
        let (b, _, rows, columns) = map.dims4()?;
        reshape(&map, (b, rows, columns))
    }
}
