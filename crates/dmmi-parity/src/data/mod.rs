//! Cases of the data pipeline: pictures (Pillow, torchvision), masks (pycocotools), text (the release's tokenizer and eraser).

pub(crate) mod images;
pub(crate) mod masks;
pub(crate) mod text;

use serde_json::Value;

use crate::report::Report;

/// What a sidecar of the data pipeline holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataKind {
    /// Pictures in a folder named like the sidecar: `images` and `pillow`.
    Images,
    /// Outlines: `annotations` with the counts of their parts, and `refs`.
    Masks,
    /// Polygons and crowds with their run lengths: `polys` and `crowd`.
    Polygons,
    /// Expressions with ids and noun groups: `records` with `input_ids`.
    Text,
    /// Expressions with TextBlob's tags: a list with `tokens_tags`.
    Tags,
}

impl DataKind {
    /// Reads it off the sidecar; `None` if it is of another kind.
    pub fn of(json: &Value) -> Option<Self> {
        let has = |pointer: &str| json.pointer(pointer).is_some();
        Some(if has("/images") && has("/pillow") {
            Self::Images
        } else if has("/annotations/0/part_counts") || has("/annotations/0/union_crc32") {
            Self::Masks
        } else if has("/polys") && has("/crowd") {
            Self::Polygons
        } else if has("/records/0/input_ids") {
            Self::Text
        } else if has("/0/tokens_tags") {
            Self::Tags
        } else {
            return None;
        })
    }
}

/// Judges that two values are the same.
fn same<T: PartialEq + std::fmt::Debug>(report: &mut Report, name: &str, ours: T, theirs: T) {
    if ours == theirs {
        report.judge(name, 0.0, 0.0);
    } else if report.wants(name) {
        let shown = |value: &T| format!("{value:?}").chars().take(120).collect::<String>();
        report.miss(name, format!("ours {}, theirs {}", shown(&ours), shown(&theirs)));
    }
}

/// Bits packed by `numpy.packbits`, most significant first.
fn unpack(bytes: impl IntoIterator<Item = u8>, count: usize) -> Vec<u8> {
    let bits = bytes.into_iter().flat_map(|byte| (0..8).rev().map(move |i| byte >> i & 1));
    bits.take(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_are_read_off_the_content() {
        let of = |json: Value| DataKind::of(&json);
        assert_eq!(of(json!({"images": {}, "pillow": "13.0.0"})), Some(DataKind::Images));
        assert_eq!(of(json!({"annotations": [{"part_counts": []}]})), Some(DataKind::Masks));
        assert_eq!(of(json!({"polys": [], "crowd": []})), Some(DataKind::Polygons));
        assert_eq!(of(json!({"records": [{"input_ids": []}]})), Some(DataKind::Text));
        assert_eq!(of(json!([{"tokens_tags": []}])), Some(DataKind::Tags));
        assert_eq!(of(json!({"records": []})), None);
    }

    #[test]
    fn bits_come_most_significant_first() {
        assert_eq!(unpack([0b1010_0000, 0b1000_0000], 9), [1, 0, 1, 0, 0, 0, 0, 0, 1]);
    }
}
