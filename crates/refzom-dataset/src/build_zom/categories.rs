//! COCO's 80 categories: how a sentence names them, what else people call them, what they may be taken for.
//!
//! A word is *exact* if everything it names is annotated under its categories ("dog"): its absence from the
//! annotations then shows that no such thing is in the picture. A *loose* word ("sign", "table") also names things that
//! COCO does not annotate: it is evidence that a category may be present, never that it is absent.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign};

/// A category: its place in [`CATEGORIES`].
pub type CategoryIndex = usize;

/// A set of COCO's 80 categories.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CategorySet(u128);

impl CategorySet {
    /// No category.
    pub const EMPTY: Self = Self(0);

    /// One category.
    pub fn one(index: CategoryIndex) -> Self {
        Self(1 << index)
    }

    /// Categories by name; names that COCO does not have are left out.
    pub(super) fn named(names: &[&str]) -> Self {
        names.iter().filter_map(|name| index_of(name)).map(Self::one).fold(Self::EMPTY, Self::bitor)
    }

    /// Whether none is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many are in it.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether one of `other` is in it.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether `index` is in it.
    pub fn has(self, index: CategoryIndex) -> bool {
        self.meets(Self::one(index))
    }

    /// The categories, ascending.
    pub fn iter(self) -> impl Iterator<Item = CategoryIndex> {
        (0..CATEGORIES.len()).filter(move |&index| self.has(index))
    }

    /// Together with everything that its members may be taken for.
    pub fn with_confusable(self) -> Self {
        let joined = |set: Self, group: &&[&str]| {
            let group = Self::named(group);
            if group.meets(self) { set | group } else { set }
        };
        CONFUSABLE.iter().fold(self, joined)
    }
}

impl BitOr for CategorySet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for CategorySet {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOrAssign for CategorySet {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl fmt::Display for CategorySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.iter().map(|index| CATEGORIES[index].name).collect();
        f.write_str(&names.join(", "))
    }
}

/// A category's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CategoryWords {
    /// COCO's name.
    pub name: &'static str,
    /// What one of them is called in a sentence.
    pub singular: &'static str,
    /// What several are called.
    pub plural: &'static str,
    /// Whether COCO's annotators draw one outline an object; bunches of bananas or pairs of skis are not counted reliably.
    pub counted: bool,
}

const fn words(
    name: &'static str,
    singular: &'static str,
    plural: &'static str,
    counted: bool,
) -> CategoryWords {
    CategoryWords { name, singular, plural, counted }
}

/// COCO's categories in the order of their ids.
pub const CATEGORIES: [CategoryWords; 80] = [
    words("person", "person", "people", true),
    words("bicycle", "bicycle", "bicycles", true),
    words("car", "car", "cars", true),
    words("motorcycle", "motorcycle", "motorcycles", true),
    words("airplane", "airplane", "airplanes", true),
    words("bus", "bus", "buses", true),
    words("train", "train", "trains", true),
    words("truck", "truck", "trucks", true),
    words("boat", "boat", "boats", true),
    words("traffic light", "traffic light", "traffic lights", true),
    words("fire hydrant", "fire hydrant", "fire hydrants", true),
    words("stop sign", "stop sign", "stop signs", true),
    words("parking meter", "parking meter", "parking meters", true),
    words("bench", "bench", "benches", true),
    words("bird", "bird", "birds", true),
    words("cat", "cat", "cats", true),
    words("dog", "dog", "dogs", true),
    words("horse", "horse", "horses", true),
    words("sheep", "sheep", "sheep", true),
    words("cow", "cow", "cows", true),
    words("elephant", "elephant", "elephants", true),
    words("bear", "bear", "bears", true),
    words("zebra", "zebra", "zebras", true),
    words("giraffe", "giraffe", "giraffes", true),
    words("backpack", "backpack", "backpacks", true),
    words("umbrella", "umbrella", "umbrellas", true),
    words("handbag", "handbag", "handbags", true),
    words("tie", "tie", "ties", true),
    words("suitcase", "suitcase", "suitcases", true),
    words("frisbee", "frisbee", "frisbees", true),
    words("skis", "pair of skis", "skis", false),
    words("snowboard", "snowboard", "snowboards", true),
    words("sports ball", "ball", "balls", true),
    words("kite", "kite", "kites", true),
    words("baseball bat", "baseball bat", "baseball bats", true),
    words("baseball glove", "baseball glove", "baseball gloves", true),
    words("skateboard", "skateboard", "skateboards", true),
    words("surfboard", "surfboard", "surfboards", true),
    words("tennis racket", "tennis racket", "tennis rackets", true),
    words("bottle", "bottle", "bottles", true),
    words("wine glass", "wine glass", "wine glasses", true),
    words("cup", "cup", "cups", true),
    words("fork", "fork", "forks", true),
    words("knife", "knife", "knives", true),
    words("spoon", "spoon", "spoons", true),
    words("bowl", "bowl", "bowls", true),
    words("banana", "banana", "bananas", false),
    words("apple", "apple", "apples", false),
    words("sandwich", "sandwich", "sandwiches", true),
    words("orange", "orange", "oranges", false),
    words("broccoli", "piece of broccoli", "pieces of broccoli", false),
    words("carrot", "carrot", "carrots", false),
    words("hot dog", "hot dog", "hot dogs", true),
    words("pizza", "pizza", "pizzas", true),
    words("donut", "donut", "donuts", true),
    words("cake", "cake", "cakes", true),
    words("chair", "chair", "chairs", true),
    words("couch", "couch", "couches", true),
    words("potted plant", "potted plant", "potted plants", true),
    words("bed", "bed", "beds", true),
    words("dining table", "table", "tables", true),
    words("toilet", "toilet", "toilets", true),
    words("tv", "TV", "TVs", true),
    words("laptop", "laptop", "laptops", true),
    words("mouse", "computer mouse", "computer mice", true),
    words("remote", "remote control", "remote controls", true),
    words("keyboard", "keyboard", "keyboards", true),
    words("cell phone", "cell phone", "cell phones", true),
    words("microwave", "microwave", "microwaves", true),
    words("oven", "oven", "ovens", true),
    words("toaster", "toaster", "toasters", true),
    words("sink", "sink", "sinks", true),
    words("refrigerator", "refrigerator", "refrigerators", true),
    words("book", "book", "books", false),
    words("clock", "clock", "clocks", true),
    words("vase", "vase", "vases", true),
    words("scissors", "pair of scissors", "pairs of scissors", true),
    words("teddy bear", "teddy bear", "teddy bears", true),
    words("hair drier", "hair dryer", "hair dryers", true),
    words("toothbrush", "toothbrush", "toothbrushes", true),
];

