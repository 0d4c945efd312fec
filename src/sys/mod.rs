//! Effects: the only module that calls the operating system beyond plain file reading and writing.
//!
//! Owns block devices, mounts, files, terminals, external programs and the clock. Everything starts at a [`host::Host`], so that
//! tests pass a directory in place of the machine. Never decides anything: stages do.

pub mod block;
pub mod command;
pub mod dir;
pub mod echo;
pub mod fault;
pub mod file;
pub mod filesystem;
pub mod host;
pub mod image;
pub mod mount;
pub mod overlay;
pub mod terminal;
pub mod tree;

use crate::model::bytes;
use std::io;
use std::path::Path;

/// An operation that the system refused.
#[derive(Debug, thiserror::Error)]
#[error("{operation} '{subject}': {source}")]
pub struct SysError {
    /// What was tried: a gerund, such as "mounting".
    pub operation: &'static str,
    /// On what: a path or a program, printable.
    pub subject: String,
    /// The system's answer.
    pub source: io::Error,
}

impl SysError {
    /// Keeps an error together with what was tried on which path.
    pub fn new(operation: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self { operation, subject: bytes::path::shown(path), source: source.into() }
    }
}
