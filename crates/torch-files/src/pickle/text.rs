//! Python's spellings of strings and long integers inside a pickle.

/// An ASCII line, shortened to what an identifier or a number needs.
pub(super) fn ascii(bytes: &[u8]) -> String {
    bytes.iter().take(200).map(|&b| char::from(b)).collect()
}

/// UTF-8, or else Latin-1.
pub(super) fn lossless(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|e| e.as_bytes().iter().map(|&b| char::from(b)).collect())
}

/// A little-endian integer of any width; `None` beyond 64 bits.
pub(super) fn long(bytes: &[u8]) -> Option<i64> {
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
pub(super) fn unescape(line: &[u8]) -> Result<Vec<u8>, &'static str> {
    let inner = match line {
        [open @ (b'\'' | b'"'), inner @ .., close] if open == close => inner,
        _ => return Err("a string lacks its quotes"),
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
pub(super) fn unescape_unicode(line: &[u8]) -> Result<String, &'static str> {
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
