//! Configurations that ship with the crate, embedded so that the binary needs no files.

/// Names that [`get`] knows, besides `ablation/NAME` for the names of [`ABLATIONS`].
pub const NAMES: [&str; 7] = [
    "quickstart",
    "coco33_overfit",
    "refzom_swin_base",
    "refzom_swin_base_paper",
    "refzom_resnet101",
    "refzom_resnet101_paper",
    "refzom_lavt",
];

/// The ablations, in the order of a table. Each is the quickstart with one thing changed.
pub const ABLATIONS: [&str; 12] = [
    "dmmi",
    "paper_equations",
    "no_mba",
    "text_to_vision",
    "vision_to_text",
    "windows_1",
    "windows_1_2",
    "windows_1_2_3",
    "fixed_lambda",
    "no_ccr",
    "no_contrastive",
    "lavt",
];

/// A recipe's TOML text by name; read it with [`TrainConfig::from_toml`](crate::TrainConfig::from_toml).
pub fn get(name: &str) -> Option<&'static str> {
    if let Some(ablation) = name.strip_prefix("ablation/") {
        return self::ablation(ablation);
    }
    match name {
        "quickstart" => Some(include_str!("../recipes/quickstart.toml")),
        "coco33_overfit" => Some(include_str!("../recipes/coco33_overfit.toml")),
        "refzom_swin_base" => Some(include_str!("../recipes/refzom_swin_base.toml")),
        "refzom_swin_base_paper" => Some(include_str!("../recipes/refzom_swin_base_paper.toml")),
        "refzom_resnet101" => Some(include_str!("../recipes/refzom_resnet101.toml")),
        "refzom_resnet101_paper" => Some(include_str!("../recipes/refzom_resnet101_paper.toml")),
        "refzom_lavt" => Some(include_str!("../recipes/refzom_lavt.toml")),
        _ => None,
    }
}

/// An ablation's TOML text by its short name. Its first line, a comment, is its title.
pub fn ablation(name: &str) -> Option<&'static str> {
    match name {
        "dmmi" => Some(include_str!("../recipes/ablation/dmmi.toml")),
        "paper_equations" => Some(include_str!("../recipes/ablation/paper_equations.toml")),
        "no_mba" => Some(include_str!("../recipes/ablation/no_mba.toml")),
        "text_to_vision" => Some(include_str!("../recipes/ablation/text_to_vision.toml")),
        "vision_to_text" => Some(include_str!("../recipes/ablation/vision_to_text.toml")),
        "windows_1" => Some(include_str!("../recipes/ablation/windows_1.toml")),
        "windows_1_2" => Some(include_str!("../recipes/ablation/windows_1_2.toml")),
        "windows_1_2_3" => Some(include_str!("../recipes/ablation/windows_1_2_3.toml")),
        "fixed_lambda" => Some(include_str!("../recipes/ablation/fixed_lambda.toml")),
        "no_ccr" => Some(include_str!("../recipes/ablation/no_ccr.toml")),
        "no_contrastive" => Some(include_str!("../recipes/ablation/no_contrastive.toml")),
        "lavt" => Some(include_str!("../recipes/ablation/lavt.toml")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::TrainConfig;

    #[test]
    fn every_recipe_is_valid_and_reads_back() {
        let ablations = ABLATIONS.map(|name| format!("ablation/{name}"));
        for name in NAMES.into_iter().chain(ablations.iter().map(String::as_str)) {
            let config = TrainConfig::from_toml(get(name).expect(name), name, &[]).expect(name);
            let text = config.to_toml().expect(name);
            assert_eq!(TrainConfig::from_toml(&text, name, &[]).expect(name), config);
            config.with_vocabulary(40).expect(name);
        }
        assert!(get("nothing").is_none() && get("ablation/nothing").is_none());
    }

    #[test]
    fn ablations_have_titles_and_folders_of_their_own() {
        let mut seen = BTreeSet::new();
        for name in ABLATIONS {
            let text = ablation(name).expect(name);
            assert!(text.starts_with("# ") && text.contains("Reproduces:"), "{name}");
            let config = TrainConfig::from_toml(text, name, &[]).expect(name);
            assert!(config.out.ends_with(name) && seen.insert(config.out.clone()), "{name}");
            let own: toml::Table = text.parse().expect(name);
            let known = ["base", "out", "model", "loss", "data"];
            assert!(own.keys().all(|key| known.contains(&key.as_str())), "{name}: {own:?}");
        }
    }
}
