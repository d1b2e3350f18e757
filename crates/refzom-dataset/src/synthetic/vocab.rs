//! A small WordPiece vocabulary: the grammar's words, and single characters so that any other
//! Latin text still splits into known pieces.

use super::phrase::WORDS;

/// `vocab.txt`, one piece a line; the line number is the id, `[PAD]` is 0.
pub fn synthetic_vocab() -> String {
    let mut pieces: Vec<String> =
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(str::to_owned).to_vec();
    let mut words = WORDS.to_vec();
    words.sort_unstable();
    pieces.extend(words.iter().map(|&w| w.to_owned()));
    let single = || ('a'..='z').chain('0'..='9');
    pieces.extend(single().map(String::from));
    pieces.extend(single().map(|c| format!("##{c}")));
    pieces.extend((33u8..127).filter(u8::is_ascii_punctuation).map(|c| char::from(c).to_string()));
    pieces.extend(["##es", "##ed", "##er", "##est", "##ing", "##ly"].map(str::to_owned));
    pieces.push(String::new()); // a final line break
    pieces.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn pieces_are_distinct_and_special_ids_are_berts_order() {
        let text = synthetic_vocab();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..5], ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]);
        assert_eq!(lines.iter().collect::<BTreeSet<_>>().len(), lines.len());
        assert!(lines.len() < 400, "{}", lines.len());
    }
}
