//! Functions on text. Positions count characters from 1.

pub(crate) mod basic;
pub(crate) mod concat;
pub(crate) mod encode;
pub(crate) mod printf;
pub(crate) mod regexp;
pub(crate) mod search;
#[cfg(test)]
mod tests;

use sluice_batch::TypeKind;

/// The varying type that holds what is cut from a text of this type.
fn varying(kind: &TypeKind) -> TypeKind {
    match kind {
        TypeKind::Char(n) | TypeKind::VarChar(n) => TypeKind::VarChar(*n),
        _ => TypeKind::STRING,
    }
}

/// The byte offset of the `n`-th character; the length of the text if it has fewer.
fn offset(text: &str, n: usize) -> usize {
    if text.is_ascii() { n.min(text.len()) } else { text.char_indices().nth(n).map_or(text.len(), |(at, _)| at) }
}

fn char_count(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}
