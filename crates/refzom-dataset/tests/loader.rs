//! Batches from real photos: the same whatever the threads, errors that name the file, threads that stop.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use refzom_dataset::{
    Batch, Batches, DataError, Dataset, DatasetConfig, EraseMode, ExpressionTokenizer,
    ImageTransform, Loader, LoaderConfig, NounTagger, Order, PhraseEraser, Preparation,
    Replacement, Sampler, Shard, TaggedWord, TargetKind,
};

fn coco33() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/coco33")
}

fn photos(split: &str) -> Dataset {
    let (dataset, rejected) = Dataset::load(&DatasetConfig::new(coco33(), split)).unwrap();
    assert!(rejected.is_empty());
    dataset
}

fn preparation(h: u32, w: u32) -> Preparation {
    let tokenizer = ExpressionTokenizer::bert_base_uncased(20).unwrap();
    let eraser = PhraseEraser::with_builtin_tagger(EraseMode::default(), Replacement::default());
    Preparation {
        eraser: Some(eraser.unwrap()),
        seed: 11,
        ..Preparation::new(ImageTransform::imagenet(h, w), tokenizer)
    }
}

fn config(workers: usize, drop_last: bool) -> LoaderConfig {
    LoaderConfig {
        batch_size: 7,
        workers,
        prefetch: 3,
        drop_last,
        order: Order::Shuffled,
        seed: 5,
        shard: Shard::default(),
    }
}

/// Everything of a batch that must repeat.
type Content = (Vec<usize>, Vec<u32>, Vec<Vec<u32>>, Vec<Vec<u32>>, Vec<u8>);

fn content(batch: &Batch) -> Content {
    let bits = |t: &candle_core::Tensor| {
        let flat = t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        flat.into_iter().map(f32::to_bits).collect()
    };
    (
        batch.indices.clone(),
        bits(&batch.images),
        batch.ids.to_vec2().unwrap(),
        batch.erased_ids.as_ref().unwrap().to_vec2().unwrap(),
        batch.masks.flatten_all().unwrap().to_vec1().unwrap(),
    )
}

fn run(loader: &Loader, epoch: u64, from: usize) -> Vec<Content> {
    loader.epoch_from(epoch, from).unwrap().map(|batch| content(&batch.unwrap())).collect()
}

#[test]
fn threads_cache_and_resuming_change_nothing() {
    let dataset = photos("test");
    let how = preparation(24, 40);
    let loader = |workers, cache_bytes| {
        let how = Preparation { cache_bytes, ..how.clone() };
        Loader::new(&dataset, how, config(workers, false)).unwrap()
    };
    let expected = run(&loader(0, 0), 3, 0);
    assert_eq!(expected.len(), dataset.len().div_ceil(7));
    for (workers, cache) in [(1, 0), (2, 1 << 20), (5, 4000)] {
        let other = loader(workers, cache);
        assert_eq!(run(&other, 3, 0), expected, "{workers} workers, cache {cache}");
        assert_eq!(run(&other, 3, 0), expected, "again, from the cache");
        assert_eq!(run(&other, 3, 2), expected[2..], "resumed");
        assert_eq!(run(&other, 3, 99).len(), 0);
    }
    let later = run(&loader(2, 0), 4, 0);
    assert_ne!(later, expected);
    // The erased phrase is drawn anew for every epoch, or not.
    let erased = |once: bool, epoch: u64| {
        let how = Preparation { erase_once: once, ..how.clone() };
        let cfg = LoaderConfig { order: Order::Sequential, ..config(2, false) };
        let batches = run(&Loader::new(&dataset, how, cfg).unwrap(), epoch, 0);
        batches.into_iter().map(|c| c.3).collect::<Vec<_>>()
    };
    assert_ne!((0..6).map(|e| erased(false, e)).collect::<Vec<_>>(), vec![erased(false, 0); 6]);
    assert_eq!(erased(true, 0), erased(true, 5));
}

#[test]
fn shapes_kinds_and_masks_belong_together() {
    let dataset = photos("all");
    let loader = Loader::new(&dataset, preparation(24, 40), config(2, false)).unwrap();
    let mut seen = 0;
    for batch in loader.epoch(0).unwrap() {
        let batch = batch.unwrap();
        let b = batch.len();
        assert_eq!(batch.images.dims(), [b, 3, 24, 40]);
        assert_eq!(batch.masks.dims(), [b, 24, 40]);
        assert_eq!(batch.ids.dims(), [b, 20]);
        assert_eq!(batch.attention.dims(), [b, 20]);
        let masks = batch.masks.flatten_from(1).unwrap().to_vec2::<u8>().unwrap();
        let flags = batch.has_target.to_vec1::<u8>().unwrap();
        for i in 0..b {
            let index = batch.indices[i];
            assert_eq!(batch.expressions[i], dataset.samples()[index].expression);
            assert_eq!(flags[i] == 0, batch.kinds[i] == TargetKind::Zero);
            let full = dataset.mask(index).unwrap().resize_nearest(24, 40).unwrap();
            assert_eq!(masks[i], full.bits());
        }
        seen += b;
    }
    assert_eq!(seen, dataset.len());
}

