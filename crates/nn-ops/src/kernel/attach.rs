//! A hand-written backward pass in Candle's graph: the value comes from a kernel, the gradient from a closure.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage,
    Tensor, TensorId, bail,
};

use super::Real;
use crate::pass;

/// Puts a value computed by a kernel into the graph, with the backward pass that belongs to it.
///
/// `backward(result, gradient of result)` returns one gradient for each of `inputs` (1 to 3 of them), in their shapes.
/// It must capture detached tensors only. When no input is tracked, no graph is recorded.
pub(crate) fn attach<T, F>(
    name: &'static str,
    inputs: &[&Tensor],
    value: Vec<T>,
    shape: impl Into<Shape>,
    backward: F,
) -> Result<Tensor>
where
    T: Real,
    F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    attach_storage(name, inputs, Storage::Cpu(T::to_cpu_storage_owned(value)), shape, backward)
}

/// The same for a value on any device.
pub(crate) fn attach_storage<F>(
    name: &'static str,
    inputs: &[&Tensor],
    value: Storage,
    shape: impl Into<Shape>,
    backward: F,
) -> Result<Tensor>
where
    F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    let shape = shape.into();
    crate::profile::end("forward", name, shape.dims());
    if !inputs.iter().any(|t| t.track_op()) {
        return Ok(Tensor::from_storage(value, shape, BackpropOp::none(), false));
    }
    match stand_in(&value)? {
        Some(stand_in) => past_the_graph(name, inputs, (value, shape), stand_in, backward),
        None => {
            let links = inputs.iter().map(|t| Link::of(t, None)).collect();
            let value = Fresh::new(value, shape);
            apply(inputs, Attached { name, value, node: None, links, backward })
        }
    }
}

/// A single number where the value lies, which nobody reads.
fn stand_in(value: &Storage) -> Result<Option<Storage>> {
    match value {
        Storage::Cpu(_) => Ok(Some(Storage::Cpu(CpuStorage::F32(vec![0.0])))),
        #[cfg(feature = "cuda")]
        Storage::Cuda(value) => crate::cuda::unset(&value.device).map(|s| Some(Storage::Cuda(s))),
        _ => Ok(None),
    }
}

fn apply<F>(inputs: &[&Tensor], op: Attached<F>) -> Result<Tensor>
where
    F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    match inputs {
        [a] => a.apply_op1(op),
        [a, b] => a.apply_op2(b, op),
        [a, b, c] => a.apply_op3(b, c, op),
        _ => bail!("{}: an operation takes one to three tensors, got {}", op.name, inputs.len()),
    }
}

/// A result of an operation of this crate, as others of them see it. In Candle's graph they depend on its stand-in, a single
/// number; the gradient itself goes from operation to operation by [`pass::send`]. Candle's own operations see the result,
/// whose gradient [`Entry`] sends on.
#[derive(Clone)]
struct Handle {
    node: u64,
    stand_in: Tensor,
    /// From a view to the result, the last step first to be undone.
    views: Vec<View>,
    /// The result and views of it.
    ids: Arc<Mutex<Vec<TensorId>>>,
}

/// A view, by what leads back from it.
#[derive(Clone)]
pub(crate) enum View {
    /// The shape before.
    Reshaped(Shape),
    /// The order of dimensions that restores the one before.
    Permuted(Vec<usize>),
}

/// Of every result that lives, and of views of them.
static HANDLES: LazyLock<Mutex<HashMap<TensorId, Handle>>> = LazyLock::new(Mutex::default);

fn handles() -> MutexGuard<'static, HashMap<TensorId, Handle>> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn past_the_graph<F>(
    name: &'static str,
    inputs: &[&Tensor],
    (value, shape): (Storage, Shape),
    stand_in: Storage,
    backward: F,
) -> Result<Tensor>
where
    F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    static NODES: AtomicU64 = AtomicU64::new(0);
    let node = NODES.fetch_add(1, Ordering::Relaxed);
    let known: Vec<Option<Handle>> = {
        let handles = handles();
        inputs.iter().map(|t| handles.get(&t.id()).cloned()).collect()
    };
    let links = inputs.iter().zip(&known).map(|(t, known)| Link::of(t, known.as_ref())).collect();
    let seen = inputs.iter().zip(&known);
    let seen: Vec<&Tensor> =
        seen.map(|(t, known)| known.as_ref().map_or(*t, |known| &known.stand_in)).collect();
    let result = Arc::new(OnceLock::new());
    let op = Attached {
        name,
        value: Fresh::new(stand_in, ().into()),
        node: Some((node, result.clone())),
        links,
        backward,
    };
    let stand_in = apply(&seen, op)?;
    let ids: Arc<Mutex<Vec<TensorId>>> = Arc::default();
    let entry = Entry { node, value: Fresh::new(value, shape), ids: ids.clone() };
    let ys = stand_in.apply_op1(entry)?;
    let _ = result.set(ys.detach());
    Handle { node, stand_in, views: Vec::new(), ids }.stands_for(ys.id());
    Ok(ys)
}

/// Lets operations of this crate see in a view the result that it is a view of.
pub(crate) fn attach_view(of: &Tensor, view: &Tensor, back: View) {
    if of.id() != view.id()
        && let Some(mut handle) = { handles().get(&of.id()).cloned() }
    {
        handle.views.push(back);
        handle.stands_for(view.id());
    }
}

