//! Parsers of foreign formats: bytes in, values out.
//!
//! They get `Read` or bytes, never a path; they import only `model`. Bad input is an error that says what is wrong and
//! where, never a panic and never a guess. Every length is checked against a limit before memory is taken for it.

pub mod backup_manifest;
pub mod tarball;
