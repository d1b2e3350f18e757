//! Tensors by name in safetensors files, written from and read into a [`ParamStore`] or an optimiser.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Tensor};

use super::commit::slow_down;
use crate::error::{Error, Result};

/// Writes tensors, sorted by name: the same values give the same bytes.
pub(crate) fn save_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    // safetensors sorts by type and name whatever the map's order.
    let tensors: HashMap<&str, Tensor> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.clone())).collect();
    if std::env::var_os("DMMI_TEST_SLOW_CHECKPOINT_MS").is_some() {
        // Test hook: half a file lies there while the process is killed.
        std::fs::write(path, b"half a file").map_err(Error::write(path))?;
        slow_down();
    }
    candle_core::safetensors::save(&tensors, path)
        .map_err(|error| Error::write(path)(std::io::Error::other(error.to_string())))
}

/// Reads all tensors of a file.
pub(crate) fn load_tensors(path: &Path, device: &Device) -> Result<BTreeMap<String, Tensor>> {
    // Opened first, so that a missing file and a damaged one are told apart.
    std::fs::File::open(path).map_err(Error::read(path))?;
    let tensors = candle_core::safetensors::load(path, device).map_err(|error| {
        Error::checkpoint(
            path,
            format!("is not a readable safetensors file ({error}); use another checkpoint"),
        )
    })?;
    Ok(tensors.into_iter().collect())
}
