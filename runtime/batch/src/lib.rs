//! What every other crate speaks: SQL types, values, batches of columns with row kinds,
//! typed expressions over them, and the error type.
//!
//! A [`Batch`] is a set of Arrow columns plus an optional column of [`RowKind`]s; a batch without
//! row kinds holds only inserts, so append-only plans pay nothing for changelogs.

pub mod aggregate;
pub mod algebra;
pub mod batch;
pub mod calendar;
pub mod datum;
pub mod duration;
pub mod error;
pub mod expr;
pub mod fail;
pub mod memory_size;
pub mod types;

pub use aggregate::{Accumulator, AggregateFunction};
pub use batch::{Batch, RowKind};
pub use datum::Datum;
pub use error::{Error, ErrorKind, Result, Span};
pub use expr::{EvalContext, Expr, ExprKind, ScalarFunction, Value};
pub use types::{Field, SqlType, TypeKind};

/// Event or processing time in milliseconds since the epoch, as in Flink.
pub type Millis = i64;

/// "No watermark yet" (Flink: `Watermark.UNINITIALIZED`).
pub const WATERMARK_NONE: Millis = i64::MIN;
/// The watermark that ends a bounded input (Flink: `Watermark.MAX_WATERMARK`).
pub const WATERMARK_MAX: Millis = i64::MAX;
