//! A scene: coloured shapes placed with limited occlusion, and which pixel shows which object.
//! Shapes have equal area for equal radius, so that "small" and "large" mean the same for each.

use rand::Rng;
use serde::{Deserialize, Serialize};

use super::config::SyntheticConfig;

/// Colour of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // the variants are their own description
pub enum Color {
    Red,
    Green,
    Blue,
    Yellow,
    Orange,
    Purple,
    White,
    Black,
}

impl Color {
    /// Every colour.
    pub const ALL: [Color; 8] = [
        Color::Red,
        Color::Green,
        Color::Blue,
        Color::Yellow,
        Color::Orange,
        Color::Purple,
        Color::White,
        Color::Black,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Color::Red => "red",
            Color::Green => "green",
            Color::Blue => "blue",
            Color::Yellow => "yellow",
            Color::Orange => "orange",
            Color::Purple => "purple",
            Color::White => "white",
            Color::Black => "black",
        }
    }

    /// Mean RGB, each object varies around it.
    pub fn rgb(self) -> [u8; 3] {
        match self {
            Color::Red => [214, 32, 38],
            Color::Green => [38, 158, 58],
            Color::Blue => [36, 78, 214],
            Color::Yellow => [244, 226, 44],
            Color::Orange => [246, 134, 22],
            Color::Purple => [142, 46, 178],
            Color::White => [242, 242, 240],
            Color::Black => [22, 22, 26],
        }
    }
}

/// Shape of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Shape {
    Circle,
    Square,
    Triangle,
    Star,
    Cross,
    Diamond,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Shape; 6] =
        [Shape::Circle, Shape::Square, Shape::Triangle, Shape::Star, Shape::Cross, Shape::Diamond];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Circle => "circle",
            Shape::Square => "square",
            Shape::Triangle => "triangle",
            Shape::Star => "star",
            Shape::Cross => "cross",
            Shape::Diamond => "diamond",
        }
    }

    /// COCO category id, from 1.
    pub fn category_id(self) -> i64 {
        Self::ALL.iter().position(|&s| s == self).map_or(0, |i| i as i64 + 1)
    }

    /// Largest rotation in radians that keeps the shape recognisable (a square must not become
    /// a diamond).
    fn max_tilt(self) -> f64 {
        match self {
            Shape::Circle => 0.0,
            Shape::Square | Shape::Cross => 0.22,
            Shape::Triangle => 0.3,
            Shape::Star => 0.4,
            Shape::Diamond => 0.12,
        }
    }

    /// Whether `(u, v)` lies inside the upright shape of area π centred on the origin, `v` down.
    fn contains(self, u: f64, v: f64) -> bool {
        match self {
            Shape::Circle => u * u + v * v <= 1.0,
            Shape::Square => u.abs().max(v.abs()) <= 0.886_227,
            Shape::Diamond => u.abs() / 1.023 + v.abs() / 1.535 <= 1.0,
            Shape::Cross => {
                const ARM: f64 = 1.154;
                const HALF: f64 = 0.415;
                (u.abs() <= HALF && v.abs() <= ARM) || (v.abs() <= HALF && u.abs() <= ARM)
            }
            // equilateral, circumradius 1.555, centroid at the origin, apex up
            Shape::Triangle => v <= 0.7775 && 1.732_051 * u.abs() - v <= 1.555,
            Shape::Star => in_star(u, v, 1.462, 0.731),
        }
    }

    /// Farthest extent from the centre in units of the radius.
    fn reach(self) -> f64 {
        match self {
            Shape::Circle => 1.0,
            Shape::Square => 1.26,
            Shape::Triangle => 1.56,
            Shape::Star => 1.47,
            Shape::Cross => 1.23,
            Shape::Diamond => 1.54,
        }
    }
}

/// Five-pointed star, one point up: fold the plane into one tenth and test one edge.
fn in_star(u: f64, v: f64, outer: f64, inner: f64) -> bool {
    let sector = std::f64::consts::PI / 5.0;
    let angle = u.atan2(-v).abs(); // 0 at the upper point
    let folded = (angle / (2.0 * sector)).fract() * 2.0 * sector;
    let folded = folded.min(2.0 * sector - folded);
    let radius = u.hypot(v);
    let (x, y) = (radius * folded.cos(), radius * folded.sin());
    let (ix, iy) = (inner * sector.cos(), inner * sector.sin());
    // left of the edge from (outer, 0) to (ix, iy)
    (ix - outer) * y - iy * (x - outer) >= 0.0
}

/// Size class of an object; the two are well separated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Size {
    Small,
    Large,
}

impl Size {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Size::Small => "small",
            Size::Large => "large",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Size::Small => Size::Large,
            Size::Large => Size::Small,
        }
    }
}

/// An object as a viewer sees it; all that sentences may speak of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entity {
    /// Its colour.
    pub color: Color,
    /// Its shape.
    pub shape: Shape,
    /// Its size class.
    pub size: Size,
    /// Centroid of its visible pixels, `(x, y)` in pixels.
    pub center: (f64, f64),
}

