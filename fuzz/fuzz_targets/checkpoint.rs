//! `checkpoint` of `fulgurite_fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fulgurite_fuzz::checkpoint(bytes));
