//! Train or test, by image: no image is in both, and sentences are borrowed only within a split.

use std::fmt;

use super::catalog::Catalog;
use super::draw::{shuffle, stream};
use super::texts::Texts;

/// Ref-ZOM has no val split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ZomSplit {
    /// Learned from.
    Train,
    /// Held out.
    Test,
}

impl ZomSplit {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Train, Self::Test];

    /// As refs files name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

impl fmt::Display for ZomSplit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The split of each image, by place in the catalog. Images that any refs file holds out (val, test, testA, testB) are
/// test, images that refs files only train on are train; the others are drawn so that `test_share` of all are test.
pub(super) fn assign(
    catalog: &Catalog,
    texts: &Texts,
    test_share: f64,
    seed: u64,
) -> Vec<ZomSplit> {
    let mut of: Vec<Option<ZomSplit>> = vec![None; catalog.pictures().len()];
    for (&picture, names) in &texts.splits {
        let train = names.iter().all(|name| name == "train");
        of[picture as usize] = Some(if train { ZomSplit::Train } else { ZomSplit::Test });
    }
    let held_out = of.iter().filter(|split| **split == Some(ZomSplit::Test)).count();
    let mut free: Vec<usize> = (0..of.len()).filter(|&i| of[i].is_none()).collect();
    free.sort_by_key(|&i| catalog.pictures()[i].id);
    shuffle(&mut free, &mut stream(seed, "split", 0));
    let wanted = (test_share * of.len() as f64).round() as usize;
    for &i in free.iter().take(wanted.saturating_sub(held_out)) {
        of[i] = Some(ZomSplit::Test);
    }
    of.into_iter().map(|split| split.unwrap_or(ZomSplit::Train)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::catalog::tests::catalog;
    use super::*;

    #[test]
    fn held_out_images_stay_held_out() {
        let catalog =
            catalog(&(1..=100).map(|i| (i, "dog", false, [0., 0., 9., 9.])).collect::<Vec<_>>());
        let mut texts = Texts::default();
        texts.splits.insert(0, vec!["train".into(), "testA".into()]);
        texts.splits.insert(1, vec!["train".into()]);
        texts.splits.insert(2, vec!["val".into()]);
        let of = assign(&catalog, &texts, 0.2, 1);
        assert_eq!((of[0], of[1], of[2]), (ZomSplit::Test, ZomSplit::Train, ZomSplit::Test));
        assert_eq!(of.iter().filter(|s| **s == ZomSplit::Test).count(), 20);
        assert_eq!(of, assign(&catalog, &texts, 0.2, 1));
        assert_ne!(of, assign(&catalog, &texts, 0.2, 2));
        assert_eq!(
            assign(&catalog, &texts, 0.0, 1).iter().filter(|s| **s == ZomSplit::Test).count(),
            2
        );
    }
}
