//! Every operation on a device against the same operation on the CPU in f64: value and the gradient of every input.
//!
//! The CPU path is what the crate's tests check against finite differences. Sizes are odd, inputs lie in memory in order and
//! not; in bf16 the activations are rounded before both sides see them and parameters stay f32, as in training.

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::attend::{Projected, attend_projected};
use crate::conv::{Conv2dConfig, conv2d};
use crate::cross_entropy::{class_cross_entropy, pixel_cross_entropy};
#[cfg(feature = "cuda")]
use crate::dropout::Drawn;
use crate::dropout::{add_drop_path, drop_path, dropout};
use crate::interpolate::{Align, resize_beside, resize_bilinear};
use crate::norm::{
    batch_norm_for_selftest, centre, covariance, instance_norm, layer_norm, projected_rstd,
    scale_columns,
};
use crate::optim::{AdamW, AdamWConfig, ParamGroup};
use crate::relative::{RowIndex, relative_bias};
use crate::rows::{RowMap, take_rows};
use crate::softmax::{ScoreTerms, attention_softmax, softmax};
use crate::{
    Gradients, Linear, Mode, Noise, activation, add, add_repeated, box_sum2d, embedding,
    global_avg_pool, linear, map_to_tokens, matmul, matmul_nt, max_pool2d, mul, run_sum,
    scale_rows, text_windows, tokens_to_map, turn, weighted_sum,
};

/// One comparison.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Operation, type and layout.
    pub name: String,
    /// Largest difference, relative to the largest value of the result or gradient it belongs to.
    pub error: f64,
    /// The most it may be.
    pub tolerance: f64,
}

impl Verdict {
    /// Whether the difference is within the tolerance; not for not-a-number.
    pub fn ok(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// How inputs lie in memory: in order; with first and last dimension exchanged; in order behind another row.
const LAYOUTS: [&str; 3] = ["in order", "turned", "behind"];

type Function = Box<dyn Fn(&[Tensor]) -> Result<Tensor>>;

struct Case {
    name: &'static str,
    shapes: Vec<Vec<usize>>,
    /// Inputs before it are activations.
    params: usize,
    run: Function,
}

fn case(
    name: &'static str,
    shapes: &[&[usize]],
    params: usize,
    run: impl Fn(&[Tensor]) -> Result<Tensor> + 'static,
) -> Case {
    Case { name, shapes: shapes.iter().map(|s| s.to_vec()).collect(), params, run: Box::new(run) }
}

/// Largest error allowed in a type: f32 sums of some hundred terms in another order, the eight bits of bf16, f64.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 => 1e-10,
        DType::BF16 => 0.03,
        _ => 2e-5,
    }
}

/// Runs everything on `device`: each operation in f32, bf16 and f64, then three steps of AdamW and the clipping of
/// gradients.
///
/// # Errors
/// When an operation fails instead of giving another result.
pub fn run(device: &Device) -> Result<Vec<Verdict>> {
    let mut verdicts = Vec::new();
    for case in cases() {
        for dtype in [DType::F32, DType::BF16, DType::F64] {
            for layout in LAYOUTS {
                let name = format!("{}, {}, {layout}", case.name, dtype.as_str());
                let error = compare(&case, dtype, layout, device)
                    .map_err(|e| e.context(format!("selftest: {name}")))?;
                verdicts.push(Verdict { name, error, tolerance: tolerance(dtype) });
            }
        }
    }
    verdicts.push(optimiser(device)?);
    verdicts.push(replayed(device)?);
    verdicts.push(uploads(device)?);
    for dtype in [DType::F32, DType::BF16] {
        verdicts.push(recorded_pass(device, dtype)?);
    }
    Ok(verdicts)
}

