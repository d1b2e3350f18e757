//! Any bytes as a refs pickle: an error or records, never a panic, memory within a small multiple of the input.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| refzom_dataset::fuzzing::pickle(bytes));
