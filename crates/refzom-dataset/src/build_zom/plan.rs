//! The whole construction up to the files: read, propose, check, choose.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::candidate::{Candidate, Origin};
use super::catalog::Catalog;
use super::combine::{combine, file_name, quoted};
use super::config::ZomConfig;
use super::decisions::{Decisions, Verdict};
use super::draw::{shuffle, stream};
use super::evidence::Evidence;
use super::hand_written::{BadLine, HandWritten, read_hand_written};
use super::one_to_zero::ZeroMaker;
use super::pictures::PictureFiles;
use super::prompts::Prompter;
use super::select::{Pool, divide};
use super::splits::{ZomSplit, assign};
use super::texts::{Expression, Texts};
use crate::synthetic::KindCounts;
use crate::{DataError, PerceptronTagger, TargetKind};

/// Prompts made of one image and kind at most.
const PROMPTS_AN_IMAGE: usize = 2;

/// The files a set is built from.
#[derive(Clone, Debug, Default)]
pub struct ZomInputs {
    /// COCO's `instances_*.json`.
    pub instances: Vec<PathBuf>,
    /// COCO's `captions_*.json`.
    pub captions: Vec<PathBuf>,
    /// `refs(*).p` of RefCOCO, RefCOCO+, RefCOCOg.
    pub refs: Vec<PathBuf>,
    /// Hand-written sentences (JSON lines or CSV).
    pub hand_written: Vec<PathBuf>,
    /// Files of the review page.
    pub decisions: Vec<PathBuf>,
    /// Folders of images; images that are in none are not used. Empty: images are not looked for.
    pub images: Vec<PathBuf>,
}

/// How far the construction is.
#[derive(Clone, Copy, Debug)]
pub enum ZomProgress<'a> {
    /// Bytes of a file that were read.
    Reading(&'a Path, u64),
    /// Images or sentences done, of how many.
    Making(&'static str, usize, usize),
    /// Bytes of a file that were written.
    Writing(&'a str, u64),
}

/// A sentence of the set.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// The sentence.
    pub candidate: Candidate,
    /// Its image's split.
    pub split: ZomSplit,
    /// What a person said of it, for a borrowed sentence.
    pub verdict: Option<Verdict>,
}

/// What is worth knowing about a construction.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct ZomReport {
    /// Expressions asked for.
    pub asked: KindCounts,
    /// Expressions there would be; one-to-zero sentences are made only as far as they are needed.
    pub available: KindCounts,
    /// Expressions by split and kind.
    pub chosen: BTreeMap<String, KindCounts>,
    /// Expressions by kind and source.
    pub sources: BTreeMap<String, BTreeMap<String, usize>>,
    /// Images by split.
    pub images: BTreeMap<String, usize>,
    /// Objects that are referred to, by split.
    pub objects: BTreeMap<String, usize>,
    /// Records by split: sentences about the same objects share one.
    pub records: BTreeMap<String, usize>,
    /// Borrowed sentences that a check refused, by reason.
    pub refused: BTreeMap<String, usize>,
    /// Input records that were left out, by reason.
    pub left_out: BTreeMap<String, usize>,
    /// Lines of hand-written files that cannot be used.
    pub bad_lines: Vec<String>,
    /// Sentences decided on by a person.
    pub decisions: usize,
    /// Accepted sentences in the set.
    pub accepted_used: usize,
    /// Accepted sentences that this seed and these files do not propose.
    pub accepted_unknown: usize,
    /// Rejected sentences that were proposed again, and left out.
    pub rejected: usize,
    /// Sentences that two people decided differently, hence rejected.
    pub contradictory: usize,
}

/// Everything decided, nothing written.
#[derive(Debug)]
pub struct ZomPlan {
    /// The settings.
    pub config: ZomConfig,
    /// Images and objects.
    pub catalog: Catalog,
    /// The sentences of the set, by image, kind and objects.
    pub chosen: Vec<Chosen>,
    /// Sentences with a conflicting attribute: used only once a person accepts them.
    pub proposals: Vec<Candidate>,
    /// Counts.
    pub report: ZomReport,
    pub(super) pictures: PictureFiles,
}

