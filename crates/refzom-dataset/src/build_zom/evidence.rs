//! What the texts about an image say of its objects: which categories are mentioned, in the plural, in what number
//! and colour. A light scan without tagger: nouns of the lexicon with the words right before them.

use super::attributes::{Colour, number_of};
use super::categories::{CategoryIndex, CategorySet};
use super::lexicon::longest;
use super::texts::Texts;

/// How many words before a noun are looked at for its number and colour.
const REACH: usize = 3;

/// What is said about one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Categories that any noun may name.
    pub mentioned: CategorySet,
    /// Categories that a noun in the plural names.
    pub plural: CategorySet,
    /// Numbers said of a category.
    pub numbers: Vec<(CategoryIndex, u32)>,
    /// Colours said of a category.
    pub colours: Vec<(CategoryIndex, Colour)>,
}

impl Evidence {
    /// Of all captions and expressions of one image.
    pub fn of(texts: &Texts, picture: usize) -> Self {
        let captions = texts.captions_of(picture).iter().map(|caption| &*caption.text);
        let expressions = texts.expressions_of(picture).iter().map(|expression| &*expression.text);
        Self::of_texts(captions.chain(expressions))
    }

    /// Of some sentences about one image.
    pub fn of_texts<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let mut evidence = Self::default();
        for text in texts {
            evidence.add(text);
        }
        evidence
    }

    fn add(&mut self, text: &str) {
        let lower = text.to_lowercase();
        let words = words_of(&lower);
        let mut i = 0;
        while i < words.len() {
            let Some(found) = longest(&words[i..]) else {
                i += 1;
                continue;
            };
            self.mentioned |= found.meaning.categories;
            if found.plural {
                self.plural |= found.meaning.categories;
            }
            for word in &words[i.saturating_sub(REACH)..i] {
                if let Some(number) = number_of(word).filter(|_| found.meaning.exact) {
                    self.numbers.extend(found.meaning.categories.iter().map(|c| (c, number)));
                }
                if let Some(colour) = Colour::of(word) {
                    self.colours.extend(found.meaning.categories.iter().map(|c| (c, colour)));
                }
            }
            i += found.length;
        }
    }

    /// Colours said of one category.
    pub fn colours_of(&self, category: CategoryIndex) -> impl Iterator<Item = Colour> {
        self.colours.iter().filter(move |(c, _)| *c == category).map(|(_, colour)| *colour)
    }

    /// Whether a number other than `count` is said of the category, or "two dogs" of what is annotated once.
    pub fn contradicts(&self, category: CategoryIndex, count: usize) -> bool {
        let other = |&(c, n): &(CategoryIndex, u32)| c == category && n as usize != count && n > 1;
        self.numbers.iter().any(other) || count == 1 && self.plural.has(category)
    }
}

/// Lower-case words without punctuation.
pub(super) fn words_of(lower: &str) -> Vec<&str> {
    lower
        .split(|c: char| !(c.is_alphanumeric() || c == '-'))
        .filter(|word| !word.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::categories::index_of;
    use super::*;

    #[test]
    fn numbers_plurals_and_colours_are_found() {
        let texts =
            ["Three wild turkeys on grass.", "A dog beside a large red fire hydrant", "some sofas"];
        let evidence = Evidence::of_texts(texts.into_iter());
        let bird = index_of("bird").unwrap();
        assert_eq!(evidence.numbers, [(bird, 3)]);
        assert!(evidence.contradicts(bird, 2) && !evidence.contradicts(bird, 3));
        assert!(evidence.contradicts(bird, 1));
        let hydrant = index_of("fire hydrant").unwrap();
        assert_eq!(evidence.colours_of(hydrant).collect::<Vec<_>>(), [Colour::Red]);
        assert!(evidence.plural.has(index_of("couch").unwrap()));
        assert!(!evidence.plural.has(index_of("dog").unwrap()));
        assert!(evidence.mentioned.has(index_of("dog").unwrap()));
    }

    #[test]
    fn compounds_are_not_their_parts() {
        let evidence = Evidence::of_texts(["a hot dog and a teddy bear"].into_iter());
        assert_eq!(evidence.mentioned.to_string(), "hot dog, teddy bear");
    }
}
