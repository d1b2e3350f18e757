//! Python pickles as plain data: protocols 0 to 5, nothing executed.
//!
//! Classes and calls become [`Item::Object`], which keeps what they were called with. Made for files nobody vouches for:
//! values live in a flat arena, so nesting cannot overflow the stack, shared parts are not copied, and a part that contains
//! itself is just an index; memory stays within a small multiple of the file's size, and under [`Limits`].
//! Python 2 strings are read as UTF-8, or else as Latin-1.

mod machine;
mod node;
mod numpy;
mod text;

pub use self::node::Node;

/// A pickled value: itself, or the place of its content in the [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Python's `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// Anything larger: an index into the pickle's items.
    At(u32),
}

/// Content of values that are larger than a number.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Text; byte strings of Python 2 are text, too.
    Str(String),
    /// `bytes` or `bytearray`.
    Bytes(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A tuple.
    Tuple(Vec<Value>),
    /// A set or frozenset.
    Set(Vec<Value>),
    /// A dict, in the order of the file; later entries of the same key win.
    Dict(Vec<(Value, Value)>),
    /// An integer that does not fit 64 bits.
    Huge,
    /// A class or function, by its full name (`collections.OrderedDict`).
    Global(String),
    /// What a class or function was called with. Never called.
    Object(Box<Object>),
    /// A persistent id: something that lies outside the pickle.
    Persistent(Value),
}

/// An object of a class that this reader does not know: what Python would have made it of.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// The class or function, usually an [`Item::Global`].
    pub class: Value,
    /// Positional arguments, a tuple.
    pub args: Value,
    /// What `__setstate__` or `__dict__` would have been given.
    pub state: Value,
    /// Elements appended to it, where it is a list or set of some kind.
    pub appended: Vec<Value>,
    /// Entries set in it, where it is a dict of some kind.
    pub pairs: Vec<(Value, Value)>,
}

/// How much a pickle may hold. The defaults suit a checkpoint of some 100,000 tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the pickle.
    pub bytes: usize,
    /// Values in its arena, on its stack, in its memo: each at most this many.
    pub values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 20, values: 4 << 20 }
    }
}

impl Limits {
    /// As much as the bytes at hand can spell.
    pub fn none() -> Self {
        Self { bytes: usize::MAX, values: u32::MAX as usize }
    }
}

/// Why a pickle cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at byte {at} of {length})")]
pub struct PickleError {
    /// What is wrong.
    pub message: String,
    /// Where the machine stood.
    pub at: usize,
    /// Bytes at hand.
    pub length: usize,
}

/// A parsed pickle.
#[derive(Clone, Debug)]
pub struct Pickle {
    items: Vec<Item>,
    root: Value,
}

impl Pickle {
    /// Parses the first pickle of `bytes`; also answers how many bytes it took.
    ///
    /// # Errors
    /// When the bytes are no pickle, end in its middle, or exceed `limits`.
    pub fn parse(bytes: &[u8], limits: Limits) -> Result<(Self, usize), PickleError> {
        let length = bytes.len();
        let fail = |message: String, at: usize| PickleError { message, at, length };
        let readable = &bytes[..length.min(limits.bytes)];
        let mut machine = machine::Machine::new(readable, limits.values);
        match machine.run() {
            Ok(root) => {
                let at = machine.at();
                Ok((Self { items: machine.into_items(), root }, at))
            }
            Err(_) if machine.starved() && readable.len() < length => Err(fail(
                format!("the pickle is longer than the {} bytes allowed", limits.bytes),
                machine.at(),
            )),
            Err(message) => Err(fail(message, machine.at())),
        }
    }

    /// The outermost value.
    pub fn root(&self) -> Value {
        self.root
    }

