//! Costs of the two decoders, the pooled vectors and the losses.

use super::Cost;
use crate::config::{DecoderWords, DmmiConfig};

type Extent = (usize, usize);

fn cells((h, w): Extent) -> usize {
    h * w
}

/// Convolution 3x3, BatchNorm, ReLU on `n` cells.
fn conv_norm(n: usize, c_in: usize, c_out: usize) -> Cost {
    Cost::product(n, 9 * c_in, c_out) + Cost::results(3 * n * c_out)
}

/// A post-norm transformer decoder layer: `n` targets over `s` memories, `d` channels.
fn layer(cfg: &DmmiConfig, n: usize, s: usize) -> Cost {
    let (d, f) = (cfg.text.hidden_size, cfg.decoder.feed_forward);
    // Projections, what was gathered, sum, norm; scores are not kept.
    let attention = |s: usize| {
        Cost::product(n, d, d) * 2
            + Cost::product(s, d, 2 * d)
            + Cost::product(n, d, s) * 2
            + Cost::results(n * d + 2 * s * d + 3 * n * d)
    };
    // Before and after the activation (or its dropout), sum.
    let feed = Cost::product(n, d, f) + Cost::product(n, f, d) + Cost::results(2 * n * f + n * d);
    attention(n) + attention(s) + feed
}

pub(super) fn text_to_image(
    cfg: &DmmiConfig,
    channels: &[usize],
    extents: &[Extent],
    words: usize,
) -> Cost {
    let d = cfg.text.hidden_size;
    let fuse = |coarse: usize, stage: usize| {
        let n = cells(extents[stage]);
        let both = coarse + channels[stage];
        Cost::results(n * both) + conv_norm(n, both, d) + conv_norm(n, d, d)
    };
    // Tokens, the layer.
    let attend = |stage: usize| match cfg.decoder.words {
        DecoderWords::Attended => {
            let n = cells(extents[stage]);
            layer(cfg, n, words) + Cost::results(n * d)
        }
        DecoderWords::Ignored => Cost::default(),
    };
    fuse(channels[3], 2)
        + attend(2)
        + fuse(d, 1)
        + attend(1)
        + fuse(d, 0)
        + Cost::product(cells(extents[0]), d, 2)
}

pub(super) fn image_to_text(cfg: &DmmiConfig, extent: Extent, words: usize) -> Cost {
    let (n, d) = (cells(extent), cfg.text.hidden_size);
    conv_norm(n, d, d) + layer(cfg, words, n)
}

pub(super) fn contrast(cfg: &DmmiConfig, words: usize) -> Cost {
    let d = cfg.text.hidden_size;
    // Three pooled maps; two joined with what came before and projected; the words projected and averaged.
    Cost::results(3 * d)
        + (Cost::results(2 * d) + Cost::product(1, 2 * d, d)) * 2
        + Cost::product(words, d, d)
        + Cost::results(d)
}

/// Logits at full size and what the two other losses make of vectors; products within the batch are left out.
pub(super) fn losses(cfg: &DmmiConfig, (h, w): Extent, words: usize) -> Cost {
    let d = cfg.text.hidden_size;
    let segmentation = Cost::results(2 * h * w);
    let similarity =
        if cfg.reconstruction.is_on() { Cost::results(3 * words * d) } else { Cost::default() };
    let contrastive = if cfg.contrast.is_on() { Cost::results(6 * d) } else { Cost::default() };
    segmentation + similarity + contrastive
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels, one head, a feed-forward width of 3: 4 targets over 5 memories, every product written out.
    #[test]
    fn a_layer_by_hand() {
        let mut cfg = DmmiConfig::quickstart(40);
        cfg.text.hidden_size = 2;
        cfg.decoder.num_heads = 1;
        cfg.decoder.feed_forward = 3;
        let own = 4 * 4 * 2 * 2 + 2 * 4 * 4 * 2; // q, k, v, out; scores and gathering
        let cross = 2 * 4 * 2 * 2 + 2 * 5 * 2 * 2 + 2 * 4 * 5 * 2; // q, out; k, v; scores and gathering
        let feed = 2 * 4 * 2 * 3;
        assert_eq!(layer(&cfg, 4, 5).macs, own + cross + feed);
    }

    #[test]
    fn convolutions_by_hand() {
        let mut cfg = DmmiConfig::quickstart(40);
        cfg.text.hidden_size = 2;
        cfg.decoder.words = DecoderWords::Ignored;
        let extents = [(8, 12), (4, 6), (2, 3), (1, 2)];
        let found = text_to_image(&cfg, &[3, 4, 5, 6], &extents, 7).macs;
        let fuse = |n: u64, c: u64| n * 9 * c * 2 + n * 9 * 2 * 2;
        assert_eq!(found, fuse(6, 6 + 5) + fuse(24, 2 + 4) + fuse(96, 2 + 3) + 96 * 2 * 2);
    }
}
