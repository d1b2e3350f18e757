//! A reader of Python pickles, protocols 0 to 5, for plain data: numbers, strings, lists, tuples, dicts.
//!
//! Executes nothing: classes and calls become [`Item::Foreign`], which carries their name for the message.
//! Made for files nobody vouches for: values live in a flat arena, so nesting cannot overflow the stack and
//! shared parts are not copied; memory stays within a small multiple of the file's size.
//! Python 2 strings are read as UTF-8, or else as Latin-1.

use std::collections::HashMap;

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
        let mut machine = Machine { bytes, ..Machine::default() };
        match machine.run() {
            Ok(root) => Ok(Self { items: machine.items, root }),
            Err(message) => Err(format!("{message} (at byte {} of {})", machine.at, bytes.len())),
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

/// The pickle machine: a stack, marks into it, a memo.
#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    items: Vec<Item>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    fn run(&mut self) -> Step<Value> {
        loop {
            let opcode = self.take(1)?[0];
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    self.take(1)?;
                }
                0x95 => {
                    self.take(8)?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b'0' => {
                    self.pop()?;
                }
                b'1' => {
                    self.pop_mark()?;
                }
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'N' => self.stack.push(Value::None),
                0x88 => self.stack.push(Value::Bool(true)),
                0x89 => self.stack.push(Value::Bool(false)),
                b'I' | b'L' => {
                    let line = self.line()?;
                    let value = match (opcode, line) {
                        (b'I', b"00") => Value::Bool(false),
                        (b'I', b"01") => Value::Bool(true),
                        _ => match ascii(line).trim_end_matches('L').parse() {
                            Ok(number) => Value::Int(number),
                            Err(_) => self.push_item(Item::Huge)?,
                        },
                    };
                    self.stack.push(value);
                }
                b'F' => {
                    let line = self.line()?;
                    let number = ascii(line).parse().map_err(|_| "a float is damaged")?;
                    self.stack.push(Value::Float(number));
                }
                b'G' => {
                    let bytes = self.array::<8>()?;
                    self.stack.push(Value::Float(f64::from_be_bytes(bytes)));
                }
                b'J' => {
                    let number = i32::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(number.into()));
                }
                b'K' => {
                    let number = self.take(1)?[0];
                    self.stack.push(Value::Int(number.into()));
                }
                b'M' => {
                    let number = u16::from_le_bytes(self.array()?);
                    self.stack.push(Value::Int(number.into()));
                }
                0x8a | 0x8b => {
                    let width = if opcode == 0x8a { 1 } else { 4 };
                    let bytes = self.counted(width)?;
                    let value = match long(bytes) {
                        Some(number) => Value::Int(number),
                        None => self.push_item(Item::Huge)?,
                    };
                    self.stack.push(value);
                }
                b'S' => {
                    let line = self.line()?;
                    let text = lossless(unescape(line)?);
                    self.push_str(text)?;
                }
                b'V' => {
                    let line = self.line()?;
                    let text = unescape_unicode(line)?;
                    self.push_str(text)?;
                }
                b'U' | b'C' | 0x8c => self.push_counted(1)?,
                b'T' | b'B' | b'X' => self.push_counted(4)?,
                0x8d | 0x8e | 0x96 => self.push_counted(8)?,
                b')' | b']' | 0x8f => {
                    let value = self.push_item(Item::List(Vec::new()))?;
                    self.stack.push(value);
                }
                b'}' => {
                    let value = self.push_item(Item::Dict(Vec::new()))?;
                    self.stack.push(value);
                }
                b't' | b'l' | 0x91 => {
                    let values = self.pop_mark()?;
                    let value = self.push_item(Item::List(values))?;
                    self.stack.push(value);
                }
                0x85..=0x87 => {
                    let from = self.below(usize::from(opcode - 0x84))?;
                    let values = self.stack.split_off(from);
                    let value = self.push_item(Item::List(values))?;
                    self.stack.push(value);
                }
                b'd' => {
                    let values = self.pop_mark()?;
                    let value = self.push_item(Item::Dict(Vec::new()))?;
                    self.stack.push(value);
                    self.set_items(&values)?;
                }
                b'a' => {
                    let value = self.pop()?;
                    self.append(&[value])?;
                }
                b'e' | 0x90 => {
                    let values = self.pop_mark()?;
                    self.append(&values)?;
                }
                b's' => {
                    let from = self.below(2)?;
                    let values = self.stack.split_off(from);
                    self.set_items(&values)?;
                }
                b'u' => {
                    let values = self.pop_mark()?;
                    self.set_items(&values)?;
                }
                b'p' | b'q' | b'r' => {
                    let place = self.memo_place(opcode - b'p')?;
                    let top = self.top()?;
                    self.memo.insert(place, top);
                }
                0x94 => {
                    let top = self.top()?;
                    let place = u32::try_from(self.memo.len()).map_err(|_| "the memo is full")?;
                    self.memo.insert(place, top);
                }
                b'g' | b'h' | b'j' => {
                    let kind = match opcode {
                        b'g' => 0,
                        b'h' => 1,
                        _ => 2,
                    };
                    let place = self.memo_place(kind)?;
                    let value = self.memo.get(&place).copied();
                    self.stack.push(value.ok_or("the memo lacks a value that is asked for")?);
                }
                b'c' | b'i' => {
                    let module = ascii(self.line()?);
                    let name = format!("{module}.{}", ascii(self.line()?));
                    if opcode == b'i' {
                        self.pop_mark()?;
                    }
                    self.push_foreign(name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let name = format!("{}.{}", self.text_of(module), self.text_of(name));
                    self.push_foreign(name)?;
                }
                b'R' | 0x81 | 0x92 => {
                    // Arguments (and keywords), then the class: the result is named by the class.
                    for _ in 0..if opcode == 0x92 { 2 } else { 1 } {
                        self.pop()?;
                    }
                    let class = self.pop()?;
                    let name = self.text_of(class);
                    self.push_foreign(name)?;
                }
                b'o' => {
                    let values = self.pop_mark()?;
                    let name = values.first().map_or_else(String::new, |&c| self.text_of(c));
                    self.push_foreign(name)?;
                }
                b'b' => {
                    self.pop()?;
                }
                b'P' => {
                    let name = ascii(self.line()?);
                    self.push_foreign(format!("persistent id {name}"))?;
                }
                b'Q' => {
                    self.pop()?;
                    self.push_foreign("persistent id".into())?;
                }
                other => return Err(format!("0x{other:02x} is no pickle opcode")),
            }
        }
    }

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or("the file ends in the middle of a pickle; copy it again")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let bytes = self.take(N)?;
        Ok(bytes.try_into().expect("take returns as many bytes as asked for"))
    }

    fn line(&mut self) -> Step<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&b| b == b'\n');
        let end = end.ok_or("the file ends in the middle of a pickle; copy it again")?;
        self.at += end + 1;
        Ok(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]))
    }

    /// Bytes after a little-endian count of `width` bytes.
    fn counted(&mut self, width: usize) -> Step<&'a [u8]> {
        let mut count = [0u8; 8];
        count[..width].copy_from_slice(self.take(width)?);
        let count = usize::try_from(u64::from_le_bytes(count)).map_err(|_| "a length is absurd")?;
        self.take(count)
    }

    fn push_counted(&mut self, width: usize) -> Step<()> {
        let bytes = self.counted(width)?;
        self.push_str(lossless(bytes.to_vec()))
    }

    fn push_str(&mut self, text: String) -> Step<()> {
        let value = self.push_item(Item::Str(text))?;
        self.stack.push(value);
        Ok(())
    }

    fn push_foreign(&mut self, name: String) -> Step<()> {
        let value = self.push_item(Item::Foreign(name))?;
        self.stack.push(value);
        Ok(())
    }

    fn push_item(&mut self, item: Item) -> Step<Value> {
        let place = u32::try_from(self.items.len()).map_err(|_| "it holds too many values")?;
        self.items.push(item);
        Ok(Value::At(place))
    }

    /// Index on the stack of the `count`-th value from the top, above the last mark.
    fn below(&self, count: usize) -> Step<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let from = self.stack.len().checked_sub(count).filter(|&from| from >= floor);
        from.ok_or_else(|| "it takes more values than it has put down".into())
    }

    fn pop(&mut self) -> Step<Value> {
        let from = self.below(1)?;
        let value = self.stack[from];
        self.stack.truncate(from);
        Ok(value)
    }

    fn top(&self) -> Step<Value> {
        Ok(self.stack[self.below(1)?])
    }

    fn pop_mark(&mut self) -> Step<Vec<Value>> {
        let mark = self.marks.pop().ok_or("it closes a list it has not opened")?;
        Ok(self.stack.split_off(mark))
    }

    fn memo_place(&mut self, kind: u8) -> Step<u32> {
        Ok(match kind {
            0 => ascii(self.line()?).parse().map_err(|_| "a memo number is damaged")?,
            1 => self.take(1)?[0].into(),
            _ => u32::from_le_bytes(self.array()?),
        })
    }

    fn top_item(&mut self) -> Step<&mut Item> {
        match self.top()? {
            Value::At(place) => Ok(&mut self.items[place as usize]),
            _ => Err("it adds to a number".into()),
        }
    }

    fn append(&mut self, values: &[Value]) -> Step<()> {
        match self.top_item()? {
            Item::List(list) => list.extend_from_slice(values),
            Item::Foreign(_) => {}
            _ => return Err("it appends to what is no list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, values: &[Value]) -> Step<()> {
        match self.top_item()? {
            Item::Dict(dict) if values.len().is_multiple_of(2) => {
                dict.extend(values.chunks_exact(2).map(|pair| (pair[0], pair[1])));
            }
            Item::Foreign(_) => {}
            _ => return Err("it sets a key of what is no dict".into()),
        }
        Ok(())
    }

    fn text_of(&self, value: Value) -> String {
        match value {
            Value::At(place) => match &self.items[place as usize] {
                Item::Str(text) | Item::Foreign(text) => text.chars().take(80).collect(),
                _ => "?".into(),
            },
            _ => "?".into(),
        }
    }
}

fn ascii(bytes: &[u8]) -> String {
    bytes.iter().take(200).map(|&b| char::from(b)).collect()
}

fn lossless(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|e| e.as_bytes().iter().map(|&b| char::from(b)).collect())
}

