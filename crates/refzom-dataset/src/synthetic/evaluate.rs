//! Which objects a sentence means, with margins: whatever a person could dispute is `Unclear`,
//! and an unclear query is never written.
//!
//! Positions are centroids of the visible pixels, as shares of the picture. Knows nothing of how
//! queries are chosen or worded.

use super::query::{Description, Direction, NounPhrase, Place, Quantity, Query, Region};
use super::scene::{Entity, World};

/// "on the left" holds below this share of the width ..
const SIDE_YES: f64 = 0.40;
/// .. and does not hold from here on; between the two it is unclear.
const SIDE_NO: f64 = 0.50;
/// "in the middle" holds within this distance of the centre on both axes ..
const MIDDLE_YES: f64 = 0.11;
/// .. and does not hold beyond this one on either.
const MIDDLE_NO: f64 = 0.24;
/// "leftmost" needs this lead over the next one.
const EXTREME_LEAD: f64 = 0.08;
/// "left of" holds from this distance (share of the shorter side) within 45 degrees ..
const RELATION_YES: f64 = 0.16;
/// .. and does not hold below this one, clearly on the other side.
const RELATION_NO: f64 = -0.05;

/// Three-valued truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Truth {
    /// A viewer would agree.
    Yes,
    /// A viewer would disagree.
    No,
    /// Viewers might differ.
    Unclear,
}

impl Truth {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Truth::No, _) | (_, Truth::No) => Truth::No,
            (Truth::Yes, Truth::Yes) => Truth::Yes,
            _ => Truth::Unclear,
        }
    }

    /// Yes up to `yes`, no from `no` on.
    fn below(x: f64, yes: f64, no: f64) -> Self {
        if x <= yes {
            Truth::Yes
        } else if x >= no {
            Truth::No
        } else {
            Truth::Unclear
        }
    }
}

/// What a sentence means in a scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Exactly these objects (ascending indices), perhaps none.
    Objects(Vec<usize>),
    /// Viewers might differ, or the sentence is untruthful (a wrong number, two candidates for
    /// a single thing).
    Unclear,
}

impl Answer {
    /// Whether the sentence clearly means no object.
    pub fn is_none(&self) -> bool {
        matches!(self, Answer::Objects(found) if found.is_empty())
    }
}

/// The objects meant by `query`.
pub fn evaluate(query: &Query, world: &World) -> Answer {
    match query {
        Query::Things(quantity, phrase) => things(*quantity, phrase, world),
        Query::Pair(a, b) => {
            match (things(Quantity::One, a, world), things(Quantity::One, b, world)) {
                (Answer::Objects(a), Answer::Objects(b))
                    if a.len() == 1 && b.len() == 1 && a != b =>
                {
                    Answer::Objects(vec![a[0].min(b[0]), a[0].max(b[0])])
                }
                _ => Answer::Unclear,
            }
        }
    }
}

fn things(quantity: Quantity, phrase: &NounPhrase, world: &World) -> Answer {
    let base = matches(&phrase.what, world);
    let mut found = Vec::new();
    for &i in &base {
        match located(phrase.place.as_ref(), i, &base, world) {
            Truth::Yes => found.push(i),
            Truth::No => {}
            Truth::Unclear => return Answer::Unclear,
        }
    }
    let truthful = match (quantity, found.len()) {
        // "the small circle on the left" may be said of the smaller or the more left of several
        (Quantity::One, 0) => {
            !comparable(&phrase.what, world) && (base.len() <= 1 || !in_region(phrase))
        }
        (_, 0) => true,
        (Quantity::One, n) => n == 1,
        (Quantity::Exactly(k), n) => n == k && !in_extreme(phrase),
        (Quantity::All, n) => n >= 2 && !in_extreme(phrase),
    };
    // "the leftmost circles" of none is odd in the same way as of several
    let odd = in_extreme(phrase) && quantity != Quantity::One;
    if truthful && !odd { Answer::Objects(found) } else { Answer::Unclear }
}

fn in_region(phrase: &NounPhrase) -> bool {
    matches!(phrase.place, Some(Place::Region(_)))
}

fn in_extreme(phrase: &NounPhrase) -> bool {
    matches!(phrase.place, Some(Place::Extreme(_)))
}

/// Whether a size word could be read as a comparison among several objects of the wrong size.
fn comparable(what: &Description, world: &World) -> bool {
    what.size.is_some()
        && matches(what, world).is_empty()
        && matches(&Description { size: None, ..*what }, world).len() > 1
}

