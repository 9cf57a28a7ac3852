//! Functions over several arrays of one type: ARRAY_CONCAT, ARRAY_UNION, ARRAY_EXCEPT, ARRAY_INTERSECT.
//! The last three treat arrays as sets, in which NULL is a value.

use arrow::array::ArrayRef;
use hashbrown::HashSet;
use sluice_batch::{Expr, Result};

use super::lists::{Keys, ListArg, ListsBuilder, Position};
use super::{is_array, signatures, unify_all};
use crate::kernel::{Args, Body};
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["ARRAY_CONCAT"], bind: |c| bind(c, "ARRAY_CONCAT", usize::MAX, concat) },
    Declaration { names: &["ARRAY_UNION"], bind: |c| bind(c, "ARRAY_UNION", 2, union) },
    Declaration { names: &["ARRAY_EXCEPT"], bind: |c| bind(c, "ARRAY_EXCEPT", 2, except) },
    Declaration { names: &["ARRAY_INTERSECT"], bind: |c| bind(c, "ARRAY_INTERSECT", 2, intersect) },
];

fn bind(mut call: Call<'_>, name: &'static str, most: usize, body: Body) -> Result<Expr> {
    let form = if most == 2 { format!("{name}(<COMMON>, <COMMON>)") } else { format!("{name}(<COMMON>...)") };
    let least = if most == 2 { 2 } else { 1 };
    if call.args.len() < least || call.args.len() > most {
        return Err(signatures(&call, &[&form]));
    }
    match unify_all(&mut call, is_array) {
        Some(ty) => Ok(call.kernel(name, ty, body)),
        None => Err(signatures(&call, &[&form])),
    }
}

/// Calls `make` for every row in which no array is NULL with the positions of the arrays' elements.
fn each_row(args: &Args<'_>, mut make: impl FnMut(&Keys, &[Vec<Position>]) -> Vec<Position>) -> Result<ArrayRef> {
    let lists = (0..args.count()).map(|i| ListArg::new(args, i)).collect::<Result<Vec<_>>>()?;
    let sources: Vec<&ArrayRef> = lists.iter().map(ListArg::values).collect();
    let keys = Keys::new(&sources)?;
    let mut out = ListsBuilder::new(args.len());
    for row in 0..args.len() {
        let positions = |(i, list): (usize, &ListArg<'_>)| Some(list.range(row)?.map(|at| (i, at)).collect());
        let all: Option<Vec<Vec<Position>>> = lists.iter().enumerate().map(positions).collect();
        out.push(all.map(|all| make(&keys, &all)));
    }
    out.finish(args.ty, &sources)
}

fn concat(args: &Args<'_>) -> Result<ArrayRef> {
    each_row(args, |_, lists| lists.concat())
}

/// Each value once.
fn distinct(keys: &Keys, positions: impl IntoIterator<Item = Position>) -> Vec<Position> {
    let mut seen = HashSet::new();
    positions.into_iter().filter(|p| seen.insert(keys.get(*p))).collect()
}

fn union(args: &Args<'_>) -> Result<ArrayRef> {
    each_row(args, |keys, lists| distinct(keys, lists.concat()))
}

fn except(args: &Args<'_>) -> Result<ArrayRef> {
    filtered(args, false)
}

fn intersect(args: &Args<'_>) -> Result<ArrayRef> {
    filtered(args, true)
}

/// The distinct values of the first array that are, or are not, in the second.
fn filtered(args: &Args<'_>, present: bool) -> Result<ArrayRef> {
    each_row(args, |keys, lists| {
        let [left, right] = lists else { return vec![] };
        let right: HashSet<&[u8]> = right.iter().map(|p| keys.get(*p)).collect();
        distinct(keys, left.iter().copied().filter(|p| right.contains(keys.get(*p)) == present))
    })
}
