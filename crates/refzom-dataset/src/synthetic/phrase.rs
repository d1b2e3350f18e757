//! A query in English: one canonical wording, and synonyms and other word orders by chance.
//! Every word comes from [`WORDS`], which the vocabulary file lists.

use rand::Rng;

use super::attributes::{Color, Shape, Size};
use super::query::{Description, Direction, NounPhrase, Place, Quantity, Query, Region};

/// Every word the grammar can write, sorted.
pub(super) const WORDS: &[&str] = &[
    "above",
    "all",
    "and",
    "are",
    "at",
    "below",
    "big",
    "black",
    "blue",
    "both",
    "bottom",
    "bottommost",
    "box",
    "boxes",
    "center",
    "circle",
    "circles",
    "corner",
    "cross",
    "crosses",
    "diamond",
    "diamonds",
    "disc",
    "discs",
    "each",
    "eight",
    "every",
    "farthest",
    "five",
    "four",
    "furthest",
    "green",
    "half",
    "higher",
    "highest",
    "image",
    "in",
    "is",
    "large",
    "left",
    "leftmost",
    "little",
    "lower",
    "lowest",
    "middle",
    "nine",
    "object",
    "objects",
    "of",
    "on",
    "one",
    "ones",
    "orange",
    "part",
    "photo",
    "picture",
    "plus",
    "pluses",
    "purple",
    "red",
    "right",
    "rightmost",
    "rhombus",
    "rhombuses",
    "seven",
    "shape",
    "shapes",
    "side",
    "six",
    "small",
    "square",
    "squares",
    "star",
    "stars",
    "ten",
    "than",
    "that",
    "the",
    "thing",
    "things",
    "three",
    "tiny",
    "to",
    "top",
    "topmost",
    "triangle",
    "triangles",
    "two",
    "upper",
    "which",
    "white",
    "yellow",
];

const NUMBERS: [&str; 11] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"];

/// Words a query; `paraphrase` is the chance to leave the canonical wording at each choice.
pub(super) fn say(query: &Query, paraphrase: f64, rng: &mut impl Rng) -> String {
    let mut writer = Writer { paraphrase, rng };
    let words = match query {
        Query::Things(quantity, phrase) => writer.things(*quantity, phrase),
        Query::Pair(a, b) => {
            let bare = writer.chance();
            let (a, b) = (writer.phrase(a, Form::Paired), writer.phrase(b, Form::Paired));
            if bare { format!("{a} and {b}") } else { format!("the {a} and the {b}") }
        }
    };
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What the noun phrase stands in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// "the circle"
    Single,
    /// "every circle"
    Distributive,
    /// "all circles"
    Plural,
    /// "the circle and the square": no clauses, they could reach over the "and"
    Paired,
}

struct Writer<'a, R> {
    paraphrase: f64,
    rng: &'a mut R,
}

