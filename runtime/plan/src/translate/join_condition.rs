//! A join's condition taken apart: equalities, a time interval, and the rest.

use sluice_batch::{Datum, Expr, ExprKind, Millis, TypeKind};
use sluice_sql::relation::Rel;

use crate::expressions::{call, columns, comparison, conjuncts, constant, equality, mirrored, null_safe_equality, without_casts};
use crate::time::{is_proctime, is_rowtime};

/// `left = right`: `left` over the left input's columns, `right` over the right's.
#[derive(Clone, Debug)]
pub(super) struct Equality {
    pub left: Expr,
    pub right: Expr,
    pub null_safe: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Condition {
    pub equal: Vec<Equality>,
    /// Over left columns, then right columns.
    pub rest: Vec<Expr>,
}

/// `left.time + lower <= right.time <= left.time + upper`, and which conjuncts of the rest say so.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Interval {
    pub left_time: usize,
    pub right_time: usize,
    pub lower: Millis,
    pub upper: Millis,
    pub proctime: bool,
    from_rest: Vec<usize>,
    from_equal: Vec<usize>,
}

impl Condition {
    pub fn split(condition: &Expr, left: &Rel, right: &Rel) -> Self {
        let width = left.schema.len();
        let _ = right;
        let mut out = Self { equal: vec![], rest: vec![] };
        for conjunct in conjuncts(condition) {
            let pair = equality(&conjunct).map(|p| (p, false)).or_else(|| null_safe_equality(&conjunct).map(|p| (p, true)));
            match pair.and_then(|((a, b), null_safe)| equal_sides(a, b, width, null_safe)) {
                Some(equality) => out.equal.push(equality),
                None => out.rest.push(conjunct),
            }
        }
        out
    }

    /// The time interval that the condition says, if it has both ends (Flink: `IntervalJoinUtil.extractWindowBounds`).
    pub fn interval(&self, left: &Rel, right: &Rel) -> Option<Interval> {
        let width = left.schema.len();
        let times = |accept: fn(&sluice_sql::relation::ColumnDef) -> bool| {
            move |c: usize| if c < width { accept(&left.schema[c]) } else { right.schema.get(c - width).is_some_and(accept) }
        };
        [(false, is_rowtime as fn(&_) -> bool), (true, is_proctime)].into_iter().find_map(|(proctime, accept)| {
            let is_time = times(accept);
            self.bounds(width, &is_time).map(|i| Interval { proctime, ..i })
        })
    }

    fn bounds(&self, width: usize, is_time: &dyn Fn(usize) -> bool) -> Option<Interval> {
        let (mut lower, mut upper): (Option<Millis>, Option<Millis>) = (None, None);
        let mut pair: Option<(usize, usize)> = None;
        let (mut from_rest, mut from_equal) = (vec![], vec![]);
        let mut take = |op: &str, a: &Expr, b: &Expr| -> bool {
            let (Some((a, a_shift)), Some((b, b_shift))) = (shifted_column(a), shifted_column(b)) else { return false };
            if !is_time(a) || !is_time(b) || (a < width) == (b < width) {
                return false;
            }
            // right op left + shift
            let (op, l, r, shift) =
                if a < width { (mirrored(op), a, b - width, a_shift - b_shift) } else { (op, b, a - width, b_shift - a_shift) };
            if pair.is_some_and(|p| p != (l, r)) {
                return false;
            }
            pair = Some((l, r));
            let raise = |bound: &mut Option<Millis>, v: Millis| *bound = Some(bound.map_or(v, |b| b.max(v)));
            let sink = |bound: &mut Option<Millis>, v: Millis| *bound = Some(bound.map_or(v, |b| b.min(v)));
            match op {
                ">=" => raise(&mut lower, shift),
                ">" => raise(&mut lower, shift + 1),
                "<=" => sink(&mut upper, shift),
                "<" => sink(&mut upper, shift - 1),
                _ => {
                    raise(&mut lower, shift);
                    sink(&mut upper, shift);
                }
            }
            true
        };
        for (i, conjunct) in self.rest.iter().enumerate() {
            if comparison(conjunct).is_some_and(|(op, a, b)| take(op, a, b)) {
                from_rest.push(i);
            }
        }
        for (i, e) in self.equal.iter().enumerate().filter(|(_, e)| !e.null_safe) {
            let right = e.right.map_columns(&|c, ty| Expr::column(c + width, ty.clone()));
            if take("=", &e.left, &right) {
                from_equal.push(i);
            }
        }
        let (left_time, right_time) = pair?;
        Some(Interval { left_time, right_time, lower: lower?, upper: upper?, proctime: false, from_rest, from_equal })
    }

    /// Leaves out what the interval says.
    pub fn drop_interval(&mut self, interval: &Interval) {
        let mut i = 0;
        self.rest.retain(|_| {
            i += 1;
            !interval.from_rest.contains(&(i - 1))
        });
        let mut i = 0;
        self.equal.retain(|_| {
            i += 1;
            !interval.from_equal.contains(&(i - 1))
        });
    }
}

/// An equality of one expression a side.
fn equal_sides(a: &Expr, b: &Expr, width: usize, null_safe: bool) -> Option<Equality> {
    let left_only = |e: &Expr| !columns(e).is_empty() && columns(e).iter().all(|c| *c < width) && e.is_deterministic();
    let right_only = |e: &Expr| !columns(e).is_empty() && columns(e).iter().all(|c| *c >= width) && e.is_deterministic();
    let (l, r) = match () {
        _ if left_only(a) && right_only(b) => (a, b),
        _ if right_only(a) && left_only(b) => (b, a),
        _ => return None,
    };
    let right = r.map_columns(&|c, ty| Expr::column(c - width, ty.clone()));
    Some(Equality { left: l.clone(), right, null_safe })
}

/// `column ± constant interval`: the column and the milliseconds added to it.
fn shifted_column(expr: &Expr) -> Option<(usize, Millis)> {
    if let ExprKind::Column(c) = expr.kind {
        return Some((c, 0));
    }
    // Only casts between precisions keep the instant.
    let below = without_casts(expr);
    if !std::ptr::eq(below, expr) {
        let same = matches!(
            (&below.ty.kind, &expr.ty.kind),
            (TypeKind::Timestamp(_), TypeKind::Timestamp(_)) | (TypeKind::TimestampLtz(_), TypeKind::TimestampLtz(_))
        );
        return if same { shifted_column(below) } else { None };
    }
    let (op, [a, b]) = call(expr)? else { return None };
    let interval = |e: &Expr| match constant(e) {
        Some(Datum::IntervalDayTime(ms)) => Some(ms),
        _ => None,
    };
    match op {
        "+" => match (shifted_column(a), interval(b)) {
            (Some((c, shift)), Some(ms)) => Some((c, shift + ms)),
            _ => shifted_column(b).zip(interval(a)).map(|((c, shift), ms)| (c, shift + ms)),
        },
        "-" => shifted_column(a).zip(interval(b)).map(|((c, shift), ms)| (c, shift - ms)),
        _ => None,
    }
}
