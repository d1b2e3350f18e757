//! What a sentence means, as data: a quantity of things with attributes at a place.

use serde::{Deserialize, Serialize};

use super::attributes::{Color, Shape, Size};

/// One of the four directions of the picture plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Direction {
    Left,
    Right,
    Top,
    Bottom,
}

impl Direction {
    /// Every direction.
    pub const ALL: [Direction; 4] =
        [Direction::Left, Direction::Right, Direction::Top, Direction::Bottom];

    /// The opposite one.
    pub fn opposite(self) -> Self {
        match self {
            Direction::Left => Direction::Right,
            Direction::Right => Direction::Left,
            Direction::Top => Direction::Bottom,
            Direction::Bottom => Direction::Top,
        }
    }
}

/// A part of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Region {
    Left,
    Right,
    Top,
    Bottom,
    TopLeft,
    TopRight,
    BottomLeft,
    BottomRight,
    Middle,
}

impl Region {
    /// Every region.
    pub const ALL: [Region; 9] = [
        Region::Left,
        Region::Right,
        Region::Top,
        Region::Bottom,
        Region::TopLeft,
        Region::TopRight,
        Region::BottomLeft,
        Region::BottomRight,
        Region::Middle,
    ];
}

/// Attributes; `None` is not mentioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Colour, if mentioned.
    pub color: Option<Color>,
    /// Size, if mentioned.
    pub size: Option<Size>,
    /// Shape, if mentioned.
    pub shape: Option<Shape>,
}

/// Where things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// In a part of the picture ("on the left").
    Region(Region),
    /// The outermost of the things described ("leftmost").
    Extreme(Direction),
    /// Beside a landmark ("left of the blue square").
    Relation(Direction, Description),
}

/// Things with attributes at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NounPhrase {
    /// Attributes.
    pub what: Description,
    /// Place, if mentioned.
    pub place: Option<Place>,
}

/// How many things are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// "the red circle".
    One,
    /// "the two red circles"; must be truthful.
    Exactly(usize),
    /// "all red circles", "every red circle": two or more.
    All,
}

/// The meaning of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Query {
    /// A quantity of things.
    Things(Quantity, NounPhrase),
    /// "the red circle and the blue square": two single things.
    Pair(NounPhrase, NounPhrase),
}
