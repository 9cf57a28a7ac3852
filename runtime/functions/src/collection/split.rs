//! `SPLIT(text, delimiter)`: an array of the parts, none of empty text; with an empty delimiter, of the characters
//! (Flink: `SplitFunction`).

use std::sync::Arc;

use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field};
use sluice_batch::{Expr, Result, TypeKind};

use super::{array_of, signatures};
use crate::kernel::Args;
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[Declaration { names: &["SPLIT"], bind }];

fn bind(mut call: Call<'_>) -> Result<Expr> {
    let texts = call.args.iter().all(|a| a.ty.kind.is_character() || a.ty.kind == TypeKind::Null);
    if call.args.len() != 2 || !texts {
        return Err(signatures(&call, &["SPLIT(<CHARACTER_STRING>, <CHARACTER_STRING>)"]));
    }
    for i in 0..2 {
        if call.args[i].ty.kind == TypeKind::Null {
            call.cast_arg(i, TypeKind::STRING)?;
        }
    }
    let ty = array_of(TypeKind::STRING.nullable()).with_nullable(call.any_nullable());
    Ok(call.kernel("SPLIT", ty, split))
}

fn split(args: &Args<'_>) -> Result<ArrayRef> {
    let (text, delimiter) = (args.str(0)?, args.str(1)?);
    let mut out = ListBuilder::new(StringBuilder::new()).with_field(Field::new("item", DataType::Utf8, true));
    for row in 0..args.len() {
        let Some((text, delimiter)) = text.get(row).zip(delimiter.get(row)) else {
            out.append(false);
            continue;
        };
        if delimiter.is_empty() {
            let mut buffer = [0; 4];
            text.chars().for_each(|c| out.values().append_value(c.encode_utf8(&mut buffer)));
        } else if !text.is_empty() {
            text.split(delimiter).for_each(|part| out.values().append_value(part));
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}
