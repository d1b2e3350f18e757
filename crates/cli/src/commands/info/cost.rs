//! The table of parameters, operations and activation memory by part.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dmmi_model::cost::{Cost, Pass, total};
use dmmi_model::{DmmiConfig, Part};
use dmmi_train::Inventory;

use crate::progress::count;

/// Bytes of a number in training.
const BYTES: u64 = 4;

/// One line a part.
pub(super) fn table(
    model: &DmmiConfig,
    inventory: &Inventory,
    [height, width]: [usize; 2],
    words: usize,
) -> String {
    let of = |pass| model.cost((height, width), words, pass);
    let (segment, train) = (of(Pass::Segment), of(Pass::Train));
    let by_part = |costs: &[(Part, Cost)]| costs.iter().copied().collect::<BTreeMap<_, _>>();
    let (segment_of, train_of) = (by_part(&segment), by_part(&train));
    let sizes: BTreeMap<Part, (usize, usize)> =
        inventory.parts().into_iter().map(|(part, n, numbers)| (part, (n, numbers))).collect();
    let mut text = format!(
        "{:<24}{:>8}{:>12}{:>12}{:>12}{:>13}\n{:<24}{:>8}{:>12}{:>12}{:>12}{:>13}\n",
        "part",
        "tensors",
        "parameters",
        "FLOPs",
        "FLOPs",
        "activations",
        "",
        "",
        "",
        "predict",
        "train fwd",
        "train, est."
    );
    let mut line = |name: &str, size: (usize, usize), predict: Cost, train: Cost| {
        let _ = writeln!(
            text,
            "{name:<24}{:>8}{:>12}{:>12}{:>12}{:>13}",
            size.0,
            count(size.1),
            operations(predict.flops()),
            operations(train.flops()),
            bytes(BYTES * train.kept)
        );
    };
    for part in Part::all() {
        let size = sizes.get(&part).copied().unwrap_or_default();
        let cost = |of: &BTreeMap<Part, Cost>| of.get(&part).copied().unwrap_or_default();
        if size.0 > 0 || cost(&train_of) != Cost::default() {
            line(&part.to_string(), size, cost(&segment_of), cost(&train_of));
        }
    }
    let all = (inventory.parameters.len(), inventory.total());
    line("all", all, total(&segment), total(&train));
    text
}

/// What the table's columns mean, and the memory of a training step.
pub(super) fn notes(
    model: &DmmiConfig,
    inventory: &Inventory,
    [height, width]: [usize; 2],
    words: usize,
) -> String {
    let kept = BYTES * total(&model.cost((height, width), words, Pass::Train)).kept;
    let parameters = BYTES * inventory.total() as u64;
    format!(
        "For one picture of {height} x {width} pixels (height x width) and one expression of {words} tokens.\n\
         FLOPs: two for every multiply-add of matrix products and convolutions; norms, activations and resizes are\n\
         left out. A training step computes about three times its forward part (train fwd).\n\
         Activations: an estimate from the configuration of the f32 results kept for the backward pass, not a measurement.\n\
         A training step with AdamW at batch B needs about {} (parameters, gradients, two moments) + B x {}.\n",
        bytes(4 * parameters),
        bytes(kept)
    )
}

/// `3.1e10` as `31.0 G`; nothing as `-`.
fn operations(n: u64) -> String {
    match n {
        0 => "-".to_owned(),
        1_000_000_000_000.. => format!("{:.2} T", n as f64 / 1e12),
        _ => count(n as usize),
    }
}

/// In powers of 1024; nothing as `-`.
fn bytes(n: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if n == 0 {
        return "-".to_owned();
    }
    let mut value = n as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(operations(0), "-");
        assert_eq!(operations(94_000_000_000), "94.00 G");
        assert_eq!(operations(1_230_000_000_000), "1.23 T");
        assert_eq!(bytes(0), "-");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }

    #[test]
    fn every_part_with_parameters_has_a_cost() {
        let model = DmmiConfig::quickstart(40);
        let inventory = Inventory::of_config(&model).unwrap();
        let text = table(&model, &inventory, [64, 64], 20);
        for name in ["text encoder", "backbone stage 4", "fusion (MBA) stage 1", "losses", "all"] {
            assert!(text.contains(name), "{text}");
        }
        let costs: Vec<Part> =
            model.cost((64, 64), 20, Pass::Train).into_iter().map(|(part, _)| part).collect();
        for (part, ..) in inventory.parts() {
            assert!(costs.contains(&part), "{part}");
        }
    }
}
