//! The bytes of the parsed cache: little-endian numbers, strings with their lengths, each outline once.
//!
//! Reading trusts nothing: every length is checked against what is left, and `None` means "parse again".

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::cache::Stamp;
use super::join::{Joined, Region};
use crate::{Counts, Segmentation, SizedCounts};

/// What a cache file holds.
pub(super) struct Parsed {
    pub(super) joined: Vec<Joined>,
    /// The image folder that was found; of use for one's own sets.
    pub(super) images: PathBuf,
    pub(super) depends_on: Vec<(PathBuf, Stamp)>,
}

/// `None` if a path is not Unicode.
pub(super) fn encode(
    joined: &[Joined],
    images: &Path,
    depends_on: &[(PathBuf, Stamp)],
) -> Option<Vec<u8>> {
    let mut out = Writer(Vec::new());
    out.text(images.to_str()?);
    out.count(depends_on.len());
    for (path, stamp) in depends_on {
        out.text(path.to_str()?);
        out.number(stamp.length as i64);
        out.number(stamp.nanoseconds as i64);
    }
    let regions = || {
        joined.iter().filter_map(|one| match one {
            Joined::Region(region) => Some(region),
            Joined::Rejected(_) => None,
        })
    };
    let mut places: HashMap<*const Segmentation, u32> = HashMap::new();
    let mut outlines = Vec::new();
    for outline in regions().flat_map(|region| &region.outlines) {
        places.entry(Arc::as_ptr(outline)).or_insert_with(|| {
            outlines.push(outline);
            outlines.len() as u32 - 1
        });
    }
    out.count(outlines.len());
    for outline in outlines {
        out.outline(outline);
    }
    out.count(joined.len());
    for one in joined {
        match one {
            Joined::Region(region) => {
                out.0.push(1);
                out.region(region, &places);
            }
            Joined::Rejected(rejected) => {
                out.0.push(0);
                out.text(&serde_json::to_string(rejected).ok()?);
            }
        }
    }
    Some(out.0)
}

struct Writer(Vec<u8>);

impl Writer {
    fn count(&mut self, count: usize) {
        self.0.extend((count as u32).to_le_bytes());
    }

