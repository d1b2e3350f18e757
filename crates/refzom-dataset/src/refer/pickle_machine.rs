//! Python's pickle machine without its calls: opcodes of protocols 0 to 5 (CPython's `pickletools`).

use std::collections::HashMap;

use super::pickle::{Item, Value};
use super::pickle_text::{ascii, long, lossless, unescape, unescape_unicode};

/// The pickle machine: a stack, marks into it, a memo.
#[derive(Default)]
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    items: Vec<Item>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
}

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, ..Self::default() }
    }

    /// Bytes read so far.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn into_items(self) -> Vec<Item> {
        self.items
    }

    /// Reads up to the STOP opcode and returns the value on top.
    pub(super) fn run(&mut self) -> Step<Value> {
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
                    let mut arguments = self.pop()?;
                    if opcode == 0x92 {
                        arguments = self.pop()?;
                    }
                    let class = self.pop()?;
                    let name = self.text_of(class);
                    match self.set_of(&name, arguments) {
                        Some(list) => self.stack.push(list),
                        None => self.push_foreign(name)?,
                    }
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

    /// The list that a call of Python's `set` or `frozenset` is given: older protocols write sets as such calls.
    fn set_of(&self, name: &str, arguments: Value) -> Option<Value> {
        let known =
            ["__builtin__.set", "__builtin__.frozenset", "builtins.set", "builtins.frozenset"];
        let list = |value: Value| match value {
            Value::At(place) => match &self.items[place as usize] {
                Item::List(list) => Some(list),
                _ => None,
            },
            _ => None,
        };
        match list(arguments)?.as_slice() {
            [only] if known.contains(&name) && list(*only).is_some() => Some(*only),
            _ => None,
        }
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
