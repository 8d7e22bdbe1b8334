#![no_main]
use cattleguard::fuzzing::MESSAGE;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cattleguard_fuzz::read(&MESSAGE, bytes));