#[test]
fn the_last_small_batch_is_left_out_or_kept() {
    let dataset = photos("test");
    let count = |drop_last| {
        Loader::new(&dataset, preparation(8, 8), config(2, drop_last)).unwrap().batches()
    };
    assert_eq!(count(true), dataset.len() / 7);
    assert_eq!(count(false), dataset.len().div_ceil(7));
    let few = dataset.clone().truncated(3);
    let error = Loader::new(&few, preparation(8, 8), config(2, true)).unwrap_err();
    assert!(error.to_string().contains("3 samples do not fill one batch of 7"), "{error}");
    let none = LoaderConfig { batch_size: 0, ..config(1, false) };
    assert!(Loader::new(&dataset, preparation(8, 8), none).is_err());
    assert!(Loader::new(&dataset, preparation(0, 8), config(1, false)).is_err());
}

/// The photos' folder, with one photo replaced.
fn with_bad_photo(bytes: &[u8]) -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &Path, to: &Path| {
        std::fs::copy(from, to).unwrap();
    };
    for name in ["refs(final).p", "instances.json"] {
        copy(&coco33().join(name), &dir.path().join(name));
    }
    std::fs::create_dir(dir.path().join("images")).unwrap();
    for entry in std::fs::read_dir(coco33().join("images")).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &dir.path().join("images").join(entry.file_name()));
    }
    let bad = photos("test").samples()[5].image_path.file_name().unwrap().to_owned();
    std::fs::write(dir.path().join("images").join(&bad), bytes).unwrap();
    (dir, bad.into_string().unwrap())
}

#[test]
fn a_bad_photo_is_one_error_that_names_it_at_the_same_place() {
    let whole = std::fs::read(coco33().join("images/000000006818.jpg")).unwrap();
    for bytes in [&whole[..whole.len() / 2], b"not a picture", &whole[..]] {
        let (dir, name) = with_bad_photo(bytes);
        let dataset = Dataset::load(&DatasetConfig::new(dir.path(), "test")).unwrap().0;
        let mut places = Vec::new();
        for workers in [0, 1, 4] {
            let loader = Loader::new(&dataset, preparation(8, 8), config(workers, false)).unwrap();
            let results: Vec<_> = loader.epoch(1).unwrap().collect();
            let errors: Vec<String> =
                results.iter().filter_map(|r| r.as_ref().err().map(ToString::to_string)).collect();
            assert_eq!(errors.len(), 1, "{errors:?}");
            assert!(errors[0].contains(&name), "{errors:?}");
            assert!(results.last().unwrap().is_err());
            places.push(results.len());
        }
        assert!(places.iter().all(|p| *p == places[0]), "{places:?}");
    }
}

#[test]
fn dropping_the_batches_stops_the_threads() {
    let dataset = photos("all");
    let loader = Loader::new(&dataset, preparation(480, 480), config(4, false)).unwrap();
    let mut batches = loader.epoch(0).unwrap();
    batches.next().unwrap().unwrap();
    let start = Instant::now();
    drop(batches);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    drop(loader.epoch(1).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10))]
    #[test]
    fn the_order_is_the_samplers_whatever_the_threads(
        workers in 0usize..5, prefetch in 1usize..6, batch_size in 1usize..9,
        epoch in 0u64..4, skip in 0usize..4, drop_last in any::<bool>(),
    ) {
        let dataset = photos("all").truncated(30);
        let order = Order::BalancedKinds;
        let cfg = LoaderConfig { workers, prefetch, batch_size, order, ..config(1, drop_last) };
        let loader = Loader::new(&dataset, preparation(4, 4), cfg).unwrap();
        let sampler = Sampler::new(dataset.kinds(), order, cfg.seed);
        let expected = Shard::default().batches(&sampler.epoch(epoch), batch_size, drop_last);
        let batches: Vec<Vec<usize>> =
            loader.epoch_from(epoch, skip).unwrap().map(|batch| batch.unwrap().indices).collect();
        prop_assert_eq!(batches, expected.into_iter().skip(skip).collect::<Vec<_>>());
    }
}

