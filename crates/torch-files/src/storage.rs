//! What a pickle says about storages: the persistent ids `('storage', type, key, location, elements[, view])`.

use std::collections::HashMap;

use crate::dtype::Dtype;
use crate::pickle::{Item, Node, Pickle};

/// A storage as a tensor refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StorageRef {
    pub(crate) key: String,
    /// Type of the elements that `elements` and offsets count.
    pub(crate) dtype: Dtype,
    pub(crate) location: String,
    pub(crate) elements: usize,
    /// Before PyTorch 0.4 a storage could be a part of another: first element and count.
    pub(crate) view: Option<(usize, usize)>,
}

/// Reads what stands where a storage belongs; the error says what is odd about it.
pub(crate) fn storage(node: Node<'_>, pickle: &Pickle) -> Result<StorageRef, String> {
    match node.item() {
        Some(Item::Persistent(id)) => of_id(pickle.at(*id)),
        _ => Err(format!("{} stands where a storage belongs", node.describe())),
    }
}

fn of_id(id: Node<'_>) -> Result<StorageRef, String> {
    let parts: Vec<Node<'_>> = id.elements().into_iter().flatten().take(7).collect();
    let [kind, class, key, location, elements, view @ ..] = parts.as_slice() else {
        return Err("a persistent id is no storage of PyTorch".into());
    };
    if kind.as_str() != Some("storage") {
        return Err("a persistent id is no storage of PyTorch".into());
    }
    let class = class.class().ok_or("a storage has no type")?;
    let dtype = class.rsplit('.').next().and_then(Dtype::from_storage);
    let dtype = dtype
        .filter(|_| class.starts_with("torch."))
        .ok_or_else(|| format!("storages of type {class} are unknown"))?;
    let key = key.as_str().ok_or("a storage has no key")?.to_owned();
    let elements = elements.as_size().ok_or_else(|| format!("storage {key} has an absurd size"))?;
    let view = match view.first().filter(|view| !view.is_none()) {
        None => None,
        Some(view) => {
            let parts: Vec<_> = view.elements().into_iter().flatten().take(4).collect();
            let sizes = match parts.as_slice() {
                [_, offset, size] => offset.as_size().zip(size.as_size()),
                _ => None,
            };
            let (offset, size) =
                sizes.ok_or_else(|| format!("the view of storage {key} is damaged"))?;
            if offset.checked_add(size).is_none_or(|end| end > elements) {
                return Err(format!("the view of storage {key} lies outside of it"));
            }
            Some((offset, size))
        }
    };
    let location = location.as_str().unwrap_or_default().to_owned();
    Ok(StorageRef { key, dtype, location, elements, view })
}

/// Every storage the pickle refers to, by key.
pub(crate) fn storages(pickle: &Pickle) -> Result<HashMap<String, StorageRef>, String> {
    let mut out: HashMap<String, StorageRef> = HashMap::new();
    for item in pickle.items() {
        let Item::Persistent(id) = item else { continue };
        let first = pickle.at(*id).elements().and_then(|mut parts| parts.next());
        // Old files name the classes of whole models this way, too.
        if first.and_then(|kind| kind.as_str()) != Some("storage") {
            continue;
        }
        let found = of_id(pickle.at(*id))?;
        match out.get(&found.key) {
            Some(known) if (known.dtype, known.elements) != (found.dtype, found.elements) => {
                return Err(format!("storage {} is described in two ways", found.key));
            }
            _ => out.insert(found.key.clone(), found),
        };
    }
    Ok(out)
}
