//! Lifeboat: the recovery toolkit for FreedomBox.
//!
//! Data flows one way, and nothing is written before an immutable plan was shown:
//!
//! ```text
//! Host ──survey──▶ Survey ──choose──▶ BackupLocation + Installation
//! BackupLocation ──source::open──▶ Archive
//! Archive ──verify──▶ Report and Contents
//! Archive ──export──▶ one file in FreedomBox's own form
//! Survey + Contents + Report + choices ──plan──▶ RestorePlan (immutable; its digest is the PlanId)
//! RestorePlan + Consent ──restore──▶ Outcome, with a journal on the target at every moment
//! Outcome ──handoff──▶ what the installed system runs at its next boot ──finish (there)──▶ each app works again
//! box that was never started ──grow──▶ its root filesystem is as large as its disk
//! failing disk ──salvage──▶ image, map of what was read, list of lost files
//! ```
//!
//! Promises: a source is never written to; old data stays until `commit`; success is never reported when anything
//! failed; every error says in which state the data is and which command comes next.
//!
//! `formats` parses bytes and opens nothing. `model` is plain data. `sys` has the effects. A stage never imports a
//! later one. Only `render` prints. `tests/architecture.rs` reads the imports and fails on a wrong arrow.

pub mod cli;
pub mod commands;
pub mod console;
pub mod deposit;
pub mod export;
pub mod failure;
pub mod finish;
pub mod formats;
pub mod grow;
pub mod guide;
pub mod handoff;
pub mod model;
pub mod plan;
pub mod render;
pub mod rescue;
pub mod restore;
pub mod salvage;
pub mod source;
pub mod survey;
pub mod sys;
pub mod verify;
pub mod web;
pub mod words;
