//! A hand-written backward pass in Candle's graph: the value comes from a kernel, the gradient from a closure.

use std::sync::Mutex;

use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Storage,
    Tensor, bail,
};

use super::Real;
use crate::checkpoint::put_aside;

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
    let value = Mutex::new(Some((value, shape)));
    let op = Attached { name, value, backward };
    match inputs {
        [a] => a.apply_op1(op),
        [a, b] => a.apply_op2(b, op),
        [a, b, c] => a.apply_op3(b, c, op),
        _ => bail!("{name}: an operation takes one to three tensors, got {}", inputs.len()),
    }
}

struct Attached<F> {
    name: &'static str,
    value: Mutex<Option<(Storage, Shape)>>,
    backward: F,
}

impl<F> Attached<F> {
    fn take(&self) -> Result<(Storage, Shape)> {
        match self.value.lock().ok().and_then(|mut v| v.take()) {
            Some(v) => Ok(v),
            None => bail!("{}: the value of a fused operation was taken twice", self.name),
        }
    }

    fn take_cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.take()? {
            (Storage::Cpu(s), shape) => Ok((s, shape)),
            _ => bail!("{}: inputs on the CPU, result elsewhere", self.name),
        }
    }

    fn take_cuda(&self) -> Result<(CudaStorage, Shape)> {
        match self.take()? {
            (Storage::Cuda(s), shape) => Ok((s, shape)),
            _ => bail!("{}: inputs on a GPU, result elsewhere", self.name),
        }
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>>> Attached<F> {
    fn grads<const N: usize>(
        &self,
        args: [&Tensor; N],
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<[Option<Tensor>; N]> {
        crate::profile::begin();
        let grad = grad.detach();
        #[cfg(feature = "cuda")]
        let grad = if grad.device().is_cuda() { crate::cuda::whole(&grad)? } else { grad };
        let found = (self.backward)(&res.detach(), &grad.contiguous()?)?;
        crate::profile::end("backward", self.name, res.dims());
        if found.len() != N {
            bail!("{}: {} gradients for {N} inputs", self.name, found.len());
        }
        let mut kept = [const { None }; N];
        for ((kept, a), found) in kept.iter_mut().zip(args).zip(found) {
            if a.track_op() {
                *kept = put_aside(a, found)?;
            }
        }
        Ok(kept)
    }
}

impl<F: Fn(&Tensor, &Tensor) -> Result<Vec<Tensor>> + Send + Sync> CustomOp1 for Attached<F> {
    fn name(&self) -> &'static str {
        self.name
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.take_cpu()
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        self.take_cuda()
    }
    fn bwd(&self, a: &Tensor, res: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let [ga] = self.grads([a], res, grad)?;
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
        self.take_cpu()
    }
    fn cuda_fwd(
        &self,
        _: &CudaStorage,
        _: &Layout,
        _: &CudaStorage,
        _: &Layout,
    ) -> Result<(CudaStorage, Shape)> {
        self.take_cuda()
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [ga, gb] = self.grads([a, b], res, grad)?;
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
        self.take_cpu()
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
        self.take_cuda()
    }
    fn bwd(
        &self,
        a: &Tensor,
        b: &Tensor,
        c: &Tensor,
        res: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [ga, gb, gc] = self.grads([a, b, c], res, grad)?;
        Ok((ga, gb, gc))
    }
}
