//! Sentences written by hand: JSON lines or CSV with image, sentence and annotation ids.
//!
//! ```text
//! {"image_id": 397133, "sentence": "the man and his bowl", "ann_ids": [200887, 1125079]}
//! file_name,sentence,ann_ids
//! 000000397133.jpg,"the two ovens","1125079 2139366"
//! ```
//! No annotation id means that nothing is referred to, one a one-to-one sentence, more a one-to-many sentence.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::catalog::Catalog;
use crate::DataError;

/// A hand-written sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandWritten {
    /// Place of the image in the catalog.
    pub picture: u32,
    /// The objects' ids, ascending.
    pub objects: Vec<i64>,
    /// The sentence.
    pub sentence: String,
    /// Where it stands.
    pub file: PathBuf,
    /// From 1.
    pub line: u64,
}

/// A line that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// The file.
    pub file: PathBuf,
    /// From 1.
    pub line: u64,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}: {}", self.file.display(), self.line, self.message)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonLine {
    image_id: Option<i64>,
    file_name: Option<String>,
    #[serde(alias = "expression")]
    sentence: String,
    ann_ids: Vec<i64>,
}

/// Reads a `.csv`, or JSON lines of any other ending. Lines that cannot be used come back beside the others.
///
/// # Errors
/// The file cannot be read, or a CSV lacks a column.
pub fn read_hand_written(
    catalog: &Catalog,
    path: &Path,
) -> Result<(Vec<HandWritten>, Vec<BadLine>), DataError> {
    let text = std::fs::read_to_string(path).map_err(|e| DataError::read(path, e))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_csv = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("csv"));
    let lines = if is_csv { csv_lines(path, text)? } else { json_lines(text) };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (line, parsed) in lines {
        match parsed.and_then(|parsed| check(catalog, parsed)) {
            Ok((picture, objects, sentence)) => {
                good.push(HandWritten {
                    picture,
                    objects,
                    sentence,
                    file: path.to_path_buf(),
                    line,
                });
            }
            Err(message) => bad.push(BadLine { file: path.to_path_buf(), line, message }),
        }
    }
    Ok((good, bad))
}

type Lines = Vec<(u64, Result<JsonLine, String>)>;

fn json_lines(text: &str) -> Lines {
    let numbered = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(i, line)| (i as u64 + 1, serde_json::from_str(line).map_err(|e| e.to_string()));
    numbered.map(parse).collect()
}

fn csv_lines(path: &Path, text: &str) -> Result<Lines, DataError> {
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| DataError::format(path, e.to_string()))?.clone();
    let column = |names: &[&str]| header.iter().position(|name| names.contains(&name));
    let missing = |what: &str| {
        let message = format!(
            "has no column {what}; the first line must name image_id or file_name, sentence, ann_ids"
        );
        DataError::format(path, message)
    };
    let sentence = column(&["sentence", "expression"]).ok_or_else(|| missing("sentence"))?;
    let ann_ids = column(&["ann_ids", "ann_id"]).ok_or_else(|| missing("ann_ids"))?;
    let (image_id, file_name) = (column(&["image_id"]), column(&["file_name"]));
    if image_id.is_none() && file_name.is_none() {
        return Err(missing("image_id or file_name"));
    }
    let mut lines = Lines::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(e) => {
                let line = e.position().map_or(0, csv::Position::line);
                lines.push((line, Err(e.to_string())));
                continue;
            }
        };
        let line = record.position().map_or(0, csv::Position::line);
        let field = |place: usize| record.get(place).unwrap_or_default();
        let parsed = || {
            let number = |text: &str| text.parse::<i64>().map_err(|_| format!("{text:?} is no id"));
            // A comma of the sentence would shift the ids.
            if record.iter().skip(header.len()).any(|cell| !cell.is_empty()) {
                return Err("a row of more cells than the first line; put a sentence with commas into double quotes".into());
            }
            let ids = record.get(ann_ids).ok_or(
                "a row of fewer cells than the first line; write an empty ann_ids if nothing is meant",
            )?;
            let ids = ids.split(|c: char| !(c.is_alphanumeric() || c == '-'));
            let id = image_id.map(field).filter(|text| !text.is_empty()).map(number).transpose()?;
            Ok(JsonLine {
                image_id: id,
                file_name: file_name.map(field).filter(|text| !text.is_empty()).map(str::to_owned),
                sentence: field(sentence).to_owned(),
                ann_ids: ids
                    .filter(|id| !id.is_empty())
                    .map(number)
                    .collect::<Result<_, String>>()?,
            })
        };
        lines.push((line, parsed()));
    }
    Ok(lines)
}

