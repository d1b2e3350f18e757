//! Any bytes as a picture file, JPEG or PNG.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| refzom_dataset::fuzzing::picture(bytes));
