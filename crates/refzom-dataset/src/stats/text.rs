//! The statistics as a table and bars of plain text.

use std::fmt::{self, Display, Formatter};

use super::{Distribution, Statistics, Tally};

/// Longest bar, in characters.
const BAR: usize = 40;

impl Display for Statistics {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12}{:>9}{:>9}{:>12}{:>13}{:>9}{:>9}{:>9}",
            "", "images", "objects", "references", "expressions", "zero", "one", "many"
        )?;
        for (name, tally) in &self.splits {
            row(f, name, tally)?;
        }
        row(f, "all", &self.all)?;
        writeln!(f)?;
        for (kind, tally) in &self.kinds {
            row(f, &format!("one-to-{kind}"), tally)?;
        }
        if !self.sources.is_empty() {
            let sources: Vec<String> =
                self.sources.iter().map(|(name, count)| format!("{name} {count}")).collect();
            writeln!(f, "\nexpressions by source: {}", sources.join(", "))?;
        }
        writeln!(f, "\n{} different words", self.vocabulary)?;
        bars(f, "words per expression", "", &self.words)?;
        bars(f, "objects per expression", "", &self.targets)?;
        bars(f, "share of the image that a targeted expression means", " %", &self.area_share)
    }
}

fn row(f: &mut Formatter<'_>, name: &str, t: &Tally) -> fmt::Result {
    writeln!(
        f,
        "{name:<12}{:>9}{:>9}{:>12}{:>13}{:>9}{:>9}{:>9}",
        t.images, t.objects, t.references, t.expressions, t.zero, t.one, t.many
    )
}

fn bars(f: &mut Formatter<'_>, title: &str, unit: &str, values: &Distribution) -> fmt::Result {
    let number = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.2}{unit}"));
    writeln!(f, "\n{title}: mean {}, median {}", number(values.mean), number(values.median))?;
    let most = values.bins.iter().map(|bin| bin.count).max().unwrap_or(0).max(1);
    for bin in &values.bins {
        // Whatever occurs is seen, if only as one mark.
        let length = (bin.count * BAR).div_ceil(most);
        let line = format!("{:>10} {:>8} {}", bin.label, bin.count, "#".repeat(length));
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}
