//! Batches made ahead of their use by threads of their own (not rayon's pool, which Candle's kernels use).
//!
//! The order and the bytes of the batches depend on seed and epoch only, not on the number of threads: workers take
//! a token (there are as many as batches may wait), then a batch number, and the consumer puts batches back in order.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use crate::prepare::{Preparation, Preparer};
use crate::{Batch, DataError, Dataset, Order, Sampler, Shard};

/// How often someone who waits for a batch looks whether to go on waiting.
const LOOK_UP: Duration = Duration::from_millis(20);

/// How long the end of an epoch waits for its threads.
const PATIENCE: Duration = Duration::from_millis(500);

/// How a [`Loader`] runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderConfig {
    /// Samples a batch.
    pub batch_size: usize,
    /// Threads; 0 makes batches on the caller's thread when they are asked for.
    pub workers: usize,
    /// Batches that may be made or wait ahead of their use, at least 1.
    pub prefetch: usize,
    /// Leave out the last, smaller batch: for training, where BatchNorm needs company. Keep it for evaluation.
    pub drop_last: bool,
    /// Order of the samples.
    pub order: Order,
    /// Seed of the order.
    pub seed: u64,
    /// The part of every batch that this process works on; `batch_size` is that of one process.
    pub shard: Shard,
}

impl LoaderConfig {
    /// Shuffled with zero-target samples spread evenly, the last small batch left out.
    pub fn training(batch_size: usize, seed: u64) -> Self {
        let order = Order::Balanced;
        Self {
            batch_size,
            workers: 2,
            prefetch: 4,
            drop_last: true,
            order,
            seed,
            shard: Shard::default(),
        }
    }

    /// As in the file, every sample once.
    pub fn evaluation(batch_size: usize) -> Self {
        let order = Order::Sequential;
        Self {
            batch_size,
            workers: 2,
            prefetch: 4,
            drop_last: false,
            order,
            seed: 0,
            shard: Shard::default(),
        }
    }
}

/// Makes the batches of any epoch of a data set.
#[derive(Debug)]
pub struct Loader {
    preparer: Arc<Preparer>,
    sampler: Sampler,
    cfg: LoaderConfig,
}

impl Loader {
    /// For this data set.
    ///
    /// # Errors
    /// A setting makes no sense, or the data set is too small for a single batch.
    pub fn new(dataset: &Dataset, how: Preparation, cfg: LoaderConfig) -> Result<Self, DataError> {
        if cfg.batch_size == 0 {
            let message = "must be 1 or more".into();
            return Err(DataError::Config { field: "batch_size", message });
        }
        if cfg.workers > 256 || cfg.prefetch > 4096 {
            let message = "more than 256 workers or 4096 waiting batches help nobody".into();
            return Err(DataError::Config { field: "workers", message });
        }
        if cfg.shard.rank >= cfg.shard.ranks || cfg.shard.ranks > 1 << 16 {
            let message = format!("rank {} of {} does not exist", cfg.shard.rank, cfg.shard.ranks);
            return Err(DataError::Config { field: "shard", message });
        }
        let sampler = Sampler::new(dataset.kinds(), cfg.order, cfg.seed);
        let loader = Self { preparer: Arc::new(Preparer::new(dataset, how)?), sampler, cfg };
        if loader.batches() == 0 {
            let hint = if cfg.drop_last { "; lower batch_size" } else { "" };
            return Err(DataError::Empty(format!(
                "{} samples do not fill one batch of {}{hint}",
                dataset.len(),
                cfg.batch_size * cfg.shard.ranks
            )));
        }
        Ok(loader)
    }

    /// Batches an epoch, of this rank.
    pub fn batches(&self) -> usize {
        let LoaderConfig { shard, batch_size, drop_last, .. } = self.cfg;
        shard.count(self.preparer.samples().len(), batch_size, drop_last)
    }

    /// How single samples are made.
    pub fn preparer(&self) -> &Arc<Preparer> {
        &self.preparer
    }

    /// How the loader runs.
    pub fn config(&self) -> &LoaderConfig {
        &self.cfg
    }

