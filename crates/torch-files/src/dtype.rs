//! PyTorch's element types: names, storages, sizes, and what Candle makes of them.

use candle_core::DType;

/// An element type of PyTorch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // named as in PyTorch
pub enum Dtype {
    Float32,
    Float64,
    Float16,
    Bfloat16,
    Float8E4m3fn,
    Float8E5m2,
    Uint8,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint16,
    Uint32,
    Uint64,
    Bool,
    Complex32,
    Complex64,
    Complex128,
    Qint8,
    Quint8,
    Qint32,
}

/// Type, PyTorch's name, name of the typed storage (where there is one), bytes.
const TABLE: [(Dtype, &str, &str, usize); 21] = [
    (Dtype::Float32, "float32", "FloatStorage", 4),
    (Dtype::Float64, "float64", "DoubleStorage", 8),
    (Dtype::Float16, "float16", "HalfStorage", 2),
    (Dtype::Bfloat16, "bfloat16", "BFloat16Storage", 2),
    (Dtype::Float8E4m3fn, "float8_e4m3fn", "", 1),
    (Dtype::Float8E5m2, "float8_e5m2", "", 1),
    (Dtype::Uint8, "uint8", "ByteStorage", 1),
    (Dtype::Int8, "int8", "CharStorage", 1),
    (Dtype::Int16, "int16", "ShortStorage", 2),
    (Dtype::Int32, "int32", "IntStorage", 4),
    (Dtype::Int64, "int64", "LongStorage", 8),
    (Dtype::Uint16, "uint16", "", 2),
    (Dtype::Uint32, "uint32", "", 4),
    (Dtype::Uint64, "uint64", "", 8),
    (Dtype::Bool, "bool", "BoolStorage", 1),
    (Dtype::Complex32, "complex32", "ComplexHalfStorage", 4),
    (Dtype::Complex64, "complex64", "ComplexFloatStorage", 8),
    (Dtype::Complex128, "complex128", "ComplexDoubleStorage", 16),
    (Dtype::Qint8, "qint8", "QInt8Storage", 1),
    (Dtype::Quint8, "quint8", "QUInt8Storage", 1),
    (Dtype::Qint32, "qint32", "QInt32Storage", 4),
];

impl Dtype {
    fn row(self) -> &'static (Dtype, &'static str, &'static str, usize) {
        // The table has one row a variant, in the order of the variants; a test asserts it.
        &TABLE[self as usize]
    }

    /// PyTorch's name, without `torch.`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Bytes of an element.
    pub fn size(self) -> usize {
        self.row().3
    }

    /// From `float32`.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// From `FloatStorage`. Untyped storages count bytes.
    pub(crate) fn from_storage(name: &str) -> Option<Self> {
        if name == "UntypedStorage" {
            return Some(Self::Uint8);
        }
        TABLE.iter().find(|row| !row.2.is_empty() && row.2 == name).map(|row| row.0)
    }

    /// The typed storage's name, where there is one.
    pub(crate) fn storage(self) -> Option<&'static str> {
        Some(self.row().2).filter(|name| !name.is_empty())
    }

    /// Bytes of the numbers an element is made of: what byte order is about.
    pub(crate) fn word(self) -> usize {
        match self {
            Self::Complex32 | Self::Complex64 | Self::Complex128 => self.size() / 2,
            _ => self.size(),
        }
    }

    /// Candle's type that holds every value exactly: `bool` becomes `u8`, `int8` becomes `i16`, `uint16` becomes `u32`, `uint64`
    /// becomes `i64` (larger values are an error when read), 8-bit floats become `f32` (Candle 0.11's own conversion of its
    /// `F8E4M3` does not end for 0). Complex and quantised numbers have none.
    pub fn candle(self) -> Option<DType> {
        Some(match self {
            Self::Float32 | Self::Float8E4m3fn | Self::Float8E5m2 => DType::F32,
            Self::Float64 => DType::F64,
            Self::Float16 => DType::F16,
            Self::Bfloat16 => DType::BF16,
            Self::Uint8 | Self::Bool => DType::U8,
            Self::Int8 | Self::Int16 => DType::I16,
            Self::Int32 => DType::I32,
            Self::Int64 | Self::Uint64 => DType::I64,
            Self::Uint16 | Self::Uint32 => DType::U32,
            Self::Complex32
            | Self::Complex64
            | Self::Complex128
            | Self::Qint8
            | Self::Quint8
            | Self::Qint32 => return None,
        })
    }

    /// The type that Candle's tensors of this type are written as.
    pub fn of_candle(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::F32 => Self::Float32,
            DType::F64 => Self::Float64,
            DType::F16 => Self::Float16,
            DType::BF16 => Self::Bfloat16,
            DType::U8 => Self::Uint8,
            DType::I16 => Self::Int16,
            DType::I32 => Self::Int32,
            DType::I64 => Self::Int64,
            _ => return None,
        })
    }
}

/// The value of an 8-bit float with `mantissa` bits after the sign and the exponent; `finite`: no infinities, as `float8_e4m3fn`.
pub(crate) fn float8(bits: u8, mantissa: u32, finite: bool) -> f32 {
    let sign = if bits & 0x80 != 0 { -1.0 } else { 1.0 };
    let exponent_bits = 7 - mantissa;
    let bias = (1 << (exponent_bits - 1)) - 1;
    let exponent = i32::from((bits & 0x7f) >> mantissa);
    let fraction = f32::from(bits & ((1 << mantissa) - 1)) / (1 << mantissa) as f32;
    let top = (1 << exponent_bits) - 1;
    let value = match exponent {
        0 => fraction * 2f32.powi(1 - bias),
        e if e == top && finite && bits & 0x7f == 0x7f => f32::NAN,
        e if e == top && !finite => {
            if fraction == 0.0 {
                f32::INFINITY
            } else {
                f32::NAN
            }
        }
        e => (1.0 + fraction) * 2f32.powi(e - bias),
    };
    sign * value
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_one_row_a_variant_in_order() {
        for (i, (dtype, name, storage, _)) in TABLE.iter().enumerate() {
            assert_eq!(*dtype as usize, i, "{name}");
            assert_eq!(Dtype::from_name(name), Some(*dtype));
            if !storage.is_empty() {
                assert_eq!(Dtype::from_storage(storage), Some(*dtype));
            }
        }
        assert_eq!(Dtype::from_storage(""), None);
    }

    #[test]
    fn eight_bit_floats_are_pytorchs() {
        // torch.tensor([..]).to(torch.float8_e4m3fn).view(torch.uint8), then e5m2.
        for (bits, value) in
            [(0u8, 0.0), (0x38, 1.0), (0xc0, -2.0), (0x7e, 448.0), (1, 0.001953125)]
        {
            assert_eq!(float8(bits, 3, true), value);
        }
        for (bits, value) in [(0u8, 0.0), (0x3c, 1.0), (0x7b, 57344.0), (0x7c, f32::INFINITY)] {
            assert_eq!(float8(bits, 2, false), value);
        }
        assert!(float8(0x7f, 3, true).is_nan() && float8(0x7f, 2, false).is_nan());
    }
}
