//! Sentences of other images that nothing in an image answers to (spec section 10).
//!
//! For each image, in a seeded order, captions and expressions of other images of the same split are drawn until one passes
//! both [`super::checks`]. Most are drawn from images that share a category: a sentence about a kitchen for
//! a kitchen, which is harder to refuse than one about a beach.

use std::collections::{BTreeMap, HashMap};

use rand::Rng;
use rand_chacha::ChaCha8Rng;

use super::attributes::{Colour, number_of};
use super::candidate::{Candidate, Origin, Quoted};
use super::catalog::Catalog;
use super::categories::CATEGORIES;
use super::checks::{Failed, Passed, check, conflict};
use super::combine::{file_name, quoted};
use super::config::ZomConfig;
use super::decisions::{Decisions, Verdict};
use super::draw::{pick, stream};
use super::evidence::{Evidence, words_of};
use super::lexicon::longest;
use super::phrase::{Phrase, tidy};
use super::splits::ZomSplit;
use super::texts::Texts;
use crate::text::NounTagger;

/// Draws for one image before it is given up.
const TRIES: usize = 120;
/// Share of draws from images that share a category.
const NEAR: f64 = 0.7;
/// How often one sentence may be borrowed.
const MOST_USES: usize = 2;

/// What the zero-target sentences are drawn from.
pub(super) struct ZeroMaker<'a> {
    pub(super) catalog: &'a Catalog,
    pub(super) texts: &'a Texts,
    pub(super) tagger: &'a dyn NounTagger,
    pub(super) splits: &'a [ZomSplit],
    pub(super) decisions: &'a Decisions,
    pub(super) cfg: &'a ZomConfig,
    donors: Donors,
    used: HashMap<String, usize>,
    /// How often each check failed.
    pub(super) failed: BTreeMap<Failed, usize>,
    /// Sentences that a person rejected.
    pub(super) rejected: usize,
}

/// Images with texts, by split and category.
struct Donors {
    any: [Vec<u32>; 2],
    by_category: [Vec<Vec<u32>>; 2],
}

impl Donors {
    fn of(catalog: &Catalog, texts: &Texts, splits: &[ZomSplit]) -> Self {
        let mut donors = Self {
            any: [Vec::new(), Vec::new()],
            by_category: [vec![Vec::new(); CATEGORIES.len()], vec![Vec::new(); CATEGORIES.len()]],
        };
        for (place, picture) in catalog.pictures().iter().enumerate() {
            if texts.captions_of(place).is_empty() && texts.expressions_of(place).is_empty() {
                continue;
            }
            let split = splits[place] as usize;
            donors.any[split].push(place as u32);
            for category in picture.present.iter() {
                donors.by_category[split][category].push(place as u32);
            }
        }
        donors
    }
}

/// A drawn sentence.
struct Drawn<'a> {
    text: &'a str,
    donor: usize,
    from: Source,
}

#[derive(Clone, Copy)]
enum Source {
    Caption(usize),
    Expression(usize),
}

