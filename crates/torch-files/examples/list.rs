//! Lists what lies in a PyTorch file: `cargo run --example list -- model.pth`

#![allow(clippy::print_stdout)]

use torch_files::TorchFile;

fn main() -> anyhow::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/checkpoint_zip.pth").into()
    });
    let file = TorchFile::open(&path)?;
    println!("{path}: {:?}", file.format());
    for (key, value) in file.root().entries().into_iter().flatten() {
        println!("{:<20} {}", key.as_str().unwrap_or("?"), value.describe());
    }
    for (name, info) in file.tensors()? {
        println!("{name:<60} {} {:?} in storage {}", info.dtype, info.shape, info.storage);
    }
    Ok(())
}
