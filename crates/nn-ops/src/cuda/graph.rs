//! A function of tensors as a CUDA graph.

use std::cell::Cell;

use candle_core::cuda_backend::cudarc::driver::{CudaGraph, sys};
use candle_core::{CudaDevice, Error, Result, Tensor};

use super::device;

/// A recording, with the memory that it reads its inputs from and leaves its results in.
pub(crate) struct Graph {
    // Memory that the recording takes and does not give back: given back before it runs again, or when these go. They must go
    // before it.
    outputs: Vec<Tensor>,
    ran: Cell<bool>,
    graph: CudaGraph,
    inputs: Vec<Tensor>,
}

// SAFETY: the driver takes calls from any thread, a launch binds its context first, and `Graph` hands out no pointer.
unsafe impl Send for Graph {}

impl Drop for Graph {
    fn drop(&mut self) {
        if !self.ran.get() {
            forget(std::mem::take(&mut self.outputs));
        }
    }
}

/// For results of a recording that never ran: the driver has not given them memory, which could be given back.
fn forget(outputs: Vec<Tensor>) {
    outputs.into_iter().for_each(std::mem::forget);
}

/// What is uploaded on the way (strides) is kept while this lives, for a recording and for as long as it is used.
pub(crate) fn keep_uploads(dev: &CudaDevice) -> impl Drop + use<> {
    dev.enable_cuda_graph_htod_cache()
}

impl Graph {
    /// Records `run`, which must have run on inputs like these while [`keep_uploads`] was in force. `inputs` are the recording's
    /// from now on. None: it does what cannot be recorded.
    pub(crate) fn record(
        inputs: Vec<Tensor>,
        run: &dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>,
    ) -> Result<Option<Self>> {
        let Some(first) = inputs.first() else { return Ok(None) };
        let dev = device(first)?;
        let stream = dev.cuda_stream();
        let _kept = keep_uploads(&dev);
        stream.synchronize().map_err(Error::wrap)?;
        crate::device::begin_recording(&dev)?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).map_err(Error::wrap)?;
        // Memory taken on the way belongs to the recording; what it does not give back on the way are its results.
        let queued = run(&inputs);
        let free = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(free);
        match (queued, graph) {
            (Ok(outputs), Ok(Some(graph))) => {
                Ok(Some(Self { outputs, ran: Cell::new(false), graph, inputs }))
            }
            (queued, _) => {
                forget(queued.unwrap_or_default());
                // What failed while recording says nothing of the stream afterwards.
                let _ = stream.context().check_err();
                Ok(None)
            }
        }
    }

    /// The results for other inputs of the same shapes and types. The next call overwrites them.
    pub(crate) fn run(&self, inputs: &[Tensor]) -> Result<&[Tensor]> {
        self.inputs.iter().zip(inputs).try_for_each(|(own, given)| fill(own, given))?;
        self.graph.launch().map_err(Error::wrap)?;
        self.ran.set(true);
        Ok(&self.outputs)
    }
}

/// Copies a tensor into the memory of another one of the same shape and type.
fn fill(to: &Tensor, from: &Tensor) -> Result<()> {
    to.flatten_all()?.slice_set(&from.contiguous()?.flatten_all()?, 0, 0)
}
