//! The numbers that golden weights and pictures are made of, from nothing but a name and a seed.
#![allow(clippy::print_stdout)] // an example shows its result

use dmmi_parity::{hash_ints, hash_values};

fn main() {
    let name = "model.classifier.conv1_1.weight";
    println!("{name}, seed 101: {:?}", hash_values(name, 101, 0.0, 0.09375, 4));
    println!("word pieces of a made sentence: {:?}", hash_ints("input.ids", 101, 1000, 30522, 8));
}
