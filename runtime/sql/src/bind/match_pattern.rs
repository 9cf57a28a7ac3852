//! The PATTERN of MATCH_RECOGNIZE as a sequence of variables, by what Flink accepts (`CommonExecMatch`, `PatternVisitor`).

use sluice_batch::{Error, Result, Span};

use super::unsupported;
use crate::ast::{Ident, Pattern, PatternNode};

/// A variable with its quantifier.
pub(super) struct Element {
    pub name: Ident,
    pub min: u32,
    pub max: Option<u32>,
    /// Possessive. `?` and `{n}` are never: both ways are explored.
    pub greedy: bool,
}

/// The variables in order.
///
/// # Errors
/// What Flink's engine cannot run: alternation, repeated groups, PERMUTE, exclusion, `A??`, a variable twice, a pattern that may
/// be empty, a greedy quantifier at the end.
pub(super) fn elements(pattern: &Pattern) -> Result<Vec<Element>> {
    let mut out = Vec::new();
    sequence(pattern, &mut out)?;
    for (i, e) in out.iter().enumerate() {
        if out[..i].iter().any(|o| o.name.name == e.name.name) {
            return Err(Error::plan("Pattern variables must be unique. That might change in the future.").at(e.name.span));
        }
    }
    if out.iter().all(|e| e.min == 0) {
        return Err(Error::plan(
            "Patterns that can produce empty matches are not supported. There must be at least one non-optional state.",
        )
        .at(pattern.span));
    }
    if let Some(last) = out.last().filter(|e| e.greedy) {
        return Err(Error::plan(
            "Greedy quantifiers are not allowed as the last element of a Pattern yet. Finish your pattern with either a simple variable \
             or reluctant quantifier.",
        )
        .at(last.name.span));
    }
    Ok(out)
}

fn sequence(pattern: &Pattern, out: &mut Vec<Element>) -> Result<()> {
    match &pattern.node {
        PatternNode::Variable(name) => out.push(Element { name: name.clone(), min: 1, max: Some(1), greedy: false }),
        PatternNode::Concat(parts) => parts.iter().try_for_each(|p| sequence(p, out))?,
        // A group without a quantifier is just its parts.
        PatternNode::Group(inner) => sequence(inner, out)?,
        PatternNode::Quantified { inner, min, max, greedy } => out.push(quantified(inner, *min, *max, *greedy, pattern.span)?),
        // Flink accepts anchors and does not look at them: a stream's partition has no end, and its start is where it begins.
        PatternNode::Start | PatternNode::End => {}
        PatternNode::Alternation(_) => return Err(unsupported("an alternation ('|') in a pattern", pattern.span)),
        PatternNode::Permute(_) => return Err(unsupported("PERMUTE in a pattern", pattern.span)),
        PatternNode::Exclude(_) => {
            return Err(Error::plan("Currently, CEP doesn't support '{-' '-}' patterns.").at(pattern.span));
        }
    }
    Ok(())
}

fn quantified(inner: &Pattern, min: u32, max: Option<u32>, greedy: bool, span: Span) -> Result<Element> {
    let mut node = inner;
    while let PatternNode::Group(inner) = &node.node {
        node = inner;
    }
    let PatternNode::Variable(name) = &node.node else {
        return Err(Error::plan("Group patterns are not supported yet.").at(span).hint("quantifiers can only follow a variable"));
    };
    match max {
        Some(max) if max < min => {
            return Err(Error::plan(format!("The to should be a number greater than or equal to from: {min}.")).at(span));
        }
        Some(0) => return Err(Error::plan("a quantifier must allow at least one row").at(span)),
        Some(1) if min == 0 && !greedy => return Err(unsupported("a reluctant optional variable ('??')", span)),
        _ => {}
    }
    let fixed = max == Some(min) || (min, max) == (0, Some(1));
    Ok(Element { name: name.clone(), min, max, greedy: greedy && !fixed })
}
