//! `dmmi-cli data build-zom`: arguments to a construction of [`refzom_dataset::build_zom`], its table, and the review page.

mod folder;
mod review;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use indicatif::ProgressBar;
use refzom_dataset::build_zom::{Placing, ZomConfig, ZomInputs, ZomPlan, ZomProgress, ZomReport};
use refzom_dataset::synthetic::KindCounts;

use super::source::parse_share;
use crate::exit::bad_input;
use crate::out::tell;
use crate::progress::bar;

/// Arguments of `data build-zom`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dmmi-cli data build-zom data/coco33 --out sets/zom33
  dmmi-cli data build-zom coco --refs 'refcoco/refs(unc).p' --refs 'refcocog/refs(umd).p' --out sets/zom
  dmmi-cli data build-zom coco --out sets/zom2 --decisions decisions-1.json   # with what was decided on review/page-1.html

DIR is searched for instances*.json, captions*.json, refs*.p, hand*.jsonl, hand*.csv in it and in annotations/, and for the
folders images, trainval2014, train2014, val2014, train2017, val2017. A kind of file that is named by an option is not searched for.
What an option names is looked for in DIR, then in the current directory.

Without counts: Ref-ZOM's (56,972 one, 21,290 many, 11,937 zero), or as many as the files allow in these proportions.
The folder written holds refs(final).p, instances.json, images/ (links), provenance.jsonl (a line a sentence), summary.json,
README.md and review/page-N.html: open it in a browser, decide, download the decisions, and build again with --decisions.
The same files, settings and decisions give the same bytes.")]
pub(crate) struct BuildZomArgs {
    /// A folder with COCO's and RefCOCO's files under their usual names
    #[arg(value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// COCO's instances; may be repeated (train2014 and val2014)
    #[arg(long, value_name = "FILE")]
    pub(crate) instances: Vec<PathBuf>,
    /// COCO's captions; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) captions: Vec<PathBuf>,
    /// refs(*).p of RefCOCO, RefCOCO+ or RefCOCOg; may be repeated. What they hold out (val, test) stays out of train
    #[arg(long, value_name = "FILE")]
    pub(crate) refs: Vec<PathBuf>,
    /// Sentences written by hand, JSON lines or CSV: image_id or file_name, sentence, ann_ids; may be repeated
    #[arg(long, value_name = "FILE")]
    pub(crate) hand_written: Vec<PathBuf>,
    /// A folder of images; may be repeated. Images that are in none are not used
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Vec<PathBuf>,
    /// What was decided on the review page; may be repeated, a rejection outweighs
    #[arg(long, value_name = "FILE")]
    pub(crate) decisions: Vec<PathBuf>,
    /// Where to write; must not exist yet, or be empty
    #[arg(long, short, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Expressions in all, in Ref-ZOM's proportions; an error if the files do not allow as many
    #[arg(long, value_name = "N", conflicts_with_all = ["one", "many", "zero"])]
    pub(crate) expressions: Option<usize>,
    /// One-to-one expressions; with any of --one, --many, --zero the kinds not named get none
    #[arg(long, value_name = "N")]
    pub(crate) one: Option<usize>,
    /// One-to-many expressions
    #[arg(long, value_name = "N")]
    pub(crate) many: Option<usize>,
    /// One-to-zero expressions
    #[arg(long, value_name = "N")]
    pub(crate) zero: Option<usize>,
    /// Share of images in the test split; those a refs file holds out belong to it in any case
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value_t = ZomConfig::ref_zom().test_share, hide_default_value = true)]
    pub(crate) test_share: f64,
    /// Share of prompts ("the left dog") among one-to-one expressions
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value_t = ZomConfig::ref_zom().one_prompt_share, hide_default_value = true)]
    pub(crate) one_prompts: f64,
    /// Share of prompts ("all the dogs") among one-to-many expressions that are not hand-written
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value_t = ZomConfig::ref_zom().many_prompt_share)]
    pub(crate) many_prompts: f64,
    /// Share of captions among one-to-zero expressions; the others are expressions of other images
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value_t = ZomConfig::ref_zom().zero_caption_share)]
    pub(crate) zero_captions: f64,
    /// Smallest area of what a prompt refers to, as a share of the image
    #[arg(long, value_name = "SHARE", value_parser = parse_share, default_value_t = ZomConfig::ref_zom().min_area)]
    pub(crate) min_area: f64,
    /// Longest sentence, in words
    #[arg(long, value_name = "N", default_value_t = ZomConfig::ref_zom().max_words)]
    pub(crate) max_words: usize,
    /// Most one-to-one expressions about one image
    #[arg(long, value_name = "N", default_value_t = ZomConfig::ref_zom().per_image.one)]
    pub(crate) one_per_image: usize,
    /// Most one-to-many expressions about one image
    #[arg(long, value_name = "N", default_value_t = ZomConfig::ref_zom().per_image.many)]
    pub(crate) many_per_image: usize,
    /// Most one-to-zero expressions about one image
    #[arg(long, value_name = "N", default_value_t = ZomConfig::ref_zom().per_image.zero)]
    pub(crate) zero_per_image: usize,
    /// Use borrowed one-to-zero sentences only if a person accepted them
    #[arg(long)]
    pub(crate) only_accepted: bool,
    /// Sentences whose attribute conflicts with the picture ("red bus", the bus is white) to propose for review
    #[arg(long, value_name = "N", default_value_t = ZomConfig::ref_zom().conflicts)]
    pub(crate) conflicts: usize,
    /// Borrowed sentences to show on review pages, 250 a page; 0 writes none
    #[arg(long, value_name = "N", default_value_t = 500)]
    pub(crate) review: usize,
    /// How the used images come into the folder
    #[arg(long, value_enum, default_value_t = Pictures::Link)]
    pub(crate) pictures: Pictures,
    /// Seed of every random choice
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) seed: u64,
}

