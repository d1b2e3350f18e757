//! `[data]`: data sets, how samples become tensors, and what is held out of training.

use std::path::PathBuf;

use refzom_dataset::{DatasetConfig, Order, Resampling};
use serde::{Deserialize, Serialize};
use toml::Value;

/// Datasets and how samples become tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// `[height, width]` of the network's input, pixels.
    pub image_size: [usize; 2],
    /// How pictures come to that size: `pillow10` (exact, the release's), `pillow13` or `four_neighbours`.
    pub resize: Resampling,
    /// Word pieces of an expression, `[CLS]` and `[SEP]` included; longer ones are cut.
    pub max_words: usize,
    /// `bert-base-uncased` or `synthetic` (both built in), or the path of a WordPiece `vocab.txt`.
    pub vocab: String,
    /// How the phrase of the erased expression T' is hidden.
    pub erase: EraseChoice,
    /// What hidden word pieces become.
    pub erase_with: EraseToken,
    /// NLTK's tagger weights (`averaged_perceptron_tagger.pickle`, the folder `averaged_perceptron_tagger_eng`, or json), for
    /// the release's noun groups exactly; none: the built-in tagger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tagger: Option<PathBuf>,
    /// Order of the training samples.
    pub order: Order,
    /// Threads that decode pictures.
    pub workers: usize,
    /// Batches made ahead of the network.
    pub prefetch: usize,
    /// Memory for pictures that were decoded and resized, in megabytes, for each of `train` and `val`; 0: decoded again every epoch.
    /// At 480 x 480 a megabyte holds 1.5 pictures. What does not fit is decoded again every time; what lies there stays, as an
    /// epoch asks for every picture in turn and would drive out each one before it is asked for again.
    pub cache_mb: usize,
    /// Decode every picture once before the run, so that a damaged one is left out and counted instead of ending the run
    /// at some later step. Costs a minute for some 20,000 pictures.
    pub check_pictures: bool,
    /// What happens when pictures that are trained on are also in `val`, `test` or `held_out`.
    pub leaks: LeakChoice,
    /// The split trained on.
    pub train: DatasetConfig,
    /// The split that chooses the best checkpoint, or a part of the training pictures to use as one; none: the last
    /// checkpoint is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val: Option<ValConfig>,
    /// The split `ablate` reports on; training looks at it for leaks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<DatasetConfig>,
    /// Other splits whose pictures must not be trained on, such as the test splits of RefCOCO+ and RefCOCOg.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_out: Vec<DatasetConfig>,
}

/// Where validation samples come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ValConfig {
    /// A part of the training split, which is then not trained on.
    Carve(CarveConfig),
    /// A split of its own.
    Split(DatasetConfig),
}

/// A part of the training split by picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarveConfig {
    /// Share of the pictures, between 0 and 1.
    pub carve: f64,
    /// Which ones; independent of the run's seed, so that runs can be compared.
    #[serde(default)]
    pub seed: u64,
}

impl ValConfig {
    /// The split of its own, if it is one.
    pub fn split_mut(&mut self) -> Option<&mut DatasetConfig> {
        match self {
            Self::Split(split) => Some(split),
            Self::Carve(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for ValConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let carves = value.as_table().is_some_and(|table| table.contains_key("carve"));
        let read = match carves {
            true => value.try_into().map(Self::Carve),
            false => value.try_into().map(Self::Split),
        };
        read.map_err(|error: toml::de::Error| {
            let reason = error.message().to_owned();
            serde::de::Error::custom(format!(
                "val: {reason}; use {{ dir = \"..\", split = \"val\" }} or {{ carve = 0.05 }}"
            ))
        })
    }
}

/// What to do about pictures that are trained on and held out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeakChoice {
    /// Say so and go on.
    Warn,
    /// End with an error.
    Refuse,
    /// Leave the training samples on such pictures out.
    Drop,
    /// Do not look.
    Ignore,
}

/// How the phrase of the erased expression is hidden (spec section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EraseChoice {
    /// All pieces of one noun group and only these, drawn anew for every sample and epoch.
    Aligned,
    /// The released code's word index used as piece index, drawn once a run.
    Released,
    /// Nothing is hidden and the reconstruction branch does not run.
    Off,
}

/// What hidden word pieces become.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EraseToken {
    /// `[PAD]`, as released.
    Pad,
    /// `[MASK]`.
    Mask,
}

#[cfg(test)]
mod tests {
    use crate::config::{CarveConfig, LeakChoice, TrainConfig, ValConfig};

    const DATA: &str = "[data]\ntrain = { dir = \"d\", split = \"train\" }\n";

    fn read(text: &str) -> Result<TrainConfig, String> {
        TrainConfig::from_toml(&format!("{DATA}{text}"), "run.toml", &[]).map_err(|e| e.to_string())
    }

    #[test]
    fn validation_is_a_split_or_a_part_of_the_training_pictures() {
        let config = read("val = { carve = 0.05, seed = 3 }").expect("valid");
        assert_eq!(config.data.val, Some(ValConfig::Carve(CarveConfig { carve: 0.05, seed: 3 })));
        let again = TrainConfig::from_toml(&config.to_toml().expect("has a form"), "again", &[]);
        assert_eq!(again.expect("reads back"), config);
        let json = serde_json::to_string(&config.data).expect("json");
        assert_eq!(serde_json::from_str::<super::DataConfig>(&json).expect("json"), config.data);
        let config = read("val = { dir = \"d\", split = \"val\" }").expect("valid");
        assert!(
            matches!(config.data.val, Some(ValConfig::Split(ref split)) if split.split == "val")
        );
        for (wrong, words) in [
            ("val = { carve = 0.05, sead = 3 }", "sead"),
            ("val = { carve = 1.5 }", "data.val.carve"),
            ("val = { dir = \"d\" }", "split"),
            ("val = 3", "carve = 0.05"),
        ] {
            let message = read(wrong).expect_err(wrong);
            assert!(message.contains(words), "{message}");
        }
    }

    #[test]
    fn leaks_are_warned_of_unless_said_otherwise() {
        assert_eq!(read("").expect("valid").data.leaks, LeakChoice::Warn);
        let held = "leaks = \"drop\"\nheld_out = [{ dir = \"refcocog\", split = \"test\" }]";
        let config = read(held).expect("valid");
        assert_eq!((config.data.leaks, config.data.held_out.len()), (LeakChoice::Drop, 1));
        assert!(read("leaks = \"maybe\"").expect_err("unknown").contains("refuse"));
    }
}
