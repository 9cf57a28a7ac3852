//! The API server: the few ways in which the operator reads its children and writes to it.

pub mod apply;
pub mod children;
pub mod deletion;
pub mod events;
pub mod lease;
pub mod watches;