/// Four calls of a recorded function on other inputs each, against the function itself: the same bits. On a GPU it must have
/// been recorded.
fn replayed(device: &Device) -> Result<Verdict> {
    let at =
        |shape: &[usize], seed: u32| values(shape, seed)?.to_dtype(DType::F32)?.to_device(device);
    let (weight, window) = (at(&[12, 6], 1)?, at(&[5, 12, 3, 3], 2)?);
    let run = |x: &[Tensor]| {
        let ys = activation::gelu(&linear(&x[0], &weight, None)?)?;
        let map = tokens_to_map(&ys, (5, 7))?;
        let ys = conv2d(&map, &window, None, Conv2dConfig::new(1, 1))?;
        softmax(&(ys.transpose(2, 3)?.contiguous()? + &x[1])?)
    };
    let mut recorded = crate::Replayed::new(run);
    let mut error = 0f64;
    for seed in 3..7 {
        let inputs = [at(&[2, 35, 6], seed)?, at(&[2, 5, 7, 5], seed + 10)?];
        let (a, b) = (recorded.call(&inputs)?, run(&inputs)?);
        let apart = (a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?;
        error = error.max(apart.to_scalar()?);
    }
    if device.is_cuda() && !recorded.is_recorded() {
        error = f64::INFINITY;
    }
    Ok(Verdict { name: "recorded and replayed".to_owned(), error, tolerance: 0.0 })
}

/// Six steps of a small pass with dropout of each kind, stochastic depth and running statistics, recorded and not: the same bits
/// of what is read, of gradients and of statistics. On a GPU the last ones must have been replayed.
fn recorded_pass(device: &Device, dtype: DType) -> Result<Verdict> {
    let at = |shape: &[usize], seed: u32| values(shape, seed)?.to_dtype(dtype)?.to_device(device);
    let network = || {
        let store = crate::ParamStore::new(5);
        let vb = store.builder(DType::F32, device);
        let layer = crate::linear_layer(6, 3 * 2 * 8, vb.pp("layer"))?;
        let norm = crate::batch_norm2d(16, vb.pp("norm"))?;
        Ok::<_, candle_core::Error>((store, layer, norm))
    };
    let (plain, replayed) = (network()?, network()?);
    let mut recorded = crate::RecordedPass::new();
    let mut error = 0f64;
    for step in 0..6 {
        let inputs = [
            at(&[4, 35, 6], step + 3)?,
            at(&[4, 35, 16], step + 20)?,
            at(&[4, 1100, 2 * 2 * 8], step + 40)?,
        ];
        let run = |(store, layer, norm): &(crate::ParamStore, Linear, crate::BatchNorm2d),
                   x: &[Tensor],
                   noise: &Noise| {
            let mode = Mode::Train(noise);
            let _tape = crate::Tape::begin();
            let ys = dropout(&layer.forward(&x[0])?, 0.3, mode)?;
            let near = Projected::One(&ys);
            let near = attend_projected(near, 2, ScoreTerms::default(), 0.3, mode)?;
            let far = Projected::Two(&near, &x[2]);
            let far = attend_projected(far, 2, ScoreTerms::default(), 0.3, mode)?;
            let ys = add_drop_path(&drop_path(&near, 0.2, mode)?, &far, 0.5, mode)?;
            let map = norm.forward_t(&tokens_to_map(&add(&ys, &x[1])?, (5, 7))?, mode)?;
            let loss = mul(&map, &mul(&map, &map)?)?.to_dtype(DType::F32)?.sum_all()?;
            let gradients = Gradients::of(&loss, &store.parameters())?;
            Ok((loss.detach(), gradients))
        };
        let noise = || Noise::new(9, u64::from(step));
        let expected = run(&plain, &inputs, &noise())?;
        let found = recorded.call(&inputs, &noise(), &|x, noise| run(&replayed, x, noise))?;
        let apart = |a: &Tensor, b: &Tensor| {
            let most = (a - b)?.abs()?.flatten_all()?.max(0)?.to_dtype(DType::F64)?;
            let most = most.to_scalar::<f64>()?;
            Ok::<_, candle_core::Error>(if most.is_nan() { f64::INFINITY } else { most })
        };
        error = error.max(apart(&expected.0, &found.0)?);
        for (name, gradient) in expected.1.iter() {
            let other = found.1.get(name).map(|other| apart(gradient, other)).transpose()?;
            error = error.max(other.unwrap_or(f64::INFINITY));
        }
        for (a, b) in plain.0.tensors().values().zip(replayed.0.tensors().values()) {
            error = error.max(apart(a, b)?);
        }
    }
    if device.is_cuda() && !recorded.is_recorded() {
        error = f64::INFINITY;
    }
    let name = format!("recorded pass of training, {}", dtype.as_str());
    Ok(Verdict { name, error, tolerance: 0.0 })
}

/// Batches of changing size uploaded one after another, behind work that the device is still at, with nothing waiting in
/// between: what arrives is what was sent.
fn uploads(device: &Device) -> Result<Verdict> {
    let mut uploader = crate::Uploader::new(device);
    let mut arrived = Vec::new();
    let work = values(&[2048, 2048], 9)?.to_dtype(DType::F32)?.to_device(device)?;
    for seed in 1..7u32 {
        let n = if seed == 3 { 40_001 } else { 70_000 };
        let floats = values(&[n], seed)?.to_dtype(DType::F32)?;
        let words = (Tensor::arange(0u32, n as u32, &Device::Cpu)? * f64::from(seed))?;
        let bytes = words.to_dtype(DType::U8)?.reshape((1, n))?;
        let sent = [floats, words, bytes];
        if device.is_cuda() {
            (0..8).try_for_each(|_| matmul(&work, &work).map(drop))?;
        }
        arrived.push((uploader.upload(&sent.each_ref())?, sent));
    }
    let mut error = 0f64;
    for (found, sent) in &arrived {
        for (found, sent) in found.iter().zip(sent) {
            let wide = |t: &Tensor| t.to_device(&Device::Cpu)?.to_dtype(DType::F64);
            let apart = (wide(found)? - wide(sent)?)?.abs()?.flatten_all()?.max(0)?;
            error = error.max(apart.to_scalar()?);
        }
    }
    Ok(Verdict { name: "uploads".to_owned(), error, tolerance: 0.0 })
}

fn cases() -> Vec<Case> {
    let conv = |k: usize, stride: usize, padding: usize| {
        move |x: &[Tensor]| {
            conv2d(&x[0], &x[1], x.get(2), Conv2dConfig { stride, padding: (padding, k / 2) })
        }
    };
    let scores = |with_bias: bool, w: usize, rows: usize| {
        move |x: &[Tensor]| {
            let k = x[0].dim(3)?;
            let mask = values(&[w, rows, k], 5)?.to_device(x[0].device())?;
            let mask = (mask * 3.0)?.to_dtype(x[0].dtype())?;
            let bias = if with_bias { x.get(1) } else { None };
            attention_softmax(&x[0], 0.3, ScoreTerms { bias, mask: Some(&mask) })
        }
    };
    let resize = |h: usize, w: usize, align: Align| {
        move |x: &[Tensor]| resize_bilinear(&x[0], (h, w), align)
    };
    let norm = |x: &[Tensor]| layer_norm(&x[0], &x[1], &x[2], 1e-5);
    vec![
        case("relu", &[&[5, 7, 3]], 1, |x| activation::relu(&x[0])),
        case("gelu", &[&[5, 7, 3]], 1, |x| activation::gelu(&x[0])),
        case("gelu, by fours", &[&[6, 8]], 1, |x| activation::gelu(&x[0])),
        case("linear", &[&[3, 5, 7], &[6, 7], &[6]], 1, |x| linear(&x[0], &x[1], Some(&x[2]))),
        case("linear, by fours", &[&[5, 8], &[12, 8], &[12]], 1, |x| {
            linear(&x[0], &x[1], Some(&x[2]))
        }),
        case("linear and gelu", &[&[3, 5, 7], &[6, 7], &[6]], 1, |x| {
            Linear::new(x[1].clone(), Some(x[2].clone())).forward_gelu(&x[0])
        }),
        case("linear and gelu, by fours", &[&[5, 8], &[12, 8], &[12]], 1, |x| {
            Linear::new(x[1].clone(), Some(x[2].clone())).forward_gelu(&x[0])
        }),
        case("linear and relu", &[&[3, 5, 7], &[6, 7], &[6]], 1, |x| {
            Linear::new(x[1].clone(), Some(x[2].clone())).forward_relu(&x[0])
        }),
        case("linear without bias", &[&[9, 7], &[5, 7]], 1, |x| linear(&x[0], &x[1], None)),
        case("linear, one row", &[&[1, 7], &[5, 7], &[5]], 1, |x| {
            linear(&x[0], &x[1], Some(&x[2]))
        }),
        case("matmul", &[&[2, 3, 5, 7], &[2, 3, 7, 4]], 2, |x| matmul(&x[0], &x[1])),
        case("matmul by a parameter", &[&[5, 7], &[7, 4]], 1, |x| matmul(&x[0], &x[1])),
        case("centre", &[&[2, 37, 5]], 1, |x| centre(&x[0])),
        case("centre, by fours", &[&[3, 700, 8]], 1, |x| centre(&x[0])),
        case("covariance", &[&[2, 33, 6]], 1, |x| covariance(&x[0])),
        case("covariance of one", &[&[1, 40, 8]], 1, |x| covariance(&x[0])),
        case("projected rstd", &[&[2, 33, 6], &[9, 6]], 1, |x| {
            projected_rstd(&covariance(&x[0])?, &x[1], None, 0.1)
        }),
        case("columns scaled", &[&[3, 5, 7], &[3, 1, 7]], 1, |x| scale_columns(&x[0], &x[1])),
        case("columns of all scaled alike", &[&[3, 5, 8], &[1, 1, 8]], 1, |x| {
            scale_columns(&x[0], &x[1])
        }),
        case("matmul, transposed", &[&[6, 5, 7], &[6, 9, 7]], 2, |x| matmul_nt(&x[0], &x[1])),
        case("matmul, one column", &[&[2, 5, 7], &[2, 1, 7]], 2, |x| matmul_nt(&x[0], &x[1])),
        case("layer norm", &[&[3, 5, 33], &[33], &[33]], 1, norm),
        case("layer norm, by fours", &[&[3, 5, 96], &[96], &[96]], 1, norm),
        case("layer norm of 600", &[&[5, 600], &[600], &[600]], 1, norm),
        case("layer norm, many rows", &[&[700, 130], &[130], &[130]], 1, norm),
        case("instance norm", &[&[2, 37, 5]], 1, |x| instance_norm(&x[0], 1e-5)),
        case("instance norm, many cells", &[&[2, 1500, 35]], 1, |x| instance_norm(&x[0], 1e-5)),
        case("batch norm", &[&[3, 5, 4, 7], &[5], &[5]], 1, batch_norm_for_selftest),
        case("batch norm, large", &[&[2, 3, 20, 36], &[3], &[3]], 1, batch_norm_for_selftest),
        case("softmax", &[&[4, 3, 7]], 1, |x| softmax(&x[0])),
        case("softmax, bias and mask", &[&[4, 2, 3, 20], &[2, 3, 20]], 1, scores(true, 2, 3)),
        case("softmax of 144", &[&[4, 3, 5, 144], &[3, 5, 144]], 1, scores(true, 4, 5)),
        case("softmax of 300", &[&[2, 2, 3, 300], &[2, 3, 300]], 1, scores(true, 2, 1)),
        case("softmax of 1500", &[&[2, 1, 3, 1500]], 1, scores(false, 1, 1)),
        case("conv 3x3", &[&[2, 5, 9, 11], &[7, 5, 3, 3], &[7]], 1, conv(3, 1, 1)),
        case("conv 3x3 without bias", &[&[3, 8, 10, 12], &[8, 8, 3, 3]], 1, conv(3, 1, 1)),
        case("conv 3x3, stride 2", &[&[2, 4, 9, 11], &[6, 4, 3, 3]], 1, conv(3, 2, 1)),
        case("conv 7x7, stride 2", &[&[2, 3, 17, 13], &[4, 3, 7, 7]], 1, conv(7, 2, 3)),
        case("conv 5x5", &[&[2, 4, 8, 7], &[5, 4, 5, 5], &[5]], 1, conv(5, 1, 2)),
        case("conv 4x4, stride 4", &[&[2, 3, 17, 18], &[6, 3, 4, 4], &[6]], 1, conv(4, 4, 0)),
        case("conv 1x1", &[&[2, 6, 5, 7], &[2, 6, 1, 1], &[2]], 1, conv(1, 1, 0)),
        case("resize, corners, up", &[&[2, 3, 5, 7]], 1, resize(13, 15, Align::Corners)),
        case("resize, corners, down", &[&[2, 3, 11, 13]], 1, resize(4, 5, Align::Corners)),
        case("resize, corners, one cell", &[&[2, 3, 4, 1]], 1, resize(1, 6, Align::Corners)),
        case("resize, edges, up", &[&[2, 3, 5, 7]], 1, resize(20, 9, Align::Edges)),
        case("resize, edges, down", &[&[2, 3, 12, 9]], 1, resize(5, 4, Align::Edges)),
        case("resize beside", &[&[2, 3, 5, 7], &[2, 2, 9, 12]], 2, |x| {
            resize_beside(&x[0], &x[1], Align::Corners)
        }),
        case("resize beside, the same size", &[&[2, 3, 4, 4], &[2, 5, 4, 4]], 2, |x| {
            resize_beside(&x[0], &x[1], Align::Corners)
        }),
        case("max-pool", &[&[2, 3, 9, 11]], 1, |x| max_pool2d(&x[0], 3, 2, 1)),
        case("box sums", &[&[2, 35, 3]], 1, |x| box_sum2d(&x[0], (5, 7), 3)),
        case("run sums", &[&[2, 11, 5]], 1, |x| run_sum(&x[0], 3)),
        case("dropout", &[&[5, 7, 11]], 1, |x| dropout(&x[0], 0.3, Mode::Train(&Noise::new(3, 4)))),
        case("drop path", &[&[6, 7, 3]], 1, |x| {
            drop_path(&x[0], 0.4, Mode::Train(&Noise::new(3, 4)))
        }),
        case("sum with drop path", &[&[6, 7, 3], &[6, 7, 3]], 2, |x| {
            add_drop_path(&x[0], &x[1], 0.4, Mode::Train(&Noise::new(3, 4)))
        }),
        case("take windows", &[&[2, 7, 8], &[8]], 1, |x| {
            let map = RowMap::new([Some(3), None, Some(0), Some(6), None, Some(5)], 7)?;
            let ys = take_rows(&x[0], &map.clone().in_groups_of(3)?, Some(&x[1]))?;
            take_rows(&(ys * 2.0)?, &map.inverse(), None)
        }),
        case("embedding", &[&[9, 5]], 0, |x| {
            let ids = Tensor::new(&[[1u32, 0, 8], [8, 3, 8]], x[0].device())?;
            embedding(&x[0], &ids, Some(0))
        }),
        case("relative bias", &[&[9, 4]], 0, |x| {
            let index = (0..36u32).map(|i| i * 7 % 8).collect();
            relative_bias(&x[0], &RowIndex::new(index, 9, x[0].device())?)
        }),
        case("take rows", &[&[2, 7, 5], &[5]], 1, |x| {
            let map = RowMap::new([Some(3), None, Some(0), Some(6), None, Some(5)], 7)?;
            take_rows(&x[0], &map, Some(&x[1]))
        }),
        case("take rows, by fours", &[&[3, 4, 8]], 1, |x| {
            take_rows(&x[0], &RowMap::new([Some(2), None, Some(0)], 4)?, None)
        }),
        case("conv 3x3 of tokens", &[&[2, 35, 8], &[16, 8, 3, 3], &[16]], 1, of_tokens(3)),
        case("conv 5x5 of tokens", &[&[2, 35, 16], &[8, 16, 5, 5], &[8]], 1, of_tokens(5)),
        case("conv 3x3 of tokens, odd channels", &[&[2, 35, 5], &[3, 5, 3, 3]], 1, of_tokens(3)),
        case("conv 1x1 of tokens", &[&[2, 35, 12], &[2, 12, 1, 1], &[2]], 1, of_tokens(1)),
        case("batch norm of tokens", &[&[3, 35, 8], &[8], &[8]], 1, |x| {
            let map = tokens_to_map(&x[0], (5, 7))?;
            batch_norm_for_selftest(&[map, x[1].clone(), x[2].clone()])
        }),
        case("batch norm of many tokens", &[&[2, 1200, 35], &[35], &[35]], 1, |x| {
            let map = tokens_to_map(&x[0], (30, 40))?;
            map_to_tokens(&batch_norm_for_selftest(&[map, x[1].clone(), x[2].clone()])?)
        }),
        case("resize beside tokens", &[&[2, 12, 8], &[2, 70, 4]], 2, |x| {
            let (coarse, fine) = (tokens_to_map(&x[0], (3, 4))?, tokens_to_map(&x[1], (10, 7))?);
            resize_beside(&coarse, &fine, Align::Corners)
        }),
        case("resize a map beside tokens", &[&[2, 3, 3, 4], &[2, 35, 5]], 2, |x| {
            resize_beside(&x[0], &tokens_to_map(&x[1], (5, 7))?, Align::Corners)
        }),
        case("average of tokens", &[&[2, 35, 6]], 1, |x| {
            global_avg_pool(&tokens_to_map(&x[0], (5, 7))?)
        }),
        case("maps of tokens", &[&[2, 35, 6], &[2, 35, 6]], 2, |x| {
            let (a, b) = (tokens_to_map(&x[0], (5, 7))?, tokens_to_map(&x[1], (5, 7))?);
            let sum = add(&activation::relu(&a)?, &b)?;
            add(&map_to_tokens(&sum)?, &map_to_tokens(&a)?)
        }),
        case("tanh", &[&[5, 7, 3]], 1, |x| activation::tanh(&x[0])),
        case("sum and product", &[&[5, 7, 3], &[5, 7, 3]], 2, |x| {
            mul(&add(&x[0], &x[1])?, &mul(&x[1], &x[1])?)
        }),
        case("sum with a part", &[&[3, 5, 7], &[5, 7]], 1, |x| add_repeated(&x[0], &x[1])),
        case("rows by factors", &[&[3, 5, 7]], 1, |x| {
            scale_rows(
                &x[0],
                &values(&[3, 5, 1], 5)?.to_device(x[0].device())?.to_dtype(x[0].dtype())?,
            )
        }),
        case("weighted sum", &[&[2, 1, 35, 5], &[2, 1, 35, 5], &[2, 1, 35, 5], &[3]], 3, |x| {
            weighted_sum(&x[..3], &x[3])
        }),
        case("weighted sum of one", &[&[2, 3, 700, 5], &[1]], 1, |x| weighted_sum(&x[..1], &x[1])),
        case("turn", &[&[2, 35, 37]], 1, |x| turn(&x[0])),
        case("attend, one projection", &[&[4, 9, 3 * 2 * 5], &[2, 9, 9]], 1, |x| {
            attended(Projected::One(&x[0]), x.get(1), 2, 0.0)
        }),
        case("attend, two projections", &[&[2, 40, 2 * 8], &[2, 7, 2 * 2 * 8]], 2, |x| {
            attended(Projected::Two(&x[0], &x[1]), None, 2, 0.0)
        }),
        case("attend, three projections", &[&[2, 5, 6], &[2, 7, 6], &[2, 7, 6]], 3, |x| {
            attended(Projected::Three(&x[0], &x[1], &x[2]), None, 3, 0.0)
        }),
        case("attend with dropout", &[&[3, 9, 3 * 2 * 5]], 1, |x| {
            attended(Projected::One(&x[0]), None, 2, 0.3)
        }),
        case("attend over many keys", &[&[1, 9, 2 * 8], &[1, 1200, 2 * 2 * 8]], 2, |x| {
            attended(Projected::Two(&x[0], &x[1]), None, 2, 0.3)
        }),
        case(
            "attend over many keys, no dropout",
            &[&[2, 5, 2 * 4], &[2, 1028, 2 * 2 * 4]],
            2,
            |x| attended(Projected::Two(&x[0], &x[1]), None, 2, 0.0),
        ),
        case("attend, windows of 144", &[&[4, 144, 3 * 2 * 32], &[2, 144, 144]], 1, |x| {
            attended(Projected::One(&x[0]), x.get(1), 2, 0.0)
        }),
        case("attend, many windows", &[&[250, 17, 3 * 3 * 32], &[3, 17, 17]], 1, |x| {
            attended(Projected::One(&x[0]), x.get(1), 3, 0.0)
        }),
        case(
            "attend, heads of 96 with dropout",
            &[&[2, 200, 2 * 96], &[2, 130, 2 * 2 * 96]],
            2,
            |x| attended(Projected::Two(&x[0], &x[1]), None, 2, 0.1),
        ),
        case("attend, words", &[&[3, 20, 128], &[3, 20, 128], &[3, 20, 128]], 3, |x| {
            // Sentences of 20, 16 and 12 words.
            let word = |i: u32| if i % 20 < 20 - i / 20 * 4 { 0f32 } else { -1e4 };
            let mask = (0..60).map(word).collect::<Vec<_>>();
            let mask = Tensor::from_vec(mask, (3, 1, 20), x[0].device())?;
            let terms = ScoreTerms { bias: None, mask: Some(&mask) };
            attend_projected(Projected::Three(&x[0], &x[1], &x[2]), 2, terms, 0.0, Mode::Eval)
        }),
        case("attend, heads of 128", &[&[2, 70, 3 * 128], &[1, 70, 70]], 1, |x| {
            attended(Projected::One(&x[0]), x.get(1), 1, 0.2)
        }),
        case("attend, a group at a time", &[&[5, 9, 3 * 2 * 5], &[2, 9, 9]], 1, |x| {
            #[cfg(feature = "cuda")]
            if x[0].device().is_cuda() && x[0].dtype() != DType::F64 {
                let terms = ScoreTerms { bias: x.get(1), mask: None };
                let drop = Some(Drawn::new(&Noise::new(3, 4), 0.3)?);
                return crate::cuda::attend(Projected::One(&x[0]), 2, terms, drop, 1);
            }
            let terms = ScoreTerms { bias: x.get(1), mask: None };
            let mode = Noise::new(3, 4);
            attend_projected(Projected::One(&x[0]), 2, terms, 0.3, Mode::Train(&mode))
        }),
        case("cross-entropy", &[&[3, 2, 7, 9]], 1, |x| {
            let fore: Vec<u8> = (0..3 * 63).map(|i| u8::from(i * i % 7 < 3)).collect();
            let masks = Tensor::from_vec(fore, (3, 7, 9), x[0].device())?;
            pixel_cross_entropy(&(&x[0] * 3.0)?, &masks, [0.9, 1.1])
        }),
        case("cross-entropy of classes", &[&[3, 5, 7, 9]], 1, |x| {
            // The sixth does not count.
            let classes: Vec<u32> = (0..3 * 63).map(|i| i * i % 11 % 6).collect();
            let classes = Tensor::from_vec(classes, (3, 7, 9), x[0].device())?;
            class_cross_entropy(&(&x[0] * 3.0)?, &classes)
        }),
        case("text windows", &[&[2, 6, 5]], 1, |x| text_windows(&x[0], 3)),
        case("text windows of two", &[&[2, 6, 5]], 1, |x| text_windows(&x[0], 2)),
        case("text windows longer than the text", &[&[3, 2, 5]], 1, |x| text_windows(&x[0], 5)),
        case("text windows of one token", &[&[3, 1, 5]], 1, |x| text_windows(&x[0], 3)),
        case("global average", &[&[2, 3, 5, 7]], 1, |x| global_avg_pool(&x[0])),
    ]
}

/// A convolution with a square kernel of a map of 5 x 7 cells, tokens to tokens.
fn of_tokens(k: usize) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    move |x| {
        let map = tokens_to_map(&x[0], (5, 7))?;
        map_to_tokens(&conv2d(&map, &x[1], x.get(2), Conv2dConfig::new(1, k / 2))?)
    }
}

