//! Names that other libraries give to the same parameters, as tables of patterns.
//!
//! A pattern is a name with `{x}` for a part without dots and `**` (once) for any rest; the target may say `{x+1}` or `{x-1}`.
//! The first rule that fits a name decides; a name that no rule knows is reported, never dropped.

use std::collections::BTreeMap;

/// What becomes of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// It goes under this name.
    Name(&'static str),
    /// It is part `index` of `of` along the first axis of the tensor with this name.
    Part(&'static str, usize, usize),
    /// It is not needed, and why.
    Ignore(&'static str),
}

/// One line of a table: names of the file that fit the pattern, and what becomes of them.
pub type Rule = (&'static str, To);

/// How one library names a network's parameters.
#[derive(Clone, Copy, Debug)]
pub struct Scheme {
    /// For people.
    pub name: &'static str,
    /// Names that files of this scheme have, after whatever prefix they share.
    pub anchors: &'static [&'static str],
    /// The table.
    pub rules: &'static [Rule],
    /// Names of the network that such files lack, and why: these keep their first values.
    pub lacks: &'static [(&'static str, &'static str)],
}

/// What a scheme makes of the names of one file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The scheme's name.
    pub scheme: &'static str,
    /// What stands before every name (`bert.`).
    pub prefix: String,
    /// For each name of the network, the names in the file: one, or the parts in order.
    pub moves: BTreeMap<String, Vec<String>>,
    /// Names in the file that are not needed, and why.
    pub ignored: Vec<(String, String)>,
    /// Names in the file that the table does not know, or that another name already fills.
    pub unexpected: Vec<String>,
    /// Names of the network that such files lack, and why.
    pub lacks: &'static [(&'static str, &'static str)],
}

impl Scheme {
    /// The plan for a file's names; nothing when the anchors are not there.
    pub fn plan<'a>(&self, names: impl IntoIterator<Item = &'a str> + Clone) -> Option<Plan> {
        let prefix = self.prefix(names.clone())?;
        let lacks = self.lacks;
        let mut plan = Plan { scheme: self.name, prefix: prefix.clone(), lacks, ..Plan::default() };
        let mut parts: BTreeMap<String, Vec<Option<String>>> = BTreeMap::new();
        for name in names {
            let Some(inner) = name.strip_prefix(&prefix) else {
                plan.ignored.push((name.into(), format!("not part of {prefix}*")));
                continue;
            };
            match self.rules.iter().find_map(|(from, to)| Some((matched(from, inner)?, to))) {
                None => plan.unexpected.push(name.into()),
                Some((_, To::Ignore(why))) => plan.ignored.push((name.into(), (*why).into())),
                Some((found, To::Name(to))) => plan.fill(found.filled(to), vec![name.into()]),
                Some((found, To::Part(to, index, of))) => {
                    let slots = parts.entry(found.filled(to)).or_insert_with(|| vec![None; *of]);
                    match slots.get_mut(*index) {
                        Some(slot @ None) => *slot = Some(name.into()),
                        _ => plan.unexpected.push(name.into()),
                    }
                }
            }
        }
        for (target, slots) in parts {
            match slots.iter().cloned().collect::<Option<Vec<String>>>() {
                Some(sources) => plan.fill(target, sources),
                None => plan.unexpected.extend(slots.into_iter().flatten()),
            }
        }
        Some(plan)
    }

    /// The shortest prefix under which every anchor stands.
    fn prefix<'a>(&self, names: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
        let under = |anchor: &str, name: &'a str| {
            name.strip_suffix(anchor).filter(|p| p.is_empty() || p.ends_with('.'))
        };
        let (first, others) = self.anchors.split_first()?;
        let mut found: Vec<&str> =
            names.clone().into_iter().filter_map(|name| under(first, name)).collect();
        found.sort_by_key(|prefix| (prefix.len(), *prefix));
        let holds = |prefix: &&str| {
            let has =
                |a: &&&str| names.clone().into_iter().any(|name| under(a, name) == Some(*prefix));
            others.iter().all(|a| has(&a))
        };
        found.into_iter().find(holds).map(str::to_owned)
    }
}

impl Plan {
    /// The plan of the first scheme whose anchors the file has.
    pub fn of<'a>(
        schemes: &[Scheme],
        names: impl IntoIterator<Item = &'a str> + Clone,
    ) -> Option<Self> {
        schemes.iter().find_map(|scheme| scheme.plan(names.clone()))
    }

    fn fill(&mut self, target: String, sources: Vec<String>) {
        match self.moves.entry(target) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(sources);
            }
            std::collections::btree_map::Entry::Occupied(_) => self.unexpected.extend(sources),
        }
    }

    /// Declares names that fit one of the patterns as not needed, be they unknown or bound for a place.
    pub fn ignore(&mut self, patterns: &[(&str, &str)]) {
        let why = |name: &str| patterns.iter().find(|(p, _)| fits(p, name)).map(|(_, why)| *why);
        let inner = |name: &str, prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
        let mut kept = Vec::new();
        for name in std::mem::take(&mut self.unexpected) {
            match why(&inner(&name, &self.prefix)) {
                Some(why) => self.ignored.push((name, why.into())),
                None => kept.push(name),
            }
        }
        self.unexpected = kept;
        for target in self.moves.keys().filter(|t| why(t).is_some()).cloned().collect::<Vec<_>>() {
            let reason = why(&target).unwrap_or_default().to_owned();
            let sources = self.moves.remove(&target).unwrap_or_default();
            self.ignored.extend(sources.into_iter().map(|name| (name, reason.clone())));
        }
    }
}

