//! The elements of the arrays of a large JSON object, one at a time, as raw bytes.
//!
//! COCO's `instances_train2014.json` is 0.4 GB, nearly all of it polygons: only one element is held at a time, polygons
//! are skipped or passed on byte for byte (parsing and printing numbers again could change their last digit).
//! Elements are found by their brackets and quotes; what is inside is for `serde_json` to judge.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::DataError;

/// Largest element, in bytes; COCO's largest annotation has some 100 KB.
const MAX_ELEMENT: usize = 64 << 20;
const BUFFER: usize = 1 << 18;
/// Bytes between two calls of `done`.
const STEP: u64 = 1 << 20;

/// Calls `visit(key, element)` for every element of every array that is a value of the file's top-level object, and once
/// for every other value; `done(bytes)` is called after every megabyte or so.
///
/// # Errors
/// The file cannot be read or is no JSON object, or `visit` fails; messages name the byte.
pub(super) fn visit_arrays(
    path: &Path,
    mut visit: impl FnMut(&str, &[u8]) -> Result<(), String>,
    mut done: impl FnMut(u64),
) -> Result<(), DataError> {
    let file = File::open(path).map_err(|e| DataError::read(path, e))?;
    let mut scanner =
        Scanner { source: file, buffer: vec![0; BUFFER], at: 0, filled: 0, before: 0 };
    let result = scanner.object(&mut visit, &mut done);
    result.map_err(|fault| match fault {
        Fault::Io(e) => DataError::read(path, e),
        Fault::Json(message) => DataError::format(
            path,
            format!("{message} (at byte {})", scanner.before + scanner.at as u64),
        ),
    })
}

enum Fault {
    Io(std::io::Error),
    Json(String),
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Json(message)
    }
}

fn json<T>(message: &str) -> Result<T, Fault> {
    Err(Fault::Json(message.to_owned()))
}

struct Scanner<R> {
    source: R,
    buffer: Vec<u8>,
    at: usize,
    filled: usize,
    /// Bytes before the buffer.
    before: u64,
}

impl<R: Read> Scanner<R> {
    fn object(
        &mut self,
        visit: &mut impl FnMut(&str, &[u8]) -> Result<(), String>,
        done: &mut impl FnMut(u64),
    ) -> Result<(), Fault> {
        let mut first = self.mark()?;
        if first == Some(0xef) {
            self.at += 3; // a byte order mark
            first = self.mark()?;
        }
        if first != Some(b'{') {
            return json("not a JSON object");
        }
        self.at += 1;
        let mut element = Vec::new();
        let mut reported = 0;
        loop {
            match self.mark()? {
                Some(b'}') => return Ok(()),
                Some(b',') => self.at += 1,
                Some(b'"') => {}
                Some(_) => return json("a key was expected"),
                None => return json("the file ends in the middle; copy it again"),
            }
            if self.mark()? != Some(b'"') {
                continue;
            }
            self.value(&mut element)?;
            let key: String =
                serde_json::from_slice(&element).map_err(|e| format!("a key: {e}"))?;
            if self.mark()? != Some(b':') {
                return json("a colon was expected");
            }
            self.at += 1;
            if self.mark()? != Some(b'[') {
                self.value(&mut element)?;
                visit(&key, &element)?;
                continue;
            }
            self.at += 1;
            loop {
                match self.mark()? {
                    Some(b']') => {
                        self.at += 1;
                        break;
                    }
                    Some(b',') => self.at += 1,
                    None => return json("the file ends in the middle; copy it again"),
                    Some(_) => {
                        self.value(&mut element)?;
                        visit(&key, &element)?;
                        let read = self.before + self.at as u64;
                        if read >= reported + STEP {
                            reported = read;
                            done(read);
                        }
                    }
                }
            }
        }
    }

