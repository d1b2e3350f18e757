//! Category words in templates: "the dog on the left", "all the dogs", "the two dogs and the cat", "all the animals".
//!
//! A prompt speaks of all objects of a category, so it is made only where the annotations can be trusted to be all:
//! no crowd, no text about the image that says another number, a category that COCO annotates without gaps.

use rand::Rng;

use super::attributes::number_word;
use super::candidate::{Candidate, Origin};
use super::catalog::{Catalog, Object, Picture};
use super::categories::{CATEGORIES, CategoryIndex, CategorySet, HYPERNYMS};
use super::draw::pick;
use super::evidence::Evidence;
use super::lexicon::meaning_of;

const SINGLE: [&str; 4] = [
    "the {singular}",
    "the {singular} in the picture",
    "the only {singular}",
    "{singular} in this image",
];
const LEFT: [&str; 3] =
    ["the {singular} on the left", "the left {singular}", "{singular} on the left side"];
const RIGHT: [&str; 3] =
    ["the {singular} on the right", "the right {singular}", "{singular} on the right side"];
const PAIR: [&str; 3] = ["both {plural}", "the two {plural}", "two {plural}"];
const SOME: [&str; 3] = ["the {number} {plural}", "{number} {plural}", "all {number} {plural}"];
const ALL: [&str; 5] = [
    "all the {plural}",
    "all {plural} in the picture",
    "every {singular}",
    "each {singular} in the image",
    "all of the {plural}",
];

/// Most objects that a number is said of, and most that "all" is said of.
const MOST_COUNTED: usize = 8;
const MOST: usize = 20;

/// The objects of one category of an image that a prompt may speak of.
struct Group<'a> {
    category: CategoryIndex,
    objects: Vec<&'a Object>,
}

/// Makes the prompts of one image.
pub(super) struct Prompter<'a> {
    catalog: &'a Catalog,
    picture: usize,
    min_area: f64,
    groups: Vec<Group<'a>>,
    /// Whether a text contradicts the annotated number of a category.
    doubtful: CategorySet,
}

