//! A function that runs many times on inputs of the same shapes: on a GPU it is recorded once, as a CUDA graph, and then queued by
//! one call instead of thousands, which take longer than the work where a batch is small.

#[cfg(feature = "cuda")]
use candle_core::{DType, Shape};
use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use crate::cuda::Graph;

/// Shapes and types of tensors.
#[cfg(feature = "cuda")]
pub(crate) type Kinds = Vec<(Shape, DType)>;

#[cfg(feature = "cuda")]
pub(crate) fn kinds<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Kinds {
    tensors.into_iter().map(|t| (t.shape().clone(), t.dtype())).collect()
}

type Function<'a> = Box<dyn Fn(&[Tensor]) -> Result<Tensor> + 'a>;

/// A function of tensors without gradients, which must queue the same work for all inputs of the same shapes and types, and
/// read nothing back.
///
/// The second call in a row with the same shapes records it, later ones replay that. On the CPU, and where it cannot be recorded,
/// every call runs it.
pub struct Replayed<'a> {
    run: Function<'a>,
    #[cfg(feature = "cuda")]
    recorded: Recorded,
}

#[cfg(feature = "cuda")]
#[derive(Default)]
enum Recorded {
    /// Nothing was called yet.
    #[default]
    Nothing,
    /// What the last inputs were.
    Seen(Kinds),
    /// A recording for inputs like these.
    Graph(Kinds, Graph),
    /// It cannot be recorded.
    Refused,
}

impl<'a> Replayed<'a> {
    /// Of a function.
    pub fn new(run: impl Fn(&[Tensor]) -> Result<Tensor> + 'a) -> Self {
        Self {
            run: Box::new(run),
            #[cfg(feature = "cuda")]
            recorded: Recorded::default(),
        }
    }

    /// The function's result.
    ///
    /// # Errors
    /// Those of the function.
    pub fn call(&mut self, inputs: &[Tensor]) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if !inputs.is_empty() && inputs.iter().all(|t| t.device().is_cuda() && !t.track_op()) {
            return self.call_recorded(inputs);
        }
        (self.run)(inputs)
    }

    /// Whether the next call replays a recording, if its inputs are like the last.
    pub fn is_recorded(&self) -> bool {
        #[cfg(feature = "cuda")]
        return matches!(self.recorded, Recorded::Graph(..));
        #[cfg(not(feature = "cuda"))]
        false
    }

    #[cfg(feature = "cuda")]
    fn call_recorded(&mut self, inputs: &[Tensor]) -> Result<Tensor> {
        let like = kinds(inputs);
        let replay = |graph: &Graph| graph.run(inputs)?[0].force_contiguous();
        match &self.recorded {
            Recorded::Graph(of, graph) if *of == like => return replay(graph),
            Recorded::Seen(of) if *of == like => {
                self.recorded = match self.record(inputs)? {
                    Some(graph) => Recorded::Graph(like, graph),
                    None => Recorded::Refused,
                };
                return match &self.recorded {
                    Recorded::Graph(_, graph) => replay(graph),
                    _ => (self.run)(inputs),
                };
            }
            Recorded::Refused => {}
            _ => self.recorded = Recorded::Seen(like),
        }
        (self.run)(inputs)
    }

    #[cfg(feature = "cuda")]
    fn record(&self, inputs: &[Tensor]) -> Result<Option<Graph>> {
        let inputs = inputs.iter().map(Tensor::force_contiguous).collect::<Result<Vec<_>>>()?;
        {
            let _kept = crate::cuda::keep_uploads(&crate::cuda::device(&inputs[0])?);
            (self.run)(&inputs)?;
        }
        Graph::record(inputs, &|x| Ok(vec![(self.run)(x)?]))
    }
}

impl std::fmt::Debug for Replayed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replayed").field("recorded", &self.is_recorded()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::selftest::values;

    #[test]
    fn on_the_cpu_every_call_runs_it() -> Result<()> {
        let mut twice = Replayed::new(|x| &x[0] * 2.0);
        for seed in 1..4 {
            let x = values(&[2, 3], seed)?;
            let found = twice.call(std::slice::from_ref(&x))?;
            assert_eq!(found.to_vec2::<f64>()?, (x * 2.0)?.to_vec2::<f64>()?);
        }
        assert!(!twice.is_recorded());
        Ok(())
    }
}