/// Whether a name fits a pattern.
pub fn fits(pattern: &str, name: &str) -> bool {
    matched(pattern, name).is_some()
}

/// What the placeholders of a pattern stand for.
#[derive(Debug, Default)]
struct Found<'n> {
    named: Vec<(&'static str, &'n str)>,
    rest: &'n str,
}

fn matched<'n>(pattern: &str, name: &'n str) -> Option<Found<'n>> {
    let mut found = Found::default();
    // Placeholders are one letter; the letters live as long as the program.
    fn letter(text: &str) -> Option<&'static str> {
        ["a", "b", "i", "j", "k", "n", "p"].into_iter().find(|l| *l == text)
    }
    fn step<'n>(pattern: &str, name: &'n str, found: &mut Found<'n>) -> bool {
        if let Some(after) = pattern.strip_prefix("**") {
            let depth = found.named.len();
            return (0..=name.len()).rev().filter(|&end| name.is_char_boundary(end)).any(|end| {
                found.named.truncate(depth);
                found.rest = &name[..end];
                step(after, &name[end..], found)
            });
        }
        if let Some(after) = pattern.strip_prefix('{') {
            let Some((key, after)) = after.split_once('}') else { return false };
            let Some(key) = letter(key) else { return false };
            let most = name.find('.').unwrap_or(name.len());
            let depth = found.named.len();
            return (1..=most).rev().filter(|&end| name.is_char_boundary(end)).any(|end| {
                found.named.truncate(depth);
                found.named.push((key, &name[..end]));
                step(after, &name[end..], found)
            });
        }
        match (pattern.chars().next(), name.chars().next()) {
            (None, None) => true,
            (Some(p), Some(n)) if p == n => {
                step(&pattern[p.len_utf8()..], &name[n.len_utf8()..], found)
            }
            _ => false,
        }
    }
    step(pattern, name, &mut found).then_some(found)
}

impl Found<'_> {
    fn filled(&self, target: &str) -> String {
        let mut out = String::new();
        let mut rest = target;
        while let Some((before, after)) = rest.split_once('{') {
            out.push_str(before);
            let (key, after) = after.split_once('}').unwrap_or((after, ""));
            let (key, shift) = match (key.strip_suffix("+1"), key.strip_suffix("-1")) {
                (Some(key), _) => (key, 1),
                (_, Some(key)) => (key, -1),
                _ => (key, 0),
            };
            let value = self.named.iter().find(|(k, _)| *k == key).map_or("", |(_, v)| *v);
            match value.parse::<i64>() {
                Ok(number) if shift != 0 => out.push_str(&(number + shift).to_string()),
                _ => out.push_str(value),
            }
            rest = after;
        }
        out.push_str(rest);
        out.replace("**", self.rest)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_and_fill() {
        let fill = |from, to, name| matched(from, name).map(|found| found.filled(to));
        assert_eq!(fill("a.{i}.b.{p}", "c{i+1}.{p}", "a.7.b.weight").as_deref(), Some("c8.weight"));
        assert_eq!(fill("layer{i}.**", "l.{i-1}.**", "layer2.0.x").as_deref(), Some("l.1.0.x"));
        assert_eq!(fill("**.gamma", "**.weight", "a.b.gamma").as_deref(), Some("a.b.weight"));
        assert_eq!(fill("norm{i}.{p}", "", "norm.weight"), None);
        assert_eq!(fill("a.{p}", "", "a.b.c"), None);
        assert!(fits("**", "") && !fits("", "a"));
    }

    #[test]
    fn every_name_is_in_one_list() {
        let scheme = Scheme {
            name: "test",
            anchors: &["emb.weight"],
            rules: &[
                ("emb.{p}", To::Name("words.{p}")),
                ("q.{p}", To::Part("qk.{p}", 0, 2)),
                ("k.{p}", To::Part("qk.{p}", 1, 2)),
                ("head.**", To::Ignore("a head")),
                ("embedding.{p}", To::Name("words.{p}")),
            ],
            lacks: &[],
        };
        let names = [
            "net.emb.weight",
            "net.q.weight",
            "net.k.weight",
            "net.q.bias",
            "net.head.x.y",
            "net.odd",
            "net.embedding.weight",
            "other.emb.weight",
            "epoch",
        ];
        let plan = scheme.plan(names).unwrap();
        assert_eq!(plan.prefix, "net.");
        assert_eq!(plan.moves["words.weight"], ["net.emb.weight"]);
        assert_eq!(plan.moves["qk.weight"], ["net.q.weight", "net.k.weight"]);
        assert_eq!(plan.moves.len(), 2);
        assert_eq!(plan.unexpected, ["net.odd", "net.embedding.weight", "net.q.bias"]);
        let ignored: Vec<&str> = plan.ignored.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(ignored, ["net.head.x.y", "other.emb.weight", "epoch"]);
        assert_eq!(scheme.plan(["x"]), None);
        let mut plan = plan;
        plan.ignore(&[("odd", "known"), ("words.**", "not wanted")]);
        assert_eq!(plan.unexpected, ["net.embedding.weight", "net.q.bias"]);
        assert_eq!((plan.moves.len(), plan.ignored.len()), (1, 5));
    }
}
