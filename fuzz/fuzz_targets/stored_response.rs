#![no_main]
use cattleguard::fuzzing::STORED_RESPONSE;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cattleguard_fuzz::read(&STORED_RESPONSE, bytes));