impl ZomPlan {
    /// Reads the files, makes and checks candidates, and chooses.
    ///
    /// # Errors
    /// A file cannot be read, a setting makes no sense, or (with [`ZomConfig::exact`]) fewer sentences can be made than asked for.
    pub fn make(
        config: ZomConfig,
        inputs: &ZomInputs,
        mut progress: impl FnMut(ZomProgress<'_>),
    ) -> Result<Self, DataError> {
        config.validate()?;
        if inputs.instances.is_empty() {
            return Err(DataError::Config {
                field: "instances",
                message: "give COCO's instances_*.json".into(),
            });
        }
        let decisions = Decisions::read(&inputs.decisions)?;
        let pictures = PictureFiles::list(&inputs.images)?;
        let catalog = Catalog::read(&inputs.instances, |path, bytes| {
            progress(ZomProgress::Reading(path, bytes))
        })?;
        let texts = Texts::read(&catalog, &inputs.captions, &inputs.refs, |path, bytes| {
            progress(ZomProgress::Reading(path, bytes));
        })?;
        let (mut hand, mut bad_lines): (Vec<HandWritten>, Vec<BadLine>) = (Vec::new(), Vec::new());
        for path in &inputs.hand_written {
            let (good, bad) = read_hand_written(&catalog, path)?;
            hand.extend(good);
            bad_lines.extend(bad);
        }
        let splits = assign(&catalog, &texts, config.test_share, config.seed);
        let tagger = PerceptronTagger::masc()?;
        let mut maker =
            Maker { config: &config, catalog: &catalog, texts: &texts, seen: HashSet::new() };
        let mut order: Vec<usize> = (0..catalog.pictures().len())
            .filter(|&place| pictures.has(&catalog.pictures()[place].file_name))
            .collect();
        let missing = catalog.pictures().len() - order.len();
        if order.is_empty() {
            let message = "holds none of the pictures that the instances name; give the folder of COCO's images";
            return Err(DataError::format(
                inputs.images.first().map_or(Path::new("images"), |p| p),
                message,
            ));
        }
        shuffle(&mut order, &mut stream(config.seed, "order", 0));
        let usable: HashSet<u32> = order.iter().map(|&place| place as u32).collect();
        hand.retain(|line| usable.contains(&line.picture));

        let mut pools = maker.hand_written(hand);
        maker.targeted(&order, &tagger, &mut pools, &mut progress);
        let [one, many, hand_zero] = pools;
        let split_of = |candidate: &Candidate| splits[candidate.picture as usize] as usize;
        let pool = |all: Vec<Candidate>, per_image: usize, name: &str| {
            let (test, train): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|c| split_of(c) == ZomSplit::Test as usize);
            [train, test].map(|half| Pool::of(half, per_image, config.seed, name))
        };
        let one = pool(one, config.per_image.one, "one");
        let many = pool(many, config.per_image.many, "many");
        let sizes = |pools: &[Pool; 2]| [pools[0].len(), pools[1].len()];
        let mut report = ZomReport { asked: config.counts, ..ZomReport::default() };
        report.available.one = sizes(&one).iter().sum();
        report.available.many = sizes(&many).iter().sum();

        // Zero-target sentences are made one image after another, no more than the other kinds allow.
        let asked = config.counts;
        let scale = |n: usize, factor: f64| (n as f64 * factor).round() as usize;
        let factor =
            |available: usize, asked: usize| (available as f64 / asked.max(1) as f64).min(1.0);
        let targeted = match config.exact {
            true => 1.0,
            false => {
                let one = if asked.one > 0 { factor(report.available.one, asked.one) } else { 1.0 };
                let many =
                    if asked.many > 0 { factor(report.available.many, asked.many) } else { 1.0 };
                one.min(many)
            }
        };
        let mut zero_maker =
            ZeroMaker::new(&catalog, &texts, &tagger, &splits, &decisions, &config);
        let wanted = scale(asked.zero, targeted);
        let (zero, proposals) =
            make_zero(&mut zero_maker, &order, hand_zero, wanted, &mut progress);
        report.available.zero = zero.len();
        report.rejected = zero_maker.rejected;
        report.refused =
            count_labels(zero_maker.failed.iter().map(|(failed, n)| (failed.label(), *n)));
        let overall = match config.exact {
            true => 1.0,
            false if asked.zero > 0 => targeted.min(factor(zero.len(), asked.zero)),
            false => targeted,
        };
        if config.exact {
            enough(&report)?;
        }
        let (n_one, n_many, n_zero) =
            (scale(asked.one, overall), scale(asked.many, overall), scale(asked.zero, overall));
        let mut chosen: Vec<Candidate> = Vec::new();
        let parts = divide(n_one, sizes(&one));
        for (pool, n) in one.into_iter().zip(parts) {
            chosen.extend(pool.take(n, config.one_prompt_share));
        }
        let parts = divide(n_many, sizes(&many));
        for (pool, n) in many.into_iter().zip(parts) {
            chosen.extend(pool.take(n, config.many_prompt_share));
        }
        chosen.extend(zero.into_iter().take(n_zero));
        if chosen.is_empty() {
            return Err(DataError::Empty(
                "no sentence of the kinds asked for can be made of these files; give --refs and --captions".into(),
            ));
        }
        chosen.sort_by(|a, b| {
            let key = |c: &Candidate| (catalog.pictures()[c.picture as usize].id, c.kind());
            key(a)
                .cmp(&key(b))
                .then_with(|| a.objects.cmp(&b.objects))
                .then_with(|| a.sentence.cmp(&b.sentence))
        });
        let chosen: Vec<Chosen> = chosen
            .into_iter()
            .map(|candidate| Chosen {
                split: splits[candidate.picture as usize],
                verdict: candidate.origin.checks().and_then(|_| {
                    decisions.verdict(
                        catalog.pictures()[candidate.picture as usize].id,
                        &candidate.sentence,
                    )
                }),
                candidate,
            })
            .collect();
        report.bad_lines = bad_lines.iter().map(ToString::to_string).collect();
        report.left_out = count_labels(texts.left_out.iter().map(|(why, n)| (*why, *n)));
        for (why, n) in [
            ("annotation of an unlisted image", catalog.orphans()),
            ("picture file missing", missing),
        ] {
            if n > 0 {
                report.left_out.insert(why.to_owned(), n);
            }
        }
        report.decisions = decisions.len();
        report.contradictory = decisions.contradictory;
        report.accepted_used = chosen.iter().filter(|c| c.verdict == Some(Verdict::Accept)).count();
        report.accepted_unknown = decisions.accepted_total().saturating_sub(report.accepted_used);
        report.count(&chosen);
        Ok(Self { config, catalog, chosen, proposals, report, pictures })
    }

