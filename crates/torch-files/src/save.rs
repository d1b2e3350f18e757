//! Writing what `torch.load(.., weights_only=True)` reads: a zip file of a protocol-2 pickle and one stored entry a tensor.
//!
//! Tensors are written one at a time, so that no second copy of the whole is in memory.

use std::fs::File;
use std::io::{BufWriter, Seek, Write};
use std::path::Path;

use candle_core::{Device, Tensor};

use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// A value to save.
#[derive(Clone, Debug)]
pub enum Saved {
    /// `None`.
    None,
    /// A bool.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text.
    Str(String),
    /// A list.
    List(Vec<Saved>),
    /// A dict with text keys, in this order.
    Dict(Vec<(String, Saved)>),
    /// A tensor.
    Tensor(Tensor),
}

impl Saved {
    /// A state dict.
    pub fn state_dict(tensors: impl IntoIterator<Item = (String, Tensor)>) -> Self {
        Self::Dict(tensors.into_iter().map(|(name, t)| (name, Self::Tensor(t))).collect())
    }
}

/// Writes `value` to `path`, atomically: a file that is there stays as it is until the new one is complete.
///
/// # Errors
/// [`Error::Write`] when the disk refuses; [`Error::Unsupported`] for tensors whose type PyTorch's storages lack (`u32`).
pub fn save(path: impl AsRef<Path>, value: &Saved) -> Result<()> {
    let path = path.as_ref();
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".tmp-{}", std::process::id()));
    let temporary = std::path::PathBuf::from(temporary);
    let written = write(&temporary, path, value)
        .and_then(|()| std::fs::rename(&temporary, path).map_err(Error::write(path)));
    if written.is_err() {
        // Best effort: what is left is named as temporary.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn write(temporary: &Path, path: &Path, value: &Saved) -> Result<()> {
    let mut pickler = Pickler { path, out: Vec::new(), tensors: Vec::new() };
    pickler.out.extend(*b"\x80\x02");
    pickler.value(value)?;
    pickler.out.push(b'.');
    let Pickler { out: pickle, tensors, .. } = pickler;

    let fail = Error::write(path);
    let wrote = || -> std::io::Result<Result<()>> {
        let mut zip = Zip::create(temporary)?;
        zip.entry("archive/data.pkl", &pickle)?;
        zip.entry("archive/byteorder", b"little")?;
        for (i, tensor) in tensors.iter().enumerate() {
            let bytes = match elements(tensor) {
                Ok(bytes) => bytes,
                Err(error) => return Ok(Err(error.into())),
            };
            zip.entry(&format!("archive/data/{i}"), &bytes)?;
        }
        zip.entry("archive/version", b"3\n")?;
        zip.finish()?;
        Ok(Ok(()))
    };
    wrote().map_err(fail)?
}

/// Elements in row-major order, little-endian.
fn elements(tensor: &Tensor) -> candle_core::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(tensor.elem_count() * tensor.dtype().size_in_bytes());
    tensor.to_device(&Device::Cpu)?.write_bytes(&mut bytes)?;
    Ok(bytes)
}

/// Emits opcodes; tensors become persistent ids and are kept for the entries.
struct Pickler<'a> {
    path: &'a Path,
    out: Vec<u8>,
    tensors: Vec<&'a Tensor>,
}

impl<'a> Pickler<'a> {
    fn value(&mut self, value: &'a Saved) -> Result<()> {
        match value {
            Saved::None => self.out.push(b'N'),
            Saved::Bool(flag) => self.out.push(if *flag { 0x88 } else { 0x89 }),
            Saved::Int(number) => self.int(*number),
            Saved::Float(number) => {
                self.out.push(b'G');
                self.out.extend(number.to_be_bytes());
            }
            Saved::Str(text) => self.text(text),
            Saved::List(values) => {
                self.out.extend(*b"](");
                for value in values {
                    self.value(value)?;
                }
                self.out.push(b'e');
            }
            Saved::Dict(entries) => {
                self.out.extend(*b"}(");
                for (key, value) in entries {
                    self.text(key);
                    self.value(value)?;
                }
                self.out.push(b'u');
            }
            Saved::Tensor(tensor) => self.tensor(tensor)?,
        }
        Ok(())
    }