/// With a mask over all keys of every second group where there is a bias.
fn attended(x: Projected, bias: Option<&Tensor>, heads: usize, p: f64) -> Result<Tensor> {
    let noise = Noise::new(3, 4);
    let mask = match (bias, x) {
        (Some(_), Projected::One(t)) => {
            let n = t.dim(1)?;
            Some((values(&[2, n, n], 5)? * 3.0)?.to_dtype(DType::F32)?.to_device(t.device())?)
        }
        _ => None,
    };
    let terms = ScoreTerms { bias, mask: mask.as_ref() };
    attend_projected(x, heads, terms, p, Mode::Train(&noise))
}

fn compare(case: &Case, dtype: DType, layout: &str, device: &Device) -> Result<f64> {
    let mut exact = Vec::new();
    let mut tested = Vec::new();
    for (i, shape) in case.shapes.iter().enumerate() {
        let own = if dtype == DType::BF16 && i >= case.params { DType::F32 } else { dtype };
        let rounded = values(shape, i as u32 + 1)?.to_dtype(own)?;
        exact.push(rounded.to_dtype(DType::F64)?);
        tested.push(rounded.to_device(device)?);
    }
    let view = |t: &Tensor| match t.rank() {
        r if layout == "turned" && r > 1 => {
            t.transpose(0, r - 1)?.contiguous()?.transpose(0, r - 1)
        }
        r if layout == "behind" && r > 0 => {
            Tensor::cat(&[&t.narrow(0, 0, 1)?, t], 0)?.narrow(0, 1, t.dim(0)?)
        }
        _ => Ok(t.clone()),
    };
    let run = |inputs: &[Tensor]| {
        results(inputs, &|x| (case.run)(&x.iter().map(view).collect::<Result<Vec<_>>>()?))
    };
    Ok(distance(&run(&tested)?, &run(&exact)?))
}