    /// The outermost value, to walk from.
    pub fn node(&self) -> Node<'_> {
        self.at(self.root)
    }

    /// Any value, to walk from.
    pub fn at(&self, value: Value) -> Node<'_> {
        Node::new(self, value)
    }

    /// The content of a value that is larger than a number.
    pub fn item(&self, value: Value) -> Option<&Item> {
        match value {
            Value::At(place) => self.items.get(place as usize),
            _ => None,
        }
    }

    /// All contents, in the order of the file.
    pub fn items(&self) -> &[Item] {
        &self.items
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Pickle, PickleError> {
        Pickle::parse(bytes, Limits::default()).map(|(pickle, _)| pickle)
    }

    fn text(bytes: &[u8]) -> String {
        parse(bytes).unwrap().node().as_str().unwrap().to_owned()
    }

    #[test]
    fn strings_of_all_protocols() {
        assert_eq!(text(b"S'it\\'s \\xc3\\xa9\\n'\np0\n."), "it's \u{e9}\n");
        assert_eq!(text(b"U\x02\xc3\xa9."), "\u{e9}");
        assert_eq!(text(b"U\x01\xe9."), "\u{e9}");
        assert_eq!(text(b"V\\u4eba \\ud83d\\ude00\n."), "\u{4eba} \u{1f600}");
        assert_eq!(text(b"\x80\x04\x8c\x03dog\x94."), "dog");
        let bytes = parse(b"\x80\x05\x96\x02\0\0\0\0\0\0\0\xff\0.").unwrap();
        assert_eq!(bytes.node().bytes().as_deref(), Some(&[255u8, 0][..]));
    }

    #[test]
    fn integers_of_all_widths() {
        for (bytes, expected) in [
            (&b"I-7\n."[..], -7),
            (b"L123456789012L\n.", 123_456_789_012),
            (b"J\xff\xff\xff\xff.", -1),
            (b"\x8a\x00.", 0),
            (b"\x8a\x02\x00\x80.", -32768),
        ] {
            assert_eq!(parse(bytes).unwrap().root(), Value::Int(expected));
        }
        let huge = parse(b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.").unwrap();
        assert_eq!(huge.item(huge.root()), Some(&Item::Huge));
    }

    #[test]
    fn calls_are_kept_never_made() {
        let pickle = parse(b"cos\nsystem\n(S'true'\ntR.").unwrap();
        let node = pickle.node();
        assert_eq!(node.class(), Some("os.system"));
        assert_eq!(node.describe(), "a python object of os.system");
        let given: Vec<_> = node.args().unwrap().elements().unwrap().collect();
        assert_eq!(given[0].as_str(), Some("true"));
    }

    #[test]
    fn classes_keep_state_and_entries() {
        // argparse.Namespace(lr=1) by protocol 2, an OrderedDict with one entry.
        let bytes = b"\x80\x02cargparse\nNamespace\n)\x81}X\x02\0\0\0lrK\x01sb.";
        let pickle = parse(bytes).unwrap();
        assert_eq!(pickle.node().class(), Some("argparse.Namespace"));
        assert_eq!(pickle.node().get("lr").unwrap().as_i64(), Some(1));
        let pickle = parse(b"\x80\x02ccollections\nOrderedDict\n)R(X\x01\0\0\0aK\x05u.").unwrap();
        assert_eq!(pickle.node().get("a").unwrap().as_i64(), Some(5));
    }

    #[test]
    fn absurd_lengths_and_nesting_are_harmless() {
        assert!(parse(b"X\xff\xff\xff\xffdog").is_err());
        assert!(parse(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffdog").is_err());
        assert!(parse(b"").is_err());
        let mut deep = b"N".to_vec();
        deep.extend(std::iter::repeat_n(0x85, 2_000_000));
        deep.push(b'.');
        assert!(parse(&deep).is_ok());
        assert!(parse(&vec![b'('; 2_000_000]).is_err());
        let own = parse(b"]2a.").unwrap();
        assert_eq!(own.node().describe(), "a list", "a list inside itself");
    }

    #[test]
    fn limits_stop_floods() {
        let limits = Limits { bytes: 1000, values: 10 };
        for flood in [&b"N"[..], b"(", b"]", b"N\x94"] {
            let bytes = flood.repeat(100);
            let error = Pickle::parse(&bytes, limits).unwrap_err();
            assert!(error.message.contains("too many"), "{error}");
        }
        let long = [b"X\0\x10\0\0".to_vec(), vec![b'a'; 5000]].concat();
        let error = Pickle::parse(&long, limits).unwrap_err();
        assert!(error.message.contains("longer than"), "{error}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn no_opcodes_panic(bytes in proptest::collection::vec(
            prop::sample::select(b"(.012NIaedtlsub]})K\x85\x86\x87\x94RobcihqgpQP\n07\x90\x91\x93\x81\x92".to_vec()), 0..60)) {
            if let Ok(pickle) = parse(&bytes) {
                let node = pickle.node();
                let _ = (node.describe(), node.class(), node.bytes(), node.as_f64());
                let _ = node.entries().map(|e| e.count());
            }
        }
    }
}
