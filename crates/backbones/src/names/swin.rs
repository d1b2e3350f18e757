//! Swin (official, timm before and since 0.9, Hugging Face before and since transformers 5).
//!
//! All concatenate the four cells of a merge as (0,0), (1,0), (0,1), (1,1) [row, column], so `reduction` is never permuted. timm
//! since 0.9 merges at the start of the next stage, so its `layers.{i}.downsample` is our `layers.{i-1}.downsample`. Hugging
//! Face keeps query, key and value apart.

use nn_ops::names::{Rule, Scheme, To};

use super::HEAD;

const REBUILT: &str = "constants of the window size";
const LAST_NORM: &str = "norm before a classifier; each stage here has its own";
/// A classifier has no norm of each stage.
const LACKS: &[(&str, &str)] =
    &[("norm{i}.{p}", "norms of stages, which files of classifiers lack")];

/// Every scheme of a Swin file.
pub const SWIN: &[Scheme] = &[
    Scheme {
        name: "Swin, official names",
        anchors: &["patch_embed.proj.weight", "layers.0.downsample.reduction.weight"],
        rules: OFFICIAL,
        lacks: LACKS,
    },
    Scheme {
        name: "Swin, timm 0.9 and later",
        anchors: &["patch_embed.proj.weight", "layers.3.downsample.reduction.weight"],
        rules: TIMM,
        lacks: LACKS,
    },
    Scheme {
        name: "Swin, timm features",
        anchors: &["patch_embed.proj.weight", "layers_3.downsample.reduction.weight"],
        rules: TIMM,
        lacks: LACKS,
    },
    Scheme {
        name: "Swin, Hugging Face",
        anchors: &[
            "embeddings.patch_embeddings.projection.weight",
            "encoder.layers.0.blocks.0.layernorm_before.weight",
        ],
        rules: HUGGING_FACE,
        lacks: LACKS,
    },
];

const OFFICIAL: &[Rule] = &[
    ("layers.{i}.blocks.{j}.attn.relative_position_index", To::Ignore(REBUILT)),
    ("layers.{i}.blocks.{j}.attn_mask", To::Ignore(REBUILT)),
    ("patch_embed.**", To::Name("patch_embed.**")),
    ("absolute_pos_embed", To::Name("absolute_pos_embed")),
    ("layers.{i}.blocks.**", To::Name("layers.{i}.blocks.**")),
    ("layers.{i}.downsample.**", To::Name("layers.{i}.downsample.**")),
    ("norm.{p}", To::Ignore(LAST_NORM)),
    ("norm{i}.{p}", To::Name("norm{i}.{p}")),
    ("head.**", To::Ignore(HEAD)),
];

const TIMM: &[Rule] = &[
    ("layers.{i}.blocks.{j}.attn.relative_position_index", To::Ignore(REBUILT)),
    ("layers_{i}.blocks.{j}.attn.relative_position_index", To::Ignore(REBUILT)),
    ("layers.{i}.blocks.{j}.attn_mask", To::Ignore(REBUILT)),
    ("layers_{i}.blocks.{j}.attn_mask", To::Ignore(REBUILT)),
    ("patch_embed.**", To::Name("patch_embed.**")),
    ("layers.{i}.blocks.**", To::Name("layers.{i}.blocks.**")),
    ("layers_{i}.blocks.**", To::Name("layers.{i}.blocks.**")),
    ("layers.{i}.downsample.**", To::Name("layers.{i-1}.downsample.**")),
    ("layers_{i}.downsample.**", To::Name("layers.{i-1}.downsample.**")),
    ("norm.{p}", To::Ignore(LAST_NORM)),
    ("head.**", To::Ignore(HEAD)),
];

const HUGGING_FACE: &[Rule] = &[
    ("embeddings.patch_embeddings.projection.{p}", To::Name("patch_embed.proj.{p}")),
    ("embeddings.norm.{p}", To::Name("patch_embed.norm.{p}")),
    (
        "encoder.layers.{i}.blocks.{j}.layernorm_before.{p}",
        To::Name("layers.{i}.blocks.{j}.norm1.{p}"),
    ),
    (
        "encoder.layers.{i}.blocks.{j}.layernorm_after.{p}",
        To::Name("layers.{i}.blocks.{j}.norm2.{p}"),
    ),
    // As saved.
    (
        "encoder.layers.{i}.blocks.{j}.attention.self.relative_position_bias_table",
        To::Name("layers.{i}.blocks.{j}.attn.relative_position_bias_table"),
    ),
    ("encoder.layers.{i}.blocks.{j}.attention.self.relative_position_index", To::Ignore(REBUILT)),
    (
        "encoder.layers.{i}.blocks.{j}.attention.self.query.{p}",
        To::Part("layers.{i}.blocks.{j}.attn.qkv.{p}", 0, 3),
    ),
    (
        "encoder.layers.{i}.blocks.{j}.attention.self.key.{p}",
        To::Part("layers.{i}.blocks.{j}.attn.qkv.{p}", 1, 3),
    ),
    (
        "encoder.layers.{i}.blocks.{j}.attention.self.value.{p}",
        To::Part("layers.{i}.blocks.{j}.attn.qkv.{p}", 2, 3),
    ),
    (
        "encoder.layers.{i}.blocks.{j}.attention.output.dense.{p}",
        To::Name("layers.{i}.blocks.{j}.attn.proj.{p}"),
    ),
    (
        "encoder.layers.{i}.blocks.{j}.intermediate.dense.{p}",
        To::Name("layers.{i}.blocks.{j}.mlp.fc1.{p}"),
    ),
    (
        "encoder.layers.{i}.blocks.{j}.output.dense.{p}",
        To::Name("layers.{i}.blocks.{j}.mlp.fc2.{p}"),
    ),
    // As in the memory of transformers 5.
    (
        "encoder.layers.{i}.blocks.{j}.attention.relative_position_bias.relative_position_bias_table",
        To::Name("layers.{i}.blocks.{j}.attn.relative_position_bias_table"),
    ),
    (
        "encoder.layers.{i}.blocks.{j}.attention.relative_position_bias.relative_position_index",
        To::Ignore(REBUILT),
    ),
    (
        "encoder.layers.{i}.blocks.{j}.attention.q_proj.{p}",
        To::Part("layers.{i}.blocks.{j}.attn.qkv.{p}", 0, 3),
    ),
    (
        "encoder.layers.{i}.blocks.{j}.attention.k_proj.{p}",
        To::Part("layers.{i}.blocks.{j}.attn.qkv.{p}", 1, 3),
    ),
    (
        "encoder.layers.{i}.blocks.{j}.attention.v_proj.{p}",
        To::Part("layers.{i}.blocks.{j}.attn.qkv.{p}", 2, 3),
    ),
    (
        "encoder.layers.{i}.blocks.{j}.attention.o_proj.{p}",
        To::Name("layers.{i}.blocks.{j}.attn.proj.{p}"),
    ),
    ("encoder.layers.{i}.blocks.{j}.mlp.{n}.{p}", To::Name("layers.{i}.blocks.{j}.mlp.{n}.{p}")),
    ("encoder.layers.{i}.downsample.**", To::Name("layers.{i}.downsample.**")),
    ("hidden_states_norms.stage{i}.{p}", To::Name("norm{i-1}.{p}")),
    ("layernorm.{p}", To::Ignore(LAST_NORM)),
    ("classifier.**", To::Ignore(HEAD)),
];
