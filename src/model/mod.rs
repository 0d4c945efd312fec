//! Plain data shared by the stages.
//!
//! Owns the value types that flow between stages: they can be saved, shown, compared and fed back.
//! Never opens, reads or writes anything; imports std and serde only (sha2 for digests).
//! A value that exists is valid: every type is made by parsing, and serde goes through the same door.

pub mod account;
pub mod app;
pub mod archive;
pub mod bytes;
pub mod cause;
pub mod cluster;
pub mod desk;
pub mod digest;
pub mod disk;
pub mod ending;
pub mod entry;
pub mod extra;
pub mod finding;
pub mod finish;
pub mod growth;
pub mod installation;
pub mod manifest;
pub mod meter;
pub mod papers;
pub mod path;
pub mod pipe;
pub mod plan;
pub mod progress;
pub mod question;
pub mod secret;
pub mod site;
pub mod size;
pub mod state;
pub mod survey;
pub mod version;
