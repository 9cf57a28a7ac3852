//! One start at a time over a key's rows: the threads of the current start go on where they stopped, so no row is seen twice by a start.
//!
//! Proven equal to Flink's parallel partial matches, emission times included, by `study/match_model.py`.

use sluice_batch::algebra::SkipTo;
use sluice_batch::{Error, EvalContext, Millis, Result, SqlType};

use super::condition::Condition;
use super::pattern::{FINAL, Program};
use super::rows::{Chunks, KeyRows};
use super::view::View;

/// What decides whether a variable takes a row.
#[derive(Default)]
pub struct Variable {
    /// The part of the condition that was evaluated per batch is in the chunks' `current`.
    pub has_current: bool,
    pub rest: Option<Condition>,
}

/// The compiled clause without its measures.
pub struct Matcher {
    pub program: Program,
    pub variables: Vec<Variable>,
    pub skip: SkipTo,
    pub names: Vec<String>,
    pub within: Option<Millis>,
    /// Types of the argument columns.
    pub types: Vec<SqlType>,
}

/// What a start came to.
enum Outcome {
    /// The boundaries of the variables.
    Match(Vec<u32>),
    Fail,
    NeedRows,
}

/// Threads under construction; kept to reuse the allocations.
#[derive(Default)]
pub struct Scratch {
    threads: Vec<usize>,
    bounds: Vec<u32>,
    states: Vec<usize>,
    edges: Vec<(usize, usize)>,
    /// Whether a variable takes the row, for the thread at hand.
    known: Vec<Option<bool>>,
}

/// What is the same for all rows of a step.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    pub chunks: &'a Chunks,
    pub context: &'a EvalContext,
    pub time: Millis,
}

impl Matcher {
    /// Goes on with a key's rows: `emit` is called for each match with its boundaries before its rows are released.
    /// `time` is the event time of the newest row, or the watermark.
    ///
    /// # Errors
    /// If a condition fails to evaluate, or a skip would go nowhere (as in Flink).
    pub fn drain(
        &self,
        key: &mut KeyRows,
        rows: usize,
        time: Millis,
        chunks: &mut Chunks,
        context: &EvalContext,
        scratch: &mut Scratch,
        emit: &mut dyn FnMut(&KeyRows, &Chunks, &[u32]) -> Result<()>,
    ) -> Result<()> {
        let mut rows = rows;
        while rows > 0 {
            let outcome = self.run(key, rows, Step { chunks, context, time }, scratch)?;
            let released = match outcome {
                Outcome::NeedRows if self.within.is_some_and(|w| time.saturating_sub(key.rows[0].0) >= w) => 1,
                Outcome::NeedRows => return Ok(()),
                Outcome::Fail => 1,
                Outcome::Match(bounds) => {
                    emit(key, chunks, &bounds)?;
                    self.skip(&bounds)?
                }
            };
            key.advance(released, chunks);
            rows -= released;
        }
        Ok(())
    }

    /// How many rows the next start is behind the start of a match.
    fn skip(&self, bounds: &[u32]) -> Result<usize> {
        let to = |variable: usize, last: bool| {
            let (from, to) = (bounds[variable] as usize, bounds[variable + 1] as usize);
            let name = &self.names[variable];
            if from == to {
                return Err(Error::runtime(format!("AFTER MATCH SKIP TO {name}: the match has no row of {name}")));
            }
            let row = if last { to - 1 } else { from };
            if row == 0 {
                return Err(Error::runtime(format!(
                    "AFTER MATCH SKIP TO {name} goes to the first row of the match, so the same match would be found for ever"
                ))
                .hint("skip to a later variable, or use SKIP TO NEXT ROW"));
            }
            Ok(row)
        };
        match &self.skip {
            SkipTo::PastLastRow => Ok(bounds[bounds.len() - 1] as usize),
            SkipTo::NextRow => Ok(1),
            SkipTo::First(variable) => to(*variable, false),
            SkipTo::Last(variable) => to(*variable, true),
        }
    }

