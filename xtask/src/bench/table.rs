//! The tables of `cargo xtask bench`, and whether the outputs agree.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

use super::{Args, Turns};

/// Largest difference of logits, losses or gradient norm, relative to the largest value; and share of mask pixels that may
/// differ.
fn tolerance(dtype: &str) -> (f64, f64) {
    match dtype {
        "f32" => (1e-3, 1e-3),
        "tf32" => (1e-2, 5e-3),
        _ => (5e-2, 2e-2),
    }
}

/// Whether the first outputs agree, and what was compared in words.
pub(super) fn agreement(args: &Args, check: &Value) -> Result<(bool, String)> {
    let (relative, pixels) = tolerance(&args.dtype);
    let (mut agree, mut words) = (true, Vec::new());
    for (name, word) in [("logits", "logits"), ("losses", "losses"), ("grad_norm", "gradient norm")]
    {
        let Some(found) = check.get(name) else { continue };
        let difference = found["max_difference"].as_f64().context("a peer without differences")?;
        let largest = found["largest"].as_f64().context("a peer without sizes")?;
        agree &= difference <= relative * largest.max(f64::MIN_POSITIVE);
        words.push(format!("{word} off by {difference:.1e} at most (largest {largest:.3})"));
    }
    if let Some(share) = check.get("mask_agreement").and_then(Value::as_f64) {
        agree &= 1.0 - share <= pixels;
        words.push(format!("{:.4} % of the mask's pixels are the same", 100.0 * share));
    }
    agree &= !words.is_empty();
    Ok((agree, words.join("; ")))
}

fn number(value: &Value, path: &[&str]) -> Option<f64> {
    path.iter().try_fold(value, |value, key| value.get(key))?.as_f64()
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    (n > 0).then(|| (values[(n - 1) / 2] + values[n / 2]) / 2.0)
}

/// The median over turns of what stands at `path`.
fn over(turns: &[Value], path: &[&str]) -> Option<f64> {
    median(turns.iter().filter_map(|turn| number(turn, path)).collect())
}

/// The median of the ratios of turns that ran one after the other.
fn ratio(ours: &[Value], theirs: &[Value], path: &[&str]) -> Option<f64> {
    let pairs = ours.iter().zip(theirs);
    median(pairs.filter_map(|(a, b)| Some(number(a, path)? / number(b, path)?)).collect())
}

fn show(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.digits$}"))
}

/// Both tables with a line on what was run.
pub(super) fn markdown(args: &Args, turns: &Turns) -> String {
    let Turns { ours, eager, compiled, .. } = turns;
    let one = &ours[0];
    let peak =
        ours.iter().chain(eager).chain(compiled).filter_map(|t| number(t, &["matmul_gflops"]));
    let peak = peak.fold(0.0, f64::max);
    let mut text = format!(
        "{} `{}`, {}, batch {} of {} x {} pixels (height x width), {} tokens, {} parameters ({} in PyTorch), {}, {} threads; \
         {} against {}, {} turns of each in alternation ({} timed passes a turn).\nOutputs: {}.\n\n",
        if args.mode == "train" { "Training step" } else { "Mask" },
        args.preset,
        args.dtype,
        args.batch,
        one["height"],
        one["width"],
        one["tokens"],
        one["parameters"],
        eager[0]["parameters"],
        eager[0]["device"].as_str().unwrap_or("?"),
        one["threads"],
        one["program"].as_str().unwrap_or("?"),
        eager[0]["program"].as_str().unwrap_or("?"),
        args.pairs,
        args.iters,
        turns.agreement
    );
    text += "| part | ours, ms | PyTorch eager, ms | ratio | ours, GFLOP/s | PyTorch, GFLOP/s | ours, % of peak |\n|---|---|---|---|---|---|---|\n";
    for name in one["order"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        let path = ["parts_ms", name];
        let flops = number(one, &["flops", name]);
        row(&mut text, name, turns, &path, flops, peak);
    }
    let flops = one["flops"].as_object().map(|of| of.values().filter_map(Value::as_f64).sum());
    row(&mut text, "**all** (undisturbed)", turns, &["total_ms"], flops, peak);
    let columns = [("ours", ours), ("PyTorch eager", eager), ("PyTorch compiled", compiled)];
    text += "\n| | all, ms | images/s | ours / it | peak RSS, MiB | ours / it | device peak, MiB | first result after start, s |\n|---|---|---|---|---|---|---|---|\n";
    for (name, of) in columns.into_iter().filter(|(_, of)| !of.is_empty()) {
        let rss = ["memory", "peak_rss_mib"];
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            show(over(of, &["total_ms"]), 1),
            show(over(of, &["images_per_s"]), 3),
            show(ratio(ours, of, &["total_ms"]), 2),
            show(over(of, &rss), 0),
            show(ratio(ours, of, &rss), 2),
            show(over(of, &["memory", "device_peak_mib"]), 0),
            show(over(of, &["first_s"]), 1),
        );
    }
    if let Some(why) = &turns.not_compiled {
        let _ = writeln!(text, "\nPyTorch compiled: not measured: {why}");
    }
    let _ = writeln!(
        text,
        "\nPeak: the fastest large matrix product of any turn, {peak:.0} GFLOP/s. GFLOP/s count the products of the model's definition, whatever a kernel saves."
    );
    text
}

fn row(text: &mut String, name: &str, turns: &Turns, path: &[&str], flops: Option<f64>, peak: f64) {
    let (mine, theirs) = (over(&turns.ours, path), over(&turns.eager, path));
    let speed = |ms: Option<f64>| Some(flops.filter(|n| *n > 0.0)? / ms? / 1e6);
    let share = speed(mine).map(|speed| 100.0 * speed / peak);
    let _ = writeln!(
        text,
        "| {name} | {} | {} | {} | {} | {} | {} |",
        show(mine, 1),
        show(theirs, 1),
        show(ratio(&turns.ours, &turns.eager, path), 2),
        show(speed(mine), 1),
        show(speed(theirs), 1),
        show(share, 0)
    );
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ratios_are_of_pairs() {
        let of = |ms: [f64; 3]| ms.map(|ms| json!({ "total_ms": ms })).to_vec();
        // A slow minute in the second pair changes no ratio.
        let (ours, theirs) = (of([1.0, 10.0, 1.2]), of([2.0, 20.0, 2.4]));
        assert_eq!(ratio(&ours, &theirs, &["total_ms"]), Some(0.5));
        assert_eq!(over(&ours, &["total_ms"]), Some(1.2));
        assert_eq!(over(&ours, &["nothing"]), None);
    }
}
