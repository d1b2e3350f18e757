//! `dmmi-cli data stats`: counts and distributions as text, json, SVG and HTML.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use refzom_dataset::stats::{Distribution, Statistics, Tally};

use super::source::{OutputPath, SourceArgs};
use crate::out::tell;
use crate::progress::bar;
use crate::report::{STYLE, save};
use crate::viz::bars::{Bar, Panel, sheet};
use crate::viz::palette::{Colour, KINDS, hex, series};

/// Arguments of `data stats`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli data stats data/coco33
  dmmi-cli data stats data/refcoco --split testA --json - | jq .all
  dmmi-cli data stats data/coco33 --html stats.html --svg stats.svg")]
pub(crate) struct StatsArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Count one split only: train, val, test (testA and testB too), testA, testB
    #[arg(long, value_name = "NAME", default_value = "all")]
    split: String,
    /// Write the numbers as json; `-` prints them instead of the table
    #[arg(long, value_name = "FILE|-", num_args = 0..=1, default_missing_value = "-")]
    json: Option<OutputPath>,
    /// Write a page with the table and the histograms
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the histograms as a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// Runs `data stats`.
///
/// # Errors
/// Bad input: the data set cannot be read. Or an output cannot be written.
pub(crate) fn run(args: StatsArgs) -> Result<()> {
    let (dataset, rejected) = args.source.load(&args.split)?;
    let bar = bar(dataset.len() as u64);
    bar.set_prefix("expressions");
    let stats = Statistics::of(&dataset, |done| {
        if done.is_multiple_of(256) {
            bar.set_position(done as u64);
        }
    });
    bar.finish_and_clear();
    let stats = stats?;

    let name = args.source.dir.display().to_string();
    if let Some(path) = &args.html {
        save(path, &page(&name, &stats).into_string())?;
    }
    if let Some(path) = &args.svg {
        save(path, &sheet(&panels(&stats), 2, Some("#ffffff")).into_string())?;
    }
    let json = || serde_json::to_string_pretty(&stats).context("cannot write json");
    if let Some(OutputPath::File(path)) = &args.json {
        save(path, &json()?)?;
    }
    let text = match args.json {
        Some(OutputPath::Stdout) => json()?,
        _ => stats.to_string().trim_end().to_owned(),
    };
    writeln!(std::io::stdout().lock(), "{text}").context("cannot write to standard output")?;
    if !rejected.is_empty() {
        tell!(
            "{} faulty records or sentences are not counted; `dmmi-cli data doctor {name}` lists them",
            rejected.len()
        );
    }
    Ok(())
}

fn panels(stats: &Statistics) -> Vec<Panel> {
    let kinds = |t: &Tally| [t.zero, t.one, t.many].into_iter().zip(KINDS).collect::<Vec<_>>();
    let splits = Panel {
        title: "Expressions by split".into(),
        note: "from below: no target, one, several".into(),
        bars: stats
            .splits
            .iter()
            .map(|(name, tally)| Bar { label: name.clone(), parts: kinds(tally) })
            .collect(),
    };
    vec![
        splits,
        panel("Words per expression", "", &stats.words, |_| series(0)),
        panel("Objects per expression", "", &stats.targets, |i| KINDS[i.min(2)]),
        panel("Share of the image that is meant", " %", &stats.area_share, |_| series(0)),
    ]
}

fn panel(title: &str, unit: &str, values: &Distribution, colour: fn(usize) -> Colour) -> Panel {
    let number = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.2}{unit}"));
    let bar = |(i, bin): (usize, &refzom_dataset::stats::Bin)| Bar {
        label: bin.label.clone(),
        parts: vec![(bin.count, colour(i))],
    };
    Panel {
        title: title.into(),
        note: format!("mean {}, median {}", number(values.mean), number(values.median)),
        bars: values.bins.iter().enumerate().map(bar).collect(),
    }
}

fn page(name: &str, stats: &Statistics) -> Markup {
    let row = |name: &str, t: &Tally| {
        html! { tr {
            th scope="row" { (name) }
            @for n in [t.images, t.objects, t.references, t.expressions, t.zero, t.one, t.many] { td.number { (n) } }
        } }
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Statistics of " (name) }
                style { (PreEscaped(STYLE)) ".sheet svg{width:100%;height:auto}" }
            }
            body { main {
                h1 { (name) }
                p.summary {
                    (stats.all.expressions) " expressions about " (stats.all.objects) " objects on " (stats.all.images)
                    " images, " (stats.vocabulary) " different words."
                }
                div.scroll { table {
                    thead { tr {
                        th {}
                        @for head in ["images", "objects", "references", "expressions", "zero", "one", "many"] {
                            th.number scope="col" { (head) }
                        }
                    } }
                    tbody {
                        (row("all", &stats.all))
                        @for (split, tally) in &stats.splits { (row(split, tally)) }
                        @for (kind, tally) in &stats.kinds { (row(&format!("one-to-{kind}"), tally)) }
                    }
                } }
                p.note {
                    "Images and objects are counted once, however often they occur. An object counts if an expression means it. "
                    "Zero, one, many: expressions by the number of objects they mean."
                }
                p.legend { @for (colour, text) in KINDS.iter().zip(["no target", "one", "several"]) {
                    span.key { i style=(format!("background:{}", hex(*colour))) {} (text) }
                } }
                div.sheet { (sheet(&panels(stats), 2, None)) }
                @if !stats.sources.is_empty() {
                    h2 { "Expressions by source" }
                    div.scroll { table.plain { tbody {
                        @for (source, count) in &stats.sources { tr { th scope="row" { (source) } td { (count) } } }
                    } } }
                }
            } }
        }
    }
}
