//! Functions of no larger family: hashes, URLs, IP addresses, UUIDs.

pub(crate) mod hash;
pub(crate) mod inet;
pub(crate) mod session;
pub(crate) mod url;
pub(crate) mod uuid;
