//! Prints a pickle as a tree, executing nothing: `cargo run --example pickle_tree -- refs.p`

#![allow(clippy::print_stdout)]

use torch_files::pickle::{Limits, Node, Pickle};

fn show(node: Node<'_>, depth: usize) {
    // A value may contain itself: the depth is bounded.
    if depth > 3 {
        return;
    }
    println!("{}{}", "  ".repeat(depth), node.describe());
    for (key, value) in node.entries().into_iter().flatten().take(10) {
        println!("{}{}:", "  ".repeat(depth + 1), key.as_str().unwrap_or("?"));
        show(value, depth + 2);
    }
    node.elements().into_iter().flatten().take(10).for_each(|element| show(element, depth + 1));
}

fn main() -> anyhow::Result<()> {
    let bytes = match std::env::args().nth(1) {
        Some(path) => std::fs::read(path)?,
        None => b"\x80\x02cargparse\nNamespace\n)\x81}X\x02\0\0\0lrK\x01sb.".to_vec(),
    };
    let (pickle, _) = Pickle::parse(&bytes, Limits::default())?;
    show(pickle.node(), 0);
    Ok(())
}
