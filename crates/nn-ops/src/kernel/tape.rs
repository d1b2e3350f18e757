//! A tape: the operations of this crate in the order of a forward pass, differentiated without Candle's graph.
//!
//! Candle's graph adds every gradient to zeros first, and keeps all values until the loss is gone. Operations on a tape are run
//! backwards by [`Gradients::of`](crate::Gradients::of), the latest first, and each is forgotten with what it holds as soon
//! as its gradients went on. Between them Candle may compute what it likes: it sees each result as depending on the root of
//! the tape, and is asked for the gradients of its own operations piece by piece.

use std::cell::RefCell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

#[cfg(feature = "cuda")]
use candle_core::DType;
use candle_core::backprop::GradStore;
use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, Layout, Result, Shape, Storage, Tensor, TensorId, Var, bail,
};

use super::attach::{Backward, unset};
use super::link::{Link, View};
use crate::pass;

thread_local! {
    /// The tapes of this thread, the innermost last; none: recording is suspended. A thread that waits for others may take
    /// up other work meanwhile, with a tape of its own.
    static TAPES: RefCell<Vec<Option<Record>>> = const { RefCell::new(Vec::new()) };
}

/// Parameters with their values, which are to be cast to bf16.
#[cfg(feature = "cuda")]
pub(crate) type Casts = Vec<(TensorId, Tensor)>;

#[cfg(feature = "cuda")]
thread_local! {
    /// What passes on this thread cast from f32, while somebody asks.
    static SEEN: RefCell<Option<Casts>> = const { RefCell::new(None) };
    /// What the next tapes of this thread will ask for.
    static AHEAD: RefCell<Casts> = const { RefCell::new(Vec::new()) };
}

/// What `run` casts on tapes of this thread.
#[cfg(feature = "cuda")]
pub(crate) fn casts_of<R>(run: impl FnOnce() -> Result<R>) -> Result<(R, Casts)> {
    SEEN.set(Some(Vec::new()));
    let found = run();
    let seen = SEEN.take().unwrap_or_default();
    Ok((found?, seen))
}

/// `run`, on whose tapes these are cast by few launches, at the beginning.
#[cfg(feature = "cuda")]
pub(crate) fn with_casts<R>(casts: &Casts, run: impl FnOnce() -> Result<R>) -> Result<R> {
    AHEAD.set(casts.clone());
    let found = run();
    AHEAD.take();
    found
}

/// An operation with its backward pass.
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) links: Vec<Link>,
    pub(super) backward: Backward,
    /// Where the backward pass needs it.
    pub(super) result: Option<Arc<OnceLock<Tensor>>>,
}

impl Node {
    /// Gradients of the inputs.
    pub(super) fn gradients(&self, grad: Tensor) -> Result<Vec<Tensor>> {
        crate::profile::begin();
        #[cfg(feature = "cuda")]
        let grad = if grad.device().is_cuda() { crate::cuda::whole(&grad)? } else { grad };
        let grad = grad.detach().contiguous()?;
        let found = (self.backward)(self.result.as_ref().and_then(|r| r.get()), &grad)?;
        crate::profile::end("backward", self.name, grad.dims());
        if found.len() != self.links.len() {
            bail!("{}: {} gradients for {} inputs", self.name, found.len(), self.links.len());
        }
        Ok(found)
    }
}

struct Record {
    id: u64,
    nodes: HashMap<u64, Node>,
    /// One a device.
    roots: Vec<Tensor>,
    /// Views of parameters.
    views: HashMap<TensorId, (TensorId, Vec<View>)>,
    /// Parameters in the type that they are multiplied in.
    #[cfg(feature = "cuda")]
    casts: HashMap<(TensorId, DType), Tensor>,
}

/// Records the operations of this crate that this thread does while it lives, to be differentiated by
/// [`Gradients::of`](crate::Gradients::of) once: less memory and time than Candle's graph takes, the same gradients.
///
/// Begin one before a forward pass and drop it after [`Gradients::of`](crate::Gradients::of); parameters must not change in
/// between. Candle's own `backward` is refused for what is on a tape.
#[must_use = "operations are recorded only while it lives"]
#[derive(Debug)]
pub struct Tape {
    /// It belongs to its thread.
    thread: PhantomData<*const ()>,
}

impl Tape {
    /// Begins to record.
    pub fn begin() -> Self {
        static TAPE: AtomicU64 = AtomicU64::new(0);
        let id = TAPE.fetch_add(1, Ordering::Relaxed);
        Self::over(Some(Record {
            id,
            nodes: HashMap::new(),
            roots: Vec::new(),
            views: HashMap::new(),
            #[cfg(feature = "cuda")]
            casts: HashMap::new(),
        }))
    }

