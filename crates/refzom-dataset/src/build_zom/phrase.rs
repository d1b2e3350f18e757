//! A sentence as a noun phrase: determiner, modifiers, head noun, and what follows it. Built on the part-of-speech tagger.
//!
//! Made to be refused by: whatever is not plainly one noun phrase ("there is ..", "he is running", "left", "not the dog")
//! has no [`Phrase`], so that only sentences whose head noun is certain are combined or borrowed.

use super::attributes::{Colour, number_of};
use super::categories::CategorySet;
use super::lexicon::{Meaning, longest, meaning_of, singular};
use crate::text::NounTagger;

/// Why a sentence is no noun phrase that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NotAPhrase {
    /// No noun before the first verb or preposition.
    NoNoun,
    /// A whole sentence ("a man rides a horse"), an order, or one that begins with a pronoun.
    Clause,
    /// "not", "no", "without", "except": what it means depends on what is excluded.
    Negated,
    /// "a cat and a dog": several heads.
    Coordinated,
    /// "the other one", "same", "another": meaningless without the sentence before.
    Anaphoric,
    /// More words than allowed.
    TooLong,
}

/// How many things the head noun stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// One.
    Singular,
    /// Several, no number said.
    Plural,
    /// As many as said.
    Exactly(u32),
}

/// A noun phrase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phrase {
    /// The phrase without its article, lower case, single spaces.
    pub body: String,
    /// Whether it may be given the article "the": its first word is no "this" or "those".
    pub takes_article: bool,
    /// The head noun in its singular, several words for a compound that names a category.
    pub head: String,
    /// What the head says about categories; `None` for a noun that names none ("shirt").
    pub meaning: Option<Meaning>,
    /// How many.
    pub number: Number,
    /// Colours said of the head.
    pub colours: Vec<Colour>,
    /// Whether something follows the head, and whether that holds another noun.
    pub tail: Tail,
    /// Categories named up to the head, the head's too: "man" and "skis" in "the man skis", which has two nouns for the tagger.
    pub core: CategorySet,
    /// Categories named after the head.
    pub context: CategorySet,
    /// Whether "and" follows the head somewhere: what it joins is not always clear.
    pub joined: bool,
    /// Words of `body`.
    pub words: usize,
    /// Whether "is" or "are" was dropped: `body` is not what was written.
    pub reduced: bool,
}

/// What follows the head noun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tail {
    /// Nothing.
    None,
    /// Words without a noun: "closest to us".
    Plain,
    /// A further noun: "next to the dog".
    Noun,
}

const ARTICLES: [&str; 3] = ["a", "an", "the"];
const PLACES: [&str; 22] = [
    "left",
    "right",
    "top",
    "bottom",
    "middle",
    "center",
    "centre",
    "front",
    "back",
    "side",
    "leftmost",
    "rightmost",
    "corner",
    "edge",
    "background",
    "foreground",
    "end",
    "upper",
    "lower",
    "far",
    "rear",
    "half",
];
/// Nouns that stand for the noun after "of".
const PARTITIVES: [&str; 29] = [
    "group",
    "bunch",
    "row",
    "pair",
    "couple",
    "herd",
    "flock",
    "crowd",
    "pile",
    "stack",
    "number",
    "lot",
    "line",
    "set",
    "piece",
    "close",
    "close-up",
    "closeup",
    "pack",
    "team",
    "collection",
    "variety",
    "series",
    "array",
    "assortment",
    "swarm",
    "cluster",
    "gaggle",
    "string",
];
/// Nouns for pictures and views of things: a sentence about the picture, not about a thing in it.
const PICTURES: [&str; 12] = [
    "picture",
    "image",
    "photo",
    "photograph",
    "view",
    "shot",
    "scene",
    "close-up",
    "closeup",
    "statue",
    "painting",
    "drawing",
];
const NEGATIONS: [&str; 9] =
    ["not", "no", "n't", "without", "except", "but", "never", "nobody", "isnt"];
