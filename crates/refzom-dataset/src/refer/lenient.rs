//! What other programs write where a number, a text or a list belongs: `null`, and a bool for a flag.

use serde::{Deserialize, Deserializer};

/// `null` is the default.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a flag is neither 0, 1 nor a bool")]
enum Flag {
    Number(u8),
    Bool(bool),
}

/// 0 or 1, a bool, or `null`.
pub(crate) fn flag<'de, D: Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    Ok(match Option::deserialize(from)? {
        Some(Flag::Number(number)) => number,
        Some(Flag::Bool(flag)) => flag.into(),
        None => 0,
    })
}
