//! Colours and numbers of a noun phrase, and which of them exclude one another.

use std::fmt;

use serde::Serialize;

/// A basic colour word; shades are filed under it ("maroon" is red).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Colour {
    /// Black, dark.
    Black,
    /// White.
    White,
    /// Grey, silver.
    Grey,
    /// Red, maroon.
    Red,
    /// Orange.
    Orange,
    /// Yellow, golden, blond.
    Yellow,
    /// Green.
    Green,
    /// Blue, navy, teal.
    Blue,
    /// Purple, violet.
    Purple,
    /// Pink.
    Pink,
    /// Brown, tan, beige.
    Brown,
}

use Colour::{Black, Blue, Brown, Green, Grey, Orange, Pink, Purple, Red, White, Yellow};

impl Colour {
    /// The colour a lower-case word names.
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "black" | "dark" => Black,
            "white" => White,
            "grey" | "gray" | "silver" => Grey,
            "red" | "maroon" | "crimson" => Red,
            "orange" => Orange,
            "yellow" | "gold" | "golden" | "blonde" | "blond" => Yellow,
            "green" | "lime" | "olive" => Green,
            "blue" | "navy" | "teal" | "turquoise" => Blue,
            "purple" | "violet" | "lavender" => Purple,
            "pink" | "magenta" => Pink,
            "brown" | "tan" | "beige" | "cream" => Brown,
            _ => return None,
        })
    }

    /// Whether no one would call one thing both: red and blue, but not red and orange.
    pub fn excludes(self, other: Self) -> bool {
        const NEAR: [(Colour, Colour); 16] = [
            (Black, Grey),
            (Black, Brown),
            (Black, Blue),
            (White, Grey),
            (White, Yellow),
            (White, Brown),
            (White, Pink),
            (Red, Orange),
            (Red, Pink),
            (Red, Brown),
            (Red, Purple),
            (Orange, Yellow),
            (Orange, Brown),
            (Yellow, Brown),
            (Green, Blue),
            (Blue, Purple),
        ];
        let near = |pair: &(Colour, Colour)| *pair == (self, other) || *pair == (other, self);
        let also = [(Purple, Pink), (Green, Yellow), (Grey, Blue), (Grey, Brown), (Black, Green)];
        self != other && !NEAR.iter().any(near) && !also.iter().any(near)
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Black => "black",
            White => "white",
            Grey => "grey",
            Red => "red",
            Orange => "orange",
            Yellow => "yellow",
            Green => "green",
            Blue => "blue",
            Purple => "purple",
            Pink => "pink",
            Brown => "brown",
        })
    }
}

const NUMBERS: [&str; 13] = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve",
];

/// A number word or a numeral, 1 to 99.
pub fn number_of(word: &str) -> Option<u32> {
    let named = NUMBERS.iter().position(|name| *name == word).map(|n| n as u32);
    let number = named.or_else(|| match word {
        "both" => Some(2),
        _ => word.parse().ok(),
    })?;
    (1..100).contains(&number).then_some(number)
}

/// The word for `n` up to twelve, else the numeral.
pub fn number_word(n: usize) -> String {
    NUMBERS.get(n).map_or_else(|| n.to_string(), |word| (*word).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_exclude_only_what_is_far() {
        let pair = |a, b| (Colour::of(a), Colour::of(b));
        for (a, b) in [("red", "blue"), ("black", "white"), ("green", "red"), ("yellow", "blue")] {
            assert!(matches!(pair(a, b), (Some(a), Some(b)) if a.excludes(b) && b.excludes(a)));
        }
        for (a, b) in [("red", "maroon"), ("tan", "white"), ("gold", "orange"), ("navy", "black")] {
            assert!(matches!(pair(a, b), (Some(a), Some(b)) if !a.excludes(b) && !b.excludes(a)));
        }
        assert_eq!(Colour::of("striped"), None);
    }

    #[test]
    fn numbers_are_words_or_numerals() {
        assert_eq!(
            (number_of("two"), number_of("2"), number_of("both")),
            (Some(2), Some(2), Some(2))
        );
        assert_eq!((number_of("0"), number_of("many"), number_of("1000")), (None, None, None));
        assert_eq!((number_word(3).as_str(), number_word(40).as_str()), ("three", "40"));
    }
}