const ANAPHORA: [&str; 11] = [
    "other", "another", "same", "others", "one", "ones", "else", "again", "former", "latter",
    "also",
];
const OPENERS: [&str; 20] = [
    "there", "it", "its", "he", "she", "they", "i", "we", "you", "here", "his", "her", "their",
    "my", "who", "what", "where", "this", "these", "those",
];
const ING_NOUNS: [&str; 14] = [
    "building",
    "ceiling",
    "clothing",
    "painting",
    "railing",
    "wedding",
    "awning",
    "lightning",
    "pudding",
    "icing",
    "frosting",
    "drawing",
    "stuffing",
    "earring",
];
const COPULAS: [&str; 6] = ["is", "are", "was", "were", "'s", "'re"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Determiner,
    Modifier,
    Number,
    Noun,
    Possessive,
    And,
    Comma,
    Copula,
    /// `-ing` or `-ed`.
    Participle,
    /// A finite verb.
    Verb,
    Adverb,
    /// Prepositions, relative pronouns and the rest: whatever ends the core.
    Other,
}

struct Word<'a> {
    text: &'a str,
    class: Class,
}

impl Phrase {
    /// Reads `sentence` as a noun phrase of at most `max_words` words. "is" and "are" between the core and a participle or
    /// preposition are dropped: "a man is riding a horse" reads "man riding a horse".
    ///
    /// # Errors
    /// The reason it is none.
    pub fn parse(
        sentence: &str,
        tagger: &dyn NounTagger,
        max_words: usize,
    ) -> Result<Self, NotAPhrase> {
        let lower = sentence.trim().trim_end_matches(['.', ' ', '!', ',', ';']).to_lowercase();
        if lower.split_whitespace().count() > max_words + 2 {
            return Err(NotAPhrase::TooLong);
        }
        let tagged = tagger.tag(&lower);
        let words: Vec<Word<'_>> = tagged
            .iter()
            .filter(|word| !matches!(&lower[word.range.clone()], "\"" | "``" | "''"))
            .map(|word| {
                let text = &lower[word.range.clone()];
                Word { text, class: class_of(text, &word.tag) }
            })
            .collect();
        let first = words.first().ok_or(NotAPhrase::NoNoun)?;
        if words.iter().any(|word| NEGATIONS.contains(&word.text)) {
            return Err(NotAPhrase::Negated);
        }
        if OPENERS.contains(&first.text) || first.class == Class::Verb {
            return Err(NotAPhrase::Clause);
        }
        if words.iter().any(|word| ANAPHORA.contains(&word.text)) && !allowed_one(&words) {
            return Err(NotAPhrase::Anaphoric);
        }
        if words.iter().any(|w| {
            matches!(w.text, ";" | ":" | "?" | "!" | "." | "(" | ")" | "/" | "..." | "&" | "or")
        }) {
            return Err(NotAPhrase::Clause);
        }
        build(&words, max_words)
    }
}