    /// All batches of `epoch`.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn epoch(&self, epoch: u64) -> Result<Batches, DataError> {
        self.epoch_from(epoch, 0)
    }

    /// The batches of `epoch` from `start_at_batch` on, as if those before had been taken: for resuming a run.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn epoch_from(&self, epoch: u64, start_at_batch: usize) -> Result<Batches, DataError> {
        let LoaderConfig { shard, batch_size, drop_last, .. } = self.cfg;
        let batches = shard.batches(&self.sampler.epoch(epoch), batch_size, drop_last);
        let plan = Plan { preparer: Arc::clone(&self.preparer), batches, epoch };
        let make = move |number, stop: &dyn Fn() -> bool| plan.make(number, stop);
        let steps = start_at_batch..self.batches();
        Batches::start(Arc::new(make), steps, self.cfg.workers, self.cfg.prefetch)
    }
}

/// What every worker knows.
struct Plan {
    preparer: Arc<Preparer>,
    batches: Vec<Vec<usize>>,
    epoch: u64,
}

impl Plan {
    /// `None` if the work was stopped. A panic becomes an error that names the file.
    fn make(&self, number: usize, stop: &dyn Fn() -> bool) -> Option<Result<Batch, DataError>> {
        let at_work = Cell::new(None);
        let work = || {
            let batch = &self.batches[number];
            let (h, w) = self.preparer.size();
            let mut images = Vec::with_capacity(batch.len() * 3 * h * w);
            let mut masks = Vec::with_capacity(batch.len() * h * w);
            let mut words = Vec::with_capacity(batch.len());
            for &index in batch {
                if stop() {
                    return None;
                }
                at_work.set(Some(index));
                match self.preparer.prepare_onto(index, self.epoch, &mut images, &mut masks) {
                    Ok(one) => words.push(one),
                    Err(error) => return Some(Err(error)),
                }
            }
            Some(Batch::collect(words, images, masks, (h, w)))
        };
        caught(work, || {
            let sample = at_work.get().and_then(|index| self.preparer.samples().get(index));
            sample.map_or_else(|| format!("batch {number}"), |s| s.to_string())
        })
    }
}

/// Does `work`; a panic in it becomes an error that has the name of what it was about.
fn caught<T>(
    work: impl FnOnce() -> Option<Result<T, DataError>>,
    name: impl FnOnce() -> String,
) -> Option<Result<T, DataError>> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        Some(Err(DataError::Worker { name: name(), message: panic_message(&*panic) }))
    })
}

/// Makes the batch of a number; `None` if what it is given says that the work was stopped.
type Make<T> = dyn Fn(usize, &dyn Fn() -> bool) -> Option<Result<T, DataError>> + Send + Sync;

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic".into())
}

/// The batches of one epoch, in order. After an error there are no more. Dropping it stops the threads.
pub struct Batches<T = Batch> {
    /// Set by others: stop waiting.
    interrupt: Option<Arc<AtomicBool>>,
    make: Arc<Make<T>>,
    next: usize,
    end: usize,
    stop: Arc<AtomicBool>,
    ready: Option<Receiver<(usize, Result<T, DataError>)>>,
    tokens: Option<Sender<()>>,
    early: BTreeMap<usize, Result<T, DataError>>,
    threads: Vec<JoinHandle<()>>,
}

impl<T> std::fmt::Debug for Batches<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batches").field("next", &self.next).field("end", &self.end).finish()
    }
}

