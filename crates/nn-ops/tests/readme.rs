//! The README quotes the examples word for word.
#![allow(clippy::unwrap_used)]

#[test]
fn examples_are_quoted() {
    let readme = include_str!("../README.md");
    for (name, text) in [
        ("train_tiny", include_str!("../examples/train_tiny.rs")),
        ("gradient_check", include_str!("../examples/gradient_check.rs")),
    ] {
        let body = &text[text.find("use candle_core").unwrap()..];
        assert!(readme.contains(body.trim_end()), "README.md quotes an older {name}.rs");
    }
}