/// "one" is a number in "one dog" but stands for a noun in "the left one".
fn allowed_one(words: &[Word<'_>]) -> bool {
    let bad = |(i, word): (usize, &Word<'_>)| {
        ANAPHORA.contains(&word.text)
            && !(word.text == "one"
                && words
                    .get(i + 1)
                    .is_some_and(|next| matches!(next.class, Class::Noun | Class::Modifier)))
    };
    !words.iter().enumerate().any(bad)
}

fn build(words: &[Word<'_>], max_words: usize) -> Result<Phrase, NotAPhrase> {
    let mut core = core_of(words, 0)?;
    let mut group = false;
    // "a group of people": the people.
    while PARTITIVES.contains(&singular(words[core.head].text).as_str())
        && words.get(core.end).is_some_and(|word| word.text == "of")
    {
        group |= !matches!(words[core.head].text, "piece" | "close-up" | "closeup");
        core = core_of(words, core.end + 1)?;
    }
    let (head, meaning, from) = head_of(words, &core);
    if PICTURES.contains(&head.as_str()) || PARTITIVES.contains(&head.as_str()) && meaning.is_none()
    {
        return Err(NotAPhrase::NoNoun);
    }
    let mut tail = core.end..words.len();
    let mut skip = tail.start..tail.start;
    if let Some(word) = words.get(tail.start) {
        let next = words.get(tail.start + 1);
        match word.class {
            Class::And | Class::Comma => return Err(NotAPhrase::Coordinated),
            Class::Copula => {
                if !next
                    .is_some_and(|w| matches!(w.class, Class::Participle) || is_preposition(w.text))
                {
                    return Err(NotAPhrase::Clause);
                }
                skip = tail.start..tail.start + 1;
                tail.start += 1;
            }
            Class::Verb => return Err(NotAPhrase::Clause),
            Class::Determiner | Class::Number | Class::Possessive => {
                return Err(NotAPhrase::Clause);
            }
            // "guy left": a place without its preposition
            Class::Modifier if PLACES.contains(&word.text) => return Err(NotAPhrase::Clause),
            _ => {}
        }
    }
    // A second clause may only follow "that", "who", "while", "as".
    let mut opened = false;
    for word in &words[tail.clone()] {
        opened |= matches!(
            word.text,
            "that" | "which" | "who" | "while" | "as" | "where" | "whose" | "when"
        );
        if matches!(word.class, Class::Copula | Class::Verb) && !opened {
            return Err(NotAPhrase::Clause);
        }
    }
    let number = number_of_core(words, &core, group);
    let colours: Vec<Colour> =
        words[core.start..from].iter().filter_map(|word| Colour::of(word.text)).collect();
    let rest = &words[tail.clone()];
    let kept: Vec<&str> = words
        .iter()
        .enumerate()
        .filter(|(i, word)| !(skip.contains(i) || *i == 0 && ARTICLES.contains(&word.text)))
        .map(|(_, word)| word.text)
        .collect();
    if kept.len() > max_words {
        return Err(NotAPhrase::TooLong);
    }
    let texts: Vec<&str> = rest.iter().map(|word| word.text).collect();
    let until_head: Vec<&str> = words[..core.end].iter().map(|word| word.text).collect();
    Ok(Phrase {
        body: join(&kept),
        takes_article: !matches!(
            words[0].text,
            "both" | "all" | "every" | "each" | "some" | "several" | "many"
        ),
        head,
        meaning,
        number,
        colours,
        tail: match rest {
            [] => Tail::None,
            rest if rest.iter().any(|word| word.class == Class::Noun) => Tail::Noun,
            _ => Tail::Plain,
        },
        core: categories_in(&until_head),
        context: categories_in(&texts),
        joined: rest.iter().any(|word| matches!(word.class, Class::And | Class::Comma)),
        words: kept.len(),
        reduced: !skip.is_empty(),
    })
}

/// Words joined by spaces; clitics and commas close up.
fn join(words: &[&str]) -> String {
    let mut text = String::new();
    for word in words {
        if !text.is_empty() && !word.starts_with('\'') && *word != "," {
            text.push(' ');
        }
        text += word;
    }
    text
}

struct Core {
    start: usize,
    /// Place of the head noun.
    head: usize,
    /// One past the head.
    end: usize,
}

/// The core from `start` on: determiners, modifiers, nouns.
fn core_of(words: &[Word<'_>], start: usize) -> Result<Core, NotAPhrase> {
    let mut head = None;
    let mut i = start;
    while let Some(word) = words.get(i) {
        let seen = head.is_some();
        let next = words.get(i + 1).map(|word| word.class);
        // "stop sign", whatever the tagger takes "stop" for
        let ahead: Vec<&str> = words[i..].iter().take(3).map(|word| word.text).collect();
        if let Some(found) = longest(&ahead).filter(|found| found.length > 1) {
            head = Some(i + found.length - 1);
            i += found.length;
            continue;
        }
        match word.class {
            Class::Noun => head = Some(i),
            // "black and white dog", "clean, spacious room"
            Class::And | Class::Comma if !seen && i > start => {}
            Class::Determiner
            | Class::Number
            | Class::Modifier
            | Class::Participle
            | Class::Adverb
                if !seen => {}
            // "dog 's bowl", "police black car"
            Class::Possessive if seen => head = None,
            Class::Copula
                if seen
                    && word.text == "'s"
                    && matches!(next, Some(Class::Noun | Class::Modifier)) =>
            {
                head = None;
            }
            Class::Modifier
                if seen && next == Some(Class::Noun) && !PLACES.contains(&word.text) => {}
            _ => break,
        }
        i += 1;
    }
    let head = head.ok_or(NotAPhrase::NoNoun)?;
    Ok(Core { start, head, end: head + 1 })
}

/// The head with its meaning, and where the compound begins: the longest known noun that ends at the head.
fn head_of(words: &[Word<'_>], core: &Core) -> (String, Option<Meaning>, usize) {
    for from in core.head.saturating_sub(2).max(core.start)..=core.head {
        let texts: Vec<&str> = words[from..=core.head].iter().map(|word| word.text).collect();
        if let Some(meaning) = meaning_of(&texts.join(" ")) {
            let mut noun = texts[..texts.len() - 1].join(" ");
            if !noun.is_empty() {
                noun.push(' ');
            }
            return (noun + &singular(texts[texts.len() - 1]), Some(meaning), from);
        }
    }
    (singular(words[core.head].text), None, core.head)
}

fn number_of_core(words: &[Word<'_>], core: &Core, group: bool) -> Number {
    let said = words[..core.head].iter().rev().find_map(|word| number_of(word.text));
    let couple = words[..core.start].iter().any(|word| matches!(word.text, "couple" | "pair"));
    let plural = longest(&[words[core.head].text]).is_some_and(|found| found.plural)
        || singular(words[core.head].text) != words[core.head].text;
    match said {
        Some(1) => Number::Singular,
        Some(n) => Number::Exactly(n),
        None if couple => Number::Exactly(2),
        None if plural || group => Number::Plural,
        None => Number::Singular,
    }
}

/// Every category that a noun among `words` names.
pub(super) fn categories_in(words: &[&str]) -> CategorySet {
    let mut set = CategorySet::EMPTY;
    let mut i = 0;
    while i < words.len() {
        let found = longest(&words[i..]);
        if let Some(found) = found {
            set |= found.meaning.categories;
        }
        i += found.map_or(1, |found| found.length);
    }
    set
}

fn is_preposition(word: &str) -> bool {
    matches!(
        word,
        "in" | "on"
            | "at"
            | "by"
            | "with"
            | "near"
            | "next"
            | "behind"
            | "under"
            | "above"
            | "over"
            | "inside"
            | "outside"
            | "between"
            | "from"
            | "of"
            | "for"
            | "along"
            | "beside"
            | "against"
            | "among"
            | "around"
            | "through"
            | "across"
            | "below"
            | "beneath"
            | "in-between"
            | "atop"
            | "underneath"
            | "upon"
            | "onto"
            | "to"
            | "into"
    )
}

fn class_of(text: &str, tag: &str) -> Class {
    if COPULAS.contains(&text) && tag != "POS" {
        return Class::Copula;
    }
    match text {
        "and" => return Class::And,
        "," => return Class::Comma,
        "can" | "could" | "will" | "has" | "have" | "had" | "do" | "does" | "sits" | "stands"
        | "looks" | "walks" | "holds" | "rides" | "wears" | "shows" | "plays" | "lies" | "lays"
        | "eats" | "runs" | "flies" | "drives" | "makes" | "poses" | "crosses" | "features"
        | "contains" | "grazes" | "drinks" | "adjusts" | "inhales" | "gather" => {
            return Class::Verb;
        }
        "that" | "which" | "who" => return Class::Other,
        "front" | "back" | "side" | "top" | "bottom" | "left" | "right" | "middle" | "center" => {
            return Class::Modifier;
        }
        "another" | "each" | "every" | "all" | "both" | "some" | "several" | "many" => {
            return Class::Determiner;
        }
        _ => {}
    }
    if ARTICLES.contains(&text) {
        return Class::Determiner;
    }
    if is_preposition(text) {
        return Class::Other;
    }
    if number_of(text).is_some() {
        return Class::Number;
    }
    if Colour::of(text).is_some() && text != "orange" {
        return Class::Modifier;
    }
    let known = longest(&[text]).is_some_and(|found| found.meaning.exact);
    let participle = text.ends_with("ing") || matches!(tag, "VBG" | "VBN" | "VBD");
    match tag {
        _ if known => Class::Noun,
        "NN" | "NNS" | "NNP" | "NNPS" if PLACES.contains(&text) => Class::Modifier,
        // "a man riding": the tagger often takes the verb for a noun
        "NN" | "NNP" if text.ends_with("ing") && text.len() > 5 && !ING_NOUNS.contains(&text) => {
            Class::Participle
        }
        "NN" | "NNS" | "NNP" | "NNPS" => Class::Noun,
        "POS" => Class::Possessive,
        "DT" | "PDT" | "PRP$" => Class::Determiner,
        "CD" => Class::Number,
        _ if participle => Class::Participle,
        "JJ" | "JJR" | "JJS" => Class::Modifier,
        "VBZ" | "VBP" | "VB" | "MD" => Class::Verb,
        "RB" | "RBR" | "RBS" => Class::Adverb,
        "CC" => Class::And,
        _ => Class::Other,
    }
}

/// The bytes of `text` without quotes and a final full stop; what a borrowed sentence is shown as.
pub(super) fn tidy(text: &str) -> String {
    let inner: &str = text.trim().trim_matches(['"', '\'']).trim_end_matches(['.', ' ', ',', ';']);
    inner.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::LazyLock;

    use super::*;
    use crate::PerceptronTagger;

    /// Unpacked once: tests ask it often.
    pub(in crate::build_zom) static TAGGER: LazyLock<PerceptronTagger> =
        LazyLock::new(|| PerceptronTagger::masc().unwrap());

    fn parse(text: &str) -> Result<Phrase, NotAPhrase> {
        Phrase::parse(text, &*TAGGER, 18)
    }

    #[track_caller]
    fn head(text: &str, head: &str, body: &str) -> Phrase {
        let phrase = parse(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
        assert_eq!((phrase.head.as_str(), phrase.body.as_str()), (head, body), "{text}");
        phrase
    }

    #[test]
    fn heads_of_captions() {
        let p = head(
            "A woman cutting a large white sheet cake.",
            "woman",
            "woman cutting a large white sheet cake",
        );
        assert_eq!((p.tail, p.context.to_string().as_str()), (Tail::Noun, "cake"));
        let p = head(
            "Two dogs are looking up at a camera in a bathroom.",
            "dog",
            "two dogs looking up at a camera in a bathroom",
        );
        assert_eq!(p.number, Number::Exactly(2));
        head("A man is in a kitchen making pizzas.", "man", "man in a kitchen making pizzas");
        head(
            "A red stop sign sitting on the side of a dark road.",
            "stop sign",
            "red stop sign sitting on the side of a dark road",
        );
        let p = head(
            "A group of people walk alongside the road".replace("walk", "walking").as_str(),
            "person",
            "group of people walking alongside the road",
        );
        assert_eq!(p.number, Number::Plural);
        let p = head(
            "a herd of cattle grazing on a lush green field",
            "cattle",
            "herd of cattle grazing on a lush green field",
        );
        assert_eq!(p.meaning.unwrap().categories.to_string(), "cow");
        let p = head("A black and white dog on grass", "dog", "black and white dog on grass");
        assert_eq!(p.colours, [Colour::Black, Colour::White]);
    }

    #[test]
    fn heads_of_expressions() {
        head("the man's dog", "dog", "man's dog");
        head("left man", "man", "left man");
        head("woman in red", "woman", "woman in red");
        head("the zebra closest to us", "zebra", "zebra closest to us");
        assert_eq!(head("dog house", "house", "dog house").meaning, None);
        assert_eq!(
            head("the bowl that is full of fruit", "bowl", "bowl that is full of fruit").tail,
            Tail::Noun
        );
    }

    #[test]
    fn what_is_no_phrase() {
        for (text, why) in [
            ("left", NotAPhrase::NoNoun),
            ("", NotAPhrase::NoNoun),
            ("There are two cows in this grassy field.", NotAPhrase::Clause),
            ("he is running", NotAPhrase::Clause),
            ("A cat and a dog on a bed", NotAPhrase::Coordinated),
            ("the bowl that is not on the counter", NotAPhrase::Negated),
            ("the other dog", NotAPhrase::Anaphoric),
            ("the left one", NotAPhrase::Anaphoric),
            ("the dog is brown", NotAPhrase::Clause),
            ("A picture of a dog", NotAPhrase::NoNoun),
        ] {
            assert_eq!(parse(text), Err(why), "{text}");
        }
        assert!(parse(&"dog ".repeat(40)).is_err());
    }
}
