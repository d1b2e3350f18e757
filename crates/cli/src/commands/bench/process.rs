//! What the system says about this process and machine: memory, age, speed of matrix products.

use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use nn_ops::matmul;

/// A line of /proc/self/status in MiB; none where there is no such file.
fn status(key: &str) -> Option<f64> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    let kib: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024.0)
}

/// Memory of the process now, MiB.
pub(super) fn resident() -> Option<f64> {
    status("VmRSS")
}

/// The most memory the process ever had, MiB.
pub(super) fn peak_resident() -> Option<f64> {
    status("VmHWM")
}

/// The most device memory that tensors held at once, MiB; none on the CPU.
pub(super) fn device_peak(device: &Device) -> Result<Option<f64>> {
    Ok(nn_ops::device::memory(device)?.map(|m| m.peak as f64 / f64::from(1 << 20)))
}

/// Clock ticks a second in /proc (Linux has no other value).
const TICKS: f64 = 100.0;

/// Seconds since this process began; none where /proc does not say.
pub(super) fn since_start() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may hold spaces; the start is the 20th field after it.
    let start: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Some(uptime - start / TICKS)
}

/// GFLOP/s of a large square product: the best of eight.
pub(super) fn matmul_peak(device: &Device, dtype: DType) -> Result<f64> {
    let n = if device.is_cuda() { 8192 } else { 1024 };
    let square = |seed: f64| {
        let row = Tensor::arange(0f32, n as f32, &Device::Cpu)?.affine(seed, 0.1)?.sin()?;
        row.reshape((n, 1))?
            .broadcast_mul(&row.reshape((1, n))?)?
            .to_dtype(dtype)?
            .to_device(device)
    };
    let (a, b) = (square(0.7)?, square(1.3)?);
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        device.synchronize()?;
        let start = Instant::now();
        matmul(&a, &b)?;
        device.synchronize()?;
        best = best.min(start.elapsed().as_secs_f64());
    }
    Ok(2.0 * (n as f64).powi(3) / best / 1e9)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_has_memory_and_an_age() {
        assert!(peak_resident().unwrap() >= resident().unwrap() * 0.5);
        assert!((0.0..1e6).contains(&since_start().unwrap()));
        assert_eq!(status("NoSuchLine"), None);
    }
}
