//! Whether nothing in an image answers to a sentence of another image.
//!
//! 1. *Objects*: the head noun names COCO categories exactly, and neither these nor what they may be taken for are annotated.
//! 2. *Texts*: no caption and no expression of the image mentions one of them, under any of their names.
//!
//! A sentence about a category that is there may still refer to nothing if an attribute excludes it: another colour than
//! the only dog has, more dogs than there are. Words are weaker witnesses than annotations, so such sentences are
//! only proposed to a person ([`Passed::conflict`]).

use std::fmt;

use serde::Serialize;

use super::attributes::Colour;
use super::catalog::{Catalog, Picture};
use super::categories::{CATEGORIES, CategorySet};
use super::evidence::Evidence;
use super::phrase::{NotAPhrase, Number, Phrase};

/// What the checks found, for a sentence that passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Passed {
    /// The head noun.
    pub head: String,
    /// COCO's names of what was looked for: what the head names, and what that may be taken for.
    pub looked_for: Vec<&'static str>,
    /// Captions and expressions of the image that were searched.
    pub texts: usize,
    /// Categories of the image that the sentence mentions beside its head: a near miss.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shared: Vec<&'static str>,
    /// The attribute that excludes what is there; `None` if nothing of the kind is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conflict: Option<Conflict>,
}

impl fmt::Display for Passed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.conflict {
            Some(conflict) => conflict.fmt(f),
            None => write!(
                f,
                "\"{}\": {} not annotated, not mentioned in {} sentences about this picture",
                self.head,
                self.looked_for.join(", "),
                self.texts
            ),
        }
    }
}

/// Why a sentence about a thing that is there refers to nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "attribute", rename_all = "snake_case")]
pub enum Conflict {
    /// The only one is said to have another colour.
    Colour {
        /// COCO's name.
        category: &'static str,
        /// In the sentence.
        said: Colour,
        /// In the texts about the image.
        known: Colour,
    },
    /// There are fewer.
    Number {
        /// COCO's name.
        category: &'static str,
        /// In the sentence.
        said: u32,
        /// Annotated.
        known: usize,
    },
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Colour { category, said, known } => {
                write!(f, "the sentence says {said}, the only {category} here is called {known}")
            }
            Self::Number { category, said, known } => {
                write!(f, "the sentence says {said}, there are {known} annotated of {category}")
            }
        }
    }
}

/// Why a sentence may have a target after all, or cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Failed {
    /// It is no noun phrase with a certain head.
    NotAPhrase(NotAPhrase),
    /// The head names nothing that COCO annotates, or not only that ("sign"): its absence cannot be shown.
    NotVerifiable,
    /// It is annotated, or something it may be taken for.
    Annotated,
    /// It is mentioned in a text about the image, or something it may be taken for.
    Mentioned,
    /// Nothing was written about the image: the second check has no witness.
    NoText,
}

impl Failed {
    /// In words, for counting.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotAPhrase(NotAPhrase::NoNoun) => "no head noun",
            Self::NotAPhrase(NotAPhrase::Clause) => "a clause, not a noun phrase",
            Self::NotAPhrase(NotAPhrase::Negated) => "negated",
            Self::NotAPhrase(NotAPhrase::Coordinated) => "several heads",
            Self::NotAPhrase(NotAPhrase::Anaphoric) => "refers back to another sentence",
            Self::NotAPhrase(NotAPhrase::TooLong) => "too long",
            Self::NotVerifiable => "head noun names nothing whose absence COCO shows",
            Self::Annotated => "head noun's category (or one like it) is annotated",
            Self::Mentioned => "head noun's category (or one like it) is mentioned",
            Self::NoText => "no text about the image",
        }
    }
}

/// Both checks of a sentence of another image against this one. `texts`: how many sentences `evidence` is drawn from.
///
/// # Errors
/// The check that failed.
pub fn check(
    phrase: &Phrase,
    picture: &Picture,
    evidence: &Evidence,
    texts: usize,
) -> Result<Passed, Failed> {
    let meaning = phrase.meaning.filter(|meaning| meaning.exact).ok_or(Failed::NotVerifiable)?;
    let wanted = (meaning.categories | phrase.core).with_confusable();
    if phrase.joined && picture.present.meets(phrase.context) {
        return Err(Failed::NotAPhrase(NotAPhrase::Coordinated)); // "a woman in red and a dog", and the dog is there
    }
    if picture.present.meets(wanted) {
        return Err(Failed::Annotated);
    }
    if texts == 0 {
        return Err(Failed::NoText);
    }
    if evidence.mentioned.meets(wanted) {
        return Err(Failed::Mentioned);
    }
    Ok(Passed {
        head: phrase.head.clone(),
        looked_for: names(wanted),
        texts,
        shared: names(phrase.context & picture.present),
        conflict: None,
    })
}

