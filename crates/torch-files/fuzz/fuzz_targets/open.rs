//! `cargo +nightly fuzz run open`: opens bytes as a PyTorch file, lists its tensors, reads them; alone as a pickle, too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use torch_files::TorchFile;
use torch_files::pickle::{Limits, Pickle};

fuzz_target!(|bytes: &[u8]| {
    let _ = Pickle::parse(bytes, Limits::default());
    let Ok(file) = TorchFile::from_bytes(bytes.to_vec(), "fuzz.pth") else { return };
    for (_, info) in file.tensors().unwrap_or_default() {
        let _ = file.bytes(&info);
    }
});
