//! Expressions to words with byte ranges, after the conventions of the Penn Treebank: punctuation apart,
//! clitics (`'s`, `n't`) apart, hyphens and inner dots kept.

use std::ops::Range;

/// Byte ranges of the words and punctuation marks of `text`, in order.
pub fn split_words(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        match (c.is_whitespace(), start) {
            (true, Some(from)) => {
                split_chunk(text, from..at, &mut words);
                start = None;
            }
            (false, None) => start = Some(at),
            _ => {}
        }
    }
    words
}

/// Marks that stand alone wherever they occur.
fn stands_alone(c: char) -> bool {
    matches!(
        c,
        '?' | '!'
            | ';'
            | '@'
            | '#'
            | '$'
            | '%'
            | '&'
            | '('
            | ')'
            | '['
            | ']'
            | '{'
            | '}'
            | '<'
            | '>'
    ) || matches!(c, '"' | '“' | '”' | '«' | '»' | '…')
}

/// Splits a stretch without white space.
fn split_chunk(text: &str, chunk: Range<usize>, words: &mut Vec<Range<usize>>) {
    let mut from = chunk.start;
    for (offset, c) in text[chunk.clone()].char_indices() {
        let at = chunk.start + offset;
        let after = &text[at + c.len_utf8()..chunk.end];
        // 1,000 and 10:30 stay whole
        let separates = matches!(c, ',' | ':') && !after.starts_with(|d: char| d.is_ascii_digit());
        if stands_alone(c) || separates {
            split_word(text, from..at, words);
            words.push(at..at + c.len_utf8());
            from = at + c.len_utf8();
        }
    }
    split_word(text, from..chunk.end, words);
}

/// Takes quotes, final dots and clitics off one word.
fn split_word(text: &str, mut word: Range<usize>, words: &mut Vec<Range<usize>>) {
    while text[word.clone()].starts_with(['\'', '‘', '’', '`'])
        && word.len() > 1
        && !clitic_at_start(&text[word.clone()])
    {
        let width = text[word.clone()].chars().next().map_or(1, char::len_utf8);
        words.push(word.start..word.start + width);
        word.start += width;
    }
    let mut tail = Vec::new();
    while let Some(last) =
        text[word.clone()].chars().next_back().filter(|c| matches!(c, '.' | '\'' | '’'))
    {
        let dots = text[word.clone()].len() - text[word.clone()].trim_end_matches('.').len();
        let width = if last == '.' { dots } else { last.len_utf8() };
        tail.push(word.end - width..word.end);
        word.end -= width;
    }
    if !word.is_empty() {
        let lower = text[word.clone()].to_lowercase();
        let split = clitic_length(&lower).filter(|n| *n < word.len() && lower.len() == word.len());
        match split {
            Some(n) => words.extend([word.start..word.end - n, word.end - n..word.end]),
            None => words.push(word),
        }
    }
    words.extend(tail.into_iter().rev());
}

fn clitic_at_start(word: &str) -> bool {
    matches!(word.to_lowercase().as_str(), "'s" | "'m" | "'d" | "'ll" | "'re" | "'ve")
}

/// Length in bytes of the clitic that a lower-case word ends with.
fn clitic_length(word: &str) -> Option<usize> {
    if word == "cannot" {
        return Some(3);
    }
    ["n't", "'ll", "'re", "'ve", "'s", "'m", "'d"]
        .iter()
        .find(|c| word.ends_with(**c))
        .map(|c| c.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<&str> {
        split_words(text).into_iter().map(|r| &text[r]).collect()
    }

    #[test]
    fn treebank_conventions() {
        assert_eq!(words("the zebra that's closest"), ["the", "zebra", "that", "'s", "closest"]);
        assert_eq!(
            words("a woman's umbrella, left."),
            ["a", "woman", "'s", "umbrella", ",", "left", "."]
        );
        assert_eq!(words("(left)(right)"), ["(", "left", ")", "(", "right", ")"]);
        assert_eq!(
            words("guy w/ old-fashioned 1,000 hats..."),
            ["guy", "w/", "old-fashioned", "1,000", "hats", "..."]
        );
        assert_eq!(words("cannot don't 50%"), ["can", "not", "do", "n't", "50", "%"]);
        assert_eq!(words("the “quoted” word"), ["the", "“", "quoted", "”", "word"]);
        assert_eq!(words(" ' "), ["'"]);
        assert!(words(" \t").is_empty());
    }

    proptest! {
        #[test]
        fn ranges_ascend_and_cover_everything_but_space(text in "\\PC{0,40}") {
            let mut end = 0;
            for range in split_words(&text) {
                prop_assert!(range.start >= end && range.start < range.end);
                prop_assert!(text[end..range.start].trim().is_empty());
                end = range.end;
            }
            prop_assert!(text[end..].trim().is_empty());
        }
    }
}
