//! `init`: which weights a run starts from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use toml::Value;

/// Weights to start from: one path, or one for each part of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitConfig {
    /// `init = "path"`: a checkpoint folder, a `.safetensors` or a PyTorch file; whole network or one encoder, as its names tell.
    Whole(PathBuf),
    /// `init = { visual = "swin.pth", text = "bert.bin" }`.
    Parts(InitParts),
}

/// A file for each part. Later ones are laid over earlier ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitParts {
    /// The whole network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<PathBuf>,
    /// The visual encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visual: Option<PathBuf>,
    /// The text encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<PathBuf>,
    /// Whether names that are missing, unknown or of another shape are refused.
    #[serde(default = "yes")]
    pub strict: bool,
}

fn yes() -> bool {
    true
}

impl Serialize for InitConfig {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Whole(path) => path.serialize(serializer),
            Self::Parts(parts) => parts.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for InitConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let refused = |why: String| {
            serde::de::Error::custom(format!(
                "init: {why}; use a path, or {{ model = \"..\", visual = \"..\", text = \"..\", strict = true }}"
            ))
        };
        match Value::deserialize(deserializer)? {
            Value::String(path) => Ok(Self::Whole(path.into())),
            Value::Table(table) => {
                let parts: InitParts = Value::Table(table)
                    .try_into()
                    .map_err(|error: toml::de::Error| refused(error.message().to_owned()))?;
                match (&parts.model, &parts.visual, &parts.text) {
                    (None, None, None) => Err(refused("names no file".into())),
                    _ => Ok(Self::Parts(parts)),
                }
            }
            other => Err(refused(format!("{other} is no path"))),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Holder {
        init: InitConfig,
    }

    #[test]
    fn a_string_and_a_table_read_back_and_typos_are_named() {
        for text in ["init = \"a.pth\"\n", "[init]\nvisual = \"swin.pth\"\nstrict = false\n"] {
            let holder: Holder = toml::from_str(text).unwrap();
            assert_eq!(toml::to_string(&holder).unwrap(), text);
        }
        for (text, word) in [
            ("init = { visuals = \"x\" }", "visuals"),
            ("init = { strict = true }", "names no file"),
            ("init = 3", "no path"),
        ] {
            let error = toml::from_str::<Holder>(text).unwrap_err().to_string();
            assert!(error.contains(word) && error.contains("visual = "), "{error}");
        }
    }
}
