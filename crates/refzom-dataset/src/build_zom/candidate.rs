//! A sentence that may enter the set, with where it comes from.

use serde::{Deserialize, Serialize};

use super::checks::Passed;
use crate::TargetKind;

/// A sentence about one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Place of the image in the catalog.
    pub picture: u32,
    /// Ids of the objects it refers to, ascending.
    pub objects: Vec<i64>,
    /// The sentence.
    pub sentence: String,
    /// Where it comes from.
    pub origin: Origin,
}

impl Candidate {
    /// By the number of objects.
    pub fn kind(&self) -> TargetKind {
        match self.objects.len() {
            0 => TargetKind::Zero,
            1 => TargetKind::One,
            _ => TargetKind::Many,
        }
    }

    /// What makes two sentences about one image the same.
    pub(super) fn key(&self) -> (u32, String) {
        (self.picture, self.sentence.to_lowercase())
    }
}

/// Where a sentence comes from; written for every sentence into `provenance.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "source", rename_all = "snake_case")]
pub enum Origin {
    /// An expression of a refs file, as it stands.
    Expression {
        /// The expression.
        from: Quoted,
    },
    /// A template filled with category words.
    Prompt {
        /// For example `all the {plural}`.
        template: &'static str,
        /// COCO's names.
        categories: Vec<&'static str>,
    },
    /// Several expressions of the same image.
    Combined {
        /// For example `{A} and {B}`.
        template: &'static str,
        /// In the order of the template.
        parts: Vec<Quoted>,
    },
    /// Written by a person.
    HandWritten {
        /// The file.
        file: String,
        /// From 1.
        line: u64,
    },
    /// A caption of another image.
    OtherCaption {
        /// The caption.
        from: Quoted,
        /// Why nothing in this image answers to it.
        checks: Passed,
    },
    /// An expression of another image.
    OtherExpression {
        /// The expression.
        from: Quoted,
        /// Why nothing in this image answers to it.
        checks: Passed,
    },
}

impl Origin {
    /// The source in one word, as in `provenance.jsonl`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Expression { .. } => "expression",
            Self::Prompt { .. } => "prompt",
            Self::Combined { .. } => "combined",
            Self::HandWritten { .. } => "hand_written",
            Self::OtherCaption { .. } => "other_caption",
            Self::OtherExpression { .. } => "other_expression",
        }
    }

    /// The checks of a borrowed sentence.
    pub fn checks(&self) -> Option<&Passed> {
        match self {
            Self::OtherCaption { checks, .. } | Self::OtherExpression { checks, .. } => {
                Some(checks)
            }
            _ => None,
        }
    }
}

/// A sentence of an input file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quoted {
    /// Name of the file.
    pub file: String,
    /// The image it was written about.
    pub image_id: i64,
    /// The record of a refs file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ref_id: Option<i64>,
    /// The sentence of a refs file, or the caption.
    pub id: i64,
    /// The object, for an expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ann_id: Option<i64>,
    /// As it stands in the file.
    pub text: String,
}
