//! A PyTorch file, opened: its data, its tensors by name, and their elements on demand.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::archive::{Archive, Format, Place, referred};
use crate::dtype::{Dtype, float8};
use crate::error::{Error, Result};
use crate::pickle::{Limits, Node, Pickle};
use crate::source::Source;
use crate::state::{Named, named};
use crate::tensor::{TensorInfo, tensor_at};

/// A file written by `torch.save`. Opening reads the pickle and the directory; elements are read tensor by tensor.
#[derive(Debug)]
pub struct TorchFile {
    source: Source,
    archive: Archive,
}

/// Expanded tensors may make a file's contents larger than the file, but only so many times, and by this many bytes.
const GROWTH: u128 = 8;
const ALLOWANCE: u128 = 64 << 20;

impl TorchFile {
    /// Opens `.pth`, `.pt` or `.bin`, zip or legacy.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, or is none of these; names the place.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::from_source(Source::open(path.as_ref())?, Limits::default())
    }

    /// The same for bytes in memory; `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(bytes: Vec<u8>, name: impl AsRef<Path>) -> Result<Self> {
        Self::from_source(Source::memory(bytes, name.as_ref()), Limits::default())
    }

    fn from_source(source: Source, limits: Limits) -> Result<Self> {
        let archive = Archive::read(&source, limits)?;
        let file = Self { source, archive };
        // A storage that is spoken of and not there is found now, not after an hour of work.
        let referred = referred(&file.source, &file.archive.pickle)?;
        for (key, storage) in &referred {
            let place = file.place(key)?;
            let needed = storage.elements as u128 * storage.dtype.size() as u128;
            if u128::from(place.bytes) < needed {
                let message = format!("has {} bytes where {needed} belong", place.bytes);
                return Err(Error::damaged(file.path(), format!("storage {key}"), message));
            }
        }
        Ok(file)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.source.path()
    }

    /// Its container.
    pub fn format(&self) -> Format {
        self.archive.format
    }

    /// Everything but the elements of tensors.
    pub fn pickle(&self) -> &Pickle {
        &self.archive.pickle
    }

    /// The outermost value, to walk from.
    pub fn root(&self) -> Node<'_> {
        self.archive.pickle.node()
    }

    /// The tensor that lies at `node`; nothing when something else does.
    ///
    /// # Errors
    /// When it is damaged, reaches beyond its storage, or is of a kind that is not read (sparse, quantised).
    pub fn tensor_at(&self, node: Node<'_>) -> Result<Option<TensorInfo>> {
        tensor_at(node, &self.archive.pickle)
            .map_err(|message| Error::damaged(self.path(), "data.pkl", message))
    }

    /// All tensors in nested dicts and lists, names joined by dots, in the order of the file. Modules that were saved whole
    /// count as their state dicts.
    ///
    /// # Errors
    /// As [`tensor_at`](Self::tensor_at); also when names repeat each other without measure, or contain themselves.
    pub fn tensors(&self) -> Result<Vec<Named>> {
        self.tensors_in(self.root())
    }

    /// The same below one value, for example `file.root().get("model")`.
    ///
    /// # Errors
    /// As [`tensors`](Self::tensors).
    pub fn tensors_in(&self, node: Node<'_>) -> Result<Vec<Named>> {
        let found = named(node, &self.archive.pickle)
            .map_err(|(place, message)| Error::damaged(self.path(), place, message))?;
        let bytes: u128 = found.iter().map(|(_, tensor)| tensor.bytes()).sum();
        let most = GROWTH * u128::from(self.source.len()) + ALLOWANCE;
        if bytes > most {
            let message = format!(
                "the tensors have {bytes} bytes in all, the file {}: it expands beyond measure",
                self.source.len()
            );
            return Err(Error::damaged(self.path(), "data.pkl", message));
        }
        Ok(found)
    }

    /// The elements in row-major order, little-endian.
    ///
    /// # Errors
    /// When the file ends before them, their checksum is wrong, or the tensor expands beyond measure.
    pub fn bytes(&self, tensor: &TensorInfo) -> Result<Vec<u8>> {
        let width = tensor.dtype.size();
        let name = format!("storage {}", tensor.storage);
        if tensor.bytes() > GROWTH * u128::from(self.source.len()) + ALLOWANCE {
            let message = format!("a tensor of size {:?} expands beyond measure", tensor.shape);
            return Err(Error::damaged(self.path(), name, message));
        }
        if tensor.elements == 0 {
            return Ok(Vec::new());
        }
        let place = self.place(&tensor.storage)?;
        let (from, count) = (tensor.offset as u64 * width as u64, tensor.span() * width);
        if from.checked_add(count as u64).is_none_or(|end| end > place.bytes) {
            let message = format!("ends before a tensor of size {:?} in it", tensor.shape);
            return Err(Error::damaged(self.path(), name, message));
        }
        let span = self.source.read(place.at + from, count, &name)?;
        if let (Some(crc), true) = (place.crc, count as u64 == place.bytes)
            && crc32fast::hash(&span) != crc
        {
            let message = "its checksum is wrong: the file is damaged; copy it again";
            return Err(Error::damaged(self.path(), name, message));
        }
        let mut bytes = tensor.gather(span);
        let word = tensor.dtype.word();
        if self.archive.big_endian && word > 1 {
            bytes.chunks_exact_mut(word).for_each(<[u8]>::reverse);
        }
        Ok(bytes)
    }

    /// The tensor in Candle, in the type of [`Dtype::candle`].
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes); also for types that Candle lacks.
    pub fn tensor(&self, tensor: &TensorInfo, device: &Device) -> Result<Tensor> {
        let Some(dtype) = tensor.dtype.candle() else {
            let message = format!(
                "its elements are {}, which Candle has no type for; convert it in PyTorch, for example tensor.float() or torch.view_as_real(tensor)",
                tensor.dtype
            );
            let place = format!("storage {}", tensor.storage);
            return Err(Error::unsupported(self.path(), place, message));
        };
        let bytes = self.widened(tensor, self.bytes(tensor)?)?;
        if tensor.elements == 0 {
            return Ok(Tensor::zeros(tensor.shape.as_slice(), dtype, device)?);
        }
        Ok(Tensor::from_raw_buffer(&bytes, dtype, &tensor.shape, device)?)
    }

    /// Bytes of the type that Candle holds a PyTorch type in.
    fn widened(&self, tensor: &TensorInfo, bytes: Vec<u8>) -> Result<Vec<u8>> {
        Ok(match tensor.dtype {
            Dtype::Bool => bytes.iter().map(|&b| u8::from(b != 0)).collect(),
            Dtype::Int8 => {
                bytes.iter().flat_map(|&b| i16::from(b.cast_signed()).to_le_bytes()).collect()
            }
            Dtype::Float8E4m3fn | Dtype::Float8E5m2 => {
                let e4m3 = tensor.dtype == Dtype::Float8E4m3fn;
                let wide = |&b: &u8| float8(b, if e4m3 { 3 } else { 2 }, e4m3).to_le_bytes();
                bytes.iter().flat_map(wide).collect()
            }
            Dtype::Uint16 => {
                let (pairs, _) = bytes.as_chunks::<2>();
                pairs.iter().flat_map(|&b| u32::from(u16::from_le_bytes(b)).to_le_bytes()).collect()
            }
            // Little-endian: the top bit of a number is in its last byte.
            Dtype::Uint64 if bytes.iter().skip(7).step_by(8).any(|b| b & 0x80 != 0) => {
                let place = format!("storage {}", tensor.storage);
                let message = "holds uint64 numbers beyond 2^63, which Candle has no type for";
                return Err(Error::unsupported(self.path(), place, message));
            }
            _ => bytes,
        })
    }

    fn place(&self, key: &str) -> Result<Place> {
        self.archive.places.get(key).copied().ok_or_else(|| {
            let message = "is referred to, but not in the file: it is incomplete; copy it again";
            Error::damaged(self.source.path(), format!("storage {key}"), message)
        })
    }
}

/// All tensors of a file by name, read at once.
///
/// # Errors
/// As [`TorchFile::tensors`] and [`TorchFile::tensor`].
pub fn load(path: impl AsRef<Path>, device: &Device) -> Result<HashMap<String, Tensor>> {
    let file = TorchFile::open(path)?;
    let read = |(name, info): Named| Ok((name, file.tensor(&info, device)?));
    file.tensors()?.into_iter().map(read).collect()
}
