//! Instruction sets of the CPU kernels: one program holds each kernel several times, and takes the best copy that the
//! processor can run.
//!
//! On x86-64 there are copies for AVX-512, for AVX2 with FMA, and for every processor (SSE2); elsewhere one copy, for what
//! the target always has (NEON on AArch64). `NN_OPS_SIMD=baseline` or `=avx2` in the environment takes a lesser copy, as
//! [`limit`] does; any other value is as none. Matrix products of the `gemm` crate ask the processor themselves.

use std::sync::atomic::{AtomicU8, Ordering};

/// A set of instructions, the lesser first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// What the compiler's target always has.
    Baseline = 1,
    /// AVX2 and FMA.
    Avx2 = 2,
    /// AVX-512 F, VL, BW and DQ.
    Avx512 = 3,
}

/// The level in use, never above what the processor has; 0 before the first question.
static LEVEL: AtomicU8 = AtomicU8::new(0);

/// The level that kernels called from now on use.
#[inline]
pub fn level() -> Level {
    match LEVEL.load(Ordering::Relaxed) {
        1 => Level::Baseline,
        2 => Level::Avx2,
        3 => Level::Avx512,
        _ => first(),
    }
}

/// The best level of this processor.
pub fn best() -> Level {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if has!("avx2") && has!("fma") {
            let wider = has!("avx512f") && has!("avx512vl") && has!("avx512bw") && has!("avx512dq");
            return if wider { Level::Avx512 } else { Level::Avx2 };
        }
    }
    Level::Baseline
}

/// Whether this processor multiplies bf16 (AVX512-BF16), and [`level`] allows it.
pub(crate) fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return level() >= Level::Avx512 && std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// From now on kernels use `most` or less, in the whole process: for tests, and to tell a wrong copy from a wrong equation.
pub fn limit(most: Level) {
    LEVEL.store(most.min(best()) as u8, Ordering::Relaxed);
}

#[cold]
fn first() -> Level {
    let wanted = match std::env::var("NN_OPS_SIMD").as_deref() {
        Ok("baseline") => Level::Baseline,
        Ok("avx2") => Level::Avx2,
        _ => Level::Avx512,
    };
    limit(wanted);
    wanted.min(best())
}