    /// The next byte that is no space, not consumed.
    fn mark(&mut self) -> Result<Option<u8>, Fault> {
        loop {
            while self.at < self.filled {
                match self.buffer[self.at] {
                    b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                    other => return Ok(Some(other)),
                }
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    fn fill(&mut self) -> Result<bool, Fault> {
        self.before += self.filled as u64;
        self.at = 0;
        self.filled = self.source.read(&mut self.buffer).map_err(Fault::Io)?;
        Ok(self.filled > 0)
    }

    /// Copies one whole value.
    fn value(&mut self, out: &mut Vec<u8>) -> Result<(), Fault> {
        out.clear();
        let (mut depth, mut quoted, mut escaped) = (0usize, false, false);
        loop {
            let from = self.at;
            let mut ended = false;
            while self.at < self.filled {
                let byte = self.buffer[self.at];
                if quoted {
                    self.at += 1;
                    match byte {
                        _ if escaped => escaped = false,
                        b'\\' => escaped = true,
                        b'"' => {
                            quoted = false;
                            ended = depth == 0;
                        }
                        _ => {}
                    }
                } else {
                    match byte {
                        b'"' => quoted = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' if depth > 0 => {
                            depth -= 1;
                            ended = depth == 0;
                        }
                        // a bare number or word ends before what follows it
                        b',' | b'}' | b']' | b':' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => {
                            out.extend_from_slice(&self.buffer[from..self.at]);
                            return if out.is_empty() {
                                json("a value was expected")
                            } else {
                                Ok(())
                            };
                        }
                        _ => {}
                    }
                    self.at += 1;
                }
                if ended {
                    break;
                }
            }
            out.extend_from_slice(&self.buffer[from..self.at]);
            if ended {
                return Ok(());
            }
            if out.len() > MAX_ELEMENT {
                return json("an element of more than 64 MB");
            }
            if !self.fill()? {
                return json("the file ends in the middle; copy it again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn elements(text: &str, buffer: usize) -> Result<Vec<(String, String)>, String> {
        let mut found = Vec::new();
        let mut scanner = Scanner {
            source: text.as_bytes(),
            buffer: vec![0; buffer],
            at: 0,
            filled: 0,
            before: 0,
        };
        let mut visit = |key: &str, element: &[u8]| {
            found.push((key.to_owned(), String::from_utf8_lossy(element).into_owned()));
            Ok(())
        };
        match scanner.object(&mut visit, &mut |_| {}) {
            Ok(()) => Ok(found),
            Err(Fault::Json(message)) => Err(message),
            Err(Fault::Io(e)) => Err(e.to_string()),
        }
    }

    #[test]
    fn elements_are_whole_whatever_the_buffer() {
        let text = r#" {"info": {"a": [1, "]}"]}, "images": [ {"id": 1, "n": "a\"],}"}, 7,"x" ,[1,[2]]], "none": [], "v": null}"#;
        let whole = elements(text, 4096).unwrap();
        let keys: Vec<&str> = whole.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(keys, ["info", "images", "images", "images", "images", "v"]);
        assert_eq!(whole[1].1, r#"{"id": 1, "n": "a\"],}"}"#);
        assert_eq!((whole[2].1.as_str(), whole[4].1.as_str()), ("7", "[1,[2]]"));
        for buffer in [1, 2, 3, 7] {
            assert_eq!(elements(text, buffer).unwrap(), whole);
        }
    }

    #[test]
    fn truncation_is_an_error() {
        let text = r#"{"images": [{"id": 1}, {"id": 2}], "n": 3}"#;
        assert!(elements(text, 64).is_ok());
        for end in 0..text.len() {
            assert!(elements(&text[..end], 64).is_err(), "cut at {end}");
        }
        assert!(elements("[1]", 64).is_err() && elements("{1: 2}", 64).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics_or_hangs(text in "[\\[\\]{}:,\" a1\\\\]{0,60}") {
            let _ = elements(&text, 5);
        }

        #[test]
        fn elements_equal_serde_json(numbers in proptest::collection::vec((any::<f64>(), ".{0,8}"), 0..20)) {
            let numbers: Vec<(f64, String)> = numbers.into_iter().filter(|n| n.0.is_finite()).collect();
            let text = serde_json::to_string(&serde_json::json!({ "a": numbers })).unwrap();
            let found = elements(&text, 16).unwrap();
            prop_assert_eq!(found.len(), numbers.len());
            for ((_, raw), number) in found.iter().zip(&numbers) {
                prop_assert_eq!(raw, &serde_json::to_string(number).unwrap());
            }
        }
    }
}