/// The category with COCO's name `name`.
pub fn index_of(name: &str) -> Option<CategoryIndex> {
    CATEGORIES.iter().position(|category| category.name == name)
}

/// A category word that names several categories at once in a prompt: "all the animals".
pub(super) struct Hypernym {
    pub(super) plural: &'static str,
    pub(super) members: &'static [&'static str],
}

/// Only those whose members COCO annotates (nearly) without gaps.
pub(super) const HYPERNYMS: [Hypernym; 3] = [
    Hypernym {
        plural: "animals",
        members: &[
            "bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe",
        ],
    },
    Hypernym {
        plural: "vehicles",
        members: &["bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"],
    },
    Hypernym { plural: "pieces of cutlery", members: &["fork", "knife", "spoon"] },
];

/// What annotators and readers take for one another: an image with one of a group proves nothing about the others.
const CONFUSABLE: [&[&str]; 18] = [
    &["car", "bus", "truck"],
    &["bus", "train"],
    &["bicycle", "motorcycle"],
    &["cup", "wine glass", "bowl", "bottle", "vase"],
    &["chair", "couch", "bench", "bed", "toilet"],
    &["handbag", "backpack", "suitcase"],
    &["tv", "laptop", "cell phone", "keyboard", "remote"],
    &["keyboard", "mouse", "laptop"],
    &["oven", "microwave", "toaster", "refrigerator"],
    &["skateboard", "surfboard", "snowboard", "skis"],
    &["fork", "knife", "spoon"],
    &["cow", "sheep", "horse"],
    &["dog", "cat", "bear", "teddy bear"],
    &["cake", "donut", "sandwich", "pizza", "hot dog"],
    &["apple", "orange", "carrot", "broccoli", "banana"],
    &["baseball bat", "baseball glove", "sports ball", "tennis racket"],
    &["potted plant", "vase"],
    &["frisbee", "kite", "sports ball"],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_name_categories_of_coco() {
        let named =
            HYPERNYMS.iter().flat_map(|h| h.members).chain(CONFUSABLE.iter().copied().flatten());
        for name in named {
            assert!(index_of(name).is_some(), "{name}");
        }
        let mut names: Vec<&str> = CATEGORIES.iter().map(|c| c.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 80);
    }

    #[test]
    fn sets_are_sets() {
        let pets = CategorySet::named(&["cat", "dog", "dragon"]);
        assert_eq!((pets.len(), pets.to_string()), (2, "cat, dog".to_owned()));
        let bear = CategorySet::named(&["bear"]);
        assert!(!pets.meets(bear) && pets.with_confusable().meets(bear));
        let toothbrush = CategorySet::named(&["toothbrush"]);
        assert_eq!(toothbrush.with_confusable(), toothbrush);
        assert_eq!(toothbrush.iter().collect::<Vec<_>>(), [79]);
    }
}
