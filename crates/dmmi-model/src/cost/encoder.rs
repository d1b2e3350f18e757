//! Costs of the backbones and of BERT.

use backbones::{BertConfig, ResNetConfig, SwinConfig};

use super::Cost;
use crate::config::BackboneConfig;

/// One stage of a backbone.
pub(super) struct StageCost {
    pub(super) cost: Cost,
    pub(super) channels: usize,
    /// `(h, w)` of its map.
    pub(super) extent: (usize, usize),
}

impl StageCost {
    pub(super) fn cells(&self) -> usize {
        self.extent.0 * self.extent.1
    }
}

pub(super) fn stages(backbone: &BackboneConfig, image: (usize, usize)) -> Vec<StageCost> {
    match backbone {
        BackboneConfig::Swin(cfg) => swin(cfg, image),
        BackboneConfig::Resnet(cfg) => resnet(cfg, image),
    }
}

/// BERT on `l` tokens.
pub(super) fn text(cfg: &BertConfig, l: usize) -> Cost {
    let (d, f) = (cfg.hidden_size, cfg.intermediate_size);
    // Projections, what was gathered, sum, norm; scores are not kept.
    let attention = Cost::product(l, d, d) * 4
        + Cost::product(l, d, l) * 2
        + Cost::results((3 + 1 + 2) * l * d);
    // Before and after the activation, sum, norm.
    let feed =
        Cost::product(l, d, f) + Cost::product(l, f, d) + Cost::results(2 * l * f + 2 * l * d);
    // Words with their positions, norm; the mask is no part of the graph.
    Cost::results(2 * l * d) + (attention + feed) * cfg.num_layers
}

fn swin(cfg: &SwinConfig, (height, width): (usize, usize)) -> Vec<StageCost> {
    let p = cfg.patch_size;
    let mut extent = (height.div_ceil(p), width.div_ceil(p));
    let mut stages = Vec::new();
    for (i, depth) in cfg.depths.into_iter().enumerate() {
        let c = cfg.embed_dim << i;
        let n = extent.0 * extent.1;
        let mut cost = Cost::default();
        if i == 0 {
            // Tokens, norm (with the positions, if there are).
            cost += Cost::product(n, 3 * p * p, c) + Cost::results(2 * n * c);
        }
        cost += block(cfg, i, extent) * depth;
        let next = (extent.0.div_ceil(2), extent.1.div_ceil(2));
        if i + 1 < cfg.depths.len() {
            let merged = next.0 * next.1;
            // Neighbours side by side, norm, projection.
            cost += Cost::product(merged, 4 * c, 2 * c)
                + Cost::results(2 * merged * 4 * c + merged * 2 * c);
            if next.0 * 2 != extent.0 || next.1 * 2 != extent.1 {
                cost += Cost::results(merged * 4 * c);
            }
        }
        stages.push(StageCost { cost, channels: c, extent });
        extent = next;
    }
    stages
}

fn block(cfg: &SwinConfig, stage: usize, (h, w): (usize, usize)) -> Cost {
    let (c, window) = (cfg.embed_dim << stage, cfg.window_size);
    let n = h * w;
    let padded = h.next_multiple_of(window) * w.next_multiple_of(window);
    let inside = window * window;
    let hidden = cfg.mlp_ratio * c;
    Cost::product(n, c, 3 * c)
        + Cost::product(padded, c, inside) * 2 // scores are not kept
        + Cost::product(n, c, c)
        + Cost::product(n, c, hidden)
        + Cost::product(n, hidden, c)
        // Norm, projections in windows, biases of their pairs, what was gathered, sum.
        + Cost::results(n * c + 3 * padded * c + cfg.num_heads[stage] * inside * inside + 2 * n * c)
        // Norm, before and after the activation, sum.
        + Cost::results(n * c + 2 * n * hidden + n * c)
}

fn resnet(cfg: &ResNetConfig, (height, width): (usize, usize)) -> Vec<StageCost> {
    let half = |(h, w): (usize, usize)| (h.div_ceil(2), w.div_ceil(2));
    let cells = |(h, w): (usize, usize)| h * w;
    // A convolution and, with a ReLU, its norm and that.
    let conv = |n: usize, fan_in: usize, out: usize, relu: bool| {
        Cost::product(n, fan_in, out) + Cost::results(n * out * (1 + 2 * usize::from(relu)))
    };
    let stem = half((height, width));
    let mut extent = half(stem);
    let mut inputs = cfg.width;
    let mut stages = Vec::new();
    for (i, blocks) in cfg.layers.into_iter().enumerate() {
        let inner = cfg.width << i;
        let out = 4 * inner;
        let mut cost = Cost::default();
        if i == 0 {
            // The pooled map, and where its values come from.
            cost +=
                conv(cells(stem), 3 * 49, inner, true) + Cost::results(2 * cells(extent) * inner);
        }
        for j in 0..blocks {
            let before = cells(extent);
            if i > 0 && j == 0 {
                extent = half(extent);
            }
            let n = cells(extent);
            cost += conv(before, inputs, inner, true)
                + conv(n, inner * 9, inner, true)
                + conv(n, inner, out, false)
                + Cost::results(2 * n * out); // sum, ReLU
            if j == 0 && (i > 0 || inputs != out) {
                cost += conv(n, inputs, out, false);
            }
            inputs = out;
        }
        // Tokens for the fusion in place of the last map, and a map of its result.
        cost += Cost::results(cells(extent) * out);
        stages.push(StageCost { cost, channels: out, extent });
    }
    stages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn giga(stages: &[StageCost]) -> f64 {
        stages.iter().map(|s| s.cost.macs).sum::<u64>() as f64 / 1e9
    }

    /// Multiply-adds as published: Swin (Liu et al. 2021, Table 1), ResNet (torchvision's model table). The published counts
    /// have a classifier more, ours have zero padding to whole windows.
    #[test]
    fn backbones_cost_what_their_papers_say() {
        let w7 = |cfg: SwinConfig| SwinConfig { window_size: 7, ..cfg };
        for (cfg, side, published) in [
            (SwinConfig::tiny_w7(), 224, 4.5),
            (SwinConfig::small_w7(), 224, 8.7),
            (w7(SwinConfig::base_w12()), 224, 15.4),
            (SwinConfig::base_w12(), 384, 47.0),
            (w7(SwinConfig::large_w12()), 224, 34.5),
            (SwinConfig::large_w12(), 384, 103.9),
        ] {
            let found = giga(&swin(&cfg, (side, side)));
            assert!((found / published - 1.0).abs() < 0.02, "{cfg:?}: {found} for {published}");
        }
        for (cfg, published) in
            [(ResNetConfig::resnet50(), 4.09), (ResNetConfig::resnet101(), 7.80)]
        {
            let found = giga(&resnet(&cfg, (224, 224)));
            assert!((found / published - 1.0).abs() < 0.02, "{cfg:?}: {found} for {published}");
        }
    }

    /// BERT-base: 12 layers of 4 projections, 2 products of scores and 2 feed-forward layers.
    #[test]
    fn text_by_hand() {
        let l = 20u64;
        let layer = 4 * l * 768 * 768 + 2 * l * l * 768 + 2 * l * 768 * 3072;
        assert_eq!(text(&BertConfig::base_uncased(), 20).macs, 12 * layer);
    }
}