    /// Records nothing while it lives: for what is differentiated on its own.
    pub(crate) fn suspended() -> Self {
        Self::over(None)
    }

    fn over(record: Option<Record>) -> Self {
        TAPES.with_borrow_mut(|tapes| tapes.push(record));
        Self { thread: PhantomData }
    }
}

impl Drop for Tape {
    fn drop(&mut self) {
        // Dropped after the borrow: nodes hold tensors, whose end may come here.
        let record = TAPES.with_borrow_mut(Vec::pop);
        drop(record);
    }
}

/// Something of the innermost tape. `f` must not run operations.
fn innermost<R>(f: impl FnOnce(&mut Record) -> R) -> Option<R> {
    TAPES.with_borrow_mut(|tapes| tapes.last_mut()?.as_mut().map(f))
}

/// The tape that records now.
pub(super) fn current() -> Option<u64> {
    innermost(|tape| tape.id)
}

pub(super) fn push(id: u64, node: Node) {
    innermost(|tape| tape.nodes.insert(id, node));
}

/// What results on the device of `value` depend on, as Candle sees them.
pub(super) fn root(value: &Storage) -> Result<Tensor> {
    let device = value.device();
    let known = innermost(|tape| {
        tape.roots.iter().find(|root| root.device().same_device(&device)).cloned()
    });
    if let Some(root) = known.flatten() {
        return Ok(root);
    }
    let one = Tensor::from_storage(unset(value)?, (), BackpropOp::none(), false);
    let root = Var::from_tensor(&one)?.into_inner();
    innermost(|tape| tape.roots.push(root.clone()));
    Ok(root)
}

/// The parameter that a tensor of this tape is a view of, with the way back.
pub(super) fn parameter_behind(view: TensorId) -> Option<(TensorId, Vec<View>)> {
    innermost(|tape| tape.views.get(&view).cloned()).flatten()
}

pub(super) fn view_of_parameter(view: TensorId, parameter: TensorId, back: Vec<View>) {
    innermost(|tape| tape.views.insert(view, (parameter, back)));
}

/// At the first cast of a tape: those that will be asked for.
#[cfg(feature = "cuda")]
fn cast_ahead() -> Result<()> {
    if innermost(|tape| tape.casts.is_empty()) != Some(true) {
        return Ok(());
    }
    let ahead = AHEAD.with_borrow(Casts::clone);
    let (ids, values): (Vec<_>, Vec<_>) = ahead.into_iter().unzip();
    let casts = crate::cuda::to_bf16(&values)?;
    let keys = ids.into_iter().map(|id| (id, DType::BF16));
    innermost(|tape| tape.casts.extend(keys.zip(casts)));
    Ok(())
}

/// `weight` in another type, outside any graph; a parameter, or a view of one in another shape, is cast once a tape.
#[cfg(feature = "cuda")]
pub(crate) fn cast(weight: &Tensor, dtype: DType) -> Result<Tensor> {
    let id = match parameter_behind(weight.id()) {
        _ if weight.is_variable() => Some(weight.id()),
        Some((id, views)) if views.iter().all(|v| matches!(v, View::Reshaped(_))) => Some(id),
        _ => None,
    };
    let Some(id) = id.filter(|_| weight.dtype() != dtype) else {
        return weight.detach().to_dtype(dtype);
    };
    cast_ahead()?;
    if let Some(known) = innermost(|tape| tape.casts.get(&(id, dtype)).cloned()).flatten() {
        return known.reshape(weight.shape());
    }
    let cast = weight.detach().to_dtype(dtype)?;
    let on_tape = innermost(|tape| tape.casts.insert((id, dtype), cast.clone())).is_some();
    if on_tape && (weight.dtype(), dtype) == (DType::F32, DType::BF16) {
        SEEN.with_borrow_mut(|seen| seen.as_mut().map(|seen| seen.push((id, weight.detach()))));
    }
    Ok(cast)
}

/// Runs back over what is pending, the latest first.
pub(crate) fn run() -> Result<()> {
    while let Some((id, grad)) = pass::latest() {
        let Some(node) = innermost(|tape| tape.nodes.remove(&id)).flatten() else {
            bail!("differentiated twice, or after the tape that it was recorded on had ended");
        };
        let found = node.gradients(grad)?;
        let Node { links, backward, .. } = node;
        // What it holds is free for what follows.
        drop(backward);
        for (link, gradient) in links.iter().zip(found) {
            link.send_from_tape(gradient)?;
        }
    }
    Ok(())
}

/// Lets Candle send a gradient on from one of its own results.
pub(super) fn through_candle(result: &Tensor, gradient: Tensor) -> Result<()> {
    pass::put_all_aside(&backward_from(result, gradient)?)
}

