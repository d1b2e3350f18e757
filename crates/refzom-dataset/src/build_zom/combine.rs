//! Several expressions of one image in one sentence: "the left man and the dog on the sofa" (spec section 10).
//!
//! Only noun phrases with one head in the singular are combined. Words after "and" may be read as a part of what stands
//! before it ("the man next to the dog and the cat"), so a phrase with a further noun stands last, and two of them are
//! joined by ", as well as".

use rand::Rng;

use super::candidate::{Candidate, Origin, Quoted};
use super::catalog::{Catalog, Object};
use super::draw::{pick, shuffle};
use super::phrase::{Number, Phrase, Tail};
use super::texts::{Expression, Texts};
use crate::text::NounTagger;

/// Longest part, in words.
const MAX_PART: usize = 9;
/// Expressions of one object that are looked at.
const MOST_TRIED: usize = 4;

struct Part<'a> {
    expression: &'a Expression,
    object: &'a Object,
    phrase: Phrase,
}

/// Up to `limit` combined sentences about one image.
pub(super) fn combine(
    catalog: &Catalog,
    texts: &Texts,
    picture: usize,
    tagger: &dyn NounTagger,
    max_words: usize,
    limit: usize,
    rng: &mut impl Rng,
) -> Vec<Candidate> {
    let expressions = texts.expressions_of(picture);
    let mut objects: Vec<i64> = expressions.iter().map(|e| e.object).collect();
    objects.sort_unstable();
    objects.dedup();
    if objects.len() < 2 {
        return Vec::new();
    }
    let parts: Vec<Vec<Part<'_>>> = objects
        .iter()
        .filter_map(|&id| {
            let object = catalog.object(id)?;
            let mut own: Vec<&Expression> = expressions.iter().filter(|e| e.object == id).collect();
            shuffle(&mut own, rng);
            let parts: Vec<Part<'_>> = own
                .into_iter()
                .take(MOST_TRIED)
                .filter_map(|expression| {
                    let phrase =
                        Phrase::parse(shortened(&expression.text), tagger, MAX_PART).ok()?;
                    usable(&phrase).then_some(Part { expression, object, phrase })
                })
                .collect();
            (!parts.is_empty() && !object.crowd).then_some(parts)
        })
        .collect();
    let mut made: Vec<Candidate> = Vec::new();
    for _ in 0..4 * limit {
        if made.len() >= limit || parts.len() < 2 {
            break;
        }
        let three = parts.len() > 2 && rng.random_bool(0.15);
        let mut order: Vec<usize> = (0..parts.len()).collect();
        shuffle(&mut order, rng);
        order.truncate(if three { 3 } else { 2 });
        let chosen: Vec<&Part<'_>> = order.iter().filter_map(|&i| pick(&parts[i], rng)).collect();
        let Some((template, sentence, ordered)) = join(chosen, rng) else { continue };
        if sentence.split_whitespace().count() > max_words {
            continue;
        }
        let mut ids: Vec<i64> = ordered.iter().map(|part| part.object.id).collect();
        ids.sort_unstable();
        if made.iter().any(|c| c.objects == ids || c.sentence == sentence) {
            continue;
        }
        let quote = |part: &&Part<'_>| quoted(catalog, texts, part.expression);
        let origin = Origin::Combined { template, parts: ordered.iter().map(quote).collect() };
        made.push(Candidate { picture: picture as u32, objects: ids, sentence, origin });
    }
    made
}

/// An expression as provenance names it.
pub(super) fn quoted(catalog: &Catalog, texts: &Texts, expression: &Expression) -> Quoted {
    Quoted {
        file: file_name(&texts.refs_files[usize::from(expression.file)]),
        image_id: catalog.pictures()[expression.picture as usize].id,
        ref_id: Some(expression.ref_id),
        id: expression.sent_id,
        ann_id: Some(expression.object),
        text: expression.text.to_string(),
    }
}

