//! Where the gradients of an operation's inputs go.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use candle_core::{Result, Shape, Tensor, TensorId};

use super::tape;
use crate::pass;

/// A result of an operation of this crate, as others of them see it: they send its gradient to the operation itself, by
/// [`pass::send`]. Candle's own operations see the result, whose gradient the result's entry in their graph sends on.
#[derive(Clone)]
pub(super) struct Handle {
    id: u64,
    /// The tape that the operation is on.
    tape: Option<u64>,
    /// What the result depends on in Candle's graph: of an operation on a tape, the root of it; else a single number, which
    /// depends on those of the operation's inputs.
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

impl View {
    fn undone(&self, gradient: &Tensor) -> Result<Tensor> {
        match self {
            Self::Reshaped(shape) => gradient.reshape(shape),
            Self::Permuted(order) => gradient.permute(order.as_slice()),
        }
    }
}

/// Of every result that lives, and of views of them.
static HANDLES: LazyLock<Mutex<HashMap<TensorId, Handle>>> = LazyLock::new(Mutex::default);

fn handles() -> MutexGuard<'static, HashMap<TensorId, Handle>> {
    HANDLES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets operations of this crate see in a view the result that it is a view of; on a tape, the parameter too.
pub(crate) fn attach_view(of: &Tensor, view: &Tensor, back: View) {
    if of.id() == view.id() {
        return;
    }
    if let Some(mut handle) = { handles().get(&of.id()).cloned() } {
        handle.views.push(back);
        handle.stands_for(view.id());
    } else if of.is_variable() {
        tape::view_of_parameter(view.id(), of.id(), vec![back]);
    } else if let Some((parameter, mut views)) = tape::parameter_behind(of.id()) {
        views.push(back);
        tape::view_of_parameter(view.id(), parameter, views);
    }
}

/// The gradient of what a view is a view of.
fn undone(views: &[View], mut gradient: Tensor) -> Result<Tensor> {
    for view in views.iter().rev() {
        gradient = view.undone(&gradient)?;
    }
    Ok(gradient)
}

/// Of a result that is gone, and of views of it.
pub(super) fn forget(ids: Vec<TensorId>) {
    for id in ids {
        // It may hold the last of a graph, whose end comes here again: the lock must be free by then.
        let handle = { handles().remove(&id) };
        drop(handle);
    }
}

impl Handle {
    pub(super) fn of_result(
        id: u64,
        tape: Option<u64>,
        stand_in: Tensor,
        ids: Arc<Mutex<Vec<TensorId>>>,
    ) -> Self {
        Self { id, tape, stand_in, views: Vec::new(), ids }
    }

    /// A view keeps its result alive, so the entries of both go with the result.
    pub(super) fn stands_for(self, id: TensorId) {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        handles().insert(id, self);
    }

    /// Takes the gradient of the result or of this view of it; whether it is the first.
    fn receive(&self, gradient: Tensor) -> Result<bool> {
        pass::send(self.id, undone(&self.views, gradient)?)
    }
}

/// Where the gradient of an input goes.
pub(super) enum Link {
    /// Nowhere.
    Constant,
    /// To the operation that made it, on the same tape or, like this one, on none.
    Operation(Handle),
    /// To the parameter, past the graph if the pass asks for it; on a tape also from views of it.
    Parameter(TensorId, Vec<View>),
    /// Into Candle's graph.
    Graph(Tensor),
}

impl Link {
    /// For an operation that is recorded on `tape`.
    pub(super) fn of(input: &Tensor, tape: Option<u64>) -> Self {
        if !input.track_op() {
            return Self::Constant;
        }
        let known = { handles().get(&input.id()).cloned() };
        if let Some(known) = known.filter(|known| known.tape == tape) {
            return Self::Operation(known);
        }
        if input.is_variable() {
            return Self::Parameter(input.id(), Vec::new());
        }
        match tape::parameter_behind(input.id()) {
            Some((parameter, views)) => Self::Parameter(parameter, views),
            None => Self::Graph(input.clone()),
        }
    }

    /// What stands for an input in Candle's graph.
    pub(super) fn stand_in(&self, input: &Tensor) -> Tensor {
        match self {
            Self::Operation(known) => known.stand_in.clone(),
            _ => input.clone(),
        }
    }

    /// Hands a gradient on; what is returned goes into Candle's graph.
    pub(super) fn send(&self, gradient: Tensor) -> Result<Option<Tensor>> {
        match self {
            Self::Constant => Ok(None),
            Self::Graph(_) => Ok(Some(gradient)),
            Self::Parameter(id, views) => pass::put_aside(*id, undone(views, gradient)?),
            // The graph needs to hear of every node once.
            Self::Operation(known) => {
                let first = known.receive(gradient)?;
                Ok(first.then(|| known.stand_in.detach()))
            }
        }
    }

    /// Hands a gradient on from an operation on a tape.
    pub(super) fn send_from_tape(&self, gradient: Tensor) -> Result<()> {
        match self {
            Self::Constant => Ok(()),
            Self::Graph(input) => tape::through_candle(input, gradient),
            // Nobody asks for what comes back.
            Self::Parameter(id, views) => {
                pass::put_aside(*id, undone(views, gradient)?).map(|_| ())
            }
            Self::Operation(known) => known.receive(gradient).map(|_| ()),
        }
    }
}
