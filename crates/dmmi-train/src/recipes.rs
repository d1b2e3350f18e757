//! Configurations that ship with the crate, embedded so that the binary needs no files.

/// Names that [`get`] knows.
pub const NAMES: [&str; 3] = ["quickstart", "coco33_overfit", "refzom_swin_base"];

/// A recipe's TOML text by name; read it with [`TrainConfig::from_toml`](crate::TrainConfig::from_toml).
pub fn get(name: &str) -> Option<&'static str> {
    match name {
        "quickstart" => Some(include_str!("../recipes/quickstart.toml")),
        "coco33_overfit" => Some(include_str!("../recipes/coco33_overfit.toml")),
        "refzom_swin_base" => Some(include_str!("../recipes/refzom_swin_base.toml")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrainConfig;

    #[test]
    fn every_recipe_is_valid_and_reads_back() {
        for name in NAMES {
            let config = TrainConfig::from_toml(get(name).expect(name), name, &[]).expect(name);
            let text = config.to_toml().expect(name);
            assert_eq!(TrainConfig::from_toml(&text, name, &[]).expect(name), config);
        }
        assert!(get("nothing").is_none());
    }
}