pub(super) fn file_name(path: &std::path::Path) -> String {
    path.file_name()
        .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// Without "in the picture", which is true of everything.
fn shortened(text: &str) -> &str {
    let endings =
        [" in the picture", " in the image", " in the photo", " in this picture", " in this image"];
    let text = text.trim().trim_end_matches('.');
    endings.iter().find_map(|ending| text.strip_suffix(ending)).unwrap_or(text)
}

fn usable(phrase: &Phrase) -> bool {
    let words: Vec<&str> = phrase.body.split(' ').collect();
    let several =
        ["and", "two", "three", "both", "all", "them", "they", "these", "those", "click", "see"];
    phrase.number == Number::Singular
        && phrase.takes_article
        && !phrase.body.contains(',')
        && !words.iter().any(|word| several.contains(word))
}

type Joined<'p, 'a> = (&'static str, String, Vec<&'p Part<'a>>);

fn join<'p, 'a>(mut parts: Vec<&'p Part<'a>>, rng: &mut impl Rng) -> Option<Joined<'p, 'a>> {
    let same = |a: &Part<'_>, b: &Part<'_>| {
        a.phrase.body == b.phrase.body
            || a.object.category == b.object.category && overlap(a.object, b.object) > 0.8
    };
    for (i, a) in parts.iter().enumerate() {
        if parts[..i].iter().any(|b| same(a, b)) {
            return None;
        }
    }
    parts.sort_by_key(|part| part.phrase.tail); // stable: the drawn order within a kind
    let long = parts.iter().filter(|part| part.phrase.tail == Tail::Noun).count();
    let names: Vec<String> = parts.iter().map(|part| format!("the {}", part.phrase.body)).collect();
    match (names.as_slice(), long) {
        ([a, b], 2) => Some(("{A}, as well as {B}", format!("{a}, as well as {b}"), parts)),
        ([a, b], _) => {
            let &template = pick(
                &["{A} and {B}", "{A} and {B}", "both {A} and {B}", "{A} as well as {B}"],
                rng,
            )?;
            let text = template.replace("{A}", a).replace("{B}", b);
            Some((template, text, parts))
        }
        ([a, b, c], 0 | 1) => Some(("{A}, {B} and {C}", format!("{a}, {b} and {c}"), parts)),
        _ => None,
    }
}

/// Intersection over union of two boxes.
fn overlap(a: &Object, b: &Object) -> f32 {
    let ([ax, ay, aw, ah], [bx, by, bw, bh]) = (a.bbox, b.bbox);
    let width = (ax + aw).min(bx + bw) - ax.max(bx);
    let height = (ay + ah).min(by + bh) - ay.max(by);
    let both = width.max(0.0) * height.max(0.0);
    both / (aw * ah + bw * bh - both).max(1e-6)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::catalog::tests::catalog;
    use super::super::draw::stream;
    use super::super::phrase::tests::TAGGER;
    use super::*;

    const BOXES: [[f32; 4]; 3] = [[0., 0., 30., 50.], [60., 0., 30., 50.], [30., 50., 30., 50.]];

    fn combined(said: &[(i64, &str)], seed: u64) -> Vec<Candidate> {
        let catalog = catalog(&BOXES.map(|b| (1, "person", false, b)));
        let expressions = said
            .iter()
            .enumerate()
            .map(|(i, (object, text))| Expression {
                picture: 0,
                file: 0,
                ref_id: *object,
                sent_id: i as i64,
                object: *object,
                text: (*text).into(),
            })
            .collect();
        let texts = Texts::of_expressions(1, expressions);
        combine(&catalog, &texts, 0, &*TAGGER, 18, 4, &mut stream(seed, "test", 1))
    }

    #[test]
    fn articles_order_and_targets() {
        for seed in 0..20 {
            let made = combined(&[(1, "left man"), (2, "a woman next to the dog")], seed);
            assert_eq!(made.len(), 1, "{made:?}");
            let text = made[0].sentence.trim_start_matches("both ").replace("as well as", "and");
            assert_eq!(text, "the left man and the woman next to the dog");
            assert_eq!(made[0].objects, [1, 2]);
        }
        let made = combined(&[(1, "the man in the picture"), (2, "woman in the picture")], 3);
        assert!(!made[0].sentence.contains("picture"), "{}", made[0].sentence);
        let made = combined(&[(1, "man by the car"), (2, "woman next to the dog")], 3);
        assert!(made[0].sentence.contains(", as well as the"), "{}", made[0].sentence);
    }

    #[test]
    fn what_is_no_single_noun_phrase_is_not_combined() {
        for bad in [
            "left",
            "he is running",
            "the other man",
            "the two men",
            "not the man",
            "man and dog",
            "guy left",
        ] {
            assert!(combined(&[(1, bad), (2, "the woman")], 1).is_empty(), "{bad}");
        }
        assert!(combined(&[(1, "the man"), (2, "a man")], 1).is_empty(), "the same words");
        assert!(combined(&[(1, "the man"), (1, "the left man")], 1).is_empty(), "one object");
    }

    #[test]
    fn three_parts_occur() {
        let said = [(1, "left man"), (2, "right man"), (3, "man in front")];
        let all: Vec<Candidate> = (0..40).flat_map(|seed| combined(&said, seed)).collect();
        let three = all.iter().find(|c| c.objects.len() == 3).unwrap();
        assert_eq!(three.sentence.matches(", ").count(), 1, "{}", three.sentence);
        assert!(all.iter().all(|c| c.objects.len() >= 2));
    }
}