#[test]
fn ranks_together_see_what_one_process_sees() {
    let dataset = photos("train");
    let indices = |rank, ranks, batch_size| {
        let cfg = LoaderConfig { shard: Shard { rank, ranks }, batch_size, ..config(2, true) };
        let loader = Loader::new(&dataset, preparation(8, 8), cfg).unwrap();
        let batches: Vec<Vec<usize>> =
            loader.epoch(2).unwrap().map(|batch| batch.unwrap().indices).collect();
        assert_eq!(batches.len(), loader.batches());
        batches
    };
    let alone = indices(0, 1, 6);
    let shards = [indices(0, 3, 2), indices(1, 3, 2), indices(2, 3, 2)];
    for (step, batch) in alone.iter().enumerate() {
        let together: Vec<usize> = shards.iter().flat_map(|s| s[step].clone()).collect();
        assert_eq!(&together, batch, "step {step}");
    }
    let none = LoaderConfig { shard: Shard { rank: 3, ranks: 3 }, ..config(2, true) };
    assert!(Loader::new(&dataset, preparation(8, 8), none).is_err());
}

#[test]
fn an_interrupt_ends_the_waiting_at_once() {
    let dataset = photos("all");
    for workers in [0, 2] {
        let cfg = LoaderConfig { batch_size: 60, ..config(workers, true) };
        let loader = Loader::new(&dataset, preparation(1200, 1200), cfg).unwrap();
        let flag = Arc::new(AtomicBool::new(false));
        let mut batches = loader.epoch(0).unwrap().interrupted_by(Arc::clone(&flag));
        let setter = std::thread::spawn({
            let flag = Arc::clone(&flag);
            move || {
                std::thread::sleep(Duration::from_millis(50));
                flag.store(true, Ordering::Relaxed);
                Instant::now()
            }
        });
        let error = loop {
            match batches.next() {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => return, // a machine that is through with everything in 50 ms
            }
        };
        let set = setter.join().unwrap();
        assert!(matches!(error, DataError::Stopped), "{error}");
        drop(batches);
        assert!(set.elapsed() < Duration::from_secs(2), "{workers}: {:?}", set.elapsed());
    }
}

/// A tagger with a fault of its own.
struct Faulty;

impl NounTagger for Faulty {
    fn tag(&self, expression: &str) -> Vec<TaggedWord> {
        assert!(!expression.contains("wine"), "no word for wine");
        Vec::new()
    }
}

#[test]
fn a_panicking_worker_is_one_error_that_names_the_sample() {
    let dataset = photos("test");
    let eraser = PhraseEraser::new(Arc::new(Faulty), EraseMode::default(), Replacement::default());
    for workers in [0, 3] {
        let how = Preparation { eraser: Some(eraser.clone()), ..preparation(8, 8) };
        let loader = Loader::new(&dataset, how, config(workers, false)).unwrap();
        let errors: Vec<String> = loader
            .epoch(0)
            .unwrap()
            .filter_map(|batch| batch.err().map(|e| e.to_string()))
            .collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].contains("wine") && errors[0].contains("no word"), "{errors:?}");
    }
}

#[test]
fn anything_is_made_ahead_in_order_and_a_panic_is_an_error() {
    for workers in [0, 1, 3] {
        let made = Batches::made_by(|number| Ok(number * number), 2..7, workers, 2).unwrap();
        let made: Vec<usize> = made.map(Result::unwrap).collect();
        assert_eq!(made, [4, 9, 16, 25, 36], "{workers} workers");
        let mut made = Batches::made_by(Ok, 2..4, workers, 2).unwrap();
        let patience = Instant::now() + Duration::from_secs(20);
        while workers > 0 && !made.is_ready() && Instant::now() < patience {
            std::thread::yield_now();
        }
        assert_eq!(made.is_ready(), workers > 0);
        assert_eq!(made.by_ref().map(Result::unwrap).collect::<Vec<usize>>(), [2, 3]);
        assert!(!made.is_ready());
        let fails = |number| if number == 3 { panic!("no number") } else { Ok(number) };
        let mut made = Batches::made_by(fails, 2..7, workers, 2).unwrap();
        assert_eq!(made.next().unwrap().unwrap(), 2);
        let error = made.next().unwrap().unwrap_err().to_string();
        assert!(error.contains("batch 3") && error.contains("no number"), "{error}");
        assert!(made.next().is_none());
    }
}