/// What sentences are evaluated against.
#[derive(Clone, Debug, PartialEq)]
pub struct World {
    /// Picture width in pixels.
    pub width: f64,
    /// Picture height in pixels.
    pub height: f64,
    /// The objects.
    pub entities: Vec<Entity>,
}

/// An object as it is drawn.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) color: Color,
    pub(super) shape: Shape,
    pub(super) size: Size,
    center: (f64, f64),
    radius: f64,
    pixels: Vec<u32>, // all of its pixels, hidden ones included
}

impl Body {
    /// Draws the shape into a picture of `extent` (width, height); it may reach beyond the border.
    fn new(
        (color, shape, size): (Color, Shape, Size),
        center: (f64, f64),
        radius: f64,
        tilt: f64,
        (width, height): (u32, u32),
    ) -> Self {
        let reach = shape.reach() * radius + 1.0;
        let (sin, cos) = tilt.sin_cos();
        let clamp = |x: f64, hi: u32| x.clamp(0.0, f64::from(hi)) as u32;
        let mut pixels = Vec::new();
        for y in clamp(center.1 - reach, height)..clamp(center.1 + reach + 1.0, height) {
            for x in clamp(center.0 - reach, width)..clamp(center.0 + reach + 1.0, width) {
                let dx = (f64::from(x) + 0.5 - center.0) / radius;
                let dy = (f64::from(y) + 0.5 - center.1) / radius;
                if shape.contains(cos * dx + sin * dy, cos * dy - sin * dx) {
                    pixels.push(y * width + x);
                }
            }
        }
        Self { color, shape, size, center, radius, pixels }
    }

    /// Position of a pixel relative to the centre, in radii.
    pub(super) fn local(&self, x: u32, y: u32) -> (f64, f64) {
        (
            (f64::from(x) + 0.5 - self.center.0) / self.radius,
            (f64::from(y) + 0.5 - self.center.1) / self.radius,
        )
    }
}

/// Background marker in [`Scene::owner`].
pub(super) const BACKGROUND: u8 = u8::MAX;

/// Placed objects and the object each pixel shows.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) bodies: Vec<Body>,
    /// Row-major, index into `bodies` or [`BACKGROUND`].
    pub(super) owner: Vec<u8>,
}

impl Scene {
    /// Places objects at random; `None` if not even `min_objects` fit in this attempt.
    pub(super) fn sample(cfg: &SyntheticConfig, rng: &mut impl Rng) -> Option<Self> {
        let mut scene = Self {
            width: cfg.width,
            height: cfg.height,
            bodies: Vec::new(),
            owner: vec![BACKGROUND; (cfg.width * cfg.height) as usize],
        };
        let wanted = rng.random_range(cfg.min_objects..=cfg.max_objects);
        // few colours and shapes a scene, so that one attribute rarely suffices
        let colors = subset(&cfg.colors, rng.random_range(2..=4), rng);
        let shapes = subset(&cfg.shapes, rng.random_range(2..=3), rng);
        for _ in 0..wanted {
            let twin = (!scene.bodies.is_empty() && rng.random_bool(0.4))
                .then(|| scene.bodies[rng.random_range(0..scene.bodies.len())].clone());
            let color = twin
                .as_ref()
                .map_or_else(|| colors[rng.random_range(0..colors.len())], |t| t.color);
            let shape = twin
                .as_ref()
                .map_or_else(|| shapes[rng.random_range(0..shapes.len())], |t| t.shape);
            let size = match twin {
                Some(t) if rng.random_bool(0.6) => t.size,
                _ if rng.random_bool(0.5) => Size::Large,
                _ => Size::Small,
            };
            let _ = scene.place(cfg, color, shape, size, rng)
                || scene.place(cfg, color, shape, Size::Small, rng);
        }
        (scene.bodies.len() >= cfg.min_objects).then_some(scene)
    }

    fn place(
        &mut self,
        cfg: &SyntheticConfig,
        color: Color,
        shape: Shape,
        size: Size,
        rng: &mut impl Rng,
    ) -> bool {
        let short = f64::from(self.width.min(self.height));
        let [lo, hi] = match size {
            Size::Small => cfg.small_radius,
            Size::Large => cfg.large_radius,
        };
        let may_overlap = rng.random_bool(cfg.overlap);
        for _ in 0..40 {
            let radius = short * (lo + (hi - lo) * rng.random::<f64>());
            let tilt = shape.max_tilt() * (2.0 * rng.random::<f64>() - 1.0);
            let edge = shape.reach() * radius + 0.5;
            let span = |side: u32| f64::from(side) - 2.0 * edge;
            let (sx, sy) = (span(self.width), span(self.height));
            let (u, v) = (rng.random::<f64>(), rng.random::<f64>());
            if sx <= 0.0 || sy <= 0.0 {
                return false;
            }
            let center = (edge + u * sx, edge + v * sy);
            let extent = (self.width, self.height);
            let body = Body::new((color, shape, size), center, radius, tilt, extent);
            if self.admits(cfg, &body, may_overlap) {
                let index = self.bodies.len() as u8;
                for &p in &body.pixels {
                    self.owner[p as usize] = index;
                }
                self.bodies.push(body);
                return true;
            }
        }
        false
    }