/// Whether an attribute of the sentence excludes the objects of its head's category: for a person to judge.
pub fn conflict(
    phrase: &Phrase,
    catalog: &Catalog,
    picture: usize,
    evidence: &Evidence,
    texts: usize,
) -> Option<Passed> {
    let meaning =
        phrase.meaning.filter(|meaning| meaning.exact && meaning.categories.len() == 1)?;
    let category = meaning.categories.iter().next()?;
    let image = &catalog.pictures()[picture];
    let count =
        catalog.objects(picture).iter().filter(|o| o.category == Some(category as u8)).count();
    let sure = count > 0 && !image.crowds.has(category) && !evidence.contradicts(category, count);
    if !sure {
        return None;
    }
    let name = CATEGORIES[category].name;
    let colours: Vec<Colour> = evidence.colours_of(category).collect();
    let far =
        |said: &Colour| !colours.is_empty() && colours.iter().all(|known| known.excludes(*said));
    let found = match phrase.number {
        Number::Exactly(said) if said as usize > count && CATEGORIES[category].counted => {
            Conflict::Number { category: name, said, known: count }
        }
        _ if count == 1 && !phrase.colours.is_empty() && phrase.colours.iter().all(far) => {
            Conflict::Colour { category: name, said: phrase.colours[0], known: colours[0] }
        }
        _ => return None,
    };
    Some(Passed {
        head: phrase.head.clone(),
        looked_for: names(meaning.categories),
        texts,
        shared: names(phrase.context & image.present),
        conflict: Some(found),
    })
}

fn names(set: CategorySet) -> Vec<&'static str> {
    set.iter().map(|index| CATEGORIES[index].name).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::catalog::tests::catalog;
    use super::super::phrase::tests::TAGGER;
    use super::*;

    const BOX: [f32; 4] = [0., 0., 30., 30.];

    fn phrase(text: &str) -> Phrase {
        Phrase::parse(text, &*TAGGER, 18).unwrap()
    }

    fn judge(text: &str, objects: &[&str], about: &[&str]) -> Result<Passed, Failed> {
        let all: Vec<_> = objects.iter().map(|name| (1, *name, false, BOX)).collect();
        let evidence = Evidence::of_texts(about.iter().copied());
        check(&phrase(text), &catalog(&all).pictures()[0], &evidence, about.len())
    }

    #[test]
    fn categories_synonyms_and_look_alikes_fail() {
        let about = ["a street at night"];
        assert!(judge("a brown puppy", &["car"], &about).is_ok());
        assert_eq!(judge("a brown puppy", &["dog"], &about), Err(Failed::Annotated));
        assert_eq!(judge("a brown puppy", &["bear"], &about), Err(Failed::Annotated), "look-alike");
        assert_eq!(judge("the woman in red", &["person"], &about), Err(Failed::Annotated));
        assert_eq!(judge("a pickup truck", &["car"], &about), Err(Failed::Annotated));
    }

    #[test]
    fn mentions_under_any_name_fail() {
        for said in ["two puppies", "a small animal", "someone's pet", "a teddy bear on a shelf"] {
            assert_eq!(judge("a brown dog", &["car"], &[said]), Err(Failed::Mentioned), "{said}");
        }
        assert!(judge("a brown dog", &["car"], &["a hot pan"]).is_ok());
        let joined = judge("a dog in a hat and a car", &["car"], &["a road"]);
        assert_eq!(joined, Err(Failed::NotAPhrase(NotAPhrase::Coordinated)));
        assert_eq!(judge("a brown dog", &["car"], &[]), Err(Failed::NoText));
    }

    #[test]
    fn what_coco_does_not_annotate_is_not_verifiable() {
        for text in [
            "a tall building",
            "the street sign",
            "a wooden table",
            "a red shirt",
            "the animal on the left",
        ] {
            assert_eq!(judge(text, &["car"], &["a road"]), Err(Failed::NotVerifiable), "{text}");
        }
    }

    #[test]
    fn near_misses_are_told() {
        let passed = judge("a dog next to a car", &["car"], &["a red car"]).unwrap();
        assert_eq!(passed.shared, ["car"]);
        assert!(passed.to_string().contains("teddy bear"), "{passed}");
    }

    #[test]
    fn attribute_conflicts() {
        let conflicts = |text: &str, dogs: usize, about: &[&str]| {
            let all = vec![(1, "dog", false, BOX); dogs];
            let evidence = Evidence::of_texts(about.iter().copied());
            conflict(&phrase(text), &catalog(&all), 0, &evidence, about.len())
                .and_then(|p| p.conflict)
        };
        assert!(matches!(
            conflicts("a black dog", 1, &["a white dog"]),
            Some(Conflict::Colour { .. })
        ));
        assert_eq!(
            conflicts("a black dog", 1, &["a brown dog"]),
            None,
            "dark brown may pass for black"
        );
        assert_eq!(
            conflicts("a black dog", 2, &["a white dog and a dog"]),
            None,
            "the second may be black"
        );
        assert_eq!(conflicts("a black dog", 1, &["a dog"]), None, "its colour is not known");
        assert_eq!(conflicts("a black dog", 1, &["a white dog", "a black dog"]), None);
        assert!(matches!(
            conflicts("three dogs running", 2, &["two dogs"]),
            Some(Conflict::Number { said: 3, known: 2, .. })
        ));
        assert_eq!(
            conflicts("three dogs running", 2, &["three dogs"]),
            None,
            "annotations are incomplete"
        );
        assert_eq!(conflicts("two dogs running", 3, &["dogs"]), None, "two of three");
    }
}