fn check(catalog: &Catalog, line: JsonLine) -> Result<(u32, Vec<i64>, String), String> {
    let sentence = line.sentence.split_whitespace().collect::<Vec<_>>().join(" ");
    if sentence.is_empty() {
        return Err("an empty sentence".into());
    }
    let picture = match (line.image_id, &line.file_name) {
        (Some(id), _) => {
            catalog.find(id).ok_or_else(|| format!("image {id} is not in the instances"))?
        }
        (None, Some(name)) => catalog
            .find_name(name)
            .ok_or_else(|| format!("image {name:?} is not in the instances"))?,
        (None, None) => return Err("neither image_id nor file_name".into()),
    };
    let mut objects = line.ann_ids;
    objects.sort_unstable();
    objects.dedup();
    for id in &objects {
        match catalog.object(*id) {
            None => return Err(format!("annotation {id} is not in the instances")),
            Some(object) if object.picture as usize != picture => {
                return Err(format!("annotation {id} lies in another image"));
            }
            Some(_) => {}
        }
    }
    Ok((picture as u32, objects, sentence))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::catalog::tests::catalog;
    use super::*;

    const BOX: [f32; 4] = [0., 0., 10., 10.];

    fn read(name: &str, text: &str) -> Result<(Vec<HandWritten>, Vec<BadLine>), DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        read_hand_written(
            &catalog(&[(1, "dog", false, BOX), (1, "cat", false, BOX), (2, "cat", false, BOX)]),
            &path,
        )
    }

    #[test]
    fn both_forms_say_the_same() {
        let json = "{\"image_id\": 1, \"sentence\": \"the dog and the  cat\", \"ann_ids\": [2, 1]}\n\n\
            {\"file_name\": \"2.jpg\", \"expression\": \"a dragon\", \"ann_ids\": []}\n";
        let csv = "image_id,file_name,sentence,ann_ids\n1,,the dog and the cat,\"[1, 2]\"\n,2.jpg,a dragon,\n";
        let (from_json, bad) = read("a.jsonl", json).unwrap();
        assert!(bad.is_empty(), "{bad:?}");
        let (from_csv, bad) = read("a.csv", csv).unwrap();
        assert!(bad.is_empty(), "{bad:?}");
        let told = |all: &[HandWritten]| {
            all.iter()
                .map(|h| (h.picture, h.objects.clone(), h.sentence.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(told(&from_json), told(&from_csv));
        assert_eq!(from_json[0].objects, [1, 2]);
        assert_eq!((from_json[1].line, from_csv[1].line), (3, 3));
    }

    #[test]
    fn faults_are_values_with_their_line() {
        let text = "{\"image_id\": 9, \"sentence\": \"x\", \"ann_ids\": []}\nnonsense\n\
            {\"image_id\": 1, \"sentence\": \"x\", \"ann_ids\": [3]}\n{\"image_id\": 1, \"sentence\": \" \", \"ann_ids\": [1]}\n\
            {\"sentence\": \"x\", \"ann_ids\": []}\n{\"image_id\": 1, \"sentence\": \"x\", \"ann_ids\": [77]}";
        let (good, bad) = read("a.jsonl", text).unwrap();
        assert!(good.is_empty());
        let lines: Vec<u64> = bad.iter().map(|b| b.line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 6]);
        assert!(bad[2].to_string().contains("line 3: annotation 3 lies in another image"));
        assert!(read("a.csv", "image_id,sentence\n").unwrap_err().to_string().contains("ann_ids"));
        assert!(read("a.csv", "sentence,ann_ids\n").is_err());
        let (good, bad) = read(
            "a.csv",
            "image_id,sentence,ann_ids\nx,dog,1\n1,dog,one\n1,dog\n1,dog,,1\n1,dog,,\n",
        )
        .unwrap();
        assert_eq!((good.len(), bad.len()), (1, 4));
        assert!(bad[3].to_string().contains("line 5: a row of more cells"), "{}", bad[3]);
        assert!(bad[2].to_string().contains("line 4: a row of fewer cells"), "{}", bad[2]);
    }
}
