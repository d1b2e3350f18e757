//! A function of tensors as a CUDA graph.

use candle_core::cuda_backend::cudarc::driver::{CudaGraph, sys};
use candle_core::{Error, Result, Tensor};

use super::device;

/// A recording, with the memory that it reads its inputs from and leaves its result in.
pub(crate) struct Graph {
    graph: CudaGraph,
    inputs: Vec<Tensor>,
    output: Tensor,
}

impl Graph {
    /// Records `run` on inputs like these; none if it does what cannot be recorded.
    pub(crate) fn record(
        inputs: &[Tensor],
        run: &dyn Fn(&[Tensor]) -> Result<Tensor>,
    ) -> Result<Option<Self>> {
        let Some(first) = inputs.first() else { return Ok(None) };
        let dev = device(first)?;
        let stream = dev.cuda_stream();
        let inputs: Vec<Tensor> =
            inputs.iter().map(Tensor::force_contiguous).collect::<Result<_>>()?;
        // What is uploaded on the way (strides) is kept for the recording, and for as long as it lives.
        let _kept = dev.enable_cuda_graph_htod_cache();
        let output = run(&inputs)?.force_contiguous()?;
        stream.synchronize().map_err(Error::wrap)?;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        stream.begin_capture(mode).map_err(Error::wrap)?;
        // All memory taken on the way is given back on the way, so that it belongs to the recording.
        let queued = run(&inputs).and_then(|y| output.slice_set(&y.contiguous()?, 0, 0));
        let free = sys::CUgraphInstantiate_flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH;
        let graph = stream.end_capture(free);
        match (queued, graph) {
            (Ok(()), Ok(Some(graph))) => Ok(Some(Self { graph, inputs, output })),
            _ => {
                // What failed while recording says nothing of the stream afterwards.
                let _ = stream.context().check_err();
                Ok(None)
            }
        }
    }

    /// The result for other inputs of the same shapes and types.
    pub(crate) fn run(&self, inputs: &[Tensor]) -> Result<Tensor> {
        for (own, given) in self.inputs.iter().zip(inputs) {
            own.slice_set(&given.contiguous()?, 0, 0)?;
        }
        self.graph.launch().map_err(Error::wrap)?;
        self.output.force_contiguous()
    }
}
