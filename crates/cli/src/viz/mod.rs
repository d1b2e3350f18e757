//! Pictures for people: masks over photos, curves as SVG. Pure functions; nothing here knows a model.

pub(crate) mod bars;
pub(crate) mod curves;
pub(crate) mod overlay;
pub(crate) mod palette;
