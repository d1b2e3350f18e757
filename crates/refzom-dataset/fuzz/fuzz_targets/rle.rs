//! Any bytes as run lengths and as a polygon.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| refzom_dataset::fuzzing::rle(bytes));
