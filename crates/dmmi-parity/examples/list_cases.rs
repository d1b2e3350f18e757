//! What a directory of recorded results holds: `cargo run -p dmmi-parity --example list_cases -- tests/golden`.
#![allow(clippy::print_stdout)] // an example shows its result

use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    let dir =
        std::env::args_os().nth(1).map_or_else(|| PathBuf::from("tests/golden"), PathBuf::from);
    let (cases, not_covered) = dmmi_parity::find(&dir)?;
    for (sidecar, _, kind) in cases {
        println!("{:<48} {kind:?}", sidecar.display());
    }
    for name in not_covered {
        println!("{name:<48} not covered");
    }
    Ok(())
}
