//! What several tests need.

#![allow(unreachable_pub)]

pub mod archives;
pub mod repositories;