    fn int(&mut self, number: i64) {
        match i32::try_from(number) {
            Ok(small) => {
                self.out.push(b'J');
                self.out.extend(small.to_le_bytes());
            }
            Err(_) => {
                self.out.extend([0x8a, 8]);
                self.out.extend(number.to_le_bytes());
            }
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push(b'X');
        self.out.extend((text.len() as u32).to_le_bytes());
        self.out.extend(text.as_bytes());
    }

    fn sizes(&mut self, sizes: &[usize]) {
        self.out.push(b'(');
        for &size in sizes {
            self.int(size as i64);
        }
        self.out.push(b't');
    }

    /// `torch._utils._rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())`.
    fn tensor(&mut self, tensor: &'a Tensor) -> Result<()> {
        let storage = Dtype::of_candle(tensor.dtype()).and_then(Dtype::storage);
        let Some(storage) = storage else {
            let message = format!("PyTorch has no storage for {:?}", tensor.dtype());
            return Err(Error::unsupported(self.path, "tensor", message));
        };
        let key = self.tensors.len().to_string();
        self.out.extend(*b"ctorch._utils\n_rebuild_tensor_v2\n((");
        self.text("storage");
        self.out.extend(format!("ctorch\n{storage}\n").as_bytes());
        self.text(&key);
        self.text("cpu");
        self.int(tensor.elem_count() as i64);
        self.out.extend(*b"tQ");
        self.int(0);
        self.sizes(tensor.dims());
        let mut strides = vec![1; tensor.rank()];
        for axis in (1..tensor.rank()).rev() {
            strides[axis - 1] = strides[axis] * tensor.dims()[axis].max(1);
        }
        self.sizes(&strides);
        self.out.extend(*b"\x89ccollections\nOrderedDict\n)RtR");
        self.tensors.push(tensor);
        Ok(())
    }
}

/// PyTorch maps files into memory; it aligns entries to this.
const ALIGNMENT: u64 = 64;
/// From here on a zip file needs its 64-bit records.
const WIDE: u64 = u32::MAX as u64;

/// A zip file of stored entries.
struct Zip {
    out: BufWriter<File>,
    directory: Vec<u8>,
    entries: u64,
}

impl Zip {
    fn create(path: &Path) -> std::io::Result<Self> {
        let out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        Ok(Self { out, directory: Vec::new(), entries: 0 })
    }

    fn entry(&mut self, name: &str, data: &[u8]) -> std::io::Result<()> {
        let at = self.out.stream_position()?;
        let (size, crc) = (data.len() as u64, crc32fast::hash(data));
        let narrow = |n: u64| (n.min(WIDE) as u32).to_le_bytes();
        // Sizes that need 64 bits stand in an extra field; padding is one, too (PyTorch's "FB").
        let mut extra = Vec::new();
        if size >= WIDE {
            extra.extend([1, 0, 16, 0]);
            extra.extend(size.to_le_bytes());
            extra.extend(size.to_le_bytes());
        }
        let start = at + 30 + name.len() as u64 + extra.len() as u64 + 4;
        let padding = (start.next_multiple_of(ALIGNMENT) - start) as usize;
        extra.extend(*b"FB");
        extra.extend((padding as u16).to_le_bytes());
        extra.extend(std::iter::repeat_n(b'Z', padding));
        let version = if size >= WIDE || at >= WIDE { 45u16 } else { 20 };
        // Version, flags (UTF-8 names), method, time, date (1 January 1980), CRC, sizes, name length.
        let mut common = Vec::new();
        common.extend(version.to_le_bytes());
        common.extend([0, 8, 0, 0, 0, 0, 0x21, 0]);
        common.extend(crc.to_le_bytes());
        common.extend(narrow(size));
        common.extend(narrow(size));
        common.extend((name.len() as u16).to_le_bytes());

        self.out.write_all(b"PK\x03\x04")?;
        self.out.write_all(&common)?;
        self.out.write_all(&(extra.len() as u16).to_le_bytes())?;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&extra)?;
        self.out.write_all(data)?;

        let mut wide = Vec::new();
        if size >= WIDE || at >= WIDE {
            let mut numbers = Vec::new();
            if size >= WIDE {
                numbers.extend([size, size]);
            }
            if at >= WIDE {
                numbers.push(at);
            }
            wide.extend([1, 0]);
            wide.extend((8 * numbers.len() as u16).to_le_bytes());
            numbers.iter().for_each(|n| wide.extend(n.to_le_bytes()));
        }
        self.directory.extend(*b"PK\x01\x02");
        self.directory.extend(version.to_le_bytes());
        self.directory.extend(common);
        self.directory.extend((wide.len() as u16).to_le_bytes());
        self.directory.extend([0; 10]); // comment, disk, attributes
        self.directory.extend(narrow(at));
        self.directory.extend(name.as_bytes());
        self.directory.extend(wide);
        self.entries += 1;
        Ok(())
    }

    fn finish(mut self) -> std::io::Result<()> {
        let at = self.out.stream_position()?;
        let bytes = self.directory.len() as u64;
        self.out.write_all(&self.directory)?;
        if at >= WIDE || bytes >= WIDE || self.entries >= u64::from(u16::MAX) {
            self.out.write_all(b"PK\x06\x06")?;
            self.out.write_all(&44u64.to_le_bytes())?;
            self.out.write_all(&[45, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
            for number in [self.entries, self.entries, bytes, at] {
                self.out.write_all(&number.to_le_bytes())?;
            }
            self.out.write_all(b"PK\x06\x07\0\0\0\0")?;
            self.out.write_all(&(at + bytes).to_le_bytes())?;
            self.out.write_all(&1u32.to_le_bytes())?;
        }
        let count = (self.entries.min(u64::from(u16::MAX)) as u16).to_le_bytes();
        self.out.write_all(b"PK\x05\x06\0\0\0\0")?;
        self.out.write_all(&count)?;
        self.out.write_all(&count)?;
        self.out.write_all(&(bytes.min(WIDE) as u32).to_le_bytes())?;
        self.out.write_all(&(at.min(WIDE) as u32).to_le_bytes())?;
        self.out.write_all(&[0, 0])?;
        self.out.flush()?;
        self.out.get_ref().sync_all()
    }
}