    /// Shows the rows up to `rows` to the threads of the current start.
    fn run(&self, key: &mut KeyRows, rows: usize, step: Step<'_>, scratch: &mut Scratch) -> Result<Outcome> {
        let stride = self.program.variables + 1;
        if !key.started {
            key.started = true;
            key.threads.push(self.program.start);
            key.bounds.resize(stride, 0);
        }
        let start = key.rows[0].0;
        while key.seen < rows {
            let row = key.seen;
            if row > 0 && self.within.is_some_and(|w| key.rows[row].0.saturating_sub(start) >= w) {
                return Ok(Outcome::Fail);
            }
            scratch.threads.clear();
            scratch.bounds.clear();
            for thread in 0..key.threads.len() {
                if let Some(bounds) = self.step(key, thread, row, step, scratch)? {
                    return Ok(Outcome::Match(bounds));
                }
            }
            std::mem::swap(&mut key.threads, &mut scratch.threads);
            std::mem::swap(&mut key.bounds, &mut scratch.bounds);
            key.seen += 1;
            if key.threads.is_empty() {
                return Ok(Outcome::Fail);
            }
        }
        Ok(Outcome::NeedRows)
    }

    /// Shows one row to one thread; new threads go to `scratch`. Answers the boundaries if it completes the match.
    fn step(&self, key: &KeyRows, thread: usize, row: usize, step: Step<'_>, scratch: &mut Scratch) -> Result<Option<Vec<u32>>> {
        let stride = self.program.variables + 1;
        let bounds = &key.bounds[thread * stride..(thread + 1) * stride];
        let view = View { key, chunks: step.chunks, types: &self.types, bounds, candidate: None, time: step.time, context: step.context };
        scratch.known.clear();
        scratch.known.resize(self.program.variables, None);
        scratch.edges.clear();
        scratch.states.clear();
        scratch.states.push(key.threads[thread]);
        while let Some(state) = scratch.states.pop() {
            for (at, edge) in self.program.states[state].iter().enumerate() {
                if self.passes(edge, &view, row, &mut scratch.known)? {
                    match edge.take {
                        None => scratch.states.push(edge.target),
                        Some(_) => scratch.edges.push((state, at)),
                    }
                }
            }
        }
        for i in 0..scratch.edges.len() {
            let (state, at) = scratch.edges[i];
            let edge = &self.program.states[state][at];
            let from = scratch.bounds.len();
            scratch.bounds.extend_from_slice(bounds);
            let variable = edge.take.unwrap_or(0);
            scratch.bounds[from + variable + 1..].fill(row as u32 + 1);
            if edge.target == FINAL || self.may_end(edge.target, &view, row, scratch)? {
                return Ok(Some(scratch.bounds[from..].to_vec()));
            }
            scratch.threads.push(edge.target);
        }
        Ok(None)
    }

    /// Whether the end can be reached without a further row, in the context before this row was taken (Flink: `findFinalStateAfterProceed`).
    fn may_end(&self, state: usize, view: &View<'_>, row: usize, scratch: &mut Scratch) -> Result<bool> {
        scratch.states.clear();
        scratch.states.push(state);
        while let Some(state) = scratch.states.pop() {
            for edge in self.program.states[state].iter().filter(|e| e.take.is_none()) {
                if self.passes(edge, view, row, &mut scratch.known)? {
                    if edge.target == FINAL {
                        return Ok(true);
                    }
                    scratch.states.push(edge.target);
                }
            }
        }
        Ok(false)
    }

    fn passes(&self, edge: &super::pattern::Edge, view: &View<'_>, row: usize, known: &mut [Option<bool>]) -> Result<bool> {
        if let Some(variable) = edge.take
            && !self.takes(variable, view, row, known)?
        {
            return Ok(false);
        }
        for variable in &edge.not {
            if self.takes(*variable, view, row, known)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the condition of a variable holds for a row behind what the thread has bound.
    #[inline]
    fn takes(&self, variable: usize, view: &View<'_>, row: usize, known: &mut [Option<bool>]) -> Result<bool> {
        if let Some(known) = known[variable] {
            return Ok(known);
        }
        let v = &self.variables[variable];
        let at = view.key.rows[row].1;
        let current = !v.has_current || view.chunks.get(at.chunk).current[variable].as_ref().is_none_or(|f| f[at.at as usize]);
        let takes = current
            && match &v.rest {
                None => true,
                Some(condition) => condition.holds(&View { candidate: Some(variable), ..*view })?,
            };
        known[variable] = Some(takes);
        Ok(takes)
    }
}
