//! Pixels of a scene: a muted textured background, then each visible pixel of each object with
//! its own tint, shading and grain.

use rand::Rng;

use super::scene::{BACKGROUND, Scene};

/// Row-major RGB bytes of the scene.
pub(super) fn render(scene: &Scene, rng: &mut impl Rng) -> Vec<u8> {
    let background = Background::sample(scene.width.min(scene.height), rng);
    let lights: Vec<Light> = scene.bodies.iter().map(|_| Light::sample(rng)).collect();
    let mut rgb = Vec::with_capacity(3 * scene.owner.len());
    for y in 0..scene.height {
        for x in 0..scene.width {
            let grain: f64 = 2.0 * rng.random::<f64>() - 1.0;
            let owner = scene.owner[(y * scene.width + x) as usize];
            let color = if owner == BACKGROUND {
                background.color(x, y, grain)
            } else {
                let body = &scene.bodies[owner as usize];
                let light = &lights[owner as usize];
                light.color(body.color.rgb(), body.local(x, y), grain)
            };
            rgb.extend(color.map(|c| c.round().clamp(0.0, 255.0) as u8));
        }
    }
    rgb
}

/// Tint and shading of one object.
struct Light {
    tint: [f64; 3],
    slope: (f64, f64),
}

impl Light {
    fn sample(rng: &mut impl Rng) -> Self {
        let angle = std::f64::consts::TAU * rng.random::<f64>();
        let strength = 0.07 * rng.random::<f64>();
        Self {
            tint: std::array::from_fn(|_| 12.0 * (2.0 * rng.random::<f64>() - 1.0)),
            slope: (strength * angle.cos(), strength * angle.sin()),
        }
    }

    fn color(&self, base: [u8; 3], (u, v): (f64, f64), grain: f64) -> [f64; 3] {
        let shade = 1.0 + self.slope.0 * u + self.slope.1 * v;
        // a tint would show on black and white
        let colored = base.iter().max().zip(base.iter().min()).is_some_and(|(hi, lo)| hi - lo > 40);
        let tint = if colored { 1.0 } else { 0.4 };
        std::array::from_fn(|c| (f64::from(base[c]) + tint * self.tint[c]) * shade + 5.0 * grain)
    }
}

/// The textures.
#[derive(Clone, Copy)]
enum Texture {
    Noise,
    Stripes,
    Gradient,
    Checker,
    Clouds,
}

struct Background {
    texture: Texture,
    colors: [[f64; 3]; 2],
    direction: (f64, f64),
    period: f64,
    grain: f64,
    lattice: [[f64; 8]; 8],
    side: f64,
}

impl Background {
    fn sample(short: u32, rng: &mut impl Rng) -> Self {
        const ALL: [Texture; 5] = [
            Texture::Noise,
            Texture::Stripes,
            Texture::Gradient,
            Texture::Checker,
            Texture::Clouds,
        ];
        let texture = ALL[rng.random_range(0..ALL.len())];
        let mid = 95.0 + 70.0 * rng.random::<f64>();
        let contrast = 10.0 + 16.0 * rng.random::<f64>();
        let mut muted = |level: f64| -> [f64; 3] {
            std::array::from_fn(|_| level + 14.0 * (2.0 * rng.random::<f64>() - 1.0))
        };
        let colors = [muted(mid - contrast), muted(mid + contrast)];
        let angle = std::f64::consts::TAU * rng.random::<f64>();
        let grain = match texture {
            Texture::Noise => 18.0 + 12.0 * rng.random::<f64>(),
            _ => 4.0 + 6.0 * rng.random::<f64>(),
        };
        let side = f64::from(short);
        Self {
            texture,
            colors,
            direction: (angle.cos(), angle.sin()),
            period: side * (0.08 + 0.14 * rng.random::<f64>()),
            grain,
            lattice: std::array::from_fn(|_| std::array::from_fn(|_| rng.random::<f64>())),
            side,
        }
    }

    fn color(&self, x: u32, y: u32, grain: f64) -> [f64; 3] {
        let (x, y) = (f64::from(x), f64::from(y));
        let along = x * self.direction.0 + y * self.direction.1;
        let across = y * self.direction.0 - x * self.direction.1;
        let mix = match self.texture {
            Texture::Noise => 0.5,
            Texture::Stripes => f64::from(u8::from((along / self.period).rem_euclid(2.0) < 1.0)),
            Texture::Gradient => (0.5 + 0.5 * along / self.side).clamp(0.0, 1.0),
            Texture::Checker => {
                let cell = (along / self.period).floor() + (across / self.period).floor();
                cell.rem_euclid(2.0)
            }
            Texture::Clouds => self.clouds(x / self.side, y / self.side),
        };
        std::array::from_fn(|c| {
            self.colors[0][c] + mix * (self.colors[1][c] - self.colors[0][c]) + self.grain * grain
        })
    }

    /// Smooth value noise on a wrapped 8x8 lattice, six cells to the shorter side.
    fn clouds(&self, u: f64, v: f64) -> f64 {
        let (u, v) = (6.0 * u, 6.0 * v);
        let (i, j) = (u.floor() as usize, v.floor() as usize);
        let smooth = |t: f64| t * t * (3.0 - 2.0 * t);
        let (s, t) = (smooth(u.fract()), smooth(v.fract()));
        let at = |a: usize, b: usize| self.lattice[(j + b) % 8][(i + a) % 8];
        let top = at(0, 0) + s * (at(1, 0) - at(0, 0));
        let bottom = at(0, 1) + s * (at(1, 1) - at(0, 1));
        top + t * (bottom - top)
    }
}
