//! Which queries are asked about a scene: true ones with one or many targets, and near misses,
//! a true query with one attribute changed so that it means nothing there.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::attributes::{Shape, Size};
use super::config::SyntheticConfig;
use super::evaluate::{Answer, evaluate};
use super::query::{Description, Direction, NounPhrase, Place, Quantity, Query, Region};
use super::scene::World;

/// The attribute in which a near miss differs from a true sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Changed {
    /// Colour of the thing itself.
    Color,
    /// Its size.
    Size,
    /// Its shape.
    Shape,
    /// The part of the picture.
    Position,
    /// The direction of a relation.
    Relation,
    /// An attribute of the landmark of a relation.
    Landmark,
}

/// A near miss: the sentence's meaning, and the true one it was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NearMiss {
    /// The true query.
    pub from: Query,
    /// What was changed in it.
    pub changed: Changed,
}

/// A query and the objects it means.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) query: Query,
    pub(super) targets: Vec<usize>,
    pub(super) near_miss: Option<NearMiss>,
}

const TRIES: usize = 60;

/// A query with exactly one target.
pub(super) fn one(world: &World, cfg: &SyntheticConfig, rng: &mut impl Rng) -> Option<Choice> {
    // the form is drawn once: forms that are hard to satisfy must not become rare
    let related = rng.random_bool(cfg.relations);
    let extreme = rng.random_bool(cfg.extremes);
    let form = rng.random_range(0..58);
    (0..TRIES).find_map(|_| {
        let i = rng.random_range(0..world.entities.len());
        let what = describe(world, i, [0.8, 0.35, 0.85], rng);
        let place = match form {
            _ if related => Some(relation(world, i, rng)?),
            _ if extreme => Some(Place::Extreme(Direction::ALL[rng.random_range(0..4)])),
            0..34 => None,
            _ => Some(region(rng)),
        };
        let choice = accept(Query::Things(Quantity::One, NounPhrase { what, place }), world)?;
        (choice.targets == [i]).then_some(choice)
    })
}

/// A query with two or more targets.
pub(super) fn many(world: &World, cfg: &SyntheticConfig, rng: &mut impl Rng) -> Option<Choice> {
    let related = rng.random_bool(cfg.relations);
    let form = rng.random_range(0..77);
    (0..TRIES).find_map(|_| {
        let i = rng.random_range(0..world.entities.len());
        let what = describe(world, i, [0.6, 0.25, 0.7], rng);
        let place = match form {
            _ if related => Some(relation(world, i, rng)?),
            0..45 => None,
            45..65 => Some(region(rng)),
            _ => return pair(world, rng),
        };
        let phrase = NounPhrase { what, place };
        let all = accept(Query::Things(Quantity::All, phrase), world)?;
        if rng.random_bool(0.5) {
            accept(Query::Things(Quantity::Exactly(all.targets.len()), phrase), world)
        } else {
            Some(all)
        }
    })
}

fn region(rng: &mut impl Rng) -> Place {
    // the four sides are the common case
    let n = if rng.random_bool(0.6) { 4 } else { Region::ALL.len() };
    Place::Region(Region::ALL[rng.random_range(0..n)])
}

/// A near miss of a true query; what kind of query it starts from follows the config's own
/// proportion of one and many, so that the wording does not give the answer away.
pub(super) fn zero(world: &World, cfg: &SyntheticConfig, rng: &mut impl Rng) -> Option<Choice> {
    let p = cfg.proportions;
    let share = if p.one + p.many > 0.0 { p.many / (p.one + p.many) } else { 0.25 };
    (0..TRIES).find_map(|_| {
        let source =
            if rng.random_bool(share) { many(world, cfg, rng) } else { one(world, cfg, rng) }?;
        let Query::Things(quantity, phrase) = source.query else { return None };
        (0..6).find_map(|_| {
            let changed = attribute(&phrase, rng);
            let phrase = change(&phrase, changed, world, cfg, rng)?;
            let query = Query::Things(quantity, phrase);
            evaluate(&query, world).is_none().then_some(Choice {
                query,
                targets: Vec::new(),
                near_miss: Some(NearMiss { from: source.query, changed }),
            })
        })
    })
}

/// Which attribute to change; the place, where there is one, more often than the others.
fn attribute(phrase: &NounPhrase, rng: &mut impl Rng) -> Changed {
    match (phrase.place, rng.random_range(0..10)) {
        (Some(Place::Region(_)), 0..5) => Changed::Position,
        (Some(Place::Relation(..)), 0..4) => Changed::Relation,
        (Some(Place::Relation(..)), 4..6) => Changed::Landmark,
        _ => [Changed::Color, Changed::Size, Changed::Shape][rng.random_range(0..3)],
    }
}