    fn number(&mut self, number: i64) {
        self.0.extend(number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend(text.as_bytes());
    }

    fn outline(&mut self, outline: &Segmentation) {
        match outline {
            Segmentation::Polygons(polygons) => {
                self.0.push(0);
                self.count(polygons.len());
                for polygon in polygons {
                    self.count(polygon.len());
                    self.0.extend(polygon.iter().flat_map(|v| v.to_le_bytes()));
                }
            }
            Segmentation::Rle { size, counts } => {
                self.0.push(1);
                self.runs(*size, counts);
            }
            Segmentation::Rles(parts) => {
                self.0.push(2);
                self.count(parts.len());
                for part in parts {
                    self.runs(part.size, &part.counts);
                }
            }
        }
    }

    fn runs(&mut self, size: [u32; 2], counts: &Counts) {
        self.count(size[0] as usize);
        self.count(size[1] as usize);
        match counts {
            Counts::Plain(counts) => {
                self.0.push(0);
                self.count(counts.len());
                self.0.extend(counts.iter().flat_map(|c| c.to_le_bytes()));
            }
            Counts::Compressed(text) => {
                self.0.push(1);
                self.text(text);
            }
        }
    }

    fn region(&mut self, region: &Region, places: &HashMap<*const Segmentation, u32>) {
        self.number(region.ref_id);
        self.number(region.image_id);
        self.text(&region.listed);
        self.text(&region.recorded);
        self.count(region.height as usize);
        self.count(region.width as usize);
        self.count(region.outlines.len());
        for (id, outline) in region.annotation_ids.iter().zip(&region.outlines) {
            self.number(*id);
            self.count(places[&Arc::as_ptr(outline)] as usize);
        }
        self.text(&region.split);
        self.0.push(u8::from(region.source.is_some()));
        self.text(region.source.as_deref().unwrap_or(""));
        self.count(region.sentences.len());
        for (id, sentence) in &region.sentences {
            self.number(*id);
            self.text(sentence);
        }
        // Faulty sentences are rare: json will do.
        let faults = serde_json::to_string(&region.faults).unwrap_or_default();
        self.text(if region.faults.is_empty() { "" } else { &faults });
    }
}

pub(super) fn decode(bytes: &[u8]) -> Option<Parsed> {
    let mut from = Reader(bytes);
    let images = PathBuf::from(from.text()?);
    let depends_on = from.list(20, |from| {
        let path = PathBuf::from(from.text()?);
        let (length, nanoseconds) = (from.number()? as u64, from.number()? as u64);
        Some((path, Stamp { length, nanoseconds }))
    })?;
    let outlines = from.list(5, |from| from.outline().map(Arc::new))?;
    let joined = from.list(5, |from| match from.byte()? {
        0 => Some(Joined::Rejected(serde_json::from_str(from.text()?).ok()?)),
        _ => Some(Joined::Region(from.region(&outlines)?)),
    })?;
    from.0.is_empty().then_some(Parsed { joined, images, depends_on })
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    fn count(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn number(&mut self) -> Option<i64> {
        Some(i64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.count()? as usize;
        std::str::from_utf8(self.take(length)?).ok()
    }

    /// A counted list whose items take at least `least` bytes each.
    fn list<T>(
        &mut self,
        least: usize,
        mut item: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<Vec<T>> {
        let count = self.count()? as usize;
        if count.checked_mul(least)? > self.0.len() {
            return None;
        }
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(item(self)?);
        }
        Some(list)
    }

    fn outline(&mut self) -> Option<Segmentation> {
        Some(match self.byte()? {
            0 => Segmentation::Polygons(self.list(4, |from| {
                let count = from.count()? as usize;
                let bytes = from.take(count.checked_mul(8)?)?;
                let values = bytes.chunks_exact(8).map(|b| b.try_into().map(f64::from_le_bytes));
                values.collect::<Result<_, _>>().ok()
            })?),
            1 => {
                let SizedCounts { size, counts } = self.runs()?;
                Segmentation::Rle { size, counts }
            }
            2 => Segmentation::Rles(self.list(13, Self::runs)?),
            _ => return None,
        })
    }

    fn runs(&mut self) -> Option<SizedCounts> {
        let size = [self.count()?, self.count()?];
        let counts = match self.byte()? {
            0 => Counts::Plain(self.list(4, Self::count)?),
            _ => Counts::Compressed(self.text()?.to_owned()),
        };
        Some(SizedCounts { size, counts })
    }

    fn region(&mut self, outlines: &[Arc<Segmentation>]) -> Option<Region> {
        let (ref_id, image_id) = (self.number()?, self.number()?);
        let (listed, recorded) = (self.text()?.to_owned(), self.text()?.to_owned());
        let (height, width) = (self.count()?, self.count()?);
        let targets = self.list(12, |from| {
            let id = from.number()?;
            Some((id, Arc::clone(outlines.get(from.count()? as usize)?)))
        })?;
        let (annotation_ids, outlines) = targets.into_iter().unzip();
        let split = self.text()?.to_owned();
        let has_source = self.byte()? == 1;
        let source = self.text()?;
        let source = has_source.then(|| source.to_owned());
        let sentences = self.list(12, |from| Some((from.number()?, from.text()?.to_owned())))?;
        let faults = match self.text()? {
            "" => Vec::new(),
            json => serde_json::from_str(json).ok()?,
        };
        Some(Region {
            ref_id,
            image_id,
            listed,
            recorded,
            height,
            width,
            annotation_ids,
            outlines,
            split,
            source,
            sentences,
            faults,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{RejectReason, Rejected};
    use super::*;

    fn joined() -> Vec<Joined> {
        let runs = |counts| SizedCounts { size: [2, 3], counts };
        let shared = Arc::new(Segmentation::Polygons(vec![vec![1.5, -2.0, 1e300], vec![]]));
        let outlines = vec![
            Arc::clone(&shared),
            Arc::new(Segmentation::Rle { size: [2, 3], counts: Counts::Plain(vec![1, 5]) }),
            Arc::new(Segmentation::Rles(vec![runs(Counts::Compressed("06".into()))])),
        ];
        let region = |outlines: Vec<Arc<Segmentation>>, source: Option<&str>| Region {
            ref_id: -1,
            image_id: i64::MAX,
            listed: "à.jpg".into(),
            recorded: String::new(),
            height: 2,
            width: 3,
            annotation_ids: (0..outlines.len() as i64).collect(),
            outlines,
            split: "testA".into(),
            source: source.map(str::to_owned),
            sentences: vec![(4, "собака".into()), (5, "dog".into())],
            faults: vec![(6, RejectReason::EmptyExpression)],
        };
        let rejected = Rejected {
            ref_id: 7,
            sentence_id: Some(8),
            image_id: 9,
            split: "train".into(),
            reason: RejectReason::BadOutline { annotation_id: 1, message: "no".into() },
        };
        vec![
            Joined::Region(region(outlines, Some(""))),
            Joined::Rejected(rejected),
            Joined::Region(region(vec![shared], None)),
            Joined::Region(region(Vec::new(), Some("zero"))),
        ]
    }

    #[test]
    fn what_is_written_is_read_and_damage_is_not() {
        let joined = joined();
        let stamps = [(PathBuf::from("a/b.png"), Stamp { length: 3, nanoseconds: u64::MAX })];
        let bytes = encode(&joined, Path::new("images"), &stamps).unwrap();
        let parsed = decode(&bytes).unwrap();
        assert_eq!(parsed.joined, joined);
        assert_eq!((parsed.images, parsed.depends_on), (PathBuf::from("images"), stamps.to_vec()));
        let Joined::Region(first) = &parsed.joined[0] else { panic!("a region") };
        let Joined::Region(third) = &parsed.joined[2] else { panic!("a region") };
        assert!(Arc::ptr_eq(&first.outlines[0], &third.outlines[0]), "outlines stay shared");
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_none(), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for value in [0, 0xff, bytes[at] ^ 1] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let _ = decode(&damaged); // no panic, no endless memory; the hash tells damage from content
            }
        }
    }
}
