//! Tensors by name in safetensors files, written from and read into a [`ParamStore`] or an optimiser.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use nn_ops::ParamStore;
use safetensors::tensor::Metadata;
use safetensors::{Dtype, SafeTensorError};

use super::commit::slow_down;
use crate::error::{Error, Result};

/// Writes tensors, sorted by name: the same values give the same bytes.
pub(crate) fn save_tensors(path: &Path, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
    // safetensors puts a file in its place that only its owner may read: it gets the mode of any new file.
    let new = OpenOptions::new().create(true).append(true).open(path);
    let mode = new.and_then(|file| file.metadata()).map_err(Error::write(path))?;
    if std::env::var_os("DMMI_TEST_SLOW_CHECKPOINT_MS").is_some() {
        // Test hook: half a file lies there while the process is killed.
        std::fs::write(path, b"half a file").map_err(Error::write(path))?;
        slow_down();
    }
    // safetensors sorts by type and name whatever the map's order.
    safetensors::serialize_to_file(tensors, None, path)
        .map_err(io_error)
        .and_then(|()| std::fs::set_permissions(path, mode.permissions()))
        .map_err(Error::write(path))
}

/// What the operating system said, if it was that: a full disk has a remedy of its own.
fn io_error(error: SafeTensorError) -> std::io::Error {
    match error {
        SafeTensorError::IoError(error) => error,
        other => std::io::Error::other(other),
    }
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

/// Bytes of the header a file may have; safetensors' own limit.
const LARGEST_HEADER: u64 = 100_000_000;
/// Bytes read at once.
const PIECE: usize = 1 << 18;

/// A safetensors file whose values are read where they are wanted: nothing of it is kept in memory but its header.
#[derive(Debug)]
pub(crate) struct WeightsReader {
    path: PathBuf,
    /// Where the values begin.
    start: u64,
    header: Metadata,
}

impl WeightsReader {
    /// # Errors
    /// [`Error::Read`], or [`Error::Checkpoint`] for a file that is no safetensors or was cut.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::read(path))?;
        let bytes = file.metadata().map_err(Error::read(path))?.len();
        let damaged = |why: &str| {
            let message =
                format!("is not a readable safetensors file ({why}); use another checkpoint");
            Error::checkpoint(path, message)
        };
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| damaged("it ends inside its header"))?;
        let length = u64::from_le_bytes(length);
        if length > LARGEST_HEADER || length > bytes {
            return Err(damaged("its header is longer than the file or than any such file's"));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(Error::read(path))?;
        let header: Metadata =
            serde_json::from_slice(&header).map_err(|error| damaged(&error.to_string()))?;
        let start = 8 + length;
        let whole = start + header.data_len() as u64;
        if whole != bytes {
            return Err(damaged(&format!("it has {bytes} bytes instead of {whole}")));
        }
        Ok(Self { path: path.to_path_buf(), start, header })
    }

    /// Names and shapes.
    pub(crate) fn shapes(&self) -> BTreeMap<String, Vec<usize>> {
        self.header.tensors().into_iter().map(|(name, info)| (name, info.shape.clone())).collect()
    }

    /// The values of one tensor as f32, whatever float type they have in the file.
    ///
    /// # Errors
    /// When there is no such tensor of that many values, or the file cannot be read.
    pub(crate) fn read(&self, name: &str, values: &mut [f32]) -> Result<()> {
        let info =
            self.header.info(name).filter(|i| i.shape.iter().product::<usize>() == values.len());
        let Some(info) = info else {
            let message =
                format!("has no tensor {name} of {} values; use another checkpoint", values.len());
            return Err(Error::checkpoint(&self.path, message));
        };
        let mut file = File::open(&self.path).map_err(Error::read(&self.path))?;
        let (from, to) = info.data_offsets;
        file.seek(SeekFrom::Start(self.start + from as u64)).map_err(Error::read(&self.path))?;
        if info.dtype == Dtype::F32 {
            let mut bytes = vec![0; PIECE.min(4 * values.len())];
            for values in values.chunks_mut(PIECE / 4) {
                let bytes = &mut bytes[..4 * values.len()];
                file.read_exact(bytes).map_err(Error::read(&self.path))?;
                for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
                    *value = f32::from_le_bytes(*bytes);
                }
            }
            return Ok(());
        }
        let mut bytes = vec![0; to - from];
        file.read_exact(&mut bytes).map_err(Error::read(&self.path))?;
        let tensor =
            Tensor::from_raw_buffer(&bytes, info.dtype.try_into()?, &info.shape, &Device::Cpu)?;
        values.copy_from_slice(&tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }

    /// Copies the values into `store`; every name must fit, or nothing is changed.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming what does not fit, or when the file cannot be read.
    pub(crate) fn fill(&self, store: &ParamStore) -> Result<()> {
        self.check(store)?;
        store.fill(|name, values| self.read(name, values))
    }

    /// All values where they lie in the file ([`mapped_vec`]), for who will not change them; `None` where that cannot be.
    ///
    /// # Errors
    /// When the file cannot be mapped.
    pub(crate) fn mapped(&self) -> Result<Option<BTreeMap<String, Vec<f32>>>> {
        let mut tensors: Vec<_> = self.header.tensors().into_iter().collect();
        tensors.sort_by_key(|(_, info)| info.data_offsets);
        if tensors.iter().any(|(_, info)| info.dtype != Dtype::F32) {
            return Ok(None);
        }
        let range = |(from, to): (usize, usize)| self.start + from as u64..self.start + to as u64;
        let ranges: Vec<_> = tensors.iter().map(|(_, info)| range(info.data_offsets)).collect();
        let file = File::open(&self.path).map_err(Error::read(&self.path))?;
        let vectors = mapped_vec::floats(&file, &ranges).map_err(Error::read(&self.path))?;
        Ok(vectors.map(|v| tensors.into_iter().map(|(name, _)| name).zip(v).collect()))
    }

    /// Every name of the file and of `store` must fit the other.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming what does not.
    pub(crate) fn check(&self, store: &ParamStore) -> Result<()> {
        store.check(&self.shapes()).strict().map(drop).map_err(|error| {
            let message = format!("{error}; use weights and config.json of one checkpoint");
            Error::checkpoint(&self.path, message)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// As in the program: without it nothing is mapped.
    #[global_allocator]
    static ALLOCATOR: mapped_vec::Mapped<std::alloc::System> =
        mapped_vec::Mapped::new(std::alloc::System);

    fn blank() -> Result<ParamStore> {
        let store = ParamStore::new(1);
        let vb = store.blank(DType::F32, &Device::Cpu);
        vb.get(5, "a")?;
        vb.get(300_000, "b.c")?;
        Ok(store)
    }

    fn store() -> Result<ParamStore> {
        let store = blank()?;
        store.fill(|_, values| {
            values.iter_mut().enumerate().for_each(|(i, v)| *v = (i as f32).sin());
            Ok::<_, Error>(())
        })?;
        Ok(store)
    }

    #[test]
    fn values_come_back_in_every_float_type() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        for (dtype, tolerance) in
            [(DType::F32, 0.0), (DType::F64, 0.0), (DType::F16, 1e-3), (DType::BF16, 1e-2)]
        {
            let written = store()?.tensors();
            let cast = |(n, t): (&String, &Tensor)| Ok((n.clone(), t.to_dtype(dtype)?));
            save_tensors(&path, &written.iter().map(cast).collect::<Result<_>>()?)?;
            let read = blank()?;
            WeightsReader::open(&path)?.fill(&read)?;
            for (name, tensor) in read.tensors() {
                let d = (tensor - &written[&name])?.abs()?.max_all()?.to_scalar::<f32>()?;
                assert!(d <= tolerance, "{name} {dtype:?} {d}");
            }
            let mapped = WeightsReader::open(&path)?.mapped()?;
            assert_eq!(mapped.is_some(), dtype == DType::F32);
            for (name, vector) in mapped.into_iter().flatten() {
                assert_eq!(vector, written[&name].to_vec1::<f32>()?, "{name}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_full_disk_has_its_remedy() {
        let full = SafeTensorError::IoError(std::io::ErrorKind::StorageFull.into());
        let message = Error::write("w")(io_error(full)).to_string();
        assert!(message.contains("free space"), "{message}");
    }

    #[cfg(unix)]
    #[test]
    fn weights_may_be_read_by_whom_other_files_may() -> Result<()> {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let mode = |name: &str| std::fs::metadata(path(name)).unwrap().permissions().mode();
        std::fs::write(path("other"), "").unwrap();
        save_tensors(&path("w"), &store()?.tensors())?;
        assert_eq!(mode("w"), mode("other"));
        Ok(())
    }

    #[test]
    fn damaged_files_are_told_apart_and_change_nothing() -> Result<()> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        let store = store()?;
        save_tensors(&path, &store.tensors())?;
        let bytes = std::fs::read(&path).unwrap();
        let message = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            WeightsReader::open(&path).unwrap_err().to_string()
        };
        assert!(message(&bytes[..5]).contains("ends inside its header"));
        assert!(message(&bytes[..bytes.len() - 1]).contains("bytes instead of"));
        assert!(message(&[bytes.as_slice(), b"x"].concat()).contains("bytes instead of"));
        assert!(message(b"\xff\xff\xff\xff\xff\xff\xff\xff{}").contains("header is longer"));
        assert!(message(b"\x02\0\0\0\0\0\0\0[]").contains("not a readable safetensors"));
        save_tensors(
            &path,
            &BTreeMap::from([("a".into(), Tensor::zeros(5, DType::F32, &Device::Cpu)?)]),
        )?;
        let before = store.tensors()["a"].to_vec1::<f32>()?;
        let error = WeightsReader::open(&path)?.fill(&store).unwrap_err().to_string();
        assert!(error.contains("1 missing (b.c)"), "{error}");
        assert_eq!(store.tensors()["a"].to_vec1::<f32>()?, before);
        Ok(())
    }
}
