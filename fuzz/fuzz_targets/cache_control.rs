#![no_main]
use cattleguard::fuzzing::CACHE_CONTROL;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cattleguard_fuzz::read(&CACHE_CONTROL, bytes));
