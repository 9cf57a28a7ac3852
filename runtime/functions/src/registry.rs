//! Which functions there are: lists of families, and lookup by name.

use std::sync::OnceLock;

use hashbrown::HashMap;
use sluice_batch::Error;

use crate::{AggregateDeclaration, Declaration, collection, conditional, json, math, misc, operator, string, time};

/// Scalar functions and operators, one entry a family (a file).
static REGISTRY: &[&[Declaration]] = &[
    collection::aggregate::FUNCTIONS,
    collection::array::FUNCTIONS,
    collection::construct::FUNCTIONS,
    collection::item::FUNCTIONS,
    collection::map::FUNCTIONS,
    collection::set::FUNCTIONS,
    collection::split::FUNCTIONS,
    conditional::FUNCTIONS,
    json::construct::FUNCTIONS,
    json::predicate::FUNCTIONS,
    json::query::FUNCTIONS,
    json::quote::FUNCTIONS,
    json::variant::FUNCTIONS,
    math::elementary::FUNCTIONS,
    math::random::FUNCTIONS,
    math::round::FUNCTIONS,
    misc::hash::FUNCTIONS,
    misc::inet::FUNCTIONS,
    misc::session::FUNCTIONS,
    misc::url::FUNCTIONS,
    misc::uuid::FUNCTIONS,
    operator::arithmetic::FUNCTIONS,
    operator::comparison::FUNCTIONS,
    operator::like::FUNCTIONS,
    operator::membership::FUNCTIONS,
    operator::truth::FUNCTIONS,
    string::basic::FUNCTIONS,
    string::concat::FUNCTIONS,
    string::encode::FUNCTIONS,
    string::printf::FUNCTIONS,
    string::regexp::FUNCTIONS,
    string::search::FUNCTIONS,
    time::clock::FUNCTIONS,
    time::difference::FUNCTIONS,
    time::epoch::FUNCTIONS,
    time::extract::FUNCTIONS,
    time::text::FUNCTIONS,
];

/// Aggregate functions, one entry a family.
static AGGREGATES: &[&[AggregateDeclaration]] = crate::aggregate::FAMILIES;

fn scalar_index() -> &'static HashMap<&'static str, &'static Declaration> {
    static INDEX: OnceLock<HashMap<&'static str, &'static Declaration>> = OnceLock::new();
    INDEX.get_or_init(|| REGISTRY.iter().copied().flatten().flat_map(|d| d.names.iter().map(move |n| (*n, d))).collect())
}

fn aggregate_index() -> &'static HashMap<&'static str, &'static AggregateDeclaration> {
    static INDEX: OnceLock<HashMap<&'static str, &'static AggregateDeclaration>> = OnceLock::new();
    INDEX.get_or_init(|| AGGREGATES.iter().copied().flatten().flat_map(|d| d.names.iter().map(move |n| (*n, d))).collect())
}

/// The scalar function of this name, in any case.
pub(crate) fn scalar(name: &str) -> Option<&'static Declaration> {
    let index = scalar_index();
    index.get(name).or_else(|| index.get(name.to_ascii_uppercase().as_str())).copied()
}

/// The aggregate function of this name, in any case.
pub(crate) fn aggregate(name: &str) -> Option<&'static AggregateDeclaration> {
    let index = aggregate_index();
    index.get(name).or_else(|| index.get(name.to_ascii_uppercase().as_str())).copied()
}

/// All names of functions (not operators) in order, for SHOW FUNCTIONS.
pub fn names() -> Vec<&'static str> {
    let names = scalar_index().keys().chain(aggregate_index().keys());
    let mut names: Vec<&str> = names.copied().filter(|n| n.starts_with(|c: char| c.is_ascii_alphabetic()) && !n.contains(' ')).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// "No such function", with the name that was probably meant.
pub fn unknown(name: &str) -> Error {
    let wanted = name.to_ascii_uppercase();
    let names = scalar_index().keys().chain(aggregate_index().keys());
    let best = names.map(|n| (strsim::damerau_levenshtein(n, &wanted), *n)).min();
    let error = Error::plan(format!("No match found for function signature {name}"));
    match best {
        Some((distance, near)) if distance <= 1 + wanted.len() / 4 => error.hint(format!("did you mean {near}?")),
        _ => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_declared_twice() {
        let mut seen = std::collections::HashSet::new();
        for name in REGISTRY.iter().copied().flatten().flat_map(|d| d.names) {
            assert!(seen.insert(*name), "{name} is declared twice");
            assert_eq!(*name, name.to_ascii_uppercase(), "names are upper case");
        }
        let mut seen = std::collections::HashSet::new();
        for name in AGGREGATES.iter().copied().flatten().flat_map(|d| d.names) {
            assert!(seen.insert(*name), "{name} is declared twice");
        }
    }
}