fn accept(query: Query, world: &World) -> Option<Choice> {
    match evaluate(&query, world) {
        Answer::Objects(targets) if !targets.is_empty() => {
            Some(Choice { query, targets, near_miss: None })
        }
        _ => None,
    }
}

/// Two single things, the first perhaps with its place.
fn pair(world: &World, rng: &mut impl Rng) -> Option<Choice> {
    let n = world.entities.len();
    let (i, j) = (rng.random_range(0..n), rng.random_range(0..n));
    let place = rng.random_bool(0.3).then(|| region(rng));
    let a = NounPhrase { what: describe(world, i, [0.8, 0.3, 0.95], rng), place };
    let b = NounPhrase { what: describe(world, j, [0.8, 0.3, 0.95], rng), place: None };
    accept(Query::Pair(a, b), world)
}

/// Some attributes of object `i`, each with its chance, at least a colour or a shape.
fn describe(
    world: &World,
    i: usize,
    [color, size, shape]: [f64; 3],
    rng: &mut impl Rng,
) -> Description {
    let e = world.entities[i];
    let (color, size, shape) =
        (rng.random_bool(color), rng.random_bool(size), rng.random_bool(shape));
    Description {
        color: color.then_some(e.color),
        size: size.then_some(e.size),
        shape: (shape || !color).then_some(e.shape),
    }
}

/// A relation to another object in the direction in which that one lies.
fn relation(world: &World, i: usize, rng: &mut impl Rng) -> Option<Place> {
    let j = rng.random_range(0..world.entities.len());
    let (a, b) = (world.entities[i].center, world.entities[j].center);
    let (dx, dy) = (b.0 - a.0, b.1 - a.1);
    let direction = match (dx.abs() > dy.abs(), dx > 0.0, dy > 0.0) {
        (true, true, _) => Direction::Left,
        (true, false, _) => Direction::Right,
        (false, _, true) => Direction::Top,
        (false, _, false) => Direction::Bottom,
    };
    (i != j).then(|| Place::Relation(direction, describe(world, j, [0.8, 0.2, 0.9], rng)))
}

fn change(
    phrase: &NounPhrase,
    changed: Changed,
    world: &World,
    cfg: &SyntheticConfig,
    rng: &mut impl Rng,
) -> Option<NounPhrase> {
    let mut phrase = *phrase;
    match changed {
        Changed::Color => recolor(&mut phrase.what, world, cfg, rng)?,
        Changed::Size => resize(&mut phrase.what)?,
        Changed::Shape => reshape(&mut phrase.what, world, cfg, rng)?,
        Changed::Position => {
            let Some(Place::Region(region)) = phrase.place else { return None };
            let other = Region::ALL[rng.random_range(0..Region::ALL.len())];
            phrase.place = (other != region).then_some(Place::Region(other));
            phrase.place?;
        }
        Changed::Relation => {
            let Some(Place::Relation(direction, landmark)) = phrase.place else { return None };
            let other = if rng.random_bool(0.6) {
                direction.opposite()
            } else {
                Direction::ALL[rng.random_range(0..4)]
            };
            phrase.place = (other != direction).then_some(Place::Relation(other, landmark));
            phrase.place?;
        }
        Changed::Landmark => {
            let Some(Place::Relation(direction, mut landmark)) = phrase.place else { return None };
            match rng.random_range(0..3) {
                0 => recolor(&mut landmark, world, cfg, rng)?,
                1 => reshape(&mut landmark, world, cfg, rng)?,
                _ => resize(&mut landmark)?,
            }
            phrase.place = Some(Place::Relation(direction, landmark));
        }
    }
    Some(phrase)
}

/// Another colour, mostly one that another object of the scene has.
fn recolor(
    what: &mut Description,
    world: &World,
    cfg: &SyntheticConfig,
    rng: &mut impl Rng,
) -> Option<()> {
    let old = what.color?;
    let new = if rng.random_bool(0.75) {
        world.entities[rng.random_range(0..world.entities.len())].color
    } else {
        cfg.colors[rng.random_range(0..cfg.colors.len())]
    };
    what.color = Some(new);
    (new != old).then_some(())
}

fn reshape(
    what: &mut Description,
    world: &World,
    cfg: &SyntheticConfig,
    rng: &mut impl Rng,
) -> Option<()> {
    let old: Shape = what.shape?;
    let new = if rng.random_bool(0.75) {
        world.entities[rng.random_range(0..world.entities.len())].shape
    } else {
        cfg.shapes[rng.random_range(0..cfg.shapes.len())]
    };
    what.shape = Some(new);
    (new != old).then_some(())
}

fn resize(what: &mut Description) -> Option<()> {
    what.size = what.size.map(Size::other);
    what.size.map(|_| ())
}
