//! Plain data in a pickle, read by `torch_files::pickle`: lists, dicts, text and numbers, which is all that annotations are made of.
//!
//! Tuples and sets are lists here, byte strings are text. Anything else is foreign, and named for the message.

use std::borrow::Cow;

pub(crate) use torch_files::pickle::Value;
use torch_files::pickle::{Item, Limits, Pickle};

/// Python's sets as protocols before 4 write them: a call with one list.
const SETS: [&str; 4] =
    ["__builtin__.set", "__builtin__.frozenset", "builtins.set", "builtins.frozenset"];

/// A pickle of which only plain data count.
pub(crate) struct PlainPickle(Pickle);

impl PlainPickle {
    /// Parses the first pickle of `bytes`; the message of an error names the byte.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        // The readers bound the size of the file, and memory stays within a small multiple of that.
        let (pickle, _) = Pickle::parse(bytes, Limits::none()).map_err(|e| e.to_string())?;
        Ok(Self(pickle))
    }

    pub(crate) fn root(&self) -> Value {
        self.0.root()
    }

    /// Elements of a list, tuple or set.
    pub(crate) fn list(&self, value: Value) -> Option<&[Value]> {
        match self.0.item(value)? {
            Item::List(list) | Item::Tuple(list) | Item::Set(list) => Some(list),
            Item::Object(call) if SETS.contains(&self.0.at(call.class).class()?) => {
                let Item::Tuple(args) = self.0.item(call.args)? else { return None };
                let &[only] = args.as_slice() else { return None };
                match self.0.item(only)? {
                    Item::List(list) | Item::Tuple(list) => Some(list),
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Entries of a dict, in the order of the file; the last one of a key counts.
    pub(crate) fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match self.0.item(value)? {
            Item::Dict(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// Text; bytes are read as UTF-8, or else as Latin-1.
    pub(crate) fn text(&self, value: Value) -> Option<Cow<'_, str>> {
        match self.0.item(value)? {
            Item::Str(text) => Some(text.into()),
            Item::Bytes(bytes) => Some(match std::str::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(_) => bytes.iter().map(|&byte| char::from(byte)).collect(),
            }),
            _ => None,
        }
    }

    /// Whether this is a class, or an object of one.
    pub(crate) fn is_foreign(&self, value: Value) -> bool {
        matches!(self.0.item(value), Some(Item::Object(_) | Item::Global(_) | Item::Persistent(_)))
    }

    /// What `value` is, for messages.
    pub(crate) fn describe(&self, value: Value) -> String {
        self.0.at(value).describe()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn lists_tuples_and_sets_of_all_protocols_are_lists() {
        for bytes in [
            &b"(lI7\naI8\na."[..],
            b"(I7\nI8\nt.",
            b"\x80\x02K\x07K\x08\x86.",
            b"c__builtin__\nset\n((lI7\naI8\natR.",
            b"\x80\x02cbuiltins\nfrozenset\n](K\x07K\x08e\x85R.",
            b"\x80\x04\x8f(K\x07K\x08\x90.",
            b"\x80\x04(K\x07K\x08\x91.",
        ] {
            let pickle = PlainPickle::parse(bytes).unwrap();
            let expected = [Value::Int(7), Value::Int(8)];
            assert_eq!(pickle.list(pickle.root()), Some(&expected[..]), "{bytes:?}");
            assert!(pickle.dict(pickle.root()).is_none() && pickle.text(pickle.root()).is_none());
        }
    }

    #[test]
    fn calls_are_named_never_made() {
        let pickle = PlainPickle::parse(b"cos\nsystem\n(S'true'\ntR.").unwrap();
        assert!(pickle.is_foreign(pickle.root()) && pickle.list(pickle.root()).is_none());
        assert_eq!(pickle.describe(pickle.root()), "a python object of os.system");
    }

    #[test]
    fn bytes_are_text() {
        for (bytes, expected) in
            [(&b"\x80\x03C\x02\xc3\xa9."[..], "\u{e9}"), (b"\x80\x03C\x01\xe9.", "\u{e9}")]
        {
            let pickle = PlainPickle::parse(bytes).unwrap();
            assert_eq!(pickle.text(pickle.root()).unwrap(), expected);
        }
    }
}