    /// Borrowed sentences that no person has decided on yet: those of the set, then those with a conflicting attribute.
    pub fn undecided(&self) -> Vec<&Candidate> {
        let open = self
            .chosen
            .iter()
            .filter(|c| c.verdict.is_none() && c.candidate.origin.checks().is_some());
        open.map(|c| &c.candidate).chain(&self.proposals).collect()
    }

    /// The image file of a candidate, if folders of images were given.
    pub fn picture_path(&self, candidate: &Candidate) -> Option<PathBuf> {
        self.pictures.path(&self.catalog.pictures()[candidate.picture as usize].file_name)
    }
}

fn count_labels<'a>(counts: impl Iterator<Item = (&'a str, usize)>) -> BTreeMap<String, usize> {
    let mut by_label = BTreeMap::new();
    for (label, n) in counts {
        *by_label.entry(label.to_owned()).or_insert(0) += n;
    }
    by_label
}

/// With `exact`: whether there is as much as was asked for.
fn enough(report: &ZomReport) -> Result<(), DataError> {
    let (asked, has) = (report.asked, report.available);
    let remedy = [
        ("one", asked.one, has.one, "give more --refs or --instances"),
        (
            "many",
            asked.many,
            has.many,
            "give more --refs or --hand-written, or raise --many-per-image",
        ),
        ("zero", asked.zero, has.zero, "give more --captions or --refs, or raise --zero-per-image"),
    ];
    match remedy.iter().find(|(_, asked, has, _)| asked > has) {
        None => Ok(()),
        Some((kind, asked, has, remedy)) => Err(DataError::Empty(format!(
            "{asked} one-to-{kind} expressions were asked for, {has} can be made; ask for fewer, or {remedy}"
        ))),
    }
}