impl Handle {
    /// A view keeps its result alive, so the entries of both go with the result.
    fn stands_for(self, id: TensorId) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        handles().insert(id, self);
    }
}

/// From the stand-in of a result to the result.
struct Entry {
    node: u64,
    value: Fresh,
    ids: Arc<Mutex<Vec<TensorId>>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let ids = std::mem::take(&mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner));
        for id in ids {
            // It may hold the last of a graph, whose end comes here again: the lock must be free by then.
            let handle = { handles().remove(&id) };
            drop(handle);
        }
    }
}

impl CustomOp1 for Entry {
    fn name(&self) -> &'static str {
        "result"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.value.take_cpu(self.name())
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.value.take_cuda(self.name())
    }
    fn bwd(&self, stand_in: &Tensor, _: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        pass::send(self.node, grad.clone())?;
        Ok(Some(stand_in.detach()))
    }
}

/// Where the gradient of an input goes.
enum Link {
    /// Nowhere.
    Constant,
    /// To the operation that made it; its stand-in is in the graph.
    Operation(Handle),
    /// To the parameter, past the graph if the pass asks for it.
    Parameter(TensorId),
    /// Into Candle's graph.
    Graph,
}

impl Link {
    fn of(input: &Tensor, known: Option<&Handle>) -> Self {
        match known {
            _ if !input.track_op() => Self::Constant,
            Some(known) => Self::Operation(known.clone()),
            None if input.is_variable() => Self::Parameter(input.id()),
            None => Self::Graph,
        }
    }

    /// Hands a gradient on; what is returned goes into Candle's graph.
    fn send(&self, gradient: Tensor) -> Result<Option<Tensor>> {
        match self {
            Self::Constant => Ok(None),
            Self::Graph => Ok(Some(gradient)),
            Self::Parameter(id) => pass::put_aside(*id, gradient),
            // The graph needs to hear of every node once.
            Self::Operation(Handle { node, stand_in, views, .. }) => {
                let mut gradient = gradient;
                for view in views.iter().rev() {
                    gradient = match view {
                        View::Reshaped(shape) => gradient.reshape(shape)?,
                        View::Permuted(order) => gradient.permute(order.as_slice())?,
                    };
                }
                Ok(pass::send(*node, gradient)?.then(|| stand_in.detach()))
            }
        }
    }
}

/// A value on its way into a tensor.
struct Fresh(Mutex<Option<(Storage, Shape)>>);

impl Fresh {
    fn new(value: Storage, shape: Shape) -> Self {
        Self(Mutex::new(Some((value, shape))))
    }

    fn take(&self, name: &str) -> Result<(Storage, Shape)> {
        match self.0.lock().ok().and_then(|mut v| v.take()) {
            Some(v) => Ok(v),
            None => bail!("{name}: the value of a fused operation was taken twice"),
        }
    }

    fn take_cpu(&self, name: &str) -> Result<(CpuStorage, Shape)> {
        match self.take(name)? {
            (Storage::Cpu(s), shape) => Ok((s, shape)),
            _ => bail!("{name}: inputs on the CPU, result elsewhere"),
        }
    }

    fn take_cuda(&self, name: &str) -> Result<(CudaStorage, Shape)> {
        match self.take(name)? {
            (Storage::Cuda(s), shape) => Ok((s, shape)),
            _ => bail!("{name}: inputs on a GPU, result elsewhere"),
        }
    }
}

struct Attached<F> {
    name: &'static str,
    value: Fresh,
    /// Where gradients are sent to, and the result; none where both go through the graph.
    node: Option<(u64, Arc<OnceLock<Tensor>>)>,
    links: Vec<Link>,
    backward: F,
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>>> Attached<F> {
    fn grads<const N: usize>(&self, res: &Tensor, grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        crate::profile::begin();
        let (res, grad) = match &self.node {
            None => (res.detach(), grad.detach()),
            Some((node, result)) => match (result.get(), pass::receive(*node)) {
                (Some(result), Some(grad)) => (result.clone(), grad),
                _ => bail!("{}: no gradient reached it", self.name),
            },
        };
        #[cfg(feature = "cuda")]
        let grad = if grad.device().is_cuda() { crate::cuda::whole(&grad)? } else { grad };
        let found = (self.backward)(&res, &grad.contiguous()?)?;
        drop(grad);
        crate::profile::end("backward", self.name, res.dims());
        if found.len() != N {
            bail!("{}: {} gradients for {N} inputs", self.name, found.len());
        }
        let mut kept = [const { None }; N];
        for ((kept, link), found) in kept.iter_mut().zip(&self.links).zip(found) {
            *kept = link.send(found)?;
        }
        Ok(kept)
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync> CustomOp1 for Attached<F> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.value.take_cpu(self.name)
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.value.take_cuda(self.name)
    }
    fn bwd(&self, _: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [ga] = self.grads(res, grad)?;
        Ok(ga)
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync> CustomOp2 for Attached<F> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.value.take_cpu(self.name)
    }
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.value.take_cuda(self.name)
    }
    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [ga, gb] = self.grads(res, grad)?;
        Ok((ga, gb))
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync> CustomOp3 for Attached<F> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.value.take_cpu(self.name)
    }
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.value.take_cuda(self.name)
    }
    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [ga, gb, gc] = self.grads(res, grad)?;
        Ok((ga, gb, gc))
    }
}
