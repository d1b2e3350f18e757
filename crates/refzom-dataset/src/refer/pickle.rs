//! A reader of Python pickles, protocols 0 to 5, for plain data: numbers, strings, lists, tuples, dicts.
//!
//! Executes nothing: classes and calls become [`Item::Foreign`], which carries their name for the message.
//! Made for files nobody vouches for: values live in a flat arena, so nesting cannot overflow the stack and
//! shared parts are not copied; memory stays within a small multiple of the file's size.
//! Python 2 strings are read as UTF-8, or else as Latin-1.

use super::pickle_machine::Machine;

/// A pickled value: itself, or the place of its content in the [`Pickle`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    At(u32),
}

/// Content of values that are larger than a number.
#[derive(Debug)]
pub(crate) enum Item {
    Str(String),
    /// A list, tuple or set.
    List(Vec<Value>),
    Dict(Vec<(Value, Value)>),
    /// An integer that does not fit 64 bits.
    Huge,
    /// An object of the class named here, or the class itself.
    Foreign(String),
}

/// A parsed pickle.
#[derive(Debug)]
pub(crate) struct Pickle {
    items: Vec<Item>,
    root: Value,
}

impl Pickle {
    /// Parses the first pickle of `bytes`; the message of an error names the byte.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut machine = Machine::new(bytes);
        match machine.run() {
            Ok(root) => Ok(Self { items: machine.into_items(), root }),
            Err(message) => Err(format!("{message} (at byte {} of {})", machine.at(), bytes.len())),
        }
    }

    pub(crate) fn root(&self) -> Value {
        self.root
    }

    pub(crate) fn item(&self, value: Value) -> Option<&Item> {
        match value {
            Value::At(place) => self.items.get(place as usize),
            _ => None,
        }
    }

    /// What `value` is, for messages.
    pub(crate) fn describe(&self, value: Value) -> String {
        match (value, self.item(value)) {
            (_, Some(Item::Foreign(name))) => format!("a python object of {name}"),
            (_, Some(Item::Str(_))) => "a string".into(),
            (_, Some(Item::List(_))) => "a list".into(),
            (_, Some(Item::Dict(_))) => "a dict".into(),
            (_, Some(Item::Huge)) => "an integer beyond 64 bits".into(),
            (Value::Bool(_), _) => "a bool".into(),
            (Value::Int(_), _) => "an integer".into(),
            (Value::Float(_), _) => "a float".into(),
            _ => "None".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn text(bytes: &[u8]) -> String {
        let pickle = Pickle::parse(bytes).unwrap();
        match pickle.item(pickle.root()) {
            Some(Item::Str(text)) => text.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn strings_of_all_protocols() {
        assert_eq!(text(b"S'it\\'s \\xc3\\xa9\\n'\np0\n."), "it's \u{e9}\n");
        assert_eq!(text(b"U\x02\xc3\xa9."), "\u{e9}");
        assert_eq!(text(b"U\x01\xe9."), "\u{e9}");
        assert_eq!(text(b"V\\u4eba \\ud83d\\ude00\n."), "\u{4eba} \u{1f600}");
        assert_eq!(text(b"\x80\x04\x8c\x03dog\x94."), "dog");
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
            assert_eq!(Pickle::parse(bytes).unwrap().root(), Value::Int(expected));
        }
        let huge = Pickle::parse(b"\x8a\x09\x00\x00\x00\x00\x00\x00\x00\x00\x01.").unwrap();
        assert!(matches!(huge.item(huge.root()), Some(Item::Huge)));
    }

    #[test]
    fn calls_are_named_never_made() {
        let pickle = Pickle::parse(b"cos\nsystem\n(S'true'\ntR.").unwrap();
        assert_eq!(pickle.describe(pickle.root()), "a python object of os.system");
    }

    #[test]
    fn absurd_lengths_and_nesting_are_harmless() {
        assert!(Pickle::parse(b"X\xff\xff\xff\xffdog").is_err());
        assert!(Pickle::parse(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffdog").is_err());
        assert!(Pickle::parse(b"").is_err());
        let mut deep = b"N".to_vec();
        deep.extend(std::iter::repeat_n(0x85, 2_000_000));
        deep.push(b'.');
        assert!(Pickle::parse(&deep).is_ok());
        assert!(Pickle::parse(&vec![b'('; 2_000_000]).is_err());
        assert!(Pickle::parse(b"]2a.").is_ok(), "a list inside itself");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Pickle::parse(&bytes);
        }

        #[test]
        fn no_opcodes_panic(bytes in proptest::collection::vec(
            prop::sample::select(b"(.012NIaedtlsu]})K\x85\x86\x87\x94RobcihqgpQP\n07\x90\x91\x93".to_vec()), 0..60)) {
            let _ = Pickle::parse(&bytes);
        }
    }
}
