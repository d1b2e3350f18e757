//! Settings of the process that decide speed and nothing else: allocator, threads, stacks.

use std::process::ExitCode;

use crate::exit;

/// Freed blocks are kept: fresh pages from the system cost as much as the arithmetic on them. A loaded model's weights stay
/// in the pages of their file.
#[global_allocator]
static ALLOCATOR: mapped_vec::Mapped<mimalloc::MiMalloc> =
    mapped_vec::Mapped::new(mimalloc::MiMalloc);

/// Milliseconds before freed pages go back to the system. The allocator's own 1 s or less empties and refills the heap
/// within every training step (measured: 83,000 page faults in 30 steps instead of 600, 8 % of the time).
const PURGE_DELAY_MS: std::ffi::c_long = 10_000;

/// `mi_option_purge_delay` of mimalloc's C header.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Candle's backward pass recurses over the graph; the default 8 MB (2 MB on a thread) is too small for it.
/// Only the pages that are used cost memory.
const STACK_BYTES: usize = 512 << 20;

/// Rounds for which Candle's own threads wait actively between two operations. Its default (25,000) takes the cores from
/// our kernels, which run on rayon's threads (measured on two cores: a step of 0.31 s instead of 0.26 s).
const SPINS: &str = "100";

/// Threads of rayon's pool and of Candle's, instead of one a core; to be called before [`run`].
pub(crate) fn set_threads(count: Option<u32>) {
    for key in ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"] {
        if let Some(count) = count {
            // SAFETY: no other thread exists yet that could read the environment.
            unsafe { std::env::set_var(key, count.to_string()) };
        }
    }
}

/// Sets the allocator; to be called before anything else: what is freed before waits a second only, and everything freed
/// until then goes with it (78 MB within a first mask).
pub(crate) fn keep_pages() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: an option of the allocator, set before any other thread exists.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    }
}

/// Runs `work` on a thread of rayon's pool, so that parallel kernels start without a hand-over between threads.
/// `in_parts`: steps are computed in parts at the same time (`schedule.parts`); Candle's own threads, which serve one
/// caller at a time, then only stand in the way.
pub(crate) fn run(in_parts: bool, work: impl FnOnce() -> anyhow::Result<()> + Send) -> ExitCode {
    let threads = in_parts.then_some(("CANDLE_NUM_THREADS", "1"));
    for (key, value) in [("CANDLE_BARRIER_POOL_SPIN_LIMIT", SPINS)].into_iter().chain(threads) {
        if std::env::var_os(key).is_none() {
            // SAFETY: no other thread exists yet that could read the environment.
            unsafe { std::env::set_var(key, value) };
        }
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .stack_size(STACK_BYTES)
        .thread_name(|i| format!("dmmi-{i}"))
        .build_global();
    if let Err(error) = pool {
        return exit::report(Err(anyhow::Error::from(error).context(
            "cannot start the working threads; allow this process 512 MB of address space for each, or set RAYON_NUM_THREADS",
        )));
    }
    // A panic has printed its own message; it is a defect of ours, never the user's.
    let done = std::panic::AssertUnwindSafe(|| rayon::scope(|_| exit::report(work())));
    std::panic::catch_unwind(done).unwrap_or(ExitCode::from(exit::FAILURE))
}
