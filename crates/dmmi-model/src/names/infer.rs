//! From the shapes of a checkpoint to the configuration of its network.

use std::collections::BTreeMap;

use backbones::{BertConfig, ResNetConfig, SwinConfig};

use crate::config::{BackboneConfig, DecoderConfig, DmmiConfig};

/// Attention heads, which shapes do not tell. None: the published ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    /// Of the text encoder. Published: 64 channels a head; 12 at 384 channels (MiniLM).
    pub text: Option<usize>,
    /// Of the decoders. Released: 8.
    pub decoder: Option<usize>,
}

/// What the release's code fixes.
const DECODER_HEADS: usize = 8;
/// Channels a head in every published BERT but MiniLM.
const HEAD_CHANNELS: usize = 64;

/// Shapes by name.
struct Shapes<'a>(&'a BTreeMap<String, Vec<usize>>);

impl Shapes<'_> {
    fn dim(&self, name: &str, axis: usize) -> Result<usize, String> {
        let shape = self.0.get(name).ok_or_else(|| format!("there is no {name}"))?;
        shape
            .get(axis)
            .copied()
            .ok_or_else(|| format!("{name} has shape {shape:?}, no axis {axis}"))
    }

    /// How many `prefix{0..}suffix` there are.
    fn count(&self, prefix: &str, suffix: &str) -> usize {
        (0..).take_while(|i| self.0.contains_key(&format!("{prefix}{i}{suffix}"))).count()
    }

    fn stages(&self, one: impl Fn(usize) -> Result<usize, String>) -> Result<[usize; 4], String> {
        Ok([one(0)?, one(1)?, one(2)?, one(3)?])
    }
}

/// The configuration whose network has exactly these parameters. Rates of dropout and stochastic depth are the release's.
///
/// # Errors
/// When a name is missing, shapes contradict each other, or a number of heads must be stated.
pub fn infer(shapes: &BTreeMap<String, Vec<usize>>, heads: Heads) -> Result<DmmiConfig, String> {
    let shapes = Shapes(shapes);
    let swin = shapes.0.contains_key("model.backbone.patch_embed.proj.weight");
    let (backbone, base) = if swin {
        (BackboneConfig::Swin(swin_config(&shapes)?), DmmiConfig::swin_base_release())
    } else {
        (BackboneConfig::Resnet(resnet_config(&shapes)?), DmmiConfig::resnet101_release())
    };
    let text = text_config(&shapes, heads.text)?;
    let ffn = "model.classifier.lan_func.transformer_model.layers.0.linear1.weight";
    let num_heads = heads.decoder.unwrap_or(DECODER_HEADS);
    let feed_forward = shapes.dim(ffn, 0)?;
    let decoder = DecoderConfig { num_heads, feed_forward, ..base.decoder.clone() };
    let cfg = DmmiConfig { backbone, text, decoder, ..base };
    cfg.validate()?;
    Ok(cfg)
}

fn text_config(shapes: &Shapes<'_>, heads: Option<usize>) -> Result<BertConfig, String> {
    let words = "bert_model.embeddings.word_embeddings.weight";
    let hidden_size = shapes.dim(words, 1)?;
    let num_heads = match heads {
        Some(heads) => heads,
        None if hidden_size == 384 => 12,
        None if hidden_size.is_multiple_of(HEAD_CHANNELS) => hidden_size / HEAD_CHANNELS,
        None => {
            return Err(format!(
                "the text encoder has {hidden_size} channels, which no published one has: state its number of heads"
            ));
        }
    };
    Ok(BertConfig {
        vocab_size: shapes.dim(words, 0)?,
        hidden_size,
        num_layers: shapes.count("bert_model.encoder.layer.", ".attention.self.query.weight"),
        num_heads,
        intermediate_size: shapes.dim("bert_model.encoder.layer.0.intermediate.dense.weight", 0)?,
        max_positions: shapes.dim("bert_model.embeddings.position_embeddings.weight", 0)?,
        ..BertConfig::base_uncased()
    })
}

fn swin_config(shapes: &Shapes<'_>) -> Result<SwinConfig, String> {
    let block = |stage: usize, rest: &str| format!("model.backbone.layers.{stage}.blocks.0.{rest}");
    let table = |stage| block(stage, "attn.relative_position_bias_table");
    let rows = shapes.dim(&table(0), 0)?;
    let side = rows.isqrt();
    if side * side != rows || side % 2 == 0 {
        return Err(format!("{} has {rows} rows, which no window has", table(0)));
    }
    let embed_dim = shapes.dim("model.backbone.patch_embed.proj.weight", 0)?;
    let hidden = shapes.dim(&block(0, "mlp.fc1.weight"), 0)?;
    if embed_dim == 0 || !hidden.is_multiple_of(embed_dim) {
        return Err(format!("mlp.fc1 has {hidden} rows, no multiple of {embed_dim} channels"));
    }
    let depth =
        |i: usize| shapes.count(&format!("model.backbone.layers.{i}.blocks."), ".norm1.weight");
    Ok(SwinConfig {
        patch_size: shapes.dim("model.backbone.patch_embed.proj.weight", 2)?,
        embed_dim,
        depths: [depth(0), depth(1), depth(2), depth(3)],
        num_heads: shapes.stages(|i| shapes.dim(&table(i), 1))?,
        window_size: side.div_ceil(2),
        mlp_ratio: hidden / embed_dim,
        absolute_position: match shapes
            .0
            .get("model.backbone.absolute_pos_embed")
            .map(Vec::as_slice)
        {
            Some(&[_, _, h, w]) => Some([h, w]),
            _ => None,
        },
        ..SwinConfig::base_w12()
    })
}

fn resnet_config(shapes: &Shapes<'_>) -> Result<ResNetConfig, String> {
    let width = shapes.dim("model.backbone.layer1.0.weight", 0).map_err(|_| {
        "the visual encoder is neither a Swin (model.backbone.patch_embed) nor a ResNet (model.backbone.layer1)".to_owned()
    })?;
    // The release keeps stem and first stage in one Sequential (blocks under `4.`).
    let depth = |i: usize| {
        let prefix = if i == 0 { "layer1.4.".to_owned() } else { format!("layer{}.", i + 1) };
        shapes.count(&format!("model.backbone.{prefix}"), ".conv1.weight")
    };
    Ok(ResNetConfig { layers: [depth(0), depth(1), depth(2), depth(3)], width })
}
