#![no_main]
use cattleguard::fuzzing::KEY;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cattleguard_fuzz::read(&KEY, bytes));
