//! Sizes that can only be typing errors.

/// Refuses the first of `(key, size, most)` whose size is above what it may be at most: nothing is to be allocated for it.
pub(crate) fn at_most(sizes: &[(&str, usize, usize)]) -> Result<(), String> {
    match sizes.iter().find(|(_, size, most)| size > most) {
        Some((key, size, most)) => {
            Err(format!("{key} {size} is beyond all reason; use at most {most}"))
        }
        None => Ok(()),
    }
}