/// How images come into the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pictures {
    /// A link to each
    Link,
    /// A copy of each: the folder stands alone
    Copy,
    /// Not at all
    None,
}

impl BuildZomArgs {
    fn config(&self) -> ZomConfig {
        let base = ZomConfig { seed: self.seed, ..ZomConfig::ref_zom() };
        let named = [self.one, self.many, self.zero];
        let exact = self.expressions.is_some() || named.iter().any(Option::is_some);
        let mut config = match self.expressions {
            Some(total) => base.with_total(total),
            None if exact => {
                let [one, many, zero] = named.map(Option::unwrap_or_default);
                ZomConfig { counts: KindCounts { one, many, zero }, ..base }
            }
            None => base,
        };
        config.exact = exact;
        config.test_share = self.test_share;
        config.one_prompt_share = self.one_prompts;
        config.many_prompt_share = self.many_prompts;
        config.zero_caption_share = self.zero_captions;
        config.min_area = self.min_area;
        config.max_words = self.max_words;
        config.per_image = KindCounts {
            one: self.one_per_image,
            many: self.many_per_image,
            zero: self.zero_per_image,
        };
        config.only_accepted = self.only_accepted;
        config.conflicts = self.conflicts;
        config
    }

    fn inputs(&self) -> Result<ZomInputs> {
        let mut inputs = ZomInputs {
            instances: self.instances.clone(),
            captions: self.captions.clone(),
            refs: self.refs.clone(),
            hand_written: self.hand_written.clone(),
            decisions: self.decisions.clone(),
            images: self.images.clone(),
        };
        if let Some(dir) = &self.dir {
            folder::place(&mut inputs, dir);
            folder::fill(&mut inputs, dir)?;
        }
        if inputs.instances.is_empty() {
            return Err(match &self.dir {
                Some(dir) => bad_input!(
                    "{}: holds no instances*.json; name it with --instances",
                    dir.display()
                ),
                None => bad_input!(
                    "nothing to build from; give a folder of COCO's files, or --instances"
                ),
            });
        }
        Ok(inputs)
    }
}

