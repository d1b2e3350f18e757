//! `exp` and `erf` for f32 without branches or calls, so that loops over them become vector code.
//!
//! Constants: Cephes (`expf`, Moshier 1989), fdlibm and Numerical Recipes (`erf`). The tests at the foot walk the whole
//! range against f64.

/// A polynomial from its highest coefficient down, written out: LLVM does not vectorise around a loop over coefficients.
macro_rules! horner {
    ($x:expr; $first:expr $(, $c:expr)*) => {{
        let p: f32 = $first;
        $(let p = p * $x + $c;)*
        p
    }};
}

/// `e^x`: within 2 units in the last place; subnormal results are rounded once more.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    /// 1.5 * 2^23: adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Not-a-number passes both comparisons.
    let x = if x < -105.0 { -105.0 } else { x };
    let x = if x > 89.0 { 89.0 } else { x };
    let t = x * std::f32::consts::LOG2_E + ROUND;
    let n = t - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p =
        horner!(r; 1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5);
    let y = p * r * r + r + 1.0;
    // 2^n in two factors, as n may reach past the exponents of f32.
    let n = (t.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let (a, b) = (n >> 1, n.wrapping_sub(n >> 1));
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) << 23) as u32);
    y * power(a) * power(b)
}

/// The error function: within 2 units in the last place, and exactly odd.
///
/// Below 1 the odd rational of fdlibm, above it `1 - t e^(-x² + P(t))` with `t = 1 / (1 + x/2)` (Numerical Recipes, 6.2).
/// Both are computed and one is chosen, so that there is no branch.
#[inline(always)]
pub(super) fn erf(x: f32) -> f32 {
    let a = x.abs();
    let a = if a > 4.5 { 4.5 } else { a }; // erf rounds to 1 there
    let s = a * a;
    let p = horner!(s; -2.376_301_7e-5, -5.770_270_2e-3, -2.848_175e-2, -0.325_042_1, 0.128_379_17);
    let q = horner!(s; -3.960_228e-6, 1.324_947_3e-4, 5.081_306e-3, 6.502_225e-2, 0.397_917_2, 1.0);
    let near = a + a * (p / q);
    let t = 1.0 / (1.0 + 0.5 * a);
    let p = horner!(t; 0.170_872_77, -0.822_152_2, 1.488_515_9, -1.135_204, 0.278_868_08, -0.186_288_06, 0.096_784_18, 0.374_091_96, 1.000_023_7, -1.265_512_2);
    let far = 1.0 - t * exp(p - s);
    let y = if a < 1.0 { near } else { far };
    y.copysign(x)
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
    fn erf_is_within_two_units() {
        for i in -600_000..600_000 {
            let x = i as f32 * 1e-5;
            let want = libm::erf(f64::from(x));
            let unit = f64::from((want.abs() as f32).next_up()) - f64::from(want.abs() as f32);
            let error = (f64::from(erf(x)) - want).abs() / unit;
            assert!(error < 2.0, "erf({x}): {error} units");
            assert_eq!(erf(-x), -erf(x));
        }
        assert_eq!((erf(f32::INFINITY), erf(f32::NEG_INFINITY)), (1.0, -1.0));
        assert!(erf(f32::NAN).is_nan());
    }
}
