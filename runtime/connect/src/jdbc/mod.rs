//! What the source, the look-ups and the sink of the `jdbc` connector share: PostgreSQL behind a JDBC URL.

pub(crate) mod catalog;
pub(crate) mod client;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod filter;
pub(crate) mod lookup;
pub(crate) mod sql;
pub(crate) mod table;
mod tls;
pub(crate) mod transaction;
pub(crate) mod url;
pub(crate) mod write;
