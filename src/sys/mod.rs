//! Effects: everything that touches the machine goes through here, so that tests can hand in another machine.

pub mod dir;
pub mod fault;
pub mod tree;
