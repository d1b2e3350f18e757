//! The expressions of one call: from `--text`, from a file or from standard input, checked before any work is done.

use std::fs;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result};

use crate::exit::{OrBadInput, bad_input};

/// Longest text file: more is no list of expressions.
const MAX_BYTES: u64 = 16 << 20;

/// Most expressions of one call: their masks are all in memory before the first is written.
const MAX_TEXTS: usize = 1_000;

/// All expressions in the order given: those of `--text`, then the lines of `--texts-from`.
///
/// # Errors
/// Bad input: none at all, an empty one, or one without a single Latin letter or digit.
pub(crate) fn collect(texts: &[String], from: Option<&Path>) -> Result<Vec<String>> {
    let mut all: Vec<String> = texts.iter().map(|text| text.trim().to_owned()).collect();
    if let Some(path) = from {
        let lines = read(path)?;
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
        let before = all.len();
        all.extend(lines.map(str::to_owned));
        if all.len() == before {
            return Err(bad_input!("{} holds no expression; write one a line", shown(path)));
        }
    }
    if all.is_empty() {
        return Err(bad_input!(
            "no expression given; use --text \"the red cup\" or --texts-from FILE"
        ));
    }
    if all.len() > MAX_TEXTS {
        return Err(bad_input!("{} expressions in one call; give at most {MAX_TEXTS}", all.len()));
    }
    for (index, text) in all.iter().enumerate() {
        check(index + 1, text)?;
    }
    Ok(all)
}

fn read(path: &Path) -> Result<String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
    };
    read.with_context(|| format!("cannot read expressions from {}", shown(path))).or_bad_input()?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(bad_input!(
            "{} is larger than 16 MB; is it a list of expressions?",
            shown(path)
        ));
    }
    // A byte order mark, as some editors write it, is no part of the first expression.
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    std::str::from_utf8(text)
        .map(str::to_owned)
        .map_err(|_| bad_input!("{} is not UTF-8 text; save it as UTF-8", shown(path)))
}

fn shown(path: &Path) -> String {
    if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() }
}

/// The vocabulary and the training data are English: a text in another script would be cut into
/// single letters that mean nothing to the network, and its answer would look like an answer.
fn check(number: usize, text: &str) -> Result<()> {
    if text.is_empty() {
        return Err(bad_input!("expression {number} is empty; describe what to find"));
    }
    let readable = |c: char| c.is_ascii_digit() || is_latin(c);
    if !text.chars().any(readable) {
        return Err(bad_input!(
            "expression {number} ({}) has no Latin letter; the vocabulary is English, so write it in English",
            short(text)
        ));
    }
    Ok(())
}

fn is_latin(c: char) -> bool {
    c.is_alphabetic()
        && matches!(c, 'A'..='Z' | 'a'..='z' | '\u{c0}'..='\u{24f}' | '\u{1e00}'..='\u{1eff}')
}

/// The words with letters of other scripts than Latin, for a notice.
pub(crate) fn foreign_words(text: &str) -> Vec<&str> {
    let foreign = |word: &&str| word.chars().any(|c| c.is_alphabetic() && !is_latin(c));
    text.split_whitespace().filter(foreign).collect()
}

/// The word around byte `position`, between white space.
pub(crate) fn word_at(text: &str, position: usize) -> &str {
    let from = text.get(..position).and_then(|head| head.rfind(char::is_whitespace));
    let start = from.map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    text[start..].split(char::is_whitespace).next().unwrap_or_default()
}

/// The text on one line, cut after 60 characters and quoted, for messages.
pub(crate) fn short(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.chars().count() <= 60 {
        return format!("\"{line}\"");
    }
    let cut: String = line.chars().take(57).collect();
    format!("\"{}...\"", cut.trim_end())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(texts: &[&str]) -> Result<Vec<String>> {
        collect(&texts.iter().map(|t| t.to_string()).collect::<Vec<_>>(), None)
    }

    #[test]
    fn order_is_kept_and_ends_are_trimmed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("texts.txt");
        fs::write(&path, "the cat\r\n\n  two dogs \n").unwrap();
        let all = collect(&["a man ".into()], Some(&path)).unwrap();
        assert_eq!(all, ["a man", "the cat", "two dogs"]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (texts, part) in [
            (vec![], "no expression"),
            (vec!["a cup", "   "], "expression 2 is empty"),
            (vec!["красный круг"], "no Latin letter"),
            (vec!["?!"], "no Latin letter"),
        ] {
            let message = of(&texts).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        }
        assert!(of(&["le café à gauche", "2"]).is_ok());
    }

    #[test]
    fn files_that_are_no_lists_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("texts.bin");
        fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
        assert!(collect(&[], Some(&path)).unwrap_err().to_string().contains("UTF-8"));
        fs::write(&path, "\n\n").unwrap();
        assert!(collect(&[], Some(&path)).unwrap_err().to_string().contains("no expression"));
        let missing = dir.path().join("missing");
        assert!(collect(&[], Some(&missing)).unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn long_texts_are_shortened_for_messages() {
        assert_eq!(short("a\nb"), "\"a b\"");
        assert_eq!(short(&"word ".repeat(100)).chars().count(), 62);
        assert_eq!(word_at("the red\u{a0}circle", 6), "red");
        assert_eq!(word_at("the red\u{a0}circle", 10), "circle");
        assert_eq!((word_at("one", 0), word_at("", 0), word_at("é a", 1)), ("one", "", "é"));
        assert_eq!(foreign_words("the красный circle 圆"), ["красный", "圆"]);
    }
}