/// Runs `data build-zom`.
///
/// # Errors
/// Bad input: a file or setting that cannot be used, or fewer sentences than asked for.
pub(crate) fn run(args: BuildZomArgs) -> Result<()> {
    let inputs = args.inputs()?;
    let mut bars = Bars::default();
    let plan = ZomPlan::make(args.config(), &inputs, |progress| bars.show(progress))?;
    let placing = match args.pictures {
        _ if inputs.images.is_empty() => Placing::None,
        Pictures::Link => Placing::Link,
        Pictures::Copy => Placing::Copy,
        Pictures::None => Placing::None,
    };
    plan.write_to(&args.out, placing, |progress| bars.show(progress))?;
    bars.clear();
    let undecided = plan.undecided();
    let shown = &undecided[..undecided.len().min(args.review)];
    let pages = match inputs.images.is_empty() {
        true => 0,
        false => review::write(&plan, shown, &args.out.join("review"))?,
    };
    let mut text = table(&plan.report);
    text += &match (pages, undecided.len()) {
        (_, 0) => "Every borrowed sentence was decided on by a person.\n".to_owned(),
        (0, open) => format!(
            "{open} borrowed sentences were not looked at by a person; give --images and --review for the page.\n"
        ),
        (pages, open) => {
            let last = if pages > 1 { format!(" to page-{pages}.html") } else { String::new() };
            format!(
                "{open} borrowed sentences were not looked at by a person. {} of them are in\n  {}{last}: open, decide, download, and build again with --decisions.\n",
                shown.len(),
                args.out.join("review").join("page-1.html").display()
            )
        }
    };
    let mut stdout = std::io::stdout().lock();
    write!(stdout, "{text}\nwritten to {}\n", args.out.display())
        .context("cannot write to standard output")?;
    for line in &plan.report.bad_lines {
        tell!("left out: {line}");
    }
    for name in plan.catalog.unknown_categories() {
        tell!("category {name:?} is not one of COCO's 80: no prompt and no check knows it");
    }
    Ok(())
}

/// Progress on the terminal: bytes while reading and writing, pieces while making.
#[derive(Default)]
struct Bars {
    bar: Option<(String, ProgressBar)>,
}

