//! What belongs to a step: AdamW, clipping, checkpointing, a decoder layer.

use candle_core::{DType, Device, Tensor};
use criterion::{Criterion, Throughput};
use nn_ops::{AdamW, AdamWConfig, DecoderLayerConfig, Gradients, Mode, Noise, ParamGroup, Tape};

use crate::harness::{Case, group, var};

pub(crate) fn training(c: &mut Criterion) {
    // Twelve matrices of 4 Mi values: a quarter of the Swin-B model.
    let params: Vec<_> = (0..12).map(|i| (format!("w{i}"), var(&[2048, 2048]))).collect();
    let by_name = params.iter().map(|(n, v)| (n.clone(), v.as_detached_tensor()));
    let mut grads = Gradients::from_map(by_name.collect());
    let all = ParamGroup {
        name: "all".into(),
        params: params.clone(),
        weight_decay: 0.01,
        lr_scale: 1.0,
    };
    let mut adamw = AdamW::new(vec![all], AdamWConfig::default()).unwrap();
    let mut sweep = group(c, "parameters 12x2048x2048");
    sweep.throughput(Throughput::Elements(12 << 22));
    sweep.bench_function("adamw step", |b| b.iter(|| adamw.step(&grads, 1e-4).unwrap()));
    sweep.bench_function("norm and clip", |b| b.iter(|| grads.clip(1e9).unwrap()));
    sweep.finish();
    drop((adamw, grads, params));

    let noise = Noise::new(1, 1);
    let (x, w) = (var(&[1, 900, 512]), var(&[2048, 512]));
    let params = [("x".to_string(), x.clone()), ("w".to_string(), w.clone())];
    let segment = move |x: &[Tensor], _: Mode| nn_ops::gelu(&nn_ops::linear(&x[0], &w, None)?);
    let mut kept = group(c, "linear, gelu 900x512 to 2048");
    for (name, checkpointed, taped) in
        [("both, checkpoint", true, false), ("both", false, false), ("both, tape", false, true)]
    {
        kept.bench_function(name, |b| {
            b.iter(|| {
                let _tape = taped.then(Tape::begin);
                let train = Mode::Train(&noise);
                let y = if checkpointed {
                    nn_ops::checkpoint(&[&x], train, segment.clone()).unwrap()
                } else {
                    segment(&[x.as_tensor().clone()], train).unwrap()
                };
                Gradients::of(&y.sum_all().unwrap(), &params).unwrap()
            });
        });
    }
    kept.finish();

    let store = nn_ops::ParamStore::new(1);
    let vb = store.builder(DType::F32, &Device::Cpu);
    let cfg = DecoderLayerConfig { dim: 768, heads: 8, feed_forward: 2048, dropout: 0.1 };
    let layer = nn_ops::TransformerDecoderLayer::new(&cfg, vb).unwrap();
    let shapes: [&[usize]; 2] = [&[1, 20, 768], &[1, 900, 768]];
    let case = Case { name: "decoder layer 20 over 900", shapes: &shapes, products: None };
    case.run(c, &|x| layer.forward_t(&x[0], &x[1], Mode::Train(&noise)));
}