impl<'a> Prompter<'a> {
    pub(super) fn new(
        catalog: &'a Catalog,
        picture: usize,
        evidence: &Evidence,
        min_area: f64,
    ) -> Self {
        let image = &catalog.pictures()[picture];
        let mut groups: Vec<Group<'a>> = Vec::new();
        for object in catalog.objects(picture) {
            let Some(category) = object.category.map(usize::from) else { continue };
            match groups.iter_mut().find(|group| group.category == category) {
                Some(group) => group.objects.push(object),
                None => groups.push(Group { category, objects: vec![object] }),
            }
        }
        let doubtful = groups
            .iter()
            .filter(|group| evidence.contradicts(group.category, group.objects.len()))
            .fold(CategorySet::EMPTY, |set, group| set | CategorySet::one(group.category));
        // Categories that COCO annotates only in part (tables, books) have no exact name.
        let whole = |group: &Group<'_>| {
            let name = CATEGORIES[group.category].name;
            !image.crowds.has(group.category)
                && meaning_of(name).is_some_and(|meaning| meaning.exact)
        };
        groups.retain(|group| whole(group));
        Self { catalog, picture, min_area, groups, doubtful }
    }

    fn image(&self) -> &Picture {
        &self.catalog.pictures()[self.picture]
    }

    fn visible(&self, object: &Object, share: f64) -> bool {
        let pixels = f64::from(self.image().width) * f64::from(self.image().height);
        f64::from(object.area) >= share * self.min_area * pixels && object.area > 0.0
    }

    fn candidate(
        &self,
        template: &'static str,
        text: String,
        categories: &[CategoryIndex],
        objects: &[&Object],
    ) -> Candidate {
        let mut ids: Vec<i64> = objects.iter().map(|object| object.id).collect();
        ids.sort_unstable();
        let categories = categories.iter().map(|&category| CATEGORIES[category].name).collect();
        Candidate {
            picture: self.picture as u32,
            objects: ids,
            sentence: text,
            origin: Origin::Prompt { template, categories },
        }
    }

    /// One-to-one: a category's only object, or the left and the right of two.
    pub(super) fn singles(&self, rng: &mut impl Rng) -> Vec<Candidate> {
        let mut made = Vec::new();
        for group in &self.groups {
            let category = group.category;
            if self.doubtful.has(category) || !CATEGORIES[category].counted {
                continue;
            }
            let mut add = |templates: &[&'static str], object: &Object, rng: &mut _| {
                if let Some(&template) = pick(templates, rng) {
                    let text = fill(template, category, 1);
                    made.push(self.candidate(template, text, &[category], &[object]));
                }
            };
            match group.objects.as_slice() {
                [only] if self.visible(only, 1.0) => add(&SINGLE, only, rng),
                [a, b] if self.visible(a, 1.0) && self.visible(b, 1.0) => {
                    if let Some((left, right)) = self.left_right(a, b) {
                        add(&LEFT, left, rng);
                        add(&RIGHT, right, rng);
                    }
                }
                _ => {}
            }
        }
        made
    }

    /// The left and the right of two boxes that stand clearly side by side.
    fn left_right<'o>(&self, a: &'o Object, b: &'o Object) -> Option<(&'o Object, &'o Object)> {
        let centre = |o: &Object| o.bbox[0] + o.bbox[2] / 2.0;
        let (left, right) = if centre(a) <= centre(b) { (a, b) } else { (b, a) };
        let apart = centre(right) - centre(left);
        let overlap = left.bbox[0] + left.bbox[2] - right.bbox[0];
        let least = 0.15 * self.image().width as f32;
        (apart >= least && overlap < 0.3 * left.bbox[2].min(right.bbox[2])).then_some((left, right))
    }

    /// One-to-many: all of a category, of two categories, of a hypernym.
    pub(super) fn groups(&self, rng: &mut impl Rng) -> Vec<Candidate> {
        let mut made = Vec::new();
        for group in &self.groups {
            made.extend(self.all_of(group, rng));
        }
        made.extend(self.two_categories(rng));
        made.extend(HYPERNYMS.iter().filter_map(|hypernym| {
            let members = CategorySet::named(hypernym.members);
            let present = self.image().present & members;
            let named: Vec<&Group<'_>> =
                self.groups.iter().filter(|g| members.has(g.category)).collect();
            // every member present must be countable here, or "all" would leave some out
            if named.len() < 2 || named.len() != present.len() || self.doubtful.meets(members) {
                return None;
            }
            let objects: Vec<&Object> =
                named.iter().flat_map(|g| g.objects.iter().copied()).collect();
            let categories: Vec<CategoryIndex> = named.iter().map(|g| g.category).collect();
            let big = objects.iter().any(|object| self.visible(object, 1.0));
            let text = format!("all the {}", hypernym.plural);
            (big && objects.len() <= MOST)
                .then(|| self.candidate("all the {hypernym}", text, &categories, &objects))
        }));
        made
    }

    fn all_of(&self, group: &Group<'_>, rng: &mut impl Rng) -> Option<Candidate> {
        let count = group.objects.len();
        let counted = CATEGORIES[group.category].counted
            && count <= MOST_COUNTED
            && group.objects.iter().all(|object| self.visible(object, 0.5));
        let visible = group.objects.iter().any(|object| self.visible(object, 1.0));
        if !(2..=MOST).contains(&count) || !visible || self.doubtful.has(group.category) {
            return None;
        }
        let mut templates: Vec<&'static str> = ALL.to_vec();
        match count {
            2 if counted => templates.extend(PAIR),
            _ if counted => templates.extend(SOME.iter().chain(&SOME)),
            _ => {}
        }
        // "each piece of broccoli": pieces are not what was annotated
        templates
            .retain(|template| CATEGORIES[group.category].counted || template.contains("{plural}"));
        let &template = pick(&templates, rng)?;
        Some(self.candidate(
            template,
            fill(template, group.category, count),
            &[group.category],
            &group.objects,
        ))
    }

    /// "the dog and the two cats"; the larger group first.
    fn two_categories(&self, rng: &mut impl Rng) -> Option<Candidate> {
        let fits = |group: &&Group<'_>| {
            CATEGORIES[group.category].counted
                && group.objects.len() <= 3
                && !self.doubtful.has(group.category)
                && group.objects.iter().all(|object| self.visible(object, 1.0))
        };
        let fitting: Vec<&Group<'_>> = self.groups.iter().filter(fits).collect();
        if fitting.len() < 2 {
            return None;
        }
        let first = rng.random_range(0..fitting.len());
        let second = (first + rng.random_range(1..fitting.len())) % fitting.len();
        let (a, b) = (fitting[first], fitting[second]);
        let name = |group: &Group<'_>| {
            let words = &CATEGORIES[group.category];
            match group.objects.len() {
                1 => format!("the {}", words.singular),
                n => format!("the {} {}", number_word(n), words.plural),
            }
        };
        let objects: Vec<&Object> = a.objects.iter().chain(&b.objects).copied().collect();
        let text = format!("{} and {}", name(a), name(b));
        Some(self.candidate(
            "the {category} and the {category}",
            text,
            &[a.category, b.category],
            &objects,
        ))
    }
}

