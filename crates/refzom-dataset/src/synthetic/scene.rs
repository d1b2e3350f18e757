//! A scene: coloured shapes placed with limited occlusion, and which pixel shows which object.

use rand::Rng;

use super::attributes::{Color, Shape, Size};
use super::config::SyntheticConfig;

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
        let mut missing = 0;
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
            let placed = scene.place(cfg, color, shape, size, rng)
                || scene.place(cfg, color, shape, Size::Small, rng);
            missing += usize::from(!placed);
            if wanted - missing < cfg.min_objects {
                return None;
            }
        }
        Some(scene)
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
