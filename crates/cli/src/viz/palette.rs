//! The colours of every picture this program draws: Okabe & Ito's set, told apart under all common
//! kinds of colour blindness (Okabe & Ito 2008, "Color Universal Design").

/// An sRGB colour.
pub(crate) type Colour = [u8; 3];

/// Predicted and in the truth.
pub(crate) const CORRECT: Colour = [0x56, 0xB4, 0xE9];
/// In the truth, not predicted.
pub(crate) const MISSED: Colour = [0xF0, 0xE4, 0x42];
/// Predicted, not in the truth.
pub(crate) const WRONG: Colour = [0xD5, 0x5E, 0x00];

const SERIES: [Colour; 7] = [
    [0x00, 0x72, 0xB2],
    [0xE6, 0x9F, 0x00],
    [0x00, 0x9E, 0x73],
    [0xCC, 0x79, 0xA7],
    [0xD5, 0x5E, 0x00],
    [0x56, 0xB4, 0xE9],
    [0xF0, 0xE4, 0x42],
];

/// The colour of the `index`-th expression or curve; repeats after seven.
pub(crate) fn series(index: usize) -> Colour {
    SERIES[index % SERIES.len()]
}

/// Expressions that mean nothing, one object, several: wherever kinds are told apart by colour.
pub(crate) const KINDS: [Colour; 3] = [[0xE6, 0x9F, 0x00], [0x00, 0x72, 0xB2], [0x00, 0x9E, 0x73]];

/// `#rrggbb`.
pub(crate) fn hex(colour: Colour) -> String {
    format!("#{:02x}{:02x}{:02x}", colour[0], colour[1], colour[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_repeat_and_print() {
        assert_eq!(series(0), series(7));
        assert_eq!(hex(series(0)), "#0072b2");
        assert_eq!(hex(WRONG), "#d55e00");
    }

    /// The three regions of a comparison differ in lightness too, so they survive a grey print.
    #[test]
    fn regions_differ_in_lightness() {
        let light = |c: Colour| 0.2126 * c[0] as f64 + 0.7152 * c[1] as f64 + 0.0722 * c[2] as f64;
        let (a, b, c) = (light(WRONG), light(CORRECT), light(MISSED));
        assert!(a + 40.0 < b && b + 40.0 < c, "{a} {b} {c}");
    }
}