impl Bars {
    fn show(&mut self, progress: ZomProgress<'_>) {
        const MB: u64 = 1 << 20;
        let (name, done, total) = match progress {
            ZomProgress::Reading(path, bytes) => {
                let size = std::fs::metadata(path).map_or(0, |file| file.len());
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                (format!("MB of {name}"), bytes / MB, size / MB)
            }
            ZomProgress::Writing(name, bytes) => {
                let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
                (format!("MB copied of {name}"), bytes / MB, 0)
            }
            ZomProgress::Making(what, done, total) => (what.to_owned(), done as u64, total as u64),
        };
        if self.bar.as_ref().is_none_or(|(shown, _)| *shown != name) {
            self.clear();
            let bar = bar(total);
            bar.set_prefix(name.clone());
            self.bar = Some((name, bar));
        }
        if let Some((_, bar)) = &self.bar {
            bar.set_position(done);
            if done > bar.length().unwrap_or(0) {
                bar.set_length(done);
            }
        }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Counts by split, by source, and what was left out.
fn table(report: &ZomReport) -> String {
    let mut text = format!(
        "{:<8}{:>9}{:>10}{:>10}{:>13}{:>9}{:>9}{:>9}\n",
        "split", "images", "objects", "records", "expressions", "one", "many", "zero"
    );
    let of = |counts: &std::collections::BTreeMap<String, usize>, split: &str| {
        counts.get(split).copied().unwrap_or(0)
    };
    let mut sum = KindCounts::default();
    let mut line =
        |name: &str, images: usize, objects: usize, records: usize, kinds: KindCounts| {
            text += &format!(
                "{name:<8}{images:>9}{objects:>10}{records:>10}{:>13}{:>9}{:>9}{:>9}\n",
                kinds.total(),
                kinds.one,
                kinds.many,
                kinds.zero
            );
        };
    for split in ["train", "test"] {
        let kinds = report.chosen.get(split).copied().unwrap_or_default();
        sum.one += kinds.one;
        sum.many += kinds.many;
        sum.zero += kinds.zero;
        line(
            split,
            of(&report.images, split),
            of(&report.objects, split),
            of(&report.records, split),
            kinds,
        );
    }
    let all = |counts: &std::collections::BTreeMap<String, usize>| counts.values().sum();
    line("all", all(&report.images), all(&report.objects), all(&report.records), sum);
    text += "\nsources\n";
    for kind in ["one", "many", "zero"] {
        let Some(sources) = report.sources.get(kind) else { continue };
        let list: Vec<String> = sources.iter().map(|(source, n)| format!("{source} {n}")).collect();
        text += &format!("  {kind:<6}{}\n", list.join(", "));
    }
    if sum.total() < report.asked.total() {
        let (asked, has) = (report.asked, report.available);
        text += &format!(
            "\nRef-ZOM has {} one, {} many, {} zero; these files allow {} one, {} many, {} zero. The proportions were kept.\n",
            asked.one, asked.many, asked.zero, has.one, has.many, has.zero
        );
    }
    for (title, counts) in [
        ("left out of the inputs", &report.left_out),
        ("borrowed sentences refused by the checks", &report.refused),
    ] {
        if !counts.is_empty() {
            text += &format!("\n{title}\n");
            let mut counts: Vec<(&String, &usize)> = counts.iter().collect();
            counts.sort_by_key(|(why, n)| (std::cmp::Reverse(**n), (*why).clone()));
            for (why, n) in counts {
                text += &format!("{n:>9}  {why}\n");
            }
        }
    }
    text.push('\n');
    if report.decisions > 0 {
        text += &format!(
            "decisions: {} read; {} accepted sentences are in the set, {} rejected ones were proposed again and left out\n",
            report.decisions, report.accepted_used, report.rejected
        );
        if report.contradictory > 0 {
            text += &format!(
                "  {} sentences were both accepted and rejected: rejected\n",
                report.contradictory
            );
        }
        if report.accepted_unknown > 0 {
            text += &format!(
                "  {} accepted sentences are not in the set: with this seed, these files and counts they are not proposed\n",
                report.accepted_unknown
            );
        }
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: BuildZomArgs,
    }

    fn config(extra: &[&str]) -> ZomConfig {
        let all = ["x", "dir", "--out", "o"].iter().chain(extra);
        Line::try_parse_from(all).unwrap().args.config()
    }

    #[test]
    fn counts_are_ref_zoms_or_as_asked() {
        assert_eq!(config(&[]), ZomConfig::ref_zom());
        let total = config(&["--expressions", "1000"]);
        assert!(total.exact && total.counts.total() == 1000 && total.counts.zero == 132);
        let named = config(&["--many", "7", "--zero", "3"]);
        assert_eq!(named.counts, KindCounts { one: 0, many: 7, zero: 3 });
        assert!(
            Line::try_parse_from(["x", "--out", "o", "--one", "1", "--expressions", "2"]).is_err()
        );
    }

    #[test]
    fn shares_are_checked_under_the_names_of_their_options() {
        let options = ["test-share", "one-prompts", "many-prompts", "zero-captions", "min-area"];
        for option in options.map(|name| format!("--{name}")) {
            let args =
                |share: &str| Line::try_parse_from(["x", "dir", "--out", "o", &option, share]);
            assert!(args("0.5").is_ok());
            let error = args("2").err().unwrap().to_string();
            assert!(error.contains(&option) && error.contains("from 0 to 1"), "{error}");
        }
    }
}
