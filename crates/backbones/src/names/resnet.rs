//! ResNet with bottlenecks: torchvision and timm (which agree), Hugging Face, and the release's own names.

use nn_ops::names::{Rule, Scheme, To};

use super::{COUNTS, HEAD};

/// Every scheme of a ResNet file.
pub const RESNET: &[Scheme] = &[
    Scheme {
        name: "ResNet, the release's names",
        anchors: &["layer1.0.weight", "layer1.4.0.conv3.weight"],
        rules: RELEASE,
        lacks: &[],
    },
    Scheme {
        name: "ResNet, torchvision or timm",
        anchors: &["conv1.weight", "layer1.0.conv3.weight"],
        rules: TORCHVISION,
        lacks: &[],
    },
    Scheme {
        name: "ResNet, Hugging Face",
        anchors: &[
            "embedder.embedder.convolution.weight",
            "encoder.stages.0.layers.0.layer.2.convolution.weight",
        ],
        rules: HUGGING_FACE,
        lacks: &[],
    },
];

const RELEASE: &[Rule] =
    &[("**.num_batches_tracked", To::Ignore(COUNTS)), ("layer{i}.**", To::Name("layer{i}.**"))];

const TORCHVISION: &[Rule] = &[
    ("**.num_batches_tracked", To::Ignore(COUNTS)),
    ("conv1.{p}", To::Name("layer1.0.{p}")),
    ("bn1.{p}", To::Name("layer1.1.{p}")),
    ("layer1.**", To::Name("layer1.4.**")),
    ("layer{i}.**", To::Name("layer{i}.**")),
    ("fc.{p}", To::Ignore(HEAD)),
];

const HUGGING_FACE: &[Rule] = &[
    ("**.num_batches_tracked", To::Ignore(COUNTS)),
    ("embedder.embedder.convolution.{p}", To::Name("layer1.0.{p}")),
    ("embedder.embedder.normalization.{p}", To::Name("layer1.1.{p}")),
    (
        "encoder.stages.0.layers.{j}.layer.{k}.convolution.{p}",
        To::Name("layer1.4.{j}.conv{k+1}.{p}"),
    ),
    (
        "encoder.stages.0.layers.{j}.layer.{k}.normalization.{p}",
        To::Name("layer1.4.{j}.bn{k+1}.{p}"),
    ),
    (
        "encoder.stages.0.layers.{j}.shortcut.convolution.{p}",
        To::Name("layer1.4.{j}.downsample.0.{p}"),
    ),
    (
        "encoder.stages.0.layers.{j}.shortcut.normalization.{p}",
        To::Name("layer1.4.{j}.downsample.1.{p}"),
    ),
    (
        "encoder.stages.{i}.layers.{j}.layer.{k}.convolution.{p}",
        To::Name("layer{i+1}.{j}.conv{k+1}.{p}"),
    ),
    (
        "encoder.stages.{i}.layers.{j}.layer.{k}.normalization.{p}",
        To::Name("layer{i+1}.{j}.bn{k+1}.{p}"),
    ),
    (
        "encoder.stages.{i}.layers.{j}.shortcut.convolution.{p}",
        To::Name("layer{i+1}.{j}.downsample.0.{p}"),
    ),
    (
        "encoder.stages.{i}.layers.{j}.shortcut.normalization.{p}",
        To::Name("layer{i+1}.{j}.downsample.1.{p}"),
    ),
    ("classifier.**", To::Ignore(HEAD)),
];
