//! The program for the parser that has this program's name.

#![no_main]

mod targets;

libfuzzer_sys::fuzz_target!(|input: &[u8]| targets::named(env!("CARGO_BIN_NAME"))(input));
