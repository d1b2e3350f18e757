//! Exponentials and the tail of the normal distribution for f32 without branches or calls, so that loops over them become
//! vector code.
//!
//! Constants of the exponential: Cephes (`expf`, Moshier 1989). Polynomials are added in pairs, not one coefficient after
//! the other: a chain of them costs twice the time. The tests at the foot walk the whole range against f64.

/// 1.5 * 2^23: adding it leaves the nearest integer in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `e^x = y 2^n` with `y` near 1: `y`, and `n + ROUND`.
#[inline(always)]
fn exp_parts(x: f32) -> (f32, f32) {
    let t = x * std::f32::consts::LOG2_E + ROUND;
    let n = t - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let r2 = r * r;
    let (high, middle) = (1.987_569_1e-4 * r + 1.398_199_9e-3, 8.333_452e-3 * r + 4.166_579_6e-2);
    let p = (high * r2 + middle) * r2 + (0.166_666_65 * r + 0.5);
    (p * r2 + (r + 1.0), t)
}

/// `e^x`: within 2 units in the last place; subnormal results are rounded once more.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // Not-a-number passes both comparisons.
    let x = if x < -105.0 { -105.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let (y, t) = exp_parts(x);
    // 2^n in two factors, as n may reach past the exponents of f32.
    let n = (t.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let (a, b) = (n >> 1, n.wrapping_sub(n >> 1));
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    y * power(a) * power(b)
}

/// `e^x` for `x <= 0`, as [`exp`] but quicker: zero where the result would be subnormal.
#[inline(always)]
pub(super) fn exp_down(x: f32) -> f32 {
    // There n is -127, and the exponent's bits are those of zero.
    let x = if x < -88.0 { -88.0 } else { x };
    let (y, t) = exp_parts(x);
    y * f32::from_bits((t.to_bits() << 23).wrapping_add(127 << 23))
}

/// Twice `1 - Φ(a)` for `a >= 0`, `erfc(a / √2)`: within 1.5e-7, relatively within 1.2e-5 up to 6.
///
/// `e^(a q(a))`, `q` of degree 9 fitted to `ln erfc` on 0 to 6; it keeps falling beyond.
#[inline(always)]
pub(super) fn two_tails(a: f32) -> f32 {
    let a = if a > 14.0 { 14.0 } else { a }; // zero there
    let (a2, a4) = (a * a, (a * a) * (a * a));
    let low = (4.818_085_5e-3 * a - 3.635_242e-2) * a2 + (-0.318_306_35 * a - 0.797_884_8);
    let middle = (-7.541_328_4e-6 * a + 5.278_295e-5) * a2 + (-1.932_887e-4 * a - 1.480_165_4e-6);
    let high = -1.947_180_5e-8 * a + 5.862_705e-7;
    exp_down(((high * a4 + middle) * a4 + low) * a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units() {
        for i in -870_000..887_000 {
            let x = i as f32 * 1e-4;
            let want = f64::from(x).exp();
            let unit = f64::from((want as f32).next_up()) - f64::from(want as f32);
            let error = (f64::from(exp(x)) - want).abs() / unit;
            assert!(error < 2.0, "exp({x}): {error} units");
        }
    }

    #[test]
    fn exp_at_its_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(-1e30), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(88.73), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        // Subnormal results.
        for i in 870..1045 {
            let x = i as f32 * -0.1;
            let error = (f64::from(exp(x)) - f64::from(x).exp()).abs();
            assert!(error <= 2.9e-45 + 2e-7 * f64::from(x).exp(), "exp({x}): {error:e}");
        }
    }

    #[test]
    fn exp_down_is_exp_or_zero() {
        for i in 0..1_200_000 {
            let x = i as f32 * -1e-4;
            let want = if x < -87.4 { 0.0 } else { exp(x) };
            assert!((exp_down(x) - want).abs() <= 1.2e-38, "exp_down({x})");
        }
        assert_eq!((exp_down(0.0), exp_down(f32::NEG_INFINITY), exp_down(-88.0)), (1.0, 0.0, 0.0));
        assert!(exp_down(f32::NAN).is_nan());
    }

    #[test]
    fn tails_of_the_normal_distribution() {
        for i in 0..2_000_000 {
            let a = i as f32 * 1e-5;
            let want = libm::erfc(f64::from(a) * std::f64::consts::FRAC_1_SQRT_2);
            let error = (f64::from(two_tails(a)) - want).abs();
            let most = if a < 6.0 { f64::min(1.5e-7, 1.2e-5 * want) } else { 1e-13 };
            assert!(error <= most, "two_tails({a}): {error:e} of {want:e}");
        }
        assert_eq!((two_tails(0.0), two_tails(f32::INFINITY)), (1.0, 0.0));
        assert!(two_tails(f32::NAN).is_nan());
    }
}
