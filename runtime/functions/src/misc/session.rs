//! CURRENT_DATABASE.

use sluice_batch::{Datum, Expr, Result, TypeKind};

use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[Declaration { names: &["CURRENT_DATABASE"], bind }];

/// There is one database, with the name that Flink's has.
fn bind(call: Call<'_>) -> Result<Expr> {
    match call.args.is_empty() {
        true => Ok(Expr::literal(Datum::string("default_database"), TypeKind::STRING.not_null())),
        false => Err(call.wrong_count(0)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use crate::testing::{call, lit, s};

    #[test]
    fn the_database_is_flinks_default() {
        let bound = call("CURRENT_DATABASE", vec![]).unwrap();
        assert_eq!((bound.as_literal(), bound.ty.to_string().as_str()), (Some(&s("default_database")), "STRING NOT NULL"));
        assert!(call("CURRENT_DATABASE", vec![lit(s("x"))]).is_err());
    }
}
