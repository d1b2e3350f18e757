//! Expressions to word-piece ids, and the phrase that is hidden from them.