/// One-to-zero sentences, hand-written ones and those on images with accepted sentences first, and proposals for review.
fn make_zero(
    maker: &mut ZeroMaker<'_>,
    order: &[usize],
    hand_written: Vec<Candidate>,
    wanted: usize,
    progress: &mut impl FnMut(ZomProgress<'_>),
) -> (Vec<Candidate>, Vec<Candidate>) {
    let (catalog, splits, cfg) = (maker.catalog, maker.splits, maker.cfg);
    let mut zero = hand_written;
    zero.truncate(wanted);
    let accepted = |place: usize| maker.decisions.accepted(catalog.pictures()[place].id) > 0;
    let (first, rest): (Vec<usize>, Vec<usize>) = order.iter().partition(|&&place| accepted(place));
    let in_split = |split: ZomSplit| order.iter().filter(|&&place| splits[place] == split).count();
    let mut left = divide(
        wanted - zero.len(),
        ZomSplit::ALL.map(|split| in_split(split) * cfg.per_image.zero),
    );
    let mut proposals = Vec::new();
    let (mut looked, total) = (0, wanted);
    for (i, &place) in first.iter().chain(&rest).enumerate() {
        let split = splits[place] as usize;
        let mut room = cfg.per_image.zero.min(left[split]);
        // A sentence with a conflicting attribute counts once a person has accepted it.
        let propose = proposals.len() < cfg.conflicts && looked < 20 * cfg.conflicts;
        if i < first.len() || propose {
            looked += 1;
            if let Some(candidate) = maker.conflicting(place) {
                let image_id = catalog.pictures()[place].id;
                match maker.decisions.verdict(image_id, &candidate.sentence) {
                    Some(Verdict::Accept) if room > 0 => {
                        zero.push(candidate);
                        left[split] -= 1;
                        room -= 1;
                    }
                    None if propose => proposals.push(candidate),
                    _ => {}
                }
            }
        }
        if room > 0 {
            let made = maker.make(place, room);
            left[split] -= made.len();
            zero.extend(made);
        }
        if left == [0, 0] && !propose && i + 1 >= first.len() {
            break;
        }
        progress(ZomProgress::Making("zero-target sentences", zero.len(), total));
    }
    (zero, proposals)
}

struct Maker<'a> {
    config: &'a ZomConfig,
    catalog: &'a Catalog,
    texts: &'a Texts,
    /// Sentences by image: none is said twice.
    seen: HashSet<(u32, String)>,
}