/// Objects with these attributes.
fn matches(what: &Description, world: &World) -> Vec<usize> {
    let fits = |e: &Entity| {
        what.color.is_none_or(|c| c == e.color)
            && what.size.is_none_or(|s| s == e.size)
            && what.shape.is_none_or(|s| s == e.shape)
    };
    (0..world.entities.len()).filter(|&i| fits(&world.entities[i])).collect()
}

fn located(place: Option<&Place>, i: usize, base: &[usize], world: &World) -> Truth {
    match place {
        None => Truth::Yes,
        Some(Place::Region(region)) => in_part(*region, world.entities[i].center, world),
        Some(Place::Extreme(direction)) => outermost(*direction, i, base, world),
        Some(Place::Relation(direction, landmark)) => {
            let marks = matches(landmark, world);
            match marks[..] {
                [] if comparable(landmark, world) => Truth::Unclear,
                [] => Truth::No, // nothing can be left of what is not there
                [mark] if base == [mark] => Truth::Unclear, // "the box left of the box"
                [mark] => {
                    beside(*direction, world.entities[i].center, world.entities[mark].center, world)
                }
                _ => Truth::Unclear,
            }
        }
    }
}

fn in_part(region: Region, (x, y): (f64, f64), world: &World) -> Truth {
    let (u, v) = (x / world.width, y / world.height);
    let side = |t: f64| Truth::below(t, SIDE_YES, SIDE_NO);
    let (left, right, top, bottom) = (side(u), side(1.0 - u), side(v), side(1.0 - v));
    match region {
        Region::Left => left,
        Region::Right => right,
        Region::Top => top,
        Region::Bottom => bottom,
        Region::TopLeft => top.and(left),
        Region::TopRight => top.and(right),
        Region::BottomLeft => bottom.and(left),
        Region::BottomRight => bottom.and(right),
        Region::Middle => {
            let off = (u - 0.5).abs().max((v - 0.5).abs());
            Truth::below(off, MIDDLE_YES, MIDDLE_NO)
        }
    }
}

fn outermost(direction: Direction, i: usize, base: &[usize], world: &World) -> Truth {
    if base.len() < 2 {
        return Truth::Unclear; // a single one is not the leftmost of anything
    }
    let rank = |i: usize| {
        let (x, y) = world.entities[i].center;
        match direction {
            Direction::Left => x / world.width,
            Direction::Right => 1.0 - x / world.width,
            Direction::Top => y / world.height,
            Direction::Bottom => 1.0 - y / world.height,
        }
    };
    let best_other =
        base.iter().filter(|&&j| j != i).map(|&j| rank(j)).fold(f64::INFINITY, f64::min);
    Truth::below(rank(i) - best_other, -EXTREME_LEAD, EXTREME_LEAD)
}

/// `a` lies in `direction` of `b`.
fn beside(direction: Direction, a: (f64, f64), b: (f64, f64), world: &World) -> Truth {
    let short = world.width.min(world.height);
    let (dx, dy) = ((b.0 - a.0) / short, (b.1 - a.1) / short);
    let (ahead, aside) = match direction {
        Direction::Left => (dx, dy.abs()),
        Direction::Right => (-dx, dy.abs()),
        Direction::Top => (dy, dx.abs()),
        Direction::Bottom => (-dy, dx.abs()),
    };
    if ahead <= RELATION_NO {
        Truth::No
    } else if ahead >= RELATION_YES && aside <= ahead {
        Truth::Yes
    } else {
        Truth::Unclear
    }
}

#[cfg(test)]
mod tests {
    use super::super::attributes::{Color, Shape, Size};
    use super::*;

    fn entity(color: Color, shape: Shape, size: Size, x: f64, y: f64) -> Entity {
        Entity { color, shape, size, center: (x, y) }
    }

    /// Two small red circles on the left, a large blue square on the right, a large red star below it.
    fn world() -> World {
        World {
            width: 100.0,
            height: 100.0,
            entities: vec![
                entity(Color::Red, Shape::Circle, Size::Small, 15.0, 30.0),
                entity(Color::Red, Shape::Circle, Size::Small, 35.0, 20.0),
                entity(Color::Blue, Shape::Square, Size::Large, 80.0, 25.0),
                entity(Color::Red, Shape::Star, Size::Large, 75.0, 80.0),
            ],
        }
    }

    fn what(color: Option<Color>, size: Option<Size>, shape: Option<Shape>) -> Description {
        Description { color, size, shape }
    }