/// Three steps of AdamW with clipping on both devices, the parameters after them.
fn optimiser(device: &Device) -> Result<Verdict> {
    let train = |device: &Device| -> Result<Vec<Vec<f64>>> {
        let shapes: [&[usize]; 3] = [&[3, 5], &[70, 301], &[7]];
        let params = (0u32..).zip(shapes).map(|(i, s)| {
            let t = values(s, i)?.to_dtype(DType::F32)?.to_device(device)?;
            Ok((format!("p{i}"), Var::from_tensor(&t)?))
        });
        let params = params.collect::<Result<Vec<_>>>()?;
        let group = |name: &str, params: &[(String, Var)], weight_decay, lr_scale| ParamGroup {
            name: name.to_owned(),
            params: params.to_vec(),
            weight_decay,
            lr_scale,
        };
        let groups = vec![group("a", &params[..2], 0.1, 1.0), group("b", &params[2..], 0.0, 0.5)];
        let mut adamw = AdamW::new(groups, AdamWConfig::default())?;
        let mut norms = Vec::new();
        for step in 0..3u32 {
            let grads = params.iter().map(|(name, var)| {
                let g = values(var.dims(), 50 + step)?.to_dtype(DType::F32)?.to_device(device)?;
                Ok((name.clone(), g))
            });
            let mut grads = Gradients::from_map(grads.collect::<Result<_>>()?);
            norms.push(grads.clip(if step == 1 { 3.0 } else { 1e9 })?);
            adamw.step(&grads, 0.01)?;
        }
        let mut all = vec![norms];
        for (_, var) in &params {
            all.push(flat(var.as_tensor())?);
        }
        Ok(all)
    };
    let error = distance(&train(device)?, &train(&Device::Cpu)?);
    Ok(Verdict { name: "AdamW, f32".into(), error, tolerance: tolerance(DType::F32) })
}

