//! The API server: the few ways in which the operator writes to it.

pub mod apply;
pub mod events;
pub mod lease;
pub mod watches;
