//! Whole tensors against stored ones.

use candle_core::{DType, Tensor};

use crate::golden::Stored;
use crate::layout::{Slice, align};
use crate::noise::{Difference, FACTOR, ROUNDING, tolerance};
use crate::report::{BF16, Precision, Report};

/// Recorded noise of one tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct TensorNoise {
    /// Root mean square, relative.
    pub(crate) relative_rms: f64,
    /// Largest, absolute.
    pub(crate) max_abs: f64,
}

/// All values of a tensor in f64, row-major.
pub(crate) fn values(t: &Tensor) -> candle_core::Result<Vec<f64>> {
    t.flatten_all()?.to_dtype(DType::F64)?.to_vec1()
}

/// Judges root mean square and largest difference of equally laid out values.
pub(crate) fn judge_values(
    report: &mut Report,
    name: &str,
    ours: &[f64],
    reference: &[f64],
    noise: TensorNoise,
) {
    let d = Difference::between(ours, reference);
    report.judge(
        &format!("{name} rms"),
        d.relative_rms,
        tolerance(noise.relative_rms, report.precision),
    );
    let largest = match report.precision {
        Precision::F32 => FACTOR * noise.max_abs,
        Precision::Bf16 => BF16 * d.reference_max,
        Precision::F64 => FACTOR * noise.max_abs.min(ROUNDING * d.reference_max),
    };
    report.judge(&format!("{name} max"), d.max_abs, largest);
}

/// The same for a tensor in our layout; one that has no matching layout, or is absent, is a miss.
pub(crate) fn judge_tensor(
    report: &mut Report,
    name: &str,
    ours: Option<&Tensor>,
    stored: &Stored,
    slice: &Slice,
    noise: TensorNoise,
) -> candle_core::Result<()> {
    let Some(ours) = ours else {
        report.miss(name, "our model records nothing of this name");
        return Ok(());
    };
    match align(ours, name, &stored.shape, slice) {
        Ok(aligned) => judge_values(report, name, &values(&aligned)?, &stored.values, noise),
        Err(why) => report.miss(name, why.to_string()),
    }
    Ok(())
}
