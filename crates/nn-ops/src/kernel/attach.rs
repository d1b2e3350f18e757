//! A hand-written backward pass beside a value from a kernel: on a [`tape`](super::tape), or else in Candle's graph.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage,
    Tensor, TensorId, bail,
};

use super::Real;
use super::link::{Handle, Link, forget};
use super::tape::{self, Node};
use crate::pass;

/// Puts a value computed by a kernel into the graph, with the backward pass that belongs to it.
///
/// `backward(gradient of result)` returns one gradient for each of `inputs` (1 to 3 of them), in their shapes.
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
    F: Fn(&Tensor) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    attach_storage(name, inputs, super::stored(value), shape, backward)
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
    F: Fn(&Tensor) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    let backward = move |_: Option<&Tensor>, grad: &Tensor| backward(grad);
    put(name, inputs, (value, shape.into()), Box::new(backward), false)
}

/// The same for a backward pass that needs the result: `backward(result, gradient of result)`.
pub(crate) fn attach_with_result<F>(
    name: &'static str,
    inputs: &[&Tensor],
    value: Storage,
    shape: impl Into<Shape>,
    backward: F,
) -> Result<Tensor>
where
    F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync + 'static,
{
    let backward = move |result: Option<&Tensor>, grad: &Tensor| match result {
        Some(result) => backward(result, grad),
        None => bail!("{name}: the result was not kept"),
    };
    put(name, inputs, (value, shape.into()), Box::new(backward), true)
}

/// Result, if it was kept, and gradient of the result to the gradients of the inputs.
pub(super) type Backward =
    Box<dyn Fn(Option<&Tensor>, &Tensor) -> Result<Vec<Tensor>> + Send + Sync>;

fn put(
    name: &'static str,
    inputs: &[&Tensor],
    (value, shape): (Storage, Shape),
    backward: Backward,
    keep: bool,
) -> Result<Tensor> {
    static NODES: AtomicU64 = AtomicU64::new(0);
    crate::profile::end("forward", name, shape.dims());
    if !inputs.iter().any(|t| t.track_op()) {
        return Ok(Tensor::from_storage(value, shape, BackpropOp::none(), false));
    }
    let (id, tape) = (NODES.fetch_add(1, Ordering::Relaxed), tape::current());
    let links: Vec<Link> = inputs.iter().map(|t| Link::of(t, tape)).collect();
    let result = keep.then(Arc::<OnceLock<Tensor>>::default);
    let node = Node { name, links, backward, result: result.clone() };
    let stand_in = match tape {
        Some(_) => {
            let root = tape::root(&value)?;
            tape::push(id, node);
            root
        }
        None => {
            let seen = inputs.iter().zip(&node.links);
            let seen: Vec<Tensor> = seen.map(|(t, link)| link.stand_in(t)).collect();
            apply(&seen, Attached { id, value: Fresh::new(unset(&value)?, ().into()), node })?
        }
    };
    let ids: Arc<Mutex<Vec<TensorId>>> = Arc::default();
    let value = Fresh::new(value, shape);
    let entry = Entry { id, on_tape: tape.is_some(), value, ids: ids.clone() };
    let ys = stand_in.apply_op1(entry)?;
    if let Some(result) = result {
        let _ = result.set(ys.detach());
    }
    Handle::of_result(id, tape, stand_in, ids).stands_for(ys.id());
    Ok(ys)
}

/// A single number where a value lies, which nobody reads.
pub(super) fn unset(value: &Storage) -> Result<Storage> {
    match value {
        Storage::Cpu(_) => Ok(Storage::Cpu(CpuStorage::F32(vec![0.0]))),
        #[cfg(feature = "cuda")]
        Storage::Cuda(value) => crate::cuda::unset(&value.device).map(Storage::Cuda),
        other => bail!("there are no kernels of this crate for {:?}", other.device()),
    }
}

fn apply(inputs: &[Tensor], op: Attached) -> Result<Tensor> {
    match inputs {
        [a] => a.apply_op1(op),
        [a, b] => a.apply_op2(b, op),
        [a, b, c] => a.apply_op3(b, c, op),
        _ => {
            bail!("{}: an operation takes one to three tensors, got {}", op.node.name, inputs.len())
        }
    }
}

/// From the stand-in of a result to the result: the gradient that Candle finds of it is sent to its operation.
struct Entry {
    id: u64,
    on_tape: bool,
    value: Fresh,
    ids: Arc<Mutex<Vec<TensorId>>>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        forget(std::mem::take(&mut *self.ids.lock().unwrap_or_else(PoisonError::into_inner)));
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
        if self.on_tape && !pass::is_open() {
            bail!("what is recorded on a tape must be differentiated by Gradients::of");
        }
        pass::send(self.id, grad.clone())?;
        Ok(Some(stand_in.detach()))
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

/// An operation as Candle's graph sees it: a single number that depends on those of its inputs.
struct Attached {
    id: u64,
    value: Fresh,
    node: Node,
}

impl Attached {
    /// Sends the gradients on; what is returned goes into Candle's graph.
    fn grads<const N: usize>(&self) -> Result<[Option<Tensor>; N]> {
        let Some(grad) = pass::receive(self.id) else {
            bail!("{}: no gradient reached it", self.node.name);
        };
        let mut kept = [const { None }; N];
        let found = self.node.gradients(grad)?;
        for ((kept, link), found) in kept.iter_mut().zip(&self.node.links).zip(found) {
            *kept = link.send(found)?;
        }
        Ok(kept)
    }
}

impl CustomOp1 for Attached {
    fn name(&self) -> &'static str {
        self.node.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.value.take_cpu(self.node.name)
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.value.take_cuda(self.node.name)
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor) -> Result<Option<Tensor>> {
        let [ga] = self.grads()?;
        Ok(ga)
    }
}

impl CustomOp2 for Attached {
    fn name(&self) -> &'static str {
        self.node.name
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.value.take_cpu(self.node.name)
    }
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.value.take_cuda(self.node.name)
    }
    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [ga, gb] = self.grads()?;
        Ok((ga, gb))
    }
}

impl CustomOp3 for Attached {
    fn name(&self) -> &'static str {
        self.node.name
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
        self.value.take_cpu(self.node.name)
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
        self.value.take_cuda(self.node.name)
    }
    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [ga, gb, gc] = self.grads()?;
        Ok((ga, gb, gc))
    }
}
