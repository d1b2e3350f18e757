//! With the feature `cuda`: compiles `src/cuda/kernels/*.cu` with the nvcc that also builds Candle's kernels, for the cards of
//! `CARDS` and to PTX of compute capability 8.0, which runs on every later card: there the driver finishes it at first use.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

const KERNELS: &str = "src/cuda/kernels";
/// Compute capabilities: A100, RTX 30, RTX 40 and L40, H100 and H200.
const CARDS: [&str; 4] = ["80", "86", "89", "90"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    println!("cargo:rerun-if-changed={KERNELS}");
    for name in ["NVCC", "CUDA_HOME"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    let nvcc = env::var_os("NVCC").map(PathBuf::from).unwrap_or_else(|| {
        env::var_os("CUDA_HOME").map_or("nvcc".into(), |home| PathBuf::from(home).join("bin/nvcc"))
    });
    let out = env::var_os("OUT_DIR").expect("cargo sets OUT_DIR");
    let files = fs::read_dir(KERNELS).expect("the folder of kernels is part of the crate");
    for file in files.filter_map(Result::ok).map(|f| f.path()) {
        if file.extension().is_none_or(|e| e != "cu") {
            continue;
        }
        let mut command = Command::new(&nvcc);
        command.args(["--fatbin", "-O3", "-std=c++17", "--threads=0"]);
        command.args(["-gencode", "arch=compute_80,code=compute_80"]);
        for card in CARDS {
            command.args(["-gencode", &format!("arch=compute_{card},code=sm_{card}")]);
        }
        command.arg("--output-directory");
        match command.arg(&out).arg(&file).status() {
            Ok(status) if status.success() => {}
            Ok(status) => {
                panic!("{} could not compile {}: {status}", nvcc.display(), file.display())
            }
            Err(error) => panic!(
                "the feature `cuda` needs nvcc, and {} does not start: {error}. Set CUDA_HOME or NVCC, or run `cargo xtask cuda-toolchain` first",
                nvcc.display()
            ),
        }
    }
}
