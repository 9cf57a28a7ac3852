//! SQL/JSON functions, JSON text functions and VARIANT.

pub(crate) mod construct;
mod filter;
mod path;
pub(crate) mod predicate;
pub(crate) mod query;
pub(crate) mod quote;
mod render;
#[cfg(test)]
mod tests;
mod value;
pub(crate) mod variant;

pub use construct::to_json;
pub use value::{Json, JsonError, parse, parse_all};
pub(crate) use value::{compare_keys, write_string};
pub(crate) use variant::write_part;
