//! Text to [`crate::ast`].

use sluice_batch::{Error, Result};

use crate::ast::{Expr, Query, Statement};

/// Parses a script: statements ended by `;` (the last one may lack it). The span is where the statement begins.
///
/// # Errors
/// The first syntax error with line and column.
pub fn parse_script(_text: &str) -> Result<Vec<(Statement, sluice_batch::Span)>> {
    Err(Error::unsupported("parsing"))
}

/// Parses one query (a view's text).
///
/// # Errors
/// As [`parse_script`].
pub fn parse_query(_text: &str) -> Result<Query> {
    Err(Error::unsupported("parsing"))
}

/// Parses one expression.
///
/// # Errors
/// As [`parse_script`].
pub fn parse_expression(_text: &str) -> Result<Expr> {
    Err(Error::unsupported("parsing"))
}
