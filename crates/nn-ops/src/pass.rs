//! What a backward pass keeps beside Candle's graph, which adds every gradient to a tensor of zeros first: gradients of
//! parameters, and gradients on their way from one operation of this crate to another ([`attach`](crate::kernel::attach)).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId};

use crate::combine::add;

thread_local! {
    /// The backward passes that run on this thread, the innermost last: a thread that waits for others may take up another
    /// pass meanwhile. The first is what runs outside [`Aside`].
    static PASSES: RefCell<Vec<Pass>> = RefCell::new(vec![Pass::default()]);
}

#[derive(Default)]
struct Pass {
    /// The parameters that are asked for, with what was found of their gradients.
    params: Option<HashMap<TensorId, Option<Tensor>>>,
    /// What was found so far of the gradients of results, by operation, the latest last.
    pending: BTreeMap<u64, Tensor>,
}

/// Something of the innermost pass. `f` must not wait for other threads.
fn innermost<R>(f: impl FnOnce(&mut Pass) -> R) -> Option<R> {
    PASSES.with_borrow_mut(|passes| passes.last_mut().map(f))
}

/// A backward pass under way.
pub(crate) struct Aside;

impl Aside {
    /// Gradients of these parameters are kept.
    pub(crate) fn begin(params: impl Iterator<Item = TensorId>) -> Self {
        let params = Some(params.map(|id| (id, None)).collect());
        PASSES.with_borrow_mut(|passes| passes.push(Pass { params, ..Pass::default() }));
        Self
    }

    /// The gradient that was put aside for a parameter.
    pub(crate) fn take(&self, id: TensorId) -> Option<Tensor> {
        innermost(|pass| pass.params.as_mut()?.get_mut(&id)?.take())?
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        drop(PASSES.with_borrow_mut(Vec::pop));
    }
}

/// Whether gradients of parameters can be put aside on this thread.
pub(crate) fn is_open() -> bool {
    innermost(|pass| pass.params.is_some()) == Some(true)
}

/// Adds to the gradient of a parameter that the innermost pass asks for; gives it back if that pass does not ask.
pub(crate) fn put_aside(param: TensorId, gradient: Tensor) -> Result<Option<Tensor>> {
    let place = |pass: &mut Pass| pass.params.as_mut()?.get_mut(&param).map(Option::take);
    let Some(before) = innermost(place).flatten() else { return Ok(Some(gradient)) };
    let total = with(before, gradient)?;
    innermost(|pass| pass.params.as_mut().and_then(|params| params.insert(param, Some(total))));
    Ok(None)
}

/// Puts aside what Candle found of gradients of parameters that the innermost pass asks for.
pub(crate) fn put_all_aside(store: &GradStore) -> Result<()> {
    for id in store.get_ids() {
        if let Some(gradient) = store.get_id(*id) {
            put_aside(*id, gradient.clone())?;
        }
    }
    Ok(())
}

/// Adds to the gradient of a node's result; whether it is the first one.
pub(crate) fn send(node: u64, gradient: Tensor) -> Result<bool> {
    let before = innermost(|pass| pass.pending.remove(&node)).flatten();
    let first = before.is_none();
    let total = with(before, gradient)?;
    innermost(|pass| pass.pending.insert(node, total));
    Ok(first)
}

/// What was sent to a node.
pub(crate) fn receive(node: u64) -> Option<Tensor> {
    innermost(|pass| pass.pending.remove(&node)).flatten()
}

/// What was sent to the latest operation that was sent anything.
pub(crate) fn latest() -> Option<(u64, Tensor)> {
    innermost(|pass| pass.pending.pop_last()).flatten()
}

fn with(before: Option<Tensor>, gradient: Tensor) -> Result<Tensor> {
    let gradient = gradient.detach();
    match before {
        Some(before) => add(&before, &gradient),
        None => Ok(gradient),
    }
}
