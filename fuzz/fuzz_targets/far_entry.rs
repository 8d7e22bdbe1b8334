#![no_main]
use cattleguard::fuzzing::FAR_ENTRY;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| cattleguard_fuzz::read(&FAR_ENTRY, bytes));
