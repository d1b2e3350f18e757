//! Estimated activation memory against what real training passes hold, their bookkeeping (a kilobyte an operation) included.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use backbones::{ResNetConfig, SwinConfig};
use candle_core::{DType, Device, Tensor};
use dmmi_model::cost::{Pass, total};
use dmmi_model::{BackboneConfig, Dmmi, DmmiConfig, DmmiInput, LossConfig, LossTerms, Targets};
use nn_ops::{Mode, Noise, ParamStore};

/// The system's allocator, counting.
struct Counting;

static ALIVE: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALIVE.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALIVE.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALIVE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

/// Numbers (f32) that a training pass over one sample holds until its backward pass.
fn held(cfg: &DmmiConfig, (h, w): (usize, usize), l: usize) -> u64 {
    let store = ParamStore::new(1);
    let device = Device::Cpu;
    let model = Dmmi::new(cfg, store.builder(DType::F32, &device)).unwrap();
    let pixels = Tensor::arange(0f32, (3 * h * w) as f32, &device).unwrap().sin().unwrap();
    let ids = Tensor::ones((1, l), DType::U32, &device).unwrap();
    let input = DmmiInput {
        images: pixels.reshape((1, 3, h, w)).unwrap(),
        erased_ids: Some(ids.clone()),
        attention: ids.ones_like().unwrap(),
        ids,
    };
    let targets = Targets {
        masks: Tensor::zeros((1, h, w), DType::U8, &device).unwrap(),
        has_target: Tensor::new(&[1u8], &device).unwrap(),
    };
    let pass = || {
        let noise = Noise::new(1, 0);
        let out = model.forward(&input, Mode::Train(&noise)).unwrap();
        let loss = LossConfig::release();
        LossTerms::of(&out, &targets, &loss).unwrap().total(&loss).unwrap()
    };
    // Working memory and what is made once for a size stay after a first pass; which threads met may ask for more later.
    drop(pass());
    let held = |_| {
        let before = ALIVE.load(Ordering::Relaxed);
        let loss = pass();
        let held = ALIVE.load(Ordering::Relaxed) - before;
        drop(loss);
        held
    };
    (0..4).map(held).min().unwrap() / 4
}

#[test]
fn the_estimate_is_near_what_training_holds() {
    let small = |preset: &str| {
        let mut cfg = DmmiConfig::quickstart(50);
        cfg.fusion = DmmiConfig::preset(preset, 0).unwrap().fusion;
        cfg
    };
    let resnet = BackboneConfig::Resnet(ResNetConfig { layers: [1, 2, 1, 1], width: 16 });
    let deep = BackboneConfig::Swin(SwinConfig {
        embed_dim: 32,
        depths: [2, 2, 2, 2],
        num_heads: [2, 4, 8, 16],
        drop_path: 0.2,
        ..SwinConfig::tiny_w7()
    });
    for (what, cfg) in [
        ("quickstart", small("quickstart")),
        ("paper", small("swin-base-paper")),
        ("resnet", DmmiConfig { backbone: resnet, ..small("quickstart") }),
        ("swin with padding", DmmiConfig { backbone: deep, ..small("quickstart") }),
        ("lavt", DmmiConfig::quickstart(50).into_lavt()),
    ] {
        let image = (96, 128);
        let measured = {
            let cfg = cfg.clone();
            let thread = std::thread::Builder::new().stack_size(64 << 20);
            thread.spawn(move || held(&cfg, image, 12)).unwrap().join().unwrap()
        };
        let estimate = total(&cfg.cost(image, 12, Pass::Train)).kept;
        let ratio = estimate as f64 / measured as f64;
        assert!((0.9..1.1).contains(&ratio), "{what}: estimate {estimate}, held {measured}");
    }
}
