//! One case: an operation on variables of given shapes.

use std::time::Duration;

use candle_core::{Device, Result, Tensor, Var};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput};

/// An operation on inputs of `shapes`.
pub(crate) type Op<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

pub(crate) struct Case<'a> {
    pub(crate) name: &'a str,
    pub(crate) shapes: &'a [&'a [usize]],
    /// Multiplications of the forward pass, or nothing: then elements of the first input are counted.
    pub(crate) products: Option<usize>,
}

pub(crate) fn var(shape: &[usize]) -> Var {
    let n: usize = shape.iter().product();
    let v: Vec<f32> = (0..n).map(|i| (i * 7919 % 4001) as f32 / 1000.0 - 2.0).collect();
    Var::from_tensor(&Tensor::from_vec(v, shape, &Device::Cpu).unwrap()).unwrap()
}

/// Ten samples, few passes each: the whole file is to take minutes.
pub(crate) fn group<'c>(c: &'c mut Criterion, name: &str) -> BenchmarkGroup<'c, WallTime> {
    let mut group = c.benchmark_group(name);
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_millis(200));
    group
}

impl Case<'_> {
    /// Forward, and with the backward pass.
    pub(crate) fn run(&self, c: &mut Criterion, f: Op) {
        self.beside(c, f, None);
    }

    /// The same, and a composition of Candle's operations.
    pub(crate) fn beside(&self, c: &mut Criterion, f: Op, candle: Option<Op>) {
        let vars: Vec<Var> = self.shapes.iter().map(|s| var(s)).collect();
        let frozen: Vec<Tensor> = vars.iter().map(Var::as_detached_tensor).collect();
        let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let mut group = group(c, self.name);
        let elements = self.products.unwrap_or_else(|| frozen[0].elem_count());
        group.throughput(Throughput::Elements(elements as u64));
        for (f, forward, both) in
            [(Some(f), "forward", "both"), (candle, "candle forward", "candle both")]
        {
            let Some(f) = f else { continue };
            group.bench_function(forward, |b| b.iter(|| f(&frozen).unwrap()));
            group.bench_function(both, |b| b.iter(|| f(&tracked).unwrap().backward().unwrap()));
        }
    }

    /// Forward only: an operation of inference.
    pub(crate) fn forward(&self, c: &mut Criterion, f: Op) {
        let inputs: Vec<Tensor> = self.shapes.iter().map(|s| var(s).as_detached_tensor()).collect();
        let mut group = group(c, self.name);
        let elements = self.products.unwrap_or_else(|| inputs[0].elem_count());
        group.throughput(Throughput::Elements(elements as u64));
        group.bench_function("forward", |b| b.iter(|| f(&inputs).unwrap()));
    }
}
