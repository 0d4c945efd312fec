//! Pure parsers: they get bytes or a reader, never a path, and open nothing.

pub mod acl;
pub mod backup_manifest;
pub mod elf;
pub mod passwd;
pub mod tarball;
