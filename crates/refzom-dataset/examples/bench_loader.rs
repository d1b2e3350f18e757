//! Speed of the loader on one thread: `bench_loader DIR SIZE SECONDS [CACHE_MIB]`; with a cache, that of the epochs after the first. Prints one line of JSON, as `benches/loader_peer.py` does.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use refzom_dataset::{
    Dataset, DatasetConfig, ExpressionTokenizer, ImageTransform, Loader, LoaderConfig, Order,
    Preparation,
};

/// The allocator of `dmmi-cli`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[allow(clippy::print_stdout)] // the result
fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let dir = args.next().context("usage: bench_loader DIR SIZE SECONDS")?;
    let size: u32 = args.next().context("SIZE is missing")?.parse()?;
    let limit = Duration::from_secs_f64(args.next().context("SECONDS is missing")?.parse()?);
    let cache_mib: usize = args.next().map_or(Ok(0), |text| text.parse())?;
    let (dataset, _) = Dataset::load(&DatasetConfig::new(dir, "all"))?;
    let tokenizer = ExpressionTokenizer::bert_base_uncased(20)?;
    let mut how = Preparation::new(ImageTransform::imagenet(size, size), tokenizer);
    how.cache_bytes = cache_mib << 20;
    let cfg = LoaderConfig { workers: 0, order: Order::Sequential, ..LoaderConfig::evaluation(1) };
    let loader = Loader::new(&dataset, how, cfg)?;
    let (mut samples, mut mask_pixels) = (0usize, 0u64);
    let warming = if cache_mib > 0 { dataset.len() } else { 3 };
    for batch in loader.epoch(0)?.take(warming) {
        batch?;
    }
    let (start, cpu) = (Instant::now(), cpu_seconds());
    'all: while start.elapsed() < limit {
        for batch in loader.epoch(0)? {
            let batch = batch?;
            if samples < dataset.len() {
                let mask = batch.masks.flatten_all()?.to_vec1::<u8>()?;
                mask_pixels += mask.iter().map(|&bit| u64::from(bit)).sum::<u64>();
            }
            samples += batch.len();
            if start.elapsed() >= limit && samples >= dataset.len() {
                break 'all;
            }
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let cpu_seconds = cpu_seconds() - cpu;
    println!(
        "{{\"samples\": {samples}, \"seconds\": {seconds}, \"cpu_seconds\": {cpu_seconds}, \"mask_pixels\": {mask_pixels}}}"
    );
    Ok(())
}

/// Processor time of this thread where Linux tells it, else 0.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split_whitespace().next().and_then(|first| first.parse::<f64>().ok());
    nanoseconds.unwrap_or(0.0) / 1e9
}
