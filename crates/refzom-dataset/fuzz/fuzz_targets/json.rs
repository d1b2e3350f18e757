//! Any bytes as refs json, as `instances.json` and as a line of one's own set.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| refzom_dataset::fuzzing::json(bytes));