impl<R: Rng> Writer<'_, R> {
    fn chance(&mut self) -> bool {
        self.rng.random_bool(self.paraphrase)
    }

    fn pick<'s>(&mut self, canonical: &'s str, others: &[&'s str]) -> &'s str {
        if !others.is_empty() && self.chance() {
            others[self.rng.random_range(0..others.len())]
        } else {
            canonical
        }
    }

    fn things(&mut self, quantity: Quantity, phrase: &NounPhrase) -> String {
        let (determiner, plural) = match quantity {
            Quantity::One => (self.pick("the", &[""]).to_owned(), false),
            Quantity::Exactly(2) => {
                (self.pick("the two", &["two", "both", "both"]).to_owned(), true)
            }
            Quantity::Exactly(n) => {
                let number = NUMBERS.get(n).copied().unwrap_or("many");
                (format!("{} {number}", self.pick("the", &["", "all"])), true)
            }
            Quantity::All => {
                let word = self.pick("all", &["every", "each", "all the", "all of the"]);
                (word.to_owned(), !matches!(word, "every" | "each"))
            }
        };
        let form = if plural {
            Form::Plural
        } else if quantity == Quantity::All {
            Form::Distributive
        } else {
            Form::Single
        };
        let phrase = self.phrase(phrase, form);
        format!("{determiner} {phrase}")
    }

    fn phrase(&mut self, phrase: &NounPhrase, form: Form) -> String {
        let that = if form == Form::Plural { "are" } else { "is" };
        match phrase.place {
            None => {
                let noun = self.described(&phrase.what, form, form != Form::Paired);
                let clause = noun.contains(" that ") || noun.contains(" which ");
                let rest = if !clause
                    && form != Form::Paired
                    && self.rng.random_bool(0.3 * self.paraphrase)
                {
                    ["in the picture", "in the image", "in the photo"][self.rng.random_range(0..3)]
                } else {
                    ""
                };
                format!("{noun} {rest}")
            }
            Some(Place::Extreme(direction)) => {
                let (front, behind): (&[&str], &str) = match direction {
                    Direction::Left => (&["leftmost"], "furthest to the left"),
                    Direction::Right => (&["rightmost"], "furthest to the right"),
                    Direction::Top => (&["topmost", "highest"], "furthest to the top"),
                    Direction::Bottom => (&["bottommost", "lowest"], "furthest to the bottom"),
                };
                let noun = self.described(&phrase.what, form, false);
                if self.chance() {
                    let behind = if self.chance() {
                        behind.replace("furthest", "farthest")
                    } else {
                        behind.to_owned()
                    };
                    format!("{noun} {behind}")
                } else {
                    format!("{} {noun}", front[self.rng.random_range(0..front.len())])
                }
            }
            Some(Place::Region(region)) => {
                let noun = self.described(&phrase.what, form, false);
                let which = if self.rng.random_bool(0.3 * self.paraphrase) {
                    format!("that {that}")
                } else {
                    String::new()
                };
                format!("{noun} {which} {}", self.region(region))
            }
            Some(Place::Relation(direction, landmark)) => {
                let noun = self.described(&phrase.what, form, false);
                let which = if self.rng.random_bool(0.3 * self.paraphrase) {
                    format!("that {that}")
                } else {
                    String::new()
                };
                // not "over" and "under": among shapes that overlap they could mean in front and behind
                let relation = match direction {
                    Direction::Left => self.pick("left of", &["to the left of", "on the left of"]),
                    Direction::Right => {
                        self.pick("right of", &["to the right of", "on the right of"])
                    }
                    Direction::Top => self.pick("above", &["higher than"]),
                    Direction::Bottom => self.pick("below", &["lower than"]),
                };
                let landmark = self.described(&landmark, Form::Single, false);
                format!("{noun} {which} {relation} the {landmark}")
            }
        }
    }

    fn region(&mut self, region: Region) -> String {
        let whole = ["", "of the picture", "of the image"]
            [if self.chance() { self.rng.random_range(1..3) } else { 0 }];
        let corner = |upper: bool, right: bool| {
            (
                if upper { ("top", "upper") } else { ("bottom", "lower") },
                if right { "right" } else { "left" },
            )
        };
        let ((vertical, formal), side) = match region {
            Region::Left | Region::Right => {
                let side = if region == Region::Left { "left" } else { "right" };
                return match self.pick("on the", &["on", "in the half", "on the side"]) {
                    "on" => format!("on {side}"),
                    "in the half" => format!("in the {side} half {whole}"),
                    "on the side" => format!("on the {side} side {whole}"),
                    _ => format!("on the {side}"),
                };
            }
            Region::Top | Region::Bottom => {
                let (side, formal) =
                    if region == Region::Top { ("top", "upper") } else { ("bottom", "lower") };
                return match self.pick("at the", &["at", "in the half", "in the part"]) {
                    "at" => format!("at {side}"),
                    "in the half" => format!("in the {formal} half {whole}"),
                    "in the part" => format!("in the {formal} part {whole}"),
                    _ => format!("at the {side}"),
                };
            }
            Region::Middle => {
                return format!("in the {} {whole}", self.pick("middle", &["center"]));
            }
            Region::TopLeft => corner(true, false),
            Region::TopRight => corner(true, true),
            Region::BottomLeft => corner(false, false),
            Region::BottomRight => corner(false, true),
        };
        match self.pick("at the", &["in the corner", "in the corner", "formal"]) {
            "in the corner" => format!("in the {vertical} {side} corner {whole}"),
            "formal" => format!("in the {formal} {side} part {whole}"),
            _ => format!("at the {vertical} {side}"),
        }
    }

    /// Adjectives and noun; `clause` allows "circle that is red".
    fn described(&mut self, what: &Description, form: Form, clause: bool) -> String {
        let plural = form == Form::Plural;
        let size = match what.size {
            Some(Size::Small) => self.pick("small", &["little", "tiny"]),
            Some(Size::Large) => self.pick("large", &["big"]),
            None => "",
        };
        let color = what.color.map_or("", Color::name);
        let adjectives = !size.is_empty() || !color.is_empty();
        let noun = match what.shape {
            Some(shape) => {
                let (canonical, others) = noun(shape, plural);
                self.pick(canonical, others)
            }
            None if plural => self.pick(
                "objects",
                if adjectives { &["things", "shapes", "ones"] } else { &["things", "shapes"] },
            ),
            None if form == Form::Distributive || !adjectives => {
                self.pick("object", &["thing", "shape"])
            }
            None => self.pick("object", &["thing", "shape", "one"]),
        };
        if clause
            && adjectives
            && what.shape.is_some()
            && self.rng.random_bool(0.3 * self.paraphrase)
        {
            let link = self.pick("that", &["which"]);
            let be = if plural { "are" } else { "is" };
            let and = if size.is_empty() || color.is_empty() { "" } else { "and" };
            return format!("{noun} {link} {be} {size} {and} {color}");
        }
        format!("{size} {color} {noun}")
    }
}

/// Canonical noun and its synonyms.
fn noun(shape: Shape, plural: bool) -> (&'static str, &'static [&'static str]) {
    match (shape, plural) {
        (Shape::Circle, false) => ("circle", &["disc"]),
        (Shape::Circle, true) => ("circles", &["discs"]),
        (Shape::Square, false) => ("square", &["box"]),
        (Shape::Square, true) => ("squares", &["boxes"]),
        (Shape::Triangle, false) => ("triangle", &[]),
        (Shape::Triangle, true) => ("triangles", &[]),
        (Shape::Star, false) => ("star", &[]),
        (Shape::Star, true) => ("stars", &[]),
        (Shape::Cross, false) => ("cross", &["plus"]),
        (Shape::Cross, true) => ("crosses", &["pluses"]),
        (Shape::Diamond, false) => ("diamond", &["rhombus"]),
        (Shape::Diamond, true) => ("diamonds", &["rhombuses"]),
    }
}