/// `shape` filled with f64 values in (-1, 1) without a visible pattern, decided by `seed`.
pub(crate) fn values(shape: &[usize], seed: u32) -> Result<Tensor> {
    let unit = |i: u32| {
        let mut x = i.wrapping_mul(0x9E37_79B9) ^ seed.wrapping_mul(0x27D4_EB2F);
        x ^= x >> 16;
        x = x.wrapping_mul(0x85EB_CA6B);
        x ^= x >> 13;
        x = x.wrapping_mul(0xC2B2_AE35);
        x ^= x >> 16;
        f64::from(x >> 8) / 8_388_608.0 - 1.0
    };
    let n: usize = shape.iter().product();
    Tensor::from_vec((0..n as u32).map(unit).collect::<Vec<_>>(), shape, &Device::Cpu)
}

fn flat(t: &Tensor) -> Result<Vec<f64>> {
    t.to_device(&Device::Cpu)?.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()
}

/// The result and the gradient of every input, all as f64, for an uneven sum of the result.
pub(crate) fn results(
    inputs: &[Tensor],
    f: &dyn Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Vec<Vec<f64>>> {
    let vars = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    let tracked: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = f(&tracked)?;
    // Multiples of 1/64: exact in every type.
    let probe = ((values(out.dims(), 99)? * 64.0)?.round()? / 64.0)?;
    let probe = probe.to_dtype(out.dtype())?.to_device(out.device())?;
    let grads = out.mul(&probe)?.sum_all()?.backward()?;
    let mut all = vec![flat(&out)?];
    for (i, v) in vars.iter().enumerate() {
        let Some(g) = grads.get(v) else { candle_core::bail!("input {i} got no gradient") };
        if g.dims() != v.dims() {
            candle_core::bail!("gradient {i} is {:?} for {:?}", g.dims(), v.dims());
        }
        all.push(flat(g)?);
    }
    Ok(all)
}

/// Largest difference, relative to the largest value of the result or gradient it belongs to; infinite for results of other
/// sizes and for not-a-number.
pub(crate) fn distance(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let one = |(a, b): (&Vec<f64>, &Vec<f64>)| {
        if a.len() != b.len() {
            return f64::INFINITY;
        }
        let scale = b.iter().fold(1e-3f64, |m, v| m.max(v.abs()));
        a.iter().zip(b).fold(0.0f64, |m, (x, y)| {
            let d = (x - y).abs() / scale;
            if d.is_nan() { f64::INFINITY } else { m.max(d) }
        })
    };
    if a.len() != b.len() { f64::INFINITY } else { a.iter().zip(b).map(one).fold(0.0, f64::max) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself_in_every_type() -> Result<()> {
        let verdicts = run(&Device::Cpu)?;
        let bad: Vec<_> = verdicts.iter().filter(|v| !v.ok()).collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert!(verdicts.len() > 200);
        Ok(())
    }

    #[test]
    fn a_wrong_result_is_seen() {
        assert!(distance(&[vec![1.0, 2.0]], &[vec![1.0, 2.1]]) > 0.04);
        assert_eq!(distance(&[vec![f64::NAN]], &[vec![1.0]]), f64::INFINITY);
        assert_eq!(distance(&[vec![1.0]], &[]), f64::INFINITY);
    }
}
