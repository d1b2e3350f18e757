//! The tensors of nested dicts by name; and what training wrappers add to names.

use crate::pickle::{Item, Node, Pickle};
use crate::tensor::{TensorInfo, tensor_at};

/// A tensor under the path of its keys, joined by dots.
pub type Named = (String, TensorInfo);

/// Deepest nesting that is walked.
const DEPTH: usize = 40;
/// Most values looked at, counted each time they are met.
const VISITS: usize = 1 << 20;
/// Longest name.
const NAME: usize = 4096;

/// Every tensor below `node`, in the order of the file; the error tells where.
pub(crate) fn named(node: Node<'_>, pickle: &Pickle) -> Result<Vec<Named>, (String, String)> {
    let mut out = Vec::new();
    let mut visits = 0;
    let mut open = vec![(String::new(), node, 0usize)];
    while let Some((name, node, depth)) = open.pop() {
        let place = || if name.is_empty() { "data.pkl".into() } else { name.clone() };
        visits += 1;
        if depth > DEPTH || visits > VISITS || name.len() > NAME {
            let message = "its parts contain each other without end, or repeat without measure";
            return Err((name.chars().take(80).collect(), message.into()));
        }
        if let Some(tensor) = tensor_at(node, pickle).map_err(|message| (place(), message))? {
            out.push((name, tensor));
            continue;
        }
        let join =
            |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
        let from = open.len();
        if visits + open.len() > VISITS {
            continue; // The next visit says so.
        }
        if let Some(entries) = node.entries() {
            let named = |key: Node<'_>| match (key.as_str(), key.as_i64()) {
                (Some(text), _) => Some(join(text)),
                (None, Some(number)) => Some(join(&number.to_string())),
                _ => None,
            };
            let entries = entries.filter(|&(_, v)| may_hold(v));
            open.extend(entries.filter_map(|(k, v)| Some((named(k)?, v, depth + 1))));
        } else if let Some(attributes) = node.attributes() {
            // A module that was saved whole: its state dict is spread over three dicts of the same level.
            for part in ["_parameters", "_buffers", "_modules"] {
                if let Some(part) = attributes.entries().and_then(|_| attributes.get(part)) {
                    open.push((name.clone(), part, depth + 1));
                }
            }
        } else if let Some(elements) = parts(node).and_then(|parts| parts.elements()) {
            let items = elements.enumerate().filter(|&(_, v)| may_hold(v));
            open.extend(items.map(|(i, v)| (join(&i.to_string()), v, depth + 1)));
        }
        open[from..].reverse();
    }
    Ok(out)
}

/// Whether a tensor may lie here or below.
fn may_hold(node: Node<'_>) -> bool {
    use Item::{Dict, List, Object, Set, Tuple};
    matches!(node.item(), Some(Dict(_) | List(_) | Object(_) | Set(_) | Tuple(_)))
}

/// What holds the elements: of an object that nothing was appended to (a `namedtuple`), what it was made of.
fn parts(node: Node<'_>) -> Option<Node<'_>> {
    match node.item()? {
        Item::Object(object) if object.appended.is_empty() => node.args(),
        _ => Some(node),
    }
}

/// Removes `prefix` from all names if all have it (`module.`, which `DistributedDataParallel` puts there).
pub fn strip_prefix(names: &mut [Named], prefix: &str) -> bool {
    let all = !names.is_empty() && names.iter().all(|(name, _)| name.starts_with(prefix));
    if all {
        names.iter_mut().for_each(|(name, _)| *name = name.split_off(prefix.len()));
    }
    all
}