impl<T: Send + 'static> Batches<T> {
    /// What `make` makes of each number of `steps`, in order, by `workers` threads of which at most `prefetch` results wait
    /// (none: on the caller's thread when they are asked for). What is made must depend on its number only.
    ///
    /// # Errors
    /// The threads cannot be started.
    pub fn made_by(
        make: impl Fn(usize) -> Result<T, DataError> + Send + Sync + 'static,
        steps: Range<usize>,
        workers: usize,
        prefetch: usize,
    ) -> Result<Self, DataError> {
        let make = move |number, stop: &dyn Fn() -> bool| {
            let work = || (!stop()).then(|| make(number));
            caught(work, || format!("batch {number}"))
        };
        Self::start(Arc::new(make), steps, workers, prefetch)
    }

    fn start(
        make: Arc<Make<T>>,
        steps: Range<usize>,
        workers: usize,
        prefetch: usize,
    ) -> Result<Self, DataError> {
        let Range { start: from, end } = steps;
        let stop = Arc::new(AtomicBool::new(false));
        let mut batches = Self {
            interrupt: None,
            make,
            next: from.min(end),
            end,
            stop,
            ready: None,
            tokens: None,
            early: BTreeMap::new(),
            threads: Vec::new(),
        };
        let workers = workers.min(end.saturating_sub(from));
        if workers == 0 {
            return Ok(batches);
        }
        let prefetch = prefetch.max(1);
        let (tokens, free) = bounded(prefetch);
        for _ in 0..prefetch {
            // There is room for every token.
            let _ = tokens.try_send(());
        }
        let (done, ready) = unbounded();
        let counter = Arc::new(AtomicUsize::new(from));
        batches.ready = Some(ready);
        batches.tokens = Some(tokens);
        for worker in 0..workers {
            let (make, stop) = (Arc::clone(&batches.make), Arc::clone(&batches.stop));
            let (free, done, counter) = (free.clone(), done.clone(), Arc::clone(&counter));
            let run = move || {
                // The token comes before the number, or the slowest batch could starve.
                while free.recv().is_ok() {
                    let number = counter.fetch_add(1, Ordering::Relaxed);
                    if number >= end || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let stopped = || stop.load(Ordering::Relaxed);
                    let Some(made) = make(number, &stopped) else { return };
                    let failed = made.is_err();
                    if done.send((number, made)).is_err() || failed {
                        return;
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("refzom-loader-{worker}"));
            let handle = thread.spawn(run).map_err(|e| DataError::Worker {
                name: "the start of a thread".into(),
                message: e.to_string(),
            })?;
            batches.threads.push(handle);
        }
        Ok(batches)
    }

    /// From now on a set `flag` (by a signal handler, say) ends the waiting for a batch with [`DataError::Stopped`].
    pub fn interrupted_by(mut self, flag: Arc<AtomicBool>) -> Self {
        self.interrupt = Some(flag);
        self
    }

    /// Batches still to come.
    pub fn remaining(&self) -> usize {
        self.end - self.next
    }

    /// Whether [`next`](Iterator::next) would not wait. Without threads it always would.
    pub fn is_ready(&mut self) -> bool {
        if let Some(ready) = &self.ready {
            self.early.extend(ready.try_iter());
        }
        self.early.contains_key(&self.next)
    }

    fn interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(|flag| flag.load(Ordering::Relaxed))
    }

    fn receive(&mut self) -> Result<T, DataError> {
        let Some(ready) = &self.ready else {
            let made = (self.make)(self.next, &|| self.interrupted());
            return made.unwrap_or(Err(DataError::Stopped));
        };
        loop {
            if self.interrupted() {
                return Err(DataError::Stopped);
            }
            if let Some(made) = self.early.remove(&self.next) {
                if let Some(tokens) = &self.tokens {
                    let _ = tokens.try_send(());
                }
                return made;
            }
            match ready.recv_timeout(LOOK_UP) {
                Ok((number, made)) => drop(self.early.insert(number, made)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(DataError::Worker {
                        name: format!("batch {}", self.next),
                        message: "all worker threads have ended".into(),
                    });
                }
            }
        }
    }
}

impl<T: Send + 'static> Iterator for Batches<T> {
    type Item = Result<T, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let made = self.receive();
        self.next = if made.is_ok() { self.next + 1 } else { self.end };
        if made.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        Some(made)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An error ends the epoch early.
        (usize::from(self.remaining() > 0), Some(self.remaining()))
    }
}

impl<T> Drop for Batches<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Threads that wait for a token wake up when no sender is left.
        self.tokens = None;
        // Threads look at `stop` between two samples. One that hangs in a dead network folder is left behind.
        let patience = Instant::now() + PATIENCE;
        while self.threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(1));
        }
        for thread in self.threads.drain(..).filter(JoinHandle::is_finished) {
            // Panics were turned into errors already.
            let _ = thread.join();
        }
    }
}
