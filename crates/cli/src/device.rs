//! Where tensors live: `cpu`, `cuda`, `cuda:N` or `auto`, chosen once per process.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device};
use clap::ValueEnum;
use dmmi_train::TrainConfig;
use serde::Serialize;

use crate::exit::bad_input;
use crate::out::tell;

/// The value of `--device`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// The first CUDA device if this program was built with CUDA and one is there, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// One CUDA device by its index.
    Cuda(usize),
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda(0)),
            _ => text
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| "expected cpu, cuda, cuda:N or auto".to_owned()),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceChoice {
    /// Opens the device.
    ///
    /// # Errors
    /// Bad input when CUDA is asked for and this build or this machine has none.
    pub(crate) fn open(self) -> anyhow::Result<Device> {
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Auto => Ok(cuda(0).unwrap_or_else(|error| {
                if cfg!(feature = "cuda") {
                    tell!("no GPU is used: {error:#}");
                }
                Device::Cpu
            })),
            Self::Cuda(index) => {
                if !cfg!(feature = "cuda") {
                    return Err(bad_input!(
                        "--device {self}: this program was built without CUDA; rebuild with --features cuda or use --device cpu"
                    ));
                }
                cuda(index)
                    .map_err(|error| bad_input!("--device {self}: {error:#}; use --device cpu"))
            }
        }
    }
}

/// A CUDA device.
fn cuda(index: usize) -> anyhow::Result<Device> {
    if !cfg!(feature = "cuda") {
        anyhow::bail!("built without CUDA");
    }
    Ok(nn_ops::device::cuda(index)?)
}

/// How a device is called in messages and reports.
pub(crate) fn name(device: &Device) -> String {
    match device.location() {
        candle_core::DeviceLocation::Cpu => "cpu".to_owned(),
        candle_core::DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        candle_core::DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

/// The same with what it is: `cpu, 2 threads`, `cuda:0 (NVIDIA H100)`.
pub(crate) fn describe(device: &Device) -> String {
    let name = name(device);
    match model(device) {
        Some(model) => format!("{name} ({model})"),
        None => format!("{name}, {} threads", rayon::current_num_threads()),
    }
}

/// Sets in how many parts a run of ours computes its steps. Parts are for several CPU cores; a GPU has enough to do with a
/// whole batch, and only a whole one is recorded. They decide what batch norm and the contrastive loss see: a run that has
/// begun keeps its own, wherever it goes on.
pub(crate) fn set_parts(run: &mut TrainConfig, device: &Device) {
    // Unreadable: what resumes the run says so.
    if let Ok(begun) = TrainConfig::from_file(run.out.join("config.toml"), &[]) {
        run.schedule.parts = begun.schedule.parts;
    } else if device.is_cuda() {
        run.schedule.parts = 1;
    }
}

/// What a GPU is called by its maker.
fn model(device: &Device) -> Option<String> {
    match device {
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => device.cuda_stream().context().name().ok(),
        _ => None,
    }
}

/// The value of `--dtype`: how a loaded network computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arithmetic {
    /// 32-bit floats
    F32,
    /// bfloat16: on a GPU everything but weights, norms, softmax and logits, on a CPU the factors of linear layers
    Bf16,
}

impl Arithmetic {
    /// The type of activations on a device, with what the choice sets for the process.
    pub(crate) fn activations(self, device: &Device) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 if device.is_cpu() => {
                if !nn_ops::device::set_bf16_products(true) {
                    tell!("this processor does not multiply bf16: --dtype bf16 is f32 here");
                }
                DType::F32
            }
            Self::Bf16 => DType::BF16,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_cpu_is_described_by_its_threads() {
        let text = describe(&Device::Cpu);
        assert!(text.starts_with("cpu, ") && text.ends_with(" threads"), "{text}");
    }

    #[test]
    fn a_run_keeps_the_parts_it_began_with() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = dmmi_train::recipes::get("quickstart").unwrap();
        let mut run = TrainConfig::from_toml(recipe, "quickstart", &[]).unwrap();
        run.out = dir.path().to_path_buf();
        let parts = run.schedule.parts;
        set_parts(&mut run, &Device::Cpu);
        assert_eq!(run.schedule.parts, parts);
        let begun = TrainConfig {
            schedule: dmmi_train::ScheduleConfig { parts: 3, ..run.schedule.clone() },
            ..run.clone()
        };
        std::fs::write(dir.path().join("config.toml"), begun.to_toml().unwrap()).unwrap();
        set_parts(&mut run, &Device::Cpu);
        assert_eq!(run.schedule.parts, 3);
    }

    #[test]
    fn every_spelling_is_read_back() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<DeviceChoice>().unwrap(), DeviceChoice::Cuda(0));
        for text in ["", "gpu", "cuda:", "cuda:x", "cuda:-1"] {
            assert!(text.parse::<DeviceChoice>().is_err(), "{text}");
        }
    }
}
