//! Names, types and functions resolved: [`crate::ast`] to [`crate::relation`].

use sluice_batch::{Error, Result};

use crate::ast;
use crate::catalog::Catalog;
use crate::relation::BoundStatement;

/// Binds an INSERT against the catalog.
///
/// # Errors
/// Unknown names (with a did-you-mean), wrong types, with line and column.
pub fn bind_insert(_insert: &ast::Insert, _catalog: &Catalog) -> Result<BoundStatement> {
    Err(Error::unsupported("INSERT"))
}

/// Binds a bare query.
///
/// # Errors
/// As [`bind_insert`].
pub fn bind_query(_query: &ast::Query, _catalog: &Catalog) -> Result<BoundStatement> {
    Err(Error::unsupported("SELECT"))
}
