//! What a format cannot hold, as a value: nothing is lost in silence.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// A kind of loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Loss {
    /// Lines of the source that could not be read.
    UnreadLine,
    /// Records whose image or annotation does not exist, whose outline must be drawn and cannot be, or without a sentence:
    /// there is nothing to write.
    FaultyRecord,
    /// Records that mean nothing, in a format that always means one object.
    ZeroRecord,
    /// Records that mean several objects, in a format that always means one.
    ManyRecord,
    /// Annotations that a zero-target record names all the same.
    ZeroAnnotation,
    /// A `source` that does not follow from the number of targets.
    Source,
    /// Ids, areas, boxes and crowd flags.
    Numbers,
    /// Sentences cleaned in another way than from their raw text.
    CleanedSentence,
    /// Records with several sentences, in a format of one sentence a row.
    Grouping,
    /// Records whose objects are of several categories.
    Categories,
    /// Outlines that become run lengths of the same pixels.
    OutlineForm,
    /// Annotations that no record means.
    UnusedAnnotation,
    /// Images without a record.
    UnusedImage,
    /// Images that do not exist and so were not copied.
    MissingImage,
}

impl Loss {
    /// Whether expressions are lost, not only what is written about them.
    pub fn loses_expressions(self) -> bool {
        matches!(self, Self::UnreadLine | Self::FaultyRecord | Self::ZeroRecord | Self::ManyRecord)
    }

    /// In words, for a number of them.
    pub fn label_of(self, count: usize) -> &'static str {
        if count != 1 {
            return self.label();
        }
        match self {
            Self::UnreadLine => "line of the source that could not be read",
            Self::FaultyRecord => "record without image, sentence or outline that can be drawn",
            Self::ZeroRecord => "zero-target record; the format always means one object",
            Self::ManyRecord => "record of several objects; the format always means one",
            Self::ZeroAnnotation => "zero-target record's own annotation id",
            Self::Source => "source name other than zero, one, many",
            Self::Numbers => "record's ids, areas, boxes and crowd flags; they are made anew",
            Self::CleanedSentence => "sentence's cleaned form; it is made anew from the raw one",
            Self::Grouping => "record of several sentences becomes a row each",
            Self::Categories => "record of several categories keeps the first",
            Self::OutlineForm => "outline becomes run lengths of the same pixels",
            Self::UnusedAnnotation => "annotation that no record means",
            Self::UnusedImage => "image without a record",
            Self::MissingImage => "image that does not exist",
        }
    }

    /// In words, for several of them.
    pub fn label(self) -> &'static str {
        match self {
            Self::UnreadLine => "lines of the source that could not be read",
            Self::FaultyRecord => "records without image, sentence or outline that can be drawn",
            Self::ZeroRecord => "zero-target records; the format always means one object",
            Self::ManyRecord => "records of several objects; the format always means one",
            Self::ZeroAnnotation => "zero-target records' own annotation ids",
            Self::Source => "source names other than zero, one, many",
            Self::Numbers => "records' ids, areas, boxes and crowd flags; they are made anew",
            Self::CleanedSentence => "sentences' cleaned form; it is made anew from the raw one",
            Self::Grouping => "records of several sentences become a row each",
            Self::Categories => "records of several categories keep the first",
            Self::OutlineForm => "outlines become run lengths of the same pixels",
            Self::UnusedAnnotation => "annotations that no record means",
            Self::UnusedImage => "images without a record",
            Self::MissingImage => "images that do not exist",
        }
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// Losses by kind, with their number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Losses(BTreeMap<Loss, usize>);

impl Losses {
    pub(super) fn add(&mut self, loss: Loss, count: usize) {
        if count > 0 {
            *self.0.entry(loss).or_insert(0) += count;
        }
    }

    /// How many of a kind.
    pub fn count(&self, loss: Loss) -> usize {
        self.0.get(&loss).copied().unwrap_or(0)
    }

    /// All kinds that occur, with their number.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, usize)> {
        self.0.iter().map(|(&loss, &count)| (loss, count))
    }

    /// Whether nothing is lost.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether expressions are lost.
    pub fn lose_expressions(&self) -> bool {
        self.0.keys().any(|loss| loss.loses_expressions())
    }
}

impl fmt::Display for Losses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.iter().map(|(loss, count)| format!("{count} {}", loss.label_of(count))).collect();
        f.write_str(&parts.join("; "))
    }
}