impl<'a> ZeroMaker<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        texts: &'a Texts,
        tagger: &'a dyn NounTagger,
        splits: &'a [ZomSplit],
        decisions: &'a Decisions,
        cfg: &'a ZomConfig,
    ) -> Self {
        Self {
            catalog,
            texts,
            tagger,
            splits,
            decisions,
            cfg,
            donors: Donors::of(catalog, texts, splits),
            used: HashMap::new(),
            failed: BTreeMap::new(),
            rejected: 0,
        }
    }

    /// Up to `per_image` sentences for one image: those that a person accepted, then others unless `only_accepted`.
    ///
    /// The sequence of draws depends on seed and image alone, so that a sentence that was accepted comes up again.
    pub(super) fn make(&mut self, place: usize, per_image: usize) -> Vec<Candidate> {
        let image = &self.catalog.pictures()[place];
        let evidence = Evidence::of(self.texts, place);
        let texts = self.texts.captions_of(place).len() + self.texts.expressions_of(place).len();
        let mut rng = stream(self.cfg.seed, "zero", image.id);
        let prefer_caption = rng.random_bool(self.cfg.zero_caption_share);
        let accepted = self.decisions.accepted(image.id);
        let (mut first, mut others): (Vec<Candidate>, Vec<Candidate>) = (Vec::new(), Vec::new());
        for attempt in 0..TRIES {
            let enough =
                if accepted > 0 { first.len() >= accepted } else { others.len() >= per_image };
            if enough || first.len() >= per_image {
                break;
            }
            let near = rng.random_bool(NEAR) && !image.present.is_empty();
            // the other kind of source only when the preferred one is exhausted
            let caption = prefer_caption == (attempt < TRIES * 2 / 3);
            let Some(drawn) = self.draw(place, near, caption, &mut rng) else { continue };
            let sentence = tidy(drawn.text);
            let judged = quick_look(&sentence, image.present.with_confusable())
                .and_then(|()| {
                    Phrase::parse(&sentence, self.tagger, self.cfg.max_words)
                        .map_err(Failed::NotAPhrase)
                })
                .and_then(|phrase| Ok((check(&phrase, image, &evidence, texts)?, phrase)));
            let (passed, phrase) = match judged {
                Ok(both) => both,
                Err(failed) => {
                    *self.failed.entry(failed).or_insert(0) += 1;
                    continue;
                }
            };
            let candidate = self.candidate(place, &drawn, shown(&sentence, &phrase), passed);
            if first.iter().chain(&others).any(|c| c.key() == candidate.key()) {
                continue;
            }
            let uses = self.used.get(&candidate.sentence.to_lowercase()).copied().unwrap_or(0);
            match self.decisions.verdict(image.id, &candidate.sentence) {
                Some(Verdict::Reject) => self.rejected += 1,
                Some(Verdict::Accept) => first.push(candidate),
                None if uses < MOST_USES && !self.cfg.only_accepted => others.push(candidate),
                None => {}
            }
        }
        first.extend(others);
        first.truncate(per_image);
        for candidate in &first {
            *self.used.entry(candidate.sentence.to_lowercase()).or_insert(0) += 1;
        }
        first
    }

    /// A sentence about this image with a conflicting attribute, for a person to judge.
    pub(super) fn conflicting(&mut self, place: usize) -> Option<Candidate> {
        let image = &self.catalog.pictures()[place];
        let evidence = Evidence::of(self.texts, place);
        let texts = self.texts.captions_of(place).len() + self.texts.expressions_of(place).len();
        let mut rng = stream(self.cfg.seed, "conflict", image.id);
        for _ in 0..TRIES / 4 {
            let caption = rng.random_bool(self.cfg.zero_caption_share);
            let Some(drawn) = self.draw(place, true, caption, &mut rng) else { continue };
            let sentence = tidy(drawn.text);
            if !has_attribute(&sentence) {
                continue;
            }
            let Ok(phrase) = Phrase::parse(&sentence, self.tagger, self.cfg.max_words) else {
                continue;
            };
            if let Some(passed) = conflict(&phrase, self.catalog, place, &evidence, texts) {
                let candidate = self.candidate(place, &drawn, shown(&sentence, &phrase), passed);
                if self.decisions.verdict(image.id, &candidate.sentence) != Some(Verdict::Reject) {
                    return Some(candidate);
                }
                self.rejected += 1;
            }
        }
        None
    }

    fn draw(
        &self,
        place: usize,
        near: bool,
        caption: bool,
        rng: &mut ChaCha8Rng,
    ) -> Option<Drawn<'a>> {
        let split = self.splits[place] as usize;
        let pool = if near {
            let present: Vec<usize> = self.catalog.pictures()[place].present.iter().collect();
            &self.donors.by_category[split][*pick(&present, rng)?]
        } else {
            &self.donors.any[split]
        };
        let donor = *pick(pool, rng)? as usize;
        if donor == place {
            return None;
        }
        let (captions, expressions) =
            (self.texts.captions_of(donor), self.texts.expressions_of(donor));
        let count = if caption { captions.len() } else { expressions.len() };
        if count == 0 {
            return None;
        }
        let i = rng.random_range(0..count);
        Some(if caption {
            Drawn { text: &captions[i].text, donor, from: Source::Caption(i) }
        } else {
            Drawn { text: &expressions[i].text, donor, from: Source::Expression(i) }
        })
    }

    fn candidate(
        &self,
        place: usize,
        drawn: &Drawn<'_>,
        sentence: String,
        checks: Passed,
    ) -> Candidate {
        let origin = match drawn.from {
            Source::Caption(i) => {
                let caption = &self.texts.captions_of(drawn.donor)[i];
                let from = Quoted {
                    file: file_name(&self.texts.caption_files[usize::from(caption.file)]),
                    image_id: self.catalog.pictures()[drawn.donor].id,
                    ref_id: None,
                    id: caption.id,
                    ann_id: None,
                    text: caption.text.to_string(),
                };
                Origin::OtherCaption { from, checks }
            }
            Source::Expression(i) => {
                let expression = &self.texts.expressions_of(drawn.donor)[i];
                Origin::OtherExpression {
                    from: quoted(self.catalog, self.texts, expression),
                    checks,
                }
            }
        };
        Candidate { picture: place as u32, objects: Vec::new(), sentence, origin }
    }
}

/// The sentence as it is asked with: a clause is shown as the phrase it was read as.
fn shown(sentence: &str, phrase: &Phrase) -> String {
    if !phrase.reduced {
        return sentence.to_owned();
    }
    let first = sentence.split_whitespace().next().unwrap_or_default().to_lowercase();
    match first.as_str() {
        "a" | "an" | "the" => format!("{first} {}", phrase.body),
        _ => phrase.body.clone(),
    }
}

/// Spares the tagger: the first noun of the lexicon is nearly always the head.
fn quick_look(sentence: &str, present: super::CategorySet) -> Result<(), Failed> {
    let lower = sentence.to_lowercase();
    let words = words_of(&lower);
    let first = (0..words.len().min(8)).find_map(|i| longest(&words[i..]));
    match first {
        None => Err(Failed::NotVerifiable),
        Some(found) if found.meaning.exact && found.meaning.categories.meets(present) => {
            Err(Failed::Annotated)
        }
        Some(_) => Ok(()),
    }
}

/// Whether a colour or a number above one is among the words.
fn has_attribute(sentence: &str) -> bool {
    let lower = sentence.to_lowercase();
    words_of(&lower)
        .iter()
        .any(|word| Colour::of(word).is_some() || number_of(word).is_some_and(|n| n > 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quick_look_spares_only_what_would_fail() {
        let dog = crate::build_zom::CategorySet::named(&["dog"]);
        assert_eq!(quick_look("Two puppies on a bed", dog), Err(Failed::Annotated));
        assert_eq!(quick_look("a tall building", dog), Err(Failed::NotVerifiable));
        assert_eq!(
            quick_look("a group of puppies", dog),
            Ok(()),
            "loose words are left to the checks"
        );
        assert_eq!(quick_look("a cat next to a dog", dog), Ok(()));
        assert!(
            has_attribute("two cats") && has_attribute("a Red bus") && !has_attribute("one cat")
        );
    }
}