/// What Candle finds from the gradient of `result`, of its shape and type, on.
pub(crate) fn backward_from(result: &Tensor, gradient: Tensor) -> Result<GradStore> {
    result.apply_op1(Seed(Mutex::new(Some(gradient))))?.backward()
}

/// A number whose gradient with respect to a tensor is given.
struct Seed(Mutex<Option<Tensor>>);

impl CustomOp1 for Seed {
    fn name(&self) -> &'static str {
        "seed"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((CpuStorage::F32(vec![0.0]), ().into()))
    }
    fn cuda_fwd(&self, s: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        #[cfg(feature = "cuda")]
        return Ok((crate::cuda::unset(&s.device)?, ().into()));
        #[cfg(not(feature = "cuda"))]
        bail!("built without CUDA: {s:?}")
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selftest::values;
    use crate::{Gradients, Mode, Noise, add, checkpoint, gelu, linear, mul, reshape, softmax};

    type Named = Vec<(String, Var)>;

    fn parameters() -> Result<Named> {
        let one = |(name, shape, seed): (&str, &[usize], u32)| {
            Ok((name.to_owned(), Var::from_tensor(&values(shape, seed)?)?))
        };
        let all: [(&str, &[usize], u32); 3] =
            [("w", &[6, 5], 1), ("b", &[6], 2), ("c", &[4, 6], 3)];
        all.into_iter().map(one).collect()
    }

    /// Operations of both kinds in turns, results used twice, views, a checkpoint.
    fn loss(params: &Named) -> Result<Tensor> {
        let [w, b, c] = [0, 1, 2].map(|i| params[i].1.as_tensor().clone());
        let x = values(&[4, 5], 9)?;
        let a = gelu(&linear(&x, &w, Some(&b))?)?; // (4, 6)
        let d = mul(&(a.tanh()? + &c)?, &a)?; // Candle between two of ours
        let e = reshape(&softmax(&d)?, (2, 2, 6))?;
        let noise = Noise::new(1, 2);
        let again = move |x: &[Tensor], _: Mode| linear(&gelu(&x[0])?, &c, None);
        let f = checkpoint(&[&add(&d, &reshape(&e, (4, 6))?)?], Mode::Train(&noise), again)?; // (4, 4)
        let g = (f.sum_all()? + (e.sqr()?.sum_all()? * 0.5)?)?;
        g + a.mean_all()?
    }

    #[test]
    fn gradients_are_those_of_candles_graph() -> Result<()> {
        let params = parameters()?;
        let of = |g: &Gradients, name: &str| -> Result<Vec<f64>> {
            g.get(name).map_or_else(|| Ok(Vec::new()), |g| g.flatten_all()?.to_vec1())
        };
        let plain = Gradients::of(&loss(&params)?, &params)?;
        let tape = Tape::begin();
        let taped = Gradients::of(&loss(&params)?, &params)?;
        drop(tape);
        for (name, var) in &params {
            let (a, b) = (of(&plain, name)?, of(&taped, name)?);
            assert_eq!(a.len(), var.elem_count());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-13), "{name}: {a:?} {b:?}");
        }
        Ok(())
    }

    #[test]
    fn a_part_of_the_parameters_may_be_asked_for() -> Result<()> {
        let params = parameters()?;
        let all = Gradients::of(&loss(&params)?, &params)?;
        let _tape = Tape::begin();
        let part = Gradients::of(&loss(&params)?, &params[1..2])?;
        assert_eq!(part.iter().count(), 1);
        let of = |g: &Gradients| g.get("b").map(|g| g.to_vec1::<f64>()).transpose();
        let (a, b) = (of(&all)?.unwrap_or_default(), of(&part)?.unwrap_or_default());
        assert!(a.len() == 6 && a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-13));
        Ok(())
    }

    #[test]
    fn what_a_tape_cannot_do_is_an_error() -> Result<()> {
        let params = parameters()?;
        let tape = Tape::begin();
        let y = loss(&params)?;
        let told = |r: Result<()>| r.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(told(y.backward().map(|_| ())).contains("Gradients::of"));
        let y = loss(&params)?;
        Gradients::of(&y, &params)?;
        assert!(told(Gradients::of(&y, &params).map(|_| ())).contains("twice"));
        let late = gelu(params[0].1.as_tensor())?.sum_all()?;
        drop(tape);
        assert!(told(Gradients::of(&late, &params).map(|_| ())).contains("ended"));
        Ok(())
    }

    #[test]
    fn values_are_let_go_on_the_way_back() -> Result<()> {
        let params = parameters()?;
        let _tape = Tape::begin();
        let y = loss(&params)?;
        assert!(innermost(|tape| tape.nodes.len()).unwrap_or_default() > 5);
        Gradients::of(&y, &params)?;
        assert_eq!(innermost(|tape| tape.nodes.len()), Some(0));
        Ok(())
    }
}
