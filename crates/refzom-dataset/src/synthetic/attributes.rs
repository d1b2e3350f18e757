//! Colours, shapes and sizes: their words, and the geometry of the shapes.
//! Shapes have equal area for equal radius, so that "small" and "large" mean the same for each.

use serde::{Deserialize, Serialize};

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
    pub(super) fn max_tilt(self) -> f64 {
        match self {
            Shape::Circle => 0.0,
            Shape::Square | Shape::Cross => 0.22,
            Shape::Triangle => 0.3,
            Shape::Star => 0.4,
            Shape::Diamond => 0.12,
        }
    }

    /// Whether `(u, v)` lies inside the upright shape of area π centred on the origin, `v` down.
    pub(super) fn contains(self, u: f64, v: f64) -> bool {
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
    pub(super) fn reach(self) -> f64 {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