impl Maker<'_> {
    /// Candidates by kind: one, many, zero.
    fn hand_written(&mut self, lines: Vec<HandWritten>) -> [Vec<Candidate>; 3] {
        let mut by_kind: [Vec<Candidate>; 3] = Default::default();
        for line in lines {
            let origin = Origin::HandWritten { file: file_name(&line.file), line: line.line };
            let candidate = Candidate {
                picture: line.picture,
                objects: line.objects,
                sentence: line.sentence,
                origin,
            };
            self.add(candidate, &mut by_kind);
        }
        by_kind
    }

    fn add(&mut self, candidate: Candidate, by_kind: &mut [Vec<Candidate>; 3]) {
        if !self.seen.insert(candidate.key()) {
            return;
        }
        let place = match candidate.kind() {
            TargetKind::One => 0,
            TargetKind::Many => 1,
            TargetKind::Zero => 2,
        };
        by_kind[place].push(candidate);
    }

    /// One-to-one and one-to-many candidates, image after image, until there is twice as much of each source as is needed.
    fn targeted(
        &mut self,
        order: &[usize],
        tagger: &PerceptronTagger,
        by_kind: &mut [Vec<Candidate>; 3],
        progress: &mut impl FnMut(ZomProgress<'_>),
    ) {
        let cfg = self.config;
        let (mut singles, mut groups, mut combined, mut quoted_count) = (0, 0, 0, 0);
        let [most_one, most_many] = [2 * cfg.counts.one, 2 * cfg.counts.many];
        for (done, &place) in order.iter().enumerate() {
            let image = &self.catalog.pictures()[place];
            let mut rng = stream(cfg.seed, "targeted", image.id);
            if quoted_count < most_one {
                let all = self.texts.expressions_of(place);
                for expression in all {
                    // what is said of two objects of an image singles out neither
                    let same = |e: &Expression| {
                        e.object != expression.object
                            && e.text.eq_ignore_ascii_case(&expression.text)
                    };
                    let crowd =
                        self.catalog.object(expression.object).is_none_or(|object| object.crowd);
                    if crowd || all.iter().any(same) {
                        continue;
                    }
                    let candidate = Candidate {
                        picture: place as u32,
                        objects: vec![expression.object],
                        sentence: super::phrase::tidy(&expression.text),
                        origin: Origin::Expression {
                            from: quoted(self.catalog, self.texts, expression),
                        },
                    };
                    if !candidate.sentence.is_empty() {
                        quoted_count += 1;
                        self.add(candidate, by_kind);
                    }
                }
            }
            if singles < most_one || groups < most_many {
                let evidence = Evidence::of(self.texts, place);
                let prompter = Prompter::new(self.catalog, place, &evidence, cfg.min_area);
                let mut made = [prompter.singles(&mut rng), prompter.groups(&mut rng)];
                for (list, count) in made.iter_mut().zip([&mut singles, &mut groups]) {
                    shuffle(list, &mut rng);
                    list.truncate(PROMPTS_AN_IMAGE);
                    *count += list.len();
                }
                made.into_iter().flatten().for_each(|candidate| self.add(candidate, by_kind));
            }
            if combined < most_many {
                let limit = cfg.per_image.many;
                let made = combine(
                    self.catalog,
                    self.texts,
                    place,
                    tagger,
                    cfg.max_words,
                    limit,
                    &mut rng,
                );
                combined += made.len();
                made.into_iter().for_each(|candidate| self.add(candidate, by_kind));
            }
            if done % 64 == 0 {
                progress(ZomProgress::Making("images", done, order.len()));
            }
        }
    }
}

impl ZomReport {
    fn count(&mut self, chosen: &[Chosen]) {
        let mut images: BTreeMap<ZomSplit, HashSet<u32>> = BTreeMap::new();
        let mut objects: BTreeMap<ZomSplit, HashSet<i64>> = BTreeMap::new();
        let mut records: BTreeMap<ZomSplit, HashSet<(u32, &[i64])>> = BTreeMap::new();
        for one in chosen {
            let c = &one.candidate;
            let counts = self.chosen.entry(one.split.to_string()).or_default();
            match c.kind() {
                TargetKind::One => counts.one += 1,
                TargetKind::Many => counts.many += 1,
                TargetKind::Zero => counts.zero += 1,
            }
            let by_source = self.sources.entry(c.kind().to_string()).or_default();
            *by_source.entry(c.origin.label().to_owned()).or_insert(0) += 1;
            images.entry(one.split).or_default().insert(c.picture);
            objects.entry(one.split).or_default().extend(&c.objects);
            records.entry(one.split).or_default().insert((c.picture, &c.objects));
        }
        let named = |sizes: Vec<(ZomSplit, usize)>| {
            sizes.into_iter().map(|(s, n)| (s.to_string(), n)).collect()
        };
        self.images = named(images.into_iter().map(|(s, set)| (s, set.len())).collect());
        self.objects = named(objects.into_iter().map(|(s, set)| (s, set.len())).collect());
        self.records = named(records.into_iter().map(|(s, set)| (s, set.len())).collect());
    }
}