fn fill(template: &str, category: CategoryIndex, count: usize) -> String {
    let words = &CATEGORIES[category];
    template
        .replace("{singular}", words.singular)
        .replace("{plural}", words.plural)
        .replace("{number}", &number_word(count))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::catalog::tests::catalog;
    use super::super::draw::stream;
    use super::*;

    const LEFT_BOX: [f32; 4] = [0., 0., 30., 50.];
    const RIGHT_BOX: [f32; 4] = [60., 0., 30., 50.];

    fn made(objects: &[(&str, bool, [f32; 4])], said: &[&str]) -> (Vec<Candidate>, Vec<Candidate>) {
        let all: Vec<_> = objects.iter().map(|(name, crowd, b)| (1, *name, *crowd, *b)).collect();
        let catalog = catalog(&all);
        let evidence = Evidence::of_texts(said.iter().copied());
        let prompter = Prompter::new(&catalog, 0, &evidence, 0.002);
        let mut rng = stream(1, "test", 1);
        (prompter.singles(&mut rng), prompter.groups(&mut rng))
    }

    #[test]
    fn one_of_a_kind_and_sides() {
        let (singles, groups) = made(&[("dog", false, LEFT_BOX)], &[]);
        assert_eq!((singles.len(), groups.len()), (1, 0));
        assert!(singles[0].sentence.contains("dog"));
        let (singles, groups) = made(&[("dog", false, RIGHT_BOX), ("dog", false, LEFT_BOX)], &[]);
        let left = singles.iter().find(|c| c.sentence.contains("left")).unwrap();
        assert_eq!((singles.len(), left.objects.as_slice()), (2, &[2][..]));
        assert_eq!((groups.len(), groups[0].objects.as_slice()), (1, &[1, 2][..]));
        let (singles, _) = made(&[("dog", false, LEFT_BOX), ("dog", false, LEFT_BOX)], &[]);
        assert!(singles.is_empty(), "no side");
    }

    #[test]
    fn doubt_makes_no_prompt() {
        let two = [("dog", false, LEFT_BOX), ("dog", false, RIGHT_BOX)];
        let none = |objects: &[(&str, bool, [f32; 4])], said: &[&str]| {
            let (singles, groups) = made(objects, said);
            assert!(singles.is_empty() && groups.is_empty(), "{singles:?} {groups:?}");
        };
        none(&two, &["three puppies on a bed"]);
        none(&[("dog", false, LEFT_BOX)], &["some dogs"]);
        none(&[("dog", false, LEFT_BOX), ("dog", true, RIGHT_BOX)], &[]);
        none(&[("dining table", false, LEFT_BOX), ("dining table", false, RIGHT_BOX)], &[]);
        none(&[("dog", false, [0., 0., 1., 1.])], &[]);
    }

    #[test]
    fn categories_join() {
        let (_, groups) = made(&[("dog", false, LEFT_BOX), ("cat", false, RIGHT_BOX)], &[]);
        let texts: Vec<&str> = groups.iter().map(|c| c.sentence.as_str()).collect();
        assert!(texts.contains(&"all the animals"), "{texts:?}");
        assert!(texts.iter().any(|t| *t == "the dog and the cat" || *t == "the cat and the dog"));
        assert!(groups.iter().all(|c| c.objects == [1, 2]));
        let (_, groups) = made(
            &[("dog", false, LEFT_BOX), ("cat", false, RIGHT_BOX), ("cow", true, LEFT_BOX)],
            &[],
        );
        assert!(
            !groups.iter().any(|c| c.sentence.contains("animals")),
            "a crowd of cows is left out"
        );
    }

    #[test]
    fn words_fit_the_number() {
        let bears = [("teddy bear", false, LEFT_BOX); 3];
        for seed in 0..40 {
            let all: Vec<_> = bears.iter().map(|(name, crowd, b)| (1, *name, *crowd, *b)).collect();
            let catalog = catalog(&all);
            let prompter = Prompter::new(&catalog, 0, &Evidence::default(), 0.002);
            let text = &prompter.groups(&mut stream(seed, "test", 1))[0].sentence;
            assert!(
                !text.contains('{') && !text.contains("two") && !text.contains("both"),
                "{text}"
            );
            let scissors = vec![(1, "scissors", false, LEFT_BOX); 2];
            let catalog = super::super::catalog::tests::catalog(&scissors);
            let prompter = Prompter::new(&catalog, 0, &Evidence::default(), 0.002);
            let text = &prompter.groups(&mut stream(seed, "test", 1))[0].sentence;
            assert_eq!(text.matches("pair").count(), 1, "{text}");
        }
    }
}
