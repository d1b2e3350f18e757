//! Cost of a fusion stage, in both variants and every direction.

use mba_fusion::Variant;

use super::Cost;
use crate::config::DmmiConfig;

/// `n` cells of `c` channels and `l` words.
pub(super) fn stage(cfg: &DmmiConfig, c: usize, n: usize, l: usize) -> Cost {
    let directions = cfg.fusion.directions;
    let mut cost = Cost::default();
    if directions.to_vision() {
        cost += to_vision(cfg, c, n, l);
    }
    if directions.to_text() {
        cost += to_text(cfg, c, n, l);
    }
    cost
}

fn to_vision(cfg: &DmmiConfig, c: usize, n: usize, l: usize) -> Cost {
    let (d, windows) = (cfg.text.hidden_size, &cfg.fusion.vision_windows);
    let maps = match cfg.fusion.variant {
        Variant::Release => {
            let window = |k: &usize| {
                let inner = c / k.div_ceil(2).next_power_of_two(); // 1, 2, 4 for sides 1, 3, 5
                // Query's norm, the same as a map; windows' norm; masked key; softmax.
                Cost::product(n, c, inner)
                    + Cost::results(2 * n * inner)
                    + Cost::product(n, inner * k * k, c)
                    + Cost::results(n * c)
                    + Cost::product(l, d, c)
                    + Cost::results(l * c)
                    + Cost::product(n, c, l)
                    + Cost::results(n * l)
            };
            windows.iter().map(window).fold(Cost::default(), |a, b| a + b)
        }
        Variant::Paper => {
            // Query, key; a softmax for each window.
            Cost::product(n, c, c)
                + Cost::product(l, d, c)
                + Cost::product(n, c, l)
                + Cost::results(n * c + l * c)
                + Cost::results(n * l) * windows.len()
        }
    };
    maps + Cost::results(n * l) * weighing(cfg, windows.len())
        + Cost::product(l, d, c) + Cost::results(l * c) // masked values
        + Cost::product(n, l, c) + Cost::results(n * c) // gathered
        + Cost::product(n, c, c) + Cost::results(n * c) // norm of W
        + Cost::product(n, c, c) + Cost::results(3 * n * c) // vis_project, GELU, product
        + Cost::product(n, c, c) + Cost::results(2 * n * c) // project_mm, GELU
        + Cost::product(n, c, c) * 2 + Cost::results(5 * n * c) // gate: before and after ReLU and tanh; sum
}

fn to_text(cfg: &DmmiConfig, c: usize, n: usize, l: usize) -> Cost {
    let (d, windows) = (cfg.text.hidden_size, &cfg.fusion.text_windows);
    let maps = match cfg.fusion.variant {
        Variant::Release => {
            let window = |k: &usize| {
                let inner = c / k;
                // Windows of the query; masked; the key's norm; softmax.
                Cost::product(l, d, inner)
                    + Cost::results(l * inner * k)
                    + Cost::product(l, inner * k, d)
                    + Cost::results(l * d)
                    + Cost::product(n, c, d)
                    + Cost::results(n * d)
                    + Cost::product(l, d, n)
                    + Cost::results(n * l)
            };
            windows.iter().map(window).fold(Cost::default(), |a, b| a + b)
        }
        Variant::Paper => {
            // Masked query, key; a softmax for each window.
            Cost::product(l, d, c)
                + Cost::results(l * c)
                + Cost::product(n, c, c)
                + Cost::product(l, c, n)
                + Cost::results(n * c)
                + Cost::results(n * l) * windows.len()
        }
    };
    maps + Cost::product(n, c, d) + Cost::results(n * d) // values, normed in the release
        + Cost::results(n * l) * weighing(cfg, windows.len())
        + Cost::product(l, n, d) // gathered
        + Cost::product(l, d, d) * 2 // W2, W_l
        + Cost::results(4 * l * d) // gathered, before and after W_l, sum
}

/// Maps that weighing `scales` of them keeps: the weighed one, and where Candle adds them every sum.
fn weighing(cfg: &DmmiConfig, scales: usize) -> usize {
    match cfg.fusion.lambda {
        _ if scales < 2 => 0,
        mba_fusion::Lambda::Learned => 1,
        mba_fusion::Lambda::Fixed => scales,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mba_fusion::{Directions, FusionConfig};

    /// One window a side, 2 visual and 3 text channels, 4 cells, 5 words: every product written out.
    #[test]
    fn a_stage_by_hand() {
        let mut cfg = DmmiConfig::quickstart(40);
        cfg.text.hidden_size = 3;
        cfg.fusion = FusionConfig {
            vision_windows: vec![1],
            text_windows: vec![1],
            ..FusionConfig::release()
        };
        let to_vision = 4 * 2 * 2 // f_query
            + 4 * 2 * 2 // f_query2
            + 5 * 3 * 2 // f_key
            + 4 * 2 * 5 // scores
            + 5 * 3 * 2 // f_value
            + 4 * 5 * 2 // gathered
            + 4 * 2 * 2 // W
            + 4 * 2 * 2 // vis_project
            + 4 * 2 * 2 // project_mm
            + 2 * 4 * 2 * 2; // gate
        let to_text = 5 * 3 * 2 // f_query
            + 5 * 2 * 3 // f_query2
            + 4 * 2 * 3 // f_key
            + 5 * 3 * 4 // scores
            + 4 * 2 * 3 // f_value_v
            + 5 * 4 * 3 // gathered
            + 2 * 5 * 3 * 3; // W2, W_l
        assert_eq!(stage(&cfg, 2, 4, 5).macs, to_vision + to_text);
        assert_eq!(stage(&cfg, 2, 4, 5).flops(), 2 * (to_vision + to_text));
        cfg.fusion.directions = Directions::TextToVision;
        assert_eq!(stage(&cfg, 2, 4, 5).macs, to_vision);
        cfg.fusion.directions = Directions::None;
        assert_eq!(stage(&cfg, 2, 4, 5), Cost::default());
        // The paper shares projections: more windows cost no product.
        cfg.fusion = FusionConfig::paper();
        let three = stage(&cfg, 2, 4, 5).macs;
        cfg.fusion.vision_windows = vec![1];
        cfg.fusion.text_windows = vec![1];
        assert_eq!(stage(&cfg, 2, 4, 5).macs, three);
        let expected = (4 * 2 * 2 + 5 * 3 * 2 + 4 * 2 * 5)
            + (5 * 3 * 2 + 4 * 5 * 2)
            + 5 * 4 * 2 * 2
            + (5 * 3 * 2 + 4 * 2 * 2 + 5 * 2 * 4)
            + (4 * 2 * 3 + 5 * 4 * 3)
            + 2 * 5 * 3 * 3;
        assert_eq!(three, expected);
    }

    /// The released narrowings: 5x5 windows see a quarter of the channels.
    #[test]
    fn wider_windows_by_hand() {
        let mut cfg = DmmiConfig::quickstart(40);
        cfg.text.hidden_size = 3;
        cfg.fusion =
            FusionConfig { directions: Directions::TextToVision, ..FusionConfig::release() };
        let (n, c, l, d) = (4u64, 8u64, 5u64, 3u64);
        let window =
            |k: u64, inner: u64| n * c * inner + n * inner * k * k * c + l * d * c + n * c * l;
        let rest = l * d * c + n * l * c + 5 * n * c * c;
        let expected = window(1, 8) + window(3, 4) + window(5, 2) + rest;
        assert_eq!(stage(&cfg, 8, 4, 5).macs, expected);
    }
}
