//! Python's pickle machine without its calls: the opcodes of protocols 0 to 5 (CPython's `pickletools`).

use std::collections::HashMap;

use super::text::{ascii, long, lossless, unescape, unescape_unicode};
use super::{Item, Object, Value};

/// The pickle machine: a stack, marks into it, a memo.
#[derive(Default)]
pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    items: Vec<Item>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: HashMap<u32, Value>,
    most: usize,
    starved: bool,
}

/// Newest protocol there is.
const NEWEST: u8 = 5;

type Step<T> = Result<T, String>;

impl<'a> Machine<'a> {
    /// A machine that holds at most `most` values of a kind.
    pub(super) fn new(bytes: &'a [u8], most: usize) -> Self {
        Self { bytes, most, ..Self::default() }
    }

    /// Whether it stopped because the bytes ended.
    pub(super) fn starved(&self) -> bool {
        self.starved
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
            let largest = self.items.len().max(self.stack.len()).max(self.memo.len());
            if largest.max(self.marks.len()) > self.most {
                return Err(format!("it holds too many values (more than {})", self.most));
            }
            let opcode = self.take(1)?[0];
            match opcode {
                b'.' => return self.pop(),
                0x80 => {
                    let protocol = self.take(1)?[0];
                    if protocol > NEWEST {
                        return Err(format!(
                            "protocol {protocol} is newer than {NEWEST}, the newest known"
                        ));
                    }
                }
                0x95 => {
                    self.take(8)?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b'0' => {
                    if self.marks.last() == Some(&self.stack.len()) {
                        self.marks.pop();
                    } else {
                        self.pop()?;
                    }
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
                b'U' | 0x8c => self.push_text(1)?,
                b'T' | b'X' => self.push_text(4)?,
                0x8d => self.push_text(8)?,
                b'C' => self.push_bytes(1)?,
                b'B' => self.push_bytes(4)?,
                0x8e | 0x96 => self.push_bytes(8)?,
                b')' => self.push_new(Item::Tuple(Vec::new()))?,
                b']' => self.push_new(Item::List(Vec::new()))?,
                0x8f => self.push_new(Item::Set(Vec::new()))?,
                b'}' => self.push_new(Item::Dict(Vec::new()))?,
                b't' | b'l' | 0x91 => {
                    let values = self.pop_mark()?;
                    self.push_new(match opcode {
                        b't' => Item::Tuple(values),
                        b'l' => Item::List(values),
                        _ => Item::Set(values),
                    })?;
                }
                0x85..=0x87 => {
                    let from = self.below(usize::from(opcode - 0x84))?;
                    let values = self.stack.split_off(from);
                    self.push_new(Item::Tuple(values))?;
                }
                b'd' => {
                    let values = self.pop_mark()?;
                    self.push_new(Item::Dict(Vec::new()))?;
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
                    if opcode == b'c' {
                        self.push_new(Item::Global(name))?;
                    } else {
                        let args = self.pop_mark()?;
                        let class = self.push_item(Item::Global(name))?;
                        let args = self.push_item(Item::Tuple(args))?;
                        self.push_object(class, args)?;
                    }
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let name = format!("{}.{}", self.text_of(module), self.text_of(name));
                    self.push_new(Item::Global(name))?;
                }
                0x82..=0x84 => {
                    let width = [1, 2, 4][usize::from(opcode - 0x82)];
                    let code = self.number(width)?;
                    self.push_new(Item::Global(format!("copyreg extension {code}")))?;
                }
                b'R' | 0x81 | 0x92 => {
                    // Keyword arguments lie on top; what they say is kept as state until one is set.
                    let keywords = if opcode == 0x92 { self.pop()? } else { Value::None };
                    let (args, class) = (self.pop()?, self.pop()?);
                    self.push_object(class, args)?;
                    if keywords != Value::None {
                        self.set_state(keywords)?;
                    }
                }
                b'o' => {
                    let mut values = self.pop_mark()?;
                    if values.is_empty() {
                        return Err("it makes an object of no class".into());
                    }
                    let class = values.remove(0);
                    let args = self.push_item(Item::Tuple(values))?;
                    self.push_object(class, args)?;
                }
                b'b' => {
                    let state = self.pop()?;
                    self.set_state(state)?;
                }
                b'P' => {
                    let name = ascii(self.line()?);
                    let id = self.push_item(Item::Str(name))?;
                    self.push_new(Item::Persistent(id))?;
                }
                b'Q' => {
                    let id = self.pop()?;
                    self.push_new(Item::Persistent(id))?;
                }
                0x97 | 0x98 => return Err("it keeps data in buffers outside of the file".into()),
                other => return Err(format!("0x{other:02x} is no pickle opcode")),
            }
        }
    }

    fn take(&mut self, count: usize) -> Step<&'a [u8]> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        self.starved |= end.is_none();
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
        self.starved |= end.is_none();
        let end = end.ok_or("the file ends in the middle of a pickle; copy it again")?;
        self.at += end + 1;
        Ok(rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]))
    }

    /// A little-endian number of `width` bytes.
    fn number(&mut self, width: usize) -> Step<u64> {
        let mut bytes = [0u8; 8];
        bytes[..width].copy_from_slice(self.take(width)?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// Bytes after a count of `width` bytes.
    fn counted(&mut self, width: usize) -> Step<&'a [u8]> {
        let count = usize::try_from(self.number(width)?).map_err(|_| "a length is absurd")?;
        self.take(count)
    }

    fn push_text(&mut self, width: usize) -> Step<()> {
        let bytes = self.counted(width)?;
        self.push_str(lossless(bytes.to_vec()))
    }

    fn push_bytes(&mut self, width: usize) -> Step<()> {
        let bytes = self.counted(width)?;
        self.push_new(Item::Bytes(bytes.to_vec()))
    }

    fn push_str(&mut self, text: String) -> Step<()> {
        self.push_new(Item::Str(text))
    }

    fn push_object(&mut self, class: Value, args: Value) -> Step<()> {
        let (appended, pairs) = (Vec::new(), Vec::new());
        let object = Object { class, args, state: Value::None, appended, pairs };
        self.push_new(Item::Object(Box::new(object)))
    }

    fn push_new(&mut self, item: Item) -> Step<()> {
        let value = self.push_item(item)?;
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
            Item::List(list) | Item::Set(list) => list.extend_from_slice(values),
            Item::Object(object) => object.appended.extend_from_slice(values),
            _ => return Err("it appends to what is no list".into()),
        }
        Ok(())
    }

    fn set_items(&mut self, values: &[Value]) -> Step<()> {
        let (pairs, rest) = values.as_chunks::<2>();
        match self.top_item()? {
            _ if !rest.is_empty() => return Err("it sets a key without a value".into()),
            Item::Dict(dict) => dict.extend(pairs.iter().map(|pair| (pair[0], pair[1]))),
            Item::Object(object) => {
                object.pairs.extend(pairs.iter().map(|pair| (pair[0], pair[1])))
            }
            _ => return Err("it sets a key of what is no dict".into()),
        }
        Ok(())
    }

    fn set_state(&mut self, state: Value) -> Step<()> {
        match self.top_item()? {
            Item::Object(object) => object.state = state,
            _ => return Err("it gives a state to what is no object".into()),
        }
        Ok(())
    }

    fn text_of(&self, value: Value) -> String {
        match value {
            Value::At(place) => match &self.items[place as usize] {
                Item::Str(text) => text.chars().take(200).collect(),
                _ => "?".into(),
            },
            _ => "?".into(),
        }
    }
}