    /// Whether drawing `body` on top leaves everything visible enough and tellable apart.
    fn admits(&self, cfg: &SyntheticConfig, body: &Body, may_overlap: bool) -> bool {
        if body.pixels.len() < cfg.min_visible_pixels as usize {
            return false;
        }
        let (w, h) = (self.width as i64, self.height as i64);
        let mut hidden = vec![0usize; self.bodies.len()];
        for &p in &body.pixels {
            let (x, y) = (i64::from(p) % w, i64::from(p) / w);
            if self.owner[p as usize] != BACKGROUND {
                hidden[self.owner[p as usize] as usize] += 1;
            }
            // a ring of two pixels around: touching counts as overlapping
            for (dx, dy) in [(2, 0), (-2, 0), (0, 2), (0, -2), (1, 1), (-1, 1), (1, -1), (-1, -1)] {
                let (nx, ny) = (x + dx, y + dy);
                if nx < 0 || ny < 0 || nx >= w || ny >= h {
                    continue;
                }
                let other = self.owner[(ny * w + nx) as usize];
                if other != BACKGROUND
                    && (!may_overlap || self.bodies[other as usize].color == body.color)
                {
                    return false;
                }
            }
        }
        self.bodies.iter().enumerate().all(|(i, other)| {
            if hidden[i] == 0 {
                return true;
            }
            let visible = self.owner.iter().filter(|&&o| o as usize == i).count() - hidden[i];
            visible >= cfg.min_visible_pixels as usize
                && visible as f64 >= cfg.min_visible * other.pixels.len() as f64
        })
    }

    /// Row-major visible mask of object `i`.
    pub(super) fn mask(&self, i: usize) -> Vec<bool> {
        self.owner.iter().map(|&o| o as usize == i).collect()
    }

    /// The scene as a viewer sees it.
    pub(super) fn world(&self) -> World {
        let mut sums = vec![(0.0, 0.0, 0.0); self.bodies.len()];
        for (p, &o) in self.owner.iter().enumerate() {
            if let Some(sum) = sums.get_mut(o as usize) {
                sum.0 += (p % self.width as usize) as f64 + 0.5;
                sum.1 += (p / self.width as usize) as f64 + 0.5;
                sum.2 += 1.0;
            }
        }
        let entities = self.bodies.iter().zip(sums).map(|(b, (x, y, n))| Entity {
            color: b.color,
            shape: b.shape,
            size: b.size,
            center: (x / n, y / n),
        });
        World {
            width: f64::from(self.width),
            height: f64::from(self.height),
            entities: entities.collect(),
        }
    }
}

/// `n` (or all) of `items` in random order.
fn subset<T: Copy>(items: &[T], n: usize, rng: &mut impl Rng) -> Vec<T> {
    let mut items = items.to_vec();
    for i in 0..n.min(items.len()) {
        let j = rng.random_range(i..items.len());
        items.swap(i, j);
    }
    items.truncate(n);
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn shapes_have_equal_area_and_stay_within_reach() {
        for shape in Shape::ALL {
            let (mut inside, step) = (0, 0.005);
            for i in -400..400 {
                for j in -400..400 {
                    let (u, v) = ((i as f64 + 0.5) * step, (j as f64 + 0.5) * step);
                    if shape.contains(u, v) {
                        inside += 1;
                        assert!(u.hypot(v) <= shape.reach() + 1e-9, "{shape:?}");
                    }
                }
            }
            let area = f64::from(inside) * step * step;
            assert!((area / std::f64::consts::PI - 1.0).abs() < 0.02, "{shape:?} {area}");
        }
    }

    #[test]
    fn every_object_stays_visible_enough() {
        let cfg = SyntheticConfig { max_objects: 8, overlap: 1.0, ..SyntheticConfig::quickstart() };
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let (mut overlapped, mut objects) = (0, 0);
        for scene in (0..200).filter_map(|_| Scene::sample(&cfg, &mut rng)) {
            for (i, body) in scene.bodies.iter().enumerate() {
                let visible = scene.mask(i).iter().filter(|&&m| m).count();
                assert!(visible as f64 >= cfg.min_visible * body.pixels.len() as f64);
                assert!(visible >= cfg.min_visible_pixels as usize);
                overlapped += usize::from(visible < body.pixels.len());
                objects += 1;
            }
        }
        assert!(overlapped * 20 > objects, "occlusion is too rare: {overlapped} of {objects}");
    }
}
