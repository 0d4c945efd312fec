//! What several tests need.

#![allow(unreachable_pub)]

pub mod archives;
pub mod boxes;
pub mod cases;
pub mod crafted;
pub mod disks;
pub mod ends;
pub mod failing;
pub mod people;
pub mod person;
pub mod recorder;
pub mod repositories;
pub mod rescue;
pub mod running;
pub mod scenes;
pub mod slow;
pub mod transcript;