    fn ask(quantity: Quantity, what: Description, place: Option<Place>) -> Answer {
        evaluate(&Query::Things(quantity, NounPhrase { what, place }), &world())
    }

    #[test]
    fn quantities_must_be_truthful() {
        let circles = what(Some(Color::Red), None, Some(Shape::Circle));
        assert_eq!(ask(Quantity::Exactly(2), circles, None), Answer::Objects(vec![0, 1]));
        assert_eq!(ask(Quantity::All, circles, None), Answer::Objects(vec![0, 1]));
        assert_eq!(ask(Quantity::Exactly(3), circles, None), Answer::Unclear);
        assert_eq!(ask(Quantity::One, circles, None), Answer::Unclear);
        let red_square = what(Some(Color::Red), None, Some(Shape::Square));
        assert!(ask(Quantity::One, red_square, None).is_none());
        assert!(ask(Quantity::Exactly(2), red_square, None).is_none());
        assert_eq!(ask(Quantity::All, what(None, None, Some(Shape::Star)), None), Answer::Unclear);
    }

    #[test]
    fn comparative_readings_are_unclear() {
        // both circles are small: "the large circle" could be the larger of them
        let large_circle = what(None, Some(Size::Large), Some(Shape::Circle));
        assert_eq!(ask(Quantity::One, large_circle, None), Answer::Unclear);
        assert!(ask(Quantity::All, large_circle, None).is_none());
        assert!(
            ask(Quantity::One, what(None, Some(Size::Small), Some(Shape::Star)), None).is_none()
        );
        // both circles are on the left: "the circle on the right" could be the right one of them
        let circle = what(None, None, Some(Shape::Circle));
        let right = Some(Place::Region(Region::Right));
        assert_eq!(ask(Quantity::One, circle, right), Answer::Unclear);
        assert!(ask(Quantity::All, circle, right).is_none());
    }

    #[test]
    fn places() {
        let circle = what(None, None, Some(Shape::Circle));
        let red = what(Some(Color::Red), None, None);
        let square = what(None, None, Some(Shape::Square));
        let region = |r| Some(Place::Region(r));
        assert_eq!(ask(Quantity::One, red, region(Region::Right)), Answer::Objects(vec![3]));
        assert_eq!(ask(Quantity::All, red, region(Region::Left)), Answer::Objects(vec![0, 1]));
        assert_eq!(ask(Quantity::One, red, region(Region::BottomRight)), Answer::Objects(vec![3]));
        let extreme = |d| Some(Place::Extreme(d));
        assert_eq!(ask(Quantity::One, circle, extreme(Direction::Left)), Answer::Objects(vec![0]));
        assert_eq!(ask(Quantity::One, red, extreme(Direction::Bottom)), Answer::Objects(vec![3]));
        assert_eq!(ask(Quantity::One, square, extreme(Direction::Left)), Answer::Unclear);
        let left_of = |d| Some(Place::Relation(Direction::Left, d));
        assert_eq!(ask(Quantity::Exactly(2), circle, left_of(square)), Answer::Objects(vec![0, 1]));
        assert_eq!(ask(Quantity::One, circle, left_of(circle)), Answer::Unclear);
        let above = |d| Some(Place::Relation(Direction::Top, d));
        assert_eq!(
            ask(Quantity::One, square, above(what(None, None, Some(Shape::Star)))),
            Answer::Objects(vec![2])
        );
        let below = |d| Some(Place::Relation(Direction::Bottom, d));
        assert!(ask(Quantity::One, square, below(what(None, None, Some(Shape::Star)))).is_none());
        assert!(ask(Quantity::One, square, above(what(Some(Color::Green), None, None))).is_none());
    }

    #[test]
    fn near_the_border_is_unclear() {
        let mut world = world();
        world.entities[3].center.0 = 45.0;
        let star = NounPhrase {
            what: what(None, None, Some(Shape::Star)),
            place: Some(Place::Region(Region::Left)),
        };
        assert_eq!(evaluate(&Query::Things(Quantity::One, star), &world), Answer::Unclear);
    }

    #[test]
    fn pairs_are_two_single_things() {
        let single = |shape| NounPhrase { what: what(None, None, Some(shape)), place: None };
        let pair = Query::Pair(single(Shape::Star), single(Shape::Square));
        assert_eq!(evaluate(&pair, &world()), Answer::Objects(vec![2, 3]));
        let bad = Query::Pair(single(Shape::Star), single(Shape::Circle));
        assert_eq!(evaluate(&bad, &world()), Answer::Unclear);
    }
}
