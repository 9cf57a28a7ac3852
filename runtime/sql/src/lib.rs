//! Flink SQL text to typed relations.
//!
//! `lexer` and `parser` make an [`ast`] with the place of everything; `catalog` holds what was declared; `bind` resolves names,
//! types and functions and gives [`relation::Rel`]s, which the planner turns into operators.

pub mod ast;
pub mod bind;
pub mod catalog;
pub mod keywords;
mod lexer;
pub mod parser;
pub mod relation;
pub mod tree;
mod variables;

pub use variables::substitute_variables;
