//! The crate boundaries, read from `cargo metadata`: which workspace crate may depend on which.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

/// Every normal dependency between our crates. A new arrow is a decision: it is made here and in docs/architecture.md.
const ARROWS: [(&str, &[&str]); 13] = [
    ("nn-ops", &[]),
    ("metrics", &[]),
    ("torch-files", &[]),
    ("mapped-vec", &[]),
    ("refzom-dataset", &["torch-files"]),
    ("backbones", &["nn-ops"]),
    ("mba-fusion", &["nn-ops"]),
    ("dmmi-model", &["nn-ops", "backbones", "mba-fusion"]),
    (
        "dmmi-train",
        &[
            "nn-ops",
            "backbones",
            "dmmi-model",
            "torch-files",
            "mapped-vec",
            "refzom-dataset",
            "metrics",
        ],
    ),
    (
        "dmmi-cli",
        &[
            "nn-ops",
            "dmmi-model",
            "mapped-vec",
            "refzom-dataset",
            "metrics",
            "dmmi-train",
            "dmmi-parity",
        ],
    ),
    (
        "dmmi-parity",
        &[
            "nn-ops",
            "backbones",
            "mba-fusion",
            "dmmi-model",
            "refzom-dataset",
            "torch-files",
            "dmmi-train",
            "metrics",
        ],
    ),
    ("xtask", &[]),
    ("workspace-tests", &[]),
];

/// Crates that must build without a tensor library, whatever they depend on.
const WITHOUT_CANDLE: [&str; 4] = ["metrics", "mapped-vec", "xtask", "workspace-tests"];

fn metadata() -> Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    // Crates of other platforms are not on disk, and would be fetched.
    let rustc = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let version = String::from_utf8(rustc.stdout).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let options = ["--filter-platform".to_string(), host.to_string()];
    MetadataCommand::new().manifest_path(manifest).other_options(options).exec().unwrap()
}

/// Names of our crates, each with its normal dependencies among them.
fn arrows(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    let ours: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|p| p.name.to_string()).collect();
    let normal = |package: &cargo_metadata::Package| {
        let kept = package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal);
        kept.map(|d| d.name.clone()).filter(|name| ours.contains(name)).collect()
    };
    metadata.workspace_packages().iter().map(|p| (p.name.to_string(), normal(p))).collect()
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let allowed: BTreeMap<&str, BTreeSet<&str>> =
        ARROWS.iter().map(|(name, to)| (*name, to.iter().copied().collect())).collect();
    let found = arrows(&metadata());
    for (name, dependencies) in &found {
        let Some(allowed) = allowed.get(name.as_str()) else {
            panic!(
                "crate {name} is new: add its arrows to tests/arrows.rs and docs/architecture.md"
            );
        };
        for dependency in dependencies {
            assert!(
                allowed.contains(dependency.as_str()),
                "{name} must not depend on {dependency}"
            );
        }
    }
    let gone: Vec<_> = allowed.keys().filter(|name| !found.contains_key(**name)).collect();
    assert!(gone.is_empty(), "crates that are gone: {gone:?}");
}

#[test]
fn nothing_depends_on_the_leaves() {
    for (name, dependencies) in arrows(&metadata()) {
        for leaf in ["dmmi-cli", "xtask", "workspace-tests"] {
            assert!(!dependencies.contains(leaf), "{name} depends on the leaf {leaf}");
        }
    }
}

#[test]
fn metrics_and_xtask_need_no_tensor_library() {
    let metadata = metadata();
    let resolve = metadata.resolve.as_ref().unwrap();
    let edges: BTreeMap<&PackageId, Vec<&PackageId>> = resolve
        .nodes
        .iter()
        .map(|node| {
            let normal = node
                .deps
                .iter()
                .filter(|d| d.dep_kinds.iter().any(|k| k.kind == DependencyKind::Normal));
            (&node.id, normal.map(|d| &d.pkg).collect())
        })
        .collect();
    for name in WITHOUT_CANDLE {
        let start =
            metadata.workspace_packages().into_iter().find(|p| p.name.as_str() == name).unwrap();
        let (mut open, mut seen) = (vec![&start.id], BTreeSet::new());
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                open.extend(&edges[id]);
            }
        }
        for id in seen {
            let package = &metadata[id];
            assert!(!package.name.starts_with("candle"), "{name} reaches {}", package.name);
        }
    }
}

#[test]
fn every_dependency_version_stands_in_the_workspace_table() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for package in metadata().workspace_packages() {
        let text = std::fs::read_to_string(&package.manifest_path).unwrap();
        let mut section = "";
        for line in text.lines().map(str::trim) {
            if let Some(title) = line.strip_prefix('[') {
                section = title.trim_end_matches(']');
            } else if section.ends_with("dependencies")
                && line.contains('=')
                && !line.starts_with('#')
            {
                let shown =
                    package.manifest_path.strip_prefix(&root).unwrap_or(&package.manifest_path);
                assert!(
                    line.contains("workspace = true"),
                    "{shown}: {line:?} does not use the workspace table"
                );
            }
        }
    }
}