fn long(bytes: &[u8]) -> Option<i64> {
    let negative = bytes.last().is_some_and(|&b| b & 0x80 != 0);
    if bytes.len() > 8 {
        return None;
    }
    let mut wide = [if negative { 0xff } else { 0 }; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Some(i64::from_le_bytes(wide))
}

fn hex(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |sum, &d| Some((sum << 4) | char::from(d).to_digit(16)?))
}

/// Python's `repr` of a byte string, quotes included.
fn unescape(line: &[u8]) -> Step<Vec<u8>> {
    let inner = match line {
        [open @ (b'\'' | b'"'), inner @ .., close] if open == close => inner,
        _ => return Err("a string lacks its quotes".into()),
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut i = 0;
    while i < inner.len() {
        if inner[i] != b'\\' {
            out.push(inner[i]);
            i += 1;
            continue;
        }
        let next = *inner.get(i + 1).ok_or("a string ends in a backslash")?;
        i += 2;
        match next {
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'r' => out.push(b'\r'),
            b'a' => out.push(7),
            b'b' => out.push(8),
            b'v' => out.push(11),
            b'f' => out.push(12),
            b'\\' | b'\'' | b'"' => out.push(next),
            b'x' => {
                let code = inner.get(i..i + 2).and_then(hex).ok_or("a \\x escape is damaged")?;
                out.push(code as u8);
                i += 2;
            }
            other => out.extend([b'\\', other]),
        }
    }
    Ok(out)
}

/// Python's raw-unicode-escape: Latin-1 with `\uXXXX` and `\UXXXXXXXX`.
fn unescape_unicode(line: &[u8]) -> Step<String> {
    let mut out = String::with_capacity(line.len());
    let mut i = 0;
    let mut high: Option<u32> = None;
    while i < line.len() {
        let width = match line[i..] {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => 0,
        };
        let code = if width == 0 {
            i += 1;
            u32::from(line[i - 1])
        } else {
            let digits = line.get(i + 2..i + 2 + width).and_then(hex);
            i += 2 + width;
            digits.ok_or("a \\u escape is damaged")?
        };
        // Narrow builds of Python 2 wrote surrogate pairs.
        match (high.take(), code) {
            (None, 0xd800..=0xdbff) => high = Some(code),
            (Some(first), 0xdc00..=0xdfff) => {
                let joined = 0x10000 + ((first - 0xd800) << 10) + (code - 0xdc00);
                out.push(char::from_u32(joined).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            (before, _) => {
                if before.is_some() {
                    out.push(char::REPLACEMENT_CHARACTER);
                }
                out.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
        }
    }
    if high.is_some() {
        out.push(char::REPLACEMENT_CHARACTER);
    }
    Ok(out)
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
